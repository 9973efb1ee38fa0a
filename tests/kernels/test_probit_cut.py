"""The exact probit cut against another integral, autograd, and closed forms."""

from __future__ import annotations

import itertools
import math

import numba
import numpy as np
import pytest
import scipy.integrate
import torch
from scipy.special import ndtr

from sdp_kernels import probit_cut
from sdp_kernels.probit_cut import Law
from tests.reference import cuts
from tests.reference import probit_cut as oracle

# An edge's probability is promised to 1e-12; sums of w p scale with sum |w|. Gradients have no quadrature,
# but 1 - r^2 loses digits as r nears 1 (here |r| <= 0.99). float32 in and out: half an ulp of either.
PROBABILITY = 1e-12
GRADIENT = {torch.float64: 1e-11, torch.float32: 3e-7}

GRAPHS = {
    "one vertex": np.zeros((1, 1)),
    "one edge": np.array([[0.0, 2.5], [2.5, 0.0]]),
    "no edges": np.zeros((5, 5)),
    "unweighted": cuts.sparse_random(40, 6.0, 1),
    "signed torus": cuts.signed_torus(5, 2),
    "dense normal": cuts.dense_random(17, 3),
    "components": cuts.several_components(4),
}


def random_point(n: int, rank: int, seed: int, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(seed)
    V, mu = rng.normal(size=(n, rank)), 0.7 * rng.normal(size=n)
    return torch.from_numpy(V).to(dtype), torch.from_numpy(mu).to(dtype)


def edge(a: float, b: float, r: float) -> float:
    """The cut probability of one edge, through the public face."""
    csr = cuts.csr_of(np.array([[0.0, 1.0], [1.0, 0.0]]))
    moments = Law(torch.tensor([r, r], dtype=torch.float64), torch.ones(2, dtype=torch.float64))
    return probit_cut.law_value(csr, moments, torch.tensor([a, b], dtype=torch.float64))


def quad_probability(a: float, b: float, r: float) -> float:
    """By scipy's adaptive quadrature of the conditional form, split where its integrand turns."""
    width = math.sqrt((1.0 - r) * (1.0 + r))

    def integrand(x: float) -> float:
        return math.exp(-0.5 * x * x) / math.sqrt(2.0 * math.pi) * float(ndtr((b - r * x) / width))

    turn = b / r if r else 0.0
    marks = [turn - 8.0 * width, turn - width, turn, turn + width, turn + 8.0 * width, -1.0, 1.0]
    marks = sorted({-12.0, a, *(x for x in marks if -12.0 < x < a)})
    pieces = itertools.pairwise(marks)
    phi2 = math.fsum(scipy.integrate.quad(integrand, *p, epsabs=1e-15, epsrel=1e-13)[0] for p in pieces)
    return float(ndtr(a) + ndtr(b)) - 2.0 * phi2


# Each branch of the kernel: 8 points, 16 points, near one, and both sides of each switch.
@pytest.mark.parametrize(
    "r", [0.0, 0.2, 0.649999, 0.650001, 0.8, 0.924999, 0.925001, 0.99, 0.9999, 0.9999999],
)  # fmt: skip
@pytest.mark.parametrize("sign", [-1.0, 1.0])
def test_edge_probability(r: float, sign: float) -> None:
    rng = np.random.default_rng(int(1e6 * r))
    points = [(0.0, 0.0), (1.0, 1.0), (1.0, -1.0), (0.3, 0.3 + 1e-4), (5.0, 4.9), (6.4, 6.3), (-6.4, 6.3)]
    points += [(7.4, 0.1), (7.6, -0.1)]  # both sides of where the integrand is dropped
    points += [tuple(rng.normal(size=2) * scale) for scale in (0.01, 0.5, 1.0, 2.0, 3.0)]
    for a, b in points:
        assert edge(a, b, sign * r) == pytest.approx(quad_probability(a, b, sign * r), abs=PROBABILITY)


@pytest.mark.parametrize(("a", "b"), [(0.0, 0.0), (0.7, 0.7), (1.3, -0.4), (-2.0, 1.0)])
def test_edge_probability_at_perfect_correlation(a: float, b: float) -> None:
    assert edge(a, b, 1.0) == pytest.approx(abs(ndtr(a) - ndtr(b)), abs=PROBABILITY)
    assert edge(a, b, -1.0) == pytest.approx(1.0 - abs(ndtr(a) - ndtr(-b)), abs=PROBABILITY)


def test_reference_agrees_with_quadrature() -> None:
    for a, b, r in [(0.3, -0.8, 0.6), (-1.5, 2.0, -0.99), (0.0, 0.0, 0.9), (4.0, 3.0, 0.995)]:
        theirs = oracle.cut_probability(*(torch.tensor(x, dtype=torch.float64) for x in (a, b, r)))
        assert float(theirs) == pytest.approx(quad_probability(a, b, r), abs=1e-13)


@pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize(("rank", "beta"), [(1, 3.0), (5, 10.0)])
def test_value_and_gradient(W: cuts.Matrix, dtype: torch.dtype, rank: int, beta: float) -> None:
    csr = cuts.csr_of(W)
    V, mu = random_point(len(W), rank, 7, dtype)
    value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, mu, beta)
    V64, mu64 = (x.double().clone().requires_grad_() for x in (V, mu))
    expected = oracle.probit_cut(torch.from_numpy(cuts.dense(csr)), V64, mu64, beta)
    scale = float(csr.weights.abs().sum()) + 1.0
    assert value == pytest.approx(float(expected.detach()), abs=PROBABILITY * scale)
    assert probit_cut.probit_cut_value(csr, V, mu, beta) == value
    assert grad_V.dtype == grad_mu.dtype == dtype
    assert grad_V.shape == V.shape
    expected.backward()  # type: ignore[no-untyped-call]
    # With no edges autograd never reaches the point; the gradient is zero.
    wanted_V = torch.zeros_like(V64) if V64.grad is None else V64.grad
    wanted_mu = torch.zeros_like(mu64) if mu64.grad is None else mu64.grad
    size = float(wanted_V.abs().max()) + float(wanted_mu.abs().max()) + 1e-300
    assert float((grad_V - wanted_V).abs().max()) <= GRADIENT[dtype] * size
    assert float((grad_mu - wanted_mu).abs().max()) <= GRADIENT[dtype] * size


def test_hessian() -> None:
    W = cuts.dense_random(9, 3)
    csr = cuts.csr_of(W)
    V, mu = random_point(len(W), 4, 9, torch.float64)
    derivatives = probit_cut.law_derivatives(csr, probit_cut.law(csr, V, 4.0), mu)
    H = probit_cut.hessian_product(csr, derivatives, torch.eye(len(W), dtype=torch.float64))
    assert torch.equal(H, H.T) or (H - H.T).abs().max() < 1e-14
    dense_W = torch.from_numpy(cuts.dense(csr))
    wanted = torch.autograd.functional.hessian(lambda x: oracle.probit_cut(dense_W, V, x, 4.0), mu)
    assert (H - wanted).abs().max() < 1e-10


def test_strided_input_is_as_good() -> None:
    csr = cuts.csr_of(GRAPHS["unweighted"])
    V, mu = random_point(csr.n_vertices, 6, 1, torch.float64)
    strided_V, strided_mu = V.T.contiguous().T, torch.stack([mu, mu], 1)[:, 0]
    results = [probit_cut.probit_cut_value_and_grad(csr, *p, 5.0) for p in ((V, mu), (strided_V, strided_mu))]
    assert results[0][0] == results[1][0]
    assert all(torch.equal(x, y) for x, y in zip(results[0][1:], results[1][1:], strict=True))


def test_symmetric_saddle_and_arccos() -> None:
    csr = cuts.csr_of(GRAPHS["signed torus"])
    V, mu = random_point(csr.n_vertices, 4, 3, torch.float64)
    V /= V.norm(dim=1, keepdim=True)
    value, _, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, 0.0 * mu, 10.0)
    assert (grad_mu == 0.0).all()
    i, j = np.nonzero(np.triu(cuts.dense(csr)))
    cosines = (V @ V.T).numpy()[i, j]
    weights = cuts.dense(csr)[i, j]
    assert value == pytest.approx((weights * np.arccos(cosines / 1.01)).sum() / math.pi, abs=1e-12)
    hard = probit_cut.probit_cut_value(csr, V, 0.0 * mu, math.inf)
    assert hard == pytest.approx((weights * np.arccos(cosines)).sum() / math.pi, abs=1e-12)
    # Flipping every side changes no cut.
    flipped = probit_cut.probit_cut_value(csr, V, -mu, 10.0)
    assert flipped == pytest.approx(probit_cut.probit_cut_value(csr, V, mu, 10.0), abs=1e-12)


def test_opposite_rows_at_large_beta() -> None:
    csr = cuts.csr_of(GRAPHS["one edge"])
    V = torch.tensor([[1.0], [-1.0]], dtype=torch.float64)
    for beta in (1e4, 1e8):
        value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(csr, V, torch.zeros(2).double(), beta)
        # arccos(-1 / (1 + beta^-2)) = pi - sqrt(2) / beta to first order; r is only known to an ulp, hence
        # the angle to its square root.
        assert value == pytest.approx(2.5 * (1.0 - math.sqrt(2.0) / beta / math.pi), abs=4e-8)
        assert torch.isfinite(grad_V).all()
        assert (grad_mu == 0.0).all()


def test_bits_do_not_depend_on_threads() -> None:
    # 300 * 299 entries: more than two blocks.
    csr = cuts.csr_of(cuts.dense_random(300, 8))
    V, mu = random_point(300, 8, 5, torch.float32)
    before = numba.get_num_threads()
    results = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        results.append(probit_cut.probit_cut_value_and_grad(csr, V, mu, 10.0))
    assert results[0][0] == results[1][0]
    assert torch.equal(results[0][1], results[1][1])
    assert torch.equal(results[0][2], results[1][2])


@pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())
def test_conditional_rounding_loses_nothing(W: cuts.Matrix) -> None:
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    for seed in range(20):
        p = np.random.default_rng(seed).random(len(W))
        p[: len(W) // 4] = 0.5
        expected = 0.5 * (W * (np.outer(p, 1.0 - p) + np.outer(1.0 - p, p))).sum()
        signs = probit_cut.conditional_rounding(csr, torch.from_numpy(p))
        assert set(signs.tolist()) <= {-1, 1}
        assert cuts.cut_values(csr, signs[:, None])[0] >= expected - 1e-12


def test_conditional_rounding_takes_the_likelier_side_of_a_tie() -> None:
    csr = cuts.csr_of(GRAPHS["no edges"])
    p = torch.tensor([0.2, 0.9, 0.5, 0.0, 1.0], dtype=torch.float64)
    assert probit_cut.conditional_rounding(csr, p).tolist() == [-1, 1, 1, -1, 1]


def test_refusals() -> None:
    csr = cuts.csr_of(GRAPHS["one edge"])
    V, mu = torch.ones(2, 3), torch.zeros(2)
    with pytest.raises(
        ValueError, match=r"`V` must have shape \(2, columns\), one row a vertex; got \(3, 3\)"
    ):
        probit_cut.probit_cut_value(csr, torch.ones(3, 3), mu, 1.0)
    with pytest.raises(TypeError, match=r"`V` must be float32 or float64; got torch.float16\."):
        probit_cut.probit_cut_value(csr, V.half(), mu, 1.0)
    with pytest.raises(
        TypeError, match=r"`mu` must have the dtype of `V`, torch.float32; got torch.float64\."
    ):
        probit_cut.probit_cut_value(csr, V, mu.double(), 1.0)
    with pytest.raises(ValueError, match=r"`mu` must have shape \(2,\), one a vertex; got \(3,\)\."):
        probit_cut.probit_cut_value(csr, V, torch.zeros(3), 1.0)
    for beta in (0.0, -1.0, math.nan):
        with pytest.raises(ValueError, match=r"`beta` must be positive; got"):
            probit_cut.probit_cut_value(csr, V, mu, beta)
    with pytest.raises(ValueError, match=r"must be non-zero where `beta` is infinite"):
        probit_cut.probit_cut_value(csr, 0.0 * V, mu, math.inf)
    with pytest.raises(ValueError, match=r"must be finite where a gradient is wanted; got inf\."):
        probit_cut.probit_cut_value_and_grad(csr, V, mu, math.inf)
    moments = probit_cut.law(csr, V, 1.0)
    with pytest.raises(ValueError, match=r"`mean` must have shape \(2,\); got \(1,\)"):
        probit_cut.law_value(csr, moments, torch.zeros(1).double())
    with pytest.raises(ValueError, match=r"must lie in \[0, 1\]"):
        probit_cut.conditional_rounding(csr, torch.tensor([0.5, 1.5]).double())
    with pytest.raises(ValueError, match=r"must have shape \(2,\), one a vertex; got \(3,\)"):
        probit_cut.conditional_rounding(csr, torch.ones(3).double())


def test_no_vertices_and_no_columns() -> None:
    empty = cuts.csr_of(np.zeros((0, 0)))
    assert probit_cut.probit_cut_value(empty, torch.ones(0, 3), torch.ones(0), 1.0) == 0.0
    value, grad_V, grad_mu = probit_cut.probit_cut_value_and_grad(empty, torch.ones(0, 3), torch.ones(0), 1.0)
    assert (value, grad_V.shape, grad_mu.shape) == (0.0, (0, 3), (0,))
    # Without V the sides are independent: p = Phi(beta mu).
    csr = cuts.csr_of(GRAPHS["one edge"])
    value = probit_cut.probit_cut_value(csr, torch.ones(2, 0), torch.tensor([0.3, -0.1]), 2.0)
    p, q = ndtr(2.0 * np.float32([0.3, -0.1]).astype(float))
    assert value == pytest.approx(2.5 * (p * (1 - q) + q * (1 - p)), abs=1e-12)
