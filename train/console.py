"""Everything that the command line prints: safe strings, and consoles that are made in one place.

Names of files, folders and losses come from users and from strangers' archives. A terminal obeys
what it is sent, rich reads ``[...]`` as markup, and an output of few characters (cp1252, ASCII)
refuses the others. So every text passes :func:`printable` here, markup is off, and an unknown
character is replaced.
"""

import os
import sys
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TextIO, TypeVar

from rich.console import Console
from rich.progress import (
    BarColumn,
    Progress,
    ProgressColumn,
    Task,
    TaskProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

T = TypeVar("T")

UNREAD = (
    141  # exit status of a program whose output nobody reads: 128 + SIGPIPE, as a shell reports it
)

# Control characters, lone surrogates, line and paragraph separators, and format characters, among
# which are those that reverse the direction of text.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp", "Cf")
_JOINERS = "\u200c\u200d"  # format characters that scripts of India and Iran and many emoji need


def printable(text: object) -> str:
    r"""A user's string as a terminal may show it, on one line: what could do harm is escaped.

    ESC becomes ``\x1b``, a newline ``\n``, a bidirectional override ``\u202e``, and a byte of a
    file's name that is no text ``\xff``.
    """
    return "".join(map(_escaped, str(text)))


def printable_lines(text: object) -> str:
    """The same for a message of several lines: indents all but the first.

    So no line can pose as a new message.
    """
    return "\n".join(
        line if number == 0 or line.startswith("  ") else f"  {line}"
        for number, line in enumerate(map(printable, str(text).split("\n")))
    )


def _escaped(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    if "\udc80" <= character <= "\udcff":  # how Python holds a byte that could not be decoded
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode()


class _SafeConsole(Console):
    """Escapes every string that it is given, those in tables too."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Called by rich for each string that is printed or is a cell, a title or a caption."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Called by rich when nobody reads the output; the command line ends in its own way."""
        raise BrokenPipeError


class _SafeColumn(TextColumn):
    """A column of a progress bar that shows text as it is."""

    def render(self, task: Task) -> Text:
        """Called by rich whenever the bar moves."""
        return Text(printable(self.text_format.format(task=task)))


def make_console(*, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """A console on standard output that shows any string as it is, without markup.

    A character that the output lacks never ends the program.

    Args:
      quiet: print nothing.
      soft_wrap: leave it to the terminal to break long lines; not for tables.
    """
    replace_unknown_characters(sys.stdout)
    return _SafeConsole(quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False)


def make_bar(*columns: ProgressColumn | str, console: Console) -> Progress:
    """A progress bar, shown on terminals only. Strings become text columns, without markup."""
    plain = [_SafeColumn(column) if isinstance(column, str) else column for column in columns]
    return Progress(*plain, console=console, disable=console.quiet or not console.is_terminal)


def track(items: Sequence[T], description: str, *, console: Console) -> Iterator[T]:
    """The items, with a bar that moves by one for each of them.

    Args:
      items: what to yield.
      description: of the work, beside the bar.
      console: where the bar is shown.

    Returns:
      The items, one by one.
    """
    columns = "{task.description}", BarColumn(), TaskProgressColumn(), TimeRemainingColumn()
    with make_bar(*columns, console=console) as bar:
        yield from bar.track(items, description=description)


def complain(message: object) -> None:
    """Prints a message on standard error."""
    replace_unknown_characters(sys.stderr)
    print(printable_lines(message), file=sys.stderr, flush=True)


def can_show(text: str) -> bool:
    """Whether standard output has all characters of a text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def replace_unknown_characters(stream: TextIO) -> None:
    """Makes a stream replace characters that its encoding lacks, instead of raising an error."""
    # Notebooks and tests have streams without it
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None and getattr(stream, "errors", None) != "replace":
        reconfigure(errors="replace")


def with_output(program: Callable[[], int]) -> int:
    """Runs a program that prints; returns its exit status, or another one if its output is lost.

    ``program | head -1`` closes the output after a line: the program then ends in silence.
    """
    before = sys.stdout, sys.stderr
    for stream in before:
        if stream is not None:
            replace_unknown_characters(stream)
    output, errors = map(_Watched, before)
    sys.stdout, sys.stderr = output, errors
    try:
        try:
            return program()
        finally:
            output.flush()
            errors.flush()
    except OSError:
        lost = output.lost or errors.lost
        if lost is None:
            raise
        if not isinstance(lost, BrokenPipeError):
            errors.write(f"error: standard output cannot be written: {lost.strerror}.\n")
            return 1
        return UNREAD
    finally:
        sys.stdout, sys.stderr = before


def output_is_lost() -> bool:
    """Whether standard output or error could not be written, within :func:`with_output`."""
    return any(getattr(stream, "lost", None) is not None for stream in (sys.stdout, sys.stderr))


class _Watched:
    """A standard stream that remembers why it could not be written, and takes no more after that.

    Code that catches an OSError elsewhere cannot tell otherwise whether it was the output's or a
    file's.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # None: closed by the shell, or a program without a console on Windows.
        self._stream = open(os.devnull, "w") if stream is None else stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """As of any stream."""
        with self._watching():
            return self._stream.write(text)

    def flush(self) -> None:
        """As of any stream."""
        with self._watching():
            self._stream.flush()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
            # What is left goes nowhere: Python would complain at its end that it cannot be written.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
