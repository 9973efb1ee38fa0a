"""`sdp.certify`: is (W, b) second-order stationary for F + lam ||W||^2, and how large can W be there?

    f(W, b) = E g(Wx + b) + lam ||W||_F^2,   H = E[hess g(z)] = hess_bb F,   grad_W F = H W   (Stein, x Gaussian)

so that grad_W f = (H + 2 lam I) W: with ||grad_W f||_F <= e_g and lambda_min(H) >= -e_H > -2 lam,

    ||W||_F <= e_g / (2 lam - e_H).

Nothing but a gradient and a k x k matrix is certified, whatever d is and however many parameters the head has.

What it does not say: anything about the value g(b), or that W recovers a teacher; that W is small soon (it decays at
2 lam + lambda_min(H), slow for a tiny lam over a flat H); anything where x is not Gaussian: the Stein residual
D = E[grad g x^T] - H W is reported for that reason.

Source: Tsikouras, Pantis, Mitliagkas, Tzamos, arXiv 2510.19382, lemma of section 3, in the form of two bounds
[derived for this project].
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import torch
from torch import Tensor

from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP, TeacherStudent
from sdp.optim._sources import Batch, Source, of_expectation, of_points
from sdp.optim.certificate import UNDECIDED, Certificate, Lemma, verdict
from sdp.optim.certify_function import UNDEFINED
from sdp.optim.crosscheck import N_DRAWS
from sdp.optim.curvature import curvature_bounds
from sdp.optim.intervals import Range, curvature_range, mean_curvature_range, norm_range
from sdp.optim.kinks import kinks
from sdp.optim.operator import ASSUMED_ULPS, Operator

VARIABLES = ("z", "Wb", "all")
N_BATCHES = 16  # halves of 8: Student's t of 7 degrees of freedom is 1.6 times the normal's at 1e-3
EPS_SHARE = 0.1  # of lam, the default tolerance of the gradient: with a curvature of -lam, ||W||_F is then at most 0.1
# What `delta` is split over: the claims that a sampled certificate makes, each an event of its own.
SHARES: dict[str, tuple[str, ...]] = {
    "z": (
        "gradient lower",
        "gradient upper",
        "gradient in W",
        "curvature lower",
        "curvature upper",
        "Stein residual",
    )
}
SHARES["Wb"] = SHARES["all"] = (*SHARES["z"], "curvature in b lower")  # the last is the lemma's
_WORDS = {
    "z": "gradient in (W, b), curvature in b (the k directions of z), which is all that the lemma asks; the head's "
    "parameters are held fixed",
    "Wb": "gradient and curvature in (W, b); the head's parameters are held fixed",
    "all": "gradient and curvature in (W, b) and all of the head's parameters",
}


def certify(
    F: Expectation,
    lam: float,
    delta: float = 1e-2,
    *,
    eps: float | None = None,
    curvature: float | None = None,
    variables: str = "z",
    points: Tensor | None = None,
    n_batches: int = N_BATCHES,
    seed: int = 0,
) -> Certificate:
    """Certify F + lam ||W||_F^2 at (W, b), from fresh draws in float64.

    Args:
        F: the expectation; `F.n_samples` evaluations are spent where sampling is needed.
        lam: weight of ||W||_F^2, above 0.
        delta: probability that any bound is wrong, split as `deltas` of the result says; in (0, 1).
        eps: tolerance of the gradient's norm; lam / 10 by default.
        curvature: tolerance of the curvature; lam by default, half of what the lemma allows. True then says
            ||W||_F <= eps / (2 lam - curvature) = 0.1.
        variables: "z" (curvature in b, as the lemma asks), "Wb" or "all" (the whole Hessian, by products).
        points: (n, d) samples of x, for an x that may not be Gaussian; "z" only. The lemma then pays for the Stein
            residual, and the verdict is never True where that is not 0.
        n_batches: independent batches behind the intervals.
        seed: of the fresh draws, which are not those of any `Expectation` with a small seed.

    Returns:
        The certificate. At W = 0 it is exact, up to rank 4 a quadrature unless 4,096 draws contradict it, and otherwise
        sampled; too few samples (64 evaluations a batch, 8 batches) are "undecided", never True. What a quadrature
        says carries no probability: a feature that lies between its nodes, and that fewer than about 1 of 1,000
        draws meet, goes unseen.

    Raises:
        ValueError: `lam` is not above 0, or another number is out of its range.

    Warns:
        UserWarning: the head is not smooth, or holds operations that need not be (relu(z) ** 3 is, and counts as such):
            curvature is undefined, and the verdict not True.

    Complexity: a gradient and H, (5 + 2 k) passes over the draws; "Wb" and "all" a Lanczos and Chebyshev run a batch.

    >>> W, b = torch.zeros(1, 3, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
    >>> F = Expectation(lambda z: (z[..., 0] ** 2 - 1) ** 2, W, b)  # a double well, at its minimum
    >>> found = certify(F, lam=0.05)
    >>> found.is_sosp, found.w_bound, round(found.curvature_lower, 6)
    (True, 0.0, 8.0)
    >>> certify(F.at(b=torch.zeros(1, dtype=torch.float64)), lam=0.05).is_sosp  # its top
    False
    """
    eps, bend = _checked(F, lam, delta, eps, curvature, variables, points, n_batches)
    objection = F.smoothness_objection() or _kinks_of(F)
    if objection is not None:
        objection = f"curvature is undefined: {objection}"
        warnings.warn(objection, stacklevel=2)
    smooth = objection is None
    if points is None:
        source = of_expectation(F, n_batches, seed, smooth=smooth)
    else:
        source = of_points(F, points, n_batches, smooth=smooth)
    share = delta / len(SHARES[variables])
    W = F.W.detach().double()
    slope = _norm(
        source, [_in_all(batch, W, lam, variables) for batch in source.batches], share, source.gradient_error
    )
    covers, deltas = _WORDS[variables], dict.fromkeys(SHARES[variables], share) if source.is_sampled else {}
    notes = _notes(source)
    if objection is not None:
        is_sosp: bool | str = False if slope.lower > eps else UNDECIDED
        return Certificate(
            is_sosp, slope, UNDEFINED, eps, bend, delta, deltas, covers, objection, None,
            lam=lam, method=source.method, n_samples=source.n_samples, notes=(objection, *notes),
        )  # fmt: skip
    in_z, direction = _curvature(source, share)
    lemma = _lemma(F, source, lam, W, in_z, share)
    bounds, products = in_z, 0
    extra: dict[str, Any] = {}
    if variables != "z":
        # Where nothing else is random, all of delta is for the products' start.
        alone = share if source.is_sampled else delta
        bounds, direction, products, spent, extra = _whole_curvature(
            F, source, lam, variables, bend, alone, seed
        )
        if not source.is_sampled and spent > 0.0:
            deltas = {"curvature lower": spent}
    is_sosp, why, needed = verdict(
        slope, bounds, eps, bend, source.n_samples if source.is_sampled else 0, enough=source.enough
    )
    if is_sosp is True and not lemma.holds:
        is_sosp = UNDECIDED
        why = (
            f"Stein's identity fails by at least {lemma.stein.lower:.4g}: x is not Gaussian, so that curvature in "
            "b says nothing about W"
        )
    return Certificate(
        is_sosp, slope, bounds, eps, bend, delta if deltas else 0.0, deltas, covers, why, needed,
        lemma=lemma, lam=lam, method=source.method, n_samples=source.n_samples, products=products,
        direction=direction, notes=notes, **extra,
    )  # fmt: skip


def _kinks_of(F: Expectation) -> str | None:
    """What the head's graph shows of kinks: Stein's identity, by a sample, does not see them all.

    An MLP has none, and of a teacher's in Ux no derivative is taken.
    """
    if isinstance(F.head, (MLP, TeacherStudent)):
        return None
    rows = getattr(F.head, "rows", None)
    z = F.b.detach()[None]
    if isinstance(rows, Tensor):
        z = torch.cat([z, z.new_zeros((1, len(rows)))], 1)
    with torch.enable_grad():
        found = kinks(F.head(z.clone().requires_grad_(True)).sum())
    return f"`head` has kinks; use {', and '.join(found)}." if found else None


def _in_all(batch: Batch, W: Tensor, lam: float, variables: str) -> Tensor:
    """The gradient of f in what the certificate covers."""
    parts = [(batch.W + 2.0 * lam * W).flatten(), batch.b]
    return torch.cat([*parts, batch.theta] if variables == "all" else parts)


def _norm(source: Source, batches: list[Tensor], share: float, error: float) -> Range:
    if source.is_sampled:
        return norm_range(batches, share, share)
    size = float(torch.linalg.vector_norm(batches[0]))
    return Range(max(0.0, size - error), size, size + error)


def _curvature(source: Source, share: float) -> tuple[Range, Tensor]:
    """Range of lambda_min(H), and a direction in R^k."""
    hessians = [batch.H for batch in source.batches if batch.H is not None]
    if source.is_sampled:
        return curvature_range(hessians, share, share)
    values, vectors = torch.linalg.eigh(hessians[0])
    rounding = 4.0 * len(values) * torch.finfo(torch.float64).eps * float(values.abs().max())
    error, lowest = source.hessian_error + rounding, float(values[0])
    return Range(lowest - error, lowest, lowest + error), vectors[:, 0]


def _lemma(F: Expectation, source: Source, lam: float, W: Tensor, in_z: Range, share: float) -> Lemma:
    """The bound on ||W||_F beside its measure; outside the rows of U for a head that reads Ux."""
    away = _away_from(getattr(F.head, "rows", None))
    size = float(torch.linalg.matrix_norm(away(W)))
    slopes = [away(batch.W + 2.0 * lam * W).flatten() for batch in source.batches]
    steep = _norm(source, slopes, share, source.gradient_error).upper
    residuals = [away(batch.W - batch.H @ W).flatten() for batch in source.batches if batch.H is not None]
    stein = _norm(source, residuals, 0.5 * share, source.gradient_error + source.hessian_error * size)
    holds = source.is_gaussian or stein.lower <= 0.0
    bend = 2.0 * lam + in_z.lower
    numerator = steep + (0.0 if source.is_gaussian else stein.upper)
    return Lemma(
        size, numerator / bend if bend > 0.0 and math.isfinite(numerator) else math.inf, stein, holds
    )


def _away_from(rows: object) -> Any:
    """Projection of (k, d) away from the rows of U, or nothing to do."""
    if not isinstance(rows, Tensor):
        return lambda matrix: matrix
    Q = torch.linalg.qr(rows.detach().double().T).Q
    return lambda matrix: matrix - (matrix @ Q) @ Q.T


def _whole_curvature(
    F: Expectation, source: Source, lam: float, variables: str, bend: float, share: float, seed: int
) -> tuple[Range, Tensor, int, float, dict[str, Any]]:
    """Range of the lowest eigenvalue of the Hessian of f, a direction, products, delta spent, and further fields."""
    operators = [_hessian(one, lam, variables) for one in source.expectations]
    if source.is_sampled:
        bounds, direction, _ = mean_curvature_range(operators, share, share, target=-bend, seed=seed)
        return bounds, direction, sum(operator.products for operator in operators), 2.0 * share, {}
    found = curvature_bounds(operators[0], delta=share, target=-bend, seed=seed)
    # The quadrature's error in H is that in the block of b; other blocks are taken to be no worse.
    error = source.hessian_error
    bounds = Range(found.lower - error, found.upper, found.upper + error)
    return bounds, found.direction, found.products, found.delta, {"kuczynski": found.kuczynski}


def _hessian(F: Expectation, lam: float, variables: str) -> Operator:
    whole = F.to_scipy()
    kd, k = F.W.numel(), len(F.b)
    n = whole.shape[0] if variables == "all" else kd + k

    def apply(block: Tensor) -> Tensor:
        padded = block.new_zeros((whole.shape[0], block.shape[1]))
        padded[:n] = block
        made = torch.from_numpy(whole.matmat(padded.cpu().numpy())).to(block)[:n].clone()
        made[:kd] += 2.0 * lam * block[:kd]
        return made

    error = ASSUMED_ULPS * torch.finfo(torch.float64).eps
    return Operator(n, apply, error, is_assumed=True, device=F.W.device)


def _notes(source: Source) -> tuple[str, ...]:
    if source.method == "quadrature":
        return ("errors of quadrature are three times the difference of two orders: they hold for smooth heads, and "
                f"are no probability; {N_DRAWS:,} draws did not contradict them, and would not see what happens in "
                "fewer than about 1 of 1,000",)  # fmt: skip
    if not source.is_sampled:
        return ()
    doubt = (f"{source.objection}: sampled instead",) if source.objection else ()
    return (*doubt, "intervals take batch means to be normal")


def _checked(
    F: Expectation,
    lam: float,
    delta: float,
    eps: float | None,
    curvature: float | None,
    variables: str,
    points: Tensor | None,
    n_batches: int,
) -> tuple[float, float]:
    """The tolerances."""
    if not isinstance(F, Expectation):
        raise TypeError(
            f"`F` must be an sdp.Expectation; got {type(F).__name__}. For losses there is certify_function."
        )
    if not 0.0 < lam < math.inf:
        raise ValueError(f"`lam` must be above 0 and finite, or the lemma bounds nothing; got {lam}.")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"`delta` must lie in (0, 1); got {delta}.")
    if variables not in VARIABLES:
        raise ValueError(f"`variables` must be one of {', '.join(VARIABLES)}; got {variables!r}.")
    if points is not None and variables != "z":
        raise ValueError(
            "`points` go with variables='z' only; for the whole Hessian there is certify_function."
        )
    if n_batches < 2:
        raise ValueError(f"`n_batches` must be at least 2; got {n_batches}.")
    eps = EPS_SHARE * lam if eps is None else eps
    bend = lam if curvature is None else curvature
    for name, number in (("eps", eps), ("curvature", bend)):
        if not 0.0 < number < math.inf:
            raise ValueError(f"`{name}` must be above 0 and finite; got {number}.")
    return eps, bend
