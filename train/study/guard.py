"""What every request must pass before the application sees it, and what every answer says.

- Cookies are SameSite=Strict, and a POST must name our own address as its Origin, so a page
  elsewhere cannot vote with an observer's cookie.
- Only known names are accepted as Host, so no name that somebody lets point to this machine makes
  its pages ours.
- No page elsewhere may show ours in a frame, and steal clicks.
- If a text of a study became a script in spite of being escaped, browsers would not run it.
- A body may have 64 kB.
"""

import re
import secrets
from collections.abc import Iterable

from starlette.responses import PlainTextResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

LARGEST_BODY = 64_000  # bytes
_HOST = re.compile(r"(\[[0-9a-f:.]+\]|[a-z0-9_.-]+)(?::\d{1,5})?")
LOOPBACK = ("127.0.0.1", "localhost", "[::1]")

HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self'; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class RequestGuard:
    """Wraps the application. Refused requests do not reach it."""

    def __init__(self, app: ASGIApp, *, hosts: Iterable[str], secret: str | None, cookie: str):
        """Wraps an application.

        Args:
          app: the application.
          hosts: names that a request may give as Host, without a port: somebody who tunnels has a
            different one.
          secret: value of the cookie that lets a browser in; None if everybody may enter.
          cookie: name of that cookie.
        """
        self._app, self._hosts = app, frozenset(host.lower() for host in hosts)
        self._secret, self._cookie = secret, cookie

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        if scope["type"] != "http":  # The server starts neither lifespans nor sockets.
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                own = [(name.lower().encode(), value.encode()) for name, value in HEADERS.items()]
                message = {**message, "headers": [*message["headers"], *own]}
            await send(message)

        refusal = self._refusal(scope)
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> Response | None:
        headers: dict[bytes, list[bytes]] = {}
        for name, value in scope["headers"]:
            headers.setdefault(name, []).append(value)
        hosts = headers.get(b"host", [])
        host = hosts[0].decode("latin-1").lower() if len(hosts) == 1 else ""
        match = _HOST.fullmatch(host)
        if match is None or match[1] not in self._hosts:
            return PlainTextResponse(
                "This server does not answer to this name. Start it with --allow-name NAME.", 421
            )
        if b"transfer-encoding" in headers and b"content-length" in headers:
            # A proxy in front may disagree about where this request ends and the next one begins.
            return PlainTextResponse("The request has two lengths.", 400, {"Connection": "close"})
        if scope["method"] == "POST":
            origins = [value.decode("latin-1").lower() for value in headers.get(b"origin", [])]
            if origins not in ([f"http://{host}"], [f"https://{host}"]):
                return PlainTextResponse("The request comes from a different site.", 403)
            kinds = headers.get(b"content-type", [])
            if len(kinds) != 1 or kinds[0].partition(b";")[0].strip() != b"application/json":
                return PlainTextResponse("Only JSON is accepted.", 415)
            length = headers.get(b"content-length", [b"0"])[0]
            if not length.isdigit() or int(length[:20]) > LARGEST_BODY:
                return PlainTextResponse("The request is too large.", 413)
        if self._secret is not None and not self._may_enter(scope["path"], headers):
            return PlainTextResponse("Open the address that the server printed.", 403)
        return None

    def _may_enter(self, path: str, headers: dict[bytes, list[bytes]]) -> bool:
        """Whether the browser has been let in, or is about to ask for it."""
        if path.startswith("/enter/"):
            return True
        assert self._secret is not None
        for line in headers.get(b"cookie", []):
            for part in line.split(b";"):
                name, _, value = part.strip().partition(b"=")
                if name == self._cookie.encode() and secrets.compare_digest(
                    value, self._secret.encode()
                ):
                    return True
        return False
