"""`sdp.derandomize`: from a random z = Wx + b with a good mean of g to one b that is at least as good.

F(W, b) = E g(Wx + b) is a mean over samplers; some z is as good as the mean, and each method walks to one:

- `sosp` descends on F + lam ||W||^2 in W and b together. At a second-order stationary point W = 0 (the lemma), and
with
  lam <= eps / ||W_0||^2 the walk loses no more than eps on the way.
- `homotopy` alternates a descent in b alone with W <- 0.75 W. No step in W, so the cheapest; shrinking may lose what
is second
  order in W.
- `conditional` fixes x along one principal axis of W after the other, each where the conditional expectation is
lowest. No
  gradient, no lam.

F(W, b) may be a symmetric saddle in b. The descents leave it by *conditioning*, which moves a share t of the
randomness into the
mean: W -> sqrt(1 - t^2) W, b -> b + t W x. The mean of F over x is F itself, so the best of a few x is as good as
staying; where H is at hand, steps along its lowest eigenvector are tried as well.

Descent is monotone on a fixed sample (common random numbers), which proves nothing about the expectation. What does
is the end: g(b) is one number, known exactly, and is compared with an interval of E g(W_0 x + b_0) from fresh
samples.

MAXCUT's derandomisers (`sdp.maxcut.derandomize`) are the same three ways on an objective that is known exactly;
`descent.py` and `axes.py` are theirs too.

Source: Tsikouras, Pantis, Mitliagkas, Tzamos, arXiv 2510.19382, for the descent.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sdp.expectation.expectation import Expectation
from sdp.optim._sources import fresh_seed
from sdp.optim.axes import maximise_along, principal_axes
from sdp.optim.certificate import UNDECIDED, Certificate
from sdp.optim.descent import descend
from sdp.optim.sosp import certify
from sdp_kernels import gaussian

METHODS = ("sosp", "homotopy", "conditional")
LAM_SHARE = 0.02  # lam ||W_0||^2 in standard deviations of g: what `sosp` may spend on losing W
GONE = 1e-3  # of ||W_0||: what dropping the rest changes is second order, and measured
SHRINK, HOMOTOPY_STEPS = 0.75, 5  # as in MAXCUT
MAX_STEPS, MAX_ESCAPES = 500, 20
CONDITIONED_SHARE, CONDITIONED_DRAWS = 0.1, 4
ESCAPE_LENGTHS = (1.0, 0.25, 0.0625)  # along the lowest eigenvector, in rms standard deviations of z
LONGEST_MOVE = 1.0  # of an entry in a step, in rms standard deviations of z
STALL_TOLERANCE = 1e-9  # of g's standard deviation, over descent.WINDOW steps: well below lam GONE^2
SPREAD_DRAWS = 4096
LEAST_VERIFYING = 4096  # evaluations behind the interval of E g, however few the descent's sample has
GRADIENT_PRICE = 3  # evaluations of the head that a value with its gradient costs
CHUNK = 1 << 16
PURPOSE_CONDITIONING, PURPOSE_BEST_OF = 108, 109  # beside the streams in `_sources.py`
_FRESH_VALUE = 1 << 20  # position of the verification's seed, beyond those of the certificate's batches


@dataclass(frozen=True, eq=False)
class Derandomization:
    """One b in place of a random z, and what is known about it. Values are in units of g; smaller is better.

    Attributes:
        b: (k,) the point found.
        value: g(b), exact up to rounding.
        expected_value_before: E g(W_0 x + b_0), estimated from fresh samples, at least 4,096.
        expected_interval: its interval, which fails with probability `delta` (quadrature: a bound, no probability).
            It takes the mean of the draws to be normal: what g does with probability below about 1 in 1,000 of them
            may be missed.
        delta: of the interval.
        is_better: True where g(b) is at most the interval's lower end, False where it is above the upper, else
            "undecided".
        w_norm_before: ||W_0||_F.
        w_norm_after: ||W||_F when the method ended, before it was set to 0; 0 for "conditional".
        lam: weight of ||W||_F^2, for "sosp" and in the certificate.
        sample_values: on the fixed sample, the objective at the start and after each step: never rising for "sosp".
        certificate: of (0, b).
        best_of_n: the least g of `n_best` random z, as many evaluations as this method made; NaN if not asked for.
        n_best: their number.
        evaluations: of the head, a gradient counted three times.
        status: "W is gone", "stationary with W left", "steps ran out", or "not finite beyond step N", where no step
            from the last good point led to a finite value and gradient: how the method ended.
        method: name of the method.
        seed: of conditioning and verification.
    """

    b: Tensor
    value: float
    expected_value_before: float
    expected_interval: tuple[float, float]
    delta: float
    is_better: bool | str
    w_norm_before: float
    w_norm_after: float
    lam: float
    sample_values: tuple[float, ...] = field(repr=False)
    certificate: Certificate = field(repr=False)
    best_of_n: float
    n_best: int
    evaluations: int
    status: str
    method: str
    seed: int

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON."""
        named = {name: getattr(self, name) for name in self.__dataclass_fields__}
        named["b"] = self.b.tolist()
        named["certificate"] = self.certificate.to_dict()
        named["expected_interval"], named["sample_values"] = (
            list(self.expected_interval),
            list(self.sample_values),
        )
        named["best_of_n"] = self.best_of_n if math.isfinite(self.best_of_n) else None
        return named


def derandomize(
    F: Expectation,
    method: str = "sosp",
    *,
    lam: float | None = None,
    delta: float = 1e-2,
    max_steps: int = MAX_STEPS,
    compare: bool = True,
    seed: int = 0,
    progress: Callable[[int, float], None] | None = None,
) -> Derandomization:
    """One b whose g(b) is about as good as E g(Wx + b), or better.

    Args:
        F: the expectation at a good sampler (W_0, b_0); left as it is. Its sample is the fixed one; its theta stays.
        method: "sosp", "homotopy" or "conditional".
        lam: weight of ||W||_F^2; by default 0.02 standard deviations of g over ||W_0||_F^2.
        delta: probability that the interval of the expectation before is wrong; in (0, 1).
        max_steps: the most descent steps.
        compare: draw as many z as evaluations were made, and report the best.
        seed: of conditioning, verification and comparison.
        progress: called with the step and the objective.

    Raises:
        ValueError: an argument is out of its range, the head reads Ux as well, which no b can replace, or its mean
            value or gradient is not finite at the start or at the end. On the way such points are stepped round.

    Complexity: a value and gradient of F a step, 50 to 200 of them for "sosp"; "conditional" 8 values for each of
        rank(W) axes.

    >>> W, b = torch.full((1, 1), 0.5, dtype=torch.float64), torch.full((1,), 0.3, dtype=torch.float64)
    >>> found = derandomize(Expectation(lambda z: (z[..., 0] ** 2 - 1) ** 2, W, b), "sosp")
    >>> found.is_better, round(found.value, 6), round(found.expected_value_before, 3), found.status
    (True, 0.0, 0.651, 'W is gone')
    """
    walk = _Walk(*_checked(F, method, lam, delta, max_steps), seed, max_steps, progress)
    way_down = {"sosp": walk.sosp, "homotopy": walk.homotopy, "conditional": walk.conditional}[method]
    W, b = way_down()
    w_norm_after = float(torch.linalg.matrix_norm(W.double()))
    b = walk.polished(b)
    end = F.at(W=torch.zeros_like(F.W.detach()), b=b)
    value = float(end.redrawn(precision="exact").value())
    n_fresh = max(F.n_samples, LEAST_VERIFYING)
    before = F.redrawn(seed=fresh_seed(seed, _FRESH_VALUE), n_samples=n_fresh, precision="exact").value()
    low, high = (float(part) for part in before.interval(1.0 - delta))
    n_best = walk.evaluations if compare else 0
    return Derandomization(
        b=b,
        value=value,
        expected_value_before=float(before),
        expected_interval=(low, high),
        delta=delta,
        is_better=True if value <= low else False if value > high else UNDECIDED,
        w_norm_before=walk.size,
        w_norm_after=w_norm_after,
        lam=walk.lam,
        sample_values=tuple(walk.values),
        certificate=certify(end, walk.lam, delta, seed=seed),
        best_of_n=walk.best_of(n_best) if compare else math.nan,
        n_best=n_best,
        evaluations=walk.evaluations,
        status=walk.status,
        method=method,
        seed=seed,
    )


class _Objective:
    """F + lam ||W||^2 on the fixed sample; the point is W row by row, then b; or b alone, at a fixed W."""

    def __init__(self, walk: _Walk, W: Tensor | None) -> None:
        self.walk, self.W = walk, W

    def parts(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """W (k, d) and b (k,)."""
        if self.W is not None:
            return self.W, point
        k, d = self.walk.F.W.shape
        return point[: k * d].view(k, d), point[k * d :]

    def value(self, point: Tensor) -> float:
        """The objective, and its gradient kept for `gradient`; infinite where either is not finite.

        Raises:
            ValueError: they are not finite at the start.
        """
        W, b = self.parts(point)
        lam = self.walk.lam if self.W is None else 0.0
        try:
            value, gradient = self.walk.F.at(W=W, b=b).value_and_grad()
        except ValueError as error:
            return self.walk.not_finite(error)
        self.walk.is_finite = True
        self.walk.evaluations += GRADIENT_PRICE * value.n_samples
        pieces = [gradient.value.b]
        if self.W is None:
            pieces = [(gradient.value.W + 2.0 * lam * W).flatten(), *pieces]
        self._gradient = torch.cat(pieces)
        return float(value) + lam * float(W.double().square().sum())

    def gradient(self, point: Tensor, out: Tensor) -> None:
        """Of the point whose value was asked last."""
        out.copy_(self._gradient)

    def precondition(self, vector: Tensor) -> None:
        """Nothing: hess_bb F = H, and in W it is H for each column of W, to leading order."""


class _Walk:
    """What the three ways share: the fixed sample, scales, counts and history."""

    def __init__(
        self,
        F: Expectation,
        lam: float | None,
        seed: int,
        max_steps: int,
        progress: Callable[[int, float], None] | None,
    ) -> None:
        self.F, self.seed, self.max_steps, self._progress = F.redrawn(), seed, max_steps, progress
        self.evaluations = self.draws = 0
        self.values: list[float] = []
        self.is_finite = True  # where the last trial was
        self.status = "steps ran out"
        W = F.W.detach()
        self.size = float(torch.linalg.matrix_norm(W.double()))
        self.scale = self.size / math.sqrt(len(W)) or 1.0  # rms standard deviation of z's entries
        self.spread = float(self._sample(SPREAD_DRAWS, 0).double().std()) or 1.0
        self.lam = LAM_SHARE * self.spread / max(self.size**2, 1e-30) if lam is None else lam
        self.steps_left = max_steps

    def sosp(self) -> tuple[Tensor, Tensor]:
        """W, what is left of it, and b."""
        objective = _Objective(self, None)
        point = torch.cat([self.F.W.detach().flatten(), self.F.b.detach()]).contiguous()
        value = objective.value(point)
        self._record(value)
        is_stuck, was_finite = False, True
        for _ in range(MAX_ESCAPES):
            if self._is_gone(objective.parts(point)[0]) or self.steps_left <= 0:
                break
            moved = self._escaped(objective, point, value)
            if moved is None and is_stuck:
                self.status = (
                    "stationary with W left"
                    if was_finite
                    else f"not finite beyond step {len(self.values) - 1}"
                )
                break
            # Where no escape is lower there may still be a slope, unless a descent has just ended here.
            is_stuck = moved is None
            point = self._descend(objective, point if moved is None else moved, self.steps_left)
            value, was_finite = self.values[-1], self.is_finite
        W, b = objective.parts(point)
        if self._is_gone(W):
            self.status = "W is gone"
        return W, b

    def homotopy(self) -> tuple[Tensor, Tensor]:
        """As `sosp`."""
        W, b = self.F.W.detach(), self.F.b.detach()
        self._record(_Objective(self, W).value(b))
        share = CONDITIONED_SHARE
        if not self._is_gone(W):
            shrunk = math.sqrt(1.0 - share**2) * W
            objective = _Objective(self, shrunk)
            trials = [b + share * (W @ self._draw(W)) for _ in range(CONDITIONED_DRAWS)]
            W, b = shrunk, min(trials, key=objective.value)
        while not self._is_gone(W) and self.steps_left > 0:
            b = self._descend(_Objective(self, W), b, min(HOMOTOPY_STEPS, self.steps_left))
            W = SHRINK * W
        if self._is_gone(W):
            self.status = "W is gone"
        return W, b

    def conditional(self) -> tuple[Tensor, Tensor]:
        """As `sosp`; W is 0 at the end."""
        axes = principal_axes(self.F.law.L.cpu()).to(self.F.W)
        b = self.F.b.detach()
        self._record(self._value(axes, b))
        for k in range(axes.shape[1]):
            rest, axis = axes[:, k + 1 :].contiguous(), axes[:, k]

            def value(x: float, rest: Tensor = rest, axis: Tensor = axis, b: Tensor = b) -> float:
                return -self._value(rest, b + x * axis)

            x, best = maximise_along(value, -self.values[-1], is_even=False)
            b = b + x * axis
            self._record(-best)
        self.status = "W is gone"
        return torch.zeros_like(self.F.W), b

    def polished(self, b: Tensor) -> Tensor:
        """B after a descent on g itself, which is exact."""
        zero = torch.zeros_like(self.F.W.detach())
        return descend(
            _Objective(self, zero), b.contiguous(), max_steps=self.max_steps, tolerance=0.0,
            longest_move=LONGEST_MOVE * self.scale,
        ).point  # fmt: skip

    def best_of(self, n: int) -> float:
        """The least g of n random z."""
        least = math.inf
        for start in range(0, n, CHUNK):
            least = min(least, float(self._sample(min(CHUNK, n - start), start).min()))
        return least

    def _descend(self, objective: _Objective, start: Tensor, steps: int) -> Tensor:
        def after_step(point: Tensor, value: float) -> bool:
            self._record(value)
            return objective.W is None and self._is_gone(objective.parts(point)[0])

        done = descend(
            objective, start, max_steps=steps, tolerance=STALL_TOLERANCE * self.spread,
            longest_move=LONGEST_MOVE * self.scale, stop=after_step,
        )  # fmt: skip
        self.steps_left -= max(done.steps, 1)
        return done.point

    def _escaped(self, objective: _Objective, point: Tensor, value: float) -> Tensor | None:
        """The best of a few conditioned points and steps along H's lowest eigenvector; None if none is lower."""
        W, b = objective.parts(point)
        share = CONDITIONED_SHARE
        shrunk = (math.sqrt(1.0 - share**2) * W).flatten()
        trials = [torch.cat([shrunk, b + share * (W @ self._draw(W))]) for _ in range(CONDITIONED_DRAWS)]
        if len(self.values) > 1 and self.F.smoothness_objection() is None:
            H = self.F.at(W=W, b=b).hessian_z().value
            self.evaluations += (GRADIENT_PRICE + 2 * len(b)) * self.F.n_samples
            v = torch.linalg.eigh(H)[1][:, 0].to(b) * self.scale
            trials += [
                torch.cat([W.flatten(), b + sign * t * v]) for t in ESCAPE_LENGTHS for sign in (1.0, -1.0)
            ]
        values = [objective.value(trial) for trial in trials]
        best = min(range(len(trials)), key=values.__getitem__)
        if not values[best] < value:
            return None
        self._record(values[best])
        return trials[best]

    def not_finite(self, error: ValueError) -> float:
        """Infinity, in place of a value that F refuses to give; the error itself at the start.

        Once F has given a value, what is not finite is all that it refuses.
        """
        if not self.values:
            raise error
        self.is_finite = False
        return math.inf

    def _value(self, W: Tensor, b: Tensor) -> float:
        try:
            found = self.F.at(W=W, b=b).value()
        except ValueError as error:
            return self.not_finite(error)
        self.evaluations += found.n_samples
        return float(found)

    def _is_gone(self, W: Tensor) -> bool:
        return float(torch.linalg.matrix_norm(W.double())) <= GONE * self.size

    def _record(self, value: float) -> None:
        self.values.append(value)
        if self._progress is not None:
            self._progress(len(self.values) - 1, value)

    def _draw(self, W: Tensor) -> Tensor:
        """The next x of conditioning: (d,)."""
        self.draws += 1
        return gaussian.normal(
            (W.shape[1],), seed=self.seed, purpose=PURPOSE_CONDITIONING, row_offset=self.draws, dtype=W.dtype,
            device=W.device,
        )  # fmt: skip

    def _sample(self, n: int, first: int) -> Tensor:
        """G at n random z of the start: (n,)."""
        law, b = self.F.law, self.F.b.detach()
        if law.rank == 0:
            xi = b.new_zeros((n, 0))
        else:
            xi = gaussian.normal(
                (n, law.rank), seed=self.seed, purpose=PURPOSE_BEST_OF, row_offset=first, dtype=b.dtype,
                device=b.device,
            )  # fmt: skip
        with torch.no_grad():
            made: Tensor = self.F.head(b + xi @ law.L.T)
        return made


def _checked(
    F: Expectation, method: str, lam: float | None, delta: float, max_steps: int
) -> tuple[Expectation, float | None]:
    if not isinstance(F, Expectation):
        raise TypeError(f"`F` must be an sdp.Expectation; got {type(F).__name__}.")
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    if lam is not None and not 0.0 < lam < math.inf:
        raise ValueError(f"`lam` must be above 0 and finite; got {lam}.")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"`delta` must lie in (0, 1); got {delta}.")
    if max_steps < 1:
        raise ValueError(f"`max_steps` must be at least 1; got {max_steps}.")
    if isinstance(getattr(F.head, "rows", None), Tensor):
        raise ValueError(
            "`F` must have a head that reads z alone; this one reads Ux too, which no b can replace."
        )
    return F, lam
