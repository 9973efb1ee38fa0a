"""The lines of the exact probit cut in the catalogue.

The problem is a graph of 2^20 edges of degree 8 (2^18 vertices, 2^21 CSR entries) and r = 32; a unit is a CSR entry. A
program is counted whole: its tile's rows have 8 entries each, 2 passes of GROUP, so that what a row costs once (its
stretch of the plan, its numbers, its results) is spread over its 8 entries. Gathers count as cached: V of this
problem is 32 MB, a vertex's two or three numbers 2 to 4 MB.
"""

from __future__ import annotations

from sdp_kernels.triton._rows import GROUP
from sdp_kernels.triton.catalog import (
    GFX942,
    TARGETS,
    Bars,
    Constant,
    Entry,
    Launch,
    Operation,
    Variant,
    Work,
)
from sdp_kernels.triton.probit_cut import (
    BLOCK,
    LAW_TILE,
    LONG_REGISTERS,
    MAX_COLUMNS,
    MOMENTS_REGISTERS,
    PRODUCT_REGISTERS,
    PRODUCT_TILE,
    TILE,
    TOTAL_LANES,
    TOTAL_STEPS,
    WARPS,
)
from sdp_kernels.triton.probit_cut_law import SUMS

DEGREE = 8
RANKS = (32, 64)
EDGES = 2.0**20
LAW_ITEMS = LAW_TILE // GROUP
PLAN = 16  # bytes of an item of the row plan

_LAW = "sdp_kernels.triton.probit_cut_law"
_ROWS = "sdp_kernels.triton.probit_cut_rows"
_ITEMS = {"starts_ptr": "*i64", "counts_ptr": "*i32", "targets_ptr": "*i32"}
_PLAN = {**_ITEMS, "slot_rows_ptr": "*i32", "indices_ptr": "*i32"}
_RESULTS = {"gradient_ptr": "*fp32", "diagonal_ptr": "*fp32", "values_ptr": "*fp32"}
PARTS = 80  # of a heavy row, as a vertex of degree 10,000 has


def entries() -> tuple[Entry, ...]:
    """Every kernel, those of a few heavy rows included."""
    return (
        Entry("probit_lengths", f"{_ROWS}:_lengths_kernel", tuple(map(_lengths, RANKS))),
        Entry("probit_moments", f"{_ROWS}:_moments_kernel", (*map(_moments, RANKS), _moments(160))),
        Entry("probit_standardise", f"{_LAW}:_standardise_kernel", (_standardise(),)),
        Entry(
            "probit_law", f"{_LAW}:_law_kernel", tuple(map(_law, ("value", "derivatives", "both", "plain")))
        ),
        Entry("probit_law_heavy", f"{_LAW}:_law_heavy_kernel", (_law_heavy(),)),
        Entry("probit_scaled_law", f"{_LAW}:_scaled_law_kernel", (_scaled_law(),)),
        Entry(
            "probit_product",
            f"{_ROWS}:_product_kernel",
            (*(_product(rank) for rank in RANKS), _product(32, is_heavy=True)),
        ),
        Entry("probit_total", f"{_LAW}:_total_kernel", tuple(map(_total, ("rows", "rest")))),
    )


def operations() -> tuple[Operation, ...]:
    """A value, and a value with both gradients, of a million edges."""
    shape: dict[str, Constant] = {"vertices": int(2 * EDGES / DEGREE), "degree": DEGREE, "columns": 32}
    moments = (("probit_lengths", "r32"), ("probit_moments", "r32"), ("probit_standardise", "all"))
    total = (("probit_total", "rows"), ("probit_total", "rest"))
    value = (*moments, ("probit_law", "value"), *total)
    both = (*moments, ("probit_law", "both"), *total, ("probit_product", "r32"))
    return (
        Operation("probit cut of 2^20 edges, r 32", value, "probit cut value", shape),
        Operation("probit cut and gradients of 2^20 edges, r 32", both, "probit cut gradient", shape),
    )


def _entry_work(
    items: int, *, row_bytes: float, read: float, written: float, cached: float, flops: float
) -> Work:
    """Costs of an entry; `row_bytes` are read once a row, as the plan is."""
    return Work(
        unit="entry",
        units_per_pass=items * DEGREE,
        inner_trips=(DEGREE / GROUP,),
        flops=flops,
        read_bytes=read + (PLAN + row_bytes) / DEGREE,
        written_bytes=written,
        cached_bytes=cached,
        problem=2 * EDGES,
        looped=False,
    )


def _vertex_work(
    unit: str, per_program: float, read: float, written: float, *, trips: tuple[float, ...] = ()
) -> Work:
    return Work(
        unit=unit,
        units_per_pass=per_program,
        inner_trips=trips,
        read_bytes=read,
        written_bytes=written,
        problem=2 * EDGES / DEGREE,
        looped=False,
    )


def _everywhere(registers: int | None = None) -> dict[str, Launch]:
    """As `probit_cut.options`: as many threads on AMD, whose waves have 64 lanes."""
    return {
        target: Launch(WARPS // 2) if target == GFX942 else Launch(WARPS, maxnreg=registers)
        for target in TARGETS
    }


def _heavy(work: Work) -> dict[str, Launch]:
    """A program a row. ptxas takes four passes of the loop at a time, and has a loop for what is left."""
    unrolled = work._replace(inner_trips=(work.inner_trips[0] / 4, 0))
    return {target: Launch(1, work=work if target == GFX942 else unrolled) for target in TARGETS}


def _lengths(rank: int) -> Variant:
    rows = TILE // rank
    return Variant(
        f"r{rank}",
        signature={
            "V_ptr": "*fp32",
            "variances_ptr": "*fp32",
            "vertices_ptr": "*fp32",
            "n": "i32",
            "noise": "fp32",
        },
        constants={"R": rank, "ROWS": rows, "COLUMNS": rank},
        launches=_everywhere(),
        work=_vertex_work("vertex", rows, 4.0 * rank, 16.0),
        bars=Bars(registers=64, wide_loads=True),
    )


def _moments(rank: int) -> Variant:
    columns = min(rank, MAX_COLUMNS)
    items = TILE // columns
    return Variant(
        f"r{rank}",
        signature={
            **_PLAN, "V_ptr": "*fp32", "vertices_ptr": "*fp32", "covariances_ptr": "*fp32",
            "complements_ptr": "*fp32", "n_items": "i32",
        },
        constants={"R": rank, "ITEMS": items, "COLUMNS": columns},
        launches=_everywhere(MOMENTS_REGISTERS if rank <= columns else LONG_REGISTERS),
        work=_entry_work(
            items, row_bytes=4.0 * rank + 12, read=4.0, written=8.0, cached=4.0 * rank + 12, flops=7.0 * rank + 12
        ),
        bars=Bars(registers=96 if rank <= columns else LONG_REGISTERS, wide_loads=True),
        note="degree 8; every lane that holds a part of v_j repeats the entry's 25 instructions",
    )  # fmt: skip


def _standardise() -> Variant:
    return Variant(
        "all",
        signature={"mean_ptr": "*fp32", "variances_ptr": "*fp32", "vertices_ptr": "*fp32", "n": "i32"},
        constants={"BLOCK": BLOCK},
        launches=_everywhere(),
        work=_vertex_work("vertex", BLOCK, 8.0, 8.0),
        bars=Bars(registers=64),
        aligned=("n",),
    )


def _law(label: str) -> Variant:
    is_value, is_derivative = label != "derivatives", label not in ("value", "plain")
    is_complement = label != "plain"
    row = 8.0 + 4.0 * is_value + 8.0 * is_derivative
    return Variant(
        label,
        signature={
            **_PLAN, "weights_ptr": "*fp32", "covariances_ptr": "*fp32", "complements_ptr": "*fp32",
            "vertices_ptr": "*fp32", "entries_ptr": "*fp32", **_RESULTS, "sums_ptr": "*fp32", "n_items": "i32",
        },
        constants={
            "ITEMS": LAW_ITEMS, "VALUE": is_value, "DERIVATIVES": is_derivative, "COMPLEMENTS": is_complement,
        },
        launches=_everywhere(),
        work=_entry_work(
            LAW_TILE,
            row_bytes=row,
            read=12.0 + 4.0 * is_complement,
            written=4.0 * is_derivative,
            cached=8.0,
            flops=60.0 + 40.0 * is_value + 10.0 * is_derivative,
        ),
        bars=Bars(registers=64, instructions=250.0, resident_programs=8),
        target_bars={GFX942: Bars(registers=64, instructions=320.0, resident_programs=8)},
        note="degree 8",
    )  # fmt: skip


def _law_heavy() -> Variant:
    work = _vertex_work("part", PARTS, 4.0 * SUMS, 12.0 / PARTS, trips=(PARTS / GROUP,))
    return Variant(
        "both",
        signature={
            "heavy_rows_ptr": "*i32", "heavy_slots_ptr": "*i64", "vertices_ptr": "*fp32", "sums_ptr": "*fp32",
            **_RESULTS,
        },
        constants={"VALUE": True, "DERIVATIVES": True},
        launches=_heavy(work),
        work=work,
        note=f"{PARTS} parts a row, as a vertex of degree 10,000 has",
    )  # fmt: skip


def _scaled_law() -> Variant:
    return Variant(
        "all",
        signature={
            **_PLAN, **dict.fromkeys(("covariances_ptr", "complements_ptr", "variances_ptr"), "*fp32"),
            "scaled_covariances_ptr": "*fp32", "scaled_complements_ptr": "*fp32",
            "n_items": "i32", "scale_square": "fp32", "noise": "fp32",
        },
        constants={"ITEMS": LAW_ITEMS},
        launches=_everywhere(),
        work=_entry_work(LAW_ITEMS, row_bytes=4.0, read=12.0, written=8.0, cached=4.0, flops=26.0)._replace(
            inner_trips=(1,)
        ),
        bars=Bars(registers=64, instructions=150.0),
        target_bars={GFX942: Bars(registers=64, instructions=200.0)},
        note="degree 8; once a step of homotopy",
    )  # fmt: skip


def _product(columns: int, *, is_heavy: bool = False) -> Variant:
    items = 1 if is_heavy else PRODUCT_TILE // columns
    if is_heavy:
        read, written = 4.0 * columns * (1 + 1 / PARTS), 4.0 * columns / PARTS
        work = _vertex_work("part", items * PARTS, read, written, trips=(PARTS / GROUP,))
    else:
        work = _entry_work(
            items,
            row_bytes=4.0 + 4.0 * columns,
            read=8.0,
            written=4.0 * columns / DEGREE,
            cached=4.0 * columns,
            flops=2.0 * columns,
        )
    return Variant(
        f"r{columns}-heavy" if is_heavy else f"r{columns}",
        signature={
            **_ITEMS, "indices_ptr": "*i32", "entries_ptr": "*fp32", "diagonal_ptr": "*fp32", "X_ptr": "*fp32",
            "product_ptr": "*fp32", "sums_ptr": "*fp32", "n_items": "i32",
        },
        constants={"R": columns, "ITEMS": items, "COLUMNS": columns, "HEAVY": is_heavy},
        launches=_heavy(work) if is_heavy else _everywhere(PRODUCT_REGISTERS),
        work=work,
        bars=Bars(registers=64, resident_programs=8, wide_loads=not is_heavy),
        note=f"{PARTS} parts a row, as a vertex of degree 10,000 has" if is_heavy else "degree 8",
    )  # fmt: skip


def _total(label: str) -> Variant:
    """Of the rows' values, and of what its programs left."""
    per_program = TOTAL_LANES * TOTAL_STEPS
    work = _vertex_work("number", per_program, 4.0, 8.0 / per_program)
    if label == "rest":
        work = work._replace(read_bytes=8.0, problem=2 * EDGES / DEGREE / per_program)
    return Variant(
        label,
        signature={"values_ptr": "*fp32" if label == "rows" else "*fp64", "partial_ptr": "*fp64", "n": "i32"},
        constants={"LANES": TOTAL_LANES, "STEPS": TOTAL_STEPS},
        launches=_everywhere(),
        work=work,
        bars=Bars(fp64=None),
        aligned=("n",),
        note="the final sum, in float64",
    )
