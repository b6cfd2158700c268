"""The one exception that is the user's to mend, and what it repeats of others."""


class InputError(Exception):
    """What the user gave cannot be used; the message says what was got, what is taken, and the mend.

    ``python -m train`` prints it without a traceback and exits with status 2. Anything else that is
    raised is a defect of the program and keeps its traceback.
    """


class DivergedError(InputError):
    """A training stands still over numbers that are not finite: whoever trains many goes on with the others."""


def first_line(error: BaseException) -> str:
    """What an error says first: those of tensorstore and of XLA go on for pages."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return line.partition(" See full TensorStore details")[0].rstrip(".")[:300]
