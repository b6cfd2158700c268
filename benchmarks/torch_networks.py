"""DnCNN and Retinexformer as functions of PyTorch tensors, for comparison in inference_speed.py.

They were written from the same specification as ours, and not copied from anywhere. The benchmark
checks that both give the same pixels before it times them.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor
from torch.nn import functional

Weights = Mapping[str, Tensor]
Forward = Callable[[Tensor], Tensor]


def dncnn(weights: Weights, depth: int) -> Forward:
    """DnCNN with batch norm folded away; images ``[N, 3, H, W]`` to the same."""
    layers = [
        (weights[f"model.{2 * i}.weight"], weights[f"model.{2 * i}.bias"]) for i in range(depth)
    ]

    def forward(images: Tensor) -> Tensor:
        x = images
        for weight, bias in layers[:-1]:
            x = functional.conv2d(x, weight, bias, padding=1).relu_()
        return images - functional.conv2d(x, *layers[-1], padding=1)

    return forward


def retinexformer(weights: Weights, num_blocks: tuple[int, ...], heads: int) -> Forward:
    """Retinexformer of one stage; images ``[N, 3, H, W]``, sides multiples of 4, to the same."""

    def conv(x: Tensor, name: str, **options: int) -> Tensor:
        weight = weights[f"{name}.weight"]
        padding = (weight.shape[-1] - 1) // 2
        return functional.conv2d(x, weight, weights.get(f"{name}.bias"), padding=padding, **options)

    def linear(x: Tensor, name: str) -> Tensor:
        return functional.conv2d(
            x, weights[f"{name}.weight"][:, :, None, None], weights.get(f"{name}.bias")
        )

    def attention(x: Tensor, guide: Tensor, name: str, count: int) -> Tensor:
        batch, width, height, columns = x.shape
        values = linear(x, f"{name}.to_v")
        queries, keys, lit = (
            one.reshape(batch, count, width // count, height * columns)
            for one in (linear(x, f"{name}.to_q"), linear(x, f"{name}.to_k"), values * guide)
        )
        cosines = functional.normalize(keys, dim=-1) @ functional.normalize(
            queries, dim=-1
        ).transpose(-1, -2)
        mixed = (cosines * weights[f"{name}.rescale"]).softmax(dim=-1) @ lit
        mixed = linear(mixed.reshape(x.shape), f"{name}.proj")
        position = functional.gelu(conv(values, f"{name}.pos_emb.0", groups=width))
        return mixed + conv(position, f"{name}.pos_emb.2", groups=width)

    def block(x: Tensor, guide: Tensor, name: str, count: int) -> Tensor:
        x = x + attention(x, guide, f"{name}.0", count)
        norm = (weights[f"{name}.1.norm.weight"], weights[f"{name}.1.norm.bias"])
        y = functional.layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2], *norm).permute(0, 3, 1, 2)
        y = functional.gelu(conv(y, f"{name}.1.fn.net.0"))
        y = functional.gelu(conv(y, f"{name}.1.fn.net.2", groups=y.shape[1]))
        return x + conv(y, f"{name}.1.fn.net.4")

    def blocks(x: Tensor, guide: Tensor, name: str, level: int) -> Tensor:
        for i in range(num_blocks[level]):
            x = block(x, guide, f"{name}.blocks.{i}", heads * 2**level)
        return x

    def forward(images: Tensor) -> Tensor:
        estimator, denoiser, levels = "body.0.estimator", "body.0.denoiser", len(num_blocks) - 1
        x = conv(torch.cat([images, images.mean(dim=1, keepdim=True)], dim=1), f"{estimator}.conv1")
        guide = conv(x, f"{estimator}.depth_conv", groups=4)
        lit = images * conv(guide, f"{estimator}.conv2") + images
        x, kept = conv(lit, f"{denoiser}.embedding"), []
        for level in range(levels):
            name = f"{denoiser}.encoder_layers.{level}"
            x = blocks(x, guide, f"{name}.0", level)
            kept.append((x, guide))
            x, guide = conv(x, f"{name}.1", stride=2), conv(guide, f"{name}.2", stride=2)
        x = blocks(x, guide, f"{denoiser}.bottleneck", levels)
        for i, level in enumerate(reversed(range(levels))):
            name = f"{denoiser}.decoder_layers.{i}"
            skip, guide = kept[level]
            x = functional.conv_transpose2d(
                x, weights[f"{name}.0.weight"], weights[f"{name}.0.bias"], stride=2
            )
            x = blocks(conv(torch.cat([x, skip], dim=1), f"{name}.1"), guide, f"{name}.2", level)
        return lit + conv(x, f"{denoiser}.mapping")

    return forward
