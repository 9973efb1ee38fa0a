"""What the four chips can do: the only place where limits and rates stand.

Rates are lanes (thread operations) a cycle and multiprocessor unless they say otherwise; a "multiprocessor" is a
streaming multiprocessor on NVIDIA and a compute unit on AMD.

Sources:
    [A] NVIDIA A100 Tensor Core GPU Architecture, white paper v1.0 (2020), and the A100 80GB data sheet.
    [H] NVIDIA H100 Tensor Core GPU Architecture, white paper v1.04 (2023), SXM5 column.
    [B] NVIDIA HGX B200 data sheet (2025), dense rates (half of the figures with sparsity), one of eight GPUs.
    [C] CUDA C++ Programming Guide 13, "Arithmetic Instructions" and "Technical Specifications per Compute
        Capability".
    [M] AMD CDNA 3 white paper (2023), MI300X data sheet, and "CDNA3 Instruction Set Architecture" (2024).
    [O] LLVM's AMDGPU back end: 512 vector registers a lane and SIMD, allocated by eights, 8 waves a SIMD on gfx942.
Second-level bandwidths are not published; those here are the order that public microbenchmarks report (chips and
cheese 2023: 5.5 to 7 TB/s on H100) and only matter for kernels that the report then says are bound by "cache".
"""

from typing import NamedTuple


class Chip(NamedTuple):
    """One accelerator.

    Attributes:
        name: what the report calls it.
        lanes: threads of a warp or wave.
        multiprocessors: how many it has.
        clock_hz: boost clock that its published tensor rate stands for.
        schedulers: warps that may issue each cycle, a multiprocessor.
        registers: registers of 32 bits a multiprocessor (NVIDIA), or a lane and SIMD (AMD).
        register_step: registers a thread are allocated in multiples of this.
        max_warps: resident warps or waves a multiprocessor.
        max_programs: resident programs (blocks) a multiprocessor.
        shared_bytes: shared memory a multiprocessor.
        program_shared_bytes: most of it that a program may have.
        reserved_shared_bytes: taken by the system from each program.
        tensor_columns: columns of tensor memory a multiprocessor (sm_100), else 0.
        rates: lanes a cycle by pipe; `issue` counts all instructions.
        shared_rate: bytes of shared memory a cycle and multiprocessor.
        tensor_flops: dense flops/s by number format.
        sync_fraction: part of it that the older warp-wide HMMA reaches where wider instructions exist.
        memory_rate: bytes/s from memory.
        cache_rate: bytes/s from the second-level cache.
        launch_seconds: what a launch costs before it does anything.
    """

    name: str
    lanes: int
    multiprocessors: int
    clock_hz: float
    schedulers: int
    registers: int
    register_step: int
    max_warps: int
    max_programs: int
    shared_bytes: int
    program_shared_bytes: int
    reserved_shared_bytes: int
    tensor_columns: int
    rates: dict[str, float]
    shared_rate: float
    tensor_flops: dict[str, float]
    memory_rate: float
    cache_rate: float
    sync_fraction: float = 1.0
    launch_seconds: float = 4e-6


CHIPS: dict[str, Chip] = {
    "sm_80": Chip(  # [A], [C] column 8.0
        name="A100",
        lanes=32,
        multiprocessors=108,
        clock_hz=1.41e9,
        schedulers=4,
        registers=65536,
        register_step=8,
        max_warps=64,
        max_programs=32,
        shared_bytes=164 * 1024,
        program_shared_bytes=163 * 1024,
        reserved_shared_bytes=1024,
        tensor_columns=0,
        rates={"issue": 128, "fma": 64, "imad": 64, "alu": 64, "special": 16, "memory": 32, "fp64": 32},
        shared_rate=128,
        tensor_flops={"tf32": 156e12, "fp16": 312e12, "bf16": 312e12},
        memory_rate=2.039e12,
        cache_rate=4e12,
    ),
    "sm_90": Chip(  # [H], [C] column 9.0
        name="H100",
        lanes=32,
        multiprocessors=132,
        clock_hz=1.83e9,
        schedulers=4,
        registers=65536,
        register_step=8,
        max_warps=64,
        max_programs=32,
        shared_bytes=228 * 1024,
        program_shared_bytes=227 * 1024,
        reserved_shared_bytes=1024,
        tensor_columns=0,
        rates={"issue": 128, "fma": 128, "imad": 64, "alu": 64, "special": 16, "memory": 32, "fp64": 64},
        shared_rate=128,
        tensor_flops={"tf32": 494.7e12, "fp16": 989.4e12, "bf16": 989.4e12},
        memory_rate=3.35e12,
        cache_rate=5.5e12,
        sync_fraction=0.62,  # Luo et al., "Benchmarking and Dissecting the Nvidia Hopper GPU Architecture" (2024)
    ),
    "sm_100": Chip(  # [B], [C] column 10.0
        name="B200",
        lanes=32,
        multiprocessors=148,
        clock_hz=1.85e9,
        schedulers=4,
        registers=65536,
        register_step=8,
        max_warps=64,
        max_programs=32,
        shared_bytes=228 * 1024,
        program_shared_bytes=227 * 1024,
        reserved_shared_bytes=1024,
        tensor_columns=512,
        rates={"issue": 128, "fma": 128, "imad": 64, "alu": 64, "special": 16, "memory": 32, "fp64": 64},
        shared_rate=128,
        tensor_flops={"tf32": 1100e12, "fp16": 2250e12, "bf16": 2250e12},
        memory_rate=8e12,
        cache_rate=9e12,
        sync_fraction=0.25,  # an assumption: the A100's rate a multiprocessor and cycle
    ),
    # A wave of 64 takes 4 cycles on one of four 16-lane SIMDs, a quarter-rate one 16 [M]; scalar, memory and branch
    # instructions of other waves issue beside it, so that only vector instructions count against `issue`.
    "gfx942": Chip(
        name="MI300X",
        lanes=64,
        multiprocessors=304,
        clock_hz=2.1e9,
        schedulers=4,
        registers=512,
        register_step=8,
        max_warps=32,
        max_programs=16,
        shared_bytes=64 * 1024,
        program_shared_bytes=64 * 1024,
        reserved_shared_bytes=0,
        tensor_columns=0,
        rates={"issue": 64, "special": 16, "memory": 64, "fp64": 64},
        shared_rate=128,
        tensor_flops={"fp32": 163.4e12, "tf32": 653.7e12, "fp16": 1307.4e12, "bf16": 1307.4e12},
        memory_rate=5.3e12,
        cache_rate=17.2e12,
    ),
}


class Footprint(NamedTuple):
    """What one program occupies.

    Attributes:
        warps: warps or waves.
        registers: registers a thread; on AMD architectural and accumulation registers together.
        shared_bytes: shared memory, static and dynamic, without what the system reserves.
        tensor_columns: columns of tensor memory (sm_100).
    """

    warps: int
    registers: int
    shared_bytes: int
    tensor_columns: int = 0


def resident_programs(chip: Chip, footprint: Footprint) -> int:
    """How many such programs fit one multiprocessor at once; 0 if not even one does.

    >>> resident_programs(CHIPS["sm_90"], Footprint(warps=4, registers=128, shared_bytes=0))
    4
    """
    step = chip.register_step
    registers = max(step, -(-footprint.registers // step) * step)
    if chip.lanes == 32:
        per_warp = registers * chip.lanes
        # Registers belong to a scheduler, so that warps are counted by scheduler.
        warps = chip.schedulers * (chip.registers // chip.schedulers // per_warp)
    else:
        warps = chip.schedulers * min(chip.registers // registers, chip.max_warps // chip.schedulers)
    fits = [min(warps, chip.max_warps) // footprint.warps, chip.max_programs]
    if footprint.shared_bytes > chip.program_shared_bytes:
        return 0
    shared = footprint.shared_bytes + chip.reserved_shared_bytes
    if shared:
        fits.append(chip.shared_bytes // shared)
    if footprint.tensor_columns and chip.tensor_columns:
        fits.append(chip.tensor_columns // footprint.tensor_columns)
    return min(fits)
