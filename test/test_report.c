/*
 * test_report.c - vlcache-eval --report: the file is whole and needs nothing else, its charts hold what the
 * tables hold, it is the same bytes however the run went, and a browser (where there is one) draws all of it.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"
#include "vlcache/image.h"

#define EVAL VLCACHE_BINARY_DIR "/vlcache-eval"
enum { TASKS = 3, BUDGETS = 2, POLICIES = 3, LAYERS = 12, QUESTIONS = 6, THRESHOLDS = 5 };

/* ---- one run, which most tests look at ---------------------------------------------------------------- */

static char data_path[512], results_path[512], report_path[512];
static char *html, *csv; /* the report, and the table on standard output */

/* Names that would break out of their places, pictures by their full paths. */
static const char data_text[] =
    "{\"id\": \"p0\", \"task\": \"pages\", \"question\": \"What is the heading?\", \"answers\": [\"Mon\"], "
    "\"metric\": \"anls\", \"image\": \"" SAMPLES
    "pages-0.png\"}\n"
    "{\"id\": \"<b>p1\", \"task\": \"pages\", \"question\": \"What is the Model?\", \"answers\": "
    "[\"$283.14\"], \"metric\": \"anls\", \"image\": \"" SAMPLES
    "pages-1.png\"}\n"
    "{\"id\": \"p2\", \"task\": \"pages\", \"question\": \"What is the Due date?\", \"answers\": "
    "[\"3 Sep 2038\"], \"metric\": \"anls\", \"image\": \"" SAMPLES
    "pages-2.png\"}\n"
    "{\"id\": \"c0\", \"task\": \"charts\", \"question\": \"What is the value of Jun?\", \"answers\": "
    "[\"40\"], \"metric\": \"exact\", \"image\": \"" SAMPLES
    "charts-0.png\"}\n"
    "{\"id\": \"c3\", \"task\": \"charts\", \"question\": \"What is the value of Aug?\", \"answers\": "
    "[\"39\"], \"metric\": \"exact\", \"image\": \"" SAMPLES
    "charts-3.png\"}\n"
    "{\"id\": \"x\", \"task\": \"<script>alert(1)</script>\", \"question\": \"</h3><script>alert(2)</script> "
    "& "
    "\\\"quotes\\\"?\", \"answers\": [\"<img src=x>\"], \"metric\": \"anls\", \"max_tokens\": 6, \"image\": "
    "\"" SAMPLES "captions-0.png\"}\n";

static char *read_file(const char *path, size_t *bytes) {
    FILE *file = fopen(path, "rb");
    ck_assert_msg(file != NULL, "%s is not there", path);
    fseek(file, 0, SEEK_END);
    long size = ftell(file);
    rewind(file);
    char *text = calloc((size_t)size + 1, 1);
    ck_assert_uint_eq(fread(text, 1, (size_t)size, file), (size_t)size);
    fclose(file);
    if (bytes) *bytes = (size_t)size;
    return text;
}

static void run_eval(process *p) {
    const char *const argv[] = {
        EVAL,        "--data", data_path,   "--policy",   "vlcache,centroids,h2o@label=<i>&\"mine\"",
        "--budget",  ".1,.2",  "--results", results_path, "--report",
        report_path, "-o",     "csv",       NULL};
    process_run(p, argv, "", 0);
}

static void make_report(void) {
    process p;
    tool_warm_up();
    in_scratch("results", results_path);
    in_scratch("report.html", report_path);
    scratch_text("data.jsonl", data_text);
    in_scratch("data.jsonl", data_path);
    run_eval(&p);
    expect(&p, 0, "6 questions answered in 13 ways");
    csv = strdup(p.out);
    html = read_file(report_path, NULL);
    process_release(&p);
}

static void forget_report(void) {
    free(html);
    free(csv);
    scratch_clean();
}

/* ---- the file ----------------------------------------------------------------------------------------- */

enum { DEEPEST = 64, NAME_BYTES = 24 };

static bool is_void(const char *name) {
    return strcmp(name, "!DOCTYPE") == 0;
}

/* Reads one tag that begins at `at`; where it ends. */
static const char *read_tag(const char *at, char name[NAME_BYTES], bool *closes, bool *empty) {
    bool quoted = false;
    *closes = at[1] == '/';
    at += *closes ? 2 : 1;
    size_t length = strcspn(at, " />\n");
    ck_assert_msg(length > 0 && length < NAME_BYTES, "a tag without a name: %.60s", at);
    snprintf(name, NAME_BYTES, "%.*s", (int)length, at);
    for (; *at && (quoted || *at != '>'); at++) {
        if (*at == '"') quoted = !quoted;
        ck_assert_msg(*at != '<', "< inside <%s", name);
    }
    *empty = at[-1] == '/';
    return at;
}

/* Every element is closed, in its order; every & begins an entity that the writer knows. */
START_TEST(well_formed) {
    char open[DEEPEST][NAME_BYTES], name[NAME_BYTES];
    size_t depth = 0;
    for (const char *at = html; *at; at++) {
        bool closes, empty;
        if (*at == '&')
            ck_assert_msg(strncmp(at, "&amp;", 5) == 0 || strncmp(at, "&lt;", 4) == 0 ||
                              strncmp(at, "&gt;", 4) == 0 || strncmp(at, "&quot;", 6) == 0,
                          "%.40s", at);
        if (*at != '<') continue;
        at = read_tag(at, name, &closes, &empty);
        if (closes) {
            ck_assert_msg(depth && strcmp(open[depth - 1], name) == 0, "</%s> ends <%s>", name,
                          depth ? open[depth - 1] : "");
            depth--;
        } else if (!empty && !is_void(name)) {
            ck_assert_uint_lt(depth, DEEPEST);
            strcpy(open[depth++], name);
        }
    }
    ck_assert_uint_eq(depth, 0);
}
END_TEST

/* Nothing is fetched or run: only places in the page, and pictures in it, whose data may have any letters. */
START_TEST(self_contained) {
    static const char *const none[] = {"http:", "https:",  "<script", "@import", "url(",
                                       "<link", "<iframe", "onload=", "file:"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        ck_assert_msg(!strstr(html, none[i]), "%s", none[i]);
    ck_assert_int_eq(count_of(html, "src="),
                     count_of(html, "src=\"data:image/") + 1); /* <img src=x>, as text */
    ck_assert_int_eq(count_of(html, "href="), count_of(html, "href=\"#"));
    ck_assert_ptr_nonnull(strstr(html, "Budgets (share of the cache's bytes)"));
    ck_assert_uint_lt(strlen(html), 5u << 20);
}
END_TEST

START_TEST(escaped) {
    ck_assert_ptr_nonnull(
        strstr(html, "&lt;/h3&gt;&lt;script&gt;alert(2)&lt;/script&gt; &amp; &quot;quotes&quot;?"));
    ck_assert_ptr_nonnull(strstr(html, "&lt;img src=x&gt;"));
    ck_assert_ptr_nonnull(strstr(html, "&lt;b&gt;p1"));
    ck_assert_ptr_nonnull(strstr(html, "&lt;i&gt;&amp;&quot;mine&quot;"));
    ck_assert_ptr_null(strstr(html, "<b>p1"));
    ck_assert_ptr_null(strstr(html, "<i>"));
}
END_TEST

START_TEST(header_tells) {
    static const char *const said[] = {
        "pages (ANLS): 3", "charts (exact match): 2", "10%, 20%",    "12 layers", "the demonstration model",
        "seed 0",          "--budget .1,.2",          "fingerprint "};
    for (size_t i = 0; i < sizeof said / sizeof *said; i++)
        ck_assert_msg(strstr(html, said[i]) != NULL, "%s", said[i]);
    ck_assert_ptr_nonnull(strstr(html, "'vlcache,centroids,h2o@label=&lt;i&gt;&amp;&quot;mine&quot;'"));
    for (const char *at = strstr(html, "<section "); at; at = strstr(at + 1, "<section ")) {
        const char *reading = strstr(at, "<p class=\"reading\">");
        ck_assert_msg(reading && reading < strstr(at, "</section>"), "%.30s", at);
    }
}
END_TEST

/* ---- charts ------------------------------------------------------------------------------------------- */

static const struct {
    const char *id;
    int series, points;
} charts[] = {
    {"score-0", POLICIES, POLICIES *BUDGETS},
    {"score-1", POLICIES, POLICIES *BUDGETS},
    {"score-2", POLICIES, POLICIES *BUDGETS},
    {"retention-0", POLICIES, POLICIES *BUDGETS},
    {"retention-1", POLICIES, POLICIES *BUDGETS},
    {"ablation", 4, 4 * 2}, /* of the third task nothing is right, so nothing is retained */
    {"sparsity", 2, 2 * LAYERS},
    {"sparsity-pairs", LAYERS, LAYERS},
    {"hits", POLICIES, POLICIES *LAYERS},
    {"hits-first", POLICIES, POLICIES *LAYERS},
    {"coherence", POLICIES, POLICIES *QUESTIONS},
    {"threshold-retention", TASKS, 2 * THRESHOLDS},
    {"threshold-sparsity", 2, 2 * THRESHOLDS},
};
enum { CHARTS = sizeof charts / sizeof *charts };

/* The text of a chart. New memory. */
static char *chart_of(const char *id) {
    char tag[64];
    snprintf(tag, sizeof tag, " id=\"chart-%s\"", id);
    const char *begin = strstr(html, tag);
    ck_assert_msg(begin != NULL, "no chart %s", id);
    return strndup(begin, (size_t)(strstr(begin, "</svg>") - begin));
}

START_TEST(chart_holds) {
    char *chart = chart_of(charts[_i].id), said[96];
    int series = charts[_i].series, points = charts[_i].points;
    snprintf(said, sizeof said, "data-series=\"%d\" data-points=\"%d\"", series, points);
    ck_assert_msg(strstr(chart, said) != NULL, "%s: not %s: %.200s", charts[_i].id, said, chart);
    ck_assert_int_eq(count_of(chart, "<g class=\"series "), series);
    ck_assert_int_eq(count_of(chart, "class=\"mark\""), points);
    ck_assert_int_eq(count_of(chart, "class=\"point\"><title>"), points);
    ck_assert_int_eq(count_of(chart, "class=\"title\""), 2); /* of both axes */
    ck_assert_msg(!strstr(chart, "nan") && !strstr(chart, "inf"), "%s", charts[_i].id);
    free(chart);
}
END_TEST

START_TEST(all_charts) {
    ck_assert_int_eq(count_of(html, "<svg class=\"chart"), CHARTS);
    ck_assert_int_eq(count_of(html, "Nothing to draw"),
                     1); /* retention-2: nothing is right, nothing retained */
}
END_TEST

/* Every score of the table stands in the charts: the tip of a point says it. */
START_TEST(charts_hold_the_table) {
    int found = 0;
    for (char *line = strstr(csv, "\n") + 1; *line; line = strchr(line, '\n') + 1) {
        char task[32], policy[64], said[160];
        double budget, score;
        int n = sscanf(line, "%31[a-z],%*[a-z],%63[a-z0-9+],%lf,%*d,%lf", task, policy, &budget, &score);
        if (n != 4 || strcmp(policy, "full") == 0) continue;
        char *chart = chart_of(strcmp(task, "pages") == 0 ? "score-0" : "score-1");
        snprintf(said, sizeof said, "<title>%s, Share of the cache %g%%: %.1f</title>", policy, 100 * budget,
                 100 * score);
        bool listed = strcmp(policy, "vlcache") == 0 || strcmp(policy, "centroids") == 0;
        ck_assert_msg(!listed || strstr(chart, said) != NULL, "no %s", said);
        found += listed;
        free(chart);
    }
    ck_assert_int_eq(found, 2 * 2 * BUDGETS); /* tasks x vlcache, centroids x budgets */
}
END_TEST

/* ---- layers ------------------------------------------------------------------------------------------- */

/* The header and the records of the results. */
static json_t *read_results(void) {
    char *text = read_file(results_path, NULL);
    json_t *lines = json_array();
    for (char *at = text; *at; at = strchr(at, '\n') + 1)
        json_array_append_new(lines, json_loadb(at, strcspn(at, "\n"), 0, NULL));
    free(text);
    return lines;
}

static size_t variant_of(const json_t *lines, const char *label, double budget) {
    const json_t *all = json_object_get(json_array_get(lines, 0), "variants");
    for (size_t i = 0; i < json_array_size(all); i++) {
        const json_t *v = json_array_get(all, i);
        if (strcmp(json_string_value(json_object_get(v, "label")), label) == 0 &&
            fabs(json_number_value(json_object_get(v, "budget")) - budget) < 1e-9)
            return i;
    }
    ck_abort_msg("no %s", label);
}

/* Whether a chart holds a point whose tip begins so. */
static void has_tip(const char *chart, const char *series, size_t layer, double percent) {
    char said[96];
    snprintf(said, sizeof said, "<title>%s, Layer %zu: %.1f%%", series, layer, percent);
    ck_assert_msg(strstr(chart, said) != NULL, "no %s", said);
}

/* Means over the questions, from the records themselves. */
START_TEST(layers_agree) {
    char *hits = chart_of("hits"), *sparsity = chart_of("sparsity");
    json_t *lines = read_results();
    size_t way = variant_of(lines, "centroids", 0.1), n = json_array_size(lines) - 1;
    ck_assert_uint_eq(n, QUESTIONS);
    for (size_t l = 0; l < LAYERS; l++) {
        double hit = 0, decode = 0, prefill = 0;
        for (size_t i = 1; i <= n; i++) {
            const json_t *record = json_array_get(lines, i);
            const json_t *run = json_array_get(get(record, "runs", JSON_ARRAY), way);
            ck_assert_int_ge(whole(record, "steps"), 1);
            hit += json_number_value(json_array_get(get(run, "hit", JSON_ARRAY), l));
            decode += json_number_value(
                json_array_get(get(get(record, "decode", JSON_OBJECT), "0.01", JSON_ARRAY), l));
            prefill += json_number_value(
                json_array_get(get(get(record, "sparsity", JSON_OBJECT), "0.01", JSON_ARRAY), l));
        }
        has_tip(hits, "centroids", l, 100 * hit / (double)n);
        has_tip(sparsity, "decode", l, 100 * decode / (double)n);
        has_tip(sparsity, "prefill, rows after the picture", l, 100 * prefill / (double)n);
    }
    ck_assert_ptr_nonnull(strstr(html, "<b id=\"correlation\">r = "));
    json_decref(lines);
    free(hits);
    free(sparsity);
}
END_TEST

/* ---- gallery ------------------------------------------------------------------------------------------ */

static int digit_of(char c) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const char *at = strchr(digits, c);
    ck_assert_msg(c && at, "%c", c);
    return (int)(at - digits);
}

/* Decodes base64 up to a quote. New memory. */
static uint8_t *decode(const char *text, size_t *bytes) {
    size_t length = strcspn(text, "\"");
    uint8_t *out = malloc(length + 1);
    *bytes = 0;
    for (size_t i = 0; i + 3 < length; i += 4)
        for (int k = 0; k < 3 && text[i + (size_t)k + 1] != '='; k++)
            out[(*bytes)++] = (uint8_t)(digit_of(text[i + (size_t)k]) << (2 * k + 2) |
                                        digit_of(text[i + (size_t)k + 1]) >> (4 - 2 * k));
    return out;
}

START_TEST(gallery_shows) {
    int pictures = 0;
    const char *gallery = strstr(html, "<section id=\"gallery\"");
    ck_assert_ptr_nonnull(gallery);
    int cases = count_of(gallery, "<article class=\"case\">");
    ck_assert_int_eq(cases, QUESTIONS);
    ck_assert_int_eq(count_of(gallery, "<figure class=\"shot\">"), cases * (1 + POLICIES));
    ck_assert_int_eq(count_of(gallery, "class=\"verdict "), cases * (1 + POLICIES));
    for (const char *at = gallery; (at = strstr(at, "src=\"data:image/")) != NULL; at++, pictures++) {
        vlcache_image *image = NULL;
        int width, height;
        size_t bytes;
        uint8_t *data = decode(strstr(at, ";base64,") + 8, &bytes);
        ck_ok(vlcache_image_decode(data, bytes, "of the gallery", &image));
        vlcache_image_size(image, &width, &height);
        ck_assert(pictures ? width == 336 && height == 336 : width == 64 && height == 1);
        vlcache_image_destroy(&image);
        free(data);
    }
    ck_assert_int_eq(pictures, 1 + cases * (1 + POLICIES)); /* the scale of colours first */
}
END_TEST

/* ---- the same bytes ----------------------------------------------------------------------------------- */

static void same_report(process *p) {
    char *again = read_file(report_path, NULL);
    ended(p, 0);
    ck_assert_str_eq(p->out, csv);
    ck_assert(strcmp(again, html) == 0);
    free(again);
    process_release(p);
}

/* From a finished file nothing is asked again; from one that a killed run left, the rest. */
START_TEST(made_again) {
    process p;
    run_eval(&p);
    same_report(&p);
    size_t bytes;
    char *text = read_file(results_path, &bytes);
    char *third = strchr(strchr(strchr(text, '\n') + 1, '\n') + 1, '\n') + 1;
    ck_assert_int_eq(truncate(results_path, third - text + 100), 0);
    run_eval(&p);
    same_report(&p);
    char *again = read_file(results_path, NULL);
    ck_assert(strcmp(again, text) == 0);
    free(again);
    free(text);
}
END_TEST

/* Results that were begun without a report have no studies; the report says so. */
START_TEST(without_studies) {
    char path[512], out[512];
    process p;
    in_scratch("plain", path);
    in_scratch("plain.html", out);
#define PLAIN                                                                                                \
    EVAL, "--data", data_path, "--policy", "vlcache", "--budget", ".1", "--limit", "1", "--results", path
    process_run(&p, (const char *const[]){PLAIN, NULL}, "", 0);
    expect(&p, 0, "3 questions answered in 2 ways");
    process_release(&p);
    process_run(&p, (const char *const[]){PLAIN, "--report", out, NULL}, "", 0);
    expect(&p, 0, "3 questions answered in 2 ways");
    process_release(&p);
    char *plain = read_file(out, NULL);
    ck_assert_ptr_nonnull(strstr(plain, "begun without --report"));
    ck_assert_ptr_nonnull(strstr(plain, "id=\"chart-score-0\""));
    ck_assert_ptr_null(strstr(plain, "id=\"ablation\""));
    ck_assert_ptr_null(strstr(plain, "href=\"#hits\""));
    free(plain);
}
END_TEST

/* A path is bytes, a page is UTF-8. */
START_TEST(paths_become_text) {
    char path[512], out[512];
    process p;
    in_scratch("plain", path);
    in_scratch("na\xc3\xaf'\xff\xc3.html", out);
    process_run(&p, (const char *const[]){PLAIN, "--report", out, NULL}, "", 0);
    ended(&p, 0);
    process_release(&p);
    char *page = read_file(out, NULL);
    json_t *text = json_string(page); /* NULL where it is not UTF-8 */
    ck_assert_ptr_nonnull(text);
    ck_assert_ptr_nonnull(strstr(page, "na\xc3\xaf'\\''\xef\xbf\xbd\xef\xbf\xbd.html'"));
    json_decref(text);
    free(page);
    ck_assert_int_eq(remove(out), 0);
}
END_TEST

/* And a run that was begun with them goes on with them, report or not. */
START_TEST(studies_stay) {
    process p;
    process_run(&p,
                (const char *const[]){EVAL, "--data", data_path, "--policy",
                                      "vlcache,centroids,h2o@label=<i>&\"mine\"", "--budget", ".1,.2",
                                      "--results", results_path, "-o", "csv", NULL},
                "", 0);
    expect(&p, 0, "6 questions answered in 13 ways");
    ck_assert_str_eq(p.out, csv);
    process_release(&p);
}
END_TEST

/* A path that cannot be written is refused before anything is asked. */
START_TEST(unwritable) {
    char out[512];
    process p;
    in_scratch("data.jsonl/x.html", out);
    process_run(&p, (const char *const[]){EVAL, "--data", data_path, "--report", out, NULL}, "", 0);
    expect(&p, 2, "x.html: Not a directory");
    ck_assert_str_eq(p.out, "");
    process_release(&p);
}
END_TEST

/* What is written takes no picture's place that is asked about. */
START_TEST(pictures_are_spared) {
    char own[512], data[512];
    size_t bytes, left;
    char *picture = read_file(SAMPLES "captions-0.png", &bytes);
    FILE *file = fopen(in_scratch("own.png", own), "wb");
    ck_assert(file && fwrite(picture, 1, bytes, file) == bytes && fclose(file) == 0);
    scratch_text("own.jsonl",
                 "\n{\"question\": \"?\", \"answers\": [\"x\"], \"metric\": \"anls\", "
                 "\"image\": \"own.png\"}\n");
    in_scratch("own.jsonl", data);
    for (int i = 0; i < 2; i++) {
        process p;
        process_run(&p,
                    (const char *const[]){EVAL, "--data", data, "--policy", "h2o", "--budget", "1", "-n", "1",
                                          i ? "--fit" : "--report", own, NULL},
                    "", 0);
        expect(&p, 1, "own.png: is a picture of line 2 of the data: name another");
        process_release(&p);
    }
    char *after = read_file(own, &left);
    ck_assert(left == bytes && memcmp(after, picture, bytes) == 0);
    free(after);
    free(picture);
}
END_TEST

/* The report of the finished results, written elsewhere. */
static void report_to(process *p, const char *path) {
    process_run(p,
                (const char *const[]){EVAL, "--data", data_path, "--policy",
                                      "vlcache,centroids,h2o@label=<i>&\"mine\"", "--budget", ".1,.2",
                                      "--results", results_path, "--report", path, "-o", "csv", NULL},
                "", 0);
}

/* A user's own OUT.new, a link that somebody has put there, a device: all stay what they are. */
START_TEST(what_is_there_stays) {
    char out[512], path[512];
    struct stat s;
    process p;
    scratch_text("precious", "precious");
    scratch_text("mine.html.new", "mine");
    report_to(&p, in_scratch("mine.html", out));
    ended(&p, 0);
    process_release(&p);
    char *kept = read_file(in_scratch("mine.html.new", path), NULL);
    ck_assert_str_eq(kept, "mine");
    free(kept);
    ck_assert_int_eq(remove(path), 0);
    ck_assert_int_eq(symlink(in_scratch("precious", out), path), 0);
    report_to(&p, path);
    expect(&p, 2, "mine.html.new: is a symbolic link to ");
    ck_assert_str_eq(p.out, ""); /* before anything was asked */
    process_release(&p);
    report_to(&p, in_scratch("mine.html", out));
    ended(&p, 0);
    process_release(&p);
    kept = read_file(in_scratch("precious", out), NULL);
    ck_assert_str_eq(kept, "precious");
    free(kept);
    ck_assert(lstat(path, &s) == 0 && S_ISLNK(s.st_mode));
    for (int i = 0; i < 2; i++) {
        report_to(&p, i ? data_path : results_path);
        expect(&p, 1, "is a file that is read: name another");
        process_release(&p);
    }
    report_to(&p, "/dev/full");
    expect(&p, 2, "--report /dev/full: No space left on device");
    process_release(&p);
    ck_assert(lstat("/dev/full", &s) == 0 && S_ISCHR(s.st_mode));
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* which has an allocator of its own */
/* From a finished run, so that nothing but results, scores and report is made. */
static void run_starved(process *p, const char *environment, long at, const char *out) {
    char command[4096];
    snprintf(command, sizeof command,
             "%s%ld LD_PRELOAD=" VLCACHE_BINARY_DIR
             "/libvlcache_failing.so exec %s --data %s --policy vlcache --budget .1 --limit 1 -n 4 --results "
             "%s/starved --report %s -o json --quiet",
             environment, at, EVAL, data_path, scratch_folder(), out);
    process_run(p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
}

/* Wherever memory runs out: the exit code says so, and what was there stays; or nothing was lost by it.
 * Sampled, most densely at the end, where the report is; VLCACHE_TEST_EVERY=1 takes every point. */
START_TEST(memory_runs_out) {
    char out[512], says[512], environment[600];
    process p, good;
    in_scratch("starved.html", out);
    in_scratch("count", says);
    snprintf(environment, sizeof environment, "FAILING_SAYS=%s FAILING_ALLOCATION=-", says);
    run_starved(&p, environment, 1, out); /* makes the results */
    process_release(&p);
    run_starved(&good, environment, 1, out);
    ended(&good, 0);
    char *whole_report = read_file(out, NULL), *number = read_file(says, NULL);
    long points = atol(number), last = points - 200;
    bool every = getenv("VLCACHE_TEST_EVERY") != NULL;
    ck_assert_int_gt(points, 1000);
    for (long k = 0; k < (every ? points : 37); k++) {
        long at = every ? k : k < 15 ? k * last / 15 : last + 9 * (k - 15);
        run_starved(&p, "FAILING_ALLOCATION=", at, out);
        ck_assert_msg(p.code == 4 || p.code == 0, "allocation %ld: exit code %d: %s", at, p.code, p.err);
        ck_assert_msg(p.code == 0 || strstr(p.err, "memory"), "allocation %ld: %s", at, p.err);
        if (!p.code) ck_assert_str_eq(p.out, good.out);
        char *report = read_file(out, NULL);
        ck_assert_msg(strcmp(report, whole_report) == 0, "allocation %ld: another report", at);
        free(report);
        process_release(&p);
    }
    free(number);
    free(whole_report);
    process_release(&good);
}
END_TEST
#endif

/* Two layers, one question, full alone: sections that have nothing to show say so. */
START_TEST(little_to_show) {
    char out[512];
    process p;
    in_scratch("little.html", out);
    process_run(&p,
                (const char *const[]){EVAL, "-m", TINY, "--data", data_path, "--policy", "full", "--limit",
                                      "1", "-n", "3", "--budget", "1", "--report", out, NULL},
                "", 0);
    ended(&p, 0);
    char *little = read_file(out, NULL);
    ck_assert_ptr_nonnull(strstr(little, "Nothing to compare."));
    ck_assert_ptr_nonnull(strstr(little, "Too few layers"));
    ck_assert_ptr_nonnull(strstr(little, "Nothing to draw"));
    free(little);
    process_release(&p);
}
END_TEST

/* ---- a browser ---------------------------------------------------------------------------------------- */

/* Looks at every chart as it is drawn and leaves what it found in the page's title. */
static const char look[] =
    "<script>\n"
    "const box = e => e.getBoundingClientRect(), all = (s, e) => [...(e || document).querySelectorAll(s)];\n"
    "const meet = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;\n"
    "let charts = 0, marks = 0, faults = [];\n"
    "for (const svg of all('svg.chart')) {\n"
    "  const frame = box(svg), texts = all('text', svg);\n"
    "  if (frame.width > 200 && frame.height > 100) charts++;\n"
    "  for (const m of all('.mark', svg)) {\n"
    "    const b = box(m);\n"
    "    if (b.width > 2 && b.height > 2 && meet(b, frame)) marks++; else faults.push(svg.id + ' mark');\n"
    "  }\n"
    "  for (const t of texts) {\n"
    "    const b = box(t);\n"
    "    if (!b.width || b.left < frame.left - 1 || b.right > frame.right + 1) faults.push(svg.id + ' text ' "
    "+ "
    "t.textContent);\n"
    "  }\n"
    "  texts.forEach((a, i) => texts.slice(i + 1).forEach(b => {\n"
    "    if (meet(box(a), box(b))) faults.push(svg.id + ' overlap ' + a.textContent + '/' + b.textContent);\n"
    "  }));\n"
    "}\n"
    "for (const i of all('img')) if (!i.naturalWidth || !box(i).width) faults.push('picture');\n"
    "if (document.documentElement.scrollWidth > innerWidth) faults.push('wider than the window');\n"
    "const light = getComputedStyle(document.body).backgroundColor.match(/\\d+/g)[0] > 127;\n"
    "document.title = `LOOKED charts ${charts} marks ${marks} ${light ? 'light' : 'dark'} faults "
    "${faults.length}: ${faults.slice(0, 5).join('; ')}`;\n"
    "</script>\n";

/* Path of a Chromium, "" where there is none. */
static const char *find_browser(char path[256]) {
    static const char *const names[] = {"chromium", "chromium-browser", "google-chrome",
                                        "google-chrome-stable"};
    const char *all = getenv("PATH");
    *path = 0;
    for (size_t i = 0; i < sizeof names / sizeof *names && !*path; i++)
        for (const char *at = all; at && *at && !*path; at += at[strcspn(at, ":")] != 0) {
            int length = (int)strcspn(at, ":");
            snprintf(path, 256, "%.*s/%s", length, at, names[i]);
            if (access(path, X_OK)) *path = 0;
            at += length;
        }
    return path;
}

static const struct {
    const char *window, *scheme, *name;
} views[] = {
    {"--window-size=1280,2000", "--blink-settings=preferredColorScheme=1", "light"},
    {"--window-size=1280,2000", "--blink-settings=preferredColorScheme=0", "dark"},
    {"--window-size=500,2000", "--blink-settings=preferredColorScheme=1", "light"},
};

START_TEST(browser_draws) {
    char browser[256], page[512], url[560], profile[560], expected[96];
    process p;
    int marks = 0;
    if (!*find_browser(browser)) {
        fputs("test_report: no chromium or google-chrome on PATH: what a browser draws is not tested\n",
              stderr);
        return;
    }
    const char *end = strstr(html, "</body>");
    FILE *file = fopen(in_scratch("look.html", page), "w");
    fprintf(file, "%.*s%s%s", (int)(end - html), html, look, end);
    fclose(file);
    snprintf(url, sizeof url, "file://%s", page);
    snprintf(profile, sizeof profile, "--user-data-dir=%s/browser", scratch_folder());
    process_run(&p,
                (const char *const[]){browser, "--headless", "--no-sandbox", "--disable-gpu",
                                      "--disable-dev-shm-usage", "--hide-scrollbars", "--no-first-run",
                                      profile, views[_i].window, views[_i].scheme, "--dump-dom", url, NULL},
                "", 0);
    for (size_t i = 0; i < CHARTS; i++) marks += charts[i].points;
    snprintf(expected, sizeof expected, "<title>LOOKED charts %d marks %d %s faults 0: </title>", CHARTS,
             marks, views[_i].name);
    const char *found = strstr(p.out, "<title>LOOKED");
    ck_assert_msg(strstr(p.out, expected) != NULL, "not %s: %.300s", expected, found ? found : p.err);
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("report");
    TCase *tcase = tcase_create("report");
    tcase_add_unchecked_fixture(tcase, make_report, forget_report);
    tcase_add_test(tcase, well_formed);
    tcase_add_test(tcase, self_contained);
    tcase_add_test(tcase, escaped);
    tcase_add_test(tcase, header_tells);
    tcase_add_loop_test(tcase, chart_holds, 0, CHARTS);
    tcase_add_test(tcase, all_charts);
    tcase_add_test(tcase, charts_hold_the_table);
    tcase_add_test(tcase, layers_agree);
    tcase_add_test(tcase, gallery_shows);
    tcase_add_test(tcase, made_again);
    tcase_add_test(tcase, without_studies);
    tcase_add_test(tcase, paths_become_text);
    tcase_add_test(tcase, studies_stay);
    tcase_add_test(tcase, unwritable);
    tcase_add_test(tcase, pictures_are_spared);
    tcase_add_test(tcase, what_is_there_stays);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tcase, memory_runs_out);
#endif
    tcase_add_test(tcase, little_to_show);
    tcase_add_loop_test(tcase, browser_draws, 0, sizeof views / sizeof *views);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
