/*
 * hub.c - opens the settings files of a Hugging Face folder, and takes the fields that every model of
 * transformers writes in the same words, old (4.x) or new (5.x).
 */
#include "checkpoint/hub.h"

#include <string.h>

#include "core/alloc.h"

enum { CONFIG, GENERATION, IMAGE, JOINT, VIDEO, FILE_LIMIT = 16 << 20, MAX_IDS = 1024 };
enum { VIDEO_FILE = IMAGE + 1 }; /* of those that are held */

static const char *const file_names[] = {"config.json", "generation_config.json", "preprocessor_config.json",
                                         "processor_config.json", "video_preprocessor_config.json"};

/* ---- the files ----------------------------------------------------------------------------------------- */

/* What the path is, when it is no folder with a config.json. */
static vlcache_status check_folder(const char *folder, const char *config) {
    static const char gguf[] = "GGUF files are not read: take the model's Hugging Face folder";
    char name[256];
    if (vlci_path_exists(config)) return VLCACHE_OK;
    if (vlci_folder_has(folder, ".gguf", name))
        return vlci_fail_file(VLCACHE_E_IO, folder, gguf, "has no config.json, but %.200s", name);
    if (vlci_folder_has(folder, ".pth", name))
        return vlci_fail_file(VLCACHE_E_IO, folder,
                              "this is the layout of the model's authors: take its Hugging Face folder, with "
                              "config.json and safetensors",
                              "has no config.json, but %.200s", name);
    if (!vlci_path_is_file(folder)) return VLCACHE_OK; /* reading config.json says why it cannot */
    const char *dot = strrchr(folder, '.');
    bool is_gguf = dot && strcmp(dot, ".gguf") == 0;
    return vlci_fail_file(VLCACHE_E_IO, folder, is_gguf ? gguf : "give the folder",
                          "is a file, not a model's folder");
}

vlcache_status vlci_hub_open(const char *folder, vlci_hub *hub) {
    vlcache_status status = VLCACHE_OK;
    *hub = (vlci_hub){0};
    if (!*folder) return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "folder", "", "must name one");
    for (int i = CONFIG; i <= VIDEO && !status; i++)
        status = vlci_path_join(folder, file_names[i], &hub->path[i]);
    if (!status) status = check_folder(folder, hub->path[CONFIG]);
    if (!status) status = vlci_json_load(hub->path[CONFIG], FILE_LIMIT, &hub->file[CONFIG]);
    if (!status && vlci_path_exists(hub->path[GENERATION]))
        status = vlci_json_load(hub->path[GENERATION], FILE_LIMIT, &hub->file[GENERATION]);
    hub->config = vlci_scope_of(hub->path[CONFIG], hub->file[CONFIG]);
    hub->generation = vlci_scope_of(hub->path[GENERATION], hub->file[GENERATION]);
    return status;
}

vlcache_status vlci_hub_open_alone(const char *config, vlci_hub *hub) {
    bool text = config[strspn(config, " \t\r\n")] == '{';
    *hub = (vlci_hub){.alone = true};
    hub->path[CONFIG] = vlci_strdup(text ? file_names[CONFIG] : config);
    if (!hub->path[CONFIG]) return vlci_fail_memory("path of a configuration");
    vlcache_status status =
        text ? vlci_json_parse(hub->path[CONFIG], config, strlen(config), &hub->file[CONFIG])
             : vlci_json_load(config, FILE_LIMIT, &hub->file[CONFIG]);
    hub->config = vlci_scope_of(hub->path[CONFIG], hub->file[CONFIG]);
    hub->generation = vlci_scope_of(hub->path[CONFIG], NULL);
    return status;
}

/* The processor of a configuration that stands alone: its own, or one to the tower's side. */
static vlcache_status image_alone(vlci_hub *hub, vlci_scope *image) {
    vlci_scope vision;
    int side = 0;
    vlcache_status status = vlci_json_object(&hub->config, "image_processor", image);
    if (status || image->object) return status;
    status = vlci_json_object(&hub->config, "vision_config", &vision);
    if (!status) status = vlci_hub_side(&vision, "image_size", VLCI_MAX_WIDTH, &side);
    if (status) return status;
    if (!side) return vlci_json_bad(&hub->config, "vision_config.image_size", "is missing");
    json_decref(hub->file[IMAGE]);
    hub->file[IMAGE] = json_pack("{s:{s:i},s:i}", "size", "shortest_edge", side, "crop_size", side);
    *image = vlci_scope_of(hub->path[CONFIG], hub->file[IMAGE]);
    return hub->file[IMAGE] ? VLCACHE_OK : vlci_fail_memory("settings of an image processor");
}

/* Puts a file in the place of the image processor's, or the video processor's. */
static vlcache_status load(vlci_hub *hub, int file, const char *path) {
    json_decref(hub->file[file]);
    return vlci_json_load(path, FILE_LIMIT, &hub->file[file]);
}

/* A processor that is nested in processor_config.json. */
static vlcache_status load_nested(vlci_hub *hub, int file, const char *key, vlci_scope *out) {
    if (!vlci_path_exists(hub->path[JOINT])) return VLCACHE_OK;
    vlcache_status status = load(hub, file, hub->path[JOINT]);
    vlci_scope whole = vlci_scope_of(hub->path[JOINT], hub->file[file]);
    return status ? status : vlci_json_object(&whole, key, out);
}

vlcache_status vlci_hub_image(vlci_hub *hub, vlci_scope *image) {
    *image = (vlci_scope){0};
    if (hub->alone) return image_alone(hub, image);
    vlcache_status status = load_nested(hub, IMAGE, "image_processor", image);
    if (status || image->object) return status;
    status = load(hub, IMAGE, hub->path[IMAGE]);
    *image = vlci_scope_of(hub->path[IMAGE], hub->file[IMAGE]);
    return status;
}

vlcache_status vlci_hub_video(vlci_hub *hub, vlci_scope *video) {
    *video = (vlci_scope){.file = hub->path[CONFIG]};
    if (hub->alone) return VLCACHE_OK;
    vlcache_status status = load_nested(hub, VIDEO_FILE, "video_processor", video);
    if (status || video->object) return status;
    if (!vlci_path_exists(hub->path[VIDEO])) return vlci_hub_image(hub, video);
    status = load(hub, VIDEO_FILE, hub->path[VIDEO]);
    *video = vlci_scope_of(hub->path[VIDEO], hub->file[VIDEO_FILE]);
    return status;
}

void vlci_hub_close(vlci_hub *hub) {
    for (int i = CONFIG; i <= VIDEO_FILE; i++) json_decref(hub->file[i]);
    for (int i = CONFIG; i <= VIDEO; i++) vlci_free(hub->path[i]);
    *hub = (vlci_hub){0};
}

/* ---- the fields ---------------------------------------------------------------------------------------- */

vlcache_status vlci_hub_activation(const vlci_scope *scope, const char *key, vlci_activation *value) {
    static const struct {
        const char *name;
        vlci_activation act;
    } names[] = {
        {"silu", VLCI_ACT_SILU},
        {"swish", VLCI_ACT_SILU},
        {"gelu", VLCI_ACT_GELU},
        {"gelu_python", VLCI_ACT_GELU},
        {"quick_gelu", VLCI_ACT_QUICK_GELU},
        {"gelu_new", VLCI_ACT_GELU_TANH},
        {"gelu_fast", VLCI_ACT_GELU_TANH},
        {"gelu_accurate", VLCI_ACT_GELU_TANH},
        {"gelu_pytorch_tanh", VLCI_ACT_GELU_TANH},
        {"gelu_python_tanh", VLCI_ACT_GELU_TANH},
    };
    const char *name = NULL;
    vlcache_status status = vlci_json_string(scope, key, &name);
    if (status || !name) return status;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (strcmp(name, names[i].name) == 0) {
            *value = names[i].act;
            return VLCACHE_OK;
        }
    return vlci_json_unsupported(scope, key,
                                 "activation \"%.64s\"; silu, gelu, gelu_pytorch_tanh and quick_gelu are "
                                 "supported",
                                 name);
}

/* A side that old files give as a number, new ones also as [side, side]. */
vlcache_status vlci_hub_side(const vlci_scope *scope, const char *key, int high, int *value) {
    const json_t *found = vlci_json_value(scope, key);
    if (!json_is_array(found)) return vlci_json_int(scope, key, 1, high, value);
    const json_t *first = json_array_get(found, 0);
    if (json_array_size(found) != 2 || !json_equal(first, json_array_get(found, 1)))
        return vlci_json_unsupported(scope, key, "only squares are supported");
    json_int_t number = json_integer_value(first);
    if (number < 1 || number > high) return vlci_json_bad(scope, key, "must be from 1 to %d", high);
    *value = (int)number;
    return VLCACHE_OK;
}

vlcache_status vlci_hub_heads(const vlci_scope *scope, int hidden, int heads) {
    if (hidden % heads == 0) return VLCACHE_OK;
    return vlci_json_bad(scope, "num_attention_heads", "is %d, which does not divide hidden_size %d", heads,
                         hidden);
}

vlcache_status vlci_hub_unquantised(const vlci_scope *scope) {
    if (!vlci_json_value(scope, "quantization_config")) return VLCACHE_OK;
    return vlci_json_unsupported(scope, "quantization_config", "quantised weights are not supported");
}

vlcache_status vlci_hub_ids(const vlci_scope *scope, const char *key, int vocab, int **out, int *count) {
    const json_t *value = vlci_json_value(scope, key);
    size_t n = json_is_array(value) ? json_array_size(value) : 1;
    *out = NULL;
    *count = 0;
    if (!value) return VLCACHE_OK;
    if (n == 0 || n > MAX_IDS) return vlci_json_bad(scope, key, "must hold from 1 to %d ids", MAX_IDS);
    int *ids = vlci_alloc(n, sizeof *ids);
    if (!ids) return vlci_fail_memory(key);
    for (size_t i = 0; i < n; i++) {
        const json_t *id = json_is_array(value) ? json_array_get(value, i) : value;
        if (!json_is_integer(id) || json_integer_value(id) < 0 || json_integer_value(id) >= vocab) {
            vlci_free(ids);
            return vlci_json_bad(scope, key, "must hold ids from 0 to %d", vocab - 1);
        }
        ids[i] = (int)json_integer_value(id);
    }
    *out = ids;
    *count = (int)n;
    return VLCACHE_OK;
}

vlcache_status vlci_hub_layers(const vlci_scope *scope, const char *key, int layers, int room, int *list,
                               int *n) {
    const json_t *value;
    vlcache_status status = vlci_json_array(scope, key, &value);
    if (status || !value) return status;
    if (json_array_size(value) > (size_t)room)
        return vlci_json_unsupported(scope, key, "names %zu layers; %d are supported", json_array_size(value),
                                     room);
    *n = (int)json_array_size(value);
    for (int i = 0; i < *n; i++) {
        const json_t *item = json_array_get(value, (size_t)i);
        json_int_t layer = json_integer_value(item), least = i ? list[i - 1] + 1 : 0;
        if (!json_is_integer(item) || layer < least || layer >= layers)
            return vlci_json_bad(scope, key, "must name layers from 0 to %d, ascending", layers - 1);
        list[i] = (int)layer;
    }
    return VLCACHE_OK;
}

vlcache_status vlci_hub_dtype(const vlci_scope *scope, vlcache_dtype *dtype) {
    const char *name = NULL;
    vlcache_status status = vlci_json_string(scope, "torch_dtype", &name);
    if (!status) status = vlci_json_string(scope, "dtype", &name);
    if (status || !name || strcmp(name, "auto") == 0) return status;
    if (strncmp(name, "torch.", 6) == 0) name += 6;
    if (strcmp(name, "float32") == 0)
        *dtype = VLCACHE_DTYPE_F32;
    else if (strcmp(name, "float16") == 0)
        *dtype = VLCACHE_DTYPE_F16;
    else if (strcmp(name, "bfloat16") == 0)
        *dtype = VLCACHE_DTYPE_BF16;
    else
        return vlci_json_unsupported(scope, "dtype", "\"%.64s\"; float32, float16 and bfloat16 are supported",
                                     name);
    return VLCACHE_OK;
}
