"""What `catalog.py` says of packed replicas and of partition crossover: kernels, tiles, costs and bars.

The graph is 2^20 edges of 2^18 vertices, eight entries a row, with 1024 replicas of it; V has 32 columns.

    edge-word      one edge and one word of 32 replicas: the gather of s_j and a quarter of s_i (four edges share it)
                   from the second-level cache, which holds the 32 MB of packed signs, the edge's ends once a vertex's
                   words; the packed signs come from memory once
    vertex-plane   one product of a projection
    edge, vertex   of a crossover; its loops go round as often as said there, which depends on the partitions
"""

from __future__ import annotations

from collections.abc import Mapping

from sdp_kernels.triton.catalog import (
    GFX942,
    NVIDIA,
    Bars,
    Constant,
    Entry,
    Launch,
    Operation,
    Variant,
    Work,
)
from sdp_kernels.triton.crossover import BLOCK_EDGES, BLOCK_LINK, BLOCK_LINK_AMD, BLOCK_VERTICES
from sdp_kernels.triton.replicas import (
    CHUNKS,
    EDGES_SUMMED,
    MAX_EDGES,
    PASSES_SUMMED,
    PROJECT_ROWS,
    PROJECT_TERMS,
    PROJECT_WORDS,
    SUMS,
    TILE,
    TILE_PACKED,
    TILE_RAGGED,
    TILE_SUMMED,
    TOTAL_CHUNKS,
    WORD,
)
from sdp_kernels.triton.replicas_kernels import EDGES_COUNTED

VERTICES, EDGES, REPLICAS, RANK = 2.0**18, 2.0**20, 1024, 32
CROSSED = 8  # partitions that one takes from
_WORDS = REPLICAS // WORD
_MODULE = "sdp_kernels.triton.replicas_kernels"
_CROSSOVER = "sdp_kernels.triton.crossover"
_GRAPH: dict[str, Constant] = {"vertices": int(VERTICES), "degree": int(2 * EDGES / VERTICES)}
_LAUNCHES = {**dict.fromkeys(NVIDIA, Launch(num_warps=4)), GFX942: Launch(num_warps=2)}
_CUT = {
    "packed_ptr": "*i32",
    "stride_vertex": "i32",
    "rows_ptr": "*i32",
    "cols_ptr": "*i32",
    "begins_ptr": "*i64",
    "n_words": "i32",
}
_ALIGNED = ("stride_vertex", "n_words", "n_replicas")


def entries() -> tuple[Entry, ...]:
    """Cut values and projections of packed replicas, packing, and the five steps of a crossover."""
    return (
        Entry("cut_count", f"{_MODULE}:_count_kernel", tuple(map(_count, (_WORDS, 1, _WORDS + 1)))),
        Entry("cut_sum", f"{_MODULE}:_sum_kernel", (_sum(low=False), _sum(low=True))),
        Entry("cut_total", f"{_MODULE}:_total_kernel", (_total("counted", "*i32"), _total("summed", "*i64"))),
        Entry("project_signs", f"{_MODULE}:_project_kernel", (_project(True), _project(False))),
        Entry("pack_signs", f"{_MODULE}:_pack_kernel", (_pack("rows"), _pack("replicas"))),
        Entry("unpack_signs", f"{_MODULE}:_unpack_kernel", (_unpack(),)),
        *_crossover(),
    )


def operations() -> tuple[Operation, ...]:
    """Cut values of 1024 replicas, 1024 hyperplanes, and a crossover with eight partitions."""
    counted = (("cut_count", f"{_WORDS} words"), ("cut_total", "counted"))
    summed = (("cut_sum", "high"), ("cut_sum", "low"), ("cut_total", "summed"))
    hyperplanes = {"vertices": int(VERTICES), "columns": RANK, "planes": REPLICAS}
    step: tuple[tuple[str, str], ...] = (
        ("crossover_mark", "mark"),
        ("crossover_link", "link"),
        ("crossover_flatten", "flatten"),
    )
    step = (*step, ("crossover_gain", "gain"), ("crossover_take", "take"))
    values = f"cut values of {REPLICAS} replicas"
    return (
        Operation(values, counted, "cut values", {**_GRAPH, "replicas": REPLICAS}),
        Operation(f"{values}, any weights", summed, "", {**_GRAPH, "replicas": REPLICAS}),
        Operation(f"{REPLICAS} hyperplanes", (("project_signs", "rank 32"),), "hyperplanes", hyperplanes),
        Operation(
            f"partition crossover with {CROSSED}",
            (("crossover_compare", "compare"), *(step * CROSSED)),
            "crossover",
            {**_GRAPH, "replicas": CROSSED},
        ),
    )


def _variant(
    label: str,
    signature: Mapping[str, str],
    constants: Mapping[str, Constant],
    work: Work,
    bars: Bars,
    launches: Mapping[str, Launch] = _LAUNCHES,
    note: str = "",
) -> Variant:
    return Variant(
        label,
        signature=signature,
        constants=constants,
        launches=launches,
        work=work._replace(looped=False),
        bars=bars,
        aligned=() if constants.get("WHOLE") is False else tuple(n for n in _ALIGNED if n in signature),
        note=note,
    )


def _edge_word(units_per_pass: float, inner_trips: tuple[float, ...], gathers: float, words: int) -> Work:
    """Costs of an edge and word whose signs are gathered so many times."""
    ends = 8.0 / words
    return Work(
        "edge-word",
        units_per_pass,
        inner_trips=inner_trips,
        read_bytes=ends + 4.0 * VERTICES / EDGES,
        cached_bytes=gathers * (4.0 + 4.0 * VERTICES / EDGES + ends),
        problem=EDGES * words,
    )


def _count(words: int) -> Variant:
    """Whole tiles of words, one word alone, or a last tile that is part filled and no row aligned."""
    tile = min(words, _WORDS)
    is_whole, is_one = words % tile == 0, words == 1
    side = min(MAX_EDGES, (TILE if is_whole else TILE_RAGGED) // tile)
    length = max(EDGES_COUNTED * side, EDGES / CHUNKS)
    single = (
        {"stride_vertex": 1, "n_words": 1} if is_one else {}
    )  # specialised on, as every integer that is 1
    instructions = 100 if is_one else 18 if is_whole else 45
    return _variant(
        "1 word" if is_one else f"{words} words",
        {name: kind for name, kind in {**_CUT, "partial_ptr": "*i32"}.items() if name not in single},
        {"EDGES": side, "WORDS": tile, "WHOLE": is_whole, "stride_word": 1, **single},
        _edge_word(length * tile, (length / (EDGES_COUNTED * side),), 1.0, words),
        Bars(instructions=instructions, registers=128, wide_loads=words == _WORDS),
        note="" if is_whole else "a part filled last tile of words, rows of no multiple of 16 bytes",
    )


def _sum(low: bool) -> Variant:
    side = TILE_SUMMED // _WORDS
    length = EDGES_SUMMED * side * PASSES_SUMMED
    return _variant(
        "low" if low else "high",
        {**_CUT, "partial_ptr": "*i64", "weights_ptr": "*fp32", "scale": "fp32"},
        {
            "LOW": low,
            "EDGES": side,
            "STEPS": EDGES_SUMMED,
            "WORDS": _WORDS,
            "WHOLE": True,
            "BITS": SUMS,
            "stride_word": 1,
        },
        _edge_word(length * _WORDS * SUMS / WORD, (PASSES_SUMMED, EDGES_SUMMED), WORD / SUMS, _WORDS),
        Bars(instructions=240, registers=128),
        note=f"a program adds up for {SUMS} replicas of a word, so signs are gathered {WORD // SUMS} times",
    )


def _total(label: str, pointer: str) -> Variant:
    size = int(pointer[2:]) // 8
    length = EDGES_SUMMED * (TILE_SUMMED // _WORDS) * PASSES_SUMMED
    chunks = CHUNKS if label == "counted" else int(EDGES / length)
    signature = {
        "partial_ptr": pointer,
        "group_ptr_ptr": "*i32",
        "scales_ptr": "*fp64",
        "values_ptr": "*fp64",
    }
    return _variant(
        label,
        {**signature, "n_words": "i32", "n_groups": "i32"},
        {"CHUNKS": TOTAL_CHUNKS},
        Work(
            "partial sum",
            chunks * WORD,
            inner_trips=(1, chunks / TOTAL_CHUNKS),
            cached_bytes=2.0 * size,
            problem=float(chunks * REPLICAS),
        ),
        Bars(fp64=None),
        note="float64 holds the final sums of groups, no more than one product and sum a group and replica",
    )


def _project(is_aligned: bool) -> Variant:
    columns = REPLICAS / (PROJECT_WORDS * WORD)
    rows = PROJECT_ROWS if is_aligned else PROJECT_ROWS // 2
    return _variant(
        f"rank {RANK}" if is_aligned else "any rank",
        {
            **dict.fromkeys(("v_ptr", "planes_ptr"), "*fp32"),
            "packed_ptr": "*i32",
            **dict.fromkeys(("n", "r", "n_planes", "n_words"), "i32"),
        },
        {"ROWS": rows, "WORDS": PROJECT_WORDS, "TERMS": PROJECT_TERMS, "ALIGNED": is_aligned},
        Work(
            "vertex-plane",
            rows * PROJECT_WORDS * WORD,
            inner_trips=(RANK / PROJECT_TERMS,),
            flops=2 * RANK,
            read_bytes=4.0 * RANK / REPLICAS,
            written_bytes=1 / 8,
            cached_bytes=4.0 * RANK * (columns / REPLICAS + 1 / rows),
            problem=VERTICES * REPLICAS,
        ),
        Bars(instructions=64 if is_aligned else 72, wide_loads=is_aligned),
        note="float32 multiply-adds in the order of r, as on the CPU; AMD takes float32 matrix cores",
    )


def _pack(label: str) -> Variant:
    by_rows = label == "rows"
    words = _WORDS if by_rows else 1
    signature = {
        "signs_ptr": "*i8",
        "packed_ptr": "*i32",
        **dict.fromkeys(("n", "n_replicas", "n_words"), "i32"),
    }
    stride, unit = ("stride_vertex", "stride_replica") if by_rows else ("stride_replica", "stride_vertex")
    return _variant(
        label,
        {**signature, stride: "i32"},
        {"ROWS": TILE_PACKED // WORD // words, "WORDS": words, unit: 1},
        Work("sign", TILE_PACKED, read_bytes=1, written_bytes=1 / 8, problem=VERTICES * REPLICAS),
        Bars(instructions=10 if by_rows else 20, registers=96, wide_loads=by_rows),
        note="" if by_rows else "from (R, n) signs, transposed",
    )


def _unpack() -> Variant:
    return _variant(
        "rows",
        {
            "packed_ptr": "*i32",
            "stride_vertex": "i32",
            "signs_ptr": "*i8",
            **dict.fromkeys(("n", "n_replicas", "n_words"), "i32"),
        },
        {"ROWS": TILE_PACKED // WORD // _WORDS, "WORDS": _WORDS, "stride_word": 1},
        Work("sign", TILE_PACKED, read_bytes=1 / 8, written_bytes=1, problem=VERTICES * REPLICAS),
        Bars(instructions=12, registers=64),
    )


# How often the loops of a program go round: partitions of which one vertex in ten differs leave small components, and
# a warp waits for the longest of its links.
LINK_TRIPS, FLATTEN_TRIPS = 3, 2
# Lanes of a wave, each with the root of another component: AMD's atomics take them one after another.
AMD_ROOTS = 16


def _crossover() -> tuple[Entry, ...]:
    """The five steps. Of an edge's two roots and signs, those of `rows` are shared by four edges."""
    signs = {"signs_ptr": "*i8", "other_ptr": "*i8"}
    agree, root, gain = {"agree_ptr": "*i32"}, {"root_ptr": "*i32"}, {"gain_ptr": "*i64"}
    ends = {"rows_ptr": "*i32", "cols_ptr": "*i32"}
    roots = 4.0 + 4.0 * VERTICES / EDGES
    block: dict[str, Constant] = {"BLOCK": BLOCK_VERTICES}
    vertex = Work("vertex", BLOCK_VERTICES, problem=VERTICES)
    one = vertex._replace(read_bytes=2)
    mark = vertex._replace(read_bytes=2, written_bytes=12)
    link = Work("edge", BLOCK_LINK, (LINK_TRIPS,), read_bytes=8, cached_bytes=roots, problem=EDGES)
    flatten = vertex._replace(
        units_per_pass=BLOCK_LINK, inner_trips=(FLATTEN_TRIPS,), read_bytes=4, cached_bytes=4
    )
    gains = Work("edge", BLOCK_EDGES, read_bytes=12, cached_bytes=roots + 2, problem=EDGES)
    take = vertex._replace(read_bytes=6, written_bytes=1, cached_bytes=8)
    rest = {**root, **gain, "added_ptr": "*i64", "next_ptr": "*i8", **agree, "n": "i32"}
    weights = {"weights_ptr": "*fp32", "scale": "fp32", "signs_ptr": "*i8"}
    # A masked atomic is a branch; there are no other slow paths.
    bars = Bars(registers=96, resident_programs=4, slow_paths=8)
    steps: tuple[tuple[str, dict[str, str], dict[str, Constant], Work, dict[str, Launch], str], ...] = (
        ("compare", {**signs, **agree, "n": "i32"}, block, one, _scanned(one, 1), ""),
        ("mark", {**signs, **agree, **root, **gain, "n": "i32"}, block, mark, _LAUNCHES, ""),
        ("link", {**ends, **root, "m": "i32"}, {}, link, _one_warp(link), f"{LINK_TRIPS} passes of its loop"),
        ("flatten", {**root, "n": "i32"}, {}, flatten, _one_warp(flatten), f"{FLATTEN_TRIPS} passes of its loop"),
        ("gain", {**ends, **weights, **root, **gain, "m": "i32"}, {"BLOCK": BLOCK_EDGES}, gains,
         _scanned(gains, *(AMD_ROOTS,) * 8), f"{AMD_ROOTS} components on the border of a wave's edges"),
        ("take", {"signs_ptr": "*i8", **rest}, {"IS_LAST": False, **block}, take, _scanned(take, 1, 1), ""),
    )  # fmt: skip
    return tuple(
        Entry(
            f"crossover_{name}",
            f"{_CROSSOVER}:_{name}_kernel",
            (_variant(name, signature, constants, work, bars, launches, note),),
        )
        for name, signature, constants, work, launches, note in steps
    )


def _one_warp(work: Work) -> dict[str, Launch]:
    """One lane an edge or vertex."""
    nvidia = Launch(num_warps=1, constants={"BLOCK": BLOCK_LINK})
    amd = Launch(
        num_warps=1,
        constants={"BLOCK": BLOCK_LINK_AMD},
        work=work._replace(units_per_pass=BLOCK_LINK_AMD, looped=False),
    )
    return {**dict.fromkeys(NVIDIA, nvidia), GFX942: amd}


def _scanned(work: Work, *trips: float) -> dict[str, Launch]:
    """AMD adds up the lanes of a wave that go to one address in a loop over addresses, one loop an atomic."""
    amd = Launch(num_warps=2, work=work._replace(inner_trips=trips, looped=False))
    return {**_LAUNCHES, GFX942: amd}
