"""Compile one configuration ahead of time and read its machine code; a worker process that answers JSON lines.

Runs without TRITON_INTERPRET, one process a core, because triton compiles for a target only where it was imported to
compile, and because a compiler that aborts takes its process along (`pool.py` then records it and starts another).
"""

import contextlib
import hashlib
import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from sdp_kernels.triton.catalog import NVIDIA, Entry, Variant, Work
from tools._report import amdgcn, sass
from tools._report.control_flow import Instruction, TripsError, loops, weights

DEFAULT_CATALOGUE = "sdp_kernels.triton.catalog"
_RAW_VERSION = 1  # raise when what `_compile` keeps changes
_MAIN_MODULES = ("amdgcn.py", "aot.py", "control_flow.py", "sass.py")
Result = dict[str, Any]


def main() -> None:
    """Answer jobs from standard input, one JSON object a line, until it ends."""
    # Compilers print to standard output at times; answers go to a copy of it that only this function knows.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        job = json.loads(line)
        answers.write(json.dumps(answer(job)) + "\n")
        answers.flush()


def find(catalogue: str, name: str, label: str) -> tuple[Entry, Variant]:
    """An entry and its variant from a catalogue module.

    Raises:
        KeyError: there is no such pair.
    """
    for entry in importlib.import_module(catalogue).entries():
        for variant in entry.variants:
            if (entry.name, variant.label) == (name, label):
                return entry, variant
    raise KeyError(f"{catalogue} has no variant {label!r} of {name!r}.")


def answer(job: Mapping[str, str]) -> Result:
    """Compile and analyse one job (catalogue, name, label, target, cache); errors are part of the answer.

    The cache holds two files a configuration: what the compiler made (`.raw.json`) and what was counted in it
    (`.counts.json`), under keys that hash everything they depend on. Where the counts are known, nothing is
    compiled: that is how the committed report serves as a cache.
    """
    entry, variant = find(job["catalogue"], job["name"], job["label"])
    target, cache = job["target"], Path(job["cache"])
    try:
        plan = _plan(entry, variant, target)
    except CatalogueError as error:
        return {"error": str(error), "seconds": 0.0, "compiled": False}
    work = variant.work_on(target)
    kept = (
        cache / f"{_digest([plan.key, list(work.inner_trips), work.looped, _analysis_digest()])}.counts.json"
    )
    if kept.exists():
        known: Result = json.loads(kept.read_text())
        return {**known, "compiled": False}
    raw, fresh = _raw(plan, cache)
    counted: Result = {"key": kept.name.partition(".")[0], "seconds": raw["seconds"]}
    counted.update({"error": raw["error"]} if "error" in raw else _analyse(raw, target, work))
    _write(kept, counted)
    return {**counted, "compiled": fresh}


class CatalogueError(ValueError):
    """A line of the catalogue does not fit its kernel."""


class _Plan(NamedTuple):
    """All that `triton.compile` is given, and the key of its result."""

    function: Any
    signature: dict[str, str]
    values: Result
    attributes: Any
    target: str
    options: Result
    key: str


def _plan(entry: Entry, variant: Variant, target: str) -> _Plan:
    import triton

    launch = variant.launches[target]
    module, name = entry.kernel.split(":")
    function = getattr(importlib.import_module(module), name)
    while not isinstance(
        function, triton.runtime.JITFunction
    ):  # under @triton.autotune or @triton.heuristics
        function = function.fn
    values = {**variant.constants, **launch.constants, **dict.fromkeys(variant.equal_to_one, 1)}
    names = list(function.arg_names)
    missing = [n for n in names if n not in variant.signature and n not in values]
    unknown = [n for n in (*variant.signature, *values) if n not in names]
    if missing or unknown:
        problem = f"arguments without type or value: {missing}; not arguments of {name}: {unknown}."
        raise CatalogueError(f"the catalogue does not fit the kernel: {problem}")
    signature = {n: "constexpr" if n in values else variant.signature[n] for n in names}
    attributes = {
        (i,): [["tt.divisibility", 16]]
        for i, n in enumerate(names)
        if signature[n].startswith("*") or (n in variant.aligned and signature[n] != "constexpr")
    }
    # Explicit fusion: 3.9 defaults to on with a warning, 3.10 to off.
    options: Result = {
        "num_warps": launch.num_warps,
        "num_stages": launch.num_stages,
        "enable_fp_fusion": True,
    }
    options.update(launch.options)
    if launch.maxnreg is not None:
        options["maxnreg"] = launch.maxnreg
    description = [_RAW_VERSION, triton.__version__, function.cache_key, target, options, signature]
    key = _digest([*description, sorted(values.items()), sorted(map(str, attributes))])
    return _Plan(function, signature, values, attributes, target, options, key)


def _raw(plan: _Plan, cache: Path) -> tuple[Result, bool]:
    """What the compiler gives for one configuration, from the cache or made now; and whether it was made now."""
    kept = cache / f"{plan.key}.raw.json"
    if kept.exists():
        raw: Result = json.loads(kept.read_text())
        return raw, False
    started = time.perf_counter()
    try:
        raw = _compile(*plan[:-1])
    except (
        Exception
    ) as error:  # whatever the compiler raises is the finding; it is kept and shown, never hidden
        raw = {"error": f"{type(error).__name__}: {_last_line(error)}"}
    raw["seconds"] = round(time.perf_counter() - started, 2)
    _write(kept, raw)
    return raw, True


def _compile(
    function: Any, signature: dict[str, str], values: Result, attributes: Any, target: str, options: Result
) -> Result:
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    architecture = (
        GPUTarget("cuda", int(target[3:]), 32) if target in NVIDIA else GPUTarget("hip", target, 64)
    )
    constants = {(function.arg_names.index(name),): value for name, value in values.items()}
    source = ASTSource(function, signature, constants, attributes)
    compiled = triton.compile(source, target=architecture, options=options)
    metadata = compiled.metadata
    raw: Result = {
        "shared": metadata.shared,
        "warps": metadata.num_warps,
        "tensor_columns": getattr(metadata, "tmem_size", 0) or 0,
    }
    if target in NVIDIA:
        with tempfile.TemporaryDirectory() as folder:
            cubin = Path(folder, "kernel.cubin")
            cubin.write_bytes(compiled.asm["cubin"])
            raw["usage"] = _tool("cuobjdump", "--dump-resource-usage", cubin)
            raw["code"] = _tool("nvdisasm", "-c", "-hex", cubin)
    else:
        raw["code"] = compiled.asm["amdgcn"].split("\t.section\t.debug_", 1)[0]
        raw["usage"] = compiled.asm["amdgcn"].partition("; Kernel info:")[2]
    return raw


def _tool(name: str, *arguments: object) -> str:
    """Output of one of the binary tools inside the triton wheel."""
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / name
    done = subprocess.run(
        [tool, *map(str, arguments)], capture_output=True, text=True, check=True, timeout=120
    )
    return done.stdout


def _analyse(raw: Result, target: str, work: Work) -> Result:
    """Registers, spills, shared memory and counts of one compiled configuration."""
    threads: Result = {"warps": raw["warps"], "tensor_columns": raw["tensor_columns"]}
    kinds: Callable[[Instruction], dict[str, float]]
    if target in NVIDIA:
        usage = sass.parse_usage(raw["usage"])
        code = sass.parse(raw["code"])
        found = loops(code, sass.WAITING)
        kinds, cycles = sass.kinds, sass.warp_cycles
        threads.update(registers=usage.registers, spilled_bytes=max(usage.stack, usage.local))
        threads["shared_bytes"] = raw["shared"] + max(0, usage.shared - RESERVED_SHARED[target])
    else:
        resources = amdgcn.parse_usage(raw["usage"])
        code = amdgcn.parse(raw["code"])
        found = loops(code)
        kinds, cycles = amdgcn.kinds, amdgcn.warp_cycles
        spilled = max(resources.scratch, 4 * resources.vector_spills)
        threads.update(
            registers=resources.registers, accumulators=resources.accumulators, spilled_bytes=spilled
        )
        threads.update(scalar_spills=resources.scalar_spills, waves_by_registers=resources.occupancy)
        threads["shared_bytes"] = raw["shared"]
    static = _tally(code, kinds, [1.0] * len(code))
    if target not in NVIDIA:
        static["slow_path"] = static.get("slow_path", 0) + amdgcn.slow_paths(code)
    try:
        passes = weights(code, found, work.inner_trips, work.looped)
    except TripsError as error:
        # Resources and what is in the code stand all the same; only how often it runs is unknown.
        return {**threads, "static": static, "uncounted": str(error)}
    return {
        **threads,
        "looped": passes.looped,
        "loops": [[loop.header, len(loop.members), loop.depth, loop.waits] for loop in found],
        "static": static,
        "each": _tally(code, kinds, passes.each),
        "once": _tally(code, kinds, passes.once),
        "cycles_each": cycles(code, passes.each),
        "cycles_once": cycles(code, passes.once),
    }


# cuobjdump's SHARED counts the kilobyte that the system takes of each program from sm_90 on.
RESERVED_SHARED = {"sm_80": 0, "sm_90": 1024, "sm_100": 1024}


def _tally(
    code: Sequence[Instruction], kinds: Callable[[Instruction], dict[str, float]], passes: Sequence[float]
) -> dict[str, float]:
    total: dict[str, float] = {}
    for instruction, weight in zip(code, passes, strict=True):
        if weight:
            for kind, count in kinds(instruction).items():
                total[kind] = total.get(kind, 0.0) + weight * count
    return dict(sorted(total.items()))


def seed_cache(cache: Path, records: Sequence[Result]) -> None:
    """Put the counts of a written report into a cache; their keys tell whether they still stand."""
    for record in records:
        counted = record["counted"]
        if "key" in counted and not (kept := cache / f"{counted['key']}.counts.json").exists():
            _write(kept, counted)


def _analysis_digest() -> str:
    folder = Path(__file__).parent
    return _digest([(folder / name).read_text("utf-8") for name in _MAIN_MODULES])


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, default=str).encode()).hexdigest()[:32]


def _last_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else "no message"


def _write(path: Path, value: Result) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


if __name__ == "__main__":
    os.environ.pop("TRITON_INTERPRET", None)
    os.environ.setdefault("TRITON_DISABLE_LINE_INFO", "1")
    with contextlib.ExitStack() as stack:
        os.environ["TRITON_CACHE_DIR"] = stack.enter_context(tempfile.TemporaryDirectory())
        main()
