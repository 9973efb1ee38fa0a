"""The lines of the graph operations in the catalogue.

The shapes are graphs of 10^6 edges, 2 10^6 entries, every vertex of one degree: 8 (250,000 vertices) or 16 (125,000).
A unit is an entry: its index and weight, its gathered row, and its share of an item and of the rows that are read and
written once a vertex. What is gathered counts as cached where V fits 40 MB, the smallest second-level cache here
(A100), else as read from memory. Where degrees vary, a row waits for passes of 4 entries: Poisson degrees of mean 8
take 19% more passes than entries, which bandwidth hides.

A sweep is a launch a colour class: CLASSES of them, all alike, as a greedy colouring finds at degree 8 on random
graphs; at degree 16 it finds 9 or 10. Launches that a CUDA graph replays follow one another faster than the report's
single ones, so its prediction of a sweep is a little dear.
"""

from __future__ import annotations

from typing import Any

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
from sdp_kernels.triton.graph import FOLD_NUMBERS, LOAD, PARTS, SLOTS, SQUARES_ITEMS, WHOLE, gpu_tile

MODULE = "sdp_kernels.triton.graph"
ENTRIES, CLASSES = 2.0e6, 6
DEGREES = (8, 16)
RANKS, STORAGES = (16, 32, 64), ("fp16", "fp32")
CACHE_BYTES = 40e6
HEAVY_ROWS, HEAVY_PARTS = 1024.0, 80  # of 10,240 entries each
# Most instructions an entry for each 16 bytes of a row that mixing gathers, NVIDIA and AMD. The gather's way through
# the second-level cache takes longer than issuing so many; on an MI300X, whose cache is faster, 1.3 times shorter.
MIXING_BARS = {"fp16": (56, 76), "fp32": (38, 56)}
# Most of mixing's predicted time over that of its bytes, each class a launch whose own cost (`Chip.launch_seconds`, or
# a node of a recorded graph) is left out: it is told with the operations.
MIXING_OVER_BYTES = 1.5
SIZES = {"i8": 1, "fp16": 2, "fp32": 4, "fp64": 8}

_PLAN = {
    "starts_ptr": "*i64",
    "counts_ptr": "*i32",
    "targets_ptr": "*i32",
}
_RANGE = {"first": "i64", "last": "i64"}


def entries() -> tuple[Entry, ...]:
    """A kernel an entry; columns, storage, mode and degree a variant."""
    mixing = [_mixing(rank, storage) for rank in RANKS for storage in STORAGES]
    mixing += [
        _mixing(32, "fp16", degree=16),
        _mixing(12, "fp32"),
        _mixing(33, "fp32"),
        _mixing(30, "fp16"),
        _mixing(128, "fp32"),
        _mixing(32, "fp16", changes=True),
        _mixing(32, "fp16", mode=PARTS),
        _mixing(32, "fp16", mode=SLOTS),
        _lost_mixing(
            "all-registers",
            "ptxas takes 32 and waits for each gather before the next, unseen by the model.",
            maxnreg=None,
        ),
        _lost_mixing("128-items", "Four rows a thread spill.", items=128),
        _lost_mixing("1-warp", "Four rows a lane spill here too.", num_warps=1),
    ]
    fields = [_fields(rank, storage) for rank in RANKS for storage in STORAGES] + [
        _fields(33, "fp16"),
        _fields(32, "fp32", SLOTS),
    ]
    chebyshev = [
        _chebyshev(4),
        _chebyshev(4, degree=16),
        _chebyshev(8),
        _chebyshev(4, PARTS),
        _chebyshev(4, SLOTS),
    ]
    products = [
        _product(1, "fp32"),
        _product(7, "fp32"),
        _product(4, "fp64"),
        _product(16, "fp32"),
        _product(4, "fp64", SLOTS),
    ]
    gains = [_product(columns, "i8", own=True) for columns in (1, 32, 64)]
    return (
        Entry("graph_mixing", f"{MODULE}:_mixing_kernel", tuple(mixing)),
        Entry("graph_fields", f"{MODULE}:_fields_kernel", tuple(fields)),
        Entry("graph_chebyshev", f"{MODULE}:_chebyshev_kernel", tuple(chebyshev)),
        Entry("graph_product", f"{MODULE}:_product_kernel", (*products, *gains)),
        Entry("graph_fold", f"{MODULE}:_fold_kernel", (_fold(1, "fp32"), _fold(4, "fp64"))),
    )


def operations() -> tuple[Operation, ...]:
    """One call each on a graph of 10^6 edges."""
    found = []
    for degree in DEGREES:
        shape: dict[str, Constant] = {"vertices": int(ENTRIES) // degree, "degree": degree}
        for rank in RANKS if degree == DEGREES[0] else (32,):
            for storage in STORAGES if degree == DEGREES[0] else ("fp16",):
                rows: dict[str, Constant] = {**shape, "columns": rank, "storage": storage}
                step = ("graph_mixing", label(rank, storage, degree=degree))
                name = f"r{rank} {storage} degree {degree}"
                found.append(Operation(f"mixing sweep {name}", (step,) * CLASSES, "mixing sweep", rows))
                if degree == DEGREES[0]:
                    step = ("graph_fields", label(rank, storage))
                    found.append(Operation(f"fields {name}", (step,), "fields", rows))
        steps = (
            ("graph_chebyshev", label(4, "fp64", degree=degree)),
            *[("graph_fold", label(4, "fp64"))] * 2,
        )
        found.append(
            Operation(f"chebyshev step degree {degree}", steps, "chebyshev step", {**shape, "columns": 4})
        )
    shape = {"vertices": int(ENTRIES) // DEGREES[0], "degree": DEGREES[0]}
    gains = (("graph_product", label(32, "i8")),)
    found.append(Operation("gains of 32 replicas", gains, "gains", {**shape, "replicas": 32}))
    product = (("graph_product", label(16, "fp32")),)
    found.append(
        Operation(
            "adjacency product", product, "adjacency product", {**shape, "columns": 16, "storage": "fp32"}
        )
    )
    return tuple(found)


def label(columns: int, storage: str, mode: str = WHOLE, degree: int = 8, changes: bool = False) -> str:
    """Name of a variant."""
    parts = (f"r{columns}", storage, "" if degree == 8 else f"degree{degree}", "changes" if changes else "")
    return "-".join(part for part in (*parts, "" if mode == WHOLE else mode) if part)


def _mixing(rank: int, storage: str, mode: str = WHOLE, degree: int = 8, changes: bool = False) -> Variant:
    row = rank * SIZES[storage]
    pointers = {"V_ptr": f"*{storage}", "omega_ptr": "*fp32", "changes_ptr": "*fp32"}
    work = _work(degree, row, row, row + (4 if changes else 0), ENTRIES / CLASSES, flops=2 * rank)
    variant = _variant(
        label(rank, storage, mode, degree, changes), (rank, storage), pointers, mode, work, degree,
        {"first_change": "i64"}, {"CHANGES": changes},
    )  # fmt: skip
    if row % LOAD == 0 and mode == WHOLE:
        variant = variant._replace(bars=variant.bars._replace(over_bytes=MIXING_OVER_BYTES))
    if mode != WHOLE or changes or row % 32:
        return variant
    nvidia, amd = (row / LOAD * most for most in MIXING_BARS[storage])
    on_amd = variant.bars._replace(instructions=amd)
    return variant._replace(bars=variant.bars._replace(instructions=nvidia), target_bars={GFX942: on_amd})


def _lost_mixing(name: str, note: str, **changes: Any) -> Variant:
    """Mixing rows of 32 halves in another launch, to be shown beside what is shipped."""
    shipped = _mixing(32, "fp16")
    launches = {}
    for target, launch in shipped.launches.items():
        items: Any = changes.get("items", launch.constants["ITEMS"])
        work = launch.work or shipped.work
        launches[target] = launch._replace(
            num_warps=changes.get("num_warps", launch.num_warps),
            maxnreg=changes.get("maxnreg", launch.maxnreg),
            constants={"ITEMS": items},
            work=work._replace(units_per_pass=items * DEGREES[0]),
        )
    return shipped._replace(label=f"{shipped.label}-{name}", launches=launches, candidate=True, note=note)


def _fields(rank: int, storage: str, mode: str = WHOLE) -> Variant:
    row = rank * SIZES[storage]
    pointers = {"V_ptr": f"*{storage}", "lengths_ptr": "*fp32", "products_ptr": "*fp32"}
    work = _work(8, row, row, 8, ENTRIES, flops=2 * rank)
    return _variant(label(rank, storage, mode), (rank, storage), pointers, mode, work, 8)


def _chebyshev(columns: int, mode: str = WHOLE, degree: int = 8) -> Variant:
    names = ("X_ptr", "previous_ptr", "diagonal_ptr", "squares_ptr")
    row = 8 * columns
    written = row + row / SQUARES_ITEMS
    work = _work(degree, row, 2 * row + 8, written, ENTRIES, flops=2 * columns, weight=8)
    return _variant(
        label(columns, "fp64", mode, degree), (columns, "fp64"), dict.fromkeys(names, "*fp64"), mode, work, degree,
        {"first_square": "i64"}, items=SQUARES_ITEMS, weights="fp64", bars=Bars(fp64=None),
    )  # fmt: skip


def _product(columns: int, storage: str, mode: str = WHOLE, own: bool = False) -> Variant:
    weights = "fp64" if storage == "fp64" else "fp32"
    row, written = columns * SIZES[storage], columns * SIZES[weights]
    pointers = {"X_ptr": f"*{storage}", "product_ptr": f"*{weights}"}
    work = _work(8, row, row if own else 0, written, ENTRIES, flops=2 * columns, weight=SIZES[weights])
    bars = Bars(fp64=None) if storage == "fp64" else Bars()
    return _variant(
        label(columns, storage, mode), (columns, storage), pointers, mode, work, 8,
        constants={"TIMES_OWN": own}, weights=weights, bars=bars,
    )  # fmt: skip


def _fold(columns: int, storage: str) -> Variant:
    rows = FOLD_NUMBERS // columns
    size = SIZES[storage] * columns
    return Variant(
        label(columns, storage),
        signature={"values_ptr": f"*{storage}", "sums_ptr": "*fp64", "n": "i32"},
        constants={"R": columns, "ROWS": rows, "COLUMNS": columns},
        launches=dict.fromkeys(TARGETS, Launch(num_warps=4)),
        work=Work("row", rows, cached_bytes=size, problem=ENTRIES / 8 / SQUARES_ITEMS, looped=False),
        bars=Bars(fp64=None, wide_loads=size >= LOAD),
    )


def _work(
    degree: int, row: float, read: float, written: float, problem: float, flops: float, weight: int = 4
) -> Work:
    """Costs of an entry, from the bytes of a gathered row and of what a vertex reads and writes besides."""
    once = 16 + written
    gathered = row + read / degree
    fits = row * ENTRIES / degree <= CACHE_BYTES
    return Work(
        "entry",
        1,
        flops=flops,
        read_bytes=4 + weight + 16 / degree + (0 if fits else gathered),
        written_bytes=(once - 16) / degree,
        cached_bytes=gathered,
        problem=problem,
        looped=False,
    )


def _variant(
    name: str,
    rows: tuple[int, str],
    pointers: dict[str, str],
    mode: str,
    work: Work,
    degree: int,
    more: dict[str, str] | None = None,
    constants: dict[str, Constant] | None = None,
    items: int | None = None,
    weights: str = "fp32",
    bars: Bars | None = None,
) -> Variant:
    """A variant with tiles as the launchers choose them; more: arguments after the range of items."""
    columns, storage = rows
    width = 1 << (columns - 1).bit_length()
    arrays: dict[str, str] = {
        "indices_ptr": "*i32",
        "weights_ptr": f"*{weights}",
        **_PLAN,
        "scratch_ptr": f"*{weights}",
    }
    size = SIZES[storage]
    trips: dict[str, tuple[float, ...]] = dict.fromkeys(TARGETS, (degree / 4,))
    if mode == SLOTS:  # ptxas unrolls its passes by four and leaves a loop for the rest
        trips = dict.fromkeys(TARGETS, (HEAVY_PARTS / 16, 0.0)) | {GFX942: (HEAVY_PARTS / 4,)}
        work = work._replace(
            unit="part", read_bytes=columns * SIZES[weights], written_bytes=0, cached_bytes=0,
            problem=HEAVY_ROWS * HEAVY_PARTS,
        )  # fmt: skip
    launches = {}
    for target in TARGETS:
        n_items, warps, registers = gpu_tile(
            mode, columns * size, width * size, items, 64 if target == GFX942 else 32
        )
        entries_a_pass = n_items * (HEAVY_PARTS if mode == SLOTS else degree)
        launches[target] = Launch(
            warps, 1, {"ITEMS": n_items}, None if target == GFX942 else registers,
            work._replace(units_per_pass=entries_a_pass, inner_trips=trips[target]),
        )  # fmt: skip
    numbers: dict[str, Any] = {"R": columns, "COLUMNS": width, "MODE": mode, **(constants or {})}
    is_even = columns * size % LOAD == 0  # others are loaded in pieces, which take registers of their own
    bars = (bars or Bars())._replace(
        registers=96 if is_even else 192,
        resident_programs=4 if is_even else 2,
        wide_loads=is_even and mode != SLOTS,
    )
    return Variant(
        name,
        signature={**pointers, **arrays, **_RANGE, **(more or {})},
        constants=numbers,
        launches=launches,
        work=work,
        bars=bars,
    )
