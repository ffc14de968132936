/*
 * policy.c - which policies there are, the axes they are made of, and how their names become numbers.
 *
 * A policy is a row of a table: how budgets are shared over layers, what tokens are scored by, whether kv
 * heads choose together, how scores are pooled, when the cache is compressed, and what stands for the rest.
 * The rows are written in the words that a caller uses, and read by the same parser.
 */
#include "compress/policy.h"

#include <limits.h>
#include <stdio.h>
#include <string.h>

#include "core/status.h"

/* size, policy, budget, threshold, recent, sinks: of these only the name and the sinks count. */
#define ROW(name, sinks) sizeof(vlcache_compress_options), name, 0.10, 0.01, 0.10, sinks

static const vlcache_compress_options policies[] = {
    /* name, sinks            allocation  scoring        selection   pooling  defer   summary */
    {ROW("vlcache", 0), "sparsity", "post-vision", "per-head", "none", "none", "none"},
    {ROW("vlcache+", 0), "uniform", "post-vision", "per-head", "grid:1x5", "4:4", "spread:0.75"},
    {ROW("full", 0), NULL, NULL, NULL, NULL, NULL, NULL},
    {ROW("streamingllm", 4), "uniform", "sink+recent", "per-head", "none", "none", "none"},
    {ROW("h2o", 0), "uniform", "accumulated", "per-head", "none", "none", "none"},
    {ROW("snapkv", 0), "uniform", "window:32", "per-head", "1d:7", "none", "none"},
    {ROW("pyramidkv", 0), "pyramid", "window:8", "per-head", "1d:7", "none", "none"},
};
#define N_POLICIES (sizeof policies / sizeof *policies)

const char *vlcache_policy_name(size_t index) {
    return index < N_POLICIES ? policies[index].policy : NULL;
}

static vlcache_status find(const char *name, const vlcache_compress_options **out) {
    *out = NULL;
    if (!name) name = "vlcache";
    char names[256] = "";
    for (size_t i = 0, used = 0; i < N_POLICIES; i++) {
        if (strcmp(policies[i].policy, name) == 0) {
            *out = &policies[i];
            return VLCACHE_OK;
        }
        int wrote = snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", policies[i].policy);
        used += wrote > 0 && (size_t)wrote < sizeof names - used ? (size_t)wrote : 0;
    }
    return vlci_fail(VLCACHE_E_ARGUMENT, "compress: policy: \"%.64s\" is unknown: use one of %s", name,
                     names);
}

/* ---- words and numbers --------------------------------------------------------------------------------- */

/* Steps over `word` where the text begins with it. */
static bool word(const char **at, const char *expected) {
    size_t n = strlen(expected);
    if (strncmp(*at, expected, n) != 0) return false;
    *at += n;
    return true;
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

/* A whole number from low to high, and nothing like a sign or a space before it. */
static bool whole(const char **at, int low, int high, int *out) {
    const char *c = *at;
    long value = 0;
    if (!digit(*c)) return false;
    for (; digit(*c); c++)
        if (value <= high) value = value * 10 + (*c - '0');
    *at = c;
    *out = (int)(value < INT_MAX ? value : INT_MAX);
    return value >= low && value <= high;
}

/* Digits, perhaps a point and more of them: the same in every locale. */
static bool real(const char **at, double *out) {
    const char *c = *at;
    double unit = 1.0;
    *out = 0.0;
    if (!digit(*c)) return false;
    for (; digit(*c); c++) *out = *out * 10.0 + (*c - '0');
    if (*c == '.')
        for (c++; digit(*c); c++) *out += (*c - '0') * (unit /= 10.0);
    *at = c;
    return true;
}

static bool ended(const char *at) {
    return *at == 0;
}

static vlcache_status refuse(const char *axis, const char *text, const char *accepted) {
    return vlci_fail(VLCACHE_E_ARGUMENT, "compress: %s: is \"%.64s\", must be %s", axis, text, accepted);
}

/* ---- axes ---------------------------------------------------------------------------------------------- */

static vlcache_status read_allocation(const char *text, vlci_recipe *r) {
    const char *at = text;
    r->uniform = 0.0;
    if (strcmp(text, "uniform") == 0) {
        r->allocation = VLCI_ALLOCATE_MIXED;
        r->uniform = 1.0;
        return VLCACHE_OK;
    }
    if (strcmp(text, "pyramid") == 0) {
        r->allocation = VLCI_ALLOCATE_PYRAMID;
        return VLCACHE_OK;
    }
    r->allocation = VLCI_ALLOCATE_MIXED;
    if (strcmp(text, "sparsity") == 0) return VLCACHE_OK;
    r->uniform = 0.8;
    if (word(&at, "mixed") && (ended(at) || (word(&at, ":") && real(&at, &r->uniform) && ended(at))) &&
        r->uniform <= 1.0)
        return VLCACHE_OK;
    return refuse("allocation", text, "uniform, sparsity, pyramid or mixed[:SHARE], SHARE from 0 to 1");
}

static vlcache_status read_scoring(const char *text, vlci_recipe *r) {
    const char *at = text;
    r->window = 0;
    r->scoring = VLCI_SCORE_POST_VISION;
    if (strcmp(text, "post-vision") == 0) return VLCACHE_OK;
    r->scoring = VLCI_SCORE_ACCUMULATED;
    if (strcmp(text, "accumulated") == 0) return VLCACHE_OK;
    r->scoring = VLCI_SCORE_NONE;
    if (strcmp(text, "sink+recent") == 0) return VLCACHE_OK;
    r->scoring = VLCI_SCORE_WINDOW;
    if (word(&at, "window:") && whole(&at, 1, 1 << 20, &r->window) && ended(at)) return VLCACHE_OK;
    return refuse("scoring", text, "post-vision, accumulated, window:W (W from 1) or sink+recent");
}

static vlcache_status read_selection(const char *text, vlci_recipe *r) {
    r->per_head = strcmp(text, "per-head") == 0;
    if (r->per_head || strcmp(text, "per-layer") == 0) return VLCACHE_OK;
    return refuse("selection", text, "per-head or per-layer");
}

static vlcache_status read_pooling(const char *text, vlci_recipe *r) {
    const char *at = text;
    int rows = 1, columns = 1;
    r->pooling = VLCI_POOL_NONE;
    if (strcmp(text, "none") == 0) return VLCACHE_OK;
    bool line = word(&at, "1d:"), grid = !line && word(&at, "grid:");
    r->pooling = line ? VLCI_POOL_LINE : VLCI_POOL_GRID;
    bool good = (line || (grid && whole(&at, 1, 255, &rows) && word(&at, "x"))) &&
                whole(&at, 1, 255, &columns) && ended(at);
    r->pool_rows = rows;
    r->pool_columns = columns;
    if (good && rows % 2 && columns % 2) return VLCACHE_OK;
    return refuse("pooling", text, "none, 1d:W or grid:HxW, sizes odd and at most 255");
}

static vlcache_status read_defer(const char *text, vlci_recipe *r) {
    const char *at = text;
    r->defer = 0;
    r->defer_weight = 4.0;
    if (strcmp(text, "none") == 0) return VLCACHE_OK;
    if (whole(&at, 1, 1 << 16, &r->defer) &&
        (ended(at) || (word(&at, ":") && real(&at, &r->defer_weight) && ended(at))) && r->defer_weight <= 1e6)
        return VLCACHE_OK;
    return refuse("defer", text, "none or D[:WEIGHT], D from 1 decoded tokens");
}

static vlcache_status read_summary(const char *text, vlci_recipe *r) {
    const char *at = text;
    r->centroids = 0.0;
    if (strcmp(text, "none") == 0) return VLCACHE_OK;
    r->spread = word(&at, "spread:");
    r->iterations = r->spread ? 0 : 3;
    if ((r->spread || word(&at, "kmeans:")) && real(&at, &r->centroids) &&
        (ended(at) || (word(&at, ":") && whole(&at, 0, 100, &r->iterations) && ended(at))) &&
        r->centroids > 0.0 && r->centroids < 1.0)
        return VLCACHE_OK;
    return refuse("summary", text,
                  "none, kmeans:SHARE[:ITERATIONS] or spread:SHARE[:ITERATIONS], SHARE above 0 and below 1, "
                  "ITERATIONS from 0 to 100");
}

/* ---- together ------------------------------------------------------------------------------------------ */

static vlcache_status read_axes(const vlcache_compress_options *o, vlci_recipe *r) {
    vlcache_status status = read_allocation(o->allocation, r);
    if (!status) status = read_scoring(o->scoring, r);
    if (!status) status = read_selection(o->selection, r);
    if (!status) status = read_pooling(o->pooling, r);
    if (!status) status = read_defer(o->defer, r);
    if (!status) status = read_summary(o->summary, r);
    return status;
}

/* What does not go together, and why. */
static vlcache_status check_together(const vlcache_compress_options *o, const vlci_recipe *r) {
    if (r->scoring != VLCI_SCORE_NONE) return VLCACHE_OK;
    const char *axis = r->pooling != VLCI_POOL_NONE ? "pooling" : r->defer ? "defer" : NULL;
    const char *text = r->pooling != VLCI_POOL_NONE ? o->pooling : o->defer;
    if (!axis) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_ARGUMENT,
                     "compress: %s: is \"%.64s\", must be none with scoring sink+recent, which has no scores",
                     axis, text);
}

/* Negated comparisons, so that NaN is refused too. */
static vlcache_status check_numbers(const vlcache_compress_options *o) {
    if (!(o->budget > 0.0 && o->budget <= 1.0))
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: budget: is %g, must be above 0 and at most 1",
                         o->budget);
    if (!(o->threshold >= 0.0 && o->threshold <= 1.0))
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: threshold: is %g, must be from 0 to 1", o->threshold);
    if (!(o->recent >= 0.0 && o->recent <= 1.0))
        return vlci_fail(VLCACHE_E_ARGUMENT, "compress: recent: is %g, must be from 0 to 1", o->recent);
    if (o->sinks != VLCACHE_AS_POLICY && (o->sinks < 0 || o->sinks > 1 << 20))
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "compress: sinks: is %d, must be 0 to %d, or VLCACHE_AS_POLICY (%d)", o->sinks,
                         1 << 20, VLCACHE_AS_POLICY);
    return VLCACHE_OK;
}

/* The policy that keeps everything takes nothing else. */
static vlcache_status check_full(const vlcache_compress_options *o) {
    const struct {
        const char *axis, *text;
    } given[] = {{"allocation", o->allocation}, {"scoring", o->scoring}, {"selection", o->selection},
                 {"pooling", o->pooling},       {"defer", o->defer},     {"summary", o->summary}};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (given[i].text)
            return vlci_fail(VLCACHE_E_ARGUMENT,
                             "compress: %s: is \"%.64s\", must not be given: policy \"%s\" keeps everything",
                             given[i].axis, given[i].text, o->policy);
    return VLCACHE_OK;
}

/* Every axis that is not given becomes the policy's. */
static void fill_in(vlcache_compress_options *o, const vlcache_compress_options *row) {
    o->policy = row->policy;
    if (o->sinks == VLCACHE_AS_POLICY) o->sinks = row->sinks;
    if (!o->allocation) o->allocation = row->allocation;
    if (!o->scoring) o->scoring = row->scoring;
    if (!o->selection) o->selection = row->selection;
    if (!o->pooling) o->pooling = row->pooling;
    if (!o->defer) o->defer = row->defer;
    if (!o->summary) o->summary = row->summary;
}

static vlcache_status resolve(const vlcache_compress_options *o, vlcache_compress_options *all,
                              vlci_recipe *r) {
    const vlcache_compress_options *row = NULL;
    if (!o) return vlci_fail(VLCACHE_E_ARGUMENT, "compress: options: is NULL");
    if (o->size != sizeof *o)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "compress: size: is %zu, must be %zu: start from VLCACHE_COMPRESS_OPTIONS_INIT",
                         o->size, sizeof *o);
    vlcache_status status = find(o->policy, &row);
    if (status) return status;
    *all = *o;
    fill_in(all, row);
    *r = (vlci_recipe){
        .policy = row->policy, .compresses = row->allocation != NULL, .threshold = o->threshold};
    if (!r->compresses) return check_full(all);
    status = check_numbers(o);
    if (!status) status = read_axes(all, r);
    if (!status) status = check_together(all, r);
    r->budget = o->budget;
    r->recent = o->recent;
    r->sinks = all->sinks;
    return status;
}

vlcache_status vlci_policy_read(const vlcache_compress_options *options, vlci_recipe *out) {
    vlcache_compress_options all;
    return resolve(options, &all, out);
}

vlcache_status vlcache_compress_check(const vlcache_compress_options *options) {
    vlci_recipe recipe;
    return vlci_policy_read(options, &recipe);
}

vlcache_status vlcache_compress_resolve(const vlcache_compress_options *options,
                                        vlcache_compress_options *out) {
    vlci_recipe recipe;
    vlcache_compress_options all;
    if (!out) return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_compress_resolve: out is NULL");
    vlcache_status status = resolve(options, &all, &recipe);
    if (!status) *out = all;
    return status;
}
