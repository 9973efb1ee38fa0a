"""Graph operations of the Triton twin, interpreted, against the CPU twin and the dense float64 oracle."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from sdp_kernels import graph
from sdp_kernels.cpu import graph as cpu
from sdp_kernels.graph import CSR
from sdp_kernels.triton import graph as twin
from sdp_kernels.triton._rows import CHUNK
from tests.kernels.triton.guards import Guarded
from tests.reference import cuts
from tests.reference import graph as oracle

# A row of d <= 400 entries errs by d u sum |w x| at most; a heavier one by CHUNK + (its parts) terms, fewer here.
TOLERANCES = {torch.float32: 400 * 2.0**-24, torch.float64: 400 * 2.0**-53}
# Rows of V after two sweeps: each is divided by the length of its field, and halves may round to the next one.
ROWS = {torch.float32: 1e-4, torch.float16: 4 * 2.0**-10}
LEAVES = 10_000


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


@pytest.fixture(autouse=True)
def _buffers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What the launchers allocate lies among canaries too, and holds them until it is written."""
    made: list[Guarded] = []

    def make(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
        made.append(Guarded(tuple(shape), dtype))
        return made[-1].tensor

    class Torch:
        """The module, as the launchers see it."""

        def empty(self, *shape: Any, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
            return make(shape[0] if isinstance(shape[0], tuple) else shape, dtype)

        def empty_like(self, X: torch.Tensor) -> torch.Tensor:
            return make(tuple(X.shape), X.dtype)

        def __getattr__(self, name: str) -> Any:
            return getattr(torch, name)

    monkeypatch.setattr(twin, "torch", Torch())
    yield
    for buffer in made:
        buffer.check_outside()


def hubs() -> cuts.Matrix:
    """Rows of exactly CHUNK entries, one more, and several parts, beside light ones and one without entries."""
    rng = np.random.default_rng(5)
    W = np.zeros((331, 331))
    for hub, degree in ((3, CHUNK), (4, CHUNK + 1), (330, 300)):
        W[hub, rng.permutation(np.arange(5, 330))[:degree]] = rng.normal(size=degree)
    W[40:, 5:40] += (rng.random((291, 35)) < 0.1) * rng.normal(size=(291, 35))
    W = W + W.T
    W[:, 7] = W[7] = 0
    return W


# Which path each covers: no row; a row without entries; only such rows; every row alike; components and rows without
# entries; heavy rows of every kind; a number of rows that nothing divides, weights 1.
GRAPHS = {
    "empty": np.zeros((0, 0)),
    "one vertex": np.zeros((1, 1)),
    "no edges": np.zeros((7, 7)),
    "signed torus": cuts.signed_torus(7, 2),
    "components": cuts.several_components(5),
    "hubs": hubs(),
    "random": cuts.sparse_random(389, 5.0, 4),
}
GRAPH_CASES = pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng([seed, *shape]).normal(size=shape))


def guarded(values: torch.Tensor) -> Guarded:
    """Among canaries: what a kernel reads outside turns its results to NaN, what it writes there is seen."""
    made = Guarded(tuple(values.shape), values.dtype)
    made.tensor.copy_(values)
    return made


def unit_rows(n: int, r: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.nn.functional.normalize(normal(n, r), dim=1).to(dtype)


def double(csr: CSR) -> CSR:
    return csr._replace(weights=csr.weights.double())


def among_canaries(csr: CSR) -> CSR:
    return csr._replace(weights=guarded(csr.weights).tensor)


def assert_close(actual: torch.Tensor, expected: cuts.Matrix, size: cuts.Matrix, dtype: torch.dtype) -> None:
    assert tuple(actual.shape) == expected.shape
    error = np.abs(actual.double().numpy() - expected)
    assert (error <= TOLERANCES[dtype] * size + 1e-300).all(), error.max()


def star(signed: bool) -> tuple[CSR, torch.Tensor]:
    """A hub that every leaf meets: the hub a class, then the leaves."""
    weights = np.random.default_rng(1).normal(size=LEAVES).astype(np.float32)
    weights = weights if signed else np.rint(4 * weights)
    csr = CSR(
        torch.tensor([0, *range(LEAVES, 2 * LEAVES + 1)]),
        torch.tensor([*range(1, LEAVES + 1), *[0] * LEAVES], dtype=torch.int32),
        torch.from_numpy(np.tile(weights, 2)),
    )
    return csr, torch.tensor([0, 1, LEAVES + 1])


def coloured(sizes: tuple[int, ...], degree: float, seed: int, hub: int = 0) -> tuple[CSR, torch.Tensor]:
    """A random signed graph without edges inside consecutive classes; vertex 0 has `hub` entries more."""
    n = sum(sizes)
    rng = np.random.default_rng(seed)
    colours = np.repeat(np.arange(len(sizes)), sizes)
    W = (rng.random((n, n)) < degree / n) * rng.normal(size=(n, n))
    W[0, n - hub :] = rng.normal(size=hub)
    W *= colours[:, None] != colours[None, :]
    return cuts.csr_of(cuts.symmetric(W)), torch.tensor([0, *np.cumsum(sizes)])


@GRAPH_CASES
@pytest.mark.parametrize("width", [0, 1, 3, 4, 70])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["f32", "f64"])
def test_products(W: cuts.Matrix, width: int, dtype: torch.dtype) -> None:
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    csr = among_canaries(csr if dtype == torch.float32 else double(csr))
    X = guarded(normal(len(W), width).to(dtype))
    product = graph.adjacency_product(csr, X.tensor)
    exact = X.check().double().numpy()
    size = np.abs(W) @ np.abs(exact)
    assert_close(product, oracle.adjacency_product(W, exact), size, dtype)
    assert_close(product, cpu.adjacency_product(csr, X.tensor).double().numpy(), size, dtype)


@GRAPH_CASES
@pytest.mark.parametrize("width", [1, 4, 5, 33])
def test_chebyshev_step(W: cuts.Matrix, width: int) -> None:
    csr = double(cuts.csr_of(W))
    W = cuts.dense(csr)
    diagonal, X = guarded(normal(len(W))), guarded(normal(len(W), width))
    previous = guarded(normal(len(W), width, seed=1))
    before = previous.tensor.numpy().copy()
    squares = graph.chebyshev_step(among_canaries(csr), diagonal.tensor, X.tensor, previous.tensor)
    exact = X.check().numpy()
    B = W + np.diag(diagonal.tensor.numpy())
    expected = 2 * B @ exact - before
    size = 2 * np.abs(B) @ np.abs(exact) + np.abs(before)
    assert_close(previous.check(), expected, size, torch.float64)
    assert_close(squares, (expected**2).sum(0), 2 * (size**2).sum(0), torch.float64)
    theirs = torch.from_numpy(before)
    of_cpu = cpu.chebyshev_step(csr, diagonal.tensor, X.tensor, theirs)
    assert_close(previous.tensor, theirs.numpy(), size, torch.float64)
    assert_close(squares, of_cpu.numpy(), 2 * (size**2).sum(0), torch.float64)


@pytest.mark.parametrize("n_steps", [0, 1, 4, 5])
def test_chebyshev_steps(n_steps: int) -> None:
    csr = double(cuts.csr_of(GRAPHS["hubs"]))
    n = csr.n_vertices
    csr = csr._replace(weights=csr.weights / 50)
    ours, theirs = (
        (guarded(normal(n, 4)), guarded(normal(n, 4, seed=1))),
        (normal(n, 4), normal(n, 4, seed=1)),
    )
    squares = graph.chebyshev_steps(csr, normal(n) / 4, ours[0].tensor, ours[1].tensor, n_steps)
    torch.testing.assert_close(squares, cpu.chebyshev_steps(csr, normal(n) / 4, *theirs, n_steps))
    for block, of_cpu in zip(ours, theirs, strict=True):
        torch.testing.assert_close(block.check(), of_cpu, rtol=1e-11, atol=1e-11)


@GRAPH_CASES
@pytest.mark.parametrize(
    ("width", "dtype"),
    [(1, torch.float32), (3, torch.float32), (16, torch.float32), (33, torch.float16), (64, torch.float16)],
    ids=["f32-1", "f32-3", "f32-16", "f16-33", "f16-64"],
)
def test_fields(W: cuts.Matrix, width: int, dtype: torch.dtype) -> None:
    csr = cuts.csr_of(W)
    W = cuts.dense(csr)
    V = guarded(unit_rows(len(W), width, dtype))
    found = graph.fields(among_canaries(csr), V.tensor)
    size = 2 * width * np.abs(W).sum(1)
    exact = oracle.fields(W, V.check().double().numpy())
    for ours, theirs, expected in zip(found, cpu.fields(csr, V.tensor), exact, strict=True):
        assert ours.dtype == torch.float64
        assert_close(ours, expected, size, torch.float32)
        assert_close(ours, theirs.numpy(), size, torch.float32)


@GRAPH_CASES
@pytest.mark.parametrize("replicas", [0, 1, 5, 67])
def test_gains(W: cuts.Matrix, replicas: int) -> None:
    csr = cuts.csr_of(np.rint(3 * W))  # integers: exact in any order
    W = cuts.dense(csr)
    signs = torch.where(normal(replicas, len(W)) > 0, 1, -1).to(torch.int8)
    gained = graph.gains(among_canaries(csr), guarded(signs).tensor)
    assert torch.equal(gained, cpu.gains(csr, signs))
    assert (gained.double().numpy() == oracle.gains(W, signs.numpy())).all()


SWEEPS = pytest.mark.parametrize("dtype", [torch.float32, torch.float16], ids=["f32", "f16"])
COLOURED = {  # an empty class, one of one vertex; a heavy row among light ones, and one alone in its class
    "classes": ((61, 0, 130, 1, 55), 6.0, 0, 0),
    "hub among others": ((40, 333), 3.0, 1, 300),
    "hub alone": ((1, 170, 131), 3.0, 2, 301),
}


@SWEEPS
@pytest.mark.parametrize("case", COLOURED.values(), ids=COLOURED.keys())
@pytest.mark.parametrize("width", [1, 3, 16])
def test_sweeps_on_both_engines(
    case: tuple[tuple[int, ...], float, int, int], width: int, dtype: torch.dtype
) -> None:
    csr, class_ptr = coloured(*case)
    n = csr.n_vertices
    ours, theirs = guarded(unit_rows(n, width, dtype)), unit_rows(n, width, dtype)
    changes, of_cpu = guarded(torch.zeros(2, dtype=torch.float64)), torch.zeros(2, dtype=torch.float64)
    graph.mixing_sweeps(among_canaries(csr), class_ptr, ours.tensor, 0.9, 2, changes.tensor)
    cpu.mixing_sweeps(csr, class_ptr, theirs, 0.9, 2, of_cpu)
    error = (ours.check().float() - theirs.float()).abs()
    if width > 1:
        assert error.max() <= ROWS[dtype]
    else:  # a field near 0 turns on its last bit
        assert (error > 0).sum() <= n // 100
    size = float(csr.weights.abs().sum())
    torch.testing.assert_close(changes.check(), of_cpu, rtol=1e-3, atol=TOLERANCES[torch.float32] * size)


@SWEEPS
def test_changes_are_those_of_the_energy(dtype: torch.dtype) -> None:
    csr, class_ptr = coloured((80, 77, 60), 8.0, 3)
    W = cuts.dense(csr)
    V = unit_rows(217, 12, dtype)
    changes = torch.empty(3, dtype=torch.float64)
    energies = [oracle.energy(W, V.double().numpy())]
    apart = V.clone()
    for _ in range(3):
        graph.mixing_sweep(csr, class_ptr, apart, 0.5)
        energies.append(oracle.energy(W, apart.double().numpy()))
    graph.mixing_sweeps(csr, class_ptr, V, 0.5, 3, changes)
    assert torch.equal(V, apart)
    np.testing.assert_allclose(changes.numpy(), np.diff(energies), atol=1e-6 * np.abs(W).sum())


def test_a_sweep_is_the_oracles() -> None:
    csr, class_ptr = coloured((50, 60, 39), 5.0, 4)
    V = unit_rows(149, 8)
    expected = oracle.mixing_sweep(cuts.dense(csr), V.double().numpy(), 0.8)
    graph.mixing_sweep(csr, class_ptr, V, 0.8)
    np.testing.assert_allclose(V.double().numpy(), expected, atol=1e-5)


def test_rows_without_a_field_stay_and_tiny_fields_leave_unit_rows() -> None:
    csr = cuts.csr_of(np.array([[0.0, 1, -1], [1, 0, 0], [-1, 0, 0]]))
    V = torch.tensor([[0.6, 0.8], [1.0, 0.0], [1.0, 0.0]])  # the fields of rows 1 and 2 cancel at 0
    graph.mixing_sweep(csr, torch.tensor([0, 1, 3]), V, 0.9)
    assert V[0].tolist() == pytest.approx([0.6, 0.8])
    signed, class_ptr = coloured((30, 31), 5.0, 6)
    for factor in (1e-18, 1e-30, 1e-44, 1e37):
        V = unit_rows(61, 5)
        graph.mixing_sweeps(signed._replace(weights=factor * signed.weights), class_ptr, V, 0.95, 2)
        assert (V.double().norm(dim=1) - 1).abs().max() < 1e-6


def test_nothing_to_sweep() -> None:
    csr, class_ptr = coloured((5, 6), 2.0, 7)
    changes = torch.ones(2, dtype=torch.float64)
    graph.mixing_sweeps(csr, class_ptr, torch.empty(11, 0), 0.9, 2, changes)
    assert changes.tolist() == [0.0, 0.0]
    V = unit_rows(11, 3)
    before = V.clone()
    graph.mixing_sweeps(csr, class_ptr, V, 0.9, 0)
    assert torch.equal(V, before)
    assert [t.tolist() for t in graph.fields(csr, torch.empty(11, 0))] == [[0.0] * 11] * 2


def test_a_star() -> None:
    csr, class_ptr = star(signed=True)
    n = LEAVES + 1
    X, V, W = normal(n, 4), unit_rows(n, 4), csr.weights.double().abs()
    size = np.concatenate((W[:LEAVES].sum()[None], W[:LEAVES]))
    product = graph.adjacency_product(double(csr), X)
    assert_close(
        product, cpu.adjacency_product(double(csr), X).numpy(), 4 * np.tile(size, (4, 1)).T, torch.float64
    )
    for ours, theirs in zip(graph.fields(csr, V), cpu.fields(csr, V), strict=True):
        assert_close(ours, theirs.numpy(), 4 * size, torch.float32)
    graph.mixing_sweep(csr, class_ptr, V, 0.0)
    # A star is a tree: after one sweep every leaf stands against the hub or with it, at the optimum.
    assert float(cpu.fields(csr, V)[1].sum()) == pytest.approx(-float(W.sum()), rel=1e-5)
    signs = torch.where(normal(2, n) > 0, 1, -1).to(torch.int8)
    whole = star(signed=False)[0]
    assert torch.equal(graph.gains(whole, signs), cpu.gains(whole, signs))


def test_what_is_kept_from_an_inference_serves_outside_of_it() -> None:
    csr, class_ptr = coloured((40, 33), 3.0, 1, 30)
    V, X, previous = (
        unit_rows(csr.n_vertices, 8),
        normal(csr.n_vertices, 4),
        normal(csr.n_vertices, 4, seed=1),
    )
    expected = V.clone()
    changes = torch.empty(1, dtype=torch.float64)
    with torch.inference_mode():
        graph.mixing_sweeps(csr, class_ptr, V, 0.9, 1, changes)
        graph.chebyshev_steps(double(csr), normal(csr.n_vertices), X, previous, 2)
    graph.mixing_sweeps(csr, class_ptr, V, 0.5, 1, changes)
    graph.chebyshev_steps(double(csr), normal(csr.n_vertices), X, previous, 2)
    for omega in (0.9, 0.5):
        graph.mixing_sweeps(csr, class_ptr, expected, omega, 1)
    assert torch.equal(V, expected)


def test_two_runs_and_other_tiles_give_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    csr, class_ptr = coloured((40, 333), 3.0, 1, 300)
    n = csr.n_vertices
    signs = torch.where(normal(3, n) > 0, 1, -1).to(torch.int8)

    def work() -> list[torch.Tensor]:
        V, half, previous = unit_rows(n, 12), unit_rows(n, 12, torch.float16), normal(n, 5)
        changes = torch.empty(2, dtype=torch.float64)
        graph.mixing_sweeps(csr, class_ptr, V, 0.9, 2, changes)
        graph.mixing_sweeps(csr, class_ptr, half, 0.9, 2)
        squares = graph.chebyshev_step(double(csr), normal(n), normal(n, 5, seed=1), previous)
        product = graph.adjacency_product(csr, unit_rows(n, 7))
        return [
            V,
            half,
            changes,
            previous,
            squares,
            product,
            *graph.fields(csr, V),
            graph.gains(csr, signs),
        ]

    first = work()
    for items in (twin.ITEMS_INTERPRETED, 64):
        monkeypatch.setattr(twin, "ITEMS_INTERPRETED", items)
        for one, other in zip(first, work(), strict=True):
            assert torch.equal(one, other)


def test_wide_rows_of_many_columns() -> None:
    """More columns than a tile of products, and a row of V longer than a tile's threads take at 16 bytes each."""
    csr, class_ptr = coloured((20, 21), 4.0, 8)
    X = normal(41, 130)
    torch.testing.assert_close(
        graph.adjacency_product(double(csr), X), cpu.adjacency_product(double(csr), X), rtol=1e-13, atol=1e-13
    )
    ours, theirs = unit_rows(41, 700), unit_rows(41, 700)
    graph.mixing_sweep(csr, class_ptr, ours, 0.9)
    cpu.mixing_sweeps(csr, class_ptr, theirs, 0.9, 1, None)
    assert (ours - theirs).abs().max() < 1e-5


@pytest.mark.parametrize("lanes", [32, 64], ids=["NVIDIA", "AMD"])
@pytest.mark.parametrize("size", [1, 2, 4, 8])
def test_tiles_leave_two_threads_an_item(size: int, lanes: int) -> None:
    for columns in (2**k for k in range(13)):
        items, warps, _ = twin.gpu_tile(twin.WHOLE, columns * size, columns * size, None, lanes)
        assert twin.FEWEST_ITEMS <= items <= twin.MOST_ITEMS
        assert 2 * items <= warps * lanes <= 4 * twin.THREADS
