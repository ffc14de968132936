/**
 * folder.h - a model folder of the test data, copied into the scratch folder with tensors and settings
 * changed.
 */
#ifndef TEST_SUPPORT_FOLDER_H
#define TEST_SUPPORT_FOLDER_H

#include "vlcache/common.h"

enum { FOLDER_TENSORS = 160 };

/** One tensor of model.safetensors. */
typedef struct folder_tensor {
    char name[128], dtype[8], shape[64]; /**< shape: JSON, "[2, 3]" */
    unsigned char *data;                 /**< owned */
    size_t bytes;
} folder_tensor;

typedef struct test_folder {
    folder_tensor tensor[FOLDER_TENSORS];
    int n;
} test_folder;

/** Copies the files of `source` but its weights into the scratch folder, and reads model.safetensors. */
void folder_open(test_folder *f, const char *source);

/** A tensor by name; fails the test when there is none. */
folder_tensor *folder_find(test_folder *f, const char *name);

/** Adds a copy of a tensor under another name. */
folder_tensor *folder_copy(test_folder *f, const char *from, const char *name);

/** Stores every f32 tensor whose name begins with `prefix` as f16 or bf16. */
void folder_narrow(test_folder *f, const char *prefix, vlcache_dtype dtype);

/** Sets a field of config.json to a JSON text; "text_config.x" for a nested one. */
void folder_set(const char *field, const char *value);

/** Writes the tensors: one model.safetensors, or with `shards` two files and an index that leaves the tensor
 * `hidden` out (NULL: none). */
void folder_write(const test_folder *f, bool shards, const char *hidden);

void folder_close(test_folder *f);

#endif
