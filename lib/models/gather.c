/*
 * gather.c - rows of features by an index that is made on the host.
 */
#include "models/gather.h"

vlcache_status vlci_gather(const vlci_compute *compute, cl_mem x, cl_mem other, const int32_t *source,
                           int rows, int width, cl_mem *out) {
    vlcache_device *device = compute->device;
    cl_mem index = NULL;
    size_t bytes = (size_t)rows * sizeof(int32_t), wide = (size_t)rows * (size_t)width * sizeof(float);
    *out = NULL;
    vlcache_status status = vlci_memory_create(device, bytes, "row index", &index);
    if (!status) status = vlci_write(device, index, 0, source, bytes);
    if (!status) status = vlci_memory_create(device, wide, "visual tokens", out);
    if (!status) status = vlci_gather_run(&compute->embed, x, other, index, *out, rows, width);
    vlci_memory_release(device, &index);
    if (status) vlci_memory_release(device, out);
    return status;
}
