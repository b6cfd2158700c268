"""The command line of the verb ``study``. Serving must start at once, so nothing here loads jax."""

from collections.abc import Callable

import tyro

from train.console import make_console
from train.errors import InputError, did_you_mean, needs_extra

_PACKAGES = ("jinja2", "starlette", "uvicorn")  # packages of the extra "study"


def study(arguments: list[str]) -> int:
    """Ask people which of two results they prefer, without telling them which is which."""
    if not arguments or arguments[0] in ("-h", "--help"):
        console = make_console()
        console.print("usage: python -m train study COMMAND [--help]", highlight=False, end="\n\n")
        for name, command in _COMMANDS.items():
            console.print(f"  {name:10} {command.__doc__}", highlight=False, soft_wrap=True)
        return 0 if arguments else 2
    name = arguments[0]
    if name not in _COMMANDS:
        raise InputError(
            f"study has no command {name!r}.{did_you_mean(name, _COMMANDS)} Commands: "
            f"{', '.join(_COMMANDS)}."
        )
    with needs_extra(f"study {name}", "study", _PACKAGES):
        _COMMANDS[name](arguments[1:])
    return 0


def _create(arguments: list[str]) -> None:
    """Make a study of two or more sets of results."""
    from train.study.create_config import CreateConfig

    config = tyro.cli(CreateConfig, prog="python -m train study create", args=arguments)
    from train.study.create import create

    create(config)


def _serve(arguments: list[str]) -> None:
    """Show the study in the browser, and record votes."""
    from train.study.serve import ServeConfig, serve

    serve(tyro.cli(ServeConfig, prog="python -m train study serve", args=arguments))


def _score(arguments: list[str]) -> None:
    """Say what the votes mean, and write a page about it."""
    from train.study.score import ScoreConfig, score

    score(tyro.cli(ScoreConfig, prog="python -m train study score", args=arguments))


def _export(arguments: list[str]) -> None:
    """Write the study as one file for an observer who cannot reach a server."""
    from train.study.static_export import StaticConfig, export_static

    export_static(tyro.cli(StaticConfig, prog="python -m train study export", args=arguments))


def _merge(arguments: list[str]) -> None:
    """Add votes that observers have sent as files."""
    from train.study.static_export import MergeConfig, merge

    merge(tyro.cli(MergeConfig, prog="python -m train study merge", args=arguments))


_COMMANDS: dict[str, Callable[[list[str]], None]] = {
    "create": _create,
    "serve": _serve,
    "score": _score,
    "export": _export,
    "merge": _merge,
}
