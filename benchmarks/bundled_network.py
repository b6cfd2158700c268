"""Trains the bundled network ``denoiser-2`` again, from the photographs that it was trained on.

    python benchmarks/bundled_network.py PHOTOGRAPHS OUT

PHOTOGRAPHS is the folder with the wallpapers of Debian's package ``lomiri-wallpapers``. Nine of
them are licensed under CC0 or CC BY, and only these are trained on. The other six, under CC BY-SA,
are used for validation. All are shrunk to a longer side of 1,280 pixels, which averages away the
noise and the JPEG artefacts that they have at full size.

A run that was stopped is resumed. Then OUT/denoiser-2.safetensors is written.
"""

import json
import subprocess
import sys
from pathlib import Path

import jax
import pyvips
import tyro

from train.checkpoints.bundled import save_bundled
from train.checkpoints.checkpoint import load_network
from train.data.sources import open_source
from train.data.splits import describe_entry, trained_on

LONGER_SIDE = 1280
STEPS = 20_000
LOSS = "l1"
SUMMARY = "It removes Gaussian noise of any level up to sigma 55."
# By the first part of the file name, which ends before the photographer's name.
TRAINED_ON = (
    "aitzgorri",
    "friends",
    "life",
    "picosdeeuropa",
    "Picture_0B",
    "Picture_1A",
    "seeding",
    "sunset",
    "Wine",
)


def main(photographs: tyro.conf.Positional[Path], out: tyro.conf.Positional[Path], /) -> None:
    """Trains the bundled network again.

    Args:
      photographs: folder with the wallpapers of Debian's package lomiri-wallpapers.
      out: folder to write the shrunk photographs, the run and the network to.
    """
    shrink(photographs, out)
    run = out / "run"
    subprocess.run([sys.executable, "-m", "train", "fit", *flags(out, run)], check=True)
    print(f"validation PSNR {validation_psnr(run):.3f} dB")
    network = load_network(run)
    variables = jax.device_get({"params": network.params, "batch_stats": network.batch_stats})
    # Somebody may score the network on the photographs as they were published.
    published = open_source(f"folder:{photographs}", "train")
    trained = {describe_entry(entry) for entry in published.entries if is_trained_on(entry.name)}
    save_bundled(
        out / "denoiser-2.safetensors",
        network.spec,
        variables,
        SUMMARY,
        loss=LOSS,
        photographs=trained | (trained_on(run) or frozenset()),
    )


def shrink(photographs: Path, out: Path) -> None:
    """Writes the shrunk photographs to ``out/training`` and ``out/validation``."""
    for path in sorted(photographs.glob("*.jpg")):
        folder = out / ("training" if is_trained_on(path.name) else "validation")
        folder.mkdir(parents=True, exist_ok=True)
        shrunk = pyvips.Image.thumbnail(
            str(path), LONGER_SIDE, height=LONGER_SIDE, size=pyvips.enums.Size.DOWN
        )
        shrunk.write_to_file(str(folder / f"{path.stem}.png"), keep="none")


def is_trained_on(name: str) -> bool:
    """Whether a wallpaper with this file name is one of those that are trained on."""
    return name.split("_by_")[0] in TRAINED_ON


def flags(out: Path, run: Path) -> list[str]:
    """Returns the flags of ``fit``; the network is that of the preset ``default``."""
    if run.exists():
        return ["--resume", str(run)]
    return [
        *("--data", f"folder:{out / 'training'}"),
        *("--validation-data", f"folder:{out / 'validation'}"),
        *("--test-data", "photos", "--blind", "--sigma", "55", "--loss", LOSS),
        *("--steps", str(STEPS), "--learning-rate", "0.002", "--validate-every", "1000"),
        *("--out", str(run)),
    ]


def validation_psnr(run: Path) -> float:
    """Returns the PSNR at the last validation of a run, in dB."""
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [line["validation/psnr"] for line in lines if "validation/psnr" in line][-1]


if __name__ == "__main__":
    tyro.cli(main)
