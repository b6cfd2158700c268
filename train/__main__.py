"""The command line, ``python -m train VERB``: how a verb ends, whatever happens. The verbs are in verbs.py."""

import sys


def main(arguments: list[str]) -> int:
    """Runs a verb; gives the exit status.

    Args:
      arguments: what stands behind ``python -m train``.

    Returns:
      The verb's status; 2 for input that the user must change; 130 after Ctrl-C; 141 if nobody reads the output.
    """
    try:
        from train.console import with_output

        return with_output(lambda: _run(arguments))
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130


def _run(arguments: list[str]) -> int:
    from train.console import complain
    from train.errors import InputError

    try:
        # Imported here, because it takes seconds, in which Ctrl-C must not show a traceback.
        from train.verbs import run

        return run(arguments)
    except InputError as error:
        complain(f"error: {error}")
        return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
