"""The formats in which a trained network leaves this program."""
