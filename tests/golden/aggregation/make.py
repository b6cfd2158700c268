"""Makes aggregation.json and aggregation.npz with torchjd, and nothing of this library.

    python -m tests.golden.aggregation.make

It needs torch and torchjd[full], whose versions it writes down. All numbers are in float64, with
the packages' constants against rounding set to 0 or next to it.
"""

import importlib
import importlib.metadata
import itertools
import json
from pathlib import Path
from unittest import mock

import numpy as np

torch = importlib.import_module("torch")
aggregation = importlib.import_module("torchjd.aggregation")
cvxpy = importlib.import_module("cvxpy")
qpsolvers = importlib.import_module("qpsolvers")
HERE = Path(__file__).parent
PACKAGES = ("torch", "torchjd", "quadprog", "qpsolvers", "cvxpy", "clarabel", "numpy")
SHAPES = ((3, 4), (5,))  # a kernel and a bias, which a wrong implementation would treat one by one
C = (0.3, 0.5, 0.9)


def gradients(seed, count, *, towards=0.0, scales=None):
    """Random gradients, with a share of their common part added (or removed, below 0)."""
    size = sum(int(np.prod(shape)) for shape in SHAPES)
    found = np.random.default_rng(seed).normal(size=(count, size))
    found += towards * found.mean(axis=0)
    return found if scales is None else found * np.asarray(scales)[:, None]


CASES = {
    "two_in_conflict": gradients(0, 2, towards=-0.4),
    "two_in_harmony": gradients(1, 2, towards=2.0),
    "three_in_conflict": gradients(2, 3, towards=-0.6),
    "four": gradients(3, 4, towards=0.5),
    "six_in_conflict": gradients(4, 6, towards=-0.5),
    "six_of_all_scales": gradients(5, 6, towards=-0.3, scales=[0.1, 1, 3, 0.2, 5, 10]),
    "nearly_parallel": gradients(6, 1) + 0.05 * gradients(7, 3),
}


def shortest(jacobian):
    """The shortest convex combination, from a solver of quadratic programs.

    torchjd's Frank-Wolfe iterations approach it too slowly for a comparison to many digits.
    """
    gramian = jacobian @ jacobian.T
    count = len(jacobian)
    weights = qpsolvers.solve_qp(
        gramian / np.trace(gramian),
        np.zeros(count),
        -np.eye(count),
        np.zeros(count),
        np.ones((1, count)),
        np.ones(1),
        solver="quadprog",
    )
    return weights @ jacobian


def pcgrads(jacobian):
    """The directions for all orders in which gradients may meet, with the order fixed by us."""
    count = len(jacobian)
    found = []
    for orders in itertools.product(itertools.permutations(range(count)), repeat=count):
        drawn = iter(torch.tensor(order) for order in orders)
        with mock.patch.object(torch, "randperm", lambda _, drawn=drawn: next(drawn)):
            found.append(aggregation.PCGrad()(torch.tensor(jacobian)).numpy())
    return np.unique(np.round(found, 12), axis=0)


def accurate_clarabel():
    """Tightens the solver's tolerances: by default CAGrad's direction is right to 1e-4 only."""
    solve = cvxpy.Problem.solve
    tight = dict.fromkeys(("tol_gap_abs", "tol_gap_rel", "tol_feas", "tol_ktratio"), 1e-15)

    def tightly(problem, solver):
        return solve(problem, solver, **tight)

    return mock.patch.object(cvxpy.Problem, "solve", tightly)


def main():
    """Writes both files."""
    arrays = {}
    projector = torch_projector()
    for name, jacobian in CASES.items():
        given = torch.tensor(jacobian)
        arrays[f"{name}/gradients"] = jacobian
        arrays[f"{name}/upgrad"] = aggregation.UPGrad(projector=projector)(given).numpy()
        arrays[f"{name}/shortest"] = shortest(jacobian)
        arrays[f"{name}/mgda"] = aggregation.MGDA(epsilon=1e-9, max_iters=3000)(given).numpy()
        for c in C:
            with accurate_clarabel():
                direction = aggregation.CAGrad(c=c, norm_eps=0.0)(given).numpy()
            arrays[f"{name}/cagrad_{c}"] = direction
        if len(jacobian) <= 3:
            arrays[f"{name}/pcgrad"] = pcgrads(jacobian)
    np.savez_compressed(HERE / "aggregation.npz", **arrays)
    described = {
        "versions": {name: importlib.metadata.version(name) for name in PACKAGES},
        "calls": {
            "upgrad": "torchjd.aggregation.UPGrad(projector=QuadprogProjector(norm_eps=0, "
            "reg_eps=1e-14))",
            "mgda": "torchjd.aggregation.MGDA(epsilon=1e-9, max_iters=3000)",
            "shortest": "qpsolvers.solve_qp(solver='quadprog') over convex combinations",
            "cagrad_C": "torchjd.aggregation.CAGrad(c=C, norm_eps=0), with 1e-15 as "
            "Clarabel's tolerances",
            "pcgrad": "torchjd.aggregation.PCGrad() for all orders of the gradients",
        },
        "shapes": SHAPES,
    }
    (HERE / "aggregation.json").write_text(json.dumps(described, indent=2) + "\n")


def torch_projector():
    """The default projector of torchjd, without its constants against rounding."""
    module = importlib.import_module("torchjd.linalg")
    return module.QuadprogProjector(norm_eps=0.0, reg_eps=1e-14)


if __name__ == "__main__":
    main()
