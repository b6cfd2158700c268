"""Everything that the command line prints: strings made safe to show, and consoles made in one place.

Names of files, folders and losses come from users and from strangers' archives. A terminal obeys what
it is sent, rich reads ``[...]`` as markup, and an output of few characters (cp1252, ASCII) refuses the
others. So every text passes :func:`printable` here, markup is off, and an unknown character is replaced.
"""

import sys
import unicodedata
from typing import Any, TextIO

from rich.console import Console
from rich.progress import Progress, ProgressColumn, Task, TextColumn
from rich.text import Text

# Control characters, lone surrogates, line and paragraph separators, and format characters, among
# which are those that reverse the direction of text.
_UNSAFE = ("Cc", "Cs", "Zl", "Zp", "Cf")
_JOINERS = "\u200c\u200d"  # format characters that scripts of India and Iran and many emoji need


def printable(text: object) -> str:
    r"""A user's string as a terminal may show it, on one line: what could do harm is escaped.

    ESC becomes ``\x1b``, a newline ``\n``, a bidirectional override ``\u202e``, and a byte of a file's
    name that is no text ``\xff``.
    """
    return "".join(map(_escaped, str(text)))


def printable_lines(text: object) -> str:
    """The same for a message of several lines: those after the first are indented, so none poses as a new message."""
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
        """Called by rich when nobody reads the output any more: the command line ends by its own way."""
        raise BrokenPipeError


class _SafeColumn(TextColumn):
    """A column of a progress bar that shows text as it is."""

    def render(self, task: Task) -> Text:
        """Called by rich whenever the bar moves."""
        return Text(printable(self.text_format.format(task=task)))


def make_console(*, quiet: bool = False, soft_wrap: bool = False) -> Console:
    """A console on standard output that shows any string as it is, without markup, and never dies of a character.

    Args:
      quiet: print nothing.
      soft_wrap: leave it to the terminal to break long lines; not for tables.
    """
    replace_unknown_characters(sys.stdout)
    return _SafeConsole(quiet=quiet, soft_wrap=soft_wrap, markup=False, emoji=False)


def make_bar(*columns: ProgressColumn | str, console: Console) -> Progress:
    """A progress bar, shown on terminals alone. A string is a text column in which nothing is markup."""
    plain = [_SafeColumn(column) if isinstance(column, str) else column for column in columns]
    return Progress(*plain, console=console, disable=not console.is_terminal)


def complain(message: object) -> None:
    """Prints a message on standard error."""
    replace_unknown_characters(sys.stderr)
    print(printable_lines(message), file=sys.stderr, flush=True)


def replace_unknown_characters(stream: TextIO) -> None:
    """Makes a stream print a replacement for a character that its encoding lacks, where it would raise an error."""
    reconfigure = getattr(stream, "reconfigure", None)  # notebooks and tests have streams without it
    if reconfigure is not None and getattr(stream, "errors", None) != "replace":
        reconfigure(errors="replace")
