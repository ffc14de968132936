/*
 * cut.c - the pre-tokenizer: cuts text into the pieces that are encoded one by one.
 */
#include "tokens/cut.h"

#include <string.h>

#include "core/alloc.h"

typedef struct vlci_cut_step step;

static const char gpt2_pattern[] =
    "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";
static const char metaspace[] = "\xe2\x96\x81";

/* ---- reading ------------------------------------------------------------------------------------------- */

static vlcache_status copy(const char *text, char **out) {
    *out = vlci_strdup(text);
    return *out ? VLCACHE_OK : vlci_fail_memory("tokenizer pre-tokenizer");
}

static vlcache_status read_behaviour(const vlci_scope *scope, const char *fallback,
                                     vlci_behaviour *behaviour) {
    static const char *const names[] = {"Isolated", "Removed", "MergedWithPrevious", "MergedWithNext",
                                        "Contiguous"};
    const char *name = fallback;
    vlcache_status status = vlci_json_string(scope, "behavior", &name);
    for (int i = 0; !status && name && i < 5; i++)
        if (strcmp(name, names[i]) == 0) return *behaviour = (vlci_behaviour)i, VLCACHE_OK;
    return status ? status
                  : vlci_json_bad(scope, "behavior",
                                  "must be Isolated, Removed, MergedWithPrevious, "
                                  "MergedWithNext or Contiguous");
}

static vlcache_status read_metaspace(const vlci_scope *scope, step *s) {
    const char *replacement = metaspace, *scheme = NULL;
    bool split = true, prefix = true;
    uint32_t code;
    vlcache_status status = vlci_json_string(scope, "replacement", &replacement);
    if (!status) status = vlci_json_bool(scope, "split", &split);
    if (!status) status = vlci_json_bool(scope, "add_prefix_space", &prefix); /* before prepend_scheme */
    if (!status) status = vlci_json_string(scope, "prepend_scheme", &scheme);
    if (status) return status;
    if (!*replacement ||
        (size_t)vlci_utf8_char(replacement, strlen(replacement), &code) != strlen(replacement))
        return vlci_json_bad(scope, "replacement", "must be one character");
    if (!scheme) scheme = prefix ? "always" : "never";
    s->prefix_first = strcmp(scheme, "first") == 0;
    if (!s->prefix_first && strcmp(scheme, "always") != 0 && strcmp(scheme, "never") != 0)
        return vlci_json_bad(scope, "prepend_scheme", "must be always, first or never");
    status = copy(replacement, &s->replacement);
    if (!status && strcmp(scheme, "never") != 0) status = copy(replacement, &s->prefix);
    if (!status && split) status = vlci_pattern_make(replacement, false, &s->pattern);
    s->behaviour = VLCI_SPLIT_NEXT;
    return status;
}

static vlcache_status read_bytes(const vlci_scope *scope, step *s) {
    bool prefix = true, regex = true;
    s->bytes = true;
    vlcache_status status = vlci_json_bool(scope, "add_prefix_space", &prefix);
    if (!status) status = vlci_json_bool(scope, "use_regex", &regex);
    if (!status && prefix) status = copy(" ", &s->prefix);
    if (!status && regex) status = vlci_pattern_make(gpt2_pattern, true, &s->pattern);
    return status;
}

static vlcache_status read_step(const vlci_scope *scope, const char *type, step *s) {
    bool single = false;
    vlcache_status status;
    if (strcmp(type, "Metaspace") == 0) return read_metaspace(scope, s);
    if (strcmp(type, "ByteLevel") == 0) return read_bytes(scope, s);
    if (strcmp(type, "Split") == 0) {
        status = vlci_pattern_read(scope, "pattern", &s->pattern);
        if (!status) status = read_behaviour(scope, NULL, &s->behaviour);
        return status ? status : vlci_json_bool(scope, "invert", &s->invert);
    }
    if (strcmp(type, "Digits") == 0) {
        status = vlci_json_bool(scope, "individual_digits", &single);
        s->behaviour = single ? VLCI_SPLIT_ISOLATED : VLCI_SPLIT_CONTIGUOUS;
        return status ? status : vlci_pattern_make("\\p{N}", true, &s->pattern);
    }
    if (strcmp(type, "Punctuation") == 0) {
        status = read_behaviour(scope, "Isolated", &s->behaviour);
        return status ? status : vlci_pattern_make("[!-\\/:-@\\[-`{-~\\p{P}]", true, &s->pattern);
    }
    return vlci_json_unsupported(scope, "type",
                                 "pre-tokenizer \"%.64s\"; Sequence, Metaspace, ByteLevel, Split, "
                                 "Digits and Punctuation are supported",
                                 type);
}

static vlcache_status read_any(const vlci_scope *scope, int depth, vlci_pretokenizer *out) {
    const char *type = "";
    const json_t *list;
    vlcache_status status = vlci_json_string(scope, "type", &type);
    if (status) return status;
    if (strcmp(type, "Sequence") != 0) {
        if (out->n == VLCI_MAX_STEPS)
            return vlci_json_unsupported(scope, "type", "more than 32 pre-tokenizers");
        return read_step(scope, type, &out->step[out->n++]);
    }
    status = vlci_json_array(scope, "pretokenizers", &list);
    if (!status && depth > 8) status = vlci_json_unsupported(scope, "pretokenizers", "nested too deeply");
    for (size_t i = 0; !status && i < json_array_size(list); i++) {
        vlci_scope child = *scope;
        child.object = json_array_get(list, i);
        if (!json_is_object(child.object)) return vlci_json_bad(scope, "pretokenizers", "must hold objects");
        status = read_any(&child, depth + 1, out);
    }
    return status;
}

vlcache_status vlci_pretokenizer_read(const vlci_scope *root, vlci_pretokenizer *out) {
    vlci_scope scope;
    vlcache_status status = vlci_json_object(root, "pre_tokenizer", &scope);
    return status || !scope.object ? status : read_any(&scope, 0, out);
}

void vlci_pretokenizer_release(vlci_pretokenizer *pretokenizer) {
    for (int i = 0; i < pretokenizer->n; i++) {
        vlci_free(pretokenizer->step[i].replacement);
        vlci_free(pretokenizer->step[i].prefix);
        vlci_pattern_destroy(&pretokenizer->step[i].pattern);
    }
    pretokenizer->n = 0;
}

/* ---- cutting ------------------------------------------------------------------------------------------- */

/* Joins matches and what lies between them as the behaviour says; in place, flags are not kept. */
static void gather(vlci_spans *spans, vlci_behaviour behaviour) {
    size_t n = 0;
    bool joins = behaviour == VLCI_SPLIT_PREVIOUS || behaviour == VLCI_SPLIT_CONTIGUOUS;
    for (size_t i = 0; i < spans->n; i++) {
        vlci_span s = spans->at[i];
        bool before = i > 0 && spans->at[i - 1].flag;
        if (behaviour == VLCI_SPLIT_REMOVED && s.flag) continue;
        if (joins && n > 0 && (behaviour == VLCI_SPLIT_PREVIOUS ? s.flag && !before : s.flag == before)) {
            spans->at[n - 1].end = s.end;
            continue;
        }
        /* a match goes to what follows it, unless that is a match itself */
        if (behaviour == VLCI_SPLIT_NEXT && s.flag && i + 1 < spans->n && !spans->at[i + 1].flag) {
            spans->at[i + 1].begin = s.begin;
            continue;
        }
        if (n != i) spans->at[n].begin = s.begin, spans->at[n].end = s.end;
        n++;
    }
    spans->n = n;
}

/* The text of one piece with its blanks replaced and its prefix put in front. */
static vlcache_status dress(const step *s, const char *text, size_t n, bool first, vlci_string *out) {
    vlcache_status status = VLCACHE_OK;
    size_t length = s->prefix ? strlen(s->prefix) : 0;
    bool has = length && n >= length && memcmp(text, s->prefix, length) == 0;
    if (s->replacement && n && text[0] == ' ') has = true; /* becomes one */
    if (length && !has && (first || !s->prefix_first)) status = vlci_string_add(out, s->prefix, length);
    if (status || !s->replacement) return status ? status : vlci_string_add(out, text, n);
    while (n && !status) {
        const char *blank = memchr(text, ' ', n);
        size_t plain = blank ? (size_t)(blank - text) : n;
        status = vlci_string_add(out, text, plain);
        if (!status && blank) status = vlci_string_add(out, s->replacement, strlen(s->replacement));
        text += plain + (blank != NULL);
        n -= plain + (blank != NULL);
    }
    return status;
}

static vlcache_status add_piece(const step *s, const char *text, size_t n, bool first, vlci_pieces *out) {
    size_t begin = out->text.n;
    vlcache_status status = VLCACHE_OK;
    if (!n) return VLCACHE_OK;
    if (!s->bytes) status = vlci_string_add(&out->text, text, n);
    for (size_t i = 0; s->bytes && i < n && !status; i++)
        status = vlci_string_add_char(&out->text, vlci_byte_to_char((unsigned char)text[i]));
    return status ? status : vlci_spans_add(&out->spans, begin, out->text.n, first);
}

static vlcache_status cut_piece(const step *s, const char *text, size_t n, bool first, vlci_string *dressed,
                                vlci_spans *cuts, vlci_pieces *out) {
    dressed->n = cuts->n = 0;
    vlcache_status status = dress(s, text, n, first, dressed);
    if (status) return status;
    if (!s->pattern) return add_piece(s, dressed->data, dressed->n, first, out);
    status = vlci_pattern_cut(s->pattern, dressed->data, dressed->n, cuts);
    for (size_t i = 0; i < cuts->n && s->invert; i++) cuts->at[i].flag = !cuts->at[i].flag;
    if (!status) gather(cuts, s->behaviour);
    for (size_t i = 0; i < cuts->n && !status; i++) {
        vlci_span c = cuts->at[i];
        status = add_piece(s, dressed->data + c.begin, c.end - c.begin, first && c.begin == 0, out);
    }
    return status;
}

vlcache_status vlci_pretokenize(const vlci_pretokenizer *pretokenizer, const char *text, size_t n, bool first,
                                vlci_pieces *out) {
    vlci_pieces next = {0};
    vlci_string dressed = {0};
    vlci_spans cuts = {0};
    out->text.n = out->spans.n = 0;
    vlcache_status status = vlci_string_add(&out->text, text, n);
    if (!status && n) status = vlci_spans_add(&out->spans, 0, n, first);
    for (int i = 0; i < pretokenizer->n && !status; i++) {
        next.text.n = next.spans.n = 0;
        for (size_t k = 0; k < out->spans.n && !status; k++) {
            vlci_span p = out->spans.at[k];
            status = cut_piece(&pretokenizer->step[i], out->text.data + p.begin, p.end - p.begin, p.flag,
                               &dressed, &cuts, &next);
        }
        vlci_pieces swap = *out;
        *out = next;
        next = swap;
    }
    vlci_pieces_release(&next);
    vlci_free(dressed.data);
    vlci_free(cuts.at);
    return status;
}

void vlci_pieces_release(vlci_pieces *pieces) {
    vlci_free(pieces->text.data);
    vlci_free(pieces->spans.at);
    memset(pieces, 0, sizeof *pieces);
}
