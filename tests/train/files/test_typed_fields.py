"""The values in a configuration file must have the types of their fields."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from train.config import FitConfig, load_config
from train.errors import InputError
from train.files.typed_fields import from_tree


def _written(folder: Path, key: str, value: Any) -> Path:
    """A configuration with one value changed; ``key`` is a path such as "optimizer.steps"."""
    tree = dataclasses.asdict(FitConfig())
    *groups, name = key.split(".")
    group = tree
    for each in groups:
        group = group[each]
    group[name] = value
    path = folder / "config.json"
    path.write_text(json.dumps(tree))
    return path


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("optimizer.steps", "sixty", "optimizer.steps must be a whole number; got 'sixty'"),
        ("optimizer.steps", 60.0, "optimizer.steps must be a whole number; got 60.0"),
        ("optimizer.steps", None, "optimizer.steps must be a whole number; got None"),
        ("optimizer.steps", True, "optimizer.steps must be a whole number; got True"),
        (
            "optimizer.learning_rate",
            "0.002",
            "optimizer.learning_rate must be a number; got '0.002'",
        ),
        ("optimizer.learning_rate", False, "optimizer.learning_rate must be a number; got False"),
        ("optimizer.learning_rate", 10**400, "optimizer.learning_rate must be a number; got 1000"),
        ("optimizer.clip_norm", "1", "optimizer.clip_norm must be a number or null; got '1'"),
        (
            "optimizer.decay_steps",
            [10, "20"],
            "optimizer.decay_steps must be a list of whole numbers; got",
        ),
        (
            "optimizer.decay_steps",
            10,
            "optimizer.decay_steps must be a list of whole numbers; got 10",
        ),
        ("data.low_light", [0.1], "data.low_light must be a list of 2 numbers or null; got [0.1]"),
        ("data.low_light", "01", "data.low_light must be a list of 2 numbers or null; got '01'"),
        ("data.blind", "no", "data.blind must be true or false; got 'no'"),
        ("data.blind", 0, "data.blind must be true or false; got 0"),
        ("data.source", ["photos"], "data.source must be text; got ['photos']"),
        ("model.dtype", "float16", 'model.dtype must be "float32" or "bfloat16"; got'),
        ("model.dtype", ["float32"], 'model.dtype must be "float32" or "bfloat16"; got'),
        ("run.parallel", "both", 'run.parallel must be "data" or "fsdp"; got'),
        ("seed", True, "seed must be a whole number; got True"),
        ("seed", "0" * 1000, "seed must be a whole number; got '000"),
        ("optimizer", [], "optimizer must be an object with the fields of OptimizerConfig; got []"),
        ("optimizer.steps", 0, "--steps must be at least 1; got 0"),
        ("optimizer.stepz", 5, "unknown key 'stepz'. Did you mean 'steps'?"),
    ],
)
def test_a_wrong_value_is_reported_with_key_and_accepted_values(
    key: str, value: Any, words: str, tmp_path: Path
) -> None:
    path = _written(tmp_path, key, value)
    with pytest.raises(InputError) as caught:
        load_config(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: ")
    assert words in said
    assert len(said) < len(str(path)) + 500


@pytest.mark.parametrize(
    ("key", "value", "held"),
    [
        ("data.sigma", 15, 15.0),
        ("data.low_light", [0.02, 1], (0.02, 1.0)),
        ("optimizer.clip_norm", None, None),
        ("optimizer.clip_norm", 2, 2.0),
        ("run.profile", [3, 5], (3, 5)),
    ],
)
def test_what_json_writes_another_way_is_accepted(
    key: str, value: Any, held: Any, tmp_path: Path
) -> None:
    group, name = key.split(".")
    found = getattr(getattr(load_config(_written(tmp_path, key, value)), group), name)
    assert found == held
    assert type(found) is type(held)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"[]", "the content must be an object with the fields of FitConfig; got []"),
        (b"\xff{}", "cannot be read as the configuration of a run: it is not JSON"),
        (b"[" * 100_000, "cannot be read as the configuration of a run: it is nested too deeply"),
        (
            b'{"seed": ' + b"9" * 5000 + b"}",
            "cannot be read as the configuration of a run: it is not JSON",
        ),
        (b'{"data": {"source": "' + b"x" * 1_000_000 + b'"}}', "it has more than 1,000,000 bytes"),
    ],
)
def test_what_is_no_configuration_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_config(path)
    assert words in str(caught.value)


def test_what_is_no_file_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "config.json").symlink_to("/dev/zero")
    with pytest.raises(InputError, match="it is not a regular file"):
        load_config(tmp_path / "config.json")


def test_a_field_without_a_default_must_be_there() -> None:
    @dataclasses.dataclass
    class Place:
        row: int
        column: int = 0

    assert from_tree(Place, {"row": 3}, "a.json") == Place(3)
    with pytest.raises(InputError, match=r"a\.json: row is missing"):
        from_tree(Place, {"column": 3}, "a.json")
