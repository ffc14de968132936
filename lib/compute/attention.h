/**
 * attention.h (internal) - attention over cached rows, for prefill, decode and the towers. Never N x N.
 *
 * Rows of queries: [rows][heads * head_dim] f32, sequences one after another (ragged batch). Keys and values:
 * where kv/view.h says. Query i of sequence b sees the rows that its kv head held before this walk and, when
 * causal, the new rows 0 .. i, else all of them; with a window, the last of these.
 *
 * The ladders; VLCACHE_VARIANT=attention:RUNG forces a rung:
 *
 *     prefill  amx         a work-item for up to 640 rows, on the matrix unit of x86 processors: keys in
 *                          bf16, or such as may be read as that; heads of up to 256
 *              pairs       none: the same work in plain OpenCL C, on processors; what amx is held to
 *              wide        a work-item for 64 rows, 16 in a vector: processors with wide vectors
 *              wgmma       a work-group for 128 rows of heads that share keys, on matrix units: Hopper;
 *                          heads of 64, 72, 80, 88, 96 or 128
 *              tile        a work-group for 64 rows of heads that share keys, tiles of 128 keys: GPUs
 *              tile_small  the same in tiles of 64 keys: where registers do not suffice
 *     decode   mma         a work-group for a share of the keys, on matrix units: NVIDIA since sm_80
 *              split       a work-group for a share of the keys
 *              split_wide  a work-item for a share of the keys: processors with wide vectors
 *     both     rows        a work-item for each query row and head: runs anywhere
 *
 * What amx and pairs do not take goes to wide. Where keys lie outside of a window, the same rungs run with
 * kernels that know it, tile in wgmma's place; where logits are capped, with kernels that do that, tile in
 * wgmma's place and split in mma's.
 */
#ifndef VLCI_COMPUTE_ATTENTION_H
#define VLCI_COMPUTE_ATTENTION_H

#include "compute/form.h"
#include "device/ladder.h"
#include "kv/view.h"

extern const vlci_ladder vlci_attention_prefill_ladder, vlci_attention_decode_ladder;

typedef struct vlci_attention_shape {
    int heads, kv_heads, head_dim;
    vlcache_dtype kv_dtype;
    vlcache_dtype rounded; /**< f16 or bf16: matrix units may read q, k and v of 32 bits as that; else not */
    bool windowed;         /**< some layers may have a window */
    bool stripes;  /**< q, k and v may come in stripes of `rounded`: vlci_attention_takes_stripes() tells */
    vlci_form out; /**< what a product reads: decode's mma can leave stripes where it is opened for them */
    float cap;     /**< what logits are bent to stay below: cap tanh(s / cap); 0: they are not */
} vlci_attention_shape;

/** The option that builds a kernel for such logits, with a blank in front, in `option`; "" where cap is 0. */
enum { VLCI_ATTENTION_CAP = 40 };
const char *vlci_attention_cap(float cap, char option[VLCI_ATTENTION_CAP]);

/** A way to compute attention: which kernels run, and how. `kernel` NULL: not there. */
typedef struct vlci_attention_rung {
    int rung;                                /**< of attention.c */
    bool windowed;                           /**< its kernels know windows */
    const vlci_kernel *kernel[3], *merge[3]; /**< for 1, 2 and 4 lanes that go together; the others use the
                                                first, mma the second for stripes, and the third
                                                where there are many pieces */
} vlci_attention_rung;

/** Attention of one shape, opened. */
typedef struct vlci_attention_kernels {
    vlcache_device *device;
    vlci_attention_shape shape;
    vlci_attention_rung many, few,
        few_full;                /**< query rows of a sequence; few_full: few that fill wide's vectors */
    vlci_attention_rung stripes; /**< for q, k and v in stripes; no kernel: there is none */
    vlci_attention_rung many_windowed, few_windowed, full_windowed; /**< where keys lie outside of a window */
    int lanes;                                                      /**< of a work-group of split */
} vlci_attention_kernels;

typedef struct vlci_attention {
    int batch; /**< sequences */
    bool causal;
    int window;  /**< a query sees the last so many of its rows, itself among them; 0: all. Causal only */
    float scale; /**< 1 / sqrt(head_dim) */
    vlci_kv_view kv;
    size_t q_stride;  /**< elements between query rows */
    size_t q_offset;  /**< first element in q */
    size_t q_rows;    /**< 0, or q, k and v are columns of one matrix of so many rows in stripes of `rounded`:
                         each sequence sees its own rows, q_offset, k_offset and v_offset count columns */
    int out_rows;     /**< 0, or out is a matrix of so many rows in stripes of what matrix units read */
    int max_rows;     /**< most query rows of any sequence */
    cl_mem q, out;    /**< out: [rows][heads * head_dim] f32 */
    cl_mem seq_start; /**< int[batch + 1]: first query row of each sequence */
    int max_keys;     /**< no query sees more rows than this; 0: not known, and keys are not divided */
    int mean_keys;    /**< rows that a kv head of a sequence has, on the average; 0: not known */
    cl_mem scratch;   /**< of vlci_attention_scratch_create(), or NULL: keys are not divided */
    cl_mem row_max,
        row_lse; /**< f32 [rows][heads] or NULL: each row's largest logit and log-sum-exp of its logits */
} vlci_attention;

/** Chooses rungs and builds their kernels. Errors: VLCACHE_E_UNSUPPORTED (a shape no rung takes),
 * VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_BUILD. */
vlcache_status vlci_attention_open(vlcache_device *device, const vlci_attention_shape *shape,
                                   vlci_attention_kernels *out);

/** Whether launches may have q_rows: a shape that asked for it, and a rung that reads stripes. */
bool vlci_attention_takes_stripes(const vlci_attention_kernels *kernels);

/** Whether this launch may have out_rows, and stripes of `dtype` are what it leaves. */
bool vlci_attention_leaves_stripes(const vlci_attention_kernels *kernels, const vlci_attention *a,
                                   vlcache_dtype dtype);

/** Scratch in new memory for decode of up to `batch` sequences, whatever the number of cached rows; for
 * launches that follow one another. Errors: the device's. */
vlcache_status vlci_attention_scratch_create(const vlci_attention_kernels *kernels, int batch, cl_mem *out);

/**
 * Enqueues attention for any number of query rows: part of a prompt, or one row a sequence in decode.
 * Allocates nothing. Errors: the device's.
 */
vlcache_status vlci_attention_run(const vlci_attention_kernels *kernels, const vlci_attention *a);

#endif
