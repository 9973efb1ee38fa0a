"""`sdp maxcut --certificate` and `sdp verify`: from a graph to an answer in words, and every way it can be no."""

from __future__ import annotations

import gzip
import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from sdp.maxcut import _certificate_file
from tests.cli.test_bad_input import assert_one_sentence

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module")
def solved(run_sdp: Run, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The certificate that a solve of the triangle writes."""
    folder = tmp_path_factory.mktemp("solved")
    graph, path = folder / "triangle.txt", folder / "triangle.json.gz"
    graph.write_text("3 3\n1 2 1\n2 3 1\n1 3 1\n")
    done = run_sdp("maxcut", graph, "--certificate", path)
    assert done.returncode == 0, done.stderr
    assert str(path) in done.stdout
    return path


@pytest.fixture
def certificate(solved: Path, tmp_path: Path) -> Path:
    """One's own copy."""
    return Path(shutil.copy(solved, tmp_path / "triangle.json.gz"))


def test_accepted(run_sdp: Run, triangle: Path, certificate: Path) -> None:
    done = run_sdp("verify", triangle, certificate)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (
        "Proved: no cut of triangle.txt is worth more than 2. "
        "The partition given is worth 2, so it is a maximum cut. Deterministic.\n"
    )


def test_as_json(run_sdp: Run, triangle: Path, certificate: Path) -> None:
    done = run_sdp("verify", triangle, certificate, "--json")
    answer = json.loads(done.stdout)
    assert done.returncode == 0
    assert answer.pop("seconds") >= 0
    assert answer == {
        "accepted": True,
        "reason": None,
        "cut_value": 2.0,
        "upper_bound": 2.0,
        "gap": 0.0,
        "delta": 0.0,
        "optimal": True,
    }


def test_a_worse_cut_is_accepted_for_what_it_is(run_sdp: Run, triangle: Path, certificate: Path) -> None:
    document = _certificate_file.load(certificate)
    document["partition"], document["cut_value"] = "000", 0.0
    _certificate_file.save(certificate, document)
    done = run_sdp("verify", triangle, certificate)
    assert done.returncode == 0
    assert "worth 0, 100% below. Deterministic." in done.stdout


def test_changed_after_it_was_written(run_sdp: Run, triangle: Path, certificate: Path) -> None:
    """All claims hold, but the digest is that of another partition."""
    document = json.loads(gzip.decompress(certificate.read_bytes()))
    document["partition"] = document["partition"].translate({48: 49, 49: 48})
    certificate.write_bytes(gzip.compress(json.dumps(document).encode()))
    done = run_sdp("verify", triangle, certificate)
    assert done.returncode == 1
    assert done.stdout == "Rejected: it was changed after it was written: its digest is another.\n"


def test_rejected(run_sdp: Run, triangle: Path, certificate: Path) -> None:
    document = _certificate_file.load(certificate)
    document["upper_bound"] = 1.0
    _certificate_file.save(certificate, document)
    done = run_sdp("verify", triangle, certificate)
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout == "Rejected: the whole: upper_bound 1.0 does not follow from its parts.\n"
    answer = json.loads(run_sdp("verify", triangle, certificate, "--json").stdout)
    assert (answer["accepted"], answer["upper_bound"]) == (False, None)


def test_another_graph(run_sdp: Run, busy_graph: Path, certificate: Path) -> None:
    done = run_sdp("verify", busy_graph, certificate)
    assert (done.returncode, done.stdout) == (1, "Rejected: the certificate speaks of another graph.\n")


def test_bad_files(run_sdp: Run, triangle: Path, certificate: Path, tmp_path: Path) -> None:
    assert_one_sentence(run_sdp("verify", triangle, tmp_path / "missing.json.gz"), "missing.json.gz")
    assert_one_sentence(run_sdp("verify", tmp_path / "missing.txt", certificate), "missing.txt")
    assert_one_sentence(run_sdp("verify", triangle, triangle), "no certificate")
    certificate.write_bytes(certificate.read_bytes()[:-20])
    assert_one_sentence(run_sdp("verify", triangle, certificate), "damaged")


def test_no_folder_for_a_certificate(run_sdp: Run, triangle: Path, tmp_path: Path) -> None:
    done = run_sdp("maxcut", triangle, "--certificate", tmp_path / "nowhere" / "c.json.gz")
    assert_one_sentence(done, "--certificate", "nowhere")
