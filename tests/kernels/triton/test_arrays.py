"""Arrays through an engine that takes tensors only: what torch has no word for is copied, the rest is shared."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from sdp_kernels import hadamard, projection
from sdp_kernels.projection import SparseArrays

ROWS = np.random.default_rng(0).standard_normal((5, 16), dtype=np.float32)


def read_only(
    array: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
    copy = array.copy()
    copy.setflags(write=False)
    return copy


KINDS = {
    "reversed columns": ROWS[:, ::-1],
    "reversed rows": ROWS[::-1],
    "read-only": read_only(ROWS),
    "unaligned": np.frombuffer(b"?" + ROWS.tobytes(), np.uint8)[1:].view(np.float32).reshape(ROWS.shape),
    "plain": ROWS,
}


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


@pytest.mark.parametrize("X", KINDS.values(), ids=KINDS)
def test_rows_of_any_layout(X: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> None:
    plain = np.array(X)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # torch's, of arrays that are not writeable
        assert np.array_equal(hadamard.fwht(X), hadamard.fwht(plain))
        assert np.array_equal(projection.blocked(X, 4, 2, seed=1), projection.blocked(plain, 4, 2, seed=1))


def test_sparse_rows_that_are_read_only() -> None:
    parts = np.array([0, 2]), np.array([1, 3], np.int32), np.ones(2, np.float32)
    expected = projection.blocked(SparseArrays(*parts, 5), 4, 2, seed=1)
    for part in parts:
        part.setflags(write=False)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(projection.blocked(SparseArrays(*parts, 5), 4, 2, seed=1), expected)


def test_results_of_any_stride_along_one_row_or_column() -> None:
    """numpy lets a stride along a dimension of length 1 be anything."""
    expected = hadamard.srht(ROWS, 1, seed=1)
    out = np.empty((5, 3), np.float32)[:, 1:2][:, ::-1]
    assert hadamard.srht(ROWS, 1, seed=1, out=out) is out
    assert np.array_equal(out, expected)
    row = np.empty((3, 16), np.float32)[1:2][::-1]
    assert hadamard.fwht(ROWS[:1], out=row) is row
    assert np.array_equal(row, hadamard.fwht(ROWS[:1]))
