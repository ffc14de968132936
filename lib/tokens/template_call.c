/*
 * template_call.c - functions of the template language, and methods of dicts and loops.
 */
#include "tokens/template_run.h"

#include <string.h>
#include <time.h>

#include "core/locale.h"

/* ---- functions ----------------------------------------------------------------------------------------- */

static vlci_datum range(vlci_run *run, const vlci_call *call) {
    vlci_datum v[3];
    int64_t bound[3] = {0, 0, 1};
    vlci_call_bind(run, call, "range", "start stop step", 1, v);
    for (int i = 0; i < 3; i++) {
        if (v[i].kind == VLCI_MISSING) continue;
        if (v[i].kind != VLCI_INT && v[i].kind != VLCI_BOOL)
            vlci_run_fail(run, "range: takes whole numbers, not a %s", vlci_kind_name(v[i]));
        bound[i] = v[i].kind == VLCI_INT ? v[i].whole : v[i].truth;
    }
    if (v[1].kind == VLCI_MISSING) {
        bound[1] = bound[0];
        bound[0] = 0;
    }
    double n = ((double)bound[1] - (double)bound[0]) / (double)(bound[2] ? bound[2] : 1);
    if (!bound[2] || n > VLCI_MOST_RANGE)
        vlci_run_fail(run,
                      bound[2] ? "range: has more than %d numbers" : "range: a step of 0 goes nowhere (%d)",
                      bound[2] ? VLCI_MOST_RANGE : 0);
    vlci_list *list = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (int64_t i = bound[0]; bound[2] > 0 ? i < bound[1] : i > bound[1];) {
        vlci_list_add(run, list, vlci_int(i));
        if (__builtin_add_overflow(i, bound[2], &i)) break;
    }
    return vlci_list_datum(list);
}

static void merge(vlci_run *run, vlci_dict *into, const vlci_dict *from) {
    for (size_t i = 0; i < from->n; i++) vlci_dict_set(run, into, from->at[i].key, from->at[i].value);
}

/* dict(dict or pairs, name=value...). */
static vlci_dict *dict(vlci_run *run, const vlci_call *call) {
    vlci_dict *made = vlci_dict_new(run);
    if (call->n > 1) vlci_run_fail(run, "dict: takes one value and names");
    if (call->n && call->at[0].kind == VLCI_DICT) {
        merge(run, made, call->at[0].dict);
    } else if (call->n) {
        vlci_list *pairs = vlci_items(run, call->at[0]);
        for (size_t i = 0; i < pairs->n; i++) {
            vlci_list *pair = vlci_items(run, pairs->at[i]);
            if (pair->n != 2) vlci_run_fail(run, "dict: an item is no pair");
            vlci_dict_set(run, made, pair->at[0], pair->at[1]);
        }
    }
    for (size_t i = 0; i < call->n_named; i++) {
        const vlci_words *key = vlci_words_of(run, call->named[i].name, call->named[i].bytes);
        vlci_dict_set(run, made, vlci_text_datum(key), call->named[i].value);
    }
    return made;
}

static vlci_datum dict_function(vlci_run *run, const vlci_call *call) {
    return (vlci_datum){.kind = VLCI_DICT, .dict = dict(run, call)};
}

static vlci_datum namespace(vlci_run *run, const vlci_call *call) {
    vlci_dict *made = dict(run, call);
    for (size_t i = 0; i < made->n; i++)
        if (made->at[i].key.kind == VLCI_WORDS && made->at[i].key.words->n &&
            made->at[i].key.words->data[0] == '_')
            vlci_run_fail(run, "a namespace takes no name that begins with _");
    return (vlci_datum){.kind = VLCI_SPACE, .dict = made};
}

static vlci_datum raise_exception(vlci_run *run, const vlci_call *call) {
    vlci_datum v[1];
    vlci_call_bind(run, call, "raise_exception", "message", 1, v);
    const vlci_words *text = vlci_words_from(run, v[0]);
    vlci_arena_leave(&run->arena,
                     vlci_fail(VLCACHE_E_ARGUMENT, "%s: %d:%d: the template says: %.*s", run->file, run->line,
                               run->column, (int)(text->n < 1024 ? text->n : 1024), text->data));
}

static vlci_datum strftime_now(vlci_run *run, const vlci_call *call) {
    vlci_datum v[1];
    char text[512];
    struct tm parts;
    time_t now = run->now >= 0 ? (time_t)run->now : time(NULL);
    vlci_call_bind(run, call, "strftime_now", "format", 1, v);
    if (v[0].kind != VLCI_WORDS) vlci_run_fail(run, "strftime_now: takes a string");
    size_t n = v[0].words->n;
    char *format = vlci_arena_take(&run->arena, n + 2, 1);
    memcpy(format, v[0].words->data, n); /* a blank behind tells an empty text from one that is too long */
    format[n] = ' ';
    localtime_r(&now, &parts);
    size_t bytes = strlen(format) == n + 1 ? vlci_strftime(text, sizeof text, format, &parts) : 0;
    if (!bytes) vlci_run_fail(run, "strftime_now: the format is too long");
    char *copy = vlci_arena_take(&run->arena, bytes, 1);
    memcpy(copy, text, bytes - 1);
    return vlci_text_datum(vlci_words_of(run, copy, bytes - 1));
}

static const struct {
    const char *name;
    vlci_datum (*run)(vlci_run *run, const vlci_call *call);
} functions[] = {
    {"range", range},
    {"dict", dict_function},
    {"namespace", namespace},
    {"raise_exception", raise_exception},
    {"strftime_now", strftime_now},
};

void vlci_functions_set(vlci_run *run, vlci_names *globals) {
    for (size_t i = 0; i < sizeof functions / sizeof *functions; i++)
        vlci_names_set(run, globals, functions[i].name, strlen(functions[i].name),
                       (vlci_datum){.kind = VLCI_FUNCTION, .which = (int)i});
}

vlci_datum vlci_function_run(vlci_run *run, int which, const vlci_call *call) {
    return functions[which].run(run, call);
}

/* ---- methods of dicts, lists and loops ----------------------------------------------------------------- */

static vlci_datum get(vlci_run *run, vlci_datum of, const vlci_call *call) {
    vlci_datum v[2];
    vlci_call_bind(run, call, "get", "key default", 1, v);
    const vlci_datum *found = vlci_dict_get(run, of.dict, v[0]);
    if (found) return *found;
    return v[1].kind == VLCI_MISSING ? vlci_none() : v[1];
}

static vlci_datum view(vlci_run *run, vlci_datum of, const vlci_call *call, bool keys, bool values) {
    vlci_list *list = vlci_list_new(run, keys && values ? VLCI_PAIRS : keys ? VLCI_KEYS : VLCI_VALUES);
    if (call->n || call->n_named) vlci_run_fail(run, "a dict's keys, values and items take no arguments");
    for (size_t i = 0; i < of.dict->n; i++) {
        const vlci_entry *entry = &of.dict->at[i];
        vlci_list *pair = keys && values ? vlci_list_new(run, VLCI_TUPLE) : NULL;
        if (pair) vlci_list_add(run, pair, entry->key);
        if (pair) vlci_list_add(run, pair, entry->value);
        vlci_list_add(run, list, pair ? vlci_list_datum(pair) : keys ? entry->key : entry->value);
    }
    return vlci_list_datum(list);
}

static vlci_datum items(vlci_run *run, vlci_datum of, const vlci_call *call) {
    return view(run, of, call, true, true);
}

static vlci_datum keys(vlci_run *run, vlci_datum of, const vlci_call *call) {
    return view(run, of, call, true, false);
}

static vlci_datum values(vlci_run *run, vlci_datum of, const vlci_call *call) {
    return view(run, of, call, false, true);
}

static vlci_datum copy(vlci_run *run, vlci_datum of, const vlci_call *call) {
    vlci_dict *made = vlci_dict_new(run);
    if (call->n || call->n_named) vlci_run_fail(run, "copy: takes no arguments");
    merge(run, made, of.dict);
    return (vlci_datum){.kind = VLCI_DICT, .dict = made};
}

static vlci_datum cycle(vlci_run *run, vlci_datum of, const vlci_call *call) {
    if (!call->n) vlci_run_fail(run, "cycle: needs something to choose from");
    return call->at[of.loop->at % call->n];
}

static vlci_datum changed(vlci_run *run, vlci_datum of, const vlci_call *call) {
    vlci_list *now = vlci_list_new(run, VLCI_TUPLE);
    for (size_t i = 0; i < call->n; i++) vlci_list_add(run, now, call->at[i]);
    bool differs =
        of.loop->changed.kind == VLCI_MISSING || !vlci_equal(run, of.loop->changed, vlci_list_datum(now));
    of.loop->changed = vlci_list_datum(now);
    return vlci_bool(differs);
}

static vlci_datum count(vlci_run *run, vlci_datum of, const vlci_call *call) {
    vlci_datum v[1];
    int64_t n = 0;
    vlci_call_bind(run, call, "count", "value", 1, v);
    for (size_t i = 0; i < of.list->n; i++) n += vlci_equal(run, of.list->at[i], v[0]);
    return vlci_int(n);
}

static vlci_datum index_of(vlci_run *run, vlci_datum of, const vlci_call *call) {
    vlci_datum v[1];
    vlci_call_bind(run, call, "index", "value", 1, v);
    for (size_t i = 0; i < of.list->n; i++)
        if (vlci_equal(run, of.list->at[i], v[0])) return vlci_int((int64_t)i);
    vlci_run_fail(run, "index: the value is not in the list");
}

static const struct {
    vlci_datum_kind of;
    const char *name;
    vlci_datum (*run)(vlci_run *run, vlci_datum of, const vlci_call *call);
} methods[] = {
    {VLCI_DICT, "get", get},         {VLCI_DICT, "items", items}, {VLCI_DICT, "keys", keys},
    {VLCI_DICT, "values", values},   {VLCI_DICT, "copy", copy},   {VLCI_LOOP, "cycle", cycle},
    {VLCI_LOOP, "changed", changed}, {VLCI_LIST, "count", count}, {VLCI_LIST, "index", index_of},
};
enum { N_METHODS = sizeof methods / sizeof *methods };

/* Methods that change what they belong to: they are there, and using them fails. */
static bool changes(vlci_datum of, const vlci_words *name) {
    static const char *const names[] = {"append", "clear",  "pop",     "reverse",    "insert", "sort",
                                        "extend", "remove", "popitem", "setdefault", "update"};
    if (of.kind != VLCI_DICT && of.kind != VLCI_LIST) return false;
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (vlci_words_are(name, names[i])) return (of.kind == VLCI_DICT) == (i == 1 || i == 2 || i > 7);
    return false;
}

vlci_datum vlci_method_find(vlci_run *run, vlci_datum of, const vlci_words *name) {
    int which = -1;
    if (of.kind == VLCI_LIST && of.list->kind > VLCI_TUPLE) return vlci_undefined(name);
    if (of.kind == VLCI_WORDS) which = vlci_text_method_find(name);
    for (int i = 0; i < N_METHODS && of.kind != VLCI_WORDS; i++)
        if (methods[i].of == of.kind && vlci_words_are(name, methods[i].name)) which = i;
    if (changes(of, name)) which = N_METHODS;
    if (which < 0) return vlci_undefined(name);
    vlci_method *method = VLCI_ARENA_NEW(&run->arena, vlci_method);
    *method = (vlci_method){of, which};
    return (vlci_datum){.kind = VLCI_METHOD, .method = method};
}

vlci_datum vlci_method_run(vlci_run *run, const vlci_method *method, const vlci_call *call) {
    if (method->of.kind == VLCI_WORDS)
        return vlci_text_method_run(run, method->which, method->of.words, call);
    if (method->which == N_METHODS)
        vlci_run_fail(run, "a template may not change a %s", vlci_kind_name(method->of));
    return methods[method->which].run(run, method->of, call);
}
