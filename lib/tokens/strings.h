/**
 * strings.h - what all of a tokenizer is made of: growing byte strings and ids, UTF-8, and patterns (literal
 * or regular expression) that cut text.
 */
#ifndef VLCI_TOKENS_STRINGS_H
#define VLCI_TOKENS_STRINGS_H

#include <jansson.h>

#include "checkpoint/json.h"
#include "core/status.h"

/** Bytes that grow; zeroed is empty. Release with vlci_free(data). */
typedef struct vlci_string {
    char *data;
    size_t n, room;
} vlci_string;

vlcache_status vlci_string_add(vlci_string *text, const char *data, size_t n);
vlcache_status vlci_string_add_char(vlci_string *text, uint32_t code);

/**
 * What stands at the head of n > 0 bytes: > 0 the length of a character; < 0 minus the length of a broken one
 * (the maximal subpart, to become one U+FFFD); 0: all n bytes are the beginning of a character.
 */
int vlci_utf8_step(const char *data, size_t n);

/** The code point at the head of valid UTF-8; its length. */
int vlci_utf8_char(const char *data, size_t n, uint32_t *code);

/** Appends bytes with everything broken as U+FFFD, as Rust's from_utf8_lossy does. */
vlcache_status vlci_string_add_lossy(vlci_string *text, const char *data, size_t n);

/** Unicode White_Space. */
bool vlci_is_space(uint32_t code);

/** A stretch [begin, end) of a text. */
typedef struct vlci_span {
    size_t begin, end;
    bool flag; /**< in a split: matched; in a list of pieces: stands at the start of the input */
} vlci_span;

typedef struct vlci_spans {
    vlci_span *at;
    size_t n, room;
} vlci_spans;

vlcache_status vlci_spans_add(vlci_spans *spans, size_t begin, size_t end, bool flag);

/** The visible character of a byte, and back (-1: none), as GPT-2 maps them. */
uint32_t vlci_byte_to_char(unsigned char byte);
int vlci_char_to_byte(uint32_t code);

/** Token ids that grow. Release with vlci_free(at). */
typedef struct vlci_ids {
    int32_t *at;
    size_t n, room;
} vlci_ids;

vlcache_status vlci_ids_add(vlci_ids *ids, int32_t id);

enum { VLCI_MAX_STEPS = 32, VLCI_MAX_TOKEN_ID = (1 << 24) - 1 };

/** Immutable, shareable between threads. */
typedef struct vlci_pattern vlci_pattern;

/** From the `key` field {"String": s} or {"Regex": s}. */
vlcache_status vlci_pattern_read(const vlci_scope *scope, const char *key, vlci_pattern **out);

vlcache_status vlci_pattern_make(const char *text, bool regex, vlci_pattern **out);
void vlci_pattern_destroy(vlci_pattern **pattern);

/** Appends the stretches of text that the pattern cuts it into, all of them in order, matches flagged. */
vlcache_status vlci_pattern_cut(const vlci_pattern *pattern, const char *text, size_t n, vlci_spans *spans);

/** Appends the text with `by` in place of what the pattern matches; `spans` is room for where that stands. A
 * file may ask for it again and again: more than 64 MiB are refused with VLCACHE_E_UNSUPPORTED. */
vlcache_status vlci_string_add_replaced(vlci_string *out, const vlci_pattern *pattern, const char *text,
                                        size_t n, const char *by, vlci_spans *spans);

/** Whether the pattern is a literal of one character (it cannot span two pieces of a stream). */
bool vlci_pattern_is_char(const vlci_pattern *pattern);

#endif
