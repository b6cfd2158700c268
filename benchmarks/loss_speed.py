"""Cost of the luminance L1 loss relative to plain L1: time here, bytes on a TPU, training steps.

    python benchmarks/loss_speed.py
    python benchmarks/loss_speed.py --step
    python benchmarks/loss_speed.py --tpu

The first command times value and gradient on this machine, and the second one a training step of
DnCNN with each loss. Both print ratios to L1. The third one counts the bytes that the compiled
value and gradient read and write on a TPU v5e.

Times are medians of rounds in which every variant runs once, in a new random order, so that other
load on the machine affects all in the same way. ``--tpu`` compiles ahead of time, which needs
libtpu but no TPU (pip install 'libtpu==0.0.42.*', with jax 0.10.2).
"""

import functools
import statistics
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import tyro
from rounds import machine, seconds_of

from lumloss_jax import luminance_l1_loss

Loss = Callable[[jax.Array, jax.Array], jax.Array]


def plain_l1(predictions: jax.Array, targets: jax.Array) -> jax.Array:
    """What the others are measured by: three operations, nothing checked."""
    return jnp.mean(jnp.abs(predictions - targets))


VARIANTS: dict[str, Loss] = {
    "plain L1": plain_l1,
    "luminance_l1": luminance_l1_loss,
    "luminance_l1(penalty='charbonnier')": functools.partial(
        luminance_l1_loss, penalty="charbonnier"
    ),
    "luminance_l1(window_size=7)": functools.partial(luminance_l1_loss, window_size=7),
    "luminance_l1(window_size=31)": functools.partial(luminance_l1_loss, window_size=31),
    "luminance_l1(brightness='luminance')": functools.partial(
        luminance_l1_loss, brightness="luminance"
    ),
    "luminance_l1(brightness='lightness')": functools.partial(
        luminance_l1_loss, brightness="lightness"
    ),
}


@dataclass(frozen=True)
class Options:
    """What to measure."""

    step: bool = False
    """Time whole training steps instead of the losses alone."""
    tpu: bool = False
    """Count bytes on a TPU v5e instead of seconds here."""
    shape: tuple[int, int, int, int] = (32, 256, 256, 3)
    """Batch of images, [N, H, W, C]; with --step its N, and patches of 40 x 40."""
    rounds: int = 21
    """Rounds of timing, in each of which every variant runs once."""


def losses_here(options: Options) -> None:
    """Prints milliseconds and ratios of value and gradient."""
    first, second = jax.random.split(jax.random.key(0))
    images = [jax.random.uniform(key, options.shape) for key in (first, second)]
    compiled = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in VARIANTS.items()}
    seconds = seconds_of(
        {name: functools.partial(run, *images) for name, run in compiled.items()}, options.rounds
    )
    report(seconds, f"value and gradient, {'x'.join(map(str, options.shape))}")


def steps_here(options: Options) -> None:
    """Prints milliseconds and ratios of a training step of the default network."""
    import optax

    from lumloss_jax.models import create_model
    from train.devices.cpu_programs import compiler_options

    model = create_model("dncnn", depth=8, features=32, batch_norm=False)
    optimizer = optax.adam(1e-3)
    clean = jax.random.uniform(jax.random.key(0), (options.shape[0], 40, 40, 3))
    noisy = clean + 0.1 * jax.random.normal(jax.random.key(1), clean.shape)
    variables = model.init(jax.random.key(2), noisy[:1])
    state = optimizer.init(variables)

    def step_of(loss: Loss) -> Callable[[], object]:
        @functools.partial(jax.jit, compiler_options=compiler_options("fast"))
        def step(variables, state):
            value, gradient = jax.value_and_grad(lambda v: loss(model.apply(v, noisy), clean))(
                variables
            )
            updates, state = optimizer.update(gradient, state)
            return optax.apply_updates(variables, updates), state, value

        return functools.partial(step, variables, state)

    seconds = seconds_of({name: step_of(loss) for name, loss in VARIANTS.items()}, options.rounds)
    report(seconds, f"training step of DnCNN 8/32, {options.shape[0]} patches of 40x40")


def bytes_on_tpu(options: Options) -> None:
    """Prints bytes accessed by the program that XLA compiles for one v5e chip."""
    from jax.experimental import topologies
    from jax.sharding import SingleDeviceSharding

    from train.compilation.hlo import read_hbm_bytes

    chip = topologies.get_topology_desc(
        platform="tpu", topology_name="v5e:1x1", chips_per_host_bounds=[1, 1, 1]
    )
    image = jax.ShapeDtypeStruct(
        options.shape, jnp.float32, sharding=SingleDeviceSharding(chip.devices[0])
    )
    accessed, outer = {}, {}
    for name, loss in VARIANTS.items():
        program = jax.jit(jax.value_and_grad(loss)).lower(image, image).compile()
        accessed[name] = program.cost_analysis()["bytes accessed"]
        outer[name] = min(accessed[name], read_hbm_bytes(program.as_text()))
    print(
        f"bytes accessed on TPU v5e, value and gradient, {'x'.join(map(str, options.shape))}, jax "
        f"{jax.__version__}: all, and outside the chip's inner memory"
    )
    for name, count in accessed.items():
        print(
            f"{name:40} {count / 1e6:8.1f} MB  {count / accessed['plain L1']:5.2f} x"
            f"  {outer[name] / 1e6:8.1f} MB  {outer[name] / outer['plain L1']:5.2f} x"
        )


def report(seconds: dict[str, list[float]], what: str) -> None:
    """Prints a table of medians and ratios to plain L1."""
    print(f"{what}; {machine()}")
    medians = {name: statistics.median(taken) for name, taken in seconds.items()}
    for name, median in medians.items():
        print(f"{name:40} {1e3 * median:8.2f} ms  {median / medians['plain L1']:5.2f} x")


def main(options: Options) -> None:
    """Measures what the options request."""
    if options.tpu:
        bytes_on_tpu(options)
    elif options.step:
        steps_here(options)
    else:
        losses_here(options)


if __name__ == "__main__":
    main(tyro.cli(Options))
