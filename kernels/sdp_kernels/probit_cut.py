"""The expected cut of Gaussian signs, exactly: no sampling, and no quadrature in any derivative.

Vertex i takes the side sign(z_i), z Gaussian with means mu_i, variances s_i^2 and, on the edges,
covariances c_ij. With a_i = mu_i / s_i and r_ij = c_ij / (s_i s_j) an edge is cut with probability

    p(a, b; r) = Phi(a) + Phi(b) - 2 Phi2(a, b; r),        F = sum_{i<j} w_ij p(a_i, a_j; r_ij)

(at mu = 0, arccos(r) / pi). The *probit cut* of V (n, r) and mu is that of z = V x + mu + e / beta with
x, e standard normal, that is the cut of the soft signs Phi(beta (V x + mu)): c_ij = v_i . v_j and
s_i^2 = beta^-2 + |v_i|^2. Only these second moments enter, so every operation here works on them; `law`
computes them from V.

Derivatives (dPhi2/dr = phi2, dPhi2/da = phi(a) Phi((b - r a) / sqrt(1 - r^2))):

    t_ij               = (a_j - r a_i) / sqrt(1 - r^2)
    dF/dmu_i           = -phi(a_i) / s_i  sum_j w_ij erf(t_ij / sqrt 2)
    d2F/dmu_i dmu_j    = dF/dc_ij = -2 w_ij phi(a_i) phi(t_ij) / (sqrt(1 - r^2) s_i s_j)          (edges)
    d2F/dmu_i^2        = 2 dF/d(s_i^2) = -(a_i s_i dF/dmu_i + sum_j c_ij dF/dc_ij) / s_i^2

The last two lines are Price's theorem: the Hessian H in mu has the graph's own pattern, and Stein's
identity makes the gradient in V a product with it, grad_V F = H V. One pass over the edges gives all.

The CPU engine computes in float64. The Triton engine computes in float32 (final sums of values in float64) and keeps
beside each covariance the complement 1 - r^2, which float32 cannot tell from r where edges are nearly parallel or
opposite, as most are in a relaxation. Measured against float64 for beta from 1 to 50 and means from 0 to 30: values
within 1e-7 sum |w|, gradients within 1e-5 of their largest entry. Where *every* edge is within an angle theta of
parallel or opposite and means vanish, the gradient in V is itself a small difference: 1e-7 / theta of its largest
entry, as much as rounding V to float32 moves it.
"""

from __future__ import annotations

import math
from types import ModuleType
from typing import NamedTuple

import torch
from torch import Tensor

from sdp_kernels._engine import host_twin, twin
from sdp_kernels.graph import CSR


class Law(NamedTuple):
    """Second moments of z that a cut can see, float64; float32 where the Triton engine made them.

    Attributes:
        covariances: (2m,), Cov(z_i, z_j) of each CSR entry.
        variances: (n,), Var(z_i) > 0.
        complements: (2m,), 1 - r_ij^2 of each CSR entry, to a relative error; None where the covariances tell it well
            enough: on the CPU engine, which does not look at it, and in a law of your own far from |r| = 1.
    """

    covariances: Tensor
    variances: Tensor
    complements: Tensor | None = None


class Derivatives(NamedTuple):
    """First and second derivatives in mu of the expected cut, in units of edge weight; float64, on Triton float32.

    Attributes:
        gradient: (n,), dF/dmu.
        entries: (2m,), the Hessian's entry of each CSR entry; also dF/dc_ij.
        diagonal: (n,), the Hessian's diagonal; also 2 dF/d(s_i^2).
    """

    gradient: Tensor
    entries: Tensor
    diagonal: Tensor


def probit_cut_value(csr: CSR, V: Tensor, mu: Tensor, beta: float) -> float:
    """Expected cut of the soft signs Phi(beta (V x + mu)), x ~ N(0, I_r).

    Args:
        csr: the graph, weights of either sign.
        V: (n, r) float32 or float64, r >= 0; strided is fine. The Triton engine rounds it to float32.
        mu: (n,) of V's dtype.
        beta: steepness, positive. `math.inf` means hard signs; then every row of V must be non-zero.

    Returns:
        The value in units of edge weight; an edge's probability to 1e-12 on the CPU, 3e-7 on Triton.

    Raises:
        TypeError, ValueError: shapes or dtypes that do not fit, beta not positive, or beta infinite and a
            row of V zero (its sign would be decided by nothing).

    Complexity: O(m (r + quadrature points)), 8 (2m) bytes of workspace.
    """
    moments = law(csr, V, beta)
    return law_value(csr, moments, _checked_mean(csr, mu, V.dtype).to(moments.variances.dtype))


def probit_cut_value_and_grad(csr: CSR, V: Tensor, mu: Tensor, beta: float) -> tuple[float, Tensor, Tensor]:
    """Expected cut of the soft signs, and its gradients in V and mu.

    Args:
        csr: as in `probit_cut_value`.
        V: as in `probit_cut_value`.
        mu: as in `probit_cut_value`.
        beta: steepness, positive and finite: the gradient of hard signs is unbounded where v_i = v_j.

    Returns:
        The value (float), grad_V (n, r) and grad_mu (n,) in the dtype of V, in units of edge weight.

    Raises:
        TypeError, ValueError: as `probit_cut_value`, and for an infinite beta.

    Complexity: twice the gathers of `probit_cut_value`, and 20 (2m) bytes of workspace.
    """
    if beta == math.inf:
        raise ValueError("`beta` must be finite where a gradient is wanted; got inf.")
    moments = law(csr, V, beta)
    mean = _checked_mean(csr, mu, V.dtype).to(moments.variances.dtype)
    value, derivatives = law_value_and_derivatives(csr, moments, mean)
    grad_V = hessian_product(csr, derivatives, V)
    return value, grad_V, derivatives.gradient.to(V.dtype)


def law(csr: CSR, V: Tensor, beta: float) -> Law:
    """Second moments of z = V x + e / beta on the vertices and edges of the graph.

    Args, Raises: as `probit_cut_value`.

    Complexity: O(m r) gathers.
    """
    _check_matrix(csr, "V", V)
    if not beta > 0:
        raise ValueError(f"`beta` must be positive; got {beta}.")
    moments = Law(*twin("probit_cut", *csr, V).second_moments(csr, V, beta))
    if beta == math.inf and not bool((moments.variances > 0).all()):
        raise ValueError("every row of `V` must be non-zero where `beta` is infinite.")
    return moments


def scaled_law(csr: CSR, moments: Law, beta: float, scale: float) -> Law:
    """The law of scale V at the same beta, from the law of V and without V.

    Args:
        csr: the graph.
        moments: `law(csr, V, beta)`, not scaled before in any other way.
        beta: steepness of that law, positive and finite.
        scale: in [0, 1]: complements of a larger V would come from a difference.

    Returns:
        The law: covariances by scale^2, beta^-2 + scale^2 |v_i|^2 for variances.

    Raises:
        TypeError, ValueError: moments that do not fit the graph, or beta or scale out of range.

    Complexity: O(m).
    """
    engine = _checked_twin(csr, moments)
    if not 0.0 < beta < math.inf:
        raise ValueError(f"`beta` must be positive and finite; got {beta}.")
    if not 0.0 <= scale <= 1.0:
        raise ValueError(f"`scale` must lie in [0, 1]; got {scale}.")
    return Law(*engine.scaled_moments(csr, moments, beta, scale))


def law_value(csr: CSR, moments: Law, mean: Tensor) -> float:
    """Expected cut of sign(z), z Gaussian.

    Args:
        csr: the graph.
        moments: `law` of the graph.
        mean: (n,) float64; the Triton engine takes float32 too, in laws as in means, and computes in it.

    Returns:
        F, in units of edge weight.

    Complexity: O(m), 0 to 16 exponentials an edge (none where mu = 0).
    """
    value: float = _checked_twin(csr, moments, mean).law_value(csr, moments, mean)
    return value


def law_derivatives(csr: CSR, moments: Law, mean: Tensor) -> Derivatives:
    """Gradient and Hessian in mu of `law_value`.

    Args:
        csr: the graph.
        moments: `law` of the graph.
        mean: as in `law_value`.

    Returns:
        The derivatives; see the formulas above.

    Complexity: O(m): one erf, one exponential and one square root a CSR entry.
    """
    return Derivatives(*_checked_twin(csr, moments, mean).law_derivatives(csr, moments, mean))


def law_value_and_derivatives(csr: CSR, moments: Law, mean: Tensor) -> tuple[float, Derivatives]:
    """`law_value` and `law_derivatives`; on the Triton engine in one pass over the edges.

    Args, Returns: as theirs.
    """
    engine = _checked_twin(csr, moments, mean)
    value, derivatives = engine.law_value_and_derivatives(csr, moments, mean)
    return value, Derivatives(*derivatives)


def hessian_product(csr: CSR, derivatives: Derivatives, X: Tensor) -> Tensor:
    """H @ X for the Hessian H of `law_derivatives`; with X = V it is the gradient in V.

    Args:
        csr: the graph.
        derivatives: of `law_derivatives`.
        X: (n, c) float32 or float64.

    Returns:
        (n, c) in the dtype of X, summed in float64; on Triton in float32.

    Raises:
        TypeError, ValueError: X has another dtype, or not one row a vertex.
    """
    _check_matrix(csr, "X", X)
    product: Tensor = twin("probit_cut", *csr, *derivatives, X).hessian_product(csr, derivatives, X)
    return product


def conditional_rounding(csr: CSR, probabilities: Tensor) -> Tensor:
    """Signs whose cut is at least the expected cut of independent sides.

    The expected cut is multilinear in the chances p_i that s_i = +1, so each vertex in turn takes the
    better of its two sides given the sides already taken and the chances of the rest. Vertices are
    taken by falling |p_i - 1/2|: those that know their side inform those that do not. Every step needs the one
    before it, so it runs on the host whatever the device, once a derandomisation: tensors of an accelerator are
    copied there (8 bytes a CSR entry) and the signs back.

    Args:
        csr: the graph.
        probabilities: (n,) float64 in [0, 1].

    Returns:
        int8 (n,) in {-1, +1}, on the device of `probabilities`. A vertex for which both sides are worth the
        same takes the likelier one.

    Raises:
        TypeError, ValueError: another dtype or shape, or an entry outside [0, 1].

    Complexity: O(m + n log n), one thread. Source: the method of conditional expectations, Erdos and
        Selfridge (1973).
    """
    if probabilities.dtype != torch.float64:
        raise TypeError(f"`probabilities` must be float64; got {probabilities.dtype}.")
    if probabilities.shape != (csr.n_vertices,):
        raise ValueError(
            f"`probabilities` must have shape ({csr.n_vertices},), one a vertex; "
            f"got {tuple(probabilities.shape)}."
        )
    if not bool(((probabilities >= 0) & (probabilities <= 1)).all()):
        raise ValueError("`probabilities` must lie in [0, 1]; an entry does not.")
    on_host = CSR(*(tensor.cpu() for tensor in csr))
    signs: Tensor = host_twin("probit_cut").conditional_rounding(on_host, probabilities.cpu())
    return signs.to(probabilities.device)


def _check_matrix(csr: CSR, name: str, X: Tensor) -> None:
    if X.dtype not in (torch.float32, torch.float64):
        raise TypeError(f"`{name}` must be float32 or float64; got {X.dtype}.")
    if X.ndim != 2 or X.shape[0] != csr.n_vertices:
        raise ValueError(
            f"`{name}` must have shape ({csr.n_vertices}, columns), one row a vertex; got {tuple(X.shape)}."
        )


def _checked_mean(csr: CSR, mu: Tensor, dtype: torch.dtype) -> Tensor:
    if mu.dtype != dtype:
        raise TypeError(f"`mu` must have the dtype of `V`, {dtype}; got {mu.dtype}.")
    if mu.shape != (csr.n_vertices,):
        raise ValueError(f"`mu` must have shape ({csr.n_vertices},), one a vertex; got {tuple(mu.shape)}.")
    return mu


def _checked_twin(csr: CSR, moments: Law, mean: Tensor | None = None) -> ModuleType:
    """The engine of these tensors, when their dtypes and shapes are ones it takes."""
    n, nnz = csr.n_vertices, csr.indices.numel()
    wanted = {"covariances": (moments.covariances, nnz), "variances": (moments.variances, n)}
    if moments.complements is not None:
        wanted["complements"] = (moments.complements, nnz)
    if mean is not None:
        wanted["mean"] = (mean, n)
    engine = twin("probit_cut", *csr, *(tensor for tensor, _ in wanted.values()))
    for name, (tensor, length) in wanted.items():
        if tensor.dtype not in engine.DTYPES:
            dtypes = " or ".join(str(dtype).removeprefix("torch.") for dtype in engine.DTYPES)
            raise TypeError(f"`{name}` must be {dtypes}; got {tensor.dtype}.")
        if tensor.shape != (length,):
            raise ValueError(f"`{name}` must have shape ({length},); got {tuple(tensor.shape)}.")
    return engine
