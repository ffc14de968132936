/*
 * sights.c - cross-attention: which rows of a prompt see which of its pictures, that lie beside the rows.
 */
#include "core/alloc.h"
#include "engine/prompt.h"

int vlci_prompt_features_at(const vlci_prompt *prompt, int image) {
    int at = 0;
    for (int i = 0; i < image; i++) at += prompt->layout[i].n_tokens + prompt->layout[i].n_unseen;
    return at;
}

/* A picture is seen from its mark on, up to the next one; of marks that stand side by side, each sees those
 * before it, too. */
static void list_sights(vlci_prompt *out) {
    int n = (int)out->n_images;
    if (out->picture[0].row) out->sights[out->n_sights++] = (vlci_sight){.until = out->picture[0].row};
    for (int i = 0; i < n; i++) {
        bool joins = i && out->picture[i].row == out->picture[i - 1].row + 1;
        int first = joins ? out->sights[out->n_sights - 1].first : i;
        int until = i + 1 < n ? out->picture[i + 1].row : out->n;
        out->sights[out->n_sights++] = (vlci_sight){until, first, i + 1 - first};
    }
    for (int i = 0; i < out->n_sights; i++) out->ends[i] = out->sights[i].until;
}

/* A picture of the last sight, the first token of which is row `at` there; `grids` counts. */
static void place_aside(vlci_prompt *out, int image, int at, int *grids) {
    const vlci_picture_layout *layout = &out->layout[image];
    for (int i = 0; i < layout->n_grids; i++) {
        const vlci_layout_grid *g = &layout->grids[i];
        out->grids[(*grids)++] = (vlci_token_grid){at + g->first, g->rows, g->columns, g->stride};
    }
}

/* Tokens, grids and text of the last sight, whose pictures the cache holds when the prompt is read. */
static void tell_last(vlci_prompt *out) {
    const vlci_sight *last = &out->sights[out->n_sights - 1];
    int seen = 0, grids = 0;
    for (int image = 0; image < (int)out->n_images; image++) {
        bool there = image >= last->first;
        if (there) place_aside(out, image, out->sighted, &grids);
        for (int token = 0; token < out->layout[image].n_tokens; token++) {
            const float *cell = out->layout[image].cell[token];
            int row = there ? out->sighted++ : -1;
            out->where[seen++] = (vlcache_visual_token){row, image, cell[0], cell[1], cell[2], cell[3]};
        }
    }
    out->n_grids = grids;
    out->after = 0;
    int mark = out->picture[out->n_images - 1].row; /* stands for the text behind it where there is none */
    for (int row = mark + 1 < out->n ? mark + 1 : mark; row < out->n; row++)
        out->after_at[out->after++] = row;
}

vlcache_status vlci_prompt_see(vlci_prompt *out) {
    if (!out->n_images || !out->layout[0].aside) return VLCACHE_OK;
    out->sights = vlci_alloc(out->n_images + 1, sizeof *out->sights);
    out->ends = vlci_alloc(out->n_images + 1, sizeof *out->ends);
    if (!out->sights || !out->ends) return vlci_fail_memory("prompt");
    list_sights(out);
    tell_last(out);
    return VLCACHE_OK;
}
