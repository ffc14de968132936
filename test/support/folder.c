/*
 * folder.c - rewrites a tiny checkpoint.
 */
#include "support/folder.h"

#include <check.h>
#include <dirent.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/weight.h"
#include "support/picture.h"
#include "support/scratch.h"

static void copy_files(const char *source) {
    DIR *list = opendir(source);
    ck_assert_msg(list != NULL, "%s: cannot be listed", source);
    for (struct dirent *entry; (entry = readdir(list));) {
        char path[800];
        size_t bytes;
        if (!strstr(entry->d_name, ".json")) continue;
        snprintf(path, sizeof path, "%s/%s", source, entry->d_name);
        uint8_t *data = golden_read(path, &bytes);
        scratch_write(entry->d_name, data, bytes);
        free(data);
    }
    closedir(list);
}

static void take_tensor(test_folder *f, const char *name, const json_t *entry, const uint8_t *data) {
    ck_assert_int_lt(f->n, FOLDER_TENSORS);
    folder_tensor *t = &f->tensor[f->n++];
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t begin = (size_t)json_integer_value(json_array_get(offsets, 0)),
           end = (size_t)json_integer_value(json_array_get(offsets, 1));
    char *shape = json_dumps(json_object_get(entry, "shape"), 0);
    snprintf(t->name, sizeof t->name, "%s", name);
    snprintf(t->dtype, sizeof t->dtype, "%s", json_string_value(json_object_get(entry, "dtype")));
    snprintf(t->shape, sizeof t->shape, "%s", shape);
    free(shape);
    t->bytes = end - begin;
    t->data = malloc(t->bytes);
    memcpy(t->data, data + begin, t->bytes);
}

void folder_open(test_folder *f, const char *source) {
    char path[800];
    size_t bytes;
    uint64_t length;
    const char *name;
    json_t *entry;
    f->n = 0;
    copy_files(source);
    snprintf(path, sizeof path, "%s/model.safetensors", source);
    uint8_t *file = golden_read(path, &bytes);
    memcpy(&length, file, 8);
    json_t *header = json_loadb((const char *)file + 8, (size_t)length, 0, NULL);
    json_object_foreach(header, name, entry) if (strcmp(name, "__metadata__") != 0)
        take_tensor(f, name, entry, file + 8 + length);
    json_decref(header);
    free(file);
}

folder_tensor *folder_find(test_folder *f, const char *name) {
    for (int i = 0; i < f->n; i++)
        if (strcmp(f->tensor[i].name, name) == 0) return &f->tensor[i];
    ck_abort_msg("no tensor %s", name);
    return NULL;
}

folder_tensor *folder_copy(test_folder *f, const char *from, const char *name) {
    const folder_tensor *t = folder_find(f, from);
    ck_assert_int_lt(f->n, FOLDER_TENSORS);
    folder_tensor *copy = &f->tensor[f->n++];
    *copy = *t;
    snprintf(copy->name, sizeof copy->name, "%s", name);
    copy->data = malloc(t->bytes);
    memcpy(copy->data, t->data, t->bytes);
    return copy;
}

void folder_narrow(test_folder *f, const char *prefix, vlcache_dtype dtype) {
    for (int i = 0; i < f->n; i++) {
        folder_tensor *t = &f->tensor[i];
        if (strncmp(t->name, prefix, strlen(prefix)) != 0 || strcmp(t->dtype, "F32") != 0) continue;
        unsigned char *narrow = malloc(t->bytes / 2);
        vlci_narrow((const float *)(const void *)t->data, narrow, dtype, t->bytes / 4);
        free(t->data);
        t->data = narrow;
        t->bytes /= 2;
        strcpy(t->dtype, dtype == VLCACHE_DTYPE_F16 ? "F16" : "BF16");
    }
}

void folder_set(const char *field, const char *value) {
    char path[600];
    snprintf(path, sizeof path, "%s/config.json", scratch_folder());
    json_t *root = json_load_file(path, 0, NULL), *at = root;
    if (strncmp(field, "text_config.", 12) == 0) at = json_object_get(root, "text_config"), field += 12;
    json_object_set_new(at, field, json_loads(value, JSON_DECODE_ANY, NULL));
    char *text = json_dumps(root, 0);
    scratch_text("config.json", text);
    free(text);
    json_decref(root);
}

/* Every `step`-th tensor from `first` on; counts them into the index. */
static void write_file(const test_folder *f, const char *name, int first, int step, const char *hidden,
                       json_t *index) {
    json_t *header = json_object();
    size_t at = 0;
    for (int i = first; i < f->n; i += step) {
        const folder_tensor *t = &f->tensor[i];
        json_object_set_new(header, t->name,
                            json_pack("{s:s, s:o, s:[I,I]}", "dtype", t->dtype, "shape",
                                      json_loads(t->shape, 0, NULL), "data_offsets", (json_int_t)at,
                                      (json_int_t)(at + t->bytes)));
        if (!hidden || strcmp(hidden, t->name) != 0) json_object_set_new(index, t->name, json_string(name));
        at += t->bytes;
    }
    char *text = json_dumps(header, 0);
    uint64_t length = strlen(text);
    unsigned char *file = malloc(8 + length + at), *to = file + 8 + length;
    memcpy(file, &length, 8);
    memcpy(file + 8, text, length);
    for (int i = first; i < f->n; to += f->tensor[i].bytes, i += step)
        memcpy(to, f->tensor[i].data, f->tensor[i].bytes);
    scratch_write(name, file, (size_t)(to - file));
    free(file);
    free(text);
    json_decref(header);
}

void folder_write(const test_folder *f, bool shards, const char *hidden) {
    json_t *index = json_object();
    if (!shards) {
        write_file(f, "model.safetensors", 0, 1, hidden, index);
        json_decref(index);
        return;
    }
    write_file(f, "model-1.safetensors", 0, 2, hidden, index);
    write_file(f, "model-2.safetensors", 1, 2, hidden, index);
    json_t *root = json_pack("{s:o}", "weight_map", index);
    char *text = json_dumps(root, 0);
    scratch_text("model.safetensors.index.json", text);
    free(text);
    json_decref(root);
}

void folder_close(test_folder *f) {
    for (int i = 0; i < f->n; i++) free(f->tensor[i].data);
    f->n = 0;
}
