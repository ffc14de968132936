/*
 * template_filter.c - filters: value|name(arguments). Those of jinja2 that templates of chats use, and
 * tojson as transformers has it.
 */

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "core/locale.h"
#include "tokens/strings.h"
#include "tokens/template_run.h"

typedef vlci_datum (*filter)(vlci_run *run, const vlci_call *call);

static const vlci_words *text_of(vlci_run *run, vlci_datum value) {
    return vlci_words_from(run, value);
}

static void no_arguments(vlci_run *run, const vlci_call *call) {
    vlci_call_bind(run, call, "a filter", "", 0, NULL);
}

static int64_t whole_of(vlci_run *run, vlci_datum value, int64_t otherwise) {
    if (value.kind == VLCI_MISSING || value.kind == VLCI_NONE) return otherwise;
    if (value.kind != VLCI_INT && value.kind != VLCI_BOOL)
        vlci_run_fail(run, "a filter takes a whole number, not a %s", vlci_kind_name(value));
    return value.kind == VLCI_INT ? value.whole : value.truth;
}

/* ---- texts --------------------------------------------------------------------------------------------- */

static vlci_datum letters(vlci_run *run, const vlci_call *call, vlci_letters which) {
    no_arguments(run, call);
    return vlci_text_datum(vlci_words_letters(run, text_of(run, call->subject), which));
}

static vlci_datum upper(vlci_run *run, const vlci_call *call) {
    return letters(run, call, VLCI_UPPER);
}
static vlci_datum lower(vlci_run *run, const vlci_call *call) {
    return letters(run, call, VLCI_LOWER);
}
static vlci_datum capitalize(vlci_run *run, const vlci_call *call) {
    return letters(run, call, VLCI_CAPITALIZE);
}
static vlci_datum title(vlci_run *run, const vlci_call *call) {
    return letters(run, call, VLCI_WORD_TITLE);
}

static vlci_datum trim(vlci_run *run, const vlci_call *call) {
    vlci_datum v[1];
    vlci_call_bind(run, call, "trim", "chars", 0, v);
    const vlci_words *set = v[0].kind == VLCI_WORDS ? v[0].words : NULL;
    return vlci_text_datum(vlci_words_strip(run, text_of(run, call->subject), set, true, true));
}

static vlci_datum replace(vlci_run *run, const vlci_call *call) {
    vlci_datum v[3];
    vlci_call_bind(run, call, "replace", "old new count", 2, v);
    const vlci_words *words = text_of(run, call->subject);
    if (words->safe) words = vlci_words_of(run, words->data, words->n);
    return vlci_text_datum(
        vlci_words_replace(run, words, text_of(run, v[0]), text_of(run, v[1]), whole_of(run, v[2], -1)));
}

static vlci_datum string(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    return vlci_text_datum(text_of(run, call->subject));
}

static vlci_datum safe(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    vlci_words *words = VLCI_ARENA_NEW(&run->arena, vlci_words);
    *words = *text_of(run, call->subject);
    words->safe = true;
    return vlci_text_datum(words);
}

static vlci_datum escape(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    return vlci_text_datum(vlci_words_escape(run, text_of(run, call->subject)));
}

static vlci_datum tojson(vlci_run *run, const vlci_call *call) {
    return vlci_text_datum(vlci_words_json(run, call));
}

/* The lines of a text with one more line's end behind it. */
static const vlci_list *lines_of(vlci_run *run, const vlci_words *words) {
    vlci_writing text = {0};
    const vlci_call none = {0};
    vlci_put_words(run, &text, words);
    vlci_put(run, &text, "\n", 1, VLCI_ORIGIN_TEMPLATE);
    int which = vlci_text_method_find(vlci_text_of(run, "splitlines").words);
    return vlci_text_method_run(run, which, vlci_written(run, &text), &none).list;
}

/* The width in front of every line but the first; of empty lines too where `blank`. */
static vlci_datum indent(vlci_run *run, const vlci_call *call) {
    vlci_datum v[3];
    vlci_writing text = {0};
    vlci_call_bind(run, call, "indent", "width first blank", 0, v);
    if (call->subject.kind != VLCI_WORDS) vlci_run_fail(run, "indent: takes a string");
    const vlci_words *words = call->subject.words, *by;
    by = v[0].kind == VLCI_WORDS
             ? v[0].words
             : vlci_run_math(run, '*', vlci_text_of(run, " "), vlci_int(whole_of(run, v[0], 4))).words;
    if (vlci_truth(v[1])) vlci_put_words(run, &text, by);
    const vlci_list *lines = lines_of(run, words);
    for (size_t i = 0; i < lines->n; i++) {
        const vlci_words *line = lines->at[i].words;
        if (i) vlci_put(run, &text, "\n", 1, VLCI_ORIGIN_TEMPLATE);
        if (i && (vlci_truth(v[2]) || line->n)) vlci_put_words(run, &text, by);
        vlci_put_words(run, &text, line);
    }
    return vlci_text_datum(vlci_written(run, &text));
}

static vlci_datum center(vlci_run *run, const vlci_call *call) {
    vlci_datum v[1], width;
    vlci_call_bind(run, call, "center", "width", 0, v);
    width = vlci_int(whole_of(run, v[0], 80));
    vlci_call inner = {.at = &width, .n = 1};
    int which = vlci_text_method_find(vlci_text_of(run, "center").words);
    return vlci_text_method_run(run, which, text_of(run, call->subject), &inner);
}

static vlci_datum truncate(vlci_run *run, const vlci_call *call) {
    vlci_datum v[4];
    vlci_writing text = {0};
    vlci_call_bind(run, call, "truncate", "length killwords end leeway", 0, v);
    if (call->subject.kind == VLCI_UNDEFINED) return call->subject;
    if (call->subject.kind != VLCI_WORDS) vlci_run_fail(run, "truncate: takes a string");
    const vlci_words *words = call->subject.words;
    const vlci_words *end = v[2].kind == VLCI_WORDS ? v[2].words : vlci_text_of(run, "...").words;
    int64_t most = whole_of(run, v[0], 255), leeway = whole_of(run, v[3], 5),
            n = (int64_t)vlci_words_length(words);
    int64_t keep = most - (int64_t)vlci_words_length(end);
    if (most < 0 || most > VLCI_MOST_OUTPUT || keep < 0 || leeway < 0 || leeway > VLCI_MOST_OUTPUT)
        vlci_run_fail(run, "truncate: lengths that do not fit");
    if (n <= most + leeway) return vlci_text_datum(words);
    size_t cut = vlci_words_offset(words, (size_t)keep), blank = cut;
    while (!vlci_truth(v[1]) && blank > 0 && words->data[blank - 1] != ' ') blank--;
    vlci_put_words(run, &text, vlci_words_cut(run, words, 0, !vlci_truth(v[1]) && blank ? blank - 1 : cut));
    vlci_put_words(run, &text, end);
    return vlci_text_datum(vlci_written(run, &text));
}

static vlci_datum format(vlci_run *run, const vlci_call *call) {
    vlci_list *list = vlci_list_new(run, VLCI_TUPLE);
    for (size_t i = 0; i < call->n; i++) vlci_list_add(run, list, call->at[i]);
    if (call->n && call->n_named) vlci_run_fail(run, "format: takes values by place or by name");
    vlci_dict *named = vlci_dict_new(run);
    for (size_t i = 0; i < call->n_named; i++)
        vlci_dict_set(run, named,
                      vlci_text_datum(vlci_words_of(run, call->named[i].name, call->named[i].bytes)),
                      call->named[i].value);
    vlci_datum values =
        call->n_named ? (vlci_datum){.kind = VLCI_DICT, .dict = named} : vlci_list_datum(list);
    return vlci_text_datum(vlci_words_percent(run, text_of(run, call->subject), values));
}

static vlci_datum wordcount(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    const vlci_words *words = text_of(run, call->subject);
    int64_t n = 0;
    bool inside = false;
    vlci_run_charge(run, words->n);
    for (size_t i = 0; i < words->n;) {
        uint32_t code;
        i += (size_t)vlci_utf8_char(words->data + i, words->n - i, &code);
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
        bool word = code == '_' || (c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO) ||
                    (c >= UTF8PROC_CATEGORY_ND && c <= UTF8PROC_CATEGORY_NO);
        n += word && !inside;
        inside = word;
    }
    return vlci_int(n);
}

/* ---- numbers ------------------------------------------------------------------------------------------- */

/* What int(text) takes, spaces around it; false where it is none. */
static bool parse_whole(const vlci_words *words, int base, int64_t *value) {
    char text[80], *end;
    size_t head = vlci_space_head(words->data, words->n), n = words->n - head;
    n -= vlci_space_tail(words->data + head, n);
    if (!n || n >= sizeof text) return false;
    memcpy(text, words->data + head, n);
    text[n] = 0;
    bool starts = strchr("+-", text[0]) ? text[1] >= '0' : text[0] >= '0';
    *value = strtoll(text, &end, base);
    return starts && *end == 0;
}

static bool parse_real(const vlci_words *words, double *value) {
    char text[400], *end;
    size_t head = vlci_space_head(words->data, words->n), n = words->n - head;
    n -= vlci_space_tail(words->data + head, n);
    if (!n || n >= sizeof text || strcspn(words->data + head, "xXpP(") < n) return false;
    memcpy(text, words->data + head, n);
    text[n] = 0;
    *value = vlci_strtod(text, &end);
    return *end == 0;
}

static vlci_datum int_filter(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    double real = NAN;
    int64_t value;
    vlci_call_bind(run, call, "int", "default base", 0, v);
    vlci_datum otherwise = v[0].kind == VLCI_MISSING ? vlci_int(0) : v[0];
    if (call->subject.kind == VLCI_UNDEFINED) vlci_run_fail(run, "int: the value is undefined");
    if (call->subject.kind == VLCI_INT) return call->subject;
    if (vlci_is_number(call->subject)) real = vlci_real(call->subject);
    if (call->subject.kind == VLCI_WORDS) {
        int64_t base = whole_of(run, v[1], 10);
        if (base != 0 && (base < 2 || base > 36)) return otherwise;
        if (parse_whole(call->subject.words, (int)base, &value)) return vlci_int(value);
        if (!parse_real(call->subject.words, &real)) return otherwise;
    }
    return fabs(real) < 9e18 ? vlci_int((int64_t)real) : otherwise;
}

static vlci_datum float_filter(vlci_run *run, const vlci_call *call) {
    vlci_datum v[1];
    double value;
    vlci_call_bind(run, call, "float", "default", 0, v);
    if (call->subject.kind == VLCI_UNDEFINED) vlci_run_fail(run, "float: the value is undefined");
    if (vlci_is_number(call->subject)) return vlci_float(vlci_real(call->subject));
    bool read = call->subject.kind == VLCI_WORDS && parse_real(call->subject.words, &value);
    return read ? vlci_float(value) : v[0].kind == VLCI_MISSING ? vlci_float(0.0) : v[0];
}

static vlci_datum absolute(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    if (call->subject.kind == VLCI_FLOAT) return vlci_float(fabs(call->subject.real));
    if (!vlci_is_number(call->subject)) vlci_run_fail(run, "abs: takes a number");
    int64_t value = whole_of(run, call->subject, 0);
    return value < 0 ? vlci_run_math(run, '-', vlci_int(0), vlci_int(value)) : vlci_int(value);
}

static vlci_datum round_filter(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    vlci_call_bind(run, call, "round", "precision method", 0, v);
    if (!vlci_is_number(call->subject)) vlci_run_fail(run, "round: takes a number");
    double x = vlci_real(call->subject), scale = pow(10.0, (double)whole_of(run, v[0], 0));
    const vlci_words *method = v[1].kind == VLCI_WORDS ? v[1].words : vlci_text_of(run, "common").words;
    if (vlci_words_are(method, "ceil")) return vlci_float(ceil(x * scale) / scale);
    if (vlci_words_are(method, "floor")) return vlci_float(floor(x * scale) / scale);
    if (!vlci_words_are(method, "common")) vlci_run_fail(run, "round: the method is common, ceil or floor");
    if (call->subject.kind != VLCI_FLOAT && scale >= 1.0) return vlci_int((int64_t)x);
    return vlci_float(rint(x * scale) / scale);
}

/* ---- rows ---------------------------------------------------------------------------------------------- */

static vlci_datum length(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    vlci_datum s = call->subject;
    if (s.kind == VLCI_UNDEFINED) return vlci_int(0);
    if (s.kind == VLCI_WORDS) vlci_run_charge(run, s.words->n);
    if (s.kind == VLCI_WORDS) return vlci_int((int64_t)vlci_words_length(s.words));
    if (s.kind == VLCI_DICT) return vlci_int((int64_t)s.dict->n);
    if (s.kind == VLCI_LOOP) return vlci_int((int64_t)s.loop->items->n);
    if (s.kind != VLCI_LIST || s.list->kind == VLCI_GENERATOR)
        vlci_run_fail(run, "a %s has no length", vlci_kind_name(s));
    return vlci_int((int64_t)s.list->n);
}

static vlci_datum list_filter(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    vlci_list *from = vlci_items(run, call->subject), *made = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (size_t i = 0; i < from->n; i++) vlci_list_add(run, made, from->at[i]);
    return vlci_list_datum(made);
}

static vlci_datum first(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    vlci_list *items = vlci_items(run, call->subject);
    return items->n ? items->at[0] : vlci_undefined(NULL);
}

static vlci_datum last(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    if (call->subject.kind == VLCI_LIST && call->subject.list->kind == VLCI_GENERATOR)
        vlci_run_fail(run, "last: a generator has no last item that is known");
    vlci_list *items = vlci_items(run, call->subject);
    return items->n ? items->at[items->n - 1] : vlci_undefined(NULL);
}

static vlci_datum reverse(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    vlci_list *items = vlci_items(run, call->subject), *made = vlci_list_new(run, VLCI_GENERATOR);
    for (size_t i = items->n; i-- > 0;) vlci_list_add(run, made, items->at[i]);
    if (call->subject.kind != VLCI_WORDS) return vlci_list_datum(made);
    vlci_writing text = {0};
    for (size_t i = 0; i < made->n; i++) vlci_put_words(run, &text, made->at[i].words);
    return vlci_text_datum(vlci_written(run, &text));
}

static vlci_datum items_filter(vlci_run *run, const vlci_call *call) {
    no_arguments(run, call);
    vlci_list *made = vlci_list_new(run, VLCI_GENERATOR);
    if (call->subject.kind == VLCI_UNDEFINED) return vlci_list_datum(made);
    if (call->subject.kind != VLCI_DICT)
        vlci_run_fail(run, "items: takes a dict, not a %s", vlci_kind_name(call->subject));
    for (size_t i = 0; i < call->subject.dict->n; i++) {
        vlci_list *pair = vlci_list_new(run, VLCI_TUPLE);
        vlci_list_add(run, pair, call->subject.dict->at[i].key);
        vlci_list_add(run, pair, call->subject.dict->at[i].value);
        vlci_list_add(run, made, vlci_list_datum(pair));
    }
    return vlci_list_datum(made);
}

/* A number where it is digits only. */
static vlci_datum part_of_path(const vlci_words *part) {
    int64_t index = 0;
    for (size_t i = 0; i < part->n; i++)
        if (part->data[i] < '0' || part->data[i] > '9') return vlci_text_datum(part);
    return parse_whole(part, 10, &index) ? vlci_int(index) : vlci_text_datum(part);
}

/* item.a.b.0, as attributes are named in filters; an item itself without one. `otherwise`: for what is
 * undefined on the way; MISSING: that is an error, but at the end. */
static vlci_datum reach_or(vlci_run *run, vlci_datum item, vlci_datum path, vlci_datum otherwise) {
    if (path.kind == VLCI_MISSING || path.kind == VLCI_NONE) return item;
    bool replaced = otherwise.kind != VLCI_MISSING && otherwise.kind != VLCI_NONE;
    for (size_t at = 0; path.kind != VLCI_WORDS || at <= path.words->n;) {
        if (path.kind != VLCI_WORDS) {
            item = vlci_run_item(run, item, path);
        } else {
            const char *from = path.words->data + at, *dot = memchr(from, '.', path.words->n - at);
            size_t n = dot ? (size_t)(dot - from) : path.words->n - at;
            item = vlci_run_item(run, item, part_of_path(vlci_words_cut(run, path.words, at, at + n)));
            at += n + 1;
        }
        if (replaced && item.kind == VLCI_UNDEFINED) item = otherwise;
        if (path.kind != VLCI_WORDS) break;
    }
    return item;
}

static vlci_datum reach(vlci_run *run, vlci_datum item, vlci_datum path) {
    return reach_or(run, item, path, (vlci_datum){.kind = VLCI_MISSING});
}

/* ---- sorting ------------------------------------------------------------------------------------------- */

/* Lower case unless letters count. */
static vlci_datum sort_key(vlci_run *run, vlci_datum value, bool letters_count) {
    if (value.kind != VLCI_WORDS || letters_count) return value;
    return vlci_text_datum(vlci_words_letters(run, value.words, VLCI_LOWER));
}

typedef struct keyed {
    vlci_datum key, value;
} keyed;

/* Merges two sorted halves; equals keep their order. */
static void merge_sort(vlci_run *run, keyed *at, keyed *room, size_t n, bool down) {
    if (n < 2) return;
    size_t half = n / 2, a = 0, b = half, k = 0;
    merge_sort(run, at, room, half, down);
    merge_sort(run, at + half, room, n - half, down);
    while (a < half && b < n) {
        int order = vlci_order(run, at[b].key, at[a].key);
        room[k++] = (down ? order > 0 : order < 0) ? at[b++] : at[a++];
    }
    while (a < half) room[k++] = at[a++];
    while (b < n) room[k++] = at[b++];
    memcpy(at, room, n * sizeof *at);
}

static vlci_list *sorted(vlci_run *run, vlci_list *items, vlci_datum path, bool letters_count, bool down) {
    vlci_list *made = vlci_list_new(run, VLCI_PLAIN_LIST);
    keyed *at = vlci_arena_take(&run->arena, items->n + 1, sizeof *at);
    keyed *room = vlci_arena_take(&run->arena, items->n + 1, sizeof *at);
    for (size_t i = 0; i < items->n; i++)
        at[i] = (keyed){sort_key(run, reach(run, items->at[i], path), letters_count), items->at[i]};
    merge_sort(run, at, room, items->n, down);
    for (size_t i = 0; i < items->n; i++) vlci_list_add(run, made, at[i].value);
    return made;
}

static vlci_datum sort(vlci_run *run, const vlci_call *call) {
    vlci_datum v[3];
    vlci_call_bind(run, call, "sort", "reverse case_sensitive attribute", 0, v);
    return vlci_list_datum(
        sorted(run, vlci_items(run, call->subject), v[2], vlci_truth(v[1]), vlci_truth(v[0])));
}

static vlci_datum dictsort(vlci_run *run, const vlci_call *call) {
    vlci_datum v[3];
    vlci_call_bind(run, call, "dictsort", "case_sensitive by reverse", 0, v);
    bool values = v[1].kind == VLCI_WORDS && vlci_words_are(v[1].words, "value");
    if (call->subject.kind != VLCI_DICT)
        vlci_run_fail(run, "dictsort: takes a dict, not a %s", vlci_kind_name(call->subject));
    vlci_call none = {.subject = call->subject};
    vlci_list *pairs = items_filter(run, &none).list;
    return vlci_list_datum(sorted(run, pairs, vlci_int(values), vlci_truth(v[0]), vlci_truth(v[2])));
}

static vlci_datum extreme(vlci_run *run, const vlci_call *call, const char *name, int sign) {
    vlci_datum v[2];
    vlci_call_bind(run, call, name, "case_sensitive attribute", 0, v);
    vlci_list *items = vlci_items(run, call->subject);
    if (!items->n) return vlci_undefined(NULL);
    vlci_datum best = items->at[0], key = sort_key(run, reach(run, best, v[1]), vlci_truth(v[0]));
    for (size_t i = 1; i < items->n; i++) {
        vlci_datum other = sort_key(run, reach(run, items->at[i], v[1]), vlci_truth(v[0]));
        if (sign * vlci_order(run, other, key) <= 0) continue;
        best = items->at[i];
        key = other;
    }
    return best;
}

static vlci_datum min_filter(vlci_run *run, const vlci_call *call) {
    return extreme(run, call, "min", -1);
}
static vlci_datum max_filter(vlci_run *run, const vlci_call *call) {
    return extreme(run, call, "max", 1);
}

static vlci_datum unique(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    vlci_call_bind(run, call, "unique", "case_sensitive attribute", 0, v);
    vlci_list *items = vlci_items(run, call->subject), *made = vlci_list_new(run, VLCI_GENERATOR);
    vlci_dict *seen = vlci_dict_new(run);
    for (size_t i = 0; i < items->n; i++) {
        vlci_datum key = sort_key(run, reach(run, items->at[i], v[1]), vlci_truth(v[0]));
        if (vlci_dict_get(run, seen, key)) continue;
        vlci_dict_set(run, seen, key, vlci_none());
        vlci_list_add(run, made, items->at[i]);
    }
    return vlci_list_datum(made);
}

static vlci_datum sum(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    vlci_call_bind(run, call, "sum", "attribute start", 0, v);
    vlci_list *items = vlci_items(run, call->subject);
    vlci_datum total = v[1].kind == VLCI_MISSING ? vlci_int(0) : v[1];
    for (size_t i = 0; i < items->n; i++)
        total = vlci_run_math(run, '+', total, reach(run, items->at[i], v[0]));
    return total;
}

static vlci_datum join(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    vlci_writing text = {0};
    vlci_call_bind(run, call, "join", "d attribute", 0, v);
    vlci_list *items = vlci_items(run, call->subject);
    for (size_t i = 0; i < items->n; i++) {
        if (i && v[0].kind != VLCI_MISSING) vlci_put_datum(run, &text, v[0]);
        vlci_put_datum(run, &text, reach(run, items->at[i], v[1]));
    }
    return vlci_text_datum(vlci_written(run, &text));
}

static vlci_datum batch(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    vlci_call_bind(run, call, "batch", "linecount fill_with", 1, v);
    int64_t most = whole_of(run, v[0], 0);
    vlci_list *items = vlci_items(run, call->subject), *made = vlci_list_new(run, VLCI_GENERATOR),
              *part = NULL;
    if (most < 1) vlci_run_fail(run, "batch: takes a number of items");
    for (size_t i = 0; i < items->n; i++) {
        if (!part || (int64_t)part->n == most) {
            part = vlci_list_new(run, VLCI_PLAIN_LIST);
            vlci_list_add(run, made, vlci_list_datum(part));
        }
        vlci_list_add(run, part, items->at[i]);
    }
    while (part && v[1].kind > VLCI_NONE && (int64_t)part->n < most) vlci_list_add(run, part, v[1]);
    return vlci_list_datum(made);
}

/* ---- choosing ------------------------------------------------------------------------------------------ */

/* The test that an argument names, with the arguments behind it. */
static bool passes(vlci_run *run, const vlci_call *call, size_t at, vlci_datum item) {
    if (at >= call->n) return vlci_truth(item);
    vlci_call inner = {.subject = item, .at = call->at + at + 1, .n = call->n - at - 1};
    const vlci_words *name = text_of(run, call->at[at]);
    int which = vlci_test_find(name->data, name->n);
    if (which < 0)
        vlci_run_fail(run, "no test is called %.*s", (int)(name->n < 60 ? name->n : 60), name->data);
    return vlci_test_run(run, which, &inner);
}

static vlci_datum choose(vlci_run *run, const vlci_call *call, bool attribute, bool wanted) {
    vlci_list *made = vlci_list_new(run, VLCI_GENERATOR);
    if (!vlci_truth(call->subject)) return vlci_list_datum(made);
    if (attribute && !call->n) vlci_run_fail(run, "selectattr and rejectattr need the name of an attribute");
    vlci_list *items = vlci_items(run, call->subject);
    for (size_t i = 0; i < items->n; i++) {
        vlci_datum item = attribute ? reach(run, items->at[i], call->at[0]) : items->at[i];
        if (passes(run, call, attribute, item) == wanted) vlci_list_add(run, made, items->at[i]);
    }
    return vlci_list_datum(made);
}

static vlci_datum select_items(vlci_run *run, const vlci_call *call) {
    return choose(run, call, false, true);
}
static vlci_datum reject(vlci_run *run, const vlci_call *call) {
    return choose(run, call, false, false);
}
static vlci_datum selectattr(vlci_run *run, const vlci_call *call) {
    return choose(run, call, true, true);
}
static vlci_datum rejectattr(vlci_run *run, const vlci_call *call) {
    return choose(run, call, true, false);
}

/* map(attribute="a", default=x), or map("filter", its arguments). */
static vlci_datum map_filter(vlci_run *run, const vlci_call *call) {
    vlci_list *made = vlci_list_new(run, VLCI_GENERATOR);
    vlci_datum v[2] = {{.kind = VLCI_MISSING}, {.kind = VLCI_MISSING}};
    int which = -1;
    if (!vlci_truth(call->subject)) return vlci_list_datum(made);
    vlci_list *items = vlci_items(run, call->subject);
    if (!call->n) {
        vlci_call_bind(run, call, "map", "attribute default", 1, v);
    } else {
        const vlci_words *name = text_of(run, call->at[0]);
        which = vlci_filter_find(name->data, name->n);
        if (which < 0)
            vlci_run_fail(run, "no filter is called %.*s", (int)(name->n < 60 ? name->n : 60), name->data);
    }
    for (size_t i = 0; i < items->n; i++) {
        vlci_call inner = *call;
        inner.subject = items->at[i];
        inner.at = call->n ? call->at + 1 : NULL;
        inner.n = call->n ? call->n - 1 : 0;
        vlci_list_add(run, made,
                      call->n ? vlci_filter_run(run, which, &inner)
                              : reach_or(run, items->at[i], v[0], v[1]));
    }
    return vlci_list_datum(made);
}

/* ---- the rest ------------------------------------------------------------------------------------------ */

static vlci_datum default_filter(vlci_run *run, const vlci_call *call) {
    vlci_datum v[2];
    vlci_call_bind(run, call, "default", "default_value boolean", 0, v);
    bool replaced = call->subject.kind == VLCI_UNDEFINED || (vlci_truth(v[1]) && !vlci_truth(call->subject));
    if (!replaced) return call->subject;
    return v[0].kind == VLCI_MISSING ? vlci_text_of(run, "") : v[0];
}

static vlci_datum attr(vlci_run *run, const vlci_call *call) {
    vlci_datum v[1];
    vlci_call_bind(run, call, "attr", "name", 1, v);
    if (call->subject.kind == VLCI_DICT) return vlci_method_find(run, call->subject, text_of(run, v[0]));
    return vlci_run_attribute(run, call->subject, text_of(run, v[0]));
}

static const struct {
    const char *name;
    filter run;
} filters[] = {
    {"abs", absolute},
    {"attr", attr},
    {"batch", batch},
    {"capitalize", capitalize},
    {"center", center},
    {"count", length},
    {"d", default_filter},
    {"default", default_filter},
    {"dictsort", dictsort},
    {"e", escape},
    {"escape", escape},
    {"first", first},
    {"float", float_filter},
    {"format", format},
    {"indent", indent},
    {"int", int_filter},
    {"items", items_filter},
    {"join", join},
    {"last", last},
    {"length", length},
    {"list", list_filter},
    {"lower", lower},
    {"map", map_filter},
    {"max", max_filter},
    {"min", min_filter},
    {"reject", reject},
    {"rejectattr", rejectattr},
    {"replace", replace},
    {"reverse", reverse},
    {"round", round_filter},
    {"safe", safe},
    {"select", select_items},
    {"selectattr", selectattr},
    {"sort", sort},
    {"string", string},
    {"sum", sum},
    {"title", title},
    {"tojson", tojson},
    {"trim", trim},
    {"truncate", truncate},
    {"unique", unique},
    {"upper", upper},
    {"wordcount", wordcount},
};

int vlci_filter_find(const char *name, size_t bytes) {
    for (size_t i = 0; i < sizeof filters / sizeof *filters; i++)
        if (strlen(filters[i].name) == bytes && memcmp(filters[i].name, name, bytes) == 0) return (int)i;
    return -1;
}

vlci_datum vlci_filter_run(vlci_run *run, int which, const vlci_call *call) {
    vlci_run_down(run);
    vlci_datum value = filters[which].run(run, call);
    vlci_run_up(run);
    return value;
}
