/*
 * portions.c - where a prompt is cut, each part as a prompt of its own, and what the parts kept together.
 */
#include "engine/portions.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"

/* ---- parts --------------------------------------------------------------------------------------------- */

/* Row behind grid `grid` - 1 of a video that begins at `row`. */
static int row_behind(const vlci_picture_layout *layout, int row, int grid) {
    const vlci_layout_grid *last = &layout->grids[grid - 1];
    return row + last->first + (last->rows - 1) * last->stride + last->columns;
}

/* Ends the part that begins where the last one ended, at `row`; looked at up to item `item`, frame `frame`.
 */
static void end_part(vlci_portions *s, int row, int item, int frame) {
    vlci_portion *part = &s->part[s->n];
    const vlci_portion *before = s->n ? part - 1 : NULL;
    part->row = before ? before->row + before->n : 0;
    part->n = row - part->row;
    part->look.item = before ? before->look.end_item : 0;
    part->look.frame = before ? before->look.end_frame : 0;
    part->look.end_item = item;
    part->look.end_frame = frame;
    if (part->n > s->longest) s->longest = part->n;
    s->n++;
}

/* Cuts video `index`, which stands as item `item`. */
static void cut_video(vlci_portions *s, int item, int index, int frames) {
    const vlci_prompt *p = s->whole;
    const vlci_placed_picture *placed = &p->picture[item];
    int n = p->clip[index].n, grids = placed->layout->n_grids, step = (n + grids - 1) / grids;
    int each = frames > step ? frames / step * step : step;
    for (int f = each; f < n; f += each)
        end_part(s, row_behind(placed->layout, placed->row, f / step), item, f);
}

/* Most parts that there can be. */
static size_t most_parts(const vlci_prompt *p, int frames) {
    size_t n = 1;
    for (size_t i = 0; i < p->n_videos; i++) n += (size_t)(p->clip[i].n / frames) + 1;
    return frames > 1 ? 2 * n : n; /* steps may be longer than what is asked for, or cut it short */
}

static void cut(vlci_portions *s, int frames) {
    const vlci_prompt *p = s->whole;
    int items = (int)(p->n_images + p->n_videos);
    for (int item = 0; item < items; item++)
        if (p->shown[item] >= (int)p->n_images) cut_video(s, item, p->shown[item] - (int)p->n_images, frames);
    end_part(s, p->n, items, 0);
}

/* Text of each part that belongs to no picture and no video. */
static void count_text(vlci_portions *s) {
    const vlci_prompt *p = s->whole;
    size_t item = 0, items = p->n_images + p->n_videos;
    for (int part = 0; part < s->n; part++) {
        int end = s->part[part].row + s->part[part].n;
        for (int row = s->part[part].row; row < end;) {
            const vlci_placed_picture *at = item < items ? &p->picture[item] : NULL;
            int behind = at ? at->row + at->layout->n : 0;
            if (at && row >= behind) {
                item++;
            } else if (at && row >= at->row) {
                row = behind < end ? behind : end;
            } else {
                s->part[part].text++;
                row++;
            }
        }
    }
}

/* Visual tokens of each part. */
static void count_tokens(vlci_portions *s) {
    int token = 0;
    for (int i = 0; i < s->n; i++) {
        vlci_portion *part = &s->part[i];
        part->look.token = token;
        while (token < s->whole->visual && s->whole->where[token].position < part->row + part->n) token++;
        part->look.n_tokens = token - part->look.token;
    }
}

/* ---- creation ------------------------------------------------------------------------------------------ */

static vlcache_status make_room(const vlcache_model *model, vlci_portions *s, int frames) {
    const vlci_text_config *c = &model->config.text;
    s->lists = c->layers * c->kv_heads;
    s->part = vlci_calloc(most_parts(s->whole, frames), sizeof *s->part);
    s->position = vlci_alloc((size_t)s->whole->n, sizeof *s->position);
    s->kept = vlci_calloc((size_t)s->lists, sizeof *s->kept);
    s->rows = vlci_calloc((size_t)s->lists, sizeof *s->rows);
    s->room = vlci_calloc((size_t)s->lists, sizeof *s->room);
    s->layer = vlci_calloc((size_t)c->layers, sizeof *s->layer);
    bool whole = s->part && s->position && s->kept && s->rows && s->room && s->layer;
    return whole ? VLCACHE_OK : vlci_fail_memory("parts of a video");
}

vlcache_status vlci_portions_create(const vlcache_model *model, const vlci_prompt *prompt,
                                    const vlci_recipe *recipe, int frames, int32_t start,
                                    vlci_portions **out) {
    vlci_portions *s = vlci_calloc(1, sizeof *s);
    *out = NULL;
    if (!s) return vlci_fail_memory("parts of a video");
    s->whole = prompt;
    s->recipe = *recipe;
    s->budget = recipe->budget;
    vlcache_status status = make_room(model, s, frames);
    if (!status) cut(s, frames);
    if (status || s->n == 1) {
        vlci_portions_destroy(&s);
        return status;
    }
    count_text(s);
    count_tokens(s);
    s->question = prompt->visual ? prompt->where[prompt->visual - 1].position + 1 : prompt->n;
    if (!(s->recipe.defer_weight > 0)) s->recipe.defer_weight = 1;
    s->recipe.least = 0.01 / s->n;
    model->family->positions(&model->config, prompt->picture, prompt->n_images + prompt->n_videos, start,
                             prompt->n, s->position, &s->next);
    *out = s;
    return VLCACHE_OK;
}

static void release_prompt(vlci_prompt *p) {
    vlci_free(p->ids);
    vlci_free(p->where);
    vlci_free(p->after_at);
    vlci_free(p->grids);
    *p = (vlci_prompt){0};
}

void vlci_portions_destroy(vlci_portions **portions) {
    if (!portions || !*portions) return;
    vlci_portions *s = *portions;
    for (int i = 0; s->kept && i < s->lists; i++) vlci_free(s->kept[i]);
    release_prompt(&s->prompt);
    vlci_free(s->part);
    vlci_free(s->position);
    vlci_free(s->kept);
    vlci_free(s->rows);
    vlci_free(s->room);
    vlci_free(s->layer);
    vlci_free(s);
    *portions = NULL;
}

/* ---- a part as a prompt -------------------------------------------------------------------------------- */

static double budget_of(const vlci_portions *s, const vlci_portion *part) {
    double budget = s->budget / s->n + (double)part->text / part->n;
    return budget < 1 ? budget : 1;
}

static vlcache_status copy_rows(const vlci_portions *s, const vlci_portion *part, vlci_prompt *out) {
    const vlci_prompt *p = s->whole;
    out->ids = vlci_alloc((size_t)part->n, sizeof *out->ids);
    out->where = vlci_alloc((size_t)part->look.n_tokens, sizeof *out->where);
    out->after_at = vlci_alloc((size_t)part->n, sizeof *out->after_at);
    out->grids = vlci_alloc((size_t)p->n_grids, sizeof *out->grids);
    if (!out->ids || !out->where || !out->after_at || !out->grids)
        return vlci_fail_memory("part of a prompt");
    out->n = part->n;
    out->visual = part->look.n_tokens;
    for (int i = 0; i < part->n; i++) {
        int32_t id = p->ids[part->row + i];
        out->ids[i] = id < 0 ? id + part->look.token : id;
    }
    for (int i = 0; i < out->visual; i++) {
        out->where[i] = p->where[part->look.token + i];
        out->where[i].position -= part->row;
    }
    return VLCACHE_OK;
}

/* Text behind any picture: a part without visual tokens has them behind those of earlier parts. */
static void copy_after(const vlci_portions *s, const vlci_portion *part, vlci_prompt *out) {
    const vlci_prompt *p = s->whole;
    for (int i = 0; i < p->after; i++) {
        int at = p->after_at[i] - part->row;
        if (at >= 0 && at < part->n) out->after_at[out->after++] = at;
    }
    for (int i = 0; i < p->n_grids; i++) {
        vlci_token_grid g = p->grids[i];
        g.first -= part->row;
        if (g.first >= 0 && g.first < part->n) out->grids[out->n_grids++] = g;
    }
}

vlcache_status vlci_portions_begin(vlci_portions *s) {
    const vlci_portion *part = &s->part[s->at];
    release_prompt(&s->prompt);
    s->recipe.budget = budget_of(s, part);
    vlcache_status status = copy_rows(s, part, &s->prompt);
    if (!status) copy_after(s, part, &s->prompt);
    return status;
}

int32_t vlci_portions_behind(const vlci_portions *s) {
    const vlci_portion *part = &s->part[s->at];
    int32_t most = 0;
    for (int i = part->row; i < part->row + part->n; i++)
        for (int axis = 0; axis < 3; axis++)
            if (s->position[i][axis] >= most) most = s->position[i][axis] + 1;
    return most;
}

int64_t vlci_portions_rows_bound(const vlci_portions *s, int layers) {
    vlci_recipe recipe = s->recipe;
    int64_t rows = 0;
    for (int i = 0; i < s->n; i++) {
        recipe.budget = budget_of(s, &s->part[i]);
        rows += vlci_compress_rows_bound(&recipe, s->part[i].n, layers);
    }
    return rows;
}

/* ---- what was kept ------------------------------------------------------------------------------------- */

static vlcache_status note_list(vlci_portions *s, int list, const int *positions, int n) {
    int need = s->rows[list] + n, row = s->part[s->at].row;
    if (need > s->room[list]) {
        int32_t *grown = vlci_realloc(s->kept[list], 2 * (size_t)need, sizeof *grown);
        if (!grown) return vlci_fail_memory("kept positions");
        s->kept[list] = grown;
        s->room[list] = 2 * need;
    }
    for (int i = 0; i < n; i++) s->kept[list][s->rows[list]++] = row + positions[i];
    return VLCACHE_OK;
}

/* Sums, and shares weighted with the rows that they are of. */
static void add_layer(vlcache_compress_layer *to, const vlcache_compress_layer *from, double part) {
    to->sparsity += from->sparsity * part;
    to->budget += from->budget * part;
    to->kept += from->kept;
    to->recent += from->recent;
    to->sinks += from->sinks;
    to->centroids += from->centroids;
    to->coded += from->coded;
}

static void add_stats(vlcache_compress_stats *to, const vlcache_compress_stats *from, double part) {
    to->tokens += from->tokens;
    to->budget_kept += from->budget_kept * part;
    to->bytes_full += from->bytes_full;
    to->bytes_kept += from->bytes_kept;
}

static double part_of(const vlci_portions *s) {
    return (double)s->part[s->at].n / s->whole->n;
}

vlcache_status vlci_portions_note(vlci_portions *s, vlci_compress *plan) {
    int layers = plan->kernels->shape.layers, heads = plan->kernels->shape.kv_heads, n = 0;
    int *positions = vlci_alloc((size_t)s->part[s->at].n, sizeof *positions);
    vlcache_status status = positions ? VLCACHE_OK : vlci_fail_memory("kept positions");
    for (int i = 0; i < s->lists && !status; i++) {
        status = vlci_compress_positions(plan, i / heads, i % heads, positions, &n);
        if (!status) status = note_list(s, i, positions, n);
    }
    vlci_free(positions);
    if (status) return status;
    vlcache_compress_stats stats;
    vlci_compress_stats(plan, &stats);
    add_stats(&s->stats, &stats, part_of(s));
    for (int l = 0; l < layers; l++) add_layer(&s->layer[l], &plan->layer[l], part_of(s));
    return VLCACHE_OK;
}

void vlci_portions_stats(const vlci_portions *s, const vlci_compress *plan, vlcache_compress_stats *out) {
    vlci_compress_stats(plan, out);
    vlcache_compress_stats sum = s->stats;
    add_stats(&sum, out, part_of(s));
    out->tokens = sum.tokens;
    out->budget_asked = s->budget;
    out->budget_kept = sum.budget_kept;
    out->bytes_full = sum.bytes_full;
    out->bytes_kept = sum.bytes_kept;
}

vlcache_compress_layer vlci_portions_layer(const vlci_portions *s, const vlcache_compress_layer *last,
                                           int layer) {
    vlcache_compress_layer sum = s->layer[layer];
    add_layer(&sum, last, part_of(s));
    return sum;
}

void vlci_portions_positions(const vlci_portions *s, int list, int *out, int *n) {
    int before = s->rows[list], row = s->part[s->at].row;
    for (int i = *n - 1; i >= 0; i--) out[before + i] = row + out[i];
    for (int i = 0; i < before; i++) out[i] = s->kept[list][i];
    *n += before;
}
