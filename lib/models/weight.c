/*
 * weight.c - uploads weights: convert the dtype, arrange the layout, a slab of rows at a time.
 *
 *     ROWS:   element (n, k) at n * K + k
 *     PANELS: element (n, k) at VLCI_PANEL_AT(n, k, K), the last panel padded with zeros
 *     BLOCKS: at VLCI_BLOCK_AT(n, k, K), the last blocks padded with zeros
 */
#include "models/weight.h"

#include <string.h>

#include "core/alloc.h"

enum { SLAB_FLOATS = 1 << 20 }; /* 4 MiB of staging */

static float f16_to_f32(uint16_t h) {
    uint32_t sign = (uint32_t)(h & 0x8000u) << 16, rest = h & 0x7fffu, bits;
    if (rest >= 0x7c00u) {
        bits = 0x7f800000u | (rest & 0x3ffu) << 13;
    } else if (rest >= 0x400u) {
        bits = (rest << 13) + 0x38000000u;
    } else { /* subnormal: exact in f32 */
        float tiny = (float)rest * 0x1p-24f;
        memcpy(&bits, &tiny, 4);
    }
    bits |= sign;
    float value;
    memcpy(&value, &bits, 4);
    return value;
}

static uint16_t f32_to_f16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    uint16_t sign = (uint16_t)(bits >> 16 & 0x8000u);
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u) return sign | 0x7e00u;
    if (bits >= 0x477ff000u) return sign | 0x7c00u; /* rounds beyond the largest */
    if (bits < 0x38800000u) {                       /* subnormal: adding 0.5 shifts the last bit to 2^-24 */
        float magnitude;
        memcpy(&magnitude, &bits, 4);
        magnitude += 0.5f;
        memcpy(&bits, &magnitude, 4);
        return sign | (uint16_t)(bits - 0x3f000000u);
    }
    bits += 0xfffu + (bits >> 13 & 1u);
    return sign | (uint16_t)((bits - 0x38000000u) >> 13);
}

static uint16_t f32_to_bf16(float value) {
    uint32_t bits;
    memcpy(&bits, &value, 4);
    if ((bits & 0x7fffffffu) > 0x7f800000u) return (uint16_t)(bits >> 16 | 64u);
    return (uint16_t)((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
}

void vlci_widen(const void *from, vlcache_dtype dtype, float *to, size_t n) {
    const unsigned char *bytes = from; /* of any alignment: rows of a tensor */
    if (dtype == VLCACHE_DTYPE_F32) {
        memcpy(to, from, n * 4);
        return;
    }
    for (size_t i = 0; i < n; i++) {
        uint16_t h;
        memcpy(&h, bytes + 2 * i, 2);
        uint32_t wide = (uint32_t)h << 16;
        if (dtype == VLCACHE_DTYPE_F16)
            to[i] = f16_to_f32(h);
        else
            memcpy(to + i, &wide, 4);
    }
}

void vlci_narrow(const float *from, void *to, vlcache_dtype dtype, size_t n) {
    uint16_t *halves = to;
    if (dtype == VLCACHE_DTYPE_F32)
        memcpy(to, from, n * 4);
    else if (dtype == VLCACHE_DTYPE_F16)
        for (size_t i = 0; i < n; i++) halves[i] = f32_to_f16(from[i]);
    else
        for (size_t i = 0; i < n; i++) halves[i] = f32_to_bf16(from[i]);
}

static vlcache_status advance(vlci_upload *up, const vlci_weight_view *view) {
    vlci_checkpoint_drop(view);
    up->done += view->bytes;
    if (up->progress && !up->progress(up->progress_user, "loading weights", up->done, up->total))
        return vlci_fail(VLCACHE_E_CANCELLED, "cancelled while loading weights");
    return VLCACHE_OK;
}

/* Staging memory for one slab of rows: as f32, arranged, and in the stored dtype. */
typedef struct slab {
    float *wide, *arranged;
    void *stored;
    int rows; /* a multiple of VLCI_BLOCK, which whole panels make up */
} slab;

static void slab_release(slab *s) {
    vlci_free(s->wide);
    vlci_free(s->arranged);
    vlci_free(s->stored);
}

static vlcache_status slab_create(slab *s, int k) {
    *s = (slab){0};
    int blocks = SLAB_FLOATS / (VLCI_BLOCK * k);
    s->rows = VLCI_BLOCK * (blocks > 1 ? blocks : 1);
    size_t floats = (size_t)s->rows * VLCI_BLOCKS(k) * VLCI_BLOCK;
    s->wide = vlci_alloc(floats, sizeof(float));
    s->arranged = vlci_alloc(floats, sizeof(float));
    s->stored = vlci_alloc(floats, sizeof(float));
    return s->wide && s->arranged && s->stored ? VLCACHE_OK
                                               : vlci_fail_memory("weights on their way to the device");
}

/* The slab's rows as panels; rows past `rows` are zeros. */
static void arrange_panels(const slab *s, int rows, int k) {
    int whole = (rows + VLCI_PANEL - 1) / VLCI_PANEL * VLCI_PANEL;
    for (int row = 0; row < whole; row++) {
        float *panel = s->arranged + (size_t)(row / VLCI_PANEL) * VLCI_PANEL * (size_t)k + row % VLCI_PANEL;
        const float *source = s->wide + (size_t)row * (size_t)k;
        for (int i = 0; i < k; i++) panel[(size_t)i * VLCI_PANEL] = row < rows ? source[i] : 0.0f;
    }
}

/* The slab's rows as blocks, a run of 8 at a time; what pads them is zero. */
static void arrange_blocks(const slab *s, int rows, int k) {
    size_t whole = VLCI_BLOCKS(rows) * VLCI_BLOCK, width = VLCI_BLOCKS(k) * VLCI_BLOCK;
    memset(s->arranged, 0, whole * width * sizeof(float));
    for (int row = 0; row < rows; row++)
        for (int i = 0; i < k; i += 8)
            memcpy(s->arranged + VLCI_BLOCK_AT(row, i, k), s->wide + (size_t)row * (size_t)k + (size_t)i,
                   (size_t)(k - i < 8 ? k - i : 8) * sizeof(float));
}

/* Stores the first `rows` rows of the slab at matrix row `at`. */
static vlcache_status slab_store(vlci_upload *up, const slab *s, int rows, int at,
                                 const vlci_matrix *matrix) {
    size_t width = (size_t)matrix->k, element = vlci_dtype_bytes(matrix->dtype);
    int whole = rows;
    const float *from = s->wide;
    if (matrix->layout == VLCI_PANELS) {
        whole = (rows + VLCI_PANEL - 1) / VLCI_PANEL * VLCI_PANEL;
        arrange_panels(s, rows, matrix->k);
        from = s->arranged;
    }
    if (matrix->layout == VLCI_BLOCKS) {
        whole = (int)VLCI_BLOCKS(rows) * VLCI_BLOCK;
        width = VLCI_BLOCKS(matrix->k) * VLCI_BLOCK;
        arrange_blocks(s, rows, matrix->k);
        from = s->arranged;
    }
    vlci_narrow(from, s->stored, matrix->dtype, (size_t)whole * width);
    return vlci_write(up->device, matrix->data, (size_t)at * width * element, s->stored,
                      (size_t)whole * width * element);
}

static void scale_rows(float *wide, int rows, size_t k, const float *scale) {
    for (int row = 0; row < rows; row++)
        for (size_t i = 0; i < k; i++) wide[(size_t)row * k + i] *= scale[row];
}

/* Streams the parts' rows through the slab: slabs start at multiples of a panel whatever the parts' heights
 * are. `scale`: of each row; NULL: none. */
static vlcache_status stream_rows(vlci_upload *up, const vlci_weight_view *views, const vlci_part *parts,
                                  size_t n_parts, const float *scale, slab *s, const vlci_matrix *matrix) {
    vlcache_status status = VLCACHE_OK;
    size_t k = (size_t)matrix->k;
    int filled = 0, stored = 0;
    for (size_t p = 0; p < n_parts && !status; p++) {
        size_t row_bytes = k * vlci_dtype_bytes(views[p].dtype);
        for (int row = 0; row < parts[p].n && !status;) {
            int take = s->rows - filled < parts[p].n - row ? s->rows - filled : parts[p].n - row;
            vlci_widen((const char *)views[p].data + (size_t)row * row_bytes, views[p].dtype,
                       s->wide + (size_t)filled * k, (size_t)take * k);
            if (scale) scale_rows(s->wide + (size_t)filled * k, take, k, scale + stored + filled);
            row += take;
            filled += take;
            if (filled < s->rows) continue;
            status = slab_store(up, s, filled, stored, matrix);
            stored += filled;
            filled = 0;
        }
        if (!status) status = advance(up, &views[p]);
    }
    if (!status && filled) status = slab_store(up, s, filled, stored, matrix);
    return status;
}

static vlcache_status get_part(vlci_upload *up, const char *prefix, const vlci_part *part, const char *suffix,
                               int n_dims, const size_t *dims, vlci_weight_view *view) {
    char *name = vlci_format("%s%s%s", prefix, part->name, suffix);
    if (!name) return vlci_fail_memory("tensor name");
    vlcache_status status = vlci_checkpoint_get(up->checkpoint, name, n_dims, dims, view);
    vlci_free(name);
    return status;
}

static vlcache_status upload_biases(vlci_upload *up, const char *prefix, const vlci_part *parts,
                                    size_t n_parts, const float *scale, vlci_matrix *matrix) {
    float *bias = vlci_alloc((size_t)matrix->n, sizeof(float));
    vlcache_status status = bias ? VLCACHE_OK : vlci_fail_memory("bias");
    size_t at = 0;
    for (size_t p = 0; p < n_parts && !status; p++) {
        vlci_weight_view view;
        size_t n = (size_t)parts[p].n;
        status = get_part(up, prefix, &parts[p], ".bias", 1, &n, &view);
        if (status) break;
        vlci_widen(view.data, view.dtype, bias + at, n);
        at += n;
        status = advance(up, &view);
    }
    if (!status && scale) scale_rows(bias, matrix->n, 1, scale);
    if (!status) status = vlci_memory_create(up->device, at * sizeof(float), parts[0].name, &matrix->bias);
    if (!status) status = vlci_write(up->device, matrix->bias, 0, bias, at * sizeof(float));
    if (!status) up->device_bytes += at * sizeof(float);
    vlci_free(bias);
    return status;
}

/* The dtype that a matrix gets, and the layout that goes with it. */
static vlcache_status choose_form(vlci_upload *up, const vlci_weight_view *views, size_t n,
                                  vlci_matrix *matrix) {
    vlcache_dtype dtype = up->dtype != VLCACHE_DTYPE_AUTO ? up->dtype : views[0].dtype;
    vlcache_status status;
    for (size_t i = 1; i < n && up->dtype == VLCACHE_DTYPE_AUTO; i++)
        if (views[i].dtype != dtype) dtype = VLCACHE_DTYPE_F32; /* which holds either exactly */
    status = vlci_compute_open_dtype(up->compute, dtype);
    matrix->dtype = dtype;
    if (!status) matrix->layout = vlci_linear_layout(&up->compute->linear, dtype);
    return status;
}

/* Uploads found views, one below the other; `out` says n and k. */
static vlcache_status upload_views(vlci_upload *up, const vlci_weight_view *views, const vlci_part *parts,
                                   size_t n_parts, const float *scale, vlci_matrix *out) {
    slab s = {0};
    vlcache_status status = choose_form(up, views, n_parts, out);
    size_t bytes = vlci_matrix_bytes(out->n, out->k, out->dtype, out->layout);
    if (!status) status = vlci_memory_create(up->device, bytes, views[0].name, &out->data);
    if (!status) status = slab_create(&s, out->k);
    if (!status) status = stream_rows(up, views, parts, n_parts, scale, &s, out);
    if (!status) up->device_bytes += bytes;
    slab_release(&s);
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

/* A vector of n values as f32 on the host, in new memory. */
static vlcache_status read_vector(vlci_upload *up, const char *prefix, const char *name, int n, float **out) {
    size_t dim = (size_t)n;
    vlci_part part = {name, n};
    vlci_weight_view view;
    *out = NULL;
    vlcache_status status = get_part(up, prefix, &part, "", 1, &dim, &view);
    if (status) return status;
    *out = vlci_alloc(dim, sizeof(float));
    if (!*out) return vlci_fail_memory(name);
    vlci_widen(view.data, view.dtype, *out, dim);
    return advance(up, &view);
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
    if (status) return status;
    wide = vlci_alloc(n, sizeof(float));
    if (!wide) return vlci_fail_memory(name);
    vlci_widen(view.data, view.dtype, wide, n);
    for (size_t i = 0; plus != 0 && i < n; i++) wide[i] += plus;
    status = vlci_memory_create(up->device, n * sizeof(float), name, out);
    if (!status) status = vlci_write(up->device, *out, 0, wide, n * sizeof(float));
    if (!status) status = advance(up, &view);
    if (!status) up->device_bytes += n * sizeof(float);
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

void vlci_matrix_release(vlcache_device *device, vlci_matrix *matrix) {
    vlci_memory_release(device, &matrix->data);
    vlci_memory_release(device, &matrix->bias);
    *matrix = (vlci_matrix){0};
}

void vlci_norm_release(vlcache_device *device, vlci_norm *norm) {
    vlci_memory_release(device, &norm->weight);
    vlci_memory_release(device, &norm->bias);
}
