/**
 * json.h - untrusted JSON files: reading them with limits, and taking fields out of them with checks whose
 * messages name the file and the field ("m/config.json: text_config.hidden_size: ...").
 *
 * jansson keeps its own (short-lived) memory: its allocator is a process-wide setting that belongs to the
 * host program, so it is left alone.
 */
#ifndef VLCI_CHECKPOINT_JSON_H
#define VLCI_CHECKPOINT_JSON_H

#include <jansson.h>

#include "core/status.h"

enum { VLCI_JSON_PATH = 96 };

/** An object of a file, and what its fields are called in messages. `object` NULL: it is not there. */
typedef struct vlci_scope {
    const char *file;
    char path[VLCI_JSON_PATH]; /**< "" or "text_config." */
    const json_t *object;
} vlci_scope;

/** "folder/name" in new memory. */
vlcache_status vlci_path_join(const char *folder, const char *name, char **path);

/** Whether something of that name is there (of any kind). */
bool vlci_path_exists(const char *path);

/**
 * The bytes of a regular file, followed by a zero that is not counted; new memory.
 * Errors: VLCACHE_E_IO (missing, unreadable, a directory), VLCACHE_E_FORMAT (larger than `limit`).
 */
vlcache_status vlci_file_read(const char *path, size_t limit, char **data, size_t *bytes);

/** Parses text that must be a JSON object without duplicate keys. VLCACHE_E_FORMAT names file, line, column.
 */
vlcache_status vlci_json_parse(const char *file, const char *text, size_t bytes, json_t **out);

/** vlci_file_read() and vlci_json_parse(). Release with json_decref(). */
vlcache_status vlci_json_load(const char *path, size_t limit, json_t **out);

/** The scope of a whole file. */
vlci_scope vlci_scope_of(const char *file, const json_t *object);

/** A field's value; NULL when it is absent or null. */
const json_t *vlci_json_value(const vlci_scope *scope, const char *key);

/** VLCACHE_E_FORMAT "file: path.key: text". */
vlcache_status vlci_json_bad(const vlci_scope *scope, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** VLCACHE_E_UNSUPPORTED "file: path.key: text". */
vlcache_status vlci_json_unsupported(const vlci_scope *scope, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/*
 * Takers: where the field is absent or null `*value` keeps what the caller put there, its default. Another
 * kind of value, or one out of [low, high], is VLCACHE_E_FORMAT.
 */
vlcache_status vlci_json_int(const vlci_scope *scope, const char *key, int low, int high, int *value);
vlcache_status vlci_json_float(const vlci_scope *scope, const char *key, double low, double high,
                               float *value);
vlcache_status vlci_json_bool(const vlci_scope *scope, const char *key, bool *value);
vlcache_status vlci_json_string(const vlci_scope *scope, const char *key, const char **value);
/** `child->object` is NULL when the field is absent or null. */
vlcache_status vlci_json_object(const vlci_scope *scope, const char *key, vlci_scope *child);
/** `*value` is NULL when the field is absent or null. */
vlcache_status vlci_json_array(const vlci_scope *scope, const char *key, const json_t **value);

#endif
