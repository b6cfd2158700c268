"""What the help of a verb lists: only flags that it accepts, and defaults that say something."""

import dataclasses
from collections.abc import Collection
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo


def hint(label: str) -> str:
    """The end of the help of a flag whose text says what happens if the flag is not given.

    Args:
      label: the default, as tyro writes it. For an empty tuple that is an empty text.

    Returns:
      The default, or nothing if there is none.
    """
    return "" if label in ("", "None") else f"(default: {label})"


def registry_without(fields: Collection[str]) -> ConstructorRegistry:
    """Makes a registry with which ``tyro.cli`` neither lists nor accepts some flags.

    ``compare`` and ``tune`` have the configuration of ``fit`` as a part of theirs, and set some of
    its values themselves.

    Args:
      fields: names of the fields, at any depth of the configuration. Each must have a default.

    Returns:
      The registry, for ``tyro.cli(registry=...)``.
    """
    registry = ConstructorRegistry()
    asking = False

    @registry.struct_rule
    def hide(info: StructTypeInfo) -> StructConstructorSpec | None:
        nonlocal asking
        if asking:  # This is the call below, which asks the other rules.
            return None
        asking = True
        try:
            spec: Any = ConstructorRegistry.get_struct_spec(info)
        finally:
            asking = False
        if not isinstance(spec, StructConstructorSpec):
            return spec
        shown = []
        for field in spec.fields:
            if field.name in fields:
                hidden: Any = Annotated[field.type, tyro.conf.Suppress]
                field = dataclasses.replace(field, type=hidden)
            shown.append(field)
        return dataclasses.replace(spec, fields=tuple(shown))

    return registry
