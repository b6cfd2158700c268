"""The weights of a metric cannot change while an experiment is being scored."""

from pathlib import Path

import pytest

import tests.lumloss_jax.models.narrow_weights as narrow_weights
from train.errors import InputError
from train.experiments.scored_weights import keep_weights
from train.inference.scoring.metric_weights import path_of, save_weights


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    path_of("dists").parent.mkdir(parents=True)
    save_weights("dists", narrow_weights.dists(), {})
    save_weights("lpips_alex", narrow_weights.lpips("alex"), {})
    return tmp_path


def test_changed_weights_of_a_metric_are_refused(here: Path) -> None:
    keep_weights(here, ("psnr", "dists"))
    keep_weights(here, ("psnr", "dists", "lpips_alex"))
    save_weights("dists", narrow_weights.dists(), {"made": "again"})
    keep_weights(here, ("psnr", "lpips_alex"))  # the other metrics may be used as before
    with pytest.raises(InputError, match="The weights of DISTS in runs.metrics are not those that"):
        keep_weights(here, ("psnr", "dists"))
    save_weights("dists", narrow_weights.dists(), {})
    keep_weights(here, ("psnr", "dists"))


def test_metrics_without_weights_leave_no_record(here: Path) -> None:
    keep_weights(here, ("psnr", "ssim"))
    assert [path.name for path in here.iterdir()] == ["runs"]


@pytest.mark.parametrize("content", ["", "[]", '"x"', "[" * 9999])
def test_a_damaged_record_is_one_sentence(content: str, here: Path) -> None:
    (here / "metric_weights.json").write_text(content)
    with pytest.raises(InputError, match="Write to a new folder"):
        keep_weights(here, ("dists",))
