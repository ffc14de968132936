/**
 * jobs.h - asks all questions that are open: one after another here, or several at a time, each by a process
 * of its own.
 *
 *     worker --+
 *     worker --+-- messages --> this process: results, bar, words
 *     worker --+
 *
 * Processes rather than threads, since kernels are not to be shared between threads; and each opens the
 * device for itself, since drivers do not outlive fork(). So with several jobs this process never opens it.
 */
#ifndef EVAL_JOBS_H
#define EVAL_JOBS_H

#include "eval/options.h"
#include "eval/results.h"

/** Name of the device that --device names; "" when there is none. Returns an exit code. */
int jobs_device_name(const options *o, console *c, char *name, size_t room);

/**
 * Asks what `r` has no record of and adds the records: in the order of the questions with one job, as they
 * come with several. Returns an exit code, everything that failed told; no process is left.
 */
int jobs_ask(const options *o, const char *folder, const data *d, results *r, console *c);

#endif
