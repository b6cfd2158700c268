"""Which photographs are too small for which metric, in words, before anything is scored."""

from collections.abc import Iterable, Sequence

from train.data.sources import Source, smaller_than
from train.data.splits import Splits, named
from train.errors import InputError, list_some
from train.inference.scoring.registry import METRICS


def check_large_enough(flag: str, name: str, splits: Splits, *, of: Sequence[str]) -> None:
    """Refuses, before anything is trained, a metric that decides but cannot score a photograph.

    Args:
      flag: the option that names the metric, for the error message.
      name: the metric.
      splits: all photographs.
      of: names of the splits that are scored by it.

    Raises:
      InputError: if any of these photographs is too small for it.
    """
    metric = METRICS[name]
    for split, source in named(splits):
        if split in of and (small := smaller_than(source, metric.least_side)):
            raise InputError(
                f"{flag} {name}: {metric.label} needs {metric.least_side} pixels on each side, but "
                f"{len(small)} of {len(source.names)} photographs of {split} are smaller: "
                f"{list_some(small)}. Leave them out, or choose a different {flag}."
            )


def size_notes(names: Iterable[str], source: Source) -> list[str]:
    """Makes a sentence for each metric that some of the photographs are too small for."""
    notes = []
    for name in names:
        metric = METRICS[name]
        if small := smaller_than(source, metric.least_side):
            others = ", and the mean is over the other photographs"
            others *= len(small) < len(source.names)
            notes.append(
                f"{len(small)} of {len(source.names)} photographs are too small for "
                f"{metric.label}, which needs {metric.least_side} pixels on each side. Their cells "
                f"are empty{others}."
            )
    return notes
