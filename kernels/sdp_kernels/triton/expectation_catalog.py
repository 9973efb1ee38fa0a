"""The lines of the Gaussian expectation in the catalogue: every tile of `expectation_configs.py`, with its costs.

The problem is q = k = h = the width, two hidden layers of tanh, 2^20 samples as 2^19 antithetic pairs; a unit is a
sample, a pass is a tile of BS pairs. Bytes that stay in the caches are counted as written and read by the kernel's
loads and stores, none of them as a hit of the first level.
"""

from __future__ import annotations

from sdp_kernels.triton.catalog import TARGETS, Bars, Constant, Entry, Launch, Operation, Variant, Work
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
    return tuple(
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
                Operation(f"gradient {name}", (("expectation_grad", name),), "grad", shape, value, 4.0),
            ]
            # Only directions in b keep 16 products below 20 values: a general one takes 7 GEMMs to a value's 1.5
            # (`expectation_configs.py`).
            for call, timed, words, at_most in (
                ("shift", "hessian_b", "HVPs in b", 20.0),
                ("hvp", "hvp", "HVPs", None),
            ):
                step = label(call, width, precision)
                steps = (("expectation_primal", step), ("expectation_tangent", step))
                found.append(Operation(f"{DIRECTIONS} {words} {name}", steps, timed, many, value, at_most))
    return tuple(found)


def _variant(kernel: str, call: str, width: int, precision: str) -> Variant:
    tiles = {target: config(call, width, precision, target) for target in TARGETS}
    constants: dict[str, Constant] = {"H": width, "LOSS": "none"}
    if kernel != "tangent":
        constants.update({"ACTIVATION": "tanh", "POINTS": False, "WEIGHTS": False})
    if kernel in ("primal", "tangent"):
        constants["SHIFT_ONLY"] = call == "shift"
    return Variant(
        label(call, width, precision),
        signature=_SIGNATURES[kernel],
        constants=constants,
        launches={target: _launch(kernel, call, width, tile) for target, tile in tiles.items()},
        work=_work(kernel, call, width, tiles[TARGETS[0]]),
        bars=Bars(tensor=True),
        aligned=("stride_direction",) if kernel == "tangent" else (),
    )


def _launch(kernel: str, call: str, width: int, tile: Config) -> Launch:
    constants: dict[str, Constant] = {"BS": tile.rows, "BQ": tile.columns, "DOT": tile.dot}
    constants["NQ"] = min(width, MAX_Q) // tile.columns
    if kernel in ("primal", "tangent"):
        constants["CHUNK"] = tile.chunk
    work = _work(kernel, call, width, tile)
    return Launch(tile.warps, 1, constants, work=work, options=tile.options)


def _work(kernel: str, call: str, width: int, tile: Config) -> Work:
    """Costs of a sample; GEMMs and bytes are counted for a tile of pairs and divided."""
    H, D, qp, rows = width, DEPTH, min(width, MAX_Q), tile.rows
    above, is_full = D - 1, call == "hvp"
    half, square = H * qp, above * H * H  # weights of the product with xi, which a pair shares, and above it
    block, xi = rows * H, rows * qp
    if kernel == "value":
        gemms, numbers = half + 2 * square, half + 2 * square
    elif kernel == "grad":
        gemms = 2 * half + 6 * square
        numbers = 3 * half + 8 * square + 2 * xi + (8 + 6 * above + 2 * max(0, D - 2)) * block
    elif kernel == "primal":
        gemms = half + 4 * square + (half + 2 * square if is_full else 0)
        numbers = half + 4 * square + 2 * xi + (3 + 8 * D + 12 * above) * block
        numbers += 2 * half + 4 * square + (4 + 4 * above) * block if is_full else 0
    elif is_full:
        gemms = 2 * half + 12 * square
        numbers = 3 * half + 12 * square + 2 * xi + (7 + 2 * (15 * above + 3)) * block
    else:
        gemms, numbers = 4 * square, 4 * square + 2 * (9 * above + 1) * block
    passes = DIRECTIONS if kernel == "tangent" else 1
    return Work(
        unit="sample",
        units_per_pass=2 * rows,
        inner_trips=_trips(kernel, call, tile, H, qp),
        tensor_flops=float(passes * gemms),  # two a multiply-add, and two samples a pair
        tensor_passes=3 if tile.dot == "tf32x3" else 1,
        tensor_type="fp32" if tile.dot == "ieee" else "tf32",
        cached_bytes=4.0 * passes * numbers / (2 * rows),
        problem=SAMPLES,
    )


def _trips(kernel: str, call: str, tile: Config, width: int, qp: int) -> tuple[float, ...]:
    """Passes of the inner loops in the order of the program; a loop of one pass leaves no trace."""
    above, signs = float(DEPTH - 1), 2.0

    def known(*passes: int) -> tuple[float, ...]:
        return tuple(float(number) for number in passes if number > 1)

    blocks, chunks, row_chunks = qp // tile.columns, width // tile.chunk, tile.rows // tile.chunk
    drawing = (float(blocks),)
    if kernel == "value":
        return (*drawing, signs, above)
    if kernel == "grad":
        return (*drawing, signs, above, above, *known(blocks))
    is_full = call == "hvp"
    first_gradient = known(blocks, row_chunks) if is_full else ()
    terms = 2 if is_full and kernel == "tangent" else 1
    outer = known(terms * row_chunks) if is_full else ()
    layers = (above, *known(terms * chunks), above, *outer, *known(terms * chunks))
    if kernel == "primal":
        return (*drawing, signs, *layers, *first_gradient)
    return (float(DIRECTIONS), *(known(blocks) if is_full else ()), signs, *layers, *first_gradient)
