"""BSDS500, its 500 photographs, with CBSD68 set apart."""

from train.data.builders.bsds500.builder import CBSD68, Bsds500

__all__ = ["Bsds500", "CBSD68"]
