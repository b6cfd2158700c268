"""Whether training takes more memory over time: 2,000 steps of the whole loop, with checkpoints.

    python benchmarks/memory_over_steps.py

Every 200 steps it prints the memory in use: that of the device or, on CPU, that of the process. At
the end it prints by how much the median over the last 500 steps exceeds the median over steps 500
to 1000. The first 500 steps do not count, because they fill caches and pools.
"""

import json
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

import tyro

from train import loop
from train.config import DataConfig, FitConfig, ModelConfig, OptimizerConfig, RunConfig


@dataclass(frozen=True)
class Options:
    """What to measure."""

    steps: int = 2000
    """Updates to make."""
    model: str = "dncnn(depth=3, features=8)"
    """Network: small, so that what leaks by the step stands out."""
    checkpoint_every: int = 250
    """Steps between checkpoints."""
    validate_every: int = 250
    """Steps between validations."""


def main(options: Options) -> None:
    """Trains, and reads the log."""
    with tempfile.TemporaryDirectory() as folder:
        config = FitConfig(
            data=DataConfig(patch_size=40, batch_size=16),
            model=ModelConfig(model=options.model),
            optimizer=OptimizerConfig(steps=options.steps, ema=0.999),
            run=RunConfig(
                out=str(Path(folder) / "run"),
                checkpoint_every=options.checkpoint_every,
                validate_every=options.validate_every,
                log_every=10,
            ),
        )
        lines = (loop.fit(config, report=False) / "metrics.jsonl").read_text().splitlines()
    memory = {line["step"]: line["memory_mb"] for line in map(json.loads, lines)}
    for step in range(200, options.steps + 1, 200):
        print(f"step {step:6}  {memory[step]:8.1f} MB")
    quarter = options.steps // 4
    early = statistics.median(mb for step, mb in memory.items() if quarter < step <= 2 * quarter)
    late = statistics.median(mb for step, mb in memory.items() if step > 3 * quarter)
    print(
        f"second quarter {early:.1f} MB, last quarter {late:.1f} MB: {late - early:+.1f} MB, "
        f"{late / early - 1:+.2%}"
    )


if __name__ == "__main__":
    main(tyro.cli(Options))
