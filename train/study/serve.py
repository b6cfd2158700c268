"""Runs the server of a study."""

import contextlib
import secrets
import socket
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from train.bounds import between, check_name, hint
from train.console import make_console
from train.errors import InputError
from train.study.guard import LOOPBACK
from train.study.messages import read_messages
from train.study.rules import why_no_verdict
from train.study.server import make_app
from train.study.votes import Votes

_TOKEN = 16  # random bytes: 128 bits
_MOST_AT_ONCE = 500  # connections


@dataclass(frozen=True)
class ServeConfig:
    """Show a study in the browser and record votes.

    Each vote is on disk before the next pair is shown, so the server may be stopped at any moment.
    """

    study: Annotated[Path, tyro.conf.Positional]
    """Folder of the study, created by `study create`."""
    host: str | None = None
    """Address to listen on for browsers on other machines, such as 0.0.0.0. Observers then need the
    address that is printed, which contains a secret. HTTP is not encrypted: prefer `ssh -L`.
    None: only this machine."""
    port: int = 8350
    """Port to listen on. 0: a free one."""
    allow_name: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint=hint)] = ()
    """Names under which browsers may reach the server, in addition to --host and the name of this
    machine."""
    language: str = "en"
    """Language of the pages: the name of a file in train/study/messages."""

    def __post_init__(self) -> None:
        check_name("the folder of the study", self.study)
        between("--port", self.port, 0, most=65_535)


def serve(config: ServeConfig) -> None:
    """Serves the study until it is stopped.

    Raises:
      InputError: if the study cannot be used, or the address is not free.
    """
    console = make_console(soft_wrap=True)
    say = read_messages(config.language)
    votes = Votes(config.study)
    try:
        listener = _listen(config.host or "127.0.0.1", config.port)
        port = listener.getsockname()[1]
        token = None if config.host is None else secrets.token_urlsafe(_TOKEN)
        names = _names(config)
        app = make_app(votes, say, hosts=names, token=token)
        shown = names[0] if config.host else "127.0.0.1"
        path = "/" if token is None else f"/enter/{token}"
        console.print(f"Open http://{shown}:{port}{path}", highlight=False)
        if token is not None:
            console.print(
                "Anybody with this address can take part. HTTP is not encrypted. To encrypt the "
                f"connection, use `ssh -L {port}:127.0.0.1:{port} MACHINE` and leave --host out."
            )
        console.print("Stop with Ctrl-C. Each vote is saved immediately.")
        if why := why_no_verdict(votes.photographs()):
            console.print(f"note: {why}.")
        # This is how the server is stopped.
        with contextlib.suppress(KeyboardInterrupt):
            make_server(app).run(sockets=[listener])
        console.print(f"Stopped. Next: python -m train study score {config.study}")
    finally:
        votes.close()


def make_server(app: ASGIApp) -> uvicorn.Server:
    """Makes a server of an application, which says nothing about who asks for what."""
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http=PromptProtocol,
            access_log=False,
            log_level="error",  # Warnings would be about requests that somebody garbled.
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            ws="none",
            limit_concurrency=_MOST_AT_ONCE,
            timeout_graceful_shutdown=2,
        )
    )


class PromptProtocol(H11Protocol):
    """Closes a connection that neither completes a request in a minute nor reads an answer.

    Browsers that were switched off, and clients that send or read as slowly as they can, would
    otherwise keep their places until nobody else gets one.
    """

    patience = 60.0  # seconds
    slowest = 16_000  # bytes per second; whole photographs take minutes through slow tunnels

    def connection_made(self, transport: Any) -> None:
        """Starts to wait."""
        super().connection_made(transport)
        self._answered, self._unread = False, 0
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stops waiting."""
        self._waiting.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Waits for another minute."""
        self._answered = True
        super().on_response_complete()

    def _wait(self) -> None:
        self._waiting = self.loop.call_later(self.patience, self._look)

    def _look(self) -> None:
        unread = self.transport.get_write_buffer_size()
        reads = self._unread - unread >= self.slowest * self.patience
        if not (self._answered or reads):
            self.transport.abort()
            return
        self._answered, self._unread = False, unread
        self._wait()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(
            128
        )  # A browser that opens the printed address at once must wait, not fail.
    except (OSError, UnicodeError, ValueError, TypeError) as error:
        listener.close()
        why = getattr(error, "strerror", None) or "the address is not known"
        raise InputError(
            f"The server cannot listen on {host}:{port}: {why}. Choose a different --port "
            "or --host."
        ) from None
    return listener


def _names(config: ServeConfig) -> tuple[str, ...]:
    """Names under which browsers may reach the server, the one to print first."""
    if config.host is None:
        return (*LOOPBACK, *config.allow_name)
    machine = socket.gethostname()
    everywhere = config.host in ("0.0.0.0", "::")
    given = f"[{config.host}]" if ":" in config.host else config.host
    named = config.allow_name if everywhere else (given, *config.allow_name)
    addresses: list[str] = []
    if everywhere:
        try:
            found = {str(info[4][0]) for info in socket.getaddrinfo(machine, None)}
        except OSError:  # The machine does not know its own name.
            found = set()
        addresses = sorted(f"[{each}]" if ":" in each else each for each in found)
    return (*named, machine, *addresses, *LOOPBACK)
