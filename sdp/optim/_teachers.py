"""Teachers of structure discovery: labels h(Ux) of which only r of the d directions of x matter.

    product     h(u) = u_1 u_2 ... u_r, the hardest: no r - 1 of its directions say anything about the label
    sine        sum_i sin(omega u_i + phase_i), phases spread over a quarter turn
    polynomial  u_1 + u_1 u_2 + ... + u_1 u_2 ... u_r, a staircase: each direction opens the next
    network     a random network of one hidden layer, tanh
    none        0: labels are noise alone, and there is nothing to learn

All but `none` have variance 1 over u ~ N(0, I_r) and, but for rounding, mean 0. Classification takes the sign of h.

Source: Abbe, Adsera and Misiakiewicz, "The merged-staircase property" (COLT 2022) for polynomial and for why product
is hard.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from sdp_kernels import gaussian

TEACHERS = ("network", "sine", "polynomial", "product", "none")
TASKS = ("regression", "classification")

# Streams of a seed. Those of expectations are 101 to 103.
PURPOSE_SAMPLES, PURPOSE_HELD_OUT, PURPOSE_NOISE = 111, 112, 113
PURPOSE_DIRECTIONS, PURPOSE_TEACHER, PURPOSE_STUDENT, PURPOSE_SHUFFLE = 114, 115, 116, 117

_HIDDEN = 16  # units of the network teacher
_GAIN, _BIAS = 1.5, 0.5  # of its first layer: bent enough to have a curvature in every direction
_OMEGA, _FIRST_PHASE, _LAST_PHASE = 1.5, 0.3, 1.3
_CALIBRATION = 1 << 16  # samples that a network's mean and variance are taken from, good to half a percent


@dataclass(frozen=True)
class Teacher:
    """Labels of samples x, h(Ux) plus noise.

    Attributes:
        U: (r, d), orthonormal rows.
        score: u (n, r) -> h (n,).
        task: "regression" or "classification", where labels are the sign of h plus noise, +1 or -1.
        noise: standard deviation of what is added to h.
        name: for people.
    """

    U: Tensor
    score: Callable[[Tensor], Tensor]
    task: str
    noise: float
    name: str

    @property
    def rank(self) -> int:
        """r, the number of directions that may matter."""
        return len(self.U)

    def target(self, u: Tensor) -> Tensor:
        """Labels without noise: u (n, r) -> (n,)."""
        h: Tensor = self.score(u)
        return h if self.task == "regression" else sign(h)

    def labels(self, x: Tensor, noise: Tensor | None) -> Tensor:
        """Labels of x (n, d); `noise` (n,) of standard normals, read where the teacher has noise: (n,)."""
        h: Tensor = self.score(x @ self.U.T)
        if self.noise:
            assert noise is not None  # whoever draws for a noisy teacher draws its noise
            h = h + self.noise * noise
        return h if self.task == "regression" else sign(h)


def sign(h: Tensor) -> Tensor:
    """+1 where h >= 0, else -1: a label is never 0."""
    signs: Tensor = torch.where(h >= 0, 1.0, -1.0).to(h.dtype)
    return signs


def directions(rank: int, dim: int, seed: int) -> Tensor:
    """U (rank, dim) float32, the row space uniform among all of that dimension.

    Complexity: O(dim rank^2).
    """
    plain = gaussian.normal((rank, dim), seed=seed, purpose=PURPOSE_DIRECTIONS, dtype=torch.float64)
    columns: Tensor = torch.linalg.qr(plain.T)[0]
    return columns.T.to(torch.float32).contiguous()


def make_score(name: str, rank: int, seed: int) -> Callable[[Tensor], Tensor]:
    """The function h of a name of `TEACHERS`: u (n, rank) -> (n,).

    >>> make_score("product", 2, seed=0)(torch.tensor([[2.0, 3.0]]))
    tensor([6.])
    """
    if name == "product":
        return lambda u: u.prod(-1)
    if name == "polynomial":
        return lambda u: u.cumprod(-1).sum(-1) / math.sqrt(rank)
    if name == "sine":
        return _sine(rank)
    if name == "network":
        return _network(rank, seed)
    return lambda u: torch.zeros_like(u[..., 0])


def _sine(rank: int) -> Callable[[Tensor], Tensor]:
    phases = torch.linspace(_FIRST_PHASE, _LAST_PHASE, rank, dtype=torch.float64)
    # E sin(w u + p) = exp(-w^2/2) sin p and E sin^2 = (1 - exp(-2 w^2) cos 2p) / 2.
    means = math.exp(-(_OMEGA**2) / 2) * torch.sin(phases)
    variance = ((1 - math.exp(-2 * _OMEGA**2) * torch.cos(2 * phases)) / 2 - means**2).sum()
    mean, scale = float(means.sum()), float(variance.rsqrt())
    return lambda u: (torch.sin(_OMEGA * u + phases.to(u)).sum(-1) - mean) * scale


def _network(rank: int, seed: int) -> Callable[[Tensor], Tensor]:
    drawn = gaussian.normal((_HIDDEN, rank + 2), seed=seed, purpose=PURPOSE_TEACHER, dtype=torch.float64)
    A, c, a = drawn[:, :rank] * (_GAIN / math.sqrt(rank)), drawn[:, rank] * _BIAS, drawn[:, rank + 1]

    def raw(u: Tensor) -> Tensor:
        return torch.tanh(u @ A.T.to(u) + c.to(u)) @ a.to(u)

    sample = gaussian.normal(
        (_CALIBRATION, rank), seed=seed, purpose=PURPOSE_TEACHER, row_offset=_HIDDEN, dtype=torch.float64
    )
    found = raw(sample)
    mean, scale = float(found.mean()), float(1.0 / found.std())
    return lambda u: (raw(u) - mean) * scale
