/**
 * taps.c - reads named-tap files (format in taps.h): file -> bytes -> records, each copied to memory of its
 * own so that values are aligned and an overrun is seen by the address sanitizer.
 */
#include "support/taps.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char MAGIC[8] = "VLTAPS01";

typedef struct cursor {
    const uint8_t *bytes;
    size_t at, end;
} cursor;

static bool whole_file(const char *path, uint8_t **bytes, size_t *size) {
    FILE *file = fopen(path, "rb");
    size_t capacity = 1 << 16, used = 0, got;
    uint8_t *data = file ? malloc(capacity) : NULL;
    while (data && (got = fread(data + used, 1, capacity - used, file)) > 0) {
        used += got;
        if (used == capacity) {
            uint8_t *larger = realloc(data, capacity *= 2);
            if (!larger) free(data);
            data = larger;
        }
    }
    bool ok = data && !ferror(file);
    if (file) fclose(file);
    if (!ok) free(data);
    *bytes = ok ? data : NULL;
    *size = ok ? used : 0;
    return ok;
}

/** Little-endian unsigned number of `width` bytes; false when the file is too short. */
static bool take(cursor *c, int width, uint64_t *value) {
    if (c->end - c->at < (size_t)width) return false;
    *value = 0;
    for (int i = width; i-- > 0;) *value = *value << 8 | c->bytes[c->at + (size_t)i];
    c->at += (size_t)width;
    return true;
}

static bool take_name(cursor *c, tap *t) {
    uint64_t length;
    if (!take(c, 4, &length) || length == 0 || length > c->end - c->at) return false;
    t->name = malloc((size_t)length + 1);
    if (!t->name) return false;
    memcpy(t->name, c->bytes + c->at, (size_t)length);
    t->name[length] = '\0';
    c->at += (size_t)length;
    return true;
}

static bool take_shape(cursor *c, tap *t) {
    uint64_t dtype, n_dims, dim;
    if (!take(c, 4, &dtype) || (dtype != TAPS_F32 && dtype != TAPS_I32)) return false;
    if (!take(c, 4, &n_dims) || n_dims > TAPS_MAX_DIMS) return false;
    t->dtype = (int)dtype;
    t->n_dims = (int)n_dims;
    t->n = 1;
    for (int i = 0; i < t->n_dims; i++) {
        if (!take(c, 8, &dim) || (dim && t->n > c->end / 4 / dim)) return false;
        t->dim[i] = (size_t)dim;
        t->n *= (size_t)dim;
    }
    return true;
}

static bool take_data(cursor *c, tap *t) {
    size_t bytes = t->n * 4, padded = (bytes + 7) & ~(size_t)7;
    if (padded > c->end - c->at) return false;
    t->data = malloc(bytes ? bytes : 1);
    if (!t->data) return false;
    for (size_t i = 0; i < t->n; i++) {
        uint64_t word = 0;
        take(c, 4, &word);
        uint32_t bits = (uint32_t)word;
        memcpy((uint8_t *)t->data + 4 * i, &bits, 4);
    }
    c->at += padded - bytes;
    t->f32 = t->dtype == TAPS_F32 ? t->data : NULL;
    t->i32 = t->dtype == TAPS_I32 ? t->data : NULL;
    return true;
}

static bool take_record(cursor *c, taps *out) {
    tap *larger = realloc(out->tap, (out->n + 1) * sizeof *larger);
    if (!larger) return false;
    out->tap = larger;
    tap *t = &out->tap[out->n++];
    *t = (tap){0};
    return take_name(c, t) && take_shape(c, t) && take_data(c, t);
}

bool taps_load(const char *path, taps *out, char *message, size_t size) {
    uint8_t *bytes = NULL;
    size_t end = 0;
    *out = (taps){0};
    if (!whole_file(path, &bytes, &end)) {
        snprintf(message, size, "%s: %s", path, strerror(errno));
        return false;
    }
    cursor c = {bytes, sizeof MAGIC, end};
    size_t begin = 0;
    bool ok = end >= sizeof MAGIC && memcmp(bytes, MAGIC, sizeof MAGIC) == 0;
    while (ok && c.at < c.end) {
        begin = c.at;
        ok = take_record(&c, out);
    }
    if (!ok) {
        snprintf(message, size, "%s: bad %s at byte %zu", path, begin ? "record" : "magic", begin);
        taps_release(out);
    }
    free(bytes);
    return ok;
}

const tap *taps_find(const taps *set, const char *name) {
    for (size_t i = set->n; i-- > 0;)
        if (strcmp(set->tap[i].name, name) == 0) return &set->tap[i];
    return NULL;
}

const tap *taps_findf(const taps *set, const char *format, ...) {
    char name[256];
    va_list args;
    va_start(args, format);
    int length = vsnprintf(name, sizeof name, format, args);
    va_end(args);
    return length >= 0 && (size_t)length < sizeof name ? taps_find(set, name) : NULL;
}

void taps_release(taps *set) {
    for (size_t i = 0; i < set->n; i++) {
        free(set->tap[i].name);
        free(set->tap[i].data);
    }
    free(set->tap);
    set->tap = NULL;
    set->n = 0;
}
