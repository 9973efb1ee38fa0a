"""Sums of gathered rows for numba kernels: out += sum_e weight_e row(column_e), in vector registers.

    gather_16, gather_32, gather_64    float32 rows, float32 sums, so many columns
    gather_16_double                   float32 rows, float64 sums of 16 columns
    gather_8_double                    float64 rows and weights, float64 sums of 8 columns
    gather_8_widened                   float32 rows, float64 sums of 8 columns

numba keeps a sum over a row whose length is known only at run time in memory, and loads and stores it at every entry;
here it stays in registers over all entries of a row. And each entry asks for the row that the entry AHEAD of it will
read: rows are many and read in no order that the processor could guess. Measured on one core of an EPYC (Zen 4), a
mixing sweep of 64, 32 and 16 columns takes .6, .4 and .4 of the time on R-MAT (10^6 edges), .57, .38 and .3 on a random
graph, .8 of it on a torus, whose order is guessed well. AHEAD from 16 to 24 are alike, 4 and 8 are slower.

The sum of one column is that of a loop over the entries in their order, product and sum fused where the machine can:
the bits of `acc[k] += weight * X[j, k]` under numba's `contract`.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

AHEAD = 16  # entries between the request for a row and its use
_LINE = 64  # bytes of a cache line
_FLOAT, _DOUBLE = ir.FloatType(), ir.DoubleType()
_BYTE, _INT, _LONG = ir.IntType(8), ir.IntType(32), ir.IntType(64)
_FUSED = ("contract",)
_declare: Any = cgutils.get_or_insert_function
_local: Any = cgutils.alloca_once


def _splat(builder: ir.IRBuilder, number: ir.Value, vector: ir.VectorType) -> ir.Value:
    undefined = ir.Constant(vector, ir.Undefined)
    first = builder.insert_element(undefined, number, ir.Constant(_INT, 0))
    return builder.shuffle_vector(
        first, undefined, ir.Constant(ir.VectorType(_INT, vector.count), [0] * vector.count)
    )


def _moved(builder: ir.IRBuilder, address: ir.Value, count: int, kind: ir.Type) -> ir.Value:
    """Pointer to a `kind`, `count` bytes beyond an address."""
    return builder.inttoptr(builder.add(address, ir.Constant(_LONG, count)), kind.as_pointer())


def _gather(n_columns: int, lanes: int, weight: ir.Type, entry: ir.Type, total: ir.Type) -> Any:
    """Intrinsic: gather(indices, weights, begin, end, last, rows, row_bytes, out), addresses as integers.

    `out` gains, over the entries from `begin` to `end`, weight times the first `n_columns` numbers of the row
    `row_bytes` times its index beyond `rows`. `last` is the last entry whose row may be asked for early.
    """
    entry_bytes, total_bytes = (4 if number == _FLOAT else 8 for number in (entry, total))
    read, summed = ir.VectorType(entry, lanes), ir.VectorType(total, lanes)

    @intrinsic
    def gather(typing_context, indices, weights, begin, end, last, rows, row_bytes, out):  # type: ignore[no-untyped-def]
        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            indices, weights, begin, end, last, rows, row_bytes, out = arguments
            column_of = builder.inttoptr(indices, _INT.as_pointer())
            weight_of = builder.inttoptr(weights, weight.as_pointer())

            def row_at(place: ir.Value) -> ir.Value:
                column = builder.sext(builder.load(builder.gep(column_of, [place])), _LONG)
                return builder.add(rows, builder.mul(column, row_bytes))

            prefetch = _declare(
                builder.module,
                ir.FunctionType(ir.VoidType(), [_BYTE.as_pointer(), _INT, _INT, _INT]),
                "llvm.prefetch.p0",
            )
            for_reading, near, of_data = (ir.Constant(_INT, number) for number in (0, 3, 1))
            vectors = range(n_columns // lanes)
            places = [_moved(builder, out, i * lanes * total_bytes, summed) for i in vectors]
            sums = [_local(builder, summed) for _ in vectors]
            for place, own in zip(places, sums, strict=True):
                builder.store(builder.load(place, align=total_bytes), own)
            with cgutils.for_range_slice(builder, begin, end, ir.Constant(_LONG, 1), _LONG) as (at, _):
                later = builder.add(at, ir.Constant(_LONG, AHEAD))
                asked = row_at(builder.select(builder.icmp_signed("<", later, last), later, last))
                for offset in range(0, n_columns * entry_bytes, _LINE):
                    builder.call(
                        prefetch, [_moved(builder, asked, offset, _BYTE), for_reading, near, of_data]
                    )
                row = row_at(at)
                factor = builder.load(builder.gep(weight_of, [at]))
                if weight != total:
                    factor = builder.fpext(factor, total)
                factors = _splat(builder, factor, summed)
                for i, own in enumerate(sums):
                    numbers = builder.load(
                        _moved(builder, row, i * lanes * entry_bytes, read), align=entry_bytes
                    )
                    if entry != total:
                        numbers = builder.fpext(numbers, summed)
                    product = builder.fmul(factors, numbers, flags=_FUSED)
                    builder.store(builder.fadd(builder.load(own), product, flags=_FUSED), own)
            for place, own in zip(places, sums, strict=True):
                builder.store(builder.load(own), place, align=total_bytes)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 8), emit

    return gather


gather_16, gather_32, gather_64 = (_gather(width, 16, _FLOAT, _FLOAT, _FLOAT) for width in (16, 32, 64))
gather_16_double = _gather(16, 8, _FLOAT, _FLOAT, _DOUBLE)
gather_8_double = _gather(8, 8, _DOUBLE, _DOUBLE, _DOUBLE)
gather_8_widened = _gather(8, 8, _FLOAT, _FLOAT, _DOUBLE)
