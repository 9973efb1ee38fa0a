"""Help and version, which must be quick: they load neither torch nor numba."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_help_lists_the_commands(run_sdp: Run) -> None:
    done = run_sdp("--help")
    assert done.returncode == 0
    assert done.stderr == ""
    for command in ("maxcut", "verify", "discover", "doctor"):
        assert f"\n  {command} " in done.stdout


def test_no_command_shows_the_help(run_sdp: Run) -> None:
    assert run_sdp().stdout == run_sdp("--help").stdout


@pytest.mark.parametrize("command", ["maxcut", "verify", "discover", "doctor"])
def test_each_command_has_help(run_sdp: Run, command: str) -> None:
    done = run_sdp(command, "--help")
    assert done.returncode == 0
    assert done.stdout.startswith(f"Usage: sdp {command}")


def test_help_names_every_method(run_sdp: Run) -> None:
    from sdp.maxcut import solve

    words = run_sdp("maxcut", "--help").stdout.replace(",", " ").split()
    for method in solve.METHODS:
        assert method in words


def test_the_app_loads_nothing_heavy() -> None:
    code = (
        "import sys, sdp.cli.main\n"
        "print([name for name in ('torch', 'numba', 'scipy', 'matplotlib', 'rich') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
