/*
 * llava_next.c - the family of LLaVA-1.6 ("anyres"): the picture whole, then in tiles.
 *
 *     tiles:  the whole picture squeezed to side x side; then the picture fitted into the best pinpoint,
 *             centred on black, cut into side x side tiles, row by row
 *     layout: (class) | patches x patches | rows x (columns + newline)
 *
 * The second grid is that of all tiles (transformers' pack_image_features) without the rows and columns that
 * only show padding; a learned newline follows each row.
 */
#include "models/llava_next.h"

#include "models/anyres.h"

/* ---- settings ------------------------------------------------------------------------------------------ */

static vlcache_status settings(vlci_hub *hub, vlci_config *config) {
    vlci_scope image;
    vlcache_status status = vlci_llava_settings(&hub->config, &vlci_llava_usual_clip, config);
    vlci_llava *eyes = config->eyes;
    if (!status) status = vlci_hub_image(hub, &image);
    if (!status)
        status = vlci_processor_expect(&image, "LlavaNextImageProcessor"); /* whose do_pad is about batches */
    if (!status) status = vlci_processor_read(&image, &eyes->processor);
    if (!status) status = vlci_llava_check_side(&image, eyes);
    return status ? status : vlci_anyres_read(&image, &hub->config, false, eyes);
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* Tokens n and following, as grid 1 where any show the picture. */
static void lay_grid(const vlci_llava *eyes, const vlci_anyres *g, int n, int width, int height,
                     vlci_picture_layout *out) {
    int p = g->patches, patch = eyes->vision.patch_size, class_rows = eyes->keep_class ? 1 : 0;
    if (out->n_grids > 1) out->grids[1] = (vlci_layout_grid){n, g->rows, g->columns, g->columns + 1};
    for (int r = g->top; r < g->top + g->rows; r++) {
        for (int c = g->left; c < g->left + g->columns; c++, n++) {
            out->source[n] = vlci_anyres_source(g, class_rows, r, c);
            vlci_view_cell(&g->grid, c / p * g->side + c % p * patch, r / p * g->side + r % p * patch, patch,
                           width, height, out->cell[n]);
        }
        out->source[n++] = -1;
    }
}

static vlcache_status layout(const vlci_config *config, int width, int height, vlci_picture_layout *out) {
    const vlci_llava *eyes = config->eyes;
    vlci_anyres g;
    *out = (vlci_picture_layout){0};
    vlcache_status status = vlci_anyres_make(eyes, width, height, &g);
    if (status) return status;
    int64_t tokens = (int64_t)g.patches * g.patches + eyes->keep_class + (int64_t)g.rows * (g.columns + 1);
    if (tokens * g.tiles > INT32_MAX)
        return vlci_fail(VLCACHE_E_UNSUPPORTED,
                         "config.json: image_grid_pinpoints makes %lld tokens of a picture",
                         (long long)tokens);
    int grids = g.rows && g.columns ? 2 : 1;
    status = vlci_picture_layout_create((int)tokens, (int)tokens, grids, true, out);
    if (status) return status;
    out->tiles = g.tiles;
    int n = vlci_llava_lay_tile(eyes, &g.whole, width, height, out);
    lay_grid(eyes, &g, n, width, height, out);
    return VLCACHE_OK;
}

const vlci_family vlci_family_llava_next = {
    .name = "llava_next",
    .mark = "<image>",
    .names = vlci_llava_names,
    .settings = settings,
    .load = vlci_llava_load_newline,
    .release = vlci_llava_release,
    .describe = vlci_llava_describe,
    .layout = layout,
    .prepare = vlci_anyres_prepare,
    .look = vlci_llava_look,
    .together = vlci_llava_together,
    .positions = vlci_positions_count,
};
