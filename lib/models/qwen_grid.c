/*
 * qwen_grid.c - walks a grid of patches in the tower's order: steps, windows, blocks, patches.
 */
#include "models/qwen_grid.h"

#include "core/alloc.h"

static int smaller(int a, int b) {
    return a < b ? a : b;
}

/* The patches of a block, whose top left one is at (row, column). */
static void walk_block(const vlci_qwen_grid *g, int step, int row, int column, vlci_qwen_order *to) {
    int at = to->n / (g->merge * g->merge);
    int down = row / g->merge, across = column / g->merge;
    int per_step = (g->rows / g->merge) * (g->columns / g->merge);
    to->block[step * per_step + down * (g->columns / g->merge) + across] = at;
    for (int y = 0; y < g->merge; y++) {
        for (int x = 0; x < g->merge; x++) {
            int32_t *place = to->place[to->n++];
            place[0] = step;
            place[1] = row + y;
            place[2] = column + x;
        }
    }
}

/* Blocks in reading order, of patches from (row, column) on, at most `side` patches a side. */
static void walk_window(const vlci_qwen_grid *g, int step, int row, int column, int side,
                        vlci_qwen_order *to) {
    int first = to->n, bottom = smaller(row + side, g->rows), right = smaller(column + side, g->columns);
    for (int y = row; y < bottom; y += g->merge)
        for (int x = column; x < right; x += g->merge) walk_block(g, step, y, x, to);
    if (to->n - first > to->longest) to->longest = to->n - first;
    if (to->window) to->window[++to->windows] = to->n;
}

static void walk_step(const vlci_qwen_grid *g, int step, vlci_qwen_order *to) {
    int all = g->rows > g->columns ? g->rows : g->columns, side = g->window ? g->window * g->merge : all;
    for (int y = 0; y < g->rows; y += side)
        for (int x = 0; x < g->columns; x += side) walk_window(g, step, y, x, side, to);
    to->step[step + 1] = to->n;
}

static int windows_of(int patches, const vlci_qwen_grid *g) {
    int side = g->window * g->merge;
    return (patches + side - 1) / side;
}

vlcache_status vlci_qwen_order_create(const vlci_qwen_grid *g, vlci_qwen_order *out) {
    size_t n = (size_t)g->steps * (size_t)g->rows * (size_t)g->columns;
    size_t tokens = n / (size_t)(g->merge * g->merge);
    size_t windows = g->window ? (size_t)(g->steps * windows_of(g->rows, g) * windows_of(g->columns, g)) : 0;
    *out = (vlci_qwen_order){.tokens = (int)tokens, .steps = g->steps};
    out->place = vlci_alloc(n, sizeof *out->place);
    out->block = vlci_alloc(tokens, sizeof *out->block);
    out->step = vlci_calloc((size_t)g->steps + 1, sizeof *out->step);
    if (windows) out->window = vlci_calloc(windows + 1, sizeof *out->window);
    if (!out->place || !out->block || !out->step || (windows && !out->window)) {
        vlci_qwen_order_release(out);
        return vlci_fail_memory("order of a picture's patches");
    }
    for (int step = 0; step < g->steps; step++) walk_step(g, step, out);
    return VLCACHE_OK;
}

void vlci_qwen_order_release(vlci_qwen_order *order) {
    vlci_free(order->place);
    vlci_free(order->block);
    vlci_free(order->step);
    vlci_free(order->window);
    *order = (vlci_qwen_order){0};
}
