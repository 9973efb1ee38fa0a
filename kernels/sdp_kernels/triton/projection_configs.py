"""Tiles of the dense projections for each chip: the only table of them.

`chunk` and the choice between signs made in the product ("signs") and read from a slab ("planes") decide bits; the
rest does not. So a tile is a pure function of chip, rows' dtype and map, and never of the number of rows.

What lost, in predicted ms for 65,536 rows of 10,000 features and 1024 components (bounds, not measurements), and bytes
of stack a thread where they are not 0:

    signs, float32 rows          sm_80            sm_90            sm_100           gfx942
      made, 128 x 128, 8 warps   14.8 (16 B)      6.7 - 7.1        4.8              5.4 (12 B)
      made, 64 x 128, 4 warps    20.7 (216 B)     6.2 (shipped)    4.8 (16 B)       5.3 (shipped)
      from a slab                12.9 (shipped)   5.8              4.3 (shipped)    4.7
    signs, float16 rows
      made, 128 x 128            6.5              1.9 (shipped)    1.3 (shipped)    1.2 (shipped)
      made, 128 x 256            8.2              2.5              -                -
      from a slab                5.2 (shipped)    3.8, 2.9         2.3              1.2
    normals, float32 rows
      made, 128 x 128            34.9 (168 B)     17.9             15.3             11.8
      from a slab, shipped       25.9             10.7             8.0              7.9

On sm_80 a made tile's bits are expanded once for every warp that shares them: the compiler moves that work behind
the exchange between threads, and 14 instructions a sign remain where the others have 4 to 6. Elsewhere made signs save
the second-level cache half of its bytes and `out` its way to and fro a slab, which pays most where numbers are small.
Two signs from one shift of a word prepared for it (`projection_kernels.signs_of` shifts once a sign) took as many
instructions and more exchanges.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch

from sdp_kernels.triton.expectation_configs import INTERPRETER, OPTIONS

SLAB = 2048  # features of a slab of the map; part of the order of its sums
INTERPRETED = 1024  # features a step of the interpreter
PANEL = 1024  # components of a slab: 12.6 MB in three planes


class Tile(NamedTuple):
    """How the dense kernel is launched.

    Attributes:
        source: "signs" made in the loop, or "planes" read from a slab.
        rows: BM.
        columns: BN.
        features: BK.
        chunk: features summed on tensor cores before they are added outside; 0 for all of a launch.
        warps: warps (or waves) of a program.
        stages: of the pipelined loads.
        options: further options of the compiler.
    """

    source: str
    rows: int
    columns: int
    features: int
    chunk: int
    warps: int
    stages: int
    options: Mapping[str, str] = {}


class Operands(NamedTuple):
    """How rows and map are cut for the tensor cores.

    Attributes:
        dtype: "bf16", "fp16", or "fp32" in the interpreter, whose bfloat16 is wrong.
        parts: of a number of X.
        planes: of an entry of the map.
        products: of them that are kept.
    """

    dtype: str
    parts: int
    planes: int
    products: int


def operands(dtype: torch.dtype, is_normal: bool, chip: str) -> Operands:
    """Cuts that keep float32's accuracy: three parts of 8 bits, or two of 11."""
    if dtype in (torch.float32, torch.bfloat16):
        name = "fp32" if chip == INTERPRETER else "bf16"
        parts = 3 if dtype == torch.float32 else 1
        planes = 3 if is_normal else 1
        return Operands(name, parts, planes, 6 if parts * planes == 9 else parts * planes)
    return Operands("fp16", 1, 2, 2) if is_normal else Operands("fp16", 1, 1, 1)


def tile(dtype: torch.dtype, is_normal: bool, chip: str) -> Tile:
    """The tile of float32 rows, of 16-bit ones or of uint8, for normals or signs."""
    if chip == INTERPRETER:
        # Few, large steps: a device function costs 1 ms a call.
        chunk = INTERPRETED if dtype == torch.float32 else 0
        return Tile("planes" if is_normal else "signs", 256, 128, INTERPRETED, chunk, 4, 1)
    kind = {torch.float32: "fp32", torch.uint8: "uint8"}.get(dtype, "16-bit")
    return TILES["normals" if is_normal else "signs", kind][chip]._replace(options=OPTIONS.get(chip, {}))


TILES: dict[tuple[str, str], dict[str, Tile]] = {
    ("signs", "fp32"): {
        "sm_80": Tile("planes", 128, 128, 32, 64, 8, 2),
        "sm_90": Tile("signs", 64, 128, 32, 64, 4, 3),
        "sm_100": Tile("planes", 128, 128, 64, 256, 8, 2),
        "gfx942": Tile("signs", 64, 128, 32, 128, 4, 1),
    },
    ("signs", "16-bit"): {
        "sm_80": Tile("planes", 128, 128, 64, 0, 8, 2),
        "sm_90": Tile("signs", 128, 128, 64, 0, 4, 3),
        "sm_100": Tile("signs", 128, 128, 64, 0, 8, 2),
        "gfx942": Tile("signs", 128, 128, 64, 0, 4, 2),
    },
    ("signs", "uint8"): {
        "sm_80": Tile("planes", 128, 128, 64, 0, 8, 2),
        "sm_90": Tile("signs", 128, 128, 32, 0, 4, 3),
        "sm_100": Tile("signs", 128, 128, 64, 0, 8, 2),
        "gfx942": Tile("signs", 128, 128, 64, 0, 4, 2),
    },
    ("normals", "fp32"): {
        "sm_80": Tile("planes", 128, 128, 16, 32, 8, 3),
        "sm_90": Tile("planes", 128, 128, 64, 64, 8, 2),
        "sm_100": Tile("planes", 128, 128, 64, 64, 8, 2),
        "gfx942": Tile("planes", 128, 128, 64, 64, 8, 1),
    },
    ("normals", "16-bit"): {
        "sm_80": Tile("planes", 128, 128, 64, 0, 8, 2),
        "sm_90": Tile("planes", 128, 128, 64, 0, 8, 2),
        "sm_100": Tile("planes", 128, 128, 64, 0, 8, 2),
        "gfx942": Tile("planes", 128, 128, 32, 0, 8, 2),
    },
    ("normals", "uint8"): {
        "sm_80": Tile("planes", 128, 128, 64, 0, 8, 2),
        "sm_90": Tile("planes", 128, 128, 64, 0, 8, 3),
        "sm_100": Tile("planes", 128, 128, 64, 0, 8, 2),
        "gfx942": Tile("planes", 128, 128, 64, 0, 8, 2),
    },
}
