/**
 * summary.h (internal) - centroids that stand for the rows a head does not keep.
 */
#ifndef VLCI_COMPRESS_SUMMARY_H
#define VLCI_COMPRESS_SUMMARY_H

#include "compress/nearest.h"
#include "compress/policy.h"
#include "compress/spread.h"

typedef struct vlci_summary_kernels {
    const vlci_kernel *evicted, *members, *means, *write;
    vlci_nearest_kernels nearest;
    vlci_spread_kernels spread;
    size_t group; /**< work-items that members is built for */
    int part;     /**< dimensions of a centroid that a work-item adds up */
    int slots;    /**< work-items that do so, each some of its members; more than 1: all parts are a group */
    int run;      /**< evicted rows that one lists */
} vlci_summary_kernels;

/** Builds what a recipe needs. Errors: VLCACHE_E_ARGUMENT (VLCACHE_VARIANT), VLCACHE_E_UNSUPPORTED
 * (head_dim), VLCACHE_E_BUILD. */
vlcache_status vlci_summary_open(vlcache_device *device, const vlci_compress_shape *shape,
                                 const vlci_recipe *recipe, vlci_summary_kernels *kernels);

/** Scratch, made when it is first needed, of as many heads as are summed up at once; and how far they are. */
typedef struct vlci_summary_room {
    vlci_groups groups;
    vlci_spread_room spread;
    int step, steps; /**< steps: means of the seeds' members, then of those of each iteration */
    bool spreads;    /**< seeds are those of spread.h */
    bool whole;      /**< no step: all is done when centroids are written; of that: */
    cl_mem score;    /**< borrowed */
    size_t score_at;
} vlci_summary_room;

/** Layers that can be summed up at once with a moderate amount of scratch, and in VLCI_SUMMARY_AT_ONCE where
 * that has no steps: all, or the same number in each of a few turns; at least 1. */
int vlci_summary_layers(const vlci_heads *heads, const vlci_summary_kernels *kernels);

/**
 * Summing up some heads: begin, go until room->step is room->steps, then write; what lies between two calls
 * changes neither the heads' rows nor what they keep. positions: what they keep; score: what those were
 * chosen by, f32 [heads][tokens] from `at` on, or NULL, which stays until write. Where no head has centroids
 * nothing is done. Errors: VLCACHE_E_NO_MEMORY, VLCACHE_E_DEVICE_MEMORY.
 */
vlcache_status vlci_summary_begin(const vlci_heads *heads, const vlci_summary_kernels *kernels,
                                  const vlci_recipe *recipe, cl_mem positions, cl_mem score, size_t at,
                                  vlci_summary_room *room);

/** Products of a row and a centroid, in all kv heads, that may come between two tokens, and what else takes
 * as long: more than that only as one piece. An H100 takes 4 ms for them, and 5.5 for a token of a 7B
 * model. */
#define VLCI_SUMMARY_AT_ONCE 8e9

/** How much may be enqueued at once: each piece of work takes from it what it is worth, in products of a row
 * and a centroid. The first is taken whatever it is worth, others as far as there is enough left. */
typedef struct vlci_pace {
    double left;
    bool begun;
} vlci_pace;

/** Whether a piece of work may be enqueued, which is then counted. */
bool vlci_pace_takes(vlci_pace *pace, double worth);

/** What begin is worth, and what write is. */
double vlci_summary_begin_worth(const vlci_heads *heads, const vlci_summary_kernels *kernels,
                                const vlci_recipe *recipe);
double vlci_summary_write_worth(const vlci_heads *heads, const vlci_summary_kernels *kernels,
                                const vlci_recipe *recipe);

/** Enqueues steps as far as `pace` takes them. */
vlcache_status vlci_summary_go(const vlci_heads *heads, const vlci_summary_kernels *kernels,
                               vlci_summary_room *room, vlci_pace *pace);

/** What all of it is worth, of `rows` rows of heads that have so many tokens and centroids each. */
double vlci_summary_worth(const vlci_recipe *recipe, double rows, double tokens, double centroids);

/** Enqueues the centroids' rows and their biases, behind the kept rows of the heads `to`. */
vlcache_status vlci_summary_write(const vlci_heads *heads, const vlci_summary_kernels *kernels, cl_mem to,
                                  const vlci_summary_room *room);

/**
 * Scratch that stays between two prompts, if it is no more than a small share of the device's memory: making
 * and releasing it takes longer than most of what happens in it. lend: `room` becomes what `spare` has, where
 * it has nothing itself; give_back: the other way round, or it is released. spare: NULL: nothing stays.
 */
void vlci_summary_lend(vlci_summary_room *spare, vlci_summary_room *room);
void vlci_summary_give_back(vlcache_device *device, vlci_summary_room *room, vlci_summary_room *spare);

void vlci_summary_release(vlcache_device *device, vlci_summary_room *room);

#endif
