/*
 * template_json.c - a value as JSON, as Python's json.dumps() writes it. The whole is whose any of its texts
 * was.
 */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "tokens/strings.h"
#include "tokens/template_run.h"

typedef struct writer {
    vlci_run *run;
    vlci_writing to;
    vlci_origin origin;
    bool ascii, sorted, lines;
    const vlci_words *indent, *between, *colon;
} writer;

static void put(writer *w, const char *text) {
    vlci_put(w->run, &w->to, text, strlen(text), w->origin);
}

static void put_plain(writer *w, const vlci_words *words) {
    vlci_put(w->run, &w->to, words->data, words->n, w->origin);
}

static void put_escape(writer *w, uint32_t code) {
    char text[32];
    const char *at = code < 128 ? strchr("\"\"\\\\\bb\ff\nn\rr\tt", (int)code) : NULL;
    if (code == '\\' || code == '"')
        snprintf(text, sizeof text, "\\%c", (char)code);
    else if (code && code < 32 && at)
        snprintf(text, sizeof text, "\\%c", at[1]);
    else if (code < 0x10000)
        snprintf(text, sizeof text, "\\u%04x", code);
    else
        snprintf(text, sizeof text, "\\u%04x\\u%04x", 0xd7c0 + (code >> 10), 0xdc00 + (code & 0x3ff));
    put(w, text);
}

static void put_string(writer *w, const vlci_words *words) {
    put(w, "\"");
    for (size_t i = 0, good = 0; i <= words->n;) {
        uint32_t code = 0;
        size_t n = i < words->n ? (size_t)vlci_utf8_char(words->data + i, words->n - i, &code) : 1;
        bool plain = i < words->n && code >= 32 && code != '"' && code != '\\' && (code < 127 || !w->ascii);
        if (w->ascii && code == 127) plain = true;
        if (!plain) {
            vlci_put(w->run, &w->to, words->data + good, i - good, w->origin);
            if (i < words->n) put_escape(w, code);
            good = i + n;
        }
        i += n;
    }
    put(w, "\"");
}

static void put_line(writer *w, int depth) {
    if (!w->lines) return;
    put(w, "\n");
    for (int i = 0; i < depth; i++) put_plain(w, w->indent);
}

static void put_value(writer *w, vlci_datum value, int depth);

static void put_list(writer *w, const vlci_list *list, int depth) {
    if (list->kind > VLCI_TUPLE)
        vlci_run_fail(w->run, "a %s has no JSON", vlci_kind_name(vlci_list_datum((vlci_list *)list)));
    put(w, "[");
    for (size_t i = 0; i < list->n; i++) {
        if (i) put_plain(w, w->between);
        put_line(w, depth + 1);
        put_value(w, list->at[i], depth + 1);
    }
    if (list->n) put_line(w, depth);
    put(w, "]");
}

/* Keys that are no texts become them. */
static void put_key(writer *w, vlci_datum key) {
    if (key.kind == VLCI_WORDS) {
        put_string(w, key.words);
        return;
    }
    if (!vlci_is_number(key) && key.kind != VLCI_NONE)
        vlci_run_fail(w->run, "a %s is no key in JSON", vlci_kind_name(key));
    put(w, "\"");
    put_value(w, key, 0);
    put(w, "\"");
}

/* The entries in the order of their keys: by insertion, few as they are. */
static vlci_dict *sorted(vlci_run *run, const vlci_dict *dict) {
    vlci_dict *made = vlci_dict_new(run);
    made->at = vlci_arena_take(&run->arena, dict->n + 1, sizeof *made->at);
    for (; made->n < dict->n; made->n++) {
        size_t at = made->n;
        for (; at > 0 && vlci_order(run, made->at[at - 1].key, dict->at[made->n].key) > 0; at--)
            made->at[at] = made->at[at - 1];
        made->at[at] = dict->at[made->n];
    }
    return made;
}

static void put_dict(writer *w, const vlci_dict *dict, int depth) {
    if (w->sorted) dict = sorted(w->run, dict);
    put(w, "{");
    for (size_t i = 0; i < dict->n; i++) {
        if (i) put_plain(w, w->between);
        put_line(w, depth + 1);
        put_key(w, dict->at[i].key);
        put_plain(w, w->colon);
        put_value(w, dict->at[i].value, depth + 1);
    }
    if (dict->n) put_line(w, depth);
    put(w, "}");
}

static void put_number(writer *w, vlci_datum value) {
    if (value.kind == VLCI_FLOAT && !isfinite(value.real)) {
        put(w, isnan(value.real) ? "NaN" : value.real < 0 ? "-Infinity" : "Infinity");
        return;
    }
    vlci_writing text = {0};
    vlci_put_repr(w->run, &text, value);
    put_plain(w, vlci_written(w->run, &text));
}

static void put_value(writer *w, vlci_datum value, int depth) {
    vlci_run_down(w->run);
    switch (value.kind) {
    case VLCI_NONE:
        put(w, "null");
        break;
    case VLCI_BOOL:
        put(w, value.truth ? "true" : "false");
        break;
    case VLCI_INT:
    case VLCI_FLOAT:
        put_number(w, value);
        break;
    case VLCI_WORDS:
        put_string(w, value.words);
        break;
    case VLCI_LIST:
        put_list(w, value.list, depth);
        break;
    case VLCI_DICT:
        put_dict(w, value.dict, depth);
        break;
    default:
        vlci_run_fail(w->run, "a %s has no JSON", vlci_kind_name(value));
    }
    vlci_run_up(w->run);
}

static const vlci_words *separator(writer *w, vlci_datum separators, size_t at) {
    bool pair =
        separators.kind == VLCI_LIST && separators.list->n == 2 && separators.list->at[at].kind == VLCI_WORDS;
    if (pair) return separators.list->at[at].words;
    if (separators.kind != VLCI_MISSING && separators.kind != VLCI_NONE)
        vlci_run_fail(w->run, "tojson: separators are two strings");
    return vlci_text_of(w->run, at ? ": " : w->lines ? "," : ", ").words;
}

const vlci_words *vlci_words_json(vlci_run *run, const vlci_call *call) {
    vlci_datum v[4];
    vlci_call_bind(run, call, "tojson", "ensure_ascii indent separators sort_keys", 0, v);
    writer w = {.run = run, .origin = vlci_datum_origin(run, call->subject)};
    w.ascii = vlci_truth(v[0]);
    w.sorted = vlci_truth(v[3]);
    w.lines = v[1].kind != VLCI_MISSING && v[1].kind != VLCI_NONE;
    if (v[1].kind == VLCI_WORDS)
        w.indent = v[1].words;
    else if (w.lines && (v[1].kind == VLCI_INT || v[1].kind == VLCI_BOOL))
        w.indent = vlci_run_math(run, '*', vlci_text_of(run, " "), v[1]).words;
    else if (w.lines)
        vlci_run_fail(run, "tojson: indent is a number or a string");
    w.between = separator(&w, v[2], 0);
    w.colon = separator(&w, v[2], 1);
    put_value(&w, call->subject, 0);
    return vlci_written(run, &w.to);
}
