/*
 * layerwise.c - the studies of layers: each one alone, what its rows vary in, how visual what it keeps is.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "eval/bootstrap.h"
#include "eval/fit.h"
#include "eval/report/layers.h"
#include "eval/report/section.h"

static const double published = 0.01; /* the threshold of the paper */

/* A chart over the layers. */
static void draw(svg_chart chart, size_t n_layers, const svg_series *series, size_t n, FILE *out) {
    svg_numbers t = svg_numbers_make(n_layers, 0);
    chart.x_title = "Layer";
    chart.ticks = t.ticks;
    chart.n_ticks = n_layers;
    chart.series = series;
    chart.n_series = n;
    chart.lines = true;
    svg_write(out, &chart);
    svg_numbers_release(&t);
}

static void number_cell(FILE *out, double value, int decimals) {
    if (isnan(value))
        fputs("<td>-</td>", out);
    else
        fprintf(out, "<td>%.*f</td>", decimals, value);
}

/* ---- one layer at a time ------------------------------------------------------------------------------ */

static svg_point percent_of(const sheet *all, size_t layer, size_t way) {
    estimate e = section_percent(all, all->cells[way].score);
    return (svg_point){(double)layer, e.mean, e.low, e.high};
}

static void draw_layers(const studies *t, const sheet *all, FILE *out) {
    svg_point *points = memory_take(3 * t->n_layers, sizeof *points);
    for (size_t l = 0; l < t->n_layers; l++) {
        points[l] = percent_of(all, l, t->alone[l]);
        points[t->n_layers + l] = percent_of(all, l, t->all_but[l]);
        points[2 * t->n_layers + l] =
            (svg_point){(double)l, 100.0 * all->cells[t->even].score.mean, NAN, NAN};
    }
    svg_series series[] = {{"this layer alone compressed", 0, points, t->n_layers},
                           {"all layers but this one", 1, points + t->n_layers, t->n_layers},
                           {"all layers", 2, points + 2 * t->n_layers, t->n_layers}};
    draw((svg_chart){.id = "layers",
                     .title = "Retention where one layer alone is compressed, and where all others are",
                     SECTION_RETENTION,
                     .wide = true,
                     .dodge = true,
                     .from_zero = true},
         t->n_layers, series, 3, out);
    free(points);
}

static double dims_of(const report *r, size_t way, size_t layer, int kind) {
    return layers_coded(r->outcome->results, "dims", way, layer, kind).mean;
}

static void layer_row(const report *r, const sheet *all, const double *gain, const double *share, size_t l,
                      FILE *out) {
    const studies *t = &r->options->studies;
    estimate alone = section_percent(all, all->cells[t->alone[l]].score);
    estimate but = section_percent(all, all->cells[t->all_but[l]].score);
    fprintf(out, "<tr><th scope=\"row\">%zu</th>", l);
    section_interval_cell(out, &alone);
    section_interval_cell(out, &but);
    number_cell(out, 100.0 * gain[l], 1);
    number_cell(out, share[l], 2);
    number_cell(out, 100.0 * layers_sparsity_any(r->outcome->results, published, l).mean, 1);
    number_cell(out, t->which & STUDY_SPECTRUM ? dims_of(r, t->fine, l, 0) : NAN, 1);
    number_cell(out, t->which & STUDY_SPECTRUM ? dims_of(r, t->fine, l, 1) : NAN, 1);
    fputs("</tr>\n", out);
}

static void tell_correlation(const report *r, const double *gain, FILE *out) {
    size_t n = r->options->studies.n_layers;
    double *sparsity = memory_take(n, sizeof *sparsity);
    for (size_t l = 0; l < n; l++) sparsity[l] = layers_sparsity_any(r->outcome->results, published, l).mean;
    estimate e = correlation(sparsity, gain, n);
    if (!isnan(e.mean))
        fprintf(out,
                " Sparsity against gain: Pearson's <b id=\"layers-correlation\">r = %.2f</b> over %zu layers "
                "(95%% interval %.2f to %.2f); budgets by sparsity take it to be negative.",
                e.mean, n, e.low, e.high);
    free(sparsity);
}

void section_layers(const report *r, FILE *out) {
    const studies *t = &r->options->studies;
    char share[16];
    sheet all;
    double *gain = memory_take(2 * t->n_layers, sizeof *gain), *shares = gain + t->n_layers;
    bool good = bootstrap_pool(r->outcome->scores, r->options->seed, &all) &&
                fit_shares(r->outcome->scores, t, r->options->seed, shares, gain);
    table_share(r->outcome->variants->budgets[t->budget], share);
    page_section(out, "layers", "One layer at a time",
                 "A layer whose point is low when it alone is compressed cannot do with few rows; one whose "
                 "point is high when all others are compressed gives most back when it is left whole.");
    if (good && all.n) {
        draw_layers(t, &all, out);
        fputs(
            "<div class=\"table\"><table id=\"layers-table\">\n<thead><tr><th scope=\"col\">layer</th>"
            "<th scope=\"col\">alone</th><th scope=\"col\">all but it</th><th scope=\"col\">gain, points</th>"
            "<th scope=\"col\">share fitted</th><th scope=\"col\">sparsity, %</th><th "
            "scope=\"col\">dimensions "
            "of keys</th><th scope=\"col\">of values</th></tr></thead>\n<tbody>\n",
            out);
        for (size_t l = 0; l < t->n_layers; l++) layer_row(r, &all, gain, shares, l, out);
        fputs("</tbody>\n</table></div>\n", out);
        fprintf(out,
                "<p class=\"note\">Layers at %s of their rows by the scores of vlcache, %zu questions of all "
                "tasks together, each as a share of the full cache's mean in its task. Gain: over all layers "
                "compressed. Share fitted: what --fit writes.",
                share, all.n);
        tell_correlation(r, gain, out);
        fputs("</p>\n", out);
    }
    sheet_release(&all);
    free(gain);
    page_section_end(out);
}

/* ---- spectrum ----------------------------------------------------------------------------------------- */

static svg_point coded_point(const report *r, const char *what, size_t way, size_t layer, int kind) {
    spread s = layers_coded(r->outcome->results, what, way, layer, kind);
    return (svg_point){(double)layer, s.mean, s.low, s.high};
}

static void draw_coded(const report *r, const char *what, size_t way, size_t n, svg_chart chart, FILE *out) {
    svg_point *points = memory_take(2 * n, sizeof *points);
    for (size_t l = 0; l < n; l++)
        for (int kind = 0; kind < 2; kind++)
            points[(size_t)kind * n + l] = coded_point(r, what, way, l, kind);
    svg_series series[] = {{"keys", 0, points, n}, {"values", 1, points + n, n}};
    chart.dodge = chart.from_zero = true;
    chart.unit = "";
    chart.whole = NAN;
    draw(chart, n, series, 2, out);
    free(points);
}

void section_spectrum(const report *r, FILE *out) {
    const studies *t = &r->options->studies;
    size_t n = layers_count(r->outcome->results);
    char share[16];
    table_share(r->outcome->variants->budgets[t->budget], share);
    page_section(
        out, "spectrum", "Spectrum of keys and values",
        "How many dimensions of a head hold 90% of the variance of its rows, and how many bits a row "
        "got: rows that lie in few dimensions are cheap to keep, and a small model's often do.");
    if (n) {
        fputs("<div class=\"grid\">\n", out);
        draw_coded(r, "dims", t->fine, n,
                   (svg_chart){.id = "spectrum",
                               .title = "Dimensions that hold 90% of the variance, by layer",
                               .y_title = "Dimensions"},
                   out);
        draw_coded(r, "bits", t->coded, n,
                   (svg_chart){.id = "spectrum-bits",
                               .title = "Bits of a coded row, by layer",
                               .y_title = "Bits of a row"},
                   out);
        fputs("</div>\n", out);
        fprintf(
            out,
            "<p class=\"note\">Of the rows that are coded, mean over kv heads; keys as the coder sees them, "
            "their phase relative to their run. Bits at %s of the full cache's bytes. Whiskers are "
            "quartiles over the questions.</p>\n",
            share);
    }
    page_section_end(out);
}

/* ---- visual rows -------------------------------------------------------------------------------------- */

static double prompt_share(const results *r) {
    double sum = 0.0;
    size_t n = 0;
    for (size_t i = 0; i < r->n; i++) {
        const json_t *prompt = json_object_get(r->records[i], "prompt");
        double tokens = json_number_value(json_object_get(prompt, "tokens"));
        if (tokens <= 0.0) continue;
        sum += json_number_value(json_object_get(prompt, "visual")) / tokens;
        n++;
    }
    return n ? 100.0 * sum / (double)n : NAN;
}

/* Rows of one kind alone may go. */
static void kinds_table(const report *r, FILE *out) {
    const studies *t = &r->options->studies;
    const scores *s = r->outcome->scores;
    fputs(
        "<div class=\"table\"><table id=\"kinds-table\">\n<thead><tr><th scope=\"col\">task</th>"
        "<th scope=\"col\">all rows may go</th><th scope=\"col\">visual rows may go</th>"
        "<th scope=\"col\">text may go</th></tr></thead>\n<tbody>\n",
        out);
    for (size_t g = 0; g < s->n; g++) {
        if (!s->sheets[g].n) continue;
        fputs("<tr><th scope=\"row\">", out);
        page_text(out, s->sheets[g].group->task);
        fputs("</th>", out);
        for (size_t i = 0; i < STUDY_KINDS; i++) {
            estimate e = section_percent(&s->sheets[g], s->sheets[g].cells[t->kinds[i]].retention);
            section_interval_cell(out, &e);
        }
        fputs("</tr>\n", out);
    }
    fputs("</tbody>\n</table></div>\n", out);
}

/* Shares of what the policies keep, by layer. */
static void draw_shares(const report *r, const char *what, svg_chart chart, FILE *out) {
    const variants *v = r->outcome->variants;
    size_t n = layers_count(r->outcome->results), policies = v->n_policies;
    svg_point *points = memory_take(policies * n + 1, sizeof *points);
    svg_series *series = memory_take(policies, sizeof *series);
    for (size_t p = 1; p < policies; p++) {
        svg_point *own = points + (p - 1) * n;
        series[p - 1] = (svg_series){v->labels[p], (int)p - 1, own, n};
        for (size_t l = 0; l < n; l++) {
            spread s =
                layers_hit(r->outcome->results, what, variants_at(v, p, r->options->studies.budget), l);
            own[l] = (svg_point){(double)l, 100.0 * s.mean, 100.0 * s.low, 100.0 * s.high};
        }
    }
    chart.wide = chart.dodge = chart.from_zero = true;
    chart.unit = "%";
    chart.whole = prompt_share(r->outcome->results);
    chart.whole_name = "prompt";
    draw(chart, n, series, policies - 1, out);
    free(points);
    free(series);
}

void section_visual(const report *r, FILE *out) {
    const variants *v = r->outcome->variants;
    size_t n = layers_count(r->outcome->results);
    char share[16];
    table_share(v->budgets[r->options->studies.budget], share);
    page_section(
        out, "visual", "Visual and text tokens",
        "Of the rows that a policy keeps, and of their bits, the share that is of pictures: below the "
        "dashed line, the prompt's own share, text is preferred.");
    if (n && v->n_policies > 1) {
        draw_shares(
            r, "visual",
            (svg_chart){.id = "visual",
                        .y_title = "Visual rows",
                        .title = "Share of the kept rows that is visual, by layer, a line for each policy"},
            out);
        draw_shares(r, "visual_bits",
                    (svg_chart){.id = "visual-bits",
                                .y_title = "Visual bits",
                                .title = "Share of the bits of the kept rows that is visual, by layer"},
                    out);
        fprintf(
            out,
            "<p class=\"note\">At %s of the cache; whiskers are quartiles over the questions. Rows as they "
            "were have the same bits each; coded ones as many as their layer and head got, text rows 4 a "
            "number with their scales. Centroids, bases, means and tables are of neither kind.</p>\n",
            share);
    }
    if (n) {
        kinds_table(r, out);
        fprintf(
            out,
            "<p class=\"note\">vlcache with its share, %s, of all rows, of the visual ones beside all text, "
            "of the text beside all visual rows; percent of the full cache's score.</p>\n",
            share);
    }
    page_section_end(out);
}
