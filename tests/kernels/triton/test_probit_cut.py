"""The exact probit cut of the Triton twin, interpreted, against float64: the oracle and the CPU engine."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from scipy.special import ndtr
from torch import Tensor
from triton.runtime import interpreter

from sdp_kernels import probit_cut
from sdp_kernels.graph import CSR
from sdp_kernels.probit_cut import Derivatives, Law
from sdp_kernels.triton import probit_cut as twin
from tests.kernels.test_probit_cut import GRAPHS, random_point
from tests.kernels.triton.guards import Guarded
from tests.kernels.triton.test_math import TARGET_ERROR, bent
from tests.reference import cuts
from tests.reference import probit_cut as oracle

# An edge's probability is a sum of four float32 terms of at most 1/2, so off by up to 2e-7; over many edges such errors
# cancel. Gradients near |r| = 1 take differences of a beta-th of their terms. Both are the docstrings' promises.
VALUE = 1e-7  # of sum |w|
GRADIENT = 1e-5  # of the largest entry
ONE_EDGE = 3e-7  # of its weight


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


@pytest.fixture
def on_cpu(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[], Any]], Any]:
    """Runs something on the CPU engine."""

    def run(call: Callable[[], Any]) -> Any:
        with monkeypatch.context() as patch:
            patch.setenv("SDP_ENGINE", "cpu")
            return call()

    return run


@functools.cache
def star(n_leaves: int) -> CSR:
    """A hub in the middle of the numbering, normal weights: one row of n_leaves entries, 80 parts for 10,000."""
    hub, n = n_leaves // 2, n_leaves + 1
    leaves = torch.cat([torch.arange(hub), torch.arange(hub + 1, n)]).int()
    weights = torch.from_numpy(np.random.default_rng(0).normal(size=n_leaves).astype(np.float32))
    counts = torch.ones(n, dtype=torch.int64)
    counts[hub] = n_leaves
    indices = torch.cat([torch.full((hub,), hub), leaves, torch.full((n_leaves - hub,), hub)]).int()
    indptr = torch.nn.functional.pad(counts.cumsum(0), (1, 0))
    return CSR(indptr, indices, torch.cat([weights[:hub], weights, weights[hub:]]))


def total(csr: CSR) -> float:
    return 0.5 * float(csr.weights.abs().sum()) or 1.0


def nearly_parallel(
    n: int, angle: float, seed: int, spread: float = 0.0, rank: int = 6
) -> tuple[Tensor, Tensor]:
    """Rows along plus or minus one direction, to about this angle, of unit or lognormal length; normal means."""
    rng = np.random.default_rng(seed)
    axis = np.ones(rank) / math.sqrt(rank)
    V = rng.choice([-1.0, 1.0], size=(n, 1)) * (axis + angle * rng.normal(size=(n, rank)))
    V *= np.exp(spread * rng.normal(size=(n, 1))) / np.linalg.norm(V, axis=1, keepdims=True)
    return torch.from_numpy(V).float(), torch.from_numpy(rng.normal(size=n)).float()


def close(found: Tensor, wanted: Tensor, tolerance: float = GRADIENT) -> bool:
    """Whether nothing is off by more than this share of the largest entry."""
    assert found.shape == wanted.shape
    size = float(wanted.abs().max()) if wanted.numel() else 0.0
    return bool(((found.double() - wanted.double()).abs() <= tolerance * size).all())


POINTS = (
    (1, 1.0),
    (5, 10.0),
    (3, 50.0),
)  # rank and beta, in turn over the graphs: a call costs half a second


@pytest.mark.parametrize(
    ("W", "rank", "beta"),
    [(W, *POINTS[k % 3]) for k, W in enumerate(GRAPHS.values())],
    ids=GRAPHS.keys(),
)
def test_value_and_gradient_against_the_oracle(W: cuts.Matrix, rank: int, beta: float) -> None:
    csr = cuts.csr_of(W)
    V, mu = random_point(len(W), rank, 7, torch.float32)
    value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, mu, beta)
    V64, mu64 = (x.double().clone().requires_grad_() for x in (V, mu))
    expected = oracle.probit_cut(torch.from_numpy(cuts.dense(csr)), V64, mu64, beta)
    assert value == pytest.approx(float(expected.detach()), abs=VALUE * total(csr))
    expected.backward()  # type: ignore[no-untyped-call]
    for found, point in ((grad_V, V64), (grad_mu, mu64)):
        assert found.dtype == torch.float32
        assert close(found, torch.zeros_like(point) if point.grad is None else point.grad)


@pytest.mark.parametrize(
    ("angle", "beta", "spread"),
    [(1e-1, 10.0, 1.0), (1e-2, 50.0, 0.0), (1e-3, 1.0, 0.0), (1e-3, 50.0, 0.0), (0.0, 10.0, 0.5)],
)
def test_nearly_parallel_and_opposite(
    angle: float, beta: float, spread: float, on_cpu: Callable[[Callable[[], Any]], Any]
) -> None:
    csr = cuts.csr_of(cuts.dense_random(23, 3))
    V, mu = nearly_parallel(23, angle, 1, spread)
    for scale in (0.3, 30.0):
        point = (V, scale * mu)
        value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, *point, beta)
        V64, mean64 = (x.double() for x in point)
        exact = functools.partial(probit_cut.probit_cut_value_and_grad, csr, V64, mean64, beta)
        wanted = on_cpu(exact)
        assert value == pytest.approx(wanted[0], abs=VALUE * total(csr))
        assert close(grad_V, wanted[1])
        assert close(grad_mu, wanted[2])


@pytest.mark.parametrize("angle", [1e-1, 1e-3])
def test_gradient_that_is_a_small_difference(
    angle: float, on_cpu: Callable[[Callable[[], Any]], Any]
) -> None:
    """At mu = 0 with all edges nearly parallel: no worse than what rounding V to float32 does."""
    csr = cuts.csr_of(cuts.dense_random(23, 3))
    V, mu = nearly_parallel(23, angle, 1)
    value, grad_V, _ = probit_cut.probit_cut_value_and_grad(csr, V, 0.0 * mu, 50.0)
    exact = functools.partial(probit_cut.probit_cut_value_and_grad, csr, V.double(), 0.0 * mu.double(), 50.0)
    wanted = on_cpu(exact)
    assert value == pytest.approx(wanted[0], abs=VALUE * total(csr))
    assert close(grad_V, wanted[1], 3e-7 / angle)


def test_complements_keep_their_digits() -> None:
    """1 - r^2 from float32 covariances has none left at 1e-4."""
    csr = cuts.csr_of(cuts.dense_random(23, 3))
    rows = torch.repeat_interleave(torch.arange(23), csr.indptr.diff())
    for angle, beta in ((1e-1, 1e3), (1e-2, 50.0), (1e-3, 1e3), (1e-4, math.inf)):
        V, _ = nearly_parallel(23, angle, 2, spread=0.5)
        law = probit_cut.law(csr, V, beta)
        U, noise = V.double(), beta**-2
        a, b = U[rows], U[csr.indices]
        squares = (U * U).sum(1)
        # |a|^2 |b|^2 - (a . b)^2 by Lagrange's identity: no cancellation, so float64 holds all its digits.
        gram = 0.5 * (a[:, :, None] * b[:, None] - a[:, None] * b[:, :, None]).square().sum((1, 2))
        s_a, s_b = squares[rows] + noise, squares[csr.indices] + noise
        exact = (noise * (s_a + s_b - noise) + gram) / (s_a * s_b)
        assert law.complements is not None
        worst = float((law.complements.double() / exact - 1.0).abs().max())
        assert worst < 3e-7 / max(angle, 1.0 / beta)
        assert close(law.covariances, (a * b).sum(1), 5e-7)
        assert close(law.variances, squares + noise, 3e-7)


def test_a_star_with_10000_leaves(on_cpu: Callable[[Callable[[], Any]], Any]) -> None:
    csr = star(10_000)
    V, mu = random_point(csr.n_vertices, 5, 3, torch.float32)
    V[::7] = 0.0
    found = probit_cut.probit_cut_value_and_grad(csr, V, mu, 10.0)
    wanted = on_cpu(lambda: probit_cut.probit_cut_value_and_grad(csr, V, mu, 10.0))
    assert found[0] == pytest.approx(wanted[0], abs=VALUE * total(csr))
    assert close(found[1], wanted[1])
    assert close(found[2], wanted[2])


def test_symmetric_saddle_and_arccos() -> None:
    csr = cuts.csr_of(GRAPHS["signed torus"])
    V, mu = random_point(csr.n_vertices, 4, 3, torch.float32)
    V /= V.norm(dim=1, keepdim=True)
    value, _, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, 0.0 * mu, 10.0)
    assert grad_mu.abs().max() < 1e-15  # a mean of 0 counts as 2^-60
    i, j = np.nonzero(np.triu(cuts.dense(csr)))
    U = V.double()
    squares = (U * U).sum(1).numpy()
    products, weights = (U @ U.T).numpy()[i, j], cuts.dense(csr)[i, j]
    for beta, found in ((10.0, value), (math.inf, probit_cut.probit_cut_value(csr, V, 0.0 * mu, math.inf))):
        cosines = products / np.sqrt((squares[i] + beta**-2) * (squares[j] + beta**-2))
        exact = (weights * np.arccos(cosines)).sum() / math.pi
        assert found == pytest.approx(exact, abs=VALUE * total(csr))
    flipped = probit_cut.probit_cut_value(csr, V, -mu, 10.0)
    assert flipped == pytest.approx(probit_cut.probit_cut_value(csr, V, mu, 10.0), abs=VALUE * total(csr))


def matching(n_edges: int) -> CSR:
    """Edges {0, 1}, {2, 3}, ... of weight 1."""
    ends = torch.arange(2 * n_edges).view(-1, 2)
    return CSR(torch.arange(2 * n_edges + 1), ends.flip(1).flatten().int(), torch.ones(2 * n_edges))


def probabilities(moments: Law, mean: Tensor) -> Tensor:
    """Of each edge of a matching: what its two rows add to the value."""
    values, _ = twin._law(matching(len(mean) // 2), moments, mean, is_value=True, is_derivative=False)
    return values.double().view(-1, 2).sum(1)


def test_hard_signs_at_perfect_correlation() -> None:
    means = torch.tensor([[0.0, 0.0], [0.7, 0.7], [1.3, -0.4], [-2.0, 1.0], [0.0, 0.9], [30.0, 0.1]])
    a, b = means.double().numpy().T
    V = torch.tensor([0.6, 0.8]).expand(12, 2).clone()
    found = probabilities(probit_cut.law(matching(6), V, math.inf), means.flatten())
    np.testing.assert_allclose(found, abs(ndtr(a) - ndtr(b)), rtol=0.0, atol=ONE_EDGE)
    V[::2] *= -1.0
    found = probabilities(probit_cut.law(matching(6), V, math.inf), means.flatten())
    np.testing.assert_allclose(found, 1.0 - abs(ndtr(a) - ndtr(-b)), rtol=0.0, atol=ONE_EDGE)


def test_edge_probability_of_a_plain_law() -> None:
    """A law of one's own, float64 and without complements: every quadrant, and means from tiny to sure."""
    sizes = [0.0, 1e-30, 1e-6, 0.3, 1.0, 2.5, 4.0, 9.0, 1e4, 1e30]
    signed = torch.tensor([sign * size for sign in (-1.0, 1.0) for size in sizes], dtype=torch.float64)
    correlations = torch.tensor([-0.99, -0.6, 0.0, 0.3, 0.9, 0.99], dtype=torch.float64)
    a, b, r = (x.flatten() for x in torch.meshgrid(signed, signed, correlations, indexing="ij"))
    moments = Law(r.repeat_interleave(2), torch.ones(2 * len(r), dtype=torch.float64))
    found = probabilities(moments, torch.stack([a, b], 1).flatten())
    wanted = oracle.cut_probability(a.clamp(-9, 9), b.clamp(-9, 9), r)
    # 1 - r * r in float32 at 0.99 is off by 6e-6 of itself, half of which 1 / sqrt(1 - r^2) shows.
    assert (found - wanted).abs().max() < 1e-6
    assert (found - wanted).abs()[r.abs() < 0.95].max() < ONE_EDGE


@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_with_the_errors_of_a_target(
    sign: float, monkeypatch: pytest.MonkeyPatch, on_cpu: Callable[[Callable[[], Any]], Any]
) -> None:
    """exp2 and rsqrt as PTX promises them: values shift with them, within the issue's 1e-6."""
    csr = cuts.csr_of(GRAPHS["dense normal"])
    V, mu = nearly_parallel(csr.n_vertices, 0.3, 5)
    wanted = on_cpu(lambda: probit_cut.probit_cut_value_and_grad(csr, V.double(), 0.5 * mu.double(), 20.0))
    for operation in ("create_exp2", "create_rsqrt"):
        before = getattr(interpreter.InterpreterBuilder, operation)
        monkeypatch.setattr(interpreter.InterpreterBuilder, operation, bent(before, sign * TARGET_ERROR))
    value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, 0.5 * mu, 20.0)
    assert value == pytest.approx(wanted[0], abs=1e-6 * total(csr))
    assert close(grad_V, wanted[1], 3e-5)
    assert close(grad_mu, wanted[2], 3e-5)


def test_parts_agree_with_the_whole(on_cpu: Callable[[Callable[[], Any]], Any]) -> None:
    """Value alone, derivatives alone and both give the same bits; the Hessian is the CPU's."""
    csr = cuts.csr_of(GRAPHS["components"])
    V, mu = random_point(csr.n_vertices, 4, 9, torch.float32)
    moments = probit_cut.law(csr, V, 4.0)
    assert {x.dtype for x in moments if x is not None} == {torch.float32}
    assert moments.complements is not None
    value, both = probit_cut.law_value_and_derivatives(csr, moments, mu)
    assert value == probit_cut.law_value(csr, moments, mu) == probit_cut.probit_cut_value(csr, V, mu, 4.0)
    alone = probit_cut.law_derivatives(csr, moments, mu)
    assert all(torch.equal(x, y) for x, y in zip(alone, both, strict=True))
    eye = torch.eye(csr.n_vertices, dtype=torch.float64)
    H = probit_cut.hessian_product(csr, both, eye)
    assert H.dtype == torch.float64

    def wanted() -> Tensor:
        derivatives = probit_cut.law_derivatives(csr, probit_cut.law(csr, V.double(), 4.0), mu.double())
        return probit_cut.hessian_product(csr, derivatives, eye)

    assert close(H, on_cpu(wanted), 1e-6)


@pytest.mark.parametrize("scale", [0.0, 0.75])
def test_scaled_law(scale: float, on_cpu: Callable[[Callable[[], Any]], Any]) -> None:
    csr = cuts.csr_of(cuts.dense_random(23, 3))
    V, _ = nearly_parallel(23, 1e-2, 2, spread=0.5)

    def laws() -> tuple[Law, Law]:
        return probit_cut.scaled_law(csr, probit_cut.law(csr, V, 30.0), 30.0, scale), probit_cut.law(
            csr, scale * V, 30.0
        )

    scaled, direct = laws()
    assert scaled.complements is not None
    assert direct.complements is not None
    assert close(scaled.covariances, direct.covariances, 1e-6)
    torch.testing.assert_close(scaled.variances, direct.variances, rtol=1e-6, atol=0.0)
    torch.testing.assert_close(scaled.complements, direct.complements, rtol=2e-5, atol=0.0)
    scaled, direct = on_cpu(laws)
    assert scaled.complements is None
    assert close(scaled.covariances, direct.covariances, 1e-6)  # of a float32 scale V
    torch.testing.assert_close(scaled.variances, direct.variances, rtol=1e-6, atol=0.0)


def ascent(csr: CSR, V: Tensor, mu: Tensor, beta: float) -> tuple[list[float], Tensor, Tensor]:
    """Four steps up the expected cut in V and mu, V shrinking, as derandomisation goes."""
    values = []
    for _ in range(4):
        value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, mu, beta)
        values.append(value)
        V, mu = 0.8 * (V + 0.05 * grad_V), mu + 0.05 * grad_mu
    return values, V, mu


def test_a_descent_goes_the_same_way(on_cpu: Callable[[Callable[[], Any]], Any]) -> None:
    csr = cuts.csr_of(GRAPHS["components"])
    V = cuts.mixing_method(cuts.dense(csr), 6, 30, 1)
    mu = 0.1 * torch.from_numpy(np.random.default_rng(2).normal(size=len(V))).float()
    values, V_end, mu_end = ascent(csr, V, mu, 10.0)
    wanted = on_cpu(lambda: ascent(csr, V, mu, 10.0))
    assert values == pytest.approx(wanted[0], abs=1e-6 * total(csr))
    assert close(V_end, wanted[1], 1e-4)
    assert close(mu_end, wanted[2], 1e-4)
    p = torch.special.ndtr(10.0 * mu_end.double())
    signs = probit_cut.conditional_rounding(csr, p)
    assert torch.equal(signs, on_cpu(lambda: probit_cut.conditional_rounding(csr, p)))


def test_no_tile_changes_a_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    csr, rank = star(150), 67  # two parts of a heavy row; more columns than a tile
    V, mu = random_point(csr.n_vertices, rank, 3, torch.float32)
    results = []
    for tile in (twin.TILE_INTERPRETED, twin.TILE_INTERPRETED, 1 << 11):
        monkeypatch.setattr(twin, "TILE_INTERPRETED", tile)
        results.append(probit_cut.probit_cut_value_and_grad(csr, V, mu, 3.0))
    for value, grad_V, grad_mu in results[1:]:
        assert value == results[0][0]
        assert torch.equal(grad_V, results[0][1])
        assert torch.equal(grad_mu, results[0][2])


def test_nothing_is_read_or_written_beside(monkeypatch: pytest.MonkeyPatch) -> None:
    csr = star(131)  # a full part and one of 3 entries; tiles that do not divide 132 rows, nor 6 columns
    V, mu = random_point(csr.n_vertices, 6, 3, torch.float32)
    wanted = probit_cut.probit_cut_value_and_grad(csr, V, mu, 3.0)
    monkeypatch.setattr(twin, "TILE_INTERPRETED", 1 << 9)

    def inside(tensor: Tensor) -> Tensor:
        guarded = Guarded(tuple(tensor.shape), tensor.dtype)
        guarded.tensor.copy_(tensor)
        return guarded.tensor

    held: list[Guarded] = []

    plain = torch.Tensor.new_empty

    def guarded(like: Tensor, *shape: int, dtype: torch.dtype | None = None, device: Any = None) -> Tensor:
        if device is not None:  # the interpreter's own
            return plain(like, shape, device=device)
        held.append(Guarded(shape, dtype or like.dtype))
        return held[-1].tensor

    monkeypatch.setattr(torch.Tensor, "new_empty", guarded)
    monkeypatch.setattr(torch, "empty_like", lambda like: guarded(like, *like.shape))
    csr = CSR(csr.indptr, inside(csr.indices), inside(csr.weights))
    moments = Law(*twin.second_moments(csr, inside(V), 3.0))
    value, derivatives = twin.law_value_and_derivatives(csr, moments, inside(mu))
    product = twin.hessian_product(csr, Derivatives(*derivatives), inside(V))
    scaled = twin.scaled_moments(csr, moments, 3.0, 0.5)
    written = [*moments, *derivatives, product, scaled[0], scaled[2]]
    for buffer in held:
        buffer.check_outside()
        if any(tensor is buffer.tensor for tensor in written):
            buffer.check()
    assert len(held) > len(written)
    assert value == wanted[0]
    assert torch.equal(product, wanted[1])
    assert torch.equal(derivatives[0], wanted[2])


def test_strided_and_float64_input() -> None:
    csr = cuts.csr_of(GRAPHS["unweighted"])
    V, mu = random_point(csr.n_vertices, 6, 1, torch.float32)
    value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, mu, 5.0)
    strided = probit_cut.probit_cut_value_and_grad(
        csr, V.T.contiguous().T, torch.stack([mu, mu], 1)[:, 0], 5.0
    )
    assert strided[0] == value
    assert torch.equal(strided[1], grad_V)
    assert torch.equal(strided[2], grad_mu)
    wide = probit_cut.probit_cut_value_and_grad(csr, V.double(), mu.double(), 5.0)
    assert wide[0] == value
    assert wide[1].dtype == wide[2].dtype == torch.float64
    assert torch.equal(wide[1].float(), grad_V)


def test_no_vertices_and_no_columns() -> None:
    empty = cuts.csr_of(np.zeros((0, 0)))
    value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(empty, torch.ones(0, 3), torch.ones(0), 1.0)
    assert (value, grad_V.shape, grad_mu.shape) == (0.0, (0, 3), (0,))
    csr = cuts.csr_of(GRAPHS["one edge"])
    value = probit_cut.probit_cut_value(csr, torch.ones(2, 0), torch.tensor([0.3, -0.1]), 2.0)
    p, q = ndtr(2.0 * np.array([0.3, -0.1], dtype=np.float32).astype(float))
    assert value / 2.5 == pytest.approx(p * (1 - q) + q * (1 - p), abs=ONE_EDGE)


def test_refusals(on_cpu: Callable[[Callable[[], Any]], Any]) -> None:
    csr = cuts.csr_of(GRAPHS["one edge"])
    V, mu = torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(ValueError, match=r"must be non-zero where `beta` is infinite"):
        probit_cut.probit_cut_value(csr, 0.0 * V, mu, math.inf)
    moments = probit_cut.law(csr, V, 1.0)
    with pytest.raises(TypeError, match=r"^`mean` must be float32 or float64; got torch.int32\.$"):
        probit_cut.law_value(csr, moments, mu.int())
    with pytest.raises(ValueError, match=r"^`complements` must have shape \(2,\); got \(3,\)\.$"):
        probit_cut.law_value(csr, moments._replace(complements=torch.ones(3)), mu)
    with pytest.raises(ValueError, match=r"^`scale` must lie in \[0, 1\]; got 1\.5\.$"):
        probit_cut.scaled_law(csr, moments, 1.0, 1.5)
    with pytest.raises(ValueError, match=r"^`beta` must be positive and finite; got inf\.$"):
        probit_cut.scaled_law(csr, moments, math.inf, 0.5)
    with pytest.raises(TypeError, match=r"^`covariances` must be float64; got torch.float32\.$"):
        on_cpu(lambda: probit_cut.law_value(csr, moments, mu.double()))
