"""Random numbers by position: uniform bits, normals and signs that need no state and can be made anywhere, any time.

A number is a function of (seed, purpose, row, column) alone: any part of a large matrix equals what the whole
would hold there, on every engine, with any tiling and any number of threads. One call of Philox-4x32-10 gives four
words,

    key = seed (64 bits),   counter = (row: 64 bits, column // 4: 32 bits, purpose: 32 bits),

and word column % 4 belongs to (row, column). Words make normals by Box and Muller, two by two: of columns 4 c and
4 c + 1,

    normal = radius cos(theta), radius sin(theta),   radius = sqrt(-2 ln u)

where u comes from the first word and theta from the second (its top two bits choose the quadrant). The resolution of u
sets how far the tail reaches, and is a named choice:

    bits=32    u = (word + 1/2) 2^-32           |normal| <= 6.76, expected beyond: 1e-11 of all numbers
    bits=24    u = (word // 2^8 + 1/2) 2^-24    |normal| <= 5.88, 4e-9

Signs take all 128 bits of a call, counted by column // 128 with the purpose's top bit set, so that they never share a
word with numbers of the same purpose: column's bit is bit column % 32 of word column % 128 // 32.

torch is imported by the first call, so that what is made inside of other operations on numpy arrays needs none.

Bits are equal on all engines; float32 normals agree to 2e-6 relative (both are within 1e-6 of exact arithmetic on the
same words).

Source: Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3" (SC 2011); Box and Muller (1958).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from sdp_kernels._engine import twin_on
from sdp_kernels._numbers import integer

if TYPE_CHECKING:
    import torch
    from torch import Tensor

PURPOSE_PLAIN = 0  # what a user asks for directly
PURPOSE_SAMPLES = 1  # the samples of a Gaussian expectation
SEEDS, ROWS, COLUMNS = 2**63, 2**63, 2**34  # all lie below
PURPOSES = 2**31  # and so do purposes; the bit above marks signs

WORDS_PER_CALL = 4
SIGNS_PER_CALL = 128
RESOLUTIONS = (24, 32)

_SIGNS = 2**31


def uniform_bits(
    shape: int | Sequence[int],
    *,
    seed: int,
    purpose: int = PURPOSE_PLAIN,
    row_offset: int = 0,
    column_offset: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent uniform 32-bit words.

    Args:
        shape: (n_rows, n_columns), or (n,) for one row of n.
        seed: key of all numbers, 0 <= seed < 2^63.
        purpose: which of the seed's independent streams, 0 <= purpose < 2^31.
        row_offset: row of the first number; rows end below 2^63.
        column_offset: column of the first number; columns end below 2^34.
        device: where the result lies; its engine makes it.

    Returns:
        int32 of that shape that holds uint32 bits, since torch has no arithmetic on uint32; equal on all engines.

    Raises:
        TypeError, ValueError: a shape, seed, purpose or offset that is none, or out of range.

    Complexity: 40 integer operations a call of 4 words; 16 bytes written.

    >>> uniform_bits((1, 4), seed=0).tolist()  # the authors' known answer for a key and a counter of zeros
    [[1713891541, -513161843, -1135104948, -1694442536]]
    """
    import torch

    n_rows, n_columns = _check_shape(shape)
    place = torch.device(device)
    position = _check_position(n_rows, n_columns, seed, purpose, row_offset, column_offset)
    out = torch.empty((n_rows, n_columns), dtype=torch.int32, device=place)
    if out.numel():
        twin_on("gaussian", place).uniform_bits(out, *position)
    return _shaped(out, shape)


def normal(
    shape: int | Sequence[int],
    *,
    seed: int,
    purpose: int = PURPOSE_PLAIN,
    row_offset: int = 0,
    column_offset: int = 0,
    dtype: torch.dtype | None = None,
    bits: int = 32,
    device: torch.device | str | None = None,
    out: Tensor | None = None,
) -> Tensor:
    """Independent standard normals.

    Args:
        shape: (n_rows, n_columns), or (n,) for one row of n.
        seed: key of all numbers, 0 <= seed < 2^63.
        purpose: which of the seed's independent streams, 0 <= purpose < 2^31.
        row_offset: row of the first number; rows end below 2^63.
        column_offset: column of the first number; columns end below 2^34.
        dtype: torch.float32 (the default), or torch.float64, which is computed in float64 from the same words and so
            is the float32 number with more digits.
        bits: resolution of the uniform behind a radius: 32 reaches 6.76 standard deviations, 24 reaches 5.88.
        device: where the result lies; its engine makes it. The CPU by default.
        out: takes the result instead of a new tensor: of that shape, with any strides; dtype and device are its own.

    Returns:
        Normals of that shape; `out` if it was given.

    Raises:
        TypeError, ValueError: a shape, seed, purpose or offset that is none, or out of range; another dtype;
            `out` has another shape, dtype or device, overlaps itself or requires a gradient.

    Complexity: about 33 instructions a number, 4 bytes written.

    >>> whole = normal((6, 10), seed=7)
    >>> part = normal((2, 3), seed=7, row_offset=4, column_offset=5)
    >>> bool((whole[4:, 5:8] == part).all())
    True
    """
    import torch

    n_rows, n_columns = _check_shape(shape)
    position = _check_position(n_rows, n_columns, seed, purpose, row_offset, column_offset)
    if bits not in RESOLUTIONS:
        raise ValueError(f"`bits` must be one of {', '.join(map(str, RESOLUTIONS))}; got {bits}.")
    if out is None:
        wanted = torch.float32 if dtype is None else dtype
        if wanted not in (torch.float32, torch.float64):
            raise TypeError(f"`dtype` must be torch.float32 or torch.float64; got {wanted}.")
        out = torch.empty((n_rows, n_columns), dtype=wanted, device=device or "cpu")
        matrix, result = out, _shaped(out, shape)
    else:
        _check_out(out, shape, dtype, device)
        matrix, result = (out if out.ndim == 2 else out.unsqueeze(0)), out
    if matrix.numel():
        twin_on("gaussian", matrix.device).normal(matrix, *position, bits)
    return result


def rademacher(
    shape: int | Sequence[int],
    *,
    seed: int,
    purpose: int = PURPOSE_PLAIN,
    row_offset: int = 0,
    column_offset: int = 0,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Independent signs, +1 and -1 with equal chance.

    Args:
        shape: (n_rows, n_columns), or (n,) for one row of n.
        seed: key of all numbers, 0 <= seed < 2^63.
        purpose: which of the seed's independent streams, 0 <= purpose < 2^31.
        row_offset: row of the first sign; rows end below 2^63.
        column_offset: column of the first sign; columns end below 2^34. A call of Philox gives the 128 signs of a row's
            columns 128 c to 128 c + 127, so parts that begin at multiples of 128 waste nothing.
        device: where the result lies; its engine makes it.

    Returns:
        int8 of that shape, equal on all engines.

    Raises:
        TypeError, ValueError: a shape, seed, purpose or offset that is none, or out of range.

    Complexity: 40 integer operations a call of 128 signs; 1 byte a sign written.

    >>> rademacher(8, seed=1).tolist()
    [-1, 1, 1, 1, -1, -1, 1, -1]
    """
    import torch

    n_rows, n_columns = _check_shape(shape)
    place = torch.device(device)
    seed, purpose, *offsets = _check_position(n_rows, n_columns, seed, purpose, row_offset, column_offset)
    out = torch.empty((n_rows, n_columns), dtype=torch.int8, device=place)
    if out.numel():
        twin_on("gaussian", place).rademacher(out, seed, purpose | _SIGNS, *offsets)
    return _shaped(out, shape)


def _check_shape(shape: int | Sequence[int]) -> tuple[int, int]:
    """(n_rows, n_columns) of a shape."""
    sizes = _sizes(shape)
    if len(sizes) not in (1, 2) or min(sizes) < 0:
        raise ValueError(f"`shape` must be (n_rows, n_columns) or (n,), none negative; got {sizes}.")
    return (1, sizes[0]) if len(sizes) == 1 else (sizes[0], sizes[1])


def _check_position(
    n_rows: int, n_columns: int, seed: int, purpose: int, row_offset: int, column_offset: int
) -> tuple[int, int, int, int]:
    checks = (
        ("seed", seed, SEEDS, 1, "seeds"),
        ("purpose", purpose, PURPOSES, 1, "purposes"),
        ("row_offset", row_offset, ROWS, n_rows, "rows"),
        ("column_offset", column_offset, COLUMNS, n_columns, "columns"),
    )
    position = []
    for name, value, limit, length, things in checks:
        number = integer(name, value)
        if not 0 <= number <= limit - max(length, 1):
            power = f"2^{limit.bit_length() - 1}"
            range_ = f"[0, {power} - {length}], for {length} {things}" if length > 1 else f"[0, {power})"
            raise ValueError(f"`{name}` must lie in {range_}; got {number}.")
        position.append(number)
    return position[0], position[1], position[2], position[3]


def _check_out(
    out: Tensor, shape: int | Sequence[int], dtype: torch.dtype | None, device: torch.device | str | None
) -> None:
    import torch

    sizes = _sizes(shape)
    if tuple(out.shape) != sizes:
        raise ValueError(f"`out` must have shape {sizes}; got {tuple(out.shape)}.")
    if out.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`out` must be float32 or float64; got {out.dtype}.")
    if dtype is not None and out.dtype != dtype:
        raise TypeError(f"`out` is {out.dtype} but `dtype` is {dtype}.")
    if device is not None and out.device.type != torch.device(device).type:
        raise ValueError(f"`out` lies on {out.device} but `device` is {device}.")
    if any(size > 1 and stride == 0 for size, stride in zip(out.shape, out.stride(), strict=True)):
        raise ValueError("`out` must not overlap itself; it was expanded.")
    if out.requires_grad:
        raise ValueError("`out` must not require a gradient; random numbers have none.")


def _shaped(matrix: Tensor, shape: int | Sequence[int]) -> Tensor:
    return matrix[0] if len(_sizes(shape)) == 1 else matrix


def _sizes(shape: int | Sequence[int]) -> tuple[int, ...]:
    return tuple(integer("shape", size) for size in (shape if isinstance(shape, Sequence) else (shape,)))
