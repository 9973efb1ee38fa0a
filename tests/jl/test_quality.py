"""Quality of an embedding: against pairs one by one, its interval against many samples, its sentences."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from sdp.jl.quality import CONFIDENCE, measure, plot_quality, sampled_rows
from tests.reference import secants as reference

SEED = 2


def test_distortions_match_pairs_one_by_one() -> None:
    rng = np.random.default_rng(SEED)
    X, A = rng.standard_normal((30, 12)), rng.standard_normal((5, 12)) / 5**0.5
    X[4] = X[9]
    found = measure(X, X @ A.T, names=np.arange(100, 130))
    q = reference.stretches(X, A)
    off = np.abs(q - 1)
    assert found.n_pairs == len(q) == 30 * 29 / 2 - 1
    np.testing.assert_allclose(np.sort(found.stretches), np.sort(q), rtol=1e-9)
    assert found.mean == pytest.approx(off.mean())
    assert found.largest == pytest.approx(off.max())
    assert found.mean_stretch == pytest.approx(q.mean())
    assert found.worst_pair is not None
    i, j = (name - 100 for name in found.worst_pair)
    assert np.abs(reference.stretches(X[[i, j]], A) - 1)[0] == pytest.approx(off.max())


@pytest.mark.parametrize("scale", [1e-170, 1e160])
def test_the_size_of_the_rows_means_nothing(scale: float) -> None:
    X = np.random.default_rng(SEED).standard_normal((20, 8))
    found, expected = measure(X * scale, X[:, :4] * scale), measure(X, X[:, :4])
    assert found.n_pairs == expected.n_pairs == 190
    np.testing.assert_allclose(found.stretches, expected.stretches, rtol=1e-9)
    assert found.recall_at_10 == expected.recall_at_10


def test_rows_beside_a_large_one_are_pairs() -> None:
    X = np.random.default_rng(SEED).standard_normal((20, 8))
    expected = measure(X[1:], X[1:, :4])
    X[0] *= 1e200
    found = measure(X, X[:, :4])
    assert found.n_pairs == 190
    np.testing.assert_allclose(found.stretches[19:], expected.stretches, rtol=1e-9)


def test_neighbours_that_stay_are_counted() -> None:
    X = np.arange(40.0)[:, None] ** 1.5  # distinct gaps: no ties among neighbours
    assert measure(X, 3 * X).recall_at_10 == 1.0
    shuffled = np.random.default_rng(SEED).permutation(X)
    assert measure(X, shuffled).recall_at_10 < 0.6
    brute = []
    for a, b in zip(X, shuffled, strict=True):
        near = [
            set(np.argsort(np.abs(row[:, 0] - own), kind="stable")[1:11])
            for row, own in ((X, a), (shuffled, b))
        ]
        brute.append(len(near[0] & near[1]) / 10)
    assert measure(X, shuffled).recall_at_10 == pytest.approx(np.mean(brute))


def test_the_interval_covers_the_mean_of_all_rows() -> None:
    """200 samples of 40 rows from 800: an interval of 95% misses 10 on average, and more than 24 once in 10^5."""
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((800, 20)) * rng.exponential(1.0, (800, 1))
    Y = X @ rng.standard_normal((20, 6)) / 6**0.5
    true = measure(X, Y).mean
    missed = 0
    for seed in range(200):
        chosen = sampled_rows(800, 40, seed=seed)
        found = measure(X[chosen], Y[chosen])
        missed += not found.mean_low <= true <= found.mean_high
    assert CONFIDENCE == 0.95
    assert 0 < missed <= 24


def test_sampled_rows_are_distinct_rising_and_even() -> None:
    chosen = sampled_rows(10**12, 500, seed=1)
    assert len(np.unique(chosen)) == 500
    assert (np.diff(chosen) > 0).all()
    assert 0 <= chosen[0] < chosen[-1] < 10**12
    np.testing.assert_array_equal(chosen, sampled_rows(10**12, 500, seed=1))
    counts = np.bincount(
        np.concatenate([sampled_rows(10, 3, seed=seed) for seed in range(1000)]), minlength=10
    )
    assert np.abs(counts - 300).max() < 5 * math.sqrt(
        300 * 0.7
    )  # standard deviation of a row's count, five times


@pytest.mark.parametrize("n", [0, 1, 2, 5])
def test_few_rows_are_fine(n: int) -> None:
    X = np.eye(5)[:n]
    found = measure(X, X)
    assert found.n_pairs == n * (n - 1) // 2
    assert math.isnan(found.recall_at_10)
    json.dumps(found.to_dict(), allow_nan=False)
    assert found.in_words()


def test_the_same_row_many_times_has_no_pair(tmp_path: Path) -> None:
    found = measure(np.ones((20, 3)), np.ones((20, 2)))
    assert found.n_pairs == 0
    assert "nothing to measure" in found.in_words()[0][1]
    with pytest.raises(ValueError, match="nothing to draw"):
        plot_quality(found, tmp_path / "q.png")


def test_what_does_not_fit_gets_a_sentence() -> None:
    with pytest.raises(ValueError, match="X has 3 rows but Y has 2"):
        measure(np.eye(3), np.eye(3)[:2])
    with pytest.raises(ValueError, match="Y must be finite; row 1 is not"):
        measure(np.eye(2), np.array([[0.0], [np.nan]]))
    with pytest.raises(ValueError, match="X must be a matrix"):
        measure(np.zeros(3), np.zeros((3, 1)))


def test_a_plot_that_fails_leaves_the_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from matplotlib.figure import Figure

    def halfway(self: Figure, path: Path, **named: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    (tmp_path / "q.png").write_bytes(b"old")
    monkeypatch.setattr(Figure, "savefig", halfway)
    with pytest.raises(OSError, match="disk full"):
        plot_quality(measure(np.eye(3), np.eye(3)), tmp_path / "q.png")
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("q.png", b"old")]


def test_the_plot_is_a_picture(tmp_path: Path) -> None:
    X = np.random.default_rng(SEED).standard_normal((20, 4))
    plot_quality(measure(X, X[:, :2]), tmp_path / "q.png")
    assert (tmp_path / "q.png").read_bytes().startswith(b"\x89PNG")
