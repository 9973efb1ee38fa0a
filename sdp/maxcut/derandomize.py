"""One cut from the randomness of all hyperplanes: three ways down, none of which samples.

The relaxation V (n, r) draws cuts sign(V x), x normal. Its soft signs Phi(beta (V x + mu)) have an expected
cut F(V, mu) that is known exactly (`sdp_kernels.probit_cut`); at mu = 0 it is at least alpha(beta) times the
relaxation's value where weights are positive. Each method moves (V, mu) until V is gone; F is then
multilinear in p_i = Phi(beta mu_i), and rounding those one by one loses nothing.

- `sosp` descends on -F + lam sum_i d_i |v_i|^2 in V and mu together; at every second-order stationary
  point V = 0 (MATH.md 1). d_i is the weighted degree over its mean, so that hubs and leaves lose V
  at the same rate; on a regular graph this is lam ||V||^2.
- `homotopy` alternates a descent in mu alone with V <- SHRINK V. Covariances then only scale, so no step
  reads V again: the cheapest step of the three. Shrinking may lose what is second order in V.
- `conditional` fixes x along one principal axis of V after the other, each at the point that maximises the
  exact conditional expectation given those before. No gradient, no lam: some point is always as
  good as the expectation, so it never loses.

F(V, 0) is a symmetric saddle: its gradient in mu is zero. The descents leave it by *conditioning*, moving
a share of the randomness into the mean: V -> sqrt(1 - t^2) V, mu -> mu + t V x. The expectation of F over x
is F itself, so the best of a few x is as good as staying, and no eigenvector is needed.

Source: MATH.md 1 and 4; Tsikouras, Pantis, Mitliagkas, Tzamos, arXiv 2510.19382, for the descent.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch
from torch import Tensor

from sdp.maxcut import streams
from sdp.optim.axes import maximise_along, principal_axes
from sdp.optim.descent import descend
from sdp_kernels import probit_cut, replicas
from sdp_kernels.graph import CSR
from sdp_kernels.probit_cut import Law

METHODS = ("sosp", "homotopy", "conditional")
BETA = 10.0  # alpha = 0.875; from 5 to 20 conditional's cuts of G14, G22, G32 differ by up to 0.9%

# lam n in units of sum |w|: sosp may spend this share of the weight on losing V. 0.05 cut 0.1 to 0.3% less on
# G14, G22 and G32 (means of three seeds), 0.1 0.3 to 0.7% less, in fewer steps.
LAM_TOTAL = 0.02
MAX_SOSP_STEPS = 300
MAX_ESCAPES = 20
GONE = 0.05  # V is gone when beta^2 mean |v_i|^2, its noise over the probit's own, is below this
CONDITIONED_SHARE = 0.1  # t; 0.3 cut 0.1 to 0.3% less on G14, G22 and G32 (means of three seeds)
CONDITIONED_DRAWS = 4

SHRINK = 0.75
HOMOTOPY_STEPS = 5  # in mu, for each V; 10 took a third more evaluations and mostly cut less

LONGEST_MOVE = (
    0.3  # of an entry in a step, in rms rows of V; with 1.0 homotopy cut 13975 of G60, with 0.3 14020
)
STALL_TOLERANCE = 1e-6  # of sum |w|, over descent.WINDOW steps
UNIT_TOLERANCE = 1e-5  # of |v_i|^2, what float32 rows keep
THREADED_ENTRIES = 1 << 20  # of V
RESCUE_PLANES = 64  # where time ran out with V still there


@dataclass(frozen=True)
class Derandomized:
    """A cut found without sampling, and what is known about it.

    Values are in units of edge weight.

    Attributes:
        signs: int8 (n,) in {-1, +1}.
        cut_value: their cut.
        expected_value_before: mean cut of a random hyperplane through V, exact (soft signs at `beta` where
            a row of V is zero).
        smooth_values: F at the start, then after every step that was taken.
        alpha: worst ratio of F at mu = 0 to the relaxation's value over positive weights and unit rows.
        guarantee: value that the method proves: alpha times the relaxation's, less lam n for `sosp` and
            what conditioning and dropping the last of V lost; nan where it proves none: weights of both
            signs, rows that are not unit vectors, `homotopy`, or time that ran out.
        evaluations: values of F computed.
        in_time: whether the method ran to its end; if not, the best of RESCUE_PLANES hyperplanes through the
            last (V, mu) and its rounding were taken.
        method: name of the method.
        beta: steepness of the soft signs.
        seed: of the conditioning; `conditional` uses none.
    """

    signs: Tensor = field(repr=False)
    cut_value: float
    expected_value_before: float
    smooth_values: tuple[float, ...] = field(repr=False)
    alpha: float
    guarantee: float
    evaluations: int
    in_time: bool
    method: str
    beta: float
    seed: int


def derandomize(
    csr: CSR,
    V: Tensor,
    method: str,
    *,
    seed: int,
    beta: float = BETA,
    time_limit: float | None = None,
    should_stop: Callable[[], bool] = lambda: False,
) -> Derandomized:
    """One cut, on every graph measured better than the mean hyperplane's.

    Args:
        csr: the graph; weights of either sign, any number of components, isolated vertices.
        V: (n, r) float32 or float64, usually the relaxation's unit rows.
        method: "sosp" (the best cuts), "homotopy" (usually faster) or "conditional".
        seed: integer in [0, 2^64); same seed, same bits, whatever the number of threads.
        beta: steepness of the soft signs, positive and finite.
        time_limit: seconds after which to stop and round what there is, at once where it is not positive;
            None runs to the end. A run that is cut short depends on the machine's speed.
        should_stop: asked after every step; true ends the run as the time limit does.

    Returns:
        The cut with its history and guarantee.

    Raises:
        TypeError, ValueError: unknown method, shapes or dtypes that do not fit, V not finite, beta not
            positive and finite, or a time limit of NaN.

    Complexity: `sosp` takes 50 to 110 steps of O(m r) and holds 14 copies of V as float32; `homotopy` 70 steps of
        O(m); `conditional` 8 values of O(m) for each of r axes. On two cores, 2.4 million edges and
        r = 32: 16 s, 14 s and 17 s, three times that with three others at work.

    >>> edge = CSR(torch.tensor([0, 1, 2]), torch.tensor([1, 0], dtype=torch.int32), torch.ones(2))
    >>> derandomize(edge, torch.tensor([[1.0], [-1.0]]), "conditional", seed=0).cut_value
    1.0
    """
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    if not 0.0 < beta < math.inf:
        raise ValueError(f"`beta` must be positive and finite; got {beta}.")
    if time_limit is not None and math.isnan(time_limit):
        raise ValueError("`time_limit` must be a number of seconds; got nan.")
    streams.check_seed(seed)
    deadline = math.inf if time_limit is None else time.monotonic() + time_limit

    def is_late() -> bool:
        return time.monotonic() >= deadline or should_stop()

    start = probit_cut.law(csr, V, beta)
    if not bool(torch.isfinite(V).all()):
        raise ValueError("`V` must be finite; an entry is not.")
    problem = _Problem(csr, beta, seed, is_late)
    problem.record(problem.value(start, _no_means(V)))
    way_down = {"sosp": _sosp, "homotopy": _homotopy, "conditional": _conditional}[method]
    with _torch_threads_for(V.numel()):
        residue, mu = way_down(problem, V, start)
    if residue is None:
        problem.drop(mu)
    signs = probit_cut.conditional_rounding(csr, torch.special.ndtr(beta * mu))
    cut = _cut_value(csr, signs)
    in_time = residue is None
    if residue is not None:
        signs, cut = max(((signs, cut), _best_plane(problem, residue, mu)), key=lambda found: found[1])
    alpha = worst_ratio(beta)
    return Derandomized(
        signs=signs,
        cut_value=cut,
        expected_value_before=_expected_hyperplane(problem, V, start),
        smooth_values=tuple(problem.smooth_values),
        alpha=alpha,
        guarantee=_guarantee(problem, start, method, alpha) if in_time else math.nan,
        evaluations=problem.evaluations,
        in_time=in_time,
        method=method,
        beta=beta,
        seed=seed,
    )


def worst_ratio(beta: float) -> float:
    """alpha(beta): least ratio of an edge's probability at mu = 0 to its share of the relaxation.

        min over c in [-1, 1) of  arccos(c / (1 + beta^-2)) / pi  /  ((1 - c) / 2),     |v_i| = |v_j| = 1

    Args:
        beta: positive, `math.inf` included.

    Returns:
        The ratio, rounded down by at most 1e-9; 0.878567 for hard signs.

    Complexity: O(1). Source: Goemans and Williamson (1995) for beta = inf.

    >>> round(worst_ratio(10.0), 5)
    0.87499
    """
    inner = 1.0 / (1.0 + beta**-2)
    low, high = -1.0, 0.5
    # The ratio has one minimum in c; three rounds of 1001 points pin it to 1e-9 of [-1, 0.5].
    least = math.inf
    for _ in range(3):
        cosines = torch.linspace(low, high, 1001, dtype=torch.float64)
        ratios = 2.0 * torch.arccos(cosines * inner) / (math.pi * (1.0 - cosines))
        k = int(ratios.argmin())
        least = min(least, float(ratios[k]))
        low, high = float(cosines[max(k - 1, 0)]), float(cosines[min(k + 1, 1000)])
    return least - 1e-9


@contextmanager
def _torch_threads_for(entries: int) -> Iterator[None]:
    """One torch thread where V is small.

    A descent is hundreds of short passes over V, and each ends at a barrier. Beside other work on the cores
    (load 4) two threads took 3.2 s for G22 at rank 64, one 0.5 s.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1 if entries < THREADED_ENTRIES else before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Problem:
    """What the three ways share: the graph, its scale, the count of evaluations, the clock."""

    def __init__(self, csr: CSR, beta: float, seed: int, is_late: Callable[[], bool]) -> None:
        self.csr, self.beta, self.seed, self.is_late = csr, beta, seed, is_late
        n = csr.n_vertices
        degrees = torch.segment_reduce(csr.weights.double().abs(), "sum", offsets=csr.indptr)
        total = _total(degrees)
        self.absolute_weight = 0.5 * total or 1.0  # over edges; where it is 0 nothing is divided by it but 0
        # A vertex without weight moves nothing: any positive number will do for it. The mean is 1.
        degrees = torch.where(degrees > 0.0, degrees, total / n if total else 1.0)
        self.relative_degree = degrees * (n / (_total(degrees) or 1.0))
        # Curvature of -F / sum |w| in row i is about 2 d_i / n at beta |v_i| >> 1: see Derivatives.diagonal.
        self.metric = 0.5 * n / self.relative_degree
        self.evaluations = 0
        self.draws = 0
        self.lost = 0.0  # beyond what descent may trade for a smaller V
        self.smooth_values: list[float] = []

    def value(self, moments: Law, mu: Tensor) -> float:
        """F, in units of edge weight."""
        self.evaluations += 1
        return probit_cut.law_value(self.csr, moments, mu)

    def record(self, value: float) -> None:
        self.smooth_values.append(value)

    def drop(self, mu: Tensor) -> None:
        """Set V = 0 and note what that loses."""
        n, nnz = self.csr.n_vertices, self.csr.indices.numel()
        law = Law(mu.new_zeros(nnz), mu.new_full((n,), self.beta**-2))
        self.record(self.value(law, mu))
        self.lost += max(0.0, self.smooth_values[-2] - self.smooth_values[-1])

    def is_gone(self, mean_square: float) -> bool:
        """Whether rows of this mean square length count as V = 0."""
        return self.beta**2 * mean_square < GONE

    def draw(self, rank: int) -> Tensor:
        """The next x of conditioning, float64 (rank,)."""
        self.draws += 1
        x = streams.normals(self.seed, "conditioning", self.draws - 1, (rank,))
        return x.double().to(self.csr.weights.device)


class _InMean:
    """-F / sum |w| as a function of mu alone, at fixed second moments; the point is mu, float64 (n,)."""

    def __init__(self, problem: _Problem, moments: Law) -> None:
        self.problem, self.moments = problem, moments
        self.cut = math.nan

    def value(self, point: Tensor) -> float:
        self.cut = self.problem.value(self.moments, point)
        return -self.cut / self.problem.absolute_weight

    def gradient(self, point: Tensor, out: Tensor) -> None:
        slopes = probit_cut.law_derivatives(self.problem.csr, self.moments, point).gradient
        torch.div(slopes, -self.problem.absolute_weight, out=out)

    def precondition(self, vector: Tensor) -> None:
        vector.mul_(self.problem.metric)


class _InBoth:
    """-F / sum |w| + lam sum d_i |v_i|^2 as a function of mu and V together.

    The point is mu, then the rows of V: float32 (n + n r,), whose parts are views. float32 halves what
    descent and the gathers move; F is exact at the rounded point.
    """

    def __init__(self, problem: _Problem, rank: int) -> None:
        self.problem = problem
        self.n, self.rank = problem.csr.n_vertices, rank
        self.penalty = problem.relative_degree * (LAM_TOTAL / max(self.n, 1))
        self.pull = 2.0 * self.penalty[:, None].float()
        self.metric = problem.metric.float()
        self.cut = math.nan
        self.mean_square = math.nan

    def parts(self, point: Tensor) -> tuple[Tensor, Tensor]:
        """Views of mu (n,) and V (n, r)."""
        return point[: self.n], point[self.n :].view(self.n, self.rank)

    def value(self, point: Tensor) -> float:
        problem, (mu, V) = self.problem, self.parts(point)
        self.moments = probit_cut.law(problem.csr, V, problem.beta)
        squares = self.moments.variances.double() - problem.beta**-2
        self.mean_square = _total(squares) / self.n
        self.cut = problem.value(self.moments, mu.double())
        return -self.cut / problem.absolute_weight + _total(self.penalty * squares)

    def gradient(self, point: Tensor, out: Tensor) -> None:
        problem, (mu, V), (out_mu, out_V) = self.problem, self.parts(point), self.parts(out)
        derivatives = probit_cut.law_derivatives(problem.csr, self.moments, mu.double())
        out_mu.copy_(derivatives.gradient / -problem.absolute_weight)
        torch.mul(V, self.pull, out=out_V)
        out_V.add_(
            probit_cut.hessian_product(problem.csr, derivatives, V), alpha=-1.0 / problem.absolute_weight
        )

    def precondition(self, vector: Tensor) -> None:
        mu, V = self.parts(vector)
        mu.mul_(self.metric)
        V.mul_(self.metric[:, None])


def _sosp(problem: _Problem, V: Tensor, start: Law) -> tuple[Tensor | None, Tensor]:
    """What is left of V (None when it is gone), and mu, float64 (n,)."""
    objective = _InBoth(problem, V.shape[1])
    point = torch.cat([V.new_zeros(len(V)), V.flatten()]).float()
    is_gone = False

    def after_step(point: Tensor, value: float) -> bool:
        nonlocal is_gone
        problem.record(objective.cut)
        is_gone = problem.is_gone(objective.mean_square)
        return is_gone or problem.is_late()

    size = math.sqrt(_mean_square(start, problem.beta))
    steps, is_gone = 0, problem.is_gone(size**2)
    value = objective.value(point) if not is_gone else math.nan
    for _ in range(MAX_ESCAPES):
        if is_gone or problem.is_late() or steps >= MAX_SOSP_STEPS:
            break
        # A saddle, the first one by symmetry: an exact minimum has V = 0.
        point = _conditioned(problem, objective, point, value)
        descent = descend(
            objective, point, max_steps=MAX_SOSP_STEPS - steps, tolerance=STALL_TOLERANCE,
            longest_move=LONGEST_MOVE * size, stop=after_step,
        )  # fmt: skip
        point, value, steps = descent.point, descent.value, steps + max(descent.steps, 1)
    mu, residue = objective.parts(point)
    return None if is_gone else residue, mu.double()


def _conditioned(problem: _Problem, objective: _InBoth, point: Tensor, before: float) -> Tensor:
    """The point after moving a share of V's randomness into mu, the best of a few directions.

    `before` is the objective at the point. The mean over directions is no higher; should none of the few
    reach it, the difference is noted as lost.
    """
    share = CONDITIONED_SHARE
    mu, V = objective.parts(point)
    shrunk = (math.sqrt(1.0 - share**2) * V).flatten()
    best, best_value, best_cut = point, math.inf, math.nan
    for _ in range(CONDITIONED_DRAWS):
        x = problem.draw(V.shape[1]).float()
        trial = torch.cat([mu + share * _along(V, x), shrunk])
        value = objective.value(trial)
        if value < best_value:
            best, best_value, best_cut = trial, value, objective.cut
    problem.record(best_cut)
    problem.lost += max(0.0, best_value - before) * problem.absolute_weight
    return best


def _homotopy(problem: _Problem, V: Tensor, start: Law) -> tuple[Tensor | None, Tensor]:
    """As `_sosp`."""
    scale = 1.0
    mu = _no_means(V)
    size = math.sqrt(_mean_square(start, problem.beta))
    if not problem.is_gone(size**2):
        draws = [_along(V.double(), problem.draw(V.shape[1])) for _ in range(CONDITIONED_DRAWS)]
        scale = math.sqrt(1.0 - CONDITIONED_SHARE**2)
        law = probit_cut.scaled_law(problem.csr, start, problem.beta, scale)
        mu = max((CONDITIONED_SHARE * along for along in draws), key=lambda mean: problem.value(law, mean))
    while not problem.is_gone((scale * size) ** 2):
        if problem.is_late():
            return scale * V, mu
        objective = _InMean(problem, probit_cut.scaled_law(problem.csr, start, problem.beta, scale))

        def after_step(point: Tensor, value: float, objective: _InMean = objective) -> bool:
            problem.record(objective.cut)
            return problem.is_late()

        descent = descend(
            objective, mu, max_steps=HOMOTOPY_STEPS, tolerance=STALL_TOLERANCE,
            longest_move=LONGEST_MOVE * scale * size, stop=after_step,
        )  # fmt: skip
        mu = descent.point
        scale *= SHRINK
    return None, mu


def _conditional(problem: _Problem, V: Tensor, start: Law) -> tuple[Tensor | None, Tensor]:
    """As `_sosp`."""
    mu = _no_means(V)
    axes = principal_axes(V.double())
    for k in range(axes.shape[1]):
        if problem.is_late():
            return axes[:, k:], mu
        rest = probit_cut.law(problem.csr, axes[:, k + 1 :], problem.beta)
        axis = axes[:, k].contiguous()

        def value(x: float, rest: Law = rest, mu: Tensor = mu, axis: Tensor = axis) -> float:
            return problem.value(rest, torch.add(mu, axis, alpha=x))

        x, best = maximise_along(value, problem.smooth_values[-1], is_even=k == 0)
        mu = torch.add(mu, axis, alpha=x)
        problem.record(best)
    return None, mu


def _along(V: Tensor, x: Tensor) -> Tensor:
    """V @ x, each row summed on its own."""
    return (V * x).sum(dim=1)


def _mean_square(moments: Law, beta: float) -> float:
    """Mean of |v_i|^2, 0 for no vertices."""
    squares = moments.variances.double() - beta**-2
    return _total(squares) / squares.numel() if squares.numel() else 0.0


def _total(x: Tensor) -> float:
    """Sum in float64; on the CPU by numpy, whose order of summation no number of threads changes."""
    return float(x.double().numpy().sum()) if x.device.type == "cpu" else float(x.double().sum())


def _no_means(V: Tensor) -> Tensor:
    """A mean of 0 for every row of V, float64 (n,)."""
    return V.new_zeros(len(V), dtype=torch.float64)


def _cut_value(csr: CSR, signs: Tensor) -> float:
    return float(replicas.cut_values(csr, replicas.pack_signs(signs[:, None]))[0])


def _best_plane(problem: _Problem, V: Tensor, mu: Tensor) -> tuple[Tensor, float]:
    """Signs of V x + mu for the best of RESCUE_PLANES x, and their cut."""
    planes = torch.stack([problem.draw(V.shape[1]) for _ in range(RESCUE_PLANES)], dim=1)
    affine = torch.cat([V, mu[:, None].to(V.dtype)], dim=1).float().contiguous()
    planes = torch.cat([planes, planes.new_ones(1, RESCUE_PLANES)]).float().contiguous()
    packed = replicas.project_signs(affine, planes)
    cuts = replicas.cut_values(problem.csr, packed)[:RESCUE_PLANES]
    winner = int(cuts.argmax())
    return replicas.unpack_signs(packed)[:, winner].contiguous(), float(cuts[winner])


def _expected_hyperplane(problem: _Problem, V: Tensor, start: Law) -> float:
    """Mean cut of a hyperplane; of soft signs where some row of V is zero."""
    squares = start.variances.double() - problem.beta**-2
    law = start
    if bool((squares > 0.0).all()):
        # The complements that come with a law in float32 belong to its beta.
        is_double = start.complements is None
        law = Law(start.covariances, squares) if is_double else probit_cut.law(problem.csr, V, math.inf)
    return probit_cut.law_value(problem.csr, law, torch.zeros_like(squares))


def _guarantee(problem: _Problem, start: Law, method: str, alpha: float) -> float:
    """See `Derandomized.guarantee`."""
    weights = problem.csr.weights.double()
    has_unit_rows = bool(((start.variances - problem.beta**-2 - 1.0).abs() < UNIT_TOLERANCE).all())
    if method == "homotopy" or not has_unit_rows or bool((weights < 0.0).any()):
        return math.nan
    relaxation = 0.25 * _total(weights * (1.0 - start.covariances))
    allowance = LAM_TOTAL * problem.absolute_weight if method == "sosp" else 0.0
    return alpha * relaxation - allowance - problem.lost
