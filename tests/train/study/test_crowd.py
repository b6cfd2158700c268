"""Fifty observers vote at the same time: no vote is lost, and none is given to anybody else."""

import concurrent.futures
import copy
import random

from tests.train.study.test_killed_server import BEGIN, Server
from train.study.study_file import reading

OBSERVERS = 50


def observe(server: Server, seed: int) -> dict[str, str]:
    """Votes on the first pairs as a new observer; returns what was said to be saved."""
    own, chosen, given = copy.copy(server), random.Random(seed), {}
    assert own.ask("POST", "/begin", BEGIN)[0] == 200
    for _ in range(5):
        trial, choice = own.trial(), chosen.choice(["left", "none", "right"])
        assert own.vote(trial, choice)[0] == 200
        given[trial] = choice
    return given


def test_fifty_observers_at_once_lose_no_vote(make_study):
    study = make_study("--observers", str(OBSERVERS))
    server = Server(study)
    server.start()
    try:
        with concurrent.futures.ThreadPoolExecutor(OBSERVERS) as pool:
            found = list(pool.map(lambda seed: observe(server, seed), range(OBSERVERS)))
    finally:
        server.kill()
    given = {trial: choice for each in found for trial, choice in each.items()}
    assert len(given) == OBSERVERS * 5  # no two were shown the same pair
    with reading(study) as file:
        rows = file.execute("SELECT token, choice FROM votes JOIN trials USING (place, position)")
        assert sorted(map(tuple, rows)) == sorted(given.items())
        assert file.execute("SELECT count(DISTINCT place) FROM votes").fetchone()[0] == OBSERVERS
