"""The fused kernels of the Gaussian expectation, interpreted, against the float64 oracle with the same draws."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import pytest
import torch
from torch import Tensor

from sdp_kernels import gaussian
from sdp_kernels.expectation import Draw, Network, batch_sizes
from sdp_kernels.triton import expectation as fused
from sdp_kernels.triton import expectation_configs as configs
from tests.reference import expectation as oracle

# "high" is float32 throughout the interpreter: 2^-24 for each of a few hundred operations in a row, at random, is 1e-6;
# the contract of "high" is 3e-5 and tf32x3 needs part of it.
TOLERANCE = 3e-5
# Blocks of a gradient much smaller than the whole are held to the size of the whole: they are differences.
SMALL_BLOCK = 1e-2


class Case(NamedTuple):
    k: int
    q: int
    widths: tuple[int, ...]
    network: Network = Network("tanh")
    n: int = 90
    antithetic: bool = True
    dtype: torch.dtype = torch.float32


CASES = {
    "one layer, nothing a multiple of a block": Case(5, 3, (7,)),
    "two layers": Case(13, 17, (20, 9)),
    "four layers, plain samples": Case(3, 5, (4, 17, 6, 3), n=70, antithetic=False),
    "no layer: the output is linear": Case(20, 17, (), Network("tanh", "logistic", -1.0)),
    "no layer, input activated": Case(20, 3, (), Network("gelu", activate_input=True)),
    "input activated": Case(18, 33, (40,), Network("sigmoid", "mse", 0.3, activate_input=True), n=64),
    "width 1": Case(1, 1, (1, 1), Network("erf", "mse", -0.2)),
    "q above a block of columns": Case(6, 70, (33,), Network("softplus", iota=2.0), n=65),
    "q = 0": Case(4, 0, (6, 5), Network("phi_cdf")),
    "k above the widths of kernels": Case(300, 2, (12,), Network("relu3"), n=10),
    "full blocks": Case(64, 64, (64, 64), n=128),
    "widest": Case(130, 2, (128, 100), Network("gelu"), n=20),
    "float64": Case(9, 4, (16,), Network("identity", "mse", 0.5), dtype=torch.float64),
}


def make(case: Case, seed: int = 0) -> tuple[Tensor, Tensor, list[Tensor]]:
    """A random head of unit scale."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=case.dtype)

    params, width = [], case.k
    for h in case.widths:
        params += [normal(h, width) / width**0.5, 0.2 * normal(h)]
        width = h
    L = normal(case.k, case.q) / max(case.q, 1) ** 0.5
    return L, 0.3 * normal(case.k), [*params, normal(width) / width**0.5, 0.1 * normal()]


def points_of(case: Case) -> Draw:
    """Weighted points, one batch: few programs, and so fast to interpret."""
    generator = torch.Generator().manual_seed(7)
    points = torch.randn((case.n, case.q), generator=generator)
    weights = torch.rand(case.n, generator=generator) / case.n
    return Draw(n=case.n, seed=0, antithetic=case.antithetic, points=points, weights=weights)


def samples_of(draw: Draw, q: int) -> Tensor:
    """What the kernels draw: (n, q)."""
    purpose = gaussian.PURPOSE_SAMPLES
    return gaussian.normal((draw.n, q), seed=draw.seed, purpose=purpose, row_offset=draw.first)


def directions_of(head: tuple[Tensor, Tensor, list[Tensor]], m: int) -> Tensor:
    L, b, params = head
    n_columns = sum(tensor.numel() for tensor in (L, b, *params))
    return torch.randn((m, n_columns), generator=torch.Generator().manual_seed(3), dtype=L.dtype)


def assert_close(found: Tensor, expected: Tensor, sizes: Sequence[int] | None = None) -> None:
    """Relative errors within TOLERANCE, block by block of the last dimension."""
    assert found.dtype == torch.float64
    assert found.shape == expected.shape
    whole = expected.norm()
    for got, want in zip(
        torch.split(found, sizes or found.shape[-1:], dim=-1),
        torch.split(expected, sizes or found.shape[-1:], dim=-1),
        strict=True,
    ):
        assert (got - want).norm() <= TOLERANCE * torch.maximum(want.norm(), SMALL_BLOCK * whole)


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_all_kernels_agree_with_the_oracle(case: Case) -> None:
    head, draw = make(case), points_of(case)
    L, b, params = head
    directions = directions_of(head, 2)
    assert draw.points is not None
    values, grads, hvps = oracle.batches(
        *head,
        case.network,
        draw.points,
        weights=draw.weights,
        antithetic=case.antithetic,
        directions=directions,
    )
    sizes = [tensor.numel() for tensor in (L, b, *params)]
    assert_close(fused.value_batches(*head, case.network, draw, "high"), values)
    found_values, found_grads = fused.grad_batches(*head, case.network, draw, "fast")
    assert_close(found_values, values)
    assert_close(found_grads, grads, sizes)
    again_values, again_grads, found_hvps = fused.hvp_batches(*head, case.network, draw, directions, "high")
    assert_close(again_values, values)
    assert_close(again_grads, grads, sizes)
    assert_close(found_hvps[:, 0], hvps[:, 0], sizes)
    assert_close(found_hvps[:, 1], hvps[:, 1], sizes)


SHIFTED = {
    "k below the first width": Case(3, 2, (9, 5), Network("tanh", "logistic", 1.0), n=70),
    "k above it": Case(20, 3, (4,), Network("sigmoid"), n=20),
    "input activated": Case(4, 3, (6,), Network("gelu", activate_input=True), n=20),
    "no layer": Case(5, 3, (), Network("tanh", "mse", 0.1), n=20),
}


@pytest.mark.parametrize("case", SHIFTED.values(), ids=SHIFTED.keys())
def test_hessian_in_b(case: Case) -> None:
    head, draw = make(case), points_of(case)
    assert draw.points is not None
    expected = oracle.hessian_b(*head, case.network, draw.points, weights=draw.weights)
    found = fused.hessian_b_batches(*head, case.network, draw, "high")
    assert_close(found, expected)
    assert torch.equal(found, found.mT)


@pytest.mark.parametrize("antithetic", [True, False])
@pytest.mark.parametrize("n", [1, 3, 70], ids=["one", "fewer than batches", "a short last batch"])
def test_draws_and_batches(n: int, antithetic: bool) -> None:
    # A first row above 2^32 reaches the counter's second word.
    case = Case(4, 6, (5,))
    head, draw = make(case), Draw(n=n, seed=5, first=(1 << 33) + 3, antithetic=antithetic)
    values, grads, _ = oracle.batches(*head, case.network, samples_of(draw, case.q), antithetic=antithetic)
    assert len(values) == len(batch_sizes(n))
    found_values, found_grads = fused.grad_batches(*head, case.network, draw, "high")
    assert_close(found_values, values)
    assert_close(found_grads, grads)
    assert_close(fused.value_batches(*head, case.network, draw, "high"), values)


def test_seeds_differ_and_repeat() -> None:
    case = Case(4, 6, (5,))
    head = make(case)
    first, again, other = (
        fused.value_batches(*head, case.network, Draw(n=5, seed=seed), "high")
        for seed in (1, 1, (1 << 62) + 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_points_without_weights_are_batched() -> None:
    case = Case(4, 3, (5,))
    head = make(case)
    points = torch.randn((8, 3), generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = fused.value_batches(*head, case.network, Draw(n=8, seed=0, points=points), "high")
    assert_close(found, oracle.batches(*head, case.network, points)[0])


def test_strides_do_not_matter() -> None:
    case = Case(6, 5, (7, 4), n=20)
    head, draw = make(case), points_of(case)
    assert draw.points is not None
    assert draw.weights is not None

    def strided(tensor: Tensor) -> Tensor:
        wide = torch.full((*tensor.shape, 2), float("nan"), dtype=tensor.dtype)
        wide[..., 0] = tensor
        return wide[..., 0] if tensor.dim() < 2 else wide[..., 0].mT.contiguous().mT

    L, b, params = head
    other = draw._replace(points=strided(draw.points), weights=strided(draw.weights))
    assert not other.points.is_contiguous()
    directions = directions_of(head, 2)
    plain = fused.hvp_batches(L, b, params, case.network, draw, directions, "high")
    found = fused.hvp_batches(
        strided(L), strided(b), [strided(p) for p in params], case.network, other, strided(directions), "high"
    )
    assert all(torch.equal(x, y) for x, y in zip(plain, found, strict=True))


def test_several_launches_add_up(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(6, 5, (7, 4), n=300)
    head, draw = make(case), points_of(case)
    assert draw.points is not None
    tile = configs.config("grad", 16, "high", configs.INTERPRETER)
    monkeypatch.setattr(fused, "MAX_TILES", 2)
    monkeypatch.setattr(fused, "config", lambda *_: tile._replace(programs=2))
    split = fused.split_draws(draw.n, True, tile._replace(programs=2), 2)
    assert (split.splits, split.tiles, split.launches) == (2, 2, 2)
    values, grads, _ = oracle.batches(*head, case.network, draw.points, weights=draw.weights)
    found_values, found_grads = fused.grad_batches(*head, case.network, draw, "high")
    assert_close(found_values, values)
    assert_close(found_grads, grads)
    directions = directions_of(head, 2)
    expected = oracle.batches(*head, case.network, draw.points, weights=draw.weights, directions=directions)[
        2
    ]
    for state_bytes in (1, 1 << 29):  # one tile a launch, or all that MAX_TILES lets
        monkeypatch.setattr(fused, "STATE_BYTES", state_bytes)
        hvps = fused.hvp_batches(*head, case.network, draw, directions, "high")[2]
        assert_close(hvps.flatten(1), expected.flatten(1))


def test_groups_of_directions_have_the_same_bits(monkeypatch: pytest.MonkeyPatch) -> None:
    case = Case(6, 5, (7, 4), n=20)
    head, draw = make(case), points_of(case)
    directions = directions_of(head, 5)
    whole = fused.hvp_batches(*head, case.network, draw, directions, "high")
    monkeypatch.setattr(fused, "SUMS_BYTES", 1)
    parts = fused.hvp_batches(*head, case.network, draw, directions, "high")
    assert all(torch.equal(x, y) for x, y in zip(whole, parts, strict=True))


def test_no_directions() -> None:
    case = Case(3, 2, (4,), n=5)
    head, draw = make(case), points_of(case)
    values, grads, hvps = fused.hvp_batches(*head, case.network, draw, directions_of(head, 0), "high")
    assert hvps.shape == (1, 0, grads.shape[1])
    found_values, found_grads = fused.grad_batches(*head, case.network, draw, "high")
    assert torch.equal(values, found_values)
    assert torch.equal(grads, found_grads)


def test_nothing_outside_the_buffers_is_read_or_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every buffer that a kernel gets lies between zones of NaN: reading one would show in the results."""
    margin, guarded = 512, []

    def between_guards(tensor: Tensor) -> Tensor:
        wide = torch.full((tensor.numel() + 2 * margin,), float("nan"))
        inner = wide[margin : margin + tensor.numel()]
        inner.copy_(tensor.flatten())
        guarded.append(wide)
        return inner.view(tensor.shape)

    def buffer(like: Tensor, *shape: int) -> Tensor:
        return between_guards(torch.full(shape, float("nan")))

    pack = fused.Packing.pack
    monkeypatch.setattr(fused, "buffer", buffer)
    monkeypatch.setattr(fused.Packing, "pack", lambda self, head: between_guards(pack(self, head)))
    case = Case(13, 37, (20, 9, 33), n=67)
    head, draw = make(case), points_of(case)
    assert draw.points is not None
    assert draw.weights is not None
    draw = draw._replace(points=between_guards(draw.points), weights=between_guards(draw.weights))
    directions = directions_of(head, 2)
    values, grads, hvps = oracle.batches(
        *head, case.network, draw.points, weights=draw.weights, directions=directions
    )
    assert_close(fused.value_batches(*head, case.network, draw, "high"), values)
    assert_close(fused.grad_batches(*head, case.network, draw, "high")[1], grads)
    found = fused.hvp_batches(*head, case.network, draw, directions, "high")
    assert_close(found[1], grads)
    assert_close(found[2].flatten(1), hvps.flatten(1))
    hessian = oracle.hessian_b(*head, case.network, draw.points, weights=draw.weights)
    assert_close(fused.hessian_b_batches(*head, case.network, draw, "high"), hessian)
    assert len(guarded) > 12
    for wide in guarded:
        assert wide[:margin].isnan().all()
        assert wide[-margin:].isnan().all()


def test_wide_and_deep_heads_are_refused() -> None:
    narrow, wide, deep = Case(300, 2, (128,)), Case(2, 2, (129,)), Case(2, 2, (2,) * 5)
    for case, answer in ((narrow, True), (wide, False), (deep, False)):
        L, _, params = make(case)
        assert fused.is_narrow(L, params, case.network) == answer
        assert not (case is narrow and fused.is_narrow(L, params, Network("tanh", activate_input=True)))
    with pytest.raises(ValueError, match="at most 4 hidden layers of at most 128 units; got widths"):
        fused.value_batches(*make(wide), wide.network, Draw(n=2, seed=0), "high")
    with pytest.raises(ValueError, match="precision must be one of fast, high here; got 'exact'"):
        fused.value_batches(*make(narrow), narrow.network, Draw(n=2, seed=0), "exact")


def test_constants_that_are_named_twice() -> None:
    # Device code may import torch and triton only, so these are typed again there.
    assert fused.PURPOSE_SAMPLES == gaussian.PURPOSE_SAMPLES
    assert len(batch_sizes(10**9)) == fused.MAX_BATCHES
