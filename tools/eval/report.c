/*
 * report.c - the header, the order of the sections, and the file.
 */
#include "eval/report.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/outfile.h"
#include "common/paper.h"
#include "eval/report/layers.h"
#include "eval/report/section.h"

/* ---- header ------------------------------------------------------------------------------------------- */

static void fact(FILE *out, const char *name, const char *value) {
    fprintf(out, "<div><dt>%s</dt><dd>", name);
    page_text(out, value);
    fputs("</dd></div>\n", out);
}

static const char *header_text(const report *r, const char *key) {
    const char *text = json_string_value(json_object_get(r->outcome->results->header, key));
    return text ? text : "";
}

static void model_fact(const report *r, FILE *out) {
    char text[512];
    size_t layers = layers_count(r->outcome->results);
    int n = snprintf(text, sizeof text, "%s, dtype %s, fingerprint %s",
                     r->options->model ? header_text(r, "model_name") : "the demonstration model that ships",
                     header_text(r, "dtype"), header_text(r, "model"));
    if (layers && n > 0 && (size_t)n < sizeof text)
        snprintf(text + n, sizeof text - (size_t)n, ", %zu layers", layers);
    fact(out, "Model", text);
}

static void data_fact(const report *r, FILE *out) {
    char text[512];
    snprintf(text, sizeof text, "%s, fingerprint %s", r->options->data, header_text(r, "data"));
    fact(out, "Data", text);
}

static void questions_fact(const report *r, FILE *out) {
    const scores *s = r->outcome->scores;
    fputs("<div><dt>Questions answered</dt><dd>", out);
    for (size_t i = 0; i < s->n; i++) {
        char name[256];
        table_group_name(s->sheets[i].group, name, sizeof name);
        fputs(i ? ", " : "", out);
        page_text(out, name);
        fprintf(out, ": %zu", s->sheets[i].n);
    }
    size_t skipped = s->skipped + r->outcome->data->bad;
    if (skipped) fprintf(out, "; %zu could not be asked", skipped);
    if (r->outcome->data->limited) fprintf(out, "; %zu beyond --limit", r->outcome->data->limited);
    fputs("</dd></div>\n", out);
}

static void ways_facts(const report *r, FILE *out) {
    const variants *v = r->outcome->variants;
    fputs("<div><dt>Policies</dt><dd>", out);
    for (size_t p = 0; p < v->n_policies; p++) {
        fputs(p ? ", " : "", out);
        page_text(out, v->labels[p]);
    }
    fprintf(out, "</dd></div>\n<div><dt>Budgets (share of the cache's %s)</dt><dd>", r->options->share_of);
    for (size_t b = 0; b < v->n_budgets; b++) {
        char share[16];
        table_share(v->budgets[b], share);
        fprintf(out, "%s%s", b ? ", " : "", share);
    }
    fputs("</dd></div>\n", out);
}

static void options_fact(const report *r, FILE *out) {
    const json_t *h = r->outcome->results->header;
    char text[256];
    snprintf(text, sizeof text, "greedy, at most %lld tokens, chat template %s; seed %llu of the intervals",
             (long long)json_integer_value(json_object_get(h, "max_tokens")),
             *header_text(r, "chat_template") ? header_text(r, "chat_template") : "of the checkpoint",
             (unsigned long long)r->options->seed);
    fact(out, "Answers", text);
}

/* As a shell would take it. */
static void write_argument(FILE *out, const char *text) {
    bool plain = *text && strspn(text,
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
                                 "@%_-+=:,./") == strlen(text);
    if (plain) {
        page_text(out, text);
        return;
    }
    fputc('\'', out);
    for (size_t n; *text; text += n) {
        n = *text == '\'' ? 1 : strcspn(text, "'");
        if (*text == '\'')
            page_text(out, "'\\''");
        else
            page_part(out, text, n);
    }
    fputc('\'', out);
}

static void write_command(const report *r, FILE *out) {
    fputs("<pre id=\"command\">", out);
    for (int i = 0; i < r->argc; i++) {
        if (i) fputc(' ', out);
        write_argument(out, r->argv[i]);
    }
    fputs("</pre>\n", out);
}

static void write_contents(const report *r, FILE *out) {
    fputs("<nav><a href=\"#scores\">Scores</a><a href=\"#retention\">Retention</a>", out);
    static const struct {
        unsigned study;
        const char *link;
    } links[] = {{STUDY_ABLATION, "<a href=\"#ablation\">Ablation</a>"},
                 {STUDY_PROBE, "<a href=\"#sparsity\">Sparsity</a><a href=\"#hits\">Hit rate</a>"},
                 {STUDY_THRESHOLD, "<a href=\"#threshold\">Threshold</a>"},
                 {STUDY_LAYERS, "<a href=\"#layers\">Layers</a>"},
                 {STUDY_SPECTRUM, "<a href=\"#spectrum\">Spectrum</a>"},
                 {STUDY_VISUAL, "<a href=\"#visual\">Visual rows</a>"}};
    for (size_t i = 0; i < sizeof links / sizeof *links; i++)
        if (r->options->studies.which & links[i].study) fputs(links[i].link, out);
    fputs("<a href=\"#gallery\">Gallery</a></nav>\n", out);
}

static void write_header(const report *r, FILE *out) {
    fputs(
        "<header>\n<h1>What a small KV cache costs</h1>\n<p class=\"reading\">One model answers the same "
        "questions with its whole key-value cache and with parts of it; below is how much of its score each "
        "policy keeps, and what the model attended to.</p>\n<dl>\n",
        out);
    model_fact(r, out);
    fact(out, "Device", header_text(r, "device"));
    data_fact(r, out);
    questions_fact(r, out);
    ways_facts(r, out);
    options_fact(r, out);
    fputs("</dl>\n", out);
    write_command(r, out);
    write_contents(r, out);
    fputs("</header>\n", out);
}

/* ---- sections ----------------------------------------------------------------------------------------- */

void section_task(FILE *out, const sheet *s) {
    fputs("<h3>", out);
    page_text(out, s->group->task);
    fprintf(out, " <small>%s, %zu question%s</small></h3>\n", metric_title(s->group->metric), s->n,
            s->n == 1 ? "" : "s");
}

estimate section_percent(const sheet *s, estimate e) {
    bool alone = s->n < 2;
    return (estimate){100.0 * e.mean, alone ? NAN : 100.0 * e.low, alone ? NAN : 100.0 * e.high};
}

void section_interval_cell(FILE *out, const estimate *percent) {
    if (isnan(percent->mean)) {
        fputs("<td>-</td>", out);
        return;
    }
    fprintf(out, "<td>%.0f", percent->mean);
    if (!isnan(percent->low)) fprintf(out, "<small>%.0f\u2013%.0f</small>", percent->low, percent->high);
    fputs("</td>", out);
}

void section_table_head(const variants *v, FILE *out) {
    fputs("<div class=\"table\"><table>\n<thead><tr><th scope=\"col\">policy</th>", out);
    for (size_t b = 0; b < v->n_budgets; b++) {
        char share[16];
        table_share(v->budgets[b], share);
        fprintf(out, "<th scope=\"col\">%s</th>", share);
    }
    fputs("</tr></thead>\n<tbody>\n", out);
}

void section_budget_ticks(const variants *v, char (*texts)[16], svg_tick *ticks) {
    for (size_t b = 0; b < v->n_budgets; b++) {
        table_share(v->budgets[b], texts[b]);
        ticks[b] = (svg_tick){(double)b, texts[b]};
    }
}

static void write_all(const report *r, FILE *out) {
    page_begin(out, "What a small KV cache costs");
    write_header(r, out);
    section_scores(r, out);
    section_retention(r, out);
    unsigned which = r->options->studies.which;
    section_positions(r, out);
    if (which & STUDY_ABLATION) section_ablation(r, out);
    if (which & STUDY_PROBE) section_sparsity(r, out);
    if (which & STUDY_PROBE) section_hits(r, out);
    section_coherence(r, out);
    if (which & STUDY_THRESHOLD) section_threshold(r, out);
    if (which & STUDY_LAYERS) section_layers(r, out);
    if (which & STUDY_SPECTRUM) section_spectrum(r, out);
    if (which & STUDY_VISUAL) section_visual(r, out);
    section_rare(r, out);
    section_gallery(r, out);
    fputs("<footer>Written by vlcache-eval " VLCACHE_VERSION ". ", out);
    if (!r->options->studies.which)
        fputs(
            "These results were begun without --report, so the ablation, sparsity, hit rates and the "
            "threshold were not measured. ",
            out);
    fputs(
        "Scores are 100 times the metric; intervals are 95% ones, of 2,000 resamplings of the questions, the "
        "same for every policy.</footer>\n",
        out);
    page_end(out);
}

/* ---- the file ----------------------------------------------------------------------------------------- */

int report_check(const char *path, console *c) {
    return outfile_check("--report", path, c);
}

int report_write(const report *r, console *c) {
    outfile file = {.fd = -1};
    paper whole; /* before anything stands on the disk */
    paper_begin(&whole);
    write_all(r, whole.out);
    paper_end(&whole);
    int code = outfile_open(&file, "--report", r->options->report, c);
    if (!code) fwrite(whole.text, 1, whole.bytes, file.file);
    int closed = outfile_close(&file, !code, c);
    paper_release(&whole);
    return code ? code : closed;
}
