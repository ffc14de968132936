/*
 * plans.c - what a turn's plans are about: rows that may go, and the text rows that choose among them.
 *
 *     of the prompt's rows, or of a part's            beside rows of earlier turns, which stay
 *     with recall, of all rows of the conversation    which are there again
 *     of rows of pictures aside                       that layers of cross-attention hold
 */
#include "core/alloc.h"
#include "engine/sequence.h"

/* Cache rows that each head of each layer holds: [layers * kv_heads], new memory. */
static int32_t *list_rows(const vlci_kv *kv) {
    size_t n = (size_t)kv->pool->shape.layers * (size_t)kv->pool->shape.kv_heads;
    int32_t *rows = vlci_alloc(n, sizeof *rows);
    for (size_t i = 0; rows && i < n; i++) rows[i] = kv->list[i].rows;
    return rows;
}

/* Scores are taken of rows that see all before them: in layers with a window they do as long as it is not
 * full. */
static vlcache_status check_window(const vlcache_sequence *s, const vlci_prompt *prompt) {
    const vlci_text_config *c = vlci_sequence_text(s);
    int defer = -1, rows = s->kv.length + prompt->n;
    for (size_t i = 0; i < s->n_plans; i++)
        if (s->recipes[i].compresses && s->recipes[i].defer > defer) defer = s->recipes[i].defer;
    for (int layer = 0; layer < c->layers && defer >= 0; layer++) {
        int window = vlci_text_window(c, layer);
        if (window && rows + defer > window)
            return vlci_fail(
                VLCACHE_E_UNSUPPORTED,
                "the prompt comes to %d rows of the cache, of which layer %d sees only the last %d "
                "(config.json: sliding_window): such prompts are not compressed, ask without "
                "compression",
                rows + defer, layer, window);
    }
    return VLCACHE_OK;
}

/* Rows of the visual tokens: new memory. */
static int *list_visual(const vlci_prompt *prompt) {
    int *rows = vlci_alloc((size_t)prompt->visual, sizeof *rows);
    for (int i = 0; rows && i < prompt->visual; i++) rows[i] = prompt->where[i].position;
    return rows;
}

vlci_recipe vlci_turn_recipe(const vlcache_sequence *s, size_t i) {
    vlci_recipe recipe = s->recipes[i];
    bool by_layer = vlci_turn_by_layer(s);
    if (recipe.run_by_layer && by_layer) recipe.run = recipe.run_by_layer;
    if (recipe.votes_yield && (by_layer || !s->shared->model->config.eyes)) {
        recipe.voted = 0.0;
        recipe.candidates = VLCI_CANDIDATES_ALL;
    }
    if (!s->shared->model->config.eyes) recipe.text_yields = false;
    return recipe;
}

/* A plan for each recipe. */
static vlcache_status create_plans(vlcache_sequence *s, const vlci_compress_prompt *prompt) {
    vlcache_status status = VLCACHE_OK;
    vlci_compress_prompt own = *prompt;
    own.together = !prompt->kv_layers && !vlci_turn_by_layer(s) && !vlci_turn_again(s);
    for (size_t i = 0; i < s->n_plans && !status; i++) {
        const vlci_recipe recipe = vlci_turn_recipe(s, i);
        status = vlci_compress_create(&s->shared->compress, &recipe, &own, s->plans, i, &s->plans[i]);
    }
    return status;
}

/* All rows of the conversation are candidates. */
static vlcache_status plan_all(vlcache_sequence *s) {
    vlci_compress_prompt asked;
    int *text_rows;
    vlcache_status status = vlci_past_prompt(&s->past, &s->prompt, &text_rows, &asked);
    if (!status) status = create_plans(s, &asked);
    vlci_free(text_rows);
    return status;
}

/* Of pictures aside: the rows that layers of cross-attention hold, and text rows that look at them. */
static vlcache_status plan_aside(vlcache_sequence *s) {
    int layers[VLCI_MAX_LAYERS], n = 0;
    const vlci_compress_prompt asked = {.tokens = s->prompt.sighted,
                                        .rows = s->prompt.n,
                                        .kv_layers = layers,
                                        .text = s->prompt.after,
                                        .text_rows = s->prompt.after_at,
                                        .grids = s->prompt.grids,
                                        .n_grids = s->prompt.n_grids};
    for (int i = 0; i < vlci_sequence_text(s)->layers; i++)
        if (vlci_text_crosses(vlci_sequence_text(s), i)) layers[n++] = i;
    return create_plans(s, &asked);
}

vlcache_status vlci_turn_plan(vlcache_sequence *s, const vlci_prompt *prompt) {
    vlci_compress_prompt asked = {.tokens = prompt->n,
                                  .text = s->prompt.visual ? prompt->after : 0,
                                  .text_rows = prompt->after_at,
                                  .grids = prompt->grids,
                                  .n_grids = prompt->n_grids};
    if (!vlci_turn_may_compress(s)) return VLCACHE_OK;
    if (s->prompt.n_sights) return plan_aside(s);
    vlcache_status status = check_window(s, prompt);
    if (status) return status;
    if (s->recalls) return plan_all(s);
    int32_t *past = list_rows(&s->kv);
    int *visual = list_visual(prompt);
    status = past && visual ? VLCACHE_OK : vlci_fail_memory("lengths of the KV cache");
    asked.past = past;
    asked.visual = s->prompt.visual ? visual : NULL; /* of a text model all rows may be coded */
    asked.n_visual = prompt->visual;
    if (!status) status = create_plans(s, &asked);
    vlci_free(past);
    vlci_free(visual);
    return status;
}
