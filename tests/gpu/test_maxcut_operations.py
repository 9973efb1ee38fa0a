"""On a GPU: every operation that cuts graphs, compiled, against the CPU engine. Run by `make gpu`.

Bits are equal wherever the arithmetic is exact: packed signs, cut values and gains of integer weights, and all that
annealing, one-opt and crossover do with them. Else tolerances are relative to the largest expected entry.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels import anneal, graph, probit_cut, replicas
from sdp_kernels.graph import CSR

pytestmark = [
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU"),
    pytest.mark.skipif(
        os.environ.get("TRITON_INTERPRET") == "1", reason="triton interprets here; run make gpu"
    ),
]

DEVICE = "cuda"
SEED = 5
RANK = 24


class Graph(NamedTuple):
    """A graph whose colour classes are consecutive; the last vertices of each have no edges."""

    csr: CSR
    class_ptr: Tensor

    def on(self, device: str) -> Graph:
        """Rows on the device, classes on the CPU."""
        return Graph(CSR(*(tensor.to(device) for tensor in self.csr)), self.class_ptr)


def made(sizes: tuple[int, ...], n_edges: int, values: tuple[float, ...] | None) -> Graph:
    """Random edges between classes, weights from `values`, or normal."""
    rng = np.random.default_rng([SEED, *sizes])
    n, colours = sum(sizes), np.repeat(np.arange(len(sizes)), sizes)
    ends = rng.integers(0, n, (2, n_edges))
    ends = np.sort(ends[:, (colours[ends[0]] != colours[ends[1]]) & (ends % 17 != 3).all(axis=0)], axis=0)
    return assembled(n, np.unique(ends, axis=1), np.cumsum([0, *sizes]), values, rng)


def star(leaves: int, values: tuple[float, ...] | None) -> Graph:
    """A row of all leaves, which kernels split."""
    ends = np.stack([np.zeros(leaves, dtype=np.int64), np.arange(1, leaves + 1)])
    return assembled(leaves + 1, ends, np.array([0, 1, leaves + 1]), values, np.random.default_rng(SEED))


def assembled(
    n: int,
    ends: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    class_ptr: np.ndarray[tuple[int, ...], np.dtype[np.int64]],
    values: tuple[float, ...] | None,
    rng: np.random.Generator,
) -> Graph:
    m = ends.shape[1]
    weights = rng.normal(size=m) if values is None else rng.choice(values, m)
    rows, columns = np.concatenate([ends, ends[::-1]], axis=1)
    order = np.lexsort((columns, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=n))])
    csr = CSR(
        torch.from_numpy(indptr.astype(np.int64)),
        torch.from_numpy(columns[order].astype(np.int32)),
        torch.from_numpy(np.tile(weights, 2)[order].astype(np.float32)),
    )
    return Graph(csr, torch.from_numpy(class_ptr.astype(np.int64)))


SIZES = (1501, 1000, 499)
EXACT = {
    "unweighted": made(SIZES, 12_000, (1.0,)),
    "signed": made(SIZES, 9_000, (-1.0, 1.0)),
    "star": star(10_000, (-2.0, -2.0, 2.0)),
    "integers": made(SIZES, 12_000, (-3.0, -1.0, 1.0, 2.0, 4.0)),
    "wide integers": made(SIZES, 12_000, tuple(map(float, range(-500, 501)))),
    "no edges": made((40, 30), 0, (1.0,)),
}
ROUNDED = {
    "normal": made(SIZES, 12_000, None),
    "normal star": star(10_000, None),
}
ALL = {**EXACT, **ROUNDED}
ONE_MAGNITUDE = {name: EXACT[name] for name in ("unweighted", "signed", "star")}


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(SEED), dtype=torch.float64)


def unit_rows(n: int, dtype: torch.dtype) -> Tensor:
    return torch.nn.functional.normalize(normal(n, RANK), dim=1).to(dtype)


def signs_of(n_replicas: int, n: int) -> Tensor:
    bits = torch.randint(0, 2, (n_replicas, n), generator=torch.Generator().manual_seed(SEED))
    return (2 * bits - 1).to(torch.int8)


def temperatures(rows: int, n_sweeps: int) -> Tensor:
    return torch.linspace(3.0, 0.2, rows * n_sweeps).reshape(rows, n_sweeps)


Results = tuple[Tensor, ...]
Operation = Callable[[Graph, str], Results]


def product(dtype: torch.dtype) -> Operation:
    def run(g: Graph, device: str) -> Results:
        csr = g.csr._replace(weights=g.csr.weights.to(dtype))
        return (graph.adjacency_product(csr, normal(csr.n_vertices, 7).to(device, dtype)),)

    return run


def chebyshev(g: Graph, device: str) -> Results:
    csr, n = g.csr._replace(weights=g.csr.weights.double() / 100), g.csr.n_vertices
    diagonal, X, previous = (x.to(device) for x in (normal(n), normal(n, 6), 0.5 * normal(n, 6)))
    squares = graph.chebyshev_step(csr, diagonal, X, previous)
    return previous, squares


def mixing(dtype: torch.dtype) -> Operation:
    def run(g: Graph, device: str) -> Results:
        V = unit_rows(g.csr.n_vertices, dtype).to(device)
        changes = torch.empty(3, dtype=torch.float64, device=device)
        graph.mixing_sweeps(g.csr, g.class_ptr, V, 0.3, 3, changes)
        return V, changes

    return run


def fields(g: Graph, device: str) -> Results:
    return graph.fields(g.csr, unit_rows(g.csr.n_vertices, torch.float32).to(device))


def gains(g: Graph, device: str) -> Results:
    return (graph.gains(g.csr, signs_of(5, g.csr.n_vertices).to(device)),)


def annealed(g: Graph, device: str) -> Results:
    signs = signs_of(5, g.csr.n_vertices).to(device)
    gained = graph.gains(g.csr, signs)
    heats = temperatures(5, 12).to(device)
    changes = anneal.anneal(g.csr, g.class_ptr, signs, gained, heats, seed=SEED, stream=3, first_sweep=7)
    return signs, gained, changes


def one_opt(g: Graph, device: str) -> Results:
    signs = signs_of(3, g.csr.n_vertices).to(device)
    gained = graph.gains(g.csr, signs)
    anneal.one_opt(g.csr, g.class_ptr, signs, gained)
    return signs, gained


def annealed_packed(random: str) -> Operation:
    def run(g: Graph, device: str) -> Results:
        packed = replicas.pack_signs(signs_of(96, g.csr.n_vertices).T.to(device)).contiguous()
        heats = temperatures(3, 9).to(device)
        anneal.anneal_packed(g.csr, g.class_ptr, packed, heats, seed=SEED, stream=2, random=random)
        return (packed,)

    return run


def crossover(g: Graph, device: str) -> Results:
    n = g.csr.n_vertices
    signs = signs_of(1, n)
    moved = (
        torch.rand(8, n, generator=torch.Generator().manual_seed(SEED)) < torch.linspace(0.0, 0.5, 8)[:, None]
    )
    others = torch.where(moved, -signs, signs)
    others[1::3] *= -1
    elite = signs.to(device)
    added = anneal.partition_crossover(g.csr, elite, others.to(device))
    return elite, added


def packing(g: Graph, device: str) -> Results:
    signs = signs_of(70, g.csr.n_vertices).T.to(device)
    packed = replicas.pack_signs(signs)
    return packed, replicas.pack_signs(signs.contiguous() > 0), replicas.unpack_signs(packed, 67)


def cut_values(n_replicas: int) -> Operation:
    def run(g: Graph, device: str) -> Results:
        packed = replicas.pack_signs(signs_of(n_replicas, g.csr.n_vertices).T.to(device))
        return (replicas.cut_values(g.csr, packed),)

    return run


def smooth_cut(g: Graph, device: str) -> Results:
    n = g.csr.n_vertices
    V = unit_rows(n, torch.float32).to(device)
    moments = probit_cut.law(g.csr, V, 3.0)
    mean = 0.3 * normal(n).to(device, moments.variances.dtype)
    value, derivatives = probit_cut.law_value_and_derivatives(g.csr, moments, mean)
    again = probit_cut.law_value(g.csr, moments, mean)
    hessian = probit_cut.hessian_product(g.csr, derivatives, normal(n, 3).to(device, torch.float32))
    return torch.tensor([value, again], dtype=torch.float64), *derivatives, hessian


# Rows of a star add up 10,000 terms in float32; annealed rows are divided by the lengths of their fields.
CLOSE: dict[str, tuple[Operation, float]] = {
    "product f32": (product(torch.float32), 1e-5),
    "product f64": (product(torch.float64), 1e-13),
    "chebyshev": (chebyshev, 1e-13),
    "mixing f32": (mixing(torch.float32), 1e-3),
    "mixing f16": (mixing(torch.float16), 1e-2),
    "fields": (fields, 1e-5),
    "gains": (gains, 1e-5),
    "cut values": (cut_values(40), 1e-12),
    "smooth cut": (smooth_cut, 5e-5),
}
SAME: dict[str, Operation] = {
    "gains": gains,
    "anneal": annealed,
    "one-opt": one_opt,
    "crossover": crossover,
    "cut values of 40": cut_values(40),
    "cut values of 1056": cut_values(1056),
}
PACKED = {"independent": annealed_packed("independent"), "shared": annealed_packed("shared")}


def on(device: str, operation: Operation, g: Graph) -> Results:
    return tuple(tensor.cpu() for tensor in operation(g.on(device), device))


def assert_same(found: Results, expected: Results) -> None:
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.dtype == theirs.dtype
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("operation", SAME.values(), ids=SAME.keys())
@pytest.mark.parametrize("g", EXACT.values(), ids=EXACT.keys())
def test_equal_bits(g: Graph, operation: Operation) -> None:
    assert_same(on(DEVICE, operation, g), on("cpu", operation, g))


@pytest.mark.parametrize("operation", PACKED.values(), ids=PACKED.keys())
@pytest.mark.parametrize("g", ONE_MAGNITUDE.values(), ids=ONE_MAGNITUDE.keys())
def test_equal_bits_of_packed_annealing(g: Graph, operation: Operation) -> None:
    assert_same(on(DEVICE, operation, g), on("cpu", operation, g))


@pytest.mark.parametrize("g", ALL.values(), ids=ALL.keys())
def test_equal_packed_signs(g: Graph) -> None:
    assert_same(on(DEVICE, packing, g), on("cpu", packing, g))


@pytest.mark.parametrize("name", CLOSE)
@pytest.mark.parametrize("g", ALL.values(), ids=ALL.keys())
def test_close(g: Graph, name: str) -> None:
    operation, tolerance = CLOSE[name]
    for ours, theirs in zip(on(DEVICE, operation, g), on("cpu", operation, g), strict=True):
        assert ours.shape == theirs.shape
        if theirs.numel():
            scale = float(theirs.double().abs().max())
            assert float((ours.double() - theirs.double()).abs().max()) <= tolerance * scale


@pytest.mark.parametrize("g", ROUNDED.values(), ids=ROUNDED.keys())
def test_crossover_of_rounded_weights_adds_what_it_says(g: Graph) -> None:
    before = replicas.cut_values(g.csr, replicas.pack_signs(signs_of(1, g.csr.n_vertices).T))[0]
    elite, added = on(DEVICE, crossover, g)
    after = replicas.cut_values(g.csr, replicas.pack_signs(elite.T))[0]
    assert (added >= 0).all()
    assert abs(float(after - before - added.sum())) <= 1e-9 * float(g.csr.weights.double().abs().sum())


@pytest.mark.parametrize("rank", [1, 24, 70])
def test_projected_signs(rank: int) -> None:
    V, planes = normal(3001, rank).float(), normal(rank, 200).float()
    found = replicas.project_signs(V.to(DEVICE), planes.to(DEVICE)).cpu()
    expected = replicas.project_signs(V, planes)
    if torch.version.hip is None:
        assert torch.equal(found, expected)
    differ = replicas.unpack_signs(found, 200) != replicas.unpack_signs(expected, 200)
    products, size = V.double() @ planes.double(), V.double().abs() @ planes.double().abs()
    assert not (differ & (products.abs() > rank * 2.0**-23 * size)).any()


@pytest.mark.parametrize("g", ROUNDED.values(), ids=ROUNDED.keys())
def test_same_seed_same_bits(g: Graph) -> None:
    operations = [operation for operation, _ in CLOSE.values()]
    for operation in (*operations, annealed, one_opt, crossover):
        assert_same(on(DEVICE, operation, g), on(DEVICE, operation, g))


def test_expected_cut_of_hard_signs() -> None:
    g = EXACT["unweighted"]
    values = []
    for device in ("cpu", DEVICE):
        V = unit_rows(g.csr.n_vertices, torch.float32).to(device)
        mu = torch.zeros(V.shape[0], device=device)
        values.append(probit_cut.probit_cut_value(g.on(device).csr, V, mu, math.inf))
    assert abs(values[1] - values[0]) <= 1e-6 * values[0]
