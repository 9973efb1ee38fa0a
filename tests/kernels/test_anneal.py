"""Annealing, one-opt and partition crossover of the CPU engine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numba
import numpy as np
import pytest
import torch

from sdp_kernels import anneal as kernels
from sdp_kernels import graph
from sdp_kernels.cpu import _blocks
from sdp_kernels.graph import CSR
from tests.reference import cuts
from tests.reference import graph as oracle

MOST_THREADS = int(numba.config.NUMBA_NUM_THREADS)  # type: ignore[attr-defined]

State = tuple[torch.Tensor, torch.Tensor]


def integers(n: int, density: float, seed: int) -> cuts.Matrix:
    """Random graph with integer weights from -5 to 5."""
    rng = np.random.default_rng(seed)
    return cuts.symmetric(rng.integers(-5, 6, (n, n)).astype(np.float64) * (rng.random((n, n)) < density))


# Which path each covers: nothing; no neighbour; a part of a block of 64 vertices; several blocks and a part of
# one; rows of many lengths; vertices without an edge.
GRAPHS = {
    "empty": np.zeros((0, 0)),
    "one vertex": np.zeros((1, 1)),
    "no edges": np.zeros((7, 7)),
    "signed torus": cuts.signed_torus(7, 2),
    "integers": integers(200, 0.05, 3),
    "dense integers": integers(130, 0.9, 4),
}
GRAPH_CASES = pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())


def random_signs(replicas: int, n: int, seed: int = 0) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(seed).choice(np.array([-1, 1], np.int8), (replicas, n)))


def one_by_one(csr: CSR) -> torch.Tensor:
    """Every vertex a class of its own."""
    return torch.arange(csr.n_vertices + 1)


def start(csr: CSR, replicas: int, seed: int = 0) -> State:
    signs = random_signs(replicas, csr.n_vertices, seed)
    return signs, graph.gains(csr, signs)


def cooling(replicas: int, sweeps: int, hot: float = 5.0) -> torch.Tensor:
    return torch.linspace(hot, 0.0, sweeps).repeat(replicas, 1)


def annealed(csr: CSR, temperatures: torch.Tensor, **keywords: Any) -> State:
    signs, gained = start(csr, temperatures.shape[0])
    kernels.anneal(csr, one_by_one(csr), signs, gained, temperatures, **keywords)
    return signs, gained


@GRAPH_CASES
def test_gains_stay_exact(W: cuts.Matrix) -> None:
    csr = cuts.csr_of(W)
    signs, gained = start(csr, 5)
    before = signs.clone()
    changes = kernels.anneal(csr, one_by_one(csr), signs, gained, cooling(5, 30), seed=1)
    assert (signs.abs() == 1).all()
    assert (gained.double().numpy() == oracle.gains(W, signs.numpy())).all()
    assert changes.dtype == torch.int64
    assert (changes >= (signs != before).sum(1)).all()
    kernels.one_opt(csr, one_by_one(csr), signs, gained)
    assert (gained.double().numpy() == oracle.gains(W, signs.numpy())).all()
    assert (gained <= 0).all()


def test_gains_of_real_weights_stay_close() -> None:
    W = cuts.dense_random(120, 1)
    csr = cuts.csr_of(W)
    signs, gained = start(csr, 2)
    changes = kernels.anneal(csr, one_by_one(csr), signs, gained, cooling(2, 100), seed=1)
    # Each change of a neighbour rounds a gain of size at most sum |w|.
    allowed = 2.0**-24 * float(changes.max()) * np.abs(W).sum(1)
    assert (np.abs(gained.numpy() - oracle.gains(cuts.dense(csr), signs.numpy())) <= allowed).all()


@GRAPH_CASES
@pytest.mark.parametrize("parts", [(1, 29), (10, 10, 10), (30, 0)], ids=str)
def test_calls_that_follow_each_other_are_one_call(W: cuts.Matrix, parts: tuple[int, ...]) -> None:
    csr = cuts.csr_of(W)
    temperatures = cooling(3, 30)
    whole = annealed(csr, temperatures, seed=9, stream=4)
    signs, gained = start(csr, 3)
    made = 0
    for part in parts:
        piece = temperatures[:, made : made + part].contiguous()
        kernels.anneal(csr, one_by_one(csr), signs, gained, piece, seed=9, stream=4, first_sweep=made)
        made += part
    assert torch.equal(signs, whole[0])
    assert torch.equal(gained, whole[1])


def test_a_replica_is_its_stream() -> None:
    csr = cuts.csr_of(GRAPHS["integers"])
    together = annealed(csr, cooling(6, 20), seed=9, stream=10)[0]
    for replica in range(6):
        signs, gained = start(csr, 6)
        signs, gained = signs[replica : replica + 1].clone(), gained[replica : replica + 1].clone()
        kernels.anneal(csr, one_by_one(csr), signs, gained, cooling(1, 20), seed=9, stream=10 + replica)
        assert torch.equal(signs[0], together[replica])


def test_seeds_streams_and_sweeps_draw_other_numbers() -> None:
    csr = cuts.csr_of(GRAPHS["integers"])
    hot = torch.full((1, 5), 3.0)
    choices = [
        {"seed": 0},
        {"seed": 1},
        {"seed": 1 << 32},  # the high word of the key
        {"seed": 2**63 - 1},
        {"seed": 0, "stream": 1},
        {"seed": 0, "stream": 2**31 - 1},
        {"seed": 0, "first_sweep": 5},
    ]
    outcomes = [annealed(csr, hot, **choice)[0] for choice in choices]
    for i, one in enumerate(outcomes):
        assert torch.equal(one, annealed(csr, hot, **choices[i])[0])
        for other in outcomes[:i]:
            assert not torch.equal(one, other)


@GRAPH_CASES
def test_no_cut_falls_at_temperature_zero(W: cuts.Matrix) -> None:
    csr = cuts.csr_of(W)
    signs, gained = start(csr, 4)
    values = oracle.cut_values(W, signs.numpy())
    for sweep in range(5):
        changes = kernels.anneal(
            csr, one_by_one(csr), signs, gained, torch.zeros(4, 1), seed=3, first_sweep=sweep
        )
        after = oracle.cut_values(W, signs.numpy())
        assert (after >= values + (changes > 0).numpy()).all()  # integer weights: a change gains 1 at least
        values = after


@pytest.mark.parametrize("weight", [1.0, -2.0])
@pytest.mark.parametrize("temperature", [0.7, 3.0])
def test_two_spins_follow_boltzmann(weight: float, temperature: float) -> None:
    # P(cut) = 1 / (1 + exp(-w/T)); 40,000 independent replicas, 21 sweeps each from random spins (the chain forgets
    # its start at exp(-|w|/T) < 3/4 a step). 4.5 standard deviations: 7e-6 for each of four cases. The table of
    # thresholds is one draw of 65,536 numbers; its own error at a point is at most 4.5 * .5 / 256.
    replicas = 40_000
    csr = cuts.csr_of(np.array([[0.0, weight], [weight, 0.0]]))
    signs, gained = start(csr, replicas)
    kernels.anneal(
        csr, torch.tensor([0, 1, 2]), signs, gained, torch.full((replicas, 21), temperature), seed=5
    )
    cut = float((signs[:, 0] != signs[:, 1]).double().mean())
    expected = 1 / (1 + np.exp(-weight / temperature))
    allowed = 4.5 * np.sqrt(expected * (1 - expected) / replicas)
    accept = np.exp(-abs(weight) / temperature)
    table_error = 4.5 * np.sqrt(accept * (1 - accept) / kernels.THRESHOLDS) / (1 + accept) ** 2
    assert abs(cut - expected) <= allowed + table_error


def test_a_ring_follows_boltzmann() -> None:
    # Five vertices, two colour classes and a last one, weights of both signs: the energy's mean by enumeration.
    W = np.zeros((5, 5))
    for (i, j), w in {(0, 2): 1.0, (0, 3): -1.0, (1, 3): 2.0, (1, 4): 1.0, (2, 4): 1.5}.items():
        W[i, j] = W[j, i] = w
    csr, temperature, replicas = cuts.csr_of(W), 1.3, 20_000
    assert csr.indices.numel() == 10
    signs, gained = start(csr, replicas)
    temperatures = torch.full((replicas, 40), temperature)
    kernels.anneal(csr, torch.tensor([0, 2, 4, 5]), signs, gained, temperatures, seed=6)
    values = oracle.all_cut_values(W)
    chances = np.exp(values / temperature)
    chances /= chances.sum()
    mean = float(chances @ values)
    spread = float(np.sqrt(chances @ (values - mean) ** 2))
    found = oracle.cut_values(W, signs.numpy())
    # 4.5 standard errors of the sample, and as much again for the table of 65,536 thresholds.
    assert abs(found.mean() - mean) <= 4.5 * spread * (replicas**-0.5 + kernels.THRESHOLDS**-0.5)


def test_thresholds_are_exponential() -> None:
    table = kernels.threshold_table()
    assert table.dtype == torch.float32
    assert table.shape == (kernels.THRESHOLDS + kernels.BLOCK_VERTICES,)
    assert bool((table >= 0).all())
    assert bool(torch.isfinite(table).all())
    for x in (0.1, 0.7, 2.0, 5.0):
        chance = np.exp(-x)
        allowed = 4.5 * np.sqrt(chance * (1 - chance) / table.numel())
        assert abs(float((table > x).double().mean()) - chance) <= allowed


def test_annealing_finds_the_best_cut_of_a_small_graph() -> None:
    W = integers(16, 0.5, 8)
    csr = cuts.csr_of(W)
    signs, gained = annealed(csr, cooling(8, 200), seed=0)
    kernels.one_opt(csr, one_by_one(csr), signs, gained)
    assert oracle.cut_values(W, signs.numpy()).max() == oracle.best_cut(W)


def test_one_opt_leaves_gains_below_its_tolerance() -> None:
    W = cuts.dense_random(80, 3)
    csr = cuts.csr_of(W)
    signs, gained = start(csr, 3)
    before = oracle.cut_values(W, signs.numpy())
    kernels.one_opt(csr, one_by_one(csr), signs, gained, tolerance=0.5)
    assert float(gained.max()) <= 0.5
    assert (oracle.cut_values(W, signs.numpy()) > before + 0.4).all()
    untouched = signs.clone()
    kernels.one_opt(csr, one_by_one(csr), signs, gained, tolerance=0.5)
    assert torch.equal(signs, untouched)


def test_one_opt_ends_where_gains_are_rounded() -> None:
    # A hub of weights near 1e4 and leaves of weights near 1e-4 in one row: float32 gains lose the leaves.
    rng = np.random.default_rng(0)
    W = cuts.dense_random(60, 4) * 10.0 ** rng.uniform(-4, 4, (60, 60))
    csr = cuts.csr_of(np.maximum(W, W.T))
    signs, gained = start(csr, 4)
    kernels.one_opt(csr, one_by_one(csr), signs, gained)
    assert (signs.abs() == 1).all()


class TestCrossover:
    @pytest.mark.parametrize("seed", range(12))
    def test_is_the_best_mixture(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        W = integers(14, (0.1, 0.2, 0.4)[seed % 3], seed)
        if seed % 2:
            W *= float(rng.choice([0.5, 1.25]))
        csr = cuts.csr_of(W)
        signs, other = random_signs(1, 14, seed), random_signs(1, 14, seed + 100)
        before, parent = (float(oracle.cut_values(W, s.numpy())[0]) for s in (signs, other))
        expected = oracle.best_mixture(W, signs.numpy()[0], other.numpy()[0])
        added = kernels.partition_crossover(csr, signs, other)
        after = float(oracle.cut_values(W, signs.numpy())[0])
        assert after == expected >= max(before, parent)
        assert added.tolist() == [after - before]

    @pytest.mark.parametrize("name", ["signed torus", "integers", "dense integers"])
    def test_adds_what_it_says_one_after_another(self, name: str) -> None:
        W = GRAPHS[name]
        csr = cuts.csr_of(W)
        signs, others = random_signs(1, len(W)), random_signs(6, len(W), 1)
        step_by_step = signs.clone()
        values = [float(oracle.cut_values(W, signs.numpy())[0])]
        added = kernels.partition_crossover(csr, signs, others)
        for replica in range(6):
            kernels.partition_crossover(csr, step_by_step, others[replica : replica + 1])
            values.append(float(oracle.cut_values(W, step_by_step.numpy())[0]))
        assert torch.equal(signs, step_by_step)
        assert (added >= 0).all()
        assert added.tolist() == np.diff(values).tolist()
        assert values[-1] >= oracle.cut_values(W, others.numpy()).max()

    def test_takes_all_that_a_second_search_found_elsewhere(self) -> None:
        # Two triangles far apart, each parent good on one of them.
        W = np.kron(np.eye(2), np.ones((3, 3)) - np.eye(3)).astype(np.float64)
        signs = torch.tensor([[1, 1, -1, 1, 1, 1]], dtype=torch.int8)
        other = torch.tensor([[1, 1, 1, 1, -1, 1]], dtype=torch.int8)
        assert kernels.partition_crossover(cuts.csr_of(W), signs, other).tolist() == [2.0]
        assert oracle.cut_values(W, signs.numpy()).tolist() == [4.0]

    def test_a_mirror_image_is_the_same_cut(self) -> None:
        W = GRAPHS["integers"]
        csr = cuts.csr_of(W)
        signs = random_signs(1, len(W))
        mirrored = signs.clone()
        assert kernels.partition_crossover(csr, mirrored, -signs).tolist() == [0.0]
        assert torch.equal(mirrored, signs)
        # A partner that differs in one vertex only, given as its mirror image.
        one, other = signs.clone(), signs.clone()
        near = signs.clone()
        vertex = int(graph.gains(csr, signs)[0].argmax())
        near[0, vertex] *= -1
        gain = float(graph.gains(csr, signs)[0, vertex])
        assert gain > 0
        assert kernels.partition_crossover(csr, one, near).tolist() == [gain]
        assert kernels.partition_crossover(csr, other, -near).tolist() == [gain]
        assert torch.equal(one, other)

    def test_plateaus_are_crossed(self) -> None:
        csr = cuts.csr_of(np.array([[0.0, 1, 1], [1, 0, 1], [1, 1, 0]]))
        signs = torch.tensor([[1, 1, -1]], dtype=torch.int8)
        other = torch.tensor([[1, -1, -1]], dtype=torch.int8)
        assert kernels.partition_crossover(csr, signs, other).tolist() == [0.0]
        assert torch.equal(signs, other)

    def test_nobody_and_nothing(self) -> None:
        csr = cuts.csr_of(GRAPHS["integers"])
        signs = random_signs(1, 200)
        before = signs.clone()
        assert kernels.partition_crossover(csr, signs, random_signs(0, 200)).tolist() == []
        assert torch.equal(signs, before)
        empty = cuts.csr_of(GRAPHS["empty"])
        assert kernels.partition_crossover(empty, random_signs(1, 0), random_signs(2, 0)).tolist() == [0, 0]


def test_bits_do_not_depend_on_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_blocks, "SERIAL_WORK", 0)  # small graphs are dealt to threads too
    csr = cuts.csr_of(GRAPHS["dense integers"])
    results = []
    before = numba.get_num_threads()
    try:
        for threads in (1, MOST_THREADS):
            numba.set_num_threads(threads)
            signs, gained = annealed(csr, cooling(7, 25), seed=2)
            kernels.one_opt(csr, one_by_one(csr), signs, gained)
            merged = signs[:1].clone()
            added = kernels.partition_crossover(csr, merged, signs)
            results.append((signs, gained, merged, added))
    finally:
        numba.set_num_threads(before)
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


SQUARE = cuts.csr_of(integers(6, 0.8, 1))
PTR = torch.arange(7)
S6, G6, T6 = torch.ones(2, 6, dtype=torch.int8), torch.zeros(2, 6), torch.ones(2, 3)
CONTIGUOUS = "must be contiguous with shape"
REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "signs dtype": (
        lambda: kernels.anneal(SQUARE, PTR, G6, G6, T6, seed=0),
        TypeError,
        "`signs` must be torch.int8; got torch.float32.",
    ),
    "gains dtype": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6.double(), T6, seed=0),
        TypeError,
        "`gains` must be torch.float32; got torch.float64.",
    ),
    "gains strided": (
        lambda: kernels.one_opt(SQUARE, PTR, S6, torch.zeros(6, 2).T),
        ValueError,
        f"`gains` {CONTIGUOUS} (R, 6); got (2, 6).",
    ),
    "replicas differ": (
        lambda: kernels.one_opt(SQUARE, PTR, S6, G6[:1]),
        ValueError,
        "`signs` and `gains` must share a shape; got (2, 6), (1, 6).",
    ),
    "temperatures dtype": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6, T6.double(), seed=0),
        TypeError,
        "`temperatures` must be torch.float32; got torch.float64.",
    ),
    "temperatures shape": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6, T6[0], seed=0),
        ValueError,
        f"`temperatures` {CONTIGUOUS} (2, n_sweeps); got (3,).",
    ),
    "temperatures strided": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6, torch.ones(3, 2).T, seed=0),
        ValueError,
        f"`temperatures` {CONTIGUOUS} (2, n_sweeps); got (2, 3).",
    ),
    "seed": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6, T6, seed=-1),
        ValueError,
        "`seed` must lie in [0, 2^63) and `stream` in [0, 2^31); got -1, 0.",
    ),
    "seed no integer": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6, T6, seed=True),
        TypeError,
        "`seed` must be an integer; got True.",
    ),
    "stream": (
        lambda: kernels.anneal(SQUARE, PTR, S6, G6, T6, seed=0, stream=2**31),
        ValueError,
        "`seed` must lie in [0, 2^63) and `stream` in [0, 2^31); got 0, 2147483648.",
    ),
    "classes fall": (
        lambda: kernels.anneal(SQUARE, torch.tensor([0, 9, 6]), S6, G6, T6, seed=0),
        ValueError,
        "`class_ptr` must be a vector that rises from 0 to 6, the number of vertices.",
    ),
    "two partitions": (
        lambda: kernels.partition_crossover(SQUARE, S6, S6),
        ValueError,
        "`signs` must hold one partition; got 2.",
    ),
    "others": (
        lambda: kernels.partition_crossover(SQUARE, S6[:1], S6[:, :5]),
        ValueError,
        f"`others` {CONTIGUOUS} (R, 6); got (2, 5).",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(call: Callable[[], object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == sentence
