"""HVI-CIDNet layer by layer: each pair of layers in two passes, the first for its attention."""

import functools
from collections.abc import Callable
from typing import Any, cast

import flax.linen as nn
import jax
import jax.numpy as jnp

from lumloss_jax.models import CIDNet
from lumloss_jax.models._cidnet import LAYER_LEVELS, from_hvi, to_hvi
from lumloss_jax.models._cross_attention import (
    CrossLayer,
    DoublingBlock,
    HalvingBlock,
    Rows,
    edge_padded_conv,
)
from lumloss_jax.models._layers import Settings
from train.devices.cpu_programs import compiler_options
from train.inference.tiles.spilled import (
    Output,
    Pass,
    Place,
    applied,
    as_in_the_whole,
    rows_inside,
)

_Layer = Callable[..., Any]
_SETTINGS = Settings(train=False, initializer="torch", dtype=jnp.float32)
_BRANCHES = ("intensity", "color")


class EdgeConv(nn.Module):
    """The first or last convolution of a branch."""

    features: int

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        """``[B, H, W, C]`` to ``[B, H, W, features]``."""
        return edge_padded_conv(_SETTINGS, x, self.features, name="conv")


def cidnet_passes(model: CIDNet, params: Any) -> list[Pass]:
    """The passes that restore a photograph.

    They read the features "image", the photograph padded to multiples of 8 by reflection. The
    features of the full size are computed from it when they are needed, and are never on disk.

    Args:
      model: the network.
      params: its parameters.

    Returns:
      The passes. The strips of the last one are the restored photograph.
    """
    passes: list[Pass] = []

    def layers(number: int, sources: tuple[str, str], targets: tuple[str, ...]) -> None:
        """Both layers of a level, or the colour branch's only, if it is the only target."""
        level = LAYER_LEVELS[number]
        branches = _BRANCHES[-len(targets) :]
        of_layers = {branch: params[f"{branch}_layer_{number}"] for branch in branches}
        heads = model.heads[level - 1]
        outputs = tuple(Output(name, level, model.features[level]) for name in targets)
        passes.append(
            Pass(_attention(branches, heads), of_layers, level, sources, halo=1, sums="sums")
        )
        passes.append(
            Pass(
                _layers(branches, heads),
                of_layers,
                level,
                sources,
                outputs,
                halo=3,
                numbers="sums",
            )
        )

    def smaller(level: int, sources: tuple[str, ...], *, frees: tuple[str, ...] = ()) -> None:
        block = HalvingBlock(_SETTINGS, model.features[level], model.norm)
        names = [f"{branch}_down_{level}" for branch in _BRANCHES]
        outputs = tuple(
            Output(f"{branch}_{level}", level, model.features[level]) for branch in _BRANCHES
        )
        chosen = {name: params[name] for name in names}
        if level == 1:
            chosen |= {name: params[name] for name in ("intensity_in", "color_in", "k")}
            layer = _first(model, block)
        else:
            layer = _smaller(block)
        passes.append(Pass(layer, chosen, level, sources, outputs, halo=1, frees=frees))

    def larger(level: int, sources: tuple[str, ...]) -> None:
        block = DoublingBlock(_SETTINGS, model.features[level], model.norm)
        chosen = {f"{branch}_up_{level}": params[f"{branch}_up_{level}"] for branch in _BRANCHES}
        outputs = tuple(Output(name, level, model.features[level]) for name in sources[2:])
        passes.append(
            Pass(
                _larger(block, level),
                chosen,
                level + 1,
                sources,
                outputs,
                halo=2,
                frees=sources[:2],
            )
        )

    both = {level: (f"intensity_{level}", f"color_{level}") for level in (1, 2, 3)}
    skips = ("intensity_skip", "color_skip")
    smaller(1, ("image",))
    layers(1, both[1], both[1])
    smaller(2, both[1])
    layers(2, both[2], skips)
    smaller(3, both[2], frees=both[2])
    layers(3, both[3], both[3])
    layers(4, both[3], both[3])
    larger(2, (*both[3], *skips))
    layers(5, skips, skips[1:])
    larger(1, (*skips, *both[1]))
    layers(6, both[1], both[1])
    names = [f"{branch}_{part}" for branch in _BRANCHES for part in ("in", "up_0", "out")]
    last = {name: params[name] for name in (*names, "k")}
    block = DoublingBlock(_SETTINGS, model.features[0], model.norm)
    passes.append(
        Pass(_last(model, block), last, 1, (*both[1], "image"), halo=3, frees=(*both[1], "image"))
    )
    return passes


def _compiled(layer: _Layer) -> _Layer:
    @functools.wraps(layer)
    def in_full_precision(params: Any, place: Place, numbers: Any, *strips: jax.Array) -> Any:
        with jax.default_matmul_precision("float32"):
            with as_in_the_whole(place, strips[0].shape[1]):
                return layer(params, place, numbers, *strips)

    return cast(_Layer, jax.jit(in_full_precision, compiler_options=compiler_options("plain")))


def _cropped(x: jax.Array, halo: int) -> jax.Array:
    return x[:, halo : x.shape[1] - halo]


def _hvi(model: CIDNet, image: jax.Array, k: jax.Array) -> jax.Array:
    image = jnp.clip(image, 0, 1)
    return to_hvi(image**model.gamma if model.gamma != 1 else image, k)


def _entered(branch: str, features: int, params: Any, hvi: jax.Array) -> jax.Array:
    x = hvi if branch == "color" else hvi[..., 2:]
    return applied(EdgeConv(features), {"conv": params[f"{branch}_in"]}, x)


@functools.cache
def _first(model: CIDNet, block: HalvingBlock) -> _Layer:
    """From the image to the features of half its size."""

    def layer(params: Any, place: Place, numbers: Any, image: jax.Array) -> Any:
        rows = image.shape[1] // 2
        hvi = _hvi(model, image, params["k"])
        results = []
        with as_in_the_whole(place, rows):
            for branch in _BRANCHES:
                x = _entered(branch, model.features[0], params, hvi)
                x = applied(block, params[f"{branch}_down_1"], x, Rows(*place))
                results.append(_cropped(x, 1))
        return tuple(results), None

    return _uncovered(layer)


@functools.cache
def _smaller(block: HalvingBlock) -> _Layer:
    level_names = functools.partial(_named, "down")

    def layer(params: Any, place: Place, numbers: Any, *strips: jax.Array) -> Any:
        with as_in_the_whole(place, strips[0].shape[1] // 2):
            return tuple(
                _cropped(applied(block, params[name], x, Rows(*place)), 1)
                for name, x in zip(level_names(params), strips, strict=True)
            ), None

    return _uncovered(layer)


@functools.cache
def _larger(block: DoublingBlock, level: int) -> _Layer:
    def layer(params: Any, place: Place, numbers: Any, *strips: jax.Array) -> Any:
        results = []
        for i, name in enumerate(_named("up", params)):
            x = applied(block, params[name], strips[i], strips[i + 2], Rows(*place))
            results.append(_cropped(x, 4))
        return tuple(results), None

    return _compiled(layer)


def _named(part: str, params: Any) -> list[str]:
    """The names of both branches' blocks, intensity first."""
    return [
        next(name for name in params if name.startswith(f"{branch}_{part}")) for branch in _BRANCHES
    ]


def _apply_layers(
    branches: tuple[str, ...], heads: int, params: Any, strips: tuple[jax.Array, ...]
) -> dict[str, jax.Array]:
    intensity, color = strips
    pairs = {"intensity": (intensity, color), "color": (color, intensity)}
    return {
        branch: applied(
            CrossLayer(_SETTINGS, heads, residual=branch == "intensity"),
            params[branch],
            *pairs[branch],
        )
        for branch in branches
    }


@functools.cache
def _attention(branches: tuple[str, ...], heads: int) -> _Layer:
    """The sums of both layers' attention over the rows of a strip."""

    def layer(params: Any, place: Place, numbers: Any, *strips: jax.Array) -> Any:
        sums: list[Any] = []

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name != "channel_sums":
                return method(*args, **kwargs)
            rows = args[0].shape[1] - 2
            inside = rows_inside(place, 1, rows)[..., None]
            of_core = [jnp.where(inside, _cropped(x, 1), 0) for x in args]
            sums.append([one[0] for one in method(*of_core, **kwargs)])
            return method(*args, **kwargs)

        with nn.intercept_methods(intercept):
            _apply_layers(branches, heads, params, strips)
        return (), sums

    return _compiled(layer)


@functools.cache
def _layers(branches: tuple[str, ...], heads: int) -> _Layer:
    """Both layers, with attention from sums that are given."""

    def layer(params: Any, place: Place, numbers: Any, *strips: jax.Array) -> Any:
        left = list(numbers)

        def intercept(method: Any, args: Any, kwargs: Any, context: Any) -> Any:
            if context.method_name != "channel_sums":
                return method(*args, **kwargs)
            return [one[None] for one in left.pop(0)]

        with nn.intercept_methods(intercept):
            results = _apply_layers(branches, heads, params, strips)
        return tuple(_cropped(x, 3) for x in results.values()), None

    return _compiled(layer)


@functools.cache
def _last(model: CIDNet, block: DoublingBlock) -> _Layer:
    """From the features of half the size to the restored image."""

    def layer(
        params: Any,
        place: Place,
        numbers: Any,
        intensity: jax.Array,
        color: jax.Array,
        image: jax.Array,
    ) -> Any:
        hvi = _hvi(model, image, params["k"])
        corrections = {}
        for branch, x in zip(_BRANCHES, (intensity, color), strict=True):
            skip = _entered(branch, model.features[0], params, hvi)
            x = applied(block, params[f"{branch}_up_0"], x, skip, Rows(*place))
            conv = EdgeConv(1 if branch == "intensity" else 2)
            corrections[branch] = applied(conv, {"conv": params[f"{branch}_out"]}, x)
        corrected = hvi + jnp.concatenate([corrections["color"], corrections["intensity"]], axis=-1)
        restored = from_hvi(corrected, params["k"], saturation=model.saturation)
        return (_cropped(restored * model.brightness, 6),), None

    return _compiled(layer)


def _uncovered(layer: _Layer) -> _Layer:
    """Like :func:`_compiled`, for a layer whose strips have twice the rows of the pass."""

    @functools.wraps(layer)
    def in_full_precision(*arguments: Any) -> Any:
        with jax.default_matmul_precision("float32"):
            return layer(*arguments)

    return cast(_Layer, jax.jit(in_full_precision, compiler_options=compiler_options("plain")))
