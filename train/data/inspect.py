"""``python -m train data SPEC``: what is in a data set, what is wrong with it, and a sheet of its photographs."""

import os
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.table import Table

from train.bounds import between, check_name
from train.console import can_show, make_console, printable
from train.data.contact_sheet import contact_sheet, sample
from train.data.findings import Findings, compare
from train.data.images import is_made_by, write_image
from train.data.looks import Look
from train.data.photographs import Memory
from train.data.prepare import prepare
from train.data.sources import Entry, Source, Split, list_source, make_photographs
from train.data.splits import NONE, SMALLEST_SCORED, named, open_splits
from train.data.survey import draw_thumbnail, survey
from train.errors import InputError
from train.outputs import check_replaceable

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*%#"  # for an output that has no blocks
_PROGRAM = "lumloss_jax data"  # kept in a sheet, which is replaced by the next one
_SHEETS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class InspectConfig:
    """Say what a data set holds and what is wrong with it; exit status 1 where something is."""

    source: Annotated[str, tyro.conf.Positional]
    """Photographs: "photos", "folder:PATH", "pairs:LOW_DIR,HIGH_DIR",
    "pairs:DIR?input=GLOB&target=GLOB" or "tfds:NAME[/CONFIG]:SPLIT"."""
    validation_data: str | None = None
    """Photographs to pick settings on, as for fit. None: those of "photos", or a tenth of SPEC;
    "none": none."""
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
    """With --prepare: the folder to keep data sets in. None: TFDS_DATA_DIR, or
    ~/tensorflow_datasets."""
    overwrite: bool = False
    """Replace --sheet even if it was not written by this command. A TIFF is never known to be."""
    all: bool = False
    """List everything that is wrong and worth knowing. Without it, the first twenty of each."""

    def __post_init__(self) -> None:
        between("--patch-size", self.patch_size, 1)
        check_name("--sheet", self.sheet)
        check_name("--manual-dir", self.manual_dir)
        check_name("--data-dir", self.data_dir)


def inspect(config: InspectConfig) -> bool:
    """Prints all there is to say, writes the sheet; whether nothing is wrong."""
    console = make_console()
    _check_sheet(config.sheet)
    check_replaceable(
        config.sheet,
        lambda path: is_made_by(path, _PROGRAM),
        option="--sheet",
        overwrite=config.overwrite,
    )
    spec = config.source
    if config.prepare:
        spec = prepare(spec, manual_dir=config.manual_dir, data_dir=config.data_dir)
        console.print(f"written; read it as {spec}", soft_wrap=True)

    # ---- Every photograph is looked at once, as it is opened.
    findings = Findings()
    seen: dict[Entry, Look] = {}
    splits = _open(config, spec, findings, seen)
    looks = [[seen[entry] for entry in source.entries] for _, source in splits]

    # ---- What is wrong with each, and with several.
    for (split, source), of_split in zip(splits, looks, strict=True):
        for entry, look in zip(source.entries, of_split, strict=True):
            for complaint in filter(
                None, (look.complaint, _too_small(entry, split, config.patch_size))
            ):
                findings.wrong.append(f"{split}: {entry.name}: {complaint}")
                findings.framed.add((split, entry.name))
    compare(findings, splits, looks)

    # ---- What there is to say, and to see.
    console.print(_table(splits, looks))
    for line in findings.shown(everything=config.all):
        console.print(line, soft_wrap=True, highlight=False)
    if any(source.names for _, source in splits):
        _write_sheet(config.sheet, splits, findings)
        console.print(f"sheet  {config.sheet}", soft_wrap=True)
    if not findings.wrong:
        console.print("nothing is wrong")
    return not findings.wrong


def _open(
    config: InspectConfig, spec: str, findings: Findings, seen: dict[Entry, Look]
) -> list[tuple[Split, Source]]:
    """The splits, of all that is usable; what is not is noted once. Into ``seen`` goes what each looks like."""
    opened: dict[str, Source] = {}

    def usable(spec: str, split: Split, memory: Memory) -> Source:
        key = f"{split} {spec}" if spec == "photos" else spec
        if key in opened:
            return opened[key]
        listing = list_source(spec, split)
        findings.wrong.extend(listing.mismatches)
        if listing.passed_over:
            findings.notes.append(f"{spec}: {listing.passed_over}")
        images, inputs = make_photographs(listing, memory)
        surveyed = survey(listing.names, images, inputs)
        findings.wrong.extend(str(found) for found in surveyed if isinstance(found, InputError))
        good = [i for i, found in enumerate(surveyed) if not isinstance(found, InputError)]
        found = [found for found in surveyed if not isinstance(found, InputError)]
        seen.update(found)
        opened[key] = Source(
            tuple(listing.names[i] for i in good),
            images.take(good),
            None if inputs is None else inputs.take(good),
            spec,
            tuple(entry for entry, _ in found),
        )
        return opened[key]

    try:
        splits = open_splits(
            spec,
            config.validation_data,
            config.test_data,
            group_by=config.group_by,
            memory=Memory(0),  # each is decoded once, and the few that are drawn again
            opening=usable,
        )
    except InputError as error:
        if spec not in opened:
            raise
        # What is there can be looked at all the same
        findings.wrong.append(f"cannot be split for fit: {error}")
        return [("train", opened[spec])]
    if splits.validation is None and config.validation_data != NONE:
        findings.notes.append(
            "setting aside a tenth by hash left no photograph for validation: fit goes without"
        )
    return list(named(splits))


def _write_sheet(path: Path, splits: Sequence[tuple[Split, Source]], findings: Findings) -> None:
    """Draws a sample of each split, those first that something is wrong with."""
    bands = []
    for split, source in splits:
        if not source.names:
            continue
        framed = [(split, name) in findings.framed for name in source.names]
        drawn = [
            (printable(source.names[i]), draw_thumbnail(source, i), framed[i])
            for i in sample(framed)
        ]
        bands.append((f"{split}: {len(source.names)}", drawn))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, contact_sheet(bands), made_by=_PROGRAM)
    except OSError as error:
        raise InputError(
            f"--sheet {path} could not be written: {error.strerror or error}."
        ) from None


def _check_sheet(sheet: Path) -> None:
    """Refuses, before anything is decoded, a picture that cannot be written."""
    if sheet.suffix.lower() not in _SHEETS:
        raise InputError(f"--sheet takes a name that ends in {', '.join(_SHEETS)}; got {sheet}.")
    above = next(folder for folder in sheet.absolute().parents if os.path.exists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK) or sheet.is_dir():
        there = sheet if sheet.is_dir() else above
        reason = "may not be written to" if there.is_dir() and there != sheet else "is in the way"
        raise InputError(f"--sheet {sheet} cannot be written: {there} {reason}. Name another file.")


def _too_small(entry: Entry, split: Split, patch_size: int) -> str:
    """What fit would refuse a photograph for, in words."""
    side, size = min(entry.height, entry.width), f"{entry.width}x{entry.height} pixels"
    if split == "train" and side < patch_size:
        return f"its {size} hold no patch of {patch_size} a side; leave it out, or take a smaller --patch-size"
    if split != "train" and side < SMALLEST_SCORED:
        return f"its {size} are too few to be scored, which takes {SMALLEST_SCORED} a side; leave it out"
    return ""


def _table(splits: Sequence[tuple[Split, Source]], looks: Sequence[Sequence[Look]]) -> Table:
    table = Table(
        caption="MP: megapixels; brightness: luma from black to white; noise: of the inputs, 0 to 255, median",
        caption_justify="left",
    )
    for column in ("split", "count", "pixels", "MP", "bits", "brightness", "noise"):
        left = column in ("split", "pixels", "brightness")
        table.add_column(
            column, justify="left" if left else "right", no_wrap=column == "brightness"
        )
    for (split, source), of_split in zip(splits, looks, strict=True):
        table.add_row(split, *_summary(source, of_split))
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
    bars = _BARS if can_show(_BARS) else _PLAIN_BARS
    yield "".join(bars[round(share / histogram.max() * (len(bars) - 1))] for share in histogram)
    noise = [seen.noise for seen in looks if not np.isnan(seen.noise)]
    yield f"{np.median(noise):.1f}" if noise else "unknown"
