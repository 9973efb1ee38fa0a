"""Operations in a loss's graph whose gradient jumps, where curvature is undefined, or that torch differentiates once.

A graph does not say what a condition was made of, so that `where` and `masked_fill` count as kinks even where their
masks are constants. What it does not show at all, such as an index computed from values, is not found.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

# Name of the graph's node, less "Backward" and its number -> what to use instead.
SMOOTH = {
    "Relu": "softplus, gelu or silu instead of relu",
    "LeakyRelu": "softplus(x) - a softplus(-x) instead of leaky_relu",
    "Threshold": "softplus instead of relu",
    "Hardtanh": "tanh instead of hardtanh or relu6",
    "Clamp": "a smooth squashing such as tanh instead of clamp",
    "ClampMin": "softplus instead of clamp",
    "ClampMax": "softplus instead of clamp",
    "Hardsigmoid": "sigmoid instead of hardsigmoid",
    "Hardswish": "silu instead of hardswish",
    "PreluKernel": "softplus instead of prelu",
    "RreluWithNoise": "softplus instead of rrelu",
    "Elu": "softplus instead of elu (its second derivative jumps)",
    "Celu": "softplus instead of celu (its second derivative jumps)",
    "Softshrink": "tanhshrink instead of softshrink",
    "Hardshrink": "tanhshrink instead of hardshrink",
    "Where": "one smooth formula instead of where",
    "MaskedFill": "adding or multiplying by a constant mask instead of masked_fill",
    "Abs": "sqrt(x^2 + c) instead of abs",
    "L1Loss": "smooth losses such as mse instead of l1_loss",
    "SmoothL1Loss": "mse instead of smooth_l1_loss (its second derivative jumps)",
    "HuberLoss": "mse instead of huber_loss (its second derivative jumps)",
    "Maximum": "logaddexp instead of maximum",
    "Minimum": "-logaddexp(-x, -y) instead of minimum",
    "Fmax": "logaddexp instead of fmax",
    "Fmin": "-logaddexp(-x, -y) instead of fmin",
    "Max": "logsumexp instead of max",
    "Min": "-logsumexp(-x) instead of min",
    "Amax": "logsumexp instead of amax",
    "Amin": "-logsumexp(-x) instead of amin",
    "Aminmax": "logsumexp instead of aminmax",
    "Cummax": "logcumsumexp instead of cummax",
    "Cummin": "-logcumsumexp(-x) instead of cummin",
    **dict.fromkeys(
        (
            "MaxPool2DWithIndices",
            "MaxPool3DWithIndices",
            "AdaptiveMaxPool2D",
            "AdaptiveMaxPool3D",
            "FractionalMaxPool2D",
            "FractionalMaxPool3D",
        ),
        "average pooling instead of max pooling",
    ),
    **dict.fromkeys(("MultiMarginLoss", "MultilabelMarginLoss"), "soft_margin_loss instead of a hinge"),
    **dict.fromkeys(("Median", "Nanmedian", "Kthvalue", "Mode"), "a mean instead of an order statistic"),
    **dict.fromkeys(("Sign", "Sgn", "Copysign"), "tanh instead of sign"),
    **dict.fromkeys(("Round", "Floor", "Ceil", "Trunc", "Frac", "Fmod", "Remainder"), "no rounding"),
    "Renorm": "no clipping of norms",
    "Sort": "no sorting",
    "Topk": "no top-k",
}
# Kinks where the norm's order is below 2 or infinite: node -> where it keeps the order.
NORMS = {
    "LinalgVectorNorm": "_saved_ord",
    "Norm": "_saved_p",
    "Dist": "_saved_p",
    "Cdist": "_saved_p",
    "Pdist": "_saved_p",
}

_WRAPPER = ("wrapper", str(torch.autograd.function.__file__))


def kinks(loss: Tensor) -> list[str]:
    """What to use instead of each operation with kinks that a scalar's graph holds; empty where there is none known.

    Complexity: one visit of every node.
    """
    found = set()
    for node in _nodes(loss):
        name = node.name().split("Backward")[0]
        if name in SMOOTH:
            found.add(SMOOTH[name])
        elif name in NORMS and not 2.0 <= _order(node, NORMS[name]) < math.inf:
            found.add("a norm of order 2 instead of 1 or infinity")
    return sorted(found)


def once_differentiable(loss: Tensor) -> list[str]:
    """Names of the custom functions in a scalar's graph that are marked `once_differentiable`.

    Where what comes in from above is constant, torch takes their gradients to be constant too, and says nothing.
    Complexity: one visit of every node.
    """
    return sorted(cls.__name__ for cls in _custom(loss) if _is_marked(cls.backward) or _is_marked(cls.vjp))


def custom_functions(loss: Tensor) -> list[str]:
    """Names of the custom functions (`torch.autograd.Function`) in a scalar's graph.

    Complexity: one visit of every node.
    """
    return sorted(cls.__name__ for cls in _custom(loss))


def _custom(loss: Tensor) -> set[Any]:
    return {getattr(node, "_forward_cls", None) for node in _nodes(loss)} - {None}


def _is_marked(backward: Any) -> bool:
    """Whether torch's decorator is one of those around a function."""
    while backward is not None:
        code = getattr(backward, "__code__", None)
        if code is not None and (code.co_name, code.co_filename) == _WRAPPER:
            return True
        backward = getattr(backward, "__wrapped__", None)
    return False


def _nodes(loss: Tensor) -> Iterator[Any]:
    seen, waiting = set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        yield node
        waiting += [parent for parent, _ in node.next_functions]


def _order(node: Any, attribute: str) -> float:
    """The order of a norm's node; 2 where none was given."""
    order = getattr(node, attribute, None)
    return 2.0 if order is None else float(order)
