"""Every Triton kernel with the configurations that are shipped and the bars they must keep.

A line here is a promise that `tools/kernel_report.py` checks without a GPU: each variant is compiled ahead of
time for each of its targets, the machine code is counted, and a broken bar fails the tests.

Counting per unit: a variant names its unit ("normal", "sample", "element"; a noun in the singular) and how many of
them a program finishes in one pass of its persistent loop (or in its whole life where it has none). Everything that
`Work` gives per unit, and every bar per unit, is in that unit.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

SM_80, SM_90, SM_100, GFX942 = "sm_80", "sm_90", "sm_100", "gfx942"
NVIDIA = (SM_80, SM_90, SM_100)
TARGETS = (*NVIDIA, GFX942)

Constant = int | float | bool | str | None


class Launch(NamedTuple):
    """How a variant is built for one target.

    Attributes:
        num_warps: warps (NVIDIA, 32 lanes) or waves (AMD, 64 lanes) a program.
        num_stages: software pipelining of loads in loops.
        constants: compile-time constants that differ on this target, such as a tile or a precision.
        maxnreg: register limit given to ptxas (NVIDIA only); None leaves it to the compiler.
        work: the variant's `Work` on this target, where a tile, the unrolling of inner loops or the kind of dot
            differs (`WORK._replace(units_per_pass=128)`); None keeps the variant's own.
        options: further options of the compiler, by name.
    """

    num_warps: int = 4
    num_stages: int = 2
    constants: Mapping[str, Constant] = {}
    maxnreg: int | None = None
    work: "Work | None" = None
    options: Mapping[str, Constant] = {}


class Work(NamedTuple):
    """What one unit costs by the formulas, as against what the compiler made of it.

    Attributes:
        unit: what is counted, a noun in the singular.
        units_per_pass: units that a program finishes in one pass of its outer loop (or ever, without loop).
        inner_trips: passes of each inner loop within one pass of the loop around it, in the order of the
            machine code (loops that the compiler unrolled are not among them).
        tensor_flops: floating-point operations a unit in dots (a multiply-add is two), each dot counted once.
        tensor_passes: how many times the tensor cores do them: 1, or 3 for tf32x3.
        tensor_type: number format of the dots: "tf32", "fp16", "bf16", or "fp32" (AMD's fp32 matrix cores).
        flops: further floating-point operations a unit, outside dots; for the tables only.
        read_bytes: bytes a unit read from memory.
        written_bytes: bytes a unit written to memory.
        cached_bytes: bytes a unit read or written that stay within the second-level cache.
        problem: units of the problem that the predicted time is for.
        looped: whether a pass is one of the program's largest outermost loop; False counts the whole program, and all
            loops in it are inner ones. None finds out, and fails where the largest loop is only a small part.
    """

    unit: str
    units_per_pass: float
    inner_trips: tuple[float, ...] = ()
    tensor_flops: float = 0.0
    tensor_passes: int = 1
    tensor_type: str = "tf32"
    flops: float = 0.0
    read_bytes: float = 0.0
    written_bytes: float = 0.0
    cached_bytes: float = 0.0
    problem: float = 2.0**20
    looped: bool | None = None


class Bars(NamedTuple):
    """What must hold on every target, or the tests fail. None asks nothing.

    Attributes:
        spilled_bytes: most bytes of stack or scratch a thread, spills included.
        registers: most registers a thread (architectural and accumulation registers together on AMD).
        shared_bytes: most shared memory a program, static and dynamic; always at most the chip's limit.
        resident_programs: least programs that fit one multiprocessor at once.
        instructions: most instructions a unit and thread: thread instructions divided by units.
        fp64: most double-precision instructions.
        slow_paths: most divergent regions (BSSY), indexed branches (BRX) and calls, on AMD long masked regions that
            store nothing: what a range reduction or an exact division leaves.
        local: most loads and stores of local memory, wherever they stand.
        looped_local: most of them in one pass of the main loop, where they cost time.
        tensor: whether tensor-core instructions must be present.
        wide_loads: whether 16-byte loads from global memory must be present.
        over_bytes: largest predicted time of the kernel, its launch left out, over that of its bytes alone: through
            memory or, as far as they are cached, through the second-level cache, whichever takes longer.
    """

    spilled_bytes: int | None = 0
    registers: int | None = None
    shared_bytes: int | None = None
    resident_programs: int | None = 1
    instructions: float | None = None
    fp64: int | None = 0
    slow_paths: int | None = 0
    local: int | None = 0
    looped_local: float | None = 0
    tensor: bool = False
    wide_loads: bool = False
    over_bytes: float | None = None


class Variant(NamedTuple):
    """One configuration of a kernel.

    Attributes:
        label: short name, unique within the entry, such as "w64-high".
        signature: type of every argument that is not a compile-time constant, by name, as
            `triton.compiler.ASTSource` wants it: "*fp32", "*i32", "i32", "i64", "fp32".
        constants: compile-time constants by name.
        launches: one `Launch` a target; a target that is left out is not shipped there (say why in `note`).
        work: cost of a unit.
        bars: what must hold on all targets, save where `target_bars` says otherwise.
        target_bars: bars of single targets, in place of `bars`.
        aligned: names of integer arguments divisible by 16 (strides); pointers always are.
        equal_to_one: names of integer arguments that are 1 and specialised on it (unit strides).
        candidate: kept for the table of what lost: compiled and shown, never shipped, its bars not enforced.
        note: one sentence for the report.
    """

    label: str
    signature: Mapping[str, str]
    constants: Mapping[str, Constant]
    launches: Mapping[str, Launch]
    work: Work
    bars: Bars = Bars()
    target_bars: Mapping[str, Bars] = {}
    aligned: tuple[str, ...] = ()
    equal_to_one: tuple[str, ...] = ()
    candidate: bool = False
    note: str = ""

    def work_on(self, target: str) -> Work:
        """Cost of a unit on one target."""
        return self.launches[target].work or self.work

    def bars_on(self, target: str) -> Bars:
        """What must hold on one target."""
        return self.target_bars.get(target, self.bars)


class Entry(NamedTuple):
    """One kernel.

    Attributes:
        name: short name, unique in the catalogue; what `--only` chooses.
        kernel: "module:function" of the `@triton.jit` function, the module by its full name.
        variants: its configurations.
    """

    name: str
    kernel: str
    variants: tuple[Variant, ...]


class Operation(NamedTuple):
    """What a user calls: kernels in a row, with a bar on their predicted time together.

    Attributes:
        name: unique in the catalogue, such as "gradient w64 high".
        steps: (entry name, variant label) of every launch, in order; one that runs twice stands twice.
        call: what `make gpu` times: a name of `CALLS` in benchmarks/_gpu_calls.py, such as "grad" or "mixing sweep";
            empty where it is predicted only.
        shape: sizes of that call, exactly those that `NEEDED` there asks for: "rows", "columns" of normals; "width"
            (q = k = h), "depth", "samples" (antithetic pairs count twice), "precision" and, for HVPs, "directions";
            "vertices" and "degree" of graphs, and so on.
        against: name of the operation whose predicted time is the yardstick; empty for none.
        at_most: largest ratio of the predicted times.
        judged_on: targets where `at_most` is a bar; on the others the ratio is told.
    """

    name: str
    steps: tuple[tuple[str, str], ...]
    call: str
    shape: Mapping[str, Constant]
    against: str = ""
    at_most: float | None = None
    judged_on: tuple[str, ...] = TARGETS


def everywhere(launch: Launch) -> dict[str, Launch]:
    """The same launch on all targets."""
    return dict.fromkeys(TARGETS, launch)


def entries() -> tuple[Entry, ...]:
    """Every kernel, in the order of the report."""
    return (*_gaussian(), *_activations(), *(entry for family in _families() for entry in family.entries()))


def operations() -> tuple[Operation, ...]:
    """What the kernels are for, with the bars on predicted times."""
    normals = Operation("2^30 normals", (("normal", "32-bit"),), "normal", {"rows": 2**24, "columns": 64})
    return (normals, *(operation for family in _families() for operation in family.operations()))


def _families() -> tuple[Any, ...]:
    """Modules that hold the catalogue of one family each; they import the types above."""
    from sdp_kernels.triton import (
        anneal_catalog,
        expectation_catalog,
        graph_catalog,
        hadamard_catalog,
        probit_cut_catalog,
        projection_catalog,
        projection_sparse_catalog,
        replicas_catalog,
    )

    return (
        expectation_catalog,
        graph_catalog,
        probit_cut_catalog,
        anneal_catalog,
        hadamard_catalog,
        replicas_catalog,
        projection_catalog,
        projection_sparse_catalog,
    )


# A matrix of normals as the sampling of a head 64 wide asks for it, and one that cuts calls of Philox.
_POSITION = {
    "n_rows": "i32",
    "n_columns": "i32",
    "n_column_tiles": "i32",
    "seed": "i64",
    "purpose": "i32",
    "row_offset": "i64",
    "first_call": "i32",
    "lane_offset": "i32",
}


def _gaussian() -> tuple[Entry, ...]:
    def variant(
        label: str,
        pointer: str,
        unit: str,
        tile: tuple[int, int],
        instructions: tuple[float, float],
        aligned: bool,
        **constants: int,
    ) -> Variant:
        """Bars on instructions a unit: NVIDIA, AMD. AMD multiplies 32 x 32 -> 64 bits in two instructions."""
        strides = {"stride_row": "i32"} if aligned else {"stride_row": "i32", "stride_column": "i32"}
        numbers = {"ROWS": tile[0], "COLUMNS": tile[1], "ALIGNED": aligned}
        bars = Bars(instructions=instructions[0], registers=128, resident_programs=4)
        return Variant(
            label,
            signature={"out_ptr": pointer, **strides, **_POSITION},
            constants={**({"stride_column": 1} if aligned else {}), **constants, **numbers},
            launches=everywhere(Launch(num_warps=4)),
            work=Work(
                unit=unit,
                units_per_pass=tile[0] * tile[1],
                written_bytes=1 if pointer == "*i8" else 4,
                problem=2.0**30,
                looped=False,
            ),
            bars=bars,
            target_bars={GFX942: bars._replace(instructions=instructions[1])},
        )

    module = "sdp_kernels.triton.gaussian"
    normals = (
        variant("32-bit", "*fp32", "normal", (64, 64), (48, 56), True, BITS=32),
        variant("24-bit", "*fp32", "normal", (64, 64), (48, 56), True, BITS=24),
        variant("32-bit-row", "*fp32", "normal", (1, 4096), (48, 56), True, BITS=32),
        variant("32-bit-cut", "*fp32", "normal", (32, 64), (48, 76), False, BITS=32),
    )
    words = (
        variant("whole", "*i32", "word", (64, 64), (20, 36), True),
        variant("cut", "*i32", "word", (32, 64), (24, 54), False),
    )
    signs = (
        variant("whole", "*i8", "sign", (64, 256), (5, 9), True),
        variant("cut", "*i8", "sign", (16, 256), (20, 44), False),
    )
    return (
        Entry("normal", f"{module}:_normal_kernel", normals),
        Entry("uniform_bits", f"{module}:_words_kernel", words),
        Entry("rademacher", f"{module}:_signs_kernel", signs),
    )


# Most instructions an element of f, f' and f'' together with its load and stores.
_ACTIVATION_BARS = {
    "tanh": 44,
    "sigmoid": 44,
    "softplus": 48,
    "gelu": 50,
    "relu3": 18,
    "erf": 56,
    "phi_cdf": 48,
    "phi": 28,
}


def _activations() -> tuple[Entry, ...]:
    pointers = {"x_ptr": "*fp32", "f_ptr": "*fp32", "d_ptr": "*fp32", "h_ptr": "*fp32"}

    def variant(name: str, order: int) -> Variant:
        bar = _ACTIVATION_BARS[name]
        bars = Bars(instructions=bar, registers=64, resident_programs=8, wide_loads=True)
        written = 4 * (order + 1)
        return Variant(
            f"{name}-{order}",
            signature={**pointers, "n": "i32", "iota": "fp32"},
            constants={"ACTIVATION": name, "ORDER": order, "BLOCK": 1024},
            launches=everywhere(Launch(num_warps=4)),
            work=Work("element", 1024, read_bytes=4, written_bytes=written, problem=2.0**26, looped=False),
            bars=bars,
            target_bars={GFX942: bars._replace(instructions=bar + 8)},
            aligned=("n",),
        )

    variants = (variant("tanh", 0), variant("tanh", 1), *(variant(name, 2) for name in _ACTIVATION_BARS))
    return (Entry("activations", "sdp_kernels.triton.activations:_activation_kernel", variants),)
