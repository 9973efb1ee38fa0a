"""`sdp.Expectation`: F(W, b, theta) = E[g_theta(Wx + b)] for x ~ N(0, I_d), with derivatives and confidence.

Read `law.py` for what makes it cheap, `integrals.py` for the formulas, `estimation.py` for the choice of points.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sdp.expectation import pointwise
from sdp.expectation.autograd import differentiable_value
from sdp.expectation.checks import (
    check_directions,
    check_integer,
    check_point,
)
from sdp.expectation.estimate import Blocks, Estimate, T, put_off
from sdp.expectation.estimation import Options, Outcome, integrate
from sdp.expectation.heads import (
    MLP,
    CallableHead,
    check_differentiable,
    check_scalar_per_sample,
    has_hessian,
)
from sdp.expectation.integrals import (
    Frozen,
    HessianInZ,
    KernelRoute,
    PointwiseRoute,
    Route,
    Value,
    ValueAndGradient,
    hessian_products,
)
from sdp.expectation.law import Law, reduce_law
from sdp.expectation.sampling import METHODS
from sdp_kernels import gaussian
from sdp_kernels.expectation import PRECISIONS

if TYPE_CHECKING:
    from scipy.sparse.linalg import LinearOperator

# Standard errors by which Stein's identity may fail before a head is said to have kinks; by chance, once in 10^9.
MAX_STEIN_MISMATCH = 6.0


class Expectation:
    """The expectation of a head over Gaussian inputs.

        F(W, b, theta) = E[g_theta(W x + b)],   x ~ N(0, I_d)

    W, b and the head's parameters are held by reference and read anew at every call: change them in place, as
    an optimiser does, and the next call sees it (W is factored anew; where its rank falls, draws get cheaper).
    Equal seeds give equal draws, so that differences between calls are not noise (common random numbers).

    Args:
        head: g, from z (..., k) to one number per sample (...): an `MLP`, a torch Module, or any function of torch
            operations. The trainable parameters of a Module are theta. A head with a matrix `rows` U (r, d) gets
            (z, Ux), as `TeacherStudent` does.
        W: (k, d) float32 or float64.
        b: (k,), dtype and device of W.
        n_samples: evaluations of the head, two for an antithetic pair (an odd number is rounded up, with a warning);
            the most nodes of a quadrature; where `rel_error` is given, the first attempt.
        seed: in [0, 2^63), of all random numbers.
        method: "auto", which is exact at W = 0, quadrature up to rank 4 unless it states a larger error than
            sampling, and sampling beyond; or "quadrature", "sampling", "sobol" (scrambled, 16 independent scrambles).
        antithetic: whether samples come as pairs b +- L xi.
        rel_error: wanted half-width of the 95% interval, as a share of the value (of norms, for a gradient, a
            matrix, each direction's product). Samples are doubled until it is met or `max_samples` reached, and the
            estimate's `converged` says which. Stopping when the interval looks narrow makes it cover slightly less
            than it says; near a stationary point no gradient meets it.
        max_samples: the most samples that doubling may reach.
        control_variate: subtract the noise of a quadratic model of g at b where that explains at least half of the
            variance (of values, and of gradients and Hessian-vector products in W; antithetic sampling of 8,192
            samples or more only); notes say whether it did.
        precision: "fast", "high" or "exact" (float64) for an MLP, see `sdp_kernels.expectation`; float64 tensors are
            "exact" always. Other heads compute in the dtype of W, or float64 if "exact".

    Raises:
        TypeError: an argument is no tensor, callable or number, or dtypes differ.
        ValueError: shapes or devices disagree, entries are not finite, a number is out of its range, or the head does
            not give one number per sample.

    Complexity: a value costs O(k d min(k, d)) once and O(k q + head) a sample, q the rank of W.

    >>> import torch
    >>> W, b = torch.tensor([[0.5, 0.5]], dtype=torch.float64), torch.tensor([0.2], dtype=torch.float64)
    >>> F = Expectation(lambda z: (z[..., 0] ** 2 - 1) ** 2, W, b)  # a double well
    >>> F.value().value  # b^4 + 6 b^2 w^2 + 3 w^4 - 2 (b^2 + w^2) + 1 with w^2 = 1/2
    tensor(0.7916, dtype=torch.float64)
    >>> F.value().method, F.value().n_samples
    ('quadrature', 13)
    >>> F.grad().value.W
    tensor([[1.2400, 1.2400]], dtype=torch.float64)
    """

    def __init__(
        self,
        head: Callable[[Tensor], Tensor],
        W: Tensor,
        b: Tensor,
        n_samples: int = 2**16,
        seed: int = 0,
        *,
        method: str = "auto",
        antithetic: bool = True,
        rel_error: float | None = None,
        max_samples: int = 2**24,
        control_variate: bool = True,
        precision: str = "high",
    ) -> None:
        self.head: nn.Module = head if isinstance(head, nn.Module) else CallableHead(head)
        self.W, self.b = W, b
        self._options = _options(n_samples, seed, method, antithetic, rel_error, max_samples, control_variate)
        if precision not in PRECISIONS:
            raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
        self.precision = precision
        self._names = [name for name, part in self.head.named_parameters() if part.requires_grad]
        self._has_no_kinks = isinstance(self.head, MLP)
        self._has_hessian = True
        check_point(W, b, self._rows(), self._named_theta(), _width(self.head))
        self._try_head()

    @property
    def theta(self) -> tuple[Tensor, ...]:
        """The head's trainable parameters, in the order of `parameters()`."""
        return tuple(self._named_theta().values())

    @property
    def n_samples(self) -> int:
        """Evaluations of the head, after rounding up to pairs."""
        return self._options.n_samples

    @property
    def seed(self) -> int:
        """Of all random numbers."""
        return self._options.seed

    @property
    def law(self) -> Law:
        """The factors W = L Q^T of now (of [W; U] for a head with `rows`)."""
        return self._law(self.W)

    def at(self, W: Tensor | None = None, b: Tensor | None = None) -> Expectation:
        """The same head, draws and options at another W or b."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.W, other.b = self.W if W is None else W, self.b if b is None else b
        check_point(other.W, other.b, other._rows(), other._named_theta(), _width(other.head))
        return other

    def redrawn(
        self,
        *,
        seed: int | None = None,
        n_samples: int | None = None,
        method: str | None = None,
        precision: str | None = None,
    ) -> Expectation:
        """The same head and point with other draws, as many as said: no doubling and no control variate.

        What it estimates is unbiased, and a fixed function of (W, b, theta) while the rank of W stays: for
        independent batches, and for descent on one sample. Arguments left out stay.

        Raises:
            ValueError: an argument is out of its range.
        """
        options = self._options
        other = self.at()
        other._options = _options(
            options.n_samples if n_samples is None else n_samples,
            options.seed if seed is None else seed,
            options.method if method is None else method,
            options.antithetic,
            None,
            options.max_samples,
            False,
        )
        if precision is not None and precision not in PRECISIONS:
            raise ValueError(f"`precision` must be one of {', '.join(PRECISIONS)}; got {precision!r}.")
        other.precision = self.precision if precision is None else precision
        return other

    def value(self) -> Estimate[Tensor]:
        """F, a scalar.

        Raises:
            ValueError: W, b, theta or the result is not finite.

        Complexity: n_samples (k q + head).
        """
        outcome = self._integrate(Value(self._frozen()))
        return _estimate(outcome, lambda vector: vector[0])

    def grad(self) -> Estimate[Blocks]:
        """The gradient in W, b and theta; grad_W F = E[grad g xi^T] Q^T, of rank at most q.

        Raises:
            ValueError: as `value`.

        Complexity: 3 times `value`.
        """
        return self.value_and_grad()[1]

    def value_and_grad(self) -> tuple[Estimate[Tensor], Estimate[Blocks]]:
        """F and its gradient from the same samples, at the gradient's price."""
        frozen = self._frozen()
        outcome = self._integrate(ValueAndGradient(frozen))
        value = _estimate(outcome, lambda vector: vector[0].clone())  # a view would keep the gradient
        return value, _estimate(outcome, lambda vector: frozen.split(vector[1:]))

    def hvp(self, directions: Blocks | Mapping[str, Any]) -> Estimate[Blocks]:
        """The Hessian of F in (W, b, theta) times one direction or a batch of them.

        The part of V_W outside the row space of W is not sampled: it gives exactly H V_W (I - Q Q^T), see
        `integrals.py`. At W = 0 the answer is exact, and up to rank 4 it is a quadrature.

        Args:
            directions: `Blocks`, or a mapping with any of the keys "W", "b", "theta" (blocks left out are zero).
                Shapes are those of W, b and theta, for a batch all with the same leading size m.

        Returns:
            Blocks with the same leading size.

        Raises:
            TypeError: a direction has another dtype.
            ValueError: as `value`; shapes that disagree; the head is not twice differentiable.

        Complexity: (3 + 4 m) times `value`, and 3 + 2 k times where a direction leaves the row space.
        """
        blocks, leading = check_directions(directions, self.W, self.b, self._named_theta())
        self._check_twice_differentiable()
        frozen = self._frozen()
        outcome = self._integrate(hessian_products(frozen, blocks))
        return _estimate(outcome, lambda vector: frozen.split(vector, leading))

    def hessian_z(self) -> Estimate[Tensor]:
        """H = E[hess g(z)] (k, k), the Hessian in b; grad_W F = H W by Stein's identity.

        Raises:
            ValueError: as `hvp`.

        Complexity: 3 + 2 k times `value`.
        """
        self._check_twice_differentiable()
        frozen = self._frozen()
        outcome = self._integrate(HessianInZ(frozen))
        return _estimate(outcome, lambda vector: vector.view(frozen.k, frozen.k))

    def smoothness_objection(self) -> str | None:
        """Why the head has no Hessian, in a sentence; None if it has one. Looked at once, by Stein's identity.

        Autograd cannot differentiate it twice, or its gradient jumps, as that of relu does.
        """
        if self._has_no_kinks:
            return None
        route = self._frozen().route
        assert isinstance(route, PointwiseRoute)  # an MLP has no kinks
        try:
            mismatch = pointwise.stein_mismatch(route.function, route.L, route.b, route.theta, self.seed)
        except RuntimeError as error:
            return f"`head` cannot be differentiated twice by autograd: {error}"
        if mismatch > MAX_STEIN_MISMATCH:
            return (
                "`head` is not twice differentiable, or autograd does not see its second derivative: Stein's identity "
                f"fails by {mismatch:.0f} standard errors, as relu's does; use smooth ones such as softplus or tanh."
            )
        self._has_no_kinks = True
        return None

    def to_scipy(self) -> LinearOperator:
        """The Hessian in (W, b, theta) as a symmetric scipy LinearOperator, with draws fixed now.

        Vectors are W row by row, b, and every tensor of theta row by row, float64. Later changes of W, b or theta do
        not reach the operator. H is computed once, so that a product costs one pass over the draws.

        Raises:
            ValueError: as `hvp`.
        """
        from sdp.expectation.operator import hessian_operator

        self._check_twice_differentiable()
        frozen = self._frozen(copied=True)
        return hessian_operator(frozen, self._integrate(HessianInZ(frozen)))

    def __call__(self) -> Tensor:
        """F as a scalar tensor of W's dtype, twice differentiable by autograd in W, b and theta.

        For training loops: `F().backward()`. Its gradient is the exact derivative of the value that it returns, with
        Q held fixed; the control variate is left out, since it would break that. Third derivatives are refused.

        Raises:
            ValueError: as `value`.
        """
        return differentiable_value(self, self.W, self.b, self.theta)

    def __repr__(self) -> str:
        k, d = self.W.shape
        settings = f"n_samples={self.n_samples}, seed={self.seed}, method={self._options.method!r}"
        return f"<Expectation of {type(self.head).__name__}, W ({k}, {d}), rank {self.law.rank}, {settings}>"

    # What follows is for `autograd.py` too, which belongs to this class.

    def _integrate(self, integrand: Any, *, plain: bool = False) -> Outcome:
        if plain or not self._options.control_variate:
            return integrate(integrand, replace(self._options, control_variate=False))
        if self._has_hessian:
            return integrate(integrand, self._options)
        outcome = integrate(integrand, replace(self._options, control_variate=False))
        note = "control variate left out: autograd cannot differentiate the head twice"
        return replace(outcome, notes=(*outcome.notes, note)) if outcome.method == "sampling" else outcome

    def _frozen(
        self,
        W: Tensor | None = None,
        b: Tensor | None = None,
        theta: Sequence[Tensor] | None = None,
        *,
        copied: bool = False,
    ) -> Frozen:
        """Everything that depends on (W, b, theta), taken now; these by default."""
        W, b = self.W if W is None else W, self.b if b is None else b
        named = self._named_theta() if theta is None else dict(zip(self._names, theta, strict=True))
        check_point(W, b, self._rows(), named, _width(self.head))
        dtype = torch.float64 if self.precision == "exact" else W.dtype
        law = self._law(W)
        law = Law(law.L.to(dtype), law.Q.to(dtype), law.rank)
        shift, values = b.detach().to(dtype), [part.detach().to(dtype) for part in named.values()]
        if copied:
            shift, values = shift.clone(), [part.clone() for part in values]
        rows = self._rows()
        if rows is not None:
            shift = torch.cat([shift, shift.new_zeros(len(rows))])
        route: Route
        if isinstance(self.head, MLP):
            precision = "exact" if dtype == torch.float64 else self.precision
            route = KernelRoute(law.L, shift, tuple(values), self.head.network, precision)
        else:
            route = PointwiseRoute(law.L, shift, tuple(values), self._function(dtype))
        return Frozen(route, law, len(W), tuple(part.shape for part in named.values()))

    def _function(self, dtype: torch.dtype) -> pointwise.Function:
        """The head as a function of theta and z, everything else about it cast to the dtype of the arithmetic."""
        head, names = self.head, self._names
        fixed = {
            name: part.detach().to(dtype) if part.is_floating_point() else part
            for name, part in (*head.named_parameters(), *head.named_buffers())
            if name not in names
        }

        def function(theta: Sequence[Tensor], z: Tensor) -> Tensor:
            values = {**fixed, **dict(zip(names, theta, strict=True))}
            result: Tensor = torch.func.functional_call(head, values, (z,))
            return result

        return function

    def _law(self, W: Tensor) -> Law:
        return reduce_law(W.detach(), self._rows())

    def _rows(self) -> Tensor | None:
        rows = getattr(self.head, "rows", None)
        return rows if isinstance(rows, Tensor) else None

    def _named_theta(self) -> dict[str, Tensor]:
        named = dict(self.head.named_parameters())
        return {name: named[name] for name in self._names}

    def _try_head(self) -> None:
        if isinstance(self.head, MLP):
            return
        function, theta = self._function(self.W.dtype), self.theta
        rows = self._rows()
        b = self.b.detach()
        if rows is not None:
            b = torch.cat([b, b.new_zeros(len(rows))])
        check_scalar_per_sample(lambda z: function(theta, z), b)
        check_differentiable(lambda z: function(theta, z), b)
        self._has_hessian = has_hessian(lambda z: function(theta, z), b)

    def _check_twice_differentiable(self) -> None:
        objection = self.smoothness_objection()
        if objection is not None:
            raise ValueError(objection)


def _options(
    n_samples: int,
    seed: int,
    method: str,
    antithetic: bool,
    rel_error: float | None,
    max_samples: int,
    control_variate: bool,
) -> Options:
    check_integer("n_samples", n_samples, 1)
    check_integer("max_samples", max_samples, 1)
    check_integer("seed", seed, 0, gaussian.SEEDS - 1)
    if method not in METHODS:
        raise ValueError(f"`method` must be one of {', '.join(METHODS)}; got {method!r}.")
    if rel_error is not None and not 0.0 < rel_error < math.inf:
        raise ValueError(f"`rel_error` must be above 0 and finite, or None; got {rel_error}.")
    if antithetic and n_samples % 2 and method in ("auto", "sampling"):
        warnings.warn(
            f"`n_samples` must be even for antithetic pairs; {n_samples} is rounded up to {n_samples + 1}.",
            stacklevel=3,
        )
        n_samples += 1
    return Options(n_samples, seed, method, antithetic, rel_error, max_samples, control_variate)


def _width(head: nn.Module) -> int | None:
    return head.widths[0] if isinstance(head, MLP) else None


def _estimate(outcome: Outcome, shaped: Callable[[Tensor], T]) -> Estimate[T]:
    """An outcome with the shape that the user knows; its errors come when they are asked for."""
    known = outcome.known_error  # alone: the outcome would keep its draws alive
    value = shaped(outcome.value)
    estimate = Estimate(
        value,
        shaped(known) if isinstance(known, Tensor) else value,
        n_samples=outcome.n_samples,
        method=outcome.method,
        degrees_of_freedom=outcome.degrees_of_freedom,
        converged=outcome.converged,
        notes=outcome.notes,
    )
    return estimate if isinstance(known, Tensor) else put_off(estimate, lambda: shaped(known()))
