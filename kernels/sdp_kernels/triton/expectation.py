"""Launchers of the Gaussian expectation of a narrow network on a GPU; the face is `sdp_kernels.expectation`.

A launch covers all batches: program (batch, split) adds up the tiles of its share in float32, at most MAX_TILES of
them; then the splits are added in order in float64, and so are the launches. Nothing depends on timing, so the same
seed gives the same bits. Memory: one gradient of float32 and a scratch area a program, whatever the number of draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from sdp_kernels.triton.expectation_configs import (
    MAX_DEPTH,
    MAX_TILES,
    MAX_WIDTH,
    PRECISIONS,
    WIDTHS,
    Config,
    chip,
    config,
)
from sdp_kernels.triton.expectation_hvp import _expectation_primal_kernel, _expectation_tangent_kernel
from sdp_kernels.triton.expectation_kernels import _expectation_grad_kernel, _expectation_value_kernel
from sdp_kernels.triton.expectation_law import Law, Packing

if TYPE_CHECKING:
    from sdp_kernels._expectation_problem import Draw, Network

PURPOSE_SAMPLES = 1  # as `sdp_kernels.gaussian`; a test holds them equal
MAX_BATCHES = 32
# Bytes of the sums of a launch; more directions than fit take several, each with the primal pass again.
SUMS_BYTES = 1 << 28
# Bytes that the primal pass of a launch may leave for the directions.
STATE_BYTES = 1 << 29


def is_narrow(L: Tensor, params: Sequence[Tensor], network: Network) -> bool:
    """Whether these kernels serve a head: at most MAX_DEPTH hidden layers of at most MAX_WIDTH units.

    k and q may be anything, save that a head which activates its input counts k among its widths.
    """
    widths = [c.shape[0] for c in params[1:-2:2]] + ([L.shape[0]] if network.activate_input else [])
    return len(params) // 2 - 1 <= MAX_DEPTH and max(widths, default=1) <= MAX_WIDTH


def value_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> Tensor:
    """Mean of g over each batch of draws (the sum over weighted points).

    Args:
        L: (k, q) float32 or float64, as `b` (k,) and `params`, all on one GPU; any strides.
        b: the shift.
        params: [A_1, c_1, ..., A_D, c_D, a, c].
        network: activation and loss.
        draw: which draws.
        precision: "fast" (tf32) or "high" (tf32x3; ieee on AMD).

    Returns:
        float64 (B,).

    Raises:
        ValueError: the head is not narrow (see `is_narrow`), or `precision` is another.
    """
    return _Launch("value", L, b, params, network, draw, precision).run(None)[0]


def grad_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> tuple[Tensor, Tensor]:
    """`value_batches`, and the gradients float64 (B, P), columns [L row by row, b, params in order]."""
    launch = _Launch("grad", L, b, params, network, draw, precision)
    values, grads, _ = launch.run(None)
    return values, launch.law.pull(launch.packing.unpack(grads))


def hvp_batches(
    L: Tensor,
    b: Tensor,
    params: Sequence[Tensor],
    network: Network,
    draw: Draw,
    directions: Tensor,
    precision: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """`grad_batches`, and the Hessian-vector products float64 (B, m, P) with `directions` (m, P).

    All directions share the primal pass, as many as their sums fit SUMS_BYTES.
    """
    if not len(directions):
        values, grads = grad_batches(L, b, params, network, draw, precision)
        return values, grads, grads.new_empty((len(values), *directions.shape))
    launch = _Launch("hvp", L, b, params, network, draw, precision)
    law, packing = launch.law, launch.packing
    # The chain rule takes all directions at once: in groups its GEMMs might add in another order.
    parts = []
    for group in launch.groups(packing.pack(law.push(directions))):
        values, grads, sums = launch.run(group)
        parts.append(sums)
    gradient, products = packing.unpack(grads), packing.unpack(torch.cat(parts, dim=1))
    return values, law.pull(gradient), law.pull_products(products, gradient, directions)


def hessian_b_batches(
    L: Tensor, b: Tensor, params: Sequence[Tensor], network: Network, draw: Draw, precision: str
) -> Tensor:
    """Second derivative in b: float64 (B, k, k), from min(k, w_1) directions of two GEMMs a layer each."""
    launch = _Launch("shift", L, b, params, network, draw, precision)
    law, H = launch.law, launch.packing.width
    shifts = law.shift_directions()
    w = shifts.shape[1]
    products = []
    for group in launch.groups(shifts):
        padded = buffer(launch.head, len(group), H).zero_()
        padded[:, :w] = group
        products.append(launch.run(padded)[2][..., :w])
    return law.hessian_b(torch.cat(products, dim=1))


class Split(NamedTuple):
    """How the draws are shared out: batches of `batch_size`, each to `splits` programs of `tiles` tiles a launch."""

    batches: int
    batch_size: int
    splits: int
    tiles: int
    launches: int


def split_draws(n: int, is_weighted: bool, tile: Config, max_tiles: int) -> Split:
    """A pure function of its arguments; `max_tiles` bounds those of a program in a launch."""
    batch_size = n if is_weighted else -(-n // MAX_BATCHES)
    batches = -(-n // batch_size)
    n_tiles = -(-batch_size // tile.rows)
    splits = min(n_tiles, max(1, tile.programs // batches))
    tiles = min(max_tiles, -(-n_tiles // splits))
    return Split(batches, batch_size, splits, tiles, -(-n_tiles // (splits * tiles)))


class _Launch:
    """One head and one draw, ready for a kernel: "value", "grad", "hvp", or "shift" (directions in c' alone)."""

    def __init__(
        self,
        kernel: str,
        L: Tensor,
        b: Tensor,
        params: Sequence[Tensor],
        network: Network,
        draw: Draw,
        precision: str,
    ) -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision must be one of {', '.join(PRECISIONS)} here; got {precision!r}.")
        if not is_narrow(L, params, network):
            raise ValueError(
                f"the fused kernels take at most {MAX_DEPTH} hidden layers of at most {MAX_WIDTH} units; "
                f"got widths {[c.shape[0] for c in params[1:-2:2]]} after k = {L.shape[0]}."
            )
        self.kernel, self.network, self.draw = kernel, network, draw
        self.law = Law(L, b, params, network.activate_input)
        head = self.law.folded()
        widths = [len(bias) for bias in head.biases]
        width = next(w for w in WIDTHS if w >= max(widths))
        self.config = config(kernel, width, precision, chip(L.device))
        columns, q = self.config.columns, L.shape[1]
        self.packing = Packing(q, max(1, -(-q // columns)) * columns, width, widths)
        self.head = self.packing.pack(head)
        max_tiles = MAX_TILES
        if kernel in ("hvp", "shift"):
            state = 4 * self.config.rows * (self.packing.qp + 8 * self.packing.depth * width + 4)
            max_tiles = max(1, min(MAX_TILES, STATE_BYTES // (state * self.config.programs)))
        self.split = split_draws(draw.n, draw.weights is not None, self.config, max_tiles)

    @property
    def programs(self) -> int:
        return self.split.batches * self.split.splits

    def groups(self, directions: Tensor) -> Sequence[Tensor]:
        """Directions in groups whose sums fit SUMS_BYTES."""
        size = 4 * self._product_size() * self.programs
        return torch.split(directions, max(1, SUMS_BYTES // size - 1))

    def run(self, directions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """Values (B,), gradients (B, size) and products (B, m, size) of all launches; empty where not asked for."""
        packing, split = self.packing, self.split
        m = 0 if directions is None else len(directions)
        n_grad = 0 if self.kernel in ("value", "shift") else packing.size
        n_product = self._product_size()
        sizes = [1, n_grad, m * n_product]
        totals = [self.head.new_zeros((split.batches, size), dtype=torch.float64) for size in sizes]
        scratch = buffer(self.head, self.programs * self._scratch_size())
        for launch in range(split.launches):
            partials = [buffer(self.head, self.programs, size).zero_() for size in sizes]
            self._launch(launch, partials, scratch, directions)
            for total, partial in zip(totals, partials, strict=True):
                for i in range(split.splits):  # in order: torch.sum would choose its own
                    total += partial.view(split.batches, split.splits, -1)[:, i]
        scale = self._scale()
        values, grads, products = (total * scale[:, None] for total in totals)
        return values[:, 0], grads, products.reshape(split.batches, m, n_product)

    def _product_size(self) -> int:
        """Numbers of a direction's sums."""
        return self.packing.width if self.kernel == "shift" else self.packing.size

    def _scale(self) -> Tensor:
        """One over the terms in each batch's sum: (B,)."""
        signs = 2.0 if self.draw.antithetic else 1.0
        n, size = self.draw.n, self.split.batch_size
        counts = [min(size, n - start) for start in range(0, n, size)]
        if self.draw.weights is not None:
            counts = [1]
        return torch.tensor([1.0 / (signs * count) for count in counts], dtype=torch.float64).to(
            self.head.device
        )

    def _scratch_size(self) -> int:
        """Numbers of float32 of a program's scratch area; the kernels' signatures give the same formulas."""
        rows, packing = self.config.rows, self.packing
        H, D, qp = packing.width, packing.depth, packing.qp
        if self.kernel == "value":
            return 0
        if self.kernel == "grad":
            return rows * (qp + (D + 1) * H)
        return rows * ((2 * D + 3) * H + self.split.tiles * (qp + 8 * D * H + 4))

    def _launch(
        self, launch: int, partials: list[Tensor], scratch: Tensor, directions: Tensor | None
    ) -> None:
        """One launch of a kernel, or of the two that make Hessian-vector products."""
        draw, network, packing, split = self.draw, self.network, self.packing, self.split
        tile = self.config
        values, sums, products = partials
        head = self.head
        shares: dict[str, Any] = {
            "n": draw.n,
            "batch_size": split.batch_size,
            "tile_start": launch * split.splits * split.tiles,
            "tiles": split.tiles,
            "splits": split.splits,
            "depth": packing.depth,
            "n_signs": 2 if draw.antithetic else 1,
            "BS": tile.rows,
            "H": packing.width,
            "BQ": tile.columns,
            "NQ": packing.qp // tile.columns,
            "LOSS": network.loss,
            "DOT": tile.dot,
            "num_warps": tile.warps,
            "num_stages": 1,
            **tile.options,
        }
        points = head if draw.points is None else draw.points.float()
        weights = head if draw.weights is None else draw.weights.float()
        draws: dict[str, Any] = {
            "points_ptr": points,
            "stride_point": points.stride(0) if draw.points is not None else 0,
            "stride_point_column": points.stride(1) if draw.points is not None else 0,
            "weights_ptr": weights,
            "stride_weight": weights.stride(0) if draw.weights is not None else 0,
            "first": draw.first,
            "seed": _signed(draw.seed),
            "purpose": PURPOSE_SAMPLES,
            "q": packing.q,
            "n_q": packing.qp // tile.columns,
            "target": float(network.target),
            "iota": float(network.iota),
            "ACTIVATION": "identity" if self.law.has_no_layer else network.activation,
            "POINTS": draw.points is not None,
            "WEIGHTS": draw.weights is not None,
        }
        grid: Any = (self.programs,)
        if self.kernel == "value":
            _expectation_value_kernel[grid](head_ptr=head, values_ptr=values, **draws, **shares)
            return
        outputs: dict[str, Any] = {"values_ptr": values, "sums_ptr": sums, "scratch_ptr": scratch}
        if directions is None:
            _expectation_grad_kernel[grid](head_ptr=head, **outputs, **draws, **shares)
            return
        shares.update(CHUNK=tile.chunk, SHIFT_ONLY=self.kernel == "shift")
        _expectation_primal_kernel[grid](head_ptr=head, **outputs, **draws, **shares)
        m = len(directions)
        if self.kernel == "hvp":  # one buffer, so that a direction is a step from the head
            head = directions = torch.cat([head[None], directions])
        _expectation_tangent_kernel[grid](
            head_ptr=head,
            directions_ptr=directions,
            stride_direction=directions.stride(0),
            products_ptr=products,
            n_directions=m,
            scratch_ptr=scratch,
            **shares,
        )


def buffer(like: Tensor, *shape: int) -> Tensor:
    """Uninitialised float32 that a kernel will write; the only place that allocates it (tests put guards around it)."""
    return like.new_empty(shape, dtype=torch.float32)


def _signed(seed: int) -> int:
    """The low 64 bits of a seed as a signed integer, as kernels take them."""
    low = seed % (1 << 64)
    return low - (1 << 64) if low >> 63 else low
