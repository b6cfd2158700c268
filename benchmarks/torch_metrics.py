"""One metric of another package, run with the Python that metric_speed.py is given.

    python benchmarks/torch_metrics.py NAME HEIGHT WIDTH ROUNDS

It imports nothing of this repository. It prints one line of JSON.

The packages, each of which gives our number within the tolerances of the tests, unless the table
says otherwise: piq, flip-evaluator, psnr-hvsm, scikit-image, plenoptic, lpips, DISTS-pytorch.
"""

import ctypes
import gc
import importlib.metadata
import json
import statistics
import sys
import time
import types
from pathlib import Path

import numpy as np

# These are signatures of detection operators, which a torchvision for another build of torch lacks.
sys.modules.setdefault(
    "torchvision._meta_registrations", types.ModuleType("torchvision._meta_registrations")
)


def images(height, width):
    """As in metric_speed.py."""
    random = np.random.RandomState(0)
    target = random.uniform(0, 1, (height, width, 3)).astype(np.float32)
    noise = random.normal(0, 0.05, target.shape).astype(np.float32)
    return np.clip(target + noise, 0, 1), target


def own_peak_megabytes():
    """The most memory that this process has had since it was asked to forget."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(status["VmHWM"].removesuffix("kB")) * 1024 / 1e6


def forget_peak():
    """As in metric_speed.py."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")
    return own_peak_megabytes()


def of_piq(p, t, function):
    """A call of a function of two tensors ``[1, 3, H, W]``."""
    import torch

    pair = [torch.from_numpy(np.moveaxis(image, -1, 0)[None].copy()) for image in (p, t)]

    def call():
        with torch.inference_mode():
            return float(function(*pair))

    return call


def of_network(p, t, network, scale):
    """A call of a network that first scales its images."""
    return of_piq(p, t, lambda a, b: network(scale(a), scale(b)))


def luma(image):
    """Luma of Rec. 601."""
    return np.ascontiguousarray(image @ np.float32([0.299, 0.587, 0.114]))


def find(name, p, t):
    """The package, and the call without arguments."""
    if name in ("psnr_hvs", "psnr_hvs_m"):
        import psnr_hvsm

        pair = [luma(image).astype(np.float64) for image in (t, p)]
        place = int(name == "psnr_hvs_m")
        return "psnr-hvsm", lambda: psnr_hvsm.psnr_hvs_hvsm(*pair)[place]
    if name in ("cie76", "ciede2000", "brightness_error", "chroma_error"):
        from skimage import color

        def distance(a, b):
            a, b = color.rgb2lab(a), color.rgb2lab(b)
            if name == "brightness_error":
                return np.abs(a[..., 0] - b[..., 0])
            if name == "chroma_error":
                return np.abs(np.hypot(a[..., 1], a[..., 2]) - np.hypot(b[..., 1], b[..., 2]))
            named = color.deltaE_ciede2000 if name == "ciede2000" else color.deltaE_cie76
            return named(a, b)

        return "scikit-image", lambda: float(distance(p, t).mean())
    if name == "flip":
        import flip_evaluator

        return "flip-evaluator", lambda: float(
            flip_evaluator.evaluate(t, p, "LDR", applyMagma=False)[1]
        )
    if name == "nlpd":
        import plenoptic
        import torch

        pair = [torch.from_numpy(luma(image)[None, None]) for image in (p, t)]

        def call():
            with torch.inference_mode():
                return float(plenoptic.metric.nlpd(*pair))

        return "plenoptic", call
    if name.startswith("lpips"):
        import lpips

        net = name.removeprefix("lpips_")
        network = lpips.LPIPS(net=net, pretrained=False, pnet_rand=True, verbose=False).eval()
        return "lpips", of_network(p, t, network, lambda image: 2 * image - 1)
    if name == "dists":
        import torchvision
        from DISTS_pytorch import DISTS_pt

        published = torchvision.models.vgg16
        torchvision.models.vgg16 = lambda **_: published(weights=None)
        network = DISTS_pt.DISTS(load_weights=False).eval()
        return "DISTS-pytorch", of_network(p, t, network, lambda image: image)

    import piq
    from torch.nn import functional

    calls = {
        "mae": ("torch", functional.l1_loss),
        "mse": ("torch", functional.mse_loss),
        "psnr": ("piq", piq.psnr),
        "psnr_y": ("piq", lambda a, b: piq.psnr(a, b, convert_to_greyscale=True)),
        "ssim": ("piq", lambda a, b: piq.ssim(a, b, downsample=False)),
        "ms_ssim": ("piq", piq.multi_scale_ssim),
        "haarpsi": ("piq", piq.haarpsi),
        "gmsd": ("piq", piq.gmsd),
        "ms_gmsd": ("piq", piq.multi_scale_gmsd),
        "ms_gmsdc": ("piq", lambda a, b: piq.multi_scale_gmsd(a, b, chromatic=True)),
        "mdsi": ("piq", piq.mdsi),
    }
    if name not in calls:
        return "", None
    package, function = calls[name]
    return package, of_piq(p, t, function)


def main():
    """Prints the time and the memory of the metric."""
    name, (height, width, rounds) = sys.argv[1], map(int, sys.argv[2:])
    package, call = find(name, *images(height, width))
    found = {"package": package}
    if call is not None:
        for _ in range(2):
            value = call()
        before = forget_peak()
        seconds = []
        for _ in range(rounds):
            start = time.perf_counter()
            call()
            seconds.append(time.perf_counter() - start)
        found["mb"] = own_peak_megabytes() - before
        found["then"], found["value"] = statistics.median(seconds), float(value)
        found["package"] = f"{package} {importlib.metadata.version(package)}"
    print(json.dumps(found))


if __name__ == "__main__":
    main()
