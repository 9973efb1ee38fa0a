"""A few compiler processes that may crash: jobs in, answers out, in the order of the jobs.

`concurrent.futures` gives up all its work when one process dies; a compiler that aborts ("Register allocation
failed") is here an answer like any other, and the next job gets a new process.
"""

import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from tools._report.aot import Result

REPOSITORY = Path(__file__).resolve().parents[2]
COMMAND = (sys.executable, "-m", "tools._report.aot")


class _Worker:
    """One process that answers JSON lines."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str]) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - lives as long as the process
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            cwd=REPOSITORY,
            env=dict(environment),
        )
        self._answers: queue.Queue[str] = queue.Queue()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def ask(self, job: Mapping[str, Any], timeout: float) -> tuple[Result, bool]:
        """The answer, and whether the process can take another job."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(job) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=timeout)
        except queue.Empty:
            self._process.kill()
            return {"error": f"the compiler took longer than {timeout:g} seconds.", "crashed": True}, False
        except BrokenPipeError:
            line = ""
        if line:
            answer: Result = json.loads(line)
            return answer, True
        code = self._process.wait()
        self._errors.seek(0)
        said = [text.strip() for text in self._errors.read().splitlines() if text.strip()]
        last = said[-1] if said else "nothing on standard error"
        return {"error": f"the compiler's process died with status {code}: {last}", "crashed": True}, False

    def close(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with contextlib.suppress(BrokenPipeError):  # of a job that a dead process never read
            self._process.stdin.close()
        self._process.wait()
        self._reader.join()
        self._process.stdout.close()
        self._errors.close()


def run(
    jobs: Sequence[Mapping[str, Any]],
    *,
    processes: int = 2,
    timeout: float = 200.0,
    command: Sequence[str] = COMMAND,
    told: Callable[[int, Result], None] | None = None,
) -> list[Result]:
    """Answers of all jobs, in their order; a crash or a timeout is an answer with `error` and `crashed`.

    Args:
        jobs: JSON-ready objects, each sent as one line.
        processes: how many processes work at the same time.
        timeout: seconds a job may take.
        command: what starts a process.
        told: called with the position and the answer of each job as it ends, from one thread at a time.
    """
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    answers: list[Result] = [{}] * len(jobs)
    pending = iter(range(len(jobs)))
    lock = threading.Lock()

    def serve() -> None:
        worker: _Worker | None = None
        while True:
            with lock:
                position = next(pending, None)
            if position is None:
                break
            worker = worker or _Worker(command, environment)
            answers[position], alive = worker.ask(jobs[position], timeout)
            if not alive:
                worker.close()
                worker = None
            if told is not None:
                with lock:
                    told(position, answers[position])
        if worker is not None:
            worker.close()

    threads = [threading.Thread(target=serve) for _ in range(min(processes, len(jobs)))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return answers
