/**
 * results.h - the file of finished questions: a header that says of what run, then one JSON line a question.
 *
 *     {"data": "9f...", "device": ..., "model": "51...", "variants": [{"budget": 1.0, "label": "full"}, ...]}
 *     {"id": "p1", "line": 1, "runs": [{"text": ["12.50"], "tokens": [5], "kept": 1.0, ...}, ...]}
 *
 * Every line is handed to the system before the next question begins, and to the disk at least once a second
 * and at the end. A last line that a killed run left unfinished is dropped; a file of another run, of other
 * pictures under the same names, of anything else, or one that another run is at, is refused and stays as it
 * is.
 */
#ifndef EVAL_RESULTS_H
#define EVAL_RESULTS_H

#include "eval/data.h"

/** Of the format, in the header. */
enum { RESULTS_VERSION = 2 };

typedef struct results {
    const char *path; /* NULL: kept in memory only */
    FILE *file;
    json_t *header;
    json_t **records; /* of each item of the data; NULL: not answered yet */
    size_t n, done;
    bool fresh;    /* the file has no header yet: it comes with the first record */
    bool made;     /* the file was not there before */
    bool dirty;    /* something is not on the disk yet */
    double synced; /* when it last was */
} results;

/**
 * Takes `header` (also when it fails) and reads what the file holds already; what it says of the device is
 * compared only where a question is left to ask. Returns an exit code; results_close() in any case.
 */
int results_open(const char *path, json_t *header, const data *d, console *c, results *out);

/** What "studies": true stands for in a header: those that there were first. */
#define STUDIES_OF_OLD "ablation,threshold,probe"

/** The studies that a file's run asked for, "none" or their names; `otherwise` where there is no such file,
 * or no header in it yet. */
void results_studies(const char *path, const char *otherwise, char *names, size_t room);

/** Appends the record (taken over) of item `index`. Returns an exit code. */
int results_add(results *r, size_t index, json_t *record, console *c);

/** Everything that was added is on the disk. Returns an exit code. */
int results_sync(results *r, console *c);

void results_close(results *r);

/** Why a question was skipped; NULL: it was answered. */
const char *results_error(const results *r, size_t index);

#endif
