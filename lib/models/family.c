/*
 * family.c - what families share: room for a picture's layout, squares of tokens, positions that count up.
 */
#include "models/family.h"

#include "core/alloc.h"
#include "picture/prepare.h"

vlcache_status vlci_picture_layout_create(int n, int n_tokens, int n_grids, bool sources,
                                          vlci_picture_layout *out) {
    *out = (vlci_picture_layout){.n = n, .n_tokens = n_tokens, .n_grids = n_grids};
    out->entry = vlci_calloc((size_t)n, sizeof *out->entry);
    out->cell = vlci_calloc((size_t)n_tokens, sizeof *out->cell);
    out->grids = vlci_calloc((size_t)n_grids, sizeof *out->grids);
    if (sources) out->source = vlci_calloc((size_t)n_tokens, sizeof *out->source);
    if (out->entry && out->cell && out->grids && (out->source || !sources)) return VLCACHE_OK;
    vlci_picture_layout_release(out);
    return vlci_fail_memory("layout of a picture's tokens");
}

void vlci_picture_layout_release(vlci_picture_layout *layout) {
    if (!layout) return;
    vlci_free(layout->entry);
    vlci_free(layout->cell);
    vlci_free(layout->grids);
    vlci_free(layout->source);
    *layout = (vlci_picture_layout){0};
}

/* Sources of `from`, raised; those below 0 are no rows. */
static int32_t *join_sources(const vlci_picture_layout *from, int by, int32_t *to) {
    for (int i = 0; i < from->n_tokens; i++)
        *to++ = from->source[i] < 0 ? from->source[i] : from->source[i] + by;
    return to;
}

vlcache_status vlci_picture_layout_join(const vlci_picture_layout *const *parts, int n, int a_tile,
                                        vlci_picture_layout *out) {
    *out = (vlci_picture_layout){0};
    for (int i = 0; i < n; i++) {
        out->n_tokens += parts[i]->n_tokens;
        out->tiles += parts[i]->tiles;
    }
    if (!parts[0]->source) return VLCACHE_OK;
    int32_t *to = out->source = vlci_alloc((size_t)out->n_tokens, sizeof *out->source);
    if (!to) {
        *out = (vlci_picture_layout){0};
        return vlci_fail_memory("layout of pictures together");
    }
    for (int i = 0, tiles = 0; i < n; tiles += parts[i++]->tiles)
        to = join_sources(parts[i], tiles * a_tile, to);
    return VLCACHE_OK;
}

void vlci_picture_layout_square(vlci_picture_layout *layout, int grid, const vlci_layout_square *square,
                                const vlci_view *view, int width, int height) {
    int side = square->side, size = square->size;
    layout->grids[grid] = (vlci_layout_grid){square->entry, side, side, side};
    for (int i = 0; i < side * side; i++)
        vlci_view_cell(view, square->x + i % side * size, square->y + i / side * size, size, width, height,
                       layout->cell[square->token + i]);
}

void vlci_positions_count(const vlci_config *config, const vlci_placed_picture *pictures, size_t n_pictures,
                          int32_t start, int n, int32_t (*position)[3], int32_t *next) {
    (void)config, (void)pictures, (void)n_pictures;
    for (int i = 0; i < n; i++)
        for (int axis = 0; axis < 3; axis++) position[i][axis] = start + i;
    *next = start + n;
}
