/*
 * ladder.c - which variant of a kernel runs: rung = forced by VLCACHE_VARIANT, else chosen by capability.
 *
 * VLCACHE_VARIANT is "kernel:rung" or several of them, separated by commas.
 */
#include "device/ladder.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- what VLCACHE_VARIANT says ------------------------------------------------------------------------- */

/* One "kernel:rung" of the list; `rung` NULL where there is no colon. */
typedef struct wish {
    char kernel[32], rung[32];
    bool whole;
} wish;

/* The next wish of a list; false at its end. */
static bool next_wish(const char **at, wish *out) {
    while (*at && (**at == ',' || **at == ' ')) (*at)++;
    if (!*at || !**at) return false;
    int length = (int)strcspn(*at, ","), name = (int)strcspn(*at, ":,");
    out->whole = name < length;
    snprintf(out->kernel, sizeof out->kernel, "%.*s", name, *at);
    snprintf(out->rung, sizeof out->rung, "%.*s", out->whole ? length - name - 1 : 0, *at + name + 1);
    *at += length;
    return true;
}

static const char *wishes(const vlcache_device *device) {
    return *device->forced ? device->forced : getenv("VLCACHE_VARIANT");
}

/* ---- ladders ------------------------------------------------------------------------------------------- */

/* The ladder's own name of a rung, NULL when it has none such. */
static const char *own_name(const vlci_ladder *ladder, const char *rung) {
    for (const char *const *r = ladder->rungs; *r; r++)
        if (strcmp(*r, rung) == 0) return *r;
    return NULL;
}

static bool fits(const vlcache_device *device, const vlci_ladder *ladder, const char *rung) {
    return !ladder->fits || ladder->fits(device, rung);
}

/* Several ladders may share a kernel's name: a wish is good when one of them has the rung, and it fits. */
static bool is_granted(const vlcache_device *device, const wish *w) {
    for (size_t i = 0; vlci_ladders[i]; i++) {
        if (strcmp(vlci_ladders[i]->kernel, w->kernel)) continue;
        const char *rung = own_name(vlci_ladders[i], w->rung);
        if (rung && fits(device, vlci_ladders[i], rung)) return true;
    }
    return false;
}

/* Adds ", name", once. */
static void list_name(char *list, size_t capacity, const char *name) {
    size_t used = strlen(list), length = strlen(name);
    for (const char *at = list; (at = strstr(at, name)); at += length)
        if ((at == list || at[-1] == ' ') && (at[length] == ',' || !at[length])) return;
    snprintf(list + used, capacity - used, "%s%s", used ? ", " : "", name);
}

static vlcache_status fail_wish(const vlcache_device *device, const wish *w) {
    char kernels[256] = "", rungs[256] = "";
    for (size_t i = 0; vlci_ladders[i]; i++) {
        list_name(kernels, sizeof kernels, vlci_ladders[i]->kernel);
        if (strcmp(vlci_ladders[i]->kernel, w->kernel)) continue;
        for (const char *const *r = vlci_ladders[i]->rungs; *r; r++)
            if (fits(device, vlci_ladders[i], *r)) list_name(rungs, sizeof rungs, *r);
    }
    if (!*rungs)
        return vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_VARIANT", w->kernel,
                               VLCI_VALUE("there is %s", kernels),
                               "VLCACHE_VARIANT: no kernel \"%s\" with variants; there is %s", w->kernel,
                               kernels);
    return vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_VARIANT", w->rung,
                           VLCI_VALUE("there is %s", rungs),
                           "VLCACHE_VARIANT: kernel \"%s\" has no rung \"%s\" on \"%s\"; there is %s",
                           w->kernel, w->rung, device->caps.info.name, rungs);
}

/* The rung of this ladder that VLCACHE_VARIANT forces, or NULL. One of another ladder of the same kernel is
 * none of ours. */
static vlcache_status forced_rung(const vlcache_device *device, const vlci_ladder *ladder,
                                  const char **rung) {
    wish w;
    *rung = NULL;
    for (const char *at = wishes(device); next_wish(&at, &w);) {
        if (strcmp(w.kernel, ladder->kernel)) continue;
        if (!w.whole || !is_granted(device, &w)) return fail_wish(device, &w);
        const char *own = own_name(ladder, w.rung);
        if (own && !*rung && fits(device, ladder, own)) *rung = own;
    }
    return VLCACHE_OK;
}

vlcache_status vlci_rung(const vlcache_device *device, const vlci_ladder *ladder, const char *chosen,
                         const char **rung) {
    vlcache_status status = forced_rung(device, ladder, rung);
    if (!status && !*rung) *rung = chosen;
    return status;
}

void vlci_ladders_force(vlcache_device *device, const char *kernel, const char *rung) {
    *device->forced = 0;
    if (rung) snprintf(device->forced, sizeof device->forced, "%s:%s", kernel, rung);
}

vlcache_status vlci_ladders_check(const vlcache_device *device) {
    wish w;
    for (const char *at = wishes(device); next_wish(&at, &w);)
        if (!w.whole || !is_granted(device, &w)) return fail_wish(device, &w);
    return VLCACHE_OK;
}

/* ---- lanes --------------------------------------------------------------------------------------------- */

const char *const vlci_lane_rungs[] = {"256", "128", "64", "32", "16", "8", "4", "2", "1", NULL};

const char *vlci_lanes_name(size_t lanes) {
    const char *const *rung = vlci_lane_rungs;
    while (rung[1] && (size_t)atoi(*rung) > lanes) rung++;
    return *rung;
}

bool vlci_lanes_fit(const vlcache_device *device, const char *rung) {
    return (size_t)atoi(rung) <= device->caps.max_group;
}

vlcache_status vlci_kernel_lanes(vlcache_device *device, const char *file, const char *name,
                                 const char *options, const vlci_ladder *ladder, const vlci_kernel **kernel,
                                 size_t *lanes) {
    const char *rung;
    char all[96];
    vlcache_status status = vlci_rung(device, ladder, ladder->choose(device), &rung);
    if (status) return status;
    for (*lanes = (size_t)atoi(rung);; *lanes /= 2) {
        snprintf(all, sizeof all, "-DLANES=%zu%s%s", *lanes, *options ? " " : "", options);
        status = vlci_kernel_get(device, file, name, all, kernel);
        if (status || *lanes == 1 || *lanes <= (*kernel)->max_group) return status;
    }
}

/* ---- the public view ----------------------------------------------------------------------------------- */

static vlcache_status describe(const vlcache_device *device, const vlci_ladder *ladder, vlcache_ladder *out) {
    const char *forced;
    vlcache_status status = forced_rung(device, ladder, &forced);
    if (status) return status;
    const char *rung = forced ? forced : ladder->choose(device);
    *out = (vlcache_ladder){.kernel = ladder->kernel, .work = ladder->work, .forced = forced != NULL};
    for (const char *const *r = ladder->rungs; *r && out->n_rungs < VLCACHE_MAX_RUNGS; r++) {
        if (strcmp(*r, rung) == 0) out->in_use = out->n_rungs;
        out->rungs[out->n_rungs++] = (vlcache_rung){*r, fits(device, ladder, *r)};
    }
    return VLCACHE_OK;
}

vlcache_status vlcache_device_ladders(const vlcache_device *device, vlcache_ladder *out, size_t capacity,
                                      size_t *count) {
    if (!device || !count || (capacity && !out))
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_device_ladders: device, ladders or count is NULL");
    for (*count = 0; vlci_ladders[*count];) *count += 1;
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; !status && vlci_ladders[i] && i < capacity; i++)
        status = describe(device, vlci_ladders[i], &out[i]);
    return status;
}
