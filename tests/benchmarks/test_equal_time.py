from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_the_time_beside_the_updates_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import equal_time

    # 30 updates more take 15 s more, so 600 s are 1200 updates
    assert equal_time.updates_within(600, short=25, long=40) == 1200
