"""PGD leaves every saddle of the table, never rises, resumes bit for bit, and says when a gradient is not finite."""

from __future__ import annotations

import copy
import io
import itertools
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from sdp.optim._watched import EVERY_STEP_BELOW, LOOK_EVERY
from sdp.optim.certify_function import certify_function
from sdp.optim.perturbation import normals_like
from sdp.optim.pgd import PGD
from sdp.optim.theory import pgd_2021, psgd_2021
from tests.reference.saddles import SADDLES, cosine, double_well, quadratic

EPS = 1e-3


def closure_of(f: Callable[[Tensor], Tensor], x: Tensor, optimizer: PGD) -> Callable[[], Tensor]:
    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = f(x)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    return closure


def descend(
    f: Callable[[Tensor], Tensor], start: Tensor, most: int = 3000, **options: Any
) -> tuple[Tensor, PGD]:
    x = start.clone().requires_grad_(True)
    optimizer = PGD([x], **options)
    closure = closure_of(f, x, optimizer)
    while not optimizer.is_done and optimizer.n_steps < most:
        optimizer.step(closure)
    return x, optimizer


def hessian_products(f: Callable[[Tensor], Tensor], x: Tensor) -> Callable[[Any], Any]:
    def product(vectors: Any) -> Any:
        y = x.detach().requires_grad_(True)
        (gradient,) = torch.autograd.grad(f(y), y, create_graph=True)
        return torch.autograd.grad(gradient, [y], vectors)

    return product


@pytest.mark.parametrize("name", SADDLES)
def test_practical_mode_ends_at_a_certified_point(name: str) -> None:
    saddle = SADDLES[name]()
    x, optimizer = descend(saddle.f, saddle.start, eps=EPS)
    assert optimizer.status == "stationary"
    found = certify_function(lambda: saddle.f(x), [x], eps=EPS)
    assert found.is_sosp is True
    assert float(saddle.f(x.detach())) == pytest.approx(saddle.least, abs=1e-4)


@pytest.mark.parametrize("name", ["quadratic, 30", "factorisation"])
def test_with_momentum_too(name: str) -> None:
    saddle = SADDLES[name]()
    x, _ = descend(saddle.f, saddle.start, eps=EPS, momentum=0.9)
    assert certify_function(lambda: saddle.f(x), [x], eps=EPS).is_sosp is True


@pytest.mark.parametrize("name", ["quadratic, 1000", "double well", "factorisation"])
def test_negative_curvature_step(name: str) -> None:
    saddle = SADDLES[name]()
    x = saddle.start.clone().requires_grad_(True)
    optimizer = PGD([x], eps=EPS, hvp=hessian_products(saddle.f, x))
    closure = closure_of(saddle.f, x, optimizer)
    while not optimizer.is_done and optimizer.n_steps < 500:
        optimizer.step(closure)
    assert optimizer.status == "stationary"
    assert certify_function(lambda: saddle.f(x), [x], eps=EPS).is_sosp is True


@pytest.mark.parametrize("name", ["quadratic, 30", "double well", "factorisation"])
def test_psgd_ends_at_a_certified_point(name: str) -> None:
    # Gradients with noise of their own, of norm 0.01, and a step that falls: what remains of the noise is small.
    saddle = SADDLES[name]()
    x = saddle.start.clone().requires_grad_(True)
    optimizer = PGD([x], lr=0.1, stochastic=True, perturb=1e-3, seed=1)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 300, 0.1)
    noise = torch.Generator().manual_seed(0)
    for _ in range(600):
        optimizer.zero_grad()
        saddle.f(x).backward()  # type: ignore[no-untyped-call]
        assert x.grad is not None
        x.grad += 0.01 * torch.randn(x.shape, dtype=x.dtype, generator=noise) / math.sqrt(x.numel())
        optimizer.step()
        scheduler.step()
    assert certify_function(lambda: saddle.f(x), [x], eps=1e-2).is_sosp is True


def test_gradient_descent_alone_does_not_leave() -> None:
    saddle = quadratic(10)
    x, optimizer = descend(saddle.f, saddle.start, eps=EPS, perturb=0.0)
    assert optimizer.is_done
    assert torch.equal(x.detach(), saddle.start)
    assert certify_function(lambda: saddle.f(x), [x], eps=EPS).is_sosp is False


@pytest.mark.parametrize("year", [2017, 2021])
def test_theory_ends_where_it_promises(year: int) -> None:
    # Its true constants, and an eps at which the start is not second-order stationary: -1 < -sqrt(rho eps).
    f, start, _ = cosine(1)
    x, optimizer = descend(
        f,
        start,
        most=10_000_000,
        mode="theory",
        year=year,
        eps=0.9,
        ell=1.0,
        rho=1.0,
        gap=2.0,
        delta=0.5,
        seed=3,
    )
    constants = optimizer.constants
    assert constants is not None
    assert optimizer.status == ("stationary" if year == 2017 else "promised steps")
    assert optimizer.n_steps <= constants.promised_steps
    found = certify_function(lambda: f(x), [x], eps=0.9, curvature=math.sqrt(0.9))
    assert found.is_sosp is True
    assert float(f(x.detach())) < 0.0


@pytest.mark.parametrize(("ell", "gap", "sigma"), [(1.0, 0.5, 0.0), (3.0, 1.0, 0.2), (100.0, 2.0, 1.0)])
def test_psgd_promises_as_many_waits_as_the_gap_has_decreases(ell: float, gap: float, sigma: float) -> None:
    found = psgd_2021(50, ell=ell, rho=1.0, eps=0.1, gap=gap, delta=0.1, sigma=sigma)
    assert found.promised_steps >= 0.99 * gap / found.decrease * (found.wait - 1)
    assert found.promised_steps <= 1.01 * gap / found.decrease * found.wait


def test_stochastic_theory_steps_as_it_says_and_ends_where_it_promises() -> None:
    # iota = 1 here, so that all powers of it are 1, N = 1 + sigma^2 dim / eps^2 = 3 and the step is 1 / (ell N).
    x = torch.tensor([1.0, -0.5], dtype=torch.float64, requires_grad=True)
    optimizer = PGD(
        [x], mode="theory", stochastic=True, year=2021, eps=0.5, ell=2.0, rho=1.0, gap=0.25, delta=0.9, sigma=0.5,
        seed=4,
    )  # fmt: skip
    found = optimizer.constants
    assert found is not None
    assert found.step == pytest.approx(1 / 6)
    assert found.radius == pytest.approx(0.5 * math.sqrt(3.0))
    assert found.wait == math.ceil(6 / math.sqrt(0.5))
    assert found.promised_steps == math.ceil(0.25 * 6 / 0.5**2)
    closure = closure_of(lambda x: (x**2).sum(), x, optimizer)
    before = x.detach().clone()
    optimizer.step(closure)
    (noise,) = normals_like([x], 4, 0)
    gradient = 2.0 * before + found.radius / math.sqrt(2.0) * noise
    assert torch.allclose(x.detach(), before - found.step * gradient)
    while not optimizer.is_done:
        optimizer.step(closure)
    assert optimizer.status == "promised steps"
    assert optimizer.n_steps == found.promised_steps


def test_noise_of_2021_is_a_step_along_noise_in_units_of_a_gradient() -> None:
    # Measured in other units, x = u / 10, f is the same: ell is 100 and rho 1,000 times as large, eps 10 times.
    # (iota is 1 in both; its logarithm is of x^2.)
    here = pgd_2021(1, ell=1.0, rho=1.0, eps=0.1, gap=0.1, delta=0.9)
    there = pgd_2021(1, ell=100.0, rho=1000.0, eps=1.0, gap=0.1, delta=0.9)
    assert there.radius == pytest.approx(here.radius / 10.0)
    assert there.wait == here.wait
    assert there.promised_steps == pytest.approx(here.promised_steps, abs=1)  # rounded up


def test_theory_says_how_many_steps_before_it_starts() -> None:
    x = torch.zeros(1000, requires_grad=True)
    options: dict[str, Any] = {"mode": "theory", "eps": 1e-3, "ell": 1.0, "rho": 1.0, "gap": 1.0}
    with pytest.raises(ValueError, match=r"after [0-9,]+ steps, above 10,000,000; pass force=True"):
        PGD([x], **options)
    assert PGD([x], **options, force=True).constants is not None


def test_never_rises_but_for_the_noise() -> None:
    saddle = SADDLES["factorisation"]()
    x = (saddle.start + 0.1).requires_grad_(True)
    optimizer = PGD([x], eps=EPS)
    closure = closure_of(saddle.f, x, optimizer)
    losses = []
    for _ in range(60):
        before = optimizer.n_perturbations
        loss = float(optimizer.step(closure))
        losses.append((loss, optimizer.n_perturbations > before))
    for (first, _), (second, perturbed) in itertools.pairwise(losses):
        assert second <= first or perturbed


def run(optimizer: PGD, model: torch.nn.Module, steps: int) -> None:
    data = torch.linspace(-1.0, 1.0, 24).reshape(6, 4)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = (model(data) ** 4).mean()
        loss.backward()
        return loss

    for _ in range(steps):
        optimizer.step(closure)


def small_model() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.Tanh(), torch.nn.Linear(8, 1))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="backtracking"),
        pytest.param({"momentum": 0.9}, id="momentum"),
        pytest.param({"line_search": "lipschitz", "lr": 0.01}, id="lipschitz"),
        pytest.param({"stochastic": True, "momentum": 0.5}, id="stochastic"),
        pytest.param({"eps": 0.5, "wait": 3}, id="noise often"),
        pytest.param(
            {"mode": "theory", "year": 2021, "eps": 0.9, "ell": 1.0, "rho": 1.0, "gap": 0.1}, id="theory"
        ),
    ],
)
def test_resumes_bit_for_bit(options: dict[str, Any]) -> None:
    whole = small_model()
    optimizer = PGD(whole.parameters(), seed=5, **options)
    run(optimizer, whole, 7)
    file = io.BytesIO()
    torch.save({"model": whole.state_dict(), "optimizer": optimizer.state_dict()}, file)
    run(optimizer, whole, 9)

    file.seek(0)
    saved = torch.load(file, weights_only=True)
    resumed = small_model()
    resumed.load_state_dict(saved["model"])
    again = PGD(resumed.parameters(), seed=5, **options)
    again.load_state_dict(saved["optimizer"])
    run(again, resumed, 9)
    assert again.n_steps == optimizer.n_steps
    assert again.status == optimizer.status
    for one, other in zip(whole.parameters(), resumed.parameters(), strict=True):
        assert torch.equal(one, other)


def test_seeds_decide() -> None:
    saddle = quadratic(5)
    runs = [descend(saddle.f, saddle.start, eps=EPS, seed=seed)[0] for seed in (0, 0, 1)]
    assert torch.equal(runs[0], runs[1])
    assert not torch.equal(runs[0], runs[2])


@pytest.mark.parametrize("foreach", [False, True])
def test_without_a_closure_a_step_is_that_of_sgd(foreach: bool) -> None:
    ours, theirs = small_model(), small_model()
    groups = [{"params": ours[0].parameters()}, {"params": ours[2].parameters(), "lr": 0.01, "momentum": 0.0}]  # type: ignore[index]
    their_groups = [
        {"params": theirs[0].parameters()},
        {"params": theirs[2].parameters(), "lr": 0.01, "momentum": 0.0},
    ]  # type: ignore[index]
    optimizers = (
        PGD(groups, lr=0.1, momentum=0.9, foreach=foreach, eps=1e-12),
        torch.optim.SGD(their_groups, lr=0.1, momentum=0.9, foreach=foreach),
    )
    data = torch.linspace(-1.0, 1.0, 24).reshape(6, 4)
    for _ in range(5):
        for model, optimizer in zip((ours, theirs), optimizers, strict=True):
            optimizer.zero_grad()
            (model(data) ** 2).mean().backward()
            optimizer.step()
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_gradient_that_is_not_finite_goes_back() -> None:
    x = torch.ones(3, requires_grad=True)
    optimizer = PGD([x], lr=0.1, line_search="none")
    for step in range(5):
        x.grad = torch.full((3,), float("nan") if step == 4 else 1.0)
        good = x.detach().clone() if step == 3 else x.detach()
        if step < 4:
            optimizer.step()
        if step == 3:
            kept = good
    with pytest.raises(FloatingPointError, match=r"at step 4; the parameters are those of step 3 again"):
        optimizer.step()
    assert torch.equal(x.detach(), kept)


def test_large_models_are_looked_at_now_and_then() -> None:
    x = torch.zeros(EVERY_STEP_BELOW + 1, requires_grad=True)
    x.grad = torch.ones_like(x)
    optimizer = PGD([x], lr=1.0, foreach=False)
    for _ in range(LOOK_EVERY + 1):
        optimizer.step()
    x.grad[7] = float("inf")
    for _ in range(LOOK_EVERY - 1):
        optimizer.step()
    with pytest.raises(
        FloatingPointError, match=rf"at step {2 * LOOK_EVERY} \(looked at every {LOOK_EVERY}\)"
    ):
        optimizer.step()
    assert bool((x == -float(LOOK_EVERY)).all())


def test_gradients_may_come_and_go() -> None:
    # f knows nothing of `b` on one side, and of `a` on the other; a trial may be either's, and one fails altogether.
    a, b = (torch.ones(2, dtype=torch.float64, requires_grad=True) for _ in range(2))
    optimizer = PGD([a, b], lr=0.4, momentum=0.5, eps=1e-8)
    calls = 0

    def closure() -> Tensor:
        nonlocal calls
        calls += 1
        optimizer.zero_grad()
        loss = (a**2).sum() if calls < 6 else (a**2).sum() + (b**2).sum() if calls < 9 else (b**2).sum()
        loss.backward()
        return loss

    for _ in range(200):
        optimizer.step(closure)
    assert float(b.detach().abs().max()) < 1e-6
    assert bool(torch.isfinite(a).all())


def test_backtracking_stays_where_f_is_finite() -> None:
    x = torch.tensor([1.0], dtype=torch.float64, requires_grad=True)
    optimizer = PGD([x], lr=100.0, eps=1e-6)
    closure = closure_of(lambda x: (x - torch.log(x)).sum() + x.sum(), x, optimizer)
    for _ in range(50):
        assert math.isfinite(float(optimizer.step(closure)))
    assert float(x.detach()) == pytest.approx(0.5, abs=1e-4)


def test_a_first_gradient_that_is_not_finite() -> None:
    x = torch.zeros(2, requires_grad=True)
    optimizer = PGD([x])
    with pytest.raises(FloatingPointError, match="there is no earlier point"):
        optimizer.step(closure_of(lambda x: torch.sqrt(x).sum(), x, optimizer))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "magic"}, "`mode` must be one of practical, theory; got 'magic'."),
        ({"lr": 0.0}, "`lr` must be above 0 and finite; got 0.0."),
        ({"eps": float("nan")}, "`eps` must be above 0 and finite; got nan."),
        ({"momentum": 1.0}, r"`momentum` must lie in \[0, 1\); got 1.0."),
        ({"perturb": -1.0}, "`perturb` must be at least 0 and finite; got -1.0."),
        ({"line_search": "exact"}, "`line_search` must be one of"),
        ({"stochastic": True, "line_search": "backtracking"}, "compares losses"),
        ({"mode": "theory"}, "needs `ell`, `rho` and `gap`"),
        ({"wait": 0}, "`wait` must be at least 1; got 0."),
        ({"seed": -1}, r"`seed` must be in \[0, [0-9]+\]; got -1."),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        PGD([torch.zeros(2, requires_grad=True)], **options)


def test_a_seed_that_is_no_integer() -> None:
    with pytest.raises(TypeError, match="`seed` must be an integer; got float"):
        PGD([torch.zeros(2, requires_grad=True)], seed=1.5)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, id="backtracking"),
        pytest.param({"line_search": "lipschitz"}, id="lipschitz"),
        pytest.param({"line_search": "none"}, id="none"),
        pytest.param({"mode": "theory", "ell": 1.0, "rho": 1.0, "gap": 0.01, "eps": 0.9}, id="theory"),
    ],
)
def test_a_closure_without_backward(options: dict[str, Any]) -> None:
    x = torch.ones(2, requires_grad=True)
    optimizer = PGD([x], **options)
    with pytest.raises(ValueError, match="no parameter has a gradient: the closure must call backward"):
        optimizer.step(lambda: (x**2).sum())


def test_a_step_without_closure_and_backward() -> None:
    optimizer = PGD([torch.ones(2, requires_grad=True)])
    with pytest.raises(ValueError, match="no parameter has a gradient: call backward before step"):
        optimizer.step()


@pytest.mark.parametrize("there", [-5.0, -1.5])
def test_a_point_moved_behind_the_optimizers_back_is_evaluated_anew(there: float) -> None:
    # Through `.data`, as averaging and pruning do, which torch does not count as a change.
    x = torch.tensor([3.0, 1.0], dtype=torch.float64, requires_grad=True)
    optimizer = PGD([x], eps=1e-6)
    closure = closure_of(lambda x: (x**2).sum(), x, optimizer)
    optimizer.step(closure)
    optimizer.step(closure)
    before = torch.full_like(x, there).detach()
    x.data.copy_(before)
    assert float(optimizer.step(closure)) < float((before**2).sum())
    assert (
        x.detach()[0] == x.detach()[1]
    )  # a step along the gradient there, not along that of the point before
    x.data = torch.full_like(x, there)
    optimizer.step(closure)
    assert bool((x.detach() > there).all())


def test_backtracking_needs_a_closure() -> None:
    optimizer = PGD([torch.zeros(2, requires_grad=True)], line_search="backtracking")
    with pytest.raises(ValueError, match="needs a closure"):
        optimizer.step()


def test_copies_are_independent() -> None:
    saddle = double_well(2)
    x, optimizer = descend(saddle.f, saddle.start, most=3, eps=EPS)
    state = copy.deepcopy(optimizer.state_dict())
    optimizer.step(closure_of(saddle.f, x, optimizer))
    assert state["param_groups"][0]["n_steps"] == 3
