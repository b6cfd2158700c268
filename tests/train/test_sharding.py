import jax
import numpy as np
import pytest

from train import sharding
from train.errors import InputError


@pytest.mark.parametrize(("batch", "sizes"), [(100, None), (102, "take 100 or 104"), (3, "take 4"), (5, "take 4 or 8")])
def test_a_batch_must_divide_over_the_devices(batch: int, sizes: str | None) -> None:
    mesh = sharding.make_mesh(4)
    if sizes is None:
        sharding.check_divides(batch, mesh)
    else:
        with pytest.raises(InputError, match=f"--batch-size {batch} does not divide over 4 devices: {sizes}"):
            sharding.check_divides(batch, mesh)


def test_a_batch_must_divide_into_its_parts_too() -> None:
    sharding.check_divides(16, sharding.make_mesh(4), parts=2)
    with pytest.raises(
        InputError, match=r"12 does not divide over 4 devices in 2 parts \(--accumulate\): take 8 or 16"
    ):
        sharding.check_divides(12, sharding.make_mesh(4), parts=2)


def test_a_mesh_takes_the_devices_asked_for_or_all() -> None:
    assert sharding.make_mesh().size == len(jax.devices()) == 4
    assert sharding.make_mesh(2).size == 2
    with pytest.raises(InputError, match="--devices 5: there are 4 here"):
        sharding.make_mesh(5)


def test_batches_arrive_in_order_and_divided() -> None:
    mesh = sharding.make_mesh(4)
    batches = [np.full((8, 2, 2, 3), i, np.float32) for i in range(3)]
    arrived = list(sharding.to_devices(iter(batches), mesh))
    assert [float(b[0, 0, 0, 0]) for b in arrived] == [0, 1, 2]
    assert all(b.sharding == sharding.split_by_batch(mesh) for b in arrived)
    assert list(sharding.to_devices(iter([]), mesh)) == []


def test_options_that_this_jaxlib_does_not_know_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    sharding.compiler_options.cache_clear()
    monkeypatch.setattr(sharding, "_CPU_OPTIONS", {"xla_no_such_option": "x"})
    assert sharding.compiler_options() is None
    sharding.compiler_options.cache_clear()
