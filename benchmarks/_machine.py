"""What a measurement must say about the machine it was taken on."""

import datetime
import os
import platform
import re
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

REPORTED_DISTRIBUTIONS = (
    "sdp-kernels",
    "numpy",
    "scipy",
    "numba",
    "torch",
    "dwave-samplers",
    "dimod",
    "MQLib",
    "simulated-bifurcation",
    "scikit-learn",
    "faiss-cpu",
    "fht-cpu",
)
REPOSITORY = Path(__file__).resolve().parent.parent


def cpu_model() -> str:
    """Name of the processor, as the system gives it."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine()


def usable_cores() -> int:
    """Cores that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def memory_gib() -> float:
    """Memory of the machine in GiB, or 0 where the system does not tell."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    except (ValueError, OSError, AttributeError):
        return 0.0


def versions() -> dict[str, str]:
    """Versions of the packages that take part in a measurement; the absent ones are left out."""
    installed = {name.lower(): version for name, version in _installed()}
    found = {name: installed[name.lower()] for name in REPORTED_DISTRIBUTIONS if name.lower() in installed}
    return {"python": platform.python_version(), **found}


def _installed() -> list[tuple[str, str]]:
    return [(str(found.metadata["Name"]), found.version) for found in metadata.distributions()]


def commit() -> str:
    """Short hash of the commit that was measured; a plus sign when tracked code differs from it."""

    def git(*arguments: str) -> str:
        # The paths keep a results file that is being written from counting as changed code.
        return subprocess.run(
            ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=True, timeout=30
        ).stdout.strip()

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "--", "sdp", "kernels")
        return git("rev-parse", "--short", "HEAD") + ("+" if changed else "")
    except (OSError, subprocess.SubprocessError):
        return "unknown"


def device_name() -> str:
    """Short name of the machine for file names, such as ``amd-epyc-2-cores``."""
    model = re.sub(r"\(r\)|\(tm\)|processor|cpu|@.*", "", cpu_model().lower())
    return f"{re.sub('[^a-z0-9]+', '-', model).strip('-')}-{usable_cores()}-cores"


def facts() -> dict[str, Any]:
    """Everything above in one JSON-ready dictionary, with today's date (UTC)."""
    return {
        "name": device_name(),
        "cpu": cpu_model(),
        "cores": usable_cores(),
        "memory_gib": round(memory_gib(), 1),
        "system": platform.platform(),
        "versions": versions(),
        "date": datetime.datetime.now(datetime.timezone.utc).date().isoformat(),
    }


def load_average() -> float:
    """Runnable processes over the last minute: how much company a measurement had."""
    return os.getloadavg()[0] if hasattr(os, "getloadavg") else float("nan")


def peak_memory_bytes() -> int:
    """Largest resident size that this process has had, in bytes."""
    import resource  # absent on Windows, where only this one number is lost

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if platform.system() == "Darwin" else peak * 1024
