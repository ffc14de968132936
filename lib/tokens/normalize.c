/*
 * normalize.c - the normalizer: text -> text, one step after the other.
 */
#include "tokens/normalize.h"

#include <string.h>
#include <utf8proc.h>

#include "core/alloc.h"

typedef struct vlci_normal_step step;

static int unicode_form(const char *type) {
    if (strcmp(type, "NFC") == 0) return UTF8PROC_STABLE | UTF8PROC_COMPOSE;
    if (strcmp(type, "NFD") == 0) return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE;
    if (strcmp(type, "NFKC") == 0) return UTF8PROC_STABLE | UTF8PROC_COMPOSE | UTF8PROC_COMPAT;
    if (strcmp(type, "NFKD") == 0) return UTF8PROC_STABLE | UTF8PROC_DECOMPOSE | UTF8PROC_COMPAT;
    return 0;
}

static vlcache_status read_content(const vlci_scope *scope, const char *key, char **content) {
    const char *text = NULL;
    vlcache_status status = vlci_json_string(scope, key, &text);
    if (status) return status;
    if (!text) return vlci_json_bad(scope, key, "is missing");
    *content = vlci_strdup(text);
    return *content ? VLCACHE_OK : vlci_fail_memory("tokenizer normalizer");
}

static vlcache_status read_step(const vlci_scope *scope, const char *type, step *s) {
    vlcache_status status = VLCACHE_OK;
    if ((s->form = unicode_form(type)) != 0) {
        s->kind = VLCI_NORMAL_UNICODE;
    } else if (strcmp(type, "Prepend") == 0) {
        s->kind = VLCI_NORMAL_PREPEND;
        status = read_content(scope, "prepend", &s->content);
    } else if (strcmp(type, "Replace") == 0) {
        s->kind = VLCI_NORMAL_REPLACE;
        status = vlci_pattern_read(scope, "pattern", &s->pattern);
        if (!status) status = read_content(scope, "content", &s->content);
    } else if (strcmp(type, "Lowercase") == 0) {
        s->kind = VLCI_NORMAL_LOWERCASE;
    } else if (strcmp(type, "Strip") == 0) {
        s->kind = VLCI_NORMAL_STRIP;
        s->left = s->right = true;
        status = vlci_json_bool(scope, "strip_left", &s->left);
        if (!status) status = vlci_json_bool(scope, "strip_right", &s->right);
    } else {
        status = vlci_json_unsupported(scope, "type",
                                       "normalizer \"%.64s\"; Sequence, Prepend, Replace, NFC, NFD, "
                                       "NFKC, NFKD, Lowercase and Strip are supported",
                                       type);
    }
    return status;
}

static vlcache_status read_any(const vlci_scope *scope, int depth, vlci_normalizer *out) {
    const char *type = "";
    const json_t *list;
    vlcache_status status = vlci_json_string(scope, "type", &type);
    if (status) return status;
    if (strcmp(type, "Sequence") != 0) {
        if (out->n == VLCI_MAX_STEPS) return vlci_json_unsupported(scope, "type", "more than 32 normalizers");
        return read_step(scope, type, &out->step[out->n++]);
    }
    status = vlci_json_array(scope, "normalizers", &list);
    if (!status && depth > 8) status = vlci_json_unsupported(scope, "normalizers", "nested too deeply");
    for (size_t i = 0; !status && i < json_array_size(list); i++) {
        vlci_scope child = *scope;
        child.object = json_array_get(list, i);
        if (!json_is_object(child.object)) return vlci_json_bad(scope, "normalizers", "must hold objects");
        status = read_any(&child, depth + 1, out);
    }
    return status;
}

vlcache_status vlci_normalizer_read(const vlci_scope *root, vlci_normalizer *out) {
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "normalizer", &scope);
    return status || !scope.object ? status : read_any(&scope, 0, out);
}

static vlcache_status replace(const step *s, const char *text, size_t n, vlci_string *out) {
    vlci_spans spans = {0};
    vlcache_status status = vlci_string_add_replaced(out, s->pattern, text, n, s->content, &spans);
    vlci_free(spans.at);
    return status;
}

static vlcache_status compose(int form, const char *text, size_t n, vlci_string *out) {
    vlcache_status status = VLCACHE_OK;
    size_t ascii = 0;
    while (ascii < n && (unsigned char)text[ascii] < 0x80) ascii++;
    if (ascii == n) return vlci_string_add(out, text, n); /* stands as it is in every form */
    utf8proc_ssize_t count =
        utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, NULL, 0, form);
    if (count < 0) return vlci_fail(VLCACHE_E_UNSUPPORTED, "normalizer: %s", utf8proc_errmsg(count));
    utf8proc_int32_t *codes = vlci_alloc((size_t)count + 1, sizeof *codes);
    if (!codes) return vlci_fail_memory("normalized text");
    count = utf8proc_decompose((const utf8proc_uint8_t *)text, (utf8proc_ssize_t)n, codes, count, form);
    if (count >= 0) count = utf8proc_reencode(codes, count, form);
    status = count < 0 ? vlci_fail(VLCACHE_E_UNSUPPORTED, "normalizer: %s", utf8proc_errmsg(count))
                       : vlci_string_add(out, (const char *)codes, (size_t)count);
    vlci_free(codes);
    return status;
}

static vlcache_status lower(const char *text, size_t n, vlci_string *out) {
    vlcache_status status = VLCACHE_OK;
    uint32_t code;
    for (size_t at = 0; at < n && !status;) {
        at += (size_t)vlci_utf8_char(text + at, n - at, &code);
        status = code == 0x130
                     ? vlci_string_add(out, "i\xcc\x87", 3) /* the one that becomes two characters */
                     : vlci_string_add_char(out, (uint32_t)utf8proc_tolower((utf8proc_int32_t)code));
    }
    return status;
}

static vlcache_status strip(const step *s, const char *text, size_t n, vlci_string *out) {
    size_t begin = n, end = 0;
    uint32_t code;
    for (size_t at = 0, length; at < n; at += length) {
        length = (size_t)vlci_utf8_char(text + at, n - at, &code);
        if (vlci_is_space(code)) continue;
        if (begin == n) begin = at;
        end = at + length;
    }
    if (!s->left) begin = 0;
    if (!s->right) end = n;
    return begin < end ? vlci_string_add(out, text + begin, end - begin) : VLCACHE_OK;
}

static vlcache_status apply(const step *s, const char *text, size_t n, vlci_string *out) {
    vlcache_status status;
    switch (s->kind) {
    case VLCI_NORMAL_PREPEND:
        status = n ? vlci_string_add(out, s->content, strlen(s->content)) : VLCACHE_OK;
        return status ? status : vlci_string_add(out, text, n);
    case VLCI_NORMAL_REPLACE:
        return replace(s, text, n, out);
    case VLCI_NORMAL_UNICODE:
        return compose(s->form, text, n, out);
    case VLCI_NORMAL_LOWERCASE:
        return lower(text, n, out);
    case VLCI_NORMAL_STRIP:
        return strip(s, text, n, out);
    }
    return VLCACHE_E_INTERNAL;
}

vlcache_status vlci_normalize(const vlci_normalizer *normalizer, const char *text, size_t n,
                              vlci_string *out) {
    vlci_string now = {0}, next = {0};
    vlcache_status status = vlci_string_add(&now, text, n);
    for (int i = 0; i < normalizer->n && !status; i++) {
        next.n = 0;
        status = apply(&normalizer->step[i], now.data, now.n, &next);
        vlci_string swap = now;
        now = next;
        next = swap;
    }
    if (!status) status = vlci_string_add(out, now.data, now.n);
    vlci_free(now.data);
    vlci_free(next.data);
    return status;
}

void vlci_normalizer_release(vlci_normalizer *normalizer) {
    for (int i = 0; i < normalizer->n; i++) {
        vlci_free(normalizer->step[i].content);
        vlci_pattern_destroy(&normalizer->step[i].pattern);
    }
    normalizer->n = 0;
}
