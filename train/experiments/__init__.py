"""Experiments of many trainings: losses compared and settings searched, with statistics and reports."""
