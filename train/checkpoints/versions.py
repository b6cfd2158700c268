"""Versions of the packages that a result depends on."""

from collections.abc import Sequence
from importlib import metadata

# A run repeats bit for bit only if none of these has changed.
OF_TRAINING = (
    "lumloss-jax",
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "orbax-checkpoint",
    "grain",
    "numpy",
)
# These can change the numbers in a report.
OF_REPORTS = (
    "jax",
    "jaxlib",
    "flax",
    "optax",
    "numpy",
    "scipy",
    "statsmodels",
    "optuna",
    "lumloss-jax",
)


def package_versions(*, packages: Sequence[str] = OF_TRAINING) -> dict[str, str]:
    """Returns the installed versions by package."""
    return {name: metadata.version(name) for name in packages}
