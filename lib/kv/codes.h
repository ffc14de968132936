/**
 * codes.h (internal) - rows that a cache keeps in few bits: of every head of every layer of one sequence, the
 * same rows of one turn. They stand in front of the rows in pages, never change, and are shared by forks and
 * marks.
 *
 *     visual   key(j) = R(ref(run of j)) (mean + sum over i of factor[i] level(j, i) basis[i])
 *              value(j): the same without R
 *              level = code + 1/2 - 2^(bits - 1), as cl/shared.h lays codes out
 *     text     row(j) = unit(j, group) (nibble(j, .) + 1/2 - 8)
 *
 * R turns by the phase of a run's middle row, so that a query is turned back and projected once a run.
 *
 * With patterns R turns each row by its own phase. A run is VLCI_CODE_RUN_MIN rows then; what a row's phase
 * is beyond that of its run's first is the same in many runs, and stands once for all that have it.
 */
#ifndef VLCI_KV_CODES_H
#define VLCI_KV_CODES_H

#include "cl/shared.h"
#include "device/device.h"

struct vlci_kv_pool;

/** What codes consist of, in the order in which it lies in memory: their own; text; what does not depend on
 * bits. */
enum {
    VLCI_CODES_MATRIX,
    VLCI_CODES_BASIS,
    VLCI_CODES_FACTOR,
    VLCI_CODES_WORDS,
    VLCI_CODES_TEXT,
    VLCI_CODES_SCALE,
    VLCI_CODES_MEAN,
    VLCI_CODES_PHASE,
    VLCI_CODES_WITHIN,
    VLCI_CODES_PATTERN,
    VLCI_CODES_PARTS
};
enum { VLCI_CODES_MEMORIES = 3, VLCI_CODES_UNIT = 16 };

typedef struct vlci_codes {
    vlcache_device *device;    /**< borrowed */
    struct vlci_kv_pool *pool; /**< borrowed: it counts their bytes; NULL: nobody does */
    uint64_t counted;          /**< bytes that it counts of these */
    int references;
    struct vlci_codes *before;             /**< of earlier turns; one reference is this one's */
    const struct vlci_coded_kernels *read; /**< attention over them (compute/coded.h); borrowed */
    int layers, kv_heads, head_dim;
    int rows, run, runs; /**< visual rows of a head, of a run; runs */
    int texts;           /**< text rows of a head */
    int dims;            /**< of all matrices */
    int patterns;        /**< 0: all rows of a run are turned alike */
    size_t n_words;
    cl_mem memory[VLCI_CODES_MEMORIES]; /**< what all the following is parts of, or NULL */
    cl_uint at[VLCI_CODES_PARTS];       /**< where each begins there, in units of VLCI_CODES_UNIT bytes */
    cl_mem matrix;                      /**< vlci_code_matrix [layers][kv_heads][2] */
    cl_mem mean;                        /**< f16 [layers][kv_heads][2][head_dim] */
    cl_mem basis;                       /**< int8 [dims][head_dim] */
    cl_mem factor;                      /**< f32 [dims]: a basis vector's scale times its dimension's step */
    cl_mem words;                       /**< uint [n_words] */
    cl_mem text;                        /**< uint [layers][kv_heads][2][texts][head_dim / 8] */
    cl_mem scale; /**< ushort [layers][kv_heads][2][texts][VLCI_TEXT_UNITS(head_dim)]: units, the upper halves
                     of floats */
    cl_mem phase; /**< f32 [runs][head_dim]: cosines, then sines of the runs' middle rows; with patterns of
                     their  first */
    cl_mem within; /**< f32 [patterns][head_dim][VLCI_CODE_RUN_MIN]: the same of a row beyond its run's first;
                      NULL: none */
    cl_mem pattern; /**< int [runs]: which of them a run has */
} vlci_codes;

/** Bytes of each part, for one accountant: what is allocated is their sum. */
typedef struct vlci_codes_bytes {
    uint64_t words, text, bases, means, tables; /**< text: with its scales; bases: with their factors; tables:
                                                   matrices and phases */
} vlci_codes_bytes;

static inline uint64_t vlci_codes_sum(const vlci_codes_bytes *b) {
    return b->words + b->text + b->bases + b->means + b->tables;
}

/** What codes of this shape take, whether there is memory for them or not: all numbers count. */
vlci_codes_bytes vlci_codes_count(const vlci_codes *codes);

/** Bytes of a text row of a matrix: its numbers, and what they are multiplied by. */
static inline size_t vlci_codes_text_bytes(int head_dim) {
    return (size_t)head_dim / 2;
}
static inline size_t vlci_codes_scale_bytes(int head_dim) {
    return VLCI_TEXT_UNITS((size_t)head_dim) * sizeof(cl_ushort);
}

/** Runs of `run` rows that `rows` rows make. */
static inline int vlci_codes_runs(int rows, int run) {
    return rows / run + (rows % run != 0);
}

/** Codes with the numbers of `shape`, memory for them, and one reference. Errors: VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_codes_create(const vlci_codes *shape, vlci_codes **out);

/** The same for codes of the rows that `held` is of, in fewer bits: they take its means and phases, and its
 * text where they have as much of it, and it is good for nothing but its own codes and bases, and text that
 * they have less of, any more. Errors: as vlci_codes_create(). */
vlcache_status vlci_codes_narrow(const vlci_codes *shape, vlci_codes *held, vlci_codes **out);

/** One more owner; NULL accepted, and given back. */
vlci_codes *vlci_codes_retain(vlci_codes *codes);

/** Gives up a reference, NULLs; NULL accepted. */
void vlci_codes_release(vlci_codes **codes);

/** Bytes of a list of codes, those of earlier turns included. */
uint64_t vlci_codes_all_bytes(const vlci_codes *codes);

/** Of these, bytes that go when the list does: nobody else has them. */
uint64_t vlci_codes_own_bytes(const vlci_codes *codes);

#endif
