"""What an estimate is: a value, its uncertainty, where both come from, and how batches make them.

Batch means m_j of sizes n_j have variance sigma^2 / n_j, so that with n = sum n_j and mean m = sum n_j m_j / n

    sum_j (n_j / n) (m_j - m)^2 / (B - 1)

estimates the variance of m without bias for any sizes, and as soon as the batch means are normal it is
distributed as (sigma^2 / n) chi^2_{B-1} / (B - 1): Student's t gives the interval. Source: Law, Simulation
Modeling and Analysis (2014), 9.5.3, for equal sizes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Generic, NamedTuple, TypeVar

import torch
from scipy.stats import t as student
from torch import Tensor

# The difference of two orders estimates the error of the lower; tests hold the true error within three of it.
QUADRATURE_FACTOR = 3.0
_LATER = "_standard_error_later"  # in an estimate's dictionary, as long as its errors are put off


class Blocks(NamedTuple):
    """One tensor for each argument of F(W, b, theta): a gradient, a direction, or their standard errors.

    Attributes:
        W: (..., k, d).
        b: (..., k).
        theta: one tensor (..., *shape) for each parameter of the head, in its order.
    """

    W: Tensor
    b: Tensor
    theta: tuple[Tensor, ...]


T = TypeVar("T", Tensor, Blocks)


def map_blocks(function: Callable[..., Tensor], first: T, *others: T) -> T:
    """Apply a function to a tensor, or to each tensor of blocks; the others have the structure of the first."""
    if isinstance(first, Tensor):
        return function(first, *others)
    parts = [block_list(first), *(block_list(other) for other in others)]
    made = [function(*entries) for entries in zip(*parts, strict=True)]
    return Blocks(made[0], made[1], tuple(made[2:]))


def block_list(blocks: Tensor | Blocks) -> list[Tensor]:
    """The tensors in order: W, b, theta."""
    return [blocks] if isinstance(blocks, Tensor) else [blocks.W, blocks.b, *blocks.theta]


def flatten_blocks(blocks: Tensor | Blocks) -> Tensor:
    """All entries in one vector: W row-major, b, theta in order."""
    return torch.cat([part.flatten() for part in block_list(blocks)])


def pieces(vector: Tensor, sizes: Sequence[int]) -> list[Tensor]:
    """Views of consecutive entries along the last dimension."""
    ends = itertools.accumulate(sizes)
    return [vector[..., end - size : end] for end, size in zip(ends, sizes, strict=True)]


@dataclass(frozen=True, eq=False, repr=False)
class Estimate(Generic[T]):
    """An estimated quantity and how sure it is.

    Standard errors of derivatives cost as much as these, so an `Expectation` puts them off until `standard_error` or
    what needs it is asked for; then what they come from is let go. Until then the estimate holds that: batch means of
    at most 8 times the size of `value`, or 1 MB, and the directions of a Hessian-vector product. Larger batch means
    are never held: their standard errors are computed at once. Copies and pickles have the standard errors.

    Attributes:
        value: float64 tensor, or `Blocks` of them; in units of g (and of g per unit of the argument for derivatives).
        standard_error: of each entry, in the same structure and units. Of sampling it is one standard deviation of
            `value`; of quadrature, the difference between two orders; 0 where the answer is exact up to rounding;
            infinite where one batch alone was drawn.
        n_samples: evaluations of the head behind `value`; an antithetic pair counts two.
        method: "exact" (q = 0), "quadrature", "sampling" or "sobol".
        degrees_of_freedom: of Student's t; 0 where no sampling was done.
        converged: whether `rel_error` was met; True where none was asked for.
        notes: what the reader should know, in words.
    """

    value: T
    standard_error: T
    n_samples: int
    method: str
    degrees_of_freedom: int = 0
    converged: bool = True
    notes: tuple[str, ...] = ()

    if not TYPE_CHECKING:  # a type checker would then believe in any attribute

        def __getattr__(self, name: str) -> Any:
            """`standard_error` when first asked for, where `put_off` left it out."""
            later = self.__dict__.get(_LATER) if name == "standard_error" else None
            if later is not None:
                self.__dict__[name] = later()
                self.__dict__.pop(_LATER, None)
            return object.__getattribute__(self, name)

    def __getstate__(self) -> dict[str, Any]:
        """What is copied or pickled: numbers, no function."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def half_width(self, confidence: float = 0.95) -> T:
        """Half the width of `interval`, entry by entry."""
        factor = half_width_factor(self.method, self.degrees_of_freedom, confidence)
        return map_blocks(lambda error: factor * error, self.standard_error)

    def interval(self, confidence: float = 0.95) -> tuple[T, T]:
        """Lower and upper end of the confidence interval of each entry.

        Sampling: Student's t over batch means, for each entry by itself. Quadrature: three times the difference of
        two orders, whatever the confidence: a bound that holds for smooth heads and is no probability.

        Raises:
            ValueError: `confidence` does not lie in (0, 1).
        """
        half = self.half_width(confidence)
        low = map_blocks(lambda value, width: value - width, self.value, half)
        return low, map_blocks(lambda value, width: value + width, self.value, half)

    def relative_error(self, confidence: float = 0.95) -> float:
        """Norm of `half_width` over the norm of the value; infinite if the value is 0 and its error is not."""
        half = float(torch.linalg.vector_norm(flatten_blocks(self.half_width(confidence))))
        size = float(torch.linalg.vector_norm(flatten_blocks(self.value)))
        if size == 0.0:
            return math.inf if half else 0.0
        return half / size

    def to_dict(self) -> dict[str, Any]:
        """All fields, ready for JSON; blocks become {"W", "b", "theta"}, what is not finite None."""
        return {
            "value": _plain(self.value),
            "standard_error": _plain(self.standard_error),
            "n_samples": self.n_samples,
            "method": self.method,
            "degrees_of_freedom": self.degrees_of_freedom,
            "converged": self.converged,
            "notes": list(self.notes),
        }

    def __float__(self) -> float:
        if not isinstance(self.value, Tensor):
            raise TypeError("only the estimate of a single number is a float; this one has blocks.")
        return float(self.value)

    def __repr__(self) -> str:
        source = {
            "exact": "exact",
            "quadrature": f"quadrature, {self.n_samples} nodes",
            "sampling": f"{self.n_samples} samples",
            "sobol": f"{self.n_samples} Sobol points",
        }[self.method]
        if isinstance(self.value, Tensor) and self.value.ndim == 0:
            what = f"{float(self.value):.8g} +- {float(self.standard_error):.2g}"
        elif isinstance(self.value, Tensor):
            what = f"{tuple(self.value.shape)}, relative error {self.relative_error():.2g}"
        else:
            what = f"W {tuple(self.value.W.shape)}, b {tuple(self.value.b.shape)}, {len(self.value.theta)} of theta"
            what += f", relative error {self.relative_error():.2g}"
        return f"<Estimate {what} ({source}){'' if self.converged else ', not converged'}>"


def put_off(estimate: Estimate[T], error: Callable[[], T]) -> Estimate[T]:
    """The estimate, whose `standard_error` is from now on what this function gives when first asked."""
    estimate.__dict__[_LATER] = error
    del estimate.__dict__["standard_error"]
    return estimate


class Later:
    """A tensor that is computed when first asked for and then remembered, without what it was computed from."""

    def __init__(self, compute: Callable[[], Tensor]) -> None:
        self._compute: Callable[[], Tensor] | None = compute
        self._found: Tensor | None = None

    def __call__(self) -> Tensor:
        """The tensor."""
        compute = self._compute
        if compute is not None:
            self._found = compute()
            self._compute = None
        assert self._found is not None
        return self._found


def half_width_factor(method: str, degrees_of_freedom: int, confidence: float) -> float:
    """Half-width of an interval in units of the standard error.

    Raises:
        ValueError: `confidence` does not lie in (0, 1).
    """
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"`confidence` must lie in (0, 1); got {confidence}.")
    if method in ("exact", "quadrature"):
        return QUADRATURE_FACTOR
    if degrees_of_freedom == 0:
        return 1.0  # the standard error is infinite already
    return float(student.ppf(0.5 + 0.5 * confidence, degrees_of_freedom))


def mean_of(batches: Tensor, sizes: Tensor) -> Tensor:
    """Mean of batch means (B, N) of `sizes` (B,) samples: (N,). All float64."""
    return (sizes / sizes.sum()) @ batches


def standard_error(batches: Tensor, sizes: Tensor, squares: Callable[[Tensor], Tensor]) -> Tensor:
    """Standard error of a linear map of the mean of batch means.

    Args:
        batches: (B, N) float64 means of batches.
        sizes: (B,) float64, samples in each batch.
        squares: (B, N) -> (M,), the sum over rows of the square of what the linear map makes of each.

    Returns:
        (M,) float64; infinite if B = 1.
    """
    weights = sizes / sizes.sum()
    deviations = batches - weights @ batches
    if len(batches) == 1:
        return torch.full_like(squares(deviations), math.inf)
    return (squares(deviations * weights.sqrt()[:, None]) / (len(batches) - 1)).sqrt()


def _plain(value: Tensor | Blocks) -> Any:
    if isinstance(value, Blocks):
        return {"W": _plain(value.W), "b": _plain(value.b), "theta": [_plain(part) for part in value.theta]}
    return _finite(value.tolist())


def _finite(entry: Any) -> Any:
    if isinstance(entry, list):
        return [_finite(item) for item in entry]
    return entry if math.isfinite(entry) else None
