"""How many components n points need: the classic formula, and the exact tail of a chi-square with a union bound.

For a Gaussian map and a unit vector x, k |A x|^2 is a chi-square variable with k degrees, so

    p(k, eps) = P(chi2_k > (1 + eps) k) + P(chi2_k < (1 - eps) k)

is exactly the chance that one squared length is wrong by more than eps, and n (n - 1) / 2 p(k, eps) bounds the chance
that any of the distances is. The classic formula bounds p by 2 exp(-k (eps^2/4 - eps^3/6)) and asks for
n^2 p <= 2 / ..., k >= 4 ln n / (eps^2/2 - eps^3/3): all distances hold with probability at least 1/n, no more.

Source: Dasgupta and Gupta, "An elementary proof of a theorem of Johnson and Lindenstrauss" (2003).
"""

from __future__ import annotations

import math
from numbers import Real
from typing import Any

from scipy.special import gammainc, gammaincc

METHODS = ("classic", "exact")
MOST = 2**62  # components; what asks for more is refused
_TOO_MANY = "`eps` = {eps} asks for more than 2^62 components."


def johnson_lindenstrauss_min_dim(
    n_samples: int, *, eps: float = 0.1, method: str = "classic", delta: float = 0.01
) -> int:
    """Smallest number of components that keeps all pairwise squared distances within 1 +- eps.

    Args:
        n_samples: how many points.
        eps: distortion allowed, in (0, 1).
        method: "classic", 4 ln n / (eps^2/2 - eps^3/3) rounded up, with success only likelier than 1/n; or "exact", the
            smallest k for which a union bound over the exact chi-square tails is at most `delta`, for Gaussian maps.
        delta: chance of failure that "exact" allows, in (0, 1).

    Returns:
        The number of components, at least 1.

    Raises:
        TypeError, ValueError: an argument that is none of these.

    Complexity: O(log k) evaluations of the incomplete gamma function.

    >>> johnson_lindenstrauss_min_dim(1_000_000, eps=0.1)  # 11841.87, never rounded down
    11842
    >>> johnson_lindenstrauss_min_dim(1000, eps=0.3, method="exact", delta=0.5)
    596
    """
    if isinstance(n_samples, bool) or not hasattr(n_samples, "__index__"):
        raise TypeError(f"`n_samples` must be an integer; got {n_samples!r}.")
    if n_samples < 1:
        raise ValueError(f"`n_samples` must be at least 1; got {n_samples}.")
    arguments = (("eps", eps), ("delta", delta))
    value: Any
    for name, value in arguments:
        if isinstance(value, bool) or not isinstance(value, Real):
            raise TypeError(f"`{name}` must be a number; got {value!r}.")
        if not 0 < float(value) < 1:
            raise ValueError(f"`{name}` must lie in (0, 1); got {value}.")
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    if method == "classic":
        return _classic(int(n_samples), float(eps))
    return _exact(int(n_samples), float(eps), float(delta))


def failure_probability(n_components: int, eps: float) -> float:
    """Chance p(k, eps) that a Gaussian map changes one squared length by more than eps.

    >>> round(failure_probability(2, 0.5), 4)  # 1 - exp(-.5) + exp(-1.5)
    0.6166
    """
    half = n_components / 2
    return float(gammaincc(half, half * (1 + eps)) + gammainc(half, half * (1 - eps)))


def _classic(n: int, eps: float) -> int:
    if n == 1:
        return 1
    per_log = eps**2 / 2 - eps**3 / 3
    # Compared as a product: the square of a tiny eps is 0, and the quotient may be infinite.
    if 4 * math.log(n) > MOST * per_log:
        raise ValueError(_TOO_MANY.format(eps=eps))
    return math.ceil(4 * math.log(n) / per_log)


def _exact(n: int, eps: float, delta: float) -> int:
    pairs = n * (n - 1) // 2
    if pairs == 0:
        return 1
    enough = 1
    while failure_probability(enough, eps) * pairs > delta:
        enough *= 2
        if enough > MOST:
            raise ValueError(_TOO_MANY.format(eps=eps))
    below = enough // 2
    # p falls as k doubles, and falls throughout where it is as small as a union bound needs.
    while enough - below > 1:
        middle = (enough + below) // 2
        if failure_probability(middle, eps) * pairs > delta:
            below = middle
        else:
            enough = middle
    return enough
