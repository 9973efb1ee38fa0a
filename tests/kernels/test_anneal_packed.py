"""Packed annealing of the CPU engine: against its definition, and against Metropolis and Boltzmann."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from scipy.stats import chi2

from sdp_kernels import anneal as kernels
from sdp_kernels.replicas import cut_values, pack_signs, unpack_signs
from tests.reference import anneal as oracle
from tests.reference import cuts
from tests.reference import graph as graph_oracle

RANDOM_CASES = pytest.mark.parametrize("random", kernels.RANDOM)
RISK = 1e-6  # of a test of chance failing


def signed(n: int, density: float, weight: float, seed: int) -> cuts.Matrix:
    rng = np.random.default_rng(seed)
    return weight * cuts.symmetric(rng.choice([-1.0, 1.0], (n, n)) * (rng.random((n, n)) < density))


def one_by_one(W: cuts.Matrix) -> torch.Tensor:
    return torch.arange(len(W) + 1)


def random_words(n: int, words: int, seed: int = 0) -> torch.Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.integers(-(2**31), 2**31, (n, words)).astype(np.int32))


def annealed(
    W: cuts.Matrix, packed: torch.Tensor, temperatures: torch.Tensor, **keywords: object
) -> torch.Tensor:
    packed = packed.clone()
    kernels.anneal_packed(cuts.csr_of(W), one_by_one(W), packed, temperatures, **keywords)  # type: ignore[arg-type]
    return packed


# Which path each covers: nothing; a gain of 0 alone; degrees 2 and 4, both signs; degrees 0 to 13 and their parities.
GRAPHS = {
    "no edges": np.zeros((3, 3)),
    "signed torus": cuts.signed_torus(4, 2),
    "degrees": signed(14, 0.4, 2.5, 1),
    "complete": np.ones((9, 9)) - np.eye(9),
}


@pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())
@RANDOM_CASES
def test_bits_are_the_definition(W: cuts.Matrix, random: str) -> None:
    weight = max(np.abs(W).max(), 1.0)
    # Hot, cold, none, and so hot that chances are cut below 1.
    temperatures = torch.tensor([[3.0, 0.4, 0.0], [1e9, 1.0, 1e-30]]) * weight
    packed = random_words(len(W), 2)
    signs = unpack_signs(packed).numpy()
    found = annealed(W, packed, temperatures, seed=2**40 + 3, stream=2, first_sweep=2**32 - 3, random=random)
    oracle.anneal_packed(W, signs, temperatures.double().numpy(), 2**40 + 3, 2, 2**32 - 3, random == "shared")
    assert torch.equal(unpack_signs(found), torch.from_numpy(signs))


@pytest.mark.parametrize("degree", [5, 8, 40])
@RANDOM_CASES
def test_accepts_with_the_chance_of_metropolis(degree: int, random: str) -> None:
    # A hub before its leaves: its first visit is one draw a replica. Of a word that shares its numbers one replica
    # counts; else all do, whose decisions correlate by 2^-7 at most: 31 of them add a quarter to the variance.
    temperature, words = 2.2, 4096
    W = np.zeros((degree + 1, degree + 1))
    W[0, 1:] = W[1:, 0] = 1.0
    packed = random_words(degree + 1, words, seed=degree)
    before = unpack_signs(packed)
    temperatures = torch.full((words, 1), temperature)
    after = unpack_signs(annealed(W, packed, temperatures, seed=1, random=random))
    step, inflated = (32, 1.0) if random == "shared" else (1, 1.25)
    gained = (before[0] * before[1:].sum(0, dtype=torch.int8)).numpy()[::step]
    moved = (before[0] != after[0]).numpy()[::step]
    statistic, levels = 0.0, 0
    for gain in np.unique(gained):
        visits, moves = (gained == gain).sum(), moved[gained == gain].sum()
        chance = min(1.0, np.exp(gain / temperature))
        if chance == 1.0:
            assert moves == visits
        elif visits * chance >= 10:
            statistic += (moves - visits * chance) ** 2 / (visits * chance * (1 - chance))
            levels += 1
    assert levels >= 2
    assert statistic <= inflated * chi2.isf(RISK, levels)


@RANDOM_CASES
def test_follows_boltzmann(random: str) -> None:
    # Weights and parities of both kinds; 50 sweeps at T = 1.5 w forget the random partitions they begin with.
    W = signed(7, 0.5, 1.0, 5)
    assert {int(d) % 2 for d in (W != 0).sum(0)} == {0, 1}
    words, temperature = 8000, 1.5
    packed = annealed(W, random_words(7, words), torch.full((words, 50), temperature), seed=4, random=random)
    # Replicas of a word that shares its numbers are not independent: one of each word.
    signs = unpack_signs(packed)[:, ::32].numpy()
    states = (signs[1:] != signs[0]).T @ (1 << np.arange(6))
    chances = np.exp(graph_oracle.all_cut_values(W) / temperature)
    expected = words * chances / chances.sum()
    statistic = ((np.bincount(states, minlength=64) - expected) ** 2 / expected).sum()
    assert expected.min() >= 5
    assert statistic <= chi2.isf(RISK, 63)


@RANDOM_CASES
def test_words_are_their_streams_and_calls_can_be_cut(random: str) -> None:
    W = signed(40, 0.2, 1.0, 2)
    packed, temperatures = random_words(40, 19), torch.linspace(4, 0, 12).repeat(19, 1)
    whole = annealed(W, packed, temperatures, seed=3, stream=5, random=random)
    for first, last in ((0, 1), (1, 7), (7, 19)):
        part = packed[:, first:last].contiguous()
        for made in (0, 4, 8):
            rows = temperatures[first:last, made : made + 4].contiguous()
            part = annealed(W, part, rows, seed=3, stream=5 + first, first_sweep=made, random=random)
        assert torch.equal(part, whole[:, first:last])
    others = [{"seed": 4}, {"seed": 3 + 2**32}, {"seed": 3, "stream": 9}, {"seed": 3, "first_sweep": 1}]
    for other in others:
        assert not torch.equal(
            annealed(W, packed, temperatures, random=random, **{"stream": 5, **other}), whole
        )


@RANDOM_CASES
def test_finds_the_best_cut_and_never_loses_at_temperature_zero(random: str) -> None:
    W = signed(16, 0.5, 3.0, 8)
    csr = cuts.csr_of(W)
    packed = annealed(W, random_words(16, 4), torch.linspace(9, 0.3, 60).repeat(4, 1), seed=0, random=random)
    values = cut_values(csr, packed)
    assert float(values.max()) == graph_oracle.best_cut(W)
    cold = cut_values(csr, annealed(W, packed, torch.zeros(4, 3), seed=1, random=random))
    assert (cold >= values).all()


def test_nothing_to_do() -> None:
    W = GRAPHS["complete"]
    packed = random_words(9, 2)
    assert torch.equal(annealed(W, packed, torch.ones(2, 0), seed=0), packed)
    assert annealed(W, packed[:, :0].contiguous(), torch.ones(0, 3), seed=0).shape == (9, 0)
    assert annealed(
        np.zeros((0, 0)), torch.zeros(0, 2, dtype=torch.int32), torch.ones(2, 3), seed=0
    ).shape == (0, 2)


SQUARE, PTR = cuts.csr_of(GRAPHS["complete"]), torch.arange(10)
P9, T2 = pack_signs(torch.ones(9, 33, dtype=torch.int8)), torch.ones(2, 3)
UNEQUAL = SQUARE._replace(weights=torch.linspace(1, 2, 72))
ZERO = SQUARE._replace(weights=torch.zeros(72))
REFUSED: dict[str, tuple[Callable[[], object], type[Exception], str]] = {
    "words": (
        lambda: kernels.anneal_packed(SQUARE, PTR, P9.long(), T2, seed=0),
        TypeError,
        "`packed` must be torch.int32; got torch.int64.",
    ),
    "temperatures": (
        lambda: kernels.anneal_packed(SQUARE, PTR, P9, T2[:1], seed=0),
        ValueError,
        "`temperatures` must be contiguous with shape (2, n_sweeps); got (1, 3).",
    ),
    "random": (
        lambda: kernels.anneal_packed(SQUARE, PTR, P9, T2, seed=0, random="none"),
        ValueError,
        "`random` must be one of independent, shared; got 'none'.",
    ),
    "first sweep": (
        lambda: kernels.anneal_packed(SQUARE, PTR, P9, T2, seed=0, first_sweep=2**32 - 2),
        ValueError,
        "`first_sweep` must lie in [0, 2^32 - 3]; got 4294967294.",
    ),
    "magnitudes": (
        lambda: kernels.anneal_packed(UNEQUAL, PTR, P9, T2, seed=0),
        ValueError,
        "packed annealing needs weights of one magnitude above 0; got 1 to 2: use `anneal`.",
    ),
    "zeros": (
        lambda: kernels.anneal_packed(ZERO, PTR, P9, T2, seed=0),
        ValueError,
        "packed annealing needs weights of one magnitude above 0; got 0 to 0: use `anneal`.",
    ),
}


@pytest.mark.parametrize(("call", "error", "sentence"), REFUSED.values(), ids=REFUSED.keys())
def test_refusals(call: Callable[[], object], error: type[Exception], sentence: str) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == sentence
