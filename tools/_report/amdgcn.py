"""AMD: from LLVM's amdgcn assembly text to instructions, kinds and resources."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from tools._report.control_flow import Instruction, reachable

_LINE = re.compile(
    r"^\s+(?P<opcode>(?:v|s|ds|global|buffer|scratch|flat)_[a-z0-9_]+)(?:\s+(?P<operands>[^;]*?))?\s*(?:;.*)?$"
)
_LABEL = re.compile(r"^(?P<label>\.LBB[\w]+):")
_FIELDS = {
    "registers": re.compile(r"^\s+\.vgpr_count:\s+(\d+)", re.M),
    "accumulators": re.compile(r"\.agpr_count:\s+(\d+)"),
    "vector_spills": re.compile(r"^\s+\.vgpr_spill_count:\s+(\d+)", re.M),
    "scalar_spills": re.compile(r"^\s+\.sgpr_spill_count:\s+(\d+)", re.M),
    "scratch": re.compile(r"^; ScratchSize: (\d+)", re.M),
    "occupancy": re.compile(r"^; Occupancy: (\d+)", re.M),
}

# Quarter rate on CDNA3: a wave takes 16 cycles, not 4.
_SPECIAL = re.compile(
    r"^v_(?:exp|log|rcp|rsq|sqrt|sin|cos|rcp_iflag)_f(?:32|16)|^v_mul_(?:lo|hi)_[ui]32|^v_mad_[ui]64"
)
_TRANSCENDENTAL = re.compile(r"^v_(?:exp|log|rcp|rsq|sqrt|sin|cos|rcp_iflag)_f(?:32|16)")
_ACCESS = {
    "dwordx4": 128,
    "dwordx3": 96,
    "dwordx2": 64,
    "dword": 32,
    "ushort": 16,
    "short": 16,
    "ubyte": 8,
    "byte": 8,
}
QUARTER_RATE = 4.0
_MATRIX = re.compile(r"^v_s?mfma?c?_[a-z]+\d+_(?P<m>\d+)x(?P<n>\d+)x(?P<k>\d+)")
_WAVE = 64
_CYCLES = 4.0  # a wave of 64 on 16 lanes
_STORE = re.compile(r"^(?:global|buffer|flat)_store_")
# Shortest region behind a test of the execution mask that counts as a slow path, in vector instructions: a masked
# load or store is shorter, a Payne-Hanek reduction or a scaled division longer.
SLOW_PATH_INSTRUCTIONS = 24


class Usage(NamedTuple):
    """Resources of a function as LLVM prints them.

    Attributes:
        registers: vector registers a lane, architectural and accumulation ones together.
        accumulators: accumulation registers among them.
        vector_spills: spilled vector registers.
        scalar_spills: spilled scalar registers.
        scratch: bytes of scratch a lane.
        occupancy: waves a SIMD that registers allow.
    """

    registers: int
    accumulators: int
    vector_spills: int
    scalar_spills: int
    scratch: int
    occupancy: int


def parse_usage(text: str) -> Usage:
    """The resources that the assembly text carries.

    Raises:
        ValueError: one of them is missing.
    """
    values = {}
    for name, pattern in _FIELDS.items():
        found = pattern.search(text)
        if found is None:
            raise ValueError(f"the amdgcn text has no {name} ({pattern.pattern}).")
        values[name] = int(found[1])
    return Usage(**values)


def parse(text: str) -> list[Instruction]:
    """Instructions of the kernel, up to the end of its code.

    Raises:
        ValueError: there are none, or a branch goes to a label that is not there.
    """
    rows: list[tuple[str, str]] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if line.startswith(".Lfunc_end"):
            break
        label = _LABEL.match(line)
        if label is not None:
            labels[label["label"]] = len(rows)
            continue
        found = _LINE.match(line)
        if found is not None:
            rows.append((found["opcode"], found["operands"] or ""))
    if not rows:
        raise ValueError("the amdgcn text holds no instruction.")
    code = []
    for opcode, operands in rows:
        target = None
        if opcode.startswith(("s_branch", "s_cbranch")):
            if operands.strip() not in labels:
                raise ValueError(f"{opcode} {operands}: no such label in the assembly.")
            target = labels[operands.strip()]
        ends = opcode in ("s_branch", "s_endpgm", "s_setpc_b64")
        code.append(Instruction(opcode, operands, opcode.startswith("s_cbranch"), target, ends))
    return code


def access_bits(opcode: str) -> int:
    """Bits that one lane moves with this instruction.

    >>> access_bits("global_load_dwordx4"), access_bits("ds_read_b64"), access_bits("ds_write2_b32")
    (128, 64, 64)
    """
    if opcode.startswith("ds_"):
        found = re.search(r"_b(\d+)", opcode)
        pairs = 2 if re.match(r"ds_(?:read|write|load|store)2", opcode) else 1
        return pairs * int(found[1]) if found else 32
    return next((bits for name, bits in _ACCESS.items() if opcode.endswith(name)), 32)


def kinds(instruction: Instruction) -> dict[str, float]:
    """What an instruction counts as; see `sass.kinds`. Only vector instructions take the `issue` slot."""
    opcode = instruction.opcode
    count: dict[str, float] = {"instructions": 1}
    shape = _MATRIX.match(opcode)
    if shape is not None:  # on the matrix core, beside the vector unit
        count["tensor"] = 1
        count["tensor_flops"] = 2.0 * int(shape["m"]) * int(shape["n"]) * int(shape["k"]) / _WAVE
    elif opcode.startswith("v_"):
        count["issue"] = 1
        if "_f64" in opcode:
            count["fp64"] = 1
        elif _SPECIAL.match(opcode):
            count.update({"issue": QUARTER_RATE, "special": 1})
            if _TRANSCENDENTAL.match(opcode):
                count["mufu"] = 1
    elif opcode.startswith("scratch_"):
        count.update({"memory": 1, "local": 1})
    elif opcode.startswith(("global_", "buffer_", "flat_")):
        count["memory"] = 1
        if "_load_" in opcode:
            count[f"load_{access_bits(opcode)}"] = 1
        elif "_store_" in opcode:
            count[f"store_{access_bits(opcode)}"] = 1
    elif opcode.startswith("ds_"):
        count.update({"memory": 1, "shared_bytes": access_bits(opcode) / 8})
    elif opcode.startswith("s_swappc"):
        count["slow_path"] = 1
    return count


def warp_cycles(code: Sequence[Instruction], passes: Sequence[float]) -> float:
    """Cycles that one wave, alone on its SIMD, needs for these passes: 4 a vector instruction, 16 at quarter rate.

    Waits for memory and for the matrix core are not in it.
    """
    return sum(
        weight * _CYCLES * kinds(instruction).get("issue", 1.0 / _CYCLES)
        for instruction, weight in zip(code, passes, strict=True)
        if weight
    )


def slow_paths(code: Sequence[Instruction]) -> int:
    """Regions of at least `SLOW_PATH_INSTRUCTIONS` vector instructions that a test of the mask may skip.

    A region that stores to memory is none: LLVM moves the computation of what is stored under the mask of its store.
    """
    alive = reachable(code)
    found = 0
    for index, instruction in enumerate(code):
        if instruction.opcode != "s_cbranch_execz" or index not in alive or instruction.target is None:
            continue
        skipped = [other.opcode for other in code[index + 1 : max(index + 1, instruction.target)]]
        length = sum(opcode.startswith("v_") for opcode in skipped)
        found += length >= SLOW_PATH_INSTRUCTIONS and not any(_STORE.match(opcode) for opcode in skipped)
    return found
