"""Numbers by position: known answers, any part equals the whole, exact tails, statistics on fixed samples, refusals."""

from __future__ import annotations

import math

import numba
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sdp_kernels import gaussian
from sdp_kernels.cpu import gaussian as twin
from tests.reference import gaussian as oracle
from tests.reference import graph as philox_oracle

RELATIVE = 1e-6  # of a float32 normal; 3e-7 is what a dozen roundings come to
WORD = 2**32


def word(seed: int, purpose: int, row: int, column: int) -> int:
    """The definition, in Python's integers."""
    counter = (row % WORD, row // WORD, column // 4, purpose)
    return philox_oracle.philox(counter, (seed % WORD, seed // WORD))[column % 4]


def test_the_authors_known_answer() -> None:
    """Key and counter of zeros: kat_vectors of Random123. Other vectors: test_philox, triton/test_gaussian."""
    found = gaussian.uniform_bits(4, seed=0).numpy().view(np.uint32)
    assert [hex(value) for value in found] == ["0x6627e8d5", "0xe169c58d", "0xbc57ac4c", "0x9b00dbd8"]


@pytest.mark.parametrize(
    ("seed", "purpose", "row", "column"),
    [(1, 0, 0, 0), (2**63 - 1, 2**31 - 1, 2**63 - 3, 2**34 - 7), (2**40 + 3, 5, 2**33 + 1, 2**33 + 2)],
    ids=["small", "largest", "above 32 bits"],
)
def test_words_are_philox_at_their_position(seed: int, purpose: int, row: int, column: int) -> None:
    found = gaussian.uniform_bits(
        (2, 6), seed=seed, purpose=purpose, row_offset=row, column_offset=column
    ).numpy()
    assert found.dtype == np.int32
    expected = [[word(seed, purpose, row + r, column + c) for c in range(6)] for r in range(2)]
    assert found.view(np.uint32).tolist() == expected


def test_signs_are_the_bits_of_a_call() -> None:
    seed, purpose, row, column = 2**35 + 9, 3, 2**34, 128 * 7
    signs = gaussian.rademacher((2, 256), seed=seed, purpose=purpose, row_offset=row, column_offset=column)
    for r in range(2):
        words = [word(seed, purpose + 2**31, row + r, 4 * 7 + i) for i in range(8)]
        bits = [(words[c // 32] >> (c % 32)) & 1 for c in range(256)]
        assert signs[r].tolist() == [2 * bit - 1 for bit in bits]


@pytest.mark.parametrize("bits", gaussian.RESOLUTIONS)
def test_normals_are_box_muller_of_the_words(bits: int) -> None:
    place = {"seed": 5, "purpose": 2, "row_offset": 11}
    words = gaussian.uniform_bits((500, 40), **place).numpy().view(np.uint32)
    first, second = oracle.normals(words[:, ::2], words[:, 1::2], bits)
    exact = np.stack((first, second), axis=2).reshape(500, 40)
    single = gaussian.normal((500, 40), **place, bits=bits)
    assert single.dtype == torch.float32
    assert np.abs(single.numpy() / exact - 1).max() < RELATIVE
    double = gaussian.normal((500, 40), **place, bits=bits, dtype=torch.float64)
    assert np.abs(double.numpy() / exact - 1).max() < 1e-14


@pytest.mark.parametrize("bits", gaussian.RESOLUTIONS)
def test_extreme_words(bits: int) -> None:
    """The largest and smallest radius, the seams of the logarithm, the ends of every quadrant."""
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
    tile = np.zeros((2, twin.CALLS), dtype=np.uint32)
    tile[:, : len(pairs)] = pairs.T
    first, second = np.empty(twin.CALLS, dtype=np.float32), np.empty(twin.CALLS, dtype=np.float32)
    scratch, exponents = np.empty(twin.CALLS, dtype=np.float32), np.empty(twin.CALLS, dtype=np.int32)
    twin.box_muller(tile[0], tile[1], bits, scratch, exponents, first, second)
    for found, exact in zip((first, second), oracle.normals(tile[0], tile[1], bits), strict=True):
        assert np.abs(found / exact - 1).max() < RELATIVE
    largest = np.hypot(first.astype(float), second.astype(float)).max()
    assert largest == pytest.approx(math.sqrt(2 * (bits + 1) * math.log(2)), rel=1e-6)
    assert largest > (6.6 if bits == 32 else 5.8)
    assert (first != 0).all()
    assert (second != 0).all()


@given(data=st.data(), rows=st.integers(1, 9), columns=st.integers(1, 300))
def test_any_part_is_a_slice_of_the_whole(data: st.DataObject, rows: int, columns: int) -> None:
    top, left = data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, columns - 1))
    part = (data.draw(st.integers(0, rows - top)), data.draw(st.integers(0, columns - left)))
    seed = data.draw(st.integers(0, 2**63 - 1))
    row = data.draw(st.sampled_from([0, 2**32 - 4, 2**50]))
    column = data.draw(st.integers(0, 500))
    place = {"seed": seed, "row_offset": row, "column_offset": column}
    inner = {"seed": seed, "row_offset": row + top, "column_offset": column + left}
    where = (slice(top, top + part[0]), slice(left, left + part[1]))
    for make in (gaussian.uniform_bits, gaussian.normal, gaussian.rademacher):
        assert torch.equal(make(part, **inner), make((rows, columns), **place)[where])


def test_long_rows_and_many_rows() -> None:
    """Above a tile of 512 calls in either direction, and threads: bits do not depend on how many there are."""
    before = numba.get_num_threads()
    try:
        found = []
        for threads in (1, before):
            numba.set_num_threads(threads)
            found.append([gaussian.normal(shape, seed=3) for shape in ((3, 50_001), (50_001, 3), (150_003,))])
    finally:
        numba.set_num_threads(before)
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)
    assert torch.equal(found[0][0][0], found[0][2][:50_001])
    assert torch.equal(found[0][1][:3], found[0][0][:, :3])


@pytest.mark.parametrize("shape", [(0,), (0, 5), (5, 0), 0], ids=str)
def test_empty(shape: int | tuple[int, ...]) -> None:
    expected = (0,) if shape == 0 else shape
    for make in (gaussian.uniform_bits, gaussian.normal, gaussian.rademacher):
        assert tuple(make(shape, seed=1).shape) == expected
    out = torch.empty(expected)
    assert gaussian.normal(shape, seed=1, out=out) is out


def test_one_number_and_kinds_of_integers() -> None:
    assert torch.equal(gaussian.normal(1, seed=4), gaussian.normal((1, 1), seed=np.int64(4))[0])
    assert torch.equal(gaussian.normal(torch.Size([2, 3]), seed=4), gaussian.normal([np.int32(2), 3], seed=4))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(
    ("shape", "strides"),
    [((7, 5), (1, 7)), ((7, 5), (20, 3)), ((6, 8), (16, 1)), ((30,), (4,))],
    ids=["transposed", "both strided", "rows apart", "vector"],
)
def test_out_with_strides(shape: tuple[int, ...], strides: tuple[int, ...], dtype: torch.dtype) -> None:
    buffer = torch.full((400,), 99.0, dtype=dtype)
    out = buffer.as_strided(shape, strides, 9)
    expected = gaussian.normal(shape, seed=8, dtype=dtype)
    assert gaussian.normal(shape, seed=8, out=out) is out
    assert torch.equal(out, expected)
    out.fill_(99.0)
    assert (buffer == 99.0).all()


def test_streams_differ() -> None:
    def draw(**place: int) -> torch.Tensor:
        return gaussian.uniform_bits((4, 4), **{"seed": 1, **place})

    base = draw()
    others = [
        draw(seed=2),
        draw(seed=1 + 2**32),
        draw(purpose=1),
        draw(row_offset=2**32),
        draw(column_offset=2**20),
    ]
    assert not any((base == other).any() for other in others)
    signs = [gaussian.rademacher(128, seed=1, purpose=purpose) for purpose in (0, 1)]
    assert abs(int((signs[0] == signs[1]).sum()) - 64) < 30
    # A sign's words are none of the words of the same purpose: those of row 0, columns 0 to 3, would be these bits.
    words = gaussian.uniform_bits(4, seed=1).numpy().view(np.uint32)
    bits = [2 * ((int(words[c // 32]) >> (c % 32)) & 1) - 1 for c in range(128)]
    assert signs[0].tolist() != bits


# Statistics: one sample of fixed seed and size for each, five standard deviations or a p-value of 1e-4.
N = 1 << 20


def test_moments() -> None:
    x = gaussian.normal((N // 16, 16), seed=2026, dtype=torch.float64)
    for power, mean, variance in (
        (1, 0.0, 1.0),
        (2, 1.0, 2.0),
        (3, 0.0, 15.0),
        (4, 3.0, 96.0),
        (6, 15.0, 10170.0),
    ):
        assert abs((x**power).mean().item() - mean) < 5 * math.sqrt(variance / N), power


@pytest.mark.parametrize("bits", gaussian.RESOLUTIONS)
def test_distribution(bits: int) -> None:
    x = gaussian.normal(N, seed=17, bits=bits).numpy()
    assert stats.kstest(x, "norm").pvalue > 1e-4
    beyond = int((np.abs(x) > 4.0).sum())
    expected = N * 2 * stats.norm.sf(4.0)
    assert abs(beyond - expected) < 5 * math.sqrt(expected)


def test_lanes_rows_and_columns_are_independent() -> None:
    x = gaussian.normal((N // 16, 16), seed=5, dtype=torch.float64)
    n = len(x)
    covariance = x.T @ x / n - torch.eye(16, dtype=torch.float64)
    assert covariance.abs().max().item() < 5 * math.sqrt(2 / n)
    squares = (x**2 - 1).T @ (x**2 - 1) / n / 2 - torch.eye(16, dtype=torch.float64)
    assert squares.fill_diagonal_(0.0).abs().max().item() < 5 / math.sqrt(n)
    for lag in (1, 2, 1024):
        assert abs((x[:-lag] * x[lag:]).mean().item()) < 5 / math.sqrt(N)


def test_pairs_have_no_direction() -> None:
    x = gaussian.normal((N // 2, 2), seed=9, dtype=torch.float64).numpy()
    angles = np.arctan2(x[:, 1], x[:, 0])
    assert stats.kstest(angles, "uniform", args=(-math.pi, 2 * math.pi)).pvalue > 1e-4
    octants = np.histogram(angles, bins=64, range=(-math.pi, math.pi))[0]
    assert stats.chisquare(octants).pvalue > 1e-4


def test_bits_and_signs_are_fair() -> None:
    words = gaussian.uniform_bits(N // 8, seed=31).numpy().view(np.uint32)
    for bit in range(32):
        ones = int(((words >> np.uint32(bit)) & 1).sum())
        assert abs(ones - len(words) / 2) < 5 * math.sqrt(len(words)) / 2, bit
    assert stats.chisquare(np.bincount(words >> 24, minlength=256)).pvalue > 1e-4
    signs = gaussian.rademacher((N // 1024, 1024), seed=31).double()
    assert signs.abs().eq(1).all()
    assert abs(signs.mean().item()) < 5 / math.sqrt(N)
    assert (signs.mean(0).abs() < 5 / math.sqrt(len(signs))).all()
    gram = signs.T @ signs / len(signs) - torch.eye(1024, dtype=torch.float64)
    assert gram.abs().max().item() < 6 / math.sqrt(len(signs))


@pytest.mark.parametrize("make", [gaussian.uniform_bits, gaussian.normal, gaussian.rademacher])
def test_refused_places(make) -> None:  # type: ignore[no-untyped-def]
    for name in ("seed", "purpose", "row_offset", "column_offset"):
        place = {"seed": 0, name: math.nan}
        with pytest.raises(TypeError, match=rf"^`{name}` must be an integer; got nan\.$"):
            make(4, **place)
        with pytest.raises(TypeError, match=rf"^`{name}` must be an integer; got True\.$"):
            make(4, **{**place, name: True})
    for place, sentence in (
        ({"seed": -1}, "`seed` must lie in [0, 2^63); got -1."),
        ({"seed": 2**63}, f"`seed` must lie in [0, 2^63); got {2**63}."),
        ({"purpose": 2**31}, f"`purpose` must lie in [0, 2^31); got {2**31}."),
        ({"row_offset": 2**63 - 1}, f"`row_offset` must lie in [0, 2^63 - 2], for 2 rows; got {2**63 - 1}."),
        ({"column_offset": 2**34}, f"`column_offset` must lie in [0, 2^34 - 3], for 3 columns; got {2**34}."),
    ):
        with pytest.raises(ValueError) as refused:  # noqa: PT011
            make((2, 3), **{"seed": 0, **place})
        assert str(refused.value) == sentence
    with pytest.raises(TypeError, match=r"^`shape` must be an integer; got 2\.5\.$"):
        make((2.5, 3), seed=0)
    for shape in ((2, 3, 4), (-1,), ()):
        with pytest.raises(
            ValueError, match=r"^`shape` must be \(n_rows, n_columns\) or \(n,\), none negative; got"
        ):
            make(shape, seed=0)
    with pytest.raises(ValueError, match=r"^no engine for device 'meta'; devices are cpu, cuda\.$"):
        make(3, seed=0, device="meta")


def test_refused_results() -> None:
    with pytest.raises(ValueError, match=r"^`bits` must be one of 24, 32; got 16\.$"):
        gaussian.normal(3, seed=0, bits=16)
    with pytest.raises(
        TypeError, match=r"^`dtype` must be torch\.float32 or torch\.float64; got torch\.float16\.$"
    ):
        gaussian.normal(3, seed=0, dtype=torch.float16)
    for out, kind, sentence in (
        (torch.empty(3, 2), ValueError, "`out` must have shape (2, 3); got (3, 2)."),
        (
            torch.empty(2, 3, dtype=torch.int32),
            TypeError,
            "`out` must be float32 or float64; got torch.int32.",
        ),
        (torch.empty(1, 3).expand(2, 3), ValueError, "`out` must not overlap itself; it was expanded."),
        (
            torch.empty(2, 3, requires_grad=True),
            ValueError,
            "`out` must not require a gradient; random numbers have none.",
        ),
    ):
        with pytest.raises(kind) as refused:
            gaussian.normal((2, 3), seed=0, out=out)
        assert str(refused.value) == sentence
    with pytest.raises(TypeError, match=r"^`out` is torch\.float32 but `dtype` is torch\.float64\.$"):
        gaussian.normal(3, seed=0, out=torch.empty(3), dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^`out` lies on cpu but `device` is cuda\.$"):
        gaussian.normal(3, seed=0, out=torch.empty(3), device="cuda")
