"""Device functions of the activations that every kernel shares, each with its first two derivatives.

    activate(x, A, iota) -> f        activate1 -> f, f'        activate2 -> f, f', f''

on float32 blocks of any shape; A is a name of `sdp_kernels.activations.NAMES`. All is float32 and within 4e-7 of
the exact value, relatively, near 0 and in the tails down to the smallest normal number (derivatives that cross zero:
relative to their terms at the crossing). NaN gives NaN, and infinity what the limit gives.

Machine instructions are few: one exp2 (a single MUFU.EX2), no division (a reciprocal is rsqrt squared and one
Newton step, 4 instructions, where `1 / y` takes 8), and every explicit `fma` is one on all engines, the
interpreter included. What digits would be lost is taken care of:

    tanh x      an odd polynomial below 0.7, else 2 / (1 + exp(-2 |x|)) - 1;  tanh' = 4 e / (1 + e)^2, never 1 - tanh^2
    sigmoid x   from e = exp(-|x|): 1 / (1 + e) or e / (1 + e);  its second derivative through tanh(x / 2)
    softplus    max(x, 0) + log1p(exp(-|iota x|)) / iota, log1p by polynomial
    Phi(-a)     = phi(a) m(a), m the Mills ratio by a polynomial in 1 / (1 + 0.35 a); gelu and erf rest on it
    exp(-a)     = exp2 of the rounded product a log2(e), times 1 + ln(2) (what the rounding left)

Polynomials are minimax (Remez), fitted for relative error below 7e-8.
"""

from __future__ import annotations

import triton
import triton.language as tl

_LOG2_E, _LOG2_E_REST = (
    tl.constexpr(1.4426950216293335),
    tl.constexpr(1.925963033500e-8),
)  # float32, and what it lacks
_MINUS_2_LOG2_E = tl.constexpr(-2.8853900817779268)
_MINUS_HALF_LOG2_E = tl.constexpr(-0.7213475204444817)
_LN_2 = tl.constexpr(0.6931471805599453)
_INV_SQRT_2PI = tl.constexpr(0.3989422804014327)
_SQRT_2_OVER_PI = tl.constexpr(0.7978845608028654)
_TWO_OVER_SQRT_PI = tl.constexpr(1.1283791670955126)
_SQRT_2 = tl.constexpr(1.4142135623730951)
_MILLS_SCALE = tl.constexpr(0.35)
_SIGN = tl.constexpr(-0x80000000)

_TANH_SERIES = tl.constexpr(0.7)  # below, tanh is a polynomial
_ERF_SERIES = tl.constexpr(0.8)
_MASS_SERIES = tl.constexpr(1.1313708498984762)  # sqrt 2 times that
_EXP_UNDERFLOWS = tl.constexpr(110.0)  # exp(-110) is 0 in float32
_PHI_UNDERFLOWS = tl.constexpr(15.0)  # and so is phi(15)


@triton.jit
def copy_sign(magnitude, sign):
    """|magnitude| with the sign of `sign`, given magnitude >= 0."""
    bits = sign.to(tl.int32, bitcast=True) & _SIGN
    return (magnitude.to(tl.int32, bitcast=True) | bits).to(tl.float32, bitcast=True)


@triton.jit
def at_most(x, bound):
    """min(x, bound), NaN where x is."""
    return tl.minimum(x, bound, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def reciprocal(y):
    """1 / y for y in [2^-60, 2^60], to one unit in the last place whatever the target's rsqrt is off by."""
    root = tl.rsqrt(y)
    r = root * root
    return tl.fma(r, tl.fma(-y, r, 1.0), r)


@triton.jit
def inverse_root(y):
    """1 / sqrt(y) for y in [2^-120, 2^120], to one unit in the last place, as `reciprocal`."""
    root = tl.rsqrt(y)
    return tl.fma(0.5 * root, tl.fma(-y * root, root, 1.0), root)


@triton.jit
def reciprocal_of_sum(y, rest):
    """1 / (y + rest), y as in `reciprocal` and rest what the rounding of y lost: a derivative squares its error."""
    root = tl.rsqrt(y)
    r = root * root
    return tl.fma(r, tl.fma(-rest, r, tl.fma(-y, r, 1.0)), r)


@triton.jit
def exp_minus(a, a_rest):
    """exp(-(a + a_rest)) for 0 <= a and a small rest (what a rounding of a lost); 0 from a = 103 on."""
    a = at_most(a, _EXP_UNDERFLOWS)
    high = a * -_LOG2_E
    low = tl.fma(a, -_LOG2_E, -high)
    low = tl.fma(a, -_LOG2_E_REST, low)
    e = tl.exp2(high)
    return tl.fma(e, tl.fma(low, _LN_2, -a_rest), e)


@triton.jit
def _tanh_from(x, r):
    """Value of tanh x, given r = 1 / (1 + exp(-2 |x|))."""
    z = x * x
    p = tl.fma(z, -0.00515511516, 0.02011166004)
    p = tl.fma(z, p, -0.05356698968)
    p = tl.fma(z, p, 0.1332924312)
    p = tl.fma(z, p, -0.3333319662)
    return tl.where(tl.abs(x) < _TANH_SERIES, tl.fma(x * z, p, x), copy_sign(tl.fma(r, 2.0, -1.0), x))


@triton.jit
def tanh(x):
    """Value of tanh x; alone, it needs no exact exponential, since it is 1 where that would count."""
    r = reciprocal(1.0 + tl.exp2(tl.abs(x) * _MINUS_2_LOG2_E))
    return _tanh_from(x, r)


@triton.jit
def tanh2(x):
    """Value of tanh x and its two derivatives."""
    e = exp_minus(2.0 * tl.abs(x), 0.0)
    y = 1.0 + e
    r = reciprocal_of_sum(y, e - (y - 1.0))
    t = _tanh_from(x, r)
    d = (4.0 * e * r) * r
    return t, d, -2.0 * t * d


@triton.jit
def sigmoid2(x):
    """1 / (1 + exp(-x)) and its two derivatives."""
    e = exp_minus(tl.abs(x), 0.0)
    y = 1.0 + e
    r = reciprocal_of_sum(y, e - (y - 1.0))
    er = e * r
    d = er * r
    return tl.where(x < 0.0, er, r), d, -_tanh_from(0.5 * x, r) * d


@triton.jit
def _log1p_of_unit(e):
    """log(1 + e) for e in [0, 1], relative error 3e-8."""
    p = tl.fma(e, 0.00523268576, -0.02950520282)
    p = tl.fma(e, p, 0.07822588985)
    p = tl.fma(e, p, -0.136632402)
    p = tl.fma(e, p, 0.1910600397)
    p = tl.fma(e, p, -0.2484298146)
    p = tl.fma(e, p, 0.3331909671)
    p = tl.fma(e, p, -0.4999949314)
    p = tl.fma(e, p, 0.9999999699)
    return e * p


@triton.jit
def softplus2(x, iota):
    """log(1 + exp(iota x)) / iota and its two derivatives, iota > 0 a float32 scalar."""
    y = iota * x
    rest = tl.where(tl.abs(y) < _EXP_UNDERFLOWS, tl.fma(iota, x, -y), 0.0)  # of an infinity it would be NaN
    e = exp_minus(tl.abs(y), tl.where(y < 0.0, -rest, rest))
    r = reciprocal(1.0 + e)
    er = e * r
    positive = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return positive + _log1p_of_unit(e) / iota, tl.where(y < 0.0, er, r), iota * (er * r)


@triton.jit
def normal_density(x):
    """phi(x) = exp(-x^2 / 2) / sqrt(2 pi)."""
    a = at_most(tl.abs(x), _PHI_UNDERFLOWS)
    square = a * a
    return exp_minus(0.5 * square, 0.5 * tl.fma(a, a, -square)) * _INV_SQRT_2PI


@triton.jit
def _mills(a):
    """Phi(-a) / phi(a) for a in [0, 15], relative error 4e-8 before rounding."""
    y = tl.fma(a, _MILLS_SCALE, 1.0)
    return _mills_from(reciprocal_of_sum(y, tl.fma(a, _MILLS_SCALE, 1.0 - y)))


@triton.jit
def _mills_from(t):
    """The same, given t = 1 / (1 + 0.35 a)."""
    p = tl.fma(t, -0.07310273684, 0.3611050625)
    p = tl.fma(t, p, -0.641447212)
    p = tl.fma(t, p, 0.3995347864)
    p = tl.fma(t, p, -0.0583111632)
    p = tl.fma(t, p, 0.2646357328)
    p = tl.fma(t, p, 0.3003331642)
    p = tl.fma(t, p, 0.3505878678)
    p = tl.fma(t, p, 0.3499785957)
    return t * p


@triton.jit
def normal_cdf2(x):
    """Phi(x), phi(x), -x phi(x)."""
    density = normal_density(x)
    a = at_most(tl.abs(x), _PHI_UNDERFLOWS)
    tail = density * _mills(a)
    return tl.where(x < 0.0, tail, 1.0 - tail), density, -copy_sign(a, x) * density


@triton.jit
def gelu2(x):
    """Value x Phi(x) and its two derivatives, Phi + x phi and (2 - x^2) phi."""
    cdf, density, slope = normal_cdf2(x)
    # Where the density underflows x is replaced by +-15, so that an infinity times 0 is 0.
    bounded = copy_sign(at_most(tl.abs(x), _PHI_UNDERFLOWS), x)
    return tl.where(x < 0.0, bounded, x) * cdf, cdf - slope, tl.fma(-bounded, bounded, 2.0) * density


@triton.jit
def normal_density2(x):
    """phi(x) and its two derivatives, -x phi and (x^2 - 1) phi."""
    density = normal_density(x)
    bounded = copy_sign(at_most(tl.abs(x), _PHI_UNDERFLOWS), x)
    return density, -bounded * density, tl.fma(bounded, bounded, -1.0) * density


@triton.jit
def erf2(x):
    """Value of erf x and its two derivatives."""
    a = at_most(tl.abs(x), _PHI_UNDERFLOWS)
    square = a * a
    e = exp_minus(square, tl.fma(a, a, -square))
    far = 1.0 - e * _SQRT_2_OVER_PI * _mills(a * _SQRT_2)
    z = x * x
    p = tl.fma(z, -0.0006535236636, 0.005085130536)
    p = tl.fma(z, p, -0.02682080678)
    p = tl.fma(z, p, 0.1128311281)
    p = tl.fma(z, p, -0.3761260139)
    p = tl.fma(z, p, 1.128379164)
    d = e * _TWO_OVER_SQRT_PI
    return tl.where(a < _ERF_SERIES, x * p, copy_sign(far, x)), d, -2.0 * copy_sign(a, x) * d


@triton.jit
def central_mass2(x):
    """Value of erf(x / sqrt 2), the chance that a normal lies within |x|, and phi(x), for sums of chances.

    Both within 1.5e-7 absolutely, the value relatively as well; phi's tail is left as rounded: 8 instructions fewer.
    """
    a = at_most(tl.abs(x), _PHI_UNDERFLOWS)
    z = a * a
    density = tl.exp2(z * _MINUS_HALF_LOG2_E) * _INV_SQRT_2PI
    y = tl.fma(a, _MILLS_SCALE, 1.0)
    root = tl.rsqrt(y)
    far = tl.fma(density * _mills_from(root * root), -2.0, 1.0)
    p = tl.fma(z, -1.444096919e-05, 0.0002247331428)
    p = tl.fma(z, p, -0.002370646794)
    p = tl.fma(z, p, 0.01994591395)
    p = tl.fma(z, p, -0.1329806275)
    p = tl.fma(z, p, 0.7978845586)
    return tl.where(a < _MASS_SERIES, x * p, copy_sign(far, x)), density


@triton.jit
def relu3_2(x):
    """max(x, 0)^3 and its two derivatives."""
    positive = tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)
    return positive * positive * positive, 3.0 * positive * positive, 6.0 * positive


@triton.jit
def activate2(x, ACTIVATION: tl.constexpr, iota):
    """f, f', f'' of a float32 block; what a caller does not use is not computed."""
    if ACTIVATION == "identity":
        return x, tl.full(x.shape, 1.0, tl.float32), tl.zeros(x.shape, tl.float32)
    elif ACTIVATION == "tanh":
        return tanh2(x)
    elif ACTIVATION == "sigmoid":
        return sigmoid2(x)
    elif ACTIVATION == "softplus":
        return softplus2(x, iota)
    elif ACTIVATION == "gelu":
        return gelu2(x)
    elif ACTIVATION == "relu3":
        return relu3_2(x)
    elif ACTIVATION == "erf":
        return erf2(x)
    elif ACTIVATION == "phi_cdf":
        return normal_cdf2(x)
    else:
        tl.static_assert(ACTIVATION == "phi", "unknown ACTIVATION")
        return normal_density2(x)


@triton.jit
def activate1(x, ACTIVATION: tl.constexpr, iota):
    """f, f' of a float32 block."""
    f, d, _ = activate2(x, ACTIVATION, iota)
    return f, d


@triton.jit
def activate(x, ACTIVATION: tl.constexpr, iota):
    """Value f of a float32 block."""
    if ACTIVATION == "tanh":
        return tanh(x)
    else:
        f, _, _ = activate2(x, ACTIVATION, iota)
        return f
