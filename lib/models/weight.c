/*
 * weight.c - uploads weights: from the checkpoint into the dtype and the layout that their product reads, in
 * one pass.
 *
 *     a matrix  = slabs of whole blocks, written one after another while the device takes the one before
 *     a slab    = bands of 32 rows, of which a team does as many at a time as it has members:
 *     a band    : read from the file --> converted, where the dtype is another --> packed into the slab
 *
 *     ROWS:   element (n, k) at n * K + k
 *     PANELS: element (n, k) at VLCI_PANEL_AT(n, k, K), the last panel padded with zeros
 *     BLOCKS: at VLCI_BLOCK_AT(n, k, K), the last blocks padded with zeros
 *     PAIRS:  at VLCI_PAIR_AT(n, k, K), likewise
 *
 * Where the device is a processor and reads rows, a matrix that is stored as it is held stays in its file:
 * its parts are mapped, and nothing is read but what the system brings.
 */
#include "models/weight.h"

#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

enum { BANDS = 3, SLAB_BYTES = 64 << 20, MEMBERS_MOST = 16 }; /* more cores than that only wait for memory */

/* Tells of `bytes` of the checkpoint more. */
static vlcache_status advance(vlci_upload *up, uint64_t bytes) {
    up->done += bytes;
    if (up->progress && !up->progress(up->progress_user, "loading weights", up->done, up->total))
        return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while loading weights");
    return VLCACHE_OK;
}

/* ---- a slab -------------------------------------------------------------------------------------------- */

/* Views one below the other, and the part of them that is being packed. */
typedef struct slab {
    const vlci_upload *up;
    const vlci_weight_view *views;
    const vlci_part *parts;
    size_t n_parts;
    const float *scale; /* of each row of the matrix; NULL: none */
    const vlci_matrix *matrix;
    int first, rows; /* of the matrix */
    char *to;
} slab;

/* Bytes of a band at its widest. A member has BANDS of them: as read, as floats, and what it packs from. */
static size_t band_bytes(int k) {
    return (size_t)VLCI_BAND * (size_t)k * sizeof(float);
}

static void scale_rows(float *wide, int rows, size_t k, const float *scale) {
    for (int row = 0; row < rows; row++)
        for (size_t i = 0; i < k; i++) wide[(size_t)row * k + i] *= scale[row];
}

/* Rows [row, end) of one view, in the matrix's dtype; `scale`: of each of them, or NULL. `raw`: two bands. */
static vlcache_status read_part(const slab *s, const vlci_weight_view *view, int row, int end,
                                const float *scale, char *raw, void *to) {
    size_t n = (size_t)(end - row) * (size_t)s->matrix->k, element = vlci_dtype_bytes(view->dtype);
    size_t at = (size_t)row * (size_t)s->matrix->k * element;
    bool same = view->dtype == s->matrix->dtype && !scale;
    vlcache_status status = vlci_checkpoint_read(s->up->checkpoint, view, at, same ? to : raw, n * element);
    if (status || same) return status;
    if (scale) {
        float *wide = (float *)(raw + band_bytes(s->matrix->k));
        vlci_widen(raw, view->dtype, wide, n);
        scale_rows(wide, end - row, (size_t)s->matrix->k, scale);
        vlci_narrow(wide, to, s->matrix->dtype, n);
    } else
        vlci_convert(raw, view->dtype, to, s->matrix->dtype, n);
    return VLCACHE_OK;
}

/* Rows [row, end) of the matrix. */
static vlcache_status read_rows(const slab *s, int row, int end, char *raw, char *to) {
    const float *scale = s->scale ? s->scale + row : NULL;
    vlcache_status status = VLCACHE_OK;
    size_t row_bytes = (size_t)s->matrix->k * vlci_dtype_bytes(s->matrix->dtype);
    for (size_t p = 0; p < s->n_parts && row < end && !status; p++) {
        int n = s->parts[p].n, stop = end < n ? end : n;
        if (row < n) {
            status = read_part(s, &s->views[p], row, stop, scale, raw, to);
            to += (size_t)(stop - row) * row_bytes;
            if (scale) scale += stop - row;
            row = stop;
        }
        row -= n; /* they count from the next part's */
        end -= n;
    }
    return status;
}

/* The pages of a band that begins at a row of the slab. */
static void populate_band(const slab *s, int row) {
    const vlci_matrix *m = s->matrix;
    int end = row + VLCI_BAND < s->rows ? row + VLCI_BAND : s->rows;
    if (row >= end) return;
    size_t from = vlci_matrix_bytes(row, m->k, m->dtype, m->layout);
    size_t to = vlci_matrix_bytes(end, m->k, m->dtype, m->layout);
    vlci_bulk_populate(&s->up->bulk, s->to + from, to - from);
}

static vlcache_status pack_band(void *user, size_t item, int member) {
    const slab *s = user;
    const vlci_matrix *matrix = s->matrix;
    int row = (int)item * VLCI_BAND, n = s->rows - row < VLCI_BAND ? s->rows - row : VLCI_BAND;
    size_t row_bytes = (size_t)matrix->k * vlci_dtype_bytes(matrix->dtype);
    char *raw = s->up->scratch + (size_t)member * BANDS * band_bytes(matrix->k);
    populate_band(s, row);
    if (n < 0) n = 0; /* the lower half of the last blocks */
    if (matrix->layout == VLCI_ROWS)
        return read_rows(s, s->first + row, s->first + row + n, raw, s->to + (size_t)row * row_bytes);
    char *rows = raw + 2 * band_bytes(matrix->k);
    vlcache_status status = read_rows(s, s->first + row, s->first + row + n, raw, rows);
    if (status) return status;
    memset(rows + (size_t)n * row_bytes, 0, (size_t)(VLCI_BAND - n) * row_bytes);
    vlci_pack(rows, row, matrix->k, matrix->dtype, matrix->layout, s->to);
    return VLCACHE_OK;
}

/* ---- the team ------------------------------------------------------------------------------------------ */

/* As many as VLCACHE_LOAD_THREADS says, or as there are processors. */
static vlcache_status count_members(int *members) {
    const char *asked = getenv("VLCACHE_LOAD_THREADS");
    char *end;
    *members = vlci_processors();
    if (*members > MEMBERS_MOST) *members = MEMBERS_MOST;
    if (!asked || !*asked) return VLCACHE_OK;
    long number = strtol(asked, &end, 10);
    if (*end || number < 1 || number > VLCI_TEAM_MOST)
        return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_LOAD_THREADS", asked,
                                "must be from 1 to %d", VLCI_TEAM_MOST);
    *members = (int)number;
    return VLCACHE_OK;
}

/* A team, and memory for bands of k of each of its members. */
static vlcache_status gather_team(vlci_upload *up, int k) {
    int members;
    vlcache_status status = VLCACHE_OK;
    up->bulk.device = up->device;
    if (!up->team) {
        status = count_members(&members);
        if (!status) status = vlci_team_create(members, &up->team);
        if (status) return status;
    }
    size_t bytes = (size_t)vlci_team_size(up->team) * BANDS * band_bytes(k);
    if (bytes <= up->scratch_bytes) return VLCACHE_OK;
    vlci_free(up->scratch);
    up->scratch = vlci_alloc(bytes, 1);
    up->scratch_bytes = up->scratch ? bytes : 0;
    return up->scratch ? VLCACHE_OK : vlci_fail_memory("weights on their way to the device");
}

void vlci_upload_count(vlci_upload *up, uint64_t bytes) {
    up->device_bytes += bytes;
    if (bytes > up->largest) up->largest = bytes;
    if (bytes > up->piece) up->piece = bytes;
}

/* The same of one whose parts stay in their files. */
static void count_mapped(vlci_upload *up, uint64_t bytes, const vlci_weight_view *views, size_t n_parts) {
    up->device_bytes += bytes;
    up->mapped_bytes += bytes;
    if (bytes > up->largest) up->largest = bytes;
    for (size_t p = 0; p < n_parts; p++)
        if (views[p].bytes > up->piece) up->piece = views[p].bytes;
}

vlcache_status vlci_upload_end(vlci_upload *up, vlcache_status status) {
    if (!status) status = vlci_bulk_settle(&up->bulk);
    vlci_bulk_release(&up->bulk);
    vlci_team_destroy(&up->team);
    vlci_free(up->scratch);
    up->scratch = NULL;
    up->scratch_bytes = 0;
    return status;
}

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* Packs the slab's rows and sends them. */
static vlcache_status send_slab(vlci_upload *up, slab *s) {
    const vlci_matrix *m = s->matrix;
    size_t offset = vlci_matrix_bytes(s->first, m->k, m->dtype, m->layout);
    size_t bytes = vlci_matrix_bytes(s->rows, m->k, m->dtype, m->layout);
    size_t bands = vlci_ceil_div((size_t)s->rows, VLCI_BAND);
    if (m->layout == VLCI_BLOCKS) bands = VLCI_BLOCKS(s->rows) * (VLCI_BLOCK / VLCI_BAND);
    void *to;
    vlcache_status status = vlci_bulk_begin(&up->bulk, m->data, offset, bytes, &to);
    if (status) return status;
    s->to = to;
    status = vlci_team_run(up->team, bands, pack_band, s);
    if (!status) return vlci_bulk_end(&up->bulk);
    vlci_bulk_abandon(&up->bulk);
    return status;
}

/* Slab by slab: of as many whole blocks of rows as it has room for. */
static vlcache_status send_rows(vlci_upload *up, const vlci_weight_view *views, const vlci_part *parts,
                                size_t n_parts, const float *scale, const vlci_matrix *matrix) {
    size_t block = vlci_matrix_bytes(VLCI_BLOCK, matrix->k, matrix->dtype, matrix->layout);
    size_t room = up->slab_bytes ? up->slab_bytes : SLAB_BYTES;
    int most = VLCI_BLOCK * (int)(block < room ? room / block : 1);
    uint64_t stored = 0, told = 0;
    for (size_t p = 0; p < n_parts; p++) stored += views[p].bytes;
    slab s = {.up = up, .views = views, .parts = parts, .n_parts = n_parts, .scale = scale, .matrix = matrix};
    vlcache_status status = gather_team(up, matrix->k);
    for (; s.first < matrix->n && !status; s.first += s.rows) {
        s.rows = matrix->n - s.first < most ? matrix->n - s.first : most;
        status = send_slab(up, &s);
        uint64_t until = (uint64_t)((double)stored * (s.first + s.rows) / matrix->n);
        if (s.first + s.rows == matrix->n) until = stored;
        if (!status) status = advance(up, until - told);
        told = until;
    }
    return status;
}

static vlcache_status get_part(vlci_upload *up, const char *prefix, const vlci_part *part, const char *suffix,
                               int n_dims, const size_t *dims, vlci_weight_view *view) {
    char *name = vlci_format("%s%s%s", prefix, part->name, suffix);
    if (!name) return vlci_fail_memory("tensor name");
    vlcache_status status = vlci_checkpoint_take(up->checkpoint, name, n_dims, dims, view);
    vlci_free(name);
    return status;
}

/* All of a tensor, as f32. */
static vlcache_status read_floats(vlci_upload *up, const vlci_weight_view *view, float *to, size_t n) {
    void *raw = vlci_alloc(view->bytes, 1);
    if (!raw) return vlci_fail_memory(view->name);
    vlcache_status status = vlci_checkpoint_read(up->checkpoint, view, 0, raw, view->bytes);
    if (!status) vlci_widen(raw, view->dtype, to, n);
    vlci_free(raw);
    return status ? status : advance(up, view->bytes);
}

/* n values in memory of their own; without a device they are counted, and may be NULL. */
static vlcache_status send_floats(vlci_upload *up, const char *name, const float *values, size_t n,
                                  cl_mem *out) {
    size_t bytes = n * sizeof *values;
    vlcache_status status = up->device ? vlci_memory_create(up->device, bytes, name, out) : VLCACHE_OK;
    if (!status && up->device) status = vlci_write_later(up->device, *out, 0, values, bytes);
    if (!status) up->device_bytes += bytes;
    return status;
}

static vlcache_status upload_biases(vlci_upload *up, const char *prefix, const vlci_part *parts,
                                    size_t n_parts, const float *scale, vlci_matrix *matrix) {
    float *bias = up->device ? vlci_alloc((size_t)matrix->n, sizeof(float)) : NULL;
    vlcache_status status = bias || !up->device ? VLCACHE_OK : vlci_fail_memory("bias");
    size_t at = 0;
    for (size_t p = 0; p < n_parts && !status; p++) {
        vlci_weight_view view;
        size_t n = (size_t)parts[p].n;
        status = get_part(up, prefix, &parts[p], ".bias", 1, &n, &view);
        if (!status && bias) status = read_floats(up, &view, bias + at, n);
        at += n;
    }
    if (!status && bias && scale) scale_rows(bias, matrix->n, 1, scale);
    if (!status) status = send_floats(up, parts[0].name, bias, at, &matrix->bias);
    vlci_free(bias);
    return status;
}

/* The dtype that a matrix gets, and the layout that goes with it. */
static vlcache_status choose_form(vlci_upload *up, const vlci_weight_view *views, size_t n,
                                  vlci_matrix *matrix) {
    vlcache_dtype dtype = up->dtype != VLCACHE_DTYPE_AUTO ? up->dtype : views[0].dtype;
    for (size_t i = 1; i < n && up->dtype == VLCACHE_DTYPE_AUTO; i++)
        if (views[i].dtype != dtype) dtype = VLCACHE_DTYPE_F32; /* which holds either exactly */
    matrix->dtype = dtype;
    if (!up->device) return VLCACHE_OK;
    vlcache_status status = vlci_compute_open_dtype(up->compute, dtype);
    if (!status) matrix->layout = vlci_linear_layout(&up->compute->linear, dtype);
    return status;
}

/* ---- matrices that stay in their files ----------------------------------------------------------------- */

/* Whether kernels can read what the file has: the numbers as they are, at addresses that are multiples of
 * their size, in parts that end where kernels look for their ends. */
static bool fits_mapped(const vlci_upload *up, const vlci_weight_view *views, const vlci_part *parts,
                        size_t n, const vlci_matrix *matrix) {
    bool fits = !up->no_mmap && n <= VLCI_MATRIX_PARTS;
    for (size_t p = 0; p < n && fits; p++)
        fits = views[p].dtype == matrix->dtype && parts[p].n > 0 &&
               vlci_checkpoint_place(up->checkpoint, &views[p]) % vlci_dtype_bytes(views[p].dtype) == 0 &&
               (p + 1 == n || parts[p].n % VLCI_PART_MULTIPLE == 0);
    return fits;
}

/* Whether the device is one that reads such weights where they lie. */
static bool reads_files(const vlci_upload *up, vlcache_dtype dtype) {
    const vlci_caps *caps = &up->device->caps;
    return caps->wide_vectors && caps->info.unified_memory &&
           vlci_linear_takes_mapped(&up->compute->linear, dtype);
}

/* One part; `*out` stays NULL where the system does not map the file. */
static vlcache_status map_part(vlci_upload *up, const vlci_weight_view *view, cl_mem *out) {
    vlci_mapping *mapping;
    size_t at;
    vlcache_status status = vlci_checkpoint_map(up->checkpoint, view, &mapping, &at);
    if (status == VLCACHE_E_UNSUPPORTED) return VLCACHE_OK;
    if (!status) status = vlci_memory_map(up->device, mapping, at, view->bytes, view->name, out);
    vlci_mapping_release(&mapping);
    return status;
}

/* All parts, or none: `*mapped`. */
static vlcache_status map_views(vlci_upload *up, const vlci_weight_view *views, const vlci_part *parts,
                                size_t n_parts, vlci_matrix *out, bool *mapped) {
    cl_mem *const to[VLCI_MATRIX_PARTS] = {&out->data, &out->more[0], &out->more[1]};
    uint64_t bytes = 0;
    vlcache_status status = vlci_linear_open_mapped(&up->compute->linear, out->dtype);
    for (size_t p = 0, rows = 0; p < n_parts && !status && *mapped; p++) {
        status = map_part(up, &views[p], to[p]);
        rows += (size_t)parts[p].n;
        if (p + 1 < n_parts) out->until[p] = (int)rows;
        *mapped = *to[p] != NULL;
        bytes += views[p].bytes;
    }
    if (!status && *mapped) {
        out->layout = VLCI_ROWS;
        return advance(up, bytes);
    }
    for (size_t p = 0; p < n_parts; p++) vlci_memory_release(up->device, to[p]);
    memset(out->until, 0, sizeof out->until);
    return status;
}

/* Uploads found views, one below the other; `out` says n and k. */
static vlcache_status upload_views(vlci_upload *up, const vlci_weight_view *views, const vlci_part *parts,
                                   size_t n_parts, const float *scale, vlci_matrix *out) {
    vlcache_status status = choose_form(up, views, n_parts, out);
    bool fits = !status && !scale && fits_mapped(up, views, parts, n_parts, out);
    bool mapped = fits && up->device && reads_files(up, out->dtype);
    if (mapped) status = map_views(up, views, parts, n_parts, out, &mapped);
    size_t bytes = vlci_matrix_bytes(out->n, out->k, out->dtype, out->layout);
    bool made = up->device && !mapped;
    if (!status && made) status = vlci_memory_create(up->device, bytes, views[0].name, &out->data);
    if (!status && made) status = send_rows(up, views, parts, n_parts, scale, out);
    if (!status && (mapped || (fits && !up->device)))
        count_mapped(up, bytes, views, n_parts);
    else if (!status)
        vlci_upload_count(up, bytes);
    return status;
}

vlcache_status vlci_upload_kernel(vlci_upload *up, const char *prefix, const char *name, int n_dims,
                                  const size_t *dims, int n, int k, bool bias, vlci_matrix *out) {
    vlci_weight_view view;
    vlci_part part = {name, n};
    if (!up->checkpoint) return vlci_make_matrix(up, prefix, name, n, k, bias, out);
    *out = (vlci_matrix){.n = n, .k = k};
    vlcache_status status = get_part(up, prefix, &part, ".weight", n_dims, dims, &view);
    if (!status) status = upload_views(up, &view, &part, 1, NULL, out);
    if (!status && bias) status = upload_biases(up, prefix, &part, 1, NULL, out);
    if (status) vlci_matrix_release(up->device, out);
    return status;
}

/* A vector of n values as f32 on the host, in new memory; without a device NULL. */
static vlcache_status read_vector(vlci_upload *up, const char *prefix, const char *name, int n, float **out) {
    size_t dim = (size_t)n;
    vlci_part part = {name, n};
    vlci_weight_view view;
    *out = NULL;
    vlcache_status status = get_part(up, prefix, &part, "", 1, &dim, &view);
    if (status || !up->device) return status;
    *out = vlci_alloc(dim, sizeof(float));
    if (!*out) return vlci_fail_memory(name);
    return read_floats(up, &view, *out, dim);
}

vlcache_status vlci_upload_matrix(vlci_upload *up, const char *prefix, const vlci_part *parts, size_t n_parts,
                                  int k, bool bias, vlci_matrix *out) {
    return vlci_upload_scaled(up, prefix, parts, n_parts, k, bias, NULL, out);
}

vlcache_status vlci_upload_scaled(vlci_upload *up, const char *prefix, const vlci_part *parts, size_t n_parts,
                                  int k, bool bias, const char *scale, vlci_matrix *out) {
    enum { MAX_PARTS = 4 };
    vlci_weight_view views[MAX_PARTS];
    float *scales = NULL;
    *out = (vlci_matrix){.k = k};
    for (size_t p = 0; !up->checkpoint && p < n_parts; p++) out->n += parts[p].n;
    if (!up->checkpoint) return vlci_make_matrix(up, prefix, parts[0].name, out->n, k, bias, out);
    if (n_parts > MAX_PARTS) return vlci_fail(VLCACHE_E_INTERNAL, "a matrix of %zu parts", n_parts);
    vlcache_status status = VLCACHE_OK;
    for (size_t p = 0; p < n_parts && !status; p++) {
        size_t dims[2] = {(size_t)parts[p].n, (size_t)k};
        status = get_part(up, prefix, &parts[p], ".weight", 2, dims, &views[p]);
        out->n += parts[p].n;
    }
    if (!status && scale) status = read_vector(up, prefix, scale, out->n, &scales);
    if (!status) status = upload_views(up, views, parts, n_parts, scales, out);
    if (!status && bias) status = upload_biases(up, prefix, parts, n_parts, scales, out);
    if (status) vlci_matrix_release(up->device, out);
    vlci_free(scales);
    return status;
}

/* A tensor's values with `plus` added; what is made in its place is as it should be. */
static vlcache_status upload_vector(vlci_upload *up, const char *prefix, const char *name, int n_dims,
                                    const size_t *dims, float plus, cl_mem *out) {
    *out = NULL;
    size_t n = 1;
    for (int d = 0; d < n_dims; d++) n *= dims[d];
    if (!up->checkpoint) return vlci_make_vector(up, prefix, name, n, out);
    vlci_part part = {name, 1};
    vlci_weight_view view;
    float *wide = NULL;
    vlcache_status status = get_part(up, prefix, &part, "", n_dims, dims, &view);
    if (status || !up->device) return status ? status : send_floats(up, name, NULL, n, out);
    wide = vlci_alloc(n, sizeof(float));
    if (!wide) return vlci_fail_memory(name);
    status = read_floats(up, &view, wide, n);
    for (size_t i = 0; plus != 0 && i < n; i++) wide[i] += plus;
    if (!status) status = send_floats(up, name, wide, n, out);
    if (status) vlci_memory_release(up->device, out);
    vlci_free(wide);
    return status;
}

vlcache_status vlci_upload_vector(vlci_upload *up, const char *prefix, const char *name, int n_dims,
                                  const size_t *dims, cl_mem *out) {
    return upload_vector(up, prefix, name, n_dims, dims, 0.0f, out);
}

vlcache_status vlci_upload_rms_norm(vlci_upload *up, const char *prefix, const char *name, int n, float plus,
                                    vlci_norm *out) {
    size_t dim = (size_t)n;
    char *full = vlci_format("%s%s.", prefix, name);
    if (!full) return vlci_fail_memory("tensor name");
    vlcache_status status = upload_vector(up, full, "weight", 1, &dim, plus, &out->weight);
    vlci_free(full);
    return status;
}

vlcache_status vlci_upload_norm(vlci_upload *up, const char *prefix, const char *name, int n, bool bias,
                                vlci_norm *out) {
    size_t dim = (size_t)n;
    char *full = vlci_format("%s%s.", prefix, name);
    if (!full) return vlci_fail_memory("tensor name");
    vlcache_status status = vlci_upload_vector(up, full, "weight", 1, &dim, &out->weight);
    if (!status && bias) status = vlci_upload_vector(up, full, "bias", 1, &dim, &out->bias);
    vlci_free(full);
    return status;
}

/* ---- release ------------------------------------------------------------------------------------------- */

void vlci_matrix_release(vlcache_device *device, vlci_matrix *matrix) {
    vlci_memory_release(device, &matrix->data);
    for (int p = 0; p < VLCI_MATRIX_PARTS - 1; p++) vlci_memory_release(device, &matrix->more[p]);
    vlci_memory_release(device, &matrix->bias);
    *matrix = (vlci_matrix){0};
}

void vlci_norm_release(vlcache_device *device, vlci_norm *norm) {
    vlci_memory_release(device, &norm->weight);
    vlci_memory_release(device, &norm->bias);
}
