from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lumloss_jax.models import create_model, variable_shapes
from train.inference.predict import Predictor
from train.inference.predictors import predictor_for
from train.inference.tiles.tiles import Grid

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


def test_each_pass_of_equal_stages_sees_its_own_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Predictor, Any]] = []
    run = Predictor._run

    def recorded(
        self: Predictor, function: Any, *images: np.ndarray, arguments: tuple[Any, ...] = ()
    ) -> Any:
        seen.append((self, function))
        return run(self, function, *images, arguments=arguments)

    monkeypatch.syspath_prepend(BENCHMARKS)
    import inference_memory

    monkeypatch.setattr(Predictor, "_run", recorded)
    monkeypatch.setattr(Grid, "batches", Grid.batches)  # put back afterwards, as the line above is
    inference_memory._let_pass_after(2)
    model = create_model("retinexformer", features=4, levels=2, num_blocks=(0, 0, 1), stages=3)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.1, np.float32), variable_shapes(model))
    predictor_for(model, variables["params"], {}, tile=64).restore(
        np.full((150, 61, 3), 0.5, np.float32)
    )
    # In each of three stages a pass for the one block's sums, and the last
    assert len(set(seen)) == 6
    assert set(Counter(seen).values()) == {2}
