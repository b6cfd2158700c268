"""Divides the batches of a run into ranges that are cut together."""

from collections.abc import Sequence
from typing import Any


class Windows(Sequence[range]):
    """``start`` to ``stop`` in ranges of 1, 2, 4 and so on, up to ``most`` batches.

    The first ranges are short so that training starts soon.
    """

    def __init__(self, start: int, stop: int, most: int) -> None:
        """Makes ranges of batches.

        Args:
          start: number of the first batch.
          stop: number after the last batch.
          most: largest number of batches in a range.
        """
        self._start, self._stop, self._most = start, stop, most
        self._doublings = most.bit_length() - 1

    def _begin(self, number: int) -> int:
        doubled = min(number, self._doublings)
        return min(self._start + 2**doubled - 1 + (number - doubled) * self._most, self._stop)

    def __len__(self) -> int:
        count = self._stop - self._start
        rest = count - (2**self._doublings - 1)  # after the doublings
        return count.bit_length() if rest <= 0 else self._doublings + -(-rest // self._most)

    def __getitem__(self, number: Any) -> Any:
        return range(self._begin(number), self._begin(number + 1))
