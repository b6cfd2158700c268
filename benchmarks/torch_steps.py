"""Training steps in PyTorch, for comparison in step_speed.py, which starts this file.

    PYTHON_WITH_TORCH benchmarks/torch_steps.py TASK.json

It imports neither this project nor jax, because PyTorch may be installed in an environment of its
own. The networks are written as users of PyTorch write them, from the same specification as ours.
The task names a file with the weights that our side drew, one batch, and the loss and the norm of
the gradient that our side computed for it. Both must be the same here before any step is timed.
"""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch_networks
from torch import Tensor, nn
from torch.nn import functional

LUMA = (0.299, 0.587, 0.114)
Forward = Callable[[Tensor], Tensor]


class DnCNN(nn.Module):
    """Convolutions that predict the noise; images ``[N, 3, H, W]`` to the same."""

    def __init__(self, depth: int, features: int, batch_norm: bool) -> None:
        super().__init__()
        bias = not batch_norm
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, padding=1, bias=bias), nn.ReLU()]
        for _ in range(depth - 2):
            layers.append(nn.Conv2d(features, features, 3, padding=1, bias=bias))
            if batch_norm:
                layers.append(nn.BatchNorm2d(features))
            layers.append(nn.ReLU())
        layers.append(nn.Conv2d(features, 3, 3, padding=1, bias=bias))
        self.layers = nn.Sequential(*layers)

    def forward(self, images: Tensor) -> Tensor:
        """Restores images."""
        return images - self.layers(images)


class UNet(nn.Module):
    """The UNet of two convolutions per level; images ``[N, 3, H, W]`` to the same."""

    def __init__(self, features: tuple[int, ...]) -> None:
        super().__init__()
        widths = (3, *features)
        self.levels = len(features)
        for level, (before, width) in enumerate(zip(widths, features, strict=False), start=1):
            setattr(self, f"Conv{level}", _stage(before, width, width))
        for level in range(self.levels, 1, -1):
            below, width = features[level - 1], features[level - 2]
            setattr(
                self,
                f"Up{level}",
                nn.Sequential(nn.Upsample(scale_factor=2), *_stage(below, width)),
            )
            setattr(self, f"Up_conv{level}", _stage(2 * width, width, width))
        self.Conv_1x1 = nn.Conv2d(features[0], 3, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Restores images."""
        x, kept = images, []
        for level in range(1, self.levels + 1):
            x = getattr(self, f"Conv{level}")(functional.max_pool2d(x, 2) if level > 1 else x)
            kept.append(x)
        for level in range(self.levels, 1, -1):
            x = torch.cat([kept[level - 2], getattr(self, f"Up{level}")(x)], dim=1)
            x = getattr(self, f"Up_conv{level}")(x)
        return images + self.Conv_1x1(x)


def _stage(*widths: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for before, width in zip(widths, widths[1:], strict=False):
        conv = nn.Conv2d(before, width, 3, padding=1)
        layers += [conv, nn.BatchNorm2d(width), nn.ReLU()]
    return nn.Sequential(*layers)


def network(
    name: str, fields: dict[str, Any], weights: dict[str, Tensor]
) -> tuple[Forward, list[nn.Parameter]]:
    """A network with given weights, in channels-last layout, and its parameters."""
    if name == "retinexformer":
        parameters = {key: nn.Parameter(_channels_last(weight)) for key, weight in weights.items()}
        forward = torch_networks.retinexformer(parameters, tuple(fields["num_blocks"]), heads=1)
        return forward, list(parameters.values())
    if name == "unet":
        module: nn.Module = UNet(tuple(fields["features"]))
        module.load_state_dict(weights, strict=False)
    else:
        module = DnCNN(fields["depth"], fields["features"], fields.get("batch_norm", True))
        # Our names begin with the name of one of several published forms.
        module.load_state_dict(
            {f"layers.{key.split('.')[-2]}.{key.split('.')[-1]}": w for key, w in weights.items()},
            strict=False,
        )
    module = module.to(memory_format=torch.channels_last)
    return module, list(module.parameters())


def _channels_last(weight: Tensor) -> Tensor:
    layout = torch.channels_last if weight.ndim == 4 else torch.contiguous_format
    return weight.contiguous(memory_format=layout)


def luminance_l1(restored: Tensor, clean: Tensor) -> Tensor:
    """The loss with its default settings."""
    errors = restored - clean
    luma = sum(weight * errors[:, i] for i, weight in enumerate(LUMA))
    return 0.5 * luma.abs().mean() + 0.5 * errors.abs().mean()


def main(task: dict[str, Any]) -> dict[str, Any]:
    """Checks the network, then times steps.

    Returns:
      Milliseconds of each step, and what they were measured with.
    """
    torch.manual_seed(0)
    with np.load(task["file"]) as arrays:
        weights = {
            key.removeprefix("weight/"): torch.from_numpy(arrays[key])
            for key in arrays.files
            if key.startswith("weight/")
        }
        clean, noisy = (
            torch.from_numpy(arrays[key]).permute(0, 3, 1, 2) for key in ("clean", "noisy")
        )
        wanted = {key: float(arrays[key]) for key in ("loss", "gradient_norm")}
    forward, parameters = network(task["network"], task["fields"], weights)

    # --- the same network and loss as ours
    loss = luminance_l1(forward(noisy), clean)
    gradients = torch.autograd.grad(loss, parameters)
    norm = torch.sqrt(sum(gradient.square().sum() for gradient in gradients))
    seen = {"loss": loss.item(), "gradient_norm": norm.item()}
    for key, value in wanted.items():
        if not abs(seen[key] - value) <= 1e-3 * abs(value):
            raise SystemExit(f"{key} is {seen[key]:.6g} with PyTorch and {value:.6g} with ours.")

    # --- steps
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    if task["compile"]:
        forward = torch.compile(forward)

    def step() -> float:
        optimizer.zero_grad(set_to_none=True)
        degraded = clean + task["sigma"] * torch.randn_like(clean)
        loss = luminance_l1(forward(degraded), clean)
        loss.backward()
        optimizer.step()
        return loss.item()

    @torch.inference_mode()
    def restore() -> float:
        return forward(noisy)[0, 0, 0, 0].item()

    milliseconds = []
    for _ in range(task["warm_up"] + task["steps"]):
        start = time.perf_counter()
        restore() if task["forward"] else step()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return {
        "milliseconds": milliseconds[task["warm_up"] :],
        "versions": f"torch {torch.__version__}",
        "threads": torch.get_num_threads(),
    }


if __name__ == "__main__":
    with open(sys.argv[1]) as file:
        print(json.dumps(main(json.load(file))))
