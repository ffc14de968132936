/*
 * token_grid.c - where the visual tokens of a prompt lie as their patches do.
 *
 *     llava:       (class) | patches x patches                                    one grid
 *     llava_next:  (class) | patches x patches | rows x (columns + end of row)    two: the whole, the tiles
 */
#include "core/alloc.h"
#include "session/session.h"

static int add(vlci_token_grid *out, int first, int rows, int columns, int stride) {
    *out =
        (vlci_token_grid){.sequence = 0, .first = first, .rows = rows, .columns = columns, .stride = stride};
    return 1;
}

vlcache_status vlci_token_grids(const vlci_config *config, const vlci_prompt *prompt, vlci_token_grid **out,
                                int *n) {
    int side = config->vision.image_size / config->vision.patch_size;
    int class_token = config->vision.keep_class ? 1 : 0, row = 0;
    *n = 0;
    *out = vlci_alloc(2 * prompt->n_images + 1, sizeof **out);
    if (!*out) return vlci_fail_memory("grids of visual tokens");
    for (size_t i = 0; i < prompt->n_images; i++) {
        const vlci_image_plan *plan = &prompt->plan[i];
        int whole = prompt->where[row].position + class_token, tiles = whole + side * side;
        *n += add(*out + *n, whole, side, side, side);
        if (plan->n_tokens > class_token + side * side)
            *n += add(*out + *n, tiles, plan->grid_rows, plan->grid_columns, plan->grid_columns + 1);
        row += plan->n_tokens;
    }
    return VLCACHE_OK;
}
