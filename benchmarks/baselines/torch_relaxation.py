"""The MAXCUT relaxation as a torch user would solve it: three methods on the same matrix and start.

    maximise  value(V) = W/2 - <V, A V>/4   over V (n, r) with unit rows,

A the weighted adjacency matrix as a sparse CSR tensor, W the sum of the weights. The methods minimise
f(V) = <V, A V>/2 on the product of n spheres, where with g = A V (row i is g_i)

    gradient      G_i = g_i - <g_i, v_i> v_i
    Hessian of f  H[U]_i = (A U)_i - <(A U)_i, v_i> v_i - <g_i, v_i> u_i.

Each method comes plain, as the textbook has it, and tuned. Tuned, L-BFGS and the trust region take
d_i = max(-<g_i, v_i>, a little) as a diagonal preconditioner: at the optimum it is |g_i|, and without it
the vertices of high degree decide the step of all others. Tuned, Jacobi finds its damping, accelerates by
Nesterov's schedule, and restarts when the value falls. Jacobi and the line search take one product with A a
step, the trust region one an inner step. float32, sums over rows in float64, nothing copied needlessly.

Each method calls ``observe(V, value)`` after every iteration and stops when that returns True.

Sources: Absil, Baker, Gallivan (2007) for the trust region; Huang, Gallivan, Absil (2015) for limited
memory BFGS on manifolds, here with transport by projection of the newest pair only; O'Donoghue and Candes
(2015) for restarting momentum when the value falls.
"""

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sdp.maxcut.graph import Graph

Observer = Callable[[Tensor, float], bool]
Scale = Callable[[Tensor], Tensor]

SMALLEST_DIAGONAL = (
    1e-3  # of the mean of |g_i|: keeps the preconditioner bounded at vertices that hardly matter
)
TINY = 1e-30
ARMIJO = 1e-4
SMALLEST_STEP = 1e-6
INNER_REDUCTION = 0.1  # a subproblem stops when its residual has fallen by this
FEW_STEPS, SHRINK = 5, 0.8  # Jacobi: a fall so soon after a restart says that the damping is too weak


@dataclass(frozen=True)
class Relaxation:
    """The matrix of the relaxation as torch wants it.

    Attributes:
        adjacency: (n, n) sparse CSR float32 with int32 indices, which is what MKL multiplies fastest.
        half_weight: W/2, the value at <V, A V> = 0.
    """

    adjacency: Tensor
    half_weight: float

    @classmethod
    def of(cls, graph: Graph) -> "Relaxation":
        """The relaxation of a graph; its arrays are copied."""
        n = graph.n_vertices
        adjacency = torch.sparse_csr_tensor(
            torch.from_numpy(graph.indptr.astype("int32")),
            torch.from_numpy(graph.indices.astype("int32")),
            torch.from_numpy(graph.weights.astype("float32")),
            (n, n),
        )
        return cls(adjacency, graph.total_weight / 2)

    def value(self, inner: float) -> float:
        """Value of a V with <V, A V> = inner, in units of edge weight."""
        return self.half_weight - inner / 4


def start(n_vertices: int, rank: int, seed: int) -> Tensor:
    """(n, rank) float32 rows, uniform on the sphere."""
    generator = torch.Generator().manual_seed(seed)
    return _unit_rows(torch.randn(n_vertices, rank, generator=generator))


def _unit_rows(x: Tensor) -> Tensor:
    lengths: Tensor = torch.linalg.vector_norm(x, dim=1, keepdim=True)
    return x / lengths.clamp_min(torch.finfo(x.dtype).tiny)


def _row_dots(x: Tensor, y: Tensor) -> Tensor:
    """(n, 1) inner products of the rows."""
    return torch.einsum("ij,ij->i", x, y).unsqueeze(1)


def _dot(x: Tensor, y: Tensor) -> float:
    """<x, y>, each row in float32 and their sum in float64: one float32 sum would lose the last digits."""
    return float(torch.einsum("ij,ij->i", x, y).sum(dtype=torch.float64))


def _tangent(u: Tensor, v: Tensor) -> Tensor:
    """U without its part along V, row by row."""
    return torch.addcmul(u, _row_dots(u, v), v, value=-1)


def unscaled(radial: Tensor) -> Tensor:
    """No preconditioner: ones."""
    return torch.ones_like(radial)


def by_force(radial: Tensor) -> Tensor:
    """(n, 1) preconditioner from the radial parts <g_i, v_i>: the pull |g_i| on each vertex."""
    return torch.clamp_min(-radial, SMALLEST_DIAGONAL * float(radial.abs().mean()) + TINY)


class _Point:
    """A point V with what every method needs there: g = A V, its radial part, and <V, A V>."""

    def __init__(self, adjacency: Tensor, v: Tensor) -> None:
        self.v = v
        self.g = adjacency @ v
        self.radial = _row_dots(self.g, v)
        self.inner = float(self.radial.sum(dtype=torch.float64))

    def gradient(self) -> Tensor:
        return torch.addcmul(self.g, self.radial, self.v, value=-1)


def lbfgs(
    relaxation: Relaxation, v: Tensor, observe: Observer, scale: Scale = unscaled, memory: int = 5
) -> None:
    """Riemannian limited memory BFGS with backtracking; retraction by normalising the rows.

    Args:
        relaxation: the matrix.
        v: (n, r) float32 start with unit rows; not changed.
        observe: called with V and its value after each iteration; True stops.
        scale: diagonal preconditioner, `unscaled` or `by_force`.
        memory: pairs kept.

    Returns when not even steepest descent improves the value any more in float32.
    """
    here = _Point(relaxation.adjacency, v)
    gradient = here.gradient()
    pairs: deque[tuple[Tensor, Tensor, float]] = deque(maxlen=memory)
    while not observe(here.v, relaxation.value(here.inner)):
        diagonal = scale(here.radial)
        direction = _tangent(_two_loops(gradient, diagonal, pairs), here.v)
        slope = _dot(gradient, direction)
        if slope >= 0:  # the memory no longer describes this place
            pairs.clear()
            direction = -gradient / diagonal
            slope = _dot(gradient, direction)
        found = _backtrack(relaxation.adjacency, here, direction, slope)
        if found is None:
            if not pairs:
                return
            pairs.clear()
            continue
        there, step = found
        new_gradient = there.gradient()
        s = _tangent(direction.mul_(step), there.v)
        y = new_gradient - _tangent(gradient, there.v)
        curvature = _dot(s, y)
        if curvature > 1e-8 * math.sqrt(_dot(s, s) * _dot(y, y)):
            pairs.append((s, y, curvature))
        here, gradient = there, new_gradient


def _backtrack(
    adjacency: Tensor, here: _Point, direction: Tensor, slope: float
) -> tuple[_Point, float] | None:
    """The first of the steps 1, 1/2, 1/4, ... with enough decrease (Armijo), or None."""
    step = 1.0
    while step > SMALLEST_STEP:
        there = _Point(adjacency, _unit_rows(torch.add(here.v, direction, alpha=step)))
        if there.inner / 2 <= here.inner / 2 + ARMIJO * step * slope:
            return there, step
        step /= 2
    return None


def _two_loops(gradient: Tensor, diagonal: Tensor, pairs: deque[tuple[Tensor, Tensor, float]]) -> Tensor:
    """Minus the inverse Hessian's estimate times the gradient."""
    q = gradient.clone()
    alphas: list[float] = []
    for s, y, curvature in reversed(pairs):
        alpha = _dot(s, q) / curvature
        q.add_(y, alpha=-alpha)
        alphas.append(alpha)
    if pairs:
        _, y, curvature = pairs[-1]
        q.div_(diagonal).mul_(curvature / _dot(y, y / diagonal))
    else:
        q.div_(diagonal)
    for (s, y, curvature), alpha in zip(pairs, reversed(alphas), strict=True):
        q.add_(s, alpha=alpha - _dot(y, q) / curvature)
    return q.neg_()


def trust_region(
    relaxation: Relaxation, v: Tensor, observe: Observer, scale: Scale = unscaled, max_inner: int = 40
) -> None:
    """Riemannian trust region; subproblems by conjugate gradients cut off at the border (Steihaug, Toint).

    Args:
        relaxation: the matrix.
        v: (n, r) float32 start with unit rows; not changed.
        observe: called with V and its value after each outer iteration; True stops.
        scale: diagonal preconditioner, `unscaled` or `by_force`.
        max_inner: products with A that one subproblem may take.

    Returns when the radius has shrunk to nothing: float32 can tell no improvement any more.
    """
    here = _Point(relaxation.adjacency, v)
    # Lengths are in the preconditioner's norm; this one is a unit move of every row.
    full_length = math.sqrt(float(scale(-here.radial.abs()).sum(dtype=torch.float64)))
    radius = full_length / 4
    while not observe(here.v, relaxation.value(here.inner)):
        step, decrease = _steihaug(relaxation.adjacency, here, scale(here.radial), radius, max_inner)
        there = _Point(relaxation.adjacency, _unit_rows(here.v + step))
        agreement = (here.inner - there.inner) / 2 / max(decrease, TINY)
        if agreement < 0.25:
            radius /= 4
            if radius < SMALLEST_STEP * full_length:
                return
        elif agreement > 0.75:
            radius = min(2 * radius, full_length)
        if agreement > 0.05:
            here = there


def _steihaug(
    adjacency: Tensor, here: _Point, diagonal: Tensor, radius: float, max_inner: int
) -> tuple[Tensor, float]:
    """Approximate minimiser of the quadratic model within the radius, and the decrease it promises."""
    step = torch.zeros_like(here.v)
    residual = here.gradient()
    scaled = residual / diagonal
    direction = -scaled
    rho = first_rho = _dot(residual, scaled)
    decrease = 0.0
    length_step, length_mixed, length_direction = 0.0, 0.0, rho
    for _ in range(max_inner):
        curved = torch.addcmul(_tangent(adjacency @ direction, here.v), here.radial, direction, value=-1)
        curvature = _dot(direction, curved)
        alpha = rho / curvature if curvature > 0 else math.inf
        length_next = (
            length_step + 2 * alpha * length_mixed + alpha * alpha * length_direction
            if math.isfinite(alpha)
            else math.inf
        )
        if length_next >= radius * radius:
            # Walk to the border: |step + tau direction| = radius in the preconditioner's norm.
            slack = radius * radius - length_step
            root = math.sqrt(length_mixed * length_mixed + length_direction * max(slack, 0.0))
            tau = max(slack, 0.0) / (length_mixed + root) if length_mixed + root > 0 else 0.0
            decrease += tau * rho - 0.5 * tau * tau * curvature
            return step.add_(direction, alpha=tau), decrease
        step.add_(direction, alpha=alpha)
        decrease += 0.5 * alpha * rho
        residual.add_(curved, alpha=alpha)
        torch.div(residual, diagonal, out=scaled)
        rho_next = _dot(residual, scaled)
        if rho_next <= INNER_REDUCTION**2 * first_rho:
            break
        beta = rho_next / rho
        length_mixed = beta * (length_mixed + alpha * length_direction)
        length_direction = rho_next + beta * beta * length_direction
        length_step = length_next
        direction.mul_(beta).sub_(scaled)
        rho = rho_next
    return step, decrease


def jacobi(
    relaxation: Relaxation, v: Tensor, observe: Observer, damping: float = 0.5, momentum: float = 0.9
) -> None:
    """The mixing method's step in all rows at once, damped, with a constant share of the last move added.

        v_i <- normalize((1 - damping) v_i - damping g_i/|g_i| + momentum (v_i - v_i before))

    Args:
        relaxation: the matrix.
        v: (n, r) float32 start with unit rows; not changed.
        observe: called with V and its value after each iteration; True stops.
        damping: share of the way to the mixing method's target, in (0, 1].
        momentum: in [0, 1).
    """
    previous = v
    while True:
        g = relaxation.adjacency @ v
        if observe(v, relaxation.value(_dot(v, g))):
            return
        ahead = torch.lerp(v, _unit_rows(g).neg_(), damping)
        previous, v = v, _unit_rows(ahead.add_(v - previous, alpha=momentum))


def restarted_jacobi(relaxation: Relaxation, v: Tensor, observe: Observer, damping: float = 0.6) -> None:
    """Jacobi with damping that is found, and accelerated momentum that restarts when the value falls.

        v_i <- normalize(p_i - damping (g_i/|g_i| + p_i)),   p_i = normalize(v_i + k/(k+3) (v_i - v_i before))

    Undamped, rows that share an edge overshoot together: a bipartite graph never settles, and with hubs all
    rows end up equal. How much damping that takes depends on the graph, so it is found: each fall of the
    value within a few steps of the last one takes `SHRINK` off.

    Args:
        relaxation: the matrix.
        v: (n, r) float32 start with unit rows; not changed.
        observe: called with V and its value after each iteration; True stops.
        damping: first share of the way to the mixing method's target, in (0, 1].
    """
    adjacency = relaxation.adjacency
    ahead, previous, best = v, v, -math.inf
    steps = 0  # since the last restart
    while True:
        g = adjacency @ ahead
        value = relaxation.value(_dot(ahead, g))
        if value < best:
            if steps <= FEW_STEPS:
                damping *= SHRINK
            ahead, steps, best = v, 0, -math.inf  # forget the speed, keep the place
            continue
        if observe(ahead, value):
            return
        best = value
        steps += 1
        v = _unit_rows(torch.lerp(ahead, _unit_rows(g).neg_(), damping))
        ahead = _unit_rows(torch.lerp(previous, v, 1 + steps / (steps + 3)))
        previous = v


METHODS: dict[str, Callable[[Relaxation, Tensor, Observer], None]] = {
    "torch L-BFGS": lbfgs,
    "torch trust region": trust_region,
    "torch Jacobi with momentum": jacobi,
    "torch L-BFGS, tuned": partial(lbfgs, scale=by_force),
    "torch trust region, tuned": partial(trust_region, scale=by_force),
    "torch Jacobi with momentum, tuned": restarted_jacobi,
}
