"""What `catalog.py` says of the dense random maps: kernels, tiles, costs and bars.

The problem is 65,536 rows of 10,000 features to 1024 components; a unit of the product is one multiply-add with an
entry of the map, which is as many on tensor cores as products of parts are kept. A launch over a slab takes a fifth of
the features. The yardsticks, "plain GEMM", are the same kernel with the whole map stored beforehand, cut already, on
the tiles that suit it best: no slab, no sums between, nothing to make.

Bytes from the second-level cache: X once a tile of components and the planes once a tile of rows, less what comes from
memory: X once, the result once (and once to and fro a slab).
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from sdp_kernels.triton import projection_rows
from sdp_kernels.triton.catalog import (
    GFX942,
    SM_90,
    TARGETS,
    Bars,
    Constant,
    Entry,
    Launch,
    Operation,
    Variant,
    Work,
)
from sdp_kernels.triton.expectation_configs import OPTIONS
from sdp_kernels.triton.projection_configs import Operands, Tile, operands, tile
from sdp_kernels.triton.projection_slab import COLUMNS, ROWS, WARPS

N, FEATURES, COMPONENTS = 65_536, 10_000, 1024
SLABS = 5
STORED = 96  # entries of a sparse row
AT_MOST = 1.15  # times a plain product

DTYPES = {
    "fp32": torch.float32,
    "fp16": torch.float16,
    "bf16": torch.bfloat16,
    "uint8": torch.uint8,
}
STORAGE = {"fp32": "float32", "fp16": "float16"}  # as `benchmarks/_gpu_calls.py` names those of operations
_POINTERS = {"fp32": "*fp32", "fp16": "*fp16", "bf16": "*bf16", "uint8": "*u8"}
_SIZES = {"fp32": 4, "fp16": 2, "bf16": 2, "uint8": 1}
_MODULE = "sdp_kernels.triton"

PLAIN: dict[tuple[str, str], dict[str, Tile]] = {
    ("signs", "fp32"): {
        "sm_80": Tile("planes", 128, 128, 32, 64, 8, 2),
        "sm_90": Tile("planes", 128, 128, 64, 64, 8, 2),
        "sm_100": Tile("planes", 128, 128, 64, 256, 8, 2),
        "gfx942": Tile("planes", 128, 128, 64, 64, 8, 2),
    },
    ("signs", "fp16"): {
        "sm_80": Tile("planes", 128, 128, 64, 0, 8, 2),
        "sm_90": Tile("planes", 128, 256, 64, 0, 8, 3),
        "sm_100": Tile("planes", 128, 128, 64, 0, 8, 2),
        "gfx942": Tile("planes", 128, 128, 64, 0, 8, 2),
    },
}
# Made in the loop where slabs are shipped, for the table of what lost.
MADE: dict[str, dict[str, Tile]] = {
    "signs": {
        "sm_80": Tile("signs", 128, 128, 32, 64, 8, 2),
        "sm_100": Tile("signs", 128, 128, 64, 256, 8, 2),
    },
    "normals": {
        "sm_80": Tile("normals", 128, 128, 32, 32, 8, 2),
        "sm_90": Tile("normals", 128, 128, 32, 32, 8, 2),
        "sm_100": Tile("normals", 128, 128, 32, 64, 8, 2),
        "gfx942": Tile("normals", 128, 128, 32, 32, 8, 1),
    },
}


def entries() -> tuple[Entry, ...]:
    """Products with signs and normals of every dtype, slabs, and sparse rows."""
    products = []
    for kind in ("signs", "normals"):
        for name in DTYPES:
            tiles = {target: tile(DTYPES[name], kind == "normals", target) for target in TARGETS}
            for source in ("signs", "planes"):
                chosen = {target: shape for target, shape in tiles.items() if shape.source == source}
                if chosen:
                    by = "-by-slabs" if source == "planes" else ""
                    products.append(_product(f"{kind}-{name}{by}", kind, name, chosen, is_whole=not by))
        for name in STORAGE:
            shapes = PLAIN.get((kind, name)) or {
                target: tile(DTYPES[name], kind == "normals", target) for target in TARGETS
            }
            products.append(_product(f"plain-{kind}-{name}", kind, name, shapes, is_whole=True))
    for kind, made in MADE.items():
        lost = _product(f"{kind}-fp32-made", kind, "fp32", made, is_whole=True)
        products.append(lost._replace(candidate=True, note="made in the loop, where slabs are shipped"))
    return (
        Entry("dense_map", f"{_MODULE}.projection_kernels:_dense_map_kernel", tuple(products)),
        Entry(
            "map_slab", f"{_MODULE}.projection_slab:_slab_kernel",
            (_slab("signs", "bf16", 1), _slab("signs", "fp16", 1), _slab("normals", "bf16", 3),
             _slab("normals", "fp16", 2), _slab("normals", "fp32", 1),
             _slab("normals", "fp32", 1, is_listed=True)),
        ),
        Entry(
            "map_of_rows", f"{_MODULE}.projection_rows:_rows_kernel",
            tuple(map(_rows, projection_rows.ENTRIES)),
        ),
    )  # fmt: skip


def operations() -> tuple[Operation, ...]:
    """Both maps of float32 and float16 rows beside plain products, and of sparse rows."""
    found = []
    for name, storage in STORAGE.items():
        shape: dict[str, Constant] = {
            "rows": N,
            "features": FEATURES,
            "components": COMPONENTS,
            "storage": storage,
        }
        for kind, words in (("signs", "rademacher"), ("normals", "gaussian")):
            plain = f"plain GEMM {words} {name}"
            found.append(Operation(plain, (("dense_map", f"plain-{kind}-{name}"),), "", {}))
            called = {**shape, "kind": words}
            planes = operands(DTYPES[name], kind == "normals", SM_90)
            filled = ("map_slab", f"{kind}-{planes.dtype}-{planes.planes}")
            slabs = (filled, ("dense_map", f"{kind}-{name}-by-slabs")) * SLABS
            if kind == "signs":
                steps = (("dense_map", f"{kind}-{name}"),)
                found.append(Operation(f"{words} map {name}", steps, "projection", called, plain, AT_MOST))
                found.append(
                    Operation(f"{words} map {name} by slabs", slabs, "projection", called, plain, AT_MOST)
                )
            else:
                found.append(Operation(f"{words} map {name}", slabs, "projection", called, plain))
    of_rows: dict[str, tuple[tuple[str, str], ...]] = {
        "rademacher": (("map_of_rows", "signs"),),
        "gaussian": (*(("map_slab", "normals-fp32-1"),) * SLABS, ("map_of_rows", "panel")),
    }
    for words, launched in of_rows.items():
        sparse: dict[str, Constant] = {
            "rows": N, "features": FEATURES, "components": COMPONENTS, "stored": STORED, "kind": words,
        }  # fmt: skip
        found.append(Operation(f"{words} map of sparse rows", launched, "sparse projection", sparse))
    return tuple(found)


def _product(label: str, kind: str, name: str, tiles: Mapping[str, Tile], *, is_whole: bool) -> Variant:
    """One line of `_dense_map_kernel`: a whole product, or a slab's that adds to what is there."""
    cuts = {target: operands(DTYPES[name], kind == "normals", target) for target in tiles}
    cut = next(iter(cuts.values()))
    launches = {
        target: Launch(
            num_warps=shape.warps,
            num_stages=shape.stages,
            constants={
                "SOURCE": shape.source, "BM": shape.rows, "BN": shape.columns, "BK": shape.features,
                "CHUNK": shape.chunk,
            },
            work=_work(name, cut, shape, is_whole),
            options=OPTIONS.get(target, {}),
        )
        for target, shape in tiles.items()
    }  # fmt: skip
    first = next(iter(launches.values()))
    return Variant(
        label,
        signature={
            "x_ptr": _POINTERS[name],
            "stride_x_row": "i32",
            "planes_ptr": _POINTERS[cut.dtype],
            "stride_plane": "i32",
            "stride_planes_row": "i32",
            "out_ptr": "*fp32",
            "stride_out_row": "i32",
            **dict.fromkeys(("n", "n_features", "k", "first_feature", "first_call"), "i32"),
            "seed": "i64",
            "purpose": "i32",
            "scale": "fp32",
        },
        constants={
            "stride_x_column": 1, "PARTS": cut.parts, "PLANES": cut.planes, "OPERAND": cut.dtype,
            "IS_FIRST": is_whole, "WIDE": False,
        },
        launches=launches,
        work=first.work or Work("multiply-add", 1),
        bars=Bars(tensor=True, wide_loads=name != "uint8"),
        aligned=(
            "stride_x_row", "stride_plane", "stride_planes_row", "stride_out_row", "n", "n_features", "k",
        ),
    )  # fmt: skip


def _work(name: str, cut: Operands, shape: Tile, is_whole: bool) -> Work:
    features = FEATURES if is_whole else FEATURES // SLABS
    planes = 2 * cut.planes if shape.source == "planes" else 0
    return Work(
        unit="multiply-add",
        units_per_pass=shape.rows * shape.columns * max(shape.chunk, shape.features),
        tensor_flops=2,
        tensor_passes=cut.products,
        tensor_type=cut.dtype,
        read_bytes=_SIZES[name] / COMPONENTS + (0 if is_whole else 4 / features),
        written_bytes=4 / features,
        cached_bytes=_SIZES[name] / shape.columns + planes / shape.rows,
        problem=float(N) * features * COMPONENTS,
    )


def _slab(kind: str, operand: str, planes: int, *, is_listed: bool = False) -> Variant:
    """A slab of a fifth of the features."""
    most = {"signs": (12, 24), "normals": (52 + 4 * planes, 64 + 8 * planes)}[kind]
    bars = Bars(instructions=most[0], registers=128)
    return Variant(
        f"{kind}-{operand}-{planes}" + ("-listed" if is_listed else ""),
        signature={
            "planes_ptr": _POINTERS[operand],
            "stride_plane": "i32",
            "stride_row": "i32",
            "features_ptr": "*i64",
            "n_features": "i32",
            "first_feature": "i32",
            "first_call": "i32",
            "column_tiles": "i32",
            "seed": "i64",
            "purpose": "i32",
        },
        constants={
            "SIGN": kind == "signs", "PLANES": planes, "OPERAND": operand, "LISTED": is_listed,
            "ROWS": ROWS, "COLUMNS": COLUMNS,
        },
        launches={target: Launch(num_warps=WARPS) for target in TARGETS},
        work=Work(
            "entry of the map", ROWS * COLUMNS, cached_bytes=_SIZES[operand] * planes,
            problem=FEATURES / SLABS * COMPONENTS, looped=False,
        ),
        bars=bars,
        target_bars={GFX942: bars._replace(instructions=most[1])},
        aligned=("stride_plane", "stride_row"),
    )  # fmt: skip


def _rows(kind: str) -> Variant:
    entries, columns = projection_rows.ENTRIES[kind], projection_rows.COLUMNS[kind]
    most = {"signs": 24, "normals": 60, "panel": 8}[kind]
    cached = 8 / columns + (4 if kind == "panel" else 0)
    bars = Bars(instructions=most, registers=168)
    return Variant(
        kind,
        signature={
            "indptr_ptr": "*i64",
            "indices_ptr": "*i32",
            "values_ptr": "*fp32",
            "panel_ptr": "*fp32",
            "stride_panel_row": "i32",
            "out_ptr": "*fp32",
            "stride_out_row": "i32",
            **dict.fromkeys(("k", "column_tiles"), "i32"),
            "seed": "i64",
            "purpose": "i32",
            "scale": "fp32",
        },
        constants={"SOURCE": kind, "ENTRIES": entries, "COLUMNS": columns},
        launches={target: Launch(num_warps=projection_rows.WARPS) for target in TARGETS},
        work=Work(
            "entry and component", entries * columns, flops=2, cached_bytes=cached,
            written_bytes=4 / STORED, problem=float(N) * STORED * COMPONENTS,
        ),
        bars=bars,
        target_bars={GFX942: bars._replace(instructions=2 * most)},
        aligned=("stride_panel_row", "stride_out_row", "k"),
        note=f"rows of {STORED} entries",
    )  # fmt: skip
