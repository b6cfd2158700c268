"""``python -m train data SPEC``: what is in a data set, what is wrong with it, and a sheet of its photographs."""

import os
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.table import Table

from train.console import make_console, printable
from train.data.contact_sheet import contact_sheet
from train.data.images import write_image
from train.data.looks import Look, alike, look
from train.data.photographs import Memory
from train.data.prepare import prepare
from train.data.sources import Entry, Source, Split, examine, list_source, photographs_of
from train.data.splits import NONE, SMALLEST_SCORED, named, open_splits
from train.errors import InputError

_BARS = " ▁▂▃▄▅▆▇█"
_SHEETS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class InspectConfig:
    """Say what a data set holds and what is wrong with it; exit status 1 where something is."""

    source: Annotated[str, tyro.conf.Positional]
    """Photographs: "photos", "folder:PATH", "pairs:LOW_DIR,HIGH_DIR", "pairs:DIR?input=GLOB&target=GLOB" or
    "tfds:NAME[/CONFIG]:SPLIT"."""
    validation_data: str | None = None
    """Photographs to pick settings on, as for fit. None: those of "photos", or a tenth of SPEC; "none": none."""
    test_data: str | None = None
    """Photographs to evaluate on, as for fit. None: those of "photos", or a tenth of SPEC."""
    group_by: Literal["pixels", "folder"] = "pixels"
    """What stays together where a tenth is set aside."""
    patch_size: int = 40
    """Side of the patches, as for fit: what is trained on may not be smaller."""
    sheet: Path = Path("contact_sheet.png")
    """Picture of the photographs to write; those that something is wrong with are framed."""
    prepare: bool = False
    """Write the data set as TFDS's array_record first, and look at that."""
    manual_dir: Path | None = None
    """With --prepare: the folder with what had to be downloaded by hand."""
    data_dir: Path | None = None
    """With --prepare: the folder to keep data sets in. None: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    memory_mb: int = 4096
    """Megabytes of decoded photographs to keep; what does not fit is decoded more than once."""


@dataclass
class Findings:
    """Sentences: what is wrong, and what is worth knowing."""

    wrong: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    framed: set[tuple[str, str]] = field(default_factory=set)  # (split, name)


def inspect(config: InspectConfig) -> bool:
    """Prints all there is to say, writes the sheet; whether nothing is wrong."""
    console = make_console()
    _check_sheet(config.sheet)
    spec = config.source
    if config.prepare:
        spec = prepare(spec, manual_dir=config.manual_dir, data_dir=config.data_dir)
        console.print(f"written; read it as {spec}", soft_wrap=True)
    findings = Findings()
    splits = _open(config, spec, findings)
    looks = {split: look(source) for split, source in splits}
    for split, source in splits:
        for entry, seen in zip(source.entries, looks[split], strict=True):
            for complaint in filter(None, (seen.complaint, _too_small(entry, split, config.patch_size))):
                findings.wrong.append(f"{split}: {entry.name}: {complaint}")
                findings.framed.add((split, entry.name))
    for i, (split, source) in enumerate(splits):
        for other, others in splits[i:]:
            _compare(findings, (split, source, looks[split]), (other, others, looks[other]))

    console.print(_table(splits, looks))
    for title, sentences in (("worth knowing", findings.notes), ("wrong", findings.wrong)):
        if sentences:
            console.print(f"{title}: {len(sentences)}")
            for sentence in sentences:
                console.print(f"  {sentence}", soft_wrap=True, highlight=False)
    shown = [
        (
            split,
            [
                (printable(name), seen.thumbnail, (split, name) in findings.framed)
                for name, seen in zip(source.names, looks[split], strict=True)
            ],
        )
        for split, source in splits
        if source.names
    ]
    if shown:
        config.sheet.parent.mkdir(parents=True, exist_ok=True)
        write_image(config.sheet, contact_sheet(shown))
        console.print(f"sheet  {config.sheet}", soft_wrap=True)
    if not findings.wrong:
        console.print("nothing is wrong")
    return not findings.wrong


def _open(config: InspectConfig, spec: str, findings: Findings) -> list[tuple[Split, Source]]:
    """The splits, of all that is usable; what is not is noted once."""
    opened: dict[str, Source] = {}

    def usable(spec: str, split: Split, memory: Memory) -> Source:
        key = f"{split} {spec}" if spec == "photos" else spec
        if key in opened:
            return opened[key]
        listing = list_source(spec, split)
        findings.wrong.extend(listing.mismatches)
        if listing.passed_over:
            findings.notes.append(f"{spec}: {listing.passed_over}")
        images, inputs = photographs_of(listing, memory)
        examined = examine(listing.names, images, inputs)
        findings.wrong.extend(str(found) for found in examined if isinstance(found, InputError))
        good = [i for i, found in enumerate(examined) if isinstance(found, Entry)]
        opened[key] = Source(
            tuple(listing.names[i] for i in good),
            images.take(good),
            None if inputs is None else inputs.take(good),
            spec,
            tuple(found for found in examined if isinstance(found, Entry)),
        )
        return opened[key]

    try:
        splits = open_splits(
            spec,
            config.validation_data,
            config.test_data,
            group_by=config.group_by,
            memory=Memory(config.memory_mb),
            opening=usable,
        )
    except InputError as error:
        if spec not in opened:
            raise
        findings.wrong.append(f"cannot be split for fit: {error}")  # what is there can be looked at all the same
        return [("train", opened[spec])]
    if splits.validation is None and config.validation_data != NONE:
        findings.notes.append("setting aside a tenth by hash left no photograph for validation: fit goes without")
    return list(named(splits))


def _check_sheet(sheet: Path) -> None:
    """Refuses, before anything is decoded, a picture that cannot be written."""
    if sheet.suffix.lower() not in _SHEETS:
        raise InputError(f"--sheet takes a name that ends in {', '.join(_SHEETS)}; got {sheet}.")
    above = next(folder for folder in sheet.absolute().parents if os.path.exists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK) or sheet.is_dir():
        there = sheet if sheet.is_dir() else above
        raise InputError(f"--sheet {sheet} cannot be written: {there} is in the way; name another file.")


def _too_small(entry: Entry, split: Split, patch_size: int) -> str:
    """What fit would refuse a photograph for, in words."""
    side, size = min(entry.height, entry.width), f"{entry.width}x{entry.height} pixels"
    if split == "train" and side < patch_size:
        return f"its {size} hold no patch of {patch_size} a side; leave it out, or take a smaller --patch-size"
    if split != "train" and side < SMALLEST_SCORED:
        return f"its {size} are too few to be scored, which takes {SMALLEST_SCORED} a side; leave it out"
    return ""


_Seen = tuple[Split, Source, list[Look]]


def _compare(findings: Findings, first: _Seen, second: _Seen) -> None:
    """Notes photographs that are there twice: in one split worth knowing, in two of them wrong."""
    split, source, looks = first
    other, others, other_looks = second
    inside = split == other
    found = findings.notes if inside else findings.wrong
    where = defaultdict(list)
    for j, entry in enumerate(others.entries):
        where[entry.digest].append(j)
    same = {(i, j) for i, entry in enumerate(source.entries) for j in where[entry.digest]}
    similar = {(int(i), int(j)) for i, j in alike(looks, other_looks)} - same
    for pairs, words in ((same, "are the same photograph"), (similar, "look alike")):
        for i, j in sorted(pairs):
            if inside and i >= j:
                continue
            found.append(f"{split} {source.names[i]} and {other} {others.names[j]} {words}")
            if not inside:
                findings.framed |= {(split, source.names[i]), (other, others.names[j])}


def _table(splits: list[tuple[Split, Source]], looks: dict[Split, list[Look]]) -> Table:
    table = Table(
        caption="MP: megapixels; brightness: luma from black to white; noise: of the inputs, 0 to 255, median",
        caption_justify="left",
    )
    for column in ("split", "count", "pixels", "MP", "bits", "brightness", "noise"):
        left = column in ("split", "pixels", "brightness")
        table.add_column(column, justify="left" if left else "right", no_wrap=column == "brightness")
    for split, source in splits:
        table.add_row(split, *_summary(source, looks[split]))
    return table


def _summary(source: Source, looks: Sequence[Look]) -> Iterator[str]:
    entries = source.entries
    yield f"{len(entries)}{'' if source.inputs is None else ' pair' if len(entries) == 1 else ' pairs'}"
    if not entries:
        return
    sizes = Counter((entry.width, entry.height) for entry in entries)
    areas = sorted(sizes, key=lambda size: size[0] * size[1])
    ends = [f"{width}x{height}" for width, height in dict.fromkeys((areas[0], areas[-1]))]
    yield (" to " if len(areas) > 2 else " and ").join(ends)
    yield f"{sum(entry.width * entry.height for entry in entries) / 1e6:.2f}"
    yield " and ".join(str(bits) for bits in sorted({entry.bits for entry in entries}))
    histogram = np.mean([seen.histogram for seen in looks], axis=0)
    yield "".join(_BARS[round(share / histogram.max() * (len(_BARS) - 1))] for share in histogram)
    noise = [seen.noise for seen in looks if not np.isnan(seen.noise)]
    yield f"{np.median(noise):.1f}" if noise else "unknown"
