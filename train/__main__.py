"""The command line, ``python -m train VERB``, and how it ends. The verbs are in verbs.py."""

import errno
import os
import sys

_NO_DEVICES = "Unable to initialize backend"
# Errors of an operating system about a name or a disk, which are not defects of the program.
_OF_THE_SYSTEM = (
    errno.ENAMETOOLONG,
    errno.ELOOP,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EISDIR,
    errno.ENOTDIR,
    errno.EEXIST,  # a folder that must be made where there is a file
    errno.ENOTEMPTY,
    errno.EBUSY,
    errno.EMFILE,
    errno.ENFILE,
    errno.ENXIO,  # a socket or a pipe instead of a file
    errno.ESTALE,
    errno.ETIMEDOUT,
)


def main(arguments: list[str]) -> int:
    """Runs a verb and returns the exit status.

    Args:
      arguments: the words after ``python -m train``.

    Returns:
      The status of the verb, 2 for input that the user must change, 130 after Ctrl-C, or 141 if
      nobody reads the output. After SIGTERM, a run that has saved raises SystemExit with 143.
    """
    try:
        from train.devices.signals import interruptible

        # A program that calls this function decides itself what Ctrl-C does to it.
        with interruptible(ours=__name__ == "__main__"):
            from train.console import with_output

            return with_output(lambda: _run(arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    from train.console import complain, output_is_lost
    from train.errors import InputError, first_line

    try:
        # JAX's library for TPUs would abort the program without a word about the reason.
        os.getcwd()
    except OSError:
        complain("error: The working directory was deleted. Change to another folder.")
        return 2
    try:
        if arguments[:1] == ["study"]:  # Its server starts at once, without jax.
            from train.study.command import study

            return study(arguments[1:])
        # This import takes seconds. It is here so that Ctrl-C shows no traceback meanwhile.
        from train.verbs import run

        return run(arguments)
    except InputError as error:
        complain(f"error: {error}")
        return 2
    except RuntimeError as error:
        # Only at the first array does JAX notice that JAX_PLATFORMS names a platform that is
        # missing, or that a device is in use.
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
