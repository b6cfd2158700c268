"""One walk through a folder for training and restoring, so that both find the same files.

Links are followed, since linking is a usual way to put a data set in its place. A folder is entered
once, under its own path if it has one below the folder that is walked; a link that leads back up is
a loop and is not followed. Nothing is passed over in silence except hidden folders and what macOS
hides beside files: other files are counted, and so are hidden photographs, and links and folders
that could not be used.
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
    """What a folder and those below hold."""

    # By path; links to nothing are among them
    photographs: list[Path] = field(default_factory=list)
    identities: dict[Path, Identity] = field(default_factory=dict)  # of the photographs that exist
    other_files: list[Path] = field(default_factory=list)
    # A sentence for each folder that could not be read
    unreadable: list[str] = field(default_factory=list)
    # A sentence for each link that was not followed, and for pipes
    links: list[str] = field(default_factory=list)
    hidden: int = 0  # photographs whose own names begin with a dot

    @property
    def others(self) -> Counter[str]:
        """How many other files there are of each ending."""
        return count_endings(self.other_files)

    @property
    def notes(self) -> list[str]:
        """What a user should know of, in sentences without a full stop."""
        names = [f"{path} is a second name of {first}" for path, first in self.second_names()]
        return [*sorted(self.unreadable), *self.not_followed, *names]

    @property
    def not_followed(self) -> list[str]:
        """What was passed over beside files of other endings, in sentences without a full stop."""
        if not self.hidden:
            return sorted(self.links)
        files = "1 photograph whose name begins with a dot was passed over"
        if self.hidden > 1:
            files = f"{self.hidden} photographs whose names begin with a dot were passed over"
        return [*sorted(self.links), files]

    def second_names(self) -> Iterator[tuple[Path, Path]]:
        """Each photograph that is another name of an earlier one, and that one.

        A link never comes first.
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
    """Finds all photographs in ``folder`` and below; hidden files and folders are passed over.

    Args:
      folder: where to start; it may be hidden itself, or in a hidden folder.
      without: a folder below it that is not entered.
    """
    found = Walk()
    root, left_out = file_identity(folder), None if without is None else file_identity(without)
    walker = _Walker(found, left_out if left_out != root else None)
    # Links are followed once all folders that have a path of their own were entered: these keep
    # their paths.
    waiting = [folder]
    while waiting:
        for start in sorted(waiting, key=lambda path: path.parts):
            walker.enter(start)
        waiting, walker.linked = walker.linked, []
    found.photographs.sort(key=lambda path: path.parts)
    return found


def file_identity(path: Path) -> Identity | None:
    """Device and inode of what a path leads to; None if nothing is there, or may be seen."""
    try:
        about = path.stat()
    except (OSError, ValueError):
        return None
    return about.st_dev, about.st_ino


def count_endings(files: Sequence[Path]) -> Counter[str]:
    """How many files there are of each ending; "" counts those that have none."""
    return Counter(path.suffix.lower() for path in files)


def describe_skipped(others: Mapping[str, int]) -> str:
    """Other files in words, the most frequent first.

    For example "12 .heic files and 1 .txt file were passed over".
    """
    words = []
    for ending, count in sorted(others.items(), key=lambda each: (-each[1], each[0])):
        files = "files" if count > 1 else "file"
        words.append(
            f"{count} {ending} {files}" if ending else f"{count} {files} without an ending"
        )
    listed = " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))
    return f"{listed} {'was' if sum(others.values()) == 1 else 'were'} passed over" if words else ""


def in_one_line(notes: Sequence[str]) -> str:
    """Notes with semicolons between them; of many the first, and how many more there are."""
    more = len(notes) - _MOST_NOTES
    return "; ".join([*notes[:_MOST_NOTES], *([f"{more} more of the kind"] if more > 0 else [])])


class _Walker:
    """Enters each folder once."""

    def __init__(self, found: Walk, left_out: Identity | None) -> None:
        self.linked: list[Path] = []  # links to folders, to be followed later
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
                # Systems leave hidden files beside photographs, named like them, and copies of
                # these in hidden folders: "._photo.jpg", ".thumbnails/photo.jpg".
                if entry.name.startswith("."):
                    self._found.hidden += _is_hidden_photograph(entry)
                elif self._add(entry, folder / entry.name):
                    folders.append(folder / entry.name)

    def _add(self, entry: os.DirEntry[str], path: Path) -> bool:
        """Notes a file or a link; whether it is a folder to be entered now."""
        try:
            if entry.is_dir():
                if not entry.is_symlink():
                    return self._is_new(path)
                if _leads_up(path):
                    self._found.links.append(
                        f"{path} is a link to a folder above it, and was not followed"
                    )
                else:
                    self.linked.append(path)
            elif entry.is_file():
                self._add_file(path)
            elif entry.is_symlink() and not path.exists():
                self._add_broken(path)
            elif path.suffix.lower() in SUFFIXES:
                self._found.links.append(f"{path} is not an ordinary file, and was passed over")
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
            self._found.photographs.append(path)  # so that it is named when it is read
        else:
            self._found.links.append(f"{path} is a link to {os.readlink(path)}, which is not there")

    def _is_new(self, folder: Path) -> bool:
        identity = file_identity(folder)
        if identity is None or identity == self._left_out:
            return False
        known = self._entered.setdefault(identity, folder)
        if known is not folder:
            self._found.links.append(f"{folder} is a second name of {known}, where it was read")
        return known is folder


def _is_hidden_photograph(entry: os.DirEntry[str]) -> bool:
    """Whether a user may miss a hidden file.

    macOS keeps hidden files beside every file on disks of other systems.
    """
    name = PurePath(entry.name)
    if entry.name.startswith("._") or (name.suffix or name.name).lower() not in SUFFIXES:
        return False
    try:
        return entry.is_file()
    except OSError:
        return False


def _leads_up(link: Path) -> bool:
    """Whether a link leads to its own folder or to one above: following it would be a circle."""
    place, target = os.path.realpath(link.parent), os.path.realpath(link)
    try:
        return os.path.commonpath([place, target]) == target
    except ValueError:  # on different drives
        return False
