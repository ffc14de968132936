/*
 * codes.c - memory of rows in few bits, and who owns it.
 */
#include "kv/codes.h"

#include "core/alloc.h"
#include "kv/pool.h"

static size_t n_matrices(const vlci_codes *c) {
    return (size_t)c->layers * (size_t)c->kv_heads * 2;
}

static uint64_t part_bytes(const vlci_codes *c, int part) {
    uint64_t dim = (uint64_t)c->head_dim, dims = (uint64_t)c->dims, matrices = n_matrices(c);
    uint64_t texts = matrices * (uint64_t)c->texts, runs = (uint64_t)c->runs;
    const uint64_t bytes[] = {
        [VLCI_CODES_MATRIX] = matrices * sizeof(vlci_code_matrix),
        [VLCI_CODES_BASIS] = dims * dim,
        [VLCI_CODES_FACTOR] = dims * sizeof(cl_float),
        [VLCI_CODES_WORDS] = (uint64_t)c->n_words * sizeof(cl_uint),
        [VLCI_CODES_TEXT] = texts * vlci_codes_text_bytes(c->head_dim),
        [VLCI_CODES_SCALE] = texts * vlci_codes_scale_bytes(c->head_dim),
        [VLCI_CODES_MEAN] = matrices * dim * sizeof(cl_half),
        [VLCI_CODES_PHASE] = runs * dim * sizeof(cl_float),
        [VLCI_CODES_WITHIN] = (uint64_t)c->patterns * dim * VLCI_CODE_RUN_MIN * sizeof(cl_float),
        [VLCI_CODES_PATTERN] = c->patterns ? runs * sizeof(cl_int) : 0,
    };
    return bytes[part];
}

static cl_mem *part_of(vlci_codes *c, int part) {
    cl_mem *const parts[] = {
        [VLCI_CODES_MATRIX] = &c->matrix,   [VLCI_CODES_BASIS] = &c->basis, [VLCI_CODES_FACTOR] = &c->factor,
        [VLCI_CODES_WORDS] = &c->words,     [VLCI_CODES_TEXT] = &c->text,   [VLCI_CODES_SCALE] = &c->scale,
        [VLCI_CODES_MEAN] = &c->mean,       [VLCI_CODES_PHASE] = &c->phase, [VLCI_CODES_WITHIN] = &c->within,
        [VLCI_CODES_PATTERN] = &c->pattern,
    };
    return parts[part];
}

vlci_codes_bytes vlci_codes_count(const vlci_codes *c) {
    uint64_t b[VLCI_CODES_PARTS];
    for (int i = 0; i < VLCI_CODES_PARTS; i++) b[i] = part_bytes(c, i);
    return (vlci_codes_bytes){.words = b[VLCI_CODES_WORDS],
                              .text = b[VLCI_CODES_TEXT] + b[VLCI_CODES_SCALE],
                              .bases = b[VLCI_CODES_BASIS] + b[VLCI_CODES_FACTOR],
                              .means = b[VLCI_CODES_MEAN],
                              .tables = b[VLCI_CODES_MATRIX] + b[VLCI_CODES_PHASE] + b[VLCI_CODES_WITHIN] +
                                        b[VLCI_CODES_PATTERN]};
}

/* ---- memory -------------------------------------------------------------------------------------------- */

/* Its own; text; what does not depend on bits: the first part of each, and what is behind the last. */
enum { OWN, TEXT, REST };
static const int first_part[] = {VLCI_CODES_MATRIX, VLCI_CODES_TEXT, VLCI_CODES_MEAN, VLCI_CODES_PARTS};
static const char *const names[] = {"coded rows", "coded rows: text", "coded rows: means and phases"};

/* Whether a part is there; one without bytes has a buffer. */
static bool has_part(const vlci_codes *c, int part) {
    return c->patterns || (part != VLCI_CODES_WITHIN && part != VLCI_CODES_PATTERN);
}

static vlcache_status allocate_apart(vlci_codes *c, int memory) {
    vlcache_status status = VLCACHE_OK;
    for (int i = first_part[memory]; i < first_part[memory + 1] && !status; i++)
        if (has_part(c, i))
            status = vlci_memory_create(c->device, (size_t)part_bytes(c, i), names[memory], part_of(c, i));
    return status;
}

/* A launch over codes of many sequences, on matrix units, is told of few buffers, the parts of each of which
 * lie where buffers may begin. (Oclgrind takes such a part for one that nobody has written to.) */
static vlcache_status allocate(vlci_codes *c, int memory) {
    if (!c->device->caps.mma) return allocate_apart(c, memory);
    size_t unit = c->device->caps.alignment, end = 0;
    if (unit < VLCI_CODES_UNIT) unit = VLCI_CODES_UNIT;
    for (int i = first_part[memory]; i < first_part[memory + 1]; i++) {
        size_t at = (end + unit - 1) / unit * unit, bytes = (size_t)part_bytes(c, i);
        if (!has_part(c, i)) continue;
        c->at[i] = (cl_uint)(at / VLCI_CODES_UNIT);
        end = at + (bytes ? bytes : 1);
    }
    vlcache_status status = vlci_memory_divided(c->device, end, names[memory], &c->memory[memory]);
    for (int i = first_part[memory]; i < first_part[memory + 1] && !status; i++) {
        size_t bytes = (size_t)part_bytes(c, i);
        if (has_part(c, i))
            status = vlci_memory_part(c->device, c->memory[memory], (size_t)c->at[i] * VLCI_CODES_UNIT,
                                      bytes ? bytes : 1, names[memory], part_of(c, i));
    }
    return status;
}

static void move(cl_mem *from, cl_mem *to) {
    *to = *from;
    *from = NULL;
}

static void take(vlci_codes *c, vlci_codes *from, int memory) {
    move(&from->memory[memory], &c->memory[memory]);
    for (int i = first_part[memory]; i < first_part[memory + 1]; i++) {
        c->at[i] = from->at[i];
        move(part_of(from, i), part_of(c, i));
    }
}

static void count(vlci_codes *c, uint64_t bytes) {
    if (c->pool) vlci_kv_pool_count(c->pool, (int64_t)bytes - (int64_t)c->counted);
    c->counted = bytes;
}

static vlci_codes *make(const vlci_codes *shape) {
    vlci_codes *c = vlci_alloc(1, sizeof *c);
    if (!c) return NULL;
    *c = *shape;
    c->references = 1;
    c->before = NULL;
    c->counted = 0;
    for (int i = 0; i < VLCI_CODES_PARTS; i++) *part_of(c, i) = NULL;
    for (int i = 0; i < VLCI_CODES_MEMORIES; i++) c->memory[i] = NULL;
    return c;
}

vlcache_status vlci_codes_create(const vlci_codes *shape, vlci_codes **out) {
    *out = NULL;
    vlci_codes *c = make(shape);
    if (!c) return vlci_fail_memory("coded rows");
    vlci_codes_bytes bytes = vlci_codes_count(c);
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < VLCI_CODES_MEMORIES && !status; i++) status = allocate(c, i);
    if (!status) count(c, vlci_codes_sum(&bytes));
    if (status)
        vlci_codes_release(&c);
    else
        *out = c;
    return status;
}

vlcache_status vlci_codes_narrow(const vlci_codes *shape, vlci_codes *held, vlci_codes **out) {
    *out = NULL;
    vlci_codes *c = make(shape);
    if (!c) return vlci_fail_memory("coded rows");
    vlci_codes_bytes bytes = vlci_codes_count(c), old = vlci_codes_count(held);
    bool cut = c->texts != held->texts;
    vlcache_status status = allocate(c, OWN);
    if (!status && cut) status = allocate(c, TEXT);
    if (status) {
        vlci_codes_release(&c);
        return status;
    }
    if (!cut) take(c, held, TEXT);
    take(c, held, REST);
    count(held, old.words + old.bases + n_matrices(held) * sizeof(vlci_code_matrix) + (cut ? old.text : 0));
    count(c, vlci_codes_sum(&bytes));
    *out = c;
    return VLCACHE_OK;
}

vlci_codes *vlci_codes_retain(vlci_codes *codes) {
    if (codes) codes->references++;
    return codes;
}

void vlci_codes_release(vlci_codes **handle) {
    vlci_codes *c = *handle;
    *handle = NULL;
    while (c && --c->references == 0) {
        vlci_codes *before = c->before;
        for (int i = 0; i < VLCI_CODES_PARTS; i++) vlci_memory_release(c->device, part_of(c, i));
        for (int i = 0; i < VLCI_CODES_MEMORIES; i++) vlci_memory_release(c->device, &c->memory[i]);
        count(c, 0);
        vlci_free(c);
        c = before;
    }
}

uint64_t vlci_codes_own_bytes(const vlci_codes *codes) {
    uint64_t bytes = 0;
    for (; codes && codes->references == 1; codes = codes->before) {
        vlci_codes_bytes own = vlci_codes_count(codes);
        bytes += vlci_codes_sum(&own);
    }
    return bytes;
}

uint64_t vlci_codes_all_bytes(const vlci_codes *codes) {
    uint64_t bytes = 0;
    for (; codes; codes = codes->before) {
        vlci_codes_bytes own = vlci_codes_count(codes);
        bytes += vlci_codes_sum(&own);
    }
    return bytes;
}
