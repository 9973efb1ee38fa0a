"""What happens between two looks at the gradient: copies stay true, failures leave nothing behind, runs resume."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor

from sdp.optim import _watched
from sdp.optim.pgd import PGD

EVERY = 4


@pytest.fixture(autouse=True)
def seldom(monkeypatch: pytest.MonkeyPatch) -> None:
    """Looks every 4 steps beyond 5 numbers, instead of every 100 beyond 2^20."""
    monkeypatch.setattr(_watched, "EVERY_STEP_BELOW", 5)
    monkeypatch.setattr(_watched, "LOOK_EVERY", EVERY)


def vector(n: int) -> Tensor:
    return torch.zeros(n, requires_grad=True)


def with_gradients(optimizer: PGD, *pairs: tuple[Tensor, float | None], steps: int = 1) -> None:
    """Steps with constant gradients, or none."""
    for _ in range(steps):
        for point, size in pairs:
            point.grad = None if size is None else torch.full_like(point, size)
        optimizer.step()


@pytest.mark.parametrize("line_search", ["none", "lipschitz"])
def test_a_failure_leaves_no_history(line_search: str) -> None:
    x = vector(6)
    optimizer = PGD([x], lr=0.1, momentum=0.9, line_search=line_search, eps=1e-9)
    with_gradients(optimizer, (x, 1.0), steps=EVERY + 1)
    with pytest.raises(FloatingPointError, match="the parameters are those of step"):
        with_gradients(optimizer, (x, float("nan")), steps=EVERY)
    assert bool(torch.isfinite(x).all())
    before = x.detach().clone()
    with_gradients(optimizer, (x, 1.0))
    assert bool((x < before).all())
    with_gradients(optimizer, (x, 1.0))
    assert bool(torch.isfinite(x).all())


@pytest.mark.parametrize("gone_at_the_look", [False, True], ids=["first move", "gone at the look"])
def test_a_failure_restores_what_had_no_gradient_at_the_look(gone_at_the_look: bool) -> None:
    x, late = vector(6), vector(2)
    optimizer = PGD([x, late], lr=1.0, eps=1e-9)
    if gone_at_the_look:  # `late` has a copy, of step 0, and moves before step 4
        with_gradients(optimizer, (x, 1.0), (late, 1.0), steps=EVERY)
    with_gradients(optimizer, (x, 1.0), (late, None))
    step = optimizer.n_steps - 1
    at_the_look = x.detach() + 1.0, late.detach().clone()
    with pytest.raises(FloatingPointError, match=f"the parameters are those of step {step} again"):
        with_gradients(optimizer, (x, 1.0), (late, float("inf")), steps=EVERY)
    assert torch.equal(x.detach(), at_the_look[0])
    assert torch.equal(late.detach(), at_the_look[1])


def test_what_never_moves_is_not_copied() -> None:
    x, frozen = vector(6), torch.zeros(9)
    optimizer = PGD([x, frozen], lr=0.1)
    with_gradients(optimizer, (x, 1.0), steps=EVERY + 1)
    assert "good" in optimizer.state[x]
    assert not optimizer.state[frozen]


def test_the_anchor_is_the_whole_point_before_the_noise() -> None:
    # `b` has no gradient where the noise is added, and moves afterwards; the loss never falls, so all go back.
    a, b = (torch.zeros(1, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = PGD([a, b], lr=0.1, eps=1e-3, wait=3)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (a**2).sum()
        if optimizer.n_perturbations:
            loss = loss + ((b - 1.0) ** 2).sum()
        loss.backward()
        return loss

    for _ in range(50):
        optimizer.step(closure)
        if optimizer.status == "stationary":
            break
    assert optimizer.status == "stationary"
    assert (float(a.detach()), float(b.detach())) == (0.0, 0.0)


def test_a_sparse_gradient_is_refused_in_every_step() -> None:
    x = torch.zeros((6, 2), requires_grad=True)
    optimizer = PGD([x], lr=0.1)
    with_gradients(optimizer, (x, 1.0))
    before = x.detach().clone()
    x.grad = torch.ones(6, 2).to_sparse()
    with pytest.raises(TypeError, match="gradients must be dense; one is sparse"):
        optimizer.step()
    assert optimizer.n_steps == 1
    assert torch.equal(x.detach(), before)


def test_a_step_without_gradients_is_refused_in_every_step() -> None:
    x = vector(6)
    optimizer = PGD([x], lr=0.1, stochastic=True)
    with_gradients(optimizer, (x, 1.0))
    with pytest.raises(ValueError, match="no parameter has a gradient: call backward before step"):
        with_gradients(optimizer, (x, None))


def looks_of(optimizer: PGD, points: list[Tensor], steps: int) -> list[int]:
    """Steps that looked; gradients vary, and are below `eps` so that looks add noise."""
    seen = []
    for _ in range(steps):
        at = optimizer.n_steps
        for k, point in enumerate(points):
            point.grad = torch.cos(point.detach() + at + k)
        optimizer.grad_norm = -1.0
        optimizer.step()
        if optimizer.grad_norm >= 0.0:
            seen.append(at)
    return seen


@pytest.mark.parametrize("saved_after", [3, 4, 5], ids=["before a look", "at a look", "after a look"])
def test_a_resumed_run_looks_at_the_same_steps(saved_after: int) -> None:
    options: dict[str, Any] = {"lr": 0.1, "momentum": 0.5, "eps": 100.0, "wait": 3, "seed": 2}
    a, b = vector(2), vector(6)
    a.grad = torch.ones_like(a)  # built after a backward that reached only a few parameters
    optimizer = PGD([a, b], **options)
    looks_of(optimizer, [a, b], saved_after)
    file = io.BytesIO()
    torch.save(optimizer.state_dict(), file)
    others = [point.detach().clone().requires_grad_(True) for point in (a, b)]
    expected = looks_of(optimizer, [a, b], 9)
    assert expected == [step for step in range(saved_after, saved_after + 9) if step % EVERY == 0]

    file.seek(0)
    again = PGD(others, **options)
    again.load_state_dict(torch.load(file, weights_only=True))
    assert looks_of(again, others, 9) == expected
    for one, other in zip((a, b), others, strict=True):
        assert torch.equal(one, other)


def test_a_saved_cadence_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    x = vector(6)
    optimizer = PGD([x], lr=0.1)
    state = copy.deepcopy(optimizer.state_dict())
    monkeypatch.setattr(_watched, "LOOK_EVERY", EVERY + 1)  # as another version may have it
    again = PGD([x], lr=0.1)
    again.load_state_dict(state)
    assert looks_of(again, [x], 9) == [0, EVERY, 2 * EVERY]
    del state["param_groups"][0]["looks_every"]  # of a version that did not save it
    again.load_state_dict(state)
    assert looks_of(again, [x], 9) == [0, EVERY + 1]


def test_parameters_added_later_count() -> None:
    x = vector(5)
    optimizer = PGD([x], lr=0.1)
    assert looks_of(optimizer, [x], 3) == [0, 1, 2]
    more = vector(1)
    optimizer.add_param_group({"params": [more], "lr": 0.01})
    assert looks_of(optimizer, [x, more], 8) == [4, 8]


@pytest.mark.parametrize("key", ["weight_decay", "maximize", "nesterov", "eps"])
def test_unknown_keys_of_a_group_are_refused(key: str) -> None:
    message = rf"a group of `params` may hold params, lr, momentum, foreach, name; got {key}\."
    with pytest.raises(ValueError, match=message):
        PGD([{"params": vector(2), key: 0.5}])
    optimizer = PGD([vector(2)])
    with pytest.raises(ValueError, match=message):
        optimizer.add_param_group({"params": vector(2), key: 0.5})
    assert len(optimizer.param_groups) == 1


def test_keys_of_torch_and_names_are_taken() -> None:
    module = torch.nn.Linear(2, 2)
    named = PGD(module.named_parameters(), lr=0.1)
    assert named.param_groups[0]["param_names"] == ["weight", "bias"]
    groups = [{"params": module.parameters(), "name": "head", "initial_lr": 0.1, "foreach": False}]
    assert len(PGD(PGD(groups).param_groups).param_groups) == 1


@pytest.mark.parametrize(
    "bad", [torch.zeros(2, dtype=torch.complex64), torch.eye(2).to_sparse()], ids=["complex", "sparse"]
)
def test_a_group_of_bad_parameters_is_refused_and_not_added(bad: Tensor) -> None:
    optimizer = PGD([vector(2)])
    with pytest.raises(TypeError, match="must be dense real tensors"):
        optimizer.add_param_group({"params": [bad.requires_grad_(True)]})
    assert len(optimizer.param_groups) == 1
