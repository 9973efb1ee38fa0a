"""Small float32 matrix products for numba kernels: C (+)= A B, all row-major, in vector registers.

LLVM does not keep a tile of C in registers when numba writes the loops, and a BLAS call costs more than a product of
16 x 16 x 128 and gives bits that may depend on its threads. So the tile is emitted as LLVM vector code: MR rows of C
times NV vectors of LANES columns, one pass over the inner dimension in order. 4 x 4 tiles of 16 lanes fill half of
AVX-512's registers; where vectors are shorter LLVM splits them.

Columns of B and C come in whole vectors of LANES floats: callers pad. Every entry of C is one sum in order of the inner
index, whatever the tile, so the bits depend on shapes alone.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

LANES = 16  # floats a vector
_FLOAT, _INDEX = ir.FloatType(), ir.IntType(64)
_CONTRACT = ("contract",)  # a product and a sum may be one rounding


def tile_of(n_rows: int, n_vectors: int, accumulate: bool, number: ir.Type = _FLOAT) -> Any:
    """Intrinsic: tile(a, lda, b, ldb, c, ldc, depth), addresses in bytes, strides in numbers, depth >= 1."""
    vector_type = ir.VectorType(number, LANES)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        a, lda, b, ldb, c, ldc, depth = arguments
        a, b, c = (builder.inttoptr(address, number.as_pointer()) for address in (a, b, c))

        def vector_at(base: ir.Value, offset: ir.Value) -> ir.Value:
            return builder.bitcast(builder.gep(base, [offset]), vector_type.as_pointer())

        def c_at(row: int, vector: int) -> ir.Value:
            offset = builder.mul(ldc, ir.Constant(_INDEX, row))
            return vector_at(c, builder.add(offset, ir.Constant(_INDEX, LANES * vector)))

        cells = [(row, vector) for row in range(n_rows) for vector in range(n_vectors)]
        zero = ir.Constant(vector_type, [0.0] * LANES)
        start = {cell: builder.load(c_at(*cell), align=4) if accumulate else zero for cell in cells}
        rows = [builder.gep(a, [builder.mul(lda, ir.Constant(_INDEX, row))]) for row in range(n_rows)]
        before = builder.block
        loop = builder.append_basic_block("inner")
        done = builder.append_basic_block("done")
        builder.branch(loop)
        builder.position_at_end(loop)
        step = builder.phi(_INDEX)
        sums = {cell: builder.phi(vector_type) for cell in cells}
        offset = builder.mul(step, ldb)
        columns = [
            builder.load(vector_at(b, builder.add(offset, ir.Constant(_INDEX, LANES * vector))), align=4)
            for vector in range(n_vectors)
        ]
        lanes = ir.Constant(ir.VectorType(ir.IntType(32), LANES), [0] * LANES)
        following = {}
        for row in range(n_rows):
            scalar = builder.load(builder.gep(rows[row], [step]))
            undefined = ir.Constant(vector_type, ir.Undefined)
            single = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
            spread = builder.shuffle_vector(single, undefined, lanes)
            for vector in range(n_vectors):
                product = builder.fmul(spread, columns[vector], flags=_CONTRACT)
                following[row, vector] = builder.fadd(sums[row, vector], product, flags=_CONTRACT)
        next_step = builder.add(step, ir.Constant(_INDEX, 1))
        end = builder.block
        builder.cbranch(builder.icmp_signed("<", next_step, depth), loop, done)
        step.add_incoming(ir.Constant(_INDEX, 0), before)
        step.add_incoming(next_step, end)
        for cell in cells:
            sums[cell].add_incoming(start[cell], before)
            sums[cell].add_incoming(following[cell], end)
        builder.position_at_end(done)
        for cell in cells:
            builder.store(following[cell], c_at(*cell), align=4)
        return context.get_dummy_value()

    @intrinsic
    def tile(typing_context, a, lda, b, ldb, c, ldc, depth):  # type: ignore[no-untyped-def]
        return types.void(*[types.int64] * 7), emit

    return tile


_set_4x4, _set_4x2, _set_4x1 = (tile_of(4, vectors, False) for vectors in (4, 2, 1))
_set_1x4, _set_1x2, _set_1x1 = (tile_of(1, vectors, False) for vectors in (4, 2, 1))
_add_4x4, _add_4x2, _add_4x1 = (tile_of(4, vectors, True) for vectors in (4, 2, 1))
_add_1x4, _add_1x2, _add_1x1 = (tile_of(1, vectors, True) for vectors in (4, 2, 1))
_ROW = 4  # bytes of a float
_VECTOR_BYTES = 4 * LANES


@njit(cache=True, nogil=True)
def set_product(a, lda, b, ldb, c, ldc, n_rows, n_columns, depth):  # type: ignore[no-untyped-def]
    """C = A B: A (n_rows, depth), B (depth, n_columns), float32 at these addresses; depth >= 1.

    Strides are in floats, n_columns a multiple of LANES.
    """
    j, n_vectors = 0, n_columns // LANES
    while j < n_vectors:
        width = 4 if n_vectors - j >= 4 else (2 if n_vectors - j >= 2 else 1)
        bj, cj = b + j * _VECTOR_BYTES, c + j * _VECTOR_BYTES
        i = 0
        while i + 4 <= n_rows:
            ai, ci = a + i * lda * _ROW, cj + i * ldc * _ROW
            if width == 4:
                _set_4x4(ai, lda, bj, ldb, ci, ldc, depth)
            elif width == 2:
                _set_4x2(ai, lda, bj, ldb, ci, ldc, depth)
            else:
                _set_4x1(ai, lda, bj, ldb, ci, ldc, depth)
            i += 4
        while i < n_rows:
            ai, ci = a + i * lda * _ROW, cj + i * ldc * _ROW
            if width == 4:
                _set_1x4(ai, lda, bj, ldb, ci, ldc, depth)
            elif width == 2:
                _set_1x2(ai, lda, bj, ldb, ci, ldc, depth)
            else:
                _set_1x1(ai, lda, bj, ldb, ci, ldc, depth)
            i += 1
        j += width


@njit(cache=True, nogil=True)
def add_product(a, lda, b, ldb, c, ldc, n_rows, n_columns, depth):  # type: ignore[no-untyped-def]
    """C += A B, as `set_product`."""
    j, n_vectors = 0, n_columns // LANES
    while j < n_vectors:
        width = 4 if n_vectors - j >= 4 else (2 if n_vectors - j >= 2 else 1)
        bj, cj = b + j * _VECTOR_BYTES, c + j * _VECTOR_BYTES
        i = 0
        while i + 4 <= n_rows:
            ai, ci = a + i * lda * _ROW, cj + i * ldc * _ROW
            if width == 4:
                _add_4x4(ai, lda, bj, ldb, ci, ldc, depth)
            elif width == 2:
                _add_4x2(ai, lda, bj, ldb, ci, ldc, depth)
            else:
                _add_4x1(ai, lda, bj, ldb, ci, ldc, depth)
            i += 4
        while i < n_rows:
            ai, ci = a + i * lda * _ROW, cj + i * ldc * _ROW
            if width == 4:
                _add_1x4(ai, lda, bj, ldb, ci, ldc, depth)
            elif width == 2:
                _add_1x2(ai, lda, bj, ldb, ci, ldc, depth)
            else:
                _add_1x1(ai, lda, bj, ldb, ci, ldc, depth)
            i += 1
        j += width
