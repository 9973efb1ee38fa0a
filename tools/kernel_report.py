"""Does every Triton kernel compile, fit and have the design it claims, and how fast should it be? No GPU needed.

    python -m tools.kernel_report                                   # everything; writes tools/report/
    python -m tools.kernel_report --only NAME --target sm_90        # some of it, printed only
    python -m tools.kernel_report --check                           # exit 1 if a bar is broken; writes nothing

Each configuration in the catalogue is compiled ahead of time for its targets (what the committed report or build/
hold under the same hash of source, options and triton's version is not compiled again), its machine code is read, and
the counts are held against the bars and a roofline model of the chip.

Method of counting: instructions of the main loop (the outermost natural loop of most instructions) times threads of
a program, divided by the units of a pass; without a loop, the whole program. Inner loops count as often as the
catalogue says, both sides of branches count, waiting loops once.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Any

from sdp_kernels.triton.catalog import TARGETS, Entry, Variant
from tools._report import pool, tables
from tools._report.aot import DEFAULT_CATALOGUE, Result, seed_cache
from tools._report.bars import broken_bars, judge_operations
from tools._report.chips import CHIPS, Footprint, resident_programs
from tools._report.roofline import over_bytes, predict, tensor_flops

REPOSITORY = Path(__file__).resolve().parent.parent
CACHE = REPOSITORY / "build" / "kernel_report"
REPORT = REPOSITORY / "tools" / "report"
METHOD = (
    "instr/unit: thread instructions of the main loop (without one: of the program) divided by units; both sides "
    "of branches count.",
    "tensor, special (MUFU, conversions, quarter-rate on AMD), fp64, slow (BSSY, BRX, CALL; long masked regions on "
    "AMD), local, loads: instructions in the machine code, by width in bits for loads from memory.",
    "registers: architectural and accumulation ones together on AMD. shared: static and dynamic.",
    "time: roofline, tools/_report/roofline.py; a lower bound to be approached, not a measurement.",
)
WIDTHS = (256, 128, 64, 32, 16, 8)
Record = dict[str, Any]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    options = _parser().parse_args(arguments)
    catalogue = import_module(options.catalogue)
    entries = catalogue.entries()
    chosen = [
        (entry, variant, target)
        for entry in entries
        for variant in entry.variants
        for target in TARGETS
        if target in variant.launches
        and _matches(entry.name, options.only)
        and _matches(variant.label, options.variant)
        and (not options.target or target in options.target)
    ]
    if not chosen:
        known = ", ".join(entry.name for entry in entries) or "nothing yet"
        print(f"kernel_report: nothing matches; the catalogue has {known}.", file=sys.stderr)
        return 2
    if not options.fresh and (REPORT / "kernel_report.json").exists():
        seed_cache(options.cache, json.loads((REPORT / "kernel_report.json").read_text())["records"])
    records = report(chosen, options.catalogue, options.cache, options.processes, quiet=options.quiet)
    document = {
        "question": "kernel_report",
        "measured": False,
        "triton": metadata.version("triton"),
        "method": list(METHOD),
        "operations": judge_operations(catalogue.operations(), records),
        "records": records,
    }
    another = options.catalogue != DEFAULT_CATALOGUE and options.out is None
    partial = bool(options.only or options.variant or options.target or another)
    text = tables.markdown(document)
    if options.json:
        print(tables.as_json(document))
    elif partial or options.out is not None:
        print(text)
    if not (partial or options.check or options.json):
        folder = options.out or REPORT
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "kernel_report.json").write_text(tables.as_json(document) + "\n")
        (folder / "kernel_report.md").write_text(text)
    broken = tables.broken(document)
    for sentence in broken:
        print(sentence, file=sys.stderr)
    return 1 if broken else 0


def _matches(name: str, wanted: Sequence[str] | None) -> bool:
    return not wanted or any(part in name for part in wanted)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.kernel_report", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--only", action="append", metavar="NAME", help="kernels whose name contains this")
    parser.add_argument(
        "--variant", action="append", metavar="LABEL", help="variants whose label contains this"
    )
    parser.add_argument(
        "--target", action="append", choices=TARGETS, help="only this target; may be repeated"
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where a bar is broken")
    parser.add_argument("--json", action="store_true", help="print the report as JSON and write nothing")
    parser.add_argument("--out", type=Path, metavar="DIR", help=f"where the report goes (default {REPORT})")
    parser.add_argument("--cache", type=Path, default=CACHE, metavar="DIR", help="what was compiled before")
    parser.add_argument("--fresh", action="store_true", help="take nothing from the committed report")
    parser.add_argument("--catalogue", default=DEFAULT_CATALOGUE, metavar="MODULE", help="another catalogue")
    parser.add_argument(
        "--processes", type=int, default=2, metavar="N", help="compilers at the same time (2)"
    )
    parser.add_argument("--quiet", action="store_true", help="no line a configuration on standard error")
    return parser


def report(
    chosen: Sequence[tuple[Entry, Variant, str]], catalogue: str, cache: Path, processes: int, *, quiet: bool
) -> list[Record]:
    """One record a configuration and target, in the order given."""
    jobs = [
        {
            "catalogue": catalogue,
            "name": entry.name,
            "label": variant.label,
            "target": target,
            "cache": str(cache),
        }
        for entry, variant, target in chosen
    ]
    done = 0

    def told(position: int, answer: Result) -> None:
        nonlocal done
        done += 1
        job = jobs[position]
        state = answer.get("error") or ("compiled" if answer.get("compiled") else "as before")
        words = f"[{done}/{len(jobs)}] {job['name']} {job['label']} {job['target']}: {state}"
        print(f"{words} ({answer.get('seconds', 0.0):.1f} s)", file=sys.stderr)

    answers = pool.run(jobs, processes=processes, told=None if quiet else told)
    return [judge(*choice, answer) for choice, answer in zip(chosen, answers, strict=True)]


def judge(entry: Entry, variant: Variant, target: str, answer: Result) -> Record:
    """The record of one configuration: its counts, its predicted time, and the bars that it breaks."""
    chip, launch, work = CHIPS[target], variant.launches[target], variant.work_on(target)
    record: Record = {
        "kernel": entry.name,
        "variant": variant.label,
        "target": target,
        "chip": chip.name,
        "candidate": variant.candidate,
        "note": variant.note,
        "error": answer.get("error"),
        "num_warps": answer.get("warps", launch.num_warps),
        "num_stages": launch.num_stages,
        "constants": {**variant.constants, **launch.constants},
        "unit": work.unit,
        "problem": work.problem,
        "units_per_pass": work.units_per_pass,
        "flops_per_unit": work.flops + work.tensor_flops,
        "bytes_per_unit": work.read_bytes + work.written_bytes + work.cached_bytes,
        "counted": {name: value for name, value in answer.items() if name != "compiled"},
    }
    if record["error"] is None:
        record.update(_counts(target, variant, answer))
    record["broken"] = broken_bars(variant.bars_on(target), record)
    return record


def _counts(target: str, variant: Variant, answer: Result) -> Record:
    """Resources, and what stands in the machine code."""
    chip = CHIPS[target]
    footprint = Footprint(
        answer["warps"], answer["registers"], answer["shared_bytes"], answer["tensor_columns"]
    )
    resident = resident_programs(chip, footprint)
    static = answer["static"]
    counts = {
        "registers": answer["registers"],
        "spilled_bytes": answer["spilled_bytes"],
        "shared_bytes": answer["shared_bytes"],
        "shared_limit": chip.program_shared_bytes,
        "resident_programs": resident,
        "occupancy": resident * answer["warps"] / chip.max_warps,
        "tensor": static.get("tensor", 0.0),
        "mufu": static.get("mufu", 0.0),
        "special": static.get("special", 0.0),
        "fp64": static.get("fp64", 0.0),
        "slow_paths": static.get("slow_path", 0.0),
        "local": static.get("local", 0.0),
        "loads": {str(bits): static[f"load_{bits}"] for bits in WIDTHS if f"load_{bits}" in static},
        "stores": {str(bits): static[f"store_{bits}"] for bits in WIDTHS if f"store_{bits}" in static},
        "uncounted": answer.get("uncounted"),
    }
    return {**counts, **_passes(target, variant, answer, max(1, resident))}


def _passes(target: str, variant: Variant, answer: Result, resident: int) -> Record:
    """What depends on how often each instruction runs; None where the loops did not fit the catalogue's trips."""
    if "uncounted" in answer:
        names = (
            "instructions_per_unit",
            "looped_local",
            "predicted_seconds",
            "over_bytes",
            "bound",
            "tensor_flops_over_formula",
        )
        return dict.fromkeys(names)
    chip, work, each = CHIPS[target], variant.work_on(target), answer["each"]
    prediction = predict(chip, work, answer, resident)
    formula = work.tensor_flops * work.tensor_passes * work.units_per_pass
    return {
        "instructions_per_unit": each["instructions"] * answer["warps"] * chip.lanes / work.units_per_pass,
        "instructions_once": answer["once"].get("instructions", 0.0),
        "looped_local": each.get("local", 0.0) if answer["looped"] else 0.0,
        "tensor_flops_over_formula": sum(tensor_flops(chip, work, answer)) / formula if formula else None,
        "predicted_seconds": prediction.seconds,
        "over_bytes": over_bytes(prediction),
        "bound": prediction.bound,
        "seconds_by_bound": prediction.seconds_by_bound,
    }


if __name__ == "__main__":
    sys.exit(main())
