/*
 * ablation.c - the studies of scores: allocation x scoring, and the threshold.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "eval/bootstrap.h"
#include "eval/report/layers.h"
#include "eval/report/section.h"

enum { CORNERS = STUDY_ALLOCATIONS * STUDY_SCORINGS };

/* One point or line for each group that has questions. */
static size_t count_groups(const scores *s) {
    size_t n = 0;
    for (size_t i = 0; i < s->n; i++) n += s->sheets[i].n > 0;
    return n;
}

static svg_point retention_at(double x, const sheet *s, size_t way) {
    estimate e = section_percent(s, s->cells[way].retention);
    return (svg_point){x, e.mean, e.low, e.high};
}

static void name_budget(const report *r, FILE *out, const char *before, const char *after) {
    char share[16];
    table_share(r->outcome->variants->budgets[r->options->studies.budget], share);
    fprintf(out, "<p class=\"note\">%s%s%s</p>\n", before, share, after);
}

/* ---- allocation x scoring ----------------------------------------------------------------------------- */

static size_t corner(const studies *s, int i) {
    return s->ablation[i / STUDY_SCORINGS][i % STUDY_SCORINGS];
}

static void draw_corners(const report *r, FILE *out) {
    static const char *const names[CORNERS] = {"uniform, post-vision", "uniform, accumulated",
                                               "sparsity, post-vision (as published)",
                                               "sparsity, accumulated"};
    const scores *s = r->outcome->scores;
    size_t n = count_groups(s), at = 0;
    svg_tick *ticks = memory_take(n + 1, sizeof *ticks);
    svg_point *points = memory_take(CORNERS * n + 1, sizeof *points);
    svg_series series[CORNERS];
    for (size_t g = 0; g < s->n; g++) {
        if (!s->sheets[g].n) continue;
        ticks[at] = (svg_tick){(double)at, s->sheets[g].group->task};
        for (int i = 0; i < CORNERS; i++)
            points[(size_t)i * n + at] =
                retention_at((double)at, &s->sheets[g], corner(&r->options->studies, i));
        at++;
    }
    for (int i = 0; i < CORNERS; i++) series[i] = (svg_series){names[i], i, points + (size_t)i * n, n};
    svg_chart chart = {.id = "ablation",
                       .title = "Retention of each task with four combinations of allocation and scoring",
                       .x_title = "Task",
                       SECTION_RETENTION,
                       .ticks = ticks,
                       .n_ticks = n,
                       .series = series,
                       .n_series = ticks && points ? CORNERS : 0,
                       .wide = true,
                       .dodge = true,
                       .from_zero = true};
    svg_write(out, &chart);
    free(ticks);
    free(points);
}

/* A number with its sign; 0 has none. */
static void signed_number(FILE *out, double value) {
    double shown = rint(10.0 * value) / 10.0;
    fprintf(out, "%s%.1f", shown > 0 ? "+" : shown < 0 ? "\u2212" : "", fabs(shown));
}

/* Bold where its interval leaves out 0. */
static void effect_cell(FILE *out, const estimate *e) {
    bool there = e->low > 0.0 || e->high < 0.0;
    fputs(there ? "<td><b>" : "<td>", out);
    signed_number(out, e->mean);
    fputs(there ? "</b>" : "", out);
    if (!isnan(e->low)) {
        fputs("<small>", out);
        signed_number(out, e->low);
        fputs(" to ", out);
        signed_number(out, e->high);
        fputs("</small>", out);
    }
    fputs("</td>", out);
}

/* What one axis does, the mean over both values of the other. */
static estimate effect(const report *r, const sheet *s, bool of_allocation) {
    const studies *t = &r->options->studies;
    size_t plus[2], minus[2];
    for (int i = 0; i < 2; i++) {
        plus[i] = of_allocation ? t->ablation[1][i] : t->ablation[i][0];
        minus[i] = of_allocation ? t->ablation[0][i] : t->ablation[i][1];
    }
    return section_percent(s, bootstrap_contrast(s, plus, minus, 2, r->options->seed));
}

static void ablation_row(const report *r, const sheet *s, FILE *out) {
    fputs("<tr><th scope=\"row\">", out);
    page_text(out, s->group->task);
    fputs("</th>", out);
    for (int i = 0; i < CORNERS; i++) {
        estimate e = section_percent(s, s->cells[corner(&r->options->studies, i)].retention);
        section_interval_cell(out, &e);
    }
    for (int i = 1; i >= 0; i--) {
        estimate e = effect(r, s, i == 1);
        effect_cell(out, &e);
    }
    fputs("</tr>\n", out);
}

static void ablation_table(const report *r, FILE *out) {
    fputs(
        "<div class=\"table\"><table id=\"ablation-table\">\n<thead>"
        "<tr><th rowspan=\"2\" scope=\"col\">task</th>"
        "<th colspan=\"2\" scope=\"colgroup\">uniform budgets</th>"
        "<th colspan=\"2\" scope=\"colgroup\">budgets by sparsity</th>"
        "<th colspan=\"2\" scope=\"colgroup\">effect, in points of score</th></tr>\n<tr>"
        "<th scope=\"col\">post-vision</th><th scope=\"col\">accumulated</th>"
        "<th scope=\"col\">post-vision</th><th scope=\"col\">accumulated</th>"
        "<th scope=\"col\">of sparsity</th><th scope=\"col\">of post-vision</th></tr></thead>\n<tbody>\n",
        out);
    for (size_t g = 0; g < r->outcome->scores->n; g++)
        if (r->outcome->scores->sheets[g].n) ablation_row(r, &r->outcome->scores->sheets[g], out);
    fputs("</tbody>\n</table></div>\n", out);
}

void section_ablation(const report *r, FILE *out) {
    page_section(
        out, "ablation", "Which half of VL-Cache does it: budgets or scores?",
        "Its two ideas apart: each task has four points, from uniform budgets to those by sparsity and "
        "from scores over all rows to those over the rows after the picture; an effect is bold where "
        "its interval leaves out 0.");
    draw_corners(r, out);
    ablation_table(r, out);
    name_budget(
        r, out, "At ",
        " of the cache, everything else as in vlcache; percentages of the full cache's score. An effect "
        "is the mean difference over both values of the other axis, paired by question.");
    page_section_end(out);
}

/* ---- threshold ---------------------------------------------------------------------------------------- */

static const char *const threshold_name[STUDY_THRESHOLDS] = {"0.001", "0.003", "0.01", "0.03", "0.1"};

static void threshold_ticks(svg_tick ticks[STUDY_THRESHOLDS]) {
    for (int t = 0; t < STUDY_THRESHOLDS; t++) ticks[t] = (svg_tick){t, threshold_name[t]};
}

static void draw_retention(const report *r, FILE *out) {
    const scores *s = r->outcome->scores;
    size_t n = count_groups(s), at = 0;
    svg_tick ticks[STUDY_THRESHOLDS];
    svg_point *points = memory_take(STUDY_THRESHOLDS * n + 1, sizeof *points);
    svg_series *series = memory_take(n + 1, sizeof *series);
    threshold_ticks(ticks);
    for (size_t g = 0; g < s->n; g++) {
        if (!s->sheets[g].n) continue;
        for (int t = 0; t < STUDY_THRESHOLDS; t++)
            points[at * STUDY_THRESHOLDS + (size_t)t] =
                retention_at(t, &s->sheets[g], r->options->studies.threshold[t]);
        series[at] =
            (svg_series){s->sheets[g].group->task, (int)at, points + at * STUDY_THRESHOLDS, STUDY_THRESHOLDS};
        at++;
    }
    svg_chart chart = {.id = "threshold-retention",
                       .title = "Retention against the threshold p, a line for each task",
                       .heading = "Retention",
                       .x_title = "Threshold p",
                       SECTION_RETENTION,
                       .ticks = ticks,
                       .n_ticks = STUDY_THRESHOLDS,
                       .series = series,
                       .n_series = at,
                       .lines = true,
                       .dodge = true,
                       .from_zero = true};
    svg_write(out, &chart);
    free(points);
    free(series);
}

static void draw_sparsity(const report *r, FILE *out) {
    static const char *const when[2] = {"sparsity", "decode"};
    svg_tick ticks[STUDY_THRESHOLDS];
    svg_point points[2][STUDY_THRESHOLDS];
    threshold_ticks(ticks);
    for (int w = 0; w < 2; w++)
        for (int t = 0; t < STUDY_THRESHOLDS; t++) {
            spread s = layers_sparsity_of_all(r->outcome->results, when[w], study_threshold[t]);
            points[w][t] = (svg_point){t, 100.0 * s.mean, 100.0 * s.low, 100.0 * s.high};
        }
    svg_series series[2] = {{"prefill, rows after the picture", 0, points[0], STUDY_THRESHOLDS},
                            {"decode", 1, points[1], STUDY_THRESHOLDS}};
    svg_chart chart = {.id = "threshold-sparsity",
                       .title = "Mean sparsity against the threshold p, in prefill and in decode",
                       .heading = "Sparsity",
                       .x_title = "Threshold p",
                       .y_title = "Sparsity, mean of layers",
                       .ticks = ticks,
                       .n_ticks = STUDY_THRESHOLDS,
                       .series = series,
                       .n_series = 2,
                       .lines = true,
                       .dodge = true,
                       .unit = "%",
                       .whole = NAN};
    svg_write(out, &chart);
}

void section_threshold(const report *r, FILE *out) {
    page_section(out, "threshold", "Sensitivity to the threshold p",
                 "Attention below p times the largest of its row counts as insignificant; a flat line at the "
                 "left means that the choice of p hardly matters.");
    fputs("<div class=\"grid\">\n", out);
    draw_retention(r, out);
    draw_sparsity(r, out);
    fputs("</div>\n", out);
    name_budget(r, out, "vlcache at ",
                " of the cache; whiskers are 95% intervals at the left, quartiles over the questions at the "
                "right.");
    page_section_end(out);
}
