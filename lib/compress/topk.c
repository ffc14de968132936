/*
 * topk.c - which tokens each kv head keeps.
 *
 *     kept(kv) = the recent(l) last tokens, the sinks and the best-scored others, ascending
 *                (of equal scores the lower position)
 *
 * In: scores, on the device. Out: positions, on the device. Two rungs: "group", a work-group for each kv
 * head, and "single", one work-item, where that is a whole core.
 */
#include "compress/topk.h"

#include <stdio.h>
#include <string.h>

static const char *const rungs[] = {"group", "single", NULL};

static bool rung_fits(const vlcache_device *device, const char *rung) {
    return strcmp(rung, "single") == 0 || device->caps.max_group >= 64;
}

static const char *choose(const vlcache_device *device) {
    return device->caps.wide_vectors || !rung_fits(device, "group") ? "single" : "group";
}

const vlci_ladder vlci_topk_ladder = {"topk", "compression", rungs, rung_fits, choose};

static vlcache_status get_kernel(vlcache_device *device, vlci_topk_kernels *k) {
    char options[32];
    snprintf(options, sizeof options, "-DTOPK_GROUP=%zu", k->group);
    return vlci_kernel_get(device, "topk.cl", "topk", options, &k->topk);
}

/* As large a work-group as there is that the kernel built for it takes. */
vlcache_status vlci_topk_open(vlcache_device *device, vlci_topk_kernels *out) {
    static const size_t groups[] = {1024, 256, 64, 1};
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_topk_ladder, choose(device), &rung);
    if (status) return status;
    for (int i = strcmp(rung, "single") == 0 ? 3 : 0; i < 4; i++) {
        out->group = groups[i];
        if (out->group > device->caps.max_group) continue;
        status = get_kernel(device, out);
        if (status || out->topk->max_group >= out->group) return status;
    }
    return status;
}

vlcache_status vlci_topk(const vlci_heads *h, const vlci_topk_kernels *k, cl_mem score, size_t at,
                         cl_mem out) {
    return VLCI_LAUNCH(h->device, k->topk, VLCI_GRID((size_t)vlci_heads_n(h), 1, 1, k->group, 1, 1),
                       VLCI_MEM(score), VLCI_U32(at), VLCI_I32(h->tokens), VLCI_KEEP_OF(h), VLCI_MEM(out));
}
