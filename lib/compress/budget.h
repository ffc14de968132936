/**
 * budget.h (internal) - how many rows each layer keeps, and each kv head of it.
 */
#ifndef VLCI_COMPRESS_BUDGET_H
#define VLCI_COMPRESS_BUDGET_H

#include "cl/shared.h"
#include "compress/policy.h"
#include "core/status.h"

/**
 * beta, kept, recent, sinks and centroids of layers 0 .. layers - 1 (of their sparsity where the allocation
 * needs it), of a model of `all` layers. layers < all: no layer's sparsity is known beyond these, which then
 * may keep no less than they will when all is known: densities only add up. Rounds halves up, as C's round()
 * does for what is not negative. When no layer has any density the budget is shared evenly. A budget of 1
 * keeps every row of every layer: the clip of step 2 would take rows from sparse layers that no other could
 * use. `spared` of the tokens are no candidates: they are kept beside what the others keep.
 */
void vlci_budget_share(const vlci_recipe *recipe, int tokens, int spared, int layers, int all,
                       vlcache_compress_layer *layer);

/** The recipe whose budget is a share of rows, of one whose budget is one of bytes: in heads with centroids
 * each row has a bias. `row_bytes`: of a row of a kv head, keys and values. As it is where nothing goes. */
vlci_recipe vlci_budget_rows(const vlci_recipe *recipe, size_t row_bytes);

/** Share of its rows that a layer keeps at least where budgets follow sparsity. */
double vlci_budget_least(const vlci_recipe *recipe);

/** What the kv heads of a layer keep when they share evenly: kept, recent, sinks, centroids of each. */
void vlci_budget_even(const vlcache_compress_layer *layer, int kv_heads, vlci_keep *out);

/**
 * What they keep when a layer's rows go where the best scores are (Ada-KV, arXiv 2407.11550): each head its
 * recent rows, its sinks and the best of the others up to `floor` of an even share, then the best of all
 * heads' others together; ties: the lower head, then the lower position. score: f32 [kv_heads][tokens]; NaN
 * scores last. Errors: VLCACHE_E_NO_MEMORY.
 */
vlcache_status vlci_budget_adapt(const vlcache_compress_layer *layer, double floor, int tokens,
                                 const float *score, int kv_heads, vlci_keep *out);

#endif
