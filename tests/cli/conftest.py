"""Graphs in files, and `sdp` under a pseudo-terminal, where it draws its progress."""

from __future__ import annotations

import os
import re
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

SEED = 7


@pytest.fixture
def triangle(tmp_path: Path) -> Path:
    path = tmp_path / "triangle.txt"
    path.write_text("3 3\n1 2 1\n2 3 1\n1 3 1\n")
    return path


@pytest.fixture
def busy_graph(tmp_path: Path) -> Path:
    """A random graph whose gap never closes, so that solving it takes all the time there is."""
    n, m = 3000, 24000
    edges = np.random.default_rng(SEED).integers(1, n + 1, size=(m, 2))
    edges = np.unique(np.sort(edges[edges[:, 0] != edges[:, 1]], axis=1), axis=0)
    path = tmp_path / "busy.txt"
    lines = [f"{n} {len(edges)}", *(f"{u} {v} 1" for u, v in edges)]
    path.write_text("\n".join(lines) + "\n")
    return path


class Session:
    """A running `sdp` whose standard error is a terminal."""

    def __init__(self, words: list[str]) -> None:
        self.screen = b""
        self._ours, theirs = os.openpty()
        environment = {**os.environ, "TERM": "xterm", "COLUMNS": "120"}
        self.process = subprocess.Popen(
            words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=theirs, text=True, env=environment
        )
        os.close(theirs)
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while True:
            try:
                piece = os.read(self._ours, 4096)
            except OSError:  # Linux says EIO when the other side is closed
                return
            if not piece:
                return
            self.screen += piece

    def wait_for(self, pattern: bytes, timeout: float) -> re.Match[bytes]:
        """Waits until the screen has shown this; kernels may have to be compiled first."""
        deadline = time.monotonic() + timeout
        while time.monotonic() < deadline:
            seen = re.search(pattern, self.screen)
            if seen:
                return seen
            if self.process.poll() is not None:
                break
            time.sleep(0.02)
        raise AssertionError(f"never saw {pattern!r} on the screen:\n{self.screen.decode(errors='replace')}")

    def end(self, timeout: float) -> tuple[int, str]:
        """Exit code and standard output, once the process has ended by itself."""
        output, _ = self.process.communicate(timeout=timeout)
        self._reader.join(timeout=5)
        return self.process.returncode, output

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._reader.join(timeout=5)
        os.close(self._ours)


@pytest.fixture
def start_sdp(sdp_command: list[str]) -> Iterator[Callable[..., Session]]:
    """Starts `sdp` with these arguments under a terminal; what still runs at the end is killed."""
    sessions: list[Session] = []

    def start(*arguments: object) -> Session:
        sessions.append(Session([*sdp_command, *map(str, arguments)]))
        return sessions[-1]

    yield start
    for session in sessions:
        session.close()
