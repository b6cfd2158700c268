"""The losses that a spec may name, and specs as data: ``0.84*ms_ssim + 0.16*l1``.

A name is the function's name without ``_loss``. Options are checked here without making an array,
so that a config can be read before JAX's devices are set up.
"""

import dataclasses
import inspect
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import jax

from lumloss_jax import _checks
from lumloss_jax._ciede2000 import SMALLEST_FACTOR
from lumloss_jax.color._luma import check_coefficients
from lumloss_jax.color._spaces import check_color_space
from lumloss_jax.losses import (
    _frequency,
    _gradient,
    _luminance,
    _penalties,
    _published,
    _regression,
    _structural,
    _visual_metrics,
)

Check = Callable[[str, Any], Any]


@dataclasses.dataclass(frozen=True)
class LossTerm:
    """One term of a :class:`LossSpec`: a weight, the name of a loss, and its options.

    Options are kept in the function's order, converted to their types, and dropped if they have the
    default value. So two terms that mean the same are equal.

    Args:
      weight: a finite number, 0 or more.
      name: the loss function's name without ``_loss``.
      options: pairs of an option's name and its value.

    Raises:
      ValueError: for a name, an option or a value that is not accepted.

    Example:
      >>> print(LossTerm(0.5, "luminance_l1", (("window_size", 7), ("window", "box"))))
      0.5*luminance_l1(window_size=7)
    """

    weight: float
    name: str
    options: tuple[tuple[str, Any], ...] = ()

    def __post_init__(self) -> None:
        """Brings the fields to their canonical form."""
        object.__setattr__(self, "weight", check_weight(self.weight))
        check_name(self.name)
        given = dict(self.options)
        if len(given) < len(self.options):
            raise ValueError(f"{self.name} is given an option twice in {self.options!r}.")
        for option, value in given.items():
            given[option] = check_value(self.name, option, value)
        entry = LOSSES[self.name]
        entry.check_together(given)
        defaults = entry.defaults
        kept = [
            (o, given[o])
            for o in entry.checks
            if given.get(o) is not None and given[o] != defaults[o]
        ]
        object.__setattr__(self, "options", tuple(kept))

    @property
    def label(self) -> str:
        """The term without its weight, which is its name among the terms that a loss returns."""
        if not self.options:
            return self.name
        # A loss inside another one is written without the option's name
        options = ", ".join(
            str(value) if isinstance(value, LossSpec) else f"{option}={_print(value)}"
            for option, value in self.options
        )
        return f"{self.name}({options})"

    def __str__(self) -> str:
        return self.label if self.weight == 1 else f"{_print(self.weight)}*{self.label}"


@dataclasses.dataclass(frozen=True)
class LossSpec:
    """A weighted sum of losses as data: frozen, hashable, with one canonical text, ``str(spec)``.

    ``parse_loss(str(spec)) == spec``. The order of the terms is kept, because a floating-point sum
    depends on it.

    Args:
      terms: one or more :class:`LossTerm`; the same loss with the same options may not occur twice.

    Raises:
      ValueError: for no terms, or for one that occurs twice.

    Example:
      >>> print(LossSpec((LossTerm(0.84, "ms_ssim"), LossTerm(0.16, "l1"))))
      0.84*ms_ssim + 0.16*l1
    """

    terms: tuple[LossTerm, ...]

    def __post_init__(self) -> None:
        """Checks what a term cannot check alone."""
        object.__setattr__(self, "terms", tuple(self.terms))
        if not self.terms:
            raise ValueError("a loss spec needs at least one term, such as 'luminance_l1'.")
        labels = [term.label for term in self.terms]
        for label in labels:
            if labels.count(label) > 1:
                raise ValueError(
                    f"{label} occurs twice in the loss spec: add the weights and write it once."
                )

    def __str__(self) -> str:
        return " + ".join(map(str, self.terms))


@dataclasses.dataclass(frozen=True)
class _Entry:
    """One loss: the public function, the checks of its options, and the function to call."""

    function: Callable[..., jax.Array]
    checks: Mapping[str, Check] = dataclasses.field(default_factory=dict)
    check_together: Callable[[Mapping[str, Any]], object] = lambda options: None
    with_parts: Callable[..., Any] | None = (
        None  # returns (value, parts), for a loss that has parts
    )
    # What an option of None means
    implied: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def call(self) -> Callable[..., Any]:
        return self.with_parts or self.function

    @property
    def defaults(self) -> dict[str, Any]:
        parameters = inspect.signature(self.function).parameters
        return {option: parameters[option].default for option in self.checks} | dict(self.implied)

    def takes_none(self, option: str) -> bool:
        return inspect.signature(self.function).parameters[option].default is None


def _one_of(accepted: Iterable[str]) -> Check:
    return lambda option, value: _checks.check_option(option, value, accepted)


def _number(lowest: float, *, description: str) -> Check:
    def check(option: str, value: Any) -> float:
        # An int beyond the largest float is less than infinity and still has no float, so it is
        # compared with the largest one.
        if (
            isinstance(value, bool)
            or not isinstance(value, int | float)
            or not lowest <= value <= sys.float_info.max
        ):
            raise ValueError(f"{option} must be {description}; got {value!r}.")
        return float(value)

    return check


_weight: Check = _number(0.0, description="a finite number, 0 or more")
_scale: Check = _number(
    _penalties.SMALLEST_SCALE,
    description="a finite number above 0 "
    f"({_penalties.SMALLEST_SCALE:g} or more, or its square vanishes in float32)",
)
factor: Check = _number(
    SMALLEST_FACTOR, description=f"a finite number, {SMALLEST_FACTOR:g} or more"
)
_floor: Check = _number(0.0, description="a finite number, 0 or more")


def _coefficients(option: str, value: Any) -> str | tuple[float, float, float]:
    if not isinstance(value, str | tuple):
        raise ValueError(f"{option} must be a name or three numbers, (r, g, b); got {value!r}.")
    weights = check_coefficients(value)
    return value if isinstance(value, str) else weights


def _scale_weights(option: str, value: Any) -> tuple[float, ...]:
    if not isinstance(value, tuple) or not value:
        raise ValueError(
            f"{option} must be a tuple of numbers above 0, fine to coarse, such as (0.5, 0.5); got "
            f"{value!r}."
        )
    return tuple(_scale(option, weight) for weight in value)


def _luminance_l1_with_parts(
    predictions: Any,
    targets: Any,
    *,
    luminance_weight: float = 0.5,
    color_weight: float = 0.5,
    **options: Any,
) -> tuple[jax.Array, dict[str, jax.Array]]:
    terms = _luminance.luminance_l1_terms(predictions, targets, **options)
    return luminance_weight * terms.luminance + color_weight * terms.color, terms._asdict()


def _each_option_is_used(options: Mapping[str, Any]) -> None:
    _luminance.check_sigma_is_used(options.get("window", "box"), options.get("window_sigma"))
    _penalties.check_scale_is_used(options.get("penalty", "l1"), options)


# Losses that need more than (predictions, targets) and literals, and what to do instead.
_ELSEWHERE = {
    "adversarial_discriminator": "adversarial_discriminator_loss reads scores, not images: it "
    "trains a discriminator.",
    "adversarial_generator": "adversarial_generator_loss reads scores, not images: add it to the "
    "total yourself.",
    "perceptual": "perceptual_loss needs a feature function, which a spec cannot hold: bind it "
    "with functools.partial and add it with weighted_sum.",
    "encoded": "encoded wraps a loss, which a spec cannot hold: give encoded(loss) to "
    "weighted_sum.",
    "gt_mean": "gt_mean wraps a loss, which a spec cannot hold: give gt_mean(loss) to "
    "weighted_sum.",
}

LOSSES: dict[str, _Entry] = {
    "charbonnier": _Entry(_regression.charbonnier_loss, {"epsilon": _scale}),
    "cidnet": _Entry(
        _published.cidnet_loss,
        {
            "k": factor,
            "l1_weight": _weight,
            "ssim_weight": _weight,
            "edge_weight": _weight,
            "hvi_weight": _weight,
        },
    ),
    "ciede2000": _Entry(
        _visual_metrics.ciede2000_loss,
        {
            "lightness_factor": factor,
            "chroma_factor": factor,
            "hue_factor": factor,
            "data_range": _scale,
        },
    ),
    "flip": _Entry(
        _visual_metrics.flip_loss,
        {"pixels_per_degree": _scale, "floor": _floor, "data_range": _scale},
    ),
    "frequency": _Entry(_frequency.frequency_loss, {"spectrum": _one_of(_frequency.SPECTRA)}),
    "gradient": _Entry(_gradient.gradient_loss, {"operator": _one_of(_gradient.OPERATORS)}),
    "haarpsi": _Entry(_visual_metrics.haarpsi_loss, {"data_range": _scale}),
    "huber": _Entry(_regression.huber_loss, {"delta": _scale}),
    "l1": _Entry(_regression.l1_loss),
    "laplacian": _Entry(_published.laplacian_loss),
    "luminance_l1": _Entry(
        _luminance.luminance_l1_loss,
        {
            "luminance_weight": _weight,
            "color_weight": _weight,
            "brightness": _one_of(_luminance.BRIGHTNESS),
            "coefficients": _coefficients,
            "window_size": _checks.check_odd_size,
            "window": lambda option, value: _luminance.check_window(value),
            "window_sigma": _scale,
            "penalty": _one_of(_penalties.PENALTIES),
            "charbonnier_epsilon": _scale,
            "huber_delta": _scale,
            "color_space": check_color_space,
        },
        check_together=_each_option_is_used,
        implied=_penalties.DEFAULTS,
        with_parts=_luminance_l1_with_parts,
    ),
    "ms_ssim": _Entry(
        _structural.ms_ssim_loss, {"scale_weights": _scale_weights, "data_range": _scale}
    ),
    "mse": _Entry(_regression.mse_loss),
    "nlpd": _Entry(_visual_metrics.nlpd_loss, {"data_range": _scale}),
    "psnr": _Entry(_published.psnr_loss),
    "ssim": _Entry(_structural.ssim_loss, {"data_range": _scale}),
}


def add_loss(name: str, function: Callable[..., jax.Array], **fields: Any) -> None:
    """Adds a loss that is itself made of specs, and so is defined above this module."""
    LOSSES[name] = _Entry(function, **fields)


def check_weight(weight: object) -> float:
    """A term's weight as a float."""
    return _weight("the weight of a term", weight)


def check_name(name: str) -> None:
    """Checks that a spec may name this loss."""
    if not isinstance(name, str):
        raise ValueError(f"the name of a loss must be a string; got {name!r}.")
    if name in LOSSES:
        return
    if name.removesuffix("_loss") in _ELSEWHERE:
        raise ValueError(_ELSEWHERE[name.removesuffix("_loss")])
    raise ValueError(_unknown("loss", name, LOSSES))


def check_value(name: str, option: str, value: object) -> Any:
    """One option of a loss, converted to its type."""
    entry = LOSSES[name]
    if option in ("mask", "axis_name"):
        raise ValueError(f"{option} is data: give it when the loss is called, not in the spec.")
    if option not in entry.checks:
        raise ValueError(_unknown(f"option of {name}", option, entry.checks))
    return (
        None if value is None and entry.takes_none(option) else entry.checks[option](option, value)
    )


def _unknown(kind: str, name: str, accepted: Mapping[str, object]) -> str:
    hint = _checks.did_you_mean(name, accepted, otherwise="") or _checks.did_you_mean(
        name.lower().removesuffix("_loss"), accepted, otherwise="; it is not accepted."
    )
    listed = ", ".join(accepted) or "nothing, because it has no options"
    return f"unknown {kind} {name!r}{hint}\naccepted: {listed}"


def _print(value: object) -> str:
    return repr(value).removesuffix(".0") if isinstance(value, float) else repr(value)
