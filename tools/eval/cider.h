/**
 * cider.h - CIDEr-D: Vedantam, Zitnick, Parikh, CIDEr: Consensus-based Image Description Evaluation (CVPR
 * 2015, arXiv 1411.5726), as the COCO caption evaluation computes it.
 */
#ifndef EVAL_CIDER_H
#define EVAL_CIDER_H

#include <stdbool.h>
#include <stddef.h>

#include <jansson.h>

/** The references of a whole task: in how many of its questions each n-gram occurs. */
typedef struct cider {
    json_t *frequency; /* n-gram -> number of questions */
    size_t questions;
} cider;

/** Begins with no question. False when memory runs out; cider_release() in any case. */
bool cider_begin(cider *c);

/** One more question with its n references. False when memory runs out. */
bool cider_add(cider *c, const char *const *references, size_t n);

/**
 * Score from 0 to 10 of an answer against its references (among those that were added): the published CIDEr
 * of 100.68 is 100 times the mean of this. 0 for every answer when there is one question only, since then no
 * n-gram tells anything. NaN when memory runs out.
 */
double cider_score(const cider *c, const char *answer, const char *const *references, size_t n);

void cider_release(cider *c);

#endif
