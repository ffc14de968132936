/*
 * answers.c - what can be told of answers one by one: do hit rates foretell them, are they well formed, and
 * are rare things lost before common ones?
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/align.h"
#include "eval/bootstrap.h"
#include "eval/report/section.h"

/* One answer of a policy at the report's budget. */
typedef struct point {
    double hit, score, formed;
} point;

static size_t way_index(const report *r, size_t policy) {
    return variants_at(r->outcome->variants, policy, r->options->studies.budget);
}

static const json_t *run_of(const report *r, size_t index, size_t way) {
    return json_array_get(json_object_get(r->outcome->results->records[index], "runs"), way);
}

/* Mean over layers; NaN where decode was not probed. */
static double hit_of(const json_t *run) {
    const json_t *hit = json_object_get(run, "hit");
    double sum = 0.0;
    size_t n = json_array_size(hit);
    for (size_t l = 0; l < n; l++) sum += json_number_value(json_array_get(hit, l));
    return n ? sum / (double)n : NAN;
}

/* Every turn goes straight, and matches the form where the question has one. */
static bool is_formed(const item *it, const json_t *run) {
    for (size_t t = 0; t < it->n_turns; t++) {
        const char *text = json_string_value(json_array_get(json_object_get(run, "text"), t));
        if (!text || align_loops(text)) return false;
        if (it->has_form && regexec(&it->form, text, 0, NULL, 0) != 0) return false;
    }
    return true;
}

static size_t count_questions(const report *r) {
    size_t n = 0;
    for (size_t g = 0; g < r->outcome->scores->n; g++) n += r->outcome->scores->sheets[g].n;
    return n;
}

/* The answers of a policy to questions that are no likelihoods: how many. */
static size_t gather(const report *r, size_t way, point *out) {
    size_t n = 0;
    for (size_t g = 0; g < r->outcome->scores->n; g++) {
        const sheet *s = &r->outcome->scores->sheets[g];
        for (size_t i = 0; i < s->n && s->group->metric != METRIC_LIKELIHOOD; i++) {
            const json_t *run = run_of(r, s->items[i], way);
            out[n++] = (point){hit_of(run), s->scores[way * s->n + i],
                               is_formed(&r->outcome->data->items[s->items[i]], run)};
        }
    }
    return n;
}

static estimate correlate(const point *points, size_t n, bool formed, size_t *pairs) {
    double *x = memory_take(2 * n + 1, sizeof *x), *y = x + n;
    *pairs = 0;
    for (size_t i = 0; i < n; i++) {
        if (isnan(points[i].hit)) continue;
        x[*pairs] = points[i].hit;
        y[(*pairs)++] = formed ? points[i].formed : points[i].score;
    }
    estimate e = correlation(x, y, *pairs);
    free(x);
    return e;
}

static void correlation_cell(FILE *out, estimate e) {
    if (isnan(e.mean))
        fputs("<td>-</td>", out);
    else
        fprintf(out, "<td>%.2f<small>%.2f to %.2f</small></td>", e.mean, e.low, e.high);
}

static void coherence_row(const report *r, const char *label, const point *points, size_t n, FILE *out) {
    double formed = 0.0;
    size_t pairs = 0;
    for (size_t i = 0; i < n; i++) formed += points[i].formed / (double)n;
    fputs("<tr><th scope=\"row\">", out);
    page_text(out, label);
    fprintf(out, "</th><td>%.0f</td>", 100.0 * formed);
    correlation_cell(out, correlate(points, n, false, &pairs));
    correlation_cell(out, correlate(points, n, true, &pairs));
    fprintf(out, "<td>%zu</td></tr>\n", pairs);
    (void)r;
}

static void draw_hits(const report *r, const point *points, size_t n, FILE *out) {
    const variants *v = r->outcome->variants;
    svg_point *at = memory_take(n * v->n_policies + 1, sizeof *at);
    svg_series *series = memory_take(v->n_policies, sizeof *series);
    for (size_t p = 1; p < v->n_policies; p++) {
        svg_point *own = at + (p - 1) * n;
        series[p - 1] = (svg_series){v->labels[p], (int)p - 1, own, n};
        for (size_t i = 0; i < n; i++) {
            const point *from = &points[(p - 1) * n + i];
            own[i] = (svg_point){100.0 * from->hit, isnan(from->hit) ? NAN : 100.0 * from->score, NAN, NAN};
        }
    }
    svg_chart chart = {.id = "coherence",
                       .title = "Score of each question against its cache hit rate, a colour for each policy",
                       .x_title = "Hit rate of the question",
                       .y_title = "Score",
                       .series = series,
                       .n_series = v->n_policies - 1,
                       .wide = true,
                       .from_zero = true,
                       .unit = "",
                       .x_unit = "%",
                       .whole = NAN};
    svg_write(out, &chart);
    free(at);
    free(series);
}

void section_coherence(const report *r, FILE *out) {
    const variants *v = r->outcome->variants;
    size_t room = count_questions(r), n = 0, pairs = 0;
    char share[16];
    point *points = memory_take(room * v->n_policies + 1, sizeof *points);
    for (size_t p = 1; p < v->n_policies; p++) n = gather(r, way_index(r, p), points + (p - 1) * n);
    correlate(points, n * (v->n_policies - 1), false, &pairs);
    table_share(v->budgets[r->options->studies.budget], share);
    if (n && pairs) {
        page_section(out, "coherence", "Hit rate, score, and whether an answer holds together",
                     "A point for each question and policy: if the hit rate foretold the score, the points "
                     "would rise to the right.");
        draw_hits(r, points, n, out);
        fputs(
            "<div class=\"table\"><table id=\"coherence-table\">\n<thead><tr><th scope=\"col\">policy</th>"
            "<th scope=\"col\">well formed, %</th><th scope=\"col\">r of hit rate and score</th>"
            "<th scope=\"col\">r of hit rate and form</th><th scope=\"col\">n</th></tr></thead>\n<tbody>\n",
            out);
        for (size_t p = 1; p < v->n_policies; p++)
            coherence_row(r, v->labels[p], points + (p - 1) * n, n, out);
        coherence_row(r, "all of them", points, n * (v->n_policies - 1), out);
        fprintf(
            out,
            "</tbody>\n</table></div>\n<p class=\"note\">At %s of the cache; Pearson's r with its 95%% "
            "interval. Well formed: no piece of four letters or more four times in a row, and of the form "
            "that the data give, where they give one. All of them together also differ by policy and "
            "task.</p>\n",
            share);
        page_section_end(out);
    }
    free(points);
}

/* ---- rare and common ---------------------------------------------------------------------------------- */

static const char rare[] = "rare-", common[] = "common-";

/* The sheet of the common twin of a rare task; NULL: there is none. */
static const sheet *twin_of(const scores *s, const sheet *of) {
    if (strncmp(of->group->task, rare, strlen(rare)) != 0) return NULL;
    const char *name = of->group->task + strlen(rare);
    for (size_t i = 0; i < s->n; i++) {
        const char *task = s->sheets[i].group->task;
        bool twin = strncmp(task, common, strlen(common)) == 0 && strcmp(task + strlen(common), name) == 0;
        if (twin && s->sheets[i].group->metric == of->group->metric) return &s->sheets[i];
    }
    return NULL;
}

/* The questions that the full cache answers wholly: their mean in a way, in percent, with its interval. */
static estimate solved(const report *r, const sheet *s, size_t way, size_t *n) {
    sheet part = {.scores = memory_take(2 * s->n + 1, sizeof(double))};
    size_t plus = 1, minus = 0;
    for (size_t i = 0; i < s->n; i++) part.n += s->scores[i] >= 1.0;
    size_t at = part.n;
    for (size_t i = 0; i < s->n; i++)
        if (s->scores[i] >= 1.0) part.scores[at++] = s->scores[way * s->n + i];
    estimate e = section_percent(&part, bootstrap_contrast(&part, &plus, &minus, 1, r->options->seed));
    *n = part.n;
    free(part.scores);
    return e;
}

static void rare_rows(const report *r, const sheet *s, const sheet *twin, FILE *out) {
    const variants *v = r->outcome->variants;
    for (size_t p = 1; p < v->n_policies; p++) {
        size_t of_rare = 0, of_common = 0, way = way_index(r, p);
        estimate few = solved(r, s, way, &of_rare), many = solved(r, twin, way, &of_common);
        fputs("<tr><th scope=\"row\">", out);
        page_text(out, s->group->task + strlen(rare));
        fputs("</th><td>", out);
        page_text(out, v->labels[p]);
        fputs("</td>", out);
        section_interval_cell(out, &few);
        section_interval_cell(out, &many);
        fprintf(out, "<td>%zu of %zu, %zu of %zu</td></tr>\n", of_rare, s->n, of_common, twin->n);
    }
}

/* The rare tasks that can be compared, up to `s->n` of them: how many. */
static size_t list_rare(const report *r, const sheet **found) {
    const scores *s = r->outcome->scores;
    size_t n = 0;
    for (size_t i = 0; i < s->n && r->outcome->variants->n_policies > 1; i++) {
        const sheet *twin = twin_of(s, &s->sheets[i]);
        if (twin && twin->n && s->sheets[i].n) found[n++] = &s->sheets[i];
    }
    return n;
}

/* Two columns of points for each task and policy: rare ones and common ones. */
static void draw_rare(const report *r, const sheet *const *found, size_t n, FILE *out) {
    const variants *v = r->outcome->variants;
    size_t lines = 2 * (v->n_policies - 1);
    svg_point *points = memory_take(lines * n, sizeof *points);
    svg_series *series = memory_take(lines, sizeof *series);
    svg_tick *ticks = memory_take(n, sizeof *ticks);
    char(*names)[96] = memory_take(lines, sizeof *names);
    for (size_t k = 0; k < n; k++) ticks[k] = (svg_tick){(double)k, found[k]->group->task + strlen(rare)};
    for (size_t l = 0; l < lines; l++) {
        snprintf(names[l], sizeof names[l], "%.64s, %s", v->labels[1 + l / 2], l % 2 ? "common" : "rare");
        series[l] = (svg_series){names[l], (int)l, points + l * n, n};
        for (size_t k = 0; k < n; k++) {
            size_t counted = 0;
            const sheet *of = l % 2 ? twin_of(r->outcome->scores, found[k]) : found[k];
            estimate e = solved(r, of, way_index(r, 1 + l / 2), &counted);
            points[l * n + k] = (svg_point){(double)k, e.mean, e.low, e.high};
        }
    }
    svg_chart chart = {.id = "rare",
                       .title = "Retention of rare and of common things, for each policy",
                       .x_title = "What is rare",
                       SECTION_RETENTION,
                       .ticks = ticks,
                       .n_ticks = n,
                       .series = series,
                       .n_series = lines,
                       .wide = true,
                       .dodge = true,
                       .from_zero = true};
    svg_write(out, &chart);
    free(points);
    free(series);
    free(ticks);
    free(names);
}

void section_rare(const report *r, FILE *out) {
    const scores *s = r->outcome->scores;
    char share[16];
    const sheet **found = memory_take(s->n + 1, sizeof *found);
    size_t n = list_rare(r, found);
    table_share(r->outcome->variants->budgets[r->options->studies.budget], share);
    if (n) {
        page_section(
            out, "rare", "Rare things and common ones",
            "Whether what a model has seldom or never seen is lost first: only questions that the full "
            "cache answers wholly count, so that rare and common begin at 100.");
        draw_rare(r, found, n, out);
        fputs(
            "<div class=\"table\"><table id=\"rare-table\">\n<thead><tr><th scope=\"col\">of</th>"
            "<th scope=\"col\">policy</th><th scope=\"col\">rare</th><th scope=\"col\">common</th>"
            "<th scope=\"col\">questions</th></tr></thead>\n<tbody>\n",
            out);
        for (size_t i = 0; i < n; i++) rare_rows(r, found[i], twin_of(s, found[i]), out);
        fprintf(out, "</tbody>\n</table></div>\n<p class=\"note\">At %s of the cache.</p>\n", share);
        page_section_end(out);
    }
    free(found);
}
