"""Checkpoints can be read wherever they can be written, for any name of their folders."""

import logging
import os
import shutil
from pathlib import Path

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from train.checkpoints import checkpoint_writer
from train.checkpoints.checkpoint import Network, load_network, load_newest, save_network
from train.checkpoints.checkpoint_files import check_path, steps_in
from train.checkpoints.checkpoint_writer import open_checkpoints
from train.devices import sharding
from train.errors import InputError
from train.network import init_variables
from train.state import TrainState, create_state

SPEC = "dncnn(depth=3, features=4, batch_norm=False)"
ABOUT = {"model": SPEC}
PATTERNS = ["run[1]", "a[!b]", "run[", "a*", "a**", "what?", "gs:", "1.orbax-checkpoint-tmp-2"]
PATTERNS += [] if os.sep == "\\" else ["back\\slash"]


@pytest.fixture(scope="module")
def network(tiny_model: nn.Module) -> Network:
    variables = init_variables(tiny_model, jax.random.key(0))
    return Network(tiny_model, SPEC, variables["params"], variables["batch_stats"])


@pytest.fixture(scope="module")
def state(tiny_model: nn.Module) -> TrainState:
    return create_state(init_variables(tiny_model, jax.random.key(1)), optax.sgd(0.1))


def _at(state: TrainState, step: int) -> TrainState:
    return state.replace(step=jnp.asarray(step, jnp.int32))


def _restore(folder: Path, state: TrainState) -> tuple[int, list[str]]:
    said: list[str] = []
    layout = sharding.replicated(sharding.make_mesh(1))
    restored, _ = load_newest(folder, jax.eval_shape(lambda: state), layout, said.append)
    return int(restored.step), said


@pytest.mark.parametrize("name", PATTERNS)
@pytest.mark.parametrize("below", ["", "sub"])
def test_names_that_orbax_misreads_are_refused_early(
    name: str, below: str, network: Network, tmp_path: Path
) -> None:
    for write in (
        lambda folder: save_network(folder, network, {}),
        lambda folder: open_checkpoints(folder, ABOUT),
    ):
        with pytest.raises(
            InputError, match="Checkpoints cannot be stored in .* because of the name"
        ):
            with write(tmp_path / name / below):
                pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "name",
    ["a b", "a]", "{1}", "a%20#", "\u00e4\u4e2d", "a\nb", "a|b:c", "-x", "$HOME", "~x", "12"],
)
def test_with_any_other_name_what_is_written_is_read_back(
    name: str, network: Network, tmp_path: Path
) -> None:
    save_network(tmp_path / name / "sub", network, {})
    read = load_network(tmp_path / name / "sub")
    assert jax.tree.all(jax.tree.map(np.array_equal, read.params, network.params))


def test_a_folder_can_be_named_relative_to_one_above(
    network: Network, state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "photographs").mkdir()
    monkeypatch.chdir(tmp_path / "photographs")
    save_network(Path("../network"), network, {})
    assert load_network(Path("../network")).spec == SPEC
    run = Path("../run/checkpoints")
    with open_checkpoints(run, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 1))
    assert _restore(run, state) == (1, [])


def test_such_a_folder_can_be_written_through_a_link(network: Network, tmp_path: Path) -> None:
    (tmp_path / "run[1]").mkdir()
    (tmp_path / "link").symlink_to("run[1]")
    save_network(tmp_path / "link" / "sub", network, {})
    for name in PATTERNS:
        copied = tmp_path / "copies" / name
        shutil.copytree(tmp_path / "link", copied)
        if name in ("a**", "gs:", "back\\slash"):
            with pytest.raises(InputError, match="cannot be read because of the name"):
                load_network(copied / "sub")
        else:
            assert load_network(copied / "sub").spec == SPEC


def test_an_unreadable_new_checkpoint_ends_the_run(
    state: TrainState, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint_writer, "check_path", lambda folder: None)
    good, bad = tmp_path / "good" / "checkpoints", tmp_path / "run[1]" / "checkpoints"
    with open_checkpoints(good, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 1))
        # Orbax would log the traceback of each of its threads that fails.
        assert not logging.getLogger("absl").isEnabledFor(logging.ERROR)
    shutil.copytree(good, bad)
    with pytest.raises(
        InputError,
        match=r"(?s)step 2 was written, but cannot be read again: .*newest intact .* is .*/1",
    ):
        with open_checkpoints(bad, ABOUT, keep_last=1) as checkpoints:
            checkpoints.save(_at(state, 2))
    assert set(steps_in(bad)) == {1, 2}


def test_a_name_that_is_no_step_blocks_nothing(state: TrainState, tmp_path: Path) -> None:
    with open_checkpoints(tmp_path, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 40))
    for name in ("055", "\u00b2", "\u0663", "9" * 200, "40.orbax-checkpoint-tmp-1"):
        (tmp_path / name).mkdir()
    assert _restore(tmp_path, state) == (40, [])


def test_a_checkpoint_under_another_number_is_moved_aside(
    state: TrainState, tmp_path: Path
) -> None:
    folder = tmp_path / "checkpoints"
    with open_checkpoints(folder, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 20))
        checkpoints.save(_at(state, 40))
    (folder / "40").rename(folder / "77")
    step, (said,) = _restore(folder, state)
    assert step == 20
    assert "step 77 is damaged (about: it is the checkpoint of step 40" in said
    (folder / "20").rename(folder / "21")
    with pytest.raises(
        InputError, match="it is the checkpoint of step 20; rename the folder accordingly"
    ):
        _restore(folder, state)


def test_a_step_that_is_not_saved_is_an_error(state: TrainState, tmp_path: Path) -> None:
    with open_checkpoints(tmp_path, ABOUT) as checkpoints:
        checkpoints.save(_at(state, 40))
    with pytest.raises(
        InputError, match=r"step 20 was not written, because .* has one of the later step 40"
    ):
        with open_checkpoints(tmp_path, ABOUT) as checkpoints:
            checkpoints.save(_at(state, 20))


def test_the_name_is_given_that_is_wrong(tmp_path: Path) -> None:
    check_path(tmp_path / "plain")
    with pytest.raises(
        InputError, match=r"because of the name 'b\[1\]'. Names must not contain \* \? \["
    ):
        check_path(tmp_path / "b[1]" / "run")


def test_what_a_killed_import_left_is_removed(network: Network, tmp_path: Path) -> None:
    (tmp_path / "out.orbax-checkpoint-tmp" / "weights").mkdir(parents=True)
    save_network(tmp_path / "out", network, {})
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    with pytest.raises(InputError, match="out exists already"):
        save_network(tmp_path / "out", network, {})
    with pytest.raises(InputError, match="could not be written: "):
        save_network(tmp_path / "out" / "_CHECKPOINT_METADATA" / "sub", network, {})
