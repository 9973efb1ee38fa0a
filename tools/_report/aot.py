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
from typing import Any

from sdp_kernels.triton.catalog import NVIDIA, Entry, Launch, Variant
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
    """Compile and analyse one job (catalogue, name, label, target, cache); errors are part of the answer."""
    entry, variant = find(job["catalogue"], job["name"], job["label"])
    target = job["target"]
    launch = variant.launches[target]
    cache = Path(job["cache"])
    raw, fresh = _raw(entry, variant, launch, target, cache)
    if "error" in raw:
        return {"error": raw["error"], "seconds": raw["seconds"], "compiled": fresh}
    trips = variant.work_on(target).inner_trips
    key = _digest([raw["key"], list(trips), _analysis_digest()])
    kept = cache / f"{key}.counts.json"
    if kept.exists():
        counted: Result = json.loads(kept.read_text())
    else:
        counted = _analyse(raw, target, trips)
        _write(kept, counted)
    return {**counted, "seconds": raw["seconds"], "compiled": fresh}


def _raw(entry: Entry, variant: Variant, launch: Launch, target: str, cache: Path) -> tuple[Result, bool]:
    """What the compiler gives for one configuration, from the cache or made now; and whether it was made now."""
    import triton

    module, name = entry.kernel.split(":")
    function = getattr(importlib.import_module(module), name)
    while not isinstance(
        function, triton.runtime.JITFunction
    ):  # under @triton.autotune or @triton.heuristics
        function = function.fn
    constants = {**variant.constants, **launch.constants}
    names = list(function.arg_names)
    missing = [
        n
        for n in names
        if n not in variant.signature and n not in constants and n not in variant.equal_to_one
    ]
    unknown = [n for n in (*variant.signature, *constants) if n not in names]
    if missing or unknown:
        problem = f"arguments without type or value: {missing}; not arguments of {name}: {unknown}."
        return {"error": f"the catalogue does not fit the kernel: {problem}", "seconds": 0.0}, False
    signature = {
        n: "constexpr" if n in constants or n in variant.equal_to_one else variant.signature[n] for n in names
    }
    values = {**constants, **dict.fromkeys(variant.equal_to_one, 1)}
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
    kept = cache / f"{key}.raw.json"
    if kept.exists():
        raw: Result = json.loads(kept.read_text())
        return raw, False
    started = time.perf_counter()
    try:
        raw = _compile(function, signature, values, attributes, target, options)
    except (
        Exception
    ) as error:  # whatever the compiler raises is the finding; it is kept and shown, never hidden
        raw = {"error": f"{type(error).__name__}: {_last_line(error)}"}
    raw.update({"key": key, "seconds": round(time.perf_counter() - started, 2)})
    _write(kept, raw)
    return raw, True


def _compile(
    function: Any, signature: Result, values: Result, attributes: Any, target: str, options: Result
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


def _analyse(raw: Result, target: str, trips: Sequence[float]) -> Result:
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
    try:
        passes = weights(code, found, trips)
    except TripsError as error:
        return {**threads, "error": str(error)}
    static = _tally(code, kinds, [1.0] * len(code))
    if target not in NVIDIA:
        static["slow_path"] = static.get("slow_path", 0) + amdgcn.slow_paths(code)
    return {
        **threads,
        "looped": passes.looped,
        "loops": [
            {"at": loop.header, "instructions": len(loop.members), "depth": loop.depth, "waits": loop.waits}
            for loop in found
        ],
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
