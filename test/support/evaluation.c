/*
 * evaluation.c - the questions that suites of vlcache-eval ask, and the run that is never interrupted.
 */
#include "support/evaluation.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "support/scratch.h"

const char all_forms[] =
    ASKED("first", "pages-0.png", "What is the heading?", "Mon", "anls") ", \"task\": \"pages\"}\n"
    ASKED("2", "charts-3.png", "What is the value of Aug?", "39", "relaxed") ", \"task\": \"charts\"}\n"
    "\n"
    "{\"id\": 7, \"task\": \"scenes\", \"images\": [\"" SAMPLES "captions-0.png\", \"" SAMPLES
    "captions-1.png\"], \"question\": \"<image><image>What is in the center?\", \"answers\": [\"black\", "
    "\"orange\"], \"metric\": \"contains\", \"max_tokens\": 3, \"note\": \"not read\"}\n"
    "{\"task\": \"talk\", \"image\": \"" SAMPLES "captions-1.png\", \"turns\": [{\"question\": \"What is in the "
    "center?\", \"answers\": [\"a black square\"]}, {\"question\": \"Is there a yellow diamond?\", "
    "\"answers\": [\"no\", \"none\"]}], \"metric\": \"cider\"}\n"
    ASKED("b", "captions-2.png", "Describe the image.", "a orange diamond at the bottom left", "cider")
    ", \"task\": \"talk\"}\n";

char questions[512], results[512];
process first;
char *whole_results;

/* ---- files --------------------------------------------------------------------------------------------- */

/* The bytes of a file, and a zero byte; "" when it is not there. New memory. */
char *slurp(const char *path) {
    FILE *file = fopen(path, "rb");
    char *text = calloc(1, 1 << 22);
    ck_assert_ptr_nonnull(text);
    if (file) {
        ck_assert_uint_lt(fread(text, 1, 1 << 22, file), 1 << 22);
        fclose(file);
    }
    return text;
}

int lines_in(const char *path) {
    char *text = slurp(path);
    int n = count_of(text, "\n");
    free(text);
    return n;
}

/* Line `index` of the results, as JSON. */
json_t *record_of(const char *text, int index) {
    json_error_t error;
    while (index--) text = strchr(text, '\n') + 1;
    json_t *record = json_loadb(text, strcspn(text, "\n"), 0, &error);
    ck_assert_msg(record != NULL, "%s", error.text);
    return record;
}

const json_t *run_of(const json_t *record, size_t way) {
    const json_t *runs = get(record, "runs", JSON_ARRAY);
    ck_assert_uint_gt(json_array_size(runs), way);
    return json_array_get(runs, way);
}

/* A fresh results file with the given bytes. */
void begin_results(const char *text, size_t bytes) {
    scratch_write("results", text, bytes);
}

void forget_results(void) {
    remove(results);
}

/* ---- the whole run ------------------------------------------------------------------------------------- */

void run_whole(void) {
    tool_environment();
    scratch_text("questions.jsonl", all_forms);
    in_scratch("questions.jsonl", questions);
    in_scratch("results", results);
    RUN_EVAL(&first, EVALUATE(), "--results", results);
    whole_results = slurp(results);
    forget_results();
}

void forget_whole(void) {
    process_release(&first);
    free(whole_results);
    scratch_clean();
}

void write_tables(process *p, const char *format) {
    begin_results(whole_results, strlen(whole_results));
    RUN_EVAL(p, EVALUATE(), "--results", results, "-o", format);
    ended(p, 0);
    forget_results();
}

void await_lines(int n) {
    for (int i = 0; i < 60000 && lines_in(results) < n; i++)
        nanosleep(&(struct timespec){.tv_nsec = 2000000}, NULL);
}

/* A picture that is none, one that is cut off, and a question longer than the context: found when they are
 * asked. */
void write_unaskable(char path[512]) {
    static char text[65536];
    size_t used;
    scratch_text("fake.png", "no picture");
    scratch_text("torn.png", "\x89PNG\r\n\x1a\n");
    used = (size_t)sprintf(
        text, "%s",
        "{\"image\": \"fake.png\", \"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"exact\"}\n"
        "{\"image\": \"torn.png\", \"question\": \"x\", \"answers\": [\"y\"], \"metric\": \"exact\"}\n"
        "{" PICTURE_FIELD ", \"answers\": [\"y\"], \"metric\": \"exact\", \"question\": \"");
    memset(text + used, 'q', 40000);
    strcpy(text + used + 40000, "\"}\n");
    scratch_text("unaskable.jsonl", text);
    in_scratch("unaskable.jsonl", path);
}
