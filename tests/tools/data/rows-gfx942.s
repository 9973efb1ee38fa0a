; triton 3.9.0: a persistent loop over rows with `for _ in range(n): x = exp2(x) * x` inside
	.amdgcn_target "amdgpu9.42-amd-amdhsa-unknown-gfx942"
	.amdhsa_code_object_version 5
	.text
	.globl	rows_kernel                     ; -- Begin function rows_kernel
	.p2align	8
	.type	rows_kernel,@function
rows_kernel:                            ; @rows_kernel
; %bb.12:
	s_load_dwordx2 s[2:3], s[0:1], 0x0
	s_load_dwordx8 s[4:11], s[0:1], 0x8
	s_load_dword s12, s[0:1], 0x28
	s_waitcnt lgkmcnt(0)
	s_branch .LBB0_0
	.p2align	8
; %bb.13:
.LBB0_0:
	s_cmp_ge_i32 s13, s6
	v_readfirstlane_b32 s0, v0
	s_cbranch_scc1 .LBB0_11
; %bb.1:                                ; %.lr.ph9
	v_and_b32_e32 v0, 63, v0
	s_cmp_gt_i32 s7, 0
	v_and_or_b32 v0, s0, 64, v0
	s_cselect_b64 s[0:1], -1, 0
	s_and_b32 s20, s7, 7
	s_cmp_gt_u32 s7, 7
	s_cselect_b64 s[14:15], -1, 0
	s_and_b32 s7, s7, 0x7ffffff8
	s_cmp_lg_u32 s20, 0
	v_lshlrev_b32_e32 v2, 3, v0
	s_cselect_b64 s[16:17], -1, 0
	s_mov_b32 s11, 0x27000
	s_mov_b32 s10, 0x7ffffffe
	s_branch .LBB0_3
.LBB0_2:                                ; %._crit_edge
                                        ;   in Loop: Header=BB0_3 Depth=1
	s_add_u32 s8, s4, s18
	s_addc_u32 s9, s5, s19
	s_and_b32 s9, s9, 0xffff
	s_add_i32 s13, s13, s12
	s_cmp_lt_i32 s13, s6
	s_waitcnt vmcnt(0)
	buffer_store_dwordx2 v[0:1], v2, s[8:11], 0 offen
	s_cbranch_scc0 .LBB0_11
.LBB0_3:                                ; =>This Loop Header: Depth=1
                                        ;     Child Loop BB0_6 Depth 2
                                        ;     Child Loop BB0_10 Depth 2
	s_lshl_b32 s8, s13, 8
	s_ashr_i32 s9, s8, 31
	s_lshl_b64 s[18:19], s[8:9], 2
	s_add_u32 s8, s2, s18
	s_addc_u32 s9, s3, s19
	s_and_b32 s9, s9, 0xffff
	buffer_load_dwordx2 v[0:1], v2, s[8:11], 0 offen
	s_and_b64 s[8:9], s[0:1], exec
	s_cselect_b32 s8, 1, 0
	s_cmp_lg_u32 s8, 1
	s_cbranch_scc1 .LBB0_2
; %bb.4:                                ; %.lr.ph.preheader
                                        ;   in Loop: Header=BB0_3 Depth=1
	s_and_b64 s[8:9], s[14:15], exec
	s_cselect_b32 s8, 1, 0
	s_cmp_lg_u32 s8, 1
	s_mov_b64 s[8:9], -1
	s_cbranch_scc1 .LBB0_8
; %bb.5:                                ; %.lr.ph.preheader1
                                        ;   in Loop: Header=BB0_3 Depth=1
	s_mov_b32 s8, s7
.LBB0_6:                                ; %.lr.ph
                                        ;   Parent Loop BB0_3 Depth=1
                                        ; =>  This Inner Loop Header: Depth=2
	s_waitcnt vmcnt(0)
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_add_i32 s8, s8, -8
	s_cmp_lg_u32 s8, 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_nop 0
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_nop 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_cbranch_scc1 .LBB0_6
; %bb.7:                                ; %._crit_edge.loopexit.unr-lcssa
                                        ;   in Loop: Header=BB0_3 Depth=1
	s_mov_b64 s[8:9], s[16:17]
.LBB0_8:                                ; %Flow1
                                        ;   in Loop: Header=BB0_3 Depth=1
	s_and_b64 vcc, exec, s[8:9]
	s_cbranch_vccz .LBB0_2
; %bb.9:                                ; %.lr.ph.epil.preheader
                                        ;   in Loop: Header=BB0_3 Depth=1
	s_mov_b32 s8, s20
.LBB0_10:                               ; %.lr.ph.epil
                                        ;   Parent Loop BB0_3 Depth=1
                                        ; =>  This Inner Loop Header: Depth=2
	s_waitcnt vmcnt(0)
	v_exp_f32_e32 v4, v0
	v_exp_f32_e32 v5, v1
	s_add_i32 s8, s8, -1
	s_cmp_lg_u32 s8, 0
	v_pk_mul_f32 v[0:1], v[0:1], v[4:5]
	s_cbranch_scc1 .LBB0_10
	s_branch .LBB0_2
.LBB0_11:                               ; %._crit_edge10
	s_endpgm
.Lfunc_end0:
	.size	rows_kernel, .Lfunc_end0-rows_kernel
	.section	.rodata,"a",@progbits
	.p2align	6, 0x0
	.amdhsa_kernel rows_kernel
		.amdhsa_group_segment_fixed_size 0
		.amdhsa_private_segment_fixed_size 0
		.amdhsa_kernarg_size 296
		.amdhsa_user_sgpr_count 13
		.amdhsa_user_sgpr_dispatch_ptr 0
		.amdhsa_user_sgpr_queue_ptr 0
		.amdhsa_user_sgpr_kernarg_segment_ptr 1
		.amdhsa_user_sgpr_dispatch_id 0
		.amdhsa_user_sgpr_kernarg_preload_length 11
		.amdhsa_user_sgpr_kernarg_preload_offset 0
		.amdhsa_user_sgpr_private_segment_size 0
		.amdhsa_uses_dynamic_stack 0
		.amdhsa_enable_private_segment 0
		.amdhsa_system_sgpr_workgroup_id_x 1
		.amdhsa_system_sgpr_workgroup_id_y 0
		.amdhsa_system_sgpr_workgroup_id_z 0
		.amdhsa_system_sgpr_workgroup_info 0
		.amdhsa_system_vgpr_workitem_id 0
		.amdhsa_next_free_vgpr 6
		.amdhsa_next_free_sgpr 21
		.amdhsa_accum_offset 8
		.amdhsa_reserve_vcc 1
		.amdhsa_reserve_xnack_mask 1
		.amdhsa_float_round_mode_32 0
		.amdhsa_float_round_mode_16_64 0
		.amdhsa_float_denorm_mode_32 3
		.amdhsa_float_denorm_mode_16_64 3
		.amdhsa_dx10_clamp 1
		.amdhsa_ieee_mode 1
		.amdhsa_fp16_overflow 0
		.amdhsa_tg_split 0
		.amdhsa_exception_fp_ieee_invalid_op 0
		.amdhsa_exception_fp_denorm_src 0
		.amdhsa_exception_fp_ieee_div_zero 0
		.amdhsa_exception_fp_ieee_overflow 0
		.amdhsa_exception_fp_ieee_underflow 0
		.amdhsa_exception_fp_ieee_inexact 0
		.amdhsa_exception_int_div_zero 0
	.end_amdhsa_kernel
	.text
                                        ; -- End function
	.set .Lrows_kernel.num_vgpr, 6
	.set .Lrows_kernel.num_agpr, 0
	.set .Lrows_kernel.numbered_sgpr, 21
	.set .Lrows_kernel.num_named_barrier, 0
	.set .Lrows_kernel.private_seg_size, 0
	.set .Lrows_kernel.uses_vcc, 1
	.set .Lrows_kernel.uses_flat_scratch, 0
	.set .Lrows_kernel.has_dyn_sized_stack, 0
	.set .Lrows_kernel.has_recursion, 0
	.set .Lrows_kernel.has_indirect_call, 0
	.section	.AMDGPU.csdata,"",@progbits
; Kernel info:
; codeLenInByte = 712
; TotalNumSgprs: 27
; NumVgprs: 6
; NumAgprs: 0
; TotalNumVgprs: 6
; ScratchSize: 0
; MemoryBound: 0
; FloatMode: 240
; IeeeMode: 1
; LDSByteSize: 0 bytes/workgroup (compile time only)
; SGPRBlocks: 3
; VGPRBlocks: 0
; NumSGPRsForWavesPerEU: 27
; NumVGPRsForWavesPerEU: 6
; AccumOffset: 8
; Occupancy: 8
; WaveLimiterHint : 0
; COMPUTE_PGM_RSRC2:SCRATCH_EN: 0
; COMPUTE_PGM_RSRC2:USER_SGPR: 13
; COMPUTE_PGM_RSRC2:TRAP_HANDLER: 0
; COMPUTE_PGM_RSRC2:TGID_X_EN: 1
; COMPUTE_PGM_RSRC2:TGID_Y_EN: 0
; COMPUTE_PGM_RSRC2:TGID_Z_EN: 0
; COMPUTE_PGM_RSRC2:TIDIG_COMP_CNT: 0
; COMPUTE_PGM_RSRC3_GFX90A:ACCUM_OFFSET: 1
; COMPUTE_PGM_RSRC3_GFX90A:TG_SPLIT: 0
	.text
	.p2alignl 6, 3212836864
	.fill 256, 4, 3212836864
	.section	.AMDGPU.gpr_maximums,"",@progbits
	.set amdgpu.max_num_vgpr, 0
	.set amdgpu.max_num_agpr, 0
	.set amdgpu.max_num_sgpr, 0
	.set amdgpu.max_num_named_barrier, 0
	.text
	.section	".note.GNU-stack","",@progbits
	.amdgpu_metadata
---
amdhsa.kernels:
  - .agpr_count:     0
    .args:
      - .address_space:  global
        .offset:         0
        .size:           8
        .value_kind:     global_buffer
      - .address_space:  global
        .offset:         8
        .size:           8
        .value_kind:     global_buffer
      - .offset:         16
        .size:           4
        .value_kind:     by_value
      - .offset:         20
        .size:           4
        .value_kind:     by_value
      - .address_space:  global
        .offset:         24
        .size:           8
        .value_kind:     global_buffer
      - .address_space:  global
        .offset:         32
        .size:           8
        .value_kind:     global_buffer
      - .offset:         40
        .size:           4
        .value_kind:     hidden_block_count_x
      - .offset:         44
        .size:           4
        .value_kind:     hidden_block_count_y
      - .offset:         48
        .size:           4
        .value_kind:     hidden_block_count_z
      - .offset:         52
        .size:           2
        .value_kind:     hidden_group_size_x
      - .offset:         54
        .size:           2
        .value_kind:     hidden_group_size_y
      - .offset:         56
        .size:           2
        .value_kind:     hidden_group_size_z
      - .offset:         58
        .size:           2
        .value_kind:     hidden_remainder_x
      - .offset:         60
        .size:           2
        .value_kind:     hidden_remainder_y
      - .offset:         62
        .size:           2
        .value_kind:     hidden_remainder_z
      - .offset:         80
        .size:           8
        .value_kind:     hidden_global_offset_x
      - .offset:         88
        .size:           8
        .value_kind:     hidden_global_offset_y
      - .offset:         96
        .size:           8
        .value_kind:     hidden_global_offset_z
      - .offset:         104
        .size:           2
        .value_kind:     hidden_grid_dims
    .group_segment_fixed_size: 0
    .kernarg_segment_align: 8
    .kernarg_segment_size: 296
    .max_flat_workgroup_size: 128
    .name:           rows_kernel
    .private_segment_fixed_size: 0
    .sgpr_count:     27
    .sgpr_spill_count: 0
    .symbol:         rows_kernel.kd
    .uniform_work_group_size: 1
    .uses_dynamic_stack: false
    .vgpr_count:     6
    .vgpr_spill_count: 0
    .wavefront_size: 64
amdhsa.target:   amdgpu9.42-amd-amdhsa-unknown-gfx942
amdhsa.version:
  - 1
  - 2
...

	.end_amdgpu_metadata
