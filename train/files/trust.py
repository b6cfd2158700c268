"""Says whether a folder is only written to by people who could change this program anyway.

JAX runs the compiled programs that it finds in its cache, and the index of photographs says what a
photograph contains. On a machine with several users, one of them could put such a file in a folder
that is open to all.
"""

import os
import stat
from pathlib import Path

_PROGRAM = Path(__file__).resolve().parents[1]


def why_untrusted(folder: str | os.PathLike[str]) -> str:
    """Why files in a folder may come from a stranger.

    Args:
      folder: the folder, or where it would be made.

    Returns:
      The reason, as the end of a sentence about the folder; "" if there is none. Windows has other
      permissions, which are not examined.
    """
    if not hasattr(os, "getuid"):
        return ""
    whole = Path(os.path.abspath(folder))
    try:
        # A folder that does not exist yet is made with the permissions of the user.
        program, found = _PROGRAM.stat(), whole.stat() if whole.exists() else None
        above = [Path(path).stat() for path in Path(os.path.realpath(whole)).parents]
    except OSError:
        return ""  # The code that uses the folder reports that it cannot be read.
    # In a container, the program and its folders often belong to somebody else than the user.
    if found is not None and found.st_uid not in (0, os.getuid(), program.st_uid):
        return f"belongs to a different user, with the number {found.st_uid}"
    if _is_open(program):
        return ""  # Anybody who can write there can change the program itself.
    if found is not None and _is_open(found):
        return "can be written to by other users"
    # In a folder such as /tmp, nobody can rename what belongs to others.
    if any(_is_open(one) and not one.st_mode & stat.S_ISVTX for one in above):
        return "is in a folder that other users can write to"
    return ""


def _is_open(found: os.stat_result) -> bool:
    """Whether others may write, apart from the user's own group, which is often of one member."""
    if found.st_mode & stat.S_IWOTH:
        return True
    return bool(found.st_mode & stat.S_IWGRP) and found.st_gid not in (0, os.getgid())
