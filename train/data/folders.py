"""Photographs in folders, alone or in pairs: who is there, and who belongs to whom."""

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

_LISTED = 4  # files of one name
_LONGEST_PATH = 4096  # bytes, of every system's paths


@dataclass(frozen=True)
class Listing:
    """Photographs by name, and how to decode each; nothing is decoded yet."""

    names: tuple[str, ...]
    images: Sequence[Decode]
    inputs: Sequence[Decode] | None = (
        None  # degraded versions; None where there are clean photographs only
    )
    mismatches: tuple[str, ...] = ()  # a sentence for each file without a partner
    files: tuple[Path, ...] = ()  # of the images, where each is a file of its own
    input_files: tuple[Path, ...] = ()
    shards: tuple[Path, ...] = ()  # files that they are in together
    record: str = ""  # which of what these hold they are
    # Files that are no photographs by their ending: how many
    others: Mapping[str, int] = field(default_factory=dict)
    # Of links and of folders that cannot be read, in sentences without a full stop
    notes: tuple[str, ...] = ()

    @property
    def skipped(self) -> str:
        """What else there is, in words; "" where there is nothing."""
        return in_one_line([*filter(None, [describe_skipped(self.others)]), *self.notes])


def expand_folder(text: str) -> Path:
    """The folder that a spec names; no shell has looked for a "~" behind its colon."""
    path = os.path.expanduser(text)
    try:
        fits = "\0" not in path and len(os.fsencode(path)) < _LONGEST_PATH
    except UnicodeEncodeError:
        fits = False
    if not fits:
        raise InputError(
            f"{ascii(text[:80])} cannot be the path of a folder: it is too long, or not all text."
        )
    return Path(path)


def parse_settings(query: str, names: Collection[str]) -> dict[str, str] | None:
    """The values of "name=value&name=value".

    None if a name is unknown, is there twice or has no value.
    """
    settings: dict[str, str] = {}
    for part in query.split("&"):
        name, _, value = part.partition("=")
        if name not in names or name in settings or not value:
            return None
        settings[name] = value
    return settings


def list_folder(folder: Path) -> Listing:
    """All photographs in ``folder`` and below, by path, except hidden ones."""
    found = _photographs(folder)
    paths = found.photographs
    names = tuple(_name(path, folder) for path in paths)
    return Listing(
        names, _readers(paths), files=tuple(paths), others=found.others, notes=tuple(found.notes)
    )


def list_pairs(text: str) -> Listing:
    """Pairs of "LOW_DIR,HIGH_DIR" or "DIR?input=GLOB&target=GLOB"."""
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
                    f"pairs:{text}: none of {len(paths)} photographs in {folder} is "
                    f"{side}={globs[side]}."
                )
        if not inputs.keys() & targets.keys():
            raise InputError(
                f"pairs:{text}: no input has a target: wildcards stand for {min(inputs)!r} in the "
                f"one and for {min(targets)!r} in the other; where only endings differ, end both "
                'globs with ".*".'
            )
        return _paired(
            inputs, targets, f"input={globs['input']}", f"target={globs['target']}", [found]
        )
    low, high = _two_folders(text)
    found_low, found_high = _photographs(low), _photographs(high)
    inputs, targets = _by_name(found_low.photographs, low), _by_name(found_high.photographs, high)
    return _paired(inputs, targets, str(low), str(high), [found_low, found_high])


def _photographs(folder: Path) -> Walk:
    """What a folder and those below hold; an error where there are no photographs."""
    if not os.path.isdir(folder):  # which is False, too, if the system refuses to tell
        raise InputError(
            f"There is no folder {folder}: give the path of one that holds photographs."
        )
    found = walk(folder)
    if not found.photographs:
        looked = f"looked, in it and below, for {', '.join(SUFFIXES)}"
        notes = [looked, *filter(None, [describe_skipped(found.others)]), *found.notes]
        raise InputError(f"{folder} holds no photographs: {in_one_line(notes)}.")
    return found


def _name(path: Path, folder: Path) -> str:
    """The path below ``folder``, which can always be printed and hashed.

    Bytes that are not UTF-8 are written out.
    """
    return path.relative_to(folder).as_posix().encode(errors="backslashreplace").decode()


def _two_folders(text: str) -> tuple[Path, Path]:
    """Both halves of "LOW_DIR,HIGH_DIR"; a comma may be part of a name."""
    first = None
    for i, letter in enumerate(text):
        if letter == "," and 0 < i < len(text) - 1:
            halves = expand_folder(text[:i]), expand_folder(text[i + 1 :])
            if os.path.isdir(halves[0]) and os.path.isdir(halves[1]):
                return halves
            first = first or halves
    if first is None:
        raise InputError(
            f'pairs: takes "LOW_DIR,HIGH_DIR" or "DIR?input=GLOB&target=GLOB"; got {text!r}.'
        )
    return first


def _globs(query: str, text: str) -> dict[str, str]:
    globs = parse_settings(query, ("input", "target"))
    if (
        globs is None
        or len(globs) < 2
        or not all("*" in glob.removesuffix(".*") for glob in globs.values())
    ):
        raise InputError(
            'pairs:DIR? takes "input=GLOB&target=GLOB", each with a "*" before its ending, and '
            f"once; got {text!r}."
        )
    return globs


def _by_name(paths: Iterable[Path], folder: Path) -> dict[str, list[Path]]:
    """Files by their path below ``folder``, without the ending: a low JPEG may have a high PNG."""
    found = defaultdict(list)
    for path in paths:
        found[_name(path.with_suffix(""), folder)].append(path)
    return found


def _by_wildcards(paths: Iterable[Path], folder: Path, glob: str) -> dict[str, list[Path]]:
    """Files that fit ``glob``, by their folder and what each "*" stands for."""
    fitted = Glob(glob)
    found = defaultdict(list)
    for path in paths:
        if (name := fitted.stands_for(_name(path, folder))) is not None:
            found[name].append(path)
    return found


def _paired(
    inputs: dict[str, list[Path]],
    targets: dict[str, list[Path]],
    low: str,
    high: str,
    walks: Sequence[Walk],
) -> Listing:
    names, wrong = [], []
    for name in sorted(inputs.keys() | targets.keys()):
        several = [
            paths for paths in (inputs.get(name, []), targets.get(name, [])) if len(paths) > 1
        ]
        if several:
            listed = " and ".join(path.name for path in several[0][:_LISTED])
            if len(several[0]) > _LISTED:
                listed += f" and {len(several[0]) - _LISTED} more"
            wrong.append(f"{name}: {listed} have one name, so no one partner")
        elif name not in targets:
            wrong.append(f"{inputs[name][0]}: no partner {name} among {high}")
        elif name not in inputs:
            wrong.append(f"{targets[name][0]}: no partner {name} among {low}")
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
