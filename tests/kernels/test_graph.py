"""The graph operations of the CPU engine against dense float64 matrices."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numba
import numpy as np
import pytest
import torch

from sdp_kernels import graph
from sdp_kernels.cpu import _blocks
from sdp_kernels.cpu._blocks import SERIAL_WORK
from sdp_kernels.cpu.graph import BLOCK
from sdp_kernels.graph import CSR
from tests.reference import cuts
from tests.reference import graph as oracle

MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

# Sums of at most d terms err by d u sum |w x|: the longest row here has 10,000 entries, and the oracle's own sums
# err too, so 1e4 u in all for float64; float32 rows are compared where they have at most 400 entries.
TOLERANCES = {torch.float32: 400 * 2.0**-24, torch.float64: 1e4 * 2.0**-53}

LEAVES = 10_000  # a row longer than any block of rows or of entries


def star(n_leaves: int) -> cuts.Matrix:
    W = np.zeros((n_leaves + 1, n_leaves + 1))
    W[0, 1:] = np.random.default_rng(0).normal(size=n_leaves)
    return W + W.T


# Which path each covers: no row at all; a row without entries; a whole graph without entries; fewer rows than a
# block; one full block; a block and one row; several blocks and a part of one; rows of unequal length.
GRAPHS = {
    "empty": np.zeros((0, 0)),
    "one vertex": np.zeros((1, 1)),
    "no edges": np.zeros((7, 7)),
    "signed torus": cuts.signed_torus(7, 2),
    "components": cuts.several_components(5),
    "one block": cuts.sparse_random(BLOCK, 6.0, 1),
    "block and a row": cuts.dense_random(BLOCK + 1, 3),
    "several blocks": cuts.sparse_random(3 * BLOCK + 100, 5.0, 4),
    "star": star(300),
}
GRAPH_CASES = pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())
# 1, 3, 4: narrower than a vector of the gathers; 16, 112: vectors by one, and by four, two and one; 33: vectors and a
# rest.
WIDTHS = pytest.mark.parametrize("width", [1, 3, 4, 16, 33, 112])


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = numba.get_num_threads()
    yield
    numba.set_num_threads(before)


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def unit_rows(n: int, r: int) -> torch.Tensor:
    return torch.nn.functional.normalize(normal(n, r), dim=1).float()


def double(csr: CSR) -> CSR:
    return csr._replace(weights=csr.weights.double())


def assert_close(actual: torch.Tensor, expected: cuts.Matrix, size: cuts.Matrix) -> None:
    """Within the tolerance of the dtype times the sums of absolute terms."""
    assert tuple(actual.shape) == expected.shape
    error = np.abs(actual.double().numpy() - expected)
    assert (error <= TOLERANCES[actual.dtype] * size + 1e-300).all(), error.max()


def same_bits_for_any_threads(work: Callable[[], Any]) -> None:
    results = []
    for threads in (1, MOST_THREADS):
        numba.set_num_threads(threads)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(_blocks, "SERIAL_WORK", 0)  # small graphs are dealt to threads too
            results.append(work())
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@GRAPH_CASES
@WIDTHS
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_products(W: cuts.Matrix, width: int, dtype: torch.dtype) -> None:
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    X = normal(len(W), width).to(dtype)
    csr = csr if dtype == torch.float32 else double(csr)
    exact = X.double().numpy()
    size = np.abs(W) @ np.abs(exact)
    assert_close(graph.adjacency_product(csr, X), oracle.adjacency_product(W, exact), size)
    size = size + np.abs(W).sum(1, keepdims=True) * np.abs(exact)
    assert_close(graph.laplacian_product(csr, X), oracle.laplacian_product(W, exact), 2 * size)


@GRAPH_CASES
@pytest.mark.parametrize("width", [1, 4, 8, 33])
def test_chebyshev_step_is_the_recurrence(W: cuts.Matrix, width: int) -> None:
    csr = double(cuts.csr_of(W))
    W = cuts.dense(csr)
    diagonal, X, previous = normal(len(W)), normal(len(W), width), normal(len(W), width, seed=1)
    before = previous.clone()
    squares = graph.chebyshev_step(csr, diagonal, X, previous)
    B = W + np.diag(diagonal.numpy())
    expected = 2 * B @ X.numpy() - before.numpy()
    size = 2 * np.abs(B) @ np.abs(X.numpy()) + np.abs(before.numpy())
    assert_close(previous, expected, size)
    assert_close(squares, (expected**2).sum(0), 2 * (size**2).sum(0))


@pytest.mark.parametrize("n_steps", [0, 1, 4, 5])
def test_chebyshev_steps_are_so_many_steps(n_steps: int) -> None:
    csr = double(cuts.csr_of(GRAPHS["signed torus"]))
    X, previous = normal(49, 3), normal(49, 3, seed=1)
    together, one_by_one = (X.clone(), previous.clone()), (X, previous)
    squares = graph.chebyshev_steps(csr, normal(49), together[0], together[1], n_steps)
    for step in range(n_steps):
        assert torch.equal(squares[step], graph.chebyshev_step(csr, normal(49), X, previous))
        X, previous = previous, X
    assert squares.shape == (n_steps, 3)
    assert all(torch.equal(*pair) for pair in zip(together, one_by_one, strict=True))


@GRAPH_CASES
@pytest.mark.parametrize("width", [1, 8, 33])
def test_rounded_chebyshev_step(W: cuts.Matrix, width: int) -> None:
    csr = cuts.csr_of(W)
    n, W = len(W), cuts.dense(csr)
    diagonal, root, factor = normal(n), normal(n, seed=2).abs() + 0.5, -1.7
    X, previous = normal(n, width), normal(n, width, seed=1)
    rounded, overwritten = (root[:, None] * X).float(), torch.full((n, width), torch.nan)
    before = previous.clone()
    squares = graph.rounded_chebyshev_step(csr, diagonal, root, factor, (X, rounded), (previous, overwritten))
    # From the rounded rows themselves, so that nothing is left of single precision.
    Z, M = rounded.double().numpy(), W + np.diag(diagonal.numpy())
    scale = factor * root[:, None].numpy()
    expected = 2 * X.numpy() - before.numpy() + scale * (M @ Z)
    size = 2 * np.abs(X.numpy()) + np.abs(before.numpy()) + np.abs(scale) * (np.abs(M) @ np.abs(Z))
    assert_close(previous, expected, size)
    assert_close(squares, (expected**2).sum(0), 2 * (size**2).sum(0))
    assert torch.equal(overwritten, (root[:, None] * previous).float())


@pytest.mark.parametrize("k", [1, 2, 7, 30])
def test_chebyshev_steps_make_the_polynomial(k: int) -> None:
    W = cuts.sparse_random(90, 5.0, 2)
    W /= 0.95 * np.abs(np.linalg.eigvalsh(W)).max()  # some eigenvalues lie outside [-1, 1]
    csr = double(cuts.csr_of(W))
    W = cuts.dense(csr)
    diagonal = 0.1 * normal(90)
    current, previous = torch.zeros(90, 3, dtype=torch.float64), normal(90, 3)
    X = previous.numpy().copy()
    graph.chebyshev_step(csr, diagonal, previous, current)
    current /= 2
    for _ in range(k - 1):
        graph.chebyshev_step(csr, diagonal, current, previous)
        current, previous = previous, current
    expected = oracle.chebyshev(W + np.diag(diagonal.numpy()), X, k)
    np.testing.assert_allclose(current.numpy(), expected, rtol=0, atol=1e-12 * np.abs(expected).max())


@GRAPH_CASES
@WIDTHS
@pytest.mark.parametrize("omega", [0.0, 0.9])
def test_mixing_sweep_is_the_sequential_sweep(W: cuts.Matrix, width: int, omega: float) -> None:
    # Every vertex a class of its own: any graph may be swept so, one vertex after another.
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    V = unit_rows(len(W), width)
    expected = V.double().numpy()
    for _ in range(2):
        graph.mixing_sweep(csr, torch.arange(len(W) + 1), V, omega)
        expected = oracle.mixing_sweep(W, expected, omega)
    if width == 1 or len(W) > 500:
        # A field near 0 turns on the last bit, and its neighbours with it; the energy does not.
        scale = np.abs(W).sum() + 1
        assert oracle.energy(W, V.double().numpy()) == pytest.approx(
            oracle.energy(W, expected), abs=1e-3 * scale
        )
        return
    np.testing.assert_allclose(V.double().numpy(), expected, atol=2e-3)


def coloured(n_classes: int, size: int, degree: int, seed: int) -> tuple[CSR, torch.Tensor]:
    """A random graph of consecutive classes without edges inside, and their borders."""
    n = n_classes * size
    rng = np.random.default_rng(seed)
    u, v = rng.integers(0, n, (2, n * degree // 2))
    W = np.zeros((n, n))
    W[u, v] = rng.normal(size=u.size)
    colours = np.arange(n) // size
    W *= colours[:, None] != colours[None, :]
    return cuts.csr_of(cuts.symmetric(W)), torch.arange(n_classes + 1) * size


def test_a_class_is_swept_as_its_vertices_one_by_one() -> None:
    csr, class_ptr = coloured(3, 700, 12, 0)
    by_class, one_by_one = unit_rows(2100, 16), unit_rows(2100, 16)
    for omega in (0.9, 0.9, 0.0):
        graph.mixing_sweep(csr, class_ptr, by_class, omega)
        graph.mixing_sweep(csr, torch.arange(2101), one_by_one, omega)
    assert torch.equal(by_class, one_by_one)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["f32", "f16"])
def test_sweeps_are_so_many_sweeps_and_tell_what_they_changed(dtype: torch.dtype) -> None:
    csr, class_ptr = coloured(3, 300, 6, 2)
    W = cuts.dense(csr)
    together, one_by_one = unit_rows(900, 12).to(dtype), unit_rows(900, 12).to(dtype)
    energies = [oracle.energy(W, one_by_one.double().numpy())]
    for _ in range(4):
        graph.mixing_sweep(csr, class_ptr, one_by_one, 0.8)
        energies.append(oracle.energy(W, one_by_one.double().numpy()))
    changes = torch.full((4,), float("nan"), dtype=torch.float64)
    graph.mixing_sweeps(csr, class_ptr, together, 0.8, 4, changes)
    assert torch.equal(together, one_by_one)
    np.testing.assert_allclose(changes.numpy(), np.diff(energies), rtol=1e-5, atol=1e-6 * np.abs(W).sum())


def test_half_rows_are_rounded_to_nearest_even() -> None:
    # A leaf of one edge takes the hub's row with the sign turned: what is stored is the rounded quotient.
    hub = torch.from_numpy(np.random.default_rng(3).normal(size=(400, 5))).half()
    hub[7] *= 1e-4  # elements of a subnormal half
    hub[:, 4] = 1.0
    n = len(hub)
    pairs = torch.arange(2 * n, dtype=torch.int32).view(2, n).flip(0).flatten()
    csr = CSR(torch.arange(2 * n + 1), pairs, torch.ones(2 * n))
    V = torch.cat([hub, torch.zeros_like(hub)])
    graph.mixing_sweep(csr._replace(weights=csr.weights), torch.tensor([0, 0, 2 * n]), V, 0.0)
    # The hub's field was 0, so it stayed; its leaf stands against it.
    assert torch.equal(V[:n], hub)
    exact = -hub.double() / hub.double().norm(dim=1, keepdim=True)
    error = (V[n:].double() - exact).abs()
    half_step = torch.where(exact.abs() < 2.0**-14, 2.0**-25, 2.0 ** (exact.abs().log2().floor() - 11))
    assert (error <= half_step * (1 + 1e-3)).all()


@pytest.mark.parametrize("width", [1, 3, 16])
@pytest.mark.parametrize("name", ["signed torus", "components", "block and a row"])
def test_exact_steps_never_raise_the_energy(name: str, width: int) -> None:
    csr = cuts.csr_of(GRAPHS[name])
    W = cuts.dense(csr)
    V = unit_rows(len(W), width)
    energies = [oracle.energy(W, V.double().numpy())]
    for _ in range(20):
        graph.mixing_sweep(csr, torch.arange(len(W) + 1), V, 0.0)
        energies.append(oracle.energy(W, V.double().numpy()))
    # Rows are unit to float32.
    assert (np.diff(energies) <= 1e-6 * np.abs(W).sum()).all()
    assert np.abs(np.linalg.norm(V.double().numpy(), axis=1) - 1).max() < 1e-6


def test_a_sweep_puts_each_row_against_its_field() -> None:
    # The last vertex's field is as it was when the vertex moved.
    csr = cuts.csr_of(GRAPHS["components"])
    W = cuts.dense(csr)
    V = unit_rows(len(W), 5)
    last = int(np.flatnonzero(W.any(1))[-1])
    graph.mixing_sweep(csr, torch.arange(len(W) + 1), V, 0.0)
    lengths, products = graph.fields(csr, V)
    assert float(products[last]) == pytest.approx(-float(lengths[last]), rel=1e-6)


def test_rows_without_a_field_stay() -> None:
    csr = cuts.csr_of(np.array([[0.0, 1, -1], [1, 0, 0], [-1, 0, 0]]))
    V = torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0]])  # the fields of rows 1 and 2 cancel at 0
    graph.mixing_sweep(csr, torch.tensor([0, 1, 3]), V, 0.9)
    assert V[0].tolist() == pytest.approx([0.6, 0.8])


def test_tiny_fields_leave_unit_rows() -> None:
    # Squares of 1e-22 are subnormal in float32, those of 1e-30 vanish.
    for weight in (1e-18, 1e-21, 3e-22, 4e-23, 1e-30, 1e-44):
        csr = cuts.csr_of(weight * GRAPHS["signed torus"])
        V = unit_rows(49, 16)
        for _ in range(5):
            graph.mixing_sweep(csr, torch.arange(50), V, 0.95)
        assert np.abs(np.linalg.norm(V.double().numpy(), axis=1) - 1).max() < 1e-5


@GRAPH_CASES
@WIDTHS
def test_fields(W: cuts.Matrix, width: int) -> None:
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    V = unit_rows(len(W), width)
    lengths, products = graph.fields(csr, V)
    exact = V.double().numpy()
    expected_lengths, expected_products = oracle.fields(W, exact)
    size = np.abs(W).sum(1)
    assert lengths.dtype == products.dtype == torch.float64
    assert_close(lengths, expected_lengths, width * size)
    assert_close(products, expected_products, width * size)
    assert (products.abs() <= lengths * (1 + 1e-6)).all()


@GRAPH_CASES
@pytest.mark.parametrize("replicas", [0, 1, 5])
def test_gains(W: cuts.Matrix, replicas: int) -> None:
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    signs = np.random.default_rng(1).choice(np.array([-1, 1], np.int8), (replicas, len(W)))
    gained = graph.gains(csr, torch.from_numpy(signs))
    expected = oracle.gains(W, signs)
    assert_close(gained, expected, np.broadcast_to(np.abs(W).sum(1), expected.shape))
    if (np.rint(W) == W).all():
        assert (gained.double().numpy() == expected).all()


def test_a_gain_is_what_the_cut_gains() -> None:
    W = cuts.several_components(9)
    csr = cuts.csr_of(W)
    signs = np.random.default_rng(2).choice(np.array([-1, 1], np.int8), (1, len(W)))
    gained = graph.gains(csr, torch.from_numpy(signs))[0].double().numpy()
    flipped = np.where(np.eye(len(W), dtype=bool), -signs, signs)
    assert (gained == oracle.cut_values(W, flipped) - oracle.cut_values(W, signs)).all()


def test_a_row_longer_than_any_block() -> None:
    weights = np.random.default_rng(1).normal(size=LEAVES).astype(np.float32)
    csr = CSR(
        torch.tensor([0, *range(LEAVES, 2 * LEAVES + 1)]),
        torch.tensor([*range(1, LEAVES + 1), *[0] * LEAVES], dtype=torch.int32),
        torch.from_numpy(np.tile(weights, 2)),
    )
    weights = weights.astype(np.float64)
    X = normal(LEAVES + 1, 3)
    size = np.abs(weights) @ np.abs(X[1:].numpy())
    assert_close(graph.adjacency_product(double(csr), X)[0], weights @ X[1:].numpy(), size)

    V = unit_rows(LEAVES + 1, 4)
    lengths, products = graph.fields(csr, V)
    g = weights @ V[1:].double().numpy()
    assert float(lengths[0]) == pytest.approx(float(np.linalg.norm(g)), rel=1e-10)
    assert float(products[0]) == pytest.approx(float(g @ V[0].double().numpy()), rel=1e-10, abs=1e-10)

    graph.mixing_sweep(csr, torch.tensor([0, 1, LEAVES + 1]), V, 0.0)
    # A star is a tree: after one sweep every leaf stands against the hub or with it, at the optimum.
    assert float(graph.fields(csr, V)[1].sum()) == pytest.approx(-2 * np.abs(weights).sum(), rel=1e-5)

    ones = torch.ones(2, LEAVES + 1, dtype=torch.int8)
    unweighted = csr._replace(weights=torch.ones_like(csr.weights))
    assert (graph.gains(unweighted, ones)[:, 0] == LEAVES).all()


@pytest.mark.parametrize("name", ["several blocks", "block and a row", "star"])
def test_bits_do_not_depend_on_threads(name: str) -> None:
    csr = cuts.csr_of(GRAPHS[name])
    n = csr.n_vertices
    X, V, diagonal = normal(n, 8), unit_rows(n, 28), normal(n)
    signs = torch.where(normal(3, n) > 0, 1, -1).to(torch.int8)

    def work() -> tuple[torch.Tensor, ...]:
        previous = X.clone()
        squares = graph.chebyshev_step(double(csr), diagonal, X, previous)
        product = graph.adjacency_product(double(csr), X)
        block, rounded = X.clone(), X.float()
        graph.rounded_chebyshev_step(csr, diagonal, diagonal, 0.5, (X, X.float()), (block, rounded))
        return previous, squares, product, block, rounded, *graph.fields(csr, V), graph.gains(csr, signs)

    same_bits_for_any_threads(work)


def test_bits_of_a_sweep_do_not_depend_on_threads() -> None:
    csr, class_ptr = coloured(4, 600, 40, 1)
    assert int(csr.indptr[600]) * 64 > SERIAL_WORK  # so that a class is dealt to threads

    def work() -> tuple[torch.Tensor]:
        V = unit_rows(2400, 64)
        for _ in range(3):
            graph.mixing_sweep(csr, class_ptr, V, 0.9)
        return (V,)

    same_bits_for_any_threads(work)


SQUARE = cuts.csr_of(cuts.sparse_random(6, 3.0, 1))
N = SQUARE.n_vertices
V6, X6, D6 = torch.ones(N, 4), torch.ones(N, 2, dtype=torch.float64), torch.ones(N, dtype=torch.float64)
WHOLE = torch.tensor([0, N])
STRIDED = torch.ones(4, N).T
S6 = torch.ones(2, N, dtype=torch.int8)
REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "indptr dtype": (
        lambda: graph.gains(SQUARE._replace(indptr=SQUARE.indptr.int()), S6),
        TypeError,
        "`csr.indptr` must be torch.int64; got torch.int32.",
    ),
    "weights dtype": (
        lambda: graph.chebyshev_step(SQUARE, D6, X6, X6.clone()),
        TypeError,
        "`csr.weights` must be torch.float64; got torch.float32.",
    ),
    "indices strided": (
        lambda: graph.gains(SQUARE._replace(indices=SQUARE.indices[::2]), S6),
        ValueError,
        f"`csr.indices` must be a contiguous vector; got shape ({SQUARE.indices[::2].numel()},).",
    ),
    "indptr empty": (
        lambda: graph.gains(SQUARE._replace(indptr=SQUARE.indptr[:0]), S6),
        ValueError,
        "`csr.indptr` must have n + 1 entries; got none.",
    ),
    "lengths differ": (
        lambda: graph.gains(SQUARE._replace(weights=SQUARE.weights[:3]), S6),
        ValueError,
        f"`csr.indices` and `csr.weights` must have equal length; got {SQUARE.indices.numel()} and 3.",
    ),
    "X dtype": (
        lambda: graph.adjacency_product(SQUARE, X6.half()),
        TypeError,
        "`X` must be torch.float32 or torch.float64; got torch.float16.",
    ),
    "X rows": (
        lambda: graph.adjacency_product(SQUARE, V6[1:]),
        ValueError,
        "`X` must have shape (6, c); got (5, 4).",
    ),
    "X vector": (
        lambda: graph.laplacian_product(SQUARE, V6[:, 0]),
        ValueError,
        "`X` must have shape (6, c); got (6,).",
    ),
    "X strided": (
        lambda: graph.adjacency_product(SQUARE, STRIDED),
        ValueError,
        "`X` must be contiguous (row-major); got strides (1, 6).",
    ),
    "V dtype": (
        lambda: graph.fields(SQUARE, X6),
        TypeError,
        "`V` must be torch.float32 or torch.float16; got torch.float64.",
    ),
    "V strided": (
        lambda: graph.mixing_sweep(SQUARE, WHOLE, STRIDED, 0.5),
        ValueError,
        "`V` must be contiguous (row-major); got strides (1, 6).",
    ),
    "diagonal shape": (
        lambda: graph.chebyshev_step(double(SQUARE), D6[1:], X6, X6.clone()),
        ValueError,
        "`diagonal` must be contiguous with shape (6,); got (5,).",
    ),
    "diagonal dtype": (
        lambda: graph.chebyshev_step(double(SQUARE), D6.float(), X6, X6.clone()),
        TypeError,
        "`diagonal` must be torch.float64; got torch.float32.",
    ),
    "previous shape": (
        lambda: graph.chebyshev_step(double(SQUARE), D6, X6, torch.cat([X6, X6], 1)),
        ValueError,
        "`X` and `previous` must share a shape; got (6, 2), (6, 4).",
    ),
    "rounded dtype": (
        lambda: graph.rounded_chebyshev_step(SQUARE, D6, D6, 1.0, (X6, X6), (X6.clone(), X6.float())),
        TypeError,
        "`X[1]` must be torch.float32; got torch.float64.",
    ),
    "rounded shape": (
        lambda: graph.rounded_chebyshev_step(SQUARE, D6, D6, 1.0, (X6, X6.float()), (X6.clone(), V6)),
        ValueError,
        "`X` and `previous` must share a shape; got (6, 2), (6, 2), (6, 2), (6, 4).",
    ),
    "root": (
        lambda: graph.rounded_chebyshev_step(SQUARE, D6, D6[1:], 1.0, (X6, X6.float()), (X6, X6.float())),
        ValueError,
        "`root` must be contiguous with shape (6,); got (5,).",
    ),
    "steps": (
        lambda: graph.chebyshev_steps(double(SQUARE), D6, X6, X6.clone(), -2),
        ValueError,
        "`n_steps` must be at least 0; got -2.",
    ),
    "class_ptr dtype": (
        lambda: graph.mixing_sweep(SQUARE, WHOLE.int(), V6, 0.5),
        TypeError,
        "`class_ptr` must be torch.int64; got torch.int32.",
    ),
    "class_ptr short": (
        lambda: graph.mixing_sweep(SQUARE, torch.tensor([0, 5]), V6, 0.5),
        ValueError,
        "`class_ptr` must be a vector that rises from 0 to 6, the number of vertices.",
    ),
    # Its first class would be read far beyond the end of V.
    "class_ptr falls": (
        lambda: graph.mixing_sweep(SQUARE, torch.tensor([0, 10**6, 6]), V6, 0.5),
        ValueError,
        "`class_ptr` must be a vector that rises from 0 to 6, the number of vertices.",
    ),
    "omega": (
        lambda: graph.mixing_sweep(SQUARE, WHOLE, V6, 1.0),
        ValueError,
        "`omega` must lie in [0, 1); got 1.0.",
    ),
    "sweeps": (
        lambda: graph.mixing_sweeps(SQUARE, WHOLE, V6, 0.5, -1),
        ValueError,
        "`n_sweeps` must be at least 0; got -1.",
    ),
    "changes length": (
        lambda: graph.mixing_sweeps(SQUARE, WHOLE, V6, 0.5, 3, D6),
        ValueError,
        "`changes` must be contiguous with shape (3,); got (6,).",
    ),
    "class_ptr elsewhere": (
        lambda: graph.mixing_sweep(SQUARE, WHOLE.to("meta"), V6, 0.5),
        ValueError,
        "`class_ptr` must lie on the CPU for every engine; got meta.",
    ),
    "omega NaN": (
        lambda: graph.mixing_sweep(SQUARE, WHOLE, V6, float("nan")),
        ValueError,
        "`omega` must lie in [0, 1); got nan.",
    ),
    "signs dtype": (
        lambda: graph.gains(SQUARE, S6.float()),
        TypeError,
        "`signs` must be torch.int8; got torch.float32.",
    ),
    "signs shape": (
        lambda: graph.gains(SQUARE, S6[0]),
        ValueError,
        "`signs` must be contiguous with shape (R, 6); got (6,).",
    ),
    "signs strided": (
        lambda: graph.gains(SQUARE, torch.ones(N, 2, dtype=torch.int8).T),
        ValueError,
        "`signs` must be contiguous with shape (R, 6); got (2, 6).",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(call: Callable[[], object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == sentence
