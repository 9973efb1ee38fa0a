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

Closure = Callable[[], Any]
START: dict[str, Any] = {
    "scale": 1.0, "n_steps": 0, "n_evaluations": 0, "noise_step": None, "n_noises": 0, "anchor_loss": None, "time": 0.0,
    "status": "running", "good_step": None, "n_rejected": 0,
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
    _looks_every: int
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

    def _perturb(self, anchor: float | None) -> None:
        if self.perturb > 0.0:
            if anchor is not None:
                self._keep("anchor")
            points = self._points()
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
        gradients = [cast(Tensor, point.grad) for point in self._points()]
        if any(gradient is None for gradient in gradients):
            raise ValueError("no parameter has a gradient: call backward before step, or pass a closure.")
        if any(gradient.is_sparse for gradient in gradients):
            raise TypeError("gradients must be dense; one is sparse.")
        norms = torch._foreach_norm(gradients) if gradients else []
        self.grad_norm = math.hypot(*(float(norm) for norm in norms))
        if math.isfinite(self.grad_norm) or self._gradients_are_finite():
            if keep:
                self._keep("good")
                self._put(good_step=self.n_steps)
            return
        self._fail()

    def _fail(self) -> None:
        step, good = self.n_steps, self._at("good_step")
        where = (
            f"at step {step}" if self._looks_every == 1 else f"at step {step} (looked at every {LOOK_EVERY})"
        )
        kept = "good" if good is not None else None
        if kept is None:
            raise FloatingPointError(
                f"a gradient has entries that are NaN or infinite {where}; there is no earlier point to go back to."
            )
        self._restore(kept)
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
        """A copy of every parameter that has a gradient, and so may move; none of the others, nor an old one."""
        moving = {id(point) for point in self._points()}
        for point in self._every_point():
            state = self.state[point]
            if id(point) not in moving:
                state.pop(name, None)
            elif name in state:
                state[name].copy_(point)
            else:
                state[name] = point.detach().clone()

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
