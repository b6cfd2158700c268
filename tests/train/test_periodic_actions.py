"""When a run validates, saves and logs."""

import pytest

from train.config import RunConfig
from train.training import actions_after

RUN = RunConfig(checkpoint_every=4, log_every=3, validate_every=6)


@pytest.mark.parametrize(
    ("done", "validates", "stopping", "validate", "save", "log"),
    [
        (1, True, False, False, False, False),
        (1, True, True, False, True, False),
        (3, True, False, False, False, True),
        (3, True, True, False, True, True),
        (4, True, False, False, True, False),
        (6, True, False, True, True, True),
        (6, False, False, False, False, True),
        (13, True, False, True, True, True),
        (13, False, False, False, True, True),
    ],
)
def test_a_run_validates_saves_and_logs_after_the_right_steps(
    done: int, validates: bool, stopping: bool, validate: bool, save: bool, log: bool
) -> None:
    actions = actions_after(done, 13, RUN, validates=validates, stopping=stopping)
    assert actions == (validate, save, log)
