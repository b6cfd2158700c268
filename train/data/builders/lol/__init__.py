"""LOL: photographs in low light and the same scenes well lit."""

from train.data.builders.lol.builder import Lol

__all__ = ["Lol"]
