"""Every metric that the application can compute: names, unit, direction and smallest photograph.

The command line reads this file before anything heavy is imported, so it does not import jax.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

# What a metric is called on the command line and in files: a name of lumloss_jax.metrics, except
# ms_gmsdc, which is ms_gmsd with its option. The last three are of lumloss_jax.models, since they
# are networks, and the two LPIPS are told apart by their network.
MetricName = Literal[
    "psnr",
    "psnr_y",
    "ssim",
    "ms_ssim",
    "ciede2000",
    "brightness_error",
    "chroma_error",
    "haarpsi",
    "flip",
    "mae",
    "mse",
    "psnr_hvs",
    "psnr_hvs_m",
    "gmsd",
    "ms_gmsd",
    "ms_gmsdc",
    "mdsi",
    "nlpd",
    "cie76",
    "s_cielab",
    "lpips_alex",
    "lpips_vgg",
    "dists",
]
Added = Literal[MetricName, "all"]  # what --metrics accepts


@dataclass(frozen=True)
class Metric:
    """How a metric is called, shown and computed."""

    label: str  # in sentences and tables
    digits: int  # decimals to show
    higher_is_better: bool = False
    unit: str = ""
    least_side: int = 1  # pixels that a photograph needs in height and width
    function: str = ""  # in lumloss_jax; "": the metric's own name
    options: Mapping[str, Any] = field(default_factory=dict)  # options of that function
    has_weights: bool = False  # whether the user must bring the weights of a network

    @property
    def arrow(self) -> str:
        """Shows which direction is better."""
        return "↑" if self.higher_is_better else "↓"

    @property
    def title(self) -> str:
        """Heading of a column: what it is called, its unit, and which direction is better."""
        words = (self.label, self.unit, self.arrow)
        return " ".join(word for word in words if word)


METRICS: dict[str, Metric] = {
    "psnr": Metric("PSNR", 2, higher_is_better=True, unit="dB"),
    "psnr_y": Metric("PSNR-Y", 2, higher_is_better=True, unit="dB"),
    "ssim": Metric("SSIM", 4, higher_is_better=True, least_side=11),
    "ms_ssim": Metric("MS-SSIM", 4, higher_is_better=True, least_side=176),
    "ciede2000": Metric("CIEDE2000", 3),
    "brightness_error": Metric("brightness error |ΔL*|", 3),
    "chroma_error": Metric("chroma error |ΔC*|", 3),
    "haarpsi": Metric("HaarPSI", 4, higher_is_better=True, least_side=16),
    "flip": Metric("FLIP", 4),
    "mae": Metric("MAE", 5),
    "mse": Metric("MSE", 6),
    "psnr_hvs": Metric("PSNR-HVS", 2, higher_is_better=True, unit="dB", least_side=8),
    "psnr_hvs_m": Metric("PSNR-HVS-M", 2, higher_is_better=True, unit="dB", least_side=8),
    "gmsd": Metric("GMSD", 4),
    "ms_gmsd": Metric("MS-GMSD", 4, least_side=17),
    "ms_gmsdc": Metric(
        "MS-GMSDc", 4, least_side=17, function="ms_gmsd", options={"chromatic": True}
    ),
    "mdsi": Metric("MDSI", 4),
    "nlpd": Metric("NLPD", 4, least_side=33),
    "cie76": Metric("CIE76", 3),
    "s_cielab": Metric("S-CIELAB", 3),
    "lpips_alex": Metric("LPIPS (AlexNet)", 4, least_side=31, function="lpips", has_weights=True),
    "lpips_vgg": Metric("LPIPS (VGG16)", 4, least_side=16, function="lpips", has_weights=True),
    # Its weights were fitted to images of this size.
    "dists": Metric("DISTS", 4, options={"downsample": True}, has_weights=True),
}

# The columns of every table of scores. --metrics adds others.
DEFAULT = (
    "psnr",
    "psnr_y",
    "ssim",
    "ciede2000",
    "brightness_error",
    "chroma_error",
    "haarpsi",
    "flip",
)
LEGEND = "↑: higher is better, ↓: lower is better."


def columns(added: Sequence[str], *, also: Sequence[str] = ()) -> tuple[str, ...]:
    """Names the columns of a table of scores.

    Args:
      added: what --metrics was given: names, or "all".
      also: names that the table needs in any case.

    Returns:
      The default metrics and these, in the order of ``METRICS``. "all" leaves out those that need
      weights, which may not be there.
    """
    asked = {*DEFAULT, *added, *also}
    if "all" in asked:
        asked |= {name for name, metric in METRICS.items() if not metric.has_weights}
    return tuple(name for name in METRICS if name in asked)


def too_small(names: Iterable[str], side: int) -> tuple[str, ...]:
    """The metrics that cannot score a photograph whose shorter side is ``side``."""
    return tuple(name for name in names if side < METRICS[name].least_side)
