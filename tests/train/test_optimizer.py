import json
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.config import OptimizerConfig
from train.optimizer import make_optimizer, make_schedule


def _rates(indices: list[int], **fields: object) -> np.ndarray:
    config = OptimizerConfig(**{"warmup_steps": 0, **fields})
    return np.asarray(jax.vmap(make_schedule(config))(jnp.asarray(indices)))


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        # Ramp of 4, then half a cosine over 6 steps down to a hundredth: at half its way (1 + 0.01)
        # / 2.
        (
            {"schedule": "cosine", "warmup_steps": 4, "steps": 10},
            {0: 0.25, 2: 0.625, 4: 1, 7: 0.505, 10: 0.01},
        ),
        ({"schedule": "cosine", "steps": 10}, {0: 1, 5: 0.505, 10: 0.01}),
        ({"schedule": "constant"}, {0: 1, 1499: 1}),
        ({"schedule": "constant", "warmup_steps": 4}, {0: 0.25, 2: 0.625, 4: 1, 9: 1}),
        ({"schedule": "step", "decay_steps": (3, 5)}, {2: 1, 3: 0.1, 4: 0.1, 5: 0.01}),
        (
            {"schedule": "step", "decay_steps": (3,), "decay_factor": 0.5, "warmup_steps": 4},
            {2: 0.625, 4: 0.5},
        ),
        # 50 epochs of 3834 updates: a tenth from epoch 30 on.
        ({"schedule": "buifd", "steps": 191_700}, {115_019: 1, 115_020: 0.1, 191_699: 0.1}),
        # 180 epochs: a fifth at 30, 60 and 90.
        (
            {"schedule": "dncnn_pytorch", "steps": 180},
            {29: 1, 30: 0.2, 60: 0.04, 90: 0.008, 179: 0.008},
        ),
        (
            {"schedule": "dncnn_kair"},
            {199_999: 1, 200_000: 0.5, 1_000_000: 1 / 32, 2_000_000: 1 / 64},
        ),
        ({"schedule": "drunet"}, {99_999: 1, 100_000: 0.5, 400_000: 1 / 16}),
        # Halfway up to 1.5; the seam; halfway down to 0.005.
        (
            {"schedule": "retinexformer", "steps": 150_000},
            {0: 1, 23_000: 1.25, 46_000: 1.5, 46_001: 1, 98_000: 0.5025, 150_000: 0.005},
        ),
        ({"schedule": "nafnet", "steps": 2000}, {0: 1, 1000: 0.50005, 2000: 1e-4}),
        # Epochs of five updates: two of the highest rate, and half of the way down.
        (
            {"schedule": "cidnet", "steps": 5000},
            {0: 0, 4: 0, 5: 1 / 3, 14: 2 / 3, 15: 1, 24: 1, 25: 0.9999975, 4999: 1.0099191e-3},
        ),
    ],
)
def test_schedules_by_hand(fields: dict[str, object], expected: dict[int, float]) -> None:
    rates = _rates(list(expected), learning_rate=1.0, **fields)
    np.testing.assert_allclose(rates, list(expected.values()), rtol=2e-6)


def test_retinexformers_learning_rates_match_the_reference(shared: Path) -> None:
    cases = json.loads((shared / "fixtures" / "schedules_augment.json").read_text())
    lengths = {
        "retinexformer_150k": 150_000,
        "retinexformer_300k": 300_000,
        "retinexformer_50k": 50_000,
    }
    for name, case in cases.items():
        steps = next((steps for start, steps in lengths.items() if name.startswith(start)), None)
        if steps is None:
            continue
        assert lengths.pop(name.split(" ")[0]) == steps
        iterations = {int(i) - 1: rate for i, rate in case["lr_at_iteration"].items()}
        rates = _rates(
            list(iterations), schedule="retinexformer", steps=steps, learning_rate=case["base_lr"]
        )
        np.testing.assert_allclose(rates, list(iterations.values()), rtol=3e-6)
    assert not lengths


def _published(shared: Path, name: str) -> dict:
    return json.loads((shared / "fixtures" / "nafnet_cidnet" / f"{name}.json").read_text())


def test_nafnets_learning_rates_and_updates_match_the_reference(shared: Path) -> None:
    case = _published(shared, "nafnet_training")
    rates = {int(i) - 1: rate for i, rate in case["lr"].items()}
    options = {"learning_rate": case["base_lr"], "steps": case["total_iter"]}
    found = _rates(list(rates), schedule="nafnet", **options)
    np.testing.assert_allclose(found, list(rates.values()), rtol=3e-6)
    adamw = case["adamw"]
    for decay, expected in adamw["after_each_step"].items():
        config = OptimizerConfig(
            schedule="constant",
            warmup_steps=0,
            optimizer="adamw",
            learning_rate=adamw["lr"],
            beta2=adamw["betas"][1],
            weight_decay=float(decay.removeprefix("weight_decay ")),
            clip_norm=adamw["clip_norm"],
        )
        optimizer = make_optimizer(config, make_schedule(config))
        params = jnp.asarray(adamw["start"]).reshape(2, 2)  # vectors are not decayed here
        state = optimizer.init(params)
        for gradient, wanted in zip(adamw["gradients"], expected, strict=True):
            updates, state = optimizer.update(jnp.asarray(gradient).reshape(2, 2), state, params)
            params = optax.apply_updates(params, updates)
            np.testing.assert_allclose(params.ravel(), wanted, rtol=1e-6)


def test_cidnets_learning_rates_match_the_reference(shared: Path) -> None:
    case = _published(shared, "cidnet_training")
    rates = {int(epoch) - 1: rate for epoch, rate in case["with_warmup"].items()}
    for steps in (1000, 61_000):
        updates = [epoch * (steps // 1000) for epoch in rates]
        last = [update + steps // 1000 - 1 for update in updates]
        for of_epoch in (updates, last):
            found = _rates(of_epoch, schedule="cidnet", learning_rate=case["base_lr"], steps=steps)
            np.testing.assert_allclose(found, list(rates.values()), rtol=3e-6)


PARAMS = {"kernel": jnp.full((2, 2), 2.0), "bias": jnp.full((2,), 2.0)}
GRADIENTS = {"kernel": jnp.full((2, 2), 3.0), "bias": jnp.full((2,), -3.0)}


@pytest.mark.parametrize(
    ("fields", "kernel", "bias"),
    [
        # The first update of Adam and Lion has the gradient's sign and the rate's size; of SGD it
        # is rate * gradient.
        ({"optimizer": "adam"}, -0.1, 0.1),
        ({"optimizer": "adamw", "weight_decay": 0.5}, -0.1 - 0.1 * 0.5 * 2, 0.1),
        # Both means of the first gradient are corrected, so beta2 does not count yet.
        ({"optimizer": "adam", "beta2": 0.9}, -0.1, 0.1),
        ({"optimizer": "lion", "weight_decay": 0.5}, -0.1 - 0.1 * 0.5 * 2, 0.1),
        ({"optimizer": "sgd", "weight_decay": 0.5}, -0.1 * (3 + 0.5 * 2), 0.3),
        # The gradient's global norm is 3 sqrt 6, scaled down to 1 before SGD.
        ({"optimizer": "sgd", "clip_norm": 1.0}, -0.1 / 6**0.5, 0.1 / 6**0.5),
        ({"optimizer": "sgd", "clip_norm": 100.0}, -0.3, 0.3),
    ],
)
def test_the_first_update_by_hand(fields: dict[str, object], kernel: float, bias: float) -> None:
    config = OptimizerConfig(learning_rate=0.1, schedule="constant", warmup_steps=0, **fields)
    optimizer = make_optimizer(config, make_schedule(config))
    updates, _ = jax.jit(optimizer.update)(GRADIENTS, optimizer.init(PARAMS), PARAMS)
    np.testing.assert_allclose(updates["kernel"], kernel, rtol=1e-5)
    np.testing.assert_allclose(updates["bias"], bias, rtol=1e-5)


def test_the_schedule_is_followed_and_momentum_kept() -> None:
    config = OptimizerConfig(
        optimizer="sgd",
        momentum=0.5,
        learning_rate=1.0,
        schedule="step",
        decay_steps=(1,),
        warmup_steps=0,
    )
    optimizer = make_optimizer(config, make_schedule(config))
    state, params = optimizer.init(PARAMS), PARAMS
    for expected in (-3, -0.1 * (3 + 0.5 * 3)):
        updates, state = optimizer.update(GRADIENTS, state, params)
        np.testing.assert_allclose(updates["kernel"], expected, rtol=1e-6)
        params = optax.apply_updates(params, updates)
