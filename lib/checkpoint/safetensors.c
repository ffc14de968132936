/*
 * safetensors.c - reads model.safetensors, or the shards that model.safetensors.index.json names, and checks
 * every claim of their headers before a tensor leaves this file.
 *
 * A file is: header length (8 bytes, little-endian), header (JSON: name -> dtype, shape, data_offsets), data.
 * The ranges of the tensors must tile the data exactly: no overlap, no hole, nothing left over.
 *
 * Files are read, unless somebody asks where a tensor lies in a mapping: one that is cut or replaced while it
 * is loaded is a failure that says so, one that is cut while it is mapped a SIGBUS.
 */
#include "checkpoint/safetensors.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/json.h"
#include "core/alloc.h"

static const char single_name[] = "model.safetensors", index_name[] = "model.safetensors.index.json",
                  reload[] = "load it again when it is whole";
enum { HEADER_LIMIT = 100000000, INDEX_LIMIT = 100000000 };

/* One open file; its tensors are sorted by name once it is read. */
typedef struct shard {
    char *path, *name; /* name: as the index says it */
    int handle;        /* -1: none */
    size_t bytes, data_at;
    struct timespec changed; /* when it was opened */
    bool outline;            /* data need not be there */
    size_t missing;          /* bytes of data behind its end */
    vlci_mapping *mapping;   /* NULL: not yet */
    struct tensor *tensors;
    size_t n_tensors;
} shard;

typedef struct tensor {
    vlci_weight_view view; /* data: NULL, or what was read and not dropped yet */
    char *name;
    char type[12]; /* as the header says it */
    size_t begin;  /* in the data section */
    bool used;     /* was taken, or is known to be left alone */
} tensor;

struct vlci_checkpoint {
    char *folder;
    shard *shards;
    size_t n_shards;
    tensor **tensors; /* all, sorted by name; they live in the shards */
    size_t n_tensors;
    uint64_t bytes;
    bool outline;             /* headers alone */
    const vlci_naming *names; /* NULL: none */
};

/* Bytes of one element; 0 for a dtype that is not known here: its size cannot be checked, nor will it be
 * read. */
static size_t type_bytes(const char *type, vlcache_dtype *dtype) {
    static const struct {
        const char *name;
        size_t bytes;
        vlcache_dtype dtype;
    } types[] = {
        {"F32", 4, VLCACHE_DTYPE_F32},      {"F16", 2, VLCACHE_DTYPE_F16},
        {"BF16", 2, VLCACHE_DTYPE_BF16},    {"F64", 8, VLCACHE_DTYPE_AUTO},
        {"I64", 8, VLCACHE_DTYPE_AUTO},     {"U64", 8, VLCACHE_DTYPE_AUTO},
        {"I32", 4, VLCACHE_DTYPE_AUTO},     {"U32", 4, VLCACHE_DTYPE_AUTO},
        {"I16", 2, VLCACHE_DTYPE_AUTO},     {"U16", 2, VLCACHE_DTYPE_AUTO},
        {"I8", 1, VLCACHE_DTYPE_AUTO},      {"U8", 1, VLCACHE_DTYPE_AUTO},
        {"BOOL", 1, VLCACHE_DTYPE_AUTO},    {"F8_E4M3", 1, VLCACHE_DTYPE_AUTO},
        {"F8_E5M2", 1, VLCACHE_DTYPE_AUTO}, {"C64", 8, VLCACHE_DTYPE_AUTO},
    };
    *dtype = VLCACHE_DTYPE_AUTO;
    for (size_t i = 0; i < sizeof types / sizeof *types; i++)
        if (strcmp(type, types[i].name) == 0) {
            *dtype = types[i].dtype;
            return types[i].bytes;
        }
    return 0;
}

static vlcache_status bad(const shard *file, const char *name, const char *what) {
    return vlci_fail_field(VLCACHE_E_FORMAT, file->path, name, NULL, what, "%s: tensor \"%.200s\": %s",
                           file->path, name, what);
}

/* An integer of the header that fits a size_t. */
static bool take_size(const json_t *value, size_t *size) {
    if (!json_is_integer(value) || json_integer_value(value) < 0) return false;
    *size = (size_t)json_integer_value(value);
    return true;
}

static vlcache_status read_shape(const shard *file, tensor *t, const json_t *shape, size_t *count) {
    if (!json_is_array(shape)) return bad(file, t->name, "shape: must be a list");
    if (json_array_size(shape) > VLCI_TENSOR_MAX_DIMS)
        return bad(file, t->name, "shape: has more than 8 dimensions");
    t->view.n_dims = (int)json_array_size(shape);
    *count = 1;
    for (int i = 0; i < t->view.n_dims; i++) {
        if (!take_size(json_array_get(shape, (size_t)i), &t->view.dim[i]))
            return bad(file, t->name, "shape: must hold integers of at least 0, of at most 18 digits");
        if (__builtin_mul_overflow(*count, t->view.dim[i], count))
            return bad(file, t->name, "shape: the number of elements overflows");
    }
    return VLCACHE_OK;
}

static vlcache_status read_tensor(const shard *file, const json_t *entry, tensor *t) {
    const char *type = json_string_value(json_object_get(entry, "dtype"));
    const json_t *offsets = json_object_get(entry, "data_offsets");
    size_t count = 0, end = 0, bytes, available = file->bytes - file->data_at;
    if (!json_is_object(entry)) return bad(file, t->name, "must be an object");
    if (!type) return bad(file, t->name, "dtype: must be a string");
    snprintf(t->type, sizeof t->type, "%s", type);
    vlcache_status status = read_shape(file, t, json_object_get(entry, "shape"), &count);
    if (status) return status;
    if (json_array_size(offsets) != 2 || !take_size(json_array_get(offsets, 0), &t->begin) ||
        !take_size(json_array_get(offsets, 1), &end))
        return bad(file, t->name, "data_offsets: must be two integers of at least 0, of at most 18 digits");
    if (t->begin > end) return bad(file, t->name, "data_offsets: begin lies after end");
    if (end > available && !file->outline)
        return bad(file, t->name, "data_offsets: end lies behind the end of the file (is it truncated?)");
    size_t element = type_bytes(type, &t->view.dtype);
    t->view.bytes = end - t->begin;
    if (element && (__builtin_mul_overflow(count, element, &bytes) || bytes != t->view.bytes))
        return bad(file, t->name, "data_offsets: the range is not shape times dtype");
    t->view.name = t->name;
    t->view.file = file->path;
    return VLCACHE_OK;
}

static int by_begin(const void *a, const void *b) {
    const tensor *x = a, *y = b;
    if (x->begin != y->begin) return x->begin < y->begin ? -1 : 1;
    return (x->view.bytes > y->view.bytes) - (x->view.bytes < y->view.bytes);
}

static int by_name(const void *a, const void *b) {
    return strcmp(((const tensor *)a)->name, ((const tensor *)b)->name);
}

/* The ranges must tile [0, available). */
static vlcache_status check_tiling(shard *file, size_t available) {
    size_t at = 0;
    if (file->n_tensors) qsort(file->tensors, file->n_tensors, sizeof *file->tensors, by_begin);
    for (size_t i = 0; i < file->n_tensors; i++) {
        const tensor *t = &file->tensors[i];
        if (t->begin < at) return bad(file, t->name, "data_offsets: overlaps another tensor");
        if (t->begin > at) return bad(file, t->name, "data_offsets: a hole lies in front of it");
        at = t->begin + t->view.bytes;
    }
    if (at > available) file->missing = at - available;
    if (at != available && !file->outline)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: %zu bytes at the end belong to no tensor", file->path,
                         available - at);
    if (file->n_tensors) qsort(file->tensors, file->n_tensors, sizeof *file->tensors, by_name);
    return VLCACHE_OK;
}

static vlcache_status read_tensors(shard *file, json_t *header) {
    const char *name;
    json_t *entry;
    file->tensors = vlci_calloc(json_object_size(header), sizeof *file->tensors);
    if (!file->tensors) return vlci_fail_memory("list of tensors");
    json_object_foreach(header, name, entry) {
        if (strcmp(name, "__metadata__") == 0) continue;
        tensor *t = &file->tensors[file->n_tensors++];
        t->name = vlci_strdup(name);
        if (!t->name) return vlci_fail_memory("name of a tensor");
        vlcache_status status = read_tensor(file, entry, t);
        if (status) return status;
    }
    return check_tiling(file, file->bytes - file->data_at);
}

/* Bytes [at, at + bytes) of the file. */
static vlcache_status read_at(const shard *file, size_t at, void *to, size_t bytes) {
    for (size_t done = 0; done < bytes;) {
        ssize_t got = pread(file->handle, (char *)to + done, bytes - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return vlci_fail_file(vlci_errno_status(errno), file->path, NULL, "cannot be read: %s",
                                  strerror(errno));
        if (got == 0)
            return vlci_fail_file(VLCACHE_E_IO, file->path, reload,
                                  "changed while it was loaded, became shorter");
        done += (size_t)got;
    }
    return VLCACHE_OK;
}

static vlcache_status read_header(shard *file) {
    unsigned char head[64] = {0};
    uint64_t length = 0;
    json_t *header = NULL;
    vlcache_status status = read_at(file, 0, head, file->bytes < sizeof head ? file->bytes : sizeof head);
    if (status) return status;
    if (vlci_is_lfs_pointer(head, sizeof head)) return vlci_fail_lfs_pointer(file->path);
    if (file->bytes < 8)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: is %zu bytes long, too short for a safetensors file",
                         file->path, file->bytes);
    for (int i = 0; i < 8; i++) length |= (uint64_t)head[i] << 8 * i;
    if (length > HEADER_LIMIT)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: header: claims %llu bytes, at most %d are accepted",
                         file->path, (unsigned long long)length, HEADER_LIMIT);
    if (length > file->bytes - 8)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: header: claims %llu bytes, the file has %zu (truncated?)",
                         file->path, (unsigned long long)length, file->bytes - 8);
    file->data_at = (size_t)length + 8;
    char *text = vlci_alloc((size_t)length, 1);
    if (!text) return vlci_fail_memory("safetensors header");
    status = read_at(file, 8, text, (size_t)length);
    if (!status) status = vlci_json_parse(file->path, text, (size_t)length, &header);
    vlci_free(text);
    if (status) return vlci_fail_context(status, "safetensors header");
    status = read_tensors(file, header);
    json_decref(header);
    return status;
}

static vlcache_status open_shard(const char *folder, const char *name, shard *file) {
    struct stat info;
    vlcache_status status = vlci_path_join(folder, name, &file->path);
    if (status) return status;
    file->name = vlci_strdup(name);
    if (!file->name) return vlci_fail_memory("name of a file");
    file->handle = open(file->path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (file->handle < 0 || fstat(file->handle, &info) != 0)
        return vlci_fail(vlci_errno_status(errno), "%s: cannot be opened: %s", file->path, strerror(errno));
    if (!S_ISREG(info.st_mode)) return vlci_fail(VLCACHE_E_IO, "%s: is not a regular file", file->path);
    file->bytes = (size_t)info.st_size;
    file->changed = info.st_mtim;
    return read_header(file);
}

static void release_data(tensor *t) {
    vlci_free((void *)t->view.data);
    t->view.data = NULL;
}

static void release_shard(shard *file) {
    for (size_t i = 0; i < file->n_tensors; i++) {
        release_data(&file->tensors[i]);
        vlci_free(file->tensors[i].name);
    }
    vlci_free(file->tensors);
    if (file->handle >= 0) close(file->handle);
    vlci_mapping_release(&file->mapping);
    vlci_free(file->path);
    vlci_free(file->name);
}

static tensor *find_in(const shard *file, const char *name) {
    tensor key = {.name = (char *)name};
    return file->n_tensors ? bsearch(&key, file->tensors, file->n_tensors, sizeof key, by_name) : NULL;
}

static vlcache_status add_shard(vlci_checkpoint *checkpoint, const char *name, shard **out) {
    shard *grown = vlci_realloc(checkpoint->shards, checkpoint->n_shards + 1, sizeof *grown);
    if (!grown) return vlci_fail_memory("list of weight files");
    checkpoint->shards = grown;
    *out = &grown[checkpoint->n_shards++];
    **out = (shard){.handle = -1, .outline = checkpoint->outline};
    vlcache_status status = open_shard(checkpoint->folder, name, *out);
    return vlci_fail_in(status, (*out)->path);
}

static shard *find_shard(const vlci_checkpoint *checkpoint, const char *name) {
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        if (strcmp(checkpoint->shards[i].name, name) == 0) return &checkpoint->shards[i];
    return NULL;
}

static vlcache_status open_single(vlci_checkpoint *checkpoint) {
    shard *file;
    vlcache_status status = add_shard(checkpoint, single_name, &file);
    if (status) return status;
    checkpoint->tensors = vlci_alloc(file->n_tensors, sizeof *checkpoint->tensors);
    if (!checkpoint->tensors) return vlci_fail_memory("table of tensors");
    for (size_t i = 0; i < file->n_tensors; i++)
        checkpoint->tensors[checkpoint->n_tensors++] = &file->tensors[i];
    return VLCACHE_OK;
}

/* The file an index entry names: a plain name in the same folder, nothing that could lead out of it. */
static vlcache_status shard_name(const vlci_scope *map, const char *tensor_name, const json_t *value,
                                 const char **name) {
    *name = json_string_value(value);
    if (!*name) return vlci_json_bad(map, tensor_name, "must name a file");
    if (!**name || strchr(*name, '/') || strchr(*name, '\\') || strstr(*name, ".."))
        return vlci_json_bad(map, tensor_name, "\"%.200s\" must be the name of a file in the same folder",
                             *name);
    return VLCACHE_OK;
}

static vlcache_status open_shards(vlci_checkpoint *checkpoint, const vlci_scope *map) {
    const char *key, *name;
    json_t *value;
    json_object_foreach((json_t *)map->object, key, value) {
        shard *file;
        vlcache_status status = shard_name(map, key, value, &name);
        if (!status && !find_shard(checkpoint, name)) status = add_shard(checkpoint, name, &file);
        if (status) return status;
    }
    return VLCACHE_OK;
}

static int by_name_indirect(const void *a, const void *b) {
    return strcmp((*(tensor *const *)a)->name, (*(tensor *const *)b)->name);
}

/* Only what the index names is used; each must be where it says. */
static vlcache_status open_index(vlci_checkpoint *checkpoint, const char *path) {
    json_t *root = NULL, *value;
    const char *key;
    vlci_scope map;
    vlcache_status status = vlci_json_load(path, INDEX_LIMIT, &root);
    if (status) return status;
    vlci_scope top = vlci_scope_of(path, root);
    status = vlci_json_object(&top, "weight_map", &map);
    if (!status && !map.object) status = vlci_json_bad(&top, "weight_map", "is missing");
    if (!status) status = open_shards(checkpoint, &map);
    if (status) goto done;
    checkpoint->tensors = vlci_alloc(json_object_size(map.object), sizeof *checkpoint->tensors);
    if (!checkpoint->tensors) status = vlci_fail_memory("table of tensors");
    if (status) goto done;
    json_object_foreach((json_t *)map.object, key, value) {
        const shard *file = find_shard(checkpoint, json_string_value(value));
        tensor *found = find_in(file, key);
        if (!found) {
            status = vlci_json_bad(&map, key, "%s has no such tensor", file->path);
            goto done;
        }
        checkpoint->tensors[checkpoint->n_tensors++] = found;
    }
    if (checkpoint->n_tensors)
        qsort(checkpoint->tensors, checkpoint->n_tensors, sizeof *checkpoint->tensors, by_name_indirect);
done:
    json_decref(root);
    return status;
}

/* Neither file is there: what is, and the way from it to one that is read. */
static vlcache_status fail_absent(const char *folder) {
    static const struct {
        const char *ending, *way;
    } kinds[] = {
        {".gguf", "GGUF files are not read: take the model's Hugging Face folder"},
        {".bin",
         "PyTorch's .bin files are not read, they may hold code: save the model as safetensors (in "
         "Python: LlavaForConditionalGeneration.from_pretrained(folder).save_pretrained(new_folder))"},
        {".pth",
         "PyTorch's .pth files are not read, they may hold code: take the Hugging Face folder, with "
         "safetensors"},
        {".safetensors",
         "without an index the parts do not say that they are all: download "
         "model.safetensors.index.json too"},
    };
    char name[256];
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++)
        if (vlci_folder_has(folder, kinds[i].ending, name))
            return vlci_fail_file(VLCACHE_E_IO, folder, kinds[i].way, "holds neither %s nor %s, but %.200s",
                                  single_name, index_name, name);
    return vlci_fail_file(VLCACHE_E_IO, folder, NULL, "holds neither %s nor %s", single_name, index_name);
}

static vlcache_status open_as(bool outline, const char *folder, vlci_checkpoint **out) {
    char *single = NULL, *index = NULL;
    *out = NULL;
    vlci_checkpoint *checkpoint = vlci_calloc(1, sizeof *checkpoint);
    if (!checkpoint) return vlci_fail_memory("checkpoint");
    vlcache_status status = VLCACHE_OK;
    checkpoint->outline = outline;
    checkpoint->folder = vlci_strdup(folder);
    if (!checkpoint->folder) status = vlci_fail_memory("path of a folder");
    if (!status) status = vlci_path_join(folder, single_name, &single);
    if (!status) status = vlci_path_join(folder, index_name, &index);
    if (status) goto done;
    if (vlci_path_exists(single))
        status = open_single(checkpoint);
    else if (vlci_path_exists(index))
        status = open_index(checkpoint, index);
    else
        status = fail_absent(folder);
    for (size_t i = 0; i < checkpoint->n_tensors; i++)
        checkpoint->bytes += checkpoint->tensors[i]->view.bytes;
done:
    vlci_free(single);
    vlci_free(index);
    if (status)
        vlci_checkpoint_close(&checkpoint);
    else
        *out = checkpoint;
    return status;
}

vlcache_status vlci_checkpoint_open(const char *folder, vlci_checkpoint **out) {
    return open_as(false, folder, out);
}

vlcache_status vlci_checkpoint_outline(const char *folder, vlci_checkpoint **out) {
    return open_as(true, folder, out);
}

void vlci_checkpoint_count(const vlci_checkpoint *checkpoint, uint64_t stored[4], uint64_t *missing) {
    *missing = 0;
    for (int i = 0; i < 4; i++) stored[i] = 0;
    for (size_t i = 0; i < checkpoint->n_tensors; i++)
        stored[checkpoint->tensors[i]->view.dtype] += checkpoint->tensors[i]->view.bytes;
    for (size_t i = 0; i < checkpoint->n_shards; i++) *missing += checkpoint->shards[i].missing;
}

void vlci_checkpoint_close(vlci_checkpoint **handle) {
    if (!handle || !*handle) return;
    vlci_checkpoint *checkpoint = *handle;
    for (size_t i = 0; i < checkpoint->n_shards; i++) release_shard(&checkpoint->shards[i]);
    vlci_free(checkpoint->shards);
    vlci_free(checkpoint->tensors);
    vlci_free(checkpoint->folder);
    vlci_free(checkpoint);
    *handle = NULL;
}

/* ---- tensors by name ----------------------------------------------------------------------------------- */

static tensor *find_exact(const vlci_checkpoint *checkpoint, const char *name) {
    tensor key = {.name = (char *)name}, *pointer = &key;
    if (!checkpoint->n_tensors) return NULL;
    tensor **found = bsearch(&pointer, checkpoint->tensors, checkpoint->n_tensors,
                             sizeof *checkpoint->tensors, by_name_indirect);
    return found ? *found : NULL;
}

void vlci_checkpoint_name(vlci_checkpoint *checkpoint, const vlci_naming *names) {
    checkpoint->names = names;
}

/* The next way to write a canonical name, after `*naming` and `*at` ({names, 0} at first): false when there
 * is none. */
static bool next_name(const char *name, const vlci_naming **naming, int *at, char out[static 512]) {
    for (; *naming && (*naming)->prefix[0]; (*naming)++, *at = 0) {
        size_t length = strlen((*naming)->prefix[0]);
        if (strncmp(name, (*naming)->prefix[0], length) != 0) continue;
        while ((*naming)->prefix[++*at]) {
            int wanted = snprintf(out, 512, "%s%s", (*naming)->prefix[*at], name + length);
            if (wanted > 0 && wanted < 512) return true;
        }
    }
    return false;
}

static tensor *find_any(const vlci_checkpoint *checkpoint, const char *name) {
    const vlci_naming *naming = checkpoint->names;
    char other[512];
    tensor *found = find_exact(checkpoint, name);
    for (int at = 0; !found && next_name(name, &naming, &at, other);) found = find_exact(checkpoint, other);
    return found;
}

bool vlci_checkpoint_find(const vlci_checkpoint *checkpoint, const char *name, vlci_weight_view *out) {
    const tensor *found = checkpoint ? find_any(checkpoint, name) : NULL;
    if (found) *out = found->view;
    return found != NULL;
}

/* The shard that a tensor lives in. */
static shard *shard_of(const vlci_checkpoint *checkpoint, const tensor *t) {
    shard *file = checkpoint->shards;
    while (file->path != t->view.file) file++;
    return file;
}

/* The file must be the one that was opened, not only at its end. */
static vlcache_status check_unchanged(const shard *file) {
    struct stat now;
    if (fstat(file->handle, &now))
        return vlci_fail_file(vlci_errno_status(errno), file->path, NULL, "cannot be read: %s",
                              strerror(errno));
    if ((uint64_t)now.st_size == file->bytes && now.st_mtim.tv_sec == file->changed.tv_sec &&
        now.st_mtim.tv_nsec == file->changed.tv_nsec)
        return VLCACHE_OK;
    return vlci_fail_file(VLCACHE_E_IO, file->path, reload, "changed while it was loaded");
}

static vlcache_status load_data(const vlci_checkpoint *checkpoint, tensor *t) {
    if (t->view.data) return VLCACHE_OK;
    void *data = vlci_alloc(t->view.bytes, 1);
    if (!data) return vlci_fail_memory(t->name);
    vlcache_status status =
        vlci_checkpoint_read(checkpoint, &(vlci_weight_view){.owner = t}, 0, data, t->view.bytes);
    t->view.data = data;
    if (status) release_data(t);
    return status;
}

static const char *shape_text(char text[static 256], int n, const size_t *dims) {
    size_t at = 0;
    text[0] = '\0';
    for (int i = 0; i < n && at < 230; i++)
        at += (size_t)snprintf(text + at, 256 - at, "%s%zu", i ? " x " : "", dims[i]);
    return n ? text : "scalar";
}

vlcache_status vlci_checkpoint_take(vlci_checkpoint *checkpoint, const char *name, int n_dims,
                                    const size_t *dims, vlci_weight_view *out) {
    char has[256], wants[256];
    memset(out, 0, sizeof *out);
    tensor *found = find_any(checkpoint, name);
    if (!found)
        return vlci_fail_field(VLCACHE_E_FORMAT, checkpoint->folder, name, NULL, "is missing",
                               "%s: tensor \"%s\" is missing", checkpoint->folder, name);
    const vlci_weight_view *view = &found->view;
    if (view->dtype == VLCACHE_DTYPE_AUTO)
        return vlci_fail_field(VLCACHE_E_UNSUPPORTED, view->file, view->name, found->type,
                               "F32, F16 and BF16 are supported",
                               "%s: tensor \"%s\": dtype %s; F32, F16 and BF16 are supported", view->file,
                               view->name, found->type);
    const char *is = shape_text(has, view->n_dims, view->dim), *asked = shape_text(wants, n_dims, dims);
    if (view->n_dims != n_dims || memcmp(view->dim, dims, (size_t)n_dims * sizeof *dims) != 0)
        return vlci_fail_field(VLCACHE_E_FORMAT, view->file, view->name, is,
                               VLCI_VALUE("the configuration asks for %s", asked),
                               "%s: tensor \"%s\": shape is %s, the configuration asks for %s", view->file,
                               view->name, is, asked);
    const shard *file = shard_of(checkpoint, found);
    vlcache_status status = checkpoint->outline ? VLCACHE_OK : check_unchanged(file);
    if (status) return status;
    if (!checkpoint->outline)
        posix_fadvise(file->handle, (off_t)(file->data_at + found->begin), (off_t)view->bytes,
                      POSIX_FADV_WILLNEED);
    found->used = true;
    *out = *view;
    out->owner = found;
    return VLCACHE_OK;
}

vlcache_status vlci_checkpoint_read(const vlci_checkpoint *checkpoint, const vlci_weight_view *view,
                                    size_t at, void *to, size_t bytes) {
    const tensor *t = view->owner;
    const shard *file = shard_of(checkpoint, t);
    vlcache_status status = read_at(file, file->data_at + t->begin + at, to, bytes);
    return status ? status : check_unchanged(file);
}

size_t vlci_checkpoint_place(const vlci_checkpoint *checkpoint, const vlci_weight_view *view) {
    const tensor *t = view->owner;
    return shard_of(checkpoint, t)->data_at + t->begin;
}

vlcache_status vlci_checkpoint_map(const vlci_checkpoint *checkpoint, const vlci_weight_view *view,
                                   vlci_mapping **mapping, size_t *at) {
    const tensor *t = view->owner;
    shard *file = shard_of(checkpoint, t);
    vlcache_status status = VLCACHE_OK;
    *mapping = NULL;
    *at = vlci_checkpoint_place(checkpoint, view);
    if (!file->mapping) status = vlci_mapping_open(file->handle, file->bytes, &file->mapping);
    if (status) return vlci_fail_context(status, "%s", file->path);
    status = check_unchanged(file);
    if (!status) *mapping = vlci_mapping_retain(file->mapping);
    return status;
}

vlcache_status vlci_checkpoint_get(vlci_checkpoint *checkpoint, const char *name, int n_dims,
                                   const size_t *dims, vlci_weight_view *out) {
    vlcache_status status = vlci_checkpoint_take(checkpoint, name, n_dims, dims, out);
    if (!status) status = load_data(checkpoint, out->owner);
    if (status) return status;
    out->data = ((tensor *)out->owner)->view.data;
    return VLCACHE_OK;
}

static void skip_exact(vlci_checkpoint *checkpoint, const char *prefix) {
    size_t length = strlen(prefix);
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        for (size_t k = 0; k < checkpoint->shards[i].n_tensors; k++) {
            tensor *t = &checkpoint->shards[i].tensors[k];
            t->used |= strncmp(t->name, prefix, length) == 0;
        }
}

void vlci_checkpoint_skip(vlci_checkpoint *checkpoint, const char *prefix) {
    if (!checkpoint) return;
    const vlci_naming *naming = checkpoint->names;
    char other[512];
    skip_exact(checkpoint, prefix);
    for (int at = 0; next_name(prefix, &naming, &at, other);) skip_exact(checkpoint, other);
}

size_t vlci_checkpoint_unused(const vlci_checkpoint *checkpoint, char *text, size_t bytes) {
    size_t n = 0, at = 0;
    if (bytes) text[0] = '\0';
    for (size_t i = 0; i < checkpoint->n_shards; i++)
        for (size_t k = 0; k < checkpoint->shards[i].n_tensors; k++) {
            const tensor *t = &checkpoint->shards[i].tensors[k];
            if (t->used) continue;
            if (n < VLCI_UNUSED_NAMED && at < bytes)
                at += (size_t)snprintf(text + at, bytes - at, "%s%.100s", n ? ", " : "", t->name);
            n++;
        }
    return n;
}

void vlci_checkpoint_drop(const vlci_weight_view *view) {
    if (view->owner) release_data(view->owner);
}

/* Whether two tensors of one shape hold the same bytes, a block at a time. */
static vlcache_status compare(const vlci_checkpoint *checkpoint, const tensor *a, const tensor *b,
                              bool *same) {
    enum { BLOCK = 1 << 20 };
    const shard *file_a = shard_of(checkpoint, a), *file_b = shard_of(checkpoint, b);
    char *blocks = vlci_alloc(2, BLOCK);
    vlcache_status status = blocks ? VLCACHE_OK : vlci_fail_memory("comparing weights");
    for (size_t at = 0; !status && *same && at < a->view.bytes; at += BLOCK) {
        size_t n = a->view.bytes - at < BLOCK ? a->view.bytes - at : BLOCK;
        status = read_at(file_a, file_a->data_at + a->begin + at, blocks, n);
        if (!status) status = read_at(file_b, file_b->data_at + b->begin + at, blocks + BLOCK, n);
        *same = !status && memcmp(blocks, blocks + BLOCK, n) == 0;
    }
    vlci_free(blocks);
    return status;
}

vlcache_status vlci_checkpoint_same(const vlci_checkpoint *checkpoint, const char *a, const char *b,
                                    bool *same) {
    const tensor *x = find_any(checkpoint, a), *y = find_any(checkpoint, b);
    *same = x && y && x->view.n_dims == y->view.n_dims && strcmp(x->type, y->type) == 0 &&
            memcmp(x->view.dim, y->view.dim, sizeof x->view.dim) == 0;
    return *same && !checkpoint->outline ? compare(checkpoint, x, y, same) : VLCACHE_OK;
}

uint64_t vlci_checkpoint_bytes(const vlci_checkpoint *checkpoint) {
    return checkpoint->bytes;
}
