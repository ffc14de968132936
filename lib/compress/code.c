/*
 * code.c - launches the steps of cl/code.cl over the kv heads of some layers, keys and values at once.
 */
#include "compress/code.h"

#include <stdio.h>
#include <string.h>

/* BUSY: work-groups that a compute unit should have; SHARE: the fewest rows of a share of a covariance;
 * BASIS_ITEMS: the most work-items of a work-group that finds a basis, BASIS_PARTS of a column at most;
 * MEASURED, WRITTEN: bytes of covariances, and of projections, that layers may have at once. */
enum { BUSY = 2, SHARE = 128, BASIS_ITEMS = 1024, BASIS_PARTS = 8, MEASURED = 64 << 20, WRITTEN = 32 << 20 };
enum { DEVICE_SHARE = 96 /* of its memory, that scratch may hold between two prompts */ };

static size_t ceil_div(size_t a, size_t b) {
    return (a + b - 1) / b;
}

static size_t n_matrices(const vlci_heads *h) {
    return 2 * (size_t)vlci_heads_n(h);
}

/* First matrix of the layers. */
static size_t first_matrix(const vlci_heads *h) {
    return 2 * (size_t)vlci_heads_first(h);
}

static size_t padded(const vlci_code_rows *rows) {
    return ceil_div((size_t)rows->n, VLCI_CODE_ROWS) * VLCI_CODE_ROWS;
}

/* ---- opening ------------------------------------------------------------------------------------------- */

static const char *const rungs[] = {"mma", "group", "wide", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    if (strcmp(rung, "mma") == 0 && !device->caps.mma) return false;
    return strcmp(rung, "wide") == 0 || device->caps.max_group >= VLCI_CODE_ITEMS;
}

static const char *choose(const vlcache_device *device) {
    bool wide = device->caps.wide_vectors && !device->caps.short_loops; /* one work-item has them all there */
    if (wide || !rung_fits(device, "group")) return "wide";
    return rung_fits(device, "mma") ? "mma" : "group";
}

const vlci_ladder vlci_code_ladder = {"code", "coding", rungs, rung_fits, choose};

static vlcache_status get(vlcache_device *device, const vlci_compress_shape *s, size_t group,
                          const char *file, const char *name, const vlci_kernel **out) {
    char options[96];
    snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d -DCODE_GROUP=%zu", (int)s->kv_dtype,
             s->head_dim, group);
    return vlci_kernel_get(device, file, name, options, out);
}

/* Halves from a dimension of code_steps_mma to the next: a quarter of the banks on. */
static size_t steps_pitch(size_t rows) {
    return ceil_div(rows, 64) * 64 + 16;
}

/* Local memory of that: all that there is, if need be, but no less than for 16 dimensions. */
static size_t steps_local(const vlcache_device *device, size_t dim) {
    size_t most = device->caps.ptx_local, row = sizeof(cl_half) * steps_pitch(VLCI_CODE_SAMPLE);
    size_t wanted = VLCI_CODE_STEPS_BYTES(dim) + VLCI_CODE_STEPS_DIMS * row;
    size_t least = VLCI_CODE_STEPS_BYTES(dim) + 16 * row;
    return wanted < most ? wanted : least < most ? most / 16 * 16 : least;
}

/* What there is on matrix units; else NULL. */
static vlcache_status get_mma(vlcache_device *device, const vlci_compress_shape *s, bool wanted,
                              vlci_code_kernels *k) {
    static const char *const rows = "code_mma.cl";
    static const char *const bases = "code_basis_mma.cl";
    char alone[32];
    snprintf(alone, sizeof alone, " -DBASIS_ITEMS=%d", VLCI_CODE_BASIS_ALONE);
    size_t dim = (size_t)s->head_dim, local = VLCI_CODE_BASIS_BYTES(dim, dim, VLCI_CODE_BASIS_ITEMS);
    size_t few = VLCI_CODE_BASIS_BYTES(dim, VLCI_CODE_BASIS_FEW(dim), VLCI_CODE_BASIS_ITEMS);
    const struct {
        const char *file, *name;
        size_t items, local;
        int groups;
        const vlci_kernel **kernel;
        const char *more; /* options */
    } all[] = {
        {rows, "code_steps_mma", VLCI_CODE_PACK_ITEMS, steps_local(device, dim), 0, &k->steps_mma, ""},
        {rows, "code_pack_mma", VLCI_CODE_PACK_ITEMS, VLCI_CODE_PACK_BYTES(dim), 0, &k->pack_mma, ""},
        {"code_covariance_mma.cl", "code_covariance_mma", VLCI_CODE_MMA_ITEMS, 0, 2, &k->covariance_mma, ""},
        {bases, "code_heard_mma", VLCI_CODE_HEARD_ITEMS, VLCI_CODE_HEARD_BYTES(dim), 0, &k->heard_mma, ""},
        {bases, "code_behind_mma", VLCI_CODE_BASIS_ITEMS, 0, 0, &k->behind_mma, ""},
        {bases, "code_basis_mma", VLCI_CODE_BASIS_ITEMS, few, 4, &k->basis_few, ""},
        {bases, "code_basis_mma", VLCI_CODE_BASIS_ITEMS, local, 3, &k->basis_mma, ""},
        {bases, "code_basis_mma", VLCI_CODE_BASIS_ALONE,
         VLCI_CODE_BASIS_BYTES(dim, dim, VLCI_CODE_BASIS_ALONE), 0, &k->basis_alone, alone}};
    char options[96];
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) *all[i].kernel = NULL;
    if (!wanted || k->group == 1 || s->head_dim > VLCI_CODE_MMA_DIM_MAX) return status;
    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++) {
        if (all[i].local > device->caps.ptx_local) continue;
        snprintf(options, sizeof options, "-DKV_DTYPE=%d -DHEAD_DIM=%d%s", (int)s->kv_dtype, s->head_dim,
                 all[i].more);
        status = vlci_kernel_get_ptx(device, all[i].file, all[i].name, options,
                                     &(vlci_ptx){"", all[i].local, all[i].groups}, all[i].kernel);
        if (!status && (*all[i].kernel)->max_group < all[i].items) *all[i].kernel = NULL;
    }
    return status;
}

/* A basis is as many steps as it has columns, one after another: more work-items make each of them shorter.
 * There are as many as a column has numbers, or several times that. */
static vlcache_status get_basis(vlcache_device *device, const vlci_compress_shape *s, vlci_code_kernels *k,
                                bool *fits) {
    size_t least = (size_t)s->head_dim, most = device->caps.max_group, group = k->group;
    vlcache_status status = VLCACHE_OK;
    if (group > 1) {
        if (most > BASIS_ITEMS) most = BASIS_ITEMS;
        while (group < least || (2 * group <= most && 2 * group <= least * BASIS_PARTS)) group *= 2;
    }
    for (;; group /= 2) {
        status = get(device, s, group, "code_basis.cl", "code_basis", &k->basis);
        k->basis_group = group;
        *fits = !status && k->basis->max_group >= group;
        if (status || *fits || group / 2 < least) return status;
    }
}

/* All kernels with work-groups of so many work-items. `*fits`: whether they take them. */
static vlcache_status get_all(vlcache_device *device, const vlci_compress_shape *s, vlci_code_kernels *k,
                              bool *fits) {
    static const char *const measured = "code_basis.cl", *const coded = "code.cl";
    const struct {
        const char *file, *name;
        const vlci_kernel **kernel;
    } all[] = {{measured, "code_mean", &k->mean},
               {measured, "code_covariance", &k->covariance},
               {coded, "code_project", &k->project},
               {coded, "code_step", &k->step},
               {coded, "code_round", &k->round},
               {coded, "code_queries", &k->queries},
               {coded, "code_attended", &k->attended},
               {coded, "code_alike", &k->alike},
               {measured, "code_behind", &k->behind},
               {measured, "code_heard", &k->heard},
               {measured, "code_covariance_sum", &k->sum},
               {measured, "code_mean_sum", &k->mean_sum},
               {coded, "code_pack", &k->pack},
               {coded, "code_text", &k->text},
               {coded, "code_text_keep", &k->text_keep},
               {coded, "code_narrow", &k->narrow},
               {coded, "code_phases", &k->phases},
               {coded, "code_votes", &k->votes}};
    enum { GROUPED = 10 }; /* the first of them */
    vlcache_status status = VLCACHE_OK;
    *fits = true;
    for (size_t i = 0; i < sizeof all / sizeof *all && !status; i++) {
        status = get(device, s, k->group, all[i].file, all[i].name, all[i].kernel);
        if (!status && i < GROUPED && (*all[i].kernel)->max_group < k->group) *fits = false;
    }
    return status || !*fits ? status : get_basis(device, s, k, fits);
}

/* A kernel may take smaller work-groups than its device: "group" gives way to "wide" then. */
vlcache_status vlci_code_open(vlcache_device *device, const vlci_compress_shape *shape,
                              vlci_code_kernels *k) {
    const char *rung;
    bool fits = true;
    vlcache_status status = vlci_few_check(shape->head_dim);
    if (!status) status = vlci_rung(device, &vlci_code_ladder, choose(device), &rung);
    if (status) return status;
    k->group = strcmp(rung, "wide") == 0 ? 1 : VLCI_CODE_ITEMS;
    status = get_all(device, shape, k, &fits);
    if (!status && !fits) {
        k->group = 1;
        status = get_all(device, shape, k, &fits);
    }
    return status ? status : get_mma(device, shape, strcmp(rung, "mma") == 0, k);
}

/* ---- memory -------------------------------------------------------------------------------------------- */

static bool is_same(const vlci_code_measured *m, int columns, bool one_layer, cl_mem metric) {
    return m->basis && m->columns == columns && m->one_layer == one_layer && m->metric == metric;
}

vlcache_status vlci_code_begin(vlcache_device *device, const vlci_compress_shape *s, int columns,
                               bool one_layer, cl_mem metric, vlci_code_spare *spare,
                               vlci_code_measured *out) {
    size_t n = 2 * (size_t)s->layers * (size_t)s->kv_heads, dim = (size_t)s->head_dim;
    size_t numbers = n * (size_t)columns * sizeof(cl_float);
    size_t bases = one_layer ? numbers / (size_t)s->layers : numbers;
    if (spare && is_same(&spare->measured, columns, one_layer, metric)) {
        *out = spare->measured;
        spare->measured = (vlci_code_measured){0};
        return VLCACHE_OK;
    }
    *out = (vlci_code_measured){.columns = columns, .one_layer = one_layer, .metric = metric};
    vlcache_status status =
        vlci_memory_create(device, n * dim * sizeof(cl_half), "coding: means", &out->mean);
    if (!status) status = vlci_memory_create(device, bases * dim, "coding: bases", &out->basis);
    if (!status && metric)
        status = vlci_memory_create(device, bases * dim, "coding: bases, back", &out->back);
    if (!status) status = vlci_memory_create(device, numbers, "coding: energies", &out->energy);
    if (!status) status = vlci_memory_create(device, n * sizeof(cl_float), "coding: totals", &out->total);
    if (!status)
        status = vlci_memory_create(device, numbers + 2 * n * sizeof(cl_float), "coding: what is measured",
                                    &out->numbers);
    return status;
}

void vlci_code_end(vlcache_device *device, vlci_code_measured *m) {
    vlci_memory_release(device, &m->mean);
    vlci_memory_release(device, &m->basis);
    vlci_memory_release(device, &m->back);
    vlci_memory_release(device, &m->energy);
    vlci_memory_release(device, &m->total);
    vlci_memory_release(device, &m->numbers);
    *m = (vlci_code_measured){0};
}

void vlci_code_room_release(vlcache_device *device, vlci_code_room *room) {
    cl_mem *memory[] = {&room->parts, &room->covariance, &room->next, &room->q, &room->z, &room->steps};
    for (size_t i = 0; i < sizeof memory / sizeof *memory; i++) vlci_memory_release(device, memory[i]);
    *room = (vlci_code_room){0};
}

void vlci_code_lend(vlci_code_spare *spare, vlci_code_room *room) {
    if (!spare) return;
    *room = spare->room;
    spare->room = (vlci_code_room){0};
}

/* Bytes of both, about. */
static uint64_t scratch_bytes(const vlci_compress_shape *s, const vlci_code_room *room,
                              const vlci_code_measured *m) {
    uint64_t dim = (uint64_t)s->head_dim,
             n = 2 * (uint64_t)s->kv_heads * (m->one_layer ? 1 : (uint64_t)s->layers);
    return sizeof(cl_float) * (dim * dim * (room->shares + room->matrices) + room->values + room->dims +
                               n * dim * (uint64_t)m->columns * (m->metric ? 2 : 1));
}

void vlci_code_give_back(vlcache_device *device, const vlci_compress_shape *s, vlci_code_room *room,
                         vlci_code_measured *m, vlci_code_spare *spare) {
    if (spare && !spare->room.parts && !spare->measured.basis &&
        scratch_bytes(s, room, m) <= device->caps.info.global_memory / DEVICE_SHARE) {
        *spare = (vlci_code_spare){*room, *m};
        *room = (vlci_code_room){0};
        *m = (vlci_code_measured){0};
    }
    vlci_code_room_release(device, room);
    vlci_code_end(device, m);
}

void vlci_code_spare_release(vlcache_device *device, vlci_code_spare *spare) {
    vlci_code_room_release(device, &spare->room);
    vlci_code_end(device, &spare->measured);
}

/* Where the bases of some layers begin among those that are there. */
static size_t bases_at(const vlci_heads *h, const vlci_code_measured *m) {
    return m->one_layer ? 0 : first_matrix(h);
}

/* Rows of which one is taken into means and covariances. */
static int stride_of(const vlci_code_rows *rows) {
    return (int)ceil_div((size_t)rows->n, VLCI_CODE_SAMPLE);
}

static size_t taken(const vlci_code_rows *rows) {
    return ceil_div((size_t)rows->n, (size_t)stride_of(rows));
}

/* Rows of whole blocks, one of each stride: what steps are of. */
static size_t sampled(const vlci_code_rows *rows) {
    return ceil_div(padded(rows) / VLCI_CODE_ROWS, (size_t)stride_of(rows)) * VLCI_CODE_ROWS;
}

/* Whether steps are found, and codes made, without projections between. */
static bool codes_at_once(const vlci_code_kernels *k) {
    return k->steps_mma && k->pack_mma;
}

int vlci_code_write_layers(const vlci_code_kernels *k, const vlci_compress_shape *s,
                           const vlci_code_rows *rows, int most) {
    size_t wide = codes_at_once(k) ? 0 : padded(rows);
    size_t each = 2 * (size_t)s->kv_heads * wide * (size_t)most * sizeof(cl_float);
    size_t layers = each ? WRITTEN / each : (size_t)s->layers;
    return layers < 1 ? 1 : layers < (size_t)s->layers ? (int)layers : s->layers;
}

/* How the covariances of some layers are cut: tiles of each, shares of the rows. */
typedef struct cut {
    size_t tiles, shares, share;
} cut;

static cut cut_covariance(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows) {
    size_t side = ceil_div((size_t)h->shape.head_dim, VLCI_CODE_TILE), n = taken(rows);
    cut c = {.tiles = k->group == 1 || k->covariance_mma ? 1 : side * (side + 1) / 2};
    size_t wanted = ceil_div(BUSY * (size_t)h->device->caps.info.compute_units, c.tiles * n_matrices(h));
    size_t most = ceil_div(n, SHARE), shares = wanted < most ? wanted : most;
    c.share = ceil_div(ceil_div(n, shares), VLCI_CODE_ROWS) * VLCI_CODE_ROWS;
    c.shares = ceil_div(n, c.share);
    return c;
}

static vlcache_status make_room(const vlci_code_kernels *k, const vlci_heads *h, size_t shares, int columns,
                                vlci_code_room *room) {
    size_t n = n_matrices(h), dim = (size_t)h->shape.head_dim, floats = n * dim * sizeof(cl_float);
    vlcache_status status = VLCACHE_OK;
    if (n * shares > room->shares) {
        vlci_memory_release(h->device, &room->parts);
        room->shares = 0;
        status = vlci_memory_create(h->device, floats * dim * shares, "coding: parts of covariances",
                                    &room->parts);
        if (!status) room->shares = n * shares;
    }
    if (status || (n <= room->matrices && columns <= room->columns)) return status;
    vlci_memory_release(h->device, &room->covariance);
    vlci_memory_release(h->device, &room->next);
    vlci_memory_release(h->device, &room->q);
    room->matrices = 0;
    status = vlci_memory_create(h->device, floats * dim, "coding: covariances", &room->covariance);
    if (!status && k->group == 1)
        status = vlci_memory_create(h->device, floats * (size_t)columns, "coding: iteration", &room->next);
    if (!status && !k->basis_mma)
        status = vlci_memory_create(h->device, floats * (size_t)columns, "coding: columns", &room->q);
    if (!status) room->matrices = n;
    room->columns = columns;
    return status;
}

/* Steps of `dims` dimensions, and with `wide` rows their projections. */
static vlcache_status make_code_room(const vlci_heads *h, size_t dims, size_t wide, vlci_code_room *room) {
    vlcache_status status = VLCACHE_OK;
    if (dims > room->dims) {
        vlci_memory_release(h->device, &room->steps);
        room->dims = 0;
        status = vlci_memory_create(h->device, dims * sizeof(cl_float), "coding: steps", &room->steps);
        if (!status) room->dims = dims;
    }
    if (status || dims * wide <= room->values) return status;
    vlci_memory_release(h->device, &room->z);
    room->values = 0;
    status = vlci_memory_create(h->device, dims * wide * sizeof(cl_float), "coding: projections", &room->z);
    if (!status) room->values = dims * wide;
    return status;
}

/* ---- the steps ----------------------------------------------------------------------------------------- */

/* SOURCE_PARAMS of cl/code.cl. */
#define SOURCE_OF(h, rows)                                                                                   \
    VLCI_POOL_OF(&(h)->kv, (h)->heads_at), VLCI_KEEP_OF(h), VLCI_MEM((rows)->positions),                     \
        VLCI_I32((rows)->n), VLCI_I32((rows)->run), VLCI_MEM((rows)->phase)

int vlci_code_layers(const vlci_code_kernels *k, const vlci_compress_shape *s) {
    size_t dim = (size_t)s->head_dim, each = 2 * (size_t)s->kv_heads * dim * dim * sizeof(cl_float);
    size_t layers = k->group == 1 ? 1 : ceil_div(MEASURED, each);
    return layers < (size_t)s->layers ? (int)layers : s->layers;
}

static vlcache_status measure_covariance(const vlci_code_kernels *k, const vlci_heads *h,
                                         const vlci_code_rows *rows, const cut *c, const vlci_code_room *room,
                                         const vlci_code_measured *measured) {
    size_t dim = (size_t)h->shape.head_dim, n = n_matrices(h);
    size_t share = k->group == 1 ? taken(rows) : SHARE, shares = ceil_div(taken(rows), share);
    bool whole = k->covariance_mma && c->shares == 1;
    vlcache_status status = VLCACHE_OK;
    if (!whole)
        status = VLCI_LAUNCH(h->device, k->mean, VLCI_GRID(n, shares, 1, k->group, 1, 1), SOURCE_OF(h, rows),
                             VLCI_I32(stride_of(rows)), VLCI_I32(share), VLCI_MEM(room->parts));
    if (!status && !whole)
        status = VLCI_LAUNCH(h->device, k->mean_sum, vlci_grid_over(k->mean_sum, dim, n, 1),
                             VLCI_MEM(room->parts), VLCI_I32(shares), VLCI_I32(taken(rows)),
                             VLCI_MEM(measured->mean), VLCI_U32(first_matrix(h)));
    if (k->covariance_mma) {
        if (!status)
            status =
                VLCI_LAUNCH(h->device, k->covariance_mma,
                            VLCI_GRID(c->shares, n, 1, VLCI_CODE_MMA_ITEMS, 1, 1), SOURCE_OF(h, rows),
                            VLCI_I32(stride_of(rows)), VLCI_MEM(measured->mean), VLCI_U32(first_matrix(h)),
                            VLCI_I32(c->share), VLCI_I32(whole ? (int)taken(rows) : 0),
                            VLCI_MEM(whole ? room->covariance : room->parts));
        if (status || whole) return status;
    } else if (!status)
        status = VLCI_LAUNCH(h->device, k->covariance, VLCI_GRID(c->tiles, c->shares, n, k->group, 1, 1),
                             SOURCE_OF(h, rows), VLCI_I32(stride_of(rows)), VLCI_MEM(measured->mean),
                             VLCI_U32(first_matrix(h)), VLCI_I32(c->share), VLCI_MEM(room->parts));
    return status ? status
                  : VLCI_LAUNCH(h->device, k->sum, vlci_grid_over(k->sum, dim / 8 * dim, n, 1),
                                VLCI_MEM(room->parts), VLCI_I32(c->shares), VLCI_I32(taken(rows)),
                                VLCI_MEM(room->covariance));
}

/* Covariances of values as they are heard; the parts have been added up. */
static vlcache_status hear(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_room *room,
                           const vlci_code_measured *measured) {
    size_t dim = (size_t)h->shape.head_dim;
    size_t heads = (size_t)vlci_heads_n(h);
    const vlci_grid grid = k->group == 1 ? vlci_grid_over(k->heard, dim / 8 * dim, heads, 1)
                                         : VLCI_GRID(dim / 8, heads, 1, k->group, 1, 1);
    if (!measured->metric) return VLCACHE_OK;
    if (k->heard_mma)
        return VLCI_LAUNCH(h->device, k->heard_mma, VLCI_GRID(heads, 1, 1, VLCI_CODE_HEARD_ITEMS, 1, 1),
                           VLCI_MEM(room->covariance), VLCI_MEM(measured->metric),
                           VLCI_U32(vlci_heads_first(h)));
    vlcache_status status =
        VLCI_LAUNCH(h->device, k->heard, grid, VLCI_MEM(room->covariance), VLCI_MEM(measured->metric),
                    VLCI_U32(vlci_heads_first(h)), VLCI_MEM(room->parts));
    return status ? status
                  : VLCI_LAUNCH(h->device, k->heard, grid, VLCI_MEM(room->parts), VLCI_MEM(measured->metric),
                                VLCI_U32(vlci_heads_first(h)), VLCI_MEM(room->covariance));
}

/* Bases there and back. */
static vlcache_status look_behind(const vlci_code_kernels *k, const vlci_heads *h,
                                  const vlci_code_measured *measured) {
    size_t columns = (size_t)measured->columns, n = n_matrices(h);
    if (!measured->metric) return VLCACHE_OK;
    size_t dim = (size_t)h->shape.head_dim, all = (size_t)h->shape.layers * (size_t)h->shape.kv_heads;
    vlci_grid grid = k->behind_mma   ? VLCI_GRID(columns / 16, n, 1, VLCI_CODE_BASIS_ITEMS, 1, 1)
                     : k->group == 1 ? vlci_grid_over(k->behind, columns, n, 1)
                                     : VLCI_GRID(ceil_div(columns, 8), n, 1, k->group, 1, 1);
    return VLCI_LAUNCH(h->device, k->behind_mma ? k->behind_mma : k->behind, grid, VLCI_MEM(measured->basis),
                       VLCI_I32(measured->columns), VLCI_U32(bases_at(h, measured)),
                       VLCI_MEM(measured->metric), VLCI_U32(vlci_heads_first(h)), VLCI_U32(all * dim * dim),
                       VLCI_MEM(measured->back));
}

static vlcache_status find_bases(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_room *room,
                                 const vlci_code_measured *measured) {
    bool few = measured->columns <= VLCI_CODE_BASIS_FEW(h->shape.head_dim);
    bool alone = k->basis_alone && n_matrices(h) <= (size_t)h->device->caps.info.compute_units;
    if (k->basis_mma && k->basis_few)
        return VLCI_LAUNCH(h->device,
                           alone ? k->basis_alone
                           : few ? k->basis_few
                                 : k->basis_mma,
                           VLCI_GRID(n_matrices(h), 1, 1,
                                     alone ? VLCI_CODE_BASIS_ALONE : VLCI_CODE_BASIS_ITEMS, 1, 1),
                           VLCI_MEM(room->covariance), VLCI_I32(measured->columns), VLCI_MEM(measured->basis),
                           VLCI_U32(bases_at(h, measured)), VLCI_MEM(measured->energy),
                           VLCI_MEM(measured->total), VLCI_U32(first_matrix(h)));
    return VLCI_LAUNCH(h->device, k->basis, VLCI_GRID(n_matrices(h), 1, 1, k->basis_group, 1, 1),
                       VLCI_MEM(room->covariance), VLCI_MEM(room->q), VLCI_MEM(room->next),
                       VLCI_I32(measured->columns), VLCI_MEM(measured->basis),
                       VLCI_U32(bases_at(h, measured)), VLCI_MEM(measured->energy), VLCI_MEM(measured->total),
                       VLCI_U32(first_matrix(h)));
}

vlcache_status vlci_code_measure(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                 vlci_code_room *room, const vlci_code_measured *measured) {
    cut c = cut_covariance(k, h, rows);
    vlcache_status status = make_room(k, h, c.shares, measured->columns, room);
    if (!status) status = measure_covariance(k, h, rows, &c, room, measured);
    if (!status) status = hear(k, h, room, measured);
    if (!status) status = find_bases(k, h, room, measured);
    return status ? status : look_behind(k, h, measured);
}

vlcache_status vlci_code_round(const vlci_code_kernels *k, const vlci_heads *h,
                               const vlci_code_measured *measured, const vlci_codes *codes) {
    size_t n = n_matrices(h), row = (size_t)codes->head_dim * sizeof(cl_half), at = first_matrix(h) * row;
    vlcache_status status = vlci_copy(h->device, measured->mean, at, codes->mean, at, n * row);
    if (status || !codes->dims) return status;
    size_t columns = (size_t)measured->columns, parts = (size_t)codes->head_dim / 16;
    const vlci_grid grid = k->group == 1
                               ? vlci_grid_over(k->round, columns, n, 1)
                               : VLCI_GRID(ceil_div(columns, k->group / parts), n, 1, k->group, 1, 1);
    return VLCI_LAUNCH(h->device, k->round, grid, VLCI_MEM(measured->back ? measured->back : measured->basis),
                       VLCI_I32(measured->columns), VLCI_U32(bases_at(h, measured)), VLCI_MEM(codes->matrix),
                       VLCI_U32(first_matrix(h)), VLCI_MEM(codes->basis), VLCI_MEM(codes->factor));
}

/* VALUES_PARAMS of cl/code.cl; held: the codes that take the place of z, or NULL. */
#define VALUES_OF(room, wide, most, held)                                                                    \
    VLCI_MEM((room)->z), VLCI_I32(wide), VLCI_I32(most), VLCI_MEM((held) ? (held)->matrix : NULL),           \
        VLCI_MEM((held) ? (held)->words : NULL), VLCI_MEM((held) ? (held)->factor : NULL)

/* Steps of what z, of `wide` rows, or `held` has. */
static vlcache_status find_steps(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                 int most, size_t wide, const vlci_code_room *room, const vlci_codes *held,
                                 const vlci_codes *codes) {
    return VLCI_LAUNCH(h->device, k->step, VLCI_GRID((size_t)most, n_matrices(h), 1, k->group, 1, 1),
                       VALUES_OF(room, wide, most, held), VLCI_I32(rows->n), VLCI_I32(stride_of(rows)),
                       VLCI_MEM(codes->matrix), VLCI_U32(first_matrix(h)), VLCI_MEM(room->steps),
                       VLCI_MEM(codes->factor));
}

/* Codes of what z, of all rows, or `held` has. */
static vlcache_status pack(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                           int most, const vlci_code_room *room, const vlci_codes *held,
                           const vlci_codes *codes) {
    size_t wide = padded(rows);
    return VLCI_LAUNCH(h->device, k->pack,
                       vlci_grid_over(k->pack, wide / VLCI_CODE_ROWS * (size_t)most, n_matrices(h), 1),
                       VALUES_OF(room, wide, most, held), VLCI_MEM(codes->matrix), VLCI_U32(first_matrix(h)),
                       VLCI_MEM(room->steps), VLCI_MEM(codes->words));
}

static vlcache_status write_text(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                 const vlci_codes *codes) {
    return VLCI_LAUNCH(
        h->device, k->text,
        vlci_grid_over(k->text, (size_t)rows->texts * VLCI_TEXT_UNITS((size_t)h->shape.head_dim),
                       n_matrices(h), 1),
        VLCI_POOL_OF(&h->kv, h->heads_at), VLCI_KEEP_OF(h), VLCI_MEM(rows->text_at), VLCI_I32(rows->texts),
        VLCI_MEM(codes->text), VLCI_MEM(codes->scale), VLCI_U32(first_matrix(h)));
}

/* z of all rows. */
static vlcache_status project(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                              int most, const vlci_code_room *room, const vlci_code_measured *measured,
                              const vlci_codes *codes) {
    size_t wide = padded(rows), at_once = k->group == 1 ? VLCI_CODE_ROWS : VLCI_CODE_PROJECTED;
    return VLCI_LAUNCH(h->device, k->project,
                       VLCI_GRID(ceil_div(wide, at_once), n_matrices(h), 1, k->group, 1, 1),
                       SOURCE_OF(h, rows), VLCI_MEM(measured->mean), VLCI_I32(wide),
                       VLCI_MEM(measured->basis), VLCI_I32(measured->columns),
                       VLCI_U32(bases_at(h, measured)), VLCI_MEM(codes->matrix), VLCI_U32(first_matrix(h)),
                       VLCI_I32(most), VLCI_MEM(room->z));
}

/* Steps of a sample on matrix units; where that is all rows, their codes, too. */
static vlcache_status find_steps_mma(const vlci_code_kernels *k, const vlci_heads *h,
                                     const vlci_code_rows *rows, int most, const vlci_code_room *room,
                                     const vlci_code_measured *measured, const vlci_codes *codes) {
    size_t dim = (size_t)h->shape.head_dim, pitch = steps_pitch(sampled(rows));
    size_t left = steps_local(h->device, dim) - VLCI_CODE_STEPS_BYTES(dim), dims = left / (2 * pitch);
    if (dims > VLCI_CODE_STEPS_DIMS) dims = VLCI_CODE_STEPS_DIMS;
    return VLCI_LAUNCH(h->device, k->steps_mma,
                       VLCI_GRID(ceil_div((size_t)most, dims), n_matrices(h), 1, VLCI_CODE_PACK_ITEMS, 1, 1),
                       SOURCE_OF(h, rows), VLCI_I32(stride_of(rows)), VLCI_MEM(measured->mean),
                       VLCI_MEM(measured->basis), VLCI_I32(measured->columns),
                       VLCI_U32(bases_at(h, measured)), VLCI_MEM(measured->energy), VLCI_MEM(codes->matrix),
                       VLCI_U32(first_matrix(h)), VLCI_I32(most), VLCI_I32(dims), VLCI_I32(pitch),
                       VLCI_MEM(room->steps), VLCI_MEM(codes->factor), VLCI_MEM(codes->words));
}

/* Codes of all rows, projected as they are packed: as many work-groups as run at a time. */
static vlcache_status pack_rows(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                int most, const vlci_code_room *room, const vlci_code_measured *measured,
                                const vlci_codes *codes) {
    size_t units = (size_t)h->device->caps.info.compute_units / n_matrices(h);
    size_t parts = ceil_div(padded(rows), VLCI_CODE_ROWS * VLCI_CODE_PACK_ITEMS / 32);
    if (parts > units) parts = units ? units : 1;
    return VLCI_LAUNCH(h->device, k->pack_mma, VLCI_GRID(parts, n_matrices(h), 1, VLCI_CODE_PACK_ITEMS, 1, 1),
                       SOURCE_OF(h, rows), VLCI_MEM(measured->mean), VLCI_MEM(measured->basis),
                       VLCI_I32(measured->columns), VLCI_U32(bases_at(h, measured)), VLCI_MEM(codes->matrix),
                       VLCI_U32(first_matrix(h)), VLCI_I32(most), VLCI_MEM(room->steps),
                       VLCI_MEM(codes->words));
}

vlcache_status vlci_code_write(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                               int most, vlci_code_room *room, const vlci_code_measured *measured,
                               const vlci_codes *codes) {
    size_t wide = codes_at_once(k) ? 0 : padded(rows);
    vlcache_status status = write_text(k, h, rows, codes);
    if (status || !most) return status;
    status = make_code_room(h, n_matrices(h) * (size_t)most, wide, room);
    if (status) return status;
    if (codes_at_once(k)) {
        status = find_steps_mma(k, h, rows, most, room, measured, codes);
        return status || stride_of(rows) == 1 ? status : pack_rows(k, h, rows, most, room, measured, codes);
    }
    status = project(k, h, rows, most, room, measured, codes);
    if (!status) status = find_steps(k, h, rows, most, wide, room, NULL, codes);
    return status ? status : pack(k, h, rows, most, room, NULL, codes);
}

vlcache_status vlci_code_narrow(const vlci_code_kernels *k, const vlci_heads *h, const vlci_code_rows *rows,
                                int most, vlci_code_room *room, const vlci_codes *held,
                                const vlci_codes *codes) {
    if (!most) return VLCACHE_OK;
    vlcache_status status = make_code_room(h, n_matrices(h) * (size_t)most, 0, room);
    if (!status)
        status = VLCI_LAUNCH(h->device, k->narrow, vlci_grid_over(k->narrow, (size_t)most, n_matrices(h), 1),
                             VLCI_MEM(held->matrix), VLCI_MEM(held->basis), VLCI_MEM(codes->matrix),
                             VLCI_U32(first_matrix(h)), VLCI_MEM(codes->basis), VLCI_MEM(codes->factor));
    if (!status) status = find_steps(k, h, rows, most, 0, room, held, codes);
    return status ? status : pack(k, h, rows, most, room, held, codes);
}

vlcache_status vlci_code_keep_text(const vlci_code_kernels *k, const vlci_heads *h, cl_mem kept,
                                   const vlci_codes *held, const vlci_codes *codes) {
    size_t units = (size_t)codes->texts * VLCI_TEXT_UNITS((size_t)h->shape.head_dim);
    return VLCI_LAUNCH(h->device, k->text_keep, vlci_grid_over(k->text_keep, units, n_matrices(h), 1),
                       VLCI_MEM(kept), VLCI_I32(codes->texts), VLCI_I32(held->texts), VLCI_MEM(held->text),
                       VLCI_MEM(held->scale), VLCI_MEM(codes->text), VLCI_MEM(codes->scale),
                       VLCI_U32(first_matrix(h)));
}
