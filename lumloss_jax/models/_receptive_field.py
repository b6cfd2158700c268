"""How far a network looks, which decides how a large photograph can be cut into tiles."""

from collections.abc import Sequence
from typing import NamedTuple


class ReceptiveField(NamedTuple):
    """How far around a pixel a network looks, and which sizes it processes without padding.

    It does not include attention over the whole image. Every network has it as a property,
    ``model.receptive_field``.

    Attributes:
      stride: the network pads height and width to multiples of this number.
      radius: distance in pixels, along either axis, to the farthest pixel of the input that a
        pixel of the output depends on.
      wraps: whether the pixels beyond an edge come from the opposite edge.
      reflects: whether sizes are padded by reflection; otherwise the last row and column are
        repeated.

    Example:
      >>> from lumloss_jax.models import create_model
      >>> create_model("dncnn", depth=20).receptive_field
      ReceptiveField(stride=1, radius=20, wraps=False, reflects=False)
    """

    stride: int
    radius: int
    wraps: bool = False
    reflects: bool = False

    @property
    def margin(self) -> int:
        """The radius, rounded up to a multiple of the stride."""
        return -(-self.radius // self.stride) * self.stride


def unet_receptive_field(
    radii: Sequence[int], *, wraps: bool = False, reflects: bool = False
) -> ReceptiveField:
    """The receptive field of a UNet, in which every level has half the height and width.

    A pixel of the deepest level covers 2^(levels - 1) pixels of the first, and an output pixel may
    lie at either end of them, which explains the last summand.

    Args:
      radii: for each level, from the full resolution down, how far its convolutions look in pixels
        of that level, on the way down and up together.
      wraps: see :class:`ReceptiveField`.
      reflects: see :class:`ReceptiveField`.

    Returns:
      The receptive field in pixels of the image.
    """
    stride = 2 ** (len(radii) - 1)
    radius = sum(radius * 2**level for level, radius in enumerate(radii)) + stride - 1
    return ReceptiveField(stride, radius, wraps, reflects)
