/**
 * rig.h - a model's text part without an engine around it: a prompt of given ids is read part by part,
 * compressed by a plan or not, and tokens go through one by one.
 */
#ifndef TEST_SUPPORT_RIG_H
#define TEST_SUPPORT_RIG_H

#include "engine/sequence.h"

typedef struct rig {
    vlci_shared shared;
    vlci_kv kv;
    vlci_recipe recipe;
    vlci_compress *plan; /**< of the prompt; NULL: none */
    vlci_prompt prompt;  /**< of rig_begin() */
    vlci_reading reading;
} rig;

/** An empty cache in an elastic pool. options NULL: nothing is compressed. */
void rig_create(rig *r, vlcache_model *model, const vlcache_compress_options *options);

/** Begins to read n ids (negative ones are rows of `features`); `text_rows`: its `text` post-vision rows. */
void rig_begin(rig *r, const int32_t *ids, int n, const int *text_rows, int text, cl_mem features);

/** The same of a prompt that is laid out, its pictures with it, since positions may go by them; borrowed
 * until the rig is released. Nothing is compressed. */
void rig_begin_prompt(rig *r, const vlci_prompt *prompt, cl_mem features);

/** One more layer; false when all are done and the logits are there. */
bool rig_layer(rig *r);

/** All layers, and compression where there is a plan that does not wait for decoded tokens. */
void rig_read(rig *r, const int32_t *ids, int n, const int *text_rows, int text, cl_mem features);

/** One more token behind the others. */
void rig_step(rig *r, int32_t token);

/** Id of the largest logit. */
int32_t rig_best(const rig *r);

void rig_release(rig *r);

#endif
