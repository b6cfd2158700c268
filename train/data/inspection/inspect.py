"""``python -m train data SPEC``: what a data set holds and what is wrong with it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.table import Table

from train.bounds import between, check_name
from train.console import can_show, make_console, printable
from train.data.entries import Entry
from train.data.images import is_made_by, write_image
from train.data.inspection.contact_sheet import contact_sheet, sample
from train.data.inspection.findings import Findings, note_duplicates
from train.data.inspection.pixel_inspection import Appearance
from train.data.inspection.survey import draw_thumbnail, survey
from train.data.photographs import Memory
from train.data.prepare import prepare
from train.data.sources import Source, Split, list_source, make_photographs
from train.data.splits import NONE, SMALLEST_SCORED, named, open_splits
from train.errors import InputError
from train.files.outputs import check_replaceable

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*%#"  # for an output that has no blocks
_PROGRAM = "lumloss_jax data"  # kept in a sheet, which is replaced by the next one
_SHEETS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class InspectConfig:
    """Say what a data set holds and what is wrong with it. Exit status 1 if anything is."""

    source: Annotated[str, tyro.conf.Positional]
    """Photographs: "photos", "folder:PATH", "pairs:LOW_DIR,HIGH_DIR",
    "pairs:DIR?input=GLOB&target=GLOB" or "tfds:NAME[/CONFIG]:SPLIT"."""
    validation_data: str | None = None
    """Photographs to pick settings on, as for fit. None: those of "photos", or a tenth of SPEC;
    "none": none."""
    test_data: str | None = None
    """Photographs to evaluate on, as for fit. None: those of "photos", or a tenth of SPEC."""
    group_by: Literal["pixels", "folder"] = "pixels"
    """What stays together if a tenth is set aside."""
    patch_size: int = 40
    """Side of the patches, as for fit: what is trained on may not be smaller."""
    sheet: Path = Path("contact_sheet.png")
    """Picture of the photographs to write. Photographs with something wrong are framed."""
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
    """Prints what there is to say and writes the sheet. Returns whether nothing is wrong."""
    console = make_console()

    # --- the sheet can be written
    _check_sheet(config.sheet)
    check_replaceable(
        config.sheet,
        lambda path: is_made_by(path, _PROGRAM),
        option="--sheet",
        overwrite=config.overwrite,
    )

    # --- the data set is written first, if that is asked for
    findings = Findings()
    spec = config.source
    if config.prepare:
        if not spec.startswith("tfds:") and (skipped := list_source(spec, "train").skipped):
            findings.notes.append(f"{spec}: {skipped}")
        spec = prepare(spec, manual_dir=config.manual_dir, data_dir=config.data_dir)
        console.print(f"written; read it as {spec}", soft_wrap=True)

    # --- every photograph is decoded once, as it is opened
    found: dict[Entry, Appearance] = {}
    splits = _open(config, spec, findings, found)
    appearances = []
    for _, source in splits:
        appearances.append([found[entry] for entry in source.entries])

    # --- what is wrong with single photographs, and with several together
    for (split, source), of_split in zip(splits, appearances, strict=True):
        for entry, appearance in zip(source.entries, of_split, strict=True):
            complaints = (appearance.complaint, _too_small(entry, split, config.patch_size))
            for complaint in filter(None, complaints):
                findings.wrong.append(f"{split}: {entry.name}: {complaint}")
                findings.framed.add((split, entry.name))
    note_duplicates(findings, splits, appearances)

    # --- the table, the findings, the sheet
    console.print(_table(splits, appearances))
    for line in findings.shown(everything=config.all):
        console.print(line, soft_wrap=True, highlight=False)
    if any(source.names for _, source in splits):
        _write_sheet(config.sheet, splits, findings)
        console.print(f"sheet  {config.sheet}", soft_wrap=True)
    if not findings.wrong:
        console.print("nothing is wrong")
    return not findings.wrong


def _open(
    config: InspectConfig, spec: str, findings: Findings, appearances: dict[Entry, Appearance]
) -> list[tuple[Split, Source]]:
    """The splits, with the photographs that can be used.

    Args:
      config: which splits.
      spec: the photographs to train on.
      findings: notes each photograph that cannot be used, once.
      appearances: takes what each of the others looks like.
    """
    opened: dict[str, Source] = {}

    def open_usable(spec: str, split: Split, *, memory: Memory) -> Source:
        key = f"{split} {spec}" if spec == "photos" else spec
        if key in opened:
            return opened[key]
        listing = list_source(spec, split)
        findings.wrong.extend(listing.mismatches)
        if listing.skipped:
            findings.notes.append(f"{spec}: {listing.skipped}")
        images, inputs = make_photographs(listing, memory)
        surveyed = survey(listing.names, images, inputs)
        usable: dict[int, Entry] = {}
        for i, found in enumerate(surveyed):
            if isinstance(found, InputError):
                findings.wrong.append(str(found))
            else:
                usable[i], appearance = found
                appearances[usable[i]] = appearance
        opened[key] = Source(
            tuple(listing.names[i] for i in usable),
            images.take(usable),
            tuple(usable.values()),
            None if inputs is None else inputs.take(usable),
            spec,
        )
        return opened[key]

    try:
        splits = open_splits(
            spec,
            validation=config.validation_data,
            test=config.test_data,
            group_by=config.group_by,
            memory=Memory(0),  # each is decoded once, and the few that are drawn again
            opening=open_usable,
        )
    except InputError as error:
        if spec not in opened:
            raise
        # The photographs can be shown nevertheless.
        findings.wrong.append(f"cannot be split for fit: {error}")
        return [("train", opened[spec])]
    if splits.validation is None and config.validation_data != NONE:
        findings.notes.append(
            "setting aside a tenth by hash left no photograph for validation: fit goes without"
        )
    return list(named(splits))


def _write_sheet(path: Path, splits: Sequence[tuple[Split, Source]], findings: Findings) -> None:
    """Draws a sample of each split, which includes the photographs with something wrong."""
    bands = []
    for split, source in splits:
        if not source.names:
            continue
        framed = [(split, name) in findings.framed for name in source.names]
        drawn = []
        for i in sample(framed):
            drawn.append((printable(source.names[i]), draw_thumbnail(source, i), framed[i]))
        bands.append((f"{split}: {len(source.names)}", drawn))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_image(path, contact_sheet(bands), made_by=_PROGRAM)
    except OSError as error:
        raise InputError(
            f"--sheet {path} could not be written: {error.strerror or error}."
        ) from None


def _check_sheet(sheet: Path) -> None:
    """Refuses a picture that cannot be written, before anything is decoded."""
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
        return (
            f"its {size} hold no patch of {patch_size} a side; leave it out, or take a smaller "
            "--patch-size"
        )
    if split != "train" and side < SMALLEST_SCORED:
        return (
            f"its {size} are too few to be scored, which takes {SMALLEST_SCORED} a side; leave it "
            "out"
        )
    return ""


def _table(
    splits: Sequence[tuple[Split, Source]], appearances: Sequence[Sequence[Appearance]]
) -> Table:
    caption = (
        "MP: megapixels; brightness: luma from black to white; noise: of the inputs, 0 to 255, "
        "median"
    )
    table = Table(caption=caption, caption_justify="left")
    for column in ("split", "count", "pixels", "MP", "bits", "brightness", "noise"):
        left = column in ("split", "pixels", "brightness")
        table.add_column(
            column, justify="left" if left else "right", no_wrap=column == "brightness"
        )
    for (split, source), of_split in zip(splits, appearances, strict=True):
        table.add_row(split, *_summary(source, of_split))
    return table


def _summary(source: Source, appearances: Sequence[Appearance]) -> Iterator[str]:
    """The cells of a split's row, after its name."""
    entries = source.entries
    if source.inputs is None:
        yield str(len(entries))
    else:
        yield f"{len(entries)} pair{'s' * (len(entries) != 1)}"
    if not entries:
        return
    sizes = dict.fromkeys((entry.width, entry.height) for entry in entries)
    areas = sorted(sizes, key=lambda size: size[0] * size[1])
    ends = [f"{width}x{height}" for width, height in dict.fromkeys((areas[0], areas[-1]))]
    yield (" to " if len(areas) > 2 else " and ").join(ends)
    yield f"{sum(entry.width * entry.height for entry in entries) / 1e6:.2f}"
    depths = {entry.bits for entry in entries}
    yield " and ".join(map(str, sorted(depths)))
    histogram = np.mean([each.histogram for each in appearances], axis=0)
    bars = _BARS if can_show(_BARS) else _PLAIN_BARS
    yield "".join(bars[round(share / histogram.max() * (len(bars) - 1))] for share in histogram)
    noise = [each.noise for each in appearances if not np.isnan(each.noise)]
    yield f"{np.median(noise):.1f}" if noise else "unknown"
