/**
 * json.h - untrusted JSON files: reading them with limits, and taking fields out of them with checks whose
 * messages name the file and the field ("m/config.json: text_config.hidden_size: ...").
 *
 * jansson keeps its own (short-lived) memory: its allocator is a process-wide setting that belongs to the
 * host program, so it is left alone. Where that fails, jansson 2.14 frees what it should, but may go on
 * without a byte of a string, or give no error code: both are taken for lack of memory here. It may also
 * blame the text.
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

/** Whether a regular file of that name is there. */
bool vlci_path_is_file(const char *path);

/** Whether the folder holds something whose name ends so, and its name. */
bool vlci_folder_has(const char *folder, const char *ending, char name[static 256]);

/** Whether these are the first bytes of what Git LFS leaves in place of a file that was not downloaded, and
 * the failure to return then. */
bool vlci_is_lfs_pointer(const void *data, size_t bytes);
vlcache_status vlci_fail_lfs_pointer(const char *path);

/**
 * The bytes of a regular file, followed by a zero that is not counted; new memory.
 * Errors: VLCACHE_E_IO (missing, unreadable, a directory), VLCACHE_E_FORMAT (larger than `limit`).
 */
vlcache_status vlci_file_read(const char *path, size_t limit, char **data, size_t *bytes);

/**
 * Parses text that must be a JSON object without duplicate keys. A byte order mark is stepped over. NaN,
 * Infinity, -Infinity and whole numbers of more than 18 digits, which Python writes, are read as strings, so
 * that a field that is used refuses them. Errors: VLCACHE_E_FORMAT naming file, line, column; also where
 * values are nested more than 128 deep, or would take more memory than 32 times the text (and 1 GiB): nothing
 * is built then.
 */
vlcache_status vlci_json_parse(const char *file, const char *text, size_t bytes, json_t **out);

/** vlci_file_read() and vlci_json_parse(). Release with json_decref(). */
vlcache_status vlci_json_load(const char *path, size_t limit, json_t **out);

/** The scope of a whole file. */
vlci_scope vlci_scope_of(const char *file, const json_t *object);

/** A field's value; NULL when it is absent or null. */
const json_t *vlci_json_value(const vlci_scope *scope, const char *key);

/** VLCACHE_E_FORMAT "file: path.key: text", the text being "is VALUE, HINT", "VALUE; HINT" or a hint alone:
 * vlcache_last_error() has file, field, value and hint. */
vlcache_status vlci_json_bad(const vlci_scope *scope, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

/** The same with VLCACHE_E_UNSUPPORTED. */
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
