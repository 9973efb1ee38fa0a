"""Partition crossover of the Triton twin, interpreted: the CPU twin's partitions and gains, whatever the tiles."""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels.cpu import anneal as cpu
from sdp_kernels.graph import CSR
from sdp_kernels.triton import crossover
from sdp_kernels.triton._edges import edges_of
from tests.kernels.triton.guards import Guarded
from tests.kernels.triton.test_replicas import integers, random_signs, star
from tests.reference import cuts

# Gains are rounded down, by less than a unit an edge, and the CPU twin's float64 sums round too.
TOLERANCE = 1e-12


def others_of(signs: Tensor, share: float, n_others: int, seed: int = 1) -> Tensor:
    """Partitions that differ from `signs` (1, n) in this share of the vertices; every third is mirrored."""
    moved = np.random.default_rng(seed).random((n_others, signs.shape[1])) < share
    others = signs * torch.from_numpy(np.where(moved, -1, 1).astype(np.int8))
    others[2::3] *= -1
    return others


def path(n: int, weight: float = 1.0) -> CSR:
    return cuts.csr_of(cuts.symmetric(weight * np.eye(n, k=1)))


GRAPHS = {
    "empty": cuts.csr_of(np.zeros((0, 0))),
    "one vertex": cuts.csr_of(np.zeros((1, 1))),
    "no edges": cuts.csr_of(np.zeros((7, 7))),
    "unweighted": cuts.csr_of(cuts.sparse_random(300, 6.0, 1)),
    "signed": cuts.csr_of(cuts.signed_torus(17, 2)),
    "wide integers": cuts.csr_of(integers(41, -5000, 5000)),
    "halves and quarters": cuts.csr_of(0.25 * integers(41, -3, 4)),
    "components": cuts.csr_of(cuts.several_components(5)),
    "star": star(10_000, (1.0, -2.0, 3.0)),
    "path": path(700),
}


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5])
@pytest.mark.parametrize("csr", GRAPHS.values(), ids=GRAPHS.keys())
def test_equal_bits_where_sums_are_exact(csr: CSR, share: float) -> None:
    signs = random_signs(csr.n_vertices, 1).T.contiguous()
    others = others_of(signs, share, 4)
    expected, found = signs.clone(), signs.clone()
    added = cpu.partition_crossover(csr, expected, others)
    assert torch.equal(crossover.partition_crossover(csr, found, others), added)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("seed", range(6))
def test_any_weights_add_what_they_say(seed: int) -> None:
    W = cuts.sparse_random(120, 5.0, seed) * cuts.dense_random(120, seed)
    csr = cuts.csr_of(W)
    signs = random_signs(120, 1, seed).T.contiguous()
    others = others_of(signs, 0.2, 3, seed)
    expected = signs.clone()
    cpu_added = cpu.partition_crossover(csr, expected, others)
    before = float(cuts.cut_values(csr, signs.T)[0])
    added = crossover.partition_crossover(csr, signs, others)
    after = float(cuts.cut_values(csr, signs.T)[0])
    assert torch.equal(signs, expected)
    assert (added >= 0).all()
    scale = float(csr.weights.abs().sum())
    assert abs(after - before - float(added.sum())) <= TOLERANCE * scale
    assert (added - cpu_added).abs().max() <= TOLERANCE * scale


@pytest.mark.parametrize("name", ["unweighted", "signed", "path"])
def test_tiles_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    csr = GRAPHS[name]
    start = random_signs(csr.n_vertices, 1).T.contiguous()
    others = others_of(start, 0.4, 2)
    outcomes = []
    for block in (1 << 16, 1 << 16, 128):
        monkeypatch.setattr(crossover, "BLOCK_INTERPRETED", block)
        signs = start.clone()
        outcomes.append((signs, crossover.partition_crossover(csr, signs, others)))
    for one, other in itertools.pairwise(outcomes):
        assert torch.equal(one[0], other[0])
        assert torch.equal(one[1], other[1])


def components(csr: CSR, marked: Tensor, order: Tensor, block: int) -> Tensor:
    """Roots of the marked vertices after linking the edges in this order, in programs of `block` edges."""
    edges = edges_of(csr)
    n, m = csr.n_vertices, edges.rows.numel()
    vertices = torch.arange(n, dtype=torch.int32)
    guarded = Guarded((n,), torch.int32)
    guarded.tensor.copy_(torch.where(marked, vertices, -1))
    programs = (-(-m // block),)
    crossover._link_kernel[programs](edges.rows[order], edges.cols[order], guarded.tensor, m, BLOCK=block)
    crossover._flatten_kernel[(-(-n // block),)](guarded.tensor, n, BLOCK=block)
    return guarded.check().clone()


@pytest.mark.parametrize("name", ["unweighted", "signed", "components", "path", "star"])
def test_roots_are_the_least_vertices_in_any_order(name: str) -> None:
    csr = GRAPHS[name]
    n = csr.n_vertices
    rng = np.random.default_rng(0)
    marked = torch.from_numpy(rng.random(n) < 0.8)
    edges = edges_of(csr)
    expected = torch.where(marked, torch.arange(n), -1)
    inside = marked[edges.rows.long()] & marked[edges.cols.long()]
    i, j = edges.rows[inside].long(), edges.cols[inside].long()
    while True:  # the least label spreads until nothing changes
        before = expected.clone()
        expected.scatter_reduce_(0, i, before[j], "amin")
        expected.scatter_reduce_(0, j, before[i], "amin")
        if torch.equal(before, expected):
            break
    m = edges.rows.numel()
    for block in (1 << 14, 512):
        for order in (torch.arange(m), torch.arange(m).flip(0), torch.from_numpy(rng.permutation(m))):
            assert torch.equal(components(csr, marked, order, block).long(), expected)


def test_nothing_is_written_but_signs() -> None:
    csr = GRAPHS["signed"]
    start = random_signs(csr.n_vertices, 1).T.contiguous()
    others = others_of(start, 0.2, 3)
    guarded = Guarded(tuple(start.shape), torch.int8)
    guarded.tensor.copy_(start)
    kept = others.clone()
    crossover.partition_crossover(csr, guarded.tensor, others)
    expected = start.clone()
    cpu.partition_crossover(csr, expected, others)
    assert torch.equal(guarded.check(), expected)
    assert torch.equal(others, kept)


def test_identical_and_mirrored_partitions_add_nothing() -> None:
    csr = GRAPHS["unweighted"]
    signs = random_signs(csr.n_vertices, 1).T.contiguous()
    before = signs.clone()
    added = crossover.partition_crossover(csr, signs, torch.cat([before, -before, before]))
    assert added.tolist() == [0.0, 0.0, 0.0]
    assert torch.equal(signs, before)


def test_half_of_the_vertices_are_no_majority() -> None:
    # Two of four agree: the partition itself, not its mirror image, is compared, as on the CPU.
    csr = path(4)
    signs = torch.ones(1, 4, dtype=torch.int8)
    other = torch.tensor([[1, -1, 1, -1]], dtype=torch.int8)
    assert crossover.partition_crossover(csr, signs, other).tolist() == [3.0]
    assert torch.equal(signs, other)


def test_nobody_and_nothing() -> None:
    signs = random_signs(300, 1).T.contiguous()
    assert crossover.partition_crossover(GRAPHS["unweighted"], signs, signs[:0]).tolist() == []
    empty = torch.ones(2, 0, dtype=torch.int8)
    assert crossover.partition_crossover(GRAPHS["empty"], empty[:1], empty).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("weight", [3e38, 1e-20, 1e-3], ids=str)
def test_scales_of_weights(weight: float) -> None:
    """The unit of gains follows the weights."""
    csr = path(4, weight)
    signs = torch.ones(1, 4, dtype=torch.int8)
    other = torch.tensor([[1, -1, 1, 1]], dtype=torch.int8)
    added = crossover.partition_crossover(csr, signs, other)
    assert added.tolist() == [2 * float(csr.weights[0])]
    assert torch.equal(signs, other)


def test_a_loss_below_the_unit_is_never_taken() -> None:
    # Gains of 1 and of -2^-70 at vertex 1: too small a loss for the fixed point, and too small for float64.
    W = np.zeros((4, 4))
    W[0, 1] = W[1, 0] = -(2.0**-70)
    W[2, 3] = W[3, 2] = 1.0
    csr = cuts.csr_of(W)
    signs = torch.ones(1, 4, dtype=torch.int8)
    other = torch.tensor([[1, -1, 1, 1]], dtype=torch.int8)
    assert crossover.partition_crossover(csr, signs, other).tolist() == [0.0]
    assert signs.tolist() == [[1, 1, 1, 1]]


def linking(parent: list[int], u: int, v: int) -> Iterator[None]:
    """`_link_kernel` for one edge, a memory access between two stops."""
    while u != v:
        ends, are_roots = [u, v], [False, False]
        for k in range(2):
            yield
            above = parent[ends[k]]
            are_roots[k] = above == ends[k]
            if not are_roots[k]:
                yield
                higher = parent[above]
                if higher != above:
                    yield
                    parent[ends[k]] = higher
                ends[k] = higher
        low, high = sorted(ends)
        if all(are_roots) and low != high:
            yield
            before, parent[high] = parent[high], min(parent[high], low)
            if before == high:
                return
            low, high = sorted((before, low))
        u, v = low, high


def test_no_link_is_lost_however_threads_take_turns() -> None:
    """The interpreter runs programs in order and sees no race; this model of the kernel takes random turns."""
    rng = random.Random(0)
    for _ in range(4000):
        n = rng.randint(2, 10)
        ends = [(rng.randrange(n), rng.randrange(n)) for _ in range(rng.randint(1, 14))]
        parent = list(range(n))
        threads = [linking(parent, *pair) for pair in ends]
        eager = rng.random()  # how often the first thread goes on, so that others lag far behind
        while threads:
            thread = threads[0] if rng.random() < eager else rng.choice(threads)
            if next(thread, threads) is threads:
                threads.remove(thread)
        least = list(range(n))
        for _ in range(n):
            for i, j in ends:
                least[i] = least[j] = min(least[i], least[j])
        for vertex in range(n):
            root = vertex
            while parent[root] != root:
                assert parent[root] < root
                root = parent[root]
            assert root == least[vertex]
