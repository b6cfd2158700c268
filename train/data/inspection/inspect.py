"""``python -m train data SPEC``: reports what a data set contains and what is wrong with it."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import tyro
from rich.table import Table

from train.bounds import between, check_name, hint
from train.console import can_show, make_console, printable
from train.data.entries import Entry, describe_equal_halves
from train.data.folders import Listing
from train.data.images import is_made_by, write_image
from train.data.inspection.contact_sheet import contact_sheet, sample
from train.data.inspection.findings import Findings, note_duplicates
from train.data.inspection.pixel_inspection import Appearance
from train.data.inspection.survey import draw_thumbnail, survey
from train.data.photographs import Memory
from train.data.prepare import prepare
from train.data.sources import PACKAGED, Source, Split, list_source, make_photographs
from train.data.splits import NONE, SMALLEST_SCORED, named, open_splits
from train.data.walk import describe_skipped
from train.errors import InputError
from train.files.outputs import check_replaceable

_BARS = " ▁▂▃▄▅▆▇█"
_PLAIN_BARS = " .:-=+*%#"  # for an output that cannot show blocks
_PROGRAM = "lumloss_jax data"  # written into each contact sheet, so that the next may replace it
_SHEETS = (".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class InspectConfig:
    """Report what a data set contains and what is wrong with it.

    The exit status is 1 if there are problems.
    """

    source: Annotated[str, tyro.conf.Positional]
    """Photographs: "photos", "samples", "folder:PATH", "pairs:LOW_DIR,HIGH_DIR",
    "pairs:DIR?input=GLOB&target=GLOB" or "tfds:NAME[/CONFIG]:SPLIT"."""
    validation_data: Annotated[str | None, tyro.conf.arg(help_behavior_hint=hint)] = None
    """Photographs for validation, as for fit.
    Default: about a tenth of the data set is set aside.
    "photos" and "samples" have their own validation photographs.
    Write "none" for no validation."""
    test_data: Annotated[str | None, tyro.conf.arg(help_behavior_hint=hint)] = None
    """Photographs to evaluate on, as for fit.
    Default: about a tenth of the data set is set aside.
    "photos" and "samples" have their own test photographs."""
    group_by: Literal["pixels", "folder"] = "pixels"
    """Which photographs are kept together in one split (training, validation or test), as for fit.
    pixels: exact copies (identical pixels); folder: photographs in one folder."""
    patch_size: int = 40
    """Side of the training patches in pixels, as for fit.
    Training photographs smaller than this are reported as problems."""
    sheet: Path = Path("contact_sheet.png")
    """Contact sheet to write. Photographs with problems are framed."""
    prepare: bool = False
    """First convert the data set to TFDS's array_record format, and then inspect the result."""
    manual_dir: Path | None = None
    """With --prepare: folder with the files that you had to download by hand."""
    data_dir: Path | None = None
    """With --prepare: folder to keep data sets in.
    None: TFDS_DATA_DIR, or ~/tensorflow_datasets."""
    overwrite: bool = False
    """Replace --sheet even if it was not written by this command.
    An existing TIFF is never replaced without this flag, because this command does not
    mark the TIFFs that it writes."""
    all: bool = False
    """List all problems and notes. Without this flag, the first twenty of each are listed."""

    def __post_init__(self) -> None:
        between("--patch-size", self.patch_size, 1)
        check_name("--sheet", self.sheet)
        check_name("--manual-dir", self.manual_dir)
        check_name("--data-dir", self.data_dir)


def inspect(config: InspectConfig) -> bool:
    """Prints the report and writes the contact sheet.

    Args:
      config: what to inspect.

    Returns:
      Whether there are no problems.

    Raises:
      InputError: if the sheet cannot be written, or a source cannot be opened at all.
    """
    console = make_console()

    # --- whether the sheet can be written
    _check_sheet(config.sheet)
    check_replaceable(
        config.sheet,
        lambda path: is_made_by(path, _PROGRAM),
        option="--sheet",
        overwrite=config.overwrite,
    )

    # --- the data set is written first, with --prepare
    findings = Findings()
    spec = config.source
    if config.prepare:
        if not spec.startswith("tfds:"):
            findings.notes += _describe_skipped(spec, list_source(spec, "train"))
        spec = prepare(spec, manual_dir=config.manual_dir, data_dir=config.data_dir)
        console.print(f"The data set is written. Read it as {spec}", soft_wrap=True)

    # --- every photograph is decoded once, as it is opened
    found: dict[Entry, Appearance] = {}
    splits = _open(config, spec, findings, found)
    appearances = []
    for _, source in splits:
        appearances.append([found[entry] for entry in source.entries])

    # --- problems of single photographs, and of several together
    for (split, source), of_split in zip(splits, appearances, strict=True):
        for entry, appearance in zip(source.entries, of_split, strict=True):
            complaints = (appearance.complaint, _too_small(entry, split, config.patch_size))
            for complaint in filter(None, complaints):
                findings.wrong.append(f"{entry.name} ({split}): {complaint}")
                findings.framed.add((split, entry.name))
            if entry.input_digest == entry.digest:  # the sentence about these pairs is said above
                findings.framed.add((split, entry.name))
    note_duplicates(findings, splits, appearances)

    # --- the table, the findings, the sheet
    console.print(_table(splits, appearances))
    for line in findings.shown(everything=config.all):
        console.print(line, soft_wrap=True, highlight=False)
    if any(source.names for _, source in splits):
        _write_sheet(config.sheet, splits, findings)
        console.print(f"Contact sheet: {config.sheet}", soft_wrap=True)
    if not findings.wrong:
        console.print("There are no problems.")
    return not findings.wrong


def _describe_skipped(spec: str, listing: Listing) -> Iterator[str]:
    """Sentences about what lies next to the photographs of a source and was skipped."""
    if others := describe_skipped(listing.others):
        yield f"{spec}: {others}."
    for note in listing.notes:
        yield f"{note}."


def _open(
    config: InspectConfig, spec: str, findings: Findings, appearances: dict[Entry, Appearance]
) -> list[tuple[Split, Source]]:
    """The splits, with the photographs that can be used.

    Args:
      config: which splits to open.
      spec: the photographs to train on.
      findings: the report, to which each photograph that cannot be used is added once.
      appearances: what each of the other photographs looks like is added here.

    Returns:
      The splits that there are, in order.

    Raises:
      InputError: if the photographs to train on cannot be listed.
    """
    opened: dict[str, Source] = {}

    def open_usable(spec: str, split: Split, *, memory: Memory) -> Source:
        key = f"{split} {spec}" if spec in PACKAGED else spec
        if key in opened:
            return opened[key]
        listing = list_source(spec, split)
        findings.wrong.extend(f"{mismatch}." for mismatch in listing.mismatches)
        findings.notes += _describe_skipped(spec, listing)
        images, inputs = make_photographs(listing, memory)
        surveyed = survey(listing.names, images, inputs)
        usable: dict[int, Entry] = {}
        for i, found in enumerate(surveyed):
            if isinstance(found, InputError):
                findings.wrong.append(str(found))
            else:
                usable[i], appearance = found
                appearances[usable[i]] = appearance
        if equal := describe_equal_halves(usable.values()):
            findings.wrong.append(f"{spec}: {equal}")
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
            memory=Memory(0),  # each is decoded once, and those on the sheet a second time
            opening=open_usable,
        )
    except InputError as error:
        if spec not in opened:
            raise
        # The photographs are described nevertheless.
        findings.wrong.append(f"fit cannot split the photographs: {error}")
        return [("train", opened[spec])]
    if splits.validation is None and config.validation_data != NONE:
        findings.notes.append(
            "No photograph fell into the tenth that is set aside for validation, so fit would run "
            "without validation."
        )
    return list(named(splits))


def _write_sheet(path: Path, splits: Sequence[tuple[Split, Source]], findings: Findings) -> None:
    """Draws a sample of each split, which includes the photographs with problems."""
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
        raise InputError(f"--sheet must be a name that ends in {', '.join(_SHEETS)}; got {sheet}.")
    above = next(folder for folder in sheet.absolute().parents if os.path.exists(folder))
    if not above.is_dir() or not os.access(above, os.W_OK) or sheet.is_dir():
        there = sheet if sheet.is_dir() else above
        reason = "may not be written to" if there.is_dir() and there != sheet else "is in the way"
        raise InputError(f"--sheet {sheet} cannot be written: {there} {reason}. Name another file.")


def _too_small(entry: Entry, split: Split, patch_size: int) -> str:
    """Why fit would refuse a photograph, in words, or ""."""
    side, size = min(entry.height, entry.width), f"{entry.width}x{entry.height} pixels"
    if split == "train" and side < patch_size:
        return (
            f"it has {size}, and a training patch needs {patch_size}x{patch_size}. Leave it out, "
            "or use a smaller --patch-size."
        )
    if split != "train" and side < SMALLEST_SCORED:
        return (
            f"it has {size}, and scoring needs {SMALLEST_SCORED}x{SMALLEST_SCORED}. Leave it out."
        )
    return ""


def _table(
    splits: Sequence[tuple[Split, Source]], appearances: Sequence[Sequence[Appearance]]
) -> Table:
    caption = (
        "MP: megapixels of all photographs; brightness: histogram of luma, from black to white; "
        "noise: estimated standard deviation of the noise (0 to 255), median over the input "
        "photographs"
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
