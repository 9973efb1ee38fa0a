"""Work in a process of its own, which can be stopped at any time: arrays in, arrays out.

The process is isolated from the user's folder and variables, and ends when its standard input closes, that is, when
whoever started it is gone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

POLL_SECONDS = 0.01
_PROGRAM = "import sys; sys.path[:] = {path!r}; from {module} import main; main(*sys.argv[1:])"


def run(
    module: str, problem: Mapping[str, NDArray[Any] | int], should_stop: Callable[[], bool]
) -> NDArray[Any] | None:
    """What `main(problem, answer)` of a module wrote last before it ended or was stopped; None if nothing.

    Args:
        module: its full name; its `main` gets the names of a file that `numpy.load` reads and of one to write.
        problem: arrays by name.
        should_stop: asked every few milliseconds; True ends the process.

    Raises:
        RuntimeError, OSError: the process could not be started or failed; the message holds its last line.
    """
    if not sys.executable:
        raise RuntimeError("there is no Python interpreter to start a process with.")
    with tempfile.TemporaryDirectory(prefix="sdp-matching-", ignore_cleanup_errors=True) as folder:
        question, answer, said = (Path(folder, name) for name in ("problem.npz", "answer.npy", "said"))
        np.savez(question, **problem)  # type: ignore[arg-type]
        with said.open("wb") as errors:
            # Isolated from the user's folder and variables, in a session that no terminal's signal reaches.
            process = subprocess.Popen(
                [sys.executable, "-I", "-c", _program(module), str(question), str(answer)],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=errors,
                start_new_session=True,
            )
        try:
            while process.poll() is None and not should_stop():
                time.sleep(POLL_SECONDS)
            if process.returncode:
                last = said.read_text(errors="replace").strip().rpartition("\n")[2]
                raise RuntimeError(f"the matching process ended with status {process.returncode}: {last}")
        finally:
            process.kill()
            process.wait()
            assert process.stdin is not None
            process.stdin.close()
        return np.load(answer) if answer.exists() else None


def end_with_the_parent(problem: str) -> None:
    """Has this process end, and its folder vanish, when the one that started it is gone."""
    threading.Thread(target=_wait_for_the_end, args=(os.path.dirname(problem),), daemon=True).start()


def write(path: str, answer: NDArray[Any]) -> None:
    """Replaces the answer at once, as a whole."""
    with open(path + ".part", "wb") as file:
        np.save(file, answer)
    os.replace(path + ".part", path)


def _program(module: str) -> str:
    """What the process runs, with the modules that are found here."""
    home = str(Path(__file__).resolve().parents[2])
    return _PROGRAM.format(path=[*(path for path in sys.path if path), home], module=module)


def _wait_for_the_end(folder: str) -> None:
    sys.stdin.read()
    shutil.rmtree(folder, ignore_errors=True)
    os._exit(1)
