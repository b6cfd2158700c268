"""libvips, by way of pyvips, without warnings on the console. Every module takes pyvips from here.

libvips and the decoders below it warn of whatever is unusual in a file: once for each time that the
file is opened, and once for each tile. They do not name the file, and they quote its bytes as they
are. What a person should know of a file is said by :mod:`train.data.photograph_file`, and what is
wrong with it is an exception.
"""

import os

os.environ.setdefault("VIPS_WARNING", "1")  # libvips' own switch, which it reads while it is loaded

# E402 is off here, because pyvips loads libvips, which reads the switch only then.
import pyvips  # noqa: E402

# pyvips would give all warnings to Python's logging. It decodes them as UTF-8 for that, which a
# file's bytes need not be: then a traceback would be printed.
getattr(pyvips, "_remove_log_handler", lambda: None)()

__all__ = ["pyvips"]


def last_line(error: Exception) -> str:
    """What an error of libvips comes down to."""
    if "labq" in str(error):
        return "it is in CIELAB, so convert it to grey or RGB"
    lines = [line.strip().rstrip(".") for line in str(error).splitlines() if line.strip()]
    # Libvips says no more of a header that ends early
    if lines and lines[-1].startswith("unable to call"):
        return "its header is broken"
    # Nor does it say more of what another thread stumbled over.
    lines = [line for line in lines if not line.startswith(("unable to write", "unable to fetch"))]
    if not lines:
        return "it is damaged" if str(error).strip() else type(error).__name__
    # Where libtiff reads a strip as a whole it counts the row before the first.
    return lines[-1].replace(f" at scanline {2**32 - 1}", "")
