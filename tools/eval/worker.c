/*
 * worker.c - next question, record, message; the words for the user go along, since the bar on their terminal
 * is another process's.
 */
#include "eval/worker.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "common/exit.h"
#include "common/paper.h"
#include "eval/ask.h"

typedef struct worker {
    const work *work;
    int pipe;
    console console;
    paper said; /* since the last message */
    asker asker;
} worker;

/* What is said from now on goes into the next message. */
static void listen_to(worker *w) {
    paper_begin(&w->said);
    w->console.words = w->said.out;
}

/* False where nobody reads any more. */
static bool put(const worker *w, const void *bytes, size_t n) {
    const char *at = bytes;
    while (n) {
        ssize_t written = write(w->pipe, at, n);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return false;
        at += written;
        n -= (size_t)written;
    }
    return true;
}

/* Takes the record over; NULL: there is none. Returns the code, or why it could not be told. */
static int tell(worker *w, size_t index, int code, json_t *record) {
    char *text = record ? json_dumps(record, JSON_COMPACT) : NULL;
    if (record && !text) code = console_fail(&w->console, EXIT_MEMORY, "out of host memory");
    json_decref(record);
    paper_end(&w->said);
    message m = {.index = index, .code = code, .said = w->said.bytes, .record = text ? strlen(text) : 0};
    bool heard = put(w, &m, sizeof m) && put(w, w->said.text, m.said) && put(w, text, m.record);
    free(text);
    paper_release(&w->said);
    listen_to(w);
    return heard ? code : EXIT_INPUT;
}

/* The next question that is open; the number of items where none is. */
static size_t next_open(const work *w) {
    size_t i;
    do i = atomic_fetch_add(w->next, 1);
    while (i < w->data->n && w->results->records[i]);
    return i;
}

int worker_run(const work *given, int pipe) {
    worker w = {.work = given, .pipe = pipe};
    console_open(&w.console, true, false);
    listen_to(&w);
    int code = asker_open(&w.asker, given->options, given->folder, &w.console);
    code = tell(&w, 0, code, NULL);
    while (!code) {
        size_t i = next_open(given);
        json_t *record = NULL;
        if (i >= given->data->n) break;
        code = asker_ask(&w.asker, given->data, i, &record);
        code = tell(&w, i, code, record);
    }
    asker_close(&w.asker);
    paper_release(&w.said);
    return code;
}
