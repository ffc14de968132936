/*
 * results.c - the lines of a results file behind a header that is right, or the whole file; and the tables
 * and the report that are made of them.
 */
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "eval/report.h"
#include "fuzz.h"

static const char questions[] =
    "{\"image\": \"p\", \"question\": \"q\", \"answers\": [\"a\"], \"metric\": \"anls\"}\n"
    "{\"image\": \"p\", \"question\": \"q\", \"answers\": [\"12\"], \"metric\": \"relaxed\"}\n"
    "{\"image\": \"p\", \"question\": \"q\", \"answers\": [\"a b\"], \"metric\": \"cider\"}\n";

static const char header[] = "{\"vlcache_eval\":2,\"studies\":true}\n";

static options *ask(void) {
    static options o = {.action = ACTION_EVALUATE, .seed = 1, .predict = 4};
    static char path[64];
    if (o.variants.n) return &o;
    strcpy(path, fuzz_path("report.html"));
    o.report = path;
    FUZZ_HOLDS(!variants_parse("vlcache,h2o", ".1,.5", &o.variants));
    studies_begin(&o.variants, &o.studies);
    FUZZ_HOLDS(!studies_add(STUDY_USUAL, 2, &o.variants, &o.studies));
    return &o;
}

static data *read_questions(void) {
    static data d;
    static char path[64];
    if (d.n) return &d;
    strcpy(path, fuzz_path("data.jsonl"));
    static const uint8_t grey[3] = {128, 128, 128};
    FUZZ_HOLDS(!vlcache_image_write_png(fuzz_path("p"), grey, 1, 1));
    fuzz_write("data.jsonl", questions, strlen(questions));
    FUZZ_HOLDS(!data_read(path, 0, true, fuzz_console(), &d));
    return &d;
}

static void show(const options *o, const data *d, const results *r) {
    scores s = {0};
    char *argv[] = {"vlcache-eval", NULL};
    outcome made = {d, r, &o->variants, &s};
    report page = {&made, o, 1, argv};
    if (!scores_make(d, r, &o->variants, o->seed, fuzz_console(), &s) && s.answered) {
        table_write(&made, "json", fuzz_console());
        report_write(&page, fuzz_console());
    }
    scores_release(&s);
}

/* In front of what the input says: the header, unless its first byte says that it has its own. */
int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
    const options *o = ask();
    const data *d = read_questions();
    results r;
    if (!bytes) return 0;
    size_t head = input[0] == 'h' ? 0 : strlen(header);
    char *file = malloc(head + bytes);
    if (!file) abort();
    memcpy(file, header, head);
    memcpy(file + head, input + 1, bytes - 1);
    fuzz_write("r.results", file, head + bytes - 1);
    free(file);
    if (!results_open(fuzz_path("r.results"), json_loads(header, 0, NULL), d, fuzz_console(), &r))
        show(o, d, &r);
    results_close(&r);
    return 0;
}
