"""Annealing of the Triton twin, interpreted: every decision is the CPU twin's, and no tile changes one."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from sdp_kernels import anneal as kernels
from sdp_kernels.cpu import anneal as cpu
from sdp_kernels.cpu.graph import gains as cpu_gains
from sdp_kernels.graph import CSR
from sdp_kernels.triton import anneal as twin
from sdp_kernels.triton import anneal_kernels, multispin, multispin_kernels
from sdp_kernels.triton._rows import CHUNK
from tests.kernels.triton.guards import Guarded
from tests.reference import cuts
from tests.reference import graph as oracle

LEAVES = 10_000
RANDOM_CASES = pytest.mark.parametrize("random", kernels.RANDOM)


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


Graph = tuple[CSR, torch.Tensor]


def in_colours(W: cuts.Matrix) -> Graph:
    """Vertices renumbered colour by colour, greedily by falling degree."""
    colours = np.full(len(W), -1)
    for i in np.argsort(-(W != 0).sum(1), kind="stable"):
        taken = set(colours[W[i] != 0])
        colours[i] = next(c for c in range(len(W)) if c not in taken)
    order = np.argsort(colours, kind="stable")
    sizes = np.bincount(colours) if len(W) else np.zeros(0, int)
    return cuts.csr_of(W[np.ix_(order, order)]), torch.tensor([0, *np.cumsum(sizes)])


def with_hub(degree: float, weights: list[float], seed: int) -> Graph:
    """A random graph of three colours, one vertex with CHUNK + 2 entries or more, a component apart, a lone vertex."""
    sizes = (90, 81, 66)
    n, rng = sum(sizes), np.random.default_rng(seed)
    colours = np.repeat(np.arange(3), sizes)
    W = rng.choice(weights, (n, n)) * (rng.random((n, n)) < degree / n)
    W[80:100, 100:] = W[:80, 80:100] = 0
    W[0, n - CHUNK - 2 :] = rng.choice(weights, CHUNK + 2)
    W[:, 5] = W[5] = 0
    W *= colours[:, None] != colours
    return cuts.csr_of(cuts.symmetric(W)), torch.tensor([0, *np.cumsum(sizes)])


def star() -> Graph:
    """A hub that every leaf meets: the hub a class, then the leaves."""
    csr = CSR(
        torch.tensor([0, *range(LEAVES, 2 * LEAVES + 1)]),
        torch.tensor([*range(1, LEAVES + 1), *[0] * LEAVES], dtype=torch.int32),
        torch.ones(2 * LEAVES),
    )
    return csr, torch.tensor([0, 1, LEAVES + 1])


# Which path each covers: no row; a row without entries; rows of 4; all kinds of rows, a heavy one, components,
# several blocks of 64 vertices in a class; a heavy row of many parts. Weights are +-2 but for "integers".
GRAPHS = {
    "empty": in_colours(np.zeros((0, 0))),
    "one vertex": in_colours(np.zeros((1, 1))),
    "signed torus": in_colours(2 * cuts.signed_torus(7, 2)),
    "kinds": with_hub(18.0, [2.0, -2.0], 1),
    "star": star(),
}
INTEGERS = with_hub(8.0, [-5.0, -1.0, 2.0, 3.0], 2)


def guarded(values: torch.Tensor) -> Guarded:
    made = Guarded(tuple(values.shape), values.dtype)
    made.tensor.copy_(values)
    return made


def start(csr: CSR, replicas: int) -> tuple[torch.Tensor, torch.Tensor]:
    rng = np.random.default_rng(replicas)
    signs = torch.from_numpy(rng.choice(np.array([-1, 1], np.int8), (replicas, csr.n_vertices)))
    return signs, cpu_gains(csr, signs)


def cooling(rows: int, sweeps: int, hot: float) -> torch.Tensor:
    """From a row's own heat, the last one's 0, down to 0."""
    heats = torch.linspace(hot, 0, rows)[:, None]
    return (heats * torch.linspace(1, 0, sweeps)).contiguous()


def test_every_kind_of_row_is_among_them() -> None:
    degrees = GRAPHS["kinds"][0].indptr.diff()
    for least, most in ((0, 0), (1, 4), (5, 8), (9, 16), (17, CHUNK), (CHUNK + 1, 237)):
        assert ((degrees >= least) & (degrees <= most)).any()


@pytest.mark.parametrize("name", [*GRAPHS, "integers"])
def test_decisions_are_the_cpu_twins(name: str) -> None:
    csr, class_ptr = {**GRAPHS, "integers": INTEGERS}[name]
    replicas = {"star": 2, "integers": 33}.get(name, 5)
    state = start(csr, replicas)
    signs, gained = guarded(state[0]), guarded(state[1])
    temperatures, numbers = cooling(replicas, 2, 8.0), (2**40 + 1, 2**31 - 2, 2**32 - 3)
    expected = cpu.anneal(csr, class_ptr, *state, temperatures, kernels.threshold_table(), *numbers)
    seed, stream, first_sweep = numbers
    changes = kernels.anneal(
        csr,
        class_ptr,
        signs.tensor,
        gained.tensor,
        temperatures,
        seed=seed,
        stream=stream,
        first_sweep=first_sweep,
    )
    assert changes.dtype == torch.int64
    assert torch.equal(changes, expected)
    assert torch.equal(signs.check(), state[0])
    assert torch.equal(gained.check(), state[1])
    kernels.one_opt(csr, class_ptr, signs.tensor, gained.tensor)
    cpu.one_opt(csr, class_ptr, *state, 0.0)
    assert torch.equal(signs.check(), state[0])
    assert torch.equal(gained.check(), state[1])


def test_real_weights_and_a_tolerance() -> None:
    W = cuts.dense_random(60, 1)
    csr, class_ptr = in_colours(cuts.symmetric(W * (np.random.default_rng(0).random((60, 60)) < 0.05)))
    csr = csr._replace(weights=guarded(csr.weights).tensor)
    signs, gained = start(csr, 3)
    kernels.one_opt(csr, class_ptr, signs, gained, tolerance=0.3)
    exact = oracle.gains(cuts.dense(csr), signs.numpy())
    assert np.abs(gained.numpy() - exact).max() <= 2.0**-20 * np.abs(exact).max()
    assert float(gained.max()) <= 0.3


@pytest.mark.parametrize("name", GRAPHS)
@RANDOM_CASES
def test_packed_bits_are_the_cpu_twins(name: str, random: str) -> None:
    csr, class_ptr = GRAPHS[name]
    words = 4 if name == "signed torus" else 3
    rng = np.random.default_rng(1)
    packed = torch.from_numpy(rng.integers(-(2**31), 2**31 - 1, (csr.n_vertices, words)).astype(np.int32))
    found = guarded(packed)
    temperatures = cooling(words, 2, 8.0 if name == "kinds" else 2.5)
    numbers = {
        "seed": 2**62 + 1,
        "stream": 8 if words == 4 else 6,
        "first_sweep": 2**31 - 1,
        "random": random,
    }
    kernels.anneal_packed(csr, class_ptr, found.tensor, temperatures, **numbers)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SDP_ENGINE", "cpu")
        kernels.anneal_packed(csr, class_ptr, packed, temperatures, **numbers)  # type: ignore[arg-type]
    assert torch.equal(found.check(), packed)


def test_tiles_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    csr, class_ptr = GRAPHS["kinds"]
    packed = torch.from_numpy(np.random.default_rng(2).integers(-(2**31), 2**31, (237, 2)).astype(np.int32))
    results = []
    for items, size in ((1 << 11, 1 << 15), (64, 64)):
        monkeypatch.setattr(twin, "ITEMS_INTERPRETED", items)
        monkeypatch.setattr(multispin, "TILE_INTERPRETED", size)
        signs, gained = start(csr, 4)
        changes = kernels.anneal(csr, class_ptr, signs, gained, cooling(4, 1, 5.0), seed=1)
        words = packed.clone()
        kernels.anneal_packed(csr, class_ptr, words, cooling(2, 1, 3.0), seed=1)
        results.append((signs, gained, changes, words))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


def test_constants_are_the_public_ones() -> None:
    assert anneal_kernels.BLOCK_VERTICES == kernels.BLOCK_VERTICES
    assert kernels.THRESHOLDS == 1 << (32 - anneal_kernels.PLACE_SHIFT)
    assert multispin_kernels.OWN_BITS == kernels.OWN_BITS
    assert twin.MAX_PASSES == cpu.MAX_PASSES
