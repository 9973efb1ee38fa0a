"""NVIDIA: from `nvdisasm -c -hex` and `cuobjdump --dump-resource-usage` to instructions, kinds and cycles.

Scheduling bits: since Volta an instruction is 128 bits, of which bits 105 to 125 tell the scheduler when the next one
may issue: 4 bits of stall cycles, 1 of yield, 3 of the scoreboard set when the result is written, 3 of the one set
when the operands are read, 6 of scoreboards to wait for (Jia, Maggioni, Staiger, Scarpazza, "Dissecting the NVIDIA
Volta GPU Architecture via Microbenchmarking", 2018, section 2; unchanged up to sm_100 in what triton's ptxas emits).
`warp_cycles` replays them for a single warp.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tools._report.control_flow import Instruction

_LINE = re.compile(
    r"^\s*/\*(?P<address>[0-9a-f]{4,})\*/\s+"
    r"(?:\{\s*)?(?P<guard>@!?U?P\w+\s+)?(?P<opcode>[A-Z][\w.]*)\s*(?P<operands>[^;]*?)\s*;"
    r"(?:\s*\})?(?:\s*/\* 0x[0-9a-f]{16} \*/)?"
)
_LABEL = re.compile(r"^(?P<label>\.[\w$.]+):")
_HIGH_WORD = re.compile(r"^\s+/\* (?P<word>0x[0-9a-f]{16}) \*/\s*$")
_TARGET = re.compile(r"`\((?P<label>\.[\w$.]+)\)")
_USAGE = re.compile(
    r"REG:(?P<registers>\d+)\s+STACK:(?P<stack>\d+)\s+SHARED:(?P<shared>\d+)\s+LOCAL:(?P<local>\d+)"
)

WAITING = ("SYNCS.PHASECHK",)
_TENSOR = re.compile(r"^(?:[BHIQO]G?MMA|UTC\w*MMA)$")
_GROUP_SHAPE = re.compile(r"\.(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)\.")
_WARP_SHAPE = re.compile(r"^HMMA\.168(?P<k>\d+)\.")  # 16 by 8 by k in one number
_WARP, _WARPGROUP = 32, 128
_WIDTH = re.compile(r"\.(?P<bits>64|128|256)(?:\.|$)")
_NARROW = {"U8": 1, "S8": 1, "U16": 2, "S16": 2}
_DOUBLE = {"DADD", "DMUL", "DFMA", "DSETP", "DMNMX", "DMMA"}
_FLOAT = {"FFMA", "FMUL", "FADD", "FFMA32I", "FADD32I", "FMUL32I", "HFMA2", "HADD2", "HMUL2"}
_PACKED = {"FFMA2", "FMUL2", "FADD2"}  # two lanes' worth of work in one instruction (sm_100)
_SPECIAL = {"MUFU", "I2F", "F2I", "F2F", "FRND", "POPC", "FLO", "BREV"}
_GLOBAL = {"LDG", "STG", "LDGSTS", "ATOM", "ATOMG", "RED", "LD", "ST"}
_SHARED = {"LDS", "STS", "LDSM", "STSM", "ATOMS", "SHFL"}
_LOCAL = {"LDL", "STL"}
_CONTROL = {
    "BRA",
    "EXIT",
    "RET",
    "CALL",
    "BSSY",
    "BSYNC",
    "BRX",
    "JMP",
    "BAR",
    "NOP",
    "WARPSYNC",
    "DEPBAR",
    "BREAK",
}
_CONTROL |= {
    "WARPGROUP",
    "SYNCS",
    "FENCE",
    "MEMBAR",
    "ERRBAR",
    "CCTL",
    "YIELD",
    "BPT",
    "NANOSLEEP",
    "ELECT",
    "LDGDEPBAR",
}
_ODD = {"S2R", "S2UR", "LDC", "LDCU", "ULDC", "R2UR", "CS2R", "LDTM", "STTM"}
_TRAP = "guardrail_trap"  # of tensor memory: never reached in a kernel that frees what it took
_ENDS = {"EXIT", "RET", "BRA", "JMP", "BRX", "JMX"}

# Cycles from issue to use of what the scoreboards guard, for one warp alone: orders from Jia et al. (2018) and
# Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture" (2024). "global" is a hit in the first
# level: a pass of the main loop reads the same weights again; the second level takes 200 to 280.
_LATENCY = {"special": 24, "shared": 30, "global": 40, "other": 24}


class Usage(NamedTuple):
    """Resources of a function as cuobjdump prints them; shared memory is the static part alone."""

    registers: int
    stack: int
    shared: int
    local: int


def parse_usage(text: str) -> Usage:
    """The first function's line of ``cuobjdump --dump-resource-usage``.

    Raises:
        ValueError: there is no such line.
    """
    found = _USAGE.search(text)
    if found is None:
        raise ValueError("cuobjdump printed no line with REG, STACK, SHARED and LOCAL.")
    return Usage(*(int(found[name]) for name in ("registers", "stack", "shared", "local")))


def parse(text: str) -> list[Instruction]:
    """Instructions of `nvdisasm -c` output, with scheduling bits where it was called with ``-hex``.

    Raises:
        ValueError: there are none, or a branch goes to a label that is not there.
    """
    rows: list[tuple[str, str, bool, int]] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        label = _LABEL.match(line)
        if label is not None:
            labels[label["label"]] = len(rows)
            continue
        found = _LINE.match(line)
        if found is not None:
            rows.append((found["opcode"], found["operands"], found["guard"] is not None, 0))
            continue
        word = _HIGH_WORD.match(line)
        if word is not None and rows:
            rows[-1] = (*rows[-1][:3], int(word["word"], 16) >> 41)
    if not rows:
        raise ValueError("nvdisasm printed no instruction.")
    return [_instruction(row, labels) for row in rows]


def _instruction(row: tuple[str, str, bool, int], labels: dict[str, int]) -> Instruction:
    opcode, operands, guarded, control = row
    family = opcode.split(".")[0]
    target = None
    # On sm_80 ptxas leaves loops by `@P0 CALL.REL.NOINC` to a label of the same function: a branch by another name.
    local_call = family == "CALL" and _TARGET.search(operands) is not None
    if family in ("BRA", "JMP") or local_call:
        label = _TARGET.search(operands)
        if label is None or label["label"] not in labels:
            raise ValueError(f"{opcode} {operands}: no such label in the disassembly.")
        target = labels[label["label"]]
        guarded = guarded or not operands.lstrip().startswith("`(")  # BRA.U UP0, `(.L_x_1)
    return Instruction(
        opcode, operands, guarded, target, (family in _ENDS or local_call) and not guarded, control
    )


def access_bytes(opcode: str) -> int:
    """Bytes that one thread loads or stores with this instruction.

    >>> access_bytes("LDG.E.128.CONSTANT"), access_bytes("STS"), access_bytes("LDSM.16.M88.4")
    (16, 4, 16)
    """
    family = opcode.split(".")[0]
    if family in ("LDSM", "STSM"):
        return 4 * int(opcode[-1]) if opcode[-1] in "24" else 4
    wide = _WIDTH.search(opcode)
    if wide is not None:
        return int(wide["bits"]) // 8
    return next((size for name, size in _NARROW.items() if f".{name}" in opcode), 4)


def tensor_flops(opcode: str) -> float:
    """Floating-point operations a thread of a dense product; 0 where the shape is not in the mnemonic (UTC*MMA).

    >>> tensor_flops("HGMMA.64x32x8.F32.TF32") * 128, tensor_flops("HMMA.1688.F32.TF32") * 32
    (32768.0, 2048.0)
    """
    group = _GROUP_SHAPE.search(opcode)
    if group is not None:
        return 2.0 * int(group["m"]) * int(group["n"]) * int(group["k"]) / _WARPGROUP
    warp = _WARP_SHAPE.match(opcode)
    return 2.0 * 16 * 8 * int(warp["k"]) / _WARP if warp is not None else 0.0


def kinds(instruction: Instruction) -> dict[str, float]:
    """What an instruction counts as: pipes of `chips.Chip.rates`, and the things that bars ask for."""
    opcode = instruction.opcode
    family = opcode.split(".")[0]
    count: dict[str, float] = {"instructions": 1, "issue": 1}
    if family == "NOP":  # padding: issued, but no work
        return count
    if _TENSOR.match(family):
        flops = tensor_flops(opcode)
        count.update({"tensor": 1, "tensor_flops": flops})
        if family == "HMMA":
            count.update({"tensor_sync": 1, "tensor_sync_flops": flops})
    elif family in _DOUBLE or ".F64" in opcode or opcode.endswith("64H"):
        count.update({"fp64": 1})
    elif family in _SPECIAL:
        count.update({"special": 1, "mufu": float(family == "MUFU")})
    elif family in _FLOAT or family in _PACKED:
        count["fma"] = 2 if family in _PACKED else 1
    elif family == "IMAD":
        count.update({"fma": 1, "imad": 1})
    elif family in _LOCAL:
        count.update({"memory": 1, "local": 1})
    elif family in _GLOBAL:
        count["memory"] = 1
        bits = 8 * access_bytes(opcode)
        if family in ("LDG", "LDGSTS", "LD"):
            count[f"load_{bits}"] = 1
        elif family in ("STG", "ST"):
            count[f"store_{bits}"] = 1
    elif family in _SHARED:
        count["memory"] = 1
        count["shared_bytes"] = access_bytes(opcode)
    elif family in ("BSSY", "BRX") or (
        family == "CALL" and instruction.target is None and _TRAP not in instruction.operands
    ):
        count["slow_path"] = 1
    elif not (family in _CONTROL or family in _ODD or family.startswith("U")):
        count["alu"] = 1
    return {name: value for name, value in count.items() if value}


def _latency(family: str) -> int:
    if family in _SPECIAL:
        return _LATENCY["special"]
    if family in _SHARED:
        return _LATENCY["shared"]
    if family in _GLOBAL or family in _LOCAL:
        return _LATENCY["global"]
    return _LATENCY["other"]


def warp_cycles(code: Sequence[Instruction], passes: Sequence[float]) -> float:
    """Cycles that one warp, alone on its scheduler, needs for these passes of each instruction.

    Replays stall counts and scoreboard waits in address order; asynchronous tensor-core work is not in it.
    Without scheduling bits every instruction takes one cycle.
    """
    ready = [0.0] * 6
    now = total = 0.0
    for instruction, weight in zip(code, passes, strict=True):
        if not weight:
            continue
        started = now
        control = instruction.control
        waits = control >> 11 & 0x3F
        for board in range(6):
            if waits >> board & 1:
                now = max(now, ready[board])
        issued = now
        now += max(1, control & 0xF)
        if control:
            latency = _latency(instruction.opcode.split(".")[0])
            written, read = control >> 5 & 7, control >> 8 & 7
            if written < 6:
                ready[written] = issued + latency
            if read < 6:
                ready[read] = max(ready[read], issued + _LATENCY["other"])
        total += weight * (now - started)
    return total
