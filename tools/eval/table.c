/*
 * table.c - Markdown for people, CSV and JSON for programs. Nothing in them depends on when or how fast the
 * run was.
 */
#include "eval/table.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/paper.h"

void table_group_name(const group *g, char *text, size_t room) {
    snprintf(text, room, "%s (%s)", g->task, metric_title(g->metric));
}

void table_share(double share, char text[16]) {
    snprintf(text, 16, "%.4g%%", 100.0 * share);
}

/* ---- Markdown ----------------------------------------------------------------------------------------- */

static void md_head(const variants *v, FILE *out) {
    fputs("| policy |", out);
    for (size_t b = 0; b < v->n_budgets; b++) {
        char share[16];
        table_share(v->budgets[b], share);
        fprintf(out, " %s |", share);
    }
    fputs("\n|---|", out);
    for (size_t b = 0; b < v->n_budgets; b++) fputs("--:|", out);
    fputc('\n', out);
}

/* A | would end the cell. */
static void md_label(const char *label, FILE *out) {
    fputs("| ", out);
    for (; *label; label++) {
        if (*label == '|') fputc('\\', out);
        fputc(*label, out);
    }
    fputs(" |", out);
}

static void md_score(const cell *c, FILE *out) {
    fprintf(out, " %.1f", 100.0 * c->score.mean);
    if (!isnan(c->retention.mean)) fprintf(out, " (%.0f%%)", 100.0 * c->retention.mean);
    fputs(" |", out);
}

static void md_interval(const cell *c, FILE *out) {
    if (isnan(c->retention.mean))
        fputs(" - |", out);
    else
        fprintf(out, " %.0f to %.0f%% |", 100.0 * c->retention.low, 100.0 * c->retention.high);
}

/* Loss of a told token beyond that with the full cache, mean over the questions. */
static double loss_above(const sheet *s, size_t way) {
    double sum = 0.0;
    for (size_t i = 0; i < s->n; i++) sum += log(s->scores[i]) - log(s->scores[way * s->n + i]);
    return sum / (double)s->n;
}

static void md_losses(const variants *v, const sheet *s, FILE *out) {
    md_head(v, out);
    for (size_t p = 1; p < v->n_policies; p++) {
        md_label(v->labels[p], out);
        for (size_t b = 0; b < v->n_budgets; b++)
            fprintf(out, " %+.4f |", loss_above(s, variants_at(v, p, b)));
        fputc('\n', out);
    }
}

static void md_bytes(const cell *c, FILE *out) {
    fprintf(out, " %.0f (%.3g%%)%s |", c->token_bytes, 100.0 * c->share, c->over ? " over" : "");
}

static void md_rows(const variants *v, const sheet *s, void (*put)(const cell *, FILE *), FILE *out) {
    md_head(v, out);
    for (size_t p = 1; p < v->n_policies; p++) {
        md_label(v->labels[p], out);
        for (size_t b = 0; b < v->n_budgets; b++) put(&s->cells[variants_at(v, p, b)], out);
        fputc('\n', out);
    }
}

static void md_sheet(const outcome *o, const sheet *s, FILE *out) {
    const estimate *full = &s->cells[0].score;
    char name[256];
    table_group_name(s->group, name, sizeof name);
    fprintf(out, "## %s\n\n", name);
    if (!s->n) {
        fputs("No question could be asked.\n\n", out);
        return;
    }
    fprintf(out, "n = %zu questions. Full cache: %.1f (95%% interval %.1f to %.1f).\n\n", s->n,
            100.0 * full->mean, 100.0 * full->low, 100.0 * full->high);
    if (o->variants->n_policies == 1) return;
    fputs("Score (retention) by share of the cache asked for:\n\n", out);
    md_rows(o->variants, s, md_score, out);
    fputs("\n95% interval of retention:\n\n", out);
    md_rows(o->variants, s, md_interval, out);
    fprintf(
        out,
        "\nBytes a token of the prompt that were kept (share of the full cache's, %.0f); over: more than the "
        "budget, in some question:\n\n",
        s->cells[0].token_bytes);
    md_rows(o->variants, s, md_bytes, out);
    if (s->group->metric == METRIC_LIKELIHOOD) {
        fputs("\nLoss of a token above the full cache's, in nats:\n\n", out);
        md_losses(o->variants, s, out);
    }
    fputc('\n', out);
}

static int write_md(const outcome *o, FILE *out) {
    for (size_t i = 0; i < o->scores->n; i++) md_sheet(o, &o->scores->sheets[i], out);
    fprintf(out, "%zu questions answered, %zu skipped; scores are 100 times the metric.\n",
            o->scores->answered, o->scores->skipped + o->data->bad);
    return EXIT_OK;
}

/* ---- CSV ---------------------------------------------------------------------------------------------- */

/* RFC 4180: quoted where it must be. */
static void csv_text(const char *text, FILE *out) {
    if (!strpbrk(text, ",\"\r\n")) {
        fputs(text, out);
        return;
    }
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"') fputc('"', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

static void csv_estimate(const estimate *e, FILE *out) {
    if (isnan(e->mean))
        fputs(",,,", out);
    else
        fprintf(out, ",%.6f,%.6f,%.6f", e->mean, e->low, e->high);
}

static void csv_cell(const variants *v, const sheet *s, size_t i, FILE *out) {
    const cell *c = &s->cells[i];
    csv_text(s->group->task, out);
    fprintf(out, ",%s,", metric_name(s->group->metric));
    csv_text(v->items[i].label, out);
    fprintf(out, ",%g,%zu", v->items[i].options.budget, s->n);
    csv_estimate(&c->score, out);
    csv_estimate(&c->retention, out);
    fprintf(out, ",%.6f,%.0f,%.2f,%.2f,%.6f,%zu\n", c->kept, c->bytes, c->tokens, c->token_bytes, c->share,
            c->over);
}

static int write_csv(const outcome *o, FILE *out) {
    fputs(
        "task,metric,policy,budget,n,score,score_low,score_high,retention,retention_low,retention_high,kept,"
        "kv_bytes,answer_tokens,token_bytes,share,over\n",
        out);
    for (size_t i = 0; i < o->scores->n; i++)
        for (size_t v = 0; v < o->variants->n && o->scores->sheets[i].n; v++)
            csv_cell(o->variants, &o->scores->sheets[i], v, out);
    return EXIT_OK;
}

/* ---- JSON --------------------------------------------------------------------------------------------- */

static json_t *estimate_json(const estimate *e) {
    if (isnan(e->mean)) return json_null();
    return json_pack("{s:f, s:f, s:f}", "mean", e->mean, "low", e->low, "high", e->high);
}

static json_t *cell_json(const variant *v, const cell *c) {
    return json_pack("{s:s, s:f, s:o, s:o, s:f, s:f, s:f, s:f, s:f, s:I, s:s*}", "policy", v->label, "budget",
                     v->options.budget, "score", estimate_json(&c->score), "retention",
                     estimate_json(&c->retention), "kept", c->kept, "kv_bytes", c->bytes, "answer_tokens",
                     c->tokens, "token_bytes", c->token_bytes, "share", c->share, "over", (json_int_t)c->over,
                     "storage", c->storage);
}

static json_t *sheet_json(const variants *v, const sheet *s) {
    json_t *cells = json_array();
    for (size_t i = 0; i < v->n && s->n; i++)
        json_array_append_new(cells, cell_json(&v->items[i], &s->cells[i]));
    return json_pack("{s:s, s:s, s:I, s:o}", "task", s->group->task, "metric", metric_name(s->group->metric),
                     "n", (json_int_t)s->n, "cells", cells);
}

static int write_json(const outcome *o, FILE *out) {
    json_t *groups = json_array();
    for (size_t i = 0; i < o->scores->n; i++)
        json_array_append_new(groups, sheet_json(o->variants, &o->scores->sheets[i]));
    json_t *all = json_pack("{s:O, s:I, s:I, s:I, s:o}", "run", o->results->header, "answered",
                            (json_int_t)o->scores->answered, "skipped", (json_int_t)o->scores->skipped,
                            "bad_lines", (json_int_t)o->data->bad, "groups", groups);
    int failed = !all || json_dumpf(all, out, JSON_INDENT(1) | JSON_SORT_KEYS | JSON_REAL_PRECISION(9));
    fputc('\n', out);
    json_decref(all);
    return failed ? EXIT_MEMORY : EXIT_OK;
}

/* ---- all of them -------------------------------------------------------------------------------------- */

static int write_as(const outcome *o, const char *format, FILE *out) {
    if (strcmp(format, "csv") == 0) return write_csv(o, out);
    return strcmp(format, "json") == 0 ? write_json(o, out) : write_md(o, out);
}

int table_write(const outcome *o, const char *format, console *c) {
    paper whole;
    paper_begin(&whole);
    int code = write_as(o, format, whole.out);
    paper_end(&whole);
    if (!code) console_print(c, "%s", whole.text);
    paper_release(&whole);
    return code ? console_fail(c, code, "tables: out of host memory") : console_check_output(c);
}
