/*
 * json.c - files in, checked fields out.
 */
#include "checkpoint/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"

vlcache_status vlci_path_join(const char *folder, const char *name, char **path) {
    size_t length = strlen(folder);
    const char *slash = length > 0 && folder[length - 1] == '/' ? "" : "/";
    *path = vlci_format("%s%s%s", folder, slash, name);
    return *path ? VLCACHE_OK : vlci_fail_memory("path of a file");
}

bool vlci_path_exists(const char *path) {
    struct stat info;
    return stat(path, &info) == 0;
}

static vlcache_status read_all(int file, const char *path, char *data, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = read(file, data + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return vlci_fail(VLCACHE_E_IO, "%s: cannot be read: %s", path, strerror(errno));
        if (got == 0) return vlci_fail(VLCACHE_E_IO, "%s: became shorter while it was read", path);
        done += (size_t)got;
    }
    data[bytes] = '\0';
    return VLCACHE_OK;
}

vlcache_status vlci_file_read(const char *path, size_t limit, char **data, size_t *bytes) {
    vlcache_status status = VLCACHE_OK;
    struct stat info;
    char *block = NULL;
    *data = NULL;
    *bytes = 0;
    int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not make us wait */
    if (file < 0 || fstat(file, &info) != 0) {
        status = vlci_fail(VLCACHE_E_IO, "%s: cannot be opened: %s", path, strerror(errno));
        goto done;
    }
    if (!S_ISREG(info.st_mode)) {
        status = vlci_fail(VLCACHE_E_IO, "%s: is not a regular file", path);
        goto done;
    }
    if ((uint64_t)info.st_size > limit) {
        status = vlci_fail(VLCACHE_E_FORMAT, "%s: is %llu bytes long, at most %zu are accepted", path,
                           (unsigned long long)info.st_size, limit);
        goto done;
    }
    block = vlci_alloc((size_t)info.st_size + 1, 1);
    if (!block) {
        status = vlci_fail_memory(path);
        goto done;
    }
    status = read_all(file, path, block, (size_t)info.st_size);
    if (status) goto done;
    *data = block;
    *bytes = (size_t)info.st_size;
    block = NULL;
done:
    vlci_free(block);
    if (file >= 0) close(file);
    return status;
}

vlcache_status vlci_json_parse(const char *file, const char *text, size_t bytes, json_t **out) {
    json_error_t error;
    *out = NULL;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        if (json_error_code(&error) == json_error_out_of_memory) return vlci_fail_memory(file);
        return vlci_fail(VLCACHE_E_FORMAT, "%s: line %d, column %d: %s", file, error.line, error.column,
                         error.text);
    }
    if (!json_is_object(root)) {
        json_decref(root);
        return vlci_fail(VLCACHE_E_FORMAT, "%s: must hold a JSON object", file);
    }
    *out = root;
    return VLCACHE_OK;
}

vlcache_status vlci_json_load(const char *path, size_t limit, json_t **out) {
    char *text = NULL;
    size_t bytes = 0;
    *out = NULL;
    vlcache_status status = vlci_file_read(path, limit, &text, &bytes);
    if (!status) status = vlci_json_parse(path, text, bytes, out);
    vlci_free(text);
    return status;
}

vlci_scope vlci_scope_of(const char *file, const json_t *object) {
    return (vlci_scope){.file = file, .path = "", .object = object};
}

const json_t *vlci_json_value(const vlci_scope *scope, const char *key) {
    const json_t *value = scope->object ? json_object_get(scope->object, key) : NULL;
    return json_is_null(value) ? NULL : value;
}

static vlcache_status refuse(vlcache_status status, const vlci_scope *scope, const char *key,
                             const char *format, va_list args) {
    char text[1024];
    vsnprintf(text, sizeof text, format, args);
    return vlci_fail(status, "%s: %s%s: %s", scope->file, scope->path, key, text);
}

vlcache_status vlci_json_bad(const vlci_scope *scope, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vlcache_status status = refuse(VLCACHE_E_FORMAT, scope, key, format, args);
    va_end(args);
    return status;
}

vlcache_status vlci_json_unsupported(const vlci_scope *scope, const char *key, const char *format, ...) {
    va_list args;
    va_start(args, format);
    vlcache_status status = refuse(VLCACHE_E_UNSUPPORTED, scope, key, format, args);
    va_end(args);
    return status;
}

vlcache_status vlci_json_int(const vlci_scope *scope, const char *key, int low, int high, int *value) {
    const json_t *found = vlci_json_value(scope, key);
    if (!found) return VLCACHE_OK;
    if (!json_is_integer(found)) return vlci_json_bad(scope, key, "must be an integer");
    json_int_t number = json_integer_value(found);
    if (number < low || number > high)
        return vlci_json_bad(scope, key, "is %" JSON_INTEGER_FORMAT ", must be from %d to %d", number, low,
                             high);
    *value = (int)number;
    return VLCACHE_OK;
}

vlcache_status vlci_json_float(const vlci_scope *scope, const char *key, double low, double high,
                               float *value) {
    const json_t *found = vlci_json_value(scope, key);
    if (!found) return VLCACHE_OK;
    if (!json_is_number(found)) return vlci_json_bad(scope, key, "must be a number");
    double number = json_number_value(found);
    if (!isfinite(number) || number < low || number > high)
        return vlci_json_bad(scope, key, "is %g, must be from %g to %g", number, low, high);
    *value = (float)number;
    return VLCACHE_OK;
}

vlcache_status vlci_json_bool(const vlci_scope *scope, const char *key, bool *value) {
    const json_t *found = vlci_json_value(scope, key);
    if (!found) return VLCACHE_OK;
    if (!json_is_boolean(found)) return vlci_json_bad(scope, key, "must be true or false");
    *value = json_is_true(found);
    return VLCACHE_OK;
}

vlcache_status vlci_json_string(const vlci_scope *scope, const char *key, const char **value) {
    const json_t *found = vlci_json_value(scope, key);
    if (!found) return VLCACHE_OK;
    if (!json_is_string(found)) return vlci_json_bad(scope, key, "must be a string");
    *value = json_string_value(found);
    return VLCACHE_OK;
}

vlcache_status vlci_json_object(const vlci_scope *scope, const char *key, vlci_scope *child) {
    const json_t *found = vlci_json_value(scope, key);
    *child = (vlci_scope){.file = scope->file, .path = "", .object = found};
    int length = snprintf(child->path, sizeof child->path, "%s%s.", scope->path, key);
    if (length < 0 || (size_t)length >= sizeof child->path)
        return vlci_json_bad(scope, key, "lies too deep in the file");
    if (!found || json_is_object(found)) return VLCACHE_OK;
    child->object = NULL;
    return vlci_json_bad(scope, key, "must be an object");
}

vlcache_status vlci_json_array(const vlci_scope *scope, const char *key, const json_t **value) {
    *value = vlci_json_value(scope, key);
    if (!*value || json_is_array(*value)) return VLCACHE_OK;
    *value = NULL;
    return vlci_json_bad(scope, key, "must be a list");
}
