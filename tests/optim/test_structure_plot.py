"""Pictures of a run are whole files, and a discovered student is an expectation that can be certified."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import sdp
from sdp.optim.spectrum import leading_directions
from sdp.optim.structure_plot import plot_structure


@pytest.fixture(scope="module")
def run() -> sdp.StructureResult:
    return sdp.discover_structure(
        dim=12, rank=2, width=8, depth=2, steps=1200, batch=64, lam=1e-2, n_held_out=512, seed=3
    )


def test_pictures(run: sdp.StructureResult, tmp_path: Path) -> None:
    for name, magic in (("a.png", b"\x89PNG"), ("b.pdf", b"%PDF"), ("c.svg", b"<?xml")):
        plot_structure(run, tmp_path / name)
        assert (tmp_path / name).read_bytes().startswith(magic)
    V = leading_directions(run.W, 2)
    narrow = sdp.discover_structure(dim=12, rank=2, width=8, depth=1, steps=20, subspace=V, seed=3)
    plot_structure(narrow, tmp_path / "d.png")
    assert len(list(tmp_path.iterdir())) == 4


def test_pictures_that_cannot_be_drawn(run: sdp.StructureResult, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must end in \.png"):
        plot_structure(run, tmp_path / "run.gif")
    with pytest.raises(OSError, match="nowhere"):
        plot_structure(run, tmp_path / "nowhere" / "run.png")
    assert list(tmp_path.iterdir()) == []


def test_the_certificate_covers_what_was_measured(run: sdp.StructureResult) -> None:
    F = run.expectation(n_samples=2048)
    value = F.value()
    low, high = value.interval(0.999)
    held_out = (
        run.held_out_error / 2
    )  # half the squared error, of labels of variance 1 to within some percent
    assert float(low) * 0.8 < held_out < float(high) * 1.2
    found = sdp.certify(F, run.options.lam)
    assert found.lemma is not None
    assert found.lemma.w_norm == pytest.approx(run.spectrum.perp_norm, rel=1e-5)
    assert found.lemma.w_norm <= found.lemma.w_bound
    assert found.curvature.lower > -2 * run.options.lam


def test_an_expectation_wants_all_of_x_and_no_noise(run: sdp.StructureResult) -> None:
    noisy = sdp.discover_structure(dim=12, rank=2, width=8, steps=1, noise=0.1)
    with pytest.raises(ValueError, match="wants labels without noise"):
        noisy.expectation()
    narrow = sdp.discover_structure(dim=12, rank=2, width=8, steps=1, subspace=torch.eye(12)[:3])
    with pytest.raises(ValueError, match="wants a student of all of x"):
        narrow.expectation()


def test_pgd_finds_it_too() -> None:
    result = sdp.discover_structure(
        dim=12, rank=2, width=8, depth=2, steps=1200, batch=64, lam=1e-2, seed=3, optimizer="pgd"
    )
    assert result.visible_rank == 2
    wild = sdp.discover_structure(
        dim=12,
        rank=2,
        width=8,
        depth=1,
        steps=200,
        activation="identity",
        optimizer="pgd",
        lr=1e6,
        warm_up=0.0,
    )
    assert wild.status == "diverged"
