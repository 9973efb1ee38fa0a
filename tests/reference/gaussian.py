"""Normals of given words in extended precision, straight from the definition in `sdp_kernels.gaussian`."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Long = NDArray[np.longdouble]


def normals(
    radius_words: NDArray[np.uint32], angle_words: NDArray[np.uint32], bits: int
) -> tuple[Long, Long]:
    """The two normals of each pair of words: longdouble, of the shape of the words."""
    value = (radius_words >> np.uint32(32 - bits)).astype(np.longdouble) + np.longdouble(0.5)
    unit = np.longdouble(2.0) ** -bits
    u = value * unit
    distance_to_1 = (np.longdouble(2.0) ** bits - value) * unit  # exact
    minus_ln = np.where(u < 0.5, -np.log(u), -np.log1p(-np.minimum(distance_to_1, np.longdouble(0.75))))
    radius = np.sqrt(2 * minus_ln)
    low = (angle_words << np.uint32(2)).view(np.int32).astype(np.longdouble)
    quarter_pi = np.arctan(np.longdouble(1))
    t = quarter_pi * (low + 2) * np.longdouble(2.0) ** -31
    top = angle_words >> np.uint32(30)
    theta = np.choose(top, [t, 2 * quarter_pi - t, 4 * quarter_pi - t, t - 2 * quarter_pi])
    # cos(pi/2 - t) by way of the sum would lose the digits of a small t.
    cosine = np.choose(top, [np.cos(t), np.sin(t), -np.cos(t), np.sin(t)])
    sine = np.choose(top, [np.sin(t), np.cos(t), np.sin(t), -np.cos(t)])
    assert np.allclose(cosine.astype(float), np.cos(theta.astype(float)), atol=1e-14)
    assert np.allclose(sine.astype(float), np.sin(theta.astype(float)), atol=1e-14)
    return radius * cosine, radius * sine
