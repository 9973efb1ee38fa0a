"""What the Gaussian expectation is asked: a network, a draw, and the checks of both.

A check raises TypeError or ValueError with one sentence. `entries` says whether the entries of tensors may be read:
under torch.compile and torch.func only shapes may, and the operator checks the entries when it runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from sdp_kernels import activations

LOSSES = ("none", "mse", "logistic")
PRECISIONS = ("fast", "high", "exact")
DTYPES = (torch.float32, torch.float64)


class Network(NamedTuple):
    """What a head computes; its tensors are given apart.

    Attributes:
        activation: one of `activations.NAMES`.
        loss: one of LOSSES.
        target: what `loss` compares with; +1 or -1 for "logistic", unused for "none".
        activate_input: whether the activation is applied to z as well.
        iota: sharpness of "softplus", log(1 + exp(iota x)) / iota.
    """

    activation: str
    loss: str = "none"
    target: float = 0.0
    activate_input: bool = False
    iota: float = 1.0


class Draw(NamedTuple):
    """Which draws are summed.

    Attributes:
        n: number of pairs if `antithetic`, else of samples; with `points` their number.
        seed: 0 <= seed < 2^63; one seed and one row, one draw.
        first: row of the first draw; disjoint rows are independent.
        antithetic: whether every draw stands for +xi and -xi.
        points: (n, q) float32 or float64, in place of random draws.
        weights: (n,), of the points; without them every draw weighs 1/n. Weighted points are one batch.
    """

    n: int
    seed: int
    first: int = 0
    antithetic: bool = True
    points: Tensor | None = None
    weights: Tensor | None = None


def check_shapes(L: Tensor, b: Tensor, params: Sequence[Tensor]) -> list[tuple[str, Tensor]]:
    """The tensors with the names that messages use."""
    if L.dim() != 2:
        raise ValueError(f"L must be a matrix (k, q); got shape {tuple(L.shape)}.")
    k = L.shape[0]
    if k < 1:
        raise ValueError("L must have at least one row; got 0.")
    if tuple(b.shape) != (k,):
        raise ValueError(
            f"L has {k} rows but b has shape {tuple(b.shape)}; L (k, q) and b (k,) must share k."
        )
    if len(params) < 2 or len(params) % 2:
        raise ValueError(
            f"params must be [A_1, c_1, ..., A_D, c_D, a, c], an even number; got {len(params)}."
        )
    width, names = k, [("L", L), ("b", b)]
    for i, (A, c) in enumerate(zip(params[:-2:2], params[1:-2:2], strict=True), 1):
        if A.dim() != 2 or A.shape[1] != width or A.shape[0] < 1:
            raise ValueError(f"A_{i} must have shape (h_{i}, {width}); got {tuple(A.shape)}.")
        width = A.shape[0]
        if tuple(c.shape) != (width,):
            raise ValueError(f"A_{i} has {width} rows but c_{i} has shape {tuple(c.shape)}.")
        names += [(f"A_{i}", A), (f"c_{i}", c)]
    a, c = params[-2:]
    if tuple(a.shape) != (width,):
        raise ValueError(f"a must have shape ({width},), the width of the last layer; got {tuple(a.shape)}.")
    if tuple(c.shape) != ():
        raise ValueError(f"c must be a scalar, of shape (); got {tuple(c.shape)}.")
    return [*names, ("a", a), ("c", c)]


def check_tensors(L: Tensor, named: Sequence[tuple[str, Tensor]], entries: bool) -> None:
    if L.dtype not in DTYPES:
        raise TypeError(f"L must be float32 or float64; got {L.dtype}.")
    for name, tensor in named:
        if tensor.dtype != L.dtype:
            raise TypeError(f"{name} is {tensor.dtype} but L is {L.dtype}; all tensors must share a dtype.")
        if tensor.device != L.device:
            raise ValueError(f"{name} is on {tensor.device} but L is on {L.device}.")
    # One look at all of them: a look at each costs as much as the kernel itself on a small head.
    if entries and not _is_finite(torch.cat([tensor.detach().reshape(-1) for _, tensor in named])):
        name = next(name for name, tensor in named if not _is_finite(tensor))
        raise ValueError(f"{name} has entries that are not finite.")


def _is_finite(tensor: Tensor) -> bool:
    return bool(torch.isfinite(tensor.detach()).all())


def check_network(network: Network) -> None:
    if network.activation not in activations.NAMES:
        raise ValueError(
            f"activation must be one of {', '.join(activations.NAMES)}; got {network.activation!r}."
        )
    if network.loss not in LOSSES:
        raise ValueError(f"loss must be one of {', '.join(LOSSES)}; got {network.loss!r}.")
    if not abs(network.target) < float("inf"):
        raise ValueError(f"target must be finite; got {network.target}.")
    if network.loss == "logistic" and network.target not in (-1.0, 1.0):
        raise ValueError(f"target must be +1 or -1 for the logistic loss; got {network.target}.")
    if not 0.0 < network.iota < float("inf"):
        raise ValueError(f"iota must be positive and finite; got {network.iota}.")


def check_draw(L: Tensor, draw: Draw, entries: bool) -> None:
    for name, number in (("n", draw.n), ("seed", draw.seed), ("first", draw.first)):
        if isinstance(
            number, bool | float
        ):  # not asked for its integer, which would specialise a compiled graph
            raise TypeError(f"{name} must be an integer; got {number!r}.")
    if draw.n < 1:
        raise ValueError(f"n must be at least 1; got {draw.n}.")
    if not 0 <= draw.seed < 2**63:
        raise ValueError(f"seed must lie in [0, 2^63); got {draw.seed}.")
    if draw.first < 0:
        raise ValueError(f"first must be at least 0; got {draw.first}.")
    if draw.points is None:
        if draw.weights is not None:
            raise ValueError("weights need points; got weights alone.")
        return
    for name, tensor, shape in (
        ("points", draw.points, (draw.n, L.shape[1])),
        ("weights", draw.weights, (draw.n,)),
    ):
        if tensor is None:
            continue
        if tuple(tensor.shape) != shape:
            raise ValueError(f"{name} must have shape {shape}, from n and L; got {tuple(tensor.shape)}.")
        if tensor.dtype not in DTYPES:
            raise TypeError(f"{name} must be float32 or float64; got {tensor.dtype}.")
        if tensor.device != L.device:
            raise ValueError(f"{name} is on {tensor.device} but L is on {L.device}.")
        if entries and not _is_finite(tensor):
            raise ValueError(f"{name} has entries that are not finite.")


def check_directions(L: Tensor, directions: Tensor, n_columns: int) -> None:
    if directions.dim() != 2 or directions.shape[1] != n_columns:
        raise ValueError(f"directions must have shape (m, {n_columns}); got {tuple(directions.shape)}.")
    if directions.dtype != L.dtype:
        raise TypeError(f"directions is {directions.dtype} but L is {L.dtype}.")
    if directions.device != L.device:
        raise ValueError(f"directions is on {directions.device} but L is on {L.device}.")
    if not _is_finite(directions):
        raise ValueError("directions has entries that are not finite.")


def check_precision(precision: str) -> None:
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
