/*
 * vlcache-eval.c - what a small KV cache costs in quality.
 *
 *     data --> ask every question in every way --> results --> scores --> tables, report
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/folder.h"
#include "common/interrupt.h"
#include "common/memory.h"
#include "common/outfile.h"
#include "common/printable.h"
#include "common/template.h"
#include "eval/fingerprint.h"
#include "eval/fit.h"
#include "eval/jobs.h"
#include "eval/report.h"
#include "eval/score.h"
#include "eval/table.h"
#include <vlcache/outline.h>

/* The whole program. */
typedef struct program {
    options options;
    console console;
    char folder[FOLDER_BYTES], questions[FOLDER_BYTES];
    data data;
    results results;
    int argc;
    char **argv;
    scores scores;
} program;

static int find_model(program *p) {
    if (!p->options.model && folder_of_model(p->folder)) return EXIT_OK;
    if (!p->options.model)
        return console_fail(
            &p->console, EXIT_INPUT,
            "no model: the one that ships is not where it was installed; name one with -m DIR");
    if (snprintf(p->folder, sizeof p->folder, "%s", p->options.model) < (int)sizeof p->folder) return EXIT_OK;
    return console_fail(&p->console, EXIT_INPUT, "-m: the path is too long");
}

static int find_questions(program *p) {
    if (p->options.data) return EXIT_OK;
    if (!file_of_questions(p->questions))
        return console_fail(
            &p->console, EXIT_INPUT,
            "no questions: those that ship are not where they were installed; name a file with --data");
    p->options.data = p->questions;
    return EXIT_OK;
}

/* The last part of a path, as UTF-8. New. */
static json_t *base_name(const char *path) {
    char name[FOLDER_BYTES];
    const char *slash = strrchr(path, '/');
    snprintf(name, sizeof name, "%s", slash && slash[1] ? slash + 1 : path);
    return json_string(printable_utf8(name));
}

/* NULL where one of them is missing: without it the results of another run would pass. */
static json_t *variants_json(const variants *v) {
    json_t *array = json_array();
    bool good = array != NULL;
    for (size_t i = 0; i < v->n && good; i++)
        good = json_array_append_new(array, variant_json(&v->items[i])) == 0;
    if (good) return array;
    json_decref(array);
    return NULL;
}

/* As UTF-8; NULL is "". New. */
static json_t *text_json(const char *text) {
    char *copy = strdup(text ? text : "");
    json_t *value = copy ? json_string(printable_utf8(copy)) : NULL;
    free(copy);
    return value;
}

/* The template by its name, or by its file's name and contents. New, or NULL. */
static json_t *chat_template_json(const options *o) {
    char text[FINGERPRINT_BYTES];
    if (!template_is_file(o->chat_template)) return json_string(o->chat_template ? o->chat_template : "");
    json_t *name = base_name(o->chat_template);
    bool read = name && fingerprint_file(o->chat_template, text);
    json_t *both = read ? json_sprintf("%s %s", json_string_value(name), text) : NULL;
    json_decref(name);
    return both;
}

/* The checkpoint, and how large its pictures are where that is not the checkpoint's to say. */
static json_t *model_json(const options *o, const char *fingerprint) {
    if (!o->min_pixels && !o->max_pixels) return json_string(fingerprint);
    return json_sprintf("%s, pictures of %d to %d pixels", fingerprint, o->min_pixels, o->max_pixels);
}

/* As files had it before there were several. */
static json_t *studies_json(const options *o) {
    char names[STUDY_NAMES_BYTES];
    studies_names(o->studies.which, names);
    return o->studies.which == STUDY_USUAL ? json_true() : json_string(names);
}

/* What tells this run from others. --limit is not in it: a run may go on with more questions. */
static int make_header(program *p, json_t **out) {
    const options *o = &p->options;
    char of_data[FINGERPRINT_BYTES], of_model[FINGERPRINT_BYTES], device[160];
    fingerprint_text(p->data.hash, of_data);
    bool known = fingerprint_model(p->folder, &p->console, of_model);
    console_erase(&p->console);
    if (!known && interrupt_seen()) return EXIT_INTERRUPT;
    if (!known)
        return console_fail(&p->console, exit_code_errno(errno), "%s: cannot be read: %s", p->folder,
                            strerror(errno));
    int code = jobs_device_name(o, &p->console, device, sizeof device);
    if (code) return code;
    *out = json_pack("{s:i, s:o, s:o, s:s, s:s, s:s, s:s, s:i, s:o, s:o}", "vlcache_eval", RESULTS_VERSION,
                     "model", model_json(o, of_model), "model_name", base_name(p->folder), "data", of_data,
                     "device", printable_utf8(device), "dtype", vlcache_dtype_name(o->dtype), "share_of",
                     o->share_of, "max_tokens", o->predict, "chat_template", chat_template_json(o),
                     "variants", variants_json(&o->variants));
    bool added = *out && (!o->studies.which || !json_object_set_new(*out, "studies", studies_json(o))) &&
                 !json_object_set_new(*out, "system", text_json(o->system));
    if (!added) {
        json_decref(*out);
        *out = NULL;
    }
    return *out ? EXIT_OK : console_fail(&p->console, EXIT_MEMORY, "out of host memory");
}

/* How many layers the model has: its folder says so. */
static int count_layers(program *p, size_t *layers) {
    vlcache_outline *outline = NULL;
    vlcache_outline_info info;
    vlcache_status status = vlcache_outline_open(p->folder, NULL, &outline);
    if (status) return console_fail(&p->console, exit_code(status), "%s", vlcache_error_message());
    vlcache_outline_describe(outline, &info);
    *layers = (size_t)info.model.layers;
    vlcache_outline_destroy(&outline);
    return EXIT_OK;
}

/* Those of --study, or of a report; what the results were begun with goes before. */
static int choose_studies(program *p) {
    options *o = &p->options;
    char names[STUDY_NAMES_BYTES], found[STUDY_NAMES_BYTES];
    unsigned which = o->report ? STUDY_USUAL : 0, there = 0;
    size_t layers = 0;
    int code = o->study ? studies_parse(o->study, &which) : EXIT_OK;
    if (o->fit && !(which & STUDY_SPECTRUM)) which |= STUDY_LAYERS;
    studies_names(which, names);
    results_studies(o->results, *names ? names : "none", found, sizeof found);
    if (!code) code = studies_parse(found, &there);
    if (!code && o->fit && !(there & (STUDY_LAYERS | STUDY_SPECTRUM)))
        code = console_fail(&p->console, EXIT_USAGE,
                            "--fit: --results %s were begun without --study layers or spectrum: name another "
                            "file",
                            o->results);
    if (!code && o->study && which & ~there)
        code = console_fail(&p->console, EXIT_USAGE,
                            "--study: --results %s were begun with \"%s\": name another file", o->results,
                            found);
    if (code || !there) return code;
    if (there & STUDY_LAYERS) code = count_layers(p, &layers);
    return code ? code : studies_add(there, layers, &o->variants, &o->studies);
}

static int open_results(program *p) {
    json_t *header = NULL;
    int code = find_model(p);
    if (!code) code = find_questions(p);
    if (!code)
        code = data_read(p->options.data, (size_t)p->options.limit, p->options.strict, &p->console, &p->data);
    if (!code) code = choose_studies(p);
    if (!code) code = make_header(p, &header);
    if (!code) code = results_open(p->options.results, header, &p->data, &p->console, &p->results);
    return code;
}

/* What stands in the file, when it was not enough. */
static void tell_interrupted(program *p) {
    if (p->console.quiet || !p->results.n) return;
    console_say(&p->console, "vlcache-eval: interrupted, %zu of %zu questions answered%s%s%s\n",
                p->results.done, p->results.n,
                p->results.path ? "; the same command goes on, with " : "; they are lost without --results",
                p->results.path ? p->results.path : "", p->results.path ? "" : " FILE");
}

static void tell_summary(program *p) {
    const scores *s = &p->scores;
    if (p->console.quiet) return;
    console_end_line(&p->console);
    fprintf(stderr, "%zu question%s answered in %zu way%s", s->answered, s->answered == 1 ? "" : "s",
            s->n_variants, s->n_variants == 1 ? "" : "s");
    if (p->data.bad) fprintf(stderr, " | %zu of %zu lines skipped", p->data.bad, p->data.lines);
    if (s->skipped)
        fprintf(stderr, " | %zu question%s could not be asked", s->skipped, s->skipped == 1 ? "" : "s");
    if (p->data.limited) fprintf(stderr, " | %zu beyond --limit", p->data.limited);
    fputc('\n', stderr);
}

static int put_report(program *p, const outcome *o) {
    report r = {o, &p->options, p->argc, p->argv};
    return p->options.report ? report_write(&r, &p->console) : EXIT_OK;
}

static int put_out(program *p) {
    outcome o = {&p->data, &p->results, &p->options.variants, &p->scores};
    int code =
        scores_make(&p->data, &p->results, &p->options.variants, p->options.seed, &p->console, &p->scores);
    if (!code && !p->scores.answered)
        return console_fail(&p->console, EXIT_INPUT, "%s: no question could be asked", p->options.data);
    if (!code) code = table_write(&o, p->options.format, &p->console);
    if (!code) code = put_report(p, &o);
    if (!code && p->options.fit) code = fit_write(&o, &p->options, &p->console);
    if (!code) tell_summary(p);
    return code;
}

/* The report can be written, and takes the place of nothing that is read. */
static int check_report(program *p) {
    const options *o = &p->options;
    const char *read[] = {o->results, o->data};
    for (size_t i = 0; i < sizeof read / sizeof *read && o->report; i++)
        if (read[i] && outfile_replaces(o->report, read[i]))
            return console_fail(&p->console, EXIT_USAGE, "--report %s: is a file that is read: name another",
                                o->report);
    if (o->fit && ((o->report && outfile_replaces(o->fit, o->report)) ||
                   (o->results && outfile_replaces(o->fit, o->results)) ||
                   (o->data && outfile_replaces(o->fit, o->data))))
        return console_fail(&p->console, EXIT_USAGE, "--fit %s: is another file of this run: name another",
                            o->fit);
    int code = o->report ? report_check(o->report, &p->console) : EXIT_OK;
    return code || !o->fit ? code : outfile_check("--fit", o->fit, &p->console);
}

/* Nor of a picture that is asked about. */
static int check_pictures(program *p, const char *name, const char *path) {
    for (size_t i = 0; path && i < p->data.n; i++)
        for (size_t k = 0; k < p->data.items[i].n_images; k++)
            if (outfile_replaces(path, p->data.items[i].images[k]))
                return console_fail(&p->console, EXIT_USAGE,
                                    "%s %s: is a picture of line %d of the data: name another", name, path,
                                    p->data.items[i].line);
    return EXIT_OK;
}

static int evaluate(program *p) {
    int code = check_report(p);
    if (!code) code = open_results(p);
    if (!code) code = check_pictures(p, "--report", p->options.report);
    if (!code) code = check_pictures(p, "--fit", p->options.fit);
    if (!code) code = jobs_ask(&p->options, p->folder, &p->data, &p->results, &p->console);
    if (code == EXIT_INTERRUPT) tell_interrupted(p);
    return code ? code : put_out(p);
}

int main(int argc, char **argv) {
    program p = {.options = {.action = ACTION_EVALUATE}, .argc = argc, .argv = argv};
    memory_guard_json();
    int code = options_parse(argc, argv, &p.options);
    console_open(&p.console, p.options.quiet, false);
    interrupt_install();
    if (!code && p.options.action == ACTION_HELP)
        help_print();
    else if (!code && p.options.action == ACTION_VERSION)
        console_print(&p.console, "vlcache-eval %s (libvlcache %s)\n", VLCACHE_VERSION, vlcache_version());
    else if (!code)
        code = evaluate(&p);
    scores_release(&p.scores);
    results_close(&p.results);
    fingerprint_keep();
    data_release(&p.data);
    options_release(&p.options);
    return console_close(&p.console, code);
}
