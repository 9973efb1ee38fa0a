"""Hyperplanes and derandomisers: exact expectations, brute force, and the promise that nothing is lost."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch

from sdp.maxcut import derandomize as derandomizers
from sdp.maxcut import rounding, streams
from sdp.optim import axes
from sdp_kernels.graph import CSR
from tests.reference import cuts

RANK = 10


def solved(W: cuts.Matrix, rank: int = RANK) -> tuple[CSR, torch.Tensor]:
    return cuts.csr_of(W), cuts.mixing_method(W, rank, sweeps=60, seed=0)


GRAPHS = {
    "sparse": cuts.sparse_random(150, 6.0, 1),
    "signed torus": cuts.signed_torus(12, 2),
    "dense": cuts.sparse_random(60, 30.0, 3),
    "normal": cuts.dense_random(50, 4),
    "components": cuts.several_components(5),
    "bipartite": cuts.symmetric(np.eye(64, k=1) + np.eye(64, k=9)),  # every plane cuts it whole
}
SMALL = cuts.sparse_random(15, 9.0, 2024)  # G(15, 0.6), as MATH.md 4's check case

# A plane's cut varies by its own standard deviation: the mean of PLANES lies within Z of theirs with
# probability 1 - 6e-5 a graph. Seeds are fixed, nothing is run again.
PLANES, Z = 1000, 4.0


@pytest.fixture(scope="module", params=GRAPHS, ids=GRAPHS)
def graph(request: pytest.FixtureRequest) -> tuple[CSR, torch.Tensor]:
    return solved(GRAPHS[request.param])


def test_mean_of_hyperplanes_is_the_exact_expectation(graph: tuple[CSR, torch.Tensor]) -> None:
    csr, V = graph
    signs, best, values = rounding.hyperplanes(csr, V, PLANES, seed=1)
    spread = float(values.std()) / math.sqrt(PLANES)
    assert float(values.mean()) == pytest.approx(rounding.expected_cut(csr, V), abs=Z * spread + 1e-9)
    assert best == float(values.max())
    assert cuts.cut_values(csr, signs[:, None])[0] == pytest.approx(best, abs=1e-9)


def test_planes_depend_on_seed_and_number_alone(
    graph: tuple[CSR, torch.Tensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    csr, V = graph
    signs, best, values = rounding.hyperplanes(csr, V, 100, seed=5)
    monkeypatch.setattr(rounding, "MAX_BLOCK_BYTES", 1)  # a word at a time
    again = rounding.hyperplanes(csr, V, 100, seed=5)
    assert torch.equal(values, again[2])
    assert torch.equal(signs, again[0])
    assert best == again[1]
    assert torch.equal(rounding.hyperplanes(csr, V, 37, seed=5)[2], values[:37])
    if values.std() > 0.0:
        assert not torch.equal(rounding.hyperplanes(csr, V, 100, seed=6)[2], values)


@pytest.mark.parametrize("method", rounding.METHODS)
def test_derandomised_cut_is_above_the_mean_hyperplane(graph: tuple[CSR, torch.Tensor], method: str) -> None:
    csr, V = graph
    found = rounding.derandomize(csr, V, method, seed=0)
    assert found.signs.dtype == torch.int8
    assert cuts.cut_values(csr, found.signs[:, None])[0] == pytest.approx(found.cut_value, abs=1e-9)
    slack = 1e-9 * float(csr.weights.abs().sum())
    planes = rounding.hyperplanes(csr, V, PLANES, seed=2)[2]
    assert found.cut_value >= float(planes.mean()) - slack
    assert found.cut_value >= found.expected_value_before - slack
    assert found.expected_value_before == pytest.approx(rounding.expected_cut(csr, V), abs=slack)
    # Rounding loses nothing against V = 0, and the smooth cut ends above its start.
    assert found.cut_value >= found.smooth_values[-1] - slack
    assert found.smooth_values[-1] >= found.smooth_values[0] - slack
    assert found.in_time
    if not math.isnan(found.guarantee):
        assert found.cut_value >= found.guarantee


def test_conditional_never_loses(graph: tuple[CSR, torch.Tensor]) -> None:
    csr, V = graph
    values = np.array(rounding.derandomize(csr, V, "conditional", seed=0).smooth_values)
    # Each axis ends at or above the mean over it; -1e-9 allows for the quadrature and axes left out.
    assert (np.diff(values) >= -1e-9 * float(csr.weights.abs().sum())).all()


@pytest.mark.parametrize("method", rounding.METHODS)
def test_same_seed_same_bits_whatever_the_threads(method: str) -> None:
    # 300 * 299 entries: more than two blocks, so that two threads have work.
    W = cuts.dense_random(300, 8)
    csr, V = cuts.csr_of(W), cuts.mixing_method(W, 4, sweeps=5, seed=0)
    before, torch_before = numba.get_num_threads(), torch.get_num_threads()
    results = []
    try:
        for threads in (1, before):
            numba.set_num_threads(threads)
            torch.set_num_threads(threads)
            results.append(rounding.derandomize(csr, V, method, seed=3))
    finally:
        numba.set_num_threads(before)
        torch.set_num_threads(torch_before)
    assert results[0].smooth_values == results[1].smooth_values
    assert torch.equal(results[0].signs, results[1].signs)


def test_small_graph_of_the_check_case() -> None:
    csr, V = solved(SMALL)
    best = cuts.best_cut(SMALL)
    mean = rounding.expected_cut(csr, V)
    relaxation = 0.25 * float((SMALL * (1.0 - (V @ V.T).double().numpy())).sum())
    assert 0.87856 * relaxation <= mean <= best <= relaxation + 1e-6
    for method in rounding.METHODS:
        found = rounding.derandomize(csr, V, method, seed=0)
        assert mean <= found.cut_value <= best
    # As the check case, a derandomised cut is within one edge of the best.
    assert rounding.derandomize(csr, V, "sosp", seed=0).cut_value >= best - 1.0


@pytest.mark.parametrize(
    ("beta", "alpha"),
    [(1.0, 0.6667), (2.0, 0.7946), (5.0, 0.8644), (10.0, 0.87499), (20.0, 0.87767), (50.0, 0.87842),
     (math.inf, 0.878567)],
)  # fmt: skip
def test_worst_ratio(beta: float, alpha: float) -> None:
    found = derandomizers.worst_ratio(beta)
    digits = len(str(alpha)) - 2
    assert round(found, digits) == alpha
    # It is a lower bound at every cosine, and one is met.
    cosines = np.linspace(-1.0, 0.999, 20001)
    ratios = np.arccos(cosines / (1.0 + beta**-2)) / math.pi / ((1.0 - cosines) / 2.0)
    assert found <= ratios.min() <= found + 1e-6


@pytest.mark.parametrize("method", rounding.METHODS)
def test_bipartite_graph_is_cut_whole(method: str) -> None:
    side = np.arange(40) % 2
    W = cuts.sparse_random(40, 8.0, 7) * (side[:, None] != side)
    csr, V = solved(W)
    assert rounding.derandomize(csr, V, method, seed=0).cut_value == 0.5 * W.sum()


@pytest.mark.parametrize("method", rounding.METHODS)
@pytest.mark.parametrize(
    "W", [np.zeros((0, 0)), np.zeros((1, 1)), np.zeros((4, 4)), -cuts.sparse_random(20, 5.0, 1)],
    ids=["empty", "one vertex", "no edges", "negative"],
)  # fmt: skip
def test_nothing_to_cut(method: str, W: cuts.Matrix) -> None:
    csr = cuts.csr_of(W)
    V = torch.ones(len(W), 2)  # the relaxation of negative weights: all rows agree
    found = rounding.derandomize(csr, V, method, seed=0)
    assert found.cut_value == 0.0
    assert found.signs.shape == (len(W),)
    assert rounding.hyperplanes(csr, V, 3, seed=0)[1] == 0.0


@pytest.mark.parametrize("method", rounding.METHODS)
def test_no_columns(method: str) -> None:
    csr, V = solved(GRAPHS["sparse"])
    found = rounding.derandomize(csr, V[:, :0], method, seed=0)  # nothing known: every side a fair coin
    assert found.smooth_values[0] == pytest.approx(0.25 * float(csr.weights.sum()))
    assert found.cut_value >= found.smooth_values[0]


@pytest.mark.parametrize("method", rounding.METHODS)
def test_rows_of_any_length(method: str) -> None:
    csr, V = solved(GRAPHS["sparse"])
    longer = V * torch.linspace(0.2, 3.0, len(V))[:, None]
    found = rounding.derandomize(csr, longer, method, seed=0)
    assert found.cut_value >= found.expected_value_before
    assert math.isnan(found.guarantee)
    longer[3] = 0.0
    assert rounding.derandomize(csr, longer, method, seed=0).cut_value >= found.smooth_values[0]
    assert rounding.derandomize(csr, 0.0 * V, method, seed=0).cut_value >= 0.5 * 0.5 * float(
        csr.weights.sum()
    )


@pytest.mark.parametrize("method", rounding.METHODS)
@pytest.mark.parametrize("steps", [0, 3])
def test_late_is_still_a_cut(method: str, steps: int) -> None:
    csr, V = solved(GRAPHS["sparse"])
    asked = 0

    def should_stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > steps

    found = rounding.derandomize(csr, V, method, seed=0, should_stop=should_stop)
    assert asked <= steps + 3
    assert not rounding.derandomize(csr, V, method, seed=0, time_limit=0.0).in_time
    assert not found.in_time
    assert math.isnan(found.guarantee)
    assert cuts.cut_values(csr, found.signs[:, None])[0] == found.cut_value
    assert found.cut_value >= found.expected_value_before


def test_streams_are_independent_normals() -> None:
    block = streams.normals(1, "hyperplanes", 0, (4000,))
    assert block.dtype == torch.float32
    assert torch.equal(block, streams.normals(1, "hyperplanes", 0, (4000,)))
    others = [
        streams.normals(1, "hyperplanes", 1, (4000,)),
        streams.normals(2, "hyperplanes", 0, (4000,)),
        streams.normals(1, "conditioning", 0, (4000,)),
    ]
    # 4.5 standard deviations of a mean of 4000 terms: 1 - 3e-5 for the four together.
    limit = 4.5 / math.sqrt(4000)
    assert abs(float(block.mean())) < limit
    for other in others:
        assert abs(float((block * other).mean())) < limit


def test_refusals() -> None:
    csr, V = solved(SMALL)
    with pytest.raises(ValueError, match=r"`n_planes` must be at least 1; got 0\."):
        rounding.hyperplanes(csr, V, 0, seed=0)
    with pytest.raises(
        ValueError, match=r"`V` must have shape \(15, rank\), one row a vertex; got \(14, 10\)\."
    ):
        rounding.hyperplanes(csr, V[1:], 1, seed=0)
    with pytest.raises(ValueError, match=r"`seed` must lie in \[0, 18446744073709551615\]; got -1\."):
        rounding.hyperplanes(csr, V, 1, seed=-1)
    for seed in (0.5, True):
        with pytest.raises(TypeError, match=f"`seed` must be an integer; got {seed}"):
            rounding.hyperplanes(csr, V, 1, seed=seed)  # type: ignore[arg-type]
    with pytest.raises(
        ValueError, match=r"`method` must be one of sosp, homotopy, conditional; got 'greedy'\."
    ):
        rounding.derandomize(csr, V, "greedy", seed=0)
    for beta in (0.0, math.inf, math.nan):
        with pytest.raises(ValueError, match=r"`beta` must be positive and finite; got"):
            rounding.derandomize(csr, V, "sosp", seed=0, beta=beta)
    with pytest.raises(ValueError, match=r"`time_limit` must be a number of seconds; got nan\."):
        rounding.derandomize(csr, V, "sosp", seed=0, time_limit=math.nan)
    V[2, 2] = math.nan
    with pytest.raises(ValueError, match=r"`V` must be finite; an entry is not\."):
        rounding.derandomize(csr, V, "sosp", seed=0)


def test_search_along_an_axis_reaches_the_mean() -> None:
    def ridge(x: float) -> float:
        return math.exp(-((x - 0.8) ** 2) / 0.02)

    mean = math.sqrt(0.01 / 1.01) * math.exp(-0.5 * 0.64 / 1.01)  # over a normal x
    for height in (mean, 2.0 * mean):
        x, value = axes.maximise_along(ridge, height, is_even=False)
        assert value == ridge(x) >= height
    assert axes.maximise_along(lambda x: x * x, 1.0, is_even=True)[0] > 1.0


def test_principal_axes() -> None:
    rng = np.random.default_rng(0)
    V = torch.from_numpy(rng.normal(size=(50, 3)) @ rng.normal(size=(3, 6)))
    found = axes.principal_axes(V)
    assert found.shape == (50, 3)  # the rank
    assert torch.allclose(found @ found.T, V @ V.T)
    gram = found.T @ found
    assert torch.allclose(gram, torch.diag(gram.diag()), atol=1e-10)
    assert (gram.diag().diff() < 0.0).all()
