"""LOL: photographs in low light, and the same scenes in normal light."""

from train.data.builders.lol.builder import Lol

__all__ = ["Lol"]
