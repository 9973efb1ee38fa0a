"""Operations in a loss's graph whose gradient jumps: where they take part, curvature is undefined."""

from __future__ import annotations

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
    "Abs": "sqrt(x^2 + c) instead of abs",
    "L1Loss": "smooth losses such as mse instead of l1_loss",
    "SmoothL1Loss": "mse instead of smooth_l1_loss (its second derivative jumps)",
    "HuberLoss": "mse instead of huber_loss (its second derivative jumps)",
    "Maximum": "logaddexp instead of maximum",
    "Minimum": "-logaddexp(-x, -y) instead of minimum",
    "Max": "logsumexp instead of max",
    "Min": "-logsumexp(-x) instead of min",
    "Amax": "logsumexp instead of amax",
    "Amin": "-logsumexp(-x) instead of amin",
    "MaxPool2DWithIndices": "average pooling instead of max pooling",
    "Sign": "tanh instead of sign",
    "Sort": "no sorting",
    "Topk": "no top-k",
}


def kinks(loss: Tensor) -> list[str]:
    """What to use instead of each operation with kinks that a scalar's graph holds; empty where there is none known.

    Complexity: one visit of every node.
    """
    found, seen, waiting = set(), set(), [loss.grad_fn]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        name = node.name().split("Backward")[0]
        if name in SMOOTH:
            found.add(SMOOTH[name])
        waiting += [parent for parent, _ in node.next_functions]
    return sorted(found)
