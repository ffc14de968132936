/*
 * code.c - launches the steps of cl/code.cl over a layer's kv heads, keys and values at once.
 */
#include "compress/code.h"

#include <stdio.h>

enum { GROUP = 64, TALL = 4 };

static size_t n_matrices(const vlci_heads *h) {
    return 2 * (size_t)h->shape.kv_heads;
}

/* First matrix of the layer. */
static size_t first_matrix(const vlci_heads *h) {
    return (size_t)h->layer * n_matrices(h);
}

static size_t padded(const vlci_code_rows *rows) {
    return ((size_t)rows->n + VLCI_CODE_ROWS - 1) / VLCI_CODE_ROWS * VLCI_CODE_ROWS;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static vlcache_status get(vlcache_device *device, const vlci_compress_shape *s, size_t group,
                          const char *name, const vlci_kernel **out) {
    char options[80];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d -DCODE_GROUP=%zu", (int)s->kv_dtype,
             s->head_dim, group);
    return vlci_kernel_get(device, "code.cl", name, options, out);
}

/* Kernels with work-groups may take fewer work-items than their device. */
static vlcache_status get_groups(vlcache_device *device, const vlci_compress_shape *s, vlci_code_kernels *k) {
    const vlci_caps *caps = &device->caps;
    size_t fits = (caps->wide_vectors && !caps->short_loops) || caps->max_group < GROUP ? 1 : GROUP;
    vlcache_status status;
    do {
        k->group = fits;
        status = get(device, s, k->group, "code_basis", &k->basis);
        if (!status) status = get(device, s, k->group, "code_step", &k->step);
        if (!status) status = get(device, s, k->group, "code_centre", &k->centre);
        const vlci_kernel *const all[] = {k->basis, k->step, k->centre};
        for (int i = 0; i < 3 && !status; i++)
            if (all[i]->max_group < k->group) fits = 1;
    } while (!status && fits < k->group);
    return status;
}

vlcache_status vlci_code_open(vlcache_device *device, const vlci_compress_shape *shape,
                              vlci_code_kernels *k) {
    vlcache_status status = vlci_coded_check(shape->head_dim);
    if (!status) status = get_groups(device, shape, k);
    const struct {
        const char *name;
        const vlci_kernel **kernel;
    } all[] = {{"code_rows", &k->rows},        {"code_covariance", &k->covariance},
               {"code_round", &k->round},      {"code_project", &k->project},
               {"code_pack", &k->pack},        {"code_text", &k->text},
               {"code_phases", &k->phases},    {"code_queries", &k->queries},
               {"code_attended", &k->attended}};
    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++)
        status = get(device, shape, k->group, all[i].name, all[i].kernel);
    return status;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

vlcache_status vlci_code_begin(vlcache_device *device, const vlci_compress_shape *s, int columns,
                               vlci_code_measured *out) {
    size_t n = 2 * (size_t)s->layers * (size_t)s->kv_heads, numbers = n * (size_t)columns * sizeof(cl_float);
    *out = (vlci_code_measured){.columns = columns};
    vlcache_status status =
        vlci_memory_create(device, numbers * (size_t)s->head_dim, "coding: bases", &out->basis);
    if (!status) status = vlci_memory_create(device, numbers, "coding: energies", &out->energy);
    if (!status) status = vlci_memory_create(device, n * sizeof(cl_float), "coding: totals", &out->total);
    return status;
}

void vlci_code_end(vlcache_device *device, vlci_code_measured *m) {
    vlci_memory_release(device, &m->basis);
    vlci_memory_release(device, &m->energy);
    vlci_memory_release(device, &m->total);
    *m = (vlci_code_measured){0};
}

void vlci_code_room_release(vlcache_device *device, vlci_code_room *room) {
    cl_mem *memory[] = {&room->x, &room->mean, &room->covariance, &room->q, &room->z, &room->steps};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(device, memory[i]);
    *room = (vlci_code_room){0};
}

static vlcache_status make_room(const vlci_heads *h, const vlci_code_rows *rows, int columns,
                                vlci_code_room *room) {
    size_t n = n_matrices(h), dim = (size_t)h->shape.head_dim, floats = n * dim * sizeof(cl_float);
    if (room->x) return VLCACHE_OK;
    vlcache_status status = vlci_memory_create(h->device, floats * (size_t)rows->n, "coding: rows", &room->x);
    if (!status)
        status = vlci_memory_create(h->device, n * dim * sizeof(cl_half), "coding: means", &room->mean);
    if (!status)
        status = vlci_memory_create(h->device, floats * dim, "coding: covariances", &room->covariance);
    if (!status)
        status = vlci_memory_create(h->device, 2 * floats * (size_t)columns, "coding: iteration", &room->q);
    return status;
}

static vlcache_status make_code_room(const vlci_heads *h, const vlci_code_rows *rows, int most,
                                     vlci_code_room *room) {
    size_t numbers = n_matrices(h) * (size_t)most * sizeof(cl_float);
    if (most <= room->most) return VLCACHE_OK;
    vlci_memory_release(h->device, &room->z);
    vlci_memory_release(h->device, &room->steps);
    room->most = 0;
    vlcache_status status =
        vlci_memory_create(h->device, numbers * padded(rows), "coding: projections", &room->z);
    if (!status) status = vlci_memory_create(h->device, numbers, "coding: steps", &room->steps);
    if (!status) room->most = most;
    return status;
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

/* x, centred; the means to `mean`, from element mean_at on. */
static vlcache_status take_rows(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                const vlci_code_room *room, cl_mem mean, size_t mean_at) {
    size_t dim = (size_t)h->shape.head_dim, n = n_matrices(h);
    vlcache_status status =
        VLCI_LAUNCH(h->device, k->rows, vlci_grid_exact(k->rows, dim / 2, (size_t)rows->n, n),
                    VLCI_POOL_OF(&h->kv, h->heads_at), VLCI_KEEP_OF(h), VLCI_MEM(rows->positions),
                    VLCI_I32(rows->n), VLCI_I32(rows->run), VLCI_MEM(rows->phase), VLCI_MEM(room->x));
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->centre, VLCI_GRID(dim / 16, n, 1, k->group, 1, 1), VLCI_MEM(room->x),
                       VLCI_I32(rows->n), VLCI_MEM(mean), VLCI_U32(mean_at));
}

vlcache_status vlci_code_measure(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                 vlci_code_room *room, const vlci_code_measured *measured) {
    size_t dim = (size_t)h->shape.head_dim, n = n_matrices(h);
    vlcache_status status = make_room(h, rows, measured->columns, room);
    if (!status) status = take_rows(k, h, rows, room, room->mean, 0);
    if (!status)
        status =
            VLCI_LAUNCH(h->device, k->covariance, vlci_grid_exact(k->covariance, dim / 16, dim / TALL, n),
                        VLCI_MEM(room->x), VLCI_I32(rows->n), VLCI_MEM(room->covariance));
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->basis, VLCI_GRID(n, 1, 1, k->group, 1, 1), VLCI_MEM(room->covariance),
                       VLCI_MEM(room->q), VLCI_I32(measured->columns), VLCI_MEM(measured->basis),
                       VLCI_MEM(measured->energy), VLCI_MEM(measured->total), VLCI_U32(first_matrix(h)));
}

vlcache_status vlci_code_round(const vlci_code_kernels *k, const vlci_code_measured *measured,
                               const vlci_codes *codes) {
    size_t n = 2 * (size_t)codes->layers * (size_t)codes->kv_heads;
    return VLCI_LAUNCH(codes->device, k->round, vlci_grid_over(k->round, (size_t)measured->columns, n, 1),
                       VLCI_MEM(measured->basis), VLCI_I32(measured->columns), VLCI_U32(0),
                       VLCI_MEM(codes->matrix), VLCI_MEM(codes->basis), VLCI_MEM(codes->factor));
}

static vlcache_status pack(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                           int most, const vlci_code_room *room, const vlci_codes *codes) {
    size_t wide = padded(rows), n = n_matrices(h), dims = (size_t)most;
    vlcache_status status =
        VLCI_LAUNCH(h->device, k->step, VLCI_GRID(dims, n, 1, k->group, 1, 1), VLCI_MEM(room->z),
                    VLCI_I32(rows->n), VLCI_I32(wide), VLCI_I32(most), VLCI_MEM(codes->matrix),
                    VLCI_U32(first_matrix(h)), VLCI_MEM(room->steps), VLCI_MEM(codes->factor));
    if (status) return status;
    return VLCI_LAUNCH(h->device, k->pack, vlci_grid_over(k->pack, wide / VLCI_CODE_ROWS, dims, n),
                       VLCI_MEM(room->z), VLCI_I32(wide), VLCI_I32(most), VLCI_MEM(codes->matrix),
                       VLCI_U32(first_matrix(h)), VLCI_MEM(room->steps), VLCI_MEM(codes->words));
}

static vlcache_status write_text(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                 const vlci_codes *codes) {
    return VLCI_LAUNCH(h->device, k->text, vlci_grid_over(k->text, (size_t)rows->texts, n_matrices(h), 1),
                       VLCI_POOL_OF(&h->kv, h->heads_at), VLCI_KEEP_OF(h), VLCI_MEM(rows->text_at),
                       VLCI_I32(rows->texts), VLCI_MEM(codes->text), VLCI_MEM(codes->scale),
                       VLCI_U32(first_matrix(h)));
}

vlcache_status vlci_code_write(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                               int most, vlci_code_room *room, const vlci_code_measured *measured,
                               const vlci_codes *codes) {
    size_t wide = padded(rows), n = n_matrices(h);
    vlcache_status status = make_room(h, rows, measured->columns, room);
    if (!status) status = write_text(k, h, rows, codes);
    if (!status)
        status = take_rows(k, h, rows, room, codes->mean, first_matrix(h) * (size_t)h->shape.head_dim);
    if (status || !most) return status;
    status = make_code_room(h, rows, most, room);
    if (!status)
        status = VLCI_LAUNCH(h->device, k->project, vlci_grid_over(k->project, wide, n, 1), VLCI_MEM(room->x),
                             VLCI_I32(rows->n), VLCI_I32(wide), VLCI_MEM(measured->basis),
                             VLCI_I32(measured->columns), VLCI_U32(first_matrix(h)), VLCI_MEM(codes->matrix),
                             VLCI_I32(most), VLCI_MEM(room->z));
    return status ? status : pack(k, h, rows, most, room, codes);
}
