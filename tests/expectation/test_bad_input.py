"""Every bad argument gets one sentence that names it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sdp.expectation.estimate import Blocks
from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP, CallableHead

W, b = torch.ones(3, 5), torch.zeros(3)
NAN = torch.full((3, 5), float("nan"))


def head(z: Tensor) -> Tensor:
    return torch.tanh(z).sum(-1)


def make(head: Any = head, W: Any = W, b: Any = b, **options: Any) -> Expectation:
    return Expectation(head, W, b, **options)


def broken_mlp() -> MLP:
    head = MLP((3, 4))
    with torch.no_grad():
        head.theta[0][0, 0] = float("nan")
    return head


VALUE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "W a vector": (
        {"W": torch.ones(3)},
        r"`W` must be a matrix \(k, d\) with k at least 1; got shape \(3,\).",
    ),
    "no rows": ({"W": torch.ones(0, 5), "b": torch.ones(0)}, "`W` must be a matrix"),
    "b a matrix": ({"b": torch.ones(3, 1)}, r"`b` must be a vector \(k,\); got shape \(3, 1\)."),
    "k differs": (
        {"b": torch.zeros(4)},
        r"W has 3 rows but b has 4 entries; W \(k, d\) and b \(k,\) must share k.",
    ),
    "width differs": ({"head": MLP((4, 2))}, "W has 3 rows but the head reads 4 entries"),
    "U differs": (
        {"head": CallableHead(head, torch.ones(1, 4))},
        "W has 5 columns but the head's U has 4; both multiply the same x.",
    ),
    "NaN in W": ({"W": NAN}, "W has entries that are NaN or infinite"),
    "infinity in b": (
        {"b": torch.tensor([0.0, float("inf"), 0.0])},
        "b has entries that are NaN or infinite",
    ),
    "NaN in theta": ({"head": broken_mlp()}, r"the head's theta.0 has entries that are NaN"),
    "devices differ": ({"b": torch.zeros(3, device="meta")}, "b is on meta but W is on cpu"),
    "no samples": ({"n_samples": 0}, "`n_samples` must be at least 1; got 0."),
    "negative samples": ({"n_samples": -4}, "`n_samples` must be at least 1; got -4."),
    "max_samples": ({"max_samples": 0}, "`max_samples` must be at least 1; got 0."),
    "seed": ({"seed": -1}, r"`seed` must be in \[0, 9223372036854775807\]; got -1."),
    "method": ({"method": "mc"}, "`method` must be one of auto, quadrature, sampling, sobol; got 'mc'."),
    "precision": ({"precision": "double"}, "`precision` must be one of fast, high, exact; got 'double'."),
    "rel_error": ({"rel_error": 0.0}, "`rel_error` must be above 0 and finite, or None; got 0.0."),
    "rel_error NaN": ({"rel_error": float("nan")}, "`rel_error` must be above 0"),
}
TYPE_ERRORS: dict[str, tuple[dict[str, Any], str]] = {
    "W a list": ({"W": [[1.0]]}, "`W` must be a torch tensor; got list."),
    "b a number": ({"b": 0.0}, "`b` must be a torch tensor; got float."),
    "half precision": ({"W": W.half(), "b": b.half()}, "`W` must be float32 or float64; got torch.float16."),
    "integers": ({"W": W.int(), "b": b.int()}, "`W` must be float32 or float64; got torch.int32."),
    "dtypes differ": (
        {"b": b.double()},
        "b is torch.float64 but W is torch.float32; they must share a dtype.",
    ),
    "theta's dtype": (
        {"head": MLP((3, 4), dtype=torch.float64)},
        "the head's theta.0 is torch.float64 but W is torch.float32",
    ),
    "n_samples a float": ({"n_samples": 1e5}, "`n_samples` must be an integer; got float."),
    "seed None": ({"seed": None}, "`seed` must be an integer; got NoneType."),
}


@pytest.mark.parametrize("name", VALUE_ERRORS)
def test_values(name: str) -> None:
    arguments, sentence = VALUE_ERRORS[name]
    with pytest.raises(ValueError, match=sentence) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", TYPE_ERRORS)
def test_types(name: str) -> None:
    arguments, sentence = TYPE_ERRORS[name]
    with pytest.raises(TypeError, match=sentence) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)


def test_an_odd_number_of_samples_is_rounded_up_and_said() -> None:
    with pytest.warns(UserWarning, match="must be even for antithetic pairs; 1001 is rounded up to 1002"):
        F = make(n_samples=1001)
    assert F.n_samples == 1002
    assert make(n_samples=1001, antithetic=False).n_samples == 1001


def test_NaN_that_comes_later_is_refused_too() -> None:  # noqa: N802
    point = W.clone()
    F = make(W=point)
    F.value()
    point[0, 0] = float("nan")
    for ask in (F.value, F.grad, F.hessian_z, F):
        with pytest.raises(ValueError, match="W has entries that are NaN"):
            ask()


def test_a_head_that_gives_NaN_is_refused() -> None:  # noqa: N802
    point = torch.eye(3, 5)
    F = make(head=lambda z: torch.log(z[..., 0]), W=point, b=b + 1.0, n_samples=256)
    with pytest.raises(ValueError, match="the average of `head` is not finite"):
        F.value()


def test_quadrature_needs_a_low_rank() -> None:
    F = make(head=lambda z: torch.tanh(z).sum(-1), W=torch.eye(5), b=torch.zeros(5), method="quadrature")
    with pytest.raises(ValueError, match="`method` 'quadrature' needs a rank of W of at most 4; it is 5"):
        F.value()


DIRECTIONS: dict[str, tuple[Any, type[Exception], str]] = {
    "a tensor": (W, TypeError, "`directions` must be Blocks or a mapping with W, b, theta; got Tensor."),
    "unknown block": ({"V": W}, ValueError, "`directions` has blocks W, b and theta; got 'V'."),
    "nothing": ({}, ValueError, "must have at least one of the blocks"),
    "W's shape": (
        {"W": W.T},
        ValueError,
        r"direction W must have shape \(3, 5\) or \(m, \*\(3, 5\)\); got \(5, 3\).",
    ),
    "theta's number": ({"theta": [b]}, ValueError, "has 1 tensors for theta but the head has 4 parameters"),
    "numbers differ": (
        {"W": W.expand(2, 3, 5), "b": b},
        ValueError,
        r"directions must agree on their number; b leads with \(\) where others lead with \(2,\)",
    ),
    "no direction": (
        {"b": torch.zeros(0, 3)},
        ValueError,
        "direction b must hold at least one direction; got 0.",
    ),
    "dtype": ({"b": b.double()}, TypeError, "direction b is torch.float64 but its block is torch.float32"),
    "device": ({"b": b.to("meta")}, ValueError, "direction b is on meta but its block is on cpu"),
    "NaN": ({"W": NAN}, ValueError, "direction W has entries that are NaN"),
    "a list": (Blocks([1.0], b, ()), TypeError, "direction W must be a torch tensor; got list."),  # type: ignore[arg-type]
}


@pytest.mark.parametrize("name", DIRECTIONS)
def test_directions(name: str) -> None:
    directions, kind, sentence = DIRECTIONS[name]
    with pytest.raises(kind, match=sentence):
        make(head=MLP((3, 4))).hvp(directions)
