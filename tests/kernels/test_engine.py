"""Where tensors lie decides which engine runs, and an environment variable overrides it."""

from __future__ import annotations

import pytest
import torch

from sdp_kernels import _engine, graph
from sdp_kernels.cpu import graph as cpu_graph
from tests.reference import cuts


@pytest.fixture(autouse=True)
def _no_override(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SDP_ENGINE", raising=False)


def test_cpu_tensors_run_on_the_cpu() -> None:
    assert _engine.engine() == "cpu"
    assert _engine.engine(torch.zeros(2), torch.zeros(0)) == "cpu"
    assert _engine.twin("graph", torch.zeros(1)) is cpu_graph
    assert _engine.is_installed("cpu")


def test_the_environment_overrides(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in _engine.ENGINES:
        monkeypatch.setenv("SDP_ENGINE", name)
        assert _engine.engine(torch.zeros(1)) == name
    monkeypatch.setenv("SDP_ENGINE", "")
    assert _engine.engine(torch.zeros(1)) == "cpu"


def test_refusals(monkeypatch: pytest.MonkeyPatch) -> None:
    meta = torch.zeros(1, device="meta")
    with pytest.raises(ValueError, match=r"^tensors must lie on one device; got cpu, meta\.$"):
        _engine.engine(torch.zeros(1), meta)
    with pytest.raises(ValueError, match=r"^no engine for device 'meta'; devices are cpu, cuda\.$"):
        _engine.engine(meta)
    monkeypatch.setenv("SDP_ENGINE", "tpu")
    with pytest.raises(ValueError, match=r"^SDP_ENGINE must be one of cpu, triton, interpret; got 'tpu'\.$"):
        _engine.engine(torch.zeros(1))


def test_an_engine_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_engine, "is_installed", lambda name: False)
    monkeypatch.setenv("SDP_ENGINE", "triton")
    csr = cuts.csr_of(cuts.sparse_random(5, 2.0, 0))
    with pytest.raises(
        ValueError, match=r"^the triton engine is not part of this installation; move the tens"
    ):
        graph.adjacency_product(csr, torch.ones(5, 1))
