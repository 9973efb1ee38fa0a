"""What a perturbed descent keeps from step to step, and what it does with a point: noise, waiting, copies, looks.

All that changes is in the parameter groups and the state, where checkpoints find it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from sdp.optim.perturbation import in_ball

ROUNDING = 8.0  # ulps of the loss that decide nothing
DECREASE_SHARE = 0.02  # of eps^2 / curvature, which is sqrt(eps^3 / rho): what 2021 has but for logarithms
# Noise of radius r has a component of about r / sqrt(n) along a direction of curvature -c, which grows as exp(c t)
# over the time t, the sum of step lengths: the default wait is until it would lower the loss by the needed decrease,
# and e^3 more.
WAIT_MARGIN, LONGEST_WAIT = 3.0, 20_000
# Where that component is at least this share of r / sqrt(n) (99 of 100 draws), the gradient cannot fall below this
# share of c r / sqrt(n): if it does, there is no such direction, and waiting on would only collect rounding.
VANISHED = 0.01
# Up to so many numbers gradient and point are looked at in every step. Beyond, that costs twice the step itself (10 M
# numbers: 1.4 ms a step of SGD, 1.25 ms the norm, 1.5 ms the copy), so it is done every 100 steps: 2% of their time.
EVERY_STEP_BELOW, LOOK_EVERY = 1 << 20, 100

GROUP_KEYS = ("params", "lr", "momentum", "foreach", "name")  # what a user may write in a group
KEPT_BY_TORCH = ("param_names", "initial_lr")  # beside them: named parameters, and schedulers
HISTORY = ("momentum", "last_point", "last_gradient")

Closure = Callable[[], Any]
START: dict[str, Any] = {
    "scale": 1.0, "n_steps": 0, "n_evaluations": 0, "noise_step": None, "n_noises": 0, "anchor_loss": None, "time": 0.0,
    "status": "running", "good_step": None, "n_rejected": 0,
    "looks_every": 1,
}  # fmt: skip


class Watched(Optimizer):
    """An optimiser that knows its last good point.

    Attributes:
        eps: the gradient test.
        curvature: what is worth a step.
        perturb: radius of the noise.
        wait: steps between perturbations, or None for as long as noise needs.
        seed: of the noise.
        grad_norm: of the last look.
    """

    eps: float
    curvature: float
    perturb: float
    wait: int | None
    seed: int
    grad_norm: float
    _seen: tuple[Any, ...] | None
    _loss: float

    @property
    def is_done(self) -> bool:
        """Whether the stopping rule has spoken; `status` says how."""
        return bool(self._at("status") != "running")

    @property
    def status(self) -> str:
        """One of "running", "stationary" (noise or Lanczos found no way down), "promised steps" (of the theory)."""
        return str(self._at("status"))

    @property
    def n_steps(self) -> int:
        """Steps so far."""
        return int(self._at("n_steps"))

    @property
    def n_evaluations(self) -> int:
        """Calls of closures so far."""
        return int(self._at("n_evaluations"))

    @property
    def n_perturbations(self) -> int:
        """Perturbations and steps along negative curvature so far."""
        return int(self._at("n_noises"))

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """One more group, from the next step on; steps between looks are those of all parameters together.

        Raises:
            TypeError: a parameter is complex or sparse.
            ValueError: a key that is unknown, and so would have no effect.
        """
        if isinstance(param_group, dict) and (
            unknown := {*param_group} - {*GROUP_KEYS, *KEPT_BY_TORCH, *START}
        ):
            raise ValueError(
                f"a group of `params` may hold {', '.join(GROUP_KEYS)}; got {', '.join(sorted(map(str, unknown)))}."
            )
        super().add_param_group(param_group)
        if any(point.is_complex() or point.layout != torch.strided for point in param_group["params"]):
            self.param_groups.pop()
            raise TypeError("`params` must be dense real tensors; one is complex or sparse.")
        self._put(looks_every=self._cadence())

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Go on as the saved run would have, with its looks at the same steps."""
        super().load_state_dict(state_dict)
        if self._at("looks_every") is None:  # of an older version
            self._put(looks_every=self._cadence())

    def _cadence(self) -> int:
        """Steps between looks; of all parameters, for one without a gradient now may have one later."""
        n = sum(point.numel() for point in self._every_point())
        return 1 if n <= EVERY_STEP_BELOW else LOOK_EVERY

    def _perturb(self, anchor: float | None) -> None:
        if self.perturb > 0.0:
            if anchor is not None:
                self._keep("anchor")
            points = self._points()
            self._keep_before_first_move(points)
            noises = in_ball(points, self.perturb, self.seed, self._count("n_noises"))
            for point, noise in zip(points, noises, strict=True):
                point.add_(noise)
            self._put(anchor_loss=anchor)
        self._put(noise_step=self.n_steps, time=0.0)

    def _has_waited(self) -> bool:
        last = self._at("noise_step")
        if last is None:
            return True
        steps = self.n_steps - last
        if self.wait is not None:
            return bool(steps >= self.wait)
        n = sum(point.numel() for point in self._points())
        component = self.perturb / math.sqrt(n)
        if steps >= LONGEST_WAIT or self.grad_norm <= VANISHED * self.curvature * component:
            return True
        wanted = math.sqrt(2.0 * self._decrease() / self.curvature) / max(component, 1e-300)
        return bool(self._at("time") >= (WAIT_MARGIN + math.log(max(wanted, 1.0))) / self.curvature)

    def _pass(self, scale: float) -> None:
        """Add a step to the time since the last noise."""
        self._put(time=self._at("time") + scale * float(self.param_groups[0]["lr"]))

    def _decrease(self) -> float:
        return DECREASE_SHARE * self.eps**2 / self.curvature

    def _rounding(self, loss: float) -> float:
        dtype = self._points()[0].dtype
        return ROUNDING * torch.finfo(dtype).eps * abs(loss)

    def _look(self, *, keep: bool) -> None:
        """Set `grad_norm`; keep a copy of a good point if asked, or go back to the last one from a bad one."""
        norms = torch._foreach_norm(
            [cast(Tensor, point.grad) for points in self._movers() for point in points]
        )
        self.grad_norm = math.hypot(*(float(norm) for norm in norms))
        if math.isfinite(self.grad_norm) or self._gradients_are_finite():
            if keep:
                self._keep("good")
                self._put(good_step=self.n_steps)
            return
        self._fail()

    def _movers(self) -> list[list[Tensor]]:
        """Of each group, the parameters that have a gradient. No pass over numbers: every step asks.

        Raises:
            TypeError: a gradient is sparse.
            ValueError: there is none.
        """
        movers = [
            [point for point in group["params"] if point.grad is not None] for group in self.param_groups
        ]
        if not any(movers):
            raise ValueError("no parameter has a gradient: call backward before step, or pass a closure.")
        for points in movers:
            for point in points:
                if point.grad.is_sparse:
                    raise TypeError("gradients must be dense; one is sparse.")
        return movers

    def _fail(self) -> None:
        step, good, every = self.n_steps, self._at("good_step"), self._at("looks_every")
        where = f"at step {step}" if every == 1 else f"at step {step} (looked at every {every})"
        self._forget_history()  # since the last look it may have taken in what is not finite
        if good is None:
            raise FloatingPointError(
                f"a gradient has entries that are NaN or infinite {where}; there is no earlier point to go back to."
            )
        self._restore("good")
        raise FloatingPointError(
            f"a gradient has entries that are NaN or infinite {where}; the parameters are those of step {good} again, "
            "the last point whose gradient was finite."
        )

    def _gradients_are_finite(self) -> bool:
        return all(bool(torch.isfinite(cast(Tensor, point.grad)).all()) for point in self._points())

    def _evaluate(self, closure: Closure) -> float:
        self._count("n_evaluations")
        with torch.enable_grad():
            loss = closure()
        if all(point.grad is None for point in self._points()):
            raise ValueError("no parameter has a gradient: the closure must call backward before it returns.")
        return float(loss)

    def _remember(self, loss: float) -> float:
        """Note that `loss` and the gradients belong to the point as it is now."""
        self._loss, self._seen = loss, self._versions()
        return loss

    def _versions(self) -> tuple[Any, ...]:
        """What tells that neither the point nor its gradient has changed.

        Torch counts no changes through `.data`; where they are, lengths and sums tell, each of one pass over the
        numbers. A change through `.data` that keeps both bit for bit, or one of a gradient, goes unseen.
        """
        points = self._points()
        lengths = [float(length) for length in torch._foreach_norm([point.detach() for point in points])]
        return tuple(
            (
                id(point.grad), point._version, None if point.grad is None else point.grad._version,
                point.data_ptr(), length, float(point.detach().sum()),
            )
            for point, length in zip(points, lengths, strict=True)
        )  # fmt: skip

    def _keep(self, name: str) -> None:
        """A copy of every parameter that has a gradient, and so will move, or that has a copy, and so has moved.

        The others get theirs in `_keep_before_first_move`, so that what is frozen needs no memory.
        """
        for point in self._every_point():
            state = self.state[point]
            if name in state:
                state[name].copy_(point)
            elif point.grad is not None:
                state[name] = point.detach().clone()

    def _keep_before_first_move(self, points: list[Tensor]) -> None:
        """Complete the copies in use by parameters that had no gradient when these were made, and have one now."""
        in_use = [
            name
            for name, noted in (("good", "good_step"), ("anchor", "anchor_loss"))
            if self._at(noted) is not None
        ]
        for point in points:
            state = self.state[point]
            for name in in_use:
                if name not in state:
                    state[name] = point.detach().clone()

    def _forget_history(self) -> None:
        for point in self._every_point():
            for name in HISTORY:
                self.state[point].pop(name, None)

    def _restore(self, name: str) -> None:
        for point in self._every_point():
            if name in self.state[point]:
                point.copy_(self.state[point][name])
        self._seen = None

    def _points(self) -> list[Tensor]:
        """Parameters that have a gradient; before the first backward, all of them."""
        every = self._every_point()
        with_gradient = [point for point in every if point.grad is not None]
        return with_gradient or every

    def _every_point(self) -> list[Tensor]:
        return [point for group in self.param_groups for point in group["params"]]

    def _at(self, name: str) -> Any:
        return self.param_groups[0].get(name)

    def _put(self, **values: Any) -> None:
        self.param_groups[0].update(values)

    def _count(self, name: str) -> int:
        """The count before one is added to it."""
        before = int(self._at(name))
        self.param_groups[0][name] = before + 1
        return before
