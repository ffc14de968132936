/*
 * score.c - metric of each answer; mean over the turns of a question; mean over the questions of a group.
 */
#include "eval/score.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "eval/bootstrap.h"
#include "eval/cider.h"

/* ---- questions of a group ----------------------------------------------------------------------------- */

static bool make_sheet(const data *d, const results *r, size_t g, size_t n_variants, sheet *s) {
    *s = (sheet){.group = &d->groups[g]};
    size_t room = d->groups[g].n + 1;
    s->items = calloc(room, sizeof *s->items);
    s->scores = calloc(room * n_variants, sizeof *s->scores);
    s->cells = calloc(n_variants, sizeof *s->cells);
    if (!s->items || !s->scores || !s->cells) return false;
    for (size_t i = 0; i < d->n; i++)
        if ((size_t)d->items[i].group == g && r->records[i] && !results_error(r, i)) s->items[s->n++] = i;
    return true;
}

/* Document frequencies of a group: from the references of its answered questions, every turn one document. */
static bool read_references(const data *d, const sheet *s, cider *c) {
    bool good = cider_begin(c);
    for (size_t i = 0; i < s->n && good; i++) {
        const item *it = &d->items[s->items[i]];
        for (size_t t = 0; t < it->n_turns && good; t++)
            good = cider_add(c, it->turns[t].answers, it->turns[t].n_answers);
    }
    return good;
}

/* ---- one answer, one question ------------------------------------------------------------------------- */

static double score_turn(const sheet *s, const cider *c, const turn *t, const char *answer) {
    if (s->group->metric == METRIC_CIDER) return cider_score(c, answer, t->answers, t->n_answers);
    return metric_score(s->group->metric, answer, t->answers, t->n_answers);
}

static double score_item(const sheet *s, const cider *c, const item *it, const json_t *run) {
    const json_t *texts = json_object_get(run, "text"), *losses = json_object_get(run, "loss");
    double sum = 0.0;
    for (size_t t = 0; t < it->n_turns; t++) {
        if (s->group->metric == METRIC_LIKELIHOOD) {
            sum += exp(-json_number_value(json_array_get(losses, t)));
            continue;
        }
        const char *answer = json_string_value(json_array_get(texts, t));
        sum += score_turn(s, c, &it->turns[t], answer ? answer : "");
    }
    return sum / (double)it->n_turns;
}

static double mean_tokens(const json_t *run) {
    const json_t *tokens = json_object_get(run, "tokens");
    double sum = 0.0;
    for (size_t t = 0; t < json_array_size(tokens); t++)
        sum += (double)json_integer_value(json_array_get(tokens, t));
    return sum;
}

/* ---- cells -------------------------------------------------------------------------------------------- */

/* What a question's run kept, of what it had. */
static void count_bytes(const json_t *record, const json_t *run, double budget, double part, cell *made) {
    double bytes = json_number_value(json_object_get(run, "bytes"));
    double whole = json_number_value(json_object_get(record, "bytes"));
    double tokens = json_number_value(json_object_get(json_object_get(record, "prompt"), "tokens"));
    made->kept += part * json_number_value(json_object_get(run, "kept"));
    made->bytes += part * bytes;
    made->token_bytes += tokens > 0.0 ? part * bytes / tokens : 0.0;
    made->share += whole > 0.0 ? part * bytes / whole : 0.0;
    made->over += bytes > budget * whole * (1.0 + 1e-9);
}

/* Its domain is a question's own: how long its prompt is. */
static const char *same_storage(const char *before, const json_t *run, bool first) {
    const char *storage = json_string_value(json_object_get(run, "storage"));
    bool same = storage && before && strcmp(storage, before) == 0;
    return first || same ? storage : NULL;
}

static void score_variant(const data *d, const results *r, const cider *c, const variants *ways, size_t v,
                          sheet *s) {
    cell *made = &s->cells[v];
    double budget = v ? ways->items[v].options.budget : 1.0;
    for (size_t i = 0; i < s->n; i++) {
        const json_t *record = r->records[s->items[i]];
        const json_t *run = json_array_get(json_object_get(record, "runs"), v);
        s->scores[v * s->n + i] = score_item(s, c, &d->items[s->items[i]], run);
        count_bytes(record, run, budget, 1.0 / (double)s->n, made);
        made->tokens += mean_tokens(run) / (double)s->n;
        made->storage = same_storage(made->storage, run, !i);
    }
}

static bool fill_sheet(const data *d, const results *r, const variants *ways, uint64_t seed, sheet *s) {
    size_t n_variants = ways->n;
    cider c = {0};
    bool good = s->group->metric != METRIC_CIDER || read_references(d, s, &c);
    for (size_t v = 0; v < n_variants && good; v++) score_variant(d, r, &c, ways, v, s);
    cider_release(&c);
    for (size_t i = 0; i < n_variants * s->n && good; i++) good = !isnan(s->scores[i]);
    return good && bootstrap(s, n_variants, seed);
}

int scores_make(const data *d, const results *r, const variants *v, uint64_t seed, console *c, scores *out) {
    *out = (scores){.n_variants = v->n};
    out->sheets = calloc(d->n_groups, sizeof *out->sheets);
    bool good = out->sheets != NULL;
    for (; out->n < d->n_groups && good; out->n++) {
        sheet *s = &out->sheets[out->n];
        good = make_sheet(d, r, out->n, v->n, s) && fill_sheet(d, r, v, seed, s);
        out->answered += s->n;
    }
    for (size_t i = 0; i < d->n; i++) out->skipped += r->records[i] && results_error(r, i);
    return good ? EXIT_OK : console_fail(c, EXIT_MEMORY, "scores: out of host memory");
}

void scores_release(scores *s) {
    for (size_t i = 0; i < s->n; i++) {
        free(s->sheets[i].items);
        free(s->sheets[i].scores);
        free(s->sheets[i].cells);
    }
    free(s->sheets);
    *s = (scores){0};
}
