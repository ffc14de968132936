/**
 * speed.h - the tables of vlcache-bench but for kernels: how fast, how many fit.
 */
#ifndef BENCH_SPEED_H
#define BENCH_SPEED_H

#include "bench/bench.h"
#include "bench/table.h"

/** Each policy, number of sequences, prompt and depth: a line. An exit code. */
int speed_tell(bench *b);

/** How many conversations fit into --kv-mib: a line for each policy. An exit code. */
int fit_tell(bench *b);

/** The paper's table. An exit code. */
int paper_tell(bench *b);

/** What JSON says of the device, the model and the ceilings. New. */
json_t *speed_head(const bench *b);

#endif
