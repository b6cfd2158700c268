"""Parts of a run that do not fit together are found before anything is written or compiled."""

import dataclasses
from pathlib import Path

import pytest

from tests.slow_cases import slow_for
from train.__main__ import main
from train.assembly import assemble
from train.compilation import aot
from train.config import DataConfig, FitConfig, ModelConfig
from train.devices import sharding
from train.errors import InputError

MIXED = "0.84*ms_ssim + 0.16*l1"


def _config(loss: str, patch_size: int) -> FitConfig:
    return FitConfig(data=DataConfig(patch_size=patch_size), model=ModelConfig(loss=loss))


@slow_for("verb", ["fit", "compare"], ["compare"])  # MS-SSIM is traced for seconds
def test_patches_too_small_for_the_loss_are_refused_early(
    verb: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    flags = {"fit": ["--loss", "ssim", "--patch-size=9"], "compare": ["--losses", "l1", MIXED]}
    assert main([verb, *flags[verb]]) == 2
    said = capsys.readouterr().err
    loss, least, given = {"fit": ("ssim", 11, 9), "compare": (MIXED, 176, 40)}[verb]
    assert f"The loss {loss} needs patches of at least {least} x {least} pixels; " in said
    assert f"--patch-size is {given}. Use --patch-size {least}, or a different loss." in said
    assert not list(tmp_path.iterdir())


def test_they_are_refused_before_compiling_ahead_of_time_too() -> None:
    with pytest.raises(InputError, match="needs .* at least 11 x 11 pixels; --patch-size is 10"):
        aot.compile_for(_config("ssim", 10), sharding.make_mesh(1))


def test_a_loss_that_no_patch_size_would_suit_is_refused_with_its_reason() -> None:
    config = _config("ciede2000", 40)
    grey = dataclasses.replace(config.model, model="dncnn(depth=3, features=8, channels=1)")
    with pytest.raises(InputError, match="40 x 40 x 1: .* Choose a different loss."):
        assemble(dataclasses.replace(config, model=grey))


@pytest.mark.parametrize(
    "loss", ["0.8*ssim + 0.2*l1", "balanced(gradnorm, l1 + ssim)", "luminance_l1(window_size=31)"]
)
def test_losses_in_help_and_notebooks_fit_the_default_patches(loss: str) -> None:
    assemble(_config(loss, DataConfig().patch_size))


@pytest.mark.slow
def test_the_published_mixture_fits_the_patches_that_it_needs() -> None:
    config = _config(MIXED, 176)
    assemble(config)
    balanced = dataclasses.replace(config.model, balance="gradnorm")
    assemble(dataclasses.replace(config, model=balanced))
