"""What a weight matrix shows of the structure that training has found: its spectrum, and its angles to U.

    W = W_par + W_perp,   W_par = W U^T U        U (r, d) orthonormal rows, where the teacher is known

The spectrum needs no U and still speaks of it: W_par has rank r, so the best approximation of W of rank r is at least
as near (Eckart and Young, 1936),

    sigma_{r+1}(W) <= (sum_{j > r} sigma_j^2)^(1/2) <= ||W_perp||_F        for whatever U of r rows.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

GAP = 10.0  # a rank is visible where a singular value is this many times the next


@dataclass(frozen=True)
class Spectrum:
    """A weight matrix W (k, d) at one moment.

    Attributes:
        singular_values: all min(k, d) of them, falling, in units of W's entries.
        visible_rank: the number of singular values before the widest gap, s_j / s_{j+1}, if that gap is `GAP` or
            more; 0 if there is none.
        stable_rank: ||W||_F^2 / s_1^2, 0 for W = 0.
        norm: ||W||_F.
        perp_norm: ||W_perp||_F, None where no U was given.
        perp_share: ||W_perp||_F / ||W||_F, 0 for W = 0; None where no U was given.
        angles: the r principal angles between the leading r right singular vectors of W and the rows of U, rising, in
            radians; None where no U was given.
    """

    singular_values: tuple[float, ...]
    visible_rank: int
    stable_rank: float
    norm: float
    perp_norm: float | None
    perp_share: float | None
    angles: tuple[float, ...] | None

    def tail(self, rank: int) -> float:
        """(sum of s_j^2, j > rank)^(1/2): at most ||W_perp||_F for whatever U of `rank` rows."""
        return math.sqrt(sum(value * value for value in self.singular_values[rank:]))

    def gap(self, rank: int) -> float:
        """s_rank / s_{rank + 1}; infinite where the latter is 0 or there is none."""
        values = self.singular_values
        below = values[rank] if rank < len(values) else 0.0
        return values[rank - 1] / below if below else math.inf

    def to_dict(self) -> dict[str, Any]:
        """All fields, tuples as lists."""
        record = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: list(value) if isinstance(value, tuple) else value for name, value in record.items()}


def spectrum(W: Tensor, U: Tensor | None = None) -> Spectrum:
    """Measures a weight matrix.

    Args:
        W: (k, d), any floating dtype and device.
        U: (r, d) orthonormal rows, r <= min(k, d), or None.

    Returns:
        Its `Spectrum`, computed in float64.

    Raises:
        TypeError: W or U is no floating-point tensor.
        ValueError: a shape that does not fit, rows of U that are not orthonormal, or entries that are not finite.

    Complexity: O(k d min(k, d)), by the smaller Gram matrix: singular values below 1e-8 of the largest are noise.

    >>> found = spectrum(torch.diag(torch.tensor([3.0, 2.0, 0.1])), U=torch.eye(3)[:2])
    >>> found.visible_rank, round(found.perp_norm, 6), [round(angle, 6) for angle in found.angles]
    (2, 0.1, [0.0, 0.0])
    """
    check_matrix("W", W)
    wide = W.detach().to("cpu", torch.float64)
    if U is not None:
        check_directions(U, *W.shape)
        U = U.detach().to("cpu", torch.float64)
    is_flat = wide.shape[0] <= wide.shape[1]
    rows = wide if is_flat else wide.T
    squares, vectors = torch.linalg.eigh(rows @ rows.T)  # rising
    values = squares.clamp(min=0.0).sqrt().flip(0)
    norm = float(wide.square().sum().sqrt())
    perp = None if U is None else float((wide - (wide @ U.T) @ U).square().sum().sqrt())
    angles = None
    if U is not None:
        leading = vectors.flip(1)[:, : len(U)]
        right = wide.T @ leading if is_flat else leading  # (d, r)
        angles = principal_angles(torch.linalg.qr(right)[0].T, U)
    return Spectrum(
        singular_values=tuple(values.tolist()),
        visible_rank=visible_rank(values.tolist()),
        stable_rank=norm**2 / float(values[0]) ** 2 if norm else 0.0,
        norm=norm,
        perp_norm=perp,
        perp_share=None if perp is None else (perp / norm if norm else 0.0),
        angles=angles,
    )


def visible_rank(values: list[float]) -> int:
    """Singular values before the widest gap, 0 if no gap is as wide as `GAP`.

    Args:
        values: singular values, falling.

    >>> visible_rank([2.0, 1.0, 0.05, 0.04]), visible_rank([2.0, 1.0, 0.5]), visible_rank([1.0, 0.0])
    (2, 0, 1)
    """
    # float64 rounding of the Gram matrix: below this a value is 0 for all that is known.
    floor = values[0] * math.sqrt(len(values) * torch.finfo(torch.float64).eps) if values else 0.0
    best, rank = GAP, 0
    for place, (value, below) in enumerate(itertools.pairwise(values), start=1):
        if value <= floor:
            break
        ratio = value / max(below, floor)
        if ratio >= best:
            best, rank = ratio, place
    return rank


def principal_angles(left: Tensor, right: Tensor) -> tuple[float, ...]:
    """Angles between two row spaces of the same dimension, rising, in radians.

    Args:
        left: (r, d) float64, orthonormal rows.
        right: (r, d) float64, orthonormal rows.

    Small angles come from sines, for an arc cosine near 1 loses half the digits. Source: Bjorck and Golub (1973).

    >>> (angle,) = principal_angles(torch.eye(3)[:1].double(), torch.tensor([[1.0, 1e-9, 0.0]]).double())
    >>> f"{angle:.6g}"
    '1e-09'
    """
    cosines = torch.linalg.svdvals(left @ right.T).clamp(max=1.0)  # falling, so angles rise
    sines = torch.linalg.svdvals(right - (right @ left.T) @ left).clamp(max=1.0).flip(0)
    return tuple(torch.where(cosines**2 > 0.5, torch.asin(sines), torch.acos(cosines)).tolist())


def leading_directions(W: Tensor, rank: int) -> Tensor:
    """The `rank` right singular vectors of W (k, d) of largest singular value, as rows: (rank, d), W's dtype.

    Raises:
        TypeError, ValueError: as `spectrum`; `rank` is not in [1, min(k, d)].
    """
    check_matrix("W", W)
    if not 1 <= rank <= min(W.shape):
        raise ValueError(f"`rank` must lie in [1, {min(W.shape)}] for W {tuple(W.shape)}; got {rank}.")
    rows = torch.linalg.svd(W.detach().to("cpu", torch.float64), full_matrices=False)[2]
    leading: Tensor = rows[:rank].to(W)
    return leading


def check_matrix(name: str, W: object) -> None:
    """Refuse what is no matrix of finite numbers.

    Raises:
        TypeError: no floating-point tensor.
        ValueError: not two axes, an empty one, or entries that are NaN or infinite.
    """
    if not isinstance(W, Tensor) or not W.is_floating_point():
        got = str(W.dtype) if isinstance(W, Tensor) else type(W).__name__
        raise TypeError(f"`{name}` must be a tensor of floating-point numbers; got {got}.")
    if W.ndim != 2 or not W.numel():
        raise ValueError(f"`{name}` must be a matrix with at least one entry; got shape {tuple(W.shape)}.")
    if not bool(torch.isfinite(W.detach()).all()):
        raise ValueError(f"{name} has entries that are NaN or infinite; all must be finite.")


def check_directions(U: object, k: int, d: int) -> None:
    """Refuse a U that is not (r, d) with orthonormal rows, r <= min(k, d).

    Raises:
        TypeError, ValueError: says what is wrong.
    """
    check_matrix("U", U)
    assert isinstance(U, Tensor)  # check_matrix saw to it
    if U.shape[1] != d:
        raise ValueError(f"W has {d} columns but U has {U.shape[1]}; both multiply the same x.")
    if len(U) > min(k, d):
        raise ValueError(f"`U` must have at most {min(k, d)} rows for W ({k}, {d}); got {len(U)}.")
    wide = U.detach().to("cpu", torch.float64)
    off = float((wide @ wide.T - torch.eye(len(U), dtype=torch.float64)).abs().max())
    if off > 1e-4:  # float32 rows made orthonormal in float32 are within 1e-6
        raise ValueError(f"`U` must have orthonormal rows; U U^T is off the identity by {off:.2g}.")
