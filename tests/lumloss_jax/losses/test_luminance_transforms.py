"""The luminance L1 loss under every transformation and parallel form, and export.

These are jit, grad, vmap, scan, remat, pmap, shard_map and sharded jit.
"""

import functools
from collections.abc import Callable
from typing import Any

import chex
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec

from lumloss_jax import luminance_l1_loss, luminance_l1_terms

SHAPE = (4, 8, 6, 3)
PREDICTIONS, TARGETS = np.random.default_rng(0).uniform(-0.2, 1.2, (2, *SHAPE)).astype(np.float32)
# A mask that gives each of the four images, and so each of four shards, another weight.
UNEVEN = np.random.default_rng(1).uniform(0.2, 1, SHAPE[:-1]).astype(np.float32) * [
    [[1]],
    [[0.25]],
    [[2]],
    [[0]],
]
UNEVEN = UNEVEN.astype(np.float32)
PLAIN: dict[str, Any] = {}
# Every part that could mind: powers, a window long enough for its loop, another penalty.
FULL: dict[str, Any] = {
    "brightness": "lightness",
    "window_size": 5,
    "window": "gaussian",
    "penalty": "charbonnier",
}
both_options = pytest.mark.parametrize("options", [PLAIN, FULL], ids=["plain", "full"])


def of_images(options: dict[str, Any]) -> Callable[..., jax.Array]:
    return functools.partial(luminance_l1_loss, **options)


@functools.cache
def compiled(full: bool) -> Callable[..., Any]:
    """value_and_grad(predictions, targets, mask), compiled once for all tests."""
    loss = of_images(FULL if full else PLAIN)
    return jax.jit(
        jax.value_and_grad(lambda predictions, targets, mask: loss(predictions, targets, mask=mask))
    )


def expected(
    options: dict[str, Any], mask: np.ndarray | None = None
) -> tuple[jax.Array, jax.Array]:
    return compiled(options is FULL)(PREDICTIONS, TARGETS, mask)


def same(result: Any, wanted: Any) -> None:
    """Equal up to the order in which float32 sums are taken."""
    chex.assert_trees_all_close(result, wanted, rtol=1e-5, atol=1e-8)


@functools.cache
def four_devices() -> Mesh:
    return jax.make_mesh((4,), ("batch",), axis_types=(AxisType.Auto,))


# On one device


def test_eager_as_compiled() -> None:
    same(jax.value_and_grad(luminance_l1_loss)(PREDICTIONS, TARGETS), expected(PLAIN))
    same(of_images(FULL)(PREDICTIONS, TARGETS), expected(FULL)[0])


@both_options
def test_forward_mode_agrees_with_reverse_mode(options: dict[str, Any]) -> None:
    value, gradient = expected(options)
    # Then no products cancel in the sum below, which float32 would feel
    direction = np.sign(gradient)

    @jax.jit
    def along(predictions: jax.Array) -> tuple[jax.Array, jax.Array]:
        return jax.jvp(lambda p: of_images(options)(p, TARGETS), (predictions,), (direction,))

    same(along(PREDICTIONS), (value, np.vdot(gradient, direction).astype(np.float32)))


@both_options
def test_vmap_gives_one_value_per_image(options: dict[str, Any]) -> None:
    loss = jax.jit(of_images(options))
    values = jax.jit(jax.vmap(of_images(options)))(PREDICTIONS, TARGETS)
    assert values.shape == (4,)
    same(values, np.stack([loss(PREDICTIONS[i], TARGETS[i]) for i in range(4)]))
    against_one = jax.jit(jax.vmap(of_images(options), in_axes=(0, None)))(PREDICTIONS, TARGETS[0])
    same(against_one[0], values[0])


def test_vmap_over_masks_and_over_images_on_another_axis() -> None:
    of_mask = jax.vmap(
        lambda p, t, mask: luminance_l1_loss(p, t, mask=mask, window_size=3), in_axes=(3, 0, 0)
    )
    values = jax.jit(of_mask)(np.moveaxis(PREDICTIONS, 0, 3), TARGETS, UNEVEN)
    one = [
        luminance_l1_loss(PREDICTIONS[i], TARGETS[i], mask=UNEVEN[i], window_size=3)
        for i in range(4)
    ]
    same(values, np.stack(one))
    assert values[3] == 0  # the image without any weight


def test_vmap_over_traced_weights_is_a_sweep() -> None:
    terms = luminance_l1_terms(PREDICTIONS, TARGETS)
    weights = jnp.array([0.0, 0.25, 0.5, 1.0])

    @jax.jit
    @jax.vmap
    def sweep(weight: jax.Array) -> jax.Array:
        return luminance_l1_loss(
            PREDICTIONS, TARGETS, luminance_weight=weight, color_weight=1 - weight
        )

    same(sweep(weights), weights * terms.luminance + (1 - weights) * terms.color)


@both_options
def test_scan_over_images_and_its_gradient(options: dict[str, Any]) -> None:
    def total(predictions: jax.Array) -> jax.Array:
        def step(
            carry: jax.Array, pair: tuple[jax.Array, jax.Array]
        ) -> tuple[jax.Array, jax.Array]:
            loss = of_images(options)(*pair)
            return carry + loss, loss

        return jax.lax.scan(step, jnp.zeros(()), (predictions, TARGETS))[0]

    value, gradient = jax.jit(jax.value_and_grad(total))(PREDICTIONS)
    mean, gradient_of_mean = expected(options)
    same((value / 4, gradient / 4), (mean, gradient_of_mean))


@both_options
def test_remat_changes_nothing(options: dict[str, Any]) -> None:
    again = jax.jit(jax.value_and_grad(jax.checkpoint(of_images(options))))
    same(again(PREDICTIONS, TARGETS), expected(options))


def test_one_trace_for_every_weight_and_penalty_scale() -> None:
    @jax.jit
    @chex.assert_max_traces(n=1)
    def loss(luminance_weight: jax.Array, color_weight: jax.Array, delta: jax.Array) -> jax.Array:
        weights = {"luminance_weight": luminance_weight, "color_weight": color_weight}
        return luminance_l1_loss(
            PREDICTIONS, TARGETS, penalty="huber", huber_delta=delta, **weights
        )

    values = [loss(*numbers) for numbers in ((0.5, 0.5, 0.05), (0.0, 1.0, 0.05), (3.0, 0.1, 0.2))]
    assert len(set(map(float, values))) == 3
    with pytest.raises(AssertionError, match="traced > 1 times"):
        # Another dtype is another trace: the count does count
        loss(0.5, np.float64(0.5).astype(np.float16), 0.05)


def test_a_donated_prediction_becomes_its_gradient() -> None:
    step = jax.jit(jax.grad(luminance_l1_loss), donate_argnums=0)
    predictions = jnp.array(PREDICTIONS)
    same(step(predictions, jnp.asarray(TARGETS)), expected(PLAIN)[1])
    assert predictions.is_deleted()


def test_nothing_crosses_between_host_and_device() -> None:
    predictions, targets, mask, weight = map(
        jax.device_put, (PREDICTIONS, TARGETS, UNEVEN, np.float32(0.3))
    )
    with jax.transfer_guard("disallow"):
        # Not traced but concrete, so its sign is looked at: an explicit transfer, which the guard
        # lets pass.
        loss = jax.jit(
            lambda p, t, mask: luminance_l1_loss(p, t, mask=mask, luminance_weight=weight)
        )
        loss(predictions, targets, mask)


def test_it_is_pure() -> None:
    """No effect in the program, no tracer left behind, inputs as they were, the same bits again."""
    masked = functools.partial(of_images(FULL), mask=UNEVEN)
    program = jax.make_jaxpr(jax.value_and_grad(masked))(PREDICTIONS, TARGETS)
    assert not program.effects
    with jax.checking_leaks():
        jax.eval_shape(jax.vmap(jax.grad(of_images(FULL))), PREDICTIONS, TARGETS)
        jax.eval_shape(jax.checkpoint(masked), PREDICTIONS, TARGETS)
    copies = PREDICTIONS.copy(), TARGETS.copy(), UNEVEN.copy()
    np.testing.assert_array_equal(*(expected(FULL, UNEVEN)[1] for _ in range(2)))
    chex.assert_trees_all_equal((PREDICTIONS, TARGETS, UNEVEN), copies)


# Over several devices. Each shard holds one image; the gain stands for parameters that every device
# has.


def gained(gain: jax.Array, shard: tuple[jax.Array, ...], **options: Any) -> jax.Array:
    predictions, targets, mask = shard
    return luminance_l1_loss(gain * predictions, targets, mask=mask, window_size=3, **options)


SHARDS = (PREDICTIONS[:, None], TARGETS[:, None], UNEVEN[:, None])


@functools.cache
def of_the_whole() -> tuple[jax.Array, jax.Array]:
    return jax.jit(jax.value_and_grad(gained))(jnp.ones(()), (PREDICTIONS, TARGETS, UNEVEN))


@functools.cache
def of_each_shard() -> tuple[jax.Array, jax.Array]:
    return jax.jit(jax.vmap(jax.value_and_grad(gained), in_axes=(None, 0)))(jnp.ones(()), SHARDS)


def test_the_shards_differ_from_the_whole_under_an_uneven_mask() -> None:
    # Or the tests below could not tell them apart
    assert abs(of_each_shard()[0].mean() - of_the_whole()[0]) > 0.01


@pytest.mark.parametrize("axis_name", [None, "batch"])
def test_pmap(axis_name: str | None) -> None:
    def step(gain: jax.Array, shard: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(gained)(gain, shard, axis_name=axis_name)
        return value, jax.lax.pmean(gradient, "batch")

    values, gradients = jax.pmap(step, axis_name="batch", in_axes=(None, 0))(jnp.ones(()), SHARDS)
    if axis_name is None:
        wanted, gradient = of_each_shard()
        same((values, gradients), (wanted, jnp.full(4, gradient.mean())))
    else:
        same((values, gradients), tuple(jnp.full(4, each) for each in of_the_whole()))


@pytest.mark.parametrize("axis_name", [None, "batch"])
def test_shard_map(axis_name: str | None) -> None:
    of_shards = PartitionSpec("batch")

    @jax.jit
    @functools.partial(
        jax.shard_map,
        mesh=four_devices(),
        in_specs=(PartitionSpec(), of_shards),
        out_specs=(of_shards, of_shards),
    )
    def step(gain: jax.Array, shard: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array]:
        value, gradient = jax.value_and_grad(gained)(gain, shard, axis_name=axis_name)
        mean = jax.lax.pmean(gradient, "batch")
        return value.reshape(1), jnp.stack([gradient, mean]).reshape(1, 2)

    values, gradients = step(jnp.ones(()), (PREDICTIONS, TARGETS, UNEVEN))
    if axis_name is None:  # too large by the number of shards
        wanted, gradient = of_each_shard()
        same((values, gradients), (wanted, jnp.full((4, 2), 4 * gradient.mean())))
    else:  # right as it stands, and a pmean changes nothing
        whole, gradient = of_the_whole()
        same((values, gradients), (jnp.full(4, whole), jnp.full((4, 2), gradient)))


def test_a_shard_mapped_loss_has_the_gradient_of_the_whole() -> None:
    loss = jax.shard_map(
        functools.partial(gained, axis_name="batch"),
        mesh=four_devices(),
        in_specs=(PartitionSpec(), PartitionSpec("batch")),
        out_specs=PartitionSpec(),
    )
    same(
        jax.jit(jax.value_and_grad(loss))(jnp.ones(()), (PREDICTIONS, TARGETS, UNEVEN)),
        of_the_whole(),
    )


@pytest.mark.parametrize("spec", [("batch",), (None, "batch")], ids=["images", "rows"])
@both_options
def test_jit_over_sharded_images(options: dict[str, Any], spec: tuple[str | None, ...]) -> None:
    """Images and rows are split over devices; a window then reads its neighbour's rows."""
    sharding = NamedSharding(four_devices(), PartitionSpec(*spec))
    sharded = [jax.device_put(array, sharding) for array in (PREDICTIONS, TARGETS, UNEVEN)]
    value, gradient = compiled(options is FULL)(*sharded)
    same((value, gradient), expected(options, UNEVEN))
    assert (
        gradient.sharding.is_equivalent_to(sharding, gradient.ndim)
        and value.sharding.is_fully_replicated
    )


# Export


@functools.cache
def exported(full: bool) -> export.Exported:
    """Value and gradient for images of any number and size, with a mask, for every platform."""
    sizes = export.symbolic_shape("b, h, w")
    shapes = ((*sizes, 3), (*sizes, 3), sizes)
    arguments = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in shapes]
    return export.export(compiled(full), platforms=["cpu", "cuda", "tpu"])(*arguments)


@both_options
def test_export_with_symbolic_sizes(options: dict[str, Any]) -> None:
    program = exported(options is FULL)
    for count, height, width in (SHAPE[:3], (2, 3, 1)):  # the window is larger than the second
        arrays = [
            np.ascontiguousarray(x[:count, :height, :width]) for x in (PREDICTIONS, TARGETS, UNEVEN)
        ]
        same(program.call(*arrays), compiled(options is FULL)(*arrays))


def test_an_exported_loss_survives_the_way_through_a_file() -> None:
    pytest.importorskip("flatbuffers")  # which jax.export serialises with
    program = export.deserialize(exported(True).serialize(vjp_order=0))
    same(program.call(PREDICTIONS, TARGETS, UNEVEN), expected(FULL, UNEVEN))
