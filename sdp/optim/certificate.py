"""What a certificate says, and how its verdict follows from its bounds."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sdp.optim.intervals import Range

UNDECIDED = "undecided"


@dataclass(frozen=True, eq=False)
class Lemma:
    """The derandomisation lemma at this point: how large W can be, given the bounds.

        (H + 2 lam I) W = grad_W f - D,   so   ||W||_F <= (|grad_W f| + |D|) / (2 lam + lambda_min(H))

    with D = E[grad g x^T] - H W, the Stein residual, 0 for Gaussian x.

    Attributes:
        w_norm: measured ||W||_F; of its part outside the rows of U, for a head that reads Ux.
        w_bound: the lemma's bound on it; infinite where the lemma proves none.
        stein: range of ||D||_F.
        holds: True where x is known to be Gaussian or D is 0 within its interval; False where D is not 0.
    """

    w_norm: float
    w_bound: float
    stein: Range
    holds: bool


@dataclass(frozen=True, eq=False)
class Certificate:
    """Whether a point is second-order stationary, and what was proved of it.

    Attributes:
        is_sosp: True (gradient at most `eps`, curvature at least -`curvature_tolerance`, both certified), False (one
            of them certainly not), or "undecided".
        gradient: range of the norm of the gradient in the covered variables.
        curvature: range of the lowest eigenvalue in the directions covered; infinite ends where it is undefined.
        eps: tolerance of the gradient.
        curvature_tolerance: of the curvature, sqrt(rho eps) in the papers.
        delta: probability that any range here is wrong through what was drawn; 0 where nothing was. It does not speak
            of the assumptions in `notes`, such as those of a quadrature.
        deltas: how it was split.
        covers: which variables, in words.
        decided_by: what decided, or what would, in words.
        samples_needed: evaluations that would decide, estimated from the widths of the intervals; None where the
            verdict is in, or more samples cannot help.
        lemma: for a Gaussian expectation, what the lemma adds; None otherwise.
        lam: weight of ||W||^2, or None.
        method: "exact", "quadrature", "sampling", "given points", "dense" or "chebyshev".
        n_samples: evaluations of the head behind it; 0 for a plain function.
        products: Hessian-vector products behind it.
        kuczynski: Kuczynski and Wozniakowski's lower bound of the curvature, where Lanczos was used; else -inf. For
            comparison: wrong with the probability of the curvature's lower bound, on top of `delta`.
        direction: (n,) float64 along which the curvature is at most `curvature.upper`; None where it is undefined.
        notes: what the reader should know.
    """

    is_sosp: bool | str
    gradient: Range
    curvature: Range
    eps: float
    curvature_tolerance: float
    delta: float
    deltas: dict[str, float]
    covers: str
    decided_by: str
    samples_needed: int | None
    lemma: Lemma | None = None
    lam: float | None = None
    method: str = "dense"
    n_samples: int = 0
    products: int = 0
    kuczynski: float = -math.inf
    direction: Tensor | None = field(default=None, repr=False)
    notes: tuple[str, ...] = ()

    @property
    def gradient_upper(self) -> float:
        """Certified upper bound of the gradient's norm."""
        return self.gradient.upper

    @property
    def curvature_lower(self) -> float:
        """Certified lower bound of the lowest eigenvalue."""
        return self.curvature.lower

    @property
    def curvature_upper(self) -> float:
        """Upper bound of the lowest eigenvalue."""
        return self.curvature.upper

    @property
    def w_norm(self) -> float:
        """Measured ||W||_F; NaN without a lemma."""
        return self.lemma.w_norm if self.lemma else math.nan

    @property
    def w_bound(self) -> float:
        """The lemma's bound on ||W||_F; infinite where it proves none."""
        return self.lemma.w_bound if self.lemma else math.inf

    def to_dict(self) -> dict[str, Any]:
        """All fields but `direction`, ready for JSON; what is not finite is None."""
        lemma = self.lemma
        return {
            "is_sosp": self.is_sosp,
            "gradient": self.gradient.to_dict(),
            "curvature": self.curvature.to_dict(),
            "eps": self.eps,
            "curvature_tolerance": self.curvature_tolerance,
            "delta": self.delta,
            "deltas": dict(self.deltas),
            "covers": self.covers,
            "decided_by": self.decided_by,
            "samples_needed": self.samples_needed,
            "lemma": None if lemma is None else {
                "w_norm": lemma.w_norm,
                "w_bound": lemma.w_bound if math.isfinite(lemma.w_bound) else None,
                "stein": lemma.stein.to_dict(),
                "holds": lemma.holds,
            },
            "lam": self.lam,
            "method": self.method,
            "n_samples": self.n_samples,
            "products": self.products,
            "kuczynski": self.kuczynski if math.isfinite(self.kuczynski) else None,
            "notes": list(self.notes),
        }  # fmt: skip

    def __repr__(self) -> str:
        lines = [
            f"<Certificate is_sosp={self.is_sosp} (delta {self.delta:g}, {self.method})",
            f"  gradient  {_show(self.gradient)}, wanted <= {self.eps:g}",
            f"  curvature {_show(self.curvature)}, wanted >= {-self.curvature_tolerance:g}",
        ]
        if self.lemma is not None:
            lines.append(f"  ||W||_F   {self.lemma.w_norm:.4g}, bound {self.lemma.w_bound:.4g}")
            lines.append(f"  Stein residual {_show(self.lemma.stein)}")
        lines += [
            f"  covers {self.covers}",
            f"  {self.decided_by}",
            *(f"  note: {note}" for note in self.notes),
        ]
        return "\n".join(lines) + ">"


def verdict(
    gradient: Range, curvature: Range, eps: float, tolerance: float, n_samples: int, *, enough: bool = True
) -> tuple[bool | str, str, int | None]:
    """The verdict, what decided it or would, and samples needed.

    Args:
        gradient: range of its norm.
        curvature: range of the lowest eigenvalue.
        eps: tolerance of the gradient.
        tolerance: of the curvature.
        n_samples: behind the ranges; 0 where sampling plays no part.
        enough: whether the samples are enough for intervals to be trusted; if not, never True.
    """
    if gradient.lower > eps:
        return False, f"the gradient's norm is at least {gradient.lower:.4g}, above eps", None
    if curvature.upper < -tolerance:
        return False, f"there is a direction of curvature {curvature.upper:.4g} or less", None
    gradient_fits, curvature_fits = gradient.upper <= eps, curvature.lower >= -tolerance
    if gradient_fits and curvature_fits and enough:
        return True, "both bounds lie within their tolerances", None
    if not enough:
        return UNDECIDED, "too few samples for intervals that can be trusted", None
    reasons, factors = [], []
    if not gradient_fits:
        reasons.append(f"the gradient's norm may be up to {gradient.upper:.4g}")
        factors.append(_factor(gradient.upper - gradient.estimate, eps - gradient.estimate))
    if not curvature_fits:
        reasons.append(f"curvature may be down to {curvature.lower:.4g}")
        factors.append(_factor(curvature.estimate - curvature.lower, curvature.estimate + tolerance))
    said = " and ".join(reasons)
    if n_samples == 0:
        return UNDECIDED, f"{said}; a smaller `tolerance` or more precise arithmetic would decide", None
    if not all(math.isfinite(factor) for factor in factors):
        return UNDECIDED, f"{said}; the estimates themselves lie beyond the tolerances", None
    needed = math.ceil(n_samples * max(4.0, *factors))
    return UNDECIDED, f"{said}; about {needed:,} samples would decide", needed


def _factor(width: float, margin: float) -> float:
    """By how much samples must grow for an interval to shrink into its margin."""
    if not math.isfinite(width) or margin <= 0.0:
        return math.inf
    return 1.2 * (width / margin) ** 2


def _show(found: Range) -> str:
    return f"{found.estimate:.4g} in [{found.lower:.4g}, {found.upper:.4g}]"
