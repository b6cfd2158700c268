"""Files in damaged or forged run folders are read, or refused in one sentence."""

import dataclasses
import json
import random
import shutil
from collections.abc import Sequence
from pathlib import Path

import flax.linen as nn
import jax
import pytest

from tests import fuzzing
from tests.mutations import mutated, mutated_json
from train.checkpoints.checkpoint import Network, load_network, save_network
from train.checkpoints.checkpoint_files import Damaged, drop_unreadable_metrics, read_about, sealed
from train.checkpoints.resumed_config import load_resumed
from train.config import FitConfig, OptimizerConfig, load_config
from train.data import splits
from train.errors import InputError
from train.files.json_files import UnreadableError, read_json
from train.monitoring.metric_lines import cut_back
from train.monitoring.tensorboard import Board
from train.monitoring.tensorboard import cut_back as cut_back_events
from train.network import init_variables

SPEC = "dncnn(depth=3, features=4, batch_norm=False)"
CONFIG = FitConfig(optimizer=OptimizerConfig(schedule="step", decay_steps=(3, 5)))


def read_metrics(path: Path) -> None:
    """Reads the file as a resume from step 4 does."""
    cut_back(path, 4)
    cut_back(path, 4)


def read_events(path: Path) -> None:
    """Reads the file as a resume from step 4 does."""
    cut_back_events(path, 4)


def read_split(path: Path) -> None:
    """Reads the file as a resume does before it compares the photographs."""
    try:
        splits._parse_record(read_json(path))
    except UnreadableError as error:
        raise InputError(str(error)) from None


def read_checkpoint(path: Path) -> None:
    """Reads everything of a run whose only checkpoint has a damaged file."""
    checkpoint = next(folder for folder in path.parents if folder.parent.name == "checkpoints")
    drop_unreadable_metrics(checkpoint)
    path.parent.mkdir(exist_ok=True)  # for the next case
    load_resumed(checkpoint.parent.parent)
    load_network(checkpoint)
    try:
        read_about(checkpoint)
    except Damaged as error:
        raise InputError(str(error)) from None


@pytest.fixture(scope="module")
def saved(tiny_model: nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with one checkpoint, without the parts that only training needs."""
    run = tmp_path_factory.mktemp("run")
    variables = init_variables(tiny_model, jax.random.key(0))
    network = Network(tiny_model, SPEC, variables["params"], variables["batch_stats"])
    config = dataclasses.asdict(CONFIG)
    save_network(
        run / "checkpoints" / "4", network, {"config": config, "step": 4, "metrics": {}, "data": {}}
    )
    (run / "checkpoints" / "4" / "metrics").mkdir()
    (run / "checkpoints" / "4" / "metrics" / "metrics").write_text('{"psnr": 20.5, "ssim": 0.5}')
    (run / "config.json").write_text(json.dumps(config))
    return run


def _resealed(rng: random.Random, data: bytes, others: Sequence[bytes]) -> bytes:
    """A forgery by somebody who knows how to compute the digest."""
    about = json.loads(data)
    changed = mutated_json(rng, json.dumps(about).encode(), others)
    try:
        tree = json.loads(changed)
        del tree["digest"]
        digests = tree.pop("digests")
        return json.dumps({**sealed({**tree, "digests": digests}, {}), "digests": digests}).encode()
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return changed


@pytest.mark.parametrize("cases", fuzzing.CASES)
def test_damaged_configurations_are_refused_in_one_sentence(cases: int, tmp_path: Path) -> None:
    seeds = {
        "default": json.dumps(dataclasses.asdict(FitConfig())),
        "steps": json.dumps(dataclasses.asdict(CONFIG)),
    }
    contents = {name: text.encode() for name, text in seeds.items()}
    fuzzing.check(
        load_config, contents, tmp_path / "config.json", cases=cases, mutate=(mutated_json, mutated)
    )


@pytest.mark.parametrize("cases", fuzzing.CASES)
def test_damaged_metrics_are_cut_back_all_the_same(cases: int, tmp_path: Path) -> None:
    lines = [
        json.dumps({"step": step, "loss": 0.5, "validation/psnr": None}) + "\n"
        for step in range(1, 9)
    ]
    fuzzing.check(
        read_metrics, {"all": "".join(lines).encode()}, tmp_path / "metrics.jsonl", cases=cases
    )


@pytest.mark.parametrize("cases", fuzzing.CASES)
def test_damaged_events_are_cut_back_all_the_same(cases: int, tmp_path: Path) -> None:
    board = Board(tmp_path / "made", start=0)
    for step in range(1, 9):
        board.scalars(step, {"loss": 0.5})
    board.close()
    (made,) = (tmp_path / "made").iterdir()
    fuzzing.check(read_events, {"all": made.read_bytes()}, tmp_path / "events.1", cases=cases)


@pytest.mark.parametrize("cases", fuzzing.CASES)
def test_damaged_splits_are_refused_in_one_sentence(cases: int, tmp_path: Path) -> None:
    photographs = {"a.png": "8x8 8 bit 0f", "b.png": "8x8 8 bit 1f"}
    record = {
        name: {"spec": "photos", "photographs": photographs}
        for name in ("train", "validation", "test")
    }
    seeds = {"all": json.dumps(record).encode()}
    fuzzing.check(
        read_split, seeds, tmp_path / "split.json", cases=cases, mutate=(mutated_json, mutated)
    )


@pytest.mark.parametrize("cases", fuzzing.CASES)
@pytest.mark.parametrize(
    "name",
    [
        "about/metadata",
        "metrics/metrics",
        "weights/_METADATA",
        "weights/manifest.ocdbt",
        "weights/d/*",
    ],
)
def test_damaged_checkpoints_are_refused_in_one_sentence(
    name: str, cases: int, saved: Path, tmp_path: Path
) -> None:
    shutil.copytree(saved, tmp_path / "run")
    path = max(
        (tmp_path / "run" / "checkpoints" / "4").glob(name), key=lambda path: path.stat().st_size
    )
    ways = {"about/metadata": (_resealed, mutated), "weights/_METADATA": (mutated_json, mutated)}
    few = cases if cases >= 2000 else max(cases // 5, 10)  # each reads a checkpoint
    fuzzing.check(
        read_checkpoint,
        {"whole": path.read_bytes()},
        path,
        cases=few,
        mutate=ways.get(name, mutated),
    )
