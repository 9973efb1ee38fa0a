"""Where tensors lie decides which engine runs, and an environment variable overrides it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import types
from collections.abc import Iterator

import pytest
import torch

from sdp_kernels import _engine, engines, gaussian, graph
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


def test_a_step_for_the_host_stays_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    assert _engine.host_twin("graph") is cpu_graph


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
    monkeypatch.setattr(_engine, "is_installed", lambda name, family=None: False)
    monkeypatch.setenv("SDP_ENGINE", "triton")
    csr = cuts.csr_of(cuts.sparse_random(5, 2.0, 0))
    with pytest.raises(
        ValueError, match=r"^the triton engine is not part of this installation; move the tens"
    ):
        graph.adjacency_product(csr, torch.ones(5, 1))


def test_a_family_without_a_triton_twin_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every family has one; as if `graph` had none."""
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    monkeypatch.setattr(_engine, "is_installed", lambda name, family=None: family != "graph")
    csr = cuts.csr_of(cuts.sparse_random(5, 2.0, 0))
    with pytest.raises(
        ValueError, match=r"^the interpret engine has no `graph` yet; move the tensors to the CPU\.$"
    ):
        graph.adjacency_product(csr, torch.ones(5, 1))


def test_interpreted_twin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    assert _engine.twin("gaussian", torch.zeros(1)).__name__ == "sdp_kernels.triton.gaussian"
    assert _engine.twin_on("gaussian", torch.device("cpu")).__name__ == "sdp_kernels.triton.gaussian"


def test_compiling_in_an_interpreting_process_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """As every process of the tests: conftest lets triton interpret."""
    monkeypatch.setenv("SDP_ENGINE", "triton")
    with pytest.raises(
        ValueError, match=r"^the triton engine compiles, but TRITON_INTERPRET=1 lets .* both; uns"
    ):
        gaussian.normal(4, seed=0)
    with pytest.raises(ValueError, match=r"^the triton engine compiles, but TRITON_INTERPRET=1"):
        engines.engine_for("cpu")


def test_engine_for(monkeypatch: pytest.MonkeyPatch) -> None:
    assert engines.engine_for("cpu") == engines.engine_for("cpu", "graph") == "cpu"
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    assert engines.engine_for("cpu") == engines.engine_for("cpu", "gaussian") == "interpret"
    with pytest.raises(ValueError, match=r"^the interpret engine has no `annealing` yet"):
        engines.engine_for("cpu", "annealing")
    monkeypatch.delenv("SDP_ENGINE")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ValueError, match=r"^no CUDA device: torch finds none on this machine\.$"):
        engines.engine_for("cuda")


def run_alone(code: str, **environment: str) -> str:
    """Output of a process of its own, in which triton has not been imported and no variable says how."""
    clean = {
        name: value for name, value in os.environ.items() if name not in ("SDP_ENGINE", "TRITON_INTERPRET")
    }
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=False,
        env={**clean, **environment},
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SENTENCE = """\
import os, torch
from sdp_kernels import gaussian
try:
    gaussian.normal(4, seed=0)
except ValueError as error:
    print(error)
"""


def test_interpreting_in_a_compiling_process_is_refused() -> None:
    code = SENTENCE.replace("from sdp", "import triton\nos.environ['SDP_ENGINE'] = 'interpret'\nfrom sdp")
    assert run_alone(code) == (
        "SDP_ENGINE=interpret, but triton was imported before to compile, and one process cannot do both; "
        "set SDP_ENGINE or TRITON_INTERPRET=1 before the process starts."
    )


def test_the_variable_alone_lets_triton_interpret() -> None:
    """Also where something else imports triton between our import and the first operation."""
    code = "from sdp_kernels import gaussian\nimport triton\nprint(gaussian.normal(4, seed=0).shape)"
    assert run_alone(code, SDP_ENGINE="interpret") == "torch.Size([4])"


def test_compiled_kernels_want_a_gpu() -> None:
    assert run_alone(SENTENCE, SDP_ENGINE="triton") == (
        "the triton engine works on cuda tensors; got cpu (SDP_ENGINE overrides)."
    )


def test_the_cpu_engine_needs_no_triton() -> None:
    missing = "import sys\nsys.modules['triton'] = None\n"
    assert run_alone(
        missing + "from sdp_kernels import gaussian\nprint(gaussian.normal(4, seed=0).shape)"
    ) == ("torch.Size([4])")
    assert run_alone(missing + SENTENCE, SDP_ENGINE="interpret") == (
        "the interpret engine needs the package triton: pip install triton."
    )


def test_rounded_steps_are_the_cpu_engines_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    csr = cuts.csr_of(cuts.sparse_random(5, 2.0, 0))
    assert graph.offers_rounded_steps(csr)
    monkeypatch.setenv("SDP_ENGINE", "interpret")
    assert not graph.offers_rounded_steps(csr)
    n = csr.n_vertices
    ones, block = torch.ones(n, dtype=torch.float64), torch.ones(n, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"^`rounded_chebyshev_step` is the CPU engine's alone; use `cheby"):
        graph.rounded_chebyshev_step(csr, ones, ones, 1.0, (block, block.float()), (block, block.float()))


class TestSeveralGpus:
    """Triton launches on the current GPU: a twin of tensors on another one makes that current while it runs."""

    @pytest.fixture
    def current(self, monkeypatch: pytest.MonkeyPatch) -> list[int]:
        """Two GPUs, the first of them current; what is current is the last number."""
        stack = [0]

        @contextlib.contextmanager
        def device(place: torch.device) -> Iterator[None]:
            assert place.index is not None
            stack.append(place.index)
            yield
            stack.pop()

        monkeypatch.setattr(torch.cuda, "current_device", lambda: stack[-1])
        monkeypatch.setattr(torch.cuda, "device", device)
        return stack

    @pytest.fixture
    def module(self, current: list[int], monkeypatch: pytest.MonkeyPatch) -> types.ModuleType:
        """A twin that tells where it ran."""
        module = types.ModuleType("sdp_kernels.triton.fake", "what a twin says")
        module.where = lambda *args, **named: (current[-1], args, named)  # type: ignore[attr-defined]
        module.LIMIT = 3  # type: ignore[attr-defined]

        def broken() -> None:
            raise RuntimeError("as a kernel may")

        module.broken = broken  # type: ignore[attr-defined]
        monkeypatch.setattr(_engine, "_load", lambda family, name, device_type: module)
        return module

    def on(self, place: str) -> types.SimpleNamespace:
        return types.SimpleNamespace(device=torch.device(place))

    def test_another_gpu_is_current_during_a_call(self, module: types.ModuleType, current: list[int]) -> None:
        for twin in (
            _engine.twin("graph", self.on("cuda:1")),
            _engine.twin_on("graph", torch.device("cuda:1")),
        ):
            assert twin.where(1, two=2) == (1, (1,), {"two": 2})
            assert current == [0]
            assert twin.LIMIT == 3
            assert not hasattr(twin, "absent")

    def test_errors_pass_through(self, module: types.ModuleType, current: list[int]) -> None:
        with pytest.raises(RuntimeError, match="as a kernel may"):
            _engine.twin("graph", self.on("cuda:1")).broken()

    @pytest.mark.parametrize("place", ["cuda:0", "cuda", "cpu"])
    def test_the_current_one_needs_nothing(self, module: types.ModuleType, place: str) -> None:
        assert _engine.twin("graph", self.on(place)) is module
        assert _engine.twin_on("graph", torch.device(place)) is module
