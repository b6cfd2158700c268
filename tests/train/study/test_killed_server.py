"""The server is killed again and again between votes: no vote is lost, and none counts twice."""

import http.client
import json
import random
import re

import pytest

from tests.train.study.forked_server import start_server
from train.study.study_file import reading

BEGIN = {"distance": 60, "width": 1400, "height": 900, "ratio": 1, "gamut": "srgb"}


class Server:
    """A server in a process of its own, and one observer."""

    def __init__(self, study):
        self.study, self.cookie = study, ""

    def start(self):
        """Starts a server on a free port."""
        self.process, self.lines, self.port = start_server(self.study)

    def kill(self):
        """Kills it, as kill -9 does."""
        self.process.kill()
        self.process.join()
        self.lines.close()
        self.process.close()

    def ask(self, method, path, content=None, *, wait=True):
        """Sends a request; returns status and text."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        headers = {"Cookie": self.cookie}
        if method == "POST":
            headers |= {
                "Origin": f"http://127.0.0.1:{self.port}",
                "Content-Type": "application/json",
            }
        connection.request(method, path, json.dumps(content) if content else None, headers)
        if not wait:
            connection.close()
            return None
        answer = connection.getresponse()
        if cookie := answer.getheader("set-cookie"):
            self.cookie = cookie.partition(";")[0]
        text = answer.read().decode()
        connection.close()
        return answer.status, text

    def trial(self):
        """The pair to vote on; None after the last one."""
        status, text = self.ask("GET", "/pair")
        return None if status == 303 else re.search(r'"trial": "([^"]+)"', text)[1]

    def vote(self, trial, choice, *, wait=True):
        """Sends a vote; returns status and text, unless it does not wait for them."""
        content = {"trial": trial, "choice": choice, "zoomed": False, "flickered": False}
        return self.ask("POST", "/vote", {**content, "milliseconds": 1}, wait=wait)


def kill_again_and_again(study, kills):
    server, chosen = Server(study), random.Random(1)
    given = {}  # what the observer was told is saved
    unsure = {}  # what was sent just before the server died
    for _ in range(kills + 1):
        server.start()
        try:
            if not server.cookie:
                assert server.ask("POST", "/begin", BEGIN)[0] == 200
            for _vote in range(2):
                trial = server.trial()
                if trial is None:
                    break
                assert trial not in given
                choice = chosen.choice(["left", "none", "right"])
                assert server.vote(trial, choice)[0] == 200
                given[trial] = choice
                unsure.pop(trial, None)  # It was not saved, and the observer has voted again.
                if chosen.random() < 0.3:
                    server.vote(trial, "left")  # a double click
            if chosen.random() < 0.5 and (trial := server.trial()) is not None:
                unsure[trial] = "right"
                server.vote(trial, "right", wait=False)
        finally:
            server.kill()
    with reading(study) as file:
        rows = file.execute("SELECT token, choice FROM votes JOIN trials USING (place, position)")
        found = list(map(tuple, rows))
    assert len(found) == len(dict(found))
    assert given.items() <= dict(found).items() <= (given | unsure).items()
    assert len(given) >= kills


@pytest.mark.parametrize("kills", [20, pytest.param(200, marks=pytest.mark.slow)])
def test_no_vote_is_lost_or_counted_twice(make_study, kills):
    kill_again_and_again(make_study("--votes-per-pair", "20" if kills > 20 else "5"), kills)
