"""Rows that the projections read: torch tensors, or numpy arrays, which are read without importing torch.

torch takes 190 MB of a process, more than all else that an embedding of a stream needs. So what tensors and arrays
share is asked of them in words that both have, and torch is looked for where it must have been loaded already: there
is no tensor before.
"""

from __future__ import annotations

import sys
from types import ModuleType
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from sdp_kernels._engine import engine, twin
from sdp_kernels._numbers import integer

if TYPE_CHECKING:
    from torch import Tensor

DENSE_DTYPES = ("float32", "float64", "float16", "bfloat16", "uint8")  # numpy has no bfloat16
SPARSE_DTYPES = ("float32", "float64")
INDEX_DTYPES = ("int32", "int64")


class SparseRows(NamedTuple):
    """Compressed sparse rows (n, n_features), as tensors.

    Attributes:
        indptr: int32 or int64 (n + 1,), row i is entries indptr[i] to indptr[i + 1].
        indices: int32 or int64 (nnz,), feature of each entry; repeated ones add up.
        values: float32 or float64 (nnz,).
        n_features: length of a row.
    """

    indptr: Tensor
    indices: Tensor
    values: Tensor
    n_features: int


class SparseArrays(NamedTuple):
    """`SparseRows` as numpy arrays."""

    indptr: NDArray[Any]
    indices: NDArray[Any]
    values: NDArray[Any]
    n_features: int


Array: TypeAlias = NDArray[Any]
Rows: TypeAlias = "Tensor | SparseRows"
Arrays: TypeAlias = NDArray[Any] | SparseArrays


def is_tensor(numbers: object) -> bool:
    """Whether this is a torch tensor, asked without importing torch."""
    return isinstance(numbers, getattr(sys.modules.get("torch"), "Tensor", ()))


def is_sparse(X: object) -> bool:
    """Whether these are compressed rows of either kind."""
    return isinstance(X, (SparseRows, SparseArrays))


def dtype_name(dtype: object) -> str:
    """A name that the dtypes of torch and numpy share: "float32"."""
    return str(dtype).removeprefix("torch.")


def array_of(numbers: Any) -> NDArray[Any]:
    """The memory of a tensor on the CPU as an array; an array as it is."""
    found: NDArray[Any] = numbers.numpy() if is_tensor(numbers) else numbers
    return found


def check_rows(X: Any) -> tuple[int, int]:
    """Shape (n, D) of rows that the operations can read.

    Raises:
        TypeError: another type or dtype, or a masked array.
        ValueError: no matrix, or sparse rows whose pointers fall, or whose features lie outside [0, D).
    """
    if is_sparse(X):
        return _check_sparse(X)
    is_dense = isinstance(X, np.ndarray)
    if is_tensor(X):
        is_dense = str(X.layout) == "torch.strided"
    elif not is_dense:
        raise TypeError(
            f"`X` must be a torch tensor, a numpy array, SparseRows or SparseArrays; got {type(X).__name__}."
        )
    _refuse_mask("X", X)
    if X.ndim != 2 or not is_dense:
        layout = f", {X.layout}" if is_tensor(X) else ""
        raise ValueError(f"`X` must be a dense matrix (n, D); got shape {tuple(X.shape)}{layout}.")
    if dtype_name(X.dtype) not in DENSE_DTYPES:
        raise TypeError(f"`X` must be one of {', '.join(_said(DENSE_DTYPES, X))}; got {X.dtype}.")
    return X.shape[0], X.shape[1]


def check_result(X: Any, n: int, k: int, out: Any, *, may_be_rows: bool = False) -> Any:
    """`out` after checks, or new memory of the rows' kind and precision for n rows of k components.

    Args:
        X: the rows.
        n: how many.
        k: components of a row of the result.
        out: what the caller gave for the result, or None.
        may_be_rows: whether `out` may be X itself.

    Raises:
        TypeError, ValueError: `out` has another kind, dtype, shape or device, no unit stride, cannot be written,
            requires a gradient, or shares memory with X.
    """
    source = X.values if is_sparse(X) else X
    name = "float64" if dtype_name(source.dtype) == "float64" else "float32"
    if out is None:
        return (
            source.new_empty((n, k), dtype=_torch_dtype(name))
            if is_tensor(source)
            else np.empty((n, k), name)
        )
    if is_tensor(out) != is_tensor(source) or not (is_tensor(out) or isinstance(out, np.ndarray)):
        kind = "torch tensor" if is_tensor(source) else "numpy array"
        raise TypeError(f"`out` must be a {kind} as the rows are; got {type(out).__name__}.")
    _refuse_mask("out", out)
    if dtype_name(out.dtype) != name:
        raise TypeError(
            f"`out` must be {_said((name,), out)[0]} for rows of {source.dtype}; got {out.dtype}."
        )
    if tuple(out.shape) != (n, k):
        raise ValueError(f"`out` must have shape {(n, k)}; got {tuple(out.shape)}.")
    if is_tensor(out):
        strides = out.stride()
        if out.device != source.device:
            raise ValueError(f"`out` lies on {out.device} but `X` on {source.device}.")
        if out.requires_grad:
            raise ValueError("`out` must not require a gradient.")
    else:
        strides = tuple(stride / out.itemsize for stride in out.strides)
        if not (out.flags.writeable and out.flags.aligned):
            raise ValueError("`out` must be writeable and aligned.")
    if (k > 1 and strides[1] != 1) or (n > 1 and strides[0] < k):
        raise ValueError(f"`out` must be row-major without overlap; got strides {strides}.")
    if any(_overlap(part, out) for part in (X[:3] if is_sparse(X) else (X,))) and not (
        may_be_rows and _layout(X) == _layout(out)
    ):
        either = "be `X` itself or " if may_be_rows else ""
        raise ValueError(
            f"`out` must {either}share no memory with `X`: rows would be overwritten before they are read."
        )
    return out


def on_engine(family: str, X: Any, out: Any) -> tuple[ModuleType, Any, Any]:
    """The module that runs a family's operations on these rows, and the rows and the result as it takes them.

    Rows are dense, or the three vectors of sparse ones. The CPU engine takes tensors and arrays; another one, which
    `SDP_ENGINE` may ask for, gets tensors that share the arrays' memory where torch can.

    Raises:
        ValueError: as `_engine.twin`.
    """
    rows: Any = tuple(X[:3]) if is_sparse(X) else X.detach() if is_tensor(X) else X
    module = twin(family, rows[-1] if is_sparse(X) else rows, out)
    if not is_tensor(out) and engine(out) != "cpu":
        import torch

        rows = tuple(map(_tensor_of, rows)) if is_sparse(X) else _tensor_of(rows)
        # Checked to be row-major, but along a dimension of length 1 a stride may be anything, which torch minds.
        out = torch.from_numpy(np.lib.stride_tricks.as_strided(out, strides=_plain_strides(out)))
    return module, rows, out


def _tensor_of(array: NDArray[Any]) -> Tensor:
    """A tensor to be read: the array's memory, or a copy where torch warns (read-only) or has no such strides."""
    import torch

    is_plain = all(stride >= 0 and stride % array.itemsize == 0 for stride in array.strides)
    return torch.from_numpy(
        array if is_plain and array.flags.writeable and array.flags.aligned else array.copy()
    )


def _plain_strides(out: NDArray[Any]) -> tuple[int, int]:
    return (out.strides[0] if out.shape[0] > 1 else out.shape[1] * out.itemsize, out.itemsize)


def _refuse_mask(name: str, numbers: Any) -> None:
    if isinstance(numbers, np.ma.MaskedArray):
        raise TypeError(f"`{name}` must not be a masked array, whose mask nobody reads; fill it first.")


class _Memory:
    """Where numbers lie, in the words of numpy's array interface: nothing is read, the memory may be a GPU's."""

    def __init__(self, numbers: Any) -> None:
        address, shape, strides, _ = _layout(numbers)
        size = numbers.element_size() if is_tensor(numbers) else numbers.itemsize
        place = {"data": (address, True), "shape": shape, "strides": strides, "typestr": f"|V{size}"}
        self.__array_interface__ = {**place, "version": 3}


def _layout(numbers: Any) -> tuple[Any, ...]:
    """Address, shape, strides in bytes, and dtype."""
    if is_tensor(numbers):
        strides = tuple(stride * numbers.element_size() for stride in numbers.stride())
        return numbers.data_ptr(), tuple(numbers.shape), strides, dtype_name(numbers.dtype)
    return numbers.ctypes.data, numbers.shape, numbers.strides, dtype_name(numbers.dtype)


def _overlap(one: Any, other: Any) -> bool:
    """Whether any byte belongs to both."""
    if 0 in one.shape or 0 in other.shape:
        return False
    return np.shares_memory(np.asarray(_Memory(one)), np.asarray(_Memory(other)))


def _check_sparse(X: Any) -> tuple[int, int]:
    vectors = (("indptr", INDEX_DTYPES), ("indices", INDEX_DTYPES), ("values", SPARSE_DTYPES))
    for name, dtypes in vectors:
        vector = getattr(X, name)
        if isinstance(vector, np.ndarray) != isinstance(X, SparseArrays):
            kind = "numpy array" if isinstance(X, SparseArrays) else "torch tensor"
            raise TypeError(f"`X.{name}` must be a {kind}; got {type(vector).__name__}.")
        _refuse_mask(f"X.{name}", vector)
        if dtype_name(vector.dtype) not in dtypes:
            said = " or ".join(_said(dtypes, vector))
            raise TypeError(f"`X.{name}` must be {said}; got {vector.dtype}.")
        if vector.ndim != 1 or not _is_contiguous(vector):
            raise ValueError(f"`X.{name}` must be a contiguous vector; got shape {tuple(vector.shape)}.")
    indptr, indices, n_features = X.indptr, X.indices, integer("X.n_features", X.n_features)
    if n_features < 0:
        raise ValueError(f"`X.n_features` must not be negative; got {n_features}.")
    if not len(indptr):
        raise ValueError("`X.indptr` must have n + 1 entries; got none.")
    stored = len(indices)
    if stored != len(X.values):
        raise ValueError(
            f"`X.indices` and `X.values` must be of equal length; got {stored} and {len(X.values)}."
        )
    if int(indptr[0]) != 0 or int(indptr[-1]) != stored or bool((indptr[1:] < indptr[:-1]).any()):
        raise ValueError(f"`X.indptr` must rise from 0 to the {stored} stored entries.")
    if stored:
        least, most = (int(bound) for bound in _bounds(indices))
        if least < 0 or most >= n_features:
            bad = least if least < 0 else most
            raise ValueError(f"`X.indices` must lie in [0, {n_features}); got {bad}.")
    return len(indptr) - 1, n_features


def _is_contiguous(vector: Any) -> bool:
    if is_tensor(vector):
        return bool(vector.is_contiguous())
    return bool(vector.flags.c_contiguous and vector.flags.aligned)


def _bounds(indices: Any) -> tuple[Any, Any]:
    if is_tensor(indices):
        least, most = indices.aminmax()
        return least, most
    return indices.min(), indices.max()


def _said(names: tuple[str, ...], numbers: Any) -> list[str]:
    """Names of dtypes as the library of these numbers spells them."""
    return [f"torch.{name}" if is_tensor(numbers) else name for name in names]


def _torch_dtype(name: str) -> Any:
    return getattr(sys.modules["torch"], name)
