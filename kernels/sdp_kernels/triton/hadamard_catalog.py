"""What `catalog.py` says of the Hadamard transforms: kernels, tiles, costs and bars.

A unit is a number of a row filled up to N. The yardstick of every operation is the transform of rows of one number,
which copies: as many bytes, read and written at the same rate. Transforms read as much as they write; a subsampled
one of 10,000 features to 1024 reads 40,000 bytes and writes 4096 a row of 16,384.
"""

from __future__ import annotations

from collections.abc import Mapping

from sdp_kernels.triton import hadamard
from sdp_kernels.triton.catalog import (
    GFX942,
    SM_80,
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

NUMBERS = 2.0**29  # of an operation: 2 GiB read, 2 GiB written
FEATURES, COMPONENTS = 10_000, 1024  # of the subsampled transform
_MODULE = "sdp_kernels.triton.hadamard"
_LANES = {target: 64 if target == GFX942 else 32 for target in TARGETS}
_ROWS = {
    "x_ptr": "*fp32",
    "stride_x_row": "i32",
    "signs_ptr": "*i8",
    "out_ptr": "*fp32",
    "stride_out_row": "i32",
}
_SIZES = {"n_rows": "i32", "n_columns": "i32"}
_ONE_PASS = (12, 13, 14, 15)
INSTRUCTIONS, COPIED = 13, 30  # a number, beside one a level: loads, stores, exchanges, masks
AMD_MORE = 12  # moves into pairs of registers, for packed sums


def _bars(levels: int, more: int = 0) -> Bars:
    """Few instructions, no spill, loads of 16 bytes; a row of one number, the yardstick, is read number by number."""
    return Bars(instructions=levels + more + (INSTRUCTIONS if levels else COPIED), wide_loads=levels > 0)


def entries() -> tuple[Entry, ...]:
    """Transforms in one pass, further passes, the subsampled transform, and columns of H for sparse rows."""
    whole = (
        *(_whole(log) for log in (0, 7, *_ONE_PASS)),
        _whole(14, "*fp16"),
        _whole(
            14, group=14, note="an exchange wherever a bit changes hands: six through shared memory, not four"
        ),
    )
    return (
        Entry("fwht", f"{_MODULE}:_whole_kernel", whole),
        Entry("fwht_further", f"{_MODULE}:_further_kernel", (_further(5), _further(10))),
        Entry("srht", f"{_MODULE}:_sampled_kernel", tuple(map(_sampled, _ONE_PASS))),
        Entry("srht_columns", f"{_MODULE}:_columns_kernel", (_columns(),)),
    )


def operations() -> tuple[Operation, ...]:
    """Transforms of 2^29 numbers, and the subsampled one of 32,768 rows, beside a copy of as many bytes."""
    copy = Operation("copy 2^29 numbers", (("fwht", "2^0"),), "fwht", _shape(0))
    found = [copy]
    found += [
        Operation(f"fwht 2^{log}", (("fwht", f"2^{log}"),), "fwht", _shape(log), copy.name, 1.1)
        for log in (7, *_ONE_PASS)
    ]
    passes = (("fwht", "2^15"), ("fwht_further", "5 levels"))
    found.append(Operation("fwht 2^20", passes, "fwht", _shape(20), copy.name, 2.2))
    shape: dict[str, Constant] = {"rows": 2**15, "features": FEATURES, "components": COMPONENTS}
    steps = (("srht", "2^14"),)
    # It moves 1.445 GB, the copy 4.295: 0.34 is memory's bound, and a B200 is held up by shared memory.
    srht = Operation("srht 10,000 to 1024", steps, "srht", shape, copy.name, 0.45, (SM_80, SM_90, GFX942))
    found.append(srht)
    return tuple(found)


def _shape(log: int) -> Mapping[str, Constant]:
    return {"rows": int(NUMBERS) >> log, "features": 1 << log}


def _launches(log_numbers: int, log: int | None = None, group: int | None = None) -> dict[str, Launch]:
    """Launches for tiles of 2^log_numbers, and for rows of 2^log how each target exchanges them."""
    found = {}
    for target, lanes in _LANES.items():
        chosen = {} if log is None else {"GROUP": group or hadamard.group_of(log, lanes)}
        found[target] = Launch(num_warps=hadamard.warps_for(log_numbers, lanes), constants=chosen)
    return found


def _whole(log: int, pointer: str = "*fp32", group: int | None = None, note: str = "") -> Variant:
    log_rows = max(0, hadamard.LOG_TILE - log)
    label = f"2^{log}" + ("" if pointer == "*fp32" else f"-{pointer[1:]}") + ("-by-levels" if group else "")
    read = 4.0 if pointer == "*fp32" else 2.0
    return Variant(
        label,
        signature={**_ROWS, **_SIZES, "x_ptr": pointer},
        constants={"stride_x_column": 1, "LOG": log, "LOG_ROWS": log_rows, "SIGNED": False},
        launches=_launches(log_rows + log, log, group),
        work=Work(
            "number",
            1 << (log_rows + log),
            flops=log,
            read_bytes=read,
            written_bytes=4,
            problem=NUMBERS,
            looped=False,
        ),
        bars=_bars(log),
        target_bars={GFX942: _bars(log, AMD_MORE)},
        aligned=("stride_x_row", "stride_out_row", "n_columns"),
        candidate=group is not None,
        note=note,
    )


def _further(levels: int) -> Variant:
    w0, w1, log_columns = hadamard.further_tile(levels)
    log_numbers = levels + log_columns
    return Variant(
        f"{levels} levels",
        signature={
            "out_ptr": "*fp32", "stride_out_row": "i32", "inner": "i32", "n_groups": "i32", "n_tiles": "i32",
        },
        constants={"W0": w0, "W1": w1, "LOG_COLUMNS": log_columns},
        launches=_launches(log_numbers),
        work=Work(
            "number", 1 << log_numbers, flops=levels, read_bytes=4, written_bytes=4, problem=NUMBERS, looped=False
        ),
        bars=_bars(levels),
        target_bars={GFX942: _bars(levels, AMD_MORE)},
        aligned=("stride_out_row", "inner"),
    )  # fmt: skip


def _sampled(log: int) -> Variant:
    n = 1 << log
    features, components = (FEATURES, COMPONENTS) if log == 14 else (n, n // 16)
    launches = {
        target: launch
        for target, launch in _launches(log, log).items()
        if log <= hadamard.longest_sampled(_LANES[target])
    }
    note = "k = N / 16" + (
        "; gfx942 has no shared memory for it and samples from memory" if log == 15 else ""
    )
    return Variant(
        f"2^{log}",
        signature={**_ROWS, **_SIZES, "samples_ptr": "*i32", "n_samples": "i32", "scale": "fp32"},
        constants={"stride_x_column": 1, "LOG": log, "LOG_ROWS": 0, "BLOCK_K": components},
        launches=launches,
        work=Work(
            "number",
            n,
            flops=log,
            read_bytes=4.0 * features / n,
            written_bytes=4.0 * components / n,
            cached_bytes=1.0,
            problem=2.0**15 * n,
            looped=False,
        ),
        bars=_bars(log),
        target_bars={GFX942: _bars(log, AMD_MORE)},
        aligned=("stride_x_row", "stride_out_row", "n_columns"),
        note="" if log == 14 else note,
    )


def _columns() -> Variant:
    return Variant(
        "1024",
        signature={
            "indptr_ptr": "*i64", "indices_ptr": "*i32", "values_ptr": "*fp32", "signs_ptr": "*i8",
            "samples_ptr": "*i64", "out_ptr": "*fp32", "stride_out_row": "i32", "n_samples": "i32", "most": "i32",
            "scale": "fp32",
        },
        constants={"BLOCK_K": 1024},
        launches={target: Launch(num_warps=4) for target in TARGETS},
        work=Work("entry and component", 1024, flops=1, cached_bytes=9 / 1024, problem=2.0**15 * 48 * 1024),
        bars=Bars(instructions=24),
        target_bars={GFX942: Bars(instructions=40)},
        aligned=("stride_out_row",),
        note="rows of 48 entries",
    )  # fmt: skip
