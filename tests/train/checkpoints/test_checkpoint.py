"""What a checkpoint contains, which ones are kept, and what happens if the disk fails."""

import gc
import json
import resource
import shutil
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import chex
import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.checkpoints import checkpoint
from train.checkpoints.checkpoint import check_disk_space, load_network, load_newest, load_weights
from train.checkpoints.checkpoint_files import list_changed_versions
from train.checkpoints.checkpoint_writer import Checkpoints, open_checkpoints
from train.checkpoints.versions import package_versions
from train.config import RunConfig
from train.devices import sharding
from train.errors import InputError
from train.network import build_model, init_variables
from train.state import TrainState, create_state

ABOUT = {"model": "dncnn(depth=3, features=4, batch_norm=False)", "data": {"train": "0f3a"}}
ADAM = optax.adam(1e-3)


@pytest.fixture(scope="module")
def state(tiny_model: nn.Module) -> TrainState:
    """A state with an average and learned weights, so that all of its fields are used."""
    # Small arrays lie in files of their own checksums; those of one of this size do not.
    large = np.random.default_rng(0).normal(size=(64, 64)).astype(np.float32)
    balance = {
        "scales": {"color": jnp.float32(0.5), "luminance": jnp.float32(2)},
        "large": jnp.asarray(large),
    }
    state = create_state(
        init_variables(tiny_model, jax.random.key(1)), ADAM, averaged=True, balance=balance
    )
    return state.replace(average=jax.tree.map(lambda p: p + 0.25, state.params))


@pytest.fixture(scope="module")
def saved(state: TrainState, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run's folder with checkpoints 1 and 2. Tests that damage it copy it first."""
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    with open_checkpoints(folder, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 1), metrics={"psnr": 20.0})
        checkpoints.save(_at(state, 2), metrics={"psnr": 21.0})
    return folder


@pytest.fixture
def copied(saved: Path, tmp_path: Path) -> Path:
    shutil.copytree(saved, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


@pytest.fixture(autouse=True)
def _no_answer_comes_late() -> Iterator[None]:
    yield
    gc.collect()  # what was not answered is reported now, to this test


def _at(state: TrainState, step: int) -> TrainState:
    return state.replace(step=jnp.asarray(step, jnp.int32))


def _restore(
    folder: Path, like: TrainState, devices: int = 1
) -> tuple[TrainState, dict[str, Any], list[str]]:
    said: list[str] = []
    abstract = jax.eval_shape(lambda: like)
    layout = sharding.replicated(sharding.make_mesh(devices))
    restored, about = load_newest(folder, abstract, layout, said.append)
    return restored, about, said


def test_a_state_loads_bit_for_bit_on_fewer_or_more_devices(state: TrainState, saved: Path) -> None:
    restored, about, said = _restore(saved, state, devices=4)
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(_at(state, 2)))
    assert len(restored.step.sharding.device_set) == 4
    assert said == []
    assert (about["step"], about["metrics"], about["data"]) == (
        2,
        {"psnr": 21.0},
        {"train": "0f3a"},
    )
    assert list_changed_versions(about) == []
    assert list_changed_versions({"versions": {**package_versions(), "jax": "0.1"}}) == [
        f"jax 0.1 -> {package_versions()['jax']}"
    ]
    (changed,) = list_changed_versions({"versions": {"x" * 1000: ["1" * 1000]}})
    assert len(changed) < 150


def test_a_divided_state_loads_whole_and_a_whole_one_divided(
    state: TrainState, tmp_path: Path
) -> None:
    """Under FSDP the digests are those of whole arrays too. The large array here is divided."""
    large = np.random.default_rng(0).normal(size=(128, 64)).astype(np.float32)
    state = state.replace(balance={"large": jnp.asarray(large)})
    mesh = sharding.make_mesh(4, run=RunConfig(parallel="fsdp"))
    whole, divided = sharding.replicated(mesh), sharding.state_sharding(state, mesh)
    for name, before, after in (("there", divided, whole), ("back", whole, divided)):
        with open_checkpoints(tmp_path / name, ABOUT) as checkpoints:
            checkpoints.save(jax.device_put(state, before))
        restored, _ = load_newest(
            tmp_path / name, jax.eval_shape(lambda: state), after, pytest.fail
        )
        chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(state))
        side = 32 if after is divided else 128
        assert restored.balance["large"].addressable_shards[0].data.shape == (side, 64)


def test_the_newest_are_kept_and_the_best(state: TrainState, tmp_path: Path) -> None:
    scores = {
        1: {"psnr": 30.0},
        2: {"psnr": 31.0},
        3: {},
        4: {"psnr": float("nan")},
        5: {"psnr": 30.5},
        6: {},
    }
    with open_checkpoints(tmp_path / "checkpoints", ABOUT, keep_last=2, keep_best=1) as checkpoints:
        for step, metrics in scores.items():
            checkpoints.save(_at(state, step), metrics=metrics)
            # A second save of a step that is there is no error
            checkpoints.save(_at(state, step), metrics=metrics)
        assert checkpoints.newest().name == "6"
        assert checkpoints.best() == tmp_path / "checkpoints" / "2"
    assert _names(tmp_path / "checkpoints") == {"2", "5", "6"}
    with open_checkpoints(tmp_path / "checkpoints", ABOUT, keep_last=1, keep_best=1) as checkpoints:
        checkpoints.save(
            _at(state, 7), metrics={"psnr": 32.0}
        )  # the metrics of before were read back
    assert _names(tmp_path / "checkpoints") == {"7"}


def test_the_lowest_is_the_best_if_lower_is_better(state: TrainState, tmp_path: Path) -> None:
    with open_checkpoints(
        tmp_path, ABOUT, keep_best=1, keep_last=1, best_metric="flip", higher_is_better=False
    ) as checkpoints:
        assert checkpoints.best() is None
        for step, value in ((1, 3.0), (2, 2.0), (3, 4.0)):
            checkpoints.save(_at(state, step), metrics={"flip": value})
        assert checkpoints.best() == tmp_path / "2"


def _names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir() if path.name.isdigit()}


def _arrays(checkpoint: Path) -> Path:
    """Finds the file with the arrays of an item, which is the largest of Orbax's data files."""
    return max((checkpoint / "training").rglob("d/*"), key=lambda path: path.stat().st_size)


def _cut(folder: Path) -> None:
    path = _arrays(folder)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _flip(folder: Path) -> None:
    path = _arrays(folder)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


def _lack(folder: Path) -> None:
    (folder / "about" / "metadata").unlink()


def _forge(folder: Path) -> None:
    path = folder / "about" / "metadata"
    path.write_text(path.read_text().replace("0f3a", "0f3b"))


@pytest.mark.parametrize(
    ("harm", "words"),
    [(_cut, "training:"), (_flip, "training:"), (_lack, "about:"), (_forge, "about: its digest")],
)
def test_a_damaged_checkpoint_is_named_and_the_one_before_taken(
    harm: Callable[[Path], None], words: str, state: TrainState, copied: Path
) -> None:
    harm(copied / "2")
    restored, about, said = _restore(copied, state)
    chex.assert_trees_all_equal(jax.device_get(restored), jax.device_get(_at(state, 1)))
    assert about["step"] == 1
    (warning,) = said
    assert f"the checkpoint of step 2 is damaged ({words}" in warning
    assert str(copied.parent / "broken_checkpoints" / "2") in warning
    with open_checkpoints(copied, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 2))  # the step can be written again
    assert _restore(copied, state)[1]["step"] == 2


def test_no_flipped_bit_comes_through(state: TrainState, copied: Path) -> None:
    """With damage anywhere in the arrays' file, loading gives what was saved, or an error."""
    path = _arrays(copied / "2")
    whole = path.read_bytes()
    noticed = 0
    for position in np.random.default_rng(0).integers(8 * len(whole), size=12):
        content = bytearray(whole)
        content[position // 8] ^= 1 << (position % 8)
        path.write_bytes(content)
        try:
            read = checkpoint.read_items(copied / "2", lambda about: _targets(state))[1]
            chex.assert_trees_all_equal(read["training"]["balance"], state.balance)
        except checkpoint.Damaged:
            noticed += 1
    assert noticed > 6


def _targets(state: TrainState) -> dict[str, Any]:
    training = checkpoint.training_item(state)
    return {"training": checkpoint._targets(training, sharding.replicated(sharding.make_mesh(1)))}


def test_where_all_are_damaged_each_is_named(state: TrainState, copied: Path) -> None:
    _cut(copied / "1")
    _flip(copied / "2")
    with pytest.raises(
        InputError, match=r"(?s)All checkpoints in .* are damaged.*/2: training.*/1: training"
    ):
        _restore(copied, state)
    assert _names(copied) == {"1", "2"}  # it may be the disk, or a version that knows other states


@pytest.mark.parametrize(
    "error", [PermissionError(13, "Permission denied"), ValueError("RESOURCE_EXHAUSTED: memory")]
)
def test_what_may_be_whole_stays_where_it_is(
    error: Exception, state: TrainState, copied: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise error

    monkeypatch.setattr(checkpoint.ocp.Checkpointer, "restore", fail)
    with pytest.raises(InputError, match=r"/2 cannot be read, but may be intact \(weights: "):
        _restore(copied, state)
    assert _names(copied) == {"1", "2"}


def test_damaged_validation_metrics_cost_the_rank_only(state: TrainState, copied: Path) -> None:
    (copied / "1" / "metrics" / "metrics").write_text('{"psnr')
    restored, _, said = _restore(copied, state)
    assert int(restored.step) == 2
    assert said == [
        "the validation metrics of the checkpoint of step 1 are damaged, so it cannot be the best"
    ]
    with open_checkpoints(copied, ABOUT, keep_best=1) as checkpoints:
        assert checkpoints.best() == copied / "2"


def test_no_checkpoint_is_an_error_that_says_so(state: TrainState, tmp_path: Path) -> None:
    with pytest.raises(
        InputError,
        match="There is no checkpoint in .* Repeat the command .* It will start over in ",
    ):
        _restore(tmp_path, state)


def test_a_disk_without_room_is_refused_before_training(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_disk_space({tmp_path / "checkpoints": state}, 3)
    used = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: used._replace(free=1000))
    with pytest.raises(
        InputError, match="0 MB of free space, which is too little for 4 checkpoints of 0.0 MB"
    ):
        check_disk_space({tmp_path / "checkpoints": state}, 3)


def test_a_folder_that_cannot_be_written_to_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="file/checkpoints cannot be written to: Not a directory"):
        Checkpoints(tmp_path / "file" / "checkpoints", ABOUT)


def test_a_full_disk_costs_no_checkpoint_that_is_whole(state: TrainState, copied: Path) -> None:
    """A limit of 100 bytes per file acts like a full disk, but only for this process."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        with pytest.raises(
            InputError, match=r"could not be written: .*newest intact checkpoint is .*/2"
        ) as caught:
            with open_checkpoints(copied, ABOUT, keep_last=1) as checkpoints:
                resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
                checkpoints.save(_at(state, 3))
                checkpoints.wait()
        # The disk is full still: Orbax tells of the first file that fails while it writes others.
        restored, _, said = _restore(copied, state)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert f"--resume {copied.parent}" in str(caught.value)
    assert (int(restored.step), said) == (2, [])


def test_a_checkpoint_says_by_itself_what_it_holds(
    tiny_model: nn.Module, state: TrainState, copied: Path
) -> None:
    moved = (copied / "2").rename(copied.parent / "moved")  # no config, no folder of a run
    network = load_network(moved)
    assert network.spec == ABOUT["model"]
    assert network.model == tiny_model
    # What is released is the average.
    chex.assert_trees_all_equal(jax.device_get(network.params), jax.device_get(state.average))


@pytest.mark.parametrize("below", ["", "checkpoints"])
def test_a_run_stands_for_its_newest_checkpoint_that_is_whole(
    tiny_model: nn.Module, state: TrainState, copied: Path, below: str
) -> None:
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        if below:
            (copied / "2" / "about" / "metadata").write_text(json.dumps(ABOUT))
        weights = load_weights(copied.parent / below, tiny_model, ABOUT["model"])
    chex.assert_trees_all_equal(weights["params"], state.average)
    assert ["2 is damaged" in str(warning.message) for warning in said] == ([True] if below else [])


def test_weights_of_another_network_are_refused_with_both_named(saved: Path) -> None:
    other = "dncnn(depth=4, features=4, batch_norm=False)"
    with pytest.raises(InputError) as caught:
        load_weights(saved, build_model(other), other)
    assert ABOUT["model"] in str(caught.value)
    assert other in str(caught.value)


def test_a_folder_without_a_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="There is no folder"):
        load_network(tmp_path / "none")
    with pytest.raises(InputError, match="There is no checkpoint in"):
        load_network(tmp_path)
