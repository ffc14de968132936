/*
 * model.c - a model's folder described without its weights: for people, and as JSON.
 *
 *     outline -> what it is -> tokens of pictures -> bytes of conversations -> each device: fits or not
 */
#include "info/model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "info/page.h"

enum { MOST_SIDE = 65535, LENGTHS = 2, DEVICES = 64 };

/* A picture of a size that was asked for. */
typedef struct picture {
    int tokens;
    vlcache_outline_aside aside; /* what it takes beside the prompt */
    char error[1024];            /* why it is not taken, or not known; "" */
    bool unknown;                /* the folder lacks what lays it out (its problem) */
} picture;

/* All that is told of a folder. */
typedef struct outline {
    console *c;
    const model_question *q;
    vlcache_outline *at; /* NULL: it cannot be described */
    vlcache_outline_info info;
    picture picture[MODEL_SIZES];
    int tokens[LENGTHS], n_lengths;
    vlcache_outline_memory memory[LENGTHS];
    bool maps[DEVICES]; /* of each device: what can stay in its file does */
} outline;

/* ---- the question -------------------------------------------------------------------------------------- */

/* A side of a picture at `*text`, which is left behind it; 0: there is none. */
static int read_side(const char **text) {
    char *end;
    if (**text < '0' || **text > '9') return 0;
    long side = strtol(*text, &end, 10);
    *text = end;
    return side >= 1 && side <= MOST_SIDE ? (int)side : 0;
}

int model_read_sizes(const flag *f, const char *name, const char *text, void *options) {
    model_question *q = (model_question *)((char *)options + f->offset);
    const char *at = text;
    for (q->n_sizes = 0; q->n_sizes < MODEL_SIZES;) {
        int width = read_side(&at), height = width && *at == 'x' ? (at++, read_side(&at)) : 0;
        if (!height || (*at && *at != ',')) break;
        q->size[q->n_sizes].width = width;
        q->size[q->n_sizes++].height = height;
        if (!*at++) return EXIT_OK;
    }
    return flag_refuse(
        "%s \"%s\": must be up to %d sizes WxH in pixels, sides from 1 to %d, parted by commas", name, text,
        MODEL_SIZES, MOST_SIDE);
}

/* Tokens of each picture, or why it has none; a text model has no pictures. */
static vlcache_status take_pictures(outline *o) {
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; o->info.mark && i < o->q->n_sizes && status != VLCACHE_E_NO_MEMORY; i++) {
        picture *p = &o->picture[i];
        int width = o->q->size[i].width, height = o->q->size[i].height;
        status = vlcache_outline_picture(o->at, width, height, 1, &p->tokens);
        if (!status) status = vlcache_outline_aside_of(o->at, width, height, o->q->budget, &p->aside);
        if (status) snprintf(p->error, sizeof p->error, "%s", vlcache_error_message());
        p->unknown =
            status && status == o->info.problem && strncmp(p->error, o->info.why, sizeof p->error - 1) == 0;
    }
    return status == VLCACHE_E_NO_MEMORY ? status : VLCACHE_OK;
}

/* The lengths of conversations that are told: the one asked for, else a short and a long one. */
static vlcache_status take_lengths(outline *o) {
    static const int usual[LENGTHS] = {2048, 32768};
    int most = o->info.model.max_positions;
    vlcache_status status = VLCACHE_OK;
    for (int i = 0; i < LENGTHS; i++) {
        int tokens = o->q->tokens ? o->q->tokens : usual[i] < most ? usual[i] : most;
        if (!o->n_lengths || tokens > o->tokens[o->n_lengths - 1]) o->tokens[o->n_lengths++] = tokens;
    }
    for (int i = 0; i < o->n_lengths && !status; i++)
        status = vlcache_outline_memory_of(o->at, o->tokens[i], o->q->budget, &o->memory[i]);
    return status;
}

/* Whether products of a processor read these weights where they lie in their files. Devices are asked whose
 * products have been measured; else it is taken that none but a matrix unit is faster. */
static bool reads_files(const outline *o, const vlcache_device_info *info) {
    enum { ENGINES = 8 };
    vlcache_gemm_engine engine[ENGINES];
    vlcache_device *device = NULL;
    char index[16];
    size_t n = 0;
    bool wide = false, other = false;
    if (o->q->no_mmap || info->type != VLCACHE_DEVICE_CPU || !info->unified_memory) return false;
    snprintf(index, sizeof index, "%d", info->index);
    vlcache_status status = vlcache_device_open(index, NULL, &device);
    if (!status) status = vlcache_device_gemm(device, o->info.model.dtype, false, engine, ENGINES, &n);
    for (size_t i = 0; !status && i < n && i < ENGINES; i++) {
        bool is_wide = strcmp(engine[i].name, "wide") == 0, unit = strcmp(engine[i].name, "matrix") == 0;
        wide |= is_wide && engine[i].chosen;
        other |= !is_wide && (engine[i].chosen || (unit && !engine[i].absent && engine[i].gflops == 0));
    }
    if (status)
        console_say(o->c,
                    "vlcache-info: warning: what stays in its file is not known of device %d, taken to be "
                    "nothing: %s\n",
                    info->index, vlcache_error_message());
    vlcache_device_destroy(&device);
    return !status && (wide || !other);
}

static void take_devices(outline *o) {
    for (size_t i = 0; i < o->q->n_devices && i < DEVICES; i++)
        o->maps[i] = o->n_lengths && o->memory[0].mapped && reads_files(o, &o->q->device[i]);
}

/* What all of it takes: the whole cache, since a prompt may be held in full until it is read; and room for
 * what cannot be told beforehand (the driver, padding of matrices, the vision tower, attention's scratch). */
static uint64_t needed(const vlcache_outline_memory *m) {
    uint64_t all = m->weights + m->kv_full + m->work;
    return all + all / 32 + (64 << 20);
}

/* The largest single allocation on the i-th device. */
static uint64_t largest(const outline *o, size_t i, const vlcache_outline_memory *m) {
    return i < DEVICES && o->maps[i] ? m->largest_mapped : m->largest;
}

/* Bytes of the weights that stay in their files there. */
static uint64_t mapped(const outline *o, size_t i, const vlcache_outline_memory *m) {
    return i < DEVICES && o->maps[i] ? m->mapped : 0;
}

static bool fits(const outline *o, size_t i, const vlcache_outline_memory *m) {
    const vlcache_device_info *device = &o->q->device[i];
    return needed(m) <= device->global_memory && largest(o, i, m) <= device->max_allocation;
}

/* ---- for people ---------------------------------------------------------------------------------------- */

static void print_text_model(const outline *o) {
    const vlcache_model_info *m = &o->info.model;
    char tower[128] = "none: a text model, which sees no pictures", tiles[64] = "pictures keep their shape";
    page_field(o->c, "family", "%s%s%s", m->family, m->patch_side ? ", text model " : "",
               m->patch_side ? m->text_type : "");
    page_field(o->c, "text model", "%d layers, width %d, %d in its MLP", m->layers, m->hidden,
               m->intermediate);
    page_field(o->c, "attention", "%d heads of %d, %d of keys and values", m->heads, m->head_dim,
               m->kv_heads);
    if (m->cross_layers)
        page_field(o->c, "",
                   "%d layers of cross-attention hold pictures beside the prompt; not supported there: "
                   "storage coded and bits, policy streamingllm, probes",
                   m->cross_layers);
    if (m->windowed_layers)
        page_field(o->c, "windows", "%d of the layers see the last %d tokens only", m->windowed_layers,
                   m->window);
    if (m->attention_cap > 0 || m->logit_cap > 0)
        page_field(o->c, "soft caps", "%g of attention's logits, %g of tokens' (0: none)",
                   (double)m->attention_cap, (double)m->logit_cap);
    if (m->image_side) snprintf(tiles, sizeof tiles, "tiles of %d x %d pixels", m->image_side, m->image_side);
    if (m->patch_side)
        snprintf(tower, sizeof tower, "%d layers, width %d, %d heads; %s in patches of %d", m->tower_layers,
                 m->tower_hidden, m->tower_heads, tiles, m->patch_side);
    page_field(o->c, "vision tower", "%s", tower);
    page_field(o->c, "vocabulary", "%d tokens", m->vocabulary);
    page_field(o->c, "context", "%d tokens", m->max_positions);
}

static void print_words(const outline *o) {
    const vlcache_outline_info *info = &o->info;
    char ends[256] = "";
    for (size_t i = 0; i < info->n_eos && strlen(ends) < 200; i++)
        snprintf(ends + strlen(ends), sizeof ends - strlen(ends), "%s%d", i ? ", " : "", info->eos[i]);
    if (info->bos >= 0)
        page_field(o->c, "BOS; EOS", "%d; %s", info->bos, *ends ? ends : "none");
    else
        page_field(o->c, "BOS; EOS", "none; %s", *ends ? ends : "none");
    page_field(o->c, "chat template", "%s%s%s", info->chat_template ? info->chat_template : "not known",
               info->template_error ? ", which cannot be used: " : "",
               info->template_error ? info->template_error : "");
}

/* "2.30 GiB in bf16, 12.0 KiB in f32" */
static uint64_t stored_text(const outline *o, size_t room, char *text) {
    char size[32];
    uint64_t all = 0;
    *text = 0;
    for (int i = VLCACHE_DTYPE_BF16; i >= VLCACHE_DTYPE_AUTO; i--) {
        size_t used = strlen(text);
        all += o->info.stored[i];
        if (!o->info.stored[i]) continue;
        console_bytes(o->info.stored[i], size);
        snprintf(text + used, room - used, "%s%s in %s", used ? ", " : "", size,
                 i == VLCACHE_DTYPE_AUTO ? "other types" : vlcache_dtype_name((vlcache_dtype)i));
    }
    return all;
}

static void print_weights(const outline *o) {
    char stored[256], size[32];
    console_bytes(o->info.model.weight_bytes, size);
    if (stored_text(o, sizeof stored, stored))
        page_field(o->c, "weights", "%s as stored; %s on a device", stored, size);
    else
        page_field(o->c, "weights", "not there; %s on a device, as the settings have them", size);
    console_bytes(o->info.missing, size);
    if (o->info.missing) page_field(o->c, "", "too short: %s of them are missing, download them again", size);
}

/* "; 1601 rows in layers of cross-attention, 50.0 MiB, 5.0 MiB at a budget of 0.1" */
static const char *aside_text(const outline *o, const picture *p, char text[static 160]) {
    char full[32], kept[32];
    *text = 0;
    console_bytes(p->aside.kv_full, full);
    console_bytes(p->aside.kv_kept, kept);
    if (p->aside.rows)
        snprintf(text, 160, "; %d rows of keys and values beside the prompt, %s, %s at a budget of %g",
                 p->aside.rows, full, kept, o->q->budget);
    return text;
}

static void print_pictures(const outline *o) {
    if (!o->info.mark) return;
    console_print(o->c, "\n");
    for (int i = 0; i < o->q->n_sizes; i++) {
        const picture *p = &o->picture[i];
        char label[64], aside[160];
        snprintf(label, sizeof label, "picture %dx%d", o->q->size[i].width, o->q->size[i].height);
        if (*p->error)
            page_field(o->c, label, "not %s: %s", p->unknown ? "known" : "taken", p->error);
        else
            page_field(o->c, label, "%d token%s%s", p->tokens, p->tokens == 1 ? "" : "s",
                       aside_text(o, p, aside));
    }
}

static void print_memory(const outline *o) {
    console_print(o->c, "\n");
    for (int i = 0; i < o->n_lengths; i++) {
        char label[64], full[32], kept[32], work[32];
        const vlcache_outline_memory *m = &o->memory[i];
        snprintf(label, sizeof label, "%d token%s", o->tokens[i], o->tokens[i] == 1 ? "" : "s");
        console_bytes(m->kv_full, full);
        console_bytes(m->kv_kept, kept);
        console_bytes(m->work, work);
        page_field(o->c, label, "KV cache %s, %s at a budget of %g; %s while they are read%s", full, kept,
                   o->q->budget, work,
                   o->tokens[i] > o->info.model.max_positions ? " (more than its context)" : "");
    }
}

static void print_fit(const outline *o, size_t at) {
    const vlcache_device_info *device = &o->q->device[at];
    console_print(o->c, "\n%-*d%s\n", PAGE_INDENT, device->index, device->name);
    for (int i = 0; i < o->n_lengths; i++) {
        char label[64], need[32], has[32], rest[32], piece[32], most[32];
        uint64_t all = needed(&o->memory[i]), there = device->global_memory;
        snprintf(label, sizeof label, "%d token%s", o->tokens[i], o->tokens[i] == 1 ? "" : "s");
        console_bytes(all, need);
        console_bytes(there, has);
        console_bytes(all > there ? all - there : there - all, rest);
        console_bytes(largest(o, at, &o->memory[i]), piece);
        console_bytes(device->max_allocation, most);
        if (all > there)
            page_field(o->c, label, "does not fit: %s, of %s; %s too much", need, has, rest);
        else if (!fits(o, at, &o->memory[i]))
            page_field(o->c, label, "does not fit: %s in one piece, at most %s are allocated at once", piece,
                       most);
        else
            page_field(o->c, label, "fits: %s, of %s; %s left", need, has, rest);
    }
    char stays[32];
    uint64_t bytes = o->n_lengths ? mapped(o, at, &o->memory[0]) : 0;
    console_bytes(bytes, stays);
    if (bytes) page_field(o->c, "", "%s of the weights stay in their files (--no-mmap: none)", stays);
}

static void print_all(const outline *o) {
    console_print(o->c, "%s\n", o->q->folder);
    print_text_model(o);
    print_words(o);
    print_weights(o);
    print_pictures(o);
    print_memory(o);
    for (size_t i = 0; i < o->q->n_devices; i++) print_fit(o, i);
}

/* ---- for programs -------------------------------------------------------------------------------------- */

static json_t *number(uint64_t value) {
    return json_integer((json_int_t)value);
}

static json_t *stored_json(const outline *o) {
    json_t *all = json_object();
    for (int i = VLCACHE_DTYPE_AUTO; i <= VLCACHE_DTYPE_BF16; i++)
        if (o->info.stored[i])
            json_object_set_new(all, i ? vlcache_dtype_name((vlcache_dtype)i) : "other",
                                number(o->info.stored[i]));
    return all;
}

static json_t *tower_json(const vlcache_model_info *m) {
    if (!m->patch_side) return json_null();
    return json_pack("{s:i, s:i, s:i, s:i, s:i}", "layers", m->tower_layers, "heads", m->tower_heads,
                     "hidden", m->tower_hidden, "image_side", m->image_side, "patch_side", m->patch_side);
}

static json_t *model_json(const outline *o) {
    const vlcache_outline_info *info = &o->info;
    const vlcache_model_info *m = &info->model;
    json_t *eos = json_array();
    for (size_t i = 0; i < info->n_eos; i++) json_array_append_new(eos, json_integer(info->eos[i]));
    return json_pack(
        "{s:s, s:o, s:s, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:i, s:f, s:f, s:o, s:o, s:o, "
        "s:i, "
        "s:o, s:o, s:o, s:o}",
        "family", m->family, "text_type", page_text(m->text_type), "dtype", vlcache_dtype_name(m->dtype),
        "layers", m->layers, "cross_layers", m->cross_layers, "heads", m->heads, "kv_heads", m->kv_heads,
        "head_dim", m->head_dim, "hidden", m->hidden, "intermediate", m->intermediate, "vocabulary",
        m->vocabulary, "context", m->max_positions, "window", m->window, "windowed_layers",
        m->windowed_layers, "attention_cap", (double)m->attention_cap, "logit_cap", (double)m->logit_cap,
        "tower", tower_json(m), "chat_template", page_text(info->chat_template), "template_error",
        page_text(info->template_error), "bos", info->bos, "eos", eos, "stored", stored_json(o), "missing",
        number(info->missing), "weight_bytes", number(m->weight_bytes));
}

static json_t *pictures_json(const outline *o) {
    json_t *all = json_array();
    for (int i = 0; o->info.mark && i < o->q->n_sizes; i++) {
        const picture *p = &o->picture[i];
        json_t *one =
            json_pack("{s:i, s:i, s:o}", "width", o->q->size[i].width, "height", o->q->size[i].height,
                      "tokens", *p->error ? json_null() : json_integer(p->tokens));
        if (*p->error) json_object_set_new(one, p->unknown ? "unknown" : "error", page_text(p->error));
        if (p->aside.rows)
            json_object_set_new(one, "aside",
                                json_pack("{s:i, s:o, s:o}", "rows", p->aside.rows, "kv_full",
                                          number(p->aside.kv_full), "kv_kept", number(p->aside.kv_kept)));
        json_array_append_new(all, one);
    }
    return all;
}

static json_t *memory_json(const outline *o) {
    json_t *all = json_array();
    for (int i = 0; i < o->n_lengths; i++) {
        const vlcache_outline_memory *m = &o->memory[i];
        json_t *devices = json_array();
        for (size_t k = 0; k < o->q->n_devices; k++) {
            const vlcache_device_info *device = &o->q->device[k];
            json_int_t left = (json_int_t)device->global_memory - (json_int_t)needed(m);
            json_array_append_new(devices, json_pack("{s:i, s:o, s:b, s:I, s:o, s:o}", "index", device->index,
                                                     "name", page_text(device->name), "fits", fits(o, k, m),
                                                     "left", left, "largest", number(largest(o, k, m)),
                                                     "mapped", number(mapped(o, k, m))));
        }
        json_array_append_new(all, json_pack("{s:i, s:f, s:o, s:o, s:o, s:o, s:o}", "tokens", o->tokens[i],
                                             "budget", o->q->budget, "kv_full", number(m->kv_full), "kv_kept",
                                             number(m->kv_kept), "work", number(m->work), "largest",
                                             number(m->largest), "devices", devices));
    }
    return all;
}

static int print_json(const outline *o, vlcache_status status, const char *message) {
    json_t *object = json_pack("{s:s, s:o}", "version", vlcache_version(), "folder", page_text(o->q->folder));
    if (status)
        json_object_set_new(object, "error",
                            json_pack("{s:s, s:o}", "status", vlcache_status_name(status), "message",
                                      page_text(message)));
    if (o->at) {
        json_object_set_new(object, "model", model_json(o));
        json_object_set_new(object, "pictures", pictures_json(o));
        json_object_set_new(object, "memory", memory_json(o));
    }
    return page_json(o->c, object);
}

/* ---- the whole ----------------------------------------------------------------------------------------- */

static vlcache_status look(outline *o) {
    vlcache_model_options options = VLCACHE_MODEL_OPTIONS_INIT;
    options.dtype = o->q->dtype;
    options.min_pixels = o->q->min_pixels;
    options.max_pixels = o->q->max_pixels;
    options.no_mmap = o->q->no_mmap;
    vlcache_status status = vlcache_outline_open(o->q->folder, &options, &o->at);
    if (status) return status;
    vlcache_outline_describe(o->at, &o->info);
    status = take_pictures(o);
    if (!status) status = take_lengths(o);
    if (!status) take_devices(o);
    return status;
}

int model_describe(console *c, const model_question *q) {
    static outline o;
    char message[2200] = "";
    int code = EXIT_OK;
    o = (outline){.c = c, .q = q};
    vlcache_status failed = look(&o), status = failed ? failed : o.info.problem;
    if (status) snprintf(message, sizeof message, "%s", failed ? vlcache_error_message() : o.info.why);
    if (q->json && failed != VLCACHE_E_NO_MEMORY)
        code = print_json(&o, status, message);
    else if (!failed)
        print_all(&o);
    if (status && !code) code = console_fail(c, exit_code(status), "%s", message);
    vlcache_outline_destroy(&o.at);
    return code;
}
