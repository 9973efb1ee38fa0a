"""Structure discovery: the parts against autograd, torch.optim and closed forms, and whole small runs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch

from sdp.optim import _teachers
from sdp.optim._optimizers import make_step
from sdp.optim._samples import Samples
from sdp.optim._student import Student
from sdp.optim.spectrum import leading_directions
from sdp.optim.structure import StructureRecord, discover_structure
from sdp_kernels import activations

SMALL: dict[str, Any] = {
    "dim": 16,
    "rank": 2,
    "width": 16,
    "depth": 2,
    "steps": 1500,
    "batch": 64,
    "lam": 5e-3,
}
SMALL |= {"n_held_out": 1024, "seed": 1}


def student(activation: str = "tanh", loss: str = "mse", depth: int = 3, lam: float = 0.01) -> Student:
    return Student(7, 5, depth, activation, 2.0, loss, lam, seed=3)


def data(n: int = 33) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 7, generator=generator)
    return x, torch.sign(x[:, 0] * x[:, 1])


@pytest.mark.parametrize("depth", [1, 3])
@pytest.mark.parametrize("loss", ["mse", "logistic"])
@pytest.mark.parametrize("activation", activations.NAMES)
def test_gradient_is_autograds(activation: str, loss: str, depth: int) -> None:
    ours = student(activation, loss, depth)
    x, y = data()
    leaf = ours.vector.double().clone().requires_grad_(True)
    sizes = [part.numel() for part in ours.parameters]
    parts = [p.view(q.shape) for p, q in zip(leaf.split(sizes), ours.parameters, strict=True)]
    h = x.double()
    for A, c in zip(parts[:-2:2], parts[1:-2:2], strict=True):
        (h,) = activations.derivatives(activation, h @ A.T + c, 0, 2.0)
    scores = h @ parts[-2] + parts[-1]
    y64 = y.double()
    each = torch.nn.functional.softplus(-y64 * scores) if loss == "logistic" else (scores - y64) ** 2 / 2
    (each.mean() + 0.01 * parts[0].square().sum()).backward()
    ours.backward(x, y)
    assert leaf.grad is not None
    # Sums of 33 terms and 4 layers in float32: 1e-6 relative to the largest entry, five times over.
    torch.testing.assert_close(
        ours.gradient.double(), leaf.grad, rtol=0, atol=5e-6 * float(leaf.grad.abs().max())
    )
    atol = 5e-6 * max(1.0, float(scores.detach().abs().max()))
    torch.testing.assert_close(ours.scores(x).double(), scores.detach(), rtol=0, atol=atol)
    exact = ours.losses(scores.detach(), y64)
    torch.testing.assert_close(exact, each.detach(), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["sgd", "momentum", "adam"])
def test_steps_are_those_of_torch(name: str) -> None:
    ours = student()
    theirs = torch.nn.Parameter(ours.vector.clone())
    x, y = data()
    optimizer: torch.optim.Optimizer
    if name == "adam":
        optimizer = torch.optim.Adam([theirs], lr=0.02)
    else:
        optimizer = torch.optim.SGD([theirs], lr=0.02, momentum=0.9 if name == "momentum" else 0.0)
    move = make_step(name, ours, seed=0)
    start = ours.vector.clone()
    for _ in range(20):
        ours.backward(x, y)
        theirs.grad = ours.gradient.clone()
        move(0.02)
        optimizer.step()
    assert float((ours.vector - start).abs().max()) > 0.05
    torch.testing.assert_close(ours.vector, theirs.detach(), rtol=1e-5, atol=1e-6)


def test_head_and_model_give_the_students_scores() -> None:
    result = discover_structure(**{**SMALL, "steps": 5})
    x = torch.randn(9, 16, generator=torch.Generator().manual_seed(2))
    model = result.model()
    k, d = result.W.shape
    assert model[0].weight.shape == (k, d)
    hidden = torch.tanh(x @ result.W.T + result.parameters[1])
    hidden = torch.tanh(hidden @ result.parameters[2].T + result.parameters[3])
    torch.testing.assert_close(model(x).detach(), hidden @ result.parameters[4] + result.parameters[5])


@pytest.mark.parametrize("rank", [1, 3])
@pytest.mark.parametrize("name", ["network", "sine", "polynomial", "product"])
def test_teachers_are_standardised(name: str, rank: int) -> None:
    u = torch.randn(200_000, rank, generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    h = _teachers.make_score(name, rank, seed=4)(u)
    # Standard errors: .0022 of the mean, and at kurtosis 27 (a product of three) .011 of the variance.
    assert abs(float(h.mean())) < 0.01
    assert abs(float(h.var()) - 1.0) < 0.05


def test_labels_depend_on_u_alone() -> None:
    U = _teachers.directions(3, 20, seed=0)
    torch.testing.assert_close(U @ U.T, torch.eye(3))
    teacher = _teachers.Teacher(U, _teachers.make_score("network", 3, 0), "regression", 0.0, "network")
    x = torch.randn(50, 20, generator=torch.Generator().manual_seed(1))
    moved = x + (torch.eye(20) - U.T @ U)[3]
    torch.testing.assert_close(teacher.labels(x, None), teacher.labels(moved, None), rtol=0, atol=1e-5)
    signs = _teachers.Teacher(U, teacher.score, "classification", 0.0, "network").labels(x, None)
    assert set(signs.tolist()) == {-1.0, 1.0}


def samples(batch: int, n_train: int | None) -> Samples:
    U = _teachers.directions(2, 6, seed=0)
    teacher = _teachers.Teacher(U, _teachers.make_score("sine", 2, 0), "regression", 0.1, "sine")
    return Samples(teacher, batch, n_train, None, seed=9)


def test_fresh_samples_depend_on_their_number_alone() -> None:
    small, large = samples(4, None), samples(64, None)
    x, y = large.at(1)
    for step in range(16, 32):
        part_x, part_y = small.at(step)
        at = 4 * (step - 16)
        assert torch.equal(part_x, x[at : at + 4])
        assert torch.equal(part_y, y[at : at + 4])


def test_fixed_samples_are_each_seen_once_in_a_pass() -> None:
    fixed = samples(5, 20)
    passes = [torch.cat([fixed.at(4 * epoch + place)[1] for place in range(4)]) for epoch in range(2)]
    assert torch.equal(passes[0].sort().values, passes[1].sort().values)
    assert len(passes[0].unique()) == 20
    assert not torch.equal(passes[0], passes[1])
    assert not set(fixed.held_out(30)[1].tolist()) & set(passes[0].tolist())


def test_a_batch_larger_than_the_training_set_is_the_training_set() -> None:
    assert len(samples(50, 20).at(7)[1]) == 20


def test_structure_emerges_with_decay_and_not_without() -> None:
    found, control = (discover_structure(**{**SMALL, "lam": lam}) for lam in (5e-3, 0.0))
    assert found.visible_rank == 2
    assert found.perp_share is not None
    assert found.perp_share < 0.1 < 0.3 < (control.perp_share or 0.0)
    assert found.held_out_error < 0.1
    assert found.spectrum.angles is not None
    assert found.spectrum.angles[-1] < 0.1
    first, last = found.records[0], found.records[-1]
    assert (first.step, last.step, found.steps, len(found.records)) == (0, 1500, 1500, 101)
    assert first.spectrum.perp_share is not None
    assert first.spectrum.perp_share > 0.8


def test_nothing_to_learn_leaves_no_structure() -> None:
    result = discover_structure(**SMALL, teacher="none")
    assert result.options.noise == 1.0
    assert result.visible_rank == 0
    assert result.spectrum.norm < 0.5 * result.records[0].spectrum.norm
    assert result.held_out_error > 0.95


def test_the_bar_of_the_reference_case() -> None:
    """d = 256, r = 3, width 64, depth 3, tanh, lam = 5e-4; the bar allows 10,000 steps, batches of 128 suffice."""
    result = discover_structure(seed=0, batch=128, record_every=10_000)
    assert result.perp_share is not None
    assert result.perp_share <= 0.06
    assert result.visible_rank == 3
    assert result.spectrum.gap(3) > 10


@pytest.mark.parametrize("optimizer", ["momentum", "adam"])
def test_same_seed_same_bits_on_any_number_of_threads(optimizer: str) -> None:
    # 256 x 64 x 256 is as wide as the reference case, and beyond what torch splits among threads.
    wanted: dict[str, Any] = {"steps": 4, "optimizer": optimizer, "n_held_out": 256, "width": 128, "dim": 512}
    before = torch.get_num_threads()
    found = []
    try:
        for threads in (1, 2):
            torch.set_num_threads(threads)
            found.append(discover_structure(**wanted))
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    for one, two in zip(found[0].parameters, found[1].parameters, strict=True):
        assert torch.equal(one, two)
    other = discover_structure(**wanted, seed=1)
    assert not torch.equal(other.W, found[0].W)


def test_classification_and_a_fixed_training_set() -> None:
    result = discover_structure(**SMALL, task="classification", n_train=1000, activation="softplus", lr=0.03)
    assert result.options.loss == "logistic"
    assert result.held_out_error < 0.2


def test_a_student_of_the_subspace_alone() -> None:
    whole = discover_structure(**SMALL)
    V = leading_directions(whole.W, 2)
    again = discover_structure(**{**SMALL, "steps": 500}, subspace=V, n_train=500)
    assert again.W.shape == (16, 2)
    assert again.perp_share is None
    assert again.held_out_error < 0.2


def test_a_teacher_of_ones_own() -> None:
    def bump(u: torch.Tensor) -> torch.Tensor:
        return torch.exp(-u.square().sum(-1))

    result = discover_structure(**{**SMALL, "steps": 3}, teacher=bump)
    assert result.options.teacher == "bump"


def test_callback_stops() -> None:
    seen: list[StructureRecord] = []

    def stop(record: StructureRecord) -> bool:
        seen.append(record)
        return record.step >= 30

    result = discover_structure(**{**SMALL, "record_every": 10}, callback=stop)
    assert (result.status, result.steps) == ("stopped", 30)
    assert [record.step for record in seen] == [0, 10, 20, 30]
    assert tuple(seen) == result.records


def test_interruption_keeps_the_last_checked_state() -> None:
    def interrupt(record: StructureRecord) -> None:
        if record.step == 100:
            raise KeyboardInterrupt

    result = discover_structure(**{**SMALL, "record_every": 50}, callback=interrupt)
    assert (result.status, result.steps) == ("interrupted", 100)
    assert [record.step for record in result.records] == [0, 50, 100]


def test_divergence_restores_the_last_good_point() -> None:
    result = discover_structure(**{**SMALL, "depth": 1}, activation="identity", lr=1e4, warm_up=1.0)
    assert result.status == "diverged"
    assert all(bool(torch.isfinite(part).all()) for part in result.parameters)
    assert result.records[-1].step == result.steps < 1500
    (note,) = result.notes
    assert f"those of step {result.steps} are kept" in note


def test_to_dict_and_repr() -> None:
    result = discover_structure(**{**SMALL, "steps": 10})
    record = json.loads(json.dumps(result.to_dict(weights=True), allow_nan=False))
    assert record["options"]["dim"] == 16
    assert len(record["records"]) == len(result.records)
    assert record["records"][0]["singular_values"] == list(result.records[0].spectrum.singular_values)
    torch.testing.assert_close(torch.tensor(record["W"]), result.W)
    assert "W" not in result.to_dict()
    assert repr(result).startswith("<StructureResult W (16, 16): visible rank ")


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"dim": 0}, "`dim` must be at least 1; got 0."),
        ({"rank": 17}, "`rank` must be at most the smaller of dim and width, 16; got 17."),
        ({"depth": 0}, "`depth` must be at least 1; got 0."),
        ({"lam": -1.0}, "`lam` must be finite and at least 0; got -1.0."),
        ({"lam": float("nan")}, "`lam` must be finite and at least 0; got nan."),
        ({"lr": 0.0}, "`lr` must be finite and above 0; got 0.0."),
        ({"noise": -0.5}, "`noise` must be finite and at least 0; got -0.5."),
        ({"decay": 1.5}, "`decay` must lie in [0, 1]; got 1.5."),
        ({"n_train": 0}, "`n_train` must be at least 1; got 0."),
        ({"seed": -1}, f"`seed` must be in [0, {2**63 - 1}]; got -1."),
        ({"teacher": "oracle"}, "`teacher` must be one of network, sine, polynomial, product, none; got 'oracle'."),
        ({"activation": "relu"}, f"`activation` must be one of {', '.join(activations.NAMES)}; got 'relu'."),
        ({"optimizer": "lion"}, "`optimizer` must be one of momentum, sgd, adam, pgd; got 'lion'."),
        ({"loss": "logistic"}, "`loss` must be mse for regression: logistic wants labels of +1 and -1."),
        ({"subspace": torch.ones(2, 16)}, "`U` must have orthonormal rows; U U^T is off the identity by 16."),
    ],
)  # fmt: skip
def test_bad_input(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011  the sentence is compared whole
        discover_structure(**{**SMALL, **wrong})
    assert str(caught.value) == sentence


def test_counts_are_integers() -> None:
    with pytest.raises(TypeError, match=r"`steps` must be an integer; got 10\.0"):
        discover_structure(**{**SMALL, "steps": 10.0})
