"""The report as a command: the catalogue's bars hold, and a broken one, a misfit or a crash is seen and said.

The command runs in a process of its own without TRITON_INTERPRET. It takes what the committed report holds under the
same hash of source, options, triton's version and the counting code, and compiles the rest. Bars belong to one version
of the compiler: 3.8 spills where 3.9 does not, so that other versions than the committed report's are not judged.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

from sdp_kernels.triton import catalog
from tools import kernel_report
from tools._report import pool

ROOT = Path(__file__).parents[2]
CATALOGUES = Path(__file__).parent / "catalogues"
SMALL = ("--catalogue", "small_catalogue", "--fresh", "--quiet")

pytestmark = pytest.mark.skipif(
    sys.platform != "linux", reason="triton and its binary tools exist on Linux only"
)


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    environment["PYTHONPATH"] = os.pathsep.join([str(CATALOGUES), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "tools.kernel_report", *map(str, arguments)]
    return subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=900, check=False
    )


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("kernel_report")


def committed() -> dict[str, Any]:
    document: dict[str, Any] = json.loads((kernel_report.REPORT / "kernel_report.json").read_text())
    return document


INSTALLED = metadata.version("triton") if find_spec("triton") else None
of_the_reports_compiler = pytest.mark.skipif(
    committed()["triton"] != INSTALLED,
    reason=f"the bars are those of triton {committed()['triton']}, with which the committed report was made",
)


@pytest.mark.timeout(900)
@of_the_reports_compiler
def test_the_bars_of_the_catalogue_hold() -> None:
    done = run("--check", "--quiet")
    assert done.stderr == ""
    assert done.returncode == 0


def test_the_committed_report_is_of_this_catalogue() -> None:
    lines = [
        (entry.name, variant.label, target)
        for entry in catalog.entries()
        for variant in entry.variants
        for target in catalog.TARGETS
        if target in variant.launches
    ]
    assert [(r["kernel"], r["variant"], r["target"]) for r in committed()["records"]] == lines


@pytest.mark.timeout(600)
@of_the_reports_compiler
@pytest.mark.parametrize("target", catalog.TARGETS)
def test_the_committed_counts_are_what_the_compiler_gives(target: str, tmp_path: Path) -> None:
    """Of the configuration that compiles fastest: the rest was made by the same command."""
    records = [r for r in committed()["records"] if r["target"] == target and r["error"] is None]
    chosen = min(records, key=lambda record: record["counted"]["seconds"])
    names = ("--only", chosen["kernel"], "--variant", chosen["variant"], "--target", target)
    done = run(*names, "--fresh", "--quiet", "--json", "--cache", tmp_path)
    found = [r for r in json.loads(done.stdout)["records"] if r["variant"] == chosen["variant"]]
    made = next(record for record in found if record["kernel"] == chosen["kernel"])
    for record in (made, chosen):
        record["counted"].pop("seconds")
    assert made == chosen


def test_names_are_unique_and_operations_name_what_there_is() -> None:
    lines = [(entry.name, variant.label) for entry in catalog.entries() for variant in entry.variants]
    assert len(set(lines)) == len(lines)
    names = [operation.name for operation in catalog.operations()]
    assert len(set(names)) == len(names)
    shipped = {(e.name, v.label) for e in catalog.entries() for v in e.variants if not v.candidate}
    for operation in catalog.operations():
        assert set(operation.steps) <= shipped
        assert operation.against in ("", *names)


def test_a_good_kernel_passes(cache: Path) -> None:
    done = run(*SMALL, "--cache", cache, "--only", "good", "--json")
    (record,) = json.loads(done.stdout)["records"]
    assert record["broken"] == []
    assert record["loads"] == {"128": 2.0}  # 1024 elements, 128 threads: 8 elements a thread
    assert record["stores"] == {"128": 2.0}
    assert record["bound"] == "dram"
    assert record["bytes_per_unit"] == 8
    # The operation "twice" is twice as slow as "once", past its bar of 1.5.
    assert done.returncode == 1
    assert (
        done.stderr == "twice on sm_90: predicted to take 2 times as long as once; the bar is at most 1.5.\n"
    )


def test_broken_bars_are_seen_and_said(cache: Path) -> None:
    done = run(*SMALL, "--cache", cache, "--check")
    assert done.returncode == 1
    lines = done.stderr.splitlines()
    kernels = [line.split()[0] for line in lines]
    assert kernels == ["double", "tensor", "tensor", "misfit", "unknown", "twice"]
    assert lines[0].startswith("double shipped on sm_90: has ")
    assert lines[0].endswith(" double-precision instructions; the bar is at most 0.")
    assert lines[1].endswith(" instructions per element; the bar is at most 0.5.")
    assert lines[2] == "tensor none on sm_90: has no tensor-core instruction; the bar asks for them."
    assert "arguments without type or value: ['out_ptr']" in lines[3]
    assert "no_such_function" in lines[4]


def test_a_second_run_compiles_nothing(cache: Path) -> None:
    arguments = ("--catalogue", "small_catalogue", "--fresh", "--cache", cache, "--only", "good", "--json")
    run(*arguments)
    assert "good plain sm_90: as before" in run(*arguments).stderr


def test_markdown_shows_candidates_apart(cache: Path, tmp_path: Path) -> None:
    run(*SMALL, "--cache", cache, "--out", tmp_path)
    text = (tmp_path / "kernel_report.md").read_text()
    lost = text[text.index("## lost") : text.index("## tensor")]
    assert "Candidates that lost:" in lost
    assert "would be broken" in lost
    assert "- double: double precision." in lost
    assert json.loads((tmp_path / "kernel_report.json").read_text())["measured"] is False


def test_nothing_chosen_is_an_error() -> None:
    done = run(*SMALL, "--only", "nonesuch")
    assert done.returncode == 2
    assert done.stderr == (
        "kernel_report: nothing matches; the catalogue has good, double, lost, tensor, misfit, unknown.\n"
    )


DYING = """
import json, os, sys, time
for line in sys.stdin:
    job = json.loads(line)
    if job["do"] == "abort":
        print("LLVM ERROR: Register allocation failed", file=sys.stderr, flush=True)
        os.abort()
    if job["do"] == "hang":
        time.sleep(60)
    print(json.dumps({"did": job["do"], "process": os.getpid()}), flush=True)
"""


def test_a_compiler_that_dies_is_an_answer() -> None:
    jobs = [{"do": what} for what in ("one", "abort", "two", "hang", "three")]
    answers = pool.run(jobs, processes=1, timeout=5, command=[sys.executable, "-c", DYING])
    assert [answer.get("did") for answer in answers] == ["one", None, "two", None, "three"]
    assert answers[1]["error"] == (
        "the compiler's process died with status -6: LLVM ERROR: Register allocation failed"
    )
    assert answers[3]["error"] == "the compiler took longer than 5 seconds."
    assert answers[0]["process"] != answers[2]["process"]


def test_workers_do_not_run_in_the_interpreter() -> None:
    assert os.environ.get("TRITON_INTERPRET") == "1"  # this process does, by tests/conftest.py
    command = [
        sys.executable,
        "-c",
        "import os, sys; input(); print('{\"v\": %d}' % ('TRITON_INTERPRET' in os.environ))",
    ]
    assert pool.run([{}], command=command) == [{"v": 0}]
