"""What browsers send to the server of a study, checked before it is used."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

from train.files.json_files import is_finite
from train.study.rules import CHOICES

GAMUTS = ("srgb", "p3", "rec2020")
_LONGEST_TIME = 10**9  # milliseconds


def is_plain(text: Any) -> TypeGuard[str]:
    """Whether a JSON value is a text that the data base accepts: JSON can hold half characters."""
    return isinstance(text, str) and text.isascii()


@dataclass(frozen=True)
class Conditions:
    """How an observer views, as stated and as the browser says. Nothing identifies a person."""

    distance: float  # centimetres, stated by the observer
    width: int  # width of the window, in CSS pixels
    height: int
    ratio: float  # pixels of the device for each CSS pixel
    gamut: str

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "Conditions | None":
        """Reads what a browser sent; None if it is not possible."""
        ranges = {
            "distance": (5, 1000),
            "width": (1, 10**5),
            "height": (1, 10**5),
            "ratio": (0.1, 20),
        }
        for name, (least, most) in ranges.items():
            value: Any = content.get(name)
            if not is_finite(value) or not least <= value <= most:
                return None
        if content.get("gamut") not in GAMUTS:
            return None
        return cls(
            float(content["distance"]),
            int(content["width"]),
            int(content["height"]),
            float(content["ratio"]),
            content["gamut"],
        )


@dataclass(frozen=True)
class Ballot:
    """What a browser sends when an observer votes."""

    trial: str
    choice: str
    zoomed: bool
    flickered: bool
    milliseconds: int

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> "Ballot | None":
        """Reads what a browser sent; None if it is not a vote."""
        trial, choice = content.get("trial"), content.get("choice")
        took: Any = content.get("milliseconds")
        flags = content.get("zoomed"), content.get("flickered")
        if not is_plain(trial) or choice not in CHOICES:
            return None
        if not all(isinstance(flag, bool) for flag in flags):
            return None
        if not is_finite(took):
            return None
        milliseconds = int(min(max(took, 0), _LONGEST_TIME))
        return cls(str(trial), str(choice), bool(flags[0]), bool(flags[1]), milliseconds)
