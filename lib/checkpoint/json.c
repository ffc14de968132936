/*
 * json.c - files in, checked fields out.
 *
 * Text is surveyed before it is parsed: nothing is built of a file whose values would take far more memory
 * than its bytes, and what Python writes beyond JSON (a byte order mark, NaN, Infinity) does not cost the
 * file.
 */
#include "checkpoint/json.h"

#include <dirent.h>
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

bool vlci_path_is_file(const char *path) {
    struct stat info;
    return stat(path, &info) == 0 && S_ISREG(info.st_mode);
}

bool vlci_folder_has(const char *folder, const char *ending, char name[static 256]) {
    size_t length = strlen(ending);
    bool found = false;
    DIR *list = opendir(folder);
    for (struct dirent *entry; list && !found && (entry = readdir(list));) {
        size_t n = strlen(entry->d_name);
        found = n >= length && strcmp(entry->d_name + n - length, ending) == 0;
        if (found) snprintf(name, 256, "%s", entry->d_name);
    }
    if (list) closedir(list);
    return found;
}

bool vlci_is_lfs_pointer(const void *data, size_t bytes) {
    static const char head[] = "version https://git-lfs.github.com/spec/";
    return bytes >= sizeof head - 1 && memcmp(data, head, sizeof head - 1) == 0;
}

vlcache_status vlci_fail_lfs_pointer(const char *path) {
    return vlci_fail_file(VLCACHE_E_FORMAT, path,
                          "run \"git lfs install\" and \"git lfs pull\" in its folder, or download the file "
                          "again",
                          "is a Git LFS pointer, not the file itself");
}

static vlcache_status read_all(int file, const char *path, char *data, size_t bytes) {
    size_t done = 0;
    while (done < bytes) {
        ssize_t got = read(file, data + done, bytes - done);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return vlci_fail(vlci_errno_status(errno), "%s: cannot be read: %s", path, strerror(errno));
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
        status = vlci_fail(vlci_errno_status(errno), "%s: cannot be opened: %s", path, strerror(errno));
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
    return vlci_fail_in(status, path);
}

/* ---- the survey ---------------------------------------------------------------------------------------- */

/* What jansson takes for a value, with the allocator's own share; and how much of that a file may ask for. */
enum { ARRAY_BYTES = 128, OBJECT_BYTES = 224, KEY_BYTES = 96, STRING_BYTES = 80, NUMBER_BYTES = 32 };
enum { SLOT_BYTES = 16, MAX_DEPTH = 128, MAX_GROWTH = 32, FREE_BYTES = 1 << 20, MAX_BYTES = 1 << 30 };

typedef struct survey {
    uint64_t cost; /* bytes of memory */
    int depth, deepest;
    bool beyond; /* NaN, Infinity or a whole number beyond 64 bits stand in it */
} survey;

/* The end of the string that begins behind text[at - 1], or of the text. */
static size_t string_end(const char *text, size_t bytes, size_t at) {
    while (at < bytes && text[at] != '"') at += text[at] == '\\' ? 2 : 1;
    return at < bytes ? at + 1 : bytes;
}

/* Length of the word NaN or Infinity at text[at]; 0: neither. */
static size_t beyond_json(const char *text, size_t bytes, size_t at) {
    if (bytes - at >= 3 && memcmp(text + at, "NaN", 3) == 0) return 3;
    return bytes - at >= 8 && memcmp(text + at, "Infinity", 8) == 0 ? 8 : 0;
}

/* Length of the whole number at text[at] where it may need more than 64 bits; 0: it does not. Transformers
 * writes 1e30 in full where a tokenizer has no longest text. */
static size_t beyond_int(const char *text, size_t bytes, size_t at) {
    enum { SAFE_DIGITS = 18 };
    size_t end = at;
    while (end < bytes && text[end] >= '0' && text[end] <= '9') end++;
    if (end - at <= SAFE_DIGITS || (end < bytes && strchr(".eE", text[end]) && text[end])) return 0;
    return end - at;
}

/* Everything that a parser would build, counted; text that is no JSON is left to the parser to say so. */
static survey take_survey(const char *text, size_t bytes) {
    survey s = {0};
    for (size_t at = 0; at < bytes;) {
        char c = text[at++];
        size_t begin = at;
        if (c == '"') {
            at = string_end(text, bytes, at);
            s.cost += STRING_BYTES + (at - begin);
        } else if (c == '[' || c == '{') {
            s.cost += c == '[' ? ARRAY_BYTES : OBJECT_BYTES;
            if (++s.depth > s.deepest) s.deepest = s.depth;
        } else if (c == ']' || c == '}') {
            s.depth--;
        } else if (c == ',') {
            s.cost += SLOT_BYTES;
        } else if (c == ':') {
            s.cost += KEY_BYTES - STRING_BYTES; /* the string before it was a key */
        } else if (c == '-' || (c >= '0' && c <= '9')) {
            s.beyond |= beyond_int(text, bytes, c == '-' ? at : at - 1) > 0;
            while (at < bytes && strchr("0123456789+-.eE", text[at]) && text[at]) at++;
            s.cost += NUMBER_BYTES;
        } else if (c == 'N' || c == 'I') {
            s.beyond |= beyond_json(text, bytes, at - 1) > 0;
        }
    }
    return s;
}

static vlcache_status check_survey(const char *file, const survey *s, size_t bytes) {
    uint64_t most = (uint64_t)bytes * MAX_GROWTH + FREE_BYTES;
    if (most > MAX_BYTES) most = MAX_BYTES;
    if (s->deepest > MAX_DEPTH)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: JSON nested %d deep, at most %d are accepted", file,
                         s->deepest, MAX_DEPTH);
    if (s->cost <= most) return VLCACHE_OK;
    return vlci_fail(VLCACHE_E_FORMAT,
                     "%s: %zu bytes of JSON would take about %llu MiB of memory, at most %llu are given: a "
                     "hostile file",
                     file, bytes, (unsigned long long)(s->cost >> 20), (unsigned long long)(most >> 20));
}

/* What takes the place of `length` bytes at copy + at, a word or a number, and of a minus before it: a string
 * that is as long. */
static void tame(char *copy, size_t at, size_t length) {
    bool minus = at > 0 && copy[at - 1] == '-', number = copy[at] != 'N' && copy[at] != 'I';
    if (minus) copy[at - 1] = ' ';
    if (number)
        copy[at] = copy[at + length - 1] = '"';
    else
        memcpy(copy + at, length == 3 ? "\"?\"" : minus ? "\"-inf\"  " : "\"inf\"   ", length);
}

/* A copy in which NaN, Infinity, -Infinity and whole numbers beyond 64 bits are strings: of the same length,
 * and not to be taken for a number by any field that is used. */
static char *tamed(const char *text, size_t bytes) {
    char *copy = vlci_alloc(bytes + 1, 1);
    if (!copy) return NULL;
    memcpy(copy, text, bytes);
    for (size_t at = 0; at < bytes;) {
        char c = text[at];
        size_t length = 0;
        if (c == '"') {
            at = string_end(text, bytes, at + 1);
        } else if ((length = beyond_json(text, bytes, at)) || (length = beyond_int(text, bytes, at))) {
            tame(copy, at, length);
            at += length;
        } else if (c >= '0' && c <= '9') {
            while (at < bytes && strchr("0123456789+-.eE", text[at]) && text[at]) at++;
        } else {
            at++;
        }
    }
    return copy;
}

/* ---- parsing ------------------------------------------------------------------------------------------- */

/* Bytes that the escape at text[at], a backslash, stands for; steps over it. */
static size_t unescaped(const char *text, size_t bytes, size_t *at) {
    unsigned code = 0, low = 0;
    int read = 0;
    if (*at + 1 >= bytes || text[*at + 1] != 'u' || *at + 6 > bytes) return *at += 2, 1;
    if (sscanf(text + *at, "\\u%4x%n", &code, &read) != 1 || read != 6) return *at += 2, 1;
    *at += 6;
    if (code >= 0xd800 && code < 0xdc00 && *at + 6 <= bytes && sscanf(text + *at, "\\u%4x", &low) == 1 &&
        low >= 0xdc00 && low < 0xe000)
        return *at += 6, 4;
    return code < 0x80 ? 1 : code < 0x800 ? 2 : 3;
}

/* Bytes of all strings of a text that is JSON. */
static uint64_t bytes_said(const char *text, size_t bytes) {
    uint64_t sum = 0;
    for (size_t at = 0; at < bytes; at++) {
        if (text[at] != '"') continue;
        for (at++; at < bytes && text[at] != '"';) {
            if (text[at] == '\\')
                sum += unescaped(text, bytes, &at);
            else
                at++, sum++;
        }
    }
    return sum;
}

/* Bytes of all strings that were built of it. */
static uint64_t bytes_built(const json_t *value) {
    const char *key;
    json_t *member;
    uint64_t sum = json_is_string(value) ? json_string_length(value) : 0;
    for (size_t i = 0; i < json_array_size(value); i++) sum += bytes_built(json_array_get(value, i));
    json_object_foreach((json_t *)value, key, member) sum += strlen(key) + bytes_built(member);
    return sum;
}

/* jansson 2.14 drops a byte of a string where its buffer cannot grow, and goes on. */
static bool is_complete(const json_t *root, const char *text, size_t bytes) {
    return bytes_built(root) == bytes_said(text, bytes);
}

vlcache_status vlci_json_parse(const char *file, const char *text, size_t bytes, json_t **out) {
    json_error_t error = {.text = ""};
    char *copy = NULL;
    *out = NULL;
    if (vlci_is_lfs_pointer(text, bytes)) return vlci_fail_lfs_pointer(file);
    if (bytes >= 3 && memcmp(text, "\xef\xbb\xbf", 3) == 0) text += 3, bytes -= 3;
    survey s = take_survey(text, bytes);
    vlcache_status status = check_survey(file, &s, bytes);
    if (status) return status;
    if (s.beyond && !(copy = tamed(text, bytes))) return vlci_fail_memory(file);
    if (copy) text = copy;
    json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &error);
    bool short_of_memory = root ? !is_complete(root, text, bytes)
                                : !error.text[0] || json_error_code(&error) == json_error_out_of_memory;
    vlci_free(copy);
    if (short_of_memory) {
        json_decref(root);
        return vlci_fail_memory(file);
    }
    if (!root)
        return vlci_fail(VLCACHE_E_FORMAT, "%s: line %d, column %d: %s", file, error.line, error.column,
                         error.text);
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
    return vlci_fail_in(status, path);
}

vlci_scope vlci_scope_of(const char *file, const json_t *object) {
    return (vlci_scope){.file = file, .path = "", .object = object};
}

const json_t *vlci_json_value(const vlci_scope *scope, const char *key) {
    const json_t *value = scope->object ? json_object_get(scope->object, key) : NULL;
    return json_is_null(value) ? NULL : value;
}

/* The value as text, where it is a number, a word or a truth: what a message may end with. */
static const char *value_text(const json_t *value, char text[VLCI_VALUE_BYTES]) {
    if (json_is_string(value)) return vlci_value(text, "%s", json_string_value(value));
    if (json_is_integer(value)) return vlci_value(text, "%" JSON_INTEGER_FORMAT, json_integer_value(value));
    if (json_is_real(value)) return vlci_value(text, "%.10g", json_real_value(value));
    if (json_is_boolean(value)) return json_is_true(value) ? "true" : "false";
    return NULL;
}

/* "is VALUE, HINT", "VALUE; HINT", or a hint alone. */
static const char *hint_in(const char *text) {
    const char *parted = strstr(text, strncmp(text, "is ", 3) == 0 ? ", " : "; ");
    return parted ? parted + 2 : text;
}

static vlcache_status refuse(vlcache_status status, const vlci_scope *scope, const char *key,
                             const char *format, va_list args) {
    char text[1024], value[VLCI_VALUE_BYTES];
    vsnprintf(text, sizeof text, format, args);
    return vlci_fail_field(status, scope->file, VLCI_VALUE("%s%s", scope->path, key),
                           value_text(vlci_json_value(scope, key), value), hint_in(text), "%s: %s%s: %s",
                           scope->file, scope->path, key, text);
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
