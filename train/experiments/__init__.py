"""Experiments of many trainings: losses are compared and settings searched, with statistics."""
