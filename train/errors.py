"""The one exception that is the user's to mend."""


class InputError(Exception):
    """What the user gave cannot be used; the message says what was got, what is taken, and the mend.

    ``python -m train`` prints it without a traceback and exits with status 2. Anything else that is raised is a defect
    of the program and keeps its traceback.
    """
