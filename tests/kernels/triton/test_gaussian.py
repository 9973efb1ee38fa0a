"""Random numbers of the Triton twin, interpreted: equal bits, normals to 2e-6, nothing written beside them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from sdp_kernels import gaussian
from sdp_kernels.cpu import gaussian as cpu
from sdp_kernels.triton import gaussian as twin
from sdp_kernels.triton._philox import box_muller, normal_tile, philox
from tests.kernels.test_philox import KNOWN
from tests.kernels.triton.guards import Guarded
from tests.reference import gaussian as oracle

BETWEEN_ENGINES = 2e-6  # the contract; each is within 1e-6 of exact arithmetic on the same words
RELATIVE = 1e-6


@pytest.fixture(autouse=True)
def _interpret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")


@pytest.fixture(params=["tiles of the interpreter", "tiles of a GPU"])
def tiles(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Small tiles as a GPU has them do not divide the shapes below; no number may depend on them."""
    if request.param == "tiles of a GPU":
        monkeypatch.setattr(twin, "TILE_INTERPRETED", 1024)


SHAPES = {  # (n_rows, n_columns), row offset, column offset
    "one number": ((1, 1), 0, 0),
    "one number of a cut call": ((1, 1), 7, 3),
    "whole calls, aligned": ((37, 64), 2**32 - 5, 256),
    "columns no multiple of 4": ((33, 50), 2**40, 128),
    "first call cut": ((5, 61), 2**62, 5),
    "one column": ((1500, 1), 3, 2**34 - 1),
    "one long row": ((1, 4100), 0, 2**33),
    "more columns than a tile": ((3, 1290), 1, 64),
}
Case = tuple[tuple[int, int], int, int]


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES.keys())
def test_equal_bits_on_both_engines(case: Case) -> None:
    shape, row, column = case
    position = (2**62 + 5, 3, row, column)
    for dtype, make in ((torch.int32, "uniform_bits"), (torch.int8, "rademacher")):
        expected = torch.empty(shape, dtype=dtype)
        getattr(cpu, make)(expected, *position)
        guarded = Guarded(shape, dtype)
        getattr(twin, make)(guarded.tensor, *position)
        assert torch.equal(guarded.check(), expected)


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize("bits", gaussian.RESOLUTIONS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("case", SHAPES.values(), ids=SHAPES.keys())
def test_normals_on_both_engines(case: Case, dtype: torch.dtype, bits: int) -> None:
    shape, row, column = case
    position = (99, 1, row, column)
    expected = torch.empty(shape, dtype=dtype)
    cpu.normal(expected, *position, bits)
    guarded = Guarded(shape, dtype)
    twin.normal(guarded.tensor, *position, bits)
    bound = BETWEEN_ENGINES if dtype == torch.float32 else 1e-14
    assert ((guarded.check() - expected).abs() <= bound * expected.abs()).all()


@pytest.mark.usefixtures("tiles")
@pytest.mark.parametrize(
    ("shape", "strides"),
    [((31, 12), (1, 31)), ((31, 12), (40, 3)), ((16, 32), (48, 1)), ((16, 32), (33, 1))],
    ids=["transposed", "both strided", "rows apart, aligned", "rows apart, not aligned"],
)
def test_strided_out(shape: tuple[int, int], strides: tuple[int, int]) -> None:
    guarded = Guarded(shape, torch.float32, strides)
    assert gaussian.normal(shape, seed=6, out=guarded.tensor) is guarded.tensor
    assert torch.equal(guarded.check(), gaussian.normal(shape, seed=6))


def test_tiles_change_no_bit(monkeypatch: pytest.MonkeyPatch) -> None:
    makers = (gaussian.uniform_bits, gaussian.normal, gaussian.rademacher)
    whole = [make((70, 130), seed=1) for make in makers]
    monkeypatch.setattr(twin, "TILE_INTERPRETED", 512)
    monkeypatch.setattr(twin, "MAX_COLUMNS", 64)  # several launches a row, as above 2^30 columns
    for make, expected in zip(makers, whole, strict=True):
        assert torch.equal(make((70, 130), seed=1), expected)
        part = make((5, 17), seed=1, row_offset=60, column_offset=101)
        assert torch.equal(part, expected[60:65, 101:118])


def test_empty() -> None:
    for make in (gaussian.uniform_bits, gaussian.normal, gaussian.rademacher):
        assert make((0, 3), seed=0).shape == (0, 3)
        assert make((3, 0), seed=0).shape == (3, 0)


def test_guards_see_what_they_must() -> None:
    """One number too many, or one too few, is not missed."""
    guarded = Guarded((4, 4), torch.float32)
    guarded.tensor.fill_(1.0)
    guarded.check()
    guarded.tensor.as_strided((1,), (1,), guarded.tensor.storage_offset() + 16).fill_(1.0)
    with pytest.raises(AssertionError, match="outside"):
        guarded.check()
    left = Guarded((4, 4), torch.int8, (5, 1))
    left.tensor[:, :3] = 1
    with pytest.raises(AssertionError, match="not written everywhere"):
        left.check()


@triton.jit
def _philox_kernel(words_ptr, out_ptr):  # type: ignore[no-untyped-def]
    """int64 (6,): counter and key -> int64 (4,)."""
    zero = tl.zeros((1,), tl.uint32)
    lane = tl.arange(0, 1)
    c0 = tl.load(words_ptr).to(tl.uint32) + zero
    c1 = tl.load(words_ptr + 1).to(tl.uint32) + zero
    c2 = tl.load(words_ptr + 2).to(tl.uint32) + zero
    c3 = tl.load(words_ptr + 3).to(tl.uint32) + zero
    w0, w1, w2, w3 = philox(
        c0, c1, c2, c3, tl.load(words_ptr + 4).to(tl.uint32), tl.load(words_ptr + 5).to(tl.uint32)
    )
    tl.store(out_ptr + lane, w0.to(tl.int64))
    tl.store(out_ptr + 1 + lane, w1.to(tl.int64))
    tl.store(out_ptr + 2 + lane, w2.to(tl.int64))
    tl.store(out_ptr + 3 + lane, w3.to(tl.int64))


@pytest.mark.parametrize(("counter", "key", "answer"), KNOWN.values(), ids=KNOWN.keys())
def test_known_answers(counter: tuple[int, ...], key: tuple[int, ...], answer: tuple[int, ...]) -> None:
    out = torch.empty(4, dtype=torch.int64)
    _philox_kernel[(1,)](torch.tensor([*counter, *key]), out)
    assert tuple(out.tolist()) == answer


@triton.jit
def _box_muller_kernel(w0_ptr, w1_ptr, first_ptr, second_ptr, BITS: tl.constexpr, N: tl.constexpr):  # type: ignore[no-untyped-def]
    offs = tl.arange(0, N)
    w0 = tl.load(w0_ptr + offs).to(tl.uint32, bitcast=True)
    w1 = tl.load(w1_ptr + offs).to(tl.uint32, bitcast=True)
    first, second = box_muller(w0, w1, BITS)
    tl.store(first_ptr + offs, first)
    tl.store(second_ptr + offs, second)


@pytest.mark.parametrize("bits", gaussian.RESOLUTIONS)
def test_extreme_and_random_words(bits: int) -> None:
    """As the CPU's test: the ends of the tail and of every quadrant, seams of the logarithm, and chance."""
    n = 1 << 16
    rng = np.random.default_rng(0)
    w0, w1 = rng.integers(0, 2**32, (2, n)).astype(np.uint32)
    step = 2 ** (32 - bits)
    radii = [
        0,
        step - 1,
        step,
        2**31 - 1,
        2**31,
        2**32 - 1,
        2**32 - step,
        2**32 - 2 * step,
        2863311530,
        2863311531,
    ]
    angles = [q * 2**30 + low for q in range(4) for low in (0, 1, 2**29 - 1, 2**29, 2**30 - 1)]
    pairs = np.array([(r, a) for r in radii for a in angles], dtype=np.uint32)
    w0[: len(pairs)], w1[: len(pairs)] = pairs.T
    w0[1000:3000] |= np.uint32(0xFFFFF000)  # u near 1: small radii
    first, second = torch.empty(n), torch.empty(n)
    _box_muller_kernel[(1,)](
        torch.from_numpy(w0.view(np.int32)),
        torch.from_numpy(w1.view(np.int32)),
        first,
        second,
        BITS=bits,
        N=n,
    )
    for found, exact in zip((first, second), oracle.normals(w0, w1, bits), strict=True):
        assert np.abs(found.numpy() / exact - 1).max() < RELATIVE
    largest = torch.hypot(first.double(), second.double()).max().item()
    assert largest > (6.7 if bits == 32 else 5.88)


@triton.jit
def _tile_kernel(out_ptr, first_row, first_block, purpose, seed, ROWS: tl.constexpr, COLUMNS: tl.constexpr):  # type: ignore[no-untyped-def]
    x = normal_tile(first_row, first_block, purpose, seed, ROWS, COLUMNS)
    tl.store(out_ptr + tl.arange(0, ROWS)[:, None] * COLUMNS + tl.arange(0, COLUMNS)[None, :], x)


def test_tile_of_normals() -> None:
    """What the fused kernels call, with its columns in order, is what the public function gives."""
    out = torch.empty(32, 16)
    _tile_kernel[(1,)](out, 2**40, 5, gaussian.PURPOSE_SAMPLES, 2**50, ROWS=32, COLUMNS=16)
    expected = gaussian.normal(
        (32, 16), seed=2**50, purpose=gaussian.PURPOSE_SAMPLES, row_offset=2**40, column_offset=20
    )
    assert torch.equal(out, expected)
