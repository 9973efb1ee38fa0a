"""How well an embedding keeps distances and neighbours, measured on sampled rows.

For m sampled rows all m (m - 1)/2 pairs are looked at. They share rows and so are not independent: the interval of the
mean distortion is the jackknife's, over rows, which is right for such means of pairs (U-statistics); it speaks of the
rows sampled from, and no sample can bound the largest distortion of all pairs.

Source: Arvesen, "Jackknifing U-statistics" (1969).
"""

from __future__ import annotations

import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.stats import t as student

from sdp.jl.secants import Matrix, given_blocks, scale_of, squared_distances
from sdp_kernels import gaussian

PURPOSE_SAMPLE = 123
NEIGHBOURS = 10
CONFIDENCE = 0.95
QUANTILES = (0.5, 0.9, 0.99)
BINS = 80


@dataclass(frozen=True)
class Quality:
    """Distortions |q - 1| of squared distances, q = |y_i - y_j|^2 / |x_i - x_j|^2, over pairs of sampled rows.

    Attributes:
        n_rows: rows sampled.
        n_pairs: pairs among them that differ at all.
        mean: mean distortion; NaN without a pair, as all that follow.
        mean_low, mean_high: interval of the mean over all pairs of the rows sampled from, at `confidence`.
        confidence: of that interval.
        quantiles: distortion at `QUANTILES`.
        largest: of the pairs looked at; others may have more.
        worst_pair: names of its rows.
        mean_stretch: mean q, 1 for an unbiased map.
        recall_at_10: share of each row's 10 nearest among the sample that are among its 10 nearest after embedding; NaN
            for fewer than 12 rows.
        stretches: q of every pair, for plots; left out of `to_dict`.
    """

    n_rows: int
    n_pairs: int
    mean: float
    mean_low: float
    mean_high: float
    confidence: float
    quantiles: tuple[float, ...]
    largest: float
    worst_pair: tuple[int, int] | None
    mean_stretch: float
    recall_at_10: float
    stretches: NDArray[np.float64]

    def to_dict(self) -> dict[str, Any]:
        """All fields but `stretches`, JSON-ready: None where there is no number."""
        fields = asdict(self)
        del fields["stretches"]
        return {name: _json_ready(value) for name, value in fields.items()}

    def in_words(self) -> list[tuple[str, str]]:
        """Lines of a summary: a name, and what was found."""
        if not self.n_pairs:
            return [("check", f"{self.n_rows} rows sampled, no pair of distinct ones: nothing to measure")]
        share = f"{100 * self.confidence:.0f}%"
        interval = f"{share} interval {self.mean_low:.4f} to {self.mean_high:.4f}"
        worst = "" if self.worst_pair is None else f", rows {self.worst_pair[0]} and {self.worst_pair[1]}"
        lines = [
            ("check", f"{self.n_pairs:,} pairs of {self.n_rows:,} sampled rows"),
            ("distortion", f"mean {self.mean:.4f} ({interval})"),
            ("worst found", f"{self.largest:.4f}{worst}"),
        ]
        if not math.isnan(self.recall_at_10):
            lines.append(("recall@10", f"{self.recall_at_10:.3f} among the sampled rows"))
        return lines


def sampled_rows(n_rows: int, count: int, *, seed: int) -> NDArray[np.int64]:
    """Up to `count` distinct rows of n_rows, rising, the same for the same seed: every set of them is equally likely.

    Complexity: O(count log count), whatever n_rows (Floyd's method).

    >>> sampled_rows(3, 5, seed=0).tolist()
    [0, 1, 2]
    """
    if count >= n_rows:
        return np.arange(n_rows)
    words = gaussian.uniform_bits((count, 2), seed=seed, purpose=PURPOSE_SAMPLE).numpy().view(np.uint32)
    high, low = words[:, 0].tolist(), words[:, 1].tolist()
    chosen: set[int] = set()
    for last, upper, lower in zip(range(n_rows - count, n_rows), high, low, strict=True):
        row = ((upper << 32 | lower) * (last + 1)) >> 64  # uniform in [0, last] up to 2^-64 n_rows
        chosen.add(last if row in chosen else row)
    return np.array(sorted(chosen), np.int64)


def measure(X: Any, Y: Any, *, names: NDArray[np.int64] | None = None) -> Quality:
    """Compares rows with their images.

    Args:
        X: (m, D), finite.
        Y: (m, k), finite: image i is of row i.
        names: int64 (m,), what `worst_pair` calls the rows; their positions by default.

    Raises:
        ValueError: the shapes do not fit, or a number is not finite.

    Complexity: O(m^2 (D + k)) time, O(m^2) memory: meant for samples of some thousand rows.

    >>> X = np.random.default_rng(0).standard_normal((50, 8))
    >>> same = measure(X, X)
    >>> same.n_pairs, round(same.largest, 12), same.recall_at_10
    (1225, 0.0, 1.0)
    """
    X, Y = _as_matrix(X, "X"), _as_matrix(Y, "Y")
    if len(X) != len(Y):
        raise ValueError(f"X has {len(X)} rows but Y has {len(Y)}; image i must be of row i.")
    scale = scale_of(X)
    X, Y = (
        np.ldexp(X, -scale),
        np.ldexp(Y, -scale),
    )  # no stretch changes, and squares do not overflow or vanish
    first, second, q = _pairs(X, Y)
    if not len(first):
        nan = math.nan
        empty = (nan,) * len(QUANTILES)
        return Quality(len(X), 0, nan, nan, nan, CONFIDENCE, empty, nan, None, nan, nan, np.empty(0))
    off = np.abs(q - 1.0)
    worst = int(off.argmax())
    pair = (first[worst], second[worst]) if names is None else (names[first[worst]], names[second[worst]])
    mean = float(off.mean())
    radius = _radius(off, first, second, len(X))
    return Quality(
        len(X),
        len(first),
        mean,
        max(0.0, mean - radius),
        mean + radius,
        CONFIDENCE,
        tuple(float(value) for value in np.quantile(off, QUANTILES)),
        float(off[worst]),
        (int(pair[0]), int(pair[1])),
        float(q.mean()),
        _recall(X, Y),
        q,
    )


def plot_quality(quality: Quality, path: str | os.PathLike[str]) -> None:
    """Draws the distribution of q, with its mean and its ends; the file appears whole or not at all.

    Raises:
        ValueError: there was no pair to draw.
    """
    if not quality.n_pairs:
        raise ValueError("no pair of distinct rows was measured; there is nothing to draw.")
    from matplotlib.figure import Figure  # no pyplot: no state, no window

    figure = Figure(figsize=(6.4, 3.6), layout="constrained")
    axes = figure.add_subplot()
    axes.hist(quality.stretches, bins=BINS, color="#4878a8")
    axes.axvline(1.0, color="black", linewidth=0.8)
    axes.set_yscale("log")
    axes.set_xlabel("squared distance after / before")
    axes.set_ylabel(f"pairs, of {quality.n_pairs:,}")
    recall = "" if math.isnan(quality.recall_at_10) else f", recall@10 {quality.recall_at_10:.3f}"
    axes.set_title(
        f"distortion {quality.mean:.3f} mean, {quality.largest:.3f} largest found{recall}", fontsize=10
    )
    path = Path(path)
    hidden = path.with_name(f".{path.name}.tmp")
    try:
        figure.savefig(hidden, dpi=150, format=path.suffix[1:].lower() or None)
        os.replace(hidden, path)
    finally:
        hidden.unlink(missing_ok=True)


def _as_matrix(rows: Any, name: str) -> Matrix:
    array = np.asarray(rows.cpu() if isinstance(rows, torch.Tensor) else rows, dtype=np.float64)
    if array.ndim != 2:
        raise ValueError(f"{name} must be a matrix of rows; got shape {array.shape}.")
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite; row {int(np.argwhere(~np.isfinite(array))[0][0])} is not.")
    return array


def _radius(off: Matrix, first: NDArray[np.intp], second: NDArray[np.intp], m: int) -> float:
    """Half the interval of a mean over pairs, by the jackknife: the mean without each row, and their spread."""
    sums = np.bincount(first, off, m) + np.bincount(second, off, m)
    counts = np.bincount(first, minlength=m) + np.bincount(second, minlength=m)
    left = len(off) - counts
    if m < 3 or (left == 0).any():
        return math.inf
    without = (off.sum() - sums) / left
    error = math.sqrt((m - 1) / m * float(((without - without.mean()) ** 2).sum()))
    return float(student.ppf(0.5 + CONFIDENCE / 2, m - 1)) * error


def _pairs(X: Matrix, Y: Matrix) -> tuple[NDArray[np.intp], NDArray[np.intp], Matrix]:
    """Both rows of every pair that differs at all, and q."""
    found = [(np.empty(0, np.intp), np.empty(0, np.intp), np.empty(0))]
    for top, left, q, is_pair in given_blocks(X, images=Y):
        i, j = np.nonzero(is_pair)
        found.append((top + i, left + j, q[i, j]))
    first, second, stretches = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return first, second, stretches


def _recall(X: Matrix, Y: Matrix) -> float:
    m = len(X)
    if m < NEIGHBOURS + 2:
        return math.nan
    nearest = []
    for rows in (X, Y):
        others = squared_distances(rows, rows)
        np.fill_diagonal(others, np.inf)
        nearest.append(np.argpartition(others, NEIGHBOURS, axis=1)[:, :NEIGHBOURS])
    shared = sum(len(np.intersect1d(*both)) for both in zip(*nearest, strict=True))
    return shared / (NEIGHBOURS * m)


def _json_ready(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, tuple):
        return [_json_ready(entry) for entry in value]
    return value
