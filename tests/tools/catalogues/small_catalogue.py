"""A catalogue for the report's own tests: one kernel that keeps its bars, and one line for each way to fail."""

import triton
import triton.language as tl

from sdp_kernels.triton.catalog import SM_90, Bars, Entry, Launch, Operation, Variant, Work


@triton.jit
def _scale_kernel(x_ptr, out_ptr, n, FACTOR: tl.constexpr, DOUBLE: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + offs, mask=offs < n)
    if DOUBLE:
        wide = x.to(tl.float64)
        x = (wide * wide + FACTOR).to(tl.float32)
    else:
        x *= FACTOR
    tl.store(out_ptr + offs, x, mask=offs < n)


@triton.jit
def _unknown_kernel(x_ptr, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), tl.no_such_function(BLOCK))


SIGNATURE = {"x_ptr": "*fp32", "out_ptr": "*fp32", "n": "i32"}
WORK = Work("element", units_per_pass=1024, flops=1, read_bytes=4, written_bytes=4, problem=2.0**28)


def _scale(
    label: str, bars: Bars, *, double: bool = False, candidate: bool = False, note: str = ""
) -> Variant:
    constants = {"FACTOR": 2.5, "DOUBLE": double, "BLOCK": 1024}
    launches = {SM_90: Launch(num_warps=4)}
    return Variant(
        label, SIGNATURE, constants, launches, WORK, bars, aligned=("n",), candidate=candidate, note=note
    )


def entries() -> tuple[Entry, ...]:
    """What holds, what breaks a bar, what breaks it but is no more than a candidate, what does not compile."""
    name = "small_catalogue:_scale_kernel"
    misfit = _scale("missing", Bars())._replace(signature={"x_ptr": "*fp32", "n": "i32"})
    unknown = Variant("unknown", {"x_ptr": "*fp32"}, {"BLOCK": 16}, {SM_90: Launch()}, WORK)
    return (
        Entry("good", name, (_scale("plain", Bars(instructions=12, wide_loads=True, resident_programs=8)),)),
        Entry("double", name, (_scale("shipped", Bars(), double=True),)),
        Entry(
            "lost", name, (_scale("double", Bars(), double=True, candidate=True, note="double precision."),)
        ),
        Entry("tensor", name, (_scale("none", Bars(tensor=True, instructions=0.5)),)),
        Entry("misfit", name, (misfit,)),
        Entry("unknown", "small_catalogue:_unknown_kernel", (unknown,)),
    )


def operations() -> tuple[Operation, ...]:
    """Twice the same launch takes twice as long as one."""
    once = (("good", "plain"),)
    return (
        Operation("twice", once * 2, "scale", {}, against="once", at_most=1.5),
        Operation("once", once, "scale", {}),
    )
