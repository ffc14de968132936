/*
 * policy.c - which policies there are, and from a caller's options to a recipe.
 *
 *     options -> of this version -> axes and numbers that are not given: the policy's, or the usual
 *             -> ranges, and what goes together -> recipe
 *
 * A policy is a row of a table: how budgets are shared over layers, what tokens are scored by, whether kv
 * heads choose together, how scores are pooled, when the cache is compressed, what stands for the rest, how
 * rows are stored, and which of them may go.
 */
#include "compress/policy.h"

#include <stdio.h>
#include <string.h>

#include "compress/axis.h"

/* size, policy, budget, threshold, recent, sinks: of these only the name and the sinks count. Then an axis
 * with its numbers each. */
#define NOT                   VLCACHE_AS_POLICY
#define ROW(name, sinks)      sizeof(vlcache_compress_options), name, 0.10, 0.01, 0.10, sinks
#define ALLOCATE(how)         VLCACHE_ALLOCATION_##how, NOT
#define SCORE(how)            VLCACHE_SCORING_##how, NOT
#define WINDOW(rows)          VLCACHE_SCORING_WINDOW, rows
#define SELECT(how)           VLCACHE_SELECTION_##how, NOT
#define SINGLY                VLCACHE_POOLING_NONE, NOT, NOT
#define LINE(columns)         VLCACHE_POOLING_LINE, NOT, columns
#define GRID(rows, columns)   VLCACHE_POOLING_GRID, rows, columns
#define AT_ONCE               0, NOT
#define AFTER(tokens, weight) tokens, weight
#define NO_SUMMARY            VLCACHE_SUMMARY_NONE, NOT, NOT
#define SPREAD(share)         VLCACHE_SUMMARY_SPREAD, 0, share
#define EXACT                 VLCACHE_STORAGE_EXACT, 0, 0, 0, 0, 0, VLCACHE_CANDIDATES_ALL, 0, {0}, 0, {0}, 0
#define CODED                 VLCACHE_STORAGE_CODED, 0, 0, 0, 0, 0, VLCACHE_CANDIDATES_ALL, 0, {0}, 0, {0}, 0

/* clang-format off */
static const vlcache_compress_options policies[] = {
    {ROW("vlcache", 0), ALLOCATE(SPARSITY), SCORE(POST_VISION), SELECT(PER_HEAD), SINGLY, AT_ONCE, NO_SUMMARY, EXACT},
    {ROW("vlcache+", 0), ALLOCATE(UNIFORM), SCORE(POST_VISION), SELECT(PER_HEAD), SINGLY, AFTER(4, 4.0), NO_SUMMARY, CODED},
    {ROW("centroids", 0), ALLOCATE(UNIFORM), SCORE(POST_VISION), SELECT(PER_HEAD), GRID(1, 5), AFTER(4, 4.0), SPREAD(0.75), EXACT},
    {ROW("full", 0), ALLOCATE(AS_POLICY), SCORE(AS_POLICY), SELECT(AS_POLICY), VLCACHE_POOLING_AS_POLICY, NOT, NOT, NOT, NOT, VLCACHE_SUMMARY_AS_POLICY, NOT, NOT, VLCACHE_STORAGE_AS_POLICY, 0, 0, 0, 0, 0, VLCACHE_CANDIDATES_AS_POLICY, 0, {0}, 0, {0}, 0},
    {ROW("streamingllm", 4), ALLOCATE(UNIFORM), SCORE(SINK_RECENT), SELECT(PER_HEAD), SINGLY, AT_ONCE, NO_SUMMARY, EXACT},
    {ROW("h2o", 0), ALLOCATE(UNIFORM), SCORE(ACCUMULATED), SELECT(PER_HEAD), SINGLY, AT_ONCE, NO_SUMMARY, EXACT},
    {ROW("snapkv", 0), ALLOCATE(UNIFORM), WINDOW(32), SELECT(PER_HEAD), LINE(7), AT_ONCE, NO_SUMMARY, EXACT},
    {ROW("pyramidkv", 0), ALLOCATE(PYRAMID), WINDOW(8), SELECT(PER_HEAD), LINE(7), AT_ONCE, NO_SUMMARY, EXACT},
};
/* clang-format on */

/* What "vlcache+" keeps of budgets that are too small for all rows, below `until` of the bytes: fitted on the
 * tuning split of the demonstration's tasks, as README says. */
typedef struct votes {
    double until, share;
    vlcache_candidates of;
    bool deferred; /* only where decoded tokens say which rows are looked at */
} votes;
static const votes too_small[] = {{0.025, 0.5, VLCACHE_CANDIDATES_ALL, false},
                                  {0.05, 0.25, VLCACHE_CANDIDATES_TEXT, true}};
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
    return vlci_fail_field(VLCACHE_E_ARGUMENT, NULL, "compress.policy", name,
                           VLCI_VALUE("use one of %s", names),
                           "compress: policy: \"%.64s\" is unknown: use one of %s", name, names);
}

/* ---- what is not given --------------------------------------------------------------------------------- */

/* A number that its axis needs: the policy's where that has the same axis, or the usual one. */
static void fill_real(double *value, bool needed, bool same, double policy, double usual) {
    if (*value == VLCACHE_AS_POLICY && needed) *value = same ? policy : usual;
}

static void fill_whole(int *value, bool needed, bool same, int policy, int usual) {
    if (*value == VLCACHE_AS_POLICY && needed) *value = same ? policy : usual;
}

static void fill_numbers(vlcache_compress_options *o, const vlcache_compress_options *row) {
    bool pooled = o->pooling == VLCACHE_POOLING_LINE || o->pooling == VLCACHE_POOLING_GRID;
    bool summed = o->summary == VLCACHE_SUMMARY_KMEANS || o->summary == VLCACHE_SUMMARY_SPREAD;
    bool pools_same = o->pooling == row->pooling, sums_same = o->summary == row->summary;
    fill_real(&o->uniform, o->allocation == VLCACHE_ALLOCATION_MIXED, o->allocation == row->allocation,
              row->uniform, VLCI_USUAL_UNIFORM);
    fill_whole(&o->window, o->scoring == VLCACHE_SCORING_WINDOW, o->scoring == row->scoring, row->window,
               NOT);
    fill_real(&o->floor, o->selection == VLCACHE_SELECTION_ADAPTIVE, o->selection == row->selection,
              row->floor, VLCI_USUAL_FLOOR);
    fill_whole(&o->pool_rows, o->pooling == VLCACHE_POOLING_GRID, pools_same, row->pool_rows, NOT);
    fill_whole(&o->pool_columns, pooled, pools_same, row->pool_columns, NOT);
    fill_real(&o->defer_weight, o->defer > 0, row->defer > 0, row->defer_weight, VLCI_USUAL_DEFER_WEIGHT);
    fill_whole(&o->iterations, summed, sums_same, row->iterations, vlci_usual_iterations(o->summary));
    fill_real(&o->centroids, summed, sums_same, row->centroids, NOT);
    bool same = row->storage == o->storage;
    if (o->storage == VLCACHE_STORAGE_EXACT) return;
    if (!o->run && same) o->run = row->run;
    if (o->bits == 0.0 && same) o->bits = row->bits;
    if (o->storage != VLCACHE_STORAGE_BITS) return;
    if (!o->run) o->run = VLCI_USUAL_RUN;
    if (!o->key_bits) o->key_bits = same ? row->key_bits : VLCI_USUAL_KEY_BITS;
    if (!o->value_bits) o->value_bits = same ? row->value_bits : VLCI_USUAL_VALUE_BITS;
    if (!o->age && same) o->age = row->age;
}

/* What a budget comes to by itself; NULL: to every row. */
static const votes *votes_of(const vlcache_compress_options *o, const vlcache_compress_options *row) {
    int defer = o->defer == VLCACHE_AS_POLICY ? row->defer : o->defer;
    for (size_t i = 0; i < sizeof too_small / sizeof *too_small; i++)
        if (o->budget < too_small[i].until) return too_small[i].deferred && !defer ? NULL : &too_small[i];
    return NULL;
}

/* Whether which rows are coded is the library's to decide: nobody says it, or just that of text which it
 * would say itself, nor how many bits they have, and no head has a share of its own. */
static bool unsaid(const vlcache_compress_options *o, const vlcache_compress_options *row) {
    bool coded = row->storage == VLCACHE_STORAGE_CODED && (!o->storage || o->storage == row->storage);
    const votes *own = votes_of(o, row);
    bool ours = !o->candidates || (own && own->of > VLCACHE_CANDIDATES_ALL && o->candidates == own->of);
    return coded && ours && !o->selection && o->share == 0.0 && o->bits == 0.0 && !o->n_shares;
}

/* Fewer rows in more bits. */
static void fill_votes(vlcache_compress_options *o, const vlcache_compress_options *row) {
    const votes *own = unsaid(o, row) ? votes_of(o, row) : NULL;
    if (!own) return;
    o->selection = VLCACHE_SELECTION_PER_PROMPT;
    o->share = own->share;
    o->candidates = own->of;
}

static void fill_in(vlcache_compress_options *o, const vlcache_compress_options *row) {
    o->policy = row->policy;
    if (o->sinks == VLCACHE_AS_POLICY) o->sinks = row->sinks;
    fill_votes(o, row);
    if (!o->allocation) o->allocation = row->allocation;
    if (!o->scoring) o->scoring = row->scoring;
    if (!o->selection) o->selection = row->selection;
    if (!o->pooling) o->pooling = row->pooling;
    if (o->defer == VLCACHE_AS_POLICY) o->defer = row->defer;
    if (!o->summary) o->summary = row->summary;
    if (!o->storage) o->storage = row->storage;
    if (!o->candidates) o->candidates = row->candidates;
    fill_numbers(o, row);
}

/* ---- ranges -------------------------------------------------------------------------------------------- */

static vlcache_status check_values(const vlcache_compress_options *o) {
    const struct {
        const char *name;
        int value, last;
    } given[] = {{"allocation", (int)o->allocation, VLCACHE_ALLOCATION_HEADS},
                 {"scoring", (int)o->scoring, VLCACHE_SCORING_SINK_RECENT},
                 {"selection", (int)o->selection, VLCACHE_SELECTION_PER_PROMPT},
                 {"pooling", (int)o->pooling, VLCACHE_POOLING_GRID},
                 {"summary", (int)o->summary, VLCACHE_SUMMARY_SPREAD},
                 {"storage", (int)o->storage, VLCACHE_STORAGE_BITS},
                 {"candidates", (int)o->candidates, VLCACHE_CANDIDATES_TEXT}};
    for (size_t i = 0; i < sizeof given / sizeof *given; i++)
        if (given[i].value < 0 || given[i].value > given[i].last)
            return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("compress.%s", given[i].name),
                               VLCI_VALUE("%d", given[i].value), "must be a value of vlcache_%s",
                               given[i].name);
    return VLCACHE_OK;
}

/* A number of an axis, or one that stands alone. */
typedef struct number {
    const char *name, *axis; /* NULL: alone */
    bool needed;
    double value, low, high;
    enum {
        ANY,
        ODD,
        POWER,
        WIDTH,
        ABOVE,
        BETWEEN
    } kind; /* ABOVE: low itself is too low; BETWEEN: high too high as well */
} number;

static vlcache_status refuse_number(const number *n, const char *hint) {
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("compress.%s", n->name),
                       VLCI_VALUE("%.10g", n->value), "%s", hint);
}

/* Negated comparisons, so that NaN is refused too. */
static vlcache_status check_number(const number *n) {
    bool above = n->kind == ABOVE || n->kind == BETWEEN, below = n->kind == BETWEEN;
    if (!n->needed && n->value == VLCACHE_AS_POLICY) return VLCACHE_OK;
    if (!n->needed)
        return refuse_number(n, VLCI_VALUE("must not be given: %s as it is has no use for it", n->axis));
    if ((above ? n->value > n->low : n->value >= n->low) &&
        (below ? n->value < n->high : n->value <= n->high) && (n->kind != ODD || (int)n->value % 2) &&
        (n->kind != POWER || !((int)n->value & ((int)n->value - 1))) &&
        (n->kind != WIDTH || n->value <= 4 || n->value == n->high))
        return VLCACHE_OK;
    const char *what = n->kind == ODD     ? "odd, "
                       : n->kind == POWER ? "a power of two, "
                       : n->kind == WIDTH ? "2, 3, 4 or 8: "
                                          : "";
    return refuse_number(n, VLCI_VALUE("must be %s%s %.10g %s %.10g", what, above ? "above" : "from", n->low,
                                       below   ? "and below"
                                       : above ? "and at most"
                                               : "to",
                                       n->high));
}

static vlcache_status refuse_shares(const vlcache_compress_options *o, const char *hint) {
    return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.n_shares", VLCI_VALUE("%d", o->n_shares), "%s",
                       hint);
}

/* Negated comparisons, so that NaN is refused too. */
static vlcache_status check_shares(const vlcache_compress_options *o) {
    double sum = 0.0;
    if (o->allocation < VLCACHE_ALLOCATION_LAYERS)
        return o->n_shares ? refuse_shares(o, "must be 0: allocation as it is has no use for shares")
                           : VLCACHE_OK;
    if (o->n_shares < 1 || o->n_shares > VLCACHE_SHARES_MOST)
        return refuse_shares(o, VLCI_VALUE("must be 1 to %d with allocation layers or heads",
                                           VLCACHE_SHARES_MOST));
    for (int l = 0; l < o->n_shares; l++) {
        double share = vlci_axis_share(o, l);
        sum += share;
        if (share >= 0.0 && share <= 1000.0) continue;
        int more = l - VLCACHE_SHARES_FIRST;
        return vlci_refuse(VLCACHE_E_ARGUMENT, NULL,
                           VLCI_VALUE("compress.%sshares[%d]", more < 0 ? "" : "more_", more < 0 ? l : more),
                           VLCI_VALUE("%.10g", share), "must be 0 to 1000");
    }
    return sum > 0.0 ? VLCACHE_OK : refuse_shares(o, "must have a share above 0 among them");
}

/* Whether all heads keep the same part of the rows. */
static bool voted(const vlcache_compress_options *o) {
    return o->selection == VLCACHE_SELECTION_PER_PROMPT;
}

static vlcache_status check_numbers(const vlcache_compress_options *o) {
    bool pooled = o->pooling == VLCACHE_POOLING_LINE || o->pooling == VLCACHE_POOLING_GRID;
    bool summed = o->summary == VLCACHE_SUMMARY_KMEANS || o->summary == VLCACHE_SUMMARY_SPREAD;
    bool coded = o->storage == VLCACHE_STORAGE_CODED, quantised = o->storage == VLCACHE_STORAGE_BITS;
    int run = !o->run                              ? NOT
              : coded && o->run == VLCACHE_RUN_ROW ? VLCI_USUAL_RUN
                                                   : o->run; /* a row is good */
    int most_run = quantised ? VLCI_USUAL_GROUP_MAX : VLCACHE_RUN_ALL;
    const number numbers[] = {
        {"budget", NULL, true, o->budget, 0, 1, ABOVE},
        {"threshold", NULL, true, o->threshold, 0, 1, ANY},
        {"recent", NULL, true, o->recent, 0, 1, ANY},
        {"sinks", NULL, true, o->sinks, 0, 1 << 20, ANY},
        {"uniform", "allocation", o->allocation == VLCACHE_ALLOCATION_MIXED, o->uniform, 0, 1, ANY},
        {"window", "scoring", o->scoring == VLCACHE_SCORING_WINDOW, o->window, 1, 1 << 20, ANY},
        {"floor", "selection", o->selection == VLCACHE_SELECTION_ADAPTIVE, o->floor, 0, 1, ANY},
        {"pool_rows", "pooling", o->pooling == VLCACHE_POOLING_GRID, o->pool_rows, 1, 255, ODD},
        {"pool_columns", "pooling", pooled, o->pool_columns, 1, 255, ODD},
        {"defer", NULL, true, o->defer, 0, 1 << 16, ANY},
        {"defer_weight", "defer", o->defer > 0, o->defer_weight, 0, 1e6, ANY},
        {"iterations", "summary", summed, o->iterations, 0, 100, ANY},
        {"centroids", "summary", summed, o->centroids, 0, 1, BETWEEN},
        {"run", "storage", quantised || (coded && o->run), run, 16, most_run, POWER},
        {"bits", "storage", coded && o->bits != 0.0, o->bits == 0.0 ? NOT : o->bits, 1, 4096, ANY},
        {"key_bits", "storage", quantised, o->key_bits ? o->key_bits : NOT, 2, 8, WIDTH},
        {"value_bits", "storage", quantised, o->value_bits ? o->value_bits : NOT, 2, 8, WIDTH},
        {"age", "storage", quantised && o->age, o->age ? o->age : NOT, 16, 1 << 16, ANY},
        {"strict", NULL, true, (double)o->strict, 0, 1, ANY},
        {"share", "selection", voted(o), o->share == 0.0 ? NOT : o->share, 0, 1, ABOVE},
    };
    vlcache_status status = VLCACHE_OK;
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers && !status; i++)
        status = check_number(&numbers[i]);
    return status ? status : check_shares(o);
}

/* ---- together ------------------------------------------------------------------------------------------ */

static vlcache_status refuse_axis(const vlcache_compress_options *o, size_t axis, const char *hint) {
    char text[VLCACHE_AXIS_BYTES];
    vlci_axis_text(o, axis, text);
    return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, VLCI_VALUE("compress.%s", vlci_axis_name(axis)), text,
                            "%s", hint);
}

/* What needs scores, where there are none. */
static vlcache_status check_together(const vlcache_compress_options *o) {
    const struct {
        const char *axis, *instead;
        bool scored;
    } needs[] = {{"selection", "per-head or per-layer", o->selection == VLCACHE_SELECTION_ADAPTIVE},
                 {"pooling", "none", o->pooling != VLCACHE_POOLING_NONE},
                 {"defer", "none", o->defer > 0},
                 {"candidates", "all", o->candidates != VLCACHE_CANDIDATES_ALL}};
    for (size_t i = 0; i < sizeof needs / sizeof *needs && o->scoring == VLCACHE_SCORING_SINK_RECENT; i++) {
        size_t axis = 0;
        if (!needs[i].scored) continue;
        vlcache_status status = vlci_axis_find(needs[i].axis, &axis);
        return status ? status
                      : refuse_axis(o, axis,
                                    VLCI_VALUE("must be %s with scoring sink+recent, which has no scores",
                                               needs[i].instead));
    }
    return VLCACHE_OK;
}

/* What would drop, merge or share out rows, where all heads keep the same ones; what needs scores to share
 * bits out. */
static vlcache_status check_coded(const vlcache_compress_options *o) {
    const struct {
        const char *axis, *must;
        bool good;
    } axes[] = {{"allocation", "uniform or heads",
                 o->allocation == VLCACHE_ALLOCATION_UNIFORM || o->allocation == VLCACHE_ALLOCATION_HEADS},
                {"scoring", "post-vision, accumulated or window", o->scoring != VLCACHE_SCORING_SINK_RECENT},
                {"selection", "per-head, all rows, or per-prompt:SHARE,",
                 o->selection == VLCACHE_SELECTION_PER_HEAD || voted(o)},
                {"pooling", "none", o->pooling == VLCACHE_POOLING_NONE},
                {"summary", "none", o->summary == VLCACHE_SUMMARY_NONE}};
    for (size_t i = 0; i < sizeof axes / sizeof *axes && o->storage == VLCACHE_STORAGE_CODED; i++) {
        size_t axis = 0;
        if (axes[i].good) continue;
        vlcache_status status = vlci_axis_find(axes[i].axis, &axis);
        return status ? status
                      : refuse_axis(o, axis,
                                    VLCI_VALUE("must be %s with storage coded, which keeps the same rows in "
                                               "every head and shares bits out by scores",
                                               axes[i].must));
    }
    return VLCACHE_OK;
}

/* Rows that are kept exact, or in few bits a number, cost what they cost in every head: each has its own. */
static vlcache_status check_not_coded(const vlcache_compress_options *o) {
    size_t axis = 0;
    bool heads = o->allocation == VLCACHE_ALLOCATION_HEADS;
    if ((!voted(o) && !heads) || o->storage == VLCACHE_STORAGE_CODED) return VLCACHE_OK;
    vlcache_status status = vlci_axis_find(heads ? "allocation" : "selection", &axis);
    if (status) return status;
    return heads ? refuse_axis(o, axis, "must be another but with storage coded, whose bits it shares out")
                 : refuse_axis(o, axis,
                               "must be per-head, per-layer or adaptive but with storage coded, whose heads "
                               "keep the same rows");
}

/* A budget of bytes has no share of the candidates. */
static vlcache_status check_candidates(const vlcache_compress_options *o) {
    size_t axis = 0;
    bool coded = o->storage == VLCACHE_STORAGE_CODED;
    if (o->storage == VLCACHE_STORAGE_EXACT || o->candidates == VLCACHE_CANDIDATES_ALL) return VLCACHE_OK;
    if (voted(o)) return VLCACHE_OK;
    vlcache_status status = vlci_axis_find("candidates", &axis);
    return status
               ? status
               : refuse_axis(o, axis,
                             VLCI_VALUE("must be all where rows are stored in few bits: take %sstorage exact",
                                        coded ? "selection per-prompt:SHARE, of which some go, or " : ""));
}

/* The policy that keeps everything takes nothing else. */
static vlcache_status check_full(const vlcache_compress_options *o) {
    const struct {
        const char *name;
        double value;
    } numbers[] = {{"uniform", o->uniform},
                   {"window", o->window},
                   {"floor", o->floor},
                   {"pool_rows", o->pool_rows},
                   {"pool_columns", o->pool_columns},
                   {"defer_weight", o->defer_weight},
                   {"iterations", o->iterations},
                   {"centroids", o->centroids},
                   {"run", o->run ? o->run : NOT},
                   {"bits", o->bits == 0.0 ? NOT : o->bits},
                   {"key_bits", o->key_bits ? o->key_bits : NOT},
                   {"value_bits", o->value_bits ? o->value_bits : NOT},
                   {"age", o->age ? o->age : NOT},
                   {"share", o->share == 0.0 ? NOT : o->share}};
    const char *hint = VLCI_VALUE("must not be given: policy \"%s\" keeps everything", o->policy);
    char text[VLCACHE_AXIS_BYTES];
    for (size_t i = 0; vlci_axis_name(i); i++) {
        vlci_axis_text(o, i, text);
        if (*text) return refuse_axis(o, i, hint);
    }
    if (o->n_shares) return refuse_shares(o, hint);
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (numbers[i].value != VLCACHE_AS_POLICY)
            return refuse_number(&(number){.name = numbers[i].name, .value = numbers[i].value}, hint);
    return VLCACHE_OK;
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

/* Whether axes or numbers are given that coded rows have no use for. */
static bool unfit_for_codes(const vlcache_compress_options *o, const vlcache_compress_options *row) {
    bool numbers = o->uniform != NOT || o->floor != NOT || o->pool_rows != NOT || o->pool_columns != NOT ||
                   o->iterations != NOT || o->centroids != NOT;
    return numbers || o->storage || (o->candidates > VLCACHE_CANDIDATES_ALL && !unsaid(o, row)) ||
           o->pooling > VLCACHE_POOLING_NONE || o->summary > VLCACHE_SUMMARY_NONE ||
           o->selection > VLCACHE_SELECTION_PER_HEAD || o->scoring == VLCACHE_SCORING_SINK_RECENT ||
           o->allocation > VLCACHE_ALLOCATION_UNIFORM || o->allocation == VLCACHE_ALLOCATION_SPARSITY;
}

/* Whether something is given that only coded rows have. */
static bool asks_for_codes(const vlcache_compress_options *o) {
    return o->storage == VLCACHE_STORAGE_CODED || voted(o) || o->allocation == VLCACHE_ALLOCATION_HEADS ||
           o->bits != 0.0 || o->share != 0.0;
}

/* The policy's row, or what stands for "vlcache+" where rows cannot be coded. few: they can, for all that the
 * model knows. */
static vlcache_status choose(const vlcache_compress_options *o, bool few,
                             const vlcache_compress_options **row) {
    vlcache_status status = find(o->policy, row);
    if (status || (*row)->storage != VLCACHE_STORAGE_CODED || asks_for_codes(o)) return status;
    return few && !unfit_for_codes(o, *row) ? VLCACHE_OK : find("centroids", row);
}

static vlcache_status check(const vlcache_compress_options *all) {
    vlcache_status status = check_numbers(all);
    if (!status) status = check_coded(all);
    if (!status) status = check_not_coded(all);
    if (!status) status = check_candidates(all);
    return status ? status : check_together(all);
}

static vlcache_status resolve(const vlcache_compress_options *options, bool few,
                              vlcache_compress_options *all) {
    const vlcache_compress_options *row = NULL;
    vlcache_status status = vlci_axes_take(options, all);
    if (!status) status = check_values(all);
    if (!status) status = choose(all, few, &row);
    if (status) return status;
    fill_in(all, row);
    return row->allocation ? check(all) : check_full(all);
}

/* As the same options would be refused if they asked for codes. */
void vlci_policy_explain(const vlcache_compress_options *options, bool few) {
    const vlcache_compress_options *row = NULL;
    vlcache_compress_options all;
    size_t storage = 0;
    if (vlci_axes_take(options, &all) || find(all.policy, &row) || vlci_axis_find("storage", &storage))
        return;
    bool other = all.storage && all.storage != VLCACHE_STORAGE_CODED;
    if (!all.storage) all.storage = VLCACHE_STORAGE_CODED;
    fill_in(&all, row);
    if (!few)
        refuse_axis(&all, storage, "must be another with this model, whose rows cannot be coded");
    else if (other)
        refuse_axis(&all, storage, VLCI_VALUE("must be coded with policy \"%s\"", row->policy));
    else
        check(&all);
}

static vlci_recipe recipe_of(const vlcache_compress_options *o) {
    static const vlci_scoring scorings[] = {VLCI_SCORE_NONE, VLCI_SCORE_POST_VISION, VLCI_SCORE_ACCUMULATED,
                                            VLCI_SCORE_WINDOW, VLCI_SCORE_NONE};
    bool mixed = o->allocation == VLCACHE_ALLOCATION_MIXED, deferred = o->defer > 0;
    bool pooled = o->pooling != VLCACHE_POOLING_NONE, summed = o->summary != VLCACHE_SUMMARY_NONE;
    bool coded = o->storage == VLCACHE_STORAGE_CODED;
    vlci_recipe recipe = {.policy = o->policy,
                          .compresses = true,
                          .budget = o->budget,
                          .threshold = o->threshold,
                          .recent = o->recent,
                          .sinks = o->sinks,
                          .allocation = o->allocation == VLCACHE_ALLOCATION_PYRAMID  ? VLCI_ALLOCATE_PYRAMID
                                        : o->allocation == VLCACHE_ALLOCATION_LAYERS ? VLCI_ALLOCATE_LAYERS
                                        : o->allocation == VLCACHE_ALLOCATION_HEADS  ? VLCI_ALLOCATE_HEADS
                                                                                     : VLCI_ALLOCATE_MIXED,
                          .uniform = mixed                                         ? o->uniform
                                     : o->allocation == VLCACHE_ALLOCATION_UNIFORM ? 1.0
                                                                                   : 0.0,
                          .scoring = scorings[o->scoring],
                          .window = o->scoring == VLCACHE_SCORING_WINDOW ? o->window : 0,
                          .per_head = o->selection != VLCACHE_SELECTION_PER_LAYER,
                          .adaptive = o->selection == VLCACHE_SELECTION_ADAPTIVE,
                          .floor = o->selection == VLCACHE_SELECTION_ADAPTIVE ? o->floor : 0.0,
                          .pooling = !pooled                              ? VLCI_POOL_NONE
                                     : o->pooling == VLCACHE_POOLING_LINE ? VLCI_POOL_LINE
                                                                          : VLCI_POOL_GRID,
                          .pool_rows = o->pooling == VLCACHE_POOLING_GRID ? o->pool_rows : 1,
                          .pool_columns = pooled ? o->pool_columns : 1,
                          .defer = o->defer,
                          .defer_weight = deferred ? o->defer_weight : 0.0,
                          .centroids = summed ? o->centroids : 0.0,
                          .spread = o->summary == VLCACHE_SUMMARY_SPREAD,
                          .iterations = summed ? o->iterations : 0,
                          .coded = coded,
                          .voted = voted(o) && o->share < 1.0 ? o->share : 0.0,
                          .strict = o->strict > 0,
                          .bits = o->bits,
                          .run = coded && !o->run ? VLCACHE_RUN_ROW : o->run,
                          .run_by_layer = coded && !o->run ? VLCI_USUAL_RUN_BY_LAYER : 0,
                          .quantised = o->storage == VLCACHE_STORAGE_BITS,
                          .key_bits = o->key_bits,
                          .value_bits = o->value_bits,
                          .age = o->age,
                          .candidates = o->candidates == VLCACHE_CANDIDATES_VISUAL ? VLCI_CANDIDATES_VISUAL
                                        : o->candidates == VLCACHE_CANDIDATES_TEXT ? VLCI_CANDIDATES_TEXT
                                                                                   : VLCI_CANDIDATES_ALL};
    recipe.n_shares = o->n_shares;
    for (int i = 0; i < o->n_shares; i++) recipe.shares[i] = vlci_axis_share(o, i);
    return recipe;
}

vlcache_status vlci_policy_read(const vlcache_compress_options *options, bool few, vlci_recipe *out) {
    vlcache_compress_options all;
    vlcache_status status = resolve(options, few, &all);
    if (status) return status;
    *out = all.allocation ? recipe_of(&all) : (vlci_recipe){.policy = all.policy, .threshold = all.threshold};
    vlcache_compress_options given;
    const vlcache_compress_options *row = NULL;
    status = vlci_axes_take(options, &given);
    if (!status) status = choose(&given, few, &row);
    out->text_yields = !status && unsaid(&given, row);
    out->votes_yield = out->text_yields && voted(&all);
    return status;
}

vlcache_status vlcache_compress_check(const vlcache_compress_options *options) {
    vlcache_compress_options all;
    return resolve(options, true, &all);
}

vlcache_status vlcache_compress_resolve(const vlcache_compress_options *options,
                                        vlcache_compress_options *out) {
    vlcache_compress_options all, room;
    vlcache_status status = resolve(options, true, &all);
    if (!status) status = vlci_axes_take(out, &room);
    if (!status) vlci_axes_give(&all, out);
    return status;
}

vlcache_status vlcache_compress_get(const vlcache_compress_options *options, const char *axis,
                                    char text[VLCACHE_AXIS_BYTES]) {
    size_t index = 0;
    vlcache_compress_options all;
    if (!text) return vlci_refuse(VLCACHE_E_ARGUMENT, NULL, "compress.text", NULL, "is NULL: give it room");
    *text = 0;
    vlcache_status status = vlci_axis_find(axis, &index);
    if (!status) status = resolve(options, true, &all);
    if (!status) vlci_axis_text(&all, index, text);
    return status;
}
