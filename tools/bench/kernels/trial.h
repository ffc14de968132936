/**
 * trial.h - what the trials of all kernels share: forcing a rung, timing a launch, telling a line.
 */
#ifndef BENCH_KERNELS_TRIAL_H
#define BENCH_KERNELS_TRIAL_H

#include <stdint.h>

#include "bench/bench.h"
#include "bench/table.h"
#include "device/ladder.h"

/** All trials of a run. */
typedef struct trials {
    bench *b;
    vlcache_device *device;
    vlcache_dtype dtype; /* of weights and KV rows */
    table table;
    int wrong;      /* lines */
    uint64_t found; /* a bit for each of the first 64 words of --only that some line has */
} trials;

/** What a line says beside its times. */
typedef struct trial {
    const char *kernel, *rung, *shape;
    bool chosen;      /* the device's own choice */
    double amount;    /* operations, or bytes, of one launch */
    bool bytes;       /* which of them */
    double error;     /* of the sampled outputs; NAN counts as wrong */
    double tolerance; /* from which it is wrong */
} trial;

/** Whether --only and --chosen ask for this line, which is counted then: a text is in "kernel rung shape",
 * and the rung is the device's choice. */
bool trial_wanted(trials *t, const trial *what);

/** Enqueues the work once. */
typedef vlcache_status trial_launch(void *work);

/** Times it: as many launches in a row as take some milliseconds, --repetitions times, and tells the line.
 * What fails is told as a line, too; only an interruption (VLCACHE_E_CANCELLED) comes back. */
vlcache_status trial_tell(trials *t, const trial *what, trial_launch *launch, void *work);

/** A line for what cannot be tried: the last error says why; and for what is not, with a note of one's own.
 * None where it is not asked for. */
void trial_fail(trials *t, const trial *what);
void trial_leave_out(trials *t, const trial *what, const char *why);

/** Seconds of one launch, after one that warms up. */
vlcache_status trial_time(trials *t, trial_launch *launch, void *work, double *seconds);

/** Rungs of a ladder that the device can take: calls `each` with the rung forced. */
typedef vlcache_status trial_rung(trials *t, const char *rung, bool chosen, void *user);
vlcache_status trial_rungs(trials *t, const vlci_ladder *ladder, trial_rung *each, void *user);

/** A kernel on a shape, to be tried rung by rung. */
typedef struct trial_case {
    trial what; /* but for rung, chosen and error */
    void *work;
    vlcache_status (*make)(void *work); /* its operands, once, in front of the first rung that is asked for */
    vlcache_status (*open)(void *work); /* kernels, the rung forced */
    vlcache_status (*check)(void *work, double *error); /* one launch, and how far it is off */
    trial_launch *launch;
    void (*close)(void *work); /* what open() took, all or some of it; NULL: nothing */
} trial_case;

/** A line for each rung of the ladder that is asked for; NULL: "portable" is all there is. */
vlcache_status trial_ladder(trials *t, const vlci_ladder *ladder, const trial_case *c);

/** Memory with random floats in [-1, 1), or all NaN. */
vlcache_status trial_floats(trials *t, size_t n, uint32_t seed, cl_mem *out);
vlcache_status trial_poisoned(trials *t, size_t n, cl_mem *out);

/** Sample `i` of `samples` out of n: spread evenly, the first and the last among them. */
size_t trial_sample(size_t i, size_t samples, size_t n);

/** Memory that holds these bytes. */
vlcache_status trial_bytes(trials *t, const void *data, size_t bytes, cl_mem *out);

/** The larger of both; NAN if one is. */
double trial_worse(double a, double b);

/** The worst |got - want| of n numbers over the root mean square of what is wanted. */
double trial_off(const float *got, const double *want, size_t n);

/** Releases, and NULLs, these. */
void trial_release(trials *t, cl_mem *const *all, size_t n);
#define TRIAL_RELEASE(t, ...)                                                                                \
    trial_release(t, (cl_mem *const[]){__VA_ARGS__},                                                         \
                  sizeof((cl_mem *const[]){__VA_ARGS__}) / sizeof(cl_mem *))

/* ---- the kernels --------------------------------------------------------------------------------------- */

vlcache_status linear_trials(trials *t);    /* gemm, gemv */
vlcache_status chain_trials(trials *t);     /* chain */
vlcache_status attention_trials(trials *t); /* prefill, decode */
vlcache_status row_trials(trials *t);       /* norm, rope */
vlcache_status few_trials(trials *t);       /* attention_coded, attention_quantised */
vlcache_status sample_trials(trials *t);    /* sample */
vlcache_status compress_trials(trials *t);  /* score, topk */
vlcache_status summary_trials(trials *t);   /* nearest, spread */
vlcache_status coding_trials(trials *t);    /* code */

#endif
