/*
 * attention.c - what the layers attend to: sparsity in prefill and in decode, and what was kept of it.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "eval/bootstrap.h"
#include "eval/report/layers.h"
#include "eval/report/section.h"

static const double published = 0.01; /* the threshold of the paper */

static svg_point point_of(double x, spread s) {
    return (svg_point){x, 100.0 * s.mean, 100.0 * s.low, 100.0 * s.high};
}

static double correlate(const svg_point *a, const svg_point *b, size_t n, estimate *out) {
    double *x = memory_take(2 * n + 1, sizeof *x);
    for (size_t i = 0; i < n; i++) {
        x[i] = a[i].y;
        x[n + i] = b[i].y;
    }
    *out = correlation(x, x + n, n);
    free(x);
    return out->mean;
}

/* ---- sparsity ----------------------------------------------------------------------------------------- */

static void draw_profile(const svg_numbers *a, const svg_point *prefill, const svg_point *decode, FILE *out) {
    svg_series series[2] = {{"prefill, rows after the picture", 0, prefill, a->n},
                            {"decode", 1, decode, a->n}};
    svg_chart chart = {.id = "sparsity",
                       .title = "Sparsity of each layer in prefill and in decode",
                       .heading = "Layer by layer",
                       .x_title = "Layer",
                       .y_title = "Sparsity",
                       .ticks = a->ticks,
                       .n_ticks = a->n,
                       .series = series,
                       .n_series = 2,
                       .lines = true,
                       .dodge = true,
                       .unit = "%",
                       .whole = NAN};
    svg_write(out, &chart);
}

static void draw_scatter(const svg_numbers *a, const svg_point *prefill, const svg_point *decode, FILE *out) {
    svg_point *pairs = memory_take(a->n + 1, sizeof *pairs);
    svg_series *series = memory_take(a->n + 1, sizeof *series);
    char(*names)[32] = memory_take(a->n + 1, sizeof *names);
    for (size_t l = 0; l < a->n; l++) {
        pairs[l] = (svg_point){prefill[l].y, decode[l].y, NAN, NAN};
        snprintf(names[l], sizeof names[l], "layer %zu", l);
        series[l] = (svg_series){names[l], 2, &pairs[l], 1};
    }
    svg_chart chart = {.id = "sparsity-pairs",
                       .title = "Sparsity in decode against sparsity in prefill, a point for each layer",
                       .heading = "One against the other",
                       .x_title = "Sparsity in prefill",
                       .y_title = "Sparsity in decode",
                       .series = series,
                       .n_series = a->n,
                       .unit = "%",
                       .x_unit = "%",
                       .named = true,
                       .whole = NAN};
    svg_write(out, &chart);
    free(pairs);
    free(series);
    free(names);
}

static void tell_correlation(const report *r, const svg_point *prefill, const svg_point *decode, size_t n,
                             FILE *out) {
    estimate e;
    fputs("<p class=\"note\">", out);
    if (isnan(correlate(prefill, decode, n, &e)))
        fputs("Too few layers, or no spread among them, for a correlation. ", out);
    else
        fprintf(out,
                "Pearson's <b id=\"correlation\">r = %.3f</b> between the two over %zu layers (95%% interval "
                "%.2f to %.2f; the paper reports 0.695). ",
                e.mean, n, e.low, e.high);
    fprintf(out, "Means over questions, whiskers their quartiles; p = %g; %zu decoded steps.</p>\n",
            published, layers_steps(r->outcome->results));
}

void section_sparsity(const report *r, FILE *out) {
    const results *found = r->outcome->results;
    svg_numbers a = svg_numbers_make(layers_count(found), 0);
    page_section(out, "sparsity", "Sparsity of each layer",
                 "The share of the prompt that a layer's attention passes over: where the two lines go "
                 "together, prefill says which layers can do with few tokens in decode.");
    svg_point *points = memory_take(2 * a.n + 1, sizeof *points);
    for (size_t l = 0; l < a.n; l++) {
        points[l] = point_of((double)l, layers_sparsity(found, "sparsity", published, l));
        points[a.n + l] = point_of((double)l, layers_sparsity(found, "decode", published, l));
    }
    if (a.n) {
        fputs("<div class=\"grid\">\n", out);
        draw_profile(&a, points, points + a.n, out);
        draw_scatter(&a, points, points + a.n, out);
        fputs("</div>\n", out);
        tell_correlation(r, points, points + a.n, a.n, out);
    }
    free(points);
    svg_numbers_release(&a);
    page_section_end(out);
}

/* ---- hit rate ----------------------------------------------------------------------------------------- */

/* A percentage, and the quartiles over the questions. */
static void hit_cell(const report *r, const char *which, size_t index, FILE *out) {
    spread s = layers_hit_of_all(r->outcome->results, which, index);
    estimate e = {100.0 * s.mean, s.n < 2 ? NAN : 100.0 * s.low, s.n < 2 ? NAN : 100.0 * s.high};
    section_interval_cell(out, &e);
}

static void hits_table(const report *r, const char *which, FILE *out) {
    const variants *v = r->outcome->variants;
    section_table_head(v, out);
    for (size_t p = 1; p < v->n_policies; p++) {
        fputs("<tr><th scope=\"row\">", out);
        page_text(out, v->labels[p]);
        fputs("</th>", out);
        for (size_t b = 0; b < v->n_budgets; b++) hit_cell(r, which, variants_at(v, p, b), out);
        fputs("</tr>\n", out);
    }
    fputs("</tbody>\n</table></div>\n", out);
}

static void draw_hits(const report *r, const svg_numbers *a, const char *which, const char *heading,
                      FILE *out) {
    const variants *v = r->outcome->variants;
    svg_point *points = memory_take(v->n_policies * a->n + 1, sizeof *points);
    svg_series *series = memory_take(v->n_policies, sizeof *series);
    for (size_t p = 1; p < v->n_policies; p++) {
        svg_point *own = points + (p - 1) * a->n;
        series[p - 1] = (svg_series){v->labels[p], (int)p - 1, own, a->n};
        for (size_t l = 0; l < a->n; l++) {
            spread s =
                layers_hit(r->outcome->results, which, variants_at(v, p, r->options->studies.budget), l);
            own[l] = (svg_point){(double)l, 100.0 * s.mean, NAN, NAN};
        }
    }
    svg_chart chart = {.id = which[3] ? "hits-first" : "hits",
                       .title = "Cache hit rate of each layer, a line for each policy",
                       .heading = heading,
                       .x_title = "Layer",
                       .y_title = "Hit rate",
                       .ticks = a->ticks,
                       .n_ticks = a->n,
                       .series = series,
                       .n_series = v->n_policies - 1,
                       .lines = true,
                       .from_zero = true,
                       .unit = "%",
                       .whole = NAN};
    fputs("<article>\n", out);
    svg_write(out, &chart);
    hits_table(r, which, out);
    fputs("</article>\n", out);
    free(points);
    free(series);
}

static void hits_note(const report *r, FILE *out) {
    char share[16];
    table_share(r->outcome->variants->budgets[r->options->studies.budget], share);
    fprintf(
        out,
        "<p class=\"note\">Charts at %s of the cache; in the tables are percentages, means over layers and "
        "questions, with their quartiles over the questions. The paper reports the first step alone; all are "
        "%zu decoded steps. k is the number of tokens a head has kept as they were: centroids are no tokens. "
        "Steps that a policy which waits still answers with the full cache count like all others.</p>\n",
        share, layers_steps(r->outcome->results));
}

void section_hits(const report *r, FILE *out) {
    svg_numbers a = svg_numbers_make(layers_count(r->outcome->results), 0);
    page_section(
        out, "hits", "Cache hit rate",
        "Of the k tokens that the full cache attends to most while it answers, the share that a policy "
        "has kept, k being how many it keeps: 100% would be a policy that knows what decode will look "
        "at.");
    if (a.n && r->outcome->variants->n_policies > 1) {
        fputs("<div class=\"grid\">\n", out);
        draw_hits(r, &a, "hit", "All decoded steps", out);
        draw_hits(r, &a, "hit_first", "The first step alone", out);
        fputs("</div>\n", out);
        hits_note(r, out);
    } else {
        fputs("<p class=\"note\">Nothing to compare.</p>\n", out);
    }
    svg_numbers_release(&a);
    page_section_end(out);
}
