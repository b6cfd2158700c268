import json
from pathlib import Path

import pytest

from train.__main__ import main
from train.config import FitConfig, ModelConfig
from train.errors import InputError
from train.experiments.compare_config import CompareConfig
from train.experiments.earlier_settings import load_picked, save_picked
from train.experiments.statistics.comparison_table import read_scores

LOSSES = ("luminance_l1", "l1")


def comparing(model: str = "dncnn", start: str | None = None) -> CompareConfig:
    """A comparison with this network, from random weights or from a start."""
    return CompareConfig(fit=FitConfig(model=ModelConfig(model=model, init_from=start)))


@pytest.fixture(scope="module")
def earlier(small_run, tmp_path_factory) -> Path:
    """A finished comparison that tried two rates for each loss."""
    folder = tmp_path_factory.mktemp("earlier") / "run"
    command = ["compare", "smoke", *small_run, "--losses", *LOSSES, "--seeds=1", "--crops=0"]
    assert main([*command, "--learning-rates=0.001", "0.004", "--out", str(folder)]) == 0
    return folder


@pytest.mark.slow
def test_a_later_comparison_uses_the_settings_of_an_earlier_one(
    small_run, earlier, tmp_path, capsys
) -> None:
    out = tmp_path / "later"
    command = ["compare", "smoke", *small_run, "--losses", *LOSSES, "--seeds=2", "--crops=0"]
    command += ["--settings-from", str(earlier), "--out", str(out)]
    assert main(command) == 0
    said = capsys.readouterr().out
    assert "the learning rates and the gradient clipping are those that were picked in" in said
    assert "edge of the grid" not in said and "settings were picked with seed" not in said
    picked = json.loads((earlier / "picked.json").read_text())
    assert json.loads((out / "picked.json").read_text()) == picked
    # Nothing was tried: there is one network for each loss and seed, and none was scored on
    # validation photographs.
    members = list((out / "members").iterdir())
    assert len(members) == 4 and not list(out.glob("members/*/validation.csv"))
    for member in members:
        config = json.loads((member / "config.json").read_text())
        setting = picked["losses"][read_scores(member / "test.csv")[0].loss]
        assert config["optimizer"]["learning_rate"] == setting["learning_rate"]
        assert config["optimizer"]["clip_norm"] == setting["clip_norm"]
    page = (out / "report.html").read_text(encoding="utf-8")
    assert page.count("tried in an earlier comparison") == 2

    # The same command continues it, unless the settings are different by now.
    assert main(command) == 0
    changed = tmp_path / "changed"
    changed.mkdir()
    picked["losses"]["l1"]["learning_rate"] = 0.123
    (changed / "picked.json").write_text(json.dumps(picked))
    kept = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps({**kept, "settings_from": str(changed)}))
    command[command.index(str(earlier))] = str(changed)
    capsys.readouterr()
    assert main(command) == 2
    assert "settings of l1 are no longer those" in capsys.readouterr().err


def test_settings_are_read_as_they_were_written(tmp_path) -> None:
    tried = {
        "l1": {(0.001, None): 30.0, (0.002, None): 31.0, (0.002, 1.0): 30.5},
        "mse": {(0.001, None): 30.0, (0.001, 1.0): 32.0},
    }
    save_picked(tmp_path, tried, comparing())
    picked = load_picked(tmp_path, ["mse", "l1"], comparing())
    assert picked == {"mse": (0.001, 1.0), "l1": (0.002, None)}
    with pytest.raises(InputError, match="did not compare ssim. It has settings for l1, mse"):
        load_picked(tmp_path, ["l1", "ssim"], comparing())
    with pytest.raises(InputError, match="were picked for dncnn, but --model is unet"):
        load_picked(tmp_path, ["l1"], comparing("unet"))
    with pytest.raises(InputError, match="picked for training from random weights, and do not"):
        load_picked(tmp_path, ["l1"], comparing(start="run"))
    save_picked(tmp_path, tried, comparing(start="run"))
    with pytest.raises(InputError, match="were picked for fine-tuning, and do not suit training"):
        load_picked(tmp_path, ["l1"], comparing())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no picked.json"),
        ("{", "cannot be read"),
        ("[]", "is not a file that compare wrote"),
        ('{"model": "dncnn", "losses": {}}', "is not a file that compare wrote"),
        ('{"model": "dncnn", "losses": {"l1": 1}}', "is not a file that compare wrote"),
        *(
            (f'{{"model": "dncnn", "losses": {{"l1": {{"learning_rate": {rate}}}}}}}', "is not a")
            for rate in ("0", "-1", "NaN", "Infinity", "true", '"x"', "null", "9" * 400)
        ),
    ],
)
def test_other_files_are_one_sentence(tmp_path, content: str | None, message: str) -> None:
    if content is not None:
        (tmp_path / "picked.json").write_text(content)
    with pytest.raises(InputError, match=f"--settings-from: .*{message}"):
        load_picked(tmp_path, ["l1"], comparing())
