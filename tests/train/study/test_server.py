import json
import subprocess
import sys

import pytest
from starlette.testclient import TestClient

from tests.train.study.conftest import Robots, side_of
from train.errors import InputError
from train.study.guard import HEADERS, LARGEST_BODY, LOOPBACK
from train.study.messages import languages, read_messages
from train.study.server import make_app

HOME = "http://127.0.0.1:8350"
BEGIN = {"distance": 60, "width": 1400, "height": 900, "ratio": 2, "gamut": "p3"}


def client_of(votes, *, token=None, hosts=LOOPBACK):
    app = make_app(votes, read_messages("en"), hosts=hosts, token=token)
    return TestClient(app, base_url=HOME, headers={"Origin": HOME}, follow_redirects=False)


@pytest.fixture
def client(votes):
    return client_of(votes)


def begin(client):
    assert client.post("/begin", json=BEGIN).json() == {"next": "/pause"}
    return pair_of(client)


def pair_of(client):
    page = client.get("/pair").text
    start = page.index('id="pair">') + len('id="pair">')
    return json.loads(page[start : page.index("</script>", start)])


def vote(client, pair, choice="left", **more):
    content = {
        "trial": pair["trial"],
        "choice": choice,
        "zoomed": False,
        "flickered": False,
        "milliseconds": 900.5,
    }
    return client.post("/vote", json={**content, **more})


def test_a_whole_study(client, votes):
    assert client.get("/pair").headers["location"] == "/"
    assert "Which picture do you prefer?" in client.get("/").text
    pair = begin(client)
    assert client.get("/").headers["location"] == "/pair"
    assert votes.code_of(0) in client.get("/pause").text
    seen = 0
    while True:
        for address in pair["pictures"].values():
            if address:
                assert client.get(address).content.startswith(b"\x89PNG")
        assert vote(client, pair, "none").status_code == 200
        seen += 1
        answer = client.get("/pair")
        if answer.status_code == 303:
            break
        pair = pair_of(client)
    assert answer.headers["location"] == "/finish"
    assert "Thank you" in client.get("/finish").text
    assert sum(votes.counts()) == seen
    assert vote(client, pair, "left").json() == {"next": "/pair"}
    assert votes.done(0) == seen


def test_undo_and_resume(client, votes):
    first = begin(client)
    vote(client, first)
    second = pair_of(client)
    assert second["undo"] == first["trial"]
    assert client.post("/undo", json={"trial": first["trial"]}).json() == {"next": "/pair"}
    assert pair_of(client)["trial"] == first["trial"]
    other = client_of(votes)
    assert other.post("/resume", json={"code": "wrong"}).status_code == 403
    assert other.post("/resume", json={"code": votes.code_of(0)}).json() == {"next": "/pair"}
    assert pair_of(other)["trial"] == first["trial"]
    assert client.get("/pair").headers["location"] == "/"


def test_misread_letters_of_a_code_are_understood(client, votes):
    begin(client)
    votes._file.execute("UPDATE observers SET code = 'OIBOOIBB22223333'")
    assert client.post("/resume", json={"code": "018o-o1b8 2222-3332"}).status_code == 403
    assert client.post("/resume", json={"code": "018o-o1b8 2222-3333"}).status_code == 200


def test_what_is_on_which_side_never_leaves_the_server(client, folders):
    pair = begin(client)
    pages = [client.get(path).text for path in ("/", "/pair", "/pause", "/finish")]
    said = "".join(pages) + json.dumps(pair)
    for secret in (str(folders), "study.sqlite", '"a"', '"b"', "p00", "obvious", "repeat"):
        assert secret not in said
    pictures = [client.get(address) for address in pair["pictures"].values() if address]
    assert len({len(picture.content) for picture in pictures}) == 1
    assert [dict(picture.headers).keys() for picture in pictures[:1]] == [
        dict(picture.headers).keys() for picture in pictures[1:]
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/study.sqlite",
        "/files/../study.sqlite",
        "/files/..%2fstudy.sqlite",
        "/files/%2e%2e/study.sqlite",
        "/files/base.html.jinja",
        "/picture/../../study.sqlite",
        "/picture/x",
        "/picture/%00",
        "/votes",
        "/results.html",
        "/enter/x",
        "/.git/config",
    ],
)
def test_there_is_no_way_to_files(client, path):
    begin(client)
    answer = client.get(path)
    assert answer.status_code in (403, 404)
    assert b"SQLite" not in answer.content


def test_every_answer_has_the_headers(client):
    begin(client)
    answers = [
        client.get("/"),
        client.get("/pair"),
        client.get("/files/pair.js"),
        client.get(pair_of(client)["pictures"]["left"]),
        client.get("/nowhere"),
        client.get("/", headers={"Host": "evil.example"}),
        client.post("/vote", json={}),
        client.post("/vote", content=b"{", headers={"Content-Type": "application/json"}),
        client.request("DELETE", "/pair"),
    ]
    for answer in answers:
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        assert "server" not in answer.headers


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8350", 200),
        ("localhost:9999", 200),  # through a tunnel
        ("[::1]:8350", 200),
        ("evil.example", 421),
        ("127.0.0.1.evil.example", 421),
        ("127.0.0.1:8350@evil.example", 421),
        ("", 421),
        ("localhost:8350:1", 421),
    ],
)
def test_only_known_names_are_answered(client, host, status):
    assert client.get("/", headers={"Host": host}).status_code == status


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "", "http://127.0.0.1", "http://localhost:8350"]
)
def test_posts_from_elsewhere_are_refused(votes, origin):
    client = client_of(votes)
    assert client.post("/begin", json=BEGIN, headers={"Origin": origin}).status_code == 403
    assert votes._file.execute("SELECT count(*) FROM observers").fetchone()[0] == 0


def test_a_post_without_an_origin_or_with_a_form_is_refused(votes):
    app = make_app(votes, read_messages("en"), hosts=LOOPBACK)
    client = TestClient(app, base_url=HOME)
    assert client.post("/begin", json=BEGIN).status_code == 403
    client = client_of(votes)
    assert client.post("/begin", data={"distance": "60"}).status_code == 415
    kind = {"Content-Type": "text/plain"}
    assert client.post("/begin", content=json.dumps(BEGIN), headers=kind).status_code == 415


def test_bodies_are_bounded(client):
    kind = {"Content-Type": "application/json"}
    large = b'{"trial": "' + b"a" * LARGEST_BODY + b'"}'
    assert client.post("/vote", content=large, headers=kind).status_code == 413
    # Without a length, as a stream
    assert client.post("/vote", content=iter([large]), headers=kind).status_code == 413
    deep = b"[" * 20_000 + b"]" * 20_000
    assert client.post("/vote", content=deep, headers=kind).status_code == 400


def test_cookies_are_for_the_server_alone(client):
    answer = client.post("/begin", json=BEGIN)
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie and "samesite=strict" in cookie
    again = client.post("/begin", json=BEGIN)  # a double click
    assert again.json() == {"next": "/pair"} and "set-cookie" not in again.headers


def test_with_a_token_only_invited_browsers_enter(votes):
    client = client_of(votes, token="the-token")
    for path in ("/", "/pair", "/files/pair.js", "/picture/x"):
        assert client.get(path).status_code == 403
    assert client.post("/begin", json=BEGIN).status_code == 403
    assert client.get("/enter/the-tokem").status_code == 403
    assert client.get("/enter/").status_code in (403, 404)
    # A redirect would not carry the cookie if the address was opened from a message elsewhere.
    answer = client.get("/enter/the-token")
    assert answer.status_code == 200 and 'url=/"' in answer.text
    cookie = answer.headers["set-cookie"]
    assert "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
    assert "the-token" not in cookie
    assert "not encrypted" in client.get("/").text
    begin(client)
    wrong = client_of(votes, token="the-token")
    wrong.cookies.set(cookie.partition("=")[0], "guess")
    assert wrong.get("/").status_code == 403


def test_text_of_a_study_is_escaped(make_study):
    from train.study.votes import Votes

    study = make_study("--question", "</script><script>alert(1)</script>&\"'")
    votes = Votes(study)
    client = client_of(votes)
    begin(client)
    for path in ("/", "/pair"):
        assert "<script>alert" not in client.get(path).text
    assert "&lt;/script&gt;" in client.get("/pair").text
    votes.close()


@pytest.mark.parametrize(
    "content",
    [
        {},
        {**BEGIN, "distance": "60"},
        {**BEGIN, "distance": 1e9},
        {**BEGIN, "distance": None},
        {**BEGIN, "ratio": True},
        {**BEGIN, "gamut": "cmyk"},
        {**BEGIN, "width": float("inf")},
    ],
)
def test_conditions_must_be_possible(client, votes, content):
    answer = client.post(
        "/begin", content=json.dumps(content), headers={"Content-Type": "application/json"}
    )
    assert answer.status_code == 422
    assert votes._file.execute("SELECT count(*) FROM observers").fetchone()[0] == 0


def test_there_are_no_routes_beside_these(votes):
    """A new route needs a look at what it tells."""
    app = make_app(votes, read_messages("en"), hosts=LOOPBACK)
    assert sorted(route.path for route in app._app.routes) == sorted(
        ["/", "/enter/{token}", "/files/{name}", "/picture/{token}", "/pair", "/pause", "/finish"]
        + ["/enough", "/begin", "/resume", "/vote", "/undo"]
    )


def test_enough_is_said_once(make_study):
    study = make_study("--stop", "sequential")
    robots = Robots(study)
    client = client_of(robots.votes)
    pair, said = begin(client), []
    assert client.get("/enough").headers["location"] == "/pair"
    while True:
        kind, left, *_ = robots.trials[pair["trial"]]
        choice = "none" if kind == "same" else side_of("a", left)
        following = vote(client, pair, choice).json()["next"]
        if following == "/enough":
            said.append(robots.votes.done(0))
            assert "enough" in client.get("/enough").text
            assert "Thank you" in client.get("/finish").text
        if client.get("/pair").status_code == 303:
            break
        pair = pair_of(client)
    assert len(said) == 1 and said[0] < robots.votes.done(0)
    robots.votes.close()


def test_texts_come_from_one_file():
    assert "en" in languages()
    with pytest.raises(InputError, match="no language 'xx'"):
        read_messages("xx")


def test_serving_loads_no_jax():
    program = (
        "import sys; import train.study.command, train.study.serve; "
        "print(sorted({'jax', 'numpy', 'scipy', 'pyvips', 'train.verbs'} & set(sys.modules)))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == "[]"
