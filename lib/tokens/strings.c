/*
 * strings.c - growing byte strings, UTF-8, GPT-2's visible bytes, and patterns that cut text.
 */
#define PCRE2_CODE_UNIT_WIDTH 8
#include "tokens/strings.h"

#include <pcre2.h>
#include <stdlib.h>
#include <string.h>

#include "core/alloc.h"

/* ---- text ---------------------------------------------------------------------------------------------- */

vlcache_status vlci_string_add(vlci_string *text, const char *data, size_t n) {
    if (n > SIZE_MAX / 4 - text->n) return vlci_fail_memory("text");
    if (!text->data || text->n + n > text->room) {
        size_t room = 2 * (text->n + n) + 16;
        char *grown = vlci_realloc(text->data, room, 1);
        if (!grown) return vlci_fail_memory("text");
        text->data = grown;
        text->room = room;
    }
    if (n) memcpy(text->data + text->n, data, n);
    text->n += n;
    return VLCACHE_OK;
}

vlcache_status vlci_string_add_char(vlci_string *text, uint32_t code) {
    char b[4];
    if (code < 0x80) return b[0] = (char)code, vlci_string_add(text, b, 1);
    if (code < 0x800) {
        b[0] = (char)(0xc0 | code >> 6);
        b[1] = (char)(0x80 | (code & 63));
        return vlci_string_add(text, b, 2);
    }
    if (code < 0x10000) {
        b[0] = (char)(0xe0 | code >> 12);
        b[1] = (char)(0x80 | (code >> 6 & 63));
        b[2] = (char)(0x80 | (code & 63));
        return vlci_string_add(text, b, 3);
    }
    b[0] = (char)(0xf0 | code >> 18);
    b[1] = (char)(0x80 | (code >> 12 & 63));
    b[2] = (char)(0x80 | (code >> 6 & 63));
    b[3] = (char)(0x80 | (code & 63));
    return vlci_string_add(text, b, 4);
}

int vlci_utf8_step(const char *data, size_t n) {
    const unsigned char *s = (const unsigned char *)data;
    unsigned low = 0x80, high = 0xbf;
    int rest;
    if (s[0] < 0x80) return 1;
    if (s[0] >= 0xc2 && s[0] <= 0xdf)
        rest = 1;
    else if (s[0] >= 0xe0 && s[0] <= 0xef)
        rest = 2;
    else if (s[0] >= 0xf0 && s[0] <= 0xf4)
        rest = 3;
    else
        return -1;
    if (s[0] == 0xe0) low = 0xa0;
    if (s[0] == 0xed) high = 0x9f;
    if (s[0] == 0xf0) low = 0x90;
    if (s[0] == 0xf4) high = 0x8f;
    for (int i = 1; i <= rest; i++, low = 0x80, high = 0xbf) {
        if ((size_t)i >= n) return 0;
        if (s[i] < low || s[i] > high) return -i;
    }
    return rest + 1;
}

int vlci_utf8_char(const char *data, size_t n, uint32_t *code) {
    const unsigned char *s = (const unsigned char *)data;
    int length = vlci_utf8_step(data, n);
    if (length <= 0) return *code = 0xfffd, 1;
    *code = length == 1 ? s[0] : s[0] & (0x7fu >> length);
    for (int i = 1; i < length; i++) *code = *code << 6 | (s[i] & 63);
    return length;
}

vlcache_status vlci_string_add_lossy(vlci_string *text, const char *data, size_t n) {
    vlcache_status status = VLCACHE_OK;
    size_t good = 0, at = 0; /* [good, at) is valid and not copied yet */
    while (at < n && !status) {
        int length = vlci_utf8_step(data + at, n - at);
        if (length > 0) {
            at += (size_t)length;
            continue;
        }
        status = vlci_string_add(text, data + good, at - good);
        if (!status) status = vlci_string_add_char(text, 0xfffd);
        at = length ? at + (size_t)-length : n;
        good = at;
    }
    return status ? status : vlci_string_add(text, data + good, at - good);
}

bool vlci_is_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 32 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f || c == 0x205f ||
           c == 0x3000;
}

vlcache_status vlci_spans_add(vlci_spans *spans, size_t begin, size_t end, bool flag) {
    if (spans->n == spans->room) {
        vlci_span *grown = vlci_realloc(spans->at, 2 * spans->room + 16, sizeof *grown);
        if (!grown) return vlci_fail_memory("pieces of a text");
        spans->at = grown;
        spans->room = 2 * spans->room + 16;
    }
    spans->at[spans->n++] = (vlci_span){begin, end, flag};
    return VLCACHE_OK;
}

vlcache_status vlci_ids_add(vlci_ids *ids, int32_t id) {
    if (ids->n == ids->room) {
        int32_t *grown = vlci_realloc(ids->at, 2 * ids->room + 16, sizeof *grown);
        if (!grown) return vlci_fail_memory("tokens of a text");
        ids->at = grown;
        ids->room = 2 * ids->room + 16;
    }
    ids->at[ids->n++] = id;
    return VLCACHE_OK;
}

/* ---- bytes that show ----------------------------------------------------------------------------------- */

/* GPT-2: bytes that print as Latin-1 stand for themselves, the others follow from U+0100 on. */
static bool stands(int byte) {
    return (byte >= 33 && byte <= 126) || (byte >= 161 && byte <= 172) || byte >= 174;
}

uint32_t vlci_byte_to_char(unsigned char byte) {
    if (stands(byte)) return byte;
    if (byte <= 32) return 256u + byte;
    return byte == 173 ? 323u : 162u + byte; /* 127..160 -> 289..322 */
}

int vlci_char_to_byte(uint32_t code) {
    if (code < 256) return stands((int)code) ? (int)code : -1;
    if (code <= 288) return (int)code - 256;
    if (code <= 322) return (int)code - 162;
    return code == 323 ? 173 : -1;
}

/* ---- patterns ------------------------------------------------------------------------------------------ */

struct vlci_pattern {
    char *literal;
    size_t n;
    pcre2_general_context *memory;
    pcre2_code *code;   /* NULL: literal */
    char *file, *field; /* where it was read, for messages; NULL: nowhere */
};

static void *regex_alloc(PCRE2_SIZE bytes, void *user) {
    (void)user;
    return vlci_alloc(bytes, 1);
}

static void regex_free(void *block, void *user) {
    (void)user;
    vlci_free(block);
}

/* "\s" and "\S" spelled out; all else as it stands. */
static vlcache_status spell_out(const char *text, vlci_string *out) {
    static const char spaces[] =
        "\\t-\\r\\x{20}\\x{85}\\x{a0}\\x{1680}\\x{2000}-\\x{200a}\\x{2028}\\x{2029}"
        "\\x{202f}\\x{205f}\\x{3000}";
    bool class = false;
    vlcache_status status = VLCACHE_OK;
    for (const char *c = text; *c && !status; c++) {
        bool blank = c[0] == '\\' && c[1] == 's', solid = c[0] == '\\' && c[1] == 'S' && !class;
        if (blank || solid) {
            if (!class) status = vlci_string_add(out, solid ? "[^" : "[", solid ? 2 : 1);
            if (!status) status = vlci_string_add(out, spaces, sizeof spaces - 1);
            if (!status && !class) status = vlci_string_add(out, "]", 1);
            c++;
        } else if (c[0] == '\\' && c[1]) {
            status = vlci_string_add(out, c++, 2);
        } else {
            if (*c == '[') class = true;
            if (*c == ']') class = false;
            status = vlci_string_add(out, c, 1);
        }
    }
    return status;
}

static vlcache_status compile(vlci_pattern *pattern, const char *text) {
    vlci_string spelled = {0};
    pcre2_compile_context *context = NULL;
    int error = 0;
    PCRE2_SIZE at = 0;
    vlcache_status status = spell_out(text, &spelled);
    if (status) goto done;
    status = vlci_fail_memory("regular expression");
    pattern->memory = pcre2_general_context_create(regex_alloc, regex_free, NULL);
    if (!pattern->memory || !(context = pcre2_compile_context_create(pattern->memory))) goto done;
    pattern->code = pcre2_compile((PCRE2_SPTR)spelled.data, spelled.n,
                                  PCRE2_UTF | PCRE2_UCP | PCRE2_MULTILINE, &error, &at, context);
    if (!pattern->code && error == PCRE2_ERROR_HEAP_FAILED) goto done;
    status = VLCACHE_OK;
    if (pattern->code) {
        pcre2_jit_compile(pattern->code, PCRE2_JIT_COMPLETE); /* where it cannot, matching is only slower */
    } else {
        PCRE2_UCHAR why[128] = "";
        pcre2_get_error_message(error, why, sizeof why);
        status = vlci_refuse_text(VLCACHE_E_UNSUPPORTED, pattern->file, pattern->field, text,
                                  "which PCRE2 does not take for a regular expression: %s", (char *)why);
    }
done:
    pcre2_compile_context_free(context);
    vlci_free(spelled.data);
    return status;
}

/* `file` and `field`: where it stands; NULL for the library's own. */
static vlcache_status make(const char *file, const char *field, const char *text, bool regex,
                           vlci_pattern **out) {
    *out = NULL;
    vlci_pattern *pattern = vlci_calloc(1, sizeof *pattern);
    if (!pattern) return vlci_fail_memory("pattern");
    vlcache_status status = VLCACHE_OK;
    pattern->n = strlen(text);
    pattern->literal = vlci_strdup(text);
    if (file) pattern->file = vlci_strdup(file);
    if (field) pattern->field = vlci_strdup(field);
    if (!pattern->literal || (file && !pattern->file) || (field && !pattern->field))
        status = vlci_fail_memory("pattern");
    if (!status && regex) status = compile(pattern, text);
    if (status) vlci_pattern_destroy(&pattern);
    *out = pattern;
    return status;
}

vlcache_status vlci_pattern_make(const char *text, bool regex, vlci_pattern **out) {
    return make(NULL, NULL, text, regex, out);
}

void vlci_pattern_destroy(vlci_pattern **pattern) {
    if (!*pattern) return;
    pcre2_code_free((*pattern)->code);
    pcre2_general_context_free((*pattern)->memory);
    vlci_free((*pattern)->literal);
    vlci_free((*pattern)->file);
    vlci_free((*pattern)->field);
    vlci_free(*pattern);
    *pattern = NULL;
}

vlcache_status vlci_pattern_read(const vlci_scope *scope, const char *key, vlci_pattern **out) {
    vlci_scope pattern;
    const char *literal = NULL, *regex = NULL;
    *out = NULL;
    vlcache_status status = vlci_json_object(scope, key, &pattern);
    if (!status) status = vlci_json_string(&pattern, "String", &literal);
    if (!status) status = vlci_json_string(&pattern, "Regex", &regex);
    if (status) return status;
    const char *text = regex ? regex : literal;
    if (!text || !*text) return vlci_json_bad(scope, key, "must hold a String or a Regex that is not empty");
    char *field = vlci_format("%s%s", pattern.path, regex ? "Regex" : "String");
    status = field ? make(scope->file, field, text, regex != NULL, out) : vlci_fail_memory("pattern");
    vlci_free(field);
    return status;
}

bool vlci_pattern_is_char(const vlci_pattern *pattern) {
    uint32_t code;
    return !pattern->code && (size_t)vlci_utf8_char(pattern->literal, pattern->n, &code) == pattern->n;
}

static vlcache_status fail_match(const vlci_pattern *pattern, int error) {
    return vlci_refuse_text(VLCACHE_E_UNSUPPORTED, pattern->file, pattern->field, pattern->literal,
                            "which takes too long on this text (PCRE2's error %d): shorten its words", error);
}

/* The next match at or after `from`; *begin is n where there is none. */
static vlcache_status find(const vlci_pattern *pattern, pcre2_match_data *data, pcre2_match_context *limits,
                           const char *text, size_t n, size_t from, size_t *begin, size_t *end) {
    *begin = *end = n;
    if (!pattern->code) {
        const char *at = memmem(text + from, n - from, pattern->literal, pattern->n);
        if (at) *begin = (size_t)(at - text), *end = *begin + pattern->n;
        return VLCACHE_OK;
    }
    int got = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK, data, limits);
    if (got == PCRE2_ERROR_JIT_STACKLIMIT)
        got = pcre2_match(pattern->code, (PCRE2_SPTR)text, n, from, PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT, data,
                          limits);
    if (got == PCRE2_ERROR_NOMATCH) return VLCACHE_OK;
    if (got == PCRE2_ERROR_NOMEMORY || got == PCRE2_ERROR_HEAPLIMIT)
        return vlci_fail_memory("pattern matching");
    if (got < 0) return fail_match(pattern, got);
    const PCRE2_SIZE *bounds = pcre2_get_ovector_pointer(data);
    *begin = bounds[0];
    *end = bounds[1];
    return VLCACHE_OK;
}

static vlcache_status cut(const vlci_pattern *pattern, pcre2_match_data *data, pcre2_match_context *limits,
                          const char *text, size_t n, vlci_spans *spans) {
    size_t done = 0, from = 0, begin, end;
    vlcache_status status = VLCACHE_OK;
    while (from < n && !status) {
        status = find(pattern, data, limits, text, n, from, &begin, &end);
        if (status || begin >= n) break;
        if (end <= begin) { /* an empty match cuts nothing here: step over one character */
            uint32_t code;
            from = begin + (size_t)vlci_utf8_char(text + begin, n - begin, &code);
            continue;
        }
        if (begin > done) status = vlci_spans_add(spans, done, begin, false);
        if (!status) status = vlci_spans_add(spans, begin, end, true);
        done = from = end;
    }
    if (!status && done < n) status = vlci_spans_add(spans, done, n, false);
    return status;
}

vlcache_status vlci_pattern_cut(const vlci_pattern *pattern, const char *text, size_t n, vlci_spans *spans) {
    pcre2_match_data *data = NULL;
    pcre2_match_context *limits = NULL;
    vlcache_status status;
    if (pattern->code) {
        data = pcre2_match_data_create(1, pattern->memory);
        limits = pcre2_match_context_create(pattern->memory);
        if (!data || !limits) {
            status = vlci_fail_memory("pattern matching");
            goto done;
        }
        pcre2_set_match_limit(limits, 1u << 30); /* a megabyte of blanks is slow, not wrong */
        pcre2_set_heap_limit(limits, 1u << 20);  /* in KiB */
    }
    status = cut(pattern, data, limits, text, n, spans);
done:
    pcre2_match_data_free(data);
    pcre2_match_context_free(limits);
    return status;
}

enum { MOST_REPLACED = 1 << 26 };

vlcache_status vlci_string_add_replaced(vlci_string *out, const vlci_pattern *pattern, const char *text,
                                        size_t n, const char *by, vlci_spans *spans) {
    size_t length = strlen(by);
    spans->n = 0;
    vlcache_status status = vlci_pattern_cut(pattern, text, n, spans);
    for (size_t i = 0; i < spans->n && !status; i++) {
        vlci_span part = spans->at[i];
        status = part.flag ? vlci_string_add(out, by, length)
                           : vlci_string_add(out, text + part.begin, part.end - part.begin);
        if (!status && out->n > MOST_REPLACED)
            status = vlci_fail(VLCACHE_E_UNSUPPORTED, "tokenizer: Replace makes a text of more than %d MiB",
                               MOST_REPLACED >> 20);
    }
    return status;
}
