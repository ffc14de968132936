/*
 * trial.c - a clock around launches, and a line of the table.
 */
#include "bench/kernels/trial.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/clock.h"
#include "common/interrupt.h"
#include "compute/random.h"

#define LONG_ENOUGH 0.004 /* seconds of a measurement */
#define TOO_LONG    0.5   /* seconds of a launch that is not repeated */

/* ---- rungs --------------------------------------------------------------------------------------------- */

vlcache_status trial_rungs(trials *t, const vlci_ladder *ladder, trial_rung *each, void *user) {
    vlcache_status status = VLCACHE_OK;
    const char *own = ladder->choose(t->device);
    for (const char *const *r = ladder->rungs; *r && !status; r++) {
        if (ladder->fits && !ladder->fits(t->device, *r)) continue;
        vlci_ladders_force(t->device, ladder->kernel, *r);
        status = each(t, *r, strcmp(*r, own) == 0, user);
        vlci_ladders_force(t->device, NULL, NULL);
    }
    return status;
}

bool trial_wanted(trials *t, const trial *what) {
    const char *at = t->b->options.only;
    char line[256], word[WORD_BYTES];
    bool wanted = !at;
    uint64_t bit = 1;
    if (t->b->options.chosen && !what->chosen) return false;
    snprintf(line, sizeof line, "%s %s %s", what->kernel, what->rung, what->shape);
    for (; at && options_word(&at, word); bit <<= 1)
        if (strstr(line, word)) {
            wanted = true;
            t->found |= bit;
        }
    return wanted;
}

/* ---- memory -------------------------------------------------------------------------------------------- */

vlcache_status trial_floats(trials *t, size_t n, uint32_t seed, cl_mem *out) {
    vlcache_status status = vlci_memory_create(t->device, n * sizeof(float), "input of a trial", out);
    return status ? status : vlci_random_floats(t->device, *out, n, seed, 0.0f, 1.0f);
}

vlcache_status trial_poisoned(trials *t, size_t n, cl_mem *out) {
    vlcache_status status = vlci_memory_create(t->device, n * sizeof(float), "output of a trial", out);
    return status ? status : vlci_fill(t->device, *out, 0, n * sizeof(float), 0xffffffffu);
}

vlcache_status trial_bytes(trials *t, const void *data, size_t bytes, cl_mem *out) {
    vlcache_status status = vlci_memory_create(t->device, bytes, "input of a trial", out);
    return status ? status : vlci_write(t->device, *out, 0, data, bytes);
}

size_t trial_sample(size_t i, size_t samples, size_t n) {
    return samples > 1 ? i * (n - 1) / (samples - 1) : n - 1;
}

double trial_worse(double a, double b) {
    return isnan(a) || a > b ? a : b;
}

double trial_off(const float *got, const double *want, size_t n) {
    double squares = 1e-30, off = 0;
    for (size_t i = 0; i < n; i++) {
        squares += want[i] * want[i];
        off = trial_worse(fabs((double)got[i] - want[i]), off);
    }
    return off / sqrt(squares / (double)n);
}

void trial_release(trials *t, cl_mem *const *all, size_t n) {
    for (size_t i = 0; i < n; i++) vlci_memory_release(t->device, all[i]);
}

/* ---- time ---------------------------------------------------------------------------------------------- */

static vlcache_status time_once(trials *t, trial_launch *launch, void *work, int n, double *seconds) {
    double start = clock_seconds();
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < n && !status; i++) status = launch(work);
    if (!status) status = vlci_finish(t->device);
    *seconds = (clock_seconds() - start) / n;
    return status;
}

vlcache_status trial_time(trials *t, trial_launch *launch, void *work, double *seconds) {
    vlcache_status status = time_once(t, launch, work, 1, seconds);
    return status ? status : time_once(t, launch, work, 1, seconds);
}

static int by_time(const void *left, const void *right) {
    double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Sorted times of `*n` measurements. */
static vlcache_status measure(trials *t, trial_launch *launch, void *work, double times[MOST_RUNS], int *n) {
    double once = 0;
    vlcache_status status = time_once(t, launch, work, 1, &once);
    if (!status && once < TOO_LONG) status = time_once(t, launch, work, 1, &once);
    int launches = once < LONG_ENOUGH ? (int)(LONG_ENOUGH / (once + 1e-7)) + 1 : 1;
    times[0] = once;
    *n = once < TOO_LONG ? t->b->options.repetitions : 1;
    for (int i = 0; i < *n && once < TOO_LONG && !status; i++)
        status = time_once(t, launch, work, launches, &times[i]);
    qsort(times, (size_t)*n, sizeof *times, by_time);
    return status;
}

/* ---- lines --------------------------------------------------------------------------------------------- */

static void begin_line(trials *t, const trial *what) {
    table_text(&t->table, what->kernel);
    table_text(&t->table, what->rung);
    table_text(&t->table, what->chosen ? "*" : "");
    table_text(&t->table, what->shape);
}

void trial_leave_out(trials *t, const trial *what, const char *why) {
    if (!trial_wanted(t, what)) return;
    begin_line(t, what);
    for (int i = 0; i < 7; i++) table_none(&t->table);
    table_text(&t->table, why);
    table_end_row(&t->table);
}

void trial_fail(trials *t, const trial *what) {
    trial_leave_out(t, what, vlcache_error_message());
}

static void tell(trials *t, const trial *what, const double *times, int n) {
    double ms = 1e3 * times[n / 2], rate = what->amount / times[n / 2];
    double most = what->bytes ? t->b->ceiling.copy : t->b->ceiling.product;
    bool good = what->error <= what->tolerance;
    begin_line(t, what);
    table_spread(&t->table, ms, 1e3 * times[0], 1e3 * times[n - 1]);
    if (what->bytes) table_none(&t->table);
    table_number(&t->table, rate * (what->bytes ? 1e-9 : 1e-12));
    if (!what->bytes) table_none(&t->table);
    if (most > 0)
        table_number(&t->table, rate / most);
    else
        table_none(&t->table);
    table_number(&t->table, what->error);
    table_text(&t->table, good ? "" : "WRONG");
    table_end_row(&t->table);
    t->wrong += !good;
}

vlcache_status trial_tell(trials *t, const trial *what, trial_launch *launch, void *work) {
    double times[MOST_RUNS];
    int n = 0;
    if (measure(t, launch, work, times, &n))
        trial_fail(t, what);
    else
        tell(t, what, times, n);
    return interrupt_seen() ? VLCACHE_E_CANCELLED : VLCACHE_OK;
}

/* ---- a case -------------------------------------------------------------------------------------------- */

typedef struct walk {
    const trial_case *c;
    bool asked;          /* whether operands are made */
    vlcache_status made; /* what came of it */
} walk;

static vlcache_status try_rung(trials *t, const char *rung, bool chosen, void *user) {
    walk *w = user;
    const trial_case *c = w->c;
    trial what = c->what;
    what.rung = rung;
    what.chosen = chosen;
    if (!trial_wanted(t, &what)) return VLCACHE_OK;
    if (!w->asked) w->made = c->make(c->work);
    w->asked = true;
    what.amount = c->what.amount; /* may depend on what was made */
    vlcache_status status = w->made;
    if (!status) status = c->open(c->work);
    if (!status) status = c->check(c->work, &what.error);
    if (status)
        trial_fail(t, &what);
    else
        status = trial_tell(t, &what, c->launch, c->work);
    if (!w->made && c->close) c->close(c->work);
    return status == VLCACHE_E_CANCELLED ? status : VLCACHE_OK;
}

vlcache_status trial_ladder(trials *t, const vlci_ladder *ladder, const trial_case *c) {
    walk w = {.c = c};
    return ladder ? trial_rungs(t, ladder, try_rung, &w) : try_rung(t, "portable", true, &w);
}
