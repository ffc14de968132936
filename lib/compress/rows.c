/*
 * rows.c - which rows of a prompt are looked at: those that score its tokens, those whose sparsity is
 * counted.
 *
 *     post-vision rows    14 15       23 24 25         text behind a picture
 *     window:4                        22 23 24 25
 *     list                14c 15c 22s 23sc 24sc 25sc   their union, ascending, with what each row is for
 *
 * In: a recipe, a batch of prompts. Out: a list for each sequence, which may have gaps.
 */
#include <string.h>

#include "compress/compress.h"
#include "core/alloc.h"

/* Sparsity is measured where budgets depend on it, and where the same rows are looked at anyway. */
static bool counts(const vlci_recipe *r) {
    return (r->allocation == VLCI_ALLOCATE_MIXED && r->uniform < 1.0) ||
           r->scoring == VLCI_SCORE_POST_VISION || r->scoring == VLCI_SCORE_ACCUMULATED;
}

static bool scores(const vlci_recipe *r, int row, int tokens, bool post_vision) {
    switch (r->scoring) {
    case VLCI_SCORE_NONE:
        return false;
    case VLCI_SCORE_ACCUMULATED:
        return true;
    case VLCI_SCORE_WINDOW:
        return row >= tokens - r->window;
    case VLCI_SCORE_POST_VISION:
        break;
    }
    return post_vision;
}

/* `text`: the sequence's post-vision rows, `tau` of them; NULL: the last ones. */
static void list_sequence(const vlci_recipe *r, int tokens, const int *text, int tau, int b, vlci_rows *out) {
    int n = out->start[b], next = 0;
    for (int row = 0; row < tokens; row++) {
        bool post_vision = next < tau && (text ? text[next] : tokens - tau + next) == row;
        int flags = (scores(r, row, tokens, post_vision) ? VLCI_ROW_SCORED : 0) |
                    (post_vision && counts(r) ? VLCI_ROW_COUNTED : 0);
        next += post_vision;
        if (flags) out->entry[n++] = VLCI_ROW(row, flags);
    }
    out->start[b + 1] = n;
}

vlcache_status vlci_rows_create(const vlci_recipe *recipe, const vlci_compress_prompt *prompt, int batch,
                                vlci_rows *out) {
    size_t all = 0;
    for (int b = 0; b < batch; b++) all += (size_t)prompt->tokens[b];
    *out = (vlci_rows){.start = vlci_calloc((size_t)batch + 1, sizeof *out->start),
                       .entry = vlci_alloc(all, sizeof *out->entry)};
    if (!out->start || !out->entry) {
        vlci_rows_release(out);
        return vlci_fail_memory("compression rows");
    }
    const int *text = prompt->text_rows;
    for (int b = 0; b < batch; b++) {
        bool fallback;
        int tau = vlci_sparsity_rows(prompt->tokens[b], prompt->text[b], &fallback);
        list_sequence(recipe, prompt->tokens[b], fallback ? NULL : text, tau, b, out);
        if (text) text += prompt->text[b];
    }
    return VLCACHE_OK;
}

vlcache_status vlci_rows_copy(const vlci_rows *from, int batch, vlci_rows *out) {
    size_t starts = (size_t)batch + 1, entries = (size_t)from->start[batch];
    *out = (vlci_rows){.start = vlci_alloc(starts, sizeof *out->start),
                       .entry = vlci_alloc(entries + 1, sizeof *out->entry)};
    if (!out->start || !out->entry) {
        vlci_rows_release(out);
        return vlci_fail_memory("compression rows");
    }
    memcpy(out->start, from->start, starts * sizeof *out->start);
    memcpy(out->entry, from->entry, entries * sizeof *out->entry);
    return VLCACHE_OK;
}

bool vlci_rows_equal(const vlci_rows *a, const vlci_rows *b, int batch) {
    return memcmp(a->start, b->start, ((size_t)batch + 1) * sizeof *a->start) == 0 &&
           memcmp(a->entry, b->entry, (size_t)a->start[batch] * sizeof *a->entry) == 0;
}

void vlci_rows_release(vlci_rows *rows) {
    vlci_free(rows->start);
    vlci_free(rows->entry);
    *rows = (vlci_rows){0};
}
