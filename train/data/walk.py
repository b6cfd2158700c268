"""Walks through a folder, in the same way for training and restoring, so both find the same files.

Links are followed, since many people link a data set into its place. A folder is entered once,
under its own path if it has one below the folder that is walked. A link that leads back up is a
loop and is not followed.

Only hidden folders, and what macOS hides next to files, are skipped without a message. Other files
and hidden photographs are counted, and links and folders that cannot be used are reported.
"""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePath

from train.data.photograph_file import SUFFIXES

_MOST_NOTES = 10

Identity = tuple[int, int]  # device and inode: equal for two names of one file


@dataclass
class Walk:
    """What a folder and the folders below it contain."""

    # Sorted by path; broken links are included
    photographs: list[Path] = field(default_factory=list)
    # Only photographs that exist have an identity
    identities: dict[Path, Identity] = field(default_factory=dict)
    other_files: list[Path] = field(default_factory=list)
    # A sentence for each folder that could not be read
    unreadable: list[str] = field(default_factory=list)
    # A sentence for each link that was not followed, and for each pipe or device
    links: list[str] = field(default_factory=list)
    hidden: int = 0  # photographs whose own names begin with a dot

    @property
    def others(self) -> Counter[str]:
        """The number of other files with each ending."""
        return count_endings(self.other_files)

    @property
    def notes(self) -> list[str]:
        """What a user should know about, in sentences without a full stop."""
        names = [f"{path} is the same file as {first}" for path, first in self.second_names()]
        return [*sorted(self.unreadable), *self.not_followed, *names]

    @property
    def not_followed(self) -> list[str]:
        """What was skipped in addition to other files, in sentences without a full stop."""
        if not self.hidden:
            return sorted(self.links)
        files = "1 photograph whose name begins with a dot was skipped"
        if self.hidden > 1:
            files = f"{self.hidden} photographs whose names begin with a dot were skipped"
        return [*sorted(self.links), files]

    def second_names(self) -> Iterator[tuple[Path, Path]]:
        """Pairs of a second name of a photograph and its first name.

        A link is never the first name.
        """
        names = defaultdict(list)
        for path, identity in self.identities.items():
            names[identity].append(path)
        second: dict[Path, Path] = {}
        for paths in names.values():
            if len(paths) > 1:
                first, *more = sorted(paths, key=lambda path: (path.is_symlink(), path.parts))
                second |= dict.fromkeys(more, first)
        yield from sorted(second.items())


def walk(folder: Path, *, without: Path | None = None) -> Walk:
    """Finds all photographs in ``folder`` and below, and skips hidden files and folders.

    Args:
      folder: where to start; it may be hidden itself, or in a hidden folder.
      without: a folder below it that is not entered.

    Returns:
      What was found.
    """
    found = Walk()
    root, left_out = file_identity(folder), None if without is None else file_identity(without)
    walker = _Walker(found, left_out if left_out != root else None)
    # Links are followed after all folders that have a path of their own, so that these folders are
    # entered under their own paths.
    waiting = [folder]
    while waiting:
        for start in sorted(waiting, key=lambda path: path.parts):
            walker.enter(start)
        waiting, walker.linked = walker.linked, []
    found.photographs.sort(key=lambda path: path.parts)
    return found


def file_identity(path: Path) -> Identity | None:
    """Device and inode of what a path leads to; None if it does not exist or may not be read."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def why_unread(path: Path | str, error: OSError) -> str:
    """Says in a sentence why a file cannot be read, and where a link leads that is broken."""
    if os.path.islink(path) and not os.path.exists(path):
        return f"{path} is a link to {os.readlink(path)}, which cannot be reached."
    return f"{path} cannot be read: {error.strerror}."


def count_endings(files: Sequence[Path]) -> Counter[str]:
    """The number of files with each ending; the files without an ending count under ""."""
    return Counter(path.suffix.lower() for path in files)


def describe_skipped(others: Mapping[str, int]) -> str:
    """Says which other files were skipped, the most frequent ending first.

    For example "12 .heic files and 1 .txt file were skipped".
    """
    words = []
    for ending, count in sorted(others.items(), key=lambda each: (-each[1], each[0])):
        files = "files" if count > 1 else "file"
        words.append(
            f"{count} {ending} {files}" if ending else f"{count} {files} without an ending"
        )
    listed = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    return f"{listed} {'was' if sum(others.values()) == 1 else 'were'} skipped" if words else ""


def in_one_line(notes: Sequence[str]) -> str:
    """The first notes with semicolons between them, and how many more there are."""
    more = len(notes) - _MOST_NOTES
    return "; ".join([*notes[:_MOST_NOTES], *([f"{more} more notes"] if more > 0 else [])])


class _Walker:
    """Enters each folder once."""

    def __init__(self, found: Walk, left_out: Identity | None) -> None:
        self.linked: list[Path] = []  # links to folders, which are followed later
        self._found = found
        self._left_out = left_out
        self._entered: dict[Identity, Path] = {}

    def enter(self, start: Path) -> None:
        """Walks through ``start`` and the folders below."""
        folders = [start] if self._is_new(start) else []
        while folders:
            folder = folders.pop()
            try:
                with os.scandir(folder) as entries:
                    listed = sorted(entries, key=lambda entry: entry.name, reverse=True)
            except OSError as error:
                self._found.unreadable.append(f"{folder} cannot be read: {error.strerror}")
                continue
            for entry in listed:
                # Systems leave hidden files with the names of photographs next to them, as in
                # "._photo.jpg", and copies in hidden folders, as in ".thumbnails/photo.jpg".
                if entry.name.startswith("."):
                    self._found.hidden += _is_hidden_photograph(entry)
                elif self._add(entry, folder / entry.name):
                    folders.append(folder / entry.name)

    def _add(self, entry: os.DirEntry[str], path: Path) -> bool:
        """Records a file or a link, and returns whether it is a folder to enter now."""
        try:
            if entry.is_dir():
                if not entry.is_symlink():
                    return self._is_new(path)
                if _leads_up(path):
                    self._found.links.append(
                        f"{path} is a link to a folder above it and was not followed"
                    )
                else:
                    self.linked.append(path)
            elif entry.is_file():
                self._add_file(path)
            elif entry.is_symlink() and not path.exists():
                self._add_broken(path)
            elif path.suffix.lower() in SUFFIXES:
                self._found.links.append(f"{path} is not an ordinary file and was skipped")
        except OSError:  # a link that leads to itself
            self._add_broken(path)
        return False

    def _add_file(self, path: Path) -> None:
        if path.suffix.lower() not in SUFFIXES:
            self._found.other_files.append(path)
            return
        self._found.photographs.append(path)
        identity = file_identity(path)
        if identity is not None:
            self._found.identities[path] = identity

    def _add_broken(self, path: Path) -> None:
        if path.suffix.lower() in SUFFIXES:
            self._found.photographs.append(path)  # reading it gives an error with its name
        else:
            self._found.links.append(
                f"{path} is a link to {os.readlink(path)}, which does not exist"
            )

    def _is_new(self, folder: Path) -> bool:
        identity = file_identity(folder)
        if identity is None or identity == self._left_out:
            return False
        known = self._entered.setdefault(identity, folder)
        if known is not folder:
            self._found.links.append(
                f"{folder} is the same folder as {known}, so it was read only once, under that name"
            )
        return known is folder


def _is_hidden_photograph(entry: os.DirEntry[str]) -> bool:
    """Whether a hidden file is a photograph that a user may miss.

    The hidden files that macOS keeps next to every file on disks of other systems are not.
    """
    name = PurePath(entry.name)
    if entry.name.startswith("._") or (name.suffix or name.name).lower() not in SUFFIXES:
        return False
    try:
        return entry.is_file()
    except OSError:
        return False


def _leads_up(link: Path) -> bool:
    """Whether a link leads to its own folder or one above, so that following it would not end."""
    place, target = os.path.realpath(link.parent), os.path.realpath(link)
    try:
        return os.path.commonpath([place, target]) == target
    except ValueError:  # on different drives
        return False
