"""The facts of the lemma: where it holds, where it must not, and what a certificate refuses to say."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

import sdp
from sdp.optim.certificate import verdict
from sdp.optim.certify_function import certify_function
from sdp.optim.crosscheck import contradicts
from sdp.optim.intervals import curvature_range, norm_range
from sdp.optim.pgd import PGD
from sdp.optim.sosp import certify
from tests.reference.lemma_heads import lemma_heads


def well(z: Tensor) -> Tensor:
    return (z[..., 0] ** 2 - 1) ** 2


def cube(z: Tensor) -> Tensor:
    """The loss of relu(z)^3 fitted to 1: twice differentiable."""
    return (torch.relu(z[..., 0]) ** 3 - 1) ** 2


def scalar(head: Callable[[Tensor], Tensor], w: float, b: float, **options: Any) -> sdp.Expectation:
    return sdp.Expectation(
        head, torch.tensor([[w]], dtype=torch.float64), torch.tensor([b], dtype=torch.float64), **options
    )


def descend(F: sdp.Expectation, lam: float, *, train_b: bool = True, most: int = 400, **options: Any) -> PGD:
    """PGD on F + lam |W|^2, in place."""
    points = [F.W, F.b] if train_b else [F.W]
    for point in points:
        point.requires_grad_(True)
    optimizer = PGD(points, **options)

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = F() + lam * F.W.square().sum()
        loss.backward()
        return loss

    while not optimizer.is_done and optimizer.n_steps < most:
        optimizer.step(closure)
    return optimizer


LAM = 0.05


class TestDoubleWell:
    def test_the_saddle_is_refused_and_its_curvature_known(self) -> None:
        found = certify(scalar(well, math.sqrt((4 - 2 * LAM) / 12), 0.0), LAM)
        assert found.is_sosp is False
        assert found.gradient_upper < 1e-12
        assert found.curvature_lower == pytest.approx(-2 * LAM, abs=1e-12)
        assert found.w_bound == math.inf
        assert found.lemma is not None
        assert found.lemma.stein.upper < 1e-10

    def test_escape_is_in_b_only(self) -> None:
        # The whole Hessian in (W, b) is diag(4 (4 - 2 lam), -2 lam) there: nothing in W goes down.
        found = certify(scalar(well, math.sqrt((4 - 2 * LAM) / 12), 0.0), LAM, variables="Wb")
        assert found.is_sosp is False
        assert found.curvature_upper == pytest.approx(-2 * LAM, abs=1e-9)
        assert found.direction is not None
        assert abs(float(found.direction[1])) == pytest.approx(1.0)

    def test_descent_ends_at_w_zero(self) -> None:
        F = scalar(well, math.sqrt((4 - 2 * LAM) / 12), 0.0)
        before = float(F.value())
        descend(F, LAM, eps=1e-4)
        found = certify(F, LAM)
        assert found.is_sosp is True
        assert found.w_norm <= found.w_bound <= 0.1
        assert float(well(F.b.detach())) <= before
        assert abs(float(F.b.detach())) == pytest.approx(1.0, abs=1e-2)


class TestSignsInPlaceOfGaussians:
    """The same well where x is +-1: w = .98742 is a strict local minimum for lam = .05, so the lemma must fail."""

    POINTS = torch.tensor([1.0, -1.0] * 2048, dtype=torch.float64)[:, None]

    def test_it_is_a_minimum(self) -> None:
        w = torch.tensor([0.98742, 0.0], dtype=torch.float64, requires_grad=True)

        def f() -> Tensor:
            z = self.POINTS[:2] * w[0] + w[1]
            return well(z).mean() + LAM * w[0] ** 2

        assert certify_function(f, [w], eps=1e-3).is_sosp is True

    def test_the_certificate_refuses_through_the_stein_residual(self) -> None:
        found = certify(scalar(well, 0.98742, 0.0), LAM, points=self.POINTS)
        assert found.gradient_upper < 1e-3
        assert found.curvature_lower > 7.0
        assert found.is_sosp == "undecided"
        assert "not Gaussian" in found.decided_by
        assert found.lemma is not None
        assert not found.lemma.holds
        assert found.lemma.stein.lower > 7.0
        # The lemma alone would say 1e-4; with the residual paid for, the bound is true.
        assert found.gradient_upper / (2 * LAM + found.curvature_lower) < 1e-3
        assert found.w_norm <= found.w_bound

    def test_gaussian_points_pass(self) -> None:
        x = torch.from_numpy(np.random.default_rng(0).normal(size=(4096, 1)))
        found = certify(scalar(well, 1e-3, 1.0), LAM, points=x, eps=0.1)
        assert found.lemma is not None
        assert found.lemma.holds
        assert found.is_sosp is True
        assert found.w_norm <= found.w_bound


class TestCubeOfRelu:
    """1 fitted by relu(wx + b)^3: 7.5 w^6 - 2 sqrt(2/pi) w^3 + 1 + lam w^2 where b = 0."""

    @pytest.mark.parametrize(("lam", "stays"), [(0.44, True), (0.46, False)])
    def test_with_b_frozen_w_stays_until_lam_is_045(self, lam: float, stays: bool) -> None:
        F = scalar(cube, 0.4, 0.0, n_samples=2048)
        descend(F, lam, train_b=False, eps=1e-3, perturb=0.0)
        w = abs(float(F.W.detach()))
        assert w > 0.3  # a local minimum in both cases ...
        value = float(F.value()) + lam * w**2
        exact = 7.5 * w**6 - 2 * math.sqrt(2 / math.pi) * w**3 + 1 + lam * w**2
        assert value == pytest.approx(exact, abs=1e-4)
        assert (value < 1.0) == stays  # ... but only below .45 better than w = 0, whose value is 1

    def test_with_b_trained_w_goes(self) -> None:
        F = scalar(cube, 0.3, 0.3, n_samples=2048)
        descend(F, 1e-4, eps=1e-6)
        assert abs(float(F.W.detach())) < 0.05
        assert float(F.b.detach()) == pytest.approx(1.0, abs=1e-2)


@pytest.mark.parametrize("d", [32, 4096])
@pytest.mark.parametrize("name", lemma_heads())
def test_the_lemma_bounds_w_and_nothing_is_lost(name: str, d: int) -> None:
    lam = 0.05
    rng = np.random.default_rng(0)
    W = torch.from_numpy(0.5 * rng.normal(size=(3, d)) / math.sqrt(d))
    # On 1,024 draws the wells have minima with W of their own, which `certify` refuses: quadrature there.
    n_samples, method = (4096, "auto") if name == "double wells" else (1024, "sampling")
    b = torch.from_numpy(0.3 * rng.normal(size=3))
    F = sdp.Expectation(lemma_heads()[name], W, b, n_samples=n_samples, method=method)
    low, _ = F.redrawn(seed=99, n_samples=16384).value().interval(0.99)
    descend(F, lam, eps=2e-3, momentum=0.8)
    found = certify(F, lam)
    assert found.is_sosp is True
    assert found.w_norm <= found.w_bound <= 0.1
    with torch.no_grad():
        assert float(F.head(F.b)) <= float(low)


class TestQuadratureIsChecked:
    """Smooth heads with bumps between the nodes, which all orders up to 95 miss."""

    @staticmethod
    def bumps(z: Tensor) -> Tensor:
        u, narrow = z[..., 0], 2e-5
        bump = sum(torch.exp(-0.5 * ((u - at) / narrow) ** 2) for at in (1.35e-3, -1.35e-3))
        return 0.5 * u**2 - 5e-4 * bump

    def test_bumps_between_the_nodes_are_never_passed_over(self) -> None:
        # By a dense integral the curvature is -5.6; by the quadrature, 1 to all digits.
        for seed in range(5):
            found = certify(scalar(self.bumps, 1e-3, 0.0), LAM, seed=seed)
            assert found.is_sosp is not True
            assert found.curvature_lower <= -5.6 <= found.curvature_upper
            assert found.method == "sampling"
            assert "between the quadrature's nodes: sampled instead" in found.notes[0]
            assert found.delta == 0.01

    @pytest.mark.parametrize("k", [1, 2, 3, 4])
    def test_smooth_heads_are_believed(self, k: int) -> None:
        rng = np.random.default_rng(k)
        for seed, (name, head) in itertools.product(range(5), SMOOTH.items()):
            W = torch.from_numpy(0.4 * rng.normal(size=(k, 6)))
            F = sdp.Expectation(head, W, torch.from_numpy(rng.normal(size=k)))
            found = certify(F, LAM, seed=seed)
            assert found.method == "quadrature", (name, seed)
            assert found.delta == 0.0
            assert any("are no probability" in note for note in found.notes)

    def test_a_sample_that_disagrees_with_means_is_heard(self) -> None:
        F = scalar(well, 0.5, 0.3)
        W, b, H = F.grad().value.W, F.grad().value.b, F.hessian_z().value
        assert contradicts(F, W, b, H, (0.0, 0.0), 0) is None
        for wrong in ((W + 1.0, b, H), (W, b + 1.0, H), (W, b, H + 1.0)):
            assert contradicts(F, *wrong, (0.0, 0.0), 0) == "a sample contradicts the quadrature's means"
            assert contradicts(F, *wrong, (2.0, 2.0), 0) is None  # the quadrature said as much


SMOOTH: dict[str, Callable[[Tensor], Tensor]] = {
    "wells": lambda z: ((z**2 - 1) ** 2).sum(-1),
    "tanh": lambda z: torch.tanh(0.2 * z).pow(2).sum(-1),
    "exponential": lambda z: torch.exp(z.sum(-1)),
    "wave": lambda z: torch.cos(3.0 * z.sum(-1)) + z[..., 0],
}


def test_points_are_averaged_in_float64_whatever_the_dtype() -> None:
    # (z + 1e4)^2 / 2 - 1e4 z has the gradient z, of which float32 keeps nothing at z = 3e-4.
    def shifted(z: Tensor) -> Tensor:
        return 0.5 * (z[..., 0] + 1e4) ** 2 - 1e4 * z[..., 0]

    F = sdp.Expectation(shifted, torch.zeros(1, 1), torch.tensor([3e-4]))
    found = certify(F, 0.1, points=torch.zeros(1024, 1), eps=1e-4)
    assert found.gradient.estimate == pytest.approx(3e-4, rel=1e-6)
    assert found.is_sosp is False


def test_the_rounding_that_is_assumed_is_said() -> None:
    # The same function in float32: its gradient of 3e-4 is computed as 0, and only the assumption says so.
    for dtype, wanted in ((torch.float32, True), (torch.float64, False)):
        p = torch.tensor([3e-4], dtype=dtype, requires_grad=True)
        found = certify_function(lambda p=p: (0.5 * (p + 1e4) ** 2 - 1e4 * p).sum(), [p], eps=1e-4)
        assert found.is_sosp is wanted
        assert "the gradient errs by at most" in found.notes[0]
        assert str(dtype).removeprefix("torch.") in found.notes[0]
        batched = certify_function(lambda a, p=p: a * (p**2).sum(), [p], batches=[torch.ones(())] * 8)
        assert found.notes[0] in batched.notes


class TestNearSaddles:
    """True is never wrong at points whose lowest curvature lies just below the tolerance."""

    def test_known_exactly(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(1000):
            values = torch.from_numpy(rng.uniform(0.0, 1.0, 5))
            values[0] = -0.1 * (1.0 + 10.0 ** rng.uniform(-6, 0))
            x = torch.zeros(5, dtype=torch.float64, requires_grad=True)
            found = certify_function(
                lambda x=x, values=values: 0.5 * (values * x**2).sum(), [x], eps=1e-2, curvature=0.1
            )
            assert found.is_sosp is not True

    @pytest.mark.parametrize("side", [1.0, -1.0], ids=["below", "above"])
    def test_through_chebyshev(self, side: float) -> None:
        rng = np.random.default_rng(2)
        verdicts = []
        for margin in 10.0 ** rng.uniform(-4, 0, 20):
            values = torch.from_numpy(rng.uniform(0.0, 1.0, 60))
            values[7] = -0.1 * (1.0 + side * min(margin, 0.9))
            x = torch.zeros(60, dtype=torch.float64, requires_grad=True)
            found = certify_function(
                lambda x=x, values=values: 0.5 * (values * x**2).sum(),
                [x],
                eps=1e-2,
                curvature=0.1,
                dense_size=1,
            )
            assert found.method == "chebyshev"
            assert found.curvature_lower <= float(values[7]) <= found.curvature_upper
            verdicts.append(found.is_sosp)
        assert (True in verdicts) == (side < 0.0)

    @pytest.mark.parametrize("way", ["exact", "quadrature", "sampling"])
    @pytest.mark.parametrize("side", [1.0, -1.0], ids=["below", "above"])
    def test_of_an_expectation(self, way: str, side: float) -> None:
        rng = np.random.default_rng(3)
        verdicts = []
        for margin in 10.0 ** rng.uniform(-3, 0, 12):
            values = torch.from_numpy(rng.uniform(0.0, 1.0, 3))
            values[1] = -LAM * (1.0 + side * min(margin, 0.9))
            scale = 0.0 if way == "exact" else 1e-4
            F = sdp.Expectation(
                lambda z, values=values: (
                    0.5 * (values * z**2).sum(-1) + 0.01 * (torch.cos(z) + z**2 / 2).sum(-1)
                ),
                torch.from_numpy(scale * rng.normal(size=(3, 6))),
                torch.zeros(3, dtype=torch.float64),
                2048,
                method="sampling" if way == "sampling" else "auto",
            )
            found = certify(F, LAM)
            assert found.method == way
            verdicts.append(found.is_sosp)
        assert (True in verdicts) == (side < 0.0)

    @staticmethod
    def batches(rng: np.random.Generator, lowest: float, n: int) -> Tensor:
        """Sampled Hessians (n, 2, 2) of this mean curvature, with noise of 0.1."""
        noise = rng.normal(size=(n, 2, 2))
        return torch.from_numpy(0.05 * (noise + noise.transpose(0, 2, 1)) + np.diag([lowest, 1.0]))

    def test_sampled(self) -> None:
        # What `certify` makes of batches, at mean curvatures just below the -0.1 that is allowed.
        rng = np.random.default_rng(1)
        still = [torch.zeros(2, dtype=torch.float64)] * 16
        for margin in 10.0 ** rng.uniform(-4, -1, 1000):
            H = self.batches(rng, -0.1 - margin, 16)
            found, _ = curvature_range(list(H), 2e-3, 2e-3)
            assert verdict(norm_range(still, 2e-3, 2e-3), found, 1e-2, 0.1, 1024)[0] is not True

    @pytest.mark.parametrize(("lowest", "times"), [(-0.105, 0), (0.2, 30)], ids=["below", "above"])
    def test_sampled_losses(self, lowest: float, times: int) -> None:
        rng = np.random.default_rng(2)
        verdicts = []
        for _ in range(50):
            x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
            H = self.batches(rng, lowest, 16)
            found = certify_function(
                lambda A, x=x: 0.5 * x @ A @ x, [x], eps=1e-2, curvature=0.1, batches=list(H)
            )
            verdicts.append(found.is_sosp)
        assert verdicts.count(True) >= times
        assert times > 0 or True not in verdicts


class TestSampled:
    def expectation(self, n_samples: int, curvature: float = 1.0) -> sdp.Expectation:
        W = torch.from_numpy(1e-3 * np.random.default_rng(0).normal(size=(6, 40)))
        b = torch.zeros(6, dtype=torch.float64)
        return sdp.Expectation(
            lambda z: 0.5 * curvature * (z**2).sum(-1) + torch.cos(z).sum(-1),
            W,
            b,
            n_samples,
            method="sampling",
        )

    def test_intervals_hold_the_truth(self) -> None:
        # H = (1.5 - e^(-|w_i|^2/2)) on the diagonal, and D = 0.
        F = self.expectation(4096, 1.5)
        truth = 1.5 - float(torch.exp(-0.5 * F.W.square().sum(1)).max())
        found = certify(F, 0.1, eps=0.05)
        assert found.curvature_lower <= truth <= found.curvature_upper
        assert found.is_sosp is True
        assert sum(found.deltas.values()) == pytest.approx(0.01)
        assert found.lemma is not None
        assert found.lemma.stein.upper < 5e-3  # |H W| is 8e-3

    def test_few_samples_are_undecided(self) -> None:
        found = certify(self.expectation(256, 1.5), 0.1)
        assert found.is_sosp == "undecided"
        assert "too few samples" in found.decided_by

    @pytest.mark.parametrize("n", [1, 2, 7])
    def test_few_batches_are_undecided(self, n: int) -> None:
        # Of a x^2 / 2 with a ~ N(-1, 4), only samples of a = 1 were seen.
        x = torch.zeros(1, dtype=torch.float64, requires_grad=True)
        found = certify_function(
            lambda a: (0.5 * a * x**2).sum(), [x], batches=[torch.ones(1, dtype=torch.float64)] * n
        )
        assert found.is_sosp == "undecided"
        assert found.decided_by == "too few samples for intervals that can be trusted"
        assert found.n_samples == n

    def test_no_batches_are_refused(self) -> None:
        x = torch.zeros(1, requires_grad=True)
        with pytest.raises(
            ValueError, match="`batches` must hold at least one batch, or be left out; got none"
        ):
            certify_function(lambda a: (a * x).sum(), [x], batches=[])

    def test_says_how_many_samples_would_decide(self) -> None:
        x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
        noise = torch.from_numpy(np.random.default_rng(0).normal(size=(16, 2)))
        found = certify_function(lambda g: (x * x).sum() + 0.05 * g @ x, [x], eps=0.05, batches=list(noise))
        assert found.is_sosp == "undecided"
        assert found.samples_needed is not None
        assert found.samples_needed > 16
        assert "batches would decide" in found.decided_by

    @pytest.mark.parametrize("variables", ["Wb", "all"])
    def test_the_whole_hessian_by_sampling(self, variables: str) -> None:
        F = self.expectation(4096, 1.5)
        # Of f in (W, b): w'w is 2e-5 at most, so that blocks are those at W = 0, to 1e-4: .5 I in b, .5 + 2 lam in W.
        found = certify(F, 0.1, eps=0.05, variables=variables)
        assert found.is_sosp is True
        assert found.curvature_lower <= 0.5 + 1e-4
        assert found.curvature_upper >= 0.5 - 1e-4
        # Every claim has its share: two ranges of the gradient and of the curvature, and the lemma's three.
        assert len(found.deltas) == 7
        assert set(found.deltas.values()) == {0.01 / 7}

    def test_what_is_exact_spends_no_delta(self) -> None:
        for variables in ("z", "Wb", "all"):
            found = certify(scalar(well, 0.1, 1.0), LAM, variables=variables, eps=1.0)
            assert (found.delta, found.deltas) == (0.0, {})

    def test_products_alone_spend_all_of_delta(self) -> None:
        # 2,101 variables are more than are formed densely: the start of Chebyshev's iteration is random, nothing else.
        W, b = torch.zeros(1, 2100, dtype=torch.float64), torch.ones(1, dtype=torch.float64)
        found = certify(sdp.Expectation(well, W, b), LAM, variables="Wb")
        assert found.is_sosp is True
        assert (found.method, found.products > 0) == ("exact", True)
        assert (found.delta, found.deltas) == (0.01, {"curvature lower": 0.01})

    def test_the_whole_hessian_agrees_with_the_block(self) -> None:
        F = scalar(well, 0.1, 1.0)
        block, whole, every = (certify(F, LAM, variables=v, eps=1.0) for v in ("z", "Wb", "all"))
        assert block.is_sosp is whole.is_sosp is every.is_sosp is True
        assert whole.curvature_lower <= block.curvature_upper + 2 * LAM
        assert whole.covers != block.covers


def test_attention_is_twice_differentiable() -> None:
    # Of torch's fused attention only the first derivative is known.
    torch.manual_seed(0)
    x = torch.randn(1, 2, 5, 4, dtype=torch.float64)
    q = torch.zeros(1, 2, 5, 4, dtype=torch.float64, requires_grad=True)
    attend = torch.nn.functional.scaled_dot_product_attention
    found = certify_function(lambda: attend(q, x, x).square().mean(), [q], eps=10.0)
    weights = lambda: torch.softmax(q @ x.transpose(-1, -2) / 2.0, -1)  # noqa: E731
    plain = certify_function(lambda: (weights() @ x).square().mean(), [q], eps=10.0)
    assert found.curvature_lower == pytest.approx(plain.curvature_lower, abs=1e-12)
    assert found.curvature_lower < -1e-3


def test_w_beside_a_teacher_is_bounded_outside_its_rows() -> None:
    U = torch.eye(1, 6, dtype=torch.float64)
    student = sdp.MLP((2, 4), "tanh", seed=0, dtype=torch.float64)
    head = sdp.TeacherStudent(student, lambda u: torch.sin(u[..., 0]), U)
    W = torch.zeros(2, 6, dtype=torch.float64)
    W[:, 0] = 1.0
    found = certify(sdp.Expectation(head, W, torch.zeros(2, dtype=torch.float64)), 0.1)
    assert found.w_norm == 0.0


def test_heads_with_kinks_are_warned_of() -> None:
    F = scalar(lambda z: torch.relu(z[..., 0]), 0.5, 0.0)
    with pytest.warns(UserWarning, match="curvature is undefined.*softplus"):
        found = certify(F, 0.1)
    assert found.is_sosp is not True
    x = torch.ones(2, requires_grad=True)
    with pytest.warns(UserWarning, match="use softplus, gelu or silu instead of relu"):
        quiet = certify_function(lambda: torch.relu(x).sum() * 1e-9, [x])
    assert quiet.is_sosp == "undecided"


KINKS: list[tuple[str, Callable[[Tensor], Tensor]]] = [
    ("instead of where", lambda x: torch.where(x >= 0, x**2, -(x**2))),
    ("instead of masked_fill", lambda x: x.masked_fill(x < 0, 0.0)),
    ("instead of fmax", lambda x: torch.fmax(x**2, -(x**2))),
    ("instead of fmin", lambda x: -torch.fmin(x**2, -(x**2))),
    ("a norm of order 2", lambda x: torch.linalg.vector_norm(x, ord=1) * x),
    ("a norm of order 2", lambda x: torch.linalg.vector_norm(x, ord=math.inf) * x),
    ("a norm of order 2", lambda x: torch.cdist(x[None], x[None] ** 2, p=1.0)),
    ("instead of cummax", lambda x: torch.cummax(torch.cat([-(x**2), x**2]), 0).values),
    ("instead of cummin", lambda x: torch.cummin(torch.cat([-(x**2), x**2]), 0).values),
    ("instead of celu", torch.nn.functional.celu),
    ("instead of softshrink", torch.nn.functional.softshrink),
    ("instead of hardshrink", torch.nn.functional.hardshrink),
    ("instead of aminmax", lambda x: torch.aminmax(x**2).max),
    ("instead of an order statistic", torch.median),
    (
        "instead of max pooling",
        lambda x: torch.nn.functional.max_pool3d(x[:1].expand(1, 1, 2, 2, 2), 2),
    ),
    (
        "instead of max pooling",
        lambda x: torch.nn.functional.adaptive_max_pool2d(x[:1].expand(1, 1, 2, 2), 1),
    ),
]


@pytest.mark.parametrize(("words", "f"), KINKS)
def test_every_kink_is_seen(words: str, f: Callable[[Tensor], Tensor]) -> None:
    x = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    with pytest.warns(UserWarning, match=f"curvature is undefined: the loss has kinks; use .*{words}"):
        found = certify_function(lambda: (f(x) ** 2).sum(), [x])
    assert found.is_sosp == "undecided"


def test_norms_of_order_2_are_no_kinks() -> None:
    x = torch.ones(2, dtype=torch.float64, requires_grad=True)
    found = certify_function(lambda: (torch.linalg.vector_norm(x - 1e-5) - 1.0) ** 2, [x], eps=10.0)
    assert found.is_sosp is True


@pytest.mark.parametrize(
    "head",
    [
        lambda z: torch.relu(z[..., 0] - z[..., 1]),
        lambda z: torch.maximum(z[..., 0], z[..., 1]) ** 2,
        lambda z: z[..., 0] ** 2 + z[..., 1].abs(),
        lambda z: torch.where(z[..., 0] > z[..., 1], z[..., 0] ** 2, z[..., 1] ** 2),
    ],
    ids=["relu of a difference", "maximum", "one axis", "where"],
)
def test_kinks_in_the_plane_are_seen(head: Callable[[Tensor], Tensor]) -> None:
    W = torch.tensor([[0.3, 0.1], [-0.2, 0.4]], dtype=torch.float64)
    F = sdp.Expectation(head, W, torch.tensor([0.1, 0.2], dtype=torch.float64))
    with pytest.warns(UserWarning, match="curvature is undefined: `head` (is not twice|has kinks)"):
        found = certify(F, 0.1, eps=100.0)
    assert found.is_sosp == "undecided"
    assert found.curvature_lower == -math.inf


def test_results_are_json() -> None:
    found = certify(scalar(well, 0.1, 1.0), LAM, points=torch.ones(4, 1, dtype=torch.float64))
    assert found.is_sosp is not True
    assert json.loads(json.dumps(found.to_dict()))["lam"] == LAM
    assert "||W||_F" in repr(found)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"lam": 0.0}, "`lam` must be above 0 and finite, or the lemma bounds nothing; got 0.0."),
        ({"lam": -1.0}, "`lam` must be above 0"),
        ({"lam": math.nan}, "`lam` must be above 0"),
        ({"lam": 1.0, "delta": 1.0}, r"`delta` must lie in \(0, 1\); got 1.0."),
        ({"lam": 1.0, "eps": 0.0}, "`eps` must be above 0 and finite; got 0.0."),
        ({"lam": 1.0, "variables": "W"}, "`variables` must be one of z, Wb, all; got 'W'."),
        ({"lam": 1.0, "n_batches": 1}, "`n_batches` must be at least 2; got 1."),
        ({"lam": 1.0, "points": torch.zeros(3, 2)}, r"`points` must be \(n, 1\)"),
    ],
)
def test_bad_input(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certify(scalar(well, 0.1, 1.0), **options)


@pytest.mark.parametrize(
    ("f", "params", "message"),
    [
        (lambda x: x.sum(), [], "`params` must hold at least one tensor"),
        (lambda x: x, [torch.zeros(2, requires_grad=True)], "`f` must return a scalar tensor"),
        (lambda x: (x / 0).sum(), [torch.zeros(2, requires_grad=True)], "`f` must be finite"),
        (lambda x: torch.zeros(()), [torch.zeros(2, requires_grad=True)], "carries no gradient"),
        (lambda x: x.sum(), [torch.zeros(2)], "must require gradients"),
    ],
)
def test_bad_functions(f: Callable[[Any], Tensor], params: list[Tensor], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        certify_function(lambda: f(params[0] if params else torch.zeros(1)), params)
