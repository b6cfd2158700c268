"""The command line, ``python -m train VERB``: how a verb ends. verbs.py has the verbs."""

import errno
import sys

_NO_DEVICES = "Unable to initialize backend"
# What an operating system says of a name or a disk, and no defect of the program.
_OF_THE_SYSTEM = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
)


def main(arguments: list[str]) -> int:
    """Runs a verb; gives the exit status.

    Args:
      arguments: what stands behind ``python -m train``.

    Returns:
      The verb's status; 2 for input that the user must change; 130 after Ctrl-C; 141 if nobody
      reads the output.
    """
    try:
        from train.console import with_output

        return with_output(lambda: _run(arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    from train.console import complain, output_is_lost
    from train.errors import InputError, first_line

    try:
        # Imported here, because it takes seconds, in which Ctrl-C must not show a traceback.
        from train.verbs import run

        return run(arguments)
    except InputError as error:
        complain(f"error: {error}")
        return 2
    except RuntimeError as error:
        # JAX finds out at the first array that JAX_PLATFORMS names what is not there, or that a
        # device is taken.
        if _NO_DEVICES not in str(error):
            raise
        complain(f"error: {first_line(error)}.")
        return 2
    except OSError as error:
        if output_is_lost() or error.errno not in _OF_THE_SYSTEM:
            raise
        complain(f"error: {error.filename or 'a file'}: {error.strerror}.")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
