"""A run of an earlier version, whose state has different names, resumes with the same result."""

import json
import shutil
from pathlib import Path

import pytest

from train.__main__ import main


def test_a_run_with_old_names_in_its_state_resumes(
    golden: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = json.loads((golden / "old_run" / "expected.json").read_text())
    shutil.copytree(golden / "old_run", tmp_path / "old_run")
    monkeypatch.chdir(tmp_path / "old_run")  # the run names its photographs relative to here
    assert main(["fit", "--resume", "run"]) == 0
    logged = [json.loads(line) for line in Path("run", "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in logged] == [2, 4]
    for name, value in expected.items():
        assert logged[-1][name] == pytest.approx(value, rel=1e-3), name
