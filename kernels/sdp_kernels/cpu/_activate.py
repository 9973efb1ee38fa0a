"""Activations and their derivatives over rows of float32, in loops that compile to vector instructions.

numba has no vector exp or erf of its own, so these are made of polynomials, one division, and the bits of an
exponent. Errors are absolute, a few 1e-7 (of f' and f'' too), which is what sums over samples can see; the torch
versions in `sdp_kernels.activations` are also accurate relatively in far tails, and three to ten times slower.

Sources: tanh's rational approximation is Eigen's (13/6 on [-7.9, 7.9]); erf's is Abramowitz and Stegun 7.1.26.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

KINDS = {
    name: number
    for number, name in enumerate(
        ("identity", "tanh", "sigmoid", "softplus", "gelu", "relu3", "erf", "phi_cdf", "phi")
    )
}
IDENTITY, TANH, SIGMOID, SOFTPLUS, GELU, RELU3, ERF, PHI_CDF, PHI = range(len(KINDS))

_LOG2E = np.float32(1.0 / math.log(2.0))
_LN2_HIGH, _LN2_LOW = np.float32(0.693359375), np.float32(-2.12194440e-4)  # Cody and Waite
_ROUNDER = np.float32(1.5 * 2.0**23)
_LARGEST = np.float32(87.0)
_TANH_END = np.float32(7.90531110763549805)
_INV_SQRT_2PI = np.float32(1.0 / math.sqrt(2.0 * math.pi))
_INV_SQRT_2 = np.float32(math.sqrt(0.5))
_TWO_OVER_SQRT_PI = np.float32(2.0 / math.sqrt(math.pi))
_ERF_P = np.float32(0.3275911)
_ONE, _HALF, _ZERO, _TWO = np.float32(1), np.float32(0.5), np.float32(0), np.float32(2)


@njit(cache=True, nogil=True, error_model="numpy")
def exp(x, out, bits):  # type: ignore[no-untyped-def]
    """The exponential of x in `out`, to 2e-7 relative for |x| <= 87, clamped beyond; int32 `bits` is scratch.

    `out` is not `x`: where they overlap, LLVM's check for that chooses the scalar loop.
    """
    power = bits.view(np.float32)
    for i in range(len(x)):
        y = min(max(x[i], -_LARGEST), _LARGEST)
        rounded = y * _LOG2E + _ROUNDER  # its low bits are the integer nearest to y log2(e)
        n = rounded - _ROUNDER
        power[i] = rounded
        r = (y - n * _LN2_HIGH) - n * _LN2_LOW
        p = np.float32(1.9875691500e-4)
        p = p * r + np.float32(1.3981999507e-3)
        p = p * r + np.float32(8.3334519073e-3)
        p = p * r + np.float32(4.1665795894e-2)
        p = p * r + np.float32(1.6666665459e-1)
        p = p * r + np.float32(5.0000001201e-1)
        out[i] = p * r * r + r + _ONE
    for i in range(len(x)):
        bits[i] = (bits[i] << np.int32(23)) + np.int32(0x3F800000)
    for i in range(len(x)):
        out[i] *= power[i]


@njit(cache=True, nogil=True, error_model="numpy")
def activate(kind, order, iota, x, f, f1, f2, scratch, bits):  # type: ignore[no-untyped-def]
    """f, f' and f'' of every x, as far as `order` asks: distinct float32 rows of one length.

    No loop has more than four arrays: beyond, LLVM finds too many pairs that may overlap and stays scalar.
    """
    n = len(x)
    if kind == TANH:
        for i in range(n):
            v = min(max(x[i], -_TANH_END), _TANH_END)
            w = v * v
            p = np.float32(-2.76076847742355e-16) * w + np.float32(2.00018790482477e-13)
            p = p * w + np.float32(-8.60467152213735e-11)
            p = p * w + np.float32(5.12229709037114e-08)
            p = p * w + np.float32(1.48572235717979e-05)
            p = p * w + np.float32(6.37261928875436e-04)
            p = p * w + np.float32(4.89352455891786e-03)
            r = np.float32(1.19825839466702e-06) * w + np.float32(1.18534705686654e-04)
            r = r * w + np.float32(2.26843463243900e-03)
            r = r * w + np.float32(4.89352518554385e-03)
            f[i] = v * p / r
        if order > 0:
            for i in range(n):
                f1[i] = _ONE - f[i] * f[i]
        if order > 1:
            for i in range(n):
                f2[i] = -_TWO * f[i] * f1[i]
    elif kind in (SIGMOID, SOFTPLUS):
        _sigmoid_family(kind, order, iota, x, f, f1, f2, scratch, bits)
    elif kind == RELU3:
        for i in range(n):
            p = max(x[i], _ZERO)
            f[i] = p * p * p
            f1[i] = np.float32(3) * p * p
            f2[i] = np.float32(6) * p
    elif kind == IDENTITY:
        for i in range(n):
            f[i] = x[i]
            f1[i] = _ONE
            f2[i] = _ZERO
    else:
        _normal_family(kind, x, f, f1, f2, scratch, bits)


@njit(cache=True, nogil=True, error_model="numpy")
def _sigmoid_family(kind, order, iota, x, f, f1, f2, scratch, bits):  # type: ignore[no-untyped-def]
    n = len(x)
    scale = iota if kind == SOFTPLUS else _ONE
    for i in range(n):
        f2[i] = -abs(scale * x[i])
    exp(f2, scratch, bits)
    if kind == SIGMOID:
        for i in range(n):
            e = scratch[i]
            inverse = _ONE / (_ONE + e)
            small = e * inverse
            f[i] = inverse if x[i] >= _ZERO else small
            f1[i] = small * inverse
        for i in range(n):
            f2[i] = (_ONE - _TWO * f[i]) * f1[i]
        return
    for i in range(n):
        v, e = x[i], scratch[i]
        # log(1 + e) = 2 atanh(w), w = e / (2 + e) <= 1/3
        w = e / (_TWO + e)
        z = w * w
        p = np.float32(2.0 / 13.0) * z + np.float32(2.0 / 11.0)
        p = p * z + np.float32(2.0 / 9.0)
        p = p * z + np.float32(2.0 / 7.0)
        p = p * z + np.float32(2.0 / 5.0)
        p = p * z + np.float32(2.0 / 3.0)
        p = p * z + _TWO
        f[i] = max(v, _ZERO) + w * p / scale
    if order > 0:
        for i in range(n):
            e = scratch[i]
            inverse = _ONE / (_ONE + e)
            f1[i] = inverse if x[i] >= _ZERO else e * inverse
            f2[i] = scale * e * inverse * inverse


@njit(cache=True, nogil=True, error_model="numpy")
def _normal_family(kind, x, f, f1, f2, scratch, bits):  # type: ignore[no-untyped-def]
    """What is made of exp(-x^2 / 2) and its integral: gelu, phi_cdf, phi, and erf(x) = 2 Phi(sqrt(2) x) - 1."""
    n = len(x)
    half = _ONE if kind == ERF else _HALF
    for i in range(n):
        f2[i] = -half * x[i] * x[i]
    exp(f2, scratch, bits)
    scale = _ONE if kind == ERF else _INV_SQRT_2
    for i in range(n):
        v, e = x[i], scratch[i]
        t = _ONE / (_ONE + _ERF_P * abs(v) * scale)
        p = np.float32(1.061405429) * t + np.float32(-1.453152027)
        p = p * t + np.float32(1.421413741)
        p = p * t + np.float32(-0.284496736)
        p = p * t + np.float32(0.254829592)
        tail = p * t * e  # erfc(|v| scale)
        f[i] = _ONE - tail if v >= _ZERO else tail - _ONE
    if kind == ERF:
        for i in range(n):
            f1[i] = _TWO_OVER_SQRT_PI * scratch[i]
        for i in range(n):
            f2[i] = -_TWO * x[i] * f1[i]
        return
    for i in range(n):
        f2[i] = _HALF + _HALF * f[i]  # Phi(x)
    if kind == GELU:
        for i in range(n):
            v, density = x[i], _INV_SQRT_2PI * scratch[i]
            f[i] = v * f2[i]
            f1[i] = f2[i] + v * density
        for i in range(n):
            f2[i] = (_TWO - x[i] * x[i]) * (_INV_SQRT_2PI * scratch[i])
    elif kind == PHI_CDF:
        for i in range(n):
            f[i] = f2[i]
            f1[i] = _INV_SQRT_2PI * scratch[i]
        for i in range(n):
            f2[i] = -x[i] * f1[i]
    else:
        for i in range(n):
            density = _INV_SQRT_2PI * scratch[i]
            f[i] = density
            f1[i] = -x[i] * density
        for i in range(n):
            f2[i] = (x[i] * x[i] - _ONE) * f[i]
