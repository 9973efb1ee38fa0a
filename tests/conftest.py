"""What every test shares: deterministic torch, a fixed hypothesis profile, and the `sdp` command."""

from __future__ import annotations

import os

# Before anything imports triton: tests run its kernels in the interpreter (SDP_ENGINE=interpret by monkeypatch).
# What compiles kernels ahead of time does so in a process of its own, without this variable.
os.environ["TRITON_INTERPRET"] = "1"

import subprocess
import sys
from collections.abc import Callable, Iterator

import hypothesis
import pytest
import torch

# Fixed examples and no deadline: a run is the same run everywhere, and compiling a kernel is no failure.
hypothesis.settings.register_profile("house", deadline=None, derandomize=True, print_blob=True)
hypothesis.settings.load_profile("house")

# A job started in the background of a script ignores SIGINT, and so would every process it starts;
# the command under test must start with the default, as it does at a prompt.
_START_AT_A_PROMPT = """\
import os, signal, sys
signal.signal(signal.SIGINT, signal.SIG_DFL)
os.execv(sys.executable, [sys.executable, "-c", "from sdp.cli.main import run; run()", *sys.argv[1:]])
"""


@pytest.fixture(autouse=True)
def _deterministic_torch() -> Iterator[None]:
    """Deterministic algorithms make torch fill every `empty` with NaN or the largest integer."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.fixture(scope="session")
def sdp_command() -> list[str]:
    """The words that start `sdp` as a real process; arguments follow."""
    return [sys.executable, "-c", _START_AT_A_PROMPT]


@pytest.fixture(scope="session")
def run_sdp(sdp_command: list[str]) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `sdp` with these arguments to its end, without a terminal."""

    def run(*arguments: object, timeout: float = 120.0) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*sdp_command, *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            stdin=subprocess.DEVNULL,
            check=False,
        )

    return run
