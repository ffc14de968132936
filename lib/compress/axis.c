/*
 * axis.c - the axes of a policy, from their texts to their values and back.
 *
 *     text = word [":" number [":" number]], the numbers that are usual left out where that is usual
 *
 * What is written reads back as the same values; a number that has a default in the text may be left out of
 * it, and is set to that then, whatever the policy says.
 */
#include "compress/axis.h"

#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "core/options.h"

/* ---- options of any version ---------------------------------------------------------------------------- */

VLCI_OPTIONS_END(vlcache_compress_options, strict);

#define UP_TO(field) (offsetof(vlcache_compress_options, field) + sizeof((vlcache_compress_options){0}.field))

static vlcache_status refuse_size(size_t size, size_t least, const char *what) {
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.size", VLCI_VALUE("%zu", size),
                       "must be %zu or more to hold %s: start from VLCACHE_COMPRESS_OPTIONS_INIT", least,
                       what);
}

vlcache_status vlci_axes_take(const vlcache_compress_options *from, vlcache_compress_options *to) {
    if (!from)
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.options", NULL,
                           "is NULL: start from VLCACHE_COMPRESS_OPTIONS_INIT");
    vlcache_status status = VLCI_OPTIONS_TAKE("compress", vlcache_compress_options, policy,
                                              VLCACHE_COMPRESS_OPTIONS_INIT, from, to);
    if (status || to->n_shares <= VLCACHE_SHARES_FIRST || from->size >= UP_TO(more_shares)) return status;
    return refuse_size(from->size, UP_TO(more_shares), VLCI_VALUE("%d shares", to->n_shares));
}

void vlci_axes_give(const vlcache_compress_options *from, vlcache_compress_options *to) {
    size_t room = to->size, ours = sizeof *from;
    memcpy(to, from, room < ours ? room : ours);
    if (room > ours) memset((char *)to + ours, 0, room - ours);
    to->size = room;
}

/* ---- words and numbers --------------------------------------------------------------------------------- */

/* Steps over `word` where the text begins with it. */
static bool word(const char **at, const char *expected) {
    size_t n = strlen(expected);
    if (strncmp(*at, expected, n) != 0) return false;
    *at += n;
    return true;
}

static bool ended(const char *at) {
    return *at == 0;
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

enum { DECIMALS = 18 };

static uint64_t power_of_ten(int n) {
    uint64_t power = 1;
    while (n--) power *= 10;
    return power;
}

/* digits / 10^decimals, a division of exact numbers where a long double has 64 bits or more: with fewer, from
 * 16 digits on a text may mean the double beside the one that C would read. */
static double divided(uint64_t digits, int decimals) {
    return (double)((long double)digits / (long double)power_of_ten(decimals));
}

/* Digits, perhaps a point and more of them: the same in every locale. */
static bool real(const char **at, double *out) {
    const char *c = *at;
    uint64_t digits = 0;
    int decimals = 0;
    double beyond = 1.0; /* digits before the point that a double has no place for */
    if (!digit(*c)) return false;
    for (; digit(*c); c++)
        if (digits < power_of_ten(17))
            digits = digits * 10 + (uint64_t)(*c - '0');
        else
            beyond *= 10.0;
    if (*c == '.')
        for (c++; digit(*c); c++)
            if (digits < power_of_ten(17) && decimals < DECIMALS) {
                digits = digits * 10 + (uint64_t)(*c - '0');
                decimals++;
            }
    *at = c;
    *out = divided(digits, decimals) * beyond;
    return true;
}

/* The fewest decimals that real() reads as the same value, which lies from 0 to 1e6. */
static void write_real(double value, char text[32]) {
    int decimals = 0;
    uint64_t digits = 0;
    for (;; decimals++) {
        long double scaled = (long double)value * (long double)power_of_ten(decimals);
        digits = (uint64_t)(scaled + 0.5L);
        if (divided(digits, decimals) == value || decimals == DECIMALS || scaled >= 1e17L) break;
    }
    uint64_t unit = power_of_ten(decimals);
    if (decimals)
        snprintf(text, 32, "%llu.%0*llu", (unsigned long long)(digits / unit), decimals,
                 (unsigned long long)(digits % unit));
    else
        snprintf(text, 32, "%llu", (unsigned long long)digits);
}

/* Index of a text among words, of which the first, "as the policy", has none; 0 where it is none of them. */
static int among(const char *text, const char *const *words, int n) {
    for (int i = 1; i < n; i++)
        if (strcmp(text, words[i]) == 0) return i;
    return 0;
}

/* As real(), or a point and digits. */
static bool bare_real(const char **at, double *out) {
    char text[32] = "0";
    size_t n = 1 + strspn(*at + (**at == '.'), "0123456789");
    if (**at != '.') return real(at, out);
    if (n < 2 || n > 20) return false;
    memcpy(text + 1, *at, n);
    *at += n;
    const char *c = text;
    return real(&c, out);
}

/* ":NUMBER" up to the end, or the end; there the number stays what it is. */
static bool real_or_end(const char *at, double *out) {
    return ended(at) || (word(&at, ":") && bare_real(&at, out) && ended(at));
}

static void write_share(char text[VLCACHE_AXIS_BYTES], const char *name, double share) {
    char number[32] = "";
    if (share >= 0.0) write_real(share, number);
    snprintf(text, VLCACHE_AXIS_BYTES, "%s%s%s", name, *number ? ":" : "", number);
}

/* ---- axes ----------------------------------------------------------------------------------------------
 * Readers set the axis and its numbers; NULL: to nothing but "as the policy". */

static const char *const allocations[] = {"", "uniform", "sparsity", "pyramid"};

static double six_decimals(double value) {
    return floor(value * 1e6 + 0.5) / 1e6;
}

/* "S,S,...": proportions, not all of them nothing. */
static bool read_shares(const char *at, vlcache_compress_options *o) {
    double sum = 0.0, share = 0.0;
    do {
        if (o->n_shares == VLCACHE_SHARES_MOST || !bare_real(&at, &share) || share > 1000.0) return false;
        int n = o->n_shares++, more = n - VLCACHE_SHARES_FIRST;
        *(more < 0 ? &o->shares[n] : &o->more_shares[more]) = six_decimals(share);
        sum += six_decimals(share);
    } while (word(&at, ","));
    return ended(at) && sum > 0.0;
}

static void write_shares(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    const char *name = o->allocation == VLCACHE_ALLOCATION_HEADS ? "heads" : "layers";
    size_t n = (size_t)snprintf(text, VLCACHE_AXIS_BYTES, "%s", name);
    for (int l = 0; l < o->n_shares && l < VLCACHE_SHARES_MOST; l++) {
        char number[32] = "";
        write_real(six_decimals(vlci_axis_share(o, l)), number);
        n += (size_t)snprintf(text + n, VLCACHE_AXIS_BYTES - n, "%c%.12s", l ? ',' : ':', number);
    }
}

static bool read_allocation(const char *at, vlcache_compress_options *o) {
    o->allocation = at ? (vlcache_allocation)among(at, allocations, 4) : VLCACHE_ALLOCATION_AS_POLICY;
    o->uniform = VLCACHE_AS_POLICY;
    o->n_shares = 0;
    memset(o->shares, 0, sizeof o->shares);
    memset(o->more_shares, 0, sizeof o->more_shares);
    if (!at || o->allocation) return true;
    o->allocation = VLCACHE_ALLOCATION_LAYERS;
    if (word(&at, "layers:")) return read_shares(at, o);
    o->allocation = VLCACHE_ALLOCATION_HEADS;
    if (word(&at, "heads:")) return read_shares(at, o);
    o->allocation = VLCACHE_ALLOCATION_MIXED;
    o->uniform = VLCI_USUAL_UNIFORM;
    return word(&at, "mixed") && real_or_end(at, &o->uniform) && o->uniform <= 1.0;
}

static void write_allocation(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    if (o->allocation == VLCACHE_ALLOCATION_MIXED)
        write_share(text, "mixed", o->uniform);
    else if (o->allocation >= VLCACHE_ALLOCATION_LAYERS)
        write_shares(o, text);
    else
        snprintf(text, VLCACHE_AXIS_BYTES, "%s", allocations[o->allocation]);
}

static const char *const scorings[] = {"", "post-vision", "accumulated", "window", "sink+recent"};

static bool read_scoring(const char *at, vlcache_compress_options *o) {
    o->scoring = at ? (vlcache_scoring)among(at, scorings, 5) : VLCACHE_SCORING_AS_POLICY;
    o->window = VLCACHE_AS_POLICY;
    if (!at || (o->scoring && o->scoring != VLCACHE_SCORING_WINDOW)) return true;
    o->scoring = VLCACHE_SCORING_WINDOW;
    return word(&at, "window:") && whole(&at, 1, 1 << 20, &o->window) && ended(at);
}

static void write_scoring(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    int n = snprintf(text, VLCACHE_AXIS_BYTES, "%s", scorings[o->scoring]);
    if (o->scoring == VLCACHE_SCORING_WINDOW)
        snprintf(text + n, VLCACHE_AXIS_BYTES - (size_t)n, ":%d", o->window);
}

static const char *const selections[] = {"", "per-head", "per-layer"};

static bool read_selection(const char *at, vlcache_compress_options *o) {
    o->selection = at ? (vlcache_selection)among(at, selections, 3) : VLCACHE_SELECTION_AS_POLICY;
    o->floor = VLCACHE_AS_POLICY;
    o->share = 0.0;
    if (!at || o->selection) return true;
    if (word(&at, "per-prompt:")) {
        o->selection = VLCACHE_SELECTION_PER_PROMPT;
        return bare_real(&at, &o->share) && ended(at) && o->share > 0.0 && o->share <= 1.0;
    }
    o->selection = VLCACHE_SELECTION_ADAPTIVE;
    o->floor = VLCI_USUAL_FLOOR;
    return word(&at, "adaptive") && real_or_end(at, &o->floor) && o->floor <= 1.0;
}

static void write_selection(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    if (o->selection == VLCACHE_SELECTION_ADAPTIVE)
        write_share(text, "adaptive", o->floor);
    else if (o->selection == VLCACHE_SELECTION_PER_PROMPT)
        write_share(text, "per-prompt", o->share);
    else
        snprintf(text, VLCACHE_AXIS_BYTES, "%s", selections[o->selection]);
}

static bool side(const char **at, int *out) {
    return whole(at, 1, 255, out) && *out % 2;
}

static bool read_pooling(const char *at, vlcache_compress_options *o) {
    o->pooling = at ? VLCACHE_POOLING_NONE : VLCACHE_POOLING_AS_POLICY;
    o->pool_rows = o->pool_columns = VLCACHE_AS_POLICY;
    if (!at || strcmp(at, "none") == 0) return true;
    bool line = word(&at, "1d:"), grid = !line && word(&at, "grid:");
    o->pooling = line ? VLCACHE_POOLING_LINE : VLCACHE_POOLING_GRID;
    return (line || (grid && side(&at, &o->pool_rows) && word(&at, "x"))) && side(&at, &o->pool_columns) &&
           ended(at);
}

static void write_pooling(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    snprintf(text, VLCACHE_AXIS_BYTES, "%s", o->pooling == VLCACHE_POOLING_NONE ? "none" : "");
    if (o->pooling == VLCACHE_POOLING_LINE) snprintf(text, VLCACHE_AXIS_BYTES, "1d:%d", o->pool_columns);
    if (o->pooling == VLCACHE_POOLING_GRID)
        snprintf(text, VLCACHE_AXIS_BYTES, "grid:%dx%d", o->pool_rows, o->pool_columns);
}

static bool read_defer(const char *at, vlcache_compress_options *o) {
    o->defer = at ? 0 : VLCACHE_AS_POLICY;
    o->defer_weight = VLCACHE_AS_POLICY;
    if (!at || strcmp(at, "none") == 0) return true;
    o->defer_weight = VLCI_USUAL_DEFER_WEIGHT;
    return whole(&at, 1, 1 << 16, &o->defer) && real_or_end(at, &o->defer_weight) && o->defer_weight <= 1e6;
}

static void write_defer(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    char tokens[16] = "";
    if (o->defer > 0) snprintf(tokens, sizeof tokens, "%d", o->defer);
    if (o->defer > 0)
        write_share(text, tokens, o->defer_weight);
    else
        snprintf(text, VLCACHE_AXIS_BYTES, "%s", o->defer == 0 ? "none" : "");
}

int vlci_usual_iterations(vlcache_summary summary) {
    return summary == VLCACHE_SUMMARY_KMEANS ? 3 : 0;
}

static bool read_summary(const char *at, vlcache_compress_options *o) {
    o->summary = at ? VLCACHE_SUMMARY_NONE : VLCACHE_SUMMARY_AS_POLICY;
    o->iterations = VLCACHE_AS_POLICY;
    o->centroids = VLCACHE_AS_POLICY;
    if (!at || strcmp(at, "none") == 0) return true;
    bool spread = word(&at, "spread:"), kmeans = !spread && word(&at, "kmeans:");
    o->summary = spread ? VLCACHE_SUMMARY_SPREAD : VLCACHE_SUMMARY_KMEANS;
    o->iterations = vlci_usual_iterations(o->summary);
    return (spread || kmeans) && bare_real(&at, &o->centroids) &&
           (ended(at) || (word(&at, ":") && whole(&at, 0, 100, &o->iterations) && ended(at))) &&
           o->centroids > 0.0 && o->centroids < 1.0;
}

static void write_summary(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    static const char *const names[] = {"", "none", "kmeans", "spread"};
    write_share(text, names[o->summary], o->summary < VLCACHE_SUMMARY_KMEANS ? -1.0 : o->centroids);
    size_t n = strlen(text);
    if (o->summary >= VLCACHE_SUMMARY_KMEANS && o->iterations != vlci_usual_iterations(o->summary))
        snprintf(text + n, VLCACHE_AXIS_BYTES - n, ":%d", o->iterations);
}

/* RUN: a power of two. */
static bool read_domain(const char *at, vlcache_compress_options *o) {
    if (strcmp(at, "rotated") == 0) o->run = VLCACHE_RUN_ALL;
    if (strcmp(at, "pre") == 0) o->run = VLCACHE_RUN_ROW;
    if (o->run) return true;
    return word(&at, "blk:") && whole(&at, 16, VLCACHE_RUN_ALL, &o->run) && !(o->run & (o->run - 1)) &&
           ended(at);
}

/* K/V[:GROUP[:AGE]] behind "bits:". */
static bool read_bits(const char *at, vlcache_compress_options *o) {
    o->storage = VLCACHE_STORAGE_BITS;
    o->run = VLCI_USUAL_RUN;
    return whole(&at, 2, 8, &o->key_bits) && word(&at, "/") && whole(&at, 2, 8, &o->value_bits) &&
           (o->key_bits <= 4 || o->key_bits == 8) && (o->value_bits <= 4 || o->value_bits == 8) &&
           (ended(at) ||
            (word(&at, ":") && whole(&at, 16, VLCI_USUAL_GROUP_MAX, &o->run) && !(o->run & (o->run - 1)) &&
             (ended(at) || (word(&at, ":") && whole(&at, 16, 1 << 16, &o->age) && ended(at)))));
}

static bool read_storage(const char *at, vlcache_compress_options *o) {
    o->storage = at ? VLCACHE_STORAGE_EXACT : VLCACHE_STORAGE_AS_POLICY;
    o->run = o->key_bits = o->value_bits = o->age = 0;
    o->bits = 0.0;
    if (!at || strcmp(at, "exact") == 0) return true;
    if (word(&at, "bits:")) return read_bits(at, o);
    o->storage = VLCACHE_STORAGE_CODED;
    if (!word(&at, "coded")) return false;
    if (at[0] == ':' && digit(at[1]) &&
        (!word(&at, ":") || !real(&at, &o->bits) || o->bits < 1.0 || o->bits > 4096.0))
        return false;
    return ended(at) || (word(&at, ":") && read_domain(at, o));
}

static void write_bits(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    int n = snprintf(text, VLCACHE_AXIS_BYTES, "bits:%d/%d", o->key_bits, o->value_bits);
    if (o->run != VLCI_USUAL_RUN || o->age)
        n += snprintf(text + n, VLCACHE_AXIS_BYTES - (size_t)n, ":%d", o->run);
    if (o->age) snprintf(text + n, VLCACHE_AXIS_BYTES - (size_t)n, ":%d", o->age);
}

static void write_storage(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    static const char *const names[] = {"", "exact", "coded"};
    if (o->storage == VLCACHE_STORAGE_BITS) {
        write_bits(o, text);
        return;
    }
    write_share(text, names[o->storage],
                o->storage == VLCACHE_STORAGE_CODED && o->bits > 0.0 ? o->bits : -1.0);
    size_t n = strlen(text);
    if (o->storage != VLCACHE_STORAGE_CODED || !o->run) return;
    if (o->run == VLCACHE_RUN_ALL || o->run == VLCACHE_RUN_ROW)
        snprintf(text + n, VLCACHE_AXIS_BYTES - n, ":%s", o->run == VLCACHE_RUN_ROW ? "pre" : "rotated");
    else
        snprintf(text + n, VLCACHE_AXIS_BYTES - n, ":blk:%d", o->run);
}

static const char *const candidates[] = {"", "all", "visual", "text"};

static bool read_candidates(const char *at, vlcache_compress_options *o) {
    o->candidates = at ? (vlcache_candidates)among(at, candidates, 4) : VLCACHE_CANDIDATES_AS_POLICY;
    return !at || o->candidates;
}

static void write_candidates(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]) {
    snprintf(text, VLCACHE_AXIS_BYTES, "%s", candidates[o->candidates]);
}

static const struct axis {
    const char *name;
    size_t end; /* of its last number in the options */
    bool (*read)(const char *text, vlcache_compress_options *o);
    void (*write)(const vlcache_compress_options *o, char text[VLCACHE_AXIS_BYTES]);
    const char *accepted;
} axes[] = {
    {"allocation", UP_TO(shares), read_allocation, write_allocation,
     "uniform, sparsity, pyramid, mixed[:UNIFORM], UNIFORM from 0 to 1, layers:S,S,..., a share from 0 to "
     "1000 for each layer, or heads:S,S,..., one for each kv head of each layer, at most 2048, not all 0"},
    {"scoring", UP_TO(window), read_scoring, write_scoring,
     "post-vision, accumulated, window:W (W from 1 to 1048576) or sink+recent"},
    {"selection", UP_TO(share), read_selection, write_selection,
     "per-head, per-layer, adaptive[:FLOOR], FLOOR from 0 to 1, or per-prompt:SHARE, SHARE above 0 and at "
     "most 1"},
    {"pooling", UP_TO(pool_columns), read_pooling, write_pooling,
     "none, 1d:W or grid:HxW, sizes odd and at most 255"},
    {"defer", UP_TO(defer_weight), read_defer, write_defer,
     "none or D[:WEIGHT], D from 1 to 65536 decoded tokens"},
    {"summary", UP_TO(centroids), read_summary, write_summary,
     "none, kmeans:SHARE[:ITERATIONS] or spread:SHARE[:ITERATIONS], SHARE above 0 and below 1, ITERATIONS "
     "from 0 to 100"},
    {"storage", UP_TO(age), read_storage, write_storage,
     "exact, bits:K/V[:GROUP[:AGE]] (K and V 2, 3, 4 or 8, GROUP a power of two from 16 to 1024, AGE from 16 "
     "to 65536) or "
     "coded[:BITS][:pre, :blk:RUN or :rotated], BITS from 1 to 4096 of a row and kv head, RUN a power of two "
     "from "
     "16"},
    {"candidates", UP_TO(candidates), read_candidates, write_candidates, "all, visual or text"},
};
enum { AXES = sizeof axes / sizeof *axes };

const char *vlci_axis_name(size_t index) {
    return index < AXES ? axes[index].name : NULL;
}

void vlci_axis_text(const vlcache_compress_options *o, size_t index, char text[VLCACHE_AXIS_BYTES]) {
    axes[index].write(o, text);
}

/* ---- by name ------------------------------------------------------------------------------------------- */

vlcache_status vlci_axis_find(const char *name, size_t *index) {
    char names[128] = "";
    size_t used = 0;
    if (!name) return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.axis", NULL, "is NULL: name one");
    for (size_t i = 0; i < AXES; i++) {
        *index = i;
        if (strcmp(axes[i].name, name) == 0) return VLCACHE_OK;
        used += (size_t)snprintf(names + used, sizeof names - used, "%s%s", i ? ", " : "", axes[i].name);
    }
    return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "compress.axis", name, "must be one of %s", names);
}

vlcache_status vlcache_compress_set(vlcache_compress_options *options, const char *axis, const char *text) {
    size_t index = 0;
    vlcache_compress_options all;
    vlcache_status status = vlci_axes_take(options, &all);
    if (!status) status = vlci_axis_find(axis, &index);
    if (status) return status;
    if (!axes[index].read(text, &all))
        return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("compress.%s", axis), text, "must be %s",
                                axes[index].accepted);
    size_t end = all.n_shares > VLCACHE_SHARES_FIRST ? UP_TO(more_shares) : axes[index].end;
    if (options->size < end) return refuse_size(options->size, end, axis);
    vlci_axes_give(&all, options);
    return VLCACHE_OK;
}
