/*
 * gather.c - rows of features by an index that is made on the host.
 */
#include "models/gather.h"

/* The index on the device, and room for the rows. */
static vlcache_status begin(vlcache_device *device, const void *source, size_t bytes, size_t wide,
                            cl_mem *index, cl_mem *out) {
    *index = *out = NULL;
    vlcache_status status = vlci_memory_create(device, bytes, "row index", index);
    if (!status) status = vlci_write(device, *index, 0, source, bytes);
    return status ? status : vlci_memory_create(device, wide, "visual tokens", out);
}

static vlcache_status end(vlcache_device *device, vlcache_status status, cl_mem *index, cl_mem *out) {
    vlci_memory_release(device, index);
    if (status) vlci_memory_release(device, out);
    return status;
}

vlcache_status vlci_gather(const vlci_compute *compute, cl_mem x, cl_mem other, const int32_t *source,
                           int rows, int width, cl_mem *out) {
    cl_mem index;
    size_t n = (size_t)rows;
    vlcache_status status =
        begin(compute->device, source, n * sizeof *source, n * (size_t)width * sizeof(float), &index, out);
    if (!status) status = vlci_gather_run(&compute->embed, x, other, index, *out, rows, width);
    return end(compute->device, status, &index, out);
}

vlcache_status vlci_gather_blends(const vlci_compute *compute, cl_mem x, cl_mem other,
                                  const vlci_blend *source, int rows, int width, cl_mem *out) {
    cl_mem index;
    size_t n = (size_t)rows;
    vlcache_status status =
        begin(compute->device, source, n * sizeof *source, n * (size_t)width * sizeof(float), &index, out);
    if (!status) status = vlci_blend_run(&compute->embed, x, other, index, *out, rows, width);
    return end(compute->device, status, &index, out);
}
