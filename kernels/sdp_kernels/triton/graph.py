"""Triton twin of `sdp_kernels.graph`: one kernel an operation, over the items of the row plan (`_rows.py`).

Each kernel sums a tile of items (`_sparse.item_sums`), stores the sums of parts of heavy rows in their slots, and
finishes whole rows; in another mode the same kernel finishes heavy rows from their slots. With m edges (2m entries),
c columns of `size` bytes, an operation moves

    2m (8 + c size) + n (16 + own rows)    bytes: index, weight and gathered row an entry (12 in float64), an item a row

where own rows are: product c size; mixing 2 c size (read and written); fields c size + 8; chebyshev (3 c + 1) 8. What
is gathered mostly hits the second-level cache up to n c size of about its size, and the memory's bandwidth bounds it
beyond. All sums of rows are float32 (float64 in `chebyshev_step` and float64 products), with multiply-adds that round
once, in the order of the entries; float64 elsewhere only in the last sums (`_fold_kernel`).

A sweep is one or two launches a colour class. One program that walks through several small classes, a barrier after
each, would save next to none: greedy colourings leave at most two small classes in a row without heavy rows (3,224 and
14 rows on a random graph of degree 8, 175 and 3 by preferential attachment; on R-MAT each of 45 has heavy rows).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.utils.weak import WeakIdKeyDictionary

from sdp_kernels.graph import CSR
from sdp_kernels.triton._capture import Captured
from sdp_kernels.triton._rows import RowPlan, load_items, row_plan
from sdp_kernels.triton._sparse import item_sums, load_rows, scaled, slot_sums, store_rows

THREADS = 128
LOAD = 16  # bytes
FEWEST_ITEMS, MOST_ITEMS = 8, 64
# On NVIDIA. Without a limit ptxas saves registers (32, where it takes 48 with this) by waiting for each of the four
# gathers of a pass before it starts the next.
REGISTERS = 64
ITEMS_INTERPRETED = 4096  # a program of the interpreter costs 45 us whatever its size
MOST_COLUMNS = 64  # of a tile, where columns do not depend on one another
MOST_REPLICAS = 64  # of a pass of `gains`, whose copies take 5 bytes a vertex and replica
SQUARES_ITEMS = 64  # items whose squares are added in a tile; part of the result
SQUARES_COLUMNS = 16  # of a tile of so many items
FOLD_NUMBERS = 4096  # of a tile of `_fold_kernel`; part of the result

WHOLE, PARTS, SLOTS = (
    "whole",
    "parts",
    "slots",
)  # all items are rows; some are parts; heavy rows from their slots

_PARTS, _SLOTS = tl.constexpr(PARTS), tl.constexpr(SLOTS)
_SQUARES_ITEMS = tl.constexpr(SQUARES_ITEMS)


@triton.jit
def _tile_sums(
    X_ptr, indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last, columns,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, MODE: tl.constexpr,
):  # fmt: skip
    """Sums (ITEMS, COLUMNS) of this program's rows; the rows, int32; the mask of those that are finished here."""
    if MODE == _SLOTS:
        sums, rows, mask = slot_sums(scratch_ptr, targets_ptr, starts_ptr, first, columns, R, COLUMNS)
    else:
        starts, counts, rows, mask, passes = load_items(
            starts_ptr, counts_ptr, targets_ptr, first, last, ITEMS
        )
        sums = item_sums(X_ptr, indices_ptr, weights_ptr, starts, counts, passes, columns, R, ITEMS, COLUMNS)
        if MODE == _PARTS:
            store_rows(scratch_ptr, sums, -1 - rows, mask & (rows < 0), columns, R, COLUMNS)
            mask = mask & (rows >= 0)
    return sums, rows, mask


@triton.jit(do_not_specialize=["first", "last"])
def _product_kernel(
    X_ptr, product_ptr,  # (n, R), row-major; sums in the type of the weights
    indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, MODE: tl.constexpr, TIMES_OWN: tl.constexpr,
):  # fmt: skip
    """product_i = sum_j w_ij x_j, with TIMES_OWN times x_i: what `gains` are."""
    first = tl.cast(first, tl.int64) + tl.program_id(0).to(tl.int64) * ITEMS
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sums, rows, mask = _tile_sums(
        X_ptr, indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last, columns,
        R, ITEMS, COLUMNS, MODE,
    )  # fmt: skip
    if TIMES_OWN:
        sums *= load_rows(X_ptr, rows, mask, columns, R, COLUMNS).to(sums.dtype)
    store_rows(product_ptr, sums, rows, mask, columns, R, COLUMNS)


@triton.jit(do_not_specialize=["first", "last", "first_square"])
def _chebyshev_kernel(
    X_ptr, previous_ptr, diagonal_ptr, squares_ptr,  # float64 (n, R), (n, R), (n,), (n_squares, R)
    indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last, first_square,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, MODE: tl.constexpr,
):  # fmt: skip
    """P <- 2 (diagonal x + sums) - P of `previous`; squares are added over SQUARES_ITEMS items, or a heavy row."""
    first = tl.cast(first, tl.int64) + tl.program_id(0).to(tl.int64) * ITEMS
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    sums, rows, mask = _tile_sums(
        X_ptr, indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last, columns,
        R, ITEMS, COLUMNS, MODE,
    )  # fmt: skip
    diagonal = tl.load(diagonal_ptr + rows, mask=mask, other=0)
    x = load_rows(X_ptr, rows, mask, columns, R, COLUMNS)
    sums = tl.fma(tl.broadcast_to(diagonal[:, None], (ITEMS, COLUMNS)), x, sums)
    new = 2.0 * sums - load_rows(previous_ptr, rows, mask, columns, R, COLUMNS)
    store_rows(previous_ptr, new, rows, mask, columns, R, COLUMNS)
    squares = tl.where(mask[:, None], new * new, 0.0)
    GROUP: tl.constexpr = 1 if MODE == _SLOTS else _SQUARES_ITEMS
    GROUPS: tl.constexpr = ITEMS // GROUP
    squares = tl.sum(tl.reshape(squares, (GROUPS, GROUP, COLUMNS)), axis=1)
    group = first_square + tl.program_id(0) * GROUPS + tl.arange(0, GROUPS)
    is_group = tl.arange(0, GROUPS) * GROUP < last - first
    store_rows(squares_ptr, squares, group, is_group, columns, R, COLUMNS)


@triton.jit(do_not_specialize=["first", "last", "first_change"])
def _mixing_kernel(
    V_ptr, omega_ptr, changes_ptr,  # float32 or float16 (n, R); float32 (1,); float32 (n_items + n_heavy,)
    indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last, first_change,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, MODE: tl.constexpr, CHANGES: tl.constexpr,
):  # fmt: skip
    """V <- normalize(-(1 + omega) g / |g| - omega V), the rows of one class; g . (new v - old v) if CHANGES."""
    item = tl.cast(first, tl.int64) + tl.program_id(0).to(tl.int64) * ITEMS
    columns = tl.arange(0, COLUMNS)
    sums, rows, mask = _tile_sums(
        V_ptr, indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, item, last, columns,
        R, ITEMS, COLUMNS, MODE,
    )  # fmt: skip
    omega = tl.load(omega_ptr)
    old = load_rows(V_ptr, rows, mask, columns, R, COLUMNS).to(tl.float32)
    g, _, is_moved = scaled(sums)
    # Rows of zeros stay; 1 keeps their arithmetic finite.
    towards = -(1.0 + omega) * tl.rsqrt(tl.where(is_moved, tl.sum(g * g, axis=1), 1.0))
    v = towards[:, None] * g - omega * old
    length = tl.sum(v * v, axis=1)
    v *= tl.rsqrt(tl.where(is_moved, length, 1.0))[:, None]
    new = v.to(V_ptr.dtype.element_ty)
    is_moved = mask & is_moved
    store_rows(V_ptr, new, rows, is_moved, columns, R, COLUMNS)
    if CHANGES:
        change = tl.sum(sums * (new.to(tl.float32) - old), axis=1)
        place = item + first_change + tl.arange(0, ITEMS)
        is_item = item + tl.arange(0, ITEMS) < last
        tl.store(changes_ptr + place, tl.where(is_moved, change, 0.0), mask=is_item)


@triton.jit(do_not_specialize=["first", "last"])
def _fields_kernel(
    V_ptr, lengths_ptr, products_ptr,  # float32 or float16 (n, R); float32 (n,) both
    indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last,
    R: tl.constexpr, ITEMS: tl.constexpr, COLUMNS: tl.constexpr, MODE: tl.constexpr,
):  # fmt: skip
    """lengths_i = |g_i|, products_i = g_i . v_i."""
    first = tl.cast(first, tl.int64) + tl.program_id(0).to(tl.int64) * ITEMS
    columns = tl.arange(0, COLUMNS)
    sums, rows, mask = _tile_sums(
        V_ptr, indices_ptr, weights_ptr, starts_ptr, counts_ptr, targets_ptr, scratch_ptr, first, last, columns,
        R, ITEMS, COLUMNS, MODE,
    )  # fmt: skip
    own = load_rows(V_ptr, rows, mask, columns, R, COLUMNS).to(tl.float32)
    g, unit, _ = scaled(sums)
    tl.store(lengths_ptr + rows, unit * tl.sqrt(tl.sum(g * g, axis=1)), mask=mask)
    tl.store(products_ptr + rows, tl.sum(sums * own, axis=1), mask=mask)


@triton.jit(do_not_specialize=["n"])
def _fold_kernel(
    values_ptr, sums_ptr,  # float32 or float64 (n, R) -> float64 (n_programs, R)
    n, R: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """Column sums of each ROWS rows, in float64: the last sums of what kernels left in parts."""
    program = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * COLUMNS + tl.arange(0, COLUMNS)
    rows = program * ROWS + tl.arange(0, ROWS)
    values = load_rows(values_ptr, rows, rows < n, columns, R, COLUMNS).to(tl.float64)
    tl.store(sums_ptr + program * R + columns, tl.sum(values, axis=0), mask=columns < R)


def adjacency_product(csr: CSR, X: Tensor) -> Tensor:
    """See the public operation."""
    product = torch.empty_like(X)
    _product(csr, X, product, times_own=False)
    return product


def gains(csr: CSR, signs: Tensor) -> Tensor:
    """See the public operation. Signs are turned to (n, replicas) first: a gather of single bytes moves 32 each."""
    n_replicas, n = signs.shape
    gained = torch.empty((n_replicas, n), dtype=torch.float32, device=signs.device)
    for start in range(0, n_replicas, MOST_REPLICAS):
        block = signs[start : start + MOST_REPLICAS]
        own = signs.new_zeros((n, triton.next_power_of_2(len(block))))  # powers of two: seven kernels, not 64
        own[:, : len(block)] = block.t()
        product = torch.empty(own.shape, dtype=torch.float32, device=signs.device)
        _product(csr, own, product, times_own=True)
        gained[start : start + MOST_REPLICAS] = product.t()[: len(block)]
    return gained


def _product(csr: CSR, X: Tensor, product: Tensor, times_own: bool) -> None:
    plan = row_plan(csr.indptr)
    scratch = plan_scratch(plan, X, csr.weights.dtype)
    columns = min(MOST_COLUMNS, triton.next_power_of_2(max(1, X.shape[1])))
    for mode, first, last, lists in _passes(plan, 0):
        items, options = tile(mode, last - first, X, columns)
        grid = (triton.cdiv(last - first, items), triton.cdiv(X.shape[1], columns))
        if grid[1]:
            _product_kernel[grid](
                X, product, csr.indices, csr.weights, *lists, scratch, first, last,
                R=X.shape[1], ITEMS=items, COLUMNS=columns, MODE=mode, TIMES_OWN=times_own, **options,
            )  # fmt: skip


def chebyshev_step(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor) -> Tensor:
    """See the public operation."""
    plan = row_plan(csr.indptr)
    scratch = plan_scratch(plan, X, torch.float64)
    columns = min(SQUARES_COLUMNS, triton.next_power_of_2(max(1, X.shape[1])))
    n_squares = triton.cdiv(plan.starts.numel(), SQUARES_ITEMS)
    squares = torch.empty(
        (n_squares + plan.heavy_rows.numel(), X.shape[1]), dtype=torch.float64, device=X.device
    )
    for mode, first, last, lists in _passes(plan, 0):
        items, options = tile(mode, last - first, X, columns, SQUARES_ITEMS)
        grid = (triton.cdiv(last - first, items), triton.cdiv(X.shape[1], columns))
        if grid[1]:
            _chebyshev_kernel[grid](
                X, previous, diagonal, squares, csr.indices, csr.weights, *lists, scratch, first, last,
                n_squares if mode == SLOTS else 0,
                R=X.shape[1], ITEMS=items, COLUMNS=columns, MODE=mode, **options,
            )  # fmt: skip
    return _fold(squares)


@dataclass(frozen=True)
class _Steps:
    """What two recorded Chebyshev steps use besides X, which `_steps` holds weakly.

    Attributes:
        tensors: addresses that were recorded.
        plan: of the graph.
        squares: float64 (2, c), of the two steps.
        captured: the launches.
    """

    tensors: tuple[int, ...]
    plan: RowPlan
    squares: Tensor
    captured: Captured


_steps = WeakIdKeyDictionary()


def chebyshev_steps(csr: CSR, diagonal: Tensor, X: Tensor, previous: Tensor, n_steps: int) -> Tensor:
    """See the public operation. Two steps are recorded together: after them X and `previous` are where they were."""
    squares = torch.empty((n_steps, X.shape[1]), dtype=torch.float64, device=X.device)
    plan = row_plan(csr.indptr)
    tensors = tuple(t.data_ptr() for t in (X, previous, diagonal, csr.indices, csr.weights))
    pair: _Steps | None = _steps.get(X)
    if pair is None or pair.plan is not plan or pair.tensors != tensors:
        with torch.inference_mode(False):  # kept for later calls, which may be made outside of it
            pair = _steps[X] = _Steps(
                tensors,
                plan,
                torch.empty((2, X.shape[1]), dtype=torch.float64, device=X.device),
                Captured(X.device),
            )
    recorded = pair

    def two_steps() -> None:
        recorded.squares[0] = chebyshev_step(csr, diagonal, X, previous)
        recorded.squares[1] = chebyshev_step(csr, diagonal, previous, X)

    for step in range(0, n_steps - 1, 2):
        recorded.captured.run(two_steps)
        squares[step : step + 2] = recorded.squares
    if n_steps % 2:
        squares[-1] = chebyshev_step(csr, diagonal, X, previous)
    return squares


def fields(csr: CSR, V: Tensor) -> tuple[Tensor, Tensor]:
    """See the public operation. Rows are summed in float32 and widened by torch."""
    plan = row_plan(csr.indptr)
    scratch = plan_scratch(plan, V, torch.float32)
    make = torch.empty if V.shape[1] else torch.zeros
    lengths, products = (make(csr.n_vertices, dtype=torch.float32, device=V.device) for _ in range(2))
    columns = triton.next_power_of_2(max(1, V.shape[1]))
    if V.shape[1]:
        for mode, first, last, lists in _passes(plan, 0):
            items, options = tile(mode, last - first, V, columns)
            _fields_kernel[(triton.cdiv(last - first, items),)](
                V, lengths, products, csr.indices, csr.weights, *lists, scratch, first, last,
                R=V.shape[1], ITEMS=items, COLUMNS=columns, MODE=mode, **options,
            )  # fmt: skip
    return lengths.double(), products.double()


def mixing_sweeps(
    csr: CSR, class_ptr: Tensor, V: Tensor, omega: float, n_sweeps: int, changes: Tensor | None
) -> None:
    """See the public operation. The launches of a sweep are recorded once for each V and graph."""
    plan = row_plan(csr.indptr, class_ptr)
    if V.numel() == 0:
        if changes is not None:
            changes.zero_()
        return
    sweep = _sweep_of(csr, plan, V, changes is not None)
    sweep.omega.fill_(omega)
    for number in range(n_sweeps):
        sweep.captured.run(lambda: _launch_sweep(csr, plan, V, sweep))
        if changes is not None:
            changes[number] = sweep.change[0]


@dataclass(frozen=True)
class _Sweep:
    """What the recorded launches of a sweep read and write besides V, which `_sweeps` holds weakly.

    Attributes:
        tensors: addresses that were recorded.
        plan: of the graph.
        omega: float32 (1,).
        scratch: sums of parts of heavy rows.
        row_changes: float32 (n_items + n_heavy, 1), or None.
        change: float64 (1,), their sum.
        captured: the launches.
    """

    tensors: tuple[int, ...]
    plan: RowPlan
    omega: Tensor
    scratch: Tensor
    row_changes: Tensor | None
    change: Tensor
    captured: Captured


_sweeps = WeakIdKeyDictionary()


def _sweep_of(csr: CSR, plan: RowPlan, V: Tensor, has_changes: bool) -> _Sweep:
    tensors = (V.data_ptr(), csr.indices.data_ptr(), csr.weights.data_ptr())
    kept: dict[bool, _Sweep] = _sweeps.setdefault(V, {})
    sweep = kept.get(has_changes)
    if sweep is None or sweep.plan is not plan or sweep.tensors != tensors:
        n_changes = plan.starts.numel() + plan.heavy_rows.numel()
        with torch.inference_mode(False):  # as in `chebyshev_steps`
            sweep = kept[has_changes] = _Sweep(
                tensors,
                plan,
                omega=torch.empty(1, dtype=torch.float32, device=V.device),
                scratch=plan_scratch(plan, V, torch.float32),
                row_changes=torch.empty((n_changes, 1), dtype=torch.float32, device=V.device)
                if has_changes
                else None,
                change=torch.zeros(1, dtype=torch.float64, device=V.device),
                captured=Captured(V.device),
            )
    return sweep


def _launch_sweep(csr: CSR, plan: RowPlan, V: Tensor, sweep: _Sweep) -> None:
    columns = triton.next_power_of_2(V.shape[1])
    has_changes = sweep.row_changes is not None
    for colour in range(plan.n_classes):
        for mode, first, last, lists in _passes(plan, colour):
            items, options = tile(mode, last - first, V, columns)
            _mixing_kernel[(triton.cdiv(last - first, items),)](
                V, sweep.omega, sweep.row_changes if has_changes else sweep.omega, csr.indices, csr.weights,
                *lists, sweep.scratch, first, last, plan.starts.numel() if mode == SLOTS else 0,
                R=V.shape[1], ITEMS=items, COLUMNS=columns, MODE=mode, CHANGES=has_changes, **options,
            )  # fmt: skip
    if sweep.row_changes is not None:
        sweep.change.copy_(_fold(sweep.row_changes))


def plan_scratch(plan: RowPlan, X: Tensor, dtype: torch.dtype) -> Tensor:
    """Slots for the sums of parts of heavy rows: (n_slots, columns of X), at least one number."""
    return torch.empty((max(1, plan.n_slots), max(1, X.shape[1])), dtype=dtype, device=X.device)


def tile(
    mode: str, n_items: int, X: Tensor, columns: int, items: int | None = None
) -> tuple[int, dict[str, Any]]:
    """Items of a tile of so many columns, and the options of its launch over `n_items` items of rows of X.

    Where `items` are asked for, a tile takes a multiple of them; heavy rows are taken one by one.
    """
    if triton.knobs.runtime.interpret:
        most = max(items or 1, min(ITEMS_INTERPRETED, triton.next_power_of_2(n_items)))
        return 1 if mode == SLOTS else most, {}
    is_amd = torch.version.hip is not None
    size = X.element_size()
    items, warps, registers = gpu_tile(mode, X.shape[1] * size, columns * size, items, 64 if is_amd else 32)
    options = {"num_warps": warps, "num_stages": 1}
    return items, options if is_amd or registers is None else {**options, "maxnreg": registers}


def gpu_tile(
    mode: str, row_bytes: int, tile_bytes: int, items: int | None, lanes: int
) -> tuple[int, int, int | None]:
    """Items, warps of so many lanes, and the limit of registers on NVIDIA, for tiles of `tile_bytes` of a row.

    A lane takes 16 bytes of a row, and there are at least twice as many threads as items (see `_sparse.py`).
    """
    row = max(2, tile_bytes // LOAD)
    if mode == SLOTS:
        return 1, max(1, min(4, row // lanes)), None
    items = items or max(FEWEST_ITEMS, min(MOST_ITEMS, THREADS // row))
    threads = min(4 * THREADS, items * row)
    # Rows that are loaded in pieces of less than 16 bytes, or lanes that take more, need registers of their own.
    is_even = row_bytes % LOAD == 0 and items * row <= threads
    return items, max(1, threads // lanes), REGISTERS if is_even else None


def _passes(plan: RowPlan, colour: int) -> list[tuple[str, int, int, tuple[Tensor, Tensor, Tensor]]]:
    """The one or two launches over a class: mode, first and last item (or heavy row), and the lists they are in."""
    first, last = plan.class_items[colour : colour + 2]
    first_heavy, last_heavy = plan.class_heavy[colour : colour + 2]
    mode = PARTS if last_heavy > first_heavy else WHOLE
    passes = [(mode, first, last, (plan.starts, plan.counts, plan.targets))] if last > first else []
    if mode == PARTS:
        passes.append((SLOTS, first_heavy, last_heavy, (plan.heavy_slots, plan.counts, plan.heavy_rows)))
    return passes


def _fold(values: Tensor) -> Tensor:
    """Column sums, float64 (c,), of float32 or float64 (n, c): by tiles of one size, until one row is left."""
    n_columns = values.shape[1]
    columns = min(MOST_COLUMNS, triton.next_power_of_2(max(1, n_columns)))
    rows = FOLD_NUMBERS // columns
    while len(values) > 1 or values.dtype != torch.float64:
        n = len(values)
        sums = torch.empty((triton.cdiv(n, rows), n_columns), dtype=torch.float64, device=values.device)
        if n == 0 or n_columns == 0:
            return values.new_zeros(n_columns, dtype=torch.float64)
        _fold_kernel[(len(sums), triton.cdiv(n_columns, columns))](
            values, sums, n, R=n_columns, ROWS=rows, COLUMNS=columns, num_warps=4
        )
        values = sums
    return values[0] if len(values) else values.new_zeros(n_columns)
