/*
 * idefics3.c - the family of Idefics3, and of SmolVLM's pictures: tiles that are told apart by words.
 *
 *     tiles:  the picture's longest edge to `size`, both sides up to multiples of the tile, cut row by row;
 *             then all of it squeezed into one more tile. One alone where that is as large as the picture
 *     layout: <fake_token_around_image><row_1_col_1> tokens ... a newline behind each row of tiles, then
 *             (newline)<fake_token_around_image><global-img> tokens <fake_token_around_image>
 *
 * SigLIP's tower with its last norm -> squares of scale_factor^2 patches -> one matrix. Positions are those
 * of a whole tile: transformers looks them up by fractions of its side in floats, which for some sides (25,
 * 29, 31 patches; not the 26, 27 and 32 of released checkpoints) miss their place by one, on some machines.
 */
#include "models/idefics3.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"
#include "models/entries.h"
#include "picture/format.h"

/* Of the first resize, whatever the settings say; and of its tiles. */
enum { LARGEST_EDGE = 4096, MOST_TILES = 64 };

const vlci_naming vlci_idefics3_names[] = {
    {{"language_model.model.", "model.text_model."}},
    {{"language_model.lm_head.", "lm_head."}},
    {{"vision_tower.vision_model.", "model.vision_model."}},
    {{"multi_modal_projector.", "model.connector.modality_projection."}},
    {{NULL}},
};

/* ---- settings ------------------------------------------------------------------------------------------ */

vlcache_status vlci_idefics3_read_edge(const vlci_scope *scope, const char *key, int high, int *edge) {
    vlci_scope size;
    vlcache_status status = vlci_json_object(scope, key, &size);
    if (status || !size.object) return status;
    if (!vlci_json_value(&size, "longest_edge"))
        return vlci_json_unsupported(scope, key, "only longest_edge is supported");
    return vlci_json_int(&size, "longest_edge", 1, high, edge);
}

static vlcache_status read_processor(const vlci_scope *scope, vlci_idefics3 *eyes) {
    const char *type = "Idefics3ImageProcessor";
    vlcache_status status = vlci_processor_type(scope, &type);
    if (!status && !vlci_processor_is(type, "Idefics3ImageProcessor") &&
        !vlci_processor_is(type, "SmolVLMImageProcessor"))
        status = vlci_json_unsupported(scope, "image_processor_type",
                                       "\"%.64s\"; this model type takes Idefics3ImageProcessor or "
                                       "SmolVLMImageProcessor",
                                       type);
    if (!status) status = vlci_processor_read_values(scope, &eyes->all.processor);
    if (!status) status = vlci_idefics3_read_edge(scope, "size", 1 << 20, &eyes->edge);
    if (!status) status = vlci_idefics3_read_edge(scope, "max_image_size", LARGEST_EDGE, &eyes->tile);
    if (!status) status = vlci_json_bool(scope, "do_image_splitting", &eyes->split);
    if (!status && eyes->split && !eyes->all.processor.resize)
        status = vlci_json_unsupported(scope, "do_resize", "false with do_image_splitting");
    int edge = eyes->edge < LARGEST_EDGE ? eyes->edge : LARGEST_EDGE;
    if (!status && eyes->split && edge > MOST_TILES * eyes->tile)
        status =
            vlci_json_unsupported(scope, "max_image_size",
                                  "longest_edge is %d, size has %d; at most %d tiles a side are supported",
                                  eyes->tile, edge, MOST_TILES);
    if (!status && eyes->tile != eyes->all.vision.image_size)
        status = vlci_json_unsupported(scope, "max_image_size",
                                       "longest_edge is %d, config.json's vision_config.image_size is %d; "
                                       "tiles of that side are supported",
                                       eyes->tile, eyes->all.vision.image_size);
    return status;
}

static vlcache_status read_vision(const vlci_scope *root, vlci_idefics3 *eyes) {
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "vision_config", &scope);
    eyes->all.vision = vlci_vit_idefics.defaults;
    if (!status) status = vlci_vit_config_read(&scope, &vlci_vit_idefics, &eyes->all.vision);
    if (!status) status = vlci_json_int(root, "scale_factor", 1, 64, &eyes->scale);
    int side = status ? 0 : vlci_vit_side(&eyes->all.vision);
    if (!status && side % eyes->scale)
        status = vlci_json_bad(root, "scale_factor", "is %d, which does not divide the %d patches of a side",
                               eyes->scale, side);
    return status;
}

vlcache_status vlci_idefics3_settings(vlci_hub *hub, vlci_config *config) {
    static const vlci_processor values = {VLCI_PROCESSOR_HALVES, .resample = 1};
    vlci_scope image;
    vlcache_status status = vlci_eyes_create(sizeof(vlci_idefics3), config);
    if (status) return status;
    vlci_idefics3 *eyes = config->eyes;
    *eyes = (vlci_idefics3){.all.processor = values, .scale = 2, .edge = 4 * 364, .tile = 364, .split = true};
    status = read_vision(&hub->config, eyes);
    if (!status)
        status = vlci_text_config_read_nested(&hub->config, "llama", &config->text, &config->text_model_type);
    if (!status) status = vlci_config_read_image_token(&hub->config, 128257, config);
    if (!status) status = vlci_hub_image(hub, &image);
    return status ? status : read_processor(&image, eyes);
}

/* ---- weights ------------------------------------------------------------------------------------------- */

vlcache_status vlci_idefics3_load(vlci_upload *up, vlci_config *config) {
    vlci_idefics3 *eyes = config->eyes;
    const vlci_projector_config projector = {.prefix = "multi_modal_projector.",
                                             .first = "proj",
                                             .from = eyes->all.vision.hidden * eyes->scale * eyes->scale,
                                             .to = config->text.hidden};
    return vlci_eyes_load(up, &projector, &eyes->all);
}

/* ---- geometry ------------------------------------------------------------------------------------------ */

/* Sizes after each resize; rows and columns are 0 where a single tile is all there is. */
typedef struct geometry {
    int first_width, first_height; /* the longest edge as asked for */
    int width, height;             /* multiples of the tile */
    int rows, columns;
} geometry;

/* One side from the other by the ratio, cut to a whole number; at least 1. */
static int by_ratio(double length) {
    return length < 1 ? 1 : (int)length;
}

void vlci_idefics3_scale(int edge, int *width, int *height) {
    double ratio = (double)*width / *height;
    bool wide = *width >= *height;
    int other = (int)(wide ? edge / ratio : edge * ratio);
    other += other % 2;
    other = other < 1 ? 1 : other;
    *width = wide ? edge : other;
    *height = wide ? other : edge;
}

/* And down to LARGEST_EDGE where it is longer. */
static void limit_longest(int *width, int *height) {
    double ratio = (double)*width / *height;
    if (*width >= *height && *width > LARGEST_EDGE) {
        *width = LARGEST_EDGE;
        *height = by_ratio(*width / ratio);
    } else if (*height > *width && *height > LARGEST_EDGE) {
        *height = LARGEST_EDGE;
        *width = by_ratio(*height * ratio);
    }
}

static int round_up(int length, int tile) {
    return (length + tile - 1) / tile * tile;
}

/* The longer side up to a multiple of the tile, the other by the ratio and then up. */
static void fit_tiles(int tile, geometry *g) {
    double ratio = (double)g->first_width / g->first_height;
    if (g->first_width >= g->first_height) {
        g->width = round_up(g->first_width, tile);
        g->height = round_up(by_ratio(g->width / ratio), tile);
    } else {
        g->height = round_up(g->first_height, tile);
        g->width = round_up(by_ratio(g->height * ratio), tile);
    }
}

static vlcache_status geometry_make(const vlci_idefics3 *eyes, int width, int height, geometry *g) {
    *g = (geometry){.first_width = width, .first_height = height, .width = eyes->tile, .height = eyes->tile};
    vlcache_status status = vlci_view_sides(width, height);
    if (status) return status;
    if (eyes->all.processor.resize) {
        vlci_idefics3_scale(eyes->edge, &g->first_width, &g->first_height);
        limit_longest(&g->first_width, &g->first_height);
    }
    if (!eyes->split) return VLCACHE_OK;
    fit_tiles(eyes->tile, g);
    if (g->width == eyes->tile && g->height == eyes->tile) return VLCACHE_OK;
    g->rows = g->height / eyes->tile;
    g->columns = g->width / eyes->tile;
    return VLCACHE_OK;
}

/* ---- layout -------------------------------------------------------------------------------------------- */

/* Entries of the tiles' visual tokens, as they are written. */
typedef struct writing {
    vlci_entries entries;
    int side;   /* visual tokens a side of a tile */
    int *first; /* [tiles]: entry of each one's first token, owned */
    int tiles;  /* so far */
} writing;

static vlcache_status write_tile(writing *w, const char *name) {
    vlcache_status status = vlci_entries_text(&w->entries, "<fake_token_around_image>");
    if (!status) status = vlci_entries_text(&w->entries, name);
    return status ? status : vlci_entries_tokens(&w->entries, w->side * w->side, &w->first[w->tiles++]);
}

static vlcache_status write_grid(writing *w, const geometry *g) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < g->rows * g->columns && !status; i++) {
        char *name = vlci_format("<row_%d_col_%d>", i / g->columns + 1, i % g->columns + 1);
        status = name ? write_tile(w, name) : vlci_fail_memory("name of a tile");
        vlci_free(name);
        bool last = i + 1 == g->rows * g->columns; /* the newline in front of the whole picture joins it */
        if (!status && (i + 1) % g->columns == 0)
            status = vlci_entries_text(&w->entries, last ? "\n\n" : "\n");
    }
    return status;
}

/* Grids and cells: the tiles', then those of the whole picture. */
static void show_tiles(const vlci_idefics3 *eyes, const writing *w, const geometry *g, int width, int height,
                       vlci_picture_layout *out) {
    int tile = eyes->tile, n = g->rows * g->columns;
    vlci_view grid = vlci_view_squeeze(width, height, g->width, g->height),
              whole = vlci_view_squeeze(width, height, tile, tile);
    vlci_layout_square square = {.side = w->side, .size = eyes->all.vision.patch_size * eyes->scale};
    for (int i = 0; i <= n; i++) {
        square.entry = w->first[i];
        square.token = i * w->side * w->side;
        square.x = i < n ? i % g->columns * tile : 0;
        square.y = i < n ? i / g->columns * tile : 0;
        vlci_picture_layout_square(out, i, &square, i < n ? &grid : &whole, width, height);
    }
    out->tiles = n + 1;
}

vlcache_status vlci_idefics3_layout(const vlci_config *config, int width, int height,
                                    vlci_picture_layout *out) {
    const vlci_idefics3 *eyes = config->eyes;
    geometry g;
    *out = (vlci_picture_layout){0};
    vlcache_status status = geometry_make(eyes, width, height, &g);
    if (status) return status;
    writing w = {.entries = {.tokenizer = config->tokenizer, .mark = config->family->mark},
                 .side = vlci_vit_side(&eyes->all.vision) / eyes->scale};
    w.first = vlci_alloc((size_t)g.rows * (size_t)g.columns + 1, sizeof *w.first);
    if (!w.first) return vlci_fail_memory("layout of a picture's tokens");
    status = write_grid(&w, &g);
    if (!status) status = write_tile(&w, "<global-img>");
    if (!status) status = vlci_entries_text(&w.entries, "<fake_token_around_image>");
    if (!status) status = vlci_entries_end(&w.entries, w.tiles, false, out);
    if (!status) show_tiles(eyes, &w, &g, width, height, out);
    vlci_entries_release(&w.entries);
    vlci_free(w.first);
    return status;
}

/* ---- pictures ------------------------------------------------------------------------------------------ */

/* The picture after all resizes but the last: as large as its tiles together. */
static vlcache_status resize(const vlci_idefics3 *eyes, const vlcache_image *image, const geometry *g,
                             vlci_rgb *out) {
    int width, height, how = eyes->all.processor.resample;
    vlci_rgb first = {0};
    const uint8_t *from = vlcache_image_pixels(image);
    vlcache_status status = VLCACHE_OK;
    vlcache_image_size(image, &width, &height);
    if (eyes->all.processor.resize) {
        status = vlci_rgb_squeeze(from, width, height, how, g->first_width, g->first_height, &first);
        from = first.data;
    }
    if (!status)
        status = vlci_rgb_squeeze(from, g->first_width, g->first_height, how, g->width, g->height, out);
    vlci_rgb_release(&first);
    return status;
}

vlcache_status vlci_idefics3_prepare(const vlci_config *config, const vlcache_image *image,
                                     vlci_pixels *out) {
    const vlci_idefics3 *eyes = config->eyes;
    int width, height, tile = eyes->tile;
    vlci_rgb all = {0}, whole = {0};
    geometry g;
    *out = (vlci_pixels){0};
    vlcache_image_size(image, &width, &height);
    vlcache_status status = geometry_make(eyes, width, height, &g);
    if (!status) status = resize(eyes, image, &g, &all);
    if (!status) status = vlci_pixels_create(g.rows * g.columns + 1, tile, tile, out);
    if (!status) vlci_pixels_cut(&eyes->all.processor, &all, 0, out);
    if (!status && g.rows)
        status =
            vlci_rgb_squeeze(all.data, g.width, g.height, eyes->all.processor.resample, tile, tile, &whole);
    if (!status && g.rows) vlci_pixels_cut(&eyes->all.processor, &whole, g.rows * g.columns, out);
    vlci_rgb_release(&whole);
    vlci_rgb_release(&all);
    if (status) vlci_pixels_release(out);
    return status;
}

vlcache_status vlci_idefics3_look(const vlci_config *config, const vlci_pixels *pixels,
                                  const vlci_picture_layout *layout_of, cl_mem *tokens) {
    const vlci_idefics3 *eyes = config->eyes;
    return vlci_eyes_look(config, pixels, eyes->scale, layout_of, tokens);
}

const vlci_family vlci_family_idefics3 = {
    .name = "idefics3",
    .settings = vlci_idefics3_settings,
    VLCI_IDEFICS3,
};
