"""The pages that observers see, and what their browsers send. It starts without jax."""

import contextlib
import secrets
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import jinja2
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from train.errors import InputError
from train.files.json_files import UnreadableError, parse_json
from train.study.guard import LARGEST_BODY, RequestGuard
from train.study.rules import REST_EVERY
from train.study.sent import Ballot, Conditions, is_plain
from train.study.votes import Votes

PAGES = Path(__file__).parent / "pages"
_FILES = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}


def make_environment() -> jinja2.Environment:
    """Templates that escape every value."""
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


class _Pages:
    """The handlers of all routes. They never answer with names, votes or what is on which side."""

    def __init__(self, votes: Votes, say: Mapping[str, str], token: str | None, secret: str):
        self._votes, self._say, self._token, self._secret = votes, say, token, secret
        self._environment = make_environment()
        # Browsers send the cookies of all servers on a machine to each of them.
        self.entry_cookie = f"entry_{votes.about.id}"
        self._observer_cookie = f"observer_{votes.about.id}"
        self._files = {
            path.name: (path.read_bytes(), _FILES[path.suffix])
            for path in PAGES.iterdir()
            if path.suffix in _FILES
        }

    def routes(self) -> list[Route]:
        pages: list[tuple[str, Callable[[Request], Any], str]] = [
            ("/", self.start, "GET"),
            ("/enter/{token}", self.enter, "GET"),
            ("/files/{name}", self.file, "GET"),
            ("/picture/{token}", self.picture, "GET"),
            ("/pair", self.pair, "GET"),
            ("/pause", self.pause, "GET"),
            ("/enough", self.enough, "GET"),
            ("/finish", self.finish, "GET"),
            ("/begin", self.begin, "POST"),
            ("/resume", self.resume, "POST"),
            ("/vote", self.vote, "POST"),
            ("/undo", self.undo, "POST"),
        ]
        return [Route(path, handler, methods=[method]) for path, handler, method in pages]

    # --- pages

    def start(self, request: Request) -> Response:
        if self._place(request) is not None:
            return RedirectResponse("/pair", 303)
        practice, count = self._votes.counts()
        about = self._votes.about
        return self._page(
            "start",
            question=about.question,
            count=count + practice,
            practice=practice,
            encrypted=self._token is None,
            resumable=True,
        )

    def enter(self, request: Request) -> Response:
        given = request.path_params["token"].encode(errors="surrogateescape")
        if self._token is None or not secrets.compare_digest(given, self._token.encode()):
            raise HTTPException(403)
        response = self._page("enter")
        response.set_cookie(self.entry_cookie, self._secret, httponly=True, samesite="strict")
        return response

    def file(self, request: Request) -> Response:
        found = self._files.get(request.path_params["name"])
        if found is None:
            raise HTTPException(404)
        return Response(found[0], media_type=found[1])

    def picture(self, request: Request) -> Response:
        place, png = self._place(request), None
        if place is not None:
            # The file may be damaged, or somebody else may have made it.
            with contextlib.suppress(InputError, sqlite3.Error):
                png = self._votes.picture(place, request.path_params["token"])
        if png is None:
            raise HTTPException(404)
        return Response(png, media_type="image/png")

    def pair(self, request: Request) -> Response:
        place = self._place(request)
        if place is None:
            return RedirectResponse("/", 303)
        shown = self._votes.shown(place)
        if shown is None:
            return RedirectResponse("/finish", 303)
        progress = self._say["practice" if shown.practice else "progress"]
        addresses = {"left": shown.left, "right": shown.right, "clean": shown.clean}
        pair = {
            "trial": shown.trial,
            "undo": shown.undo,
            "pictures": {name: token and f"/picture/{token}" for name, token in addresses.items()},
            "texts": {name: self._say[name] for name in ("not_saved", "not_loaded")},
        }
        return self._page(
            "pair",
            question=self._votes.about.question,
            task="fidelity" if shown.clean else "preference",
            progress=progress.format(number=shown.number, count=shown.count),
            pair=pair,
            undo=shown.undo,
        )

    def pause(self, request: Request) -> Response:
        place = self._place(request)
        if place is None:
            return RedirectResponse("/", 303)
        shown = self._votes.shown(place)
        return self._page(
            "pause",
            code=self._votes.code_of(place),
            first=bool(shown and shown.practice and shown.number == 1),
            rest="rest" in request.query_params,
        )

    def finish(self, request: Request) -> Response:
        place = self._place(request)
        if place is None:
            return RedirectResponse("/", 303)
        early = self._votes.shown(place) is not None
        if early and not self._votes.suffices(place):
            return RedirectResponse("/pair", 303)
        return self._page("finish", undo=self._votes.last_trial(place), early=early)

    def enough(self, request: Request) -> Response:
        place = self._place(request)
        if place is None or not self._votes.suffices(place):
            return RedirectResponse("/pair", 303)
        return self._page("enough")

    # --- what browsers send

    async def begin(self, request: Request) -> Response:
        conditions = Conditions.parse(await _content(request))
        if conditions is None:
            return JSONResponse({"problem": "distance_wrong"}, 422)
        if await run_in_threadpool(self._place, request) is not None:  # a double click
            return JSONResponse({"next": "/pair"})
        session = await run_in_threadpool(self._votes.begin, conditions)
        if session is None:
            return JSONResponse({"problem": "full"}, 409)
        return self._with_session(session, "/pause")

    async def resume(self, request: Request) -> Response:
        code = (await _content(request)).get("code")
        session = None
        if is_plain(code):
            session = await run_in_threadpool(self._votes.resume, code)
        if session is None:
            return JSONResponse({"problem": "wrong_code"}, 403)
        return self._with_session(session, "/pair")

    async def vote(self, request: Request) -> Response:
        ballot = Ballot.parse(await _content(request))
        place = await run_in_threadpool(self._place, request)
        if place is None:
            return JSONResponse({"next": "/"}, 403)
        if ballot is None:
            return JSONResponse({"problem": "not_saved"}, 422)
        sufficed = await run_in_threadpool(self._votes.suffices, place)
        outcome = await run_in_threadpool(self._votes.vote, place, ballot)
        if outcome == "refused":
            return JSONResponse({"next": "/pair"}, 409)
        if not sufficed and await run_in_threadpool(self._votes.suffices, place):
            return JSONResponse({"next": "/enough"})  # said once, by the vote that decides
        done = await run_in_threadpool(self._votes.done, place)
        rests = outcome == "counted" and done % REST_EVERY == 0
        return JSONResponse({"next": "/pause?rest" if rests else "/pair"})

    async def undo(self, request: Request) -> Response:
        trial = (await _content(request)).get("trial")
        place = await run_in_threadpool(self._place, request)
        if place is None:
            return JSONResponse({"next": "/"}, 403)
        if is_plain(trial):
            await run_in_threadpool(self._votes.undo, place, trial)
        return JSONResponse({"next": "/pair"})

    # --- shared

    def _place(self, request: Request) -> int | None:
        return self._votes.place_of(request.cookies.get(self._observer_cookie))

    def _page(self, name: str, **values: Any) -> HTMLResponse:
        template = self._environment.get_template(f"{name}.html.jinja")
        return HTMLResponse(template.render(say=self._say, **values))

    def _with_session(self, session: str, following: str) -> Response:
        response = JSONResponse({"next": following})
        response.set_cookie(
            self._observer_cookie,
            session,
            httponly=True,
            samesite="strict",
            max_age=90 * 24 * 3600,
        )
        return response


async def _content(request: Request) -> Mapping[str, Any]:
    """The JSON object in a request. HTTPException: it is too large, or something else."""
    body = b""
    try:
        async for chunk in request.stream():
            body += chunk
            if len(body) > LARGEST_BODY:
                raise HTTPException(413)
    except ClientDisconnect:
        raise HTTPException(400) from None
    try:
        content = parse_json(body)
    except UnreadableError:
        raise HTTPException(400) from None
    if not isinstance(content, dict):
        raise HTTPException(400)
    return content


def make_app(
    votes: Votes,
    say: Mapping[str, str],
    *,
    hosts: Iterable[str],
    token: str | None = None,
) -> RequestGuard:
    """Makes the application of a study.

    Args:
      votes: the study.
      say: the texts that observers read.
      hosts: names under which browsers may reach the server.
      token: part of the address that lets a browser in. None: no address is needed.

    Returns:
      The application, behind its guard.
    """
    secret = secrets.token_urlsafe(32)
    pages = _Pages(votes, say, token, secret)
    return RequestGuard(
        Starlette(routes=pages.routes()),
        hosts=hosts,
        secret=None if token is None else secret,
        cookie=pages.entry_cookie,
    )
