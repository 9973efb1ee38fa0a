"""What `catalog.py` says of the sparse maps: kernels, tiles, costs and bars.

Dense rows: a unit is a row of 10,000 numbers to 1024 components, and the yardstick a copy (`fwht` of rows of one
number) whose time is scaled to the 44,096 bytes of a row. Passes of the inner loops are those of a blocked map with s
entries a feature: STEPS of four slots that the longest list of 64 components takes in a panel of 1024 features.
Sparse rows: a unit is an entry and block, or an entry and component, in rows of 100 entries.
"""

from __future__ import annotations

from sdp_kernels.triton import projection_sparse as sparse
from sdp_kernels.triton._sparse_maps import CHUNK, CHUNKS, FEATURES
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

_MODULE = "sdp_kernels.triton.projection_sparse"
ROWS, D, K, STORED = 2**15, 10_000, 1024, 100  # of an operation
STEPS = {8: 4.2, 4: 2.75, 1: 1.25}  # by s, for seed 0
_PANELS = -(-D // FEATURES)
DENSE_BARS = (0.8, 0.57, 0.44)  # of the yardstick's time; memory's bound is 0.34, 1.3 times that 0.44
_DENSE = {
    "x_ptr": "*fp32", "stride_x_row": "i32", "out_ptr": "*fp32", "stride_out_row": "i32", "words_ptr": "*i64",
    "starts_ptr": "*i32", "scratch_ptr": "*fp32", "n_rows": "i32", "n_columns": "i32", "k": "i32", "n_panels": "i32",
    "n_row_tiles": "i32", "scale": "fp32",
}  # fmt: skip
_SPARSE = {
    "indptr_ptr": "*i64", "indices_ptr": "*i32", "values_ptr": "*fp32", "out_ptr": "*fp32", "stride_out_row": "i32",
    "seed": "i64", "purpose": "i32", "scale": "fp32",
}  # fmt: skip


def entries() -> tuple[Entry, ...]:
    """Dense rows by panels, and sparse rows of both kinds of map."""
    return (
        Entry("sparse_map", f"{_MODULE}:_panel_kernel", tuple(map(_dense, STEPS))),
        Entry("blocked_rows", f"{_MODULE}:_blocked_rows_kernel", (_blocked_rows(8), _blocked_rows(1))),
        Entry("listed_rows", f"{_MODULE}:_listed_rows_kernel", (_listed_rows(),)),
    )


def operations() -> tuple[Operation, ...]:
    """Dense rows at s = 8, 4 and 1 beside a copy of as many bytes; sparse rows of 100 entries."""
    # The yardstick moves 8 bytes a number: 2^29 of them, 4.29 GB; rows of 44,096 bytes, ROWS of them, 1.44 GB.
    shape: dict[str, Constant] = {"rows": ROWS, "features": D, "components": K, "kind": "blocked"}
    dense = {**shape, "storage": "fp32"}
    found = [
        Operation(
            f"blocked {D:,} to {K}, s = {s}",
            (("sparse_map", f"s{s}"),),
            "projection",
            {**dense, "kind": f"blocked {s}"},
            "copy 2^29 numbers",
            bar,
            (SM_90,),
        )
        for s, bar in zip(STEPS, DENSE_BARS, strict=True)
    ]
    rows = {**shape, "stored": STORED}
    steps = (("blocked_rows", "s8"),)
    found.append(Operation(f"blocked {STORED} entries to {K}, s = 8", steps, "sparse projection", rows))
    return tuple(found)


def _dense(s: int) -> Variant:
    table = 8 * CHUNK * CHUNKS * STEPS[s]  # bytes a panel
    work = Work(
        unit="row",
        units_per_pass=sparse.ROWS,
        flops=2.0 * D * s,
        read_bytes=4.0 * D,
        written_bytes=4.0 * K,
        # The scratch is written to the second level and read from it once into the first.
        cached_bytes=8.0 * D + _PANELS * table / sparse.ROWS,
        problem=ROWS,
    )
    launches = {}
    for target in TARGETS:
        # The loops that fill the scratch and empty it are unrolled by some compilers.
        staged = () if target == GFX942 else (FEATURES / sparse.STAGED,)
        emptied = () if target in (SM_90, GFX942) else (CHUNKS,)
        trips = (_PANELS, *staged, *[STEPS[s]] * CHUNKS, *emptied)
        launches[target] = Launch(
            num_warps=sparse.PANEL_THREADS // (64 if target == GFX942 else 32),
            maxnreg=None if target == GFX942 else sparse.REGISTERS,
            constants={"WAIT": target == GFX942},
            work=work._replace(inner_trips=trips),
        )
    return Variant(
        f"s{s}",
        signature=_DENSE,
        constants={
            "stride_x_column": 1, "ROWS": sparse.ROWS, "FEATURES": FEATURES, "STAGED": sparse.STAGED, "CHUNK": CHUNK,
            "CHUNKS": CHUNKS,
        },
        launches=launches,
        work=work,
        bars=Bars(wide_loads=True, resident_programs=sparse.PROGRAMS_A_MULTIPROCESSOR),
        target_bars={GFX942: Bars(wide_loads=True)},
        aligned=("stride_x_row", "stride_out_row", "n_columns"),
        note="gathers hit the first-level cache, whose rate per line the model does not know",
    )  # fmt: skip


def _blocked_rows(s: int) -> Variant:
    rows = sparse.ROWS_LANES // s
    return Variant(
        f"s{s}",
        signature={**_SPARSE, "starts_ptr": "*i32", "n_rows": "i32", "n_blocks": "i32"},
        constants={"ROWS": rows, "S": s},
        launches={target: Launch(num_warps=1) for target in TARGETS},
        work=Work(
            "entry and block",
            rows * s,
            flops=1,
            read_bytes=8 / s + 4 * K / STORED / s,
            written_bytes=4 * K / STORED / s,
            problem=float(ROWS * STORED * s),
        ),
        bars=Bars(instructions=160),
        target_bars={GFX942: Bars(instructions=260)},
        aligned=("stride_out_row",),
        note="bound by two lines of the first-level cache a unit, which the model does not count",
    )


def _listed_rows() -> Variant:
    return Variant(
        "1024",
        signature={**_SPARSE, "k": "i32", "limit": "i32"},
        constants={"CALLS": sparse.LISTED // 4},
        launches={target: Launch(num_warps=4) for target in TARGETS},
        work=Work(
            "entry and component",
            sparse.LISTED,
            flops=1,
            cached_bytes=8 / K,
            written_bytes=4 / STORED,
            problem=float(ROWS * STORED * K),
        ),
        bars=Bars(instructions=32),
        target_bars={GFX942: Bars(instructions=60)},
        aligned=("stride_out_row",),
    )
