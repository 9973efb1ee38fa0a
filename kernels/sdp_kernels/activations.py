"""Activations of network heads, each with its first two derivatives in closed form.

    identity    x
    tanh        tanh x                              tanh' = 4 sigmoid(2 x) sigmoid(-2 x)
    sigmoid     1 / (1 + exp(-x))
    softplus    log(1 + exp(iota x)) / iota         a smooth ReLU: within log(2) / iota of it
    gelu        x Phi(x)                            the exact one, not its tanh approximation
    relu3       max(x, 0)^3                         twice continuously differentiable
    erf         the error function
    phi_cdf     Phi(x), the normal distribution function
    phi         phi(x), the normal density

`derivatives` is all torch: any device, any floating dtype, differentiable by autograd. `evaluate` gives the same
numbers in one pass over memory on a GPU, from the device functions in `triton/_math.py` that kernels of heads share.

float32 values and derivatives are within 4e-7 of the exact ones, relatively, near 0 and in both tails down to the
smallest normal number: nothing is computed as 1 - tanh^2 or 1 - Phi, and what rests on exp(-x^2 / 2) is computed in
float64 by torch, since rounding x^2 to float32 alone costs x^2 / 2 units in the last place.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from sdp_kernels._engine import twin

NAMES = ("identity", "tanh", "sigmoid", "softplus", "gelu", "relu3", "erf", "phi_cdf", "phi")
MAX_ORDER = 2


def derivatives(name: str, x: Tensor, order: int, iota: float = 1.0) -> tuple[Tensor, ...]:
    """An activation and its derivatives, entry by entry.

    Args:
        name: one of `NAMES`.
        x: any shape, any floating dtype.
        order: how many derivatives, 0 to 2.
        iota: sharpness of softplus, positive; the others ignore it.

    Returns:
        (f, f', f'')[: order + 1], each of the shape and dtype of `x`.

    Raises:
        TypeError: `x` holds no floating-point numbers.
        ValueError: an unknown name, another order, or `iota` not positive and finite.

    Complexity: O(size of x), a few passes over memory.

    >>> [d.item() for d in derivatives("relu3", torch.tensor(2.0), order=2)]
    [8.0, 12.0, 12.0]
    """
    _check(name, x, order, iota)
    if name == "softplus":
        return _softplus(x, order, iota)
    return _FAMILIES[name](x, order)


def evaluate(name: str, x: Tensor, order: int, iota: float = 1.0) -> tuple[Tensor, ...]:
    """As `derivatives`, but not differentiable, and in one pass over memory where `x` is float32 on a GPU.

    Args:
        name: one of `NAMES`.
        x: any shape and strides, any floating dtype; the Triton engine makes a contiguous copy of one that is not.
        order: how many derivatives, 0 to 2.
        iota: sharpness of softplus, positive; the others ignore it.

    Returns:
        (f, f', f'')[: order + 1], each of the shape and dtype of `x`, without a gradient.

    Raises:
        TypeError, ValueError: as `derivatives`.

    Complexity: 18 to 45 instructions an entry on a GPU, 4 (order + 2) bytes read and written.

    >>> [d.item() for d in evaluate("relu3", torch.tensor(2.0), order=2)]
    [8.0, 12.0, 12.0]
    """
    _check(name, x, order, iota)
    if x.dtype != torch.float32 or name == "identity":
        return derivatives(name, x.detach(), order, iota)
    found: tuple[Tensor, ...] = twin("activations", x).evaluate(name, x.detach(), order, iota)
    return found


def _check(name: str, x: Tensor, order: int, iota: float) -> None:
    if name not in NAMES:
        raise ValueError(f"activation must be one of {', '.join(NAMES)}; got {name!r}.")
    if order not in range(MAX_ORDER + 1):
        raise ValueError(f"`order` must be one of 0, 1, 2; got {order}.")
    if not x.is_floating_point():
        raise TypeError(f"`x` must hold floating-point numbers; got {x.dtype}.")
    if not (iota > 0.0 and math.isfinite(iota)):
        raise ValueError(f"`iota` must be positive and finite; got {iota}.")


def _identity(x: Tensor, order: int) -> tuple[Tensor, ...]:
    return (x, torch.ones_like(x), torch.zeros_like(x))[: order + 1]


def _tanh(x: Tensor, order: int) -> tuple[Tensor, ...]:
    t = torch.tanh(x)
    if order == 0:
        return (t,)
    d = 4.0 * torch.sigmoid(2.0 * x) * torch.sigmoid(-2.0 * x)
    return (t, d) if order == 1 else (t, d, -2.0 * t * d)


def _sigmoid(x: Tensor, order: int) -> tuple[Tensor, ...]:
    s = torch.sigmoid(x)
    if order == 0:
        return (s,)
    d = s * torch.sigmoid(-x)
    return (s, d) if order == 1 else (s, d, -torch.tanh(0.5 * x) * d)


def _softplus(x: Tensor, order: int, iota: float) -> tuple[Tensor, ...]:
    if iota != 1.0:  # an error of y = iota x grows to |y| times as much in exp(y)
        x, dtype = _wide(x)
        y = iota * x
        s, d, h = _softplus(y, 2, 1.0)
        return tuple(f.to(dtype) for f in (s / iota, d, iota * h)[: order + 1])
    f = torch.logaddexp(x, torch.zeros_like(x))
    return (f, *_sigmoid(x, order - 1)) if order else (f,)


def _relu3(x: Tensor, order: int) -> tuple[Tensor, ...]:
    p = torch.relu(x)
    return (p * p * p, 3.0 * p * p, 6.0 * p)[: order + 1]


def _erf(x: Tensor, order: int) -> tuple[Tensor, ...]:
    if order == 0:
        return (torch.erf(x),)
    wide, dtype = _wide(x)
    d = (2.0 / math.sqrt(math.pi)) * torch.exp(-wide * wide)
    return (torch.erf(x), *_narrow(dtype, d, -2.0 * _bounded(wide) * d)[:order])


def _phi_cdf(x: Tensor, order: int) -> tuple[Tensor, ...]:
    x, dtype = _wide(x)
    if order == 0:
        return (_cdf(x).to(dtype),)
    density = _density(x)
    return _narrow(dtype, _cdf(x), density, -_bounded(x) * density)[: order + 1]


def _phi(x: Tensor, order: int) -> tuple[Tensor, ...]:
    x, dtype = _wide(x)
    density, x = _density(x), _bounded(x)
    return _narrow(dtype, density, -x * density, (x * x - 1.0) * density)[: order + 1]


def _gelu(x: Tensor, order: int) -> tuple[Tensor, ...]:
    x, dtype = _wide(x)
    cdf = _cdf(x)
    value = x.clamp(min=-_PHI_UNDERFLOWS) * cdf
    if order == 0:
        return (value.to(dtype),)
    density, x = _density(x), _bounded(x)
    return _narrow(dtype, value, cdf + x * density, (2.0 - x * x) * density)[: order + 1]


_FAMILIES: dict[str, Callable[[Tensor, int], tuple[Tensor, ...]]] = {
    "identity": _identity,
    "tanh": _tanh,
    "sigmoid": _sigmoid,
    "gelu": _gelu,
    "relu3": _relu3,
    "erf": _erf,
    "phi_cdf": _phi_cdf,
    "phi": _phi,
}

_PHI_UNDERFLOWS = 39.0  # in float64


def _cdf(x: Tensor) -> Tensor:
    tail: Tensor = torch.special.erfc(x * -math.sqrt(0.5))
    return 0.5 * tail


def _density(x: Tensor) -> Tensor:
    return torch.exp(-0.5 * x * x) * (1.0 / math.sqrt(2.0 * math.pi))


def _wide(x: Tensor) -> tuple[Tensor, torch.dtype]:
    """The tensor in float64, and what it was."""
    return x.to(torch.float64), x.dtype


def _bounded(x: Tensor) -> Tensor:
    """Where the density is 0 anything finite times it is; an infinity would not be."""
    return x.clamp(-_PHI_UNDERFLOWS, _PHI_UNDERFLOWS)


def _narrow(dtype: torch.dtype, *values: Tensor) -> tuple[Tensor, ...]:
    return tuple(value.to(dtype) for value in values)
