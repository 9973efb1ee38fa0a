"""The report as Markdown: one table a kernel for the configurations, one for the predicted times."""

import json
from collections.abc import Iterable, Sequence
from typing import Any

from tools._report.chips import CHIPS, Chip

Record = dict[str, Any]

_COLUMNS = (
    "variant", "target", "warps", "regs", "spill B", "shared B", "programs/SM", "occupancy", "instr/unit",
    "tensor", "special", "fp64", "slow", "local", "loads", "time", "over bytes", "bound by", "bars",
)  # fmt: skip


def markdown(document: dict[str, Any]) -> str:
    """The whole report."""
    records: list[Record] = document["records"]
    names = list(dict.fromkeys(record["kernel"] for record in records))
    shipped = [record for record in records if not record["candidate"]]
    failing = [record for record in shipped if record["broken"]]
    lines = [
        "# Kernel report (static: no GPU was used)",
        "",
        f"Made by `make report` with triton {document['triton']}; the numbers are in kernel_report.json.",
        f"{len(shipped)} shipped configurations, {len(failing)} with a broken bar; "
        f"{len(records) - len(shipped)} candidates that lost.",
        "",
        *(f"{line}  " for line in document["method"]),
        "",
    ]
    if document["operations"]:
        lines += ["## Operations: predicted time, step by step", "", _operations(document["operations"]), ""]
    for name in names:
        lines += _kernel(name, [record for record in records if record["kernel"] == name])
    lines += ["## Chips", "", *_chips(), ""]
    return "\n".join(lines).rstrip() + "\n"


def broken(document: dict[str, Any]) -> list[str]:
    """Every broken bar of what is shipped, a sentence each."""
    found = [
        f"{record['kernel']} {record['variant']} on {record['target']}: {text}"
        for record in document["records"]
        if not record["candidate"]
        for text in record["broken"]
    ]
    found += [
        f"{o['operation']} on {o['target']}: {text}" for o in document["operations"] for text in o["broken"]
    ]
    return found


def as_json(document: dict[str, Any]) -> str:
    """The report as JSON, one record a line, so that a change shows as the lines that it touches."""
    fields = []
    for name, value in document.items():
        if isinstance(value, list):
            lines = ",\n".join("  " + json.dumps(entry) for entry in value)
            fields.append(f' "{name}": [\n{lines}\n ]' if value else f' "{name}": []')
        else:
            fields.append(f' "{name}": {json.dumps(value)}')
    return "{\n" + ",\n".join(fields) + "\n}"


def _operations(judged: Sequence[Record]) -> str:
    targets = list(dict.fromkeys(record["target"] for record in judged))
    by_name: dict[str, dict[str, Record]] = {}
    for record in judged:
        by_name.setdefault(record["operation"], {})[record["target"]] = record
    rows = []
    for name, found in by_name.items():
        judged_on = [record for record in found.values() if record["at_most"] is not None]
        bar = None
        if judged_on:
            where = ", ".join(CHIPS[record["target"]].name for record in judged_on)
            bar = f"{judged_on[0]['at_most']:g} x {judged_on[0]['against']} ({where})"
        cells = []
        for target in targets:
            record = found.get(target, {})
            ratio = f" ({record['ratio']:.3g}x)" if record.get("ratio") else ""
            mark = " broken" if record.get("broken") else ""
            cells.append(f"{seconds(record['predicted_seconds']) or '-'}{ratio}{mark}" if record else None)
        rows.append([name, *cells, bar])
    return table(["operation", *(CHIPS[target].name for target in targets), "bar: at most"], rows)


def _kernel(name: str, records: Sequence[Record]) -> list[str]:
    unit = records[0]["unit"]
    lines = [f"## {name}", "", f"Unit: {unit}. Times are for {records[0]['problem']:,.0f} of them.", ""]
    shipped = [record for record in records if not record["candidate"]]
    lost = [record for record in records if record["candidate"]]
    if shipped:
        lines += [table(_COLUMNS, map(row, shipped)), ""]
    if lost:
        lines += ["Candidates that lost:", "", table(_COLUMNS, map(row, lost)), ""]
    notes = dict.fromkeys((r["variant"], r["note"]) for r in records if r["note"])
    lines += [f"- {variant}: {note}" for variant, note in notes]
    lines += [f"- {r['variant']} on {r['target']}: {text}" for r in records for text in r["broken"]]
    lines += [
        f"- {r['variant']} on {r['target']}, not counted: {r['uncounted']}"
        for r in records
        if r.get("uncounted")
    ]
    return [*lines, ""] if lines[-1] else lines


def row(record: Record) -> list[object]:
    """One configuration as the cells of the table."""
    head: list[object] = [record["variant"], record["target"], record["num_warps"]]
    if record["error"] is not None:
        return [*head, *[None] * (len(_COLUMNS) - 4), "does not compile"]
    loads = " ".join(f"{bits}b:{count:g}" for bits, count in record["loads"].items()) or None
    verdict = "broken" if record["broken"] else "hold"
    return [
        *head,
        record["registers"],
        record["spilled_bytes"],
        record["shared_bytes"],
        record["resident_programs"],
        f"{100 * record['occupancy']:.0f}%",
        None if record["uncounted"] else f"{record['instructions_per_unit']:.4g}",
        *(f"{record[name]:g}" for name in ("tensor", "special", "fp64", "slow_paths", "local")),
        loads,
        seconds(record["predicted_seconds"]),
        None if record["over_bytes"] is None else f"{record['over_bytes']:.3g}",
        record["bound"],
        ("would be " if record["candidate"] else "") + verdict,
    ]


def seconds(value: float | None) -> str | None:
    """A time to three digits with its unit.

    >>> seconds(0.00123), seconds(4.2e-6)
    ('1.23 ms', '4.20 us')
    """
    if value is None:
        return None
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{value / size:.3g} {unit}"
    return f"{value / 1e-6:.2f} us"


def table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; None becomes a dash."""
    lines = ["| " + " | ".join(header) + " |", "|" + " --- |" * len(header)]
    lines += [
        "| " + " | ".join("-" if cell is None else str(cell) for cell in cells) + " |" for cells in rows
    ]
    return "\n".join(lines)


def _chips() -> list[str]:
    rows = [(target, *_limits(chip)) for target, chip in CHIPS.items()]
    header = (
        "target",
        "chip",
        "SMs or CUs",
        "clock",
        "fp32 lanes/cycle",
        "special/cycle",
        "dense tensor TF/s",
        "memory",
        "cache",
    )
    return [table(header, rows), "", "Sources: the docstring of tools/_report/chips.py."]


def _limits(chip: Chip) -> list[object]:
    tensor = ", ".join(f"{kind} {rate / 1e12:g}" for kind, rate in chip.tensor_flops.items())
    return [
        chip.name,
        chip.multiprocessors,
        f"{chip.clock_hz / 1e9:g} GHz",
        f"{chip.rates.get('fma', chip.rates['issue']):g}",
        f"{chip.rates['special']:g}",
        tensor,
        f"{chip.memory_rate / 1e12:g} TB/s",
        f"{chip.cache_rate / 1e12:g} TB/s",
    ]
