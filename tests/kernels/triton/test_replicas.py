"""Packed replicas of the Triton twin, interpreted: the CPU twin's bits whatever the tiles, and no more written."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels import replicas
from sdp_kernels.cpu import replicas as cpu
from sdp_kernels.graph import CSR
from sdp_kernels.triton import _edges
from sdp_kernels.triton import replicas as twin
from tests.kernels.triton.guards import Guarded
from tests.reference import cuts

# Sums of float32 weights in float64; the twin's own are integers and exact below 2^-26 of the largest weight.
TOLERANCE = 1e-13


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


def random_signs(n: int, n_replicas: int, seed: int = 0) -> Tensor:
    bits = np.random.default_rng(seed).random((n, n_replicas)) < 0.5
    return torch.from_numpy(np.where(bits, 1, -1).astype(np.int8))


def star(leaves: int, weights: tuple[float, ...]) -> CSR:
    """Vertex 0 and its leaves, the weights in turn."""
    outward = torch.arange(1, leaves + 1, dtype=torch.int32)
    weight = torch.tensor(np.resize(weights, leaves), dtype=torch.float32)
    indptr = torch.cat([torch.zeros(1, dtype=torch.int64), torch.arange(leaves, 2 * leaves + 1)])
    return CSR(indptr, torch.cat([outward, torch.zeros_like(outward)]), weight.repeat(2))


def integers(n: int, low: int, high: int) -> cuts.Matrix:
    return cuts.symmetric(np.random.default_rng(n).integers(low, high, size=(n, n)).astype(float))


GRAPHS = {
    "empty": cuts.csr_of(np.zeros((0, 0))),
    "one vertex": cuts.csr_of(np.zeros((1, 1))),
    "no edges": cuts.csr_of(np.zeros((7, 7))),
    "unweighted": cuts.csr_of(cuts.sparse_random(90, 7.0, 1)),
    "signed": cuts.csr_of(cuts.signed_torus(7, 2)),
    "few values": cuts.csr_of(integers(60, -3, 4)),
    "wide integers": cuts.csr_of(integers(41, -5000, 5000)),
    "equal halves": cuts.csr_of(0.5 * cuts.sparse_random(50, 9.0, 3)),
    "components": cuts.csr_of(cuts.several_components(5)),
    "star": star(10_000, (1.0, -2.0, 3.0)),  # more edges than a pass of a whole tile takes
}
OTHER = {
    "normal": cuts.csr_of(cuts.dense_random(60, 4)),
    "fractions": cuts.csr_of(0.1 * integers(30, 1, 4)),  # counted, in float64 steps
    "far apart": cuts.csr_of(cuts.dense_random(40, 6) * 10.0 ** integers(40, -7, 8)),
    "largest and least": star(40, (3e38, 1e-38)),
    "least": star(40, (1e-38, -2e-38)),
}


@pytest.mark.parametrize("csr", GRAPHS.values(), ids=GRAPHS.keys())
@pytest.mark.parametrize("n_replicas", [0, 1, 64, 70])  # 1 and 70 leave a word part filled
def test_equal_bits_where_sums_are_exact(csr: CSR, n_replicas: int) -> None:
    packed = cpu.pack_signs(random_signs(csr.n_vertices, n_replicas))
    assert torch.equal(replicas.cut_values(csr, packed), cpu.cut_values(csr, packed))


@pytest.mark.parametrize("csr", OTHER.values(), ids=OTHER.keys())
def test_other_weights(csr: CSR) -> None:
    signs = random_signs(csr.n_vertices, 40)
    values = replicas.cut_values(csr, cpu.pack_signs(signs)).numpy()
    assert values.dtype == np.float64
    scale = float(csr.weights.double().abs().sum())
    assert np.abs(values[:40] - cuts.cut_values(csr, signs)).max() <= TOLERANCE * scale
    assert (values[40:] == 0.0).all()


@pytest.mark.parametrize("name", ["unweighted", "few values", "wide integers", "star"])
def test_many_replicas(name: str) -> None:
    csr = GRAPHS[name]
    packed = cpu.pack_signs(random_signs(csr.n_vertices, 1056))  # 33 words pass one tile of words
    assert torch.equal(replicas.cut_values(csr, packed), cpu.cut_values(csr, packed))


@pytest.mark.parametrize("csr", [GRAPHS["star"], GRAPHS["few values"], OTHER["normal"], OTHER["fractions"]])
def test_tiles_change_no_bit(csr: CSR, monkeypatch: pytest.MonkeyPatch) -> None:
    packed = cpu.pack_signs(random_signs(csr.n_vertices, 96))
    expected = replicas.cut_values(csr, packed)
    assert torch.equal(replicas.cut_values(csr, packed), expected)
    monkeypatch.setattr(twin, "TILE_INTERPRETED", 1024)
    monkeypatch.setattr(twin, "CHUNKS", 3)
    monkeypatch.setattr(twin, "TOTAL_CHUNKS", 2)
    monkeypatch.setattr(twin, "WORDS", 2)  # the last tile of words is part filled
    monkeypatch.setattr(twin, "PASSES_SUMMED", 3)
    assert torch.equal(replicas.cut_values(csr, packed), expected)


def test_the_fullest_chunk_overflows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    # 31 passes of 8 edges a thread, 256 threads, every edge cut: 63,488 in 16 bits.
    monkeypatch.setattr(twin, "CHUNKS", 1)
    leaves = 8 * 31 * 256 + 5
    csr = star(leaves, (1.0,))
    signs = torch.ones(leaves + 1, 1, dtype=torch.int8)
    signs[0] = -1
    assert replicas.cut_values(csr, replicas.pack_signs(signs))[0] == leaves


def test_counting_is_exact_up_to_float32_integers() -> None:
    csr = cuts.csr_of((2.0**24 - 1) * (np.ones((3, 3)) - np.eye(3)))
    packed = replicas.pack_signs(torch.tensor([[1], [-1], [1]], dtype=torch.int8))
    assert replicas.cut_values(csr, packed)[0] == 2 * (2**24 - 1)


def test_every_partial_sum_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Guarded] = []

    def guarded(packed: Tensor, chunks: twin._Chunks, n_words: int, dtype: torch.dtype) -> Tensor:
        shape = (chunks.begins.numel() - 1, n_words, 32)
        made.append(Guarded(shape, torch.int32))
        return made[-1].tensor if dtype == torch.int32 else torch.empty(shape, dtype=dtype)

    monkeypatch.setattr(twin, "_buffer", guarded)
    monkeypatch.setattr(twin, "TILE_INTERPRETED", 64)
    packed = cpu.pack_signs(random_signs(49, 70))
    assert torch.equal(
        replicas.cut_values(GRAPHS["signed"], packed), cpu.cut_values(GRAPHS["signed"], packed)
    )
    made[0].check()


@pytest.mark.parametrize("tile", [1 << 16, 2048], ids=["one tile", "many tiles"])
@pytest.mark.parametrize("n_replicas", [0, 1, 31, 32, 65, 1056])
def test_packing_and_back(n_replicas: int, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "TILE_INTERPRETED", tile)
    signs = random_signs(37, n_replicas)
    packed = replicas.pack_signs(signs)
    assert torch.equal(packed, cpu.pack_signs(signs))
    assert torch.equal(replicas.unpack_signs(packed, n_replicas), signs)
    assert torch.equal(replicas.unpack_signs(packed), cpu.unpack_signs(packed, packed.shape[1] * 32))
    assert torch.equal(replicas.pack_signs(signs > 0), packed)
    assert torch.equal(replicas.pack_signs(signs.T.contiguous().T), packed)
    assert torch.equal(replicas.unpack_signs(packed.T.contiguous().T, n_replicas), signs)


def test_strided_packed_signs() -> None:
    csr = GRAPHS["unweighted"]
    packed = cpu.pack_signs(random_signs(90, 128))
    for some in (packed[:, 1:3], packed.T.contiguous().T, packed[:, ::2]):
        assert torch.equal(replicas.cut_values(csr, some), cpu.cut_values(csr, some.contiguous()))


# 7 and 33 terms are no whole tiles; 130 planes end in the middle of a tile and word, 33 of a word.
@pytest.mark.parametrize(("rank", "n_planes"), [(1, 1), (7, 33), (33, 130), (70, 256)])
@pytest.mark.parametrize("tile", [1 << 16, 2048], ids=["one tile", "many tiles"])
def test_projected_signs(rank: int, n_planes: int, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(twin, "TILE_INTERPRETED", tile)
    rng = np.random.default_rng(rank)
    V, planes = rng.normal(size=(77, rank)), rng.normal(size=(rank, n_planes))
    V[5] = 0.0  # a product of exactly 0 counts as +1
    V[6] = -0.0
    V32, planes32 = (torch.from_numpy(x.astype(np.float32)) for x in (V, planes))
    packed = replicas.project_signs(V32, planes32)
    expected = cpu.project_signs(V32, planes32)
    products = V32.double() @ planes32.double()
    # numpy's order of addition: signs may differ only where the product is within rounding of 0.
    unsure = products.abs() <= rank * 2.0**-24 * (V32.double().abs() @ planes32.double().abs())
    differ = replicas.unpack_signs(packed, n_planes) != cpu.unpack_signs(expected, n_planes)
    assert not (differ & ~unsure).any()
    assert (replicas.unpack_signs(packed)[:, n_planes:] == -1).all()
    assert (replicas.unpack_signs(packed, n_planes)[5:7] == 1).all()


def test_small_integers_project_to_the_same_bits() -> None:
    rng = np.random.default_rng(0)
    V, planes = (torch.from_numpy(rng.integers(-9, 10, s).astype(np.float32)) for s in ((130, 20), (20, 96)))
    assert torch.equal(replicas.project_signs(V, planes), cpu.project_signs(V, planes))


def test_no_rows_and_no_planes() -> None:
    assert replicas.project_signs(torch.zeros(0, 4), torch.zeros(4, 40)).shape == (0, 2)
    assert replicas.project_signs(torch.zeros(3, 4), torch.zeros(4, 0)).shape == (3, 0)
    assert (replicas.project_signs(torch.zeros(3, 0), torch.zeros(0, 5)) == 31).all()


class TestEdges:
    def test_every_edge_once_by_value(self) -> None:
        csr = GRAPHS["few values"]
        edges = _edges.edges_of(csr)
        assert (edges.rows < edges.cols).all()
        W = np.zeros((60, 60))
        W[edges.rows.numpy(), edges.cols.numpy()] = edges.weights.numpy()
        assert (cuts.dense(csr) == W + W.T).all()
        assert edges.groups is not None
        first = 0
        for value, count in edges.groups:
            assert (edges.weights[first : first + count] == value).all()
            first += count
        assert first == len(edges.weights)

    def test_are_kept_until_the_graph_changes(self) -> None:
        csr = CSR(*(tensor.clone() for tensor in GRAPHS["signed"]))
        edges = _edges.edges_of(csr)
        assert _edges.edges_of(csr) is edges
        csr.weights.mul_(2.0)
        assert _edges.edges_of(csr).largest == 2 * edges.largest

    def test_values_beyond_the_sample(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(_edges, "_SAMPLE", 3)
        few, many = (CSR(*map(torch.clone, GRAPHS[name])) for name in ("few values", "wide integers"))
        groups = _edges.edges_of(few).groups
        assert groups is not None
        assert [value for value, _ in groups] == sorted(set(few.weights.tolist()))
        assert _edges.edges_of(many).groups is None

    def test_limbs_hold_float32(self) -> None:
        assert not _edges.edges_of(GRAPHS["wide integers"]).has_low
        assert _edges.edges_of(OTHER["normal"]).has_low
