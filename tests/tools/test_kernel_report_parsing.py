"""Machine code into loops and counts, on stored disassembly and on code small enough to count by hand."""

from __future__ import annotations

import doctest
from pathlib import Path
from types import ModuleType

import pytest

from tools._report import amdgcn, chips, sass, tables
from tools._report.control_flow import Instruction, TripsError, loops, reachable, weights

DATA = Path(__file__).parent / "data"
ROWS_SM_90 = sass.parse((DATA / "rows-sm_90.sass").read_text())
DOT_SM_100 = sass.parse((DATA / "dot-sm_100.sass").read_text())
ROWS_GFX942_TEXT = (DATA / "rows-gfx942.s").read_text()
ROWS_GFX942 = amdgcn.parse(ROWS_GFX942_TEXT)


def op(opcode: str, target: int | None = None, *, ends: bool = False, guarded: bool = True) -> Instruction:
    return Instruction(opcode, "", guarded, target, ends)


def shapes(code: list[Instruction], waiting: tuple[str, ...] = ()) -> list[tuple[int, int, int, bool]]:
    return [(loop.header, len(loop.members), loop.depth, loop.waits) for loop in loops(code, waiting)]


def total(code: list[Instruction], kind: str, passes: list[float]) -> float:
    kinds = amdgcn.kinds if code is ROWS_GFX942 else sass.kinds
    return sum(w * kinds(i).get(kind, 0.0) for i, w in zip(code, passes, strict=True))


def test_loops_of_a_persistent_kernel_on_sm_90() -> None:
    # The rows' loop; in it exp2 unrolled four times and its remainder; then the rows' loop again for n_inner <= 0.
    assert shapes(ROWS_SM_90, sass.WAITING) == [
        (18, 99, 0, False),
        (41, 35, 1, False),
        (99, 11, 1, False),
        (119, 8, 0, False),
    ]
    passes = weights(ROWS_SM_90, loops(ROWS_SM_90), (2, 3))
    # Four elements a thread: 16 exp2 in the unrolled loop, 4 in the remainder, 12 in straight code beside them.
    straight = total(ROWS_SM_90, "mufu", weights(ROWS_SM_90, loops(ROWS_SM_90), (0, 0)).each)
    assert total(ROWS_SM_90, "mufu", passes.each) == straight + 2 * 16 + 3 * 4
    assert passes.looped
    assert passes.inner == 2


def test_a_thread_loads_sixteen_bytes_once_a_row() -> None:
    passes = weights(ROWS_SM_90, loops(ROWS_SM_90), (1, 1))
    assert total(ROWS_SM_90, "load_128", passes.each) == 1
    assert total(ROWS_SM_90, "store_128", passes.each) == 1
    # The loop for n_inner <= 0 is outside the main loop and runs once in the count.
    assert total(ROWS_SM_90, "load_128", passes.once) == 1


def test_waits_behind_the_exit_are_no_loops_around_the_rest() -> None:
    found = loops(DOT_SM_100, sass.WAITING)
    main = max(found, key=lambda loop: len(loop.members))
    waits = [loop for loop in found if loop.waits]
    assert main.depth == 0
    assert not main.waits
    assert len(main.members) < len(DOT_SM_100) / 2
    assert [len(loop.members) for loop in waits] == [2, 2]
    # One wait belongs to the loop though it stands behind EXIT, the other comes after it; neither asks for trips.
    assert sorted(loop.depth for loop in waits) == [0, 1]
    passes = weights(DOT_SM_100, found, ())
    assert total(DOT_SM_100, "tensor", passes.each) == 8


def test_loops_of_the_same_kernel_on_gfx942() -> None:
    assert shapes(ROWS_GFX942) == [(30, 79, 0, False), (47, 42, 1, False), (93, 7, 1, False)]
    passes = weights(ROWS_GFX942, loops(ROWS_GFX942), (1, 0))
    assert total(ROWS_GFX942, "mufu", passes.each) == 16  # two elements a lane, unrolled eight times
    assert total(ROWS_GFX942, "load_64", passes.each) == 1
    # A quarter-rate instruction takes four slots: 16 exp2, 8 packed products in the loop, and straight code.
    inner = [float(42 > i - 47 >= 0) for i in range(len(ROWS_GFX942))]
    assert total(ROWS_GFX942, "issue", inner) == 16 * 4 + 8


def test_trips_must_fit_the_loops() -> None:
    with pytest.raises(TripsError, match=r"1 entries but the machine code has 2 inner loops .*: 35, 11\)"):
        weights(ROWS_SM_90, loops(ROWS_SM_90), (5,))


def test_a_rare_case_that_loops_is_not_taken_for_the_main_loop() -> None:
    # Of 30 instructions 2 and 3 loop: the digits of a range reduction in a program without a main loop.
    code = [op("FMUL"), op("FMUL"), op("IMAD"), op("BRA", 2), *[op("FFMA")] * 25, op("EXIT", ends=True)]
    with pytest.raises(TripsError, match="holds 2 of 30 instructions; looped must say"):
        weights(code, loops(code), ())
    assert weights(code, loops(code), (), True).each == [0, 0, 1, 1, *[0] * 26]
    assert weights(code, loops(code), (6,), False).each == [1, 1, 6, 6, *[1] * 26]
    with pytest.raises(TripsError, match="no loop"):
        weights(code[4:], [], (), True)


def test_nested_trips_multiply() -> None:
    code = [
        op("S2R"),
        op("IADD3"),
        op("FFMA"),
        op("BRA", 2),
        op("BRA", 1),
        op("BRA", 1),
        op("EXIT", ends=True),
    ]
    # 1..5 is the outer loop (two branches back to one header), 2..3 the inner one.
    assert shapes(code) == [(1, 5, 0, False), (2, 2, 1, False)]
    passes = weights(code, loops(code), (7,))
    assert passes.each == [0, 1, 7, 7, 1, 1, 0]
    assert passes.once == [1, 0, 0, 0, 0, 0, 1]


def test_a_jump_back_into_the_middle_is_no_loop() -> None:
    # 1 -> 4 (rare) -> 2: the target does not dominate the jump.
    code = [op("S2R"), op("BRA", 4), op("FFMA"), op("EXIT", ends=True), op("FADD"), op("BRA", 2, ends=True)]
    assert loops(code) == []
    assert weights(code, [], ()).each == [1.0] * 6


def test_what_follows_the_last_exit_is_not_counted() -> None:
    code = [op("FFMA"), op("EXIT", ends=True, guarded=False), op("BRA", 2, ends=True), op("NOP")]
    assert reachable(code) == {0, 1}
    assert loops(code) == []
    assert weights(code, [], ()).each == [1, 1, 0, 0]


def test_no_code_has_no_loops() -> None:
    assert loops([]) == []
    assert reachable([]) == frozenset()


@pytest.mark.parametrize(
    ("line", "guarded", "ends"),
    [
        ("/*0010*/ @!P0 BRA `(.L_x_0) ;", True, False),
        ("/*0010*/ BRA.U UP0, `(.L_x_0) ;", True, False),
        ("/*0010*/ BRA `(.L_x_0) ;", False, True),
        ("/*0010*/ BRA `(.L_x_0);", False, True),
        ("/*0010*/ @P0 CALL.REL.NOINC `(.L_x_0) ;", True, False),
    ],
)
def test_branches(line: str, guarded: bool, ends: bool) -> None:
    code = sass.parse(f".L_x_0:\n /*0000*/ NOP ;\n {line}\n")
    assert (code[1].target, code[1].guarded, code[1].ends) == (0, guarded, ends)


def test_calls() -> None:
    """A call within the function is a branch, one to a division is a slow path, one to a trap is neither."""
    text = """\
.L_x_0:
        /*0000*/    @P0 CALL.REL.NOINC `(.L_x_0) ;
        /*0010*/    CALL.REL.NOINC `($__internal_0_$__cuda_sm3x_div_rn_noftz_f32_slowpath) ;
        /*0020*/    CALL.REL.NOINC `($__internal_1_$__cuda_sm10x_tcgen05_guardrail_trap_unallocated_columns) ;
    """
    assert [sass.kinds(i).get("slow_path", 0) for i in sass.parse(text)] == [0, 1, 0]


def test_scheduling_bits() -> None:
    text = """\
        /*0000*/    MUFU.EX2 R0, R4 ;    /* 0x0000000400007308 */
                                         /* 0x000e240000000800 */
        /*0010*/    FADD R1, R0, R0 ;    /* 0x0000000000017221 */
                                         /* 0x001fc80000000000 */
    """
    code = sass.parse(text)
    # MUFU sets scoreboard 0 and stalls 2 cycles; FADD waits for it (24 cycles) and stalls 4.
    assert [i.control & 0xF for i in code] == [2, 4]
    assert code[0].control >> 5 & 7 == 0
    assert code[1].control >> 11 & 0x3F == 1
    assert sass.warp_cycles(code, [1.0, 1.0]) == 24 + 4
    assert sass.warp_cycles(code, [1.0, 0.0]) == 2


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("HGMMA.64x64x8.F32.TF32", {"tensor": 1, "tensor_flops": 2.0 * 64 * 64 * 8 / 128}),
        (
            "HMMA.1688.F32.TF32",
            {"tensor": 1, "tensor_sync": 1, "tensor_flops": 64.0, "tensor_sync_flops": 64.0},
        ),
        (
            "HMMA.16816.F32",
            {"tensor": 1, "tensor_sync": 1, "tensor_flops": 128.0, "tensor_sync_flops": 128.0},
        ),
        ("UTCHMMA", {"tensor": 1}),
        ("DFMA", {"fp64": 1}),
        ("F2F.F64.F32", {"fp64": 1}),
        ("MUFU.RSQ64H", {"fp64": 1}),
        ("MUFU.EX2", {"special": 1, "mufu": 1}),
        ("F2I.TRUNC.NTZ", {"special": 1}),
        ("I2FP.F32.U32", {"alu": 1}),
        ("FFMA", {"fma": 1}),
        ("FFMA2", {"fma": 2}),
        ("IMAD.WIDE.U32", {"fma": 1, "imad": 1}),
        ("LDL.LU", {"memory": 1, "local": 1}),
        ("LDG.E.128.CONSTANT", {"memory": 1, "load_128": 1}),
        ("LDG.E", {"memory": 1, "load_32": 1}),
        ("LDG.E.U16", {"memory": 1, "load_16": 1}),
        ("STG.E.64", {"memory": 1, "store_64": 1}),
        ("LDS.128", {"memory": 1, "shared_bytes": 16}),
        ("LDSM.16.M88.4", {"memory": 1, "shared_bytes": 16}),
        ("SHFL.BFLY", {"memory": 1, "shared_bytes": 4}),
        ("BSSY", {"slow_path": 1}),
        ("CALL.REL.NOINC", {"slow_path": 1}),
        ("LOP3.LUT", {"alu": 1}),
        ("UIADD3", {}),
        ("BAR.SYNC.DEFER_BLOCKING", {}),
    ],
)
def test_kinds_on_nvidia(opcode: str, expected: dict[str, float]) -> None:
    assert sass.kinds(Instruction(opcode)) == {"instructions": 1, "issue": 1, **expected}


@pytest.mark.parametrize(
    ("opcode", "expected"),
    [
        ("v_mfma_f32_32x32x2_f32", {"tensor": 1, "tensor_flops": 64.0}),
        ("v_mfma_f32_16x16x8_xf32", {"tensor": 1, "tensor_flops": 64.0}),
        ("v_fma_f64", {"issue": 1, "fp64": 1}),
        ("v_exp_f32_e32", {"issue": 4, "special": 1, "mufu": 1}),
        ("v_mul_hi_u32", {"issue": 4, "special": 1}),
        ("v_pk_fma_f32", {"issue": 1}),
        ("scratch_store_dword", {"memory": 1, "local": 1}),
        ("global_load_dwordx4", {"memory": 1, "load_128": 1}),
        ("buffer_load_ushort", {"memory": 1, "load_16": 1}),
        ("ds_write2_b32", {"memory": 1, "shared_bytes": 8}),
        ("s_waitcnt", {}),
    ],
)
def test_kinds_on_amd(opcode: str, expected: dict[str, float]) -> None:
    assert amdgcn.kinds(Instruction(opcode)) == {"instructions": 1, **expected}


def test_usage_on_nvidia() -> None:
    text = (
        "Function k:\n  REG:255 STACK:48 SHARED:1024 LOCAL:0 CONSTANT[0]:936 TEXTURE:0 SURFACE:0 SAMPLER:0\n"
    )
    assert sass.parse_usage(text) == sass.Usage(registers=255, stack=48, shared=1024, local=0)
    with pytest.raises(ValueError, match="no line with REG"):
        sass.parse_usage("Resource usage:")


def test_usage_on_amd() -> None:
    usage = amdgcn.parse_usage(ROWS_GFX942_TEXT)
    assert usage == amdgcn.Usage(
        registers=6, accumulators=0, vector_spills=0, scalar_spills=0, scratch=0, occupancy=8
    )
    with pytest.raises(ValueError, match="no scratch"):
        amdgcn.parse_usage(ROWS_GFX942_TEXT.replace("ScratchSize", "Size"))


@pytest.mark.parametrize("length", [10, 40])
def test_slow_paths_on_amd_are_long_masked_regions(length: int) -> None:
    region = "\tv_add_f32_e32 v0, v1, v2\n" * length
    code = amdgcn.parse(f"\ts_cbranch_execz .LBB0_1\n{region}.LBB0_1:\n\ts_endpgm\n")
    assert amdgcn.slow_paths(code) == int(length > amdgcn.SLOW_PATH_INSTRUCTIONS)
    stored = amdgcn.parse(
        f"\ts_cbranch_execz .LBB0_1\n{region}\tglobal_store_dword v0, v1, s[0:1]\n.LBB0_1:\n\ts_endpgm\n"
    )
    assert amdgcn.slow_paths(stored) == 0


@pytest.mark.parametrize("parse", [sass.parse, amdgcn.parse], ids=["sass", "amdgcn"])
def test_text_without_code_is_an_error(parse) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError, match="no instruction"):
        parse("nothing here\n")
    with pytest.raises(ValueError, match="no such label"):
        parse(" /*0000*/ BRA `(.L_x_9) ;\n\ts_branch .LBB0_9\n")


@pytest.mark.parametrize("module", [sass, amdgcn, chips, tables])
def test_examples_in_docstrings(module: ModuleType) -> None:
    failed, tried = doctest.testmod(module)
    assert tried > 0
    assert failed == 0
