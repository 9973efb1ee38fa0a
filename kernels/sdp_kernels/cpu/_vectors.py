"""Vectors of 16 numbers for numba kernels, emitted as LLVM vector code: transposes, signed sums, butterflies.

numba's loops reach such code only where LLVM's second vectoriser is on (`NUMBA_SLP_VECTORIZE=1`), which is a switch of
the whole process and of its users' own kernels; emitting the vectors needs no switch. 16 float32 fill a register of
AVX-512; LLVM splits vectors where registers are shorter, and doubles everywhere.

Intrinsics take an array, `like`, of which they read the dtype only, so that one kernel serves several dtypes. (A
factory of kernels would not do: numba caches no closure over intrinsics.) Addresses and strides are in bytes. Sums
and differences are those of the lanes one by one, so the bits are those of the same loop over scalars.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 16
RUN = 128  # numbers that a transform takes in eight registers: seven levels
FLOAT, DOUBLE = ir.FloatType(), ir.DoubleType()
_BYTE, _INT = ir.IntType(8), ir.IntType(32)


def _vector_at(builder: ir.IRBuilder, address: ir.Value, number: ir.Type) -> ir.Value:
    return builder.inttoptr(address, ir.VectorType(number, LANES).as_pointer())


def _load(builder: ir.IRBuilder, address: ir.Value, number: ir.Type) -> ir.Value:
    return builder.load(_vector_at(builder, address, number), align=1)


def _store(builder: ir.IRBuilder, vector: ir.Value, address: ir.Value, number: ir.Type) -> None:
    builder.store(vector, _vector_at(builder, address, number), align=1)


def _shuffle(builder: ir.IRBuilder, a: ir.Value, b: ir.Value, lanes: list[int]) -> ir.Value:
    return builder.shuffle_vector(a, b, ir.Constant(ir.VectorType(_INT, LANES), lanes))


def _offset(builder: ir.IRBuilder, base: ir.Value, stride: ir.Value, count: int) -> ir.Value:
    return builder.add(base, builder.mul(stride, ir.Constant(stride.type, count)))


_declare: Any = cgutils.get_or_insert_function


def _number(like: Any) -> ir.Type:
    """LLVM's type of an array's numbers."""
    return {"float32": FLOAT, "float64": DOUBLE, "uint8": _BYTE}[str(like.dtype)]


def _transpose(typing_context, read, read_stride, write, write_stride, like, like_written):  # type: ignore[no-untyped-def]
    """Intrinsic: transpose a block of 16 x 16 from one place to another; bytes become numbers.

    Four stages exchange quarters of ever smaller blocks (Eklundh), 64 shuffles in all.
    """
    source, target = _number(like), _number(like_written)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        read, read_stride, write, write_stride = arguments[:4]
        rows = [_load(builder, _offset(builder, read, read_stride, i), source) for i in range(LANES)]
        if source == _BYTE:
            rows = [builder.uitofp(row, ir.VectorType(target, LANES)) for row in rows]
        for h in (8, 4, 2, 1):
            upper = [j if not j & h else LANES + j - h for j in range(LANES)]
            lower = [j + h if not j & h else LANES + j for j in range(LANES)]
            for i in range(LANES):
                if not i & h:
                    a, b = rows[i], rows[i + h]
                    rows[i], rows[i + h] = _shuffle(builder, a, b, upper), _shuffle(builder, a, b, lower)
        for i, row in enumerate(rows):
            _store(builder, row, _offset(builder, write, write_stride, i), target)
        return context.get_dummy_value()

    return types.void(*[types.int64] * 4, like, like_written), emit


def _add_steps(n_entries: int) -> Any:
    """Intrinsic: add_steps(to, read, words, count, like): `count` steps of `_steps`, `n_entries` entries each.

    The vector at `to` of number word[0] gains those at `read` of numbers word[i] // 2, in this order, negated where
    word[i] is odd; a step's words are uint32 that lie together.
    """

    @intrinsic
    def add_steps(typing_context, to, read, words, count, like):  # type: ignore[no-untyped-def]
        number = _number(like)
        bits = ir.IntType(32 if number == FLOAT else 64)
        wide, size = ir.VectorType(bits, LANES), LANES * bits.width // 8

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            to, read, words, count = arguments[:4]

            def vector_of(base: ir.Value, place: ir.Value) -> ir.Value:
                offset = builder.mul(builder.zext(place, base.type), ir.Constant(base.type, size))
                return builder.add(base, offset)

            with cgutils.for_range(builder, count) as loop:
                at = builder.add(words, builder.mul(loop.index, ir.Constant(words.type, 4 * (1 + n_entries))))
                first = builder.inttoptr(at, _INT.as_pointer())
                read_words = [
                    builder.load(builder.gep(first, [ir.Constant(_INT, i)])) for i in range(1 + n_entries)
                ]
                place = vector_of(to, read_words[0])
                total = _load(builder, place, number)
                for word in read_words[1:]:
                    entry = vector_of(read, builder.lshr(word, ir.Constant(_INT, 1)))
                    long = word if bits.width == 32 else builder.zext(word, bits)
                    sign = builder.shl(long, ir.Constant(bits, bits.width - 1))
                    undefined = ir.Constant(wide, ir.Undefined)
                    single = builder.insert_element(undefined, sign, ir.Constant(_INT, 0))
                    signs = _shuffle(builder, single, undefined, [0] * LANES)
                    flipped = builder.xor(builder.bitcast(_load(builder, entry, number), wide), signs)
                    total = builder.fadd(total, builder.bitcast(flipped, ir.VectorType(number, LANES)))
                _store(builder, total, place, number)
            return context.get_dummy_value()

        return types.void(*[types.int64] * 4, like), emit

    return add_steps


add_step_1, add_step_2, add_step_4 = (_add_steps(n_entries) for n_entries in (1, 2, 4))


def _butterflies(radix: int) -> Any:
    """Intrinsic: butterflies(at, stride, like): Hadamard transform across `radix` vectors, in place, in registers."""

    @intrinsic
    def butterflies(typing_context, base, stride, like):  # type: ignore[no-untyped-def]
        number = _number(like)

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            places = [_offset(builder, arguments[0], arguments[1], i) for i in range(radix)]
            rows = [_load(builder, place, number) for place in places]
            _across(builder, rows)
            for row, place in zip(rows, places, strict=True):
                _store(builder, row, place, number)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, like), emit

    return butterflies


by_2, by_4, by_8, by_16 = (_butterflies(radix) for radix in (2, 4, 8, 16))


def _transform_run(typing_context, base, like):  # type: ignore[no-untyped-def]
    """Intrinsic: Hadamard transform of RUN numbers that lie together, in place."""
    number = _number(like)
    size = 4 if number == FLOAT else 8
    vector = ir.VectorType(number, LANES)

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        base = arguments[0]
        step = ir.Constant(base.type, LANES * size)
        places = [_offset(builder, base, step, i) for i in range(RUN // LANES)]
        rows = [_load(builder, place, number) for place in places]
        for h in (1, 2, 4, 8):
            # [x, y] -> [x + y, x - y]: the partner lane, plus the own one with its sign.
            signs = ir.Constant(vector, [-1.0 if j & h else 1.0 for j in range(LANES)])
            partner = [j ^ h for j in range(LANES)]
            for i, row in enumerate(rows):
                other = _shuffle(builder, row, row, partner)
                # Contracting is exact: the factor is 1 or -1.
                own = builder.fmul(row, signs, flags=("contract",))
                rows[i] = builder.fadd(other, own, flags=("contract",))
        _across(builder, rows)
        for row, place in zip(rows, places, strict=True):
            _store(builder, row, place, number)
        return context.get_dummy_value()

    return types.void(types.int64, like), emit


def _across(builder: ir.IRBuilder, rows: list[ir.Value]) -> None:
    """Hadamard transform of a list of vectors, lane by lane."""
    h = 1
    while h < len(rows):
        for i in range(len(rows)):
            if not i & h:
                a, b = rows[i], rows[i + h]
                rows[i], rows[i + h] = builder.fadd(a, b), builder.fsub(a, b)
        h *= 2


def _add_entries(n_entries: int) -> Any:
    """Intrinsic: add_entries(row, words, value): row[word // 2] gains value, negated if word is odd, for each word.

    The words are `n_entries` uint32 that lie together. Written out, since numba reloads the row's address each time.
    """

    @intrinsic
    def add_entries(typing_context, row, words, value):  # type: ignore[no-untyped-def]
        number = {types.float32: FLOAT, types.float64: DOUBLE}[value]
        bits = ir.IntType(32 if number == FLOAT else 64)

        def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
            base = builder.inttoptr(arguments[0], number.as_pointer())
            first = builder.inttoptr(arguments[1], _INT.as_pointer())
            flippable = builder.bitcast(arguments[2], bits)
            for i in range(n_entries):
                word = builder.load(builder.gep(first, [ir.Constant(_INT, i)]))
                place = builder.zext(builder.lshr(word, ir.Constant(_INT, 1)), ir.IntType(64))
                wide = word if bits.width == 32 else builder.zext(word, bits)
                sign = builder.shl(wide, ir.Constant(bits, bits.width - 1))
                entry = builder.gep(base, [place])
                gained = builder.bitcast(builder.xor(flippable, sign), number)
                builder.store(builder.fadd(builder.load(entry), gained), entry)
            return context.get_dummy_value()

        return types.void(types.int64, types.int64, value), emit

    return add_entries


add_four, add_one = _add_entries(4), _add_entries(1)


def _prefetch(typing_context, address):  # type: ignore[no-untyped-def]
    """Intrinsic: ask for the cache line that holds it; nothing is read."""

    def emit(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> ir.Value:
        place = ir.IntType(8).as_pointer()
        kind = ir.FunctionType(ir.VoidType(), [place, _INT, _INT, _INT])
        function = _declare(builder.module, kind, "llvm.prefetch.p0")
        read, near, data = (ir.Constant(_INT, number) for number in (0, 3, 1))
        builder.call(function, [builder.inttoptr(arguments[0], place), read, near, data])
        return context.get_dummy_value()

    return types.void(types.int64), emit


# Any: mypy takes what a decorated function expects for what its callers give.
transpose: Any = intrinsic(_transpose)
transform_run: Any = intrinsic(_transform_run)
prefetch: Any = intrinsic(_prefetch)
