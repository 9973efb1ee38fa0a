"""Symmetric operators on vectors of length n, from matrices, scipy's operators, functions, or the graph of a loss."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy.sparse
import torch
from scipy.sparse.linalg import LinearOperator
from torch import Tensor

from sdp.optim.chebyshev import UNIT_ROUNDOFF
from sdp.optim.kinks import once_differentiable

# Of a product by someone else's function, relative to the operator's norm and in ulps of its arithmetic: an
# assumption, which results name.
ASSUMED_ULPS = 32.0
# What torch says of a derivative that it lacks; it has no class of its own for it. The last is torch.compile's.
_ONCE = ("differentia", "derivative", "double backward")
_SYMMETRY_ULPS = 1e4  # by which x'My and y'Mx may differ, relative to |Mx| |y|


@dataclass
class Operator:
    """A symmetric n x n operator that is known by its products.

    Attributes:
        n: its size.
        apply: float64 (n, c) -> float64 (n, c), on `device`.
        relative_error: bound on |fl(Mx) - Mx| / (|x| max |eigenvalue|); an assumption where `is_assumed`.
        is_assumed: whether that is so.
        device: of its vectors.
        products: columns multiplied so far.
    """

    n: int
    apply: Callable[[Tensor], Tensor]
    relative_error: float
    is_assumed: bool = False
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    products: int = 0

    def __call__(self, block: Tensor) -> Tensor:
        """M @ block.

        Raises:
            ValueError: the product has another shape, or is not finite.
        """
        made = self.apply(block)
        self.products += block.shape[1]
        if made.shape != block.shape:
            raise ValueError(
                f"the operator must map {tuple(block.shape)} to itself; it gave {tuple(made.shape)}."
            )
        if not bool(torch.isfinite(made.sum())):
            raise ValueError("the operator's product has entries that are NaN or infinite.")
        return made


def as_operator(
    given: Any,
    n: int | None = None,
    *,
    dtype: torch.dtype = torch.float64,
    device: torch.device | str = "cpu",
) -> Operator:
    """An operator of a matrix (torch, numpy, scipy.sparse), a scipy LinearOperator, or a function of blocks.

    Args:
        given: symmetric. A function maps a float64 tensor (n, c) to one of that shape, column by column.
        n: the size, for a function.
        dtype: of a function's arithmetic, whose rounding certificates must pay for.
        device: of a function's vectors.

    Raises:
        TypeError: nothing of these.
        ValueError: not square, or a function without `n`.
    """
    if isinstance(given, Operator):
        return given
    if callable(given) and not isinstance(given, (LinearOperator, Tensor)):
        if n is None or n < 1:
            raise ValueError(f"`n` must be given for a function, and at least 1; got {n}.")
        error = ASSUMED_ULPS * torch.finfo(dtype).eps
        return Operator(n, given, error, is_assumed=True, device=torch.device(device))
    shape = getattr(given, "shape", None)
    if shape is None or len(shape) != 2:
        raise TypeError(
            f"`operator` must be a matrix, a LinearOperator or a function; got {type(given).__name__}."
        )
    if shape[0] != shape[1] or shape[0] < 1:
        raise ValueError(f"`operator` must be square; got shape {tuple(shape)}.")
    n = int(shape[0])
    if isinstance(given, LinearOperator):
        return Operator(n, _by_numpy(given.matmat), ASSUMED_ULPS * np.finfo(np.float64).eps, is_assumed=True)
    if scipy.sparse.issparse(given):
        sparse: Any = given
        matrix = sparse.tocsr().astype(np.float64)
        longest = int(np.diff(matrix.indptr).max(initial=0))
        # || |M| ||_2 <= sqrt(longest row) ||M||_2, and a row of so many terms errs by as many half ulps.
        error = (longest + 2) * max(longest, 1) ** 0.5 * UNIT_ROUNDOFF
        return Operator(n, _by_numpy(matrix.__matmul__), error)
    matrix = torch.as_tensor(given).detach().to(torch.float64)
    return Operator(n, matrix.__matmul__, (n + 2) * n**0.5 * UNIT_ROUNDOFF, device=matrix.device)


def hessian_operator(loss: Tensor, params: Sequence[Tensor]) -> tuple[Operator, Tensor]:
    """The Hessian of a scalar in its parameters, and its gradient.

    The gradient's graph is built once and kept; a block of columns is one batched backward pass through it (torch's
    vmap), or one pass a column where an operation has no batching rule.

    Args:
        loss: a scalar with a graph to the parameters.
        params: tensors that require gradients, of one dtype and device.

    Returns:
        The operator on vectors (parameters flattened one after the other), and the gradient float64 (n,).

    Raises:
        ValueError: the gradient cannot be differentiated again.

    Complexity: a product costs about two to three gradients. Source: Pearlmutter (1994), by double backward.
    """
    once = once_differentiable(loss)
    if once:
        raise ValueError(
            f"the loss must be twice differentiable; {', '.join(once)} is marked `once_differentiable`."
        )
    gradients = torch.autograd.grad(
        loss, params, create_graph=True, allow_unused=True, materialize_grads=True
    )
    live = [place for place, part in enumerate(gradients) if part.requires_grad]
    flat = flatten([part.detach() for part in gradients])
    n = flat.numel()
    dtype = params[0].dtype
    can_batch = True

    def backward(columns: list[Tensor], *, batched: bool) -> list[Tensor]:
        return list(
            torch.autograd.grad(
                [gradients[i] for i in live],
                list(params),
                [columns[i] for i in live],
                retain_graph=True,
                allow_unused=True,
                materialize_grads=True,
                is_grads_batched=batched,
            )
        )

    def apply(block: Tensor) -> Tensor:
        nonlocal can_batch
        if not live:
            return torch.zeros_like(block)
        rows = block.T.to(dtype)
        if can_batch and len(rows) > 1:
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # of slow batching rules
                    made = backward(unflatten(rows.contiguous(), params), batched=True)
                return torch.cat([part.reshape(len(rows), -1) for part in made], 1).T.to(torch.float64)
            except (
                RuntimeError
            ):  # torch's word for an operation without a batching rule; a pass a column says the same
                can_batch = False
        try:
            made_rows = [flatten(backward(unflatten(row, params), batched=False)) for row in rows]
        except RuntimeError as error:
            if any(word in str(error) for word in _ONCE):
                raise ValueError(f"the loss must be twice differentiable; torch says: {error}") from error
            raise
        return torch.stack(made_rows, 1)

    error = ASSUMED_ULPS * torch.finfo(dtype).eps
    return Operator(n, apply, error, is_assumed=True, device=flat.device), flat


def check_symmetric(operator: Operator, x: Tensor, y: Tensor) -> None:
    """Refuse an operator that two vectors (n,) show to be unsymmetric.

    Raises:
        ValueError: x'My and y'Mx differ by more than rounding.
    """
    made = operator(torch.stack([x, y], 1))
    left, right = float(y @ made[:, 0]), float(x @ made[:, 1])
    size = float(made.norm()) * float(x.norm() + y.norm())
    if abs(left - right) > _SYMMETRY_ULPS * operator.relative_error * size:
        raise ValueError(f"`operator` must be symmetric; x'My is {left:.6g} where y'Mx is {right:.6g}.")


def flatten(parts: Sequence[Tensor]) -> Tensor:
    """All entries in one float64 vector."""
    return torch.cat([part.flatten().to(torch.float64) for part in parts])


def unflatten(vectors: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Vectors (..., n) as tensors (..., *shape) in the shapes of `like`."""
    made, start = [], 0
    for part in like:
        piece = vectors[..., start : start + part.numel()]
        made.append(piece.reshape((*vectors.shape[:-1], *part.shape)))
        start += part.numel()
    return made


def _by_numpy(product: Callable[[Any], Any]) -> Callable[[Tensor], Tensor]:
    def apply(block: Tensor) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(product(block.numpy()), dtype=np.float64))

    return apply
