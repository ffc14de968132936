/*
 * matrix_unit.cl - trials of matrix units, as the kernels that use them do: small whole numbers in, exact sums out.
 *
 *     out[n][r] = sum_k a[r][k] b[n][k]        k < 64; a, b bf16
 *
 * NVIDIA's, by PTX:
 * TRIAL_MMA: cp.async, ldmatrix and mma.sync by one warp, a 16 rows, b 8.
 * TRIAL_WGMMA: bulk copies that arrive at an mbarrier, and wgmma by one warpgroup, a 64 rows, b 8. Both lie swizzled as the
 * rows of a block do (VLCI_BLOCK_AT), in global memory and here.
 *
 * Of x86 processors:
 * TRIAL_AMX: 32 rows of a in tiles (VLCI_TILE_AT), 32 of b in pairs (VLCI_PAIR_AT); the sums leave and come back between.
 *
 * TRIAL_DOT: the same by products of pairs; a is rounded to what it is on the way.
 *
 * with: amx.clh dot.clh
 * x86: tdpbf16ps -DTRIAL_AMX -DAMX=1
 * x86: vdpbf16ps -DTRIAL_DOT -DDOT=1
 * ptx: sm_80 -DTRIAL_MMA
 * ptx: sm_90a -DTRIAL_WGMMA
 */
#ifdef TRIAL_MMA
__attribute__((reqd_work_group_size(32, 1, 1))) __kernel void
trial_mma(__global const uchar *a, __global const uchar *b, __global float *out) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024))); /* 16 rows of a, 8 of b */
    const uint lane = ptx_lane(), at = (uint)smem;
    for (uint i = lane; i < 24 * 8; i += 32)
        ptx_copy16(at + i * 16, i < 16 * 8 ? a + i * 16 : b + (i - 16 * 8) * 16, 16);
    __asm__ volatile("cp.async.commit_group;\n\tcp.async.wait_group 0;\n\tbar.sync 0;" ::: "memory");
    float d[4] = {0, 0, 0, 0};
    for (uint k = 0; k < 4; k++) {
        uint x[4], y[4];
        const uint row = lane & 15, chunk = 2 * k + (lane >> 4);
        const uint other = lane & 7, piece = 2 * k + (lane >> 3 & 1);
        PTX_LDMATRIX4(x, at + row * 128 + ((chunk ^ (row & 7)) << 4));
        PTX_LDMATRIX4(y, at + (16 + other) * 128 + ((piece ^ other) << 4));
        PTX_MMA_BF16(d, x, y[0], y[1]);
    }
    for (uint i = 0; i < 4; i++) out[((lane & 3) * 2 + (i & 1)) * 16 + (lane >> 2) + (i >> 1) * 8] = d[i];
}
#endif

#ifdef TRIAL_WGMMA
__attribute__((reqd_work_group_size(128, 1, 1))) __kernel void
trial_wgmma(__global const uchar *a, __global const uchar *b, __global float *out) {
    __local uchar smem[VLCI_PTX_LOCAL] __attribute__((aligned(1024)));
    const uint t = ptx_item(), at = (uint)smem, ready = at + 9 * 1024;
    if (t == 0) {
        ptx_barrier_init(ready, 1);
        __asm__ volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    }
    __asm__ volatile("bar.sync 0;" ::: "memory");
    if (t == 0) {
        ptx_barrier_expect(ready, 9 * 1024);
        ptx_bulk_copy(at, a, 8192, ready);
        ptx_bulk_copy(at + 8192, b, 1024, ready);
    }
    ptx_barrier_wait(ready, 0);
    float d[4] = {0, 0, 0, 0};
    PTX_WGMMA_FENCE();
    for (uint k = 0; k < 4; k++)
        __asm__ volatile("//~ wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
                         : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
                         : "l"(PTX_TILE_ROWS(at) + 2 * k), "l"(PTX_TILE_ROWS(at + 8192) + 2 * k));
    PTX_WGMMA_COMMIT();
    PTX_WGMMA_WAIT(0);
    for (uint i = 0; i < 4; i++) {
        PTX_KEEP(d[i]);
        out[((t & 3) * 2 + (i & 1)) * 64 + (t >> 5) * 16 + (t >> 2 & 7) + (i >> 1) * 8] = d[i];
    }
}
#endif

#ifdef TRIAL_AMX
AMX_DEFINE(amx_multiply, __global, __global, AMX_PAST, AMX_NEXT)

__attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
trial_amx(__global const uchar *a, __global const uchar *b, __global float *out) {
    float sum[VLCI_TILE * VLCI_TILE];
    amx_begin(amx_shapes);
    for (int i = 0; i < 2; i++) amx_multiply(a + i * 2048, b + i * 2048, b + i * 2048 + 1024, 1, i == 0, sum, b);
    amx_end();
    for (int n = 0; n < VLCI_TILE; n++)
        for (int r = 0; r < VLCI_TILE; r++) out[n * VLCI_TILE + r] = sum[r * VLCI_TILE + n];
}
#endif

#ifdef TRIAL_DOT
/* A row of a times 16 rows of b. */
WITH_DOT void trial_row(__global const ushort *a, __global const uint *b, float16 *out) {
    float16 sum = 0.0f;
    for (int i = 0; i < 2; i++) {
        float wide[VLCI_TILE];
        union {
            uint16 all;
            uint at[16];
        } x;
        for (int k = 0; k < VLCI_TILE; k++) wide[k] = bf16_to_f32(a[i * VLCI_TILE * VLCI_TILE + k]);
        const float16 low = vload16(0, wide), high = vload16(1, wide);
        DOT_PACK(low, high, &x.all)
        for (int p = 0; p < 16; p++) {
            const uint16 word = (uint16)(x.at[p]), pair = vload16(p, b + i * (VLCI_TILE * VLCI_TILE / 2));
            DOT_ADD(sum, word, pair);
        }
    }
    *out = sum;
}

__attribute__((reqd_work_group_size(1, 1, 1))) __kernel void
trial_dot(__global const ushort *a, __global const uint *b, __global float *out) {
    for (int r = 0; r < VLCI_TILE; r++)
        for (int half_n = 0; half_n < 2; half_n++) {
            union {
                float16 all;
                float at[16];
            } sum;
            trial_row(a + r * VLCI_TILE, b + half_n * 256, &sum.all);
            for (int i = 0; i < 16; i++) out[(half_n * 16 + i) * VLCI_TILE + r] = sum.at[i];
        }
}
#endif
