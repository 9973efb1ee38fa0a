"""What estimators read and give back: numpy, pandas, scipy, torch in, the same kind out, copied only if need be.

Objections are one sentence each. Whether every number is finite is asked of the embedding where NaN and infinity are
sure to reach it, since that is D / k times smaller than the rows; only if it is not are the rows searched.
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse
import torch
from numpy.typing import NDArray
from sklearn.utils.validation import validate_data
from torch import Tensor

from sdp_kernels import projection
from sdp_kernels.projection import Rows, SparseRows, check_rows

NUMPY_DTYPES = [np.float64, np.float32, np.float16, np.uint8]
DENSE_DTYPES = [getattr(torch, name) for name in projection.DENSE_DTYPES]
SPARSE_DTYPES = [getattr(torch, name) for name in projection.SPARSE_DTYPES]
HALVES = (torch.float16, torch.bfloat16)
ROWS_AT_ONCE = 1 << 22  # numbers that are asked at a time whether they are finite


@dataclass(frozen=True)
class Source:
    """Rows that the kernels can read, and how to give a result back.

    Attributes:
        rows: dense tensor or `SparseRows`.
        shape: (n_rows, n_features).
        dtype: of the result.
        is_torch: whether the result is a tensor, and not an array.
        owner: keeps the memory alive that `rows` looks at.
    """

    rows: Rows
    shape: tuple[int, int]
    dtype: torch.dtype
    is_torch: bool
    owner: object

    def target_for(self, out: Any, k: int) -> Tensor:
        """Tensor (n_rows, k) for the kernels to write: memory of `out` where it has their precision.

        Raises:
            TypeError, ValueError: `out` is of another kind, dtype, shape or layout.
        """
        shape = (self.shape[0], k)
        precise = torch.float32 if self.dtype in HALVES else self.dtype
        device = (self.rows.values if isinstance(self.rows, SparseRows) else self.rows).device
        if out is None:
            return torch.empty(shape, dtype=precise, device=device)
        kind: Any = Tensor if self.is_torch else np.ndarray
        if not isinstance(out, kind):
            raise TypeError(f"`out` must be a {kind.__name__} as X is; got {type(out).__name__}.")
        refuse_mask("out", out)
        if not self.is_torch and not out.flags.writeable:
            raise ValueError("`out` must be writeable; it is read-only.")
        if not self.is_torch and any(stride < 0 for stride in out.strides):
            raise ValueError("`out` must be row-major; its strides are negative.")
        tensor: Tensor
        try:
            tensor = out if self.is_torch else torch.from_numpy(out)
        except (TypeError, ValueError):
            raise TypeError(f"`out` must be {self.dtype}; got {out.dtype}.") from None
        if tensor.dtype != self.dtype:
            raise TypeError(f"`out` must be {self.dtype}; got {tensor.dtype}.")
        if tuple(tensor.shape) != shape:
            raise ValueError(f"`out` must have shape {shape}; got {tuple(tensor.shape)}.")
        return torch.empty(shape, dtype=precise, device=device) if self.dtype in HALVES else tensor

    def result(self, embedded: Tensor, out: Any, *, check_finite: bool) -> Any:
        """The embedding as users get it.

        Raises:
            ValueError: it is not finite, because the rows are not, or because they are too large.
        """
        rounded = embedded.to(self.dtype)
        if (check_finite or self.dtype in HALVES) and not is_finite(rounded):
            check_rows_finite(self.rows)
            row = int((~torch.isfinite(rounded)).any(1).nonzero()[0, 0])
            raise ValueError(f"`X` must embed within the range of {self.dtype}; row {row} does not.")
        if out is None:
            return rounded if self.is_torch else rounded.numpy()
        if self.dtype in HALVES:
            (out if self.is_torch else torch.from_numpy(out)).copy_(rounded)
        return out


def is_shape(X: Any) -> bool:
    """Whether this is a shape (n_samples, n_features) and not rows."""
    return isinstance(X, tuple) and len(X) == 2 and all(isinstance(size, (int, np.integer)) for size in X)


def read(X: Any, estimator: Any, *, reset: bool, check_finite: bool, least_rows: int = 0) -> Source:
    """Rows as the kernels read them; the estimator learns or compares their number of features and names.

    Raises:
        TypeError, ValueError: rows of another kind, width or dtype, or not finite if that is asked.
    """
    source = (
        _read_tensor(X, estimator, reset)
        if isinstance(X, Tensor)
        else _read_array(X, estimator, reset, least_rows)
    )
    if source.shape[0] < least_rows:
        raise ValueError(f"`X` must have at least {least_rows} row; got shape {source.shape}.")
    if check_finite:
        check_rows_finite(source.rows)
    return source


def read_embedded(Y: Any, n_components: int) -> Source:
    """Embedded rows, for the way back.

    Raises:
        TypeError, ValueError: they are no matrix of n_components finite columns.
    """
    refuse_mask("Y", Y)
    array: Any = Y
    is_torch = isinstance(Y, Tensor)
    if not is_torch:
        array = np.asarray(array.toarray() if scipy.sparse.issparse(Y) else Y)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"`Y` must hold real numbers; got {array.dtype}.")
        array = as_tensor(array if array.dtype in (np.float16, np.float32) else array.astype(np.float64))
    elif array.dtype not in DENSE_DTYPES:
        array = array.to(torch.float64)
    if array.ndim != 2 or array.shape[1] != n_components:
        raise ValueError(f"`Y` must have shape (n_rows, {n_components}); got {tuple(array.shape)}.")
    if not is_finite(array):
        raise ValueError("`Y` must be finite; it holds NaN or infinity.")
    dtype = array.dtype if array.dtype.is_floating_point else torch.float32
    return Source(array, (array.shape[0], n_components), dtype, is_torch, Y)


def set_features(estimator: Any, n_features: int, *, reset: bool) -> None:
    """Learn the number of features, or compare it.

    Raises:
        ValueError: it is another.
    """
    if reset:
        estimator.n_features_in_ = n_features
        if hasattr(estimator, "feature_names_in_"):
            del estimator.feature_names_in_
    elif n_features != estimator.n_features_in_:
        name = type(estimator).__name__
        raise ValueError(
            f"X has {n_features} features, but {name} is expecting {estimator.n_features_in_} features as input."
        )


def refuse_mask(name: str, X: object) -> None:
    """Refuse a masked array, whose masked numbers scikit-learn would take for numbers.

    Raises:
        TypeError: it is one.
    """
    if isinstance(X, np.ma.MaskedArray):
        raise TypeError(f"`{name}` must not be a masked array, whose mask nobody reads; fill it first.")


def check_rows_finite(rows: Rows) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: naming the first row that holds one.
    """
    if isinstance(rows, SparseRows):
        if not is_finite(rows.values):
            entry = int((~torch.isfinite(rows.values)).nonzero()[0, 0])
            row = int(torch.searchsorted(rows.indptr.to(torch.int64), entry, right=True)) - 1
            _refuse(rows.values[entry], row)
        return
    size = max(1, ROWS_AT_ONCE // max(1, rows.shape[1]))
    for start in range(0, rows.shape[0], size):
        part = rows[start : start + size]
        if not is_finite(part):
            row, column = (int(place) for place in (~torch.isfinite(part)).nonzero()[0])
            _refuse(part[row, column], start + row)


def is_finite(numbers: Tensor) -> bool:
    """Whether no number is NaN or infinite; a finite sum proves it, forty times faster than asking each."""
    if not numbers.dtype.is_floating_point:
        return True
    wide = torch.float32 if numbers.dtype in HALVES else numbers.dtype
    if bool(torch.isfinite(numbers.sum(dtype=wide))):
        return True
    return bool(torch.isfinite(numbers).all())  # finite numbers may have an infinite sum


def as_tensor(array: NDArray[Any]) -> Tensor:
    """The same memory as a tensor, read-only memory included, which the tensor must not outlive and nobody writes.

    torch warns of read-only arrays, and has no negative strides; those are copied, and so is what is not
    aligned.
    """
    if any(stride < 0 or stride % array.itemsize for stride in array.strides):
        array = np.ascontiguousarray(array)
    if not array.flags.aligned:
        array = array.copy()
    if array.flags.writeable or not array.size:
        return torch.from_numpy(array if array.flags.writeable else array.copy())
    steps = zip(array.shape, array.strides, strict=True)
    length = array.itemsize + sum((size - 1) * stride for size, stride in steps)
    memory: Any = (ctypes.c_byte * length).from_address(array.ctypes.data)
    return torch.from_numpy(np.ndarray(array.shape, array.dtype, buffer=memory, strides=array.strides))


def _read_array(X: Any, estimator: Any, reset: bool, least_rows: int) -> Source:
    refuse_mask("X", X)
    is_sparse = scipy.sparse.issparse(X)
    if is_sparse:
        _check_sparse(X)
    if isinstance(X, np.ndarray) and X.dtype.kind == "f" and not X.dtype.isnative:
        X = X.astype(X.dtype.newbyteorder("="))  # which scikit-learn takes for another dtype
    checked: Any = validate_data(
        estimator,
        X,
        reset=reset,
        accept_sparse="csr",
        dtype=[np.float64, np.float32] if is_sparse else NUMPY_DTYPES,
        ensure_all_finite=False,
        ensure_min_samples=least_rows,
    )
    rows: Rows
    if is_sparse:
        stored = checked.indptr[-1]  # scipy allows room behind it
        parts = (checked.indptr, checked.indices[:stored], checked.data[:stored])
        indptr, indices, values = (as_tensor(part) for part in parts)
        rows = SparseRows(indptr, indices, values, checked.shape[1])
        check_rows(rows)
        dtype = values.dtype
    else:
        rows = as_tensor(checked)
        dtype = rows.dtype if rows.dtype.is_floating_point else torch.float32
    return Source(rows, (checked.shape[0], checked.shape[1]), dtype, False, checked)


def _read_tensor(X: Tensor, estimator: Any, reset: bool) -> Source:
    if X.ndim != 2:
        raise ValueError(f"`X` must be a matrix (n_rows, n_features); got shape {tuple(X.shape)}.")
    if X.dtype.is_complex:
        raise TypeError(f"`X` must hold real numbers; got {X.dtype}.")
    X = X.detach()
    n_rows, n_features = X.shape
    if not n_features:
        raise ValueError(f"`X` must have at least 1 feature; got shape {tuple(X.shape)}.")
    rows: Rows
    if X.layout == torch.strided:
        rows = X if X.dtype in DENSE_DTYPES else X.to(torch.float64)
        dtype = rows.dtype if rows.dtype.is_floating_point else torch.float32
    elif X.layout in (torch.sparse_csr, torch.sparse_coo):
        if X.layout == torch.sparse_coo:
            for places, length in zip(
                X._indices(), X.shape, strict=True
            ):  # `indices` asks for a coalesced tensor
                _check_within("indices of `X`", places.numpy(force=True), length)
        csr = X if X.layout == torch.sparse_csr else X.coalesce().to_sparse_csr()
        values = csr.values() if csr.dtype in SPARSE_DTYPES else csr.values().to(torch.float64)
        rows = SparseRows(csr.crow_indices(), csr.col_indices(), values, n_features)
        dtype = values.dtype
    else:
        raise TypeError(f"`X` must be dense, sparse CSR or sparse COO; got {X.layout}.")
    check_rows(rows)
    set_features(estimator, n_features, reset=reset)
    return Source(rows, (n_rows, n_features), dtype, True, X)


def _check_sparse(X: Any) -> None:
    """Refuse sparse matrices whose parts do not fit, before scipy's C code reads or writes past their ends.

    Raises:
        ValueError: pointers that fall, indices out of range, or parts of different lengths.
    """
    if X.ndim != 2:
        raise ValueError(f"`X` must be a matrix (n_rows, n_features); got shape {X.shape}.")
    if X.format == "coo":
        for name, places, length in zip(("row", "col"), X.coords, X.shape, strict=True):
            _check_lengths(f"{X.format} {name}", len(places), len(X.data))
            _check_within(f"`X.{name}`", places, length)
    elif X.format in ("csr", "csc", "bsr"):
        _check_compressed(X)
    elif X.format == "dia":
        _check_lengths("dia offsets", len(X.offsets), len(X.data))
    elif X.format == "lil":
        _check_lengths("lil rows", len(X.rows), X.shape[0])
        for columns, values in zip(X.rows, X.data, strict=True):
            _check_lengths("columns of a lil row", len(columns), len(values))


def _check_compressed(X: Any) -> None:
    indptr, indices = X.indptr, X.indices
    height, width = X.blocksize if X.format == "bsr" else (1, 1)
    lines, length = X.shape[0] // height, X.shape[1] // width
    if X.format == "csc":
        lines, length = length, lines
    stored = min(len(indices), len(X.data))
    if len(indptr) != lines + 1 or indptr[0] != 0 or indptr[-1] > stored or (np.diff(indptr) < 0).any():
        raise ValueError(
            f"`X.indptr` must rise from 0 to at most the {stored} stored entries in {lines} steps."
        )
    _check_within("`X.indices`", indices[: indptr[-1]], length)


def _check_within(name: str, places: NDArray[Any], length: int) -> None:
    if places.size and (places.min() < 0 or places.max() >= length):
        bad = places.min() if places.min() < 0 else places.max()
        raise ValueError(f"{name} must lie in [0, {length}); got {bad}.")


def _check_lengths(name: str, found: int, expected: int) -> None:
    if found != expected:
        raise ValueError(f"`X` has parts that do not fit: {found} {name}, where {expected} are needed.")


def _refuse(number: Tensor, row: int) -> None:
    name = "NaN" if bool(torch.isnan(number)) else "infinity"
    raise ValueError(f"`X` must be finite; row {row} holds {name}.")
