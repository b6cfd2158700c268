"""What the application's tests share: a tiny network, and a command line that is quick."""

import flax.linen as nn
import pytest

from lumloss_jax.models import create_model
from train.data import index

TINY = (
    "--model=dncnn(depth=2, features=4, batch_norm=False)",
    "--patch-size=8",
    "--batch-size=8",
    "--warmup-steps=2",
    "--log-every=2",
)


@pytest.fixture(scope="session")
def tiny_model() -> nn.Module:
    return create_model("dncnn", depth=3, features=4, batch_norm=False)


@pytest.fixture(scope="session")
def tiny_flags() -> tuple[str, ...]:
    """Flags of ``fit`` under which a run takes a second or two; evaluation is on whatever --test-data names."""
    return TINY


@pytest.fixture(scope="session", autouse=True)
def separate_index(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What tests decode is not taken down in the checkout's own index of photographs."""
    index.PATH = tmp_path_factory.mktemp("index") / "photographs.sqlite"
