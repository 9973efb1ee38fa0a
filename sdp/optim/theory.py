"""The constants under which perturbed gradient descent is proved to reach an eps-second-order stationary point.

f has an ell-Lipschitz gradient and a rho-Lipschitz Hessian; f(x_0) - min f <= gap; with probability 1 - delta the
point found has ||grad f|| <= eps and lambda_min(hess f) >= -sqrt(rho eps). dim is the number of parameters.

    2017   chi = 3 max(ln(dim ell gap / (c eps^2 delta)), 4),  step c/ell,  radius sqrt(c) eps / (chi^2 ell),
           gradient test sqrt(c) eps / chi^2,  decrease (c/chi^3) sqrt(eps^3/rho),  wait chi ell / (c^2 sqrt(rho
           eps)), and at most (chi^4 / c^3) ell gap / eps^2 steps and one more wait: while the gradient is large a
           step lowers f by at least c^3 eps^2 / (chi^4 ell) for c <= 1/2, otherwise a wait lowers it by `decrease`,
           or the run ends.
    2021   iota = c max(ln(dim ell gap / (rho eps delta)), 1),  step 1/ell,  radius step eps / (400 iota^3): noise of
           norm eps / (400 iota^3), which has the units of a gradient, is stepped along as one, x - step noise;
           wait ell iota / sqrt(rho eps),  decrease sqrt(eps^3/rho) / (50 iota^3),
           8 max(gap wait / decrease, gap ell / eps^2) steps, of which at least half are such points; no stopping
           rule.

The papers leave c to be "a small enough" and "a large enough" constant. Steps are many: that is what is proved, and
why there is a practical mode.

Sources: Jin, Ge, Netrapalli, Kakade, Jordan, "How to escape saddle points efficiently" (ICML 2017), algorithms 2 and
3; Jin, Netrapalli, Ge, Kakade, Jordan, "On nonconvex optimization for machine learning" (JACM 2021), algorithms 1 and
2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

MOST_STEPS = 10_000_000
C_2017 = 0.25  # at most 1/2 in the count of steps above
C_2021 = 1.0


@dataclass(frozen=True)
class Constants:
    """What the theory asks of a run.

    Attributes:
        year: of the paper.
        step: learning rate, in units of x^2 / f.
        radius: of the noise, in units of x; for stochastic gradients its norm as a gradient, in units of f / x.
        gradient: the gradient test, in units of f / x.
        decrease: by which f must fall within `wait` steps of a perturbation, in units of f; 2021 has no such test.
        wait: steps between perturbations.
        promised_steps: after so many the paper's promise holds.
    """

    year: int
    step: float
    radius: float
    gradient: float
    decrease: float
    wait: int
    promised_steps: int


def pgd_2017(
    dim: int, ell: float, rho: float, eps: float, gap: float, delta: float, c: float = C_2017
) -> Constants:
    """Constants of 2017, see above.

    Raises:
        ValueError: a number is out of its range.

    >>> pgd_2017(2, ell=1.0, rho=1.0, eps=0.5, gap=0.5, delta=0.1).wait
    345
    """
    _check(dim, ell, rho, eps, gap, delta)
    if not 0.0 < c <= 0.5:
        raise ValueError(f"`c` must lie in (0, 0.5]; got {c}.")
    chi = 3.0 * max(math.log(dim * ell * gap / (c * eps**2 * delta)), 4.0)
    wait = math.ceil(chi * ell / (c**2 * math.sqrt(rho * eps)))
    return Constants(
        year=2017,
        step=c / ell,
        radius=math.sqrt(c) * eps / (chi**2 * ell),
        gradient=math.sqrt(c) * eps / chi**2,
        decrease=c / chi**3 * math.sqrt(eps**3 / rho),
        wait=wait,
        promised_steps=math.ceil(chi**4 / c**3 * ell * gap / eps**2) + wait,
    )


def pgd_2021(
    dim: int, ell: float, rho: float, eps: float, gap: float, delta: float, c: float = C_2021
) -> Constants:
    """Constants of 2021, see above.

    Raises:
        ValueError: a number is out of its range.

    >>> pgd_2021(2, ell=1.0, rho=1.0, eps=0.5, gap=0.5, delta=0.1).wait
    5
    """
    _check(dim, ell, rho, eps, gap, delta)
    if not 1.0 <= c < math.inf:
        raise ValueError(f"`c` must be at least 1 and finite; got {c}.")
    iota = c * max(math.log(dim * ell * gap / (rho * eps * delta)), 1.0)
    wait = ell * iota / math.sqrt(rho * eps)
    decrease = math.sqrt(eps**3 / rho) / (50.0 * iota**3)
    return Constants(
        year=2021,
        step=1.0 / ell,
        radius=eps / (400.0 * iota**3) / ell,
        gradient=eps,
        decrease=decrease,
        wait=math.ceil(wait),
        promised_steps=math.ceil(8.0 * max(gap * wait / decrease, gap * ell / eps**2)),
    )


def psgd_2021(
    dim: int, ell: float, rho: float, eps: float, gap: float, delta: float, sigma: float, c: float = C_2021
) -> Constants:
    """Constants of stochastic gradients of variance sigma^2, 2021.

        N = 1 + min(sigma^2 / eps^2 + ell / sqrt(rho eps), sigma^2 dim / eps^2),  step 1 / (iota^9 ell N),
        noise eps sqrt(N) up to logarithms, a new one each step,  wait iota / (step sqrt(rho eps)),
        decrease sqrt(eps^3 / rho) / iota^5,  gap wait / decrease = iota^15 ell gap N / eps^2 steps

    where single samples' gradients are taken to be ell-Lipschitz as well. The paper states the steps up to powers of
    iota; these are the ones by which f would have fallen by gap, at one decrease a wait.

    Raises:
        ValueError: a number is out of its range.

    >>> psgd_2021(2, ell=1.0, rho=1.0, eps=0.5, gap=0.5, delta=0.5, sigma=0.0).promised_steps
    269
    """
    _check(dim, ell, rho, eps, gap, delta)
    if not (math.isfinite(sigma) and sigma >= 0.0):
        raise ValueError(f"`sigma` must be finite and at least 0; got {sigma}.")
    iota = c * max(math.log(dim * ell * gap / (rho * eps * delta)), 1.0)
    samples = 1.0 + min(sigma**2 / eps**2 + ell / math.sqrt(rho * eps), sigma**2 * dim / eps**2)
    step = 1.0 / (iota**9 * ell * samples)
    wait = iota / (step * math.sqrt(rho * eps))
    decrease = math.sqrt(eps**3 / rho) / iota**5
    return Constants(
        year=2021,
        step=step,
        radius=eps * math.sqrt(samples),
        gradient=eps,
        decrease=decrease,
        wait=math.ceil(wait),
        promised_steps=math.ceil(gap * wait / decrease),
    )


def refuse_endless(constants: Constants, force: bool) -> None:
    """Refuse a run of more than MOST_STEPS steps, unless forced.

    Raises:
        ValueError: with the number of steps.
    """
    if constants.promised_steps > MOST_STEPS and not force:
        raise ValueError(
            f"`mode` 'theory' promises its point after {constants.promised_steps:,} steps, above {MOST_STEPS:,}; "
            "pass force=True to run them, a larger `eps`, or mode='practical'."
        )


def _check(dim: int, ell: float, rho: float, eps: float, gap: float, delta: float) -> None:
    if dim < 1:
        raise ValueError(f"`dim` must be at least 1; got {dim}.")
    for name, number in (("ell", ell), ("rho", rho), ("eps", eps), ("gap", gap)):
        if not 0.0 < number < math.inf:
            raise ValueError(f"`{name}` must be above 0 and finite; got {number}.")
    if not 0.0 < delta < 1.0:
        raise ValueError(f"`delta` must lie in (0, 1); got {delta}.")
    if eps > ell**2 / rho:
        raise ValueError(
            f"`eps` must be at most ell^2 / rho = {ell**2 / rho:g}, beyond which curvature asks nothing; got {eps}."
        )
