/**
 * data.h - the questions: a file of JSON lines.
 *
 *     {"id": "p1", "image": "p1.png", "question": "What is the total?", "answers": ["12.50"],
 *      "metric": "anls"}
 *
 * image: one picture, images: several, or video: a file, or a list of frames of which fps are a second (1),
 * and frames: how many are seen (as the model has it); paths are relative to the file; question with answers,
 * or turns:
 * [{"question": ..., "answers": [...]}, ...], one conversation over the same pictures; metric: anls, exact,
 * relaxed, cider, contains or likelihood. May be left out: id (the number of the line), task (a name under
 * which scores are put together; the name of the file), max_tokens, raw (true: the question is the prompt as
 * it stands, and needs no picture), form (an extended regular expression that whole answers match). Other
 * fields are not read.
 */
#ifndef EVAL_DATA_H
#define EVAL_DATA_H

#include <regex.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <jansson.h>

#include "common/console.h"
#include "eval/metric.h"

/** One question of a conversation and the answers that are right. Strings live as long as the data. */
typedef struct turn {
    const char *question;
    const char **answers;
    size_t n_answers;
} turn;

/** One line: one conversation, most often of one turn. */
typedef struct item {
    int line; /* from 1 */
    char *id;
    int group;     /* index in data.groups */
    char **images; /* pictures; of a video its frames, or its file alone */
    size_t n_images;
    bool video;   /* images are a video's */
    double fps;   /* of its frames; 0: it is a file */
    int n_frames; /* that are seen of it; 0: not said */
    turn *turns;
    size_t n_turns;
    int max_tokens; /* 0: not said */
    bool raw;       /* the prompt as it stands */
    bool has_form;
    regex_t form; /* of whole answers */
    json_t *json; /* owns the strings of turns */
} item;

/** Questions whose scores are put together: of one task and one metric. */
typedef struct group {
    char *task;
    metric metric;
    bool shared_name; /* another group has this task and another metric */
    size_t n;         /* items */
} group;

typedef struct data {
    const char *path;
    uint64_t hash; /* of the file's bytes */
    item *items;
    size_t n;
    group *groups;
    size_t n_groups;
    size_t lines;   /* not empty */
    size_t bad;     /* of these, skipped because they are wrong */
    size_t limited; /* and beyond --limit */
} data;

/**
 * Reads the file, or a pipe that somebody writes into. `limit`: at most so many questions of each task, the
 * first ones; 0: all. A line that is wrong, or whose picture is not there, is named on standard error and
 * skipped, or ends it all (`strict`). Returns an exit code; data_release() in any case.
 */
int data_read(const char *path, size_t limit, bool strict, console *c, data *out);

void data_release(data *d);

#endif
