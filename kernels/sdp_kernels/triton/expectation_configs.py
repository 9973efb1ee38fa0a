"""Tiles of the kernels of the Gaussian expectation, for each chip: the only table of them.

A tile changes the order of a sum, so it is a pure function of the kernel, the width, the precision and the chip, and
is never tuned at run time. `expectation_catalog.py` registers these lines (gradients and products up to width 64), and
two of the structures below that are kept in `expectation_candidates.py`: the report's candidates that lost.

What lost, at q = k = h = 64 and two layers unless it says otherwise; bytes of stack or scratch a thread, for tf32 /
tf32x3 (gfx942: xf32 / fp32); times predicted for 2^20 samples on an H100, bounds with no measurement behind them:

    structure, rows x warps                         sm_80        sm_90        sm_100        gfx942
    gradient, all sums carried in registers
      width 32, 64 x 4                              168 / 544    104 / 528    refused / 856   0 / 0
      width 32, 32 x 4                               48 / 224     48 / 216     32 / 200       0 / 0
    gradient, sums in memory, M xi and the
      difference of delta in registers, 64 x 8      592 / 1104     0 / 376    refused / 0   864 / 896
      the same, 32 x 4                               88 / 304      0 / 56       0 / 0         0 / 0
    gradient as shipped, 64 x 8                       8 / 480      0 / 320      0 / 0       264 / 312
    gradient as shipped, 32 x 4                       0 / 0        0 / 0        0 / 0         0 / 0
    products, one kernel, activations evaluated
      for each direction, whole operands, 32 x 4     -           224 / 464      -             -      12.8 / 24.8 ms
    products, one kernel, operands in chunks, 32 x 4  - / 560      0 / 0        -             -         - / 24.9 ms
    products, two kernels, operands in chunks          0 / 0 in the tiles below

Two passes, the gradient's other structure (delta and h of each draw to memory, sums as GEMMs afterwards), at 64 x 8:
912 bytes of stack in tf32x3 on sm_90 and 1.29 ms where the shipped one takes 0.69; in tf32 192 bytes, and its second
pass is refused. On gfx942 it spills 750 to 800 bytes, though the model has it ahead (0.57 to 0.67 of the shipped
time), as it has 32 wide in tf32x3 on an H100, without a spill (0.78), for heads without weights, points, losses or
further layers.

"refused": "PassManager::run failed", a drawn operand that meets the tensor core outside a loop, or whole operands. The
first gradient fails although the law is folded: without folding it takes kilobytes. Sixteen directions in b took 8.5 ms
(tf32x3) with activations evaluated for each, 8.6 ms kept from the primal pass but staged through memory as general
ones are, and take about 3.5 ms as shipped. Sixteen general products are 112 GEMMs of the head's width, where a value
is 1.5: by tensor work alone more than 20 values in tf32x3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

WIDTHS = (16, 32, 64, 128)
MAX_WIDTH = WIDTHS[-1]
MAX_DEPTH = 4
PRECISIONS = ("fast", "high")
# Tiles that a program adds up in float32 before its sums are taken over in float64.
MAX_TILES = 256


class Config(NamedTuple):
    """How a kernel is launched.

    Attributes:
        rows: draws in a tile, BS.
        columns: columns of xi drawn at a time, BQ.
        chunk: columns or rows of an operand loaded at a time, CHUNK (the kernels of Hessian-vector products).
        warps: warps (or waves) of a program.
        dot: `input_precision` of its dots.
        programs: programs that fill the chip.
        options: further options of the compiler.
    """

    rows: int
    columns: int
    chunk: int
    warps: int
    dot: str
    programs: int
    options: Mapping[str, str] = {}


# The compiler's own register allocation leaves 8 bytes of stack in kernels with tensor memory (tools/README.md).
OPTIONS: dict[str, dict[str, str]] = {"sm_100": {"ptx_options": "--regAllocOptLevel=4"}}
INTERPRETER = "interpreter"


def chip(device: torch.device) -> str:
    """Whose lines of the table serve a device: the chip itself, or the nearest older one.

    Consumer Blackwell (12.x) has the tensor cores of Ampere.
    """
    if device.type != "cuda":
        return INTERPRETER
    if torch.version.hip:
        return "gfx942"
    major, _ = torch.cuda.get_device_capability(device)
    return {9: "sm_90", 10: "sm_100"}.get(major, "sm_80")


def config(kernel: str, width: int, precision: str, chip: str) -> Config:
    """The tile of a kernel ("value", "grad", "hvp", "shift")."""
    if chip == INTERPRETER:
        # Few, large programs: a program costs 45 us and more.
        return Config(64, 16 if width == 16 else 32, 16, 4, "ieee", 64)
    rows, columns, chunk, warps = TILES[kernel, precision][chip][WIDTHS.index(width)]
    dot = "tf32" if precision == "fast" else "ieee" if chip == "gfx942" else "tf32x3"
    return Config(rows, columns, chunk, warps, dot, PROGRAMS[chip], OPTIONS.get(chip, {}))


# Programs that fill the chip: two on a multiprocessor.
PROGRAMS = {"sm_80": 216, "sm_90": 264, "sm_100": 296, "gfx942": 608}

# (rows, columns, chunk, warps) of the widths 16, 32, 64, 128. Only the "hvp" and "shift" kernels have chunks.
TILES: dict[tuple[str, str], dict[str, tuple[tuple[int, int, int, int], ...]]] = {
    ("value", "fast"): {
        "sm_80": ((128, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 4), (64, 32, 32, 8)),
        "sm_90": ((128, 16, 16, 4), (128, 32, 32, 8), (64, 32, 32, 4), (64, 32, 32, 8)),
        "sm_100": ((128, 16, 16, 4), (128, 32, 32, 8), (64, 32, 32, 4), (32, 32, 32, 8)),
        "gfx942": ((128, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 4), (32, 32, 32, 4)),
    },
    ("value", "high"): {
        "sm_80": ((64, 16, 16, 4), (128, 32, 32, 8), (32, 32, 32, 4), (16, 16, 16, 8)),
        "sm_90": ((128, 16, 16, 4), (128, 32, 32, 8), (64, 32, 32, 4), (16, 16, 16, 8)),
        "sm_100": ((128, 16, 16, 4), (128, 32, 32, 8), (64, 32, 32, 4), (64, 32, 32, 8)),
        "gfx942": ((128, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 4), (32, 32, 32, 4)),
    },
    ("grad", "fast"): {
        "sm_80": ((128, 16, 16, 4), (64, 32, 32, 4), (32, 32, 32, 4), (16, 16, 16, 8)),
        "sm_90": ((128, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 8), (16, 16, 16, 8)),
        "sm_100": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 8), (16, 16, 16, 8)),
        "gfx942": ((64, 16, 16, 4), (64, 32, 32, 4), (32, 32, 32, 4), (16, 16, 16, 4)),
    },
    ("grad", "high"): {
        "sm_80": ((64, 16, 16, 4), (64, 32, 32, 4), (32, 32, 32, 4), (16, 16, 16, 8)),
        "sm_90": ((64, 16, 16, 4), (64, 16, 16, 4), (32, 32, 32, 4), (16, 16, 16, 8)),
        "sm_100": ((64, 16, 16, 4), (64, 16, 16, 4), (64, 32, 32, 8), (16, 16, 16, 8)),
        "gfx942": ((64, 16, 16, 4), (64, 32, 32, 4), (32, 32, 32, 4), (16, 16, 16, 4)),
    },
    ("hvp", "fast"): {
        "sm_80": ((128, 16, 16, 8), (32, 32, 32, 4), (32, 32, 32, 8), (16, 16, 16, 8)),
        "sm_90": ((64, 16, 16, 4), (32, 32, 32, 4), (64, 32, 32, 8), (32, 32, 32, 8)),
        "sm_100": ((64, 16, 16, 4), (32, 32, 16, 4), (64, 32, 32, 8), (32, 32, 32, 8)),
        "gfx942": ((64, 16, 16, 4), (32, 32, 32, 4), (64, 32, 32, 4), (16, 16, 16, 4)),
    },
    ("hvp", "high"): {
        "sm_80": ((32, 16, 16, 8), (32, 32, 32, 4), (32, 32, 16, 8), (16, 16, 16, 8)),
        "sm_90": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 16, 8), (16, 16, 16, 8)),
        "sm_100": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 8), (16, 16, 16, 8)),
        "gfx942": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 4), (16, 16, 16, 4)),
    },
    ("shift", "fast"): {
        "sm_80": ((64, 16, 16, 8), (32, 32, 32, 4), (64, 32, 32, 4), (32, 32, 32, 8)),
        "sm_90": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 64, 4), (32, 32, 32, 8)),
        "sm_100": ((64, 16, 16, 4), (32, 32, 32, 4), (64, 32, 32, 4), (32, 32, 32, 8)),
        "gfx942": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 4), (32, 32, 32, 4)),
    },
    ("shift", "high"): {
        "sm_80": ((32, 16, 16, 4), (64, 32, 32, 4), (32, 32, 64, 4), (32, 32, 32, 8)),
        "sm_90": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 64, 4), (32, 32, 32, 8)),
        "sm_100": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 64, 4), (32, 32, 32, 8)),
        "gfx942": ((64, 16, 16, 4), (64, 32, 32, 4), (64, 32, 32, 4), (32, 32, 32, 4)),
    },
}
