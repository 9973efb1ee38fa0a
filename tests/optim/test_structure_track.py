"""Watching a layer of somebody else's torch model: synthetic labels with a known U, and scikit-learn's digits."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import sdp
from sdp.optim.spectrum import leading_directions, spectrum
from sdp.optim.track import TrackRecord

DIM, RANK = 12, 2


def train(model: nn.Sequential, lam: float, steps: int) -> torch.Tensor:
    """An ordinary loop on y = u_1 + u_1 u_2 with u = Ux; U."""
    generator = torch.Generator().manual_seed(1)
    U = torch.linalg.qr(torch.randn(DIM, RANK, generator=generator))[0].T
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for _ in range(steps):
        x = torch.randn(64, DIM, generator=generator)
        u = x @ U.T
        optimizer.zero_grad()
        loss = (model(x)[:, 0] - u[:, 0] - u[:, 0] * u[:, 1]).square().mean()
        (loss + lam * model[0].weight.square().sum()).backward()
        optimizer.step()
    return U


def network(seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    return nn.Sequential(nn.Linear(DIM, 24), nn.Tanh(), nn.Linear(24, 1))


def test_the_spectrum_of_a_users_model_falls_to_the_rank_of_its_labels() -> None:
    model = network()
    with sdp.track_structure(model[0], every=500) as tracker:
        U = train(model, 3e-3, 2000)
    assert [record.step for record in tracker.records] == [0, 500, 1000, 1500, 2000]
    first, last = tracker.records[0].spectrum, tracker.spectrum
    assert first.tail(RANK) > 1.0
    assert last.tail(RANK) < 0.1 * last.norm
    assert last.perp_share is None
    seen = spectrum(model[0].weight, U)
    assert seen.perp_norm is not None
    assert last.tail(RANK) <= seen.perp_norm
    assert seen.perp_share is not None
    assert seen.perp_share < 0.15


def test_tracking_changes_nothing() -> None:
    models = [network(), network()]
    train(models[0], 1e-3, 20)
    with sdp.track_structure(models[1][0], every=3):
        train(models[1], 1e-3, 20)
    for one, two in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, two)
    assert not models[1][0]._forward_pre_hooks


def test_passes_without_training_do_not_count() -> None:
    model = network()
    x = torch.ones(2, DIM)
    with sdp.track_structure(model[0], every=1) as tracker:
        model(x)
        with torch.no_grad():
            model(x)
        model.eval()
        model(x)
    assert [record.step for record in tracker.records] == [0, 1]


def test_records_by_hand_and_as_a_callback() -> None:
    seen: list[TrackRecord] = []
    layer = nn.Linear(3, 4)
    tracker = sdp.track_structure(layer, U=torch.eye(3)[:1], callback=seen.append)
    assert repr(tracker) == "<StructureTracker: nothing recorded yet>"
    tracker.record(5, loss=0.25)
    with torch.no_grad():
        layer.weight.zero_()
    assert tracker().step == 6
    assert seen == tracker.records
    assert tracker.to_dict()["records"][0]["loss"] == 0.25
    assert tracker.records[0].spectrum.angles is not None
    assert tracker.spectrum.norm == 0.0


@pytest.mark.parametrize(
    "layer", [nn.Conv2d(2, 6, 3), torch.ones(3, 4), nn.Parameter(torch.ones(3, 4))], ids=lambda one: type(one).__name__
)  # fmt: skip
def test_what_can_be_tracked(layer: nn.Module | torch.Tensor) -> None:
    found = sdp.track_structure(layer).record().spectrum
    assert len(found.singular_values) == (6 if isinstance(layer, nn.Conv2d) else 3)


def test_a_failed_loop_leaves_no_hook_and_no_last_record() -> None:
    layer = nn.Linear(3, 4)
    tracker = sdp.track_structure(layer)
    with pytest.raises(RuntimeError, match="lost"), tracker:
        raise RuntimeError("lost")
    assert tracker.records == []
    assert not layer._forward_pre_hooks


def test_bad_input() -> None:
    with pytest.raises(TypeError, match=r"`layer` must be a module with a `weight`.*got Tanh"):
        sdp.track_structure(nn.Tanh())
    with pytest.raises(TypeError, match="got LayerNorm"):
        sdp.track_structure(nn.LayerNorm(3))
    with pytest.raises(ValueError, match="`every` must be an integer of at least 1; got 0"):
        sdp.track_structure(nn.Linear(3, 4), every=0)
    with pytest.raises(ValueError, match="W has 3 columns but U has 4"):
        sdp.track_structure(nn.Linear(3, 4), U=torch.eye(4)[:1])
    with pytest.raises(TypeError, match="a bare tensor has no passes"), sdp.track_structure(torch.ones(2, 2)):
        pass
    with pytest.raises(ValueError, match="nothing was recorded yet"):
        _ = sdp.track_structure(nn.Linear(3, 4)).spectrum
    layer = nn.Linear(3, 4)
    with torch.no_grad():
        layer.weight[0, 0] = torch.nan
    with pytest.raises(ValueError, match="NaN"):
        sdp.track_structure(layer).record()


def test_digits_keep_their_accuracy_in_few_directions() -> None:
    """Real pixels: decay of the first layer alone steepens its spectrum, and nine directions suffice."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    x = torch.tensor(images, dtype=torch.float32)
    x = x[:, x.std(0) > 0]
    x = (x - x.mean(0)) / x.std(0)
    y = torch.tensor(labels)
    generator = torch.Generator().manual_seed(0)
    order = torch.randperm(len(x), generator=generator)
    train_set, test_set = order[:1347], order[1347:]
    stable, errors = [], []
    for lam in (0.0, 1e-2):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(x.shape[1], 64), nn.Tanh(), nn.Linear(64, 10))
        optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
        tracker = sdp.track_structure(model[0])
        for _ in range(15):
            for chosen in torch.split(train_set[torch.randperm(1347, generator=generator)], 64):
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(model(x[chosen]), y[chosen])
                (loss + lam * model[0].weight.square().sum()).backward()
                optimizer.step()
            tracker.record(loss=loss.item())
        stable.append(tracker.spectrum.stable_rank)
        V = leading_directions(model[0].weight, 9)
        with torch.no_grad():
            model[0].weight.copy_(model[0].weight @ V.T @ V)
            errors.append(float((model(x[test_set]).argmax(1) != y[test_set]).double().mean()))
    assert stable[1] < 0.75 * stable[0]
    assert errors[1] < 0.1
