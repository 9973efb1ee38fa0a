"""Bit-sliced counters: plane p, a tuple's element p, holds bit p of 32 counts a word.

Source: carry-save counters of Harley and Seal, in Warren, Hacker's Delight (2012), chapter 5.
"""

# Tuples grow plane by plane, in loops that the compiler unrolls.
# mypy: disable-error-code="assignment"

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def start_planes(counts, TOP: tl.constexpr):
    """TOP + 1 planes, each of the shape of `counts` (int32 below 2^(TOP + 1)), that hold the same count in all bits."""
    planes = ()
    for p in tl.static_range(TOP + 1):
        planes += (-((counts >> p) & 1),)
    return planes


@triton.jit
def add3(a, b, c):
    """Sum and carry of three words: two instructions."""
    return a ^ b ^ c, (a & b) | (c & (a | b))


@triton.jit
def ripple(planes, carry, FIRST: tl.constexpr):
    """Adds 2^FIRST times the bits of `carry`."""
    out = ()
    for p in tl.static_range(len(planes)):
        if p < FIRST:
            out += (planes[p],)
        else:
            out += (planes[p] ^ carry,)
            carry = planes[p] & carry
    return out


@triton.jit
def add_two(planes, a, b):
    """Adds the bits of two words; at least two planes."""
    ones, carry = add3(planes[0], a, b)
    out = (ones,)
    for p in tl.static_range(1, len(planes)):
        out += (planes[p],)
    return ripple(out, carry, 1)


@triton.jit
def add_four(planes, a, b, c, d):
    """Adds the bits of four words; at least two planes."""
    ones, left = add3(planes[0], a, b)
    ones, right = add3(ones, c, d)
    twos, carry = add3(planes[1], left, right)
    out = (ones, twos)
    for p in tl.static_range(2, len(planes)):
        out += (planes[p],)
    return ripple(out, carry, 2)


@triton.jit
def add_number(planes, number):
    """Adds a bit-sliced number of at most as many planes."""
    carry = planes[0] & number[0]
    out = (planes[0] ^ number[0],)
    for p in tl.static_range(1, len(number)):
        both, next_carry = add3(planes[p], number[p], carry)
        out += (both,)
        carry = next_carry
    for p in tl.static_range(len(number), len(planes)):
        out += (planes[p],)
    return ripple(out, carry, len(number))
