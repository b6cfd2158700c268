"""The recipe of docs/recipes/adversarial.py, run on a tiny case."""

import importlib.util
from pathlib import Path
from types import ModuleType

import jax
import numpy as np
import pytest

from train.checkpoints.checkpoint import Network, load_network, save_network
from train.data.images import write_image
from train.network import build_model, init_variables

PATH = Path(__file__).resolve().parents[2] / "docs" / "recipes" / "adversarial.py"
SPEC = "dncnn(depth=3, features=2)"


@pytest.fixture(scope="module")
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("adversarial_recipe", PATH)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_both_networks_learn_and_the_restoring_one_is_written(
    recipe: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = build_model(SPEC)
    before = jax.jit(lambda: init_variables(model, jax.random.key(0)))()
    save_network(
        tmp_path / "start", Network(model, SPEC, before["params"], before["batch_stats"]), {}
    )
    (tmp_path / "photographs").mkdir()
    # Smooth photographs: what is noisy is told from what is clean at a glance.
    for i in range(12):
        rows = np.linspace(0, 20 * i, 24)[:, None, None]
        write_image(
            tmp_path / "photographs" / f"{i}.png",
            np.broadcast_to(rows, (24, 24, 3)).astype(np.uint8),
        )
    flags = [
        "--patch-size=16",
        "--batch-size=4",
        "--features=4",
        "--learning-rate=0.01",
        "--steps=60",
        "--sigma=50",
    ]
    places = [
        f"--init-from={tmp_path / 'start'}",
        f"--out={tmp_path / 'end'}",
        f"--data=folder:{tmp_path / 'photographs'}",
    ]
    recipe.main([*flags, *places])
    printed = capsys.readouterr().out.splitlines()
    first, last = (
        dict(zip(line.split()[2::2], map(float, line.split()[3::2]), strict=True))
        for line in printed[:2]
    )
    # Undecided, a relativistic discriminator pays 2 log 2. Against a network that does not fight
    # back it wins.
    assert last["discriminator"] < 0.5 * 2 * np.log(2)
    assert last["loss"] < first["loss"]
    assert printed[2] == f"checkpoint  {tmp_path / 'end'}"
    after = load_network(tmp_path / "end")
    assert after.spec == SPEC
    moved = zip(jax.tree.leaves(after.params), jax.tree.leaves(before["params"]), strict=True)
    assert all(np.any(np.asarray(a) != np.asarray(b)) for a, b in moved)
