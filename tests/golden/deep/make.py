"""Makes deep.json and deep.npz with the published packages, and nothing of this library.

    python -m tests.golden.deep.make

It needs torch, torchvision, lpips and DISTS-pytorch, whose versions it writes down. The networks
are the packages' own. Their convolutions are replaced by ones an eighth as wide, with the random
weights of tests/lumloss_jax/models/narrow_weights.py.
"""

import importlib
import importlib.metadata
import json
import sys
import types
from pathlib import Path

import numpy as np

import tests.lumloss_jax.models.narrow_weights as narrow_weights


def load_packages():
    """The packages, which are not there when the tests of this project run.

    The first module holds signatures of detection operators, which a torchvision for another build
    of torch lacks. Nothing here uses them.
    """
    absent = "torchvision._meta_registrations"
    sys.modules.setdefault(absent, types.ModuleType(absent))
    names = ("lpips", "torch", "torchvision", "DISTS_pytorch.DISTS_pt")
    return [importlib.import_module(name) for name in names]


lpips, torch, torchvision, DISTS_pt = load_packages()
HERE = Path(__file__).parent
PAIRS = (
    "black_32x40_identical",
    "black_32x40_against_noise6",
    "flat_40x49_shift9",
    "primaries_40x48",
    "grey_97x112_blur_noise8",
)
# A corner of a photograph. In flat images all values under a max pooling are equal, and packages
# differ in which of them gets the gradient.
CUT_FROM, HEIGHT, WIDTH = "chelsea_113x97_blur1.2", 40, 48
GRADIENTS_OF = f"{CUT_FROM}_cut_to_{HEIGHT}x{WIDTH}"


def narrowed(features):
    """The same layers with an eighth of the channels."""
    layers = []
    for layer in features:
        if isinstance(layer, torch.nn.Conv2d):
            given = layer.in_channels if layer.in_channels == 3 else layer.in_channels // 8
            layer = torch.nn.Conv2d(
                given,
                layer.out_channels // 8,
                layer.kernel_size,
                stride=layer.stride,
                padding=layer.padding,
            )
        layers.append(layer)
    return torch.nn.Sequential(*layers)


def with_narrow_trunks():
    """Lets both packages build narrow networks, without downloading anything."""
    for name in ("vgg16", "alexnet"):
        published = getattr(torchvision.models, name)

        def narrow(published=published, **_):
            return types.SimpleNamespace(features=narrowed(published(weights=None).features))

        setattr(torchvision.models, name, narrow)


def numbered_trunk(module, prefix, arrays):
    """The trunk's arrays under the names that a package has for its slices."""
    own = module.state_dict()
    found = {}
    for name in own:
        if name.startswith(prefix):
            number, leaf = name.split(".")[-2:]
            if leaf in ("weight", "bias"):
                found[name] = torch.from_numpy(arrays[f"features.{number}.{leaf}"])
    return found


def make_lpips(net):
    arrays = narrow_weights.lpips(net)
    model = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, version="0.1", verbose=False)
    for i, lin in enumerate(model.lins):
        head = torch.nn.Conv2d(narrow_weights.tap_widths(net)[i], 1, 1, bias=False)
        head.weight.data = torch.from_numpy(arrays[f"lin{i}.model.1.weight"])
        lin.model[-1] = head
    model.net.load_state_dict(
        {
            name.removeprefix("net."): value
            for name, value in numbered_trunk(model, "net.", arrays).items()
        }
    )
    return model.double().eval()


def make_dists():
    arrays = narrow_weights.dists()
    model = DISTS_pt.DISTS(load_weights=False)
    model.load_state_dict(numbered_trunk(model, "stage", arrays), strict=False)
    model.chns = [3, *narrow_weights.tap_widths("vgg")]
    for name in ("alpha", "beta"):
        setattr(model, name, torch.nn.Parameter(torch.from_numpy(arrays[name])))
    for i, width in zip(range(2, 6), narrow_weights.tap_widths("vgg"), strict=False):
        pooling = getattr(model, f"stage{i}")[0]
        pooling.filter = pooling.filter[:width]
    return model.double().eval()


def tensor(image):
    image = np.repeat(image, 3 // image.shape[-1], axis=-1)
    return torch.from_numpy(np.moveaxis(image, -1, 0)[None] / 255)


def main():
    with_narrow_trunks()
    networks = {f"lpips_{net}": make_lpips(net) for net in ("vgg", "alex")}
    metrics = {
        name: lambda p, t, network=network: network(2 * p - 1, 2 * t - 1)
        for name, network in networks.items()
    }
    structure = make_dists()
    metrics["dists"] = lambda p, t: structure(p, t, require_grad=True)
    expected, gradients = {}, {}
    with np.load(HERE.parent / "perceptual" / "perceptual.npz") as arrays:
        images = {pair: [arrays[f"{pair}/{side}"] for side in "ba"] for pair in PAIRS}
        images[GRADIENTS_OF] = [arrays[f"{CUT_FROM}/{side}"][:HEIGHT, :WIDTH] for side in "ba"]
        for pair, sides in images.items():
            p, t = map(tensor, sides)
            with torch.no_grad():
                expected[pair] = {name: metric(p, t).item() for name, metric in metrics.items()}
            if pair == GRADIENTS_OF:
                for name, metric in metrics.items():
                    p = p.detach().requires_grad_(True)
                    metric(p, t).sum().backward()
                    gradients[name] = np.moveaxis(p.grad[0].numpy(), 0, -1).astype(np.float32)
    packages = ("torch", "torchvision", "lpips", "DISTS-pytorch", "numpy")
    about = {
        "calls": {
            "lpips_vgg, lpips_alex": "lpips.LPIPS(net=NET, version='0.1').double()(2p - 1, 2t - 1)",
            "dists": "DISTS_pytorch.DISTS().double()(p, t)",
        },
        "versions": {name: importlib.metadata.version(name) for name in packages},
        "pairs": expected,
        "gradients": f"with respect to the test image of {GRADIENTS_OF}, float64 autograd",
    }
    (HERE / "deep.json").write_text(json.dumps(about, indent=1) + "\n")
    np.savez_compressed(HERE / "deep.npz", **gradients)


if __name__ == "__main__":
    main()
