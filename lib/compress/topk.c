/*
 * topk.c - which tokens each kv head keeps.
 *
 *     kept(kv) = the recent(l) last tokens, the sinks and the best-scored others, ascending; ties: the lower
 * wins
 *
 * In: scores, on the device. Out: positions, on the device; the host sees them only when asked. Two rungs:
 * "group", a work-group for each kv head, and "single", one work-item, where that is a whole core.
 */
#include <stdio.h>
#include <string.h>

#include "compress/compress.h"
#include "device/ladder.h"

static const char *const rungs[] = {"group", "single", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "single") == 0 || device->caps.max_group >= 64;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "single" : "group";
}

const vlci_ladder vlci_topk_ladder = {"topk", "compression", rungs, rung_fits, choose};

static vlcache_status group_size(const vlcache_device *device, size_t *group) {
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_topk_ladder, choose(device), &rung);
    if (!status) *group = strcmp(rung, "single") == 0 ? 1 : device->caps.max_group >= 256 ? 256 : 64;
    return status;
}

static vlcache_status get_kernel(vlcache_device *device, size_t group, const vlci_kernel **kernel) {
    char options[32];
    snprintf(options, sizeof options, "-DTOPK_GROUP=%zu", group);
    return vlci_kernel_get(device, "topk.cl", "topk", options, kernel);
}

static vlcache_status find_kernel(vlcache_device *device, size_t *group, const vlci_kernel **kernel) {
    vlcache_status status = group_size(device, group);
    if (!status) status = get_kernel(device, *group, kernel);
    if (!status && (*kernel)->max_group < *group) { /* a kernel may take fewer than its device */
        *group = 1;
        status = get_kernel(device, *group, kernel);
    }
    return status;
}

vlcache_status vlci_topk_build(vlcache_device *device) {
    const vlci_kernel *kernel = NULL;
    size_t group = 0;
    return find_kernel(device, &group, &kernel);
}

vlcache_status vlci_topk(vlcache_device *device, cl_mem score, int batch, int kv_heads, int stride,
                         cl_mem tokens, cl_mem kept, cl_mem recent, int first, int sinks, cl_mem out,
                         int rows) {
    const vlci_kernel *kernel = NULL;
    size_t group = 0;
    vlcache_status status = find_kernel(device, &group, &kernel);
    if (status) return status;
    vlci_grid grid = VLCI_GRID((size_t)kv_heads, (size_t)batch, 1, group, 1, 1);
    return VLCI_LAUNCH(device, kernel, grid, VLCI_MEM(score), VLCI_U32(stride), VLCI_I32(kv_heads),
                       VLCI_MEM(tokens), VLCI_MEM(kept), VLCI_MEM(recent), VLCI_U32(first), VLCI_I32(sinks),
                       VLCI_MEM(out), VLCI_U32(rows));
}

vlcache_status vlci_compress_positions(vlci_compress *p, int layer, int sequence, int kv_head, int *out) {
    if (!p->kept[layer]) return vlci_fail(VLCACHE_E_INTERNAL, "compress: layer %d was not compacted", layer);
    size_t row = (size_t)sequence * (size_t)p->shape.kv_heads + (size_t)kv_head;
    size_t bytes = (size_t)vlci_compress_kept(p, layer, sequence) * sizeof(cl_int);
    return vlci_read(p->device, p->kept[layer],
                     row * (size_t)vlci_compress_kept_rows(p, layer) * sizeof(cl_int), out, bytes);
}
