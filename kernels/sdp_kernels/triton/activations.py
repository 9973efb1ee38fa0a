"""Triton twin of `sdp_kernels.activations`: an activation and its derivatives in one pass over memory.

4 bytes an element read and 4 (order + 1) written, so memory is the bound: the 18 to 45 instructions of an element
(`_math.py`) hide behind it. x and the results are contiguous; program p has elements [p BLOCK, (p + 1) BLOCK).
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from sdp_kernels.triton._math import activate, activate1, activate2

BLOCK = 1024  # 8 elements a thread: two 16-byte loads
BLOCK_INTERPRETED = 1 << 16  # a program of the interpreter costs 45 us whatever its size
WARPS = 4


@triton.jit
def _activation_kernel(
    x_ptr,  # float32 (n,)
    f_ptr, d_ptr, h_ptr,  # float32 (n,); the last ones are not used where ORDER is below 2
    n, iota,  # n a multiple of 16 lets a thread load 16 bytes at once
    ACTIVATION: tl.constexpr, ORDER: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    """f, d, h = f(x), f'(x), f''(x)."""
    offs_n = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    mask_n = offs_n < n
    x = tl.load(x_ptr + offs_n, mask=mask_n, other=0.0)
    if ORDER == 0:
        tl.store(f_ptr + offs_n, activate(x, ACTIVATION, iota), mask=mask_n)
    elif ORDER == 1:
        f, d = activate1(x, ACTIVATION, iota)
        tl.store(f_ptr + offs_n, f, mask=mask_n)
        tl.store(d_ptr + offs_n, d, mask=mask_n)
    else:
        f, d, h = activate2(x, ACTIVATION, iota)
        tl.store(f_ptr + offs_n, f, mask=mask_n)
        tl.store(d_ptr + offs_n, d, mask=mask_n)
        tl.store(h_ptr + offs_n, h, mask=mask_n)


def evaluate(name: str, x: Tensor, order: int, iota: float) -> tuple[Tensor, ...]:
    """As the public `evaluate`, of a float32 tensor."""
    x = x.contiguous()
    found = tuple(torch.empty_like(x) for _ in range(order + 1))
    n = x.numel()
    block = BLOCK_INTERPRETED if triton.knobs.runtime.interpret else BLOCK
    if n:
        pointers = (*found, found[0], found[0])[:3]
        _activation_kernel[(triton.cdiv(n, block),)](
            x, *pointers, n, float(iota), ACTIVATION=name, ORDER=order, BLOCK=block, num_warps=WARPS
        )
    return found
