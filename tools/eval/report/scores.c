/*
 * scores.c - score and retention against the budget: a chart and a table for each task.
 */
#include <math.h>
#include <stdlib.h>

#include "common/memory.h"
#include "eval/report/section.h"

enum { FEW_QUESTIONS = 20, MANY_BUDGETS = 7, MANY_POLICIES = 9 };

/* What a chart and its table show of a cell, as a percentage. */
typedef estimate (*taker)(const sheet *s, size_t way);

static estimate take_score(const sheet *s, size_t way) {
    return section_percent(s, s->cells[way].score);
}

static estimate take_retention(const sheet *s, size_t way) {
    return section_percent(s, s->cells[way].retention);
}

/* ---- charts ------------------------------------------------------------------------------------------- */

/* Room for the lines of one chart. */
typedef struct lines {
    svg_point *points;
    svg_series *series;
    svg_tick *ticks;
    char (*names)[16];
} lines;

static void lines_make(const variants *v, lines *l) {
    *l = (lines){memory_take(v->n + 1, sizeof *l->points), memory_take(v->n_policies, sizeof *l->series),
                 memory_take(v->n_budgets, sizeof *l->ticks), memory_take(v->n_budgets, sizeof *l->names)};
}

static void lines_release(lines *l) {
    free(l->points);
    free(l->series);
    free(l->ticks);
    free(l->names);
}

static void fill(const variants *v, const sheet *s, taker take, bool intervals, lines *l) {
    for (size_t p = 1; p < v->n_policies; p++) {
        svg_point *points = l->points + (p - 1) * v->n_budgets;
        l->series[p - 1] = (svg_series){v->labels[p], (int)p - 1, points, v->n_budgets};
        for (size_t b = 0; b < v->n_budgets; b++) {
            estimate e = take(s, variants_at(v, p, b));
            points[b] = (svg_point){(double)b, e.mean, intervals ? e.low : NAN, intervals ? e.high : NAN};
        }
    }
    section_budget_ticks(v, l->names, l->ticks);
}

/* More than half the page has room for. */
static bool is_crowded(const variants *v) {
    return v->n_budgets > MANY_BUDGETS || v->n_policies > MANY_POLICIES;
}

static void draw(const variants *v, const lines *l, svg_chart chart, FILE *out) {
    chart.x_title = "Share of the cache";
    chart.ticks = l->ticks;
    chart.n_ticks = v->n_budgets;
    chart.series = l->series;
    chart.n_series = v->n_policies - 1;
    chart.lines = chart.from_zero = true;
    chart.wide = is_crowded(v);
    svg_write(out, &chart);
}

/* ---- tables ------------------------------------------------------------------------------------------- */

/* Of all policies at one budget, as it is printed. */
static double best_of(const variants *v, const sheet *s, size_t budget) {
    double best = -INFINITY;
    for (size_t p = 1; p < v->n_policies; p++)
        best = fmax(best, rint(1000.0 * s->cells[variants_at(v, p, budget)].score.mean));
    return best;
}

static void score_cell(const cell *c, double best, FILE *out) {
    bool bold = rint(1000.0 * c->score.mean) >= best;
    fprintf(out, "<td>%s%.1f%s</td>", bold ? "<b>" : "", 100.0 * c->score.mean, bold ? "</b>" : "");
}

static void table_rows(const variants *v, const sheet *s, bool retention, FILE *out) {
    for (size_t p = 1; p < v->n_policies; p++) {
        fputs("<tr><th scope=\"row\">", out);
        page_text(out, v->labels[p]);
        fputs("</th>", out);
        for (size_t b = 0; b < v->n_budgets; b++) {
            size_t way = variants_at(v, p, b);
            estimate e = take_retention(s, way);
            if (retention)
                section_interval_cell(out, &e);
            else
                score_cell(&s->cells[way], best_of(v, s, b), out);
        }
        fputs("</tr>\n", out);
    }
}

static void write_table(const variants *v, const sheet *s, bool retention, FILE *out) {
    section_table_head(v, out);
    table_rows(v, s, retention, out);
    fputs("</tbody>\n</table></div>\n", out);
}

/* ---- sections ----------------------------------------------------------------------------------------- */

static void task_scores(const report *r, const sheet *s, size_t index, FILE *out) {
    const variants *v = r->outcome->variants;
    estimate full = take_score(s, 0);
    lines l;
    char id[32], whole[96];
    snprintf(id, sizeof id, "score-%zu", index);
    int n = snprintf(whole, sizeof whole, "full cache %.1f", full.mean);
    if (!isnan(full.low))
        snprintf(whole + n, sizeof whole - (size_t)n, " (%.1f to %.1f)", full.low, full.high);
    lines_make(v, &l);
    fill(v, s, take_score, false, &l);
    draw(v, &l,
         (svg_chart){.id = id,
                     .title = "Score against the share of the cache, a line for each policy",
                     .y_title = "Score",
                     .unit = "",
                     .whole = full.mean,
                     .whole_name = whole},
         out);
    lines_release(&l);
    write_table(v, s, false, out);
}

static void task_retention(const report *r, const sheet *s, size_t index, FILE *out) {
    const variants *v = r->outcome->variants;
    lines l;
    char id[32];
    snprintf(id, sizeof id, "retention-%zu", index);
    lines_make(v, &l);
    fill(v, s, take_retention, true, &l);
    draw(v, &l,
         (svg_chart){.id = id,
                     .title = "Retention against the share of the cache, with intervals",
                     SECTION_RETENTION,
                     .dodge = true},
         out);
    lines_release(&l);
    write_table(v, s, true, out);
}

static void each_task(const report *r, void (*write)(const report *, const sheet *, size_t, FILE *),
                      FILE *out) {
    const scores *s = r->outcome->scores;
    fputs(is_crowded(r->outcome->variants) ? "<div class=\"grid one\">\n" : "<div class=\"grid\">\n", out);
    for (size_t i = 0; i < s->n; i++) {
        fputs("<article>\n", out);
        section_task(out, &s->sheets[i]);
        if (s->sheets[i].n && r->outcome->variants->n_policies > 1)
            write(r, &s->sheets[i], i, out);
        else
            fputs("<p class=\"note\">Nothing to compare.</p>\n", out);
        fputs("</article>\n", out);
    }
    fputs("</div>\n", out);
}

static size_t fewest(const scores *s) {
    size_t n = FEW_QUESTIONS;
    for (size_t i = 0; i < s->n; i++)
        if (s->sheets[i].n < n) n = s->sheets[i].n;
    return n;
}

void section_scores(const report *r, FILE *out) {
    page_section(
        out, "scores", "Score against budget",
        "The higher a line is at the left, the less of the cache its policy needs; the dashed line is "
        "the whole cache, and the best policy of each budget is bold in the table.");
    each_task(r, task_scores, out);
    page_section_end(out);
}

void section_retention(const report *r, FILE *out) {
    page_section(
        out, "retention", "Retention",
        "The score as a percentage of the full cache's, with its 95% interval over the questions; all "
        "policies answer the same questions, so differences between them are surer than the overlap "
        "of their whiskers suggests.");
    each_task(r, task_retention, out);
    if (fewest(r->outcome->scores) < FEW_QUESTIONS)
        fputs(
            "<p class=\"note\">Intervals of few questions are rough: the resamples can only hold what was "
            "asked, and answers that are all alike leave no width at all.</p>\n",
            out);
    page_section_end(out);
}
