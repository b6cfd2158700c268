"""Names and rules that the plan, the server and the scores share. It imports nothing heavy."""

from typing import Literal

Kind = Literal["practice", "pair", "repeat", "same", "obvious"]
Task = Literal["preference", "fidelity"]
Stop = Literal["fixed", "sequential"]
Choice = Literal["left", "none", "right"]

CHOICES: tuple[Choice, ...] = ("left", "none", "right")
LETTERS = ("a", "b", "c", "d", "e", "f")  # sets of results, and the options that name them
MOST_OBSERVERS = 200
MOST_VOTES = 20  # votes of an observer on one pair
LONGEST_QUESTION = 300  # characters
FEWEST_PHOTOGRAPHS = 2  # with one, the same photograph would appear twice in a row
MOST_PHOTOGRAPHS = 5000  # more than people vote on; the intervals need 300 MB of memory for them
FEWEST_FOR_VERDICT = 10  # photographs; fewer say too little about the next one
PRACTICE = 5  # pairs of the practice round; ITU-R BT.500 throws about five away
REST_EVERY = 50  # pairs, after which a break is suggested: about ten minutes
COUNTED: tuple[Kind, ...] = ("pair", "repeat")  # kinds whose votes decide

# Observers are excluded by these rules, if there are several. Each study keeps those that it was
# made with.
MOST_ON_ONE_SIDE = 0.9
FEWEST_FOR_SIDES = 20  # votes, without which the rule about sides says nothing


def why_no_verdict(photographs: int) -> str:
    """Why this number of photographs gives no verdict; "" if it may give one."""
    if photographs >= FEWEST_FOR_VERDICT:
        return ""
    return (
        f"{photographs} photographs are too few for a verdict, whatever the votes say. At least "
        f"{FEWEST_FOR_VERDICT} are needed"
    )
