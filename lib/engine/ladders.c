/*
 * ladders.c - every kernel with variants, in the order of the pipeline: what VLCACHE_VARIANT may name,
 * vlcache-info lists and tests run.
 */
#include "compress/plan.h"
#include "compute/attention.h"
#include "compute/chain_dot.h"
#include "compute/coded.h"
#include "compute/gemm.h"
#include "compute/gemv.h"
#include "compute/norm.h"
#include "compute/quantised.h"
#include "compute/sample.h"

const vlci_ladder *const vlci_ladders[] = {&vlci_gemm_ladder,
                                           &vlci_gemm_wide_ladder,
                                           &vlci_gemm_matrix_ladder,
                                           &vlci_gemv_ladder,
                                           &vlci_chain_ladder,
                                           &vlci_chain_dot_ladder,
                                           &vlci_attention_prefill_ladder,
                                           &vlci_attention_decode_ladder,
                                           &vlci_coded_ladder,
                                           &vlci_quantised_ladder,
                                           &vlci_norm_ladder,
                                           &vlci_sample_ladder,
                                           &vlci_score_ladder,
                                           &vlci_topk_ladder,
                                           &vlci_nearest_ladder,
                                           &vlci_spread_ladder,
                                           &vlci_code_ladder,
                                           NULL};
