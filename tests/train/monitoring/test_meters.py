import resource
import sys
import time

import jax.numpy as jnp
import pytest

from train.monitoring.meters import Meter, memory_bytes


class _Busy:
    """A result that the devices have not computed yet."""

    def is_ready(self) -> bool:
        return False


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr(time, "perf_counter", lambda: now[0])
    return now


def test_rates_are_per_second_and_waiting_counts_if_devices_idle(
    clock: list[float],
) -> None:
    meter = Meter(batch_size=10, patch_size=100)

    def batches() -> list[int]:
        for i in range(3):
            clock[0] += 1.0  # a second to wait for each batch
            yield i

    results = [_Busy(), jnp.zeros(()), jnp.zeros(())]
    for _, result in zip(meter.timed(batches()), results, strict=False):
        meter.stepped(result)
        clock[0] += 1.0
    read = meter.read()
    # 3 steps of 10 images in 6 seconds. The first wait has no step before it; during the second the
    # devices were busy.
    assert read["images_per_second"] == pytest.approx(5)
    assert read["megapixels_per_second"] == pytest.approx(0.05)
    assert read["waiting_for_data"] == pytest.approx(1 / 6)
    clock[0] += 50  # validation, not counted
    meter.restart()
    meter.stepped(results[-1])
    clock[0] += 2.0
    assert meter.read()["images_per_second"] == pytest.approx(5)
    assert meter.summary().startswith(
        "5 images/s, 0.05 megapixels/s; waited for data 12.5 % of the time; "
    )


def test_the_summary_of_several_networks_gives_rates_of_each() -> None:
    line = Meter(batch_size=10, patch_size=100, networks=3).summary()
    assert " megapixels/s for each of 3 networks; waited for data " in line


def test_memory_is_that_of_the_process_on_a_cpu() -> None:
    # No more than at its fullest; growth is no measure, since a kernel may take unused pages back
    # at any time.
    fullest = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (
        1 if sys.platform == "darwin" else 1024
    )
    assert 50e6 < memory_bytes() <= 1.1 * fullest  # the kernel counts the two at different times
