"""Experiments of many training runs: comparing losses and searching settings, with statistics."""
