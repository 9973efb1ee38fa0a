"""Standard errors: what they are by definition, when they are computed, and what they keep alive meanwhile."""

from __future__ import annotations

import copy
import dataclasses
import gc
import pickle
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdp.expectation import estimation
from sdp.expectation.estimate import Blocks, Estimate, flatten_blocks, mean_of, standard_error
from sdp.expectation.expectation import Expectation
from sdp.expectation.heads import MLP, TeacherStudent
from sdp.expectation.integrals import HessianInZ, Integrand, Value, ValueAndGradient, hessian_products
from sdp_kernels.expectation import Draw
from tests.reference.gaussian_law import random_point

K, D, RANK, N = 6, 9, 5, 300


def made(head: Any, **options: Any) -> Expectation:
    W, b = random_point(K, D, RANK, seed=1)
    return Expectation(head, W, b, N, **{"method": "sampling", "control_variate": False, **options})


def teacher_head() -> TeacherStudent:
    generator = torch.Generator().manual_seed(2)
    U = torch.randn(2, D, generator=generator, dtype=torch.float64)
    return TeacherStudent(MLP((K, 4), dtype=torch.float64), lambda u: torch.tanh(u).sum(-1), U)


def directions(F: Expectation, m: int, *, inside: bool = False) -> Blocks:
    generator = torch.Generator().manual_seed(3)

    def randn(*shape: int) -> Tensor:
        return torch.randn(m, *shape, generator=generator, dtype=torch.float64)

    V_W = randn(K, F.law.rank) @ F.law.Q.T if inside else randn(K, D)
    return Blocks(V_W, randn(K), tuple(randn(*part.shape) for part in F.theta))


HEADS = {
    "kernels": lambda: MLP((K, 4), dtype=torch.float64),
    "autograd": lambda: lambda z: torch.sin(z).prod(-1),
    "rows of a teacher": teacher_head,
}
INTEGRANDS = {
    "value": lambda F: Value(F._frozen()),
    "gradient": lambda F: ValueAndGradient(F._frozen()),
    "products inside the row space": lambda F: hessian_products(F._frozen(), directions(F, 3, inside=True)),
    "products that leave it": lambda F: hessian_products(F._frozen(), directions(F, 3)),
    "hessian": lambda F: HessianInZ(F._frozen()),
}


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
@pytest.mark.parametrize("integrand", INTEGRANDS.values(), ids=INTEGRANDS)
@pytest.mark.parametrize("block", [1, 1 << 18], ids=["a row a block", "one block"])
def test_squares_are_those_of_lifted_rows(
    head: Any, integrand: Any, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sdp.expectation.integrals._BLOCK", block)
    asked: Integrand = integrand(made(head()))
    rows = asked.batches(Draw(n=40, seed=5))
    assert len(rows) > 1
    expected = sum(asked.lift(row) ** 2 for row in rows)
    torch.testing.assert_close(asked.squares(rows), expected, rtol=1e-11, atol=1e-14)


def test_errors_are_computed_once_when_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []

    def counted(*arguments: Any) -> Tensor:
        calls.append(1)
        return standard_error(*arguments)

    monkeypatch.setattr(estimation, "standard_error", counted)
    F = made(HEADS["kernels"]())
    value, gradient = F.value_and_grad()
    assert not calls
    assert bool(torch.isfinite(flatten_blocks(gradient.standard_error)).all())
    assert float(value.half_width()) > 0.0
    assert gradient.standard_error is gradient.standard_error
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("ratio", "limit", "is_put_off"),
    [(0, 10, False), (0, 1 << 20, True), (50, 0, True), (1, 0, False)],
    ids=["many bytes", "few bytes", "a few times the value", "more than the value"],
)
def test_errors_of_many_batch_means_are_not_put_off(
    ratio: int, limit: int, is_put_off: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An estimate would hold them, which memory may not afford. Here they are 10 to 50 times the value."""
    monkeypatch.setattr(estimation, "KEPT_RATIO", ratio)
    monkeypatch.setattr(estimation, "KEPT_BYTES", limit)
    F = made(HEADS["kernels"]())
    products = F.hvp(directions(F, 2, inside=True))
    assert ("standard_error" not in vars(products)) is is_put_off
    assert bool(torch.isfinite(flatten_blocks(products.standard_error)).all())


def test_gradients_of_a_wide_head_hold_no_batch_means() -> None:
    """At k = 64, d = 512 they were 20 times the values: 5 MB of each gradient that a run had collected."""
    W, b = (part.float() for part in random_point(64, 512, 64, seed=4))
    F = Expectation(MLP((64, 256)), W, b, 256)
    for estimate in F.value_and_grad():
        assert set(vars(estimate)) == {field.name for field in dataclasses.fields(estimate)}


@pytest.mark.parametrize("asked", [0, 1], ids=["the value", "the gradient"])
def test_one_estimate_asked_releases_the_batches_of_both(asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    held: list[weakref.ref[Tensor]] = []

    def watched(batches: Tensor, sizes: Tensor) -> Tensor:
        held.append(weakref.ref(batches))
        return mean_of(batches, sizes)

    monkeypatch.setattr(estimation, "mean_of", watched)
    both = made(HEADS["kernels"]()).value_and_grad()
    assert held[0]() is not None
    assert bool(torch.isfinite(flatten_blocks(both[asked].standard_error)).all())
    gc.collect()
    assert held[0]() is None
    other = both[1 - asked]
    assert "standard_error" not in vars(other)
    assert bool(torch.isfinite(flatten_blocks(other.standard_error)).all())


def test_errors_are_those_of_the_time_of_the_call() -> None:
    """An optimiser changes W, b and theta in place before anybody asks."""
    F = made(HEADS["kernels"]())
    at_once = F.hvp(directions(F, 2)).standard_error
    later = F.hvp(directions(F, 2))
    with torch.no_grad():
        for part in (F.W, F.b, *F.theta):
            part.mul_(-2.0).add_(1.0)
    assert torch.equal(flatten_blocks(later.standard_error), flatten_blocks(at_once))


def as_fields(estimate: Estimate[Blocks]) -> Estimate[Blocks]:
    """What `dataclasses.asdict` gives, put together again."""
    return Estimate(**{**dataclasses.asdict(estimate), "notes": estimate.notes})


COPIES: dict[str, Callable[[Estimate[Blocks]], Estimate[Blocks]]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    "pickle": lambda estimate: pickle.loads(pickle.dumps(estimate)),
    "replace": lambda estimate: dataclasses.replace(estimate, converged=True),
    "asdict": as_fields,
}


@pytest.mark.parametrize("copied", COPIES.values(), ids=COPIES)
def test_estimates_are_copied_with_their_errors(copied: Any) -> None:
    """Also where nobody asked for them before."""
    F = made(HEADS["kernels"]())
    estimate, expected = F.grad(), flatten_blocks(F.grad().standard_error)
    twin: Estimate[Blocks] = copied(estimate)
    assert isinstance(vars(twin)["standard_error"], Blocks)
    assert torch.equal(flatten_blocks(twin.standard_error), expected)
    assert twin.notes == estimate.notes


def test_estimates_are_made_of_numbers() -> None:
    one = torch.tensor(1.0, dtype=torch.float64)
    estimate = Estimate(value=one, standard_error=0.1 * one, n_samples=64, method="sampling")
    assert float(estimate.standard_error) == 0.1
    other = dataclasses.replace(made(HEADS["kernels"]()).value(), standard_error=2.0 * one)
    assert float(other.standard_error) == 2.0
    with pytest.raises(AttributeError, match="no attribute 'error'"):
        _ = estimate.error  # type: ignore[attr-defined]
    with pytest.raises(dataclasses.FrozenInstanceError):
        other.standard_error = one  # type: ignore[misc]


def test_threads_leave_every_bit() -> None:
    """At a size where torch cuts products for two threads."""
    W, b = (part.float() for part in random_point(64, 700, 64, seed=4))
    answers = []
    for threads in (1, 2):
        torch.set_num_threads(threads)  # the fixture restores it
        F = Expectation(MLP((64, 40)), W, b, 2**12)
        estimates: list[Estimate[Any]] = [F.value(), F.grad(), F.hvp({"b": torch.ones(3, 64)})]
        answers.append([flatten_blocks(part) for e in estimates for part in (e.value, e.standard_error)])
    for one, two in zip(*answers, strict=True):
        assert torch.equal(one, two)
