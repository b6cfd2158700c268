"""Runs a network layer by layer over a whole photograph, with the features between them on disk.

Some networks need numbers of the whole photograph in every layer, such as the means of NAFNet. If
tiles computed them, every tile would have to pass through all earlier layers for each layer again.
Here each layer runs over the whole photograph, in strips of rows that are as wide as it, before the
next one starts. A strip reads a few rows more than it writes, and the result equals that of the
photograph as a whole.

A network is given as a list of passes. The files are in the folder for temporary files, which the
environment variable TMPDIR sets. They have no names, so they vanish with the process.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, cast

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from train.inference.tiles.depthwise import quick_depthwise
from train.inference.tiles.features import Features, WindowSums


class Place(NamedTuple):
    """Where a strip lies. Rows are those of the pass's level."""

    start: Any  # first row of the strip, with its halo; below 0 at the top
    size: Any  # rows of the whole photograph


class Output(NamedTuple):
    """What a pass writes: the name, level and number of channels of its features."""

    name: str
    level: int
    channels: int


class Pass(NamedTuple):
    """One reading of features: a function of strips, and what becomes of its results.

    The function accepts (parameters, place, numbers, *strips) and returns (strips, sums). The
    strips that it gets have ``halo`` rows more at either side; those that it returns do not.
    """

    function: Callable[..., tuple[tuple[jax.Array, ...], Any]]
    parameters: Any
    level: int  # level of the strips, where 0 is the full size
    inputs: tuple[str, ...]
    outputs: tuple[Output, ...] = ()
    halo: int = 0
    sums: str = ""  # name under which the sums over all strips are kept
    numbers: str = ""  # name of earlier sums that the function gets
    window: tuple[str, int] = ("", 0)  # or: features whose sums over a window of rows it gets
    frees: tuple[str, ...] = ()  # features that are not needed afterwards


def bytes_on_disk(passes: Sequence[Pass], height: int, width: int, given: Mapping[str, int]) -> int:
    """The largest number of bytes that the features of the passes take at once.

    Args:
      passes: the network.
      height: rows at full size.
      width: pixels in a row at full size.
      given: channels of the features that exist before the first pass, at full size.

    Returns:
      The number of bytes.
    """
    sizes = {name: 4 * height * width * channels for name, channels in given.items()}
    most = sum(sizes.values())
    for one in passes:
        for output in one.outputs:
            pixels = (height >> output.level) * (width >> output.level)
            sizes[output.name] = 4 * pixels * output.channels
        most = max(most, sum(sizes.values()))
        for name in one.frees:
            del sizes[name]
    return most


def count_strips(passes: Sequence[Pass], height: int, rows: int) -> int:
    """Counts the strips of all passes.

    Args:
      passes: the network.
      height: rows at full size.
      rows: rows of a strip.

    Returns:
      The number of strips.
    """
    return sum(-(-(height >> one.level) // rows) for one in passes)


def run_passes(
    passes: Sequence[Pass],
    features: dict[str, Features],
    height: int,
    width: int,
    rows: int,
    *,
    on_strip: Callable[[], None] = lambda: None,
) -> Iterator[np.ndarray]:
    """Runs passes one after the other.

    Args:
      passes: the network. The last one has no output, and its strips are returned.
      features: what exists before the first pass, by name.
      height: rows at full size.
      width: pixels in a row at full size.
      rows: rows of a strip, an even number.
      on_strip: called after each strip.

    Returns:
      An iterator over the strips of the last pass, ``[h, W, C]``. The work is done as it is read.
    """
    numbers: dict[str, Any] = {}
    for one in passes:
        for output in one.outputs:
            if output.name not in features:
                features[output.name] = Features(
                    height >> output.level, width >> output.level, output.channels
                )
        total = None
        for start, strips, sums in _strips_of(one, features, numbers, height >> one.level, rows):
            for output, strip in zip(one.outputs, strips, strict=False):
                times = 1 << max(one.level - output.level, 0)
                features[output.name].write(start * times, strip)
            if not one.outputs and strips:
                yield from strips
            if one.sums:
                # Float32 would lose digits over thousands of strips
                sums = jax.tree.map(lambda x: np.asarray(x, np.float64), sums)
                total = sums if total is None else jax.tree.map(np.add, total, sums)
            on_strip()
        if one.sums:
            numbers[one.sums] = jax.tree.map(lambda x: x.astype(np.float32), total)
        for name in one.frees:
            features.pop(name).close()


def _strips_of(
    one: Pass,
    features: Mapping[str, Features],
    numbers: Mapping[str, Any],
    size: int,
    rows: int,
) -> Iterator[tuple[int, list[np.ndarray], Any]]:
    """First row, results and sums of each strip of a pass.

    A strip is returned after the rows of the next one were read, so it may overwrite its input.
    """
    sliding = WindowSums(features[one.window[0]], one.window[1]) if one.window[0] else None

    def read(start: int) -> tuple[Any, list[np.ndarray]]:
        given = numbers[one.numbers] if one.numbers else None
        if sliding is not None:
            given = sliding.rows(start, min(start + rows, size))
            missing = rows - given.shape[0] + one.halo
            given = np.pad(given, [(one.halo, missing), (0, 0), (0, 0)], mode="edge")[None]
        windows = []
        for name in one.inputs:
            times = features[name].height // size  # rows of these features for each row
            lines = (start - one.halo) * times, (start + rows + one.halo) * times
            windows.append(features[name].read(*lines)[None])
        return given, windows

    ahead = read(0)
    for start in range(0, size, rows):
        given, windows = ahead
        place = Place(np.int32(start - one.halo), np.int32(size))
        results, sums = one.function(one.parameters, place, given, *windows)
        if start + rows < size:
            ahead = read(start + rows)
        inside = min(rows, size - start)
        strips = [np.asarray(x[0])[: x.shape[1] * inside // rows] for x in results]
        yield start, strips, sums


def _reads_other_rows(conv: nn.Conv) -> bool:
    """Whether a pixel of the output depends on rows of the input that a strip may lack."""
    rows = np.broadcast_to(conv.kernel_size, 2)[0]
    strides = np.broadcast_to(1 if conv.strides is None else conv.strides, 2)
    return bool(rows > 1 and strides[0] == 1)


@contextmanager
def as_in_the_whole(place: Place, rows: int) -> Iterator[None]:
    """Lets convolutions of a strip see what they would see in the whole photograph.

    Beyond the photograph, "SAME" convolutions see zeros, and "VALID" ones, before which the edges
    were repeated, see the first or last row.

    Args:
      place: where the strip lies.
      rows: its number of rows, with the halo.
    """

    def intercept(
        method: Callable[..., Any], args: Any, kwargs: Any, context: nn.module.InterceptorContext
    ) -> Any:
        conv = context.module
        if not isinstance(conv, nn.Conv) or not _reads_other_rows(conv):
            return method(*args, **kwargs)
        x = args[0]
        around = 1 if conv.padding == "VALID" else 0
        times = (x.shape[-3] - 2 * around) // rows  # rows of x for each row of the strip
        first = place.start * times - around
        index = first + jnp.arange(x.shape[-3])
        if around:
            nearest = jnp.clip(index, 0, place.size * times - 1) - first
            x = jnp.take(x, jnp.clip(nearest, 0, x.shape[-3] - 1), axis=-3)
        else:
            inside = (index >= 0) & (index < place.size * times)
            x = jnp.where(inside.reshape(-1, 1, 1), x, 0)
        return method(x, *args[1:], **kwargs)

    # The first of several interceptors sees a call first, and that of depthwise convolutions does
    # not call those after it.
    with nn.intercept_methods(intercept), quick_depthwise():
        yield


def applied(module: nn.Module, params: Any, *arguments: Any) -> jax.Array:
    """Applies a module.

    Args:
      module: the module.
      params: its parameters.
      *arguments: what it is called with.

    Returns:
      Its output.
    """
    # It would be a tuple only if some variables were mutable.
    return cast(jax.Array, module.apply({"params": params}, *arguments))


def rows_inside(place: Place, halo: int, rows: int) -> jax.Array:
    """Finds the rows of a strip that lie in the photograph.

    Args:
      place: where the strip with its halo lies.
      halo: rows at either side that do not count.
      rows: rows of the strip without them.

    Returns:
      A mask, ``[rows, 1, 1]``.
    """
    index = place.start + halo + jnp.arange(rows)
    return (index < place.size).reshape(-1, 1, 1)
