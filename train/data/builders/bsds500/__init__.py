"""The 500 photographs of BSDS500, with CBSD68 as its test split."""

from train.data.builders.bsds500.builder import CBSD68, Bsds500

__all__ = ["Bsds500", "CBSD68"]
