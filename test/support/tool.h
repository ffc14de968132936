/**
 * tool.h - vlcache-run under test: a question to the tiny model, and its JSON object taken apart.
 */
#ifndef TEST_TOOL_H
#define TEST_TOOL_H

#include <jansson.h>

#include "support/process.h"

#define TOOL    VLCACHE_BINARY_DIR "/vlcache-run"
#define TINY    VLCACHE_TEST_DATA "/models/llava-llama-mha"
#define PICTURE TINY "/golden/middle.0.png"
#define SAMPLES VLCACHE_SOURCE_DIR "/tools/demo/samples/"
#define PAGE    SAMPLES "pages-0.png"
#define ASK     "-m", TINY, "--image", PICTURE, "-p", "What is shown in this picture?"

/** Runs the tool with the arguments. */
#define RUN(p, ...) process_run(p, (const char *const[]){TOOL, __VA_ARGS__, NULL}, "", 0)

/** Fails unless it ended with the code, and said so on standard error. */
void ended(const process *p, int code);
void expect(const process *p, int code, const char *said);

/** Fails unless `part` printed what `whole` begins with, and a new line. Bytes that stand in the place of
 * words are one run, each of its bytes U+FFFD where it is no UTF-8 in all: one that is cut short may read
 * otherwise than the whole run. */
void expect_beginning(const process *part, const process *whole);

/** How often a text holds a part. */
int count_of(const char *text, const char *part);

/** Path of a file in the scratch folder. */
char *in_scratch(const char *name, char path[512]);

/** Runs the tool with the arguments and --json; its object. */
json_t *ask_json(const char *const *argv);
#define ASK_JSON(...) ask_json((const char *const[]){TOOL, __VA_ARGS__, "--json", NULL})

/** "key" of an object; fails when it is absent or of another type. */
json_t *get(const json_t *object, const char *key, json_type type);
int whole(const json_t *object, const char *key);

/** The environment of all runs. */
void tool_environment(void);

/** The same, and every kernel built: what is built says a word on standard error (PoCL's
 * compiler counts its warnings), so that is over before anything is compared. */
void tool_warm_up(void);

#endif
