"""What a run does after a step besides training, whether it trains alone or with others at once."""

from typing import NamedTuple

from train.config import RunConfig

# The host stays this far ahead of the devices: enough to keep them busy, and no more batches in
# memory.
STEPS_AHEAD = 2


class Due(NamedTuple):
    """What is to be done; each of them waits for the devices, so it is now and then only."""

    validating: bool
    saving: bool
    logging: bool


def due(run: RunConfig, done: int, steps: int, *, validates: bool, stopping: bool) -> Due:
    """What is due after a step.

    After the last step everything is, and a checkpoint whenever a run ends or validates.

    Args:
      run: the flags.
      done: steps, this one among them.
      steps: of the whole run.
      validates: whether there are photographs to validate on.
      stopping: whether the run ends here, having been told to.
    """
    last = done == steps
    validating = validates and (last or done % run.validate_every == 0)
    saving = last or stopping or validating or done % run.checkpoint_every == 0
    return Due(validating, saving, last or validating or done % run.log_every == 0)
