"""Hadamard transforms of the Triton twin, interpreted: the CPU engine's bits, whatever the tile and passes."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from sdp_kernels import hadamard
from sdp_kernels.cpu import hadamard as cpu
from sdp_kernels.projection import SparseRows
from sdp_kernels.triton import hadamard as twin
from sdp_kernels.triton._sparse_rows import add_in_order
from tests.kernels.test_projection import SEED, rows, sparse
from tests.kernels.triton.guards import Guarded
from tests.reference import projection as oracle

PURPOSE = hadamard.PURPOSE_SIGNS | hadamard.SIGNS_STREAM
SCALE = 0.37


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


def both(
    monkeypatch: pytest.MonkeyPatch, X: Tensor | SparseRows, k: int | None = None
) -> tuple[Tensor, Tensor]:
    """The CPU engine's transform (or map to k components) and the interpreted one."""
    found = []
    for engine in ("cpu", "interpret"):
        monkeypatch.setenv("SDP_ENGINE", engine)
        found.append(hadamard.fwht(X) if k is None else hadamard.srht(X, k, seed=SEED))  # type: ignore[arg-type]
    return found[0], found[1]


@pytest.mark.parametrize(
    ("n", "D"),
    [
        pytest.param(3, 1, id="a copy"),
        pytest.param(37, 5, id="many rows a program"),
        pytest.param(9, 100, id="two groups"),
        pytest.param(3, 3000, id="three groups"),
        pytest.param(2, 20_001, id="2^15, the longest pass"),
    ],
)
@pytest.mark.parametrize(
    "dtype", [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.uint8], ids=str
)
def test_the_bits_of_the_cpu_engine(
    n: int, D: int, dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = rows(n, D, dtype)
    assert torch.equal(*both(monkeypatch, X))
    assert torch.equal(*both(monkeypatch, X, min(77, hadamard.padded(D))))


def test_sylvesters_matrix_and_nothing_beside_it() -> None:
    """Against the float64 oracle; strides of input and output; zones around what is written stay as they were."""
    X = rows(13, 300, torch.float32)
    H = oracle.hadamard(512)[:300]
    expected = torch.from_numpy(X.double().numpy() @ H)
    bound = 1e-6 * X.double().abs().sum(1, keepdim=True)
    framed = torch.full((13, 3, 400), float("nan"))
    framed[:, 1, :300] = X
    for read in (X, X.T.contiguous().T, framed[:, 1, :300], torch.stack([X, X * float("nan")], 2)[:, :, 0]):
        for strides in ((512, 1), (531, 1)):
            guarded = Guarded((13, 512), torch.float32, strides)
            hadamard.fwht(read, out=guarded.tensor)
            assert ((guarded.check() - expected).abs() <= bound).all()
    A = torch.from_numpy(oracle.srht(300, 60, SEED))
    guarded = Guarded((13, 60), torch.float32, (67, 1))
    hadamard.srht(X, 60, seed=SEED, out=guarded.tensor)
    assert ((guarded.check() - X.double() @ A).abs() <= 1e-6 * (X.double().abs() @ A.abs())).all()


@pytest.mark.parametrize("p", [16, 18], ids=["one level more", "three levels more"])
def test_further_passes(p: int, monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(2, (1 << p) - 5, torch.float32)
    assert torch.equal(*both(monkeypatch, X))
    assert torch.equal(*both(monkeypatch, X, 50))


@pytest.mark.parametrize("one_pass", [5, 6], ids=["4 + 1 levels after 5", "4 levels after 6"])
def test_how_levels_are_dealt_to_passes_changes_no_bit(
    one_pass: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    X = rows(3, 1000, torch.float32)
    expected = hadamard.fwht(X)
    monkeypatch.setattr(twin, "LOG_ONE_PASS", one_pass)
    monkeypatch.setattr(twin, "LOG_GROUP", 2)
    monkeypatch.setattr(twin, "LOG_TILE", 9)
    assert torch.equal(hadamard.fwht(X), expected)


def test_tiles_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    X = rows(23, 90, torch.float32)
    whole, sampled = hadamard.fwht(X), hadamard.srht(X, 40, seed=SEED)
    assert torch.equal(torch.cat([hadamard.srht(part, 40, seed=SEED) for part in X.split(5)]), sampled)
    monkeypatch.setattr(twin, "LOG_TILE_INTERPRETED", 9)
    for group in (2, 3, 7):
        monkeypatch.setattr(twin, "group_of", lambda log, lanes, group=group: group)
        assert torch.equal(hadamard.fwht(X), whole)
        assert torch.equal(hadamard.srht(X, 40, seed=SEED), sampled)
    monkeypatch.setattr(twin, "longest_sampled", lambda lanes: 0)
    monkeypatch.setattr(twin, "SCRATCH_NUMBERS", 600)  # sampled from memory, four rows at a time
    assert torch.equal(hadamard.srht(X, 40, seed=SEED), sampled)


def test_in_place() -> None:
    X = rows(9, 1024, torch.float32)
    expected = hadamard.fwht(X)
    assert hadamard.fwht(X, out=X) is X
    assert torch.equal(X, expected)


@pytest.mark.parametrize("index", [torch.int32, torch.int64], ids=str)
def test_sparse_rows(index: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    """Empty rows, rows of one entry, short ones by columns of H, long ones laid out: two paths, one map."""
    X = rows(14, 80, torch.float32) * (rows(14, 80, torch.uint8) < torch.linspace(0, 100, 14)[:, None])
    X[7] = 0
    csr = sparse(X)
    S = SparseRows(csr.indptr.to(index), csr.indices.to(index), csr.values, 80)
    cpu_bits, found = both(monkeypatch, S, 64)
    assert ((found - cpu_bits).abs() <= 2e-6 * X.abs().sum(1, keepdim=True)).all()
    assert torch.equal(found, hadamard.srht(S, 64, seed=SEED))
    parts = [hadamard.srht(sparse(part), 64, seed=SEED) for part in X.split(7)]
    assert torch.equal(torch.cat(parts), found)
    for work in (0, 1000):  # all transformed, none
        monkeypatch.setattr(twin, "COLUMN_WORK", work)
        monkeypatch.setattr(twin, "SCRATCH_NUMBERS", 1000)
        again = hadamard.srht(S, 64, seed=SEED)
        assert ((found - again).abs() <= 2e-6 * X.abs().sum(1, keepdim=True)).all()
    assert torch.equal(*both(monkeypatch, S._replace(values=S.values.double()), 64))


def test_sparse_rows_write_nothing_beside() -> None:
    indptr, indices = torch.tensor([0, 3, 3, 4]), torch.tensor([4, 2, 4], dtype=torch.int32).repeat(2)[:4]
    S = SparseRows(indptr, indices, torch.tensor([1.0, 5.0, 2.0, -1.0]), 6)
    guarded = Guarded((3, 7), torch.float32, (9, 1))
    hadamard.srht(S, 7, seed=1, out=guarded.tensor)
    dense = torch.zeros(3, 6)
    dense[0, 4], dense[0, 2], dense[2, 4] = 3.0, 5.0, -1.0
    torch.testing.assert_close(guarded.check(), hadamard.srht(dense, 7, seed=1))


def test_the_twins_take_the_same_arguments() -> None:
    """As the public function calls them, with a scale of its own."""
    X, samples = rows(4, 20, torch.float32), torch.tensor([0, 3, 31])
    found = [torch.empty(4, 3) for _ in range(2)]
    for engine, out in zip((cpu, twin), found, strict=True):
        engine.srht(X, 32, samples, out, SEED, PURPOSE, SCALE)
    assert torch.equal(*found)


def test_nothing_and_what_is_not_finite() -> None:
    assert hadamard.fwht(torch.empty((0, 7))).shape == (0, 8)
    assert hadamard.srht(torch.empty((0, 7)), 4, seed=0).shape == (0, 4)
    none = SparseRows(torch.tensor([0, 0, 0]), torch.tensor([], dtype=torch.int32), torch.tensor([]), 7)
    assert torch.equal(hadamard.srht(none, 4, seed=0), torch.zeros(2, 4))
    X = rows(3, 50, torch.float32)
    X[1, 3] = float("nan")
    found = hadamard.srht(X, 20, seed=0)
    assert found[1].isnan().all()
    assert not found[[0, 2]].isnan().any()


def test_sums_in_order() -> None:
    """Numbers of one place are added one after the other: float32 sums as numpy's add.at makes them."""
    rng = np.random.default_rng(0)
    places, values = rng.integers(0, 20, 500), rng.standard_normal(500).astype(np.float32)
    expected = np.zeros(20, dtype=np.float32)
    np.add.at(expected, places, values)
    target = torch.zeros(20)
    add_in_order(target, torch.from_numpy(places), torch.from_numpy(values))
    assert np.array_equal(target.numpy(), expected)
