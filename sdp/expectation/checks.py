"""What is asked of the arguments of an expectation, one sentence an objection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from sdp.expectation.estimate import Blocks

DTYPES = (torch.float32, torch.float64)


def check_integer(name: str, number: object, least: int, most: int | None = None) -> None:
    """Refuse what is no integer in [least, most].

    Raises:
        TypeError: it is no integer.
        ValueError: it is out of range.
    """
    if isinstance(number, bool) or not isinstance(number, int):
        raise TypeError(f"`{name}` must be an integer; got {type(number).__name__}.")
    if number < least or (most is not None and number > most):
        range_ = f"at least {least}" if most is None else f"in [{least}, {most}]"
        raise ValueError(f"`{name}` must be {range_}; got {number}.")


def check_point(
    W: Tensor, b: Tensor, rows: Tensor | None, theta: Mapping[str, Tensor], width: int | None
) -> None:
    """Refuse W, b, U and theta that do not fit each other.

    Args:
        W: (k, d).
        b: (k,).
        rows: U (r, d) of the head, or None.
        theta: parameters by name.
        width: k that the head expects, or None if it does not say.

    Raises:
        TypeError: not tensors, or dtypes that differ.
        ValueError: shapes or devices that disagree, or entries that are not finite.
    """
    for name, tensor in (("W", W), ("b", b)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"`{name}` must be a torch tensor; got {type(tensor).__name__}.")
    if W.ndim != 2 or W.shape[0] < 1:
        raise ValueError(f"`W` must be a matrix (k, d) with k at least 1; got shape {tuple(W.shape)}.")
    if b.ndim != 1:
        raise ValueError(f"`b` must be a vector (k,); got shape {tuple(b.shape)}.")
    if len(W) != len(b):
        raise ValueError(f"W has {len(W)} rows but b has {len(b)} entries; W (k, d) and b (k,) must share k.")
    if width is not None and width != len(W):
        raise ValueError(f"W has {len(W)} rows but the head reads {width} entries; they must be equal.")
    if rows is not None and rows.shape[1] != W.shape[1]:
        raise ValueError(
            f"W has {W.shape[1]} columns but the head's U has {rows.shape[1]}; both multiply the same x."
        )
    if W.dtype not in DTYPES:
        raise TypeError(f"`W` must be float32 or float64; got {W.dtype}.")
    others = [("b", b), *((f"the head's {name}", part) for name, part in theta.items())]
    if rows is not None:
        others.append(("the head's U", rows))
    for name, tensor in others:
        if tensor.dtype != W.dtype:
            raise TypeError(f"{name} is {tensor.dtype} but W is {W.dtype}; they must share a dtype.")
        if tensor.device != W.device:
            raise ValueError(
                f"{name} is on {tensor.device} but W is on {W.device}; they must share a device."
            )
    for name, tensor in (("W", W), *others):
        check_finite(name, tensor)


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN and infinity.

    Raises:
        ValueError: there is one.
    """
    if not bool(torch.isfinite(tensor.detach()).all()):
        raise ValueError(f"{name} has entries that are NaN or infinite; all must be finite.")


def check_directions(
    directions: Blocks | Mapping[str, Any], W: Tensor, b: Tensor, theta: Mapping[str, Tensor]
) -> tuple[Blocks, tuple[int, ...]]:
    """Directions as a batch (m, ...) of full blocks, and the leading sizes that the result shall have.

    Raises:
        TypeError: neither blocks nor a mapping, or a dtype that is not that of W.
        ValueError: an unknown key, shapes that disagree, no block at all, or entries that are not finite.
    """
    if isinstance(directions, Blocks):
        directions = directions._asdict()
    if not isinstance(directions, Mapping):
        raise TypeError(
            f"`directions` must be Blocks or a mapping with W, b, theta; got {type(directions).__name__}."
        )
    unknown = [key for key in directions if key not in Blocks._fields]
    if unknown:
        raise ValueError(f"`directions` has blocks W, b and theta; got {', '.join(map(repr, unknown))}.")
    given_theta = directions.get("theta")
    if given_theta is None or len(given_theta) == 0:
        given_theta = [None] * len(theta)
    if len(given_theta) != len(theta):
        raise ValueError(
            f"`directions` has {len(given_theta)} tensors for theta but the head has {len(theta)} parameters."
        )
    names = ["W", "b", *(f"theta[{i}]" for i in range(len(theta)))]
    points = [W, b, *theta.values()]
    given = [directions.get("W"), directions.get("b"), *given_theta]
    leading: tuple[int, ...] | None = None
    for name, part, point in zip(names, given, points, strict=True):
        if part is None:
            continue
        leads = _leading(name, part, point)
        if leading is not None and leads != leading:
            raise ValueError(
                f"directions must agree on their number; {name} leads with {leads} where others lead with {leading}."
            )
        leading = leads
    if leading is None:
        raise ValueError("`directions` must have at least one of the blocks W, b, theta; got none.")
    m = leading[0] if leading else 1
    full = [
        point.new_zeros((m, *point.shape)) if part is None else part.detach().reshape(m, *point.shape)
        for part, point in zip(given, (point.detach() for point in points), strict=True)
    ]
    return Blocks(full[0], full[1], tuple(full[2:])), leading


def _leading(name: str, part: object, point: Tensor) -> tuple[int, ...]:
    if not isinstance(part, Tensor):
        raise TypeError(f"direction {name} must be a torch tensor; got {type(part).__name__}.")
    extra = part.ndim - point.ndim
    if extra not in (0, 1) or part.shape[extra:] != point.shape:
        shape = tuple(point.shape)
        raise ValueError(
            f"direction {name} must have shape {shape} or (m, *{shape}); got {tuple(part.shape)}."
        )
    if extra and part.shape[0] < 1:
        raise ValueError(f"direction {name} must hold at least one direction; got 0.")
    if part.dtype != point.dtype:
        raise TypeError(
            f"direction {name} is {part.dtype} but its block is {point.dtype}; they must share a dtype."
        )
    if part.device != point.device:
        raise ValueError(f"direction {name} is on {part.device} but its block is on {point.device}.")
    check_finite(f"direction {name}", part)
    return tuple(part.shape[:extra])
