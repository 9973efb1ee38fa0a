"""`sdp doctor`: its findings, and its exit code when something essential is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from importlib import metadata
from typing import Any

import pytest

from sdp.cli import doctor

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_all_is_well(run_sdp: Run) -> None:
    done = run_sdp("doctor", "--json", timeout=280)
    assert done.returncode == 0, done.stdout + done.stderr
    report = json.loads(done.stdout)
    findings = {finding["name"]: finding for finding in report["findings"]}
    assert report["ok"]
    assert {"python", "sdp-kernels", "numpy", "numba", "torch", "triton", "networkx", "igraph"} <= set(
        findings
    )
    assert findings["device cpu"]["found"] == "the cpu engine"
    for name in ("5-cycle", "Petersen graph", "signed K12", "700 triangles", "embeddings"):
        assert findings[name]["state"] == "right"
    for finding in findings.values():
        assert bool(finding["advice"]) == (finding["state"] != "right")


@pytest.mark.parametrize("spoil", [lambda images: 2 * images, lambda images: images[::-1].copy()])
def test_wrong_embeddings_are_found(spoil: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    from sdp.jl.maps import Map

    right = Map.apply
    monkeypatch.setattr(Map, "apply", lambda self, block: spoil(right(self, block)))
    finding = doctor._embeddings()
    assert (finding.state, finding.found) == ("wrong", "wrong: sparse, gaussian, rademacher, srht")
    assert finding.advice


@pytest.mark.parametrize(
    ("system", "state", "found"),
    [
        ("Linux", "missing", "not installed: no GPU engine, nor its interpreter"),
        ("Darwin", "right", "not made for Darwin: the CPU engine does everything"),
    ],
)
def test_without_triton(system: str, state: str, found: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def nothing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(doctor.metadata, "version", nothing)
    monkeypatch.setattr(doctor.platform, "system", lambda: system)
    finding = doctor._triton()
    assert (finding.state, finding.found) == (state, found)
    assert bool(finding.advice) == (state != "right")


@pytest.mark.parametrize(
    ("variables", "verb"),
    [
        ({}, "compiles"),
        ({"TRITON_INTERPRET": "1"}, "interprets"),
        ({"SDP_ENGINE": "interpret"}, "interprets"),
    ],
    ids=str,
)
def test_what_triton_does(variables: dict[str, str], verb: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("TRITON_INTERPRET", "SDP_ENGINE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(doctor.metadata, "version", lambda name: "3.9.0")
    assert doctor._triton().found == f"3.9.0, {verb} kernels"


def test_a_missing_package_is_named() -> None:
    code = (
        "import sys; sys.modules['scipy'] = None\nfrom sdp.cli.main import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "x scipy" in done.stdout
    assert "pip install scipy" in done.stdout


def test_a_wrong_solve_is_seen() -> None:
    """A solver that claims too low a bound must fail the doctor."""
    code = (
        "import dataclasses, sys\n"
        "from sdp.maxcut import solve\n"
        "right = solve.maxcut\n"
        "def wrong(*args, **kwargs):\n"
        "    return dataclasses.replace(right(*args, **kwargs), upper_bound=3.0)\n"
        "solve.maxcut = wrong\n"
        "from sdp.cli.main import main; sys.exit(main(['doctor']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    assert "x 5-cycle" in done.stdout
