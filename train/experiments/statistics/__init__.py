"""From scores to conclusions: tables, intervals, tests, and whether training converged."""
