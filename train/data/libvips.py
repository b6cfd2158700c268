"""Imports pyvips without its warnings on the console. Every module imports pyvips from here.

libvips and its decoders warn about everything that is unusual in a file, whenever the file is
opened, and again for each tile. The warnings do not name the file, and they quote its raw bytes.
:mod:`train.data.photograph_file` says what a person should know about a file, and a file that
cannot be read raises an exception.
"""

import pyvips

from train.errors import InputError

# pyvips would pass all warnings to Python's logging. For that it decodes them as UTF-8, and it
# prints a traceback if they quote bytes that are not UTF-8.
getattr(pyvips, "_remove_log_handler", lambda: None)()

# libvips keeps the last hundred operations in case that they are needed again, and with them their
# open files. The system frees the space of a deleted file only when it is closed, so a disk would
# fill up with the temporary files of photographs that are already finished.
pyvips.cache_set_max(0)

__all__ = ["last_line", "pyvips", "unreadable"]


def unreadable(name: object, error: Exception | str) -> InputError:
    """The error about a file whose pixels a decoder cannot decode.

    What decoders do not support is refused before, by what the header says. Therefore the file is
    damaged.

    Args:
      name: the file's name.
      error: the decoder's error, or its words.
    """
    words = error if isinstance(error, str) else last_line(error)
    return InputError(
        f"{name} cannot be read as a photograph: {words}. It is damaged or incomplete. Get it "
        "again from its source."
    )


def last_line(error: Exception) -> str:
    """The most informative line of an error of libvips."""
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    # libvips says nothing more about a header that ends early.
    if lines and lines[-1].startswith("unable to call"):
        return "its header is broken"
    # These lines only repeat that another thread has failed.
    lines = [line for line in lines if not line.startswith(("unable to write", "unable to fetch"))]
    if not lines:
        return "it is damaged" if str(error).strip() else type(error).__name__
    # If libtiff reads a strip as a whole, it names the row before the first, which is -1.
    return lines[-1].replace(f" at scanline {2**32 - 1}", "")
