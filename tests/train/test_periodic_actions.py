"""What is due after a step."""

import pytest

from train.config import RunConfig
from train.due import due

RUN = RunConfig(checkpoint_every=4, log_every=3, validate_every=6)


@pytest.mark.parametrize(
    ("done", "validates", "stopping", "validating", "saving", "logging"),
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
def test_what_is_due_after_a_step(
    done: int, validates: bool, stopping: bool, validating: bool, saving: bool, logging: bool
) -> None:
    found = due(RUN, done, 13, validates=validates, stopping=stopping)
    assert found == (validating, saving, logging)
