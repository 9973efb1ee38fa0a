"""Bit-packed replicas against cuts by the definition."""

from __future__ import annotations

import numba
import numpy as np
import pytest
import torch

from sdp_kernels import replicas
from sdp_kernels.cpu import _blocks
from sdp_kernels.graph import CSR
from tests.reference import cuts

# Sums of at most 2e4 float32 weights, each exact in float64: the last bits of the total.
TOLERANCE = 1e-13


def random_signs(n: int, n_replicas: int, seed: int = 0) -> torch.Tensor:
    bits = np.random.default_rng(seed).random((n, n_replicas)) < 0.5
    return torch.from_numpy(np.where(bits, 1, -1).astype(np.int8))


def integers(n: int, low: int, high: int) -> cuts.Matrix:
    return cuts.symmetric(np.random.default_rng(n).integers(low, high, size=(n, n)).astype(float))


GRAPHS = {
    "empty": np.zeros((0, 0)),
    "one vertex": np.zeros((1, 1)),
    "no edges": np.zeros((7, 7)),
    "unweighted": cuts.sparse_random(90, 7.0, 1),
    "signed": cuts.signed_torus(7, 2),
    "wide integers": integers(41, -5000, 5000),
    "equal halves": 0.5 * cuts.sparse_random(50, 9.0, 3),
    "normal": cuts.dense_random(60, 4),
    "components": cuts.several_components(5),
    # 200 * 199 entries: two blocks of ENTRIES_PER_BLOCK at least, exact and summed.
    "several blocks": integers(300, 1, 4),
    "several blocks, normal": cuts.dense_random(300, 6),
}


@pytest.mark.parametrize("W", GRAPHS.values(), ids=GRAPHS.keys())
# 1 and 33 leave a word part filled; 1056 = 33 words pass one tile of words.
@pytest.mark.parametrize("n_replicas", [1, 32, 33, 1056])
def test_cut_values(W: cuts.Matrix, n_replicas: int) -> None:
    csr = cuts.csr_of(W)
    signs = random_signs(len(W), n_replicas)
    values = replicas.cut_values(csr, replicas.pack_signs(signs)).numpy()
    assert values.dtype == np.float64
    assert values.shape == (32 * -(-n_replicas // 32),)
    expected = cuts.cut_values(csr, signs)
    scale = float(np.abs(W).sum()) + 1.0
    assert np.abs(values[:n_replicas] - expected).max(initial=0.0) <= TOLERANCE * scale
    if (np.rint(W) == W).all():
        assert (values[:n_replicas] == expected).all()
    assert (values[n_replicas:] == 0.0).all()


def test_several_blocks_are_several() -> None:
    assert len(_blocks.block_starts(cuts.csr_of(GRAPHS["several blocks"]).indptr.numpy())) >= 3


@pytest.mark.parametrize("name", ["signed", "normal"])
def test_both_sides_of_a_cut_are_one_cut(name: str) -> None:
    csr = cuts.csr_of(GRAPHS[name])
    signs = random_signs(csr.n_vertices, 40)
    one, other = (replicas.cut_values(csr, replicas.pack_signs(s))[:40] for s in (signs, -signs))
    assert (one - other).abs().max() <= TOLERANCE * float(csr.weights.abs().sum())


@pytest.mark.parametrize("name", ["several blocks", "several blocks, normal"])
def test_bits_do_not_depend_on_threads(name: str) -> None:
    csr = cuts.csr_of(GRAPHS[name])
    packed = replicas.pack_signs(random_signs(csr.n_vertices, 70))
    before = numba.get_num_threads()
    results = []
    for threads in (1, before):
        numba.set_num_threads(threads)
        results.append(replicas.cut_values(csr, packed))
    assert numba.get_num_threads() == before
    assert torch.equal(*results)


def test_integers_beyond_float32_sums_are_exact() -> None:
    # 2^24 - 1 thrice: a float32 sum would round.
    csr = cuts.csr_of((2.0**24 - 1) * (np.ones((3, 3)) - np.eye(3)))
    packed = replicas.pack_signs(torch.tensor([[1], [-1], [1]], dtype=torch.int8))
    assert replicas.cut_values(csr, packed)[0] == 2 * (2**24 - 1)


@pytest.mark.parametrize("n_replicas", [0, 1, 31, 32, 65])
def test_packing_and_back(n_replicas: int) -> None:
    signs = random_signs(11, n_replicas)
    packed = replicas.pack_signs(signs)
    assert packed.dtype == torch.int32
    assert packed.shape == (11, -(-n_replicas // 32))
    assert torch.equal(replicas.unpack_signs(packed, n_replicas), signs)
    assert (replicas.unpack_signs(packed)[:, n_replicas:] == -1).all()
    assert torch.equal(replicas.pack_signs(signs > 0), packed)
    assert torch.equal(replicas.pack_signs(signs.T.contiguous().T), packed)  # strided


# 7 and 33 are no multiple of the eight terms of a pass; 130 planes end in the middle of a tile and word.
@pytest.mark.parametrize(("rank", "n_planes"), [(1, 1), (7, 64), (33, 130)])
def test_projected_signs(rank: int, n_planes: int) -> None:
    rng = np.random.default_rng(rank)
    V, planes = rng.normal(size=(57, rank)), rng.normal(size=(rank, n_planes))
    V[5] = 0.0  # a product of exactly 0 counts as +1
    packed = replicas.project_signs(*(torch.from_numpy(x.astype(np.float32)) for x in (V, planes)))
    products = V.astype(np.float32).astype(float) @ planes.astype(np.float32).astype(float)
    sure = np.abs(products) > 1e-5
    signs = replicas.unpack_signs(packed, n_planes).numpy()
    assert (signs[5] == 1).all()
    assert (signs == np.where(products >= 0.0, 1, -1))[sure].all()
    assert sure.mean() > 0.9
    assert (replicas.unpack_signs(packed)[:, n_planes:] == -1).all()


def test_refusals() -> None:
    csr = cuts.csr_of(GRAPHS["unweighted"])
    packed = torch.zeros(90, 1, dtype=torch.int32)
    with pytest.raises(TypeError, match=r"`packed` must be int32 words; got torch.int64\."):
        replicas.cut_values(csr, packed.long())
    with pytest.raises(ValueError, match=r"`packed` has 89 rows but the graph has 90 vertices\."):
        replicas.cut_values(csr, packed[1:])
    with pytest.raises(ValueError, match=r"must have shape \(n, n_words\); got \(90,\)"):
        replicas.cut_values(csr, packed[:, 0])
    with pytest.raises(TypeError, match=r"`signs` must be bool or int8; got torch.float32\."):
        replicas.pack_signs(torch.ones(3, 2))
    with pytest.raises(ValueError, match=r"`signs` must have shape \(n, R\); got \(3,\)\."):
        replicas.pack_signs(torch.ones(3, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"must lie in \[0, 32\], what `packed` holds; got 33\."):
        replicas.unpack_signs(packed, 33)
    with pytest.raises(ValueError, match="must share r"):
        replicas.project_signs(torch.ones(3, 2), torch.ones(3, 2))
    with pytest.raises(TypeError, match=r"`V` must be float32"):
        replicas.project_signs(torch.ones(3, 2).double(), torch.ones(2, 2))
    with pytest.raises(ValueError, match="contiguous matrix"):
        replicas.project_signs(torch.ones(2, 3).T, torch.ones(2, 2))


def test_empty_graph_has_no_rows() -> None:
    empty = CSR(torch.zeros(1, dtype=torch.int64), torch.zeros(0, dtype=torch.int32), torch.zeros(0))
    assert replicas.cut_values(empty, torch.zeros(0, 2, dtype=torch.int32)).tolist() == [0.0] * 64
