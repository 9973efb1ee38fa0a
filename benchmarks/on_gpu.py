"""Do the Triton kernels run right on this GPU, and as fast as the kernel report predicts?

    python -m benchmarks.on_gpu            # or: make gpu

In order: the tests that need a GPU (tests/gpu), then the operations of the catalogue, timed and set against the
prediction of the committed report (tools/report/kernel_report.json), then whole MAXCUT solves against
`maxcut_gpu_model`, then `expectation_error_per_second` on the GPU.
Writes results/<device>.json. No speed is reported while a test fails.

Two times an operation, medians with their range: "kernels" is the sum over its launches on the device, which is what
the report predicts; "call" is what a user waits for, from the call to the result, launches and checks included. A
chip that the report does not know is compared with the nearest one, and said so.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks import _gpu_solve, _machine
from benchmarks._gpu_calls import CALLS, SEED, Call
from benchmarks._records import RESULTS_FOLDER, Record, Results, markdown_table, spread

REPORT = _machine.REPOSITORY / "tools" / "report" / "kernel_report.json"
TESTS = "tests/gpu"
WARM_UPS, REPEATS = 3, 20
# Compute capability (major) or architecture -> target of the report that stands for it.
TARGETS = {8: "sm_80", 9: "sm_90", 10: "sm_100"}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.on_gpu", description=str(__doc__).splitlines()[0]
    )
    parser.add_argument(
        "--out", type=Path, default=RESULTS_FOLDER, metavar="DIR", help="folder of the results"
    )
    parser.add_argument("--skip-tests", action="store_true", help="time without testing first, and say so")
    options = parser.parse_args(arguments)
    missing = no_gpu()
    if missing:
        print(missing, file=sys.stderr)
        return 2
    if not options.skip_tests:
        # Without tests/conftest.py, which puts triton into its interpreter for all other tests.
        command = [sys.executable, "-m", "pytest", "--noconftest", TESTS]
        status = subprocess.run(
            command, cwd=_machine.REPOSITORY, env=compiled_environment(), check=False
        ).returncode
        if status:
            print(f"{TESTS} fails on this GPU; nothing is timed.", file=sys.stderr)
            return status
    name = torch.cuda.get_device_name()
    target = target_of_device()
    operations = [o for o in json.loads(REPORT.read_text())["operations"] if o["target"] == target]
    results = Results("on_gpu", key=("operation",), folder=options.out, device=name)
    results.path = options.out / f"{slug(name)}.json"
    about = {"gpu": name, "commit": _machine.commit(), "tested": not options.skip_tests}
    for operation in operations:
        if operation["call"]:
            results.add(measure(operation) | about)
    for solve in _gpu_solve.measure(target, torch.device("cuda")):
        results.add(solve | about)
    print(table([record for record in results.records() if record["gpu"] == name], name, target))
    return run_error_per_second()


def no_gpu() -> str | None:
    """Why nothing can be measured here, in a sentence; None where it can."""
    if torch.cuda.is_available():
        return None
    return f"make gpu needs a GPU that torch can use; torch {torch.__version__} sees none on this machine."


def compiled_environment() -> dict[str, str]:
    """This process's environment, with triton compiling."""
    return {
        name: value for name, value in os.environ.items() if name not in ("TRITON_INTERPRET", "SDP_ENGINE")
    }


def target_of_device() -> str:
    """The report's target that this GPU is, or is nearest to."""
    if torch.version.hip:
        return "gfx942"
    major, _ = torch.cuda.get_device_capability()
    return TARGETS.get(major, "sm_100" if major > max(TARGETS) else "sm_80")


def slug(name: str) -> str:
    """A device's name as a file name.

    >>> slug("NVIDIA H100 80GB HBM3")
    'nvidia-h100-80gb-hbm3'
    """
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")


def measure(operation: Mapping[str, Any]) -> Record:
    """Times of one operation of the report beside its prediction."""
    call = CALLS[operation["call"]](operation["shape"], torch.device("cuda"))
    for _ in range(WARM_UPS):
        call()
    calls, kernels = [], []
    for _ in range(REPEATS):
        torch.cuda.synchronize()
        started = time.perf_counter()
        call()
        torch.cuda.synchronize()
        calls.append(time.perf_counter() - started)
        kernels.append(device_seconds(call))
    on_device, waited = spread(kernels), spread(calls)
    return {
        "operation": operation["operation"],
        "shape": operation["shape"],
        "predicted_seconds": operation["predicted_seconds"],
        "kernel_seconds": on_device.median,
        "kernel_seconds_range": [on_device.low, on_device.high],
        "call_seconds": waited.median,
        "call_seconds_range": [waited.low, waited.high],
        "measured_over_predicted": on_device.median / operation["predicted_seconds"],
        "repeats": REPEATS,
        "seed": SEED,
    }


def device_seconds(call: Call) -> float:
    """Seconds that the kernels of one call take on the device, copies and fills included."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        call()
        torch.cuda.synchronize()
    return sum(float(event.self_device_time_total) for event in profile.key_averages()) * 1e-6


def table(records: Sequence[Record], name: str, target: str) -> str:
    """Prediction against measurement, as Markdown."""
    header = ("operation", "predicted", "kernels, measured", "measured / predicted", "call")
    rows = [
        (
            record["operation"],
            f"{record['predicted_seconds'] * 1e6:.1f} us",
            f"{record['kernel_seconds'] * 1e6:.1f} us",
            f"{record['measured_over_predicted']:.2f}",
            f"{record['call_seconds'] * 1e6:.1f} us",
        )
        for record in records
    ]
    return f"{name}, predictions for {target}\n\n{markdown_table(header, rows)}"


def run_error_per_second() -> int:
    """The benchmark against peers on this GPU; its exit status."""
    command = [sys.executable, "-m", "benchmarks.expectation_error_per_second", "--device", "cuda"]
    return subprocess.run(
        command, cwd=_machine.REPOSITORY, env=compiled_environment(), check=False
    ).returncode


if __name__ == "__main__":
    sys.exit(main())
