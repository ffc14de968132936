/**
 * coding.h (internal) - a plan's part that stores rows in few bits: what it looks at while a prompt is read,
 * then the bits of all dimensions, then the codes.
 *
 * The same rows of the prompt in every head, all or those that were voted for (vote.h): the visual ones are
 * coded, text has 4 bits a number. Where that leaves codes less than a sixteenth of the budget, and nobody
 * said which rows there are to be, text is cut to half of what means and tables leave, when bits are shared
 * out.
 */
#ifndef VLCI_COMPRESS_CODING_H
#define VLCI_COMPRESS_CODING_H

#include "compress/code.h"
#include "compress/phases.h"
#include "compress/policy.h"
#include "compress/score.h"
#include "kv/pool.h"

typedef struct vlci_coding_kernels {
    vlci_code_kernels code;
    vlci_coded_kernels attention; /**< what codes are read by */
    cl_mem metric;                /**< of values (compress/metric.h), borrowed; NULL: all directions alike */
    vlci_code_spare *spare;       /**< the engine's, between two prompts; NULL: no scratch stays */
} vlci_coding_kernels;

/** out->metric stays as it is. Errors: those of vlci_code_open() and vlci_coded_open(). */
vlcache_status vlci_coding_open(vlcache_device *device, const vlci_compress_shape *shape,
                                vlci_coding_kernels *out);

typedef struct vlci_coding {
    vlcache_device *device;             /**< borrowed */
    const vlci_coding_kernels *kernels; /**< borrowed */
    vlci_compress_shape shape;
    double bits, budget; /**< of a row and head, keys and values: 0: as the budget has it */
    double *shares;      /**< [layers][kv_heads]: of all bits, 1 together; NULL: they are measured */
    double *spent; /**< [layers][kv_heads]: bits of a row, with those of basis vectors spread over rows */
    int tokens;
    double voted;    /**< share of the candidates that is kept; 0: all */
    int last;        /**< text rows at the end that are kept among them */
    bool of_kind[2]; /**< which are candidates: text, visual rows */
    bool yields;     /**< text goes as far as it leaves codes too little of the budget */
    int run;         /**< rows of a run, as it was asked for */
    int *listed;     /**< [2][tokens]: visual rows, text rows, ascending; NULL: all of them are kept */
    vlci_code_rows rows;
    cl_mem text_kept; /**< int [rows.texts]: of the text rows that are held, those that are kept; NULL: all */
    bool phased;      /**< rows.phase is written */
    vlci_phases
        phases;     /**< of rows that are turned one by one (rows.run is 1); found when bits are shared out */
    bool together;  /**< queries are held (looks.h) till bits are asked for */
    cl_mem queries; /**< f32 [layers][kv_heads]: sums of squares */
    int64_t *n_queries; /**< [layers]: query rows of a kv head that they are of */
    vlci_code_room room;
    vlci_code_measured measured;
    int most;           /**< dimensions of a matrix */
    vlci_kv_pool *pool; /**< borrowed: counts the bytes of codes; NULL: nobody does */
    vlci_codes *held;   /**< of vlci_coding_hold(), or NULL */
    vlci_codes *codes;  /**< NULL before vlci_coding_share() */
    vlci_codes_bytes bytes;
    uint64_t gone;      /**< bytes of what was held beside the codes until these were made; 0: nothing was */
    uint64_t bits_used; /**< of a row, of all matrices */
    float *numbers;     /**< what came of measuring, once bits are shared out, till vlci_coding_finish() */
    uint8_t *bits_of;   /**< [matrices][columns]: with it, of each dimension */
} vlci_coding;

/** Whether anything is coded: a budget of the whole cache needs no codes. */
static inline bool vlci_coding_wanted(const vlci_recipe *r) {
    return r->coded && (r->bits > 0.0 || r->budget < 1.0);
}

/** Most bytes that codes of a prompt of `tokens` rows, `visual` of them visual (0: it has no picture), come
 * to, those that are held by layer beside them. */
uint64_t vlci_coding_bound(const vlci_compress_shape *shape, const vlci_recipe *recipe, int tokens,
                           int visual, bool by_layer);

/** Bytes of what is held, and of codes that are not handed over yet, as their pool counts them. */
static inline uint64_t vlci_coding_counted(const vlci_coding *c) {
    return (c->held ? c->held->counted : 0) + (c->codes ? c->codes->counted : 0);
}

/** `*out` stays NULL where the prompt has no row to code. Errors: VLCACHE_E_NO_MEMORY,
 * VLCACHE_E_DEVICE_MEMORY. */
vlcache_status vlci_coding_create(vlcache_device *device, const vlci_coding_kernels *kernels,
                                  const vlci_compress_shape *shape, const vlci_recipe *recipe,
                                  const vlci_compress_prompt *prompt, vlci_coding **out);

/** Enqueues what is needed of a layer's queries, the prompt's or a decoded row's, of the rows that `seen`
 * looks at; and the phases of the first layer. Errors: the device's. */
vlcache_status vlci_coding_observe(vlci_coding *coding, int layer, const vlci_look *look,
                                   const vlci_scores *seen);
vlcache_status vlci_coding_observe_decode(vlci_coding *coding, int layer, const vlci_look *look,
                                          const vlci_scores *seen);

/** As vlci_scores_observe_decode(), added, where the rows are held. */
vlcache_status vlci_coding_score_decode(vlci_coding *coding, int layer, const vlci_look *look, double weight,
                                        const vlci_scores *seen);

/** Of rows that not all are kept: chooses them, before anything is measured; blocks. Errors:
 * VLCACHE_E_UNSUPPORTED (scores that are not finite), VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_coding_choose(vlci_coding *coding, const vlci_scores *seen);

/** Rows that are kept, once chosen; of text there may be fewer once bits are shared out. */
static inline int vlci_coding_kept(const vlci_coding *c) {
    return c->rows.n + c->rows.texts;
}

/** The same, ascending: out [vlci_coding_kept()]. */
void vlci_coding_positions(const vlci_coding *coding, int *out);

/** Layers that are best measured at once. */
int vlci_coding_layers(const vlci_coding *coding);

/** Enqueues the statistics of some layers. Errors: the device's. */
vlcache_status vlci_coding_measure(vlci_coding *coding, const vlci_heads *layers);

/** What bits are shared out by comes to the host; blocks. Errors: VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_coding_ask(vlci_coding *coding, const vlci_scores *seen);

/** Whether it is there. */
static inline bool vlci_coding_asked(const vlci_coding *c) {
    return c->numbers != NULL;
}

/** Shares bits out and makes room for codes, with less text where it has to yield; asks first, where nobody
 * has. Errors: VLCACHE_E_UNSUPPORTED (rows, or scores that text is chosen by, that are not finite),
 * VLCACHE_E_NO_MEMORY, the device's. */
vlcache_status vlci_coding_share(vlci_coding *coding, const vlci_scores *seen);

/** Layers that are best coded at once, when bits are shared out. */
int vlci_coding_write_layers(const vlci_coding *coding);

/** Enqueues the codes of some layers, from their rows or from those that are held. Errors: the device's. */
vlcache_status vlci_coding_write(vlci_coding *coding, const vlci_heads *layers);

/**
 * Layer by layer: enqueues statistics of a layer, and codes of it in more bits than it will have, so that its
 * rows need not be there any more when bits are shared out. Not with vlci_coding_measure(). Blocks in the
 * first layer where rows are turned one by one. Errors: VLCACHE_E_NO_MEMORY, the device's.
 */
vlcache_status vlci_coding_hold(vlci_coding *coding, const vlci_heads *layer);

/** The codes that are held, to be decoded on until others take their place: a reference, in front of
 * `before`, whose reference they take. */
vlci_codes *vlci_coding_lend(vlci_coding *coding, vlci_codes *before);

/** Hands the codes over, in front of `before`, whose reference they take, or in place of those that were
 * lent; scratch goes. `layer` [layers], or NULL: dims and bits of each are told. */
vlci_codes *vlci_coding_finish(vlci_coding *coding, vlci_codes *before, vlcache_compress_layer *layer);

/** Bits of a coded row and kv head, keys and values together: the mean over all heads. */
double vlci_coding_bits(const vlci_coding *coding);

/** Releases and NULLs; NULL accepted. */
void vlci_coding_destroy(vlci_coding **coding);

#endif
