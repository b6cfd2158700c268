"""Presets of published set-ups: their numbers; and their steps compile for other chips."""

import dataclasses
import importlib.util

import jax
import numpy as np
import pytest

from train.__main__ import main
from train.assembly import assemble
from train.compilation import aot
from train.optimizer import make_schedule
from train.presets import COMPARE_PRESETS, PRESETS

# The published settings, from the repositories majedelhelou/BUIFD, caiyuanhao1998/Retinexformer,
# megvii-research/NAFNet and Fediory/HVI-CIDNet.
PUBLISHED = {
    "paper-dncnn": {
        "patch": 50,
        "batch": 128,
        "steps": 191_700,
        "blind": 55,
        "parameters": 669_312,
        # One tenth after epoch 30 of 50
        "rates": {
            0: 1e-3,
            115_019: 1e-3,
            115_020: 1e-4,
            191_699: 1e-4,
        },
    },
    "paper-buifd": {
        "patch": 50,
        "batch": 128,
        "steps": 191_700,
        "blind": 75,
        "parameters": 1_196_448,
        "rates": {0: 1e-3, 115_019: 1e-3, 115_020: 1e-4, 191_699: 1e-4},
    },
    "paper-retinexformer": {
        "patch": 128,
        "batch": 8,
        "steps": 150_000,
        "blind": None,
        "parameters": 1_605_701,
        # A first cycle that rises, then one that falls
        "rates": {
            0: 2e-4,
            46_000: 3e-4,
            46_001: 2e-4,
            150_000: 1e-6,
        },
    },
    "paper-nafnet": {
        "patch": 256,
        "batch": 32,
        "steps": 200_000,
        "blind": None,
        "parameters": 29_159_715,
        "rates": {0: 1e-3, 100_000: 5.0005e-4, 199_999: 1e-7},
    },
    "paper-cidnet": {
        "patch": 256,
        "batch": 8,
        "steps": 61_000,
        "blind": None,
        "parameters": 1_975_569,
        # 0 in the first epoch, and the highest rate in the fourth
        "rates": {0: 0, 61: 1e-4 / 3, 183: 1e-4, 60_999: 1.0099e-7},
    },
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_preset_has_the_published_numbers(name):
    expected, config = PUBLISHED[name], PRESETS[name].config
    assert (config.data.patch_size, config.data.batch_size) == (
        expected["patch"],
        expected["batch"],
    )
    algorithm = "adamw" if name == "paper-nafnet" else "adam"
    assert (config.optimizer.steps, config.optimizer.optimizer) == (expected["steps"], algorithm)
    assert config.data.blind == (expected["blind"] is not None)
    if config.data.blind:
        assert config.data.sigma == expected["blind"]
    schedule = make_schedule(config.optimizer)
    for step, rate in expected["rates"].items():
        assert float(schedule(step)) == pytest.approx(rate, rel=1e-4), step
    parameters = jax.eval_shape(assemble(config).fresh_state).params
    assert (
        sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(parameters))
        == expected["parameters"]
    )


def test_published_losses_are_those_of_the_codes():
    models = {name: PRESETS[name].config.model for name in PUBLISHED}
    assert [models[name].loss for name in PUBLISHED] == ["mse", "mse", "l1", "psnr", "cidnet"]
    # In BUIFD the noise level has the same weight as the image, and a level of 1 is the highest
    # noise in training.
    assert (models["paper-buifd"].level_weight, models["paper-buifd"].level_sigma) == (1, 75)
    assert PRESETS["paper-retinexformer"].config.optimizer.clip_norm == 0.01
    nafnet = PRESETS["paper-nafnet"].config.optimizer
    assert (nafnet.clip_norm, nafnet.beta2, nafnet.weight_decay) == (0.01, 0.9, 0)
    # The published code clips before it computes the gradient, which has no effect.
    assert PRESETS["paper-cidnet"].config.optimizer.clip_norm is None


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_comparison_changes_only_what_is_picked_for_each_loss(name):
    preset, published = COMPARE_PRESETS[name].config, PRESETS[name].config
    # Clipping is tried for each loss, as learning rates are.
    unclipped = dataclasses.replace(published.optimizer, clip_norm=None)
    assert preset.fit == dataclasses.replace(published, optimizer=unclipped)
    assert preset.seeds == len(preset.losses) == 3
    assert (
        preset.learning_rates[1] == published.optimizer.learning_rate
        and len(preset.learning_rates) == 3
    )
    if name == "paper-retinexformer":
        assert preset.clip_norms == (published.optimizer.clip_norm,)


@pytest.mark.parametrize("name", PUBLISHED)
def test_photographs_that_are_not_there_are_named(name, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compare", name]) == 2
    said = capsys.readouterr().err
    folders = {"paper-dncnn": "CBSD432", "paper-buifd": "CBSD432", "paper-nafnet": "SIDD/train"}
    assert f"There is no folder {folders.get(name, 'LOLv1/Train/input')}" in said
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: the extra tpu"
)
@pytest.mark.slow
@pytest.mark.parametrize("name", PUBLISHED)
def test_its_step_compiles_for_four_chips(name):
    config = COMPARE_PRESETS[name].config.fit
    program = aot.compile_for(config, aot.topology_mesh("v5e:2x2"))
    assert 0 < program.memory < 16 * 2**30
    assert set(program.collectives) == {"all-reduce"}


@pytest.mark.skipif(
    importlib.util.find_spec("libtpu") is None, reason="needs libtpu: the extra tpu"
)
def test_a_narrow_nafnet_compiles_for_one_chip():
    published = PRESETS["paper-nafnet"].config
    narrow = "nafnet(width=4, encoder_blocks=(1,), middle_blocks=0, decoder_blocks=(0,))"
    config = dataclasses.replace(
        published,
        data=dataclasses.replace(published.data, patch_size=16, batch_size=2),
        model=dataclasses.replace(published.model, model=narrow),
    )
    program = aot.compile_for(config, aot.topology_mesh("v5e:1x1"))
    assert 0 < program.memory < 16 * 2**30 and not program.collectives
