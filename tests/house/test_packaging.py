"""What an installation contains: metadata, the console script, the marks of typed packages."""

from __future__ import annotations

import subprocess
import sys
from importlib import metadata, resources
from pathlib import Path

import sdp

ROOT = Path(__file__).parents[2]
DISTRIBUTION = "sdp-kernels"


def test_version_is_told_once() -> None:
    assert metadata.version(DISTRIBUTION) == sdp.__version__
    done = subprocess.run(
        [sys.executable, "-c", "from sdp.cli.main import run; run()", "--version"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == f"sdp {sdp.__version__}\n"


def test_metadata() -> None:
    facts = metadata.metadata(DISTRIBUTION)
    assert facts["License-Expression"] == "MIT"
    assert facts["Requires-Python"] == ">=3.10"
    assert set(facts.get_all("Provides-Extra") or ()) >= {"graphs", "dev"}


def test_console_script() -> None:
    (script,) = metadata.entry_points(group="console_scripts", name="sdp")
    assert script.value == "sdp.cli.main:run"
    assert callable(script.load())


def test_packages_are_typed() -> None:
    for package in ("sdp", "sdp_kernels"):
        assert resources.files(package).joinpath("py.typed").is_file()


def test_no_top_level_module_called_kernels() -> None:
    """The folder is a source root only: that name belongs to another project on the package index."""
    assert not (ROOT / "kernels" / "__init__.py").exists()
    top_level = (metadata.distribution(DISTRIBUTION).read_text("top_level.txt") or "").split()
    assert "kernels" not in top_level
