"""The flags of ``fit`` that ``compare`` and ``tune`` do not accept.

Both have the configuration of ``fit`` as a part of theirs, and set some of its values themselves. A
flag that is refused is also left out of the help.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any

import tyro
from tyro.constructors import ConstructorRegistry, StructConstructorSpec, StructTypeInfo

from train.errors import InputError

# Each flag with the reason, or with what to use instead
_NOT_OF_EXPERIMENTS = {
    "--resume": "to continue a stopped run of this command, repeat it with that folder as --out",
    **dict.fromkeys(
        ("--distributed", "--coordinator", "--processes", "--process"),
        "it runs in one process, on all devices of that process",
    ),
}
NOT_OF_COMPARE = {
    "--loss": "list the losses with --losses",
    "--balance": 'write "balanced(METHOD, LOSS)" in --losses for each loss that needs it',
    "--learning-rate": "it chooses a learning rate for each loss from --learning-rates",
    "--clip-norm": "it tries each of --clip-norms for each loss",
    **_NOT_OF_EXPERIMENTS,
}
NOT_OF_TUNE = {
    "--loss": "it searches for the settings of luminance_l1",
    "--balance": "it searches for the weights that --balance would learn",
    "--balance-rate": "it belongs to --balance, which tune does not accept",
    "--balance-every": "it belongs to --balance, which tune does not accept",
    "--best-metric": "--objective names the metric that decides",
    **_NOT_OF_EXPERIMENTS,
}


def refuse(verb: str, refused: Mapping[str, str], arguments: Sequence[str]) -> None:
    """Refuses flags that a verb does not accept.

    Args:
      verb: the verb, for the error message.
      refused: the flags, each with the reason or with what to use instead.
      arguments: the words after the verb.

    Raises:
      InputError: if one of the flags is given.
    """
    given = {argument.partition("=")[0].replace("_", "-") for argument in arguments}
    for flag, instead in refused.items():
        if flag in given:
            raise InputError(f"{verb} does not accept {flag}: {instead}.")


def registry_without(flags: Iterable[str]) -> ConstructorRegistry:
    """Makes a registry with which ``tyro.cli`` neither lists nor accepts some flags.

    Args:
      flags: the flags, of fields at any depth of the configuration. Each must have a default.

    Returns:
      The registry, for ``tyro.cli(registry=...)``.
    """
    registry = ConstructorRegistry()
    fields = [flag.removeprefix("--").replace("-", "_") for flag in flags]
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
