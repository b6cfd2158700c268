"""Runs a trained network: prediction, and everything that builds on it."""
