"""Lists photographs in folders, alone or in pairs."""

import itertools
import os
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from train.data.photograph_file import SUFFIXES
from train.data.photographs import Decode
from train.data.stored import StoredFile
from train.data.walk import Walk, describe_skipped, in_one_line, walk
from train.data.wildcards import Glob
from train.errors import InputError

_LISTED = 4  # files of the same name that an error lists
MISSING_FOLDER = "There is no folder "  # how an error begins if a folder does not exist
_LONGEST_PATH = 4096  # bytes: no system has longer paths


@dataclass(frozen=True)
class Listing:
    """Photographs by name, and how to decode each. Nothing is decoded yet."""

    names: tuple[str, ...]
    images: Sequence[Decode]
    inputs: Sequence[Decode] | None = None  # degraded versions; None if all photographs are clean
    # A sentence without a full stop for each file that has no partner, or several
    mismatches: tuple[str, ...] = ()
    files: tuple[Path, ...] = ()  # files of the images, if each image has a file of its own
    input_files: tuple[Path, ...] = ()  # the same for the inputs
    shards: tuple[Path, ...] = ()  # files that hold many photographs each
    record: str = ""  # which photographs of the shards are listed
    # Number of files with each ending that is not that of a photograph
    others: Mapping[str, int] = field(default_factory=dict)
    # Sentences without a full stop about links, and about folders that cannot be read
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> str:
        """What else lies next to the photographs, in words; "" if there is nothing."""
        return in_one_line([*filter(None, [describe_skipped(self.others)]), *self.notes])


def expand_folder(text: str) -> Path:
    """The folder that a spec names. "~" is expanded here, since shells do not behind a colon."""
    path = os.path.expanduser(text)
    try:
        fits = "\0" not in path and len(os.fsencode(path)) < _LONGEST_PATH
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise InputError(
            f"{ascii(text[:80])} cannot be the path of a folder: it is too long, or not plain text."
        )
    return Path(path)


def parse_settings(query: str, names: Collection[str]) -> dict[str, str] | None:
    """Parses "name=value&name=value".

    Returns None if a name is unknown, occurs twice or has no value.
    """
    settings: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in names or name in settings or not value:
            return None
        settings[name] = value
    return settings


def list_folder(folder: Path) -> Listing:
    """Lists all photographs in ``folder`` and below, sorted by path, except hidden ones."""
    found = _photographs(folder)
    paths = found.photographs
    names = tuple(_name(path, folder) for path in paths)
    return Listing(
        names, _readers(paths), files=tuple(paths), others=found.others, notes=tuple(found.notes)
    )


def list_pairs(text: str) -> Listing:
    """Lists the pairs of "LOW_DIR,HIGH_DIR" or "DIR?input=GLOB&target=GLOB"."""
    where, asked, query = text.partition("?")
    if asked:
        folder = expand_folder(where)
        globs = _globs(query, text)
        found = _photographs(folder)
        paths = found.photographs
        inputs, targets = (
            _by_wildcards(paths, folder, globs[side]) for side in ("input", "target")
        )
        for side, files in (("input", inputs), ("target", targets)):
            if not files:
                raise InputError(
                    f"pairs:{text}: none of the {len(paths)} photographs in {folder} matches "
                    f"{side}={globs[side]}."
                )
        if not inputs.keys() & targets.keys():
            raise InputError(
                f"pairs:{text}: no input has a target. For example, the wildcards match "
                f"{min(inputs)!r} in an input and {min(targets)!r} in a target. If only the "
                'endings differ, end both globs with ".*".'
            )
        sides = [f"the files that match {side}={globs[side]}" for side in ("input", "target")]
        return _paired(inputs, targets, sides[0], sides[1], [found])
    low, high = _two_folders(text)
    found_low, found_high = _photographs(low), _photographs(high)
    inputs, targets = _by_name(found_low.photographs, low), _by_name(found_high.photographs, high)
    return _paired(inputs, targets, str(low), str(high), [found_low, found_high])


def _photographs(folder: Path) -> Walk:
    """What a folder and the folders below contain; an error if there are no photographs."""
    if not os.path.isdir(folder):  # it is also False if the user may not see the folder
        raise InputError(f"{MISSING_FOLDER}{folder}. Give the path of a folder with photographs.")
    found = walk(folder)
    if not found.photographs:
        endings = f"{', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}"
        looked = f"no file in it or below it ends in {endings}"
        notes = [looked, *filter(None, [describe_skipped(found.others)]), *found.notes]
        raise InputError(f"{folder} holds no photographs: {in_one_line(notes)}.")
    return found


def _name(path: Path, folder: Path) -> str:
    """The path below ``folder``, as text that can always be printed and hashed.

    Bytes that are not UTF-8 are written as escapes.
    """
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()


def _two_folders(text: str) -> tuple[Path, Path]:
    """Both halves of "LOW_DIR,HIGH_DIR". A folder's name may contain a comma."""
    first = None
    for i, letter in enumerate(text):
        if letter == "," and 0 < i < len(text) - 1:
            halves = expand_folder(text[:i]), expand_folder(text[i + 1 :])
            if os.path.isdir(halves[0]) and os.path.isdir(halves[1]):
                return halves
            first = first or halves
    if first is None:
        raise InputError(
            f'pairs: must be "LOW_DIR,HIGH_DIR" or "DIR?input=GLOB&target=GLOB"; got {text!r}.'
        )
    return first


def _globs(query: str, text: str) -> dict[str, str]:
    globs = parse_settings(query, ("input", "target"))
    if (
        globs is None
        or len(globs) < 2
        or not all("*" in glob.removesuffix(".*") for glob in globs.values())
    ):
        advice = ""
        if "=" not in query:
            advice = ' If the "?" belongs to the name of a folder, rename the folder.'
        raise InputError(
            'pairs:DIR? must continue with "input=GLOB&target=GLOB". Give each of them once, with '
            f'a "*" before its ending; got {text!r}.{advice}'
        )
    return globs


def _by_name(paths: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """Groups files by their path below ``folder`` without the ending.

    So a JPEG in one folder can have a PNG in the other as its partner.
    """
    found = defaultdict(list)
    for path in paths:
        found[_name(path.with_suffix(""), folder)].append(path)
    return found


def _by_wildcards(paths: Iterable[Path], folder: Path, glob: str) -> dict[str, list[Path]]:
    """Groups the files that match ``glob`` by their folder and by what each "*" matches."""
    fitted = Glob(glob)
    found = defaultdict(list)
    for path in paths:
        if (name := fitted.match(_name(path, folder))) is not None:
            found[name].append(path)
    return found


def _paired(
    inputs: dict[str, list[Path]],
    targets: dict[str, list[Path]],
    low: str,
    high: str,
    walks: Sequence[Walk],
) -> Listing:
    """Pairs inputs and targets of the same name.

    Args:
      inputs: files of degraded photographs, by name.
      targets: files of clean photographs, by name.
      low: where the inputs were looked for, for errors.
      high: where the targets were looked for, for errors.
      walks: what the folders contain.

    Returns:
      The pairs. Names that do not have one file on each side are among its mismatches.
    """
    names, wrong = [], []
    for name in sorted(inputs.keys() | targets.keys()):
        several = [
            paths for paths in (inputs.get(name, []), targets.get(name, [])) if len(paths) > 1
        ]
        if several:
            listed = " and ".join(map(str, several[0][:_LISTED]))
            if len(several[0]) > _LISTED:
                listed += f" and {len(several[0]) - _LISTED} more"
            wrong.append(f"{listed} would belong to the same pair. Keep one of them")
        elif name not in targets:
            wrong.append(f"{inputs[name][0]} has no partner: {name} is missing from {high}")
        elif name not in inputs:
            wrong.append(f"{targets[name][0]} has no partner: {name} is missing from {low}")
        else:
            names.append(name)
    low_files = tuple(inputs[name][0] for name in names)
    high_files = tuple(targets[name][0] for name in names)
    return Listing(
        tuple(names),
        _readers(high_files),
        _readers(low_files),
        tuple(wrong),
        high_files,
        low_files,
        others=sum((found.others for found in walks), Counter[str]()),
        notes=tuple(itertools.chain(*(found.notes for found in walks))),
    )


def _readers(paths: Iterable[Path]) -> list[Decode]:
    return [StoredFile(str(path), path) for path in paths]
