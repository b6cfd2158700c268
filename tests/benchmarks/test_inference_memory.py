from collections import Counter
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest

from lumloss_jax.models import create_model, variable_shapes
from train.inference.layered import LayeredPredictor
from train.inference.predict import Predictor
from train.inference.predictors import predictor_for
from train.inference.tiles.spilled import Pass
from train.inference.tiles.tiles import Grid

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"


@pytest.mark.slow
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


def test_each_pass_of_a_layered_network_sees_its_first_strips(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(BENCHMARKS)
    import inference_memory

    for owner, name in ((Predictor, "_run"), (Grid, "batches"), (LayeredPredictor, "_passes")):
        monkeypatch.setattr(owner, name, getattr(owner, name))  # put back afterwards
    passes = LayeredPredictor._passes
    seen: Counter[int] = Counter()

    def counting(self: LayeredPredictor, height: int, width: int) -> list[Pass]:
        def counted(number: int, function: Any) -> Any:
            def call(*arguments: Any) -> Any:
                seen[number] += 1
                return function(*arguments)

            return call

        found = enumerate(passes(self, height, width))
        return [one._replace(function=counted(number, one.function)) for number, one in found]

    monkeypatch.setattr(LayeredPredictor, "_passes", counting)
    inference_memory._let_pass_after(2)
    fields = {"width": 4, "encoder_blocks": (1,), "middle_blocks": 0, "decoder_blocks": (0,)}
    model = create_model("nafnet", **fields)
    variables = jax.tree.map(lambda x: np.full(x.shape, 0.1, np.float32), variable_shapes(model))
    restored = predictor_for(model, variables["params"], {}, tile=8).restore(
        np.full((50, 12, 3), 0.5, np.float32)
    )
    assert restored.shape == (50, 12, 3)
    # Intro, two passes of the block, down, up, ending
    assert seen == Counter({number: 2 for number in range(6)})
