"""The networks of an experiment: each trains alone, or all take every step together."""
