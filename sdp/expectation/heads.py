"""Heads: the function g_theta whose expectation is taken, from z (..., k) to one number per sample (...).

A head is any callable of torch operations, or a torch Module, whose trainable parameters are theta. `MLP` is the head
that the fused kernels know; everything else goes through autograd, sample block by sample block, with the same random
numbers. A head may carry `rows`, a matrix U (r, d): it then reads (z, Ux) of the same x, r further entries behind z.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus

from sdp.expectation.sampling import PURPOSE_PARAMETERS
from sdp_kernels import activations, gaussian
from sdp_kernels.expectation import Network

LOSSES = ("mse", "logistic")
# z of the trial call that looks at a head's shape: more samples than one, and not the number of any usual width.
_TRIAL_SAMPLES = 3
_TRIAL_TOLERANCE = (
    1e-3  # relative: batched matrix products round differently, mixing samples changes everything
)


class MLP(nn.Module):
    """A perceptron of any depth and width, with one number per sample, and a loss if wanted.

        h_0 = z (or act(z) if activate_input),  h_i = act(A_i h_{i-1} + c_i),  s = a . h_D + c
        g = s,   (s - target)^2 / 2 ("mse"),   log(1 + exp(-target s)) ("logistic", target +-1)

    Args:
        widths: (k, h_1, ..., h_D), D >= 0; k is the length of z, and the output is always one number.
        activation: one of `sdp_kernels.activations.NAMES`, smooth all of them.
        loss: None, "mse" or "logistic".
        target: of the loss.
        activate_input: whether z, the first layer's preactivation Wx + b, is passed through the activation; the
            network of MATH is then W itself as the first layer.
        iota: sharpness of "softplus": log(1 + exp(iota x)) / iota.
        seed: of the initial parameters: entries N(0, 1 / fan-in), biases 0.
        dtype: float32 or float64.
        device: of the parameters.

    Attributes:
        theta: the parameters [A_1 (h_1, k), c_1 (h_1,), ..., A_D, c_D, a (h_D,), c ()], as the kernels want them.
        network: what the kernels need to know beside them.

    Raises:
        ValueError: a width below 1, an unknown activation or loss, or a logistic target other than +-1.

    >>> head = MLP((3, 8, 8), "tanh", loss="mse", target=1.0)
    >>> head(torch.zeros(5, 3)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        widths: Sequence[int],
        activation: str = "tanh",
        loss: str | None = None,
        *,
        target: float = 0.0,
        activate_input: bool = False,
        iota: float = 1.0,
        seed: int = 0,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__()
        if not widths or any(int(width) != width or width < 1 for width in widths):
            raise ValueError(
                f"`widths` must be integers of at least 1, (k, h_1, ..., h_D); got {tuple(widths)}."
            )
        if activation not in activations.NAMES:
            raise ValueError(
                f"`activation` must be one of {', '.join(activations.NAMES)}; got {activation!r}."
            )
        if loss is not None and loss not in LOSSES:
            raise ValueError(f"`loss` must be None or one of {', '.join(LOSSES)}; got {loss!r}.")
        if not math.isfinite(target) or (loss == "logistic" and abs(target) != 1.0):
            wanted = "+1 or -1 with the logistic loss" if loss == "logistic" else "finite"
            raise ValueError(f"`target` must be {wanted}; got {target}.")
        if not (math.isfinite(iota) and iota > 0.0):
            raise ValueError(f"`iota` must be finite and above 0; got {iota}.")
        self.widths = tuple(int(width) for width in widths)
        self.network = Network(activation, loss or "none", float(target), activate_input, float(iota))
        layers: list[Tensor] = []
        for layer, (before, width) in enumerate(zip(self.widths, (*self.widths[1:], 1), strict=True)):
            weights = gaussian.normal(
                (width, before),
                seed=seed,
                purpose=PURPOSE_PARAMETERS,
                row_offset=layer << 32,
                dtype=dtype,
                device=device,
            )
            layers += [weights / math.sqrt(before), weights.new_zeros(width)]
        layers[-2:] = [layers[-2][0], layers[-1][0]]
        self.theta = nn.ParameterList(layers)

    def score(self, z: Tensor) -> Tensor:
        """s, the network's output before the loss: (..., k) -> (...)."""
        act = self.network.activation
        parameters = list(self.theta)
        h = z
        if self.network.activate_input:
            (h,) = activations.derivatives(act, h, 0, self.network.iota)
        for A, c in zip(parameters[:-2:2], parameters[1:-2:2], strict=True):
            (h,) = activations.derivatives(act, h @ A.T + c, 0, self.network.iota)
        s: Tensor = h @ parameters[-2] + parameters[-1]
        return s

    def forward(self, z: Tensor) -> Tensor:
        """g(z): (..., k) -> (...)."""
        return _lossy(self.network.loss, self.score(z), self.network.target)


class CallableHead(nn.Module):
    """Any function of torch operations as a head; it has no parameters of its own.

    Args:
        function: (..., k) -> (...), each sample by itself.
        rows: U (r, d), for a function that reads (z, Ux): its input is then (..., k + r).

    >>> double_well = CallableHead(lambda z: ((z**2 - 1) ** 2).sum(-1))
    >>> double_well(torch.zeros(4, 1)).tolist()
    [1.0, 1.0, 1.0, 1.0]
    """

    rows: Tensor | None

    def __init__(self, function: Callable[[Tensor], Tensor], rows: Tensor | None = None) -> None:
        super().__init__()
        if not callable(function):
            raise TypeError(f"`head` must be callable, z (..., k) -> (...); got {type(function).__name__}.")
        self.function = function
        self.register_buffer("rows", rows)

    def forward(self, z: Tensor) -> Tensor:
        """g(z): (..., k) -> (...)."""
        return self.function(z)


class TeacherStudent(nn.Module):
    """The loss of a student on a teacher's labels: g(z, u) = loss(student(z), teacher(u)), u = Ux.

    The labels depend on the same x as z = Wx + b does, so the law that matters is that of [W; U] x, of rank at most
    k + r: structure discovery with r relevant directions, whatever the dimension d.

    Args:
        student: z (..., k) -> (...), such as an `MLP` without a loss; its parameters are theta.
        teacher: u (..., r) -> (...), held fixed: of a Module a copy is kept, whose parameters are no part of theta.
        U: (r, d), dtype and device of W; usually with orthonormal rows.
        loss: "mse", (s - y)^2 / 2, or "logistic", log(1 + exp(-y s)) with labels y of +-1, or any smooth function
            (s, y) -> (...).

    Raises:
        ValueError: U is not a matrix, or the loss is unknown.
    """

    rows: Tensor

    def __init__(
        self,
        student: Callable[[Tensor], Tensor],
        teacher: Callable[[Tensor], Tensor],
        U: Tensor,
        loss: str | Callable[[Tensor, Tensor], Tensor] = "mse",
    ) -> None:
        super().__init__()
        if U.ndim != 2:
            raise ValueError(f"`U` must be a matrix (r, d); got shape {tuple(U.shape)}.")
        if isinstance(loss, str) and loss not in LOSSES:
            raise ValueError(f"`loss` must be one of {', '.join(LOSSES)} or a function; got {loss!r}.")
        self.student = student
        if isinstance(teacher, nn.Module):
            teacher = copy.deepcopy(teacher).requires_grad_(False)
        self.teacher = teacher
        self._loss = loss
        self.register_buffer("rows", U.detach().clone())

    def forward(self, z_and_u: Tensor) -> Tensor:
        """g(z, u): (..., k + r) -> (...)."""
        r = self.rows.shape[0]
        score, label = self.student(z_and_u[..., :-r]), self.teacher(z_and_u[..., -r:])
        return _lossy(self._loss, score, label) if isinstance(self._loss, str) else self._loss(score, label)


def check_scalar_per_sample(head: Callable[[Tensor], Tensor], b: Tensor) -> None:
    """Refuse a head that does not give one number for each sample, from that sample alone.

    Args:
        head: z (..., k) -> (...).
        b: (k,), near which the trial points lie.

    Raises:
        ValueError: the shape, the dtype, or the value of the trial call says so.
    """
    steps = torch.linspace(-1.0, 1.0, _TRIAL_SAMPLES, dtype=b.dtype, device=b.device)
    points = b + steps[:, None]
    with torch.no_grad():
        values = head(points)
        if not isinstance(values, Tensor) or values.shape != (_TRIAL_SAMPLES,):
            got = tuple(values.shape) if isinstance(values, Tensor) else type(values).__name__
            raise ValueError(
                f"`head` must give one number per sample, z (n, k) -> (n,); for z {tuple(points.shape)} it gave {got}."
            )
        if not values.is_floating_point():
            raise ValueError(f"`head` must give real numbers of a floating-point dtype; got {values.dtype}.")
        alone = torch.cat([head(point[None]).reshape(-1)[:1] for point in points])
    scale = float(values.abs().max())
    if math.isfinite(scale) and float((values - alone).abs().max()) > _TRIAL_TOLERANCE * scale:
        raise ValueError(
            "`head` must treat each sample by itself; one sample's value changed with the others of its batch."
        )


def check_differentiable(head: Callable[[Tensor], Tensor], b: Tensor) -> None:
    """Refuse a head whose value carries no gradient to z.

    Raises:
        ValueError: torch's autograd cannot reach z from the value.
    """
    point = b.detach().clone()[None].requires_grad_(True)
    value = head(point)
    if not value.requires_grad or torch.autograd.grad(value.sum(), point, allow_unused=True)[0] is None:
        raise ValueError(
            "`head` must depend on z through torch operations; its value carries no gradient to z."
        )


def has_hessian(head: Callable[[Tensor], Tensor], b: Tensor) -> bool:
    """Whether autograd can differentiate the head twice at b; kinks do not matter here."""
    point = b.detach().clone()[None].requires_grad_(True)
    (gradient,) = torch.autograd.grad(head(point).sum(), point, create_graph=True)
    try:
        if gradient.requires_grad:
            torch.autograd.grad(gradient.sum(), point, allow_unused=True)
    except RuntimeError:  # torch's word for an operation without a second derivative
        return False
    return True


def _lossy(loss: str, score: Tensor, target: Tensor | float) -> Tensor:
    if loss == "mse":
        return 0.5 * (score - target) ** 2
    if loss == "logistic":
        return softplus(-target * score)
    return score
