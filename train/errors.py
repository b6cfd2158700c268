"""The exception for input that the user must change, and how messages quote errors and lists."""

import contextlib
import difflib
from collections.abc import Collection, Iterable, Iterator, Sequence

LISTED = 10  # items of a list that a message shows; of the others it gives only the number


class InputError(Exception):
    """The input cannot be used. The message says what was given, what is accepted, what to do.

    ``python -m train`` prints it without a traceback and exits with status 2. Anything else that is
    raised is a defect of the program and keeps its traceback.
    """


class DivergedError(InputError):
    """Training stopped on NaN or infinity. If several networks are trained, the others continue."""


def first_line(error: BaseException) -> str:
    """Returns the first line of an error's text. Errors of tensorstore and XLA fill pages."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(" See full TensorStore details")[0].rstrip(".")[:300]


def did_you_mean(given: str, accepted: Iterable[str]) -> str:
    """Asks whether the user meant the accepted name that is closest; "" if none is close."""
    near = difflib.get_close_matches(given, accepted, n=1)
    return f" Did you mean {near[0]!r}?" if near else ""


def list_some(names: Sequence[str], *, between: str = ", ") -> str:
    """Lists the first names, and says how many more there are."""
    more = [f"and {len(names) - LISTED} more"] if len(names) > LISTED else []
    return between.join([*names[:LISTED], *more])


def list_below(sentences: Sequence[str]) -> str:
    """Lists the first sentences, each on its own line, and says how many more there are."""
    return "\n  " + list_some(sentences, between="\n  ")


@contextlib.contextmanager
def needs_extra(what: str, extra: str, packages: Collection[str]) -> Iterator[None]:
    """Says which extra to install if one of its packages is missing.

    A missing module of this program is a defect, and keeps its traceback.

    Args:
      what: the command that needs the packages.
      extra: name of the extra in pyproject.toml.
      packages: names under which its packages are imported.

    Raises:
      InputError: one of the packages is missing.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name is None or error.name.partition(".")[0] not in packages:
            raise
        raise InputError(
            f"{what} needs the package {error.name}, which is not installed. Install it with: "
            f'pip install -e ".[{extra}]"'
        ) from None
