"""`sdp embed` as a process: results, sidecars, kill -9 and --resume, and one sentence for what is wrong."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import scipy.sparse

Run = Callable[..., "subprocess.CompletedProcess[str]"]
MOST_RESIDENT = 300e6  # bytes, of a stream of any length


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(5).standard_normal((300, 64)).astype(np.float32))
    return path


@pytest.fixture
def run_here() -> Iterator[Callable[..., int]]:
    """The command in this process, which saves the seconds of another's imports."""
    from sdp.cli.main import main

    before = signal.getsignal(signal.SIGTERM)
    yield lambda *words: main(["embed", *map(str, words)])
    signal.signal(signal.SIGTERM, before)


def test_result_sidecar_and_check(
    run_sdp: Run, run_here: Callable[..., int], rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output, plot = tmp_path / "y.npy", tmp_path / "q.png"
    done = run_sdp("embed", rows, output, "--n-components", 16, "--check", "--plot", plot, "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    result = json.loads(done.stdout)
    assert result["kind"] == "sparse"
    assert result["quality"]["n_pairs"] == 300 * 299 / 2
    assert 0 < result["quality"]["mean_low"] < result["quality"]["mean_high"] < 1
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert np.load(output).shape == (300, 16)
    assert run_here(rows, tmp_path / "z.npy", "--like", f"{output}.json", "--chunk-rows", 7) == 0
    assert result["sha256"] in capsys.readouterr().out
    assert (tmp_path / "z.npy").read_bytes() == output.read_bytes()


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads the largest resident size in /proc")
@pytest.mark.parametrize("kind", ["sparse", "srht"])
def test_memory_of_a_stream(kind: str, tmp_path: Path) -> None:
    """320 MB of rows that the disk need not hold: the process never has 300 MB, and never imports torch.

    A first run compiles, which takes 120 MB more once an installation; it is made before, on few rows.
    """
    for name, n in (("few.npy", 2), ("many.npy", 8000)):
        with (tmp_path / name).open("wb") as file:
            np.lib.format.write_array_header_1_0(
                file, {"descr": "<f4", "fortran_order": False, "shape": (n, 10_000)}
            )
            file.truncate(file.tell() + n * 40_000)
    code = """
import sys
from sdp.cli.main import main
code = main(sys.argv[1:])
resident = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
print(code, resident.split()[1], "torch" in sys.modules)
"""
    for name in ("few.npy", "many.npy"):
        words = [
            "embed",
            tmp_path / name,
            tmp_path / "y.npy",
            "--n-components",
            1024,
            "--kind",
            kind,
            "--quiet",
        ]
        done = subprocess.run(
            [sys.executable, "-c", code, *map(str, words)], capture_output=True, text=True, check=True
        )
        code_of_run, kibibytes, has_torch = done.stdout.split()
    assert (code_of_run, has_torch) == ("0", "False")
    assert int(kibibytes) * 1024 < MOST_RESIDENT


def test_streams_of_arrays_need_no_torch() -> None:
    """All that `sdp embed` imports for rows of a .npy file, and an image made; torch alone would take 190 MB."""
    code = """
import sys
import numpy as np
import sdp.cli.main
from sdp.jl import sources_extra, stream
from sdp.jl.maps import KINDS, Map
for kind in KINDS[:4]:
    Map(kind, 5, 3).apply(np.ones((2, 5), np.float32))
heavy = ("torch", "triton", "sklearn", "pandas", "matplotlib", "rich", "scipy.sparse", "scipy.special")
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_learned_rows_and_like(
    run_here: Callable[..., int], rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(rows, np.load(rows)[:20])
    output = tmp_path / "y.npy"
    assert (
        run_here(
            rows, output, "--kind", "learned", "--n-components", 12, "--seed", 2**40, "--check", "--json"
        )
        == 0
    )
    assert json.loads(capsys.readouterr().out)["quality"]["largest"] < 0.2
    assert run_here(rows, tmp_path / "z.npy", "--like", f"{output}.json") == 0
    assert (tmp_path / "z.npy").read_bytes() == output.read_bytes()


def test_no_rows_are_checked_and_drawn_as_none(
    run_here: Callable[..., int], rows: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    np.save(rows, np.load(rows)[:0])
    plot = tmp_path / "q.png"
    assert run_here(rows, tmp_path / "y.npy", "--n-components", 4, "--check", "--plot", plot) == 0
    assert "none: no pair of rows to draw" in capsys.readouterr().out
    assert not plot.exists()


# A process whose rows come slowly and are recorded one block at a time, so that a kill finds it at work.
_SLOWLY = """\
import sys, time
from sdp.jl import stream
stream.SYNC_SECONDS = 0.0
replace = stream._replace
def slowly(path, content):
    replace(path, content)
    time.sleep(0.05)
stream._replace = slowly
from sdp.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is of POSIX")
def test_kill_and_resume_give_the_same_bytes(
    run_here: Callable[..., int], rows: Path, tmp_path: Path, sdp_command: list[str]
) -> None:
    words = [str(rows), str(tmp_path / "y.npy"), "--n-components", "8", "--chunk-rows", "3", "--resume"]
    progress = tmp_path / "y.npy.progress"
    process = subprocess.Popen([sdp_command[0], "-c", _SLOWLY, "embed", *words])
    try:
        deadline = time.monotonic() + 100
        while time.monotonic() < deadline and not rows_recorded(progress):
            assert process.poll() is None, "it ended before it could be killed"
            time.sleep(0.01)
    finally:
        process.kill()
        assert process.wait() == -signal.SIGKILL
    seen = rows_recorded(progress)
    assert 0 < seen < 300
    assert not (tmp_path / "y.npy").exists()
    assert run_here(*words, "--quiet") == 0
    assert run_here(rows, tmp_path / "z.npy", "--n-components", 8, "--quiet") == 0
    assert (tmp_path / "y.npy").read_bytes() == (tmp_path / "z.npy").read_bytes()
    names = ["x.npy", "y.npy", "y.npy.json", "z.npy", "z.npy.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names


def rows_recorded(progress: Path) -> int:
    return int(json.loads(progress.read_text())["rows"]) if progress.exists() else 0


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["nowhere.npy", "y.npy"], "nowhere.npy: no such file or directory."),
        (["x.npy", "y.txt"], "the output's ending must be one of .npy"),
        (["x.npy", "none/y.npy"], "none is no folder."),
        (["x.npy", "x.npy"], "x.npy: OUT would be written over IN"),
        (["x.npy", "y.npy", "--eps", "1.5"], "`--eps` must lie in (0, 1); got 1.5."),
        (["x.npy", "y.npy", "--eps", ".1"], "choose a larger `--eps`, or `--n-components`."),
        (
            ["x.npy", "y.npy", "--eps", ".5", "--n-components", "4"],
            "give `--n-components` or `--eps`, not both.",
        ),
        (["x.npy", "y.npy", "--n-components", "0"], "`n_components` must lie in [1, "),
        (["x.npy", "y.npy", "--kind", "srht", "--n-components", "65"], "must lie in [1, 64]"),
        (["x.npy", "y.npy", "--n-components", "4", "--seed", "-1"], "`seed` must lie in [0, 2^63); got -1."),
        (
            ["x.npy", "y.npy", "--n-components", "4", "--chunk-rows", "0"],
            "`chunk_rows` must be a positive integer",
        ),
        (["x.npy", "y.npy", "--like", "x.npy"], "x.npy: damaged, or no sidecar of sdp embed."),
        (["x.npy", "y.npy", "--like", "a", "--eps", ".5"], "`--like` names the map"),
        (["x.npy", "y.npy", "--like", "a", "--kind", "sparse"], "leave out `--kind`"),
        (["x.npy", "y.npy", "--like", "a", "--seed", "0"], "`--eps` and `--seed`."),
        (["x.npy", "y.npy", "--plot", "q.png"], "`--plot` draws what `--check` measures"),
        (["x.npy", "y.npy", "--kind", "best"], "best"),
        (["x.npy", "y.npy", "--eps", "1e-200"], "`eps` = 1e-200 asks for more than 2^62 components."),
        (["x.npy", "y.npy", "--eps", "1e-158"], "`eps` = 1e-158 asks for more than 2^62 components."),
    ],
)
def test_what_is_wrong_gets_a_sentence(
    run_here: Callable[..., int],
    rows: Path,
    words: list[str],
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(rows.parent)
    assert run_here(*words) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert sentence in said.err
    assert said.err.count("\n") == 1
    assert os.listdir(rows.parent) == ["x.npy"]


@pytest.mark.parametrize(
    ("error", "sentence"),
    [
        (
            MemoryError("Unable to allocate 149. GiB for an array"),
            "not enough memory; 149 GiB were asked for at once.",
        ),
        (
            RuntimeError(
                "DefaultCPUAllocator: can't allocate memory: you tried to allocate 48 bytes. Error code 12"
            ),
            "not enough memory; 48 bytes were asked for at once.",
        ),
        (
            RuntimeError("CUDA out of memory. Tried to allocate 20.00 GiB."),
            "20.00 GiB were asked for at once.",
        ),
        (MemoryError(), "not enough memory."),
        (OverflowError("int too big to convert"), "a number is out of range: int too big to convert."),
    ],
)
def test_lack_of_memory_gets_a_sentence(
    run_here: Callable[..., int],
    rows: Path,
    error: Exception,
    sentence: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def apply(*arguments: object) -> None:
        raise error

    monkeypatch.setattr("sdp.jl.maps.Map.apply", apply)
    assert run_here(rows, rows.parent / "y.npy", "--n-components", 4) == 2
    assert sentence in capsys.readouterr().err


def test_a_defect_keeps_its_traceback(
    run_here: Callable[..., int], rows: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def apply(*arguments: object) -> None:
        raise RuntimeError("a defect")

    monkeypatch.setattr("sdp.jl.maps.Map.apply", apply)
    with pytest.raises(RuntimeError, match="a defect"):
        run_here(rows, rows.parent / "y.npy", "--n-components", 4)


def test_rows_too_long_to_check_are_refused_before_the_work(
    run_here: Callable[..., int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    scipy.sparse.save_npz(tmp_path / "x.npz", scipy.sparse.csr_array((3, 10**10)))
    assert run_here(tmp_path / "x.npz", tmp_path / "y.npy", "--n-components", 4, "--check") == 2
    assert "10000000000 columns are too many for it" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["x.npz"]


def test_nan_is_refused_by_a_real_process(run_sdp: Run, rows: Path, tmp_path: Path) -> None:
    X = np.load(rows)
    X[217, 3] = np.nan
    np.save(rows, X)
    done = run_sdp("embed", rows, tmp_path / "y.npy", "--n-components", 8)
    assert done.returncode == 2
    assert done.stderr == f"sdp: {rows}, row 217: column 3 is NaN.\n"


def test_the_kinds_are_those_of_the_library() -> None:
    from sdp.cli.embed import Kind
    from sdp.jl.maps import KINDS

    assert tuple(kind.value for kind in Kind) == KINDS
