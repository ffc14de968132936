/*
 * random.c - what stands for a checkpoint where there is none: weights that the device makes for itself, by
 * name.
 *
 *     matrix [n][k]: uniform with standard deviation 1 / sqrt(k), so that a row of unit variance gives a row
 *                    of unit variance
 *     norm: 1, no bias to speak of; any other vector: small
 */
#include <math.h>
#include <string.h>

#include "models/weight.h"

/* FNV-1a: where the numbers of a name begin. */
static uint32_t seed_of(const char *prefix, const char *name, const char *suffix) {
    const char *const parts[] = {prefix, name, suffix};
    uint32_t sum = 2166136261u;
    for (int i = 0; i < 3; i++)
        for (const char *c = parts[i]; *c; c++) sum = (sum ^ (unsigned char)*c) * 16777619u;
    return sum;
}

static vlcache_status make_vector(vlci_upload *up, const char *name, size_t n, uint32_t seed, float mean,
                                  float scale, cl_mem *out) {
    vlcache_status status = VLCACHE_OK;
    if (up->device) status = vlci_memory_create(up->device, n * sizeof(float), name, out);
    if (!status && up->device) status = vlci_random_floats(up->device, *out, n, seed, mean, scale);
    if (status)
        vlci_memory_release(up->device, out);
    else
        up->device_bytes += n * sizeof(float);
    return status;
}

static const float small = 0.02f;

vlcache_status vlci_make_matrix(vlci_upload *up, const char *prefix, const char *name, int n, int k,
                                bool bias, vlci_matrix *out) {
    *out = (vlci_matrix){.n = n, .k = k, .dtype = up->dtype};
    vlcache_status status = up->device ? vlci_compute_open_dtype(up->compute, up->dtype) : VLCACHE_OK;
    if (!status && up->device) out->layout = vlci_linear_layout(&up->compute->linear, up->dtype);
    size_t bytes = vlci_matrix_bytes(n, k, out->dtype, out->layout);
    if (!status && up->device) status = vlci_memory_create(up->device, bytes, name, &out->data);
    if (!status && up->device)
        status =
            vlci_random_matrix(up->device, out, seed_of(prefix, name, ".weight"), sqrtf(3.0f / (float)k));
    if (!status) vlci_upload_count(up, bytes);
    if (!status && bias)
        status = make_vector(up, name, (size_t)n, seed_of(prefix, name, ".bias"), 0.0f, small, &out->bias);
    if (status) vlci_matrix_release(up->device, out);
    return status;
}

vlcache_status vlci_make_vector(vlci_upload *up, const char *prefix, const char *name, size_t n,
                                cl_mem *out) {
    bool norm = strcmp(name, "weight") == 0; /* which is all that norms call so; other names say more */
    return make_vector(up, name, n, seed_of(prefix, name, ""), norm ? 1.0f : 0.0f, norm ? 0.0f : small, out);
}
