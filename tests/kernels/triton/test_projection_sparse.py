"""Sparse maps of the Triton twin, interpreted: the CPU engine's bits, since every sum takes the features in order."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels import projection
from sdp_kernels.cpu import projection as cpu
from sdp_kernels.projection import SparseArrays, SparseRows
from sdp_kernels.triton import _sparse_maps
from sdp_kernels.triton import projection_sparse as twin
from tests.kernels.test_projection import SEED, rows, sparse
from tests.kernels.triton.guards import Guarded
from tests.reference import projection as oracle

S, DENSITY = 3, 0.2
LIMIT = round(DENSITY * 2**31)
Project = Callable[..., Tensor]
MAPS: dict[str, tuple[Project, Callable[[int, int], oracle.Matrix]]] = {
    "blocked": (
        lambda X, k, **named: projection.blocked(X, k, S, **named),
        lambda D, k: oracle.blocked(D, k, S, SEED),
    ),
    "independent": (
        lambda X, k, **named: projection.independent(X, k, DENSITY, **named),
        lambda D, k: oracle.independent(D, k, DENSITY, SEED),
    ),
}


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    _sparse_maps._tables.clear()


def both(monkeypatch: pytest.MonkeyPatch, name: str, X: Tensor | SparseRows, k: int) -> tuple[Tensor, Tensor]:
    """The CPU engine's map and the interpreted one."""
    found = []
    for engine in ("cpu", "interpret"):
        monkeypatch.setenv("SDP_ENGINE", engine)
        found.append(MAPS[name][0](X, k, seed=SEED))
    return found[0], found[1]


def few(n: int, D: int, stored: float, dtype: torch.dtype = torch.float32) -> Tensor:
    """Rows of which about `stored` numbers each are not zero; row 1 is empty."""
    X = rows(n, D, dtype) * (rows(n, D, torch.uint8) < 256 * stored / D)
    X[1:2] = 0
    return X


@pytest.mark.parametrize("name", MAPS)
def test_arrays_go_to_the_engine_that_is_asked_for(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    project: Callable[..., object] = MAPS[name][0]
    X = few(5, 30, 4.0)
    parts = sparse(X)
    expected = [both(monkeypatch, name, read, 8)[0].numpy() for read in (X, parts)]
    for operation in ("blocked_map", "blocked_map_of_rows", "listed_map", "listed_map_of_rows"):
        monkeypatch.delattr(cpu, operation)
    for array, wanted in zip(
        (X.numpy(), SparseArrays(*(part.numpy() for part in parts[:3]), 30)), expected, strict=True
    ):
        found = project(array, 8, seed=SEED)
        assert isinstance(found, np.ndarray)
        assert np.array_equal(found, wanted)
        out = np.empty_like(found)
        assert project(array, 8, seed=SEED, out=out) is out
        assert np.array_equal(out, wanted)


@pytest.mark.parametrize("name", MAPS)
@pytest.mark.parametrize(
    ("n", "D", "k"),
    [
        pytest.param(1, 1, 3, id="one number"),
        pytest.param(17, 7, 4, id="a row past a tile"),
        pytest.param(5, 1030, 70, id="two panels, two chunks"),
    ],
)
def test_dense_rows_have_the_bits_of_the_cpu_engine(
    name: str, n: int, D: int, k: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    types = (torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8)
    for dtype in types if D < 1000 else types[:1]:
        assert torch.equal(*both(monkeypatch, name, rows(n, D, dtype), k))


@pytest.mark.parametrize("name", MAPS)
def test_sparse_rows_have_the_bits_of_the_cpu_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty rows, repeated features, both types of index and both precisions."""
    csr = sparse(few(6, 300, 2))
    repeated = csr._replace(indices=csr.indices // 150 * 150)
    for S_ in (csr, repeated, csr._replace(indices=csr.indices.long(), indptr=csr.indptr.long())):
        assert torch.equal(*both(monkeypatch, name, S_, 70))
    assert torch.equal(*both(monkeypatch, name, csr._replace(values=csr.values.double()), 70))


@pytest.mark.parametrize("name", MAPS)
def test_explicit_matrices_and_nothing_beside_them(name: str) -> None:
    """Against the float64 oracle; strides of input and output; zones around what is written stay as they were."""
    project, matrix = MAPS[name]
    X = few(5, 90, 4)
    A = torch.from_numpy(matrix(90, 66))
    bound = 1e-5 * (X.double().abs() @ A.abs()) + 1e-30
    framed = torch.full((5, 3, 100), float("nan"))
    framed[:, 1, :90] = X
    inputs = [X, X.T.contiguous().T, framed[:, 1, :90], torch.stack([X, X * float("nan")], 2)[:, :, 0]]
    for read, strides in zip(
        [*inputs, sparse(X)], [(66, 1), (70, 1), (66, 1), (71, 1), (70, 1)], strict=True
    ):
        guarded = Guarded((5, 66), torch.float32, strides)
        project(read, 66, seed=SEED, out=guarded.tensor)
        assert ((guarded.check() - X.double() @ A).abs() <= bound).all()


@pytest.mark.parametrize("name", MAPS)
def test_tiles_change_no_bit(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Panels, steps, chunks and tiles of rows; several tiles of components, as above k = 1024; row chunks."""
    project, _ = MAPS[name]
    X, k = few(9, 100, 8), 40
    whole, of_rows = project(X, k, seed=SEED), project(sparse(X[:4]), k, seed=SEED)
    assert torch.equal(torch.cat([project(part, k, seed=SEED) for part in X.split(7)]), whole)
    assert torch.equal(project(X.flip(0), k, seed=SEED).flip(0), whole)
    _sparse_maps._tables.clear()
    for module in (_sparse_maps, twin):
        monkeypatch.setattr(module, "FEATURES", 64)
        monkeypatch.setattr(module, "CHUNK", 16)
    monkeypatch.setattr(_sparse_maps, "CHUNKS", 2)
    monkeypatch.setattr(twin, "STAGED", 16)
    monkeypatch.setattr(twin, "ROWS", 4)
    monkeypatch.setattr(twin, "ROWS_A_LAUNCH", 8)
    monkeypatch.setattr(twin, "_programs", lambda device: 3)
    assert torch.equal(project(X, k, seed=SEED), whole)
    monkeypatch.setattr(twin, "BLOCKS", 2)
    monkeypatch.setattr(twin, "LISTED", 16)
    monkeypatch.setattr(twin, "ROWS_LANES_INTERPRETED", 8)
    assert torch.equal(project(sparse(X[:4]), k, seed=SEED), of_rows)


def test_more_components_than_a_program_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(2, 40, torch.float32)
    assert torch.equal(*both(monkeypatch, "blocked", X, 1500))


def test_float64_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    X = few(11, 60, 20, torch.float64)
    for project, _ in MAPS.values():
        dense, of_rows = project(X, 30, seed=SEED), project(sparse(X), 30, seed=SEED)
        with monkeypatch.context() as smaller:
            smaller.setattr(twin, "NUMBERS_AT_ONCE", 900)
            smaller.setattr(_sparse_maps, "WORDS_AT_ONCE", 300)
            assert torch.equal(project(X, 30, seed=SEED), dense)
            assert torch.equal(project(sparse(X), 30, seed=SEED), of_rows)


def test_every_entry_of_a_dense_map_and_many_a_feature(monkeypatch: pytest.MonkeyPatch) -> None:
    """Density 1, and one block a component: the longest lists."""
    X = rows(3, 20, torch.float32)
    for project in (
        lambda X: projection.independent(X, 10, 1.0, seed=SEED),
        lambda X: projection.blocked(X, 10, 10, seed=SEED),
        lambda X: projection.blocked(sparse(X), 10, 10, seed=SEED),
    ):
        monkeypatch.setenv("SDP_ENGINE", "cpu")
        expected = project(X)
        monkeypatch.setenv("SDP_ENGINE", "interpret")
        assert torch.equal(project(X), expected)


def test_a_component_without_entries_and_what_is_not_finite() -> None:
    """NaN and infinity reach their own row only, and only where the map stores an entry."""
    X = rows(20, 50, torch.float32)
    X[3, 7], X[4, 8] = math.nan, math.inf
    A = torch.from_numpy(oracle.blocked(50, 200, S, SEED))
    found = projection.blocked(X, 200, S, seed=SEED)
    assert torch.equal(found[3].isnan(), A[7] != 0)
    assert torch.equal(found[4].isinf(), A[8] != 0)
    assert found[[i for i in range(20) if i not in (3, 4)]].isfinite().all()
    assert (found[:3][:, (A == 0).all(0)] == 0).all()


def test_nothing() -> None:
    none = SparseRows(torch.tensor([0, 0, 0]), torch.tensor([], dtype=torch.int32), torch.tensor([]), 7)
    for project, _ in MAPS.values():
        assert project(torch.empty((0, 7)), 4, seed=0).shape == (0, 4)
        assert torch.equal(project(torch.empty((3, 0)), 4, seed=0), torch.zeros(3, 4))
        assert torch.equal(project(none, 4, seed=0), torch.zeros(2, 4))
        empty = none._replace(values=none.values.double())
        assert torch.equal(project(empty, 4, seed=0), torch.zeros(2, 4).double())


def test_tables_are_kept_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(2, 30, torch.float32)
    first = projection.blocked(X, 8, 2, seed=0)
    kept = dict(_sparse_maps._tables)
    assert torch.equal(projection.blocked(X, 8, 2, seed=0), first)
    assert list(_sparse_maps._tables.values()) == list(kept.values())
    monkeypatch.setattr(_sparse_maps, "BYTES", 0)
    assert not torch.equal(projection.blocked(X, 8, 2, seed=1), first)
    assert len(_sparse_maps._tables) == 1
    assert torch.equal(projection.blocked(X, 8, 2, seed=0), first)


def test_entries_are_those_of_the_cpu_engine() -> None:
    """Word for word: features above 2^32, whose counters have two words, too."""
    features = np.array([0, 1, 77, 2**31 - 1, 2**32 + 5])
    for s, limit in ((S, 0), (0, LIMIT)):
        which = _sparse_maps.Map(2**33, 50, s, limit, SEED, 203)
        owner, component, is_negative = _sparse_maps.entries(which, torch.from_numpy(features))
        found = (component * 2 + is_negative).numpy()
        if s:
            assert np.array_equal(found.reshape(-1, s).T, cpu.blocked_table(features, s, 50, SEED, 203))
        else:
            pointers, table = cpu.listed_table(features, limit, 50, SEED, 203)
            assert np.array_equal(found, table)
            assert np.array_equal(np.bincount(owner, minlength=5), np.diff(pointers))
