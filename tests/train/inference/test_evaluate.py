import csv
import json
import math
import os
import re
from collections.abc import Callable
from pathlib import Path

import jax
import numpy as np
import pytest
import pyvips

from lumloss_jax import metrics
from train.__main__ import main
from train.checkpoints.checkpoint import load_network, save_network
from train.data.images import read_image, to_float, write_image
from train.inference.evaluate import EvaluateConfig
from train.inference.predictors import predictor_for
from train.inference.scoring.protocols import add_fixed_noise
from train.inference.scoring.registry import DEFAULT, LEGEND, METRICS

SPEC = "dncnn(depth=2, features=4, batch_norm=False)"
GREY = "dncnn(depth=2, features=4, batch_norm=False, channels=1)"
NAMES = ("a.png", "b.png", "c.png")
SHAPE = (24, 30)


@pytest.fixture(scope="module")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photographs")
    rng = np.random.default_rng(0)
    for name in NAMES:
        write_image(folder / name, rng.integers(0, 256, (*SHAPE, 3), dtype=np.uint8))
    return folder


def rows_of(folder: Path) -> list[dict[str, str]]:
    with (folder / "scores.csv").open() as file:
        return list(csv.DictReader(file))


def test_evaluate_writes_a_table_a_summary_and_figures(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys
) -> None:
    command = [
        "evaluate",
        str(checkpoint(SPEC)),
        f"--data=folder:{photographs}",
        "--protocol=clipped",
    ]
    assert main([*command, f"--output={tmp_path}", "--figures"]) == 0
    rows = rows_of(tmp_path)
    assert [(row["sigma"], row["photograph"], row["method"]) for row in rows] == [
        (level, name, method)
        for level in ("15.0", "25.0", "50.0")
        for name in NAMES
        for method in ("input", "restored")
    ]
    network = load_network(checkpoint(SPEC))
    clean = to_float(read_image(photographs / "b.png"))
    noisy = np.clip(add_fixed_noise(clean, "b.png", sigma=25, seed=0), 0, 1)
    restored = predictor_for(network.model, network.params, {}).restore(noisy)
    (row,) = (
        row
        for row in rows
        if (row["sigma"], row["photograph"], row["method"]) == ("25.0", "b.png", "restored")
    )
    assert float(row["psnr"]) == pytest.approx(
        -10 * math.log10(np.mean((restored - clean) ** 2)), abs=1e-3
    )
    assert row["ms_ssim"] == "" and list(row)[4:] == [*DEFAULT[:3], "ms_ssim", *DEFAULT[3:]]
    flip = jax.jit(metrics.flip)(restored, clean)
    assert float(row["flip"]) == pytest.approx(float(flip), abs=1e-5)

    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["model"] == SPEC and summary["data"]["photographs"] == 3
    assert summary["protocol"]["clipped"] and summary["protocol"]["gt_mean"] is None
    (held,) = (
        mean for mean in summary["means"] if (mean["sigma"], mean["method"]) == (25, "restored")
    )
    of_level = [
        float(row["psnr"]) for row in rows if (row["sigma"], row["method"]) == ("25.0", "restored")
    ]
    assert held["psnr"] == pytest.approx(np.mean(of_level)) and held["ms_ssim"] is None

    printed = capsys.readouterr().out
    assert f"PSNR dB ↑      {held['psnr']:.2f}" in re.sub(r"↑ +[\d.]+ +", "↑      ", printed)
    assert f"{LEGEND} Means over" in printed and "no GT-mean" in printed
    why = "3 of 3 photographs are too small for MS-SSIM, which needs 176 pixels on each side."
    assert printed.count(why) == 1
    for level in (15, 25, 50):
        assert read_image(tmp_path / f"figures-sigma{level}.png").shape[0] > 3 * 24


def test_pairs_of_one_folder_are_scored_with_a_warning(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys
) -> None:
    spec = f"pairs:{photographs},{photographs}"
    flags = [f"--data={spec}", "--protocol=pairs", f"--output={tmp_path}"]
    assert main(["evaluate", str(checkpoint(SPEC)), *flags]) == 0
    said = capsys.readouterr().out
    assert f"warning: {spec}: input and target are the same photograph in all 3 pairs" in said


def test_noise_levels_can_be_named(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys
) -> None:
    """Each level has its rows, means and figure, and networks that need the level get it."""
    command = [
        "evaluate",
        f"--data=folder:{photographs}",
        "--protocol=unclipped",
        f"--output={tmp_path / 'out'}",
    ]
    told = "drunet(features=(2,), blocks=1)"
    assert main([*command, str(checkpoint(told)), "--sigmas", "50", "7.5", "0", "--figures"]) == 0
    rows = rows_of(tmp_path / "out")
    assert [float(row["sigma"]) for row in rows[:: 2 * len(NAMES)]] == [50, 7.5, 0]
    network = load_network(checkpoint(told))
    clean = to_float(read_image(photographs / "b.png"))
    noisy = add_fixed_noise(clean, "b.png", sigma=7.5, seed=0)
    restored = predictor_for(network.model, network.params, {}).restore(noisy, sigma=7.5 / 255)
    restored = np.round(np.clip(restored, 0, 1) * 255) / 255
    (row,) = (
        row
        for row in rows
        if (row["sigma"], row["photograph"], row["method"]) == ("7.5", "b.png", "restored")
    )
    assert float(row["psnr"]) == pytest.approx(
        -10 * math.log10(np.mean((restored - clean) ** 2)), abs=1e-3
    )
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["protocol"]["sigmas"] == [50, 7.5, 0] and summary["protocol"]["rounded"]
    assert [mean["sigma"] for mean in summary["means"]] == [50, 50, 7.5, 7.5, 0, 0]
    levels = re.findall(r"^ *([\d.]+) +PSNR dB", capsys.readouterr().out, re.MULTILINE)
    assert levels == ["50", "7.5", "0"]
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {
        "figures-sigma50.png",
        "figures-sigma7.5.png",
        "figures-sigma0.png",
    }


def test_more_metrics_are_named_or_all(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys
) -> None:
    """They add to the default ones; photographs that are too small have empty cells."""
    command = ["evaluate", str(checkpoint(SPEC)), f"--data=folder:{photographs}"]
    command += ["--protocol=float", "--sigmas=25", f"--output={tmp_path}"]
    assert main([*command, "--metrics", "nlpd", "gmsd"]) == 0
    (first, *_) = rows_of(tmp_path)
    assert list(first)[-2:] == ["gmsd", "nlpd"] and len(first) == 4 + 9 + 2
    assert first["nlpd"] == "" and float(first["gmsd"]) > 0
    assert "too small for NLPD, which needs 33 pixels" in capsys.readouterr().out
    ready = [name for name, metric in METRICS.items() if not metric.has_weights]
    assert EvaluateConfig(Path(), "", "", Path(), metrics=("all",)).columns == tuple(ready)
    with pytest.raises(SystemExit):
        main([*command, "--metrics", "lpip"])


@pytest.mark.slow
def test_a_published_network_has_its_published_scores(shared: Path, tmp_path: Path) -> None:
    """The blind colour DnCNN of El Helou and Suesstrunk (2020), on CBSD68 with clipped noise."""
    weights, network = str(tmp_path / "weights.npz"), str(tmp_path / "network")
    with np.load(shared / "pretrained" / "state_color_DnCNN_55.npz") as file:
        np.savez(weights, **{key.removeprefix("state/"): array for key, array in file.items()})
    command = ["import", weights, "--model=dncnn_blind", "--channel-order=bgr", f"--out={network}"]
    assert main(command) == 0
    data = f"--data=folder:{shared / 'data' / 'CBSD68'}"
    assert (
        main(["evaluate", network, data, "--protocol=clipped", f"--output={tmp_path / 'scores'}"])
        == 0
    )
    summary = json.loads((tmp_path / "scores" / "summary.json").read_text())
    found = {
        mean["sigma"]: mean["psnr"] for mean in summary["means"] if mean["method"] == "restored"
    }
    assert found == pytest.approx({15: 33.57, 25: 30.66, 50: 26.48}, rel=0, abs=0.05)


@pytest.mark.parametrize("grey", [False, True])
def test_what_is_scored_is_what_restore_writes(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, grey: bool
) -> None:
    for name in NAMES:
        image = read_image(photographs / name)
        image = np.repeat(image[..., :1], 3, axis=-1) if grey else image
        noise = np.random.default_rng(1).normal(0, 20, (*SHAPE, 1 if grey else 3))
        write_image(
            tmp_path / name,
            np.clip(image + noise, 0, 255).astype(np.uint8),
        )
    folder = str(checkpoint(SPEC))
    assert main(["restore", folder, str(tmp_path), f"--output={tmp_path / 'out'}"]) == 0
    pairs = f"--data=pairs:{tmp_path},{photographs}"
    (tmp_path / "scores").mkdir()
    os.rename(tmp_path / "out", tmp_path.parent / f"{tmp_path.name}-out")
    assert (
        main(["evaluate", folder, pairs, "--protocol=pairs", f"--output={tmp_path / 'scores'}"])
        == 0
    )
    for row in rows_of(tmp_path / "scores"):
        if row["method"] == "restored":
            written = to_float(
                read_image(tmp_path.parent / f"{tmp_path.name}-out" / f"{row['photograph']}.png")
            )
            clean = to_float(read_image(photographs / f"{row['photograph']}.png"))
            assert float(row["psnr"]) == pytest.approx(
                -10 * math.log10(np.mean((written - clean) ** 2)), abs=1e-4
            )


def test_a_grey_network_is_scored_on_grey_photographs(
    checkpoint: Callable[[str], Path], tmp_path: Path
) -> None:
    grey = np.random.default_rng(0).integers(0, 256, SHAPE, dtype=np.uint8)
    pyvips.Image.new_from_array(grey).write_to_file(str(tmp_path / "a.png"))
    command = ["evaluate", str(checkpoint(GREY)), f"--data=folder:{tmp_path}", "--protocol=float"]
    assert main([*command, f"--output={tmp_path / 'out'}"]) == 0
    assert all(float(row["chroma_error"]) < 0.02 for row in rows_of(tmp_path / "out"))


@pytest.mark.parametrize(
    ("spec", "arguments", "message"),
    [
        (
            SPEC,
            ["--data=folder:{photographs}", "--protocol=best"],
            "no protocol 'best'. Use one of clipped, unclipped, float, pairs",
        ),
        (
            SPEC,
            ["--data=folder:{photographs}", "--protocol=pairs"],
            "has only clean ones. Use --protocol clipped",
        ),
        (
            SPEC,
            ["--data=pairs:{photographs},{photographs}", "--protocol=float"],
            "has pairs. Use --protocol pairs",
        ),
        (
            SPEC,
            ["--data=pairs:{photographs},{photographs}", "--protocol=pairs", "--sigmas=5"],
            "Leave --sigmas out",
        ),
        (
            SPEC,
            ["--data=pairs:{photographs},{photographs}", "--protocol=float", "--sigmas=5"],
            "has pairs. Use",
        ),
        *(
            (
                SPEC,
                ["--data=folder:{photographs}", "--protocol=float", "--sigmas", *given],
                f"the scale of 8-bit images; got {shown}",
            )
            for given, shown in {
                ("-1",): "-1.",
                ("5", "nan"): "5 nan.",
                ("inf",): "inf.",
                ("256",): "256.",
                ("5", "5"): "5 5.",
                ("5", "5.0001"): "5 5.0001.",
            }.items()
        ),
        (
            SPEC,
            ["--data=folder:{tiny}", "--protocol=float"],
            "too small to be scored: a.png (12x5). Each side must have at least 11 pixels",
        ),
        (
            SPEC,
            ["--data=folder:{photographs}", "--protocol=float", "--output={file}"],
            "--output must be a folder, and",
        ),
        (
            GREY,
            ["--data=folder:{photographs}", "--protocol=float"],
            "3 are in colour; the first is a.png. Convert them to grey",
        ),
        (
            GREY,
            ["--data=pairs:{photographs},{grey}", "--protocol=pairs"],
            "3 are in colour; the first is a.",
        ),
        (
            "drunet(features=(2,), blocks=1)",
            ["--data=pairs:{photographs},{photographs}", "--protocol=pairs"],
            "needs the noise level, which is unknown for the pairs",
        ),
    ],
)
def test_options_that_do_not_fit_together_are_refused(
    checkpoint: Callable[[str], Path],
    photographs: Path,
    tmp_path: Path,
    capsys,
    spec: str,
    arguments: list[str],
    message: str,
) -> None:
    for folder in ("grey", "tiny"):
        (tmp_path / folder).mkdir()
    for name in NAMES:
        write_image(tmp_path / "grey" / name, np.full((*SHAPE, 3), 100, np.uint8))
    write_image(tmp_path / "tiny" / "a.png", np.zeros((5, 12, 3), np.uint8))
    (tmp_path / "file").write_text("")
    places = {name: str(tmp_path / name) for name in ("grey", "tiny", "file")} | {
        "photographs": str(photographs)
    }
    arguments = [f"--output={tmp_path / 'out'}", *(text.format(**places) for text in arguments)]
    assert main(["evaluate", str(checkpoint(spec)), *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_network_whose_output_is_nan_gets_no_score(
    checkpoint: Callable[[str], Path], photographs: Path, tmp_path: Path, capsys
) -> None:
    network = load_network(checkpoint(SPEC))
    save_network(
        tmp_path / "broken",
        network._replace(params=jax.tree.map(lambda x: x * np.nan, network.params)),
        {},
    )
    command = [
        "evaluate",
        str(tmp_path / "broken"),
        f"--data=folder:{photographs}",
        "--protocol=float",
    ]
    assert main([*command, f"--output={tmp_path / 'out'}"]) == 2
    assert "a.png: the output of the network contains NaN or inf" in capsys.readouterr().err
