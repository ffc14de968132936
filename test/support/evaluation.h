/**
 * evaluation.h - vlcache-eval under test: questions of every form, the run over them that is never
 * interrupted, and the files of both.
 */
#ifndef TEST_EVALUATION_H
#define TEST_EVALUATION_H

#include "support/tool.h"

#define EVAL          VLCACHE_BINARY_DIR "/vlcache-eval"
#define POLICIES      "centroids@recent=0.2,sinks=4" /* one; the comma is of its label */
#define BUDGETS       ".3,.1"                        /* tables go from low to high */
#define EVALUATE()    "--data", questions, "--policy", POLICIES, "--budget", BUDGETS, "-n", "5"
#define PICTURE_FIELD "\"image\": \"" SAMPLES "pages-0.png\""
enum { QUESTIONS = 5, WAYS = 3, TASKS = 4 };

/* Runs the tool with the arguments. */
#define RUN_EVAL(p, ...) process_run(p, (const char *const[]){EVAL, __VA_ARGS__, NULL}, "", 0)

#define ASKED(id, picture, question, answer, metric)                                                         \
    "{\"id\": \"" id "\", \"image\": \"" SAMPLES picture "\", \"question\": \"" question                     \
    "\", \"answers\": "                                                                                      \
    "[\"" answer "\"], \"metric\": \"" metric "\""

/** Every form that a question may have: the text, and the file in the scratch folder. */
extern const char all_forms[];
extern char questions[512], results[512];

/** The whole run, and what it left in its results. */
extern process first;
extern char *whole_results;

/** Fixtures: makes and forgets it. */
void run_whole(void);
void forget_whole(void);

/** The bytes of a file, and a zero byte; "" when it is not there. New memory. */
char *slurp(const char *path);
int lines_in(const char *path);

/** Line `index` of the results, as JSON, and a way of it. */
json_t *record_of(const char *text, int index);
const json_t *run_of(const json_t *record, size_t way);

/** A fresh results file with the given bytes. */
void begin_results(const char *text, size_t bytes);
void forget_results(void);

/** Waits until the results have so many lines, or the program is no more. */
void await_lines(int n);

/** The tables of the finished results in a format; nothing is asked again. */
void write_tables(process *p, const char *format);

/** A file of three questions that show only when they are asked that they cannot be. */
void write_unaskable(char path[512]);

#endif
