/*
 * chain_dot.c - which chains of one row are taken, and their launch.
 */
#include "compute/chain_dot.h"

#include <stdio.h>
#include <string.h>

#include "core/alloc.h"

enum { DOT, APART };
static const char *const rungs[] = {"dot", "apart", NULL};

/* Who waits goes round a loop. */
static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, rungs[DOT]) != 0 || (device->caps.wide_vectors && !device->caps.short_loops);
}

static const char *choose(const vlcache_device *device) {
    return rungs[device->caps.dot ? DOT : APART];
}

const vlci_ladder vlci_chain_dot_ladder = {"chain", "decode of one", rungs, rung_fits, choose};

struct vlci_chain_dot {
    vlcache_device *device;
    vlci_activation act;
    vlci_layout layout;
    cl_mem counters;
    bool attends;
    int kv_heads;
    const vlci_kernel *kernel;
};

enum {
    OWN_ARGS = 30,
    ATTEND = 0,
    OUT,
    QKV = 4,
    APPEND,
    STAGES = VLCI_CHAIN_DOT_STAGES,
    GROUP_MOST = 8,
    DIM_MOST = 256
};

/* ---- opening ------------------------------------------------------------------------------------------- */

static size_t units_of(const vlci_chain_dot *c) {
    return c->device->caps.info.compute_units;
}

uint64_t vlci_chain_dot_bytes(const vlci_chain_dot *c) {
    return c ? VLCI_CHAIN_DOT_COUNTERS(units_of(c)) * sizeof(cl_uint) : 0;
}

/* Heads of bf16 in whole vectors, as many for each work-item. */
static bool is_plain(const vlci_chain_dot *c, const vlci_attention_shape *s) {
    return s->kv_dtype == VLCACHE_DTYPE_BF16 && s->cap <= 0 && s->head_dim % 32 == 0 &&
           s->head_dim <= DIM_MOST && s->heads / s->kv_heads <= GROUP_MOST &&
           (size_t)s->kv_heads % units_of(c) == 0;
}

static vlcache_status open_kernel(vlci_chain_dot *c, vlci_dot dot, const vlci_attention_shape *s) {
    char options[128];
    c->attends = is_plain(c, s);
    snprintf(options, sizeof options,
             " -DKV_DTYPE=%d -DDEPTH=%d -DHEAD_DIM=%d -DGROUP_HEADS=%d -DDOT=%d -DLAYOUT=%d%s",
             (int)s->kv_dtype, VLCI_CHAIN_DOT_DEPTH, c->attends ? s->head_dim : 0,
             c->attends ? s->heads / s->kv_heads : 1, dot == VLCI_DOT_OWN, (int)c->layout,
             vlci_dot_lines(c->device));
    return vlci_matrix_kernel(c->device, VLCACHE_DTYPE_BF16, "chain_dot.cl", "chain_dot", options,
                              &c->kernel);
}

vlcache_status vlci_chain_dot_open(vlcache_device *device, vlci_dot dot, vlci_layout layout,
                                   vlci_activation act, const vlci_attention_shape *shape,
                                   vlci_chain_dot **out) {
    const char *rung;
    *out = NULL;
    vlcache_status status = vlci_rung(device, &vlci_chain_dot_ladder, choose(device), &rung);
    if (status || rung != rungs[DOT] || !dot) return status;
    vlci_chain_dot *c = vlci_calloc(1, sizeof *c);
    if (!c) return vlci_fail_memory("chained products");
    *c = (vlci_chain_dot){.device = device, .act = act, .layout = layout, .kv_heads = shape->kv_heads};
    status = open_kernel(c, dot, shape);
    size_t bytes = vlci_chain_dot_bytes(c);
    if (!status) status = vlci_memory_create(device, bytes, "counters of chained products", &c->counters);
    if (!status) status = vlci_fill(device, c->counters, 0, bytes, 0);
    if (status)
        vlci_chain_dot_close(&c);
    else
        *out = c;
    return status;
}

void vlci_chain_dot_close(vlci_chain_dot **handle) {
    vlci_chain_dot *c = *handle;
    *handle = NULL;
    if (!c) return;
    vlci_memory_release(c->device, &c->counters);
    vlci_free(c);
}

/* ---- what it takes ------------------------------------------------------------------------------------- */

/* Rows of W that are multiplied at a time. */
static int columns_of(const vlci_chain_dot *c) {
    return c->layout == VLCI_PAIRS ? VLCI_TILE : 16;
}

/* Of up to so many parts. */
static bool fits(const vlci_chain_dot *c, const vlci_matrix *w, int parts) {
    int n = 1;
    for (int i = 0; i < VLCI_MATRIX_PARTS - 1; i++) n += w->more[i] != NULL;
    return w->dtype == VLCACHE_DTYPE_BF16 && w->layout == c->layout && n <= parts &&
           w->n % columns_of(c) == 0 && w->k <= VLCI_CHAIN_DOT_DEPTH;
}

static bool is_rms(const vlci_norm *norm) {
    return norm->weight && !norm->bias;
}

bool vlci_chain_dot_takes(const vlci_chain_dot *c, const vlci_links *l) {
    if (!c || l->rows != 1 || l->x_offset > UINT32_MAX || !is_rms(l->norm) || l->gate_up->bias) return false;
    if (!fits(c, l->out, 1) || !fits(c, l->gate_up, 2) || !fits(c, l->down, 1)) return false;
    if (l->gate_up->n / 2 % columns_of(c)) return false;
    if (l->out->n != l->down->n || l->gate_up->k != l->out->n || l->down->k != l->gate_up->n / 2)
        return false;
    return !l->qkv || (fits(c, l->qkv, VLCI_MATRIX_PARTS) && l->qkv->k == l->out->n && is_rms(l->next));
}

bool vlci_chain_dot_attends(const vlci_chain_dot *c, const vlci_attention *a) {
    return c && c->attends && a->batch == 1 && a->max_rows == 1 && a->window <= 0 && !a->q_offset &&
           !a->q_rows && !a->out_rows;
}

/* ---- running ------------------------------------------------------------------------------------------- */

static int part_end(const vlci_matrix *w, int i) {
    return w->more[i] ? w->until[i] : w->n;
}

/* Of what is appended, or what it would be behind this attention. */
static vlcache_status rope_args(const vlci_chain_dot *c, const vlci_links *l, const vlci_attention *a,
                                vlci_arg *out) {
    vlci_append none = {.kv_heads = c->kv_heads};
    if (l->append) return vlci_rope_args(l->append, out);
    if (a) none.kv = a->kv;
    none.kv.layer++;
    return vlci_rope_args(&none, out);
}

vlcache_status vlci_chain_dot_run(const vlci_chain_dot *c, const vlci_links *l, const vlci_attention *a) {
    const vlci_matrix none = {0}, *qkv = l->qkv ? l->qkv : &none;
    const vlci_norm *next = l->qkv ? l->next : l->norm;
    int stages = l->append ? STAGES : l->qkv ? APPEND : QKV;
    vlci_arg args[OWN_ARGS + VLCI_ROPE_ARGS] = {VLCI_MEM(l->attended),
                                                VLCI_MEM(l->out->data),
                                                VLCI_MEM(l->out->bias),
                                                VLCI_I32(l->out->k),
                                                VLCI_MEM(l->norm->weight),
                                                VLCI_MEM(l->gate_up->data),
                                                VLCI_MEM(l->gate_up->more[0]),
                                                VLCI_I32(part_end(l->gate_up, 0)),
                                                VLCI_MEM(l->gated),
                                                VLCI_MEM(l->down->data),
                                                VLCI_MEM(l->down->bias),
                                                VLCI_I32(l->down->k),
                                                VLCI_MEM(next->weight),
                                                VLCI_MEM(qkv->data),
                                                VLCI_MEM(qkv->more[0]),
                                                VLCI_MEM(qkv->more[1]),
                                                VLCI_I32(part_end(qkv, 0)),
                                                VLCI_I32(part_end(qkv, 1)),
                                                VLCI_MEM(qkv->bias),
                                                VLCI_I32(qkv->n),
                                                VLCI_MEM(l->x),
                                                VLCI_U32(l->x_offset),
                                                VLCI_MEM(l->y),
                                                VLCI_I32(l->out->n),
                                                VLCI_F32(l->eps),
                                                VLCI_I32(c->act),
                                                VLCI_F32(a ? a->scale : 0),
                                                VLCI_MEM(c->counters),
                                                VLCI_I32(a ? ATTEND : OUT),
                                                VLCI_I32(stages)};
    vlcache_status status = rope_args(c, l, a, args + OWN_ARGS);
    if (status) return status;
    return vlci_launch(c->device, c->kernel, VLCI_GRID(units_of(c), 1, 1, 1, 1, 1), args,
                       OWN_ARGS + VLCI_ROPE_ARGS);
}
