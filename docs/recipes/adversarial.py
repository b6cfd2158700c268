r"""Adversarial fine-tuning: a network learns to fool another one, which recognises real patches.

    python -m train fit --steps 20000 --data folder:PHOTOGRAPHS --out runs/start
    python docs/recipes/adversarial.py --init-from runs/start --data folder:PHOTOGRAPHS \
        --out runs/sharper

The result is a checkpoint of the restoring network alone, which every verb of ``python -m train``
loads. Expect sharper texture and a lower PSNR, because the discriminator rewards detail that looks
right, not detail that is right. Start from a network that was trained on the loss alone. If you
start from random weights, the discriminator wins before the network has learned anything.

This is a recipe to copy and change, not a part of the trainer. Two networks, two optimizers and one
step fit on a page, but the recipe writes no checkpoints from which it could resume.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import flax.linen as nn
import flax.struct
import jax
import jax.numpy as jnp
import optax
import tyro

from lumloss_jax import degradations, losses
from train.checkpoints.checkpoint import Network, load_network, save_network
from train.data.pipeline import PatchBatches, stream
from train.data.splits import open_splits
from train.devices.cpu_programs import compiler_options
from train.pixels import to_unit_range


@dataclass(frozen=True)
class Config:
    """Fine-tune a network against a discriminator."""

    init_from: Path
    """Run or checkpoint to start from."""
    out: Path
    """Folder of the checkpoint to write. It must not exist yet."""
    data: str = "photos"
    """Photographs to train on, in the same form as for fit."""
    loss: str = "luminance_l1"
    """Loss that keeps the restored image close to the clean one."""
    adversarial_weight: float = 0.005
    """Weight of the adversarial loss, which is added to --loss."""
    kind: Literal["non_saturating", "hinge", "least_squares", "relativistic_average"] = (
        "relativistic_average"
    )
    """Kind of adversarial loss, by its name in lumloss_jax.losses."""
    steps: int = 5000
    """Updates of both networks."""
    learning_rate: float = 1e-4
    """Learning rate of Adam, for both networks."""
    patch_size: int = 64
    """Side of a patch in pixels. The discriminator sees 31 x 31 pixels at once."""
    batch_size: int = 16
    """Number of patches in a step."""
    sigma: float = 25.0
    """Standard deviation of the noise, 0 to 255."""
    features: int = 32
    """Channels of the discriminator's first layer."""
    seed: int = 0
    """Seed of everything random."""


class Discriminator(nn.Module):
    """Scores overlapping pieces of an image; a piece that looks clean gets a high score.

    ``[B, H, W, C]`` -> ``[B, H/8, W/8, 1]``.
    """

    features: int

    @nn.compact
    def __call__(self, images: jax.Array) -> jax.Array:
        """Returns logits, without batch norm, which would make a score depend on other images."""
        start = nn.initializers.he_uniform()
        x = images
        for i in range(3):
            x = nn.leaky_relu(
                nn.Conv(self.features * 2**i, (3, 3), strides=2, kernel_init=start)(x), 0.2
            )
        return nn.Conv(1, (3, 3), kernel_init=start)(x)


@flax.struct.dataclass
class State:
    """State of both networks between two steps."""

    step: jax.Array
    params: Any
    batch_stats: Any
    opt_state: optax.OptState
    judge: Any  # the discriminator's parameters
    judge_opt_state: optax.OptState


def main(arguments: list[str]) -> None:
    """Reads the arguments, trains, and writes the checkpoint."""
    config = tyro.cli(Config, args=arguments)
    network = load_network(config.init_from)
    model, judge, optimizer = (
        network.model,
        Discriminator(config.features),
        optax.adam(config.learning_rate),
    )
    loss = losses.make_loss(config.loss)
    key = jax.random.key(config.seed, impl="rbg")  # compiles in half the time

    @jax.jit
    def fresh_state(params: Any, batch_stats: Any) -> State:
        patches = jnp.zeros((1, config.patch_size, config.patch_size, model.channels))
        judge_params = judge.init(key, patches)
        return State(
            step=jnp.zeros((), jnp.int32),
            params=params,
            batch_stats=batch_stats,
            opt_state=optimizer.init(params),
            judge=judge_params,
            judge_opt_state=optimizer.init(judge_params),
        )

    def step(state: State, stored: jax.Array) -> tuple[State, dict[str, jax.Array]]:
        clean = to_unit_range(stored)
        sigma = config.sigma / 255
        noisy = degradations.gaussian_noise(jax.random.fold_in(key, state.step), clean, sigma=sigma)
        # This kind compares the scores of both sides; the other kinds use one side.
        paired = config.kind == "relativistic_average"

        def generator_loss(params: Any) -> tuple[jax.Array, Any]:
            variables = {"params": params, "batch_stats": state.batch_stats}
            known = sigma if model.takes_sigma else None
            restored, updated = model.apply(
                variables, noisy, sigma=known, train=True, mutable=["batch_stats"]
            )
            faithful, _ = loss(restored, clean)
            # Both scores come from the current discriminator, which is a constant here.
            real = judge.apply(state.judge, clean) if paired else None
            fooled = losses.adversarial_generator_loss(
                judge.apply(state.judge, restored), real, kind=config.kind
            )
            stats = updated.get("batch_stats", state.batch_stats)
            return faithful + config.adversarial_weight * fooled, (
                restored,
                stats,
                faithful,
                fooled,
            )

        def judge_loss(params: Any, restored: jax.Array) -> jax.Array:
            scores = judge.apply(params, restored), judge.apply(params, clean)
            return losses.adversarial_discriminator_loss(*scores, kind=config.kind)

        gradients, (restored, stats, faithful, fooled) = jax.grad(generator_loss, has_aux=True)(
            state.params
        )
        # The images carry no gradient back to the generator, because the derivative is taken with
        # respect to the discriminator's parameters only.
        judged, judge_gradients = jax.value_and_grad(judge_loss)(state.judge, restored)
        updates, opt_state = optimizer.update(gradients, state.opt_state)
        judge_updates, judge_opt_state = optimizer.update(judge_gradients, state.judge_opt_state)
        state = State(
            step=state.step + 1,
            params=optax.apply_updates(state.params, updates),
            batch_stats=stats,
            opt_state=opt_state,
            judge=optax.apply_updates(state.judge, judge_updates),
            judge_opt_state=judge_opt_state,
        )
        return state, {"loss": faithful, "adversarial": fooled, "discriminator": judged}

    size, number = config.patch_size, config.batch_size
    source = open_splits(config.data).train
    batches = PatchBatches(source, patch_size=size, batch_size=number, seed=config.seed)
    state = fresh_state(network.params, network.batch_stats)
    compiled = jax.jit(step, donate_argnums=0, compiler_options=compiler_options("fast"))
    for i, stored in enumerate(stream(batches, start=0, stop=config.steps), 1):
        state, metrics = compiled(state, stored)
        if i % 100 == 0 or i in (1, config.steps):
            print(
                f"step {i}",
                *(f"{name} {float(value):.4f}" for name, value in metrics.items()),
                sep="  ",
            )
    about = {
        "source": str(config.init_from),
        "recipe": "adversarial",
        "loss": config.loss,
        "kind": config.kind,
    }
    save_network(config.out, Network(model, network.spec, state.params, state.batch_stats), about)
    print(f"checkpoint  {config.out}")


if __name__ == "__main__":
    main(sys.argv[1:])
