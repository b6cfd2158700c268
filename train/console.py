"""Everything that the command line prints: safe strings, and consoles that are made in one place.

Names of files, folders and losses come from users and from downloaded archives. A terminal obeys
the control characters in them, rich reads ``[...]`` as markup, and an output with few characters
(cp1252, ASCII) refuses all others. So every text goes through :func:`printable`, markup is off, and
unknown characters are replaced.
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

# Exit status of a program whose output nobody reads: 128 + SIGPIPE, as a shell reports it.
UNREAD = 141

# Control characters, lone surrogates, line and paragraph separators, and format characters, some of
# which reverse the direction of text.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp", "Cf")
# Format characters that scripts of India and Iran need, and many emoji.
_JOINERS = "\u200c\u200d"


def printable(text: object) -> str:
    r"""Escapes what could do harm in a terminal. The result has one line.

    ESC becomes ``\x1b``, a newline ``\n``, a bidirectional override ``\u202e``, and a byte in a
    file's name that is not text ``\xff``.
    """
    return "".join(map(_escaped, str(text)))


def printable_lines(text: object) -> str:
    """Escapes a message of several lines, and indents all lines except the first.

    The indent keeps a line from looking like a new message.
    """
    return "\n".join(
        line if number == 0 or line.startswith("  ") else f"  {line}"
        for number, line in enumerate(map(printable, str(text).split("\n")))
    )


def _escaped(character: str) -> str:
    if character.isprintable() or character in _JOINERS:
        return character
    # Python represents a byte that it could not decode by one of these surrogates.
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    if unicodedata.category(character) not in _UNSAFE:
        return character
    return character.encode("unicode_escape").decode()


class _SafeConsole(Console):
    """Escapes every string that it prints, including strings in tables."""

    def render_str(self, text: str, **options: Any) -> Text:
        """Escapes a string. Rich calls this for every text, cell, title and caption."""
        return super().render_str(printable(text), **options)

    def on_broken_pipe(self) -> None:
        """Lets the command line end in its own way. Rich calls this if nobody reads the output."""
        raise BrokenPipeError


class _SafeColumn(TextColumn):
    """A column of a progress bar that shows text without markup."""

    def render(self, task: Task) -> Text:
        """Escapes the text. Rich calls this whenever the bar moves."""
        return Text(printable(self.text_format.format(task=task)))


def make_console(*, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """Makes a console on standard output that shows any string safely and without markup.

    A character that the output does not have never ends the program.

    Args:
      quiet: print nothing.
      soft_wrap: let the terminal break long lines. This is not for tables.

    Returns:
      The console.
    """
    replace_unknown_characters(sys.stdout)
    return _SafeConsole(quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False)


def make_bar(*columns: ProgressColumn | str, console: Console) -> Progress:
    """Makes a progress bar, which only terminals show. Strings become columns of plain text."""
    plain = [_SafeColumn(column) if isinstance(column, str) else column for column in columns]
    return Progress(*plain, console=console, disable=console.quiet or not console.is_terminal)


def track(items: Sequence[T], description: str, *, console: Console) -> Iterator[T]:
    """Yields items, and shows a bar that moves by one for each of them.

    Args:
      items: the items.
      description: text next to the bar.
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
    """Whether standard output can show all characters of a text."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def replace_unknown_characters(stream: TextIO) -> None:
    """Makes a stream replace characters that its encoding lacks, instead of raising an error."""
    # The streams of notebooks and tests do not have this method.
    reconfigure = getattr(stream, "reconfigure", None)
    if reconfigure is not None and getattr(stream, "errors", None) != "replace":
        reconfigure(errors="replace")


def with_output(program: Callable[[], int]) -> int:
    """Runs a program that prints, and returns its exit status or that of a lost output.

    ``program | head -1`` closes the output after one line. The program then ends silently.
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
            errors.write(f"error: cannot write to standard output: {lost.strerror}.\n")
            return 1
        return UNREAD
    finally:
        sys.stdout, sys.stderr = before


def output_is_lost() -> bool:
    """Whether writing to standard output or error has failed, within :func:`with_output`."""
    return any(getattr(stream, "lost", None) is not None for stream in (sys.stdout, sys.stderr))


class _Watched:
    """A standard stream that remembers why a write failed, and drops everything after that.

    Without it, code that catches an OSError elsewhere could not tell whether the output or a file
    caused it.
    """

    def __init__(self, stream: TextIO | None) -> None:
        # A stream is None if the shell closed it, or in a Windows program without a console.
        self._stream = open(os.devnull, "w") if stream is None else stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        """Writes a text, as any stream does."""
        with self._watching():
            return self._stream.write(text)

    def flush(self) -> None:
        """Flushes, as any stream does."""
        with self._watching():
            self._stream.flush()

    @contextmanager
    def _watching(self) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            self.lost = error
            # The rest is discarded. Otherwise Python would complain about it when it exits.
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)
            raise

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
