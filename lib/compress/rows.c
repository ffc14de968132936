/*
 * rows.c - which rows of a prompt are looked at: those that score its tokens, those whose sparsity is
 * counted.
 *
 *     post-vision rows    14 15       23 24 25         text behind a picture
 *     window:4                        22 23 24 25
 *     list                14c 15c 22s 23sc 24sc 25sc   their union, ascending, with what each row is for
 *
 * In: a recipe, a prompt. Out: a list, which may have gaps.
 */
#include "compress/rows.h"

#include <string.h>

#include "core/alloc.h"

enum { FALLBACK_ROWS = 32 };

int vlci_rows_tau(int tokens, int text, bool *fallback) {
    *fallback = text == 0;
    if (text > 0) return text;
    return tokens < FALLBACK_ROWS ? tokens : FALLBACK_ROWS;
}

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

/* `text`: the post-vision rows, `tau` of them; NULL: the last ones. */
static void list_rows(const vlci_recipe *r, const vlci_compress_prompt *p, const int *text, int tau,
                      vlci_rows *out) {
    int next = 0, tokens = p->first + vlci_rows_looking(p);
    for (int row = p->first; row < tokens; row++) {
        bool post_vision = next < tau && (text ? text[next] : tokens - tau + next) == row;
        int what = (scores(r, row, tokens, post_vision) ? VLCI_ROW_SCORED : 0) |
                   (post_vision && counts(r) ? VLCI_ROW_COUNTED : 0);
        next += post_vision;
        if (what) out->entry[out->n++] = VLCI_ROW(row, what);
    }
}

vlcache_status vlci_rows_create(const vlci_recipe *recipe, const vlci_compress_prompt *prompt,
                                vlci_rows *out) {
    bool fallback;
    int tau = vlci_rows_tau(vlci_rows_looking(prompt), prompt->text, &fallback);
    *out = (vlci_rows){
        .entry = vlci_alloc((size_t)(prompt->first + vlci_rows_looking(prompt)), sizeof *out->entry)};
    if (!out->entry) return vlci_fail_memory("compression rows");
    list_rows(recipe, prompt, fallback ? NULL : prompt->text_rows, tau, out);
    return VLCACHE_OK;
}

vlcache_status vlci_rows_copy(const vlci_rows *from, vlci_rows *out) {
    size_t n = (size_t)from->n;
    *out = (vlci_rows){.n = from->n, .entry = vlci_alloc(n + 1, sizeof *out->entry)};
    if (!out->entry) return vlci_fail_memory("compression rows");
    if (n) memcpy(out->entry, from->entry, n * sizeof *out->entry);
    return VLCACHE_OK;
}

bool vlci_rows_equal(const vlci_rows *a, const vlci_rows *b) {
    return a->n == b->n && (!a->n || memcmp(a->entry, b->entry, (size_t)a->n * sizeof *a->entry) == 0);
}

int vlci_rows_from(const vlci_rows *rows, int row) {
    int from = 0, until = rows->n;
    while (from < until) {
        int middle = (from + until) / 2;
        if (rows->entry[middle] >> VLCI_ROW_SHIFT < row)
            from = middle + 1;
        else
            until = middle;
    }
    return from;
}

bool vlci_rows_visual(const vlci_compress_prompt *p, int row, int *next) {
    if (p->visual) return *next < p->n_visual && p->visual[*next] == row ? ++*next : false;
    if (!p->text_rows) return row < p->tokens - p->text;
    return *next < p->text && p->text_rows[*next] == row ? !++*next : true;
}

void vlci_rows_release(vlci_rows *rows) {
    vlci_free(rows->entry);
    *rows = (vlci_rows){0};
}
