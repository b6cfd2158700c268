"""Servers that start in milliseconds: each is forked from a process that has imported everything.

That process imports neither JAX nor pytest, and has one thread, so it may be forked.
"""

import multiprocessing
import os
import re
import sys
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from train.__main__ import main

_CONTEXT = multiprocessing.get_context("forkserver")
_CONTEXT.set_forkserver_preload(["train.study.command", "train.study.serve", __name__])


def start_server(study: Path) -> tuple[BaseProcess, Connection, int]:
    """Starts ``study serve`` on a free port; returns the process, what it prints, and the port."""
    reader, writer = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_serve, args=(str(study), writer), daemon=True)
    process.start()
    writer.close()
    said = b""
    while (found := re.search(rb"127\.0\.0\.1:(\d+)/\n", said)) is None:
        piece = os.read(reader.fileno(), 4096)
        assert piece, f"the server has stopped: {said.decode()}"
        said += piece
    return process, reader, int(found[1])


def _serve(study: str, writer: Connection) -> None:
    sys.stdout = os.fdopen(os.dup(writer.fileno()), "w", buffering=1)
    main(["study", "serve", study, "--port=0"])
