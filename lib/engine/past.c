/*
 * past.c - turns, one after another -> the rows of a conversation.
 */
#include "engine/past.h"

#include <string.h>

#include "core/alloc.h"

/* Room for as many rows, visual ones and grids. */
static vlcache_status make_room(vlci_past *p, vlci_past_mark most) {
    int32_t(*position)[3] = vlci_realloc(p->position, (size_t)most.rows + 1, sizeof *position);
    if (position) p->position = position;
    int *visual = vlci_realloc(p->visual, (size_t)most.n_visual + 1, sizeof *visual);
    if (visual) p->visual = visual;
    vlci_token_grid *grids = vlci_realloc(p->grids, (size_t)most.n_grids + 1, sizeof *grids);
    if (grids) p->grids = grids;
    return position && visual && grids ? VLCACHE_OK : vlci_fail_memory("rows of a conversation");
}

void vlci_past_cut(vlci_past *p, vlci_past_mark mark) {
    p->rows = mark.rows;
    p->n_visual = mark.n_visual;
    p->n_grids = mark.n_grids;
}

vlcache_status vlci_past_ask(vlci_past *p, const vlcache_model *model, const vlci_prompt *prompt,
                             int32_t position) {
    int first = p->rows;
    int32_t next;
    vlcache_status status = make_room(p, (vlci_past_mark){first + prompt->n, p->n_visual + prompt->visual,
                                                          p->n_grids + prompt->n_grids});
    if (status) return status;
    model->family->positions(&model->config, prompt->picture, prompt->n_images, position, prompt->n,
                             p->position + first, &next);
    for (int i = 0; i < prompt->visual; i++) p->visual[p->n_visual++] = first + prompt->where[i].position;
    for (int i = 0; i < prompt->n_grids; i++) {
        p->grids[p->n_grids] = prompt->grids[i];
        p->grids[p->n_grids++].first += first;
    }
    p->rows += prompt->n;
    return VLCACHE_OK;
}

vlcache_status vlci_past_answer(vlci_past *p, int rows, int32_t position) {
    vlcache_status status = make_room(p, (vlci_past_mark){rows, p->n_visual, p->n_grids});
    for (; !status && p->rows < rows; p->rows++)
        for (int axis = 0; axis < 3; axis++) p->position[p->rows][axis] = position - (rows - p->rows);
    return status;
}

/* Text rows of the last turn, from the conversation's row `first` on: all where a picture stands before it.
 */
static int list_text(const vlci_prompt *prompt, int first, bool seen, int *out) {
    int n = 0;
    for (int i = 0; i < prompt->n && seen; i++)
        if (prompt->ids[i] >= 0) out[n++] = first + i;
    for (int i = 0; i < prompt->after && !seen && prompt->visual; i++) out[n++] = first + prompt->after_at[i];
    return n;
}

vlcache_status vlci_past_prompt(const vlci_past *p, const vlci_prompt *prompt, int **text_rows,
                                vlci_compress_prompt *out) {
    int first = p->rows - prompt->n;
    *text_rows = vlci_alloc((size_t)prompt->n, sizeof **text_rows);
    if (!*text_rows) return vlci_fail_memory("rows of a conversation");
    bool seen = p->n_visual > prompt->visual;
    *out = (vlci_compress_prompt){.tokens = p->rows,
                                  .first = first,
                                  .text = list_text(prompt, first, seen, *text_rows),
                                  .text_rows = *text_rows,
                                  .visual = p->visual,
                                  .n_visual = p->n_visual,
                                  .grids = p->grids,
                                  .n_grids = p->n_grids};
    return VLCACHE_OK;
}

vlcache_status vlci_past_copy(const vlci_past *from, vlci_past *out) {
    *out = (vlci_past){0};
    vlcache_status status = make_room(out, vlci_past_here(from));
    if (status) {
        vlci_past_release(out);
        return status;
    }
    vlci_past_cut(out, vlci_past_here(from));
    if (from->rows) memcpy(out->position, from->position, (size_t)from->rows * sizeof *from->position);
    if (from->n_visual) memcpy(out->visual, from->visual, (size_t)from->n_visual * sizeof *from->visual);
    if (from->n_grids) memcpy(out->grids, from->grids, (size_t)from->n_grids * sizeof *from->grids);
    return VLCACHE_OK;
}

void vlci_past_release(vlci_past *p) {
    vlci_free(p->position);
    vlci_free(p->visual);
    vlci_free(p->grids);
    *p = (vlci_past){0};
}
