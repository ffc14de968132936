/*
 * positions.c - long answers and long conversations: what is right at each place of them.
 *
 *     an answer          share of the letters in each tenth of the reference that it has in their place
 *     a conversation     score of each turn
 *
 * Both at the budget that the report speaks of, over the same of the full cache; hit rates of the tenths or
 * turns beside them, where decode was probed.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/align.h"
#include "eval/bootstrap.h"
#include "eval/report/section.h"

enum { LONG_BYTES = 200, MANY_TURNS = 4, ENDS = 3 };

/* What is known of a group: [way][question][place], NaN where there is nothing; way 0 is the full cache. */
typedef struct places {
    const sheet *sheet;
    bool turns; /* places are turns, not tenths */
    size_t ways, n;
    double *at;
} places;

static double *place_of(const places *p, size_t way, size_t question) {
    return p->at + (way * p->sheet->n + question) * p->n;
}

static const item *item_of(const report *r, const sheet *s, size_t question) {
    return &r->outcome->data->items[s->items[question]];
}

/* How many places a group has; 0: nothing long is in it. */
static size_t count_places(const report *r, const sheet *s, bool *turns) {
    size_t most = 0, bytes = 0;
    metric m = s->group->metric;
    for (size_t i = 0; i < s->n; i++) {
        const item *it = item_of(r, s, i);
        if (it->n_turns > most) most = it->n_turns;
        bytes += strlen(it->turns[0].answers[0]);
    }
    *turns = most >= MANY_TURNS;
    if (!s->n || m == METRIC_CIDER || m == METRIC_LIKELIHOOD) return 0;
    return *turns ? most : most == 1 && bytes >= LONG_BYTES * s->n ? ALIGN_PARTS : 0;
}

static size_t way_index(const report *r, size_t policy) {
    return variants_at(r->outcome->variants, policy, r->options->studies.budget);
}

static const json_t *run_of(const report *r, const sheet *s, size_t question, size_t policy) {
    const json_t *record = r->outcome->results->records[s->items[question]];
    return json_array_get(json_object_get(record, "runs"), way_index(r, policy));
}

static const char *text_of(const json_t *run, size_t index) {
    const char *text = json_string_value(json_array_get(json_object_get(run, "text"), index));
    return text ? text : "";
}

static void fill_question(const report *r, const places *p, size_t way, size_t question) {
    const item *it = item_of(r, p->sheet, question);
    const json_t *run = run_of(r, p->sheet, question, way);
    double *at = place_of(p, way, question);
    if (!p->turns && !align_parts(text_of(run, 0), it->turns[0].answers[0], at))
        for (size_t t = 0; t < p->n; t++) at[t] = NAN;
    for (size_t t = 0; t < p->n && p->turns; t++)
        at[t] = t < it->n_turns ? metric_score(p->sheet->group->metric, text_of(run, t), it->turns[t].answers,
                                               it->turns[t].n_answers)
                                : NAN;
}

static bool make_places(const report *r, const sheet *s, places *p) {
    *p = (places){.sheet = s, .ways = r->outcome->variants->n_policies};
    p->n = count_places(r, s, &p->turns);
    if (!p->n || p->ways < 2) return false;
    p->at = memory_take(p->ways * s->n * p->n, sizeof *p->at);
    for (size_t w = 0; w < p->ways; w++)
        for (size_t i = 0; i < s->n; i++) fill_question(r, p, w, i);
    return true;
}

/* Mean over the questions that have the place; NaN where none has. */
static double mean_at(const places *p, size_t way, size_t place, size_t *n) {
    double sum = 0.0;
    *n = 0;
    for (size_t i = 0; i < p->sheet->n; i++) {
        double value = place_of(p, way, i)[place];
        if (isnan(value)) continue;
        sum += value;
        ++*n;
    }
    return *n ? sum / (double)*n : NAN;
}

static double retention(const places *p, size_t way, size_t place) {
    size_t n = 0;
    double whole = mean_at(p, 0, place, &n), own = mean_at(p, way, place, &n);
    return whole > 0.0 ? 100.0 * own / whole : NAN;
}

/* ---- decay -------------------------------------------------------------------------------------------- */

/* Mean over up to three known places from an end. */
static double end_of(const places *p, size_t way, size_t question, bool last) {
    const double *at = place_of(p, way, question);
    double sum = 0.0;
    int n = 0;
    for (size_t k = 0; k < p->n && n < ENDS; k++) {
        double value = at[last ? p->n - 1 - k : k];
        if (isnan(value)) continue;
        sum += value;
        n++;
    }
    return n ? sum / n : 0.0;
}

/* The last three places less the first three, in points, paired by question. */
static estimate decay(const report *r, const places *p, size_t way) {
    size_t n = p->sheet->n, plus = 1, minus = 0;
    sheet ends = {.n = n, .scores = memory_take(2 * n, sizeof(double))};
    for (size_t i = 0; i < n; i++) {
        ends.scores[i] = end_of(p, way, i, false);
        ends.scores[n + i] = end_of(p, way, i, true);
    }
    estimate e = section_percent(&ends, bootstrap_contrast(&ends, &plus, &minus, 1, r->options->seed));
    free(ends.scores);
    return e;
}

/* ---- hit rates ---------------------------------------------------------------------------------------- */

static double hit_at(const report *r, const places *p, size_t way, size_t place) {
    double sum = 0.0;
    size_t n = 0;
    const char *key = p->turns ? "hit_turn" : "hit_tenth";
    for (size_t i = 0; i < p->sheet->n; i++) {
        const json_t *run = run_of(r, p->sheet, i, way);
        const json_t *hit = json_array_get(json_object_get(run, key), place);
        if (!json_is_number(hit)) continue;
        sum += json_number_value(hit);
        n++;
    }
    return n ? 100.0 * sum / (double)n : NAN;
}

/* ---- charts ------------------------------------------------------------------------------------------- */

typedef double (*of_place)(const report *r, const places *p, size_t way, size_t place);

static double retention_of(const report *r, const places *p, size_t way, size_t place) {
    (void)r;
    return retention(p, way, place);
}

static void draw(const report *r, const places *p, of_place take, svg_chart chart, FILE *out) {
    const variants *v = r->outcome->variants;
    svg_point *points = memory_take(p->ways * p->n, sizeof *points);
    svg_series *series = memory_take(p->ways, sizeof *series);
    svg_numbers axis = svg_numbers_make(p->n, 1);
    for (size_t w = 1; w < p->ways; w++) {
        svg_point *own = points + w * p->n;
        series[w - 1] = (svg_series){v->labels[w], (int)w - 1, own, p->n};
        for (size_t k = 0; k < p->n; k++) own[k] = (svg_point){(double)k, take(r, p, w, k), NAN, NAN};
    }
    chart.x_title = p->turns ? "Turn" : "Tenth of the answer";
    chart.ticks = axis.ticks;
    chart.n_ticks = p->n;
    chart.series = series;
    chart.n_series = p->ways - 1;
    chart.lines = chart.from_zero = true;
    chart.unit = "%";
    svg_write(out, &chart);
    free(points);
    free(series);
    svg_numbers_release(&axis);
}

static bool has_hits(const report *r, const places *p) {
    return !isnan(hit_at(r, p, 1, 0));
}

static void write_table(const report *r, const places *p, FILE *out) {
    fputs("<div class=\"table\"><table>\n<thead><tr><th scope=\"col\">policy</th>", out);
    for (size_t k = 0; k < p->n; k++) fprintf(out, "<th scope=\"col\">%zu</th>", k + 1);
    fputs("<th scope=\"col\">change</th></tr></thead>\n<tbody>\n", out);
    for (size_t w = 1; w < p->ways; w++) {
        estimate e = decay(r, p, w);
        fputs("<tr><th scope=\"row\">", out);
        page_text(out, r->outcome->variants->labels[w]);
        fputs("</th>", out);
        for (size_t k = 0; k < p->n; k++) {
            estimate place = {retention(p, w, k), NAN, NAN};
            section_interval_cell(out, &place);
        }
        section_interval_cell(out, &e);
        fputs("</tr>\n", out);
    }
    fputs("</tbody>\n</table></div>\n", out);
}

static void write_group(const report *r, const places *p, size_t index, FILE *out) {
    char id[48];
    fputs("<article>\n", out);
    section_task(out, p->sheet);
    snprintf(id, sizeof id, "positions-%zu", index);
    draw(r, p, retention_of,
         (svg_chart){.id = id,
                     .title = "Retention at each place of an answer, a line for each policy",
                     SECTION_RETENTION},
         out);
    snprintf(id, sizeof id, "positions-hits-%zu", index);
    if (has_hits(r, p))
        draw(r, p, hit_at,
             (svg_chart){.id = id,
                         .title = "Cache hit rate at each place of an answer, a line for each policy",
                         .y_title = "Hit rate",
                         .whole = NAN},
             out);
    write_table(r, p, out);
    fputs("</article>\n", out);
}

void section_positions(const report *r, FILE *out) {
    char share[16];
    bool any = false;
    table_share(r->outcome->variants->budgets[r->options->studies.budget], share);
    for (size_t i = 0; i < r->outcome->scores->n; i++) {
        places p;
        if (!make_places(r, &r->outcome->scores->sheets[i], &p)) continue;
        if (!any)
            page_section(out, "positions", "Long answers, place by place",
                         "Whether an answer gets worse as it goes on: the share of the letters of each tenth "
                         "of the reference that stand in their place, or the score of each turn, as a "
                         "percentage of the full cache's.");
        if (!any) fputs("<div class=\"grid\">\n", out);
        any = true;
        write_group(r, &p, i, out);
        free(p.at);
    }
    if (!any) return;
    fprintf(
        out,
        "</div>\n<p class=\"note\">At %s of the cache; answers of %d letters and more on average, "
        "conversations of %d turns and more. The last column is in points: the last three places less the "
        "first three, with its 95%% interval over the questions; an answer that ends early has nothing at "
        "its end.</p>\n",
        share, LONG_BYTES, MANY_TURNS);
    page_section_end(out);
}
