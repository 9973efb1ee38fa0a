"""Lanczos and the Chebyshev certificate against known spectra, scipy, and their own failure probability."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.sparse
import scipy.sparse.linalg
import scipy.stats
import torch
from torch import Tensor

from sdp.optim import curvature as module
from sdp.optim.chebyshev import quantile
from sdp.optim.curvature import curvature_bounds
from sdp.optim.lanczos import kuczynski_wozniakowski, lanczos
from sdp.optim.operator import as_operator, hessian_operator

PROBLEMS, DELTA = 1000, 1e-2


def with_spectrum(values: np.ndarray, seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    Q, _ = np.linalg.qr(rng.normal(size=(len(values), len(values))))
    M = (Q * values) @ Q.T
    return torch.from_numpy(0.5 * (M + M.T))


def sparse(n: int, seed: int) -> scipy.sparse.csr_array:
    rng = np.random.default_rng(seed)
    rows, cols = rng.integers(0, n, (2, 4 * n))
    A = scipy.sparse.coo_array((rng.normal(size=4 * n), (rows, cols)), shape=(n, n)).tocsr()
    return scipy.sparse.csr_array(A + A.T)


class TestHonesty:
    """1,000 random spectra, some with the lowest eigenvalue alone far below, some with many close together."""

    @staticmethod
    def spectra() -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        made = []
        for k in range(PROBLEMS):
            values = rng.uniform(-0.1, 1.0, 24)
            values[0] = -rng.exponential() if k % 2 else values.min() - 1e-6
            made.append(values)
        return made

    def test_lower_bounds_are_wrong_no_more_often_than_delta(self, monkeypatch: pytest.MonkeyPatch) -> None:
        # Three Lanczos steps guess the spectrum badly, and two columns leave the certificate little slack.
        monkeypatch.setattr(module, "LANCZOS_STEPS", 3)
        wrong, useful = 0, 0
        for seed, values in enumerate(self.spectra()):
            # A diagonal matrix is as good as any: the start block is isotropic.
            found = curvature_bounds(
                torch.diag(torch.from_numpy(values)),
                delta=DELTA,
                columns=2,
                dense_size=0,
                seed=seed,
                tolerance=0.1,
            )
            lowest = values.min()
            wrong += found.lower > lowest
            useful += found.lower > lowest - 0.5 * (values.max() - lowest)
            assert found.upper >= lowest - 1e-12
        assert wrong <= DELTA * PROBLEMS
        assert useful >= 0.9 * PROBLEMS

    def test_the_failure_probability_is_delta_where_nothing_is_slack(self) -> None:
        # One eigenvalue far below a cluster at the guess: the certificate then fails exactly where q says.
        values = np.full(16, 0.5)
        values[0] = -4.0
        op = as_operator(torch.diag(torch.from_numpy(values)))
        wrong = 0
        for seed in range(400):
            start = module.start_block(op, 2, seed, 7)
            run = module._run(op, start, 0.0, 1.0, 0.3, None, 1e-12, 12, None)
            wrong += run.lower > -4.0
        low, high = scipy.stats.binom.ppf([1e-5, 1 - 1e-5], 400, 0.3)
        assert low <= wrong <= high

    def test_kuczynski_and_wozniakowski(self) -> None:
        rng = np.random.default_rng(1)
        wrong = 0
        for seed in range(300):
            values = rng.normal(size=200)
            found = lanczos(torch.diag(torch.from_numpy(values)), steps=12, seed=seed).lower_bound(0.1)
            wrong += found > values.min()
        assert wrong <= 30


@pytest.mark.parametrize("columns", [1, 4])
def test_ritz_values_against_eigh(columns: int) -> None:
    M = with_spectrum(np.concatenate([[-3.0, -3.0, -2.0], np.linspace(0.0, 1.0, 57)]), 1)
    ritz = lanczos(M, steps=20, columns=columns, wanted=2, seed=3)
    exact = torch.linalg.eigvalsh(M)
    assert float(ritz.values[0]) == pytest.approx(-3.0, abs=1e-9)
    assert float(ritz.values[-1]) <= float(exact[-1]) + 1e-12
    if columns > 1:  # one vector cannot see a multiple eigenvalue
        assert float(ritz.values[1]) == pytest.approx(-3.0, abs=1e-6)
    v = ritz.lowest[:, 0]
    assert float((M @ v + 3.0 * v).norm()) < 1e-8
    basis = torch.cat([ritz.lowest, ritz.highest], 1)
    torch.testing.assert_close(basis.T @ basis, torch.eye(4, dtype=torch.float64), atol=1e-9, rtol=0.0)


def test_an_exhausted_krylov_space_ends() -> None:
    ritz = lanczos(torch.eye(30, dtype=torch.float64), steps=10)
    assert ritz.steps == 1
    assert float(ritz.values[0]) == pytest.approx(1.0)
    whole = lanczos(torch.diag(torch.arange(5.0)), steps=50)
    torch.testing.assert_close(whole.values, torch.arange(5.0, dtype=torch.float64), atol=1e-10, rtol=0.0)


def test_certificate_against_arpack_and_lobpcg() -> None:
    n = 3000
    A = sparse(n, 0)
    found = curvature_bounds(A, seed=1, columns=4)
    assert found.method == "chebyshev"
    start = np.random.default_rng(0).normal(size=(n, 3))
    arpack = scipy.sparse.linalg.eigsh(A, 1, which="SA", v0=start[:, 0], return_eigenvectors=False)[0]
    lobpcg = scipy.sparse.linalg.lobpcg(A, start, largest=False, maxiter=200, tol=1e-4)[0].min()
    assert found.lower <= min(arpack, lobpcg)
    assert found.upper >= arpack - 1e-9
    assert found.lower >= arpack - 0.02 * (found.largest - arpack)
    assert found.kuczynski <= arpack
    v = found.direction.numpy()
    assert v @ (A @ v) <= found.upper


@pytest.mark.parametrize("kind", ["tensor", "numpy", "sparse", "linear operator", "function"])
def test_every_kind_of_operator(kind: str) -> None:
    A = sparse(60, 2)
    dense = A.toarray()
    exact = np.linalg.eigvalsh(dense)[0]
    tensor = torch.from_numpy(dense)
    given = {
        "tensor": tensor,
        "numpy": dense,
        "sparse": A,
        "linear operator": scipy.sparse.linalg.aslinearoperator(A),
        "function": lambda block: tensor @ block,
    }[kind]
    for dense_size in (0, 2000):
        found = curvature_bounds(given, 60, dense_size=dense_size)
        assert found.lower <= exact + 1e-12
        assert found.upper >= exact - 1e-12
        assert bool(found.notes) == (kind in ("linear operator", "function"))


def test_the_target_ends_a_run() -> None:
    M = with_spectrum(np.linspace(0.0, 1.0, 300), 4)
    near = curvature_bounds(M, target=-0.2, dense_size=0)
    sharp = curvature_bounds(M, target=-1e-4, dense_size=0)
    assert -0.2 <= near.lower <= 0.0
    assert -1e-4 <= sharp.lower <= 0.0
    assert near.products < sharp.products


def test_degenerate_operators() -> None:
    for matrix, value in (
        (torch.zeros(50, 50), 0.0),
        (3.0 * torch.eye(50), 3.0),
        (torch.tensor([[-2.0]]), -2.0),
    ):
        for dense_size in (0, 2000):
            found = curvature_bounds(matrix, dense_size=dense_size)
            assert found.lower <= value <= found.upper
            assert found.lower >= value - 1e-6


def test_float32_arithmetic_pays_for_its_rounding() -> None:
    M = with_spectrum(np.linspace(-0.5, 1.0, 400), 5)
    exact = curvature_bounds(M, dense_size=0)
    coarse = curvature_bounds(
        lambda block: (M.float() @ block.float()).double(), 400, dtype=torch.float32, dense_size=0
    )
    assert coarse.lower <= exact.lower + 1e-9
    assert coarse.lower <= -0.5


def test_hessian_of_a_loss_in_batches() -> None:
    x = torch.linspace(-1.0, 1.0, 6, dtype=torch.float64, requires_grad=True)
    y = torch.ones((), dtype=torch.float64, requires_grad=True)
    operator, gradient = hessian_operator((torch.sin(x) * y).sum() + (x**3).sum(), [x, y])
    exact = torch.autograd.functional.hessian(lambda x, y: (torch.sin(x) * y).sum() + (x**3).sum(), (x, y))
    blocks = [
        [part.reshape(a, b) for part, b in zip(row, (6, 1), strict=True)]
        for row, a in zip(exact, (6, 1), strict=True)
    ]
    expected = torch.cat([torch.cat(row, 1) for row in blocks])
    torch.testing.assert_close(operator(torch.eye(7, dtype=torch.float64)), expected)
    torch.testing.assert_close(gradient[:6], (torch.cos(x) + 3 * x**2).detach())
    assert operator.products == 7


def test_seeds_decide_and_threads_do_not() -> None:
    A = sparse(2500, 6)
    first, again, other = (
        curvature_bounds(A, seed=seed, columns=2, tolerance=0.1).lower for seed in (1, 1, 2)
    )
    assert first == again != other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"operator": torch.zeros(2, 3)}, "`operator` must be square"),
        ({"operator": torch.tensor([[0.0, 1.0], [0.0, 0.0]])}, "`operator` must be symmetric"),
        ({"operator": torch.full((2, 2), math.nan)}, "NaN or infinite"),
        ({"operator": lambda block: block}, "`n` must be given for a function"),
        ({"operator": torch.eye(2), "delta": 0.0}, r"`delta` must lie in \(0, 1\); got 0.0."),
        ({"operator": torch.eye(2), "tolerance": 1.0}, r"`tolerance` must lie in \(0, 1\); got 1.0."),
        ({"operator": torch.eye(2), "columns": 0}, "`columns` must be at least 1; got 0."),
    ],
)
def test_bad_input(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        curvature_bounds(**arguments)  # type: ignore[arg-type]


def test_an_unsymmetric_function_is_refused() -> None:
    M = torch.randn(40, 40, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    with pytest.raises(ValueError, match="must be symmetric"):
        curvature_bounds(lambda block: M @ block, 40, dense_size=0)


def test_numbers_of_the_papers() -> None:
    assert (2 * scipy.stats.norm.cdf(quantile(0.1, 4)) - 1) ** 4 == pytest.approx(0.1)
    assert kuczynski_wozniakowski(0.0, 1.0, 10**6, 3, 1e-6) == -math.inf
    assert -1e-2 < kuczynski_wozniakowski(0.0, 1.0, 10**6, 200, 1e-6) < 0.0
