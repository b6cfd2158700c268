"""Interrupts an experiment whose networks train together."""

import os
import signal

import pytest

from train.__main__ import main
from train.experiments.networks import lockstep


def interrupted_at_first_validation(command: list[str]) -> None:
    """Runs a command, which gets SIGTERM when it first validates, and must stop."""
    validate = lockstep.Validator.__call__
    signals = [signal.SIGTERM]

    def stop(self, *weights):
        if signals:
            os.kill(os.getpid(), signals.pop())
        return validate(self, *weights)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lockstep.Validator, "__call__", stop)
        with pytest.raises(SystemExit):
            main(command)
