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

/* As large a work-group as there is, up to `most`, that the kernel built for it takes. */
static vlcache_status get_kernel(vlcache_device *device, size_t most, vlci_topk_of *k) {
    static const size_t groups[] = {1024, 256, 64, 1};
    char options[32];
    vlcache_status status = VLCACHE_OK;
    if (most > device->caps.max_group) most = device->caps.max_group;
    for (int i = 0; i < 4; i++) {
        if (groups[i] > most) continue;
        k->group = groups[i];
        snprintf(options, sizeof options, "-DTOPK_GROUP=%zu", k->group);
        status = vlci_kernel_get(device, "topk.cl", "topk", options, &k->topk);
        if (status || k->topk->max_group >= k->group) return status;
    }
    return status;
}

vlcache_status vlci_topk_open(vlcache_device *device, vlci_topk_kernels *out) {
    const char *rung;
    vlcache_status status = vlci_rung(device, &vlci_topk_ladder, choose(device), &rung);
    bool single = !status && strcmp(rung, "single") == 0;
    if (!status) status = get_kernel(device, single ? 1 : 256, &out->few);
    return status ? status : get_kernel(device, single ? 1 : 1024, &out->many);
}

vlcache_status vlci_topk(const vlci_heads *h, const vlci_topk_kernels *k, cl_mem score, size_t at,
                         cl_mem out) {
    const vlci_topk_of *of = h->tokens > VLCI_TOPK_FEW ? &k->many : &k->few;
    return VLCI_LAUNCH(h->device, of->topk, VLCI_GRID((size_t)vlci_heads_n(h), 1, 1, of->group, 1, 1),
                       VLCI_MEM(score), VLCI_U32(at), VLCI_I32(h->tokens), VLCI_KEEP_OF(h), VLCI_MEM(out));
}
