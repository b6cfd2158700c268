"""``python -m train restore``: restores photographs of any size, without a ground truth.

Next to each restored photograph a file ``NAME.lumloss.json`` records how it was made
(:mod:`train.inference.files.records`). A second run skips what the same network already made from
the same file with the same options, and replaces nothing that restore did not write.
"""

import dataclasses
import functools
import os
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from lumloss_jax.models import NAFNet
from train.bounds import MOST_NOISE, MOST_SIDE, between, check_name, hint
from train.checkpoints.checkpoint import Network, load_network
from train.checkpoints.digests import digest_weights
from train.console import complain, make_console
from train.data.walk import describe_skipped
from train.devices.signals import exit_on_sigterm
from train.errors import InputError, first_line
from train.files.locks import hold
from train.files.outputs import LASTING, check_writable, clear_leftovers
from train.inference.attending import AttendingPredictor
from train.inference.choice import choose_network, describe_choice
from train.inference.files.colours import colours_of, estimate_sigma, photograph_in, restored_strips
from train.inference.files.image_files import open_stored, written
from train.inference.files.inputs import Job, check_case, check_links, find_inputs
from train.inference.files.records import check_ours, close_record, hash_of, is_made, write_record
from train.inference.layered import LayeredPredictor
from train.inference.predict import OnProgress, Predictor
from train.inference.predictors import predictor_for
from train.inference.preview import check_preview, preview_of, write_preview
from train.inference.progress import RestoringBar
from train.inference.retouch import UNCHANGED, Retouch

_TRACEBACK = "LUMLOSS_TRACEBACK"


class Unwritable(InputError):
    """The output cannot be written, for a reason that holds for the next file too."""


@dataclass(frozen=True)
class RestoreConfig:
    """Restore photographs of up to 200 megapixels, with your network or with the bundled one.

    Each photograph keeps its file format, bit depth and orientation. A photograph whose channels
    are all equal counts as grey, and its output is grey too.
    """

    inputs: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help_behavior_hint=hint)]
    """Photographs, folders of them (searched recursively), or patterns such as "holiday/*.jpg".
    If the first one is the folder of a run, or of one of its checkpoints, that network is used."""
    output: Path = Path("restored")
    """Folder to write to. Files keep their paths relative to the input folders."""
    network: str | None = None
    """Folder of a run or of a checkpoint, or the name of a bundled network.
    None: the first argument if it is a run, otherwise the bundled network denoiser-2."""
    sigma: float | None = None
    """Standard deviation of the noise (0 to 255), for networks that need it and for --keep-detail.
    None: it is estimated for each photograph."""
    strength: float = 1.0
    """How much of the restoration to use, from 0 (the input) to 1."""
    keep_detail: float = 0.0
    """How much brightness detail to put back, from 0 to 1.
    Only detail that stands out from the noise is put back; --sigma or an estimate says how strong
    the noise is."""
    preview: bool = False
    """Restore nothing, but write NAME.preview.png for each photograph NAME. It shows the centre at
    the strengths 0, 0.25, 0.5, 0.75 and 1, next to each other."""
    self_ensemble: bool = False
    """Average over the eight flips and rotations.
    This is slightly better and takes eight times as long."""
    fast: bool = False
    """For Retinexformer: compute the attention on a downscaled copy instead of on every pixel.
    The error that this introduces is estimated and printed."""
    exact: bool = False
    """For NAFNet: compute its means over the whole photograph, as the network is defined.
    Otherwise photographs larger than 384x384 are restored in its local form: each pixel gets the
    means of a window of 384x384 pixels."""
    overwrite: bool = False
    """Replace files in --output even if restore did not write them, or if they changed later."""
    tile: int | None = None
    """Side of a tile in pixels. None: a side for about 1.5 GB of memory at 100 megapixels.
    It changes the result only with --fast, which computes the attention on a copy reduced to this
    size."""

    def __post_init__(self) -> None:
        check_name("--network", self.network)
        check_name("--output", self.output)
        if self.sigma is not None:
            between("--sigma", self.sigma, 0, most=MOST_NOISE)
        between("--strength", self.strength, 0, most=1)
        between("--keep-detail", self.keep_detail, 0, most=1)
        if self.tile is not None:
            between("--tile", self.tile, 1, most=MOST_SIDE)


def restore(config: RestoreConfig) -> int:
    """Restores everything that can be read; returns the exit status, 1 if something failed."""
    console = make_console(soft_wrap=True)
    chosen, photographs = choose_network(config.inputs, config.network)
    if line := describe_choice(chosen):
        console.print(line)
    inputs = find_inputs(photographs, config.output)
    jobs = inputs.jobs
    check_links(jobs, config.output)
    for job in jobs:
        if config.preview:
            check_preview(job, overwrite=config.overwrite)
        elif not config.overwrite:
            check_ours(job.target)
    network = load_network(chosen, warn=lambda line: console.print(f"warning: {line}"))
    predictor = make_restorer(network, config)
    retouch = Retouch(config.strength, config.keep_detail)
    fast = isinstance(predictor, AttendingPredictor) and predictor.fast
    if config.fast and not fast:
        console.print(
            f"warning: --fast has no effect, because {network.spec} does not attend to the whole "
            "photograph"
        )
    exact = isinstance(predictor, LayeredPredictor) and isinstance(network.model, NAFNet)
    if config.exact and not exact:
        console.print(
            f"warning: --exact has no effect, because {network.spec} has no local form: it always "
            "restores the whole photograph exactly, except with --fast"
        )
    check_writable(config.output)
    check_case(jobs, config.output)
    made_by = {
        "model": network.spec,
        "checkpoint": digest_weights(network.params, network.batch_stats),
        "sigma": config.sigma,
        "self_ensemble": config.self_ensemble,
        "fast": fast,
        **({"tile": predictor.tile} if fast else {}),  # without --fast nothing depends on it
        # Records of earlier versions, which had no such options, stay valid.
        **({"exact": True} if exact and config.exact else {}),
        **({} if retouch.changes_nothing else dataclasses.asdict(retouch)),
    }
    done, failures = 0, list(inputs.failures)
    with exit_on_sigterm(), hold(config.output), RestoringBar(jobs, console) as bar:
        for folder in dict.fromkeys(job.target.parent for job in jobs):
            clear_leftovers(folder)
        for job in jobs:
            try:
                # Others may write to the folder too, and restoring may take hours.
                check_links([job], config.output)
                if config.preview:
                    _check_names(job)
                    said = write_preview(
                        predictor, job, sigma=config.sigma, keep_detail=config.keep_detail
                    )
                else:
                    said = restore_file(
                        predictor,
                        job,
                        made_by,
                        retouch=retouch,
                        overwrite=config.overwrite,
                        on_progress=functools.partial(bar.advance, job),
                        announce=functools.partial(bar.say, job),
                    )
            except Unwritable as error:
                raise Unwritable(
                    f"{error} The photographs before it are complete. Repeat the command to "
                    "continue."
                ) from None
            # Whatever is wrong with one photograph, the next one is tried.
            except Exception as error:
                failures.append(_why(error, job))
                said = "failed"
            target = preview_of(job) if config.preview else job.target
            bar.finish(job, f"{job.source} -> {target}: {said}")
            done += said != "failed"
    made = "previews" if config.preview else "photographs"
    console.print(f"{done} of {len(jobs)} {made} are in {config.output}")
    for note in filter(None, [describe_skipped(inputs.others), *inputs.notes]):
        console.print(note)
    for failure in failures:
        console.print(f"not restored: {failure}")
    return 1 if failures else 0


def _why(error: Exception, job: Job) -> str:
    """Says why a photograph was not restored."""
    if isinstance(error, InputError):
        said = str(error)
        return (
            said if str(job.source) in said or str(job.target) in said else f"{job.source}: {said}"
        )
    if isinstance(error, OSError):  # reading the photograph, or the file that it would replace
        return f"{error.filename or job.source} cannot be read: {error.strerror or error}."
    if isinstance(error, MemoryError) or "RESOURCE_EXHAUSTED" in str(error):
        return (
            f"{job.source} needs more memory than is available. Close other programs, or use a "
            "smaller --tile."
        )
    if os.environ.get(_TRACEBACK):
        complain("".join(traceback.format_exception(error)))
    return (
        f"{job.source} triggered a bug in this program, {type(error).__name__}: "
        f"{first_line(error)}. Please report it. Repeat the command with {_TRACEBACK}=1 in the "
        "environment to see where it happened."
    )


def make_restorer(network: Network, config: RestoreConfig) -> Predictor:
    """Makes the predictor for these options; raises an error if they do not fit the network."""
    if config.sigma is not None and not (network.model.takes_sigma or config.keep_detail):
        raise InputError(
            f"--sigma {config.sigma:g} does not fit {network.spec}, which is blind: it accepts no "
            "noise level. Leave --sigma out."
        )
    if config.sigma is not None and not 0 <= config.sigma <= 255:
        raise InputError(f"--sigma must be between 0 and 255; got {config.sigma:g}.")
    return predictor_for(
        network.model,
        network.params,
        network.batch_stats,
        tile=config.tile,
        self_ensemble=config.self_ensemble,
        fast=config.fast,
        exact=config.exact,
    )


def restore_file(
    predictor: Predictor,
    job: Job,
    made_by: Mapping[str, Any],
    *,
    retouch: Retouch = UNCHANGED,
    overwrite: bool = False,
    on_progress: OnProgress = lambda share: None,
    announce: Callable[[str], None] = lambda line: None,
) -> str:
    """Restores one file, unless that is done already.

    Args:
      predictor: the network.
      job: the file, and where to write the result.
      made_by: what the result depends on, except the file. It includes ``sigma`` (0 to 255; None:
        estimated).
      retouch: how much of the restoration is used.
      overwrite: replace the target even if restore did not write it, or if it was changed since.
      on_progress: called with the share of the work done since the last call.
      announce: called with what the user should know before the work starts.

    Returns:
      What was done, in words.

    Raises:
      InputError: if the file cannot be restored, or the result cannot be written.
    """
    _check_names(job)
    stored = open_stored(job.source)
    record = {"input": job.source.name, "input_sha256": hash_of(job.source), **made_by}
    if is_made(job.target, record, overwrite=overwrite):
        return "already done"
    notes = list(stored.notes)
    colours = colours_of(stored)
    photograph = photograph_in(stored, colours=colours, channels=predictor.model.channels)
    if colours < predictor.model.channels:
        notes.append("grey, so it was repeated over three channels and averaged afterwards")
    sigma = made_by["sigma"]
    if sigma is None and (predictor.model.takes_sigma or retouch.keep_detail):
        sigma = 255 * estimate_sigma(photograph)
        notes.append(f"estimated sigma {sigma:.1f}")
    if (
        isinstance(predictor, AttendingPredictor)
        and predictor.fast
        and (error := predictor.fast_error(photograph)) is not None
    ):
        notes.append(
            f"fast: the attention was computed on a copy at 1/{error.factor} of the size. Measured "
            f"on a copy of {error.width}x{error.height} pixels, this changes a pixel by "
            f"{error.mean:.2g} on average and by {error.largest:.2g} at most, where white is 1"
        )
    if isinstance(predictor, LayeredPredictor) and (line := predictor.announcement(photograph)):
        announce(line)
    strips = restored_strips(
        predictor,
        photograph,
        stored,
        colours=colours,
        sigma=(sigma or 0) / 255,
        retouch=retouch,
        on_progress=on_progress,
    )
    try:
        job.target.parent.mkdir(parents=True, exist_ok=True)
        with written(job.target, stored, strips) as content:
            write_record(job.target, record, content)
        close_record(job.target)
        if isinstance(predictor, LayeredPredictor):
            notes += predictor.notes(photograph)
    except OSError as error:
        failed = Unwritable if error.errno in LASTING else InputError
        raise failed(f"{job.target} could not be written: {error.strerror or error}.") from None
    return "; ".join(["restored", *notes])


def _check_names(job: Job) -> None:
    for path in job:
        try:
            str(path).encode()
        except UnicodeEncodeError:
            raise InputError(
                f"{path} has a name that is not valid UTF-8, and libvips cannot write such files. "
                "Rename it."
            ) from None
