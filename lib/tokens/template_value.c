/*
 * template_value.c - data of a template: making them, comparing them, going through them; as Python does.
 */
#include "tokens/template_value.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "tokens/strings.h"

/* ---- failing, bounds ----------------------------------------------------------------------------------- */

_Noreturn void vlci_run_fail(vlci_run *run, const char *format, ...) {
    char text[512];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    vlci_arena_leave(&run->arena,
                     vlci_fail(VLCACHE_E_FORMAT, "%s: %d:%d: %s", run->file, run->line, run->column, text));
}

void vlci_run_charge(vlci_run *run, size_t n) {
    run->steps += 1 + (int64_t)(n / 16);
    if (run->steps > VLCI_MOST_STEPS) vlci_run_fail(run, "takes more than %d steps", VLCI_MOST_STEPS);
}

void vlci_run_down(vlci_run *run) {
    vlci_run_charge(run, 0);
    if (++run->depth > VLCI_MOST_DEPTH) vlci_run_fail(run, "is more than %d levels deep", VLCI_MOST_DEPTH);
}

/* ---- making them --------------------------------------------------------------------------------------- */

const vlci_words *vlci_words_of(vlci_run *run, const char *data, size_t n) {
    vlci_words *words = VLCI_ARENA_NEW(&run->arena, vlci_words);
    *words = (vlci_words){.data = data, .n = n};
    return words;
}

vlci_datum vlci_text_of(vlci_run *run, const char *text) {
    return vlci_text_datum(vlci_words_of(run, text, strlen(text)));
}

const vlci_words *vlci_words_cut(vlci_run *run, const vlci_words *words, size_t begin, size_t end) {
    vlci_words *cut = VLCI_ARENA_NEW(&run->arena, vlci_words);
    if (begin > end) begin = end;
    *cut = (vlci_words){.data = words->data + begin,
                        .origin = words->origin ? words->origin + begin : NULL,
                        .n = end - begin,
                        .safe = words->safe};
    return cut;
}

vlci_list *vlci_list_new(vlci_run *run, vlci_list_kind kind) {
    vlci_list *list = VLCI_ARENA_NEW(&run->arena, vlci_list);
    list->kind = kind;
    return list;
}

void vlci_list_add(vlci_run *run, vlci_list *list, vlci_datum value) {
    vlci_run_charge(run, 0);
    list->at = vlci_arena_grow(&run->arena, list->at, list->n, &list->room, sizeof *list->at);
    list->at[list->n++] = value;
}

vlci_datum vlci_list_datum(vlci_list *list) {
    return (vlci_datum){.kind = VLCI_LIST, .list = list};
}

vlci_dict *vlci_dict_new(vlci_run *run) {
    return VLCI_ARENA_NEW(&run->arena, vlci_dict);
}

/* What Python cannot take as a key. */
static void check_key(vlci_run *run, vlci_datum key) {
    bool tuple = key.kind == VLCI_LIST && key.list->kind == VLCI_TUPLE;
    if ((key.kind == VLCI_LIST && !tuple) || key.kind == VLCI_DICT)
        vlci_run_fail(run, "a %s cannot be a key", vlci_kind_name(key));
}

const vlci_datum *vlci_dict_get(vlci_run *run, const vlci_dict *dict, vlci_datum key) {
    check_key(run, key);
    vlci_run_charge(run, 4 * dict->n);
    for (size_t i = 0; i < dict->n; i++)
        if (vlci_equal(run, dict->at[i].key, key)) return &dict->at[i].value;
    return NULL;
}

void vlci_dict_set(vlci_run *run, vlci_dict *dict, vlci_datum key, vlci_datum value) {
    vlci_datum *old = (vlci_datum *)vlci_dict_get(run, dict, key);
    if (old) {
        *old = value;
        return;
    }
    dict->at = vlci_arena_grow(&run->arena, dict->at, dict->n, &dict->room, sizeof *dict->at);
    dict->at[dict->n++] = (vlci_entry){key, value};
}

const vlci_datum *vlci_dict_find(const vlci_dict *dict, const char *key, size_t n) {
    for (size_t i = 0; i < dict->n; i++) {
        const vlci_datum *k = &dict->at[i].key;
        if (k->kind == VLCI_WORDS && k->words->n == n && memcmp(k->words->data, key, n) == 0)
            return &dict->at[i].value;
    }
    return NULL;
}

/* ---- whose --------------------------------------------------------------------------------------------- */

vlci_origin vlci_words_origin(const vlci_words *words) {
    uint8_t most = VLCI_ORIGIN_TEMPLATE;
    for (size_t i = 0; words->origin && i < words->n; i++)
        if (words->origin[i] > most) most = words->origin[i];
    return (vlci_origin)most;
}

static vlci_origin higher(vlci_origin a, vlci_origin b) {
    return a > b ? a : b;
}

vlci_origin vlci_datum_origin(vlci_run *run, vlci_datum value) {
    vlci_origin most = VLCI_ORIGIN_TEMPLATE;
    vlci_run_down(run);
    if (value.kind == VLCI_WORDS) {
        vlci_run_charge(run, value.words->n);
        most = vlci_words_origin(value.words);
    }
    if (value.kind == VLCI_LIST)
        for (size_t i = 0; i < value.list->n; i++)
            most = higher(most, vlci_datum_origin(run, value.list->at[i]));
    if (value.kind == VLCI_DICT || value.kind == VLCI_SPACE)
        for (size_t i = 0; i < value.dict->n; i++)
            most = higher(higher(most, vlci_datum_origin(run, value.dict->at[i].key)),
                          vlci_datum_origin(run, value.dict->at[i].value));
    vlci_run_up(run);
    return most;
}

/* ---- asking -------------------------------------------------------------------------------------------- */

const char *vlci_kind_name(vlci_datum value) {
    static const char *const lists[] = {"list",           "tuple",         "view of keys",
                                        "view of values", "view of items", "generator"};
    static const char *const names[] = {"nothing", "undefined value", "None",   "bool", "int",
                                        "float",   "string",          "list",   "dict", "namespace",
                                        "macro",   "function",        "method", "loop"};
    return value.kind == VLCI_LIST ? lists[value.list->kind] : names[value.kind];
}

bool vlci_truth(vlci_datum value) {
    switch (value.kind) {
    case VLCI_MISSING:
    case VLCI_UNDEFINED:
    case VLCI_NONE:
        return false;
    case VLCI_BOOL:
        return value.truth;
    case VLCI_INT:
        return value.whole != 0;
    case VLCI_FLOAT:
        return value.real != 0.0;
    case VLCI_WORDS:
        return value.words->n > 0;
    case VLCI_LIST:
        return value.list->n > 0 || value.list->kind == VLCI_GENERATOR;
    case VLCI_DICT:
        return value.dict->n > 0;
    default:
        return true;
    }
}

bool vlci_is_number(vlci_datum value) {
    return value.kind == VLCI_BOOL || value.kind == VLCI_INT || value.kind == VLCI_FLOAT;
}

double vlci_real(vlci_datum value) {
    return value.kind == VLCI_FLOAT ? value.real : value.kind == VLCI_INT ? (double)value.whole : value.truth;
}

static int64_t whole(vlci_datum value) {
    return value.kind == VLCI_INT ? value.whole : value.truth;
}

static int order_numbers(vlci_datum a, vlci_datum b) {
    if (a.kind != VLCI_FLOAT && b.kind != VLCI_FLOAT) {
        int64_t x = whole(a), y = whole(b);
        return (x > y) - (x < y);
    }
    double x = vlci_real(a), y = vlci_real(b);
    return (x > y) - (x < y);
}

static int order_words(const vlci_words *a, const vlci_words *b) {
    int order = memcmp(a->data, b->data, a->n < b->n ? a->n : b->n);
    return order ? order : (a->n > b->n) - (a->n < b->n);
}

bool vlci_words_are(const vlci_words *words, const char *text) {
    return words->n == strlen(text) && memcmp(words->data, text, words->n) == 0;
}

static bool equal_lists(vlci_run *run, const vlci_list *a, const vlci_list *b) {
    if (a == b) return true;
    if (a->n != b->n || a->kind != b->kind || a->kind > VLCI_TUPLE) return false;
    for (size_t i = 0; i < a->n; i++)
        if (!vlci_equal(run, a->at[i], b->at[i])) return false;
    return true;
}

static bool equal_dicts(vlci_run *run, const vlci_dict *a, const vlci_dict *b) {
    if (a == b) return true;
    if (a->n != b->n) return false;
    for (size_t i = 0; i < a->n; i++) {
        const vlci_datum *other = vlci_dict_get(run, b, a->at[i].key);
        if (!other || !vlci_equal(run, a->at[i].value, *other)) return false;
    }
    return true;
}

bool vlci_equal(vlci_run *run, vlci_datum a, vlci_datum b) {
    if (vlci_is_number(a) && vlci_is_number(b))
        return order_numbers(a, b) == 0 && !isnan(vlci_real(a)) && !isnan(vlci_real(b));
    if (a.kind != b.kind) return false;
    vlci_run_down(run);
    bool equal = false;
    switch (a.kind) {
    case VLCI_WORDS:
        vlci_run_charge(run, a.words->n);
        equal = order_words(a.words, b.words) == 0;
        break;
    case VLCI_LIST:
        equal = equal_lists(run, a.list, b.list);
        break;
    case VLCI_DICT:
        equal = equal_dicts(run, a.dict, b.dict);
        break;
    case VLCI_SPACE:
        equal = a.dict == b.dict;
        break;
    case VLCI_MACRO:
        equal = a.macro == b.macro;
        break;
    case VLCI_METHOD:
        equal = a.method == b.method;
        break;
    case VLCI_LOOP:
        equal = a.loop == b.loop;
        break;
    case VLCI_FUNCTION:
        equal = a.which == b.which;
        break;
    default:
        equal = true;
    }
    vlci_run_up(run);
    return equal;
}

int vlci_order(vlci_run *run, vlci_datum a, vlci_datum b) {
    vlci_run_charge(run, 0);
    if (vlci_is_number(a) && vlci_is_number(b)) return order_numbers(a, b);
    if (a.kind == VLCI_WORDS && b.kind == VLCI_WORDS) return order_words(a.words, b.words);
    bool lists = a.kind == VLCI_LIST && b.kind == VLCI_LIST && a.list->kind == b.list->kind;
    if (!lists || a.list->kind > VLCI_TUPLE)
        vlci_run_fail(run, "a %s and a %s have no order", vlci_kind_name(a), vlci_kind_name(b));
    vlci_run_down(run);
    int order = 0;
    for (size_t i = 0; i < a.list->n && i < b.list->n && !order; i++)
        if (!vlci_equal(run, a.list->at[i], b.list->at[i]))
            order = vlci_order(run, a.list->at[i], b.list->at[i]);
    vlci_run_up(run);
    return order ? order : (a.list->n > b.list->n) - (a.list->n < b.list->n);
}

/* ---- going through ------------------------------------------------------------------------------------- */

static vlci_list *characters(vlci_run *run, const vlci_words *words) {
    vlci_list *list = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (size_t i = 0; i < words->n;) {
        uint32_t code;
        size_t n = (size_t)vlci_utf8_char(words->data + i, words->n - i, &code);
        vlci_list_add(run, list, vlci_text_datum(vlci_words_cut(run, words, i, i + n)));
        i += n;
    }
    return list;
}

static vlci_list *keys(vlci_run *run, const vlci_dict *dict) {
    vlci_list *list = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (size_t i = 0; i < dict->n; i++) vlci_list_add(run, list, dict->at[i].key);
    return list;
}

vlci_list *vlci_items(vlci_run *run, vlci_datum value) {
    vlci_run_charge(run, 0);
    switch (value.kind) {
    case VLCI_UNDEFINED:
        return vlci_list_new(run, VLCI_PLAIN_LIST);
    case VLCI_WORDS:
        return characters(run, value.words);
    case VLCI_DICT:
        return keys(run, value.dict);
    case VLCI_LIST:
        break;
    default:
        vlci_run_fail(run, "a %s cannot be gone through", vlci_kind_name(value));
    }
    if (value.list->kind != VLCI_GENERATOR) return value.list;
    if (value.list->spent) return vlci_list_new(run, VLCI_PLAIN_LIST);
    value.list->spent = true;
    return value.list;
}

bool vlci_words_find(vlci_run *run, const vlci_words *words, size_t from, const vlci_words *part,
                     size_t *at) {
    if (from > words->n) return false;
    const char *found =
        part->n ? memmem(words->data + from, words->n - from, part->data, part->n) : words->data + from;
    vlci_run_charge(run, found ? (size_t)(found - words->data) - from : words->n - from);
    *at = found ? (size_t)(found - words->data) : 0;
    return found != NULL;
}

bool vlci_contains(vlci_run *run, vlci_datum holder, vlci_datum item) {
    size_t at;
    if (holder.kind == VLCI_WORDS) {
        if (item.kind != VLCI_WORDS) vlci_run_fail(run, "a %s is never in a string", vlci_kind_name(item));
        return vlci_words_find(run, holder.words, 0, item.words, &at);
    }
    if (holder.kind == VLCI_DICT) return vlci_dict_get(run, holder.dict, item) != NULL;
    vlci_list *list = vlci_items(run, holder);
    for (size_t i = 0; i < list->n; i++)
        if (vlci_equal(run, list->at[i], item)) return true;
    return false;
}

/* ---- characters ---------------------------------------------------------------------------------------- */

size_t vlci_words_length(const vlci_words *words) {
    size_t n = 0;
    for (size_t i = 0; i < words->n; i++) n += (words->data[i] & 0xc0) != 0x80;
    return n;
}

size_t vlci_words_offset(const vlci_words *words, size_t at) {
    size_t i = 0;
    while (i < words->n && at--)
        for (i++; i < words->n && (words->data[i] & 0xc0) == 0x80;) i++;
    return i;
}

bool vlci_space(uint32_t code) {
    return vlci_is_space(code) || (code >= 0x1c && code <= 0x1f);
}

size_t vlci_space_head(const char *data, size_t n) {
    size_t i = 0;
    while (i < n) {
        uint32_t code;
        size_t bytes = (size_t)vlci_utf8_char(data + i, n - i, &code);
        if (!vlci_space(code)) break;
        i += bytes;
    }
    return i;
}

size_t vlci_space_tail(const char *data, size_t n) {
    size_t end = n;
    while (end > 0) {
        uint32_t code;
        size_t begin = end - 1;
        while (begin > 0 && (data[begin] & 0xc0) == 0x80) begin--;
        vlci_utf8_char(data + begin, end - begin, &code);
        if (!vlci_space(code)) break;
        end = begin;
    }
    return n - end;
}
