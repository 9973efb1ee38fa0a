"""The lines of the Gaussian expectation in the catalogue: every tile of `expectation_configs.py`, with its costs.

The problem is q = k = h = the width, two hidden layers of tanh, 2^20 samples as 2^19 antithetic pairs; a unit is a
sample, a pass is a tile of BS pairs. Bytes that stay in the caches are counted as written and read by the kernel's
loads and stores, none of them as a hit of the first level, save the head's own weights: at most 48 KB up to width 64,
read again and again by all programs of a multiprocessor.
"""

from __future__ import annotations

from sdp_kernels.triton.catalog import (
    GFX942,
    NVIDIA,
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
from sdp_kernels.triton.expectation_candidates import KEPT
from sdp_kernels.triton.expectation_configs import PRECISIONS, WIDTHS, Config, config

DEPTH = 2
DIRECTIONS = 16
SAMPLES = 2.0**20
KERNELS = {
    "value": "sdp_kernels.triton.expectation_kernels:_expectation_value_kernel",
    "grad": "sdp_kernels.triton.expectation_kernels:_expectation_grad_kernel",
    "primal": "sdp_kernels.triton.expectation_hvp:_expectation_primal_kernel",
    "tangent": "sdp_kernels.triton.expectation_hvp:_expectation_tangent_kernel",
}
# Calls that run each kernel: Hessian-vector products run two, and "shift" has directions in the first shift alone.
CALLS = {"value": ("value",), "grad": ("grad",), "primal": ("hvp", "shift"), "tangent": ("hvp", "shift")}
MAX_Q = 64  # the catalogue's q at width 128
# Structures of the gradient that lost: sums carried in registers, and the two kernels of two passes.
LOST_TARGETS = {32: (SM_90,), 64: (SM_90, GFX942)}  # by width; a few, for the report's time
_LOST_KERNELS = {
    "expectation_grad_carried": "_carried_kernel",
    "expectation_grad_backward": "_split_backward_kernel",
    "expectation_grad_sums": "_split_sums_kernel",
}
# (rows, warps) that spill least, by width and precision.
_LOST_TILES = {
    ("expectation_grad_carried", 32): (32, 4),
    ("expectation_grad_carried", 64): (32, 8),
    ("expectation_grad_backward", 32): (64, 4),
    ("expectation_grad_backward", 64): (64, 8),
    ("expectation_grad_sums", 32): (64, 4),
    ("expectation_grad_sums", 64): (64, 4),
}

GENERAL = (
    "a direction in all of (L, b, theta) takes 7 GEMMs of the head's width to a value's 1.5, so 16 take 75 values and "
    "more; the bar of 20 values is for directions in b, as a certificate has them"
)

_DRAWS = {
    "points_ptr": "*fp32",
    "stride_point": "i64",
    "stride_point_column": "i64",
    "weights_ptr": "*fp32",
    "stride_weight": "i64",
}
_SHARES = {
    **dict.fromkeys(("n", "batch_size"), "i64"),
    **dict.fromkeys(("tile_start", "tiles", "splits", "depth", "n_signs"), "i32"),
}
_LAW = {
    "first": "i64",
    "seed": "i64",
    "purpose": "i32",
    "q": "i32",
    "n_q": "i32",
    "target": "fp32",
    "iota": "fp32",
}
_SUMS = {"sums_ptr": "*fp32", "scratch_ptr": "*fp32"}
_SIGNATURES = {
    "value": {"head_ptr": "*fp32", "values_ptr": "*fp32", **_DRAWS, **_LAW, **_SHARES},
    "grad": {"head_ptr": "*fp32", "values_ptr": "*fp32", **_SUMS, **_DRAWS, **_LAW, **_SHARES},
    "tangent": {
        **dict.fromkeys(("head_ptr", "directions_ptr", "products_ptr", "scratch_ptr"), "*fp32"),
        "stride_direction": "i64",
        "n_directions": "i32",
        **_SHARES,
    },
}
_SIGNATURES["primal"] = _SIGNATURES["grad"]


def entries() -> tuple[Entry, ...]:
    """A kernel an entry, a width and precision a variant."""
    shipped = tuple(
        Entry(
            f"expectation_{kernel}",
            function,
            tuple(
                _variant(kernel, call, width, precision)
                for call in CALLS[kernel]
                for width in (WIDTHS if kernel == "value" else WIDTHS[:3])
                for precision in PRECISIONS
            ),
        )
        for kernel, function in KERNELS.items()
    )
    return (*shipped, *_lost())


def label(call: str, width: int, precision: str) -> str:
    """Name of a variant."""
    return f"w{width}-{precision}" + ("-shift" if call == "shift" else "")


def operations() -> tuple[Operation, ...]:
    """Values, gradients and 16 Hessian-vector products at q = k = h, and their ratios."""
    found = []
    for width in WIDTHS[:3]:
        for precision in PRECISIONS:
            name = label("value", width, precision)
            shape: dict[str, Constant] = {
                "width": width,
                "depth": DEPTH,
                "samples": int(SAMPLES),
                "precision": precision,
            }
            many = {**shape, "directions": DIRECTIONS}
            value = f"value {name}"
            found += [
                Operation(value, (("expectation_value", name),), "value", shape),
                Operation(
                    f"gradient {name}", (("expectation_grad", name),), "grad", shape, value, 4.0, (SM_90,)
                ),
            ]
            # Only directions in b keep 16 products below 20 values: a general one takes 7 GEMMs to a value's 1.5
            # (`expectation_configs.py`).
            for call, timed, words, at_most in (
                ("shift", "hessian_b", "HVPs in b", 20.0),
                ("hvp", "hvp", "HVPs", None),
            ):
                step = label(call, width, precision)
                steps = (("expectation_primal", step), ("expectation_tangent", step))
                found.append(
                    Operation(f"{DIRECTIONS} {words} {name}", steps, timed, many, value, at_most, (SM_90,))
                )
    return tuple(found)


def _variant(kernel: str, call: str, width: int, precision: str) -> Variant:
    constants: dict[str, Constant] = {"H": width, "LOSS": "none"}
    if kernel != "tangent":
        constants.update({"ACTIVATION": "tanh", "POINTS": False, "WEIGHTS": False})
    if kernel in ("primal", "tangent"):
        constants["SHIFT_ONLY"] = call == "shift"
    return Variant(
        label(call, width, precision),
        signature=_SIGNATURES[kernel],
        constants=constants,
        launches={target: _launch(kernel, call, width, precision, target) for target in TARGETS},
        work=_work(kernel, call, width, precision, TARGETS[0]),
        bars=Bars(tensor=True),
        aligned=("stride_direction",) if kernel == "tangent" else (),
        note=GENERAL if kernel == "tangent" and call == "hvp" else "",
    )


def _launch(kernel: str, call: str, width: int, precision: str, target: str) -> Launch:
    tile = config(call, width, precision, target)
    constants: dict[str, Constant] = {"BS": tile.rows, "BQ": tile.columns, "DOT": tile.dot}
    constants["NQ"] = min(width, MAX_Q) // tile.columns
    if kernel in ("primal", "tangent"):
        constants["CHUNK"] = tile.chunk
    work = _work(kernel, call, width, precision, target)
    return Launch(tile.warps, 1, constants, work=work, options=tile.options)


def _work(kernel: str, call: str, width: int, precision: str, target: str) -> Work:
    """Costs of a sample; GEMMs and bytes are counted for a tile of pairs and divided."""
    tile = config(call, width, precision, target)
    by_target = _UNROLLED.get((kernel, call, f"w{width}-{precision}"), {})
    unrolled = by_target.get(target, _ALL if target == GFX942 else ())
    H, D, qp, rows = width, DEPTH, min(width, MAX_Q), tile.rows
    above, is_full = D - 1, call == "hvp"
    half, square = H * qp, above * H * H  # weights of the product with xi, which a pair shares, and above it
    block, xi = rows * H, rows * qp
    if kernel == "value":
        gemms, numbers = half + 2 * square, half + 2 * square if H > 64 else 0
    elif kernel == "grad":
        gemms = 2 * half + 6 * square
        numbers = 2 * half + 4 * square + 2 * xi + (8 + 2 * above + 4 * max(0, D - 2)) * block
    elif kernel == "primal":
        gemms = half + 4 * square + (half + 2 * square if is_full else 0)
        if is_full:
            numbers = 2 * half + 4 * square + 2 * xi + (8 + 2 * (10 * above + 4)) * block
        else:
            numbers = (3 + 2 * (8 * above + 2)) * block
    elif is_full:
        gemms = 2 * half + 12 * square
        numbers = 3 * half + 8 * square + 2 * xi + (7 + 2 * (14 * above + 3)) * block
    else:
        gemms, numbers = 4 * square, 6 * block + 4 * max(0, D - 2) * block
    passes = DIRECTIONS if kernel == "tangent" else 1
    return Work(
        unit="sample",
        units_per_pass=2 * rows,
        inner_trips=_trips(kernel, call, tile, H, qp, unrolled),
        tensor_flops=float(passes * gemms),  # two a multiply-add, and two samples a pair
        tensor_passes=3 if tile.dot == "tf32x3" else 1,
        tensor_type="fp32" if tile.dot == "ieee" else "tf32",
        cached_bytes=4.0 * passes * numbers / (2 * rows),
        problem=SAMPLES,
    )


# Loops of a known number of passes that the compilers unroll, by their names in `_trips`; AMD's unrolls all.
_ALL = ("draw", "forward", "outer", "backward", "first", "rows")
_UNROLLED: dict[tuple[str, str, str], dict[str, tuple[str, ...]]] = {
    ("primal", "hvp", "w16-fast"): dict.fromkeys(NVIDIA, _ALL),
    ("primal", "hvp", "w32-fast"): {"sm_100": _ALL},
    ("primal", "hvp", "w64-fast"): {"sm_80": _ALL[:4], "sm_90": ("rows",), "sm_100": (*_ALL[:4], "rows")},
    ("primal", "hvp", "w64-high"): {"sm_90": ("rows",)},
    ("primal", "shift", "w64-fast"): {"sm_100": _ALL},
    ("tangent", "hvp", "w16-fast"): dict.fromkeys(NVIDIA, _ALL),
    ("tangent", "hvp", "w16-high"): {"sm_80": ("rows",)},
    ("tangent", "hvp", "w32-fast"): {
        **dict.fromkeys(("sm_80", "sm_90"), ("forward", "backward")),
        "sm_100": _ALL,
    },
    ("tangent", "hvp", "w64-fast"): {
        "sm_80": ("draw", "forward", "backward", "rows"),
        "sm_90": ("forward", "outer", "backward", "rows"),
        "sm_100": ("draw", "forward", "backward", "rows"),
    },
    ("tangent", "hvp", "w64-high"): {"sm_90": ("rows",)},
    ("tangent", "shift", "w16-fast"): {"sm_80": ("remainder",)},  # unrolled by some, the rest is a loop
    ("tangent", "shift", "w64-fast"): {"sm_100": _ALL},
}


def _trips(
    kernel: str, call: str, tile: Config, width: int, qp: int, unrolled: tuple[str, ...]
) -> tuple[float, ...]:
    """Passes of the inner loops in the order of the program; a loop of one pass, or unrolled, leaves no trace."""
    above, signs, m = float(DEPTH - 1), 2.0, float(DIRECTIONS)

    def known(name: str, passes: int) -> tuple[float, ...]:
        return (float(passes),) if passes > 1 and name not in unrolled else ()

    blocks, chunks, row_chunks = qp // tile.columns, width // tile.chunk, tile.rows // tile.chunk
    first = known("first", blocks)
    if kernel == "value":
        return (float(blocks), signs, above)
    if kernel == "grad":
        return (float(blocks), signs, above, above, *first)
    if kernel == "tangent" and call == "shift":
        inner = known("forward", chunks)
        rest = (above - 1,) if "remainder" in unrolled else ()
        return (signs, m, signs, *inner, above - 1, *rest, *inner, above - 1)  # the last start at depth 3
    terms = 2 if kernel == "tangent" else 1
    layers = (signs, above, *known("forward", terms * chunks), above)
    if call == "hvp":
        layers += known("outer", terms * row_chunks)
    layers += known("backward", terms * chunks)
    if call == "hvp":
        layers += (*first, *known("rows", row_chunks))
    if kernel == "primal":
        return (float(blocks), *layers)
    return (m, *known("draw", blocks), *layers)


def _lost() -> tuple[Entry, ...]:
    """Structures of the gradient that lost to "grad", for the table of candidates."""
    module = "sdp_kernels.triton.expectation_candidates"
    return tuple(
        Entry(
            kernel,
            f"{module}:{function}",
            tuple(
                _lost_variant(kernel, width, precision, targets)
                for width, targets in LOST_TARGETS.items()
                for precision in PRECISIONS
            ),
        )
        for kernel, function in _LOST_KERNELS.items()
    )


def _lost_variant(kernel: str, width: int, precision: str, targets: tuple[str, ...]) -> Variant:
    is_carried, is_first = kernel.endswith("carried"), kernel.endswith("backward")
    rows, warps = _LOST_TILES[kernel, width]
    columns = width if is_carried else min(width, 32)
    blocks, signs = float(width // columns), 2.0
    trips: tuple[float, ...]
    half = square = width * width
    block = rows * width
    if is_carried:
        outputs: dict[str, str] = {"values_ptr": "*fp32", "sums_ptr": "*fp32"}
        gemms, numbers, trips = 2 * half + 6 * square, half + 4 * square, (blocks, signs, blocks)
        note = "every sum an accumulator of the loop over tiles"
    elif is_first:
        outputs = dict.fromkeys(("values_ptr", "kept_ptr", "vectors_out_ptr"), "*fp32")
        gemms, numbers, trips = half + 4 * square, half + 4 * square + KEPT * block, (blocks, signs)
        note = "delta and h of every draw to memory, for a second pass"
    else:
        outputs = dict.fromkeys(("first_ptr", "layer_ptr"), "*fp32")
        gemms, numbers, trips = half + 2 * square, 2 * half + KEPT * block, (signs, blocks)
        note = "the second pass: sums as GEMMs over the draws, xi drawn anew"
    first = {"kept_ptr": "*fp32"} if kernel.endswith("sums") else {"head_ptr": "*fp32"}
    sizes = dict.fromkeys(("tiles", "n_q", "n_signs", *(() if is_carried else ("n_rows",))), "i32")
    constants: dict[str, Constant] = {"BS": rows, "H": width, "BQ": columns}
    if not kernel.endswith("sums"):
        constants["ACTIVATION"] = "tanh"
    launches, works = {}, {}
    for target in targets:
        tile = config("grad", width, precision, target)
        works[target] = Work(
            unit="sample",
            units_per_pass=2 * rows,
            inner_trips=trips,
            tensor_flops=float(gemms),
            tensor_passes=3 if tile.dot == "tf32x3" else 1,
            tensor_type="fp32" if tile.dot == "ieee" else "tf32",
            cached_bytes=4.0 * numbers / (2 * rows),
            problem=SAMPLES,
        )
        launches[target] = Launch(warps, 1, {"DOT": tile.dot}, work=works[target], options=tile.options)
    return Variant(
        label("grad", width, precision),
        signature={**first, **outputs, "seed": "i64", "purpose": "i32", **sizes},
        constants=constants,
        launches=launches,
        work=works[targets[0]],
        bars=Bars(tensor=True),
        candidate=True,
        note=note,
    )
