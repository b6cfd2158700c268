import gc
import sys
from pathlib import Path

import pytest

from train.devices import host_memory


def resident_bytes() -> int:
    return 4096 * int(Path("/proc/self/statm").read_text().split()[1])


@pytest.mark.skipif(sys.platform != "linux", reason="only glibc can be asked")
def test_freed_memory_below_a_living_block_is_returned():
    # 60 kB is below the size at which glibc asks the system for each block.
    blocks = [bytearray(b"x" * 60_000) for _ in range(3000)]
    last = blocks.pop()  # keeps the end of the heap in use, so free() alone returns nothing
    del blocks
    gc.collect()
    before = resident_bytes()
    host_memory.return_freed()
    assert resident_bytes() < before - 100_000_000
    assert len(last) == 60_000


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_other_systems_do_nothing(platform, monkeypatch):
    monkeypatch.setattr(sys, "platform", platform)
    monkeypatch.setattr(host_memory.ctypes, "CDLL", None)  # would not be callable
    host_memory.return_freed()


def test_another_c_library_does_nothing(monkeypatch):
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(host_memory.ctypes, "CDLL", lambda name: object())
    host_memory.return_freed()
