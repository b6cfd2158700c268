"""Requests of any kind do not break the server."""

import json
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.train.study.test_server import begin, client_of
from train.study.rules import CHOICES
from train.study.sent import GAMUTS


@pytest.fixture
def client(votes):
    """The browser of somebody who has not begun."""
    return client_of(votes)


@pytest.fixture
def observer(votes):
    """The browser of somebody who has begun."""
    client = client_of(votes)
    begin(client)
    return client


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=6,
)
# Often all fields but one are right, so that the wrong one is used if nothing refuses it.
FIELDS = {
    "trial": JSON,
    "choice": st.sampled_from(CHOICES) | JSON,
    "zoomed": st.booleans() | JSON,
    "flickered": st.booleans() | JSON,
    "milliseconds": st.integers(0, 1000) | JSON,
    "code": JSON,
    "distance": st.just(60) | JSON,
    "gamut": st.sampled_from(GAMUTS) | JSON,
}


@settings(
    max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD"]),
    path=st.sampled_from(
        ["/", "/pair", "/pause", "/enough", "/finish", "/begin", "/resume", "/vote", "/undo"]
        + ["/enter/{}", "/files/{}", "/picture/{}", "/{}"]
    ),
    word=st.text(max_size=30),
    content=st.fixed_dictionaries(FIELDS) | st.fixed_dictionaries({}, optional=FIELDS) | JSON,
    raw=st.none() | st.binary(max_size=60),
    query=st.text(max_size=10),
    cookie=st.none()
    | st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=30),
)
def test_no_request_breaks_the_server(
    client, observer, method, path, word, content, raw, query, cookie, votes
):
    """Whatever is sent, the answer is a page or a refusal, and no vote appears.

    Without a cookie of its own, a request comes from the browser of an observer.
    """
    body = json.dumps(content).encode() if raw is None else raw
    headers: dict[str, str | bytes] = {"Content-Type": "application/json"}
    if cookie is not None:
        headers["Cookie"] = f"observer_{votes.about.id}={cookie}".encode("latin-1")
    answer = (observer if cookie is None else client).request(
        method,
        path.format(quote(word, safe="/.%")),
        content=body,
        params={"q": query},
        headers=headers,
    )
    assert answer.status_code < 500
    assert votes._file.execute("SELECT count(*) FROM votes").fetchone()[0] == 0
