"""Running a trained network: prediction, and all that is built on it."""
