"""`sdp discover` as a real process."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sdp.cli import discover
from sdp.cli.main import main

Run = Callable[..., subprocess.CompletedProcess[str]]
Start = Callable[..., Any]
SMALL = ["discover", "--dim", "24", "--rank", "2", "--width", "16", "--depth", "2", "--lam", "5e-3"]
SMALL += ["--steps", "1500", "--batch", "64", "--seed", "1"]


def test_json_and_files(run_sdp: Run, tmp_path: Path) -> None:
    out, plot = tmp_path / "run.json", tmp_path / "run.png"
    done = run_sdp(*SMALL, "--json", "--out", out, "--plot", plot)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert result["visible_rank"] == 2
    assert result["perp_share"] < 0.1
    assert result["options"]["width"] == 16
    written = json.loads(out.read_text())
    assert written["records"] == result["records"]
    assert (len(written["W"]), len(written["W"][0]), len(written["U"])) == (16, 24, 2)
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.json", "run.png"]


def test_summary_shows_the_rank(run_sdp: Run) -> None:
    done = run_sdp(*SMALL)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0].split()[:2] == ["step", "||W_perp||/||W||"]
    marked = [line for line in lines if line.startswith("s_")]
    assert ["█" in line for line in marked] == [True, True, False, False, False, False, False]
    (rank,) = [line for line in lines if line.startswith("visible rank")]
    assert rank.split()[2] == "2"


def test_certificate(run_sdp: Run) -> None:
    small = [*SMALL, "--dim", "8", "--width", "6", "--steps", "300", "--certify"]
    result = json.loads(run_sdp(*small, "--json").stdout)
    lemma = result["certificate"]["lemma"]
    assert lemma["w_norm"] < lemma["w_bound"]
    (line,) = [line for line in run_sdp(*small).stdout.splitlines() if line.startswith("certificate")]
    assert "||W_perp|| is at most" in line
    refused = run_sdp(*small, "--noise", "0.1")
    assert refused.returncode == 2
    assert refused.stderr == "sdp: `--certify` wants --lam above 0 and labels without noise.\n"


def test_quiet_prints_nothing(run_sdp: Run) -> None:
    done = run_sdp(*SMALL, "--steps", "3", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_divergence_is_a_failure_with_a_sentence(run_sdp: Run) -> None:
    done = run_sdp(*SMALL, "--activation", "identity", "--lr", "1e4", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["status"] == "diverged"
    (line,) = done.stderr.splitlines()
    assert "use a smaller lr" in line


def test_interrupt_keeps_what_there_is(start_sdp: Start, tmp_path: Path) -> None:
    out = tmp_path / "run.json"
    session = start_sdp(*SMALL, "--steps", "100000000", "--json", "--out", out)
    session.wait_for(rb"outside 0", 120.0)
    session.process.send_signal(signal.SIGINT)
    code, output = session.end(timeout=60)
    assert code == 130
    result = json.loads(output)
    assert result["status"] == "interrupted"
    assert json.loads(out.read_text())["steps"] == result["steps"]


def test_interrupt_of_the_certificate_keeps_the_run(
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    # In this process, to know when the certificate is at work; what is done about later signals must not stay.
    request.addfinalizer(partial(signal.signal, signal.SIGINT, signal.getsignal(signal.SIGINT)))
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background is born without it
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(discover, "_certificate", lambda _: signal.raise_signal(signal.SIGINT))
    out, plot = tmp_path / "run.json", tmp_path / "run.png"
    small = [*SMALL, "--dim", "8", "--width", "6", "--steps", "20", "--certify", "--json"]
    assert main([*small, "--out", str(out), "--plot", str(plot)]) == 130
    printed = capsys.readouterr()
    assert printed.err == ""
    result = json.loads(printed.out)
    assert (result["status"], result["steps"]) == ("steps done", 20)
    assert result["notes"] == ["the certificate was interrupted"]
    assert "certificate" not in result
    assert json.loads(out.read_text())["notes"] == result["notes"]
    assert plot.exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        pytest.param(["--rank", "0"], "`rank`", id="no rank"),
        pytest.param(["--steps", "many"], "--steps", id="steps that are no number"),
        pytest.param(["--teacher", "oracle"], "oracle", id="unknown teacher"),
        pytest.param(["--loss", "logistic"], "`loss`", id="logistic regression of numbers"),
        pytest.param(["--plot", "run.txt"], ".png", id="no picture"),
        pytest.param(["--plot", "same.png", "--out", "same.png"], "same file", id="one file for two"),
        pytest.param(["--out", "nowhere/run.json"], "nowhere", id="missing folder"),
    ],
)
def test_bad_input(run_sdp: Run, arguments: list[str], word: str) -> None:
    done = run_sdp(*SMALL, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("sdp: ")
    assert line.endswith(".")
    assert word in line
