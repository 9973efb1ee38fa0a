"""The lines of annealing in the catalogue.

A unit is a spin update: one replica of one vertex in one sweep; a pass of a packed kernel's tile updates 32 replicas a
word. Shapes: unweighted graphs of degree 8 (a part's 128 entries, 20 levels at T = 1.5 w where loops depend on them),
1024 replicas; predicted times are for 2^30 spin updates. Gathered words are counted as from the second-level cache; the
table of levels (8 KB, read by all) as from the first.
"""

from __future__ import annotations

from sdp_kernels.triton.anneal import CHUNK_PASSES, ITEMS, PLACES
from sdp_kernels.triton.anneal_kernels import BLOCK_VERTICES
from sdp_kernels.triton.catalog import GFX942, NVIDIA, Bars, Entry, Launch, Operation, Variant, Work
from sdp_kernels.triton.multispin import LANES, TABLED, tile

WORD = 32
REPLICAS = 1024
PROBLEM = 2.0**30
_MODULE = "sdp_kernels.triton.multispin_kernels"
_ANNEAL = "sdp_kernels.triton.anneal_kernels"
_ITEMS = {"starts_ptr": "*i64", "counts_ptr": "*i32", "targets_ptr": "*i32", "columns_ptr": "*i32"}
_LAUNCHES = {**dict.fromkeys(NVIDIA, Launch(num_warps=LANES // 32)), GFX942: Launch(num_warps=LANES // 64)}
_NUMBERS = {"n_words": "i32", "seed": "i64", "stream": "i32"}
_BAR = (16, 20)  # instructions a spin update of degree 8, independent; AMD multiplies 32 x 32 bits in two


def entries() -> tuple[Entry, ...]:
    """Every kernel of annealing."""
    return (
        Entry(
            "anneal", f"{_ANNEAL}:_move_kernel", (_move("anneal"), _move("one_opt"), _move("anneal", True))
        ),
        Entry("anneal_heavy", f"{_ANNEAL}:_heavy_kernel", (_heavy_move(),)),
        Entry("anneal_places", f"{_ANNEAL}:_places_kernel", (_places(),)),
        Entry("anneal_changes", f"{_ANNEAL}:_changes_kernel", (_changes(),)),
        Entry("anneal_packed", f"{_MODULE}:_few_kernel", _few()),
        Entry("anneal_packed_table", f"{_MODULE}:_table_kernel", (_table(),)),
        Entry("anneal_packed_many", f"{_MODULE}:_many_kernel", (_many(),)),
        Entry("anneal_packed_heavy", f"{_MODULE}:_heavy_kernel", (_heavy(11), _heavy(22), _heavy(29))),
    )


def operations() -> tuple[Operation, ...]:
    """One sweep of 1024 replicas over 2^20 vertices of degree 8: 2^30 spin updates."""
    shape = {"vertices": int(PROBLEM) // REPLICAS, "degree": 8, "replicas": REPLICAS, "sweeps": 1}
    table = ("anneal_packed_table", "independent")
    steps = (("anneal_places", "places"), ("anneal", "anneal"), ("anneal_changes", "changes"))
    return (
        Operation("2^30 spin updates", steps, "anneal", shape),
        Operation(
            "2^30 packed spin updates",
            (table, ("anneal_packed", "8")),
            "anneal packed",
            {**shape, "random": "independent"},
        ),
        Operation(
            "2^30 packed spin updates, shared numbers",
            (table, ("anneal_packed", "8-shared")),
            "anneal packed",
            {**shape, "random": "shared"},
        ),
    )


# Loops that end by what is in the data leave barriers of divergence, counted as slow paths on sm_80 and gfx942.
_LOOPED = Bars(registers=128, slow_paths=None)
_DECIDE = {
    "parts_ptr": "*fp32",
    "packed_ptr": "*i32",
    "places_ptr": "*i32",
    "thresholds_ptr": "*fp32",
    "temperatures_ptr": "*fp32",
    "state_ptr": "*i32",
    **dict.fromkeys(
        ("first", "last", "class_start", "class_block", "n_blocks", "n_words", "n_replicas", "n_sweeps"),
        "i32",
    ),
    "tolerance": "fp32",
}


def _move(rule: str, parts: bool = False) -> Variant:
    degree = 8
    bars = Bars(registers=128, resident_programs=4, instructions=60)
    return Variant(
        f"{rule}-parts" if parts else rule,
        signature={
            **dict.fromkeys(("starts_ptr",), "*i64"),
            **dict.fromkeys(("counts_ptr", "targets_ptr", "indices_ptr"), "*i32"),
            "weights_ptr": "*fp32",
            **_DECIDE,
        },
        constants={"RULE": rule, "PARTS": parts, "ITEMS": ITEMS},
        launches=_LAUNCHES,
        work=Work(
            "spin update",
            WORD * ITEMS,
            inner_trips=(degree / 4,),
            flops=degree,
            read_bytes=(16 + 8 * degree + 4) / WORD,
            written_bytes=4 / WORD,
            cached_bytes=4 * degree / WORD + (4 / BLOCK_VERTICES if rule == "anneal" else 0),
            problem=PROBLEM,
            looped=False,
        ),
        bars=bars,
        target_bars={GFX942: bars._replace(instructions=76)},
        note=f"degree {degree}",
    )


def _heavy_move() -> Variant:
    parts = 8
    return Variant(
        "anneal",
        signature={"heavy_rows_ptr": "*i32", "heavy_slots_ptr": "*i64", **_DECIDE},
        constants={"RULE": "anneal", "ITEMS": ITEMS},
        launches=_LAUNCHES,
        work=Work(
            "spin update",
            WORD * ITEMS,
            inner_trips=(parts,),
            flops=parts,
            read_bytes=4 / WORD,
            written_bytes=4 / WORD,
            cached_bytes=4 * parts,
            problem=PROBLEM / 1024,
            looped=False,
        ),
        bars=_LOOPED,
        note=f"{parts} parts",
    )


def _places() -> Variant:
    blocks, columns = PLACES
    return Variant(
        "places",
        signature={
            **dict.fromkeys(("blocks_ptr", "state_ptr", "places_ptr"), "*i32"),
            **dict.fromkeys(("n_blocks", "n_columns"), "i32"),
            "seed": "i64",
            "stream": "i32",
        },
        constants={"BLOCKS": blocks, "COLUMNS": columns},
        launches=_LAUNCHES,
        work=Work("place", blocks * columns, written_bytes=4, problem=PROBLEM / BLOCK_VERTICES, looped=False),
        bars=Bars(registers=64, instructions=120),
        note="one for 64 spin updates",
    )


def _changes() -> Variant:
    return Variant(
        "changes",
        signature={
            **dict.fromkeys(("packed_ptr", "previous_ptr"), "*i32"),
            "changes_ptr": "*i64",
            **dict.fromkeys(("n", "n_words"), "i32"),
        },
        constants={"ROWS": ITEMS, "PASSES": CHUNK_PASSES},
        launches=_LAUNCHES,
        work=Work(
            "spin update",
            WORD * ITEMS * CHUNK_PASSES,
            inner_trips=(CHUNK_PASSES,),
            read_bytes=8 / WORD,
            written_bytes=4 / WORD,
            problem=PROBLEM,
            looped=False,
        ),
        bars=Bars(registers=96, instructions=3),
        target_bars={GFX942: Bars(registers=96, instructions=6)},
    )


def _few() -> tuple[Variant, ...]:
    def variant(
        label: str, entries: int, words: int, signed: bool, shared: bool, most: tuple[float, float]
    ) -> Variant:
        """most: bars on instructions a unit, NVIDIA and AMD."""
        items, width, vector = tile("few", 1 << 20, words)
        bars = Bars(
            instructions=most[0],
            registers=128 if entries < 16 else 200,
            resident_programs=4 if entries < 16 else 2,
            wide_loads=vector == 4,
        )
        return Variant(
            label,
            signature={
                **_ITEMS,
                "packed_ptr": "*i32",
                "table_ptr": "*i32",
                "state_ptr": "*i32",
                "first": "i32",
                "last": "i32",
                **_NUMBERS,
            },
            constants={
                "ENTRIES": entries,
                "TABLED": TABLED,
                "TOP": entries.bit_length(),
                "SIGNED": signed,
                "SHARED": shared,
                "QUADS": shared and words % 4 == 0,
                "VECTOR": vector,
                "ITEMS": items,
                "WORDS": width,
            },
            launches=_LAUNCHES,
            work=Work(
                "spin update",
                WORD * items * width,
                read_bytes=4 / WORD + (16 + 4 * entries) / (WORD * words),
                written_bytes=4 / WORD,
                cached_bytes=4 * entries / WORD,
                problem=PROBLEM,
                looped=False,
            ),
            bars=bars,
            target_bars={GFX942: bars._replace(instructions=most[1], registers=256 if entries < 16 else 384)},
        )

    words = REPLICAS // WORD
    return (
        variant("8", 8, words, False, False, _BAR),
        variant("8-signed", 8, words, True, False, _BAR),
        variant("8-shared", 8, words, False, True, (8, 10)),
        variant("4", 4, words, False, False, (16, 20)),
        variant("16", 16, words, False, False, (20, 28)),
        variant("8-32-replicas", 8, 1, False, False, (16, 26)),
    )


def _table() -> Variant:
    words = REPLICAS // WORD
    return Variant(
        "independent",
        signature={
            "chances_ptr": "*fp32",
            "state_ptr": "*i32",
            "table_ptr": "*i32",
            "n_sweeps": "i32",
            "n_words": "i32",
        },
        constants={"LEVELS": TABLED, "SHARED": False, "WORDS": words},
        launches={**dict.fromkeys(NVIDIA, Launch(num_warps=1)), GFX942: Launch(num_warps=1)},
        work=Work(
            "word", words, read_bytes=12, written_bytes=8 * (1 + 8 * TABLED), problem=words, looped=False
        ),
        bars=Bars(registers=96),
        note="once a sweep",
    )


# Levels until a chance falls below 2^-39, at T = 1.5 w: 39 ln 2 T / 2w.
_LEVELS = 20


def _many() -> Variant:
    items, width, vector = tile("many", 1 << 20, REPLICAS // WORD)
    degree = 64
    return Variant(
        "64",
        signature={
            **_ITEMS,
            **dict.fromkeys(("packed_ptr", "state_ptr", "parts_ptr"), "*i32"),
            "chances_ptr": "*fp32",
            **dict.fromkeys(("first", "last", "n_sweeps"), "i32"),
            **_NUMBERS,
        },
        constants={
            "TOP": 8,
            "SIGNED": False,
            "SHARED": False,
            "PARTS": True,
            "VECTOR": vector,
            "ITEMS": items,
            "WORDS": width,
        },
        launches=_LAUNCHES,
        work=Work(
            "spin update",
            WORD * items * width,
            inner_trips=(degree / 4, _LEVELS / 4),
            read_bytes=4 / WORD + (16 + 4 * degree) / REPLICAS,
            written_bytes=4 / WORD,
            cached_bytes=4 * degree / WORD,
            problem=PROBLEM,
            looped=False,
        ),
        bars=_LOOPED,
        note=f"degree {degree}, {_LEVELS} levels",
    )


def _heavy(top: int) -> Variant:
    items, width, vector = tile("heavy", 1 << 20, REPLICAS // WORD)
    parts = 8
    return Variant(
        f"top-{top}",
        signature={
            "heavy_rows_ptr": "*i32",
            "heavy_slots_ptr": "*i64",
            "indptr_ptr": "*i64",
            **dict.fromkeys(("packed_ptr", "state_ptr", "parts_ptr"), "*i32"),
            "chances_ptr": "*fp32",
            **dict.fromkeys(("first", "last", "n_sweeps"), "i32"),
            **_NUMBERS,
        },
        constants={"TOP": top, "SHARED": False, "VECTOR": vector, "ITEMS": items, "WORDS": width},
        launches=_LAUNCHES,
        work=Work(
            "spin update",
            WORD * items * width,
            inner_trips=(parts, _LEVELS / 4),
            read_bytes=4 / WORD,
            written_bytes=4 / WORD,
            cached_bytes=4 * 8 * parts / WORD,
            problem=PROBLEM / 1024,
            looped=False,
        ),
        bars=_LOOPED,
        note=f"{parts} parts, {_LEVELS} levels",
    )
