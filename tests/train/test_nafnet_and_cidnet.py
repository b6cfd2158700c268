"""NAFNet and HVI-CIDNet at the smallest size: trained, fine-tuned and restoring."""

from pathlib import Path

import numpy as np
import pytest
import skimage.data

from tests.slow_cases import slow_for
from train.__main__ import main
from train.checkpoints.checkpoint import load_network
from train.data.images import read_image, write_image

SPECS = {
    "nafnet": "nafnet(width=4, encoder_blocks=(1,), middle_blocks=0, decoder_blocks=(0,))",
    "cidnet": "cidnet(features=(4, 4, 4, 4), heads=(1, 2, 1))",
}
LOSSES = {"nafnet": "psnr + 10*hvi(l1, k=0.3)", "cidnet": "cidnet"}
SCHEDULES = {
    "nafnet": ("--optimizer=adamw", "--beta2=0.9", "--clip-norm=0.01"),
    "cidnet": (),
}


@slow_for("name", SPECS, ["cidnet"])
def test_a_network_is_trained_fine_tuned_and_restores(
    name: str,
    tmp_path: Path,
    tiny_flags: tuple[str, ...],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "photographs"
    folder.mkdir()
    write_image(folder / "cat.png", skimage.data.chelsea()[:32, :32])
    flags = [flag for flag in tiny_flags if not flag.startswith(("--model", "--warmup"))]
    # Both schedules, at the published rates
    flags += [f"--model={SPECS[name]}", f"--schedule={name}", "--warmup-steps=0"]
    flags += [f"--data=folder:{folder}", f"--test-data=folder:{folder}"]
    loss = (f"--loss={LOSSES[name]}", *SCHEDULES[name])
    assert main(["fit", *flags, *loss, "--steps=3", "--out=first"]) == 0
    assert main(["fit", *flags, "--init-from=first", "--steps=3", "--out=tuned"]) == 0
    assert load_network(tmp_path / "tuned").spec == SPECS[name]

    # Small photographs fit one tile, large ones run layer by layer
    for tile in ("--tile=64", "--tile=16"):
        output = f"--output=restored{tile}"
        assert main(["restore", "tuned", str(folder), output, tile]) == 0
    at_once, in_layers = (
        read_image(tmp_path / f"restored--tile={side}" / "cat.png") for side in (64, 16)
    )
    assert np.abs(at_once.astype(int) - in_layers).max() <= 1
    said = capsys.readouterr().out
    assert "features take up to 1 MB in " in said and "--exact" not in said
    assert main(["restore", "tuned", str(folder), "--output=exact", "--exact"]) == 0
    said = capsys.readouterr().out
    assert ("warning: --exact has no effect" in said) == (name == "cidnet")
