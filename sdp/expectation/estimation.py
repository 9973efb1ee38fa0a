"""From an integrand to an estimate: which points, how many, and how sure.

- q = 0: one point.
- q <= 4: a ladder of quadratures until two neighbours agree. If they do not within the budget, sampling is done too,
  and whichever states the smaller error is returned.
- otherwise: antithetic pairs (or Sobol points), doubled until the interval is as narrow as `rel_error` asks. Doubling
  keeps every earlier draw: the new ones have the rows behind them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from sdp.expectation.control import MIN_BATCHES, MIN_DRAWS, second_moments, subtract_controls
from sdp.expectation.estimate import Later, half_width_factor, mean_of, pieces, standard_error
from sdp.expectation.integrals import Integrand
from sdp.expectation.sampling import (
    LEAN_AFTER,
    MAX_QUADRATURE_RANK,
    SCRAMBLES,
    Rung,
    exact_draw,
    quadrature_draw,
    rungs,
    sobol_draws,
    sobol_size,
)
from sdp_kernels.expectation import Draw, batch_sizes
from sdp_kernels.threads import one_thread

CONFIDENCE = 0.95  # of the interval that `rel_error` speaks of
# Where no `rel_error` is asked for, quadrature climbs until its orders agree so far ...
AGREEMENT = {torch.float32: 1e-6, torch.float64: 1e-9}
# ... to this many roundings at most ...
ROUNDING = 8.0
# ... and if the budget ends first, this much is still better than sampling could be.
ACCEPTED = 1e-3
# Batch means that an estimate may hold until its standard errors are asked for: these times the bytes of its value ...
KEPT_RATIO = 8
# ... or so many bytes.
KEPT_BYTES = 1 << 20


@dataclass(frozen=True)
class Options:
    """How to estimate; see `sdp.Expectation`."""

    n_samples: int
    seed: int
    method: str
    antithetic: bool
    rel_error: float | None
    max_samples: int
    control_variate: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """An estimate before it gets its shape.

    Attributes:
        value: (M,) float64.
        known_error: (M,) standard errors, at once or later: of Hessian-vector products they cost as much as the
            products, and not everybody asks.
        n_samples: evaluations of the head behind `value`.
        method: "exact", "quadrature", "sampling" or "sobol".
        degrees_of_freedom: of Student's t, 0 if none.
        converged: whether `rel_error` was met.
        draws: with their weights, which give `value` (but for a control variate).
        notes: in words.
    """

    value: Tensor
    known_error: Tensor | Later
    n_samples: int
    method: str
    degrees_of_freedom: int = 0
    converged: bool = True
    draws: list[tuple[Draw, float]] = field(default_factory=list)
    notes: tuple[str, ...] = ()

    @property
    def error(self) -> Tensor:
        """(M,) standard errors."""
        return self.known_error if isinstance(self.known_error, Tensor) else self.known_error()

    def half_width(self) -> float:
        """Norm of the half-widths of the 95% intervals."""
        factor = half_width_factor(self.method, self.degrees_of_freedom, CONFIDENCE)
        return factor * float(torch.linalg.vector_norm(self.error))


def integrate(integrand: Integrand, options: Options) -> Outcome:
    """Average an integrand.

    Raises:
        ValueError: quadrature is asked for where q > 4, or the head's average is not finite.
    """
    rank = integrand.frozen.rank
    if rank == 0:
        return _finite(_exact(integrand))
    if options.method == "quadrature" and rank > MAX_QUADRATURE_RANK:
        raise ValueError(
            f"`method` 'quadrature' needs a rank of W of at most {MAX_QUADRATURE_RANK}; it is {rank}."
        )
    if options.method == "sobol":
        return _finite(_sobol(integrand, options))
    if options.method == "sampling" or rank > MAX_QUADRATURE_RANK:
        return _finite(_sampling(integrand, options))
    nodes = _quadrature(integrand, options)
    accepted = ACCEPTED if options.rel_error is None else options.rel_error
    if nodes is not None and (options.method == "quadrature" or _is_within(integrand, nodes, accepted)):
        return _finite(nodes)
    samples = _finite(_sampling(integrand, options))
    # A quadrature that is not finite has no half-width below the samples'.
    return nodes if nodes is not None and nodes.half_width() < samples.half_width() else samples


def _exact(integrand: Integrand) -> Outcome:
    draw = exact_draw(integrand.frozen.law.L)
    value = _lifted(integrand, draw)
    return Outcome(value, torch.zeros_like(value), 1, "exact", draws=[(draw, 1.0)])


def _lifted(integrand: Integrand, draw: Draw) -> Tensor:
    """What the user asked for, (M,), from weighted points, which are one batch."""
    batch = integrand.batches(draw)[0]
    with one_thread():
        return integrand.lift(batch)


def _quadrature(integrand: Integrand, options: Options) -> Outcome | None:
    """The finest quadrature needed; None where the budget does not allow two that can be trusted."""
    L = integrand.frozen.law.L
    q = L.shape[1]
    wanted = AGREEMENT[L.dtype] if options.rel_error is None else options.rel_error
    whole, lean = rungs(q, options.n_samples, forced=options.method == "quadrature")
    rounding = ROUNDING * torch.finfo(L.dtype).eps
    blocks = list(itertools.chain.from_iterable(integrand.groups()))

    def climb(before: Tensor | None, ladder: list[Rung]) -> Iterator[Outcome]:
        for rung in ladder:
            draw = quadrature_draw(q, rung, L)
            value = _lifted(integrand, draw)
            if before is not None:
                error = _difference(value, before, blocks, rounding)
                yield Outcome(value, error, draw.n, "quadrature", draws=[(draw, 1.0)])
            before = value

    low = [rung for rung in whole if rung.order <= LEAN_AFTER or not lean]
    outcome: Outcome | None = None
    for outcome in climb(None, low):
        if _is_within(integrand, outcome, wanted):
            return outcome
    if outcome is None:
        return None
    last_whole = outcome
    for outcome in climb(last_whole.value, lean):
        if _is_within(integrand, outcome, wanted):
            return outcome
        if not outcome.half_width() < last_whole.half_width():
            # The light nodes matter, or the head is rough: go on with whole rules.
            outcome = last_whole
            for outcome in climb(last_whole.value, whole[len(low) :]):
                if _is_within(integrand, outcome, wanted):
                    return outcome
            break
    return outcome if options.rel_error is None else replace(outcome, converged=False)


def _difference(value: Tensor, before: Tensor, blocks: list[int], rounding: float) -> Tensor:
    """|value - before|, but no less than its root mean square over a block, nor than rounding.

    The differences of single entries change sign and so vanish here and there; their block tells their size.
    """
    made = []
    for new, old in zip(pieces(value, blocks), pieces(before, blocks), strict=True):
        difference = (new - old).abs()
        floor = max(_rms(difference), rounding * _rms(new))
        made.append(difference.clamp_min(floor))
    return torch.cat(made)


def _rms(part: Tensor) -> float:
    return float(torch.linalg.vector_norm(part)) / math.sqrt(max(1, part.numel()))


def _is_within(integrand: Integrand, outcome: Outcome, tolerance: float) -> bool:
    """Whether each part's half-width is below `tolerance` times the part's norm, or is nothing but rounding."""
    factor = half_width_factor(outcome.method, outcome.degrees_of_freedom, CONFIDENCE)
    rounding = 4.0 * ROUNDING * torch.finfo(integrand.frozen.law.L.dtype).eps
    groups = [sum(blocks) for blocks in integrand.groups()]
    for value, error in zip(pieces(outcome.value, groups), pieces(outcome.error, groups), strict=True):
        size = max(tolerance * float(torch.linalg.vector_norm(value)), rounding * value.numel() ** 0.5)
        if not factor * float(torch.linalg.vector_norm(error)) <= size:
            return False
    return True


def _sampling(integrand: Integrand, options: Options) -> Outcome:
    frozen = integrand.frozen
    dtype, device = frozen.law.L.dtype, frozen.law.L.device
    wants_control = options.control_variate and options.antithetic and integrand.is_controlled
    per_draw = 2 if options.antithetic else 1
    n, first = options.n_samples // per_draw, 0
    batches: list[Tensor] = []
    moments: list[Tensor] = []
    sizes: list[float] = []
    draws: list[Draw] = []
    while True:
        draw = Draw(n=n, seed=options.seed, first=first, antithetic=options.antithetic)
        draws.append(draw)
        batches.append(integrand.batches(draw))
        sizes += [float(size) for size in batch_sizes(n)]
        first += n
        if wants_control and len(sizes) >= MIN_BATCHES and first >= MIN_DRAWS * len(sizes):
            moments += [second_moments(late, frozen.rank, dtype, device) for late in draws[len(moments) :]]
        outcome = _summarise(integrand, torch.cat(batches), sizes, moments)
        if wants_control and not moments:
            note = f"control variate left out: it wants {MIN_DRAWS} pairs a batch"
            outcome = replace(outcome, notes=(note,))
        weighted = [(draw, draw.n / first) for draw in draws]
        enough = options.rel_error is None or _is_within(integrand, outcome, options.rel_error)
        if enough or 2 * first * per_draw > options.max_samples:
            return replace(outcome, n_samples=first * per_draw, converged=enough, draws=weighted)
        n = first


def _summarise(integrand: Integrand, batches: Tensor, sizes: list[float], moments: list[Tensor]) -> Outcome:
    lengths = torch.tensor(sizes, dtype=torch.float64, device=batches.device)
    notes: tuple[str, ...] = ()
    if moments:
        batches, shares = subtract_controls(batches, lengths, integrand.controls(torch.cat(moments)))
        notes = (
            f"control variate: a quadratic model took {100 * max(shares):.0f}% of the variance away"
            if any(shares)
            else "control variate left out: the quadratic model explains less than half of the variance",
        )
    value, error = _mean_and_error(integrand, batches, lengths)
    return Outcome(value, error, 0, "sampling", degrees_of_freedom=len(batches) - 1, notes=notes)


def _mean_and_error(integrand: Integrand, batches: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor | Later]:
    """What the user asked for, (M,), and its standard errors, later if the batches may be kept."""
    with one_thread():
        value = integrand.lift(mean_of(batches, sizes))

    def error() -> Tensor:
        with one_thread():
            return standard_error(batches, sizes, integrand.squares)

    return value, Later(error) if batches.nbytes <= max(KEPT_RATIO * value.nbytes, KEPT_BYTES) else error()


def _sobol(integrand: Integrand, options: Options) -> Outcome:
    L = integrand.frozen.law.L
    n, first = sobol_size(options.n_samples), 0
    draws: list[Draw] = []
    means = torch.zeros((SCRAMBLES, 0), dtype=torch.float64, device=L.device)
    sizes = torch.ones(SCRAMBLES, dtype=torch.float64, device=L.device)
    while True:
        new = list(sobol_draws(L.shape[1], n, options.seed, first=first, like=L))
        found = torch.cat([integrand.batches(draw) for draw in new])
        # Each doubling brings as many points as there were.
        means = 0.5 * (means + found) if draws else found
        draws += new
        first += n
        value, error = _mean_and_error(integrand, means, sizes)
        outcome = Outcome(
            value,
            error,
            first * SCRAMBLES,
            "sobol",
            degrees_of_freedom=SCRAMBLES - 1,
            draws=[(draw, draw.n / (first * SCRAMBLES)) for draw in draws],
        )
        if options.rel_error is None or _is_within(integrand, outcome, options.rel_error):
            return outcome
        if 2 * outcome.n_samples > options.max_samples:
            return replace(outcome, converged=False)
        n = first


def _finite(outcome: Outcome) -> Outcome:
    if not bool(torch.isfinite(outcome.value).all()):
        raise ValueError("the average of `head` is not finite: it gives NaN or infinity at some sample.")
    return outcome
