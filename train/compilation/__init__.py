"""Compiles the training step for devices of other machines, and reads the compiled program."""
