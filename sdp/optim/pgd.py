"""`sdp.PGD`: gradient descent that leaves saddles, as a torch optimiser.

Gradient descent stops at every stationary point, saddles included. Perturbed gradient descent adds a little noise
where the gradient is small: around a strict saddle it grows along the directions of negative curvature, and where f
has not fallen after a while the point was second-order stationary. Sources: see `theory.py`; Malitsky and Mishchenko,
"Adaptive gradient descent without descent" (2020), for the step without values.

How to choose: a closure and a deterministic loss: the defaults. With a Hessian-vector product too: `hvp`, which
leaves saddles in a step. Minibatches: `stochastic=True`, or no closure, where a step is that of torch.optim.SGD.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor

from sdp.expectation.checks import check_integer
from sdp.optim._watched import START, Closure, Watched
from sdp.optim.descent import inner
from sdp.optim.escape import negative_curvature_step
from sdp.optim.perturbation import norm_of, normals_like
from sdp.optim.theory import Constants, pgd_2017, pgd_2021, psgd_2021, refuse_endless
from sdp_kernels import gaussian

MODES = ("practical", "theory")
LINE_SEARCHES = ("backtracking", "lipschitz", "none")
ARMIJO, ARMIJO_WITH_MOMENTUM = 0.5, 0.1  # 1/2 keeps a step of plain descent below 1 / curvature
GROWTH, FIRST_GROWTH, SHRINK, MAX_TRIALS = 1.2, 4.0, 0.5, 60
Product = Callable[[Sequence[Tensor]], Sequence[Tensor]]


class PGD(Watched):
    """Perturbed gradient descent.

    `mode="practical"` with a closure (zero gradients, compute the loss, backward, return the loss): the step is found
    by backtracking, the loss never rises except by the noise itself, and noise is added only where the gradient's
    norm is at most `eps`. If the loss has not fallen `wait` steps later, the point before the noise is put back and
    `is_done` is true: the gradient is small there and no negative curvature was found. That is evidence, not proof:
    `sdp.certify_function` proves. With `hvp`, curvature is looked up by Lanczos instead, and the step taken along it.

    `mode="theory"`: the published constants, with the stopping rule (2017) or number of steps (2021) that they
    promise.

    Args:
        params: tensors, or groups of them with their own `lr` and `momentum` (and `foreach`, or a `name`).
        lr: the first step, or the step where nothing adapts it. Schedulers scale it.
        mode: "practical" or "theory".
        momentum: of heavy ball, as in torch.optim.SGD; restarted where it points uphill.
        line_search: "backtracking" (needs a closure of a deterministic loss: the next step uses the last trial's
            gradient), "lipschitz" (no closure: |dx| / (2 |dg|) of the last two steps; one more copy of the point and
            gradient), or "none". By default backtracking with a closure, none without or if `stochastic`.
        eps: the gradient test, on the norm over all parameters.
        curvature: below minus this, curvature is worth a step; sqrt(eps) by default, that is a Hessian-Lipschitz
            constant of 1.
        perturb: radius of the noise, uniform in a ball around the point; 0 for none. If `stochastic`, the norm of the
            Gaussian noise added to each gradient.
        wait: steps between perturbations; by default as many as noise needs to grow along `curvature`, or fewer where
            the gradient vanishes before, and at most 20,000. Without backtracking noise is added only in steps that
            look at the gradient: beyond 2^20 parameters that is the first multiple of 100 after the wait.
        hvp: Hessian-vector product at the current point, from a list of tensors shaped as the parameters to another.
        stochastic: gradients are noisy: PSGD, Gaussian noise in every step and no test of it.
        seed: in [0, 2^63), of the noise, which is numbered: the same seed gives the same run, and a resumed run goes on
            as it would have.
        foreach: use torch's multi-tensor functions; by default on accelerators.
        ell: gradient-Lipschitz constant, for the theory, and so the next.
        rho: Hessian-Lipschitz constant.
        gap: f(x_0) less the minimum.
        delta: probability that the theory's promise fails.
        sigma: standard deviation of a stochastic gradient.
        year: 2017 or 2021, the paper.
        force: start even if more than 10^7 steps are promised.

    Raises:
        TypeError: a parameter is complex or sparse.
        ValueError: an argument is out of range, or a group has a key that is unknown; the theory promises more than
            10^7 steps.
        FloatingPointError: in `step`, where a gradient is not finite: parameters are then those of the last step
            whose gradient was looked at and finite (every step up to 2^20 parameters, frozen ones too, every 100th
            beyond), and momentum starts anew.

    Complexity: a step without a closure is SGD's, and a norm every so often. Backtracking evaluates the closure once
    for nearly every step, and keeps one more copy of the parameters.

    >>> x = torch.zeros(2, dtype=torch.float64, requires_grad=True)  # a saddle of (x^2 - y^2)/2 + y^4/4
    >>> optimizer = PGD([x], eps=1e-4)
    >>> def closure():
    ...     optimizer.zero_grad()
    ...     loss = (x[0] ** 2 - x[1] ** 2) / 2 + x[1] ** 4 / 4
    ...     loss.backward()
    ...     return loss
    >>> while not optimizer.is_done:
    ...     _ = optimizer.step(closure)
    >>> round(abs(x[1].item()), 3), round(closure().item(), 3)
    (1.0, -0.25)
    """

    def __init__(
        self,
        params: Any,
        lr: float = 0.1,
        *,
        mode: str = "practical",
        momentum: float = 0.0,
        line_search: str | None = None,
        eps: float = 1e-3,
        curvature: float | None = None,
        perturb: float = 1e-3,
        wait: int | None = None,
        hvp: Product | None = None,
        stochastic: bool = False,
        seed: int = 0,
        foreach: bool | None = None,
        ell: float | None = None,
        rho: float | None = None,
        gap: float | None = None,
        delta: float = 0.1,
        sigma: float = 0.0,
        year: int = 2017,
        force: bool = False,
    ) -> None:
        _check(lr, mode, momentum, line_search, eps, curvature, perturb, wait, stochastic)
        check_integer("seed", seed, 0, gaussian.SEEDS - 1)
        super().__init__(params, {"lr": lr, "momentum": momentum, "foreach": foreach, **START})
        self.mode, self.eps, self.perturb, self.wait = mode, eps, perturb, wait
        self.curvature = math.sqrt(eps) if curvature is None else curvature
        self.line_search, self.hvp, self.stochastic, self.seed = line_search, hvp, stochastic, seed
        self.grad_norm = math.nan
        self.constants: Constants | None = None
        self._seen: tuple[Any, ...] | None = None
        self._loss = math.nan
        if mode == "theory":
            self.constants = self._theory(self._every_point(), ell, rho, gap, delta, sigma, year)
            refuse_endless(self.constants, force)

    @torch.no_grad()
    def step(self, closure: Closure | None = None) -> Any:
        """One step.

        Args:
            closure: zeroes the gradients, computes the loss, calls backward and returns the loss. Required by the
                theory and by backtracking.

        Returns:
            The loss after the step of backtracking, before it otherwise; None without a closure.

        Raises:
            TypeError: a gradient is sparse.
            ValueError: a closure is required, or did not call backward.
            FloatingPointError: a gradient is not finite.
        """
        if self.mode == "theory":
            return self._theory_step(_required(closure, "mode 'theory'"))
        line_search = self.line_search or ("none" if closure is None or self.stochastic else "backtracking")
        if line_search == "backtracking":
            return self._search_step(_required(closure, "backtracking"))
        loss = None if closure is None else self._evaluate(closure)
        self._plain_step(loss, adapts=line_search == "lipschitz")
        return loss

    # Without values: the step of SGD.

    def _plain_step(self, loss: float | None, *, adapts: bool) -> None:
        step = self.n_steps
        looks = step % self._at("looks_every") == 0 or adapts
        movers = self._movers()
        if looks or (loss is not None and not math.isfinite(loss)):
            self._look(keep=True)
            if adapts:
                self._adapt()
        self._count("n_steps")
        if self.stochastic and self.perturb > 0.0:
            self._add_gradient_noise()
        for group, points in zip(self.param_groups, movers, strict=True):
            self._keep_before_first_move(points)
            rate = -float(group["lr"]) * float(self._at("scale"))
            if group["foreach"] or (group["foreach"] is None and points and points[0].device.type != "cpu"):
                directions = [self._with_momentum(point, group["momentum"]) for point in points]
                torch._foreach_add_(points, directions, alpha=rate)
            else:
                for point in points:  # one after the other: its momentum is still in the cache
                    point.add_(self._with_momentum(point, group["momentum"]), alpha=rate)
        self._pass(float(self._at("scale")))
        if looks and not self.stochastic and self.grad_norm <= self.eps and self._has_waited():
            self._perturb(anchor=None)
            self._forget_history()

    def _with_momentum(self, point: Tensor, momentum: float) -> Tensor:
        gradient = cast(Tensor, point.grad)
        if momentum == 0.0:
            return gradient
        state = self.state[point]
        if "momentum" in state:
            state["momentum"].mul_(momentum).add_(gradient)
        else:
            state["momentum"] = gradient.clone()
        return cast(Tensor, state["momentum"])

    def _add_gradient_noise(self) -> None:
        points = self._points()
        share = self.perturb / math.sqrt(max(1, sum(point.numel() for point in points)))
        for point, noise in zip(points, normals_like(points, self.seed, self.n_steps), strict=True):
            cast(Tensor, point.grad).add_(noise, alpha=share)

    def _adapt(self) -> None:
        """The step of Malitsky and Mishchenko, from the last two points and gradients, as a share of `lr`."""
        points = self._points()
        if all("last_point" in self.state[point] for point in points):
            pairs = [(point, self.state[point]) for point in points]
            moved = norm_of(point - state["last_point"] for point, state in pairs)
            bent = norm_of(cast(Tensor, point.grad) - state["last_gradient"] for point, state in pairs)
            scale, ratio = float(self._at("scale")), float(self._at("ratio") or 0.0)
            new = math.sqrt(1.0 + ratio) * scale
            if bent > 0.0:
                new = min(new, 0.5 * moved / bent / float(self.param_groups[0]["lr"]))
            if new > 0.0:
                self._put(scale=new, ratio=new / scale)
        for point in points:
            state = self.state[point]
            state["last_point"] = point.detach().clone()
            state["last_gradient"] = cast(Tensor, point.grad).clone()

    # With values: backtracking, noise where the gradient is small, and its test.

    def _search_step(self, closure: Closure) -> float:
        loss = self._loss if self._seen == self._versions() else self._evaluate(closure)
        self._look(keep=False)
        if self.is_done and (self._seen == self._versions() or self.grad_norm <= self.eps):
            return loss
        self._put(status="running")
        self._count("n_steps")
        if self._noise_failed(loss):
            self._restore("anchor")
            self._put(anchor_loss=None, status="stationary")
            loss = self._evaluate(closure)
            self._look(keep=False)
            return self._remember(loss)
        if self.grad_norm <= self.eps and self._has_waited():
            return self._leave(closure, loss)
        return self._remember(self._backtrack(closure, loss))

    def _noise_failed(self, loss: float) -> bool:
        """Whether a perturbation has had its time and the loss did not fall; forgets it where the loss did."""
        anchor = self._at("anchor_loss")
        if anchor is None:
            return False
        if loss < anchor - max(self._decrease(), self._rounding(anchor)):
            self._put(anchor_loss=None)
            return False
        return self._has_waited()

    def _leave(self, closure: Closure, loss: float) -> float:
        """From a point with a small gradient: along negative curvature if `hvp` shows any, else by noise."""
        if self.hvp is not None:
            points = self._points()
            self._keep_before_first_move(points)
            found = negative_curvature_step(
                points, self.hvp, lambda: self._evaluate(closure), loss,
                curvature=self.curvature, seed=self.seed, position=self._count("n_noises"),
            )  # fmt: skip
            self._forget_history()
            if found is None:
                self._put(status="stationary")
                found = self._evaluate(closure)
            self._put(noise_step=None)  # no need to wait for the next look
            return self._remember(found)
        if self.perturb == 0.0:
            self._put(status="stationary")
            return self._remember(loss)
        self._perturb(anchor=loss)
        self._forget_history()
        return self._remember(self._evaluate(closure))

    def _backtrack(self, closure: Closure, loss: float) -> float:
        points = self._points()
        moves = []
        for group in self.param_groups:
            members = [point for point in group["params"] if point.grad is not None]
            rate = -float(group["lr"])
            moves += [(rate, self._with_momentum(point, group["momentum"])) for point in members]
        gradients = [cast(Tensor, point.grad).clone() for point in points]
        slope = sum(rate * inner(d, g) for (rate, d), g in zip(moves, gradients, strict=True))
        if not slope < 0.0 and any("momentum" in self.state[point] for point in points):
            for point, gradient in zip(points, gradients, strict=True):
                if "momentum" in self.state[point]:
                    self.state[point]["momentum"].copy_(gradient)
            slope = sum(rate * inner(g, g) for (rate, _), g in zip(moves, gradients, strict=True))
        has_momentum = any(group["momentum"] for group in self.param_groups)
        armijo = ARMIJO_WITH_MOMENTUM if has_momentum else ARMIJO
        self._keep("good")
        self._keep_before_first_move(points)  # the anchor's
        self._put(good_step=self.n_steps)
        scale, had_finite = float(self._at("scale")), False
        for trial in range(MAX_TRIALS):
            for point, (rate, direction) in zip(points, moves, strict=True):
                torch.add(self.state[point]["good"], direction, alpha=rate * scale, out=point)
            new = self._evaluate(closure)
            # The last trial leaves its gradient, so a point is only taken with a finite one.
            if math.isfinite(new) and self._gradients_are_finite():
                had_finite = True
                uphill = sum(  # where the trial does not depend on a parameter, its gradient is 0
                    rate * inner(d, point.grad)
                    for point, (rate, d) in zip(points, moves, strict=True)
                    if point.grad is not None
                )
                if new <= loss + armijo * scale * slope or (
                    new <= loss + self._rounding(loss) and uphill <= 0.0
                ):
                    first = self._at("n_rejected") == 0
                    grown = (FIRST_GROWTH if first else GROWTH) if trial == 0 else 1.0
                    self._pass(scale)
                    self._put(scale=scale * grown)
                    return new
            scale *= SHRINK
            self._count("n_rejected")
        return self._stall(closure, had_finite=had_finite)

    def _stall(self, closure: Closure, *, had_finite: bool) -> float:
        """No step along the gradient lowers the loss: an error if none was finite, else stationary to rounding."""
        if not had_finite:
            self._fail()
        self._restore("good")
        loss = self._evaluate(closure)
        if self._has_waited() and self._at("anchor_loss") is None:
            return self._leave(closure, loss)
        return loss

    # With the constants of the papers.

    def _theory_step(self, closure: Closure) -> float:
        """One step of algorithm 2 of 2017, or of algorithm 1 or 2 of 2021."""
        constants = cast(Constants, self.constants)
        loss = self._evaluate(closure)
        self._look(keep=True)
        if self.is_done:
            return loss
        waited = self._at("noise_step") is None or self.n_steps - self._at("noise_step") > constants.wait
        if self.stochastic:
            self._add_gradient_noise()
        elif self.grad_norm <= constants.gradient and waited:
            self._perturb(anchor=loss)
            loss = self._evaluate(closure)
        elif constants.year == 2017 and self.n_steps - (self._at("noise_step") or 0) == constants.wait:
            anchor = self._at("anchor_loss")
            if anchor is not None and loss - anchor > -constants.decrease:
                self._restore("anchor")
                self._put(status="stationary")
                return float(anchor)
        points = self._points()
        self._keep_before_first_move(points)
        for point in points:
            point.add_(cast(Tensor, point.grad), alpha=-constants.step)
        if self._count("n_steps") + 1 >= constants.promised_steps:
            self._put(status="promised steps")
        return loss

    def _theory(
        self,
        points: Sequence[Tensor],
        ell: float | None,
        rho: float | None,
        gap: float | None,
        delta: float,
        sigma: float,
        year: int,
    ) -> Constants:
        if ell is None or rho is None or gap is None:
            raise ValueError("`mode` 'theory' needs `ell`, `rho` and `gap`: the constants are made of them.")
        if year not in (2017, 2021) or (self.stochastic and year != 2021):
            raise ValueError(f"`year` must be 2017, or 2021, alone for stochastic gradients; got {year}.")
        dim = sum(point.numel() for point in points)
        if self.stochastic:
            made = psgd_2021(dim, ell, rho, self.eps, gap, delta, sigma)
        else:
            made = (pgd_2017 if year == 2017 else pgd_2021)(dim, ell, rho, self.eps, gap, delta)
        self.perturb = made.radius
        return made


def _required(closure: Closure | None, what: str) -> Closure:
    if closure is None:
        raise ValueError(f"{what} needs a closure that computes the loss and its gradient: step(closure).")
    return closure


def _check(
    lr: float,
    mode: str,
    momentum: float,
    line_search: str | None,
    eps: float,
    curvature: float | None,
    perturb: float,
    wait: int | None,
    stochastic: bool,
) -> None:
    if mode not in MODES:
        raise ValueError(f"`mode` must be one of {', '.join(MODES)}; got {mode!r}.")
    if line_search is not None and line_search not in LINE_SEARCHES:
        raise ValueError(f"`line_search` must be one of {', '.join(LINE_SEARCHES)}; got {line_search!r}.")
    if stochastic and line_search == "backtracking":
        raise ValueError(
            "`line_search` 'backtracking' compares losses, which noise makes meaningless; got stochastic=True."
        )
    for name, number in (("lr", lr), ("eps", eps), ("curvature", 1.0 if curvature is None else curvature)):
        if not 0.0 < number < math.inf:
            raise ValueError(f"`{name}` must be above 0 and finite; got {number}.")
    if not 0.0 <= momentum < 1.0:
        raise ValueError(f"`momentum` must lie in [0, 1); got {momentum}.")
    if not 0.0 <= perturb < math.inf:
        raise ValueError(f"`perturb` must be at least 0 and finite; got {perturb}.")
    if wait is not None and wait < 1:
        raise ValueError(f"`wait` must be at least 1; got {wait}.")
