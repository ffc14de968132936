/*
 * template_eval.c - expressions: tree -> value.
 */
#include "tokens/template_run.h"

#include <math.h>
#include <string.h>

static vlci_datum eval(vlci_run *run, const vlci_node *node, vlci_names *names);

static void stand(vlci_run *run, const vlci_node *node) {
    run->line = node->line;
    run->column = node->column;
}

static bool speaks_of(const vlci_node *node, const char *name) {
    for (; node; node = node->next) {
        bool here = node->kind == VLCI_NODE_NAME && node->bytes == strlen(name) &&
                    memcmp(node->name, name, node->bytes) == 0;
        if (here || speaks_of(node->a, name) || speaks_of(node->b, name) || speaks_of(node->c, name) ||
            speaks_of(node->list, name) || speaks_of(node->other, name))
            return true;
    }
    return false;
}

bool vlci_tree_speaks_of(const vlci_node *node, const char *name) {
    return speaks_of(node->list, name);
}

/* ---- attributes and items ------------------------------------------------------------------------------ */

_Noreturn static void fail_undefined(vlci_run *run, vlci_datum value) {
    const vlci_words *name = value.words;
    if (!name) vlci_run_fail(run, "a value is undefined");
    vlci_run_fail(run, "%.*s is undefined", (int)(name->n < 80 ? name->n : 80), name->data);
}

static vlci_datum loop_changed(const vlci_loop *loop, size_t at, bool there) {
    return there ? loop->items->at[at] : vlci_undefined(NULL);
}

static vlci_datum loop_attribute(vlci_run *run, const vlci_loop *loop, const vlci_words *name) {
    int64_t at = (int64_t)loop->at, n = (int64_t)loop->items->n;
    if (vlci_words_are(name, "index")) return vlci_int(at + 1);
    if (vlci_words_are(name, "index0")) return vlci_int(at);
    if (vlci_words_are(name, "revindex")) return vlci_int(n - at);
    if (vlci_words_are(name, "revindex0")) return vlci_int(n - at - 1);
    if (vlci_words_are(name, "first")) return vlci_bool(at == 0);
    if (vlci_words_are(name, "last")) return vlci_bool(at == n - 1);
    if (vlci_words_are(name, "length")) return vlci_int(n);
    if (vlci_words_are(name, "depth")) return vlci_int(loop->depth + 1);
    if (vlci_words_are(name, "depth0")) return vlci_int(loop->depth);
    if (vlci_words_are(name, "previtem")) return loop_changed(loop, loop->at - 1, at > 0);
    if (vlci_words_are(name, "nextitem")) return loop_changed(loop, loop->at + 1, at < n - 1);
    return vlci_method_find(run, (vlci_datum){.kind = VLCI_LOOP, .loop = (vlci_loop *)loop}, name);
}

vlci_datum vlci_run_attribute(vlci_run *run, vlci_datum value, const vlci_words *name) {
    const vlci_datum *found = NULL;
    vlci_run_charge(run, 0);
    if (value.kind == VLCI_UNDEFINED) fail_undefined(run, value);
    if (value.kind == VLCI_LOOP) return loop_attribute(run, value.loop, name);
    if (value.kind == VLCI_SPACE) {
        found = vlci_dict_find(value.dict, name->data, name->n);
        return found ? *found : vlci_undefined(name);
    }
    if (value.kind == VLCI_MACRO && vlci_words_are(name, "name"))
        return vlci_text_datum(vlci_words_of(run, value.macro->node->name, value.macro->node->bytes));
    vlci_datum method = vlci_method_find(run, value, name);
    if (method.kind != VLCI_UNDEFINED) return method;
    if (value.kind == VLCI_DICT) found = vlci_dict_find(value.dict, name->data, name->n);
    return found ? *found : vlci_undefined(name);
}

/* A place in something of n items that Python's index means; false: none. */
static bool place(vlci_datum key, size_t n, size_t *at) {
    int64_t i = key.kind == VLCI_BOOL ? key.truth : key.whole;
    if (key.kind != VLCI_INT && key.kind != VLCI_BOOL) return false;
    if (i < 0) i += (int64_t)n;
    *at = (size_t)i;
    return i >= 0 && (size_t)i < n;
}

vlci_datum vlci_run_item(vlci_run *run, vlci_datum value, vlci_datum key) {
    size_t at;
    vlci_run_charge(run, 0);
    if (value.kind == VLCI_UNDEFINED) fail_undefined(run, value);
    if (value.kind == VLCI_DICT) {
        bool hashes = key.kind != VLCI_DICT && (key.kind != VLCI_LIST || key.list->kind == VLCI_TUPLE);
        const vlci_datum *found = hashes ? vlci_dict_get(run, value.dict, key) : NULL;
        if (found) return *found;
    }
    if (value.kind == VLCI_LIST && value.list->kind <= VLCI_TUPLE && place(key, value.list->n, &at))
        return value.list->at[at];
    if (value.kind == VLCI_WORDS && place(key, vlci_words_length(value.words), &at)) {
        vlci_run_charge(run, value.words->n);
        size_t begin = vlci_words_offset(value.words, at), end = vlci_words_offset(value.words, at + 1);
        return vlci_text_datum(vlci_words_cut(run, value.words, begin, end));
    }
    if (key.kind != VLCI_WORDS) return vlci_undefined(NULL);
    return value.kind == VLCI_DICT ? vlci_method_find(run, value, key.words)
                                   : vlci_run_attribute(run, value, key.words);
}

/* ---- slices -------------------------------------------------------------------------------------------- */

static bool slice_bound(vlci_run *run, vlci_datum bound, int64_t *value) {
    if (bound.kind == VLCI_NONE || bound.kind == VLCI_MISSING) return false;
    if (bound.kind != VLCI_INT && bound.kind != VLCI_BOOL)
        vlci_run_fail(run, "a slice from or to a %s", vlci_kind_name(bound));
    *value = bound.kind == VLCI_INT ? bound.whole : bound.truth;
    return true;
}

static int64_t clamp(int64_t i, int64_t n, int64_t low, int64_t high) {
    if (i < 0) i += n;
    return i < low ? low : i > high ? high : i;
}

/* Python's slice.indices(). */
static void slice_range(vlci_run *run, const vlci_datum bounds[3], int64_t n, int64_t *first, int64_t *last,
                        int64_t *step) {
    *step = 1;
    slice_bound(run, bounds[2], step);
    if (*step == 0) vlci_run_fail(run, "a slice cannot have steps of 0");
    bool down = *step < 0;
    int64_t low = down ? -1 : 0, high = down ? n - 1 : n;
    *first = down ? high : low;
    *last = down ? low : high;
    int64_t value;
    if (slice_bound(run, bounds[0], &value)) *first = clamp(value, n, low, high);
    if (slice_bound(run, bounds[1], &value)) *last = clamp(value, n, low, high);
}

static vlci_datum slice_words(vlci_run *run, const vlci_words *words, const vlci_datum bounds[3]) {
    int64_t first, last, step;
    vlci_writing text = {0};
    vlci_run_charge(run, words->n);
    slice_range(run, bounds, (int64_t)vlci_words_length(words), &first, &last, &step);
    if (step == 1) {
        size_t begin = vlci_words_offset(words, (size_t)first), end = vlci_words_offset(words, (size_t)last);
        return vlci_text_datum(vlci_words_cut(run, words, begin, begin > end ? begin : end));
    }
    for (int64_t i = first; step > 0 ? i < last : i > last; i += step) {
        vlci_run_charge(run, words->n);
        size_t begin = vlci_words_offset(words, (size_t)i), end = vlci_words_offset(words, (size_t)i + 1);
        vlci_put_words(run, &text, vlci_words_cut(run, words, begin, end));
        if (step > (int64_t)words->n || step < -(int64_t)words->n) break;
    }
    return vlci_text_datum(vlci_written(run, &text));
}

static vlci_datum slice(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum of) {
    vlci_datum bounds[3] = {vlci_none(), vlci_none(), vlci_none()};
    int64_t first, last, step;
    if (node->a) bounds[0] = eval(run, node->a, names);
    if (node->b) bounds[1] = eval(run, node->b, names);
    if (node->c) bounds[2] = eval(run, node->c, names);
    stand(run, node);
    if (of.kind == VLCI_UNDEFINED) fail_undefined(run, of);
    if (of.kind == VLCI_WORDS) return slice_words(run, of.words, bounds);
    if (of.kind != VLCI_LIST || of.list->kind > VLCI_TUPLE)
        vlci_run_fail(run, "a %s has no slices", vlci_kind_name(of));
    slice_range(run, bounds, (int64_t)of.list->n, &first, &last, &step);
    vlci_list *list = vlci_list_new(run, of.list->kind);
    for (int64_t i = first; step > 0 ? i < last : i > last; i += step) {
        vlci_list_add(run, list, of.list->at[i]);
        if (step > (int64_t)of.list->n || step < -(int64_t)of.list->n) break;
    }
    return vlci_list_datum(list);
}

/* ---- operators ----------------------------------------------------------------------------------------- */

_Noreturn static void fail_math(vlci_run *run, int which, vlci_datum a, vlci_datum b) {
    if (a.kind == VLCI_UNDEFINED) fail_undefined(run, a);
    if (b.kind == VLCI_UNDEFINED) fail_undefined(run, b);
    const char *name = which == 'q' ? "//" : which == 'p' ? "**" : (char[]){(char)which, 0};
    vlci_run_fail(run, "a %s %s a %s", vlci_kind_name(a), name, vlci_kind_name(b));
}

static int64_t whole(vlci_datum value) {
    return value.kind == VLCI_BOOL ? value.truth : value.whole;
}

static int64_t floor_mod(int64_t a, int64_t b) {
    if (b == -1) return 0;
    int64_t rest = a % b;
    return rest && (rest < 0) != (b < 0) ? rest + b : rest;
}

static bool power(int64_t base, int64_t exponent, int64_t *value) {
    *value = 1;
    for (int64_t i = 0; i < exponent && i < 64; i++)
        if (__builtin_mul_overflow(*value, base, value)) return false;
    if (exponent >= 64 && (base > 1 || base < -1)) return false;
    if (exponent >= 64 && base == -1) *value = exponent % 2 ? -1 : 1;
    return true;
}

static vlci_datum whole_math(vlci_run *run, int which, int64_t a, int64_t b) {
    int64_t value = 0;
    bool fits = true;
    if (strchr("q%/", which) && b == 0) vlci_run_fail(run, "a division by zero");
    switch (which) {
    case '+':
        fits = !__builtin_add_overflow(a, b, &value);
        break;
    case '-':
        fits = !__builtin_sub_overflow(a, b, &value);
        break;
    case '*':
        fits = !__builtin_mul_overflow(a, b, &value);
        break;
    case '%':
        value = floor_mod(a, b);
        break;
    case 'q':
        fits = b != -1 || a != INT64_MIN;
        if (fits) value = a / b - (a % b && (a < 0) != (b < 0));
        break;
    case '/':
        return vlci_float((double)a / (double)b);
    default:
        if (b < 0 && a == 0) vlci_run_fail(run, "a division by zero");
        if (b < 0) return vlci_float(pow((double)a, (double)b));
        fits = power(a, b, &value);
    }
    if (!fits) vlci_run_fail(run, "a number is beyond what is counted here");
    return vlci_int(value);
}

static vlci_datum real_math(vlci_run *run, int which, double a, double b) {
    if (strchr("q%/", which) && b == 0.0) vlci_run_fail(run, "a division by zero");
    switch (which) {
    case '+':
        return vlci_float(a + b);
    case '-':
        return vlci_float(a - b);
    case '*':
        return vlci_float(a * b);
    case '/':
        return vlci_float(a / b);
    case 'q':
        return vlci_float(floor(a / b));
    case '%':
        return vlci_float(a - b * floor(a / b));
    default:
        return vlci_float(pow(a, b));
    }
}

static vlci_datum join_words(vlci_run *run, const vlci_words *a, const vlci_words *b) {
    vlci_writing text = {0};
    bool safe = a->safe || b->safe;
    if (safe && !a->safe) a = vlci_words_escape(run, a);
    if (safe && !b->safe) b = vlci_words_escape(run, b);
    vlci_put_words(run, &text, a);
    vlci_put_words(run, &text, b);
    vlci_words *joined = (vlci_words *)vlci_written(run, &text);
    joined->safe = safe;
    return vlci_text_datum(joined);
}

static vlci_datum repeat(vlci_run *run, vlci_datum what, int64_t times) {
    vlci_writing text = {0};
    if (what.kind == VLCI_WORDS) {
        for (int64_t i = 0; i < times && what.words->n; i++) vlci_put_words(run, &text, what.words);
        return vlci_text_datum(vlci_written(run, &text));
    }
    vlci_list *list = vlci_list_new(run, what.list->kind);
    for (int64_t i = 0; i < times && what.list->n; i++)
        for (size_t k = 0; k < what.list->n; k++) vlci_list_add(run, list, what.list->at[k]);
    return vlci_list_datum(list);
}

static vlci_datum join_lists(vlci_run *run, const vlci_list *a, const vlci_list *b) {
    vlci_list *list = vlci_list_new(run, a->kind);
    for (size_t i = 0; i < a->n; i++) vlci_list_add(run, list, a->at[i]);
    for (size_t i = 0; i < b->n; i++) vlci_list_add(run, list, b->at[i]);
    return vlci_list_datum(list);
}

static bool is_whole(vlci_datum value) {
    return value.kind == VLCI_INT || value.kind == VLCI_BOOL;
}

static bool is_row(vlci_datum value) {
    return value.kind == VLCI_WORDS || (value.kind == VLCI_LIST && value.list->kind <= VLCI_TUPLE);
}

vlci_datum vlci_run_math(vlci_run *run, int which, vlci_datum a, vlci_datum b) {
    vlci_run_charge(run, 0);
    if (is_whole(a) && is_whole(b)) return whole_math(run, which, whole(a), whole(b));
    if (vlci_is_number(a) && vlci_is_number(b)) return real_math(run, which, vlci_real(a), vlci_real(b));
    if (which == '+' && a.kind == VLCI_WORDS && b.kind == VLCI_WORDS)
        return join_words(run, a.words, b.words);
    if (which == '*' && is_row(a) && is_whole(b)) return repeat(run, a, whole(b));
    if (which == '*' && is_whole(a) && is_row(b)) return repeat(run, b, whole(a));
    if (which == '%' && a.kind == VLCI_WORDS) return vlci_text_datum(vlci_words_percent(run, a.words, b));
    bool lists = a.kind == VLCI_LIST && b.kind == VLCI_LIST && a.list->kind == b.list->kind && is_row(a);
    if (which != '+' || !lists) fail_math(run, which, a, b);
    return join_lists(run, a.list, b.list);
}

static bool holds(vlci_run *run, int which, vlci_datum a, vlci_datum b) {
    if (strchr("<>lg", which) && (a.kind == VLCI_UNDEFINED || b.kind == VLCI_UNDEFINED))
        fail_math(run, which, a, b);
    switch (which) {
    case 'e':
        return vlci_equal(run, a, b);
    case '!':
        return !vlci_equal(run, a, b);
    case '<':
        return vlci_order(run, a, b) < 0;
    case '>':
        return vlci_order(run, a, b) > 0;
    case 'l':
        return vlci_order(run, a, b) <= 0;
    case 'g':
        return vlci_order(run, a, b) >= 0;
    case 'i':
        return vlci_contains(run, b, a);
    default:
        return !vlci_contains(run, b, a);
    }
}

static vlci_datum compare(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum left = eval(run, node->a, names);
    for (const vlci_node *operand = node->list; operand; operand = operand->next) {
        vlci_datum right = eval(run, operand->a, names);
        stand(run, operand);
        if (!holds(run, operand->which, left, right)) return vlci_bool(false);
        left = right;
    }
    return vlci_bool(true);
}

static vlci_datum sign(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum value = eval(run, node->a, names);
    stand(run, node);
    if (!vlci_is_number(value)) fail_math(run, node->kind == VLCI_NODE_MINUS ? '-' : '+', vlci_int(0), value);
    vlci_datum zero = value.kind == VLCI_FLOAT ? vlci_float(-0.0) : vlci_int(0);
    return vlci_run_math(run, node->kind == VLCI_NODE_MINUS ? '-' : '+', zero, value);
}

static vlci_datum concat(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_writing text = {0};
    for (const vlci_node *part = node->list; part; part = part->next)
        vlci_put_datum(run, &text, eval(run, part, names));
    return vlci_text_datum(vlci_written(run, &text));
}

/* ---- calls --------------------------------------------------------------------------------------------- */

static void add_argument(vlci_run *run, vlci_call *call, vlci_datum value) {
    vlci_run_charge(run, 0);
    call->at = vlci_arena_grow(&run->arena, call->at, call->n, &call->room, sizeof *call->at);
    call->at[call->n++] = value;
}

static void add_named(vlci_run *run, vlci_call *call, const char *name, size_t bytes, vlci_datum value) {
    vlci_run_charge(run, 2 * call->n_named);
    for (size_t i = 0; i < call->n_named; i++)
        if (call->named[i].bytes == bytes && memcmp(call->named[i].name, name, bytes) == 0)
            vlci_run_fail(run, "an argument is given twice");
    call->named =
        vlci_arena_grow(&run->arena, call->named, call->n_named, &call->room_named, sizeof *call->named);
    call->named[call->n_named++] = (vlci_variable){name, bytes, value};
}

static void spread_keywords(vlci_run *run, vlci_call *call, vlci_datum value) {
    if (value.kind != VLCI_DICT) vlci_run_fail(run, "** takes a dict, not a %s", vlci_kind_name(value));
    for (size_t i = 0; i < value.dict->n; i++) {
        const vlci_entry *entry = &value.dict->at[i];
        if (entry->key.kind != VLCI_WORDS) vlci_run_fail(run, "** takes a dict with names for keys");
        add_named(run, call, entry->key.words->data, entry->key.words->n, entry->value);
    }
}

static vlci_call arguments(vlci_run *run, const vlci_node *first, vlci_names *names) {
    vlci_call call = {0};
    for (const vlci_node *node = first; node; node = node->next) {
        vlci_datum value = eval(run, node->a, names);
        stand(run, node);
        if (node->kind == VLCI_NODE_ARGUMENT) {
            add_argument(run, &call, value);
        } else if (node->kind == VLCI_NODE_KEYWORD) {
            add_named(run, &call, node->name, node->bytes, value);
        } else if (node->kind == VLCI_NODE_SPREAD) {
            vlci_list *items = vlci_items(run, value);
            for (size_t i = 0; i < items->n; i++) add_argument(run, &call, items->at[i]);
        } else {
            spread_keywords(run, &call, value);
        }
    }
    return call;
}

void vlci_call_bind(vlci_run *run, const vlci_call *call, const char *what, const char *names, size_t least,
                    vlci_datum *values) {
    size_t n = 0, used = 0;
    for (const char *at = names; *at; n++) {
        size_t bytes = strcspn(at, " ");
        values[n] = n < call->n ? call->at[n] : (vlci_datum){.kind = VLCI_MISSING};
        for (size_t i = 0; i < call->n_named; i++)
            if (call->named[i].bytes == bytes && memcmp(call->named[i].name, at, bytes) == 0) {
                if (n < call->n) vlci_run_fail(run, "%s: an argument is given twice", what);
                values[n] = call->named[i].value;
                used++;
            }
        if (values[n].kind == VLCI_MISSING && n < least)
            vlci_run_fail(run, "%s: the argument %.*s is missing", what, (int)bytes, at);
        at += bytes + (at[bytes] == ' ');
    }
    if (call->n > n || used < call->n_named) vlci_run_fail(run, "%s: has no such argument", what);
}

vlci_datum vlci_run_call(vlci_run *run, vlci_datum callee, const vlci_call *call) {
    int line = run->line, column = run->column;
    vlci_datum value;
    vlci_run_down(run);
    switch (callee.kind) {
    case VLCI_MACRO:
        value = vlci_macro_call(run, callee.macro, call);
        break;
    case VLCI_FUNCTION:
        value = vlci_function_run(run, callee.which, call);
        break;
    case VLCI_METHOD:
        value = vlci_method_run(run, callee.method, call);
        break;
    case VLCI_LOOP:
        value = vlci_loop_call(run, callee.loop, call);
        break;
    case VLCI_UNDEFINED:
        fail_undefined(run, callee);
    default:
        vlci_run_fail(run, "a %s cannot be called", vlci_kind_name(callee));
    }
    vlci_run_up(run);
    run->line = line;
    run->column = column;
    return value;
}

vlci_datum vlci_eval_call(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum caller) {
    vlci_datum callee = eval(run, node->a, names);
    vlci_call call = arguments(run, node->list, names);
    call.caller = caller;
    stand(run, node);
    if (caller.kind != VLCI_MISSING && callee.kind != VLCI_MACRO)
        vlci_run_fail(run, "{%% call %%} takes a macro, not a %s", vlci_kind_name(callee));
    return vlci_run_call(run, callee, &call);
}

vlci_datum vlci_eval_filters(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum value) {
    vlci_datum subject = value;
    if (node->a)
        subject = node->a->kind == VLCI_NODE_FILTER && value.kind != VLCI_MISSING
                      ? vlci_eval_filters(run, node->a, names, value)
                      : eval(run, node->a, names);
    vlci_call call = arguments(run, node->list, names);
    call.subject = subject;
    stand(run, node);
    if (node->which < 0)
        vlci_run_fail(run, "no filter is called %.*s", (int)(node->bytes < 60 ? node->bytes : 60),
                      node->name);
    return vlci_filter_run(run, node->which, &call);
}

static vlci_datum test(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum subject = eval(run, node->a, names);
    vlci_call call = arguments(run, node->list, names);
    call.subject = subject;
    stand(run, node);
    if (node->which < 0)
        vlci_run_fail(run, "no test is called %.*s", (int)(node->bytes < 60 ? node->bytes : 60), node->name);
    return vlci_bool(vlci_test_run(run, node->which, &call));
}

/* ---- all of them --------------------------------------------------------------------------------------- */

static vlci_datum display(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_list *list = vlci_list_new(run, node->kind == VLCI_NODE_LIST ? VLCI_PLAIN_LIST : VLCI_TUPLE);
    for (const vlci_node *item = node->list; item; item = item->next)
        vlci_list_add(run, list, eval(run, item, names));
    return vlci_list_datum(list);
}

static vlci_datum dict_display(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_dict *dict = vlci_dict_new(run);
    for (const vlci_node *key = node->list; key; key = key->next->next) {
        vlci_datum name = eval(run, key, names);
        vlci_dict_set(run, dict, name, eval(run, key->next, names));
    }
    return (vlci_datum){.kind = VLCI_DICT, .dict = dict};
}

static vlci_datum name(vlci_run *run, const vlci_node *node, vlci_names *names) {
    const vlci_datum *found = vlci_names_get(run, names, node->name, node->bytes);
    return found ? *found : vlci_undefined(vlci_words_of(run, node->name, node->bytes));
}

static vlci_datum item(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum of = eval(run, node->a, names);
    if (node->b->kind == VLCI_NODE_SLICE) return slice(run, node->b, names, of);
    vlci_datum key = eval(run, node->b, names);
    stand(run, node);
    return vlci_run_item(run, of, key);
}

static vlci_datum attribute(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum of = eval(run, node->a, names);
    stand(run, node);
    return vlci_run_attribute(run, of, vlci_words_of(run, node->name, node->bytes));
}

static vlci_datum math(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum a = eval(run, node->a, names), b = eval(run, node->b, names);
    stand(run, node);
    return vlci_run_math(run, node->which, a, b);
}

static vlci_datum either(vlci_run *run, const vlci_node *node, vlci_names *names) {
    if (vlci_truth(eval(run, node->b, names))) return eval(run, node->a, names);
    return node->c ? eval(run, node->c, names) : vlci_undefined(NULL);
}

static vlci_datum logic(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum left = eval(run, node->a, names);
    return vlci_truth(left) == (node->kind == VLCI_NODE_OR) ? left : eval(run, node->b, names);
}

static vlci_datum eval_one(vlci_run *run, const vlci_node *node, vlci_names *names) {
    switch (node->kind) {
    case VLCI_NODE_CONST:
        return node->value;
    case VLCI_NODE_NAME:
        return name(run, node, names);
    case VLCI_NODE_LIST:
    case VLCI_NODE_TUPLE:
        return display(run, node, names);
    case VLCI_NODE_DICT:
        return dict_display(run, node, names);
    case VLCI_NODE_ATTR:
        return attribute(run, node, names);
    case VLCI_NODE_ITEM:
        return item(run, node, names);
    case VLCI_NODE_CALL:
        return vlci_eval_call(run, node, names, (vlci_datum){.kind = VLCI_MISSING});
    case VLCI_NODE_FILTER:
        return vlci_eval_filters(run, node, names, (vlci_datum){.kind = VLCI_MISSING});
    case VLCI_NODE_TEST:
        return test(run, node, names);
    case VLCI_NODE_NOT:
        return vlci_bool(!vlci_truth(eval(run, node->a, names)));
    case VLCI_NODE_MINUS:
    case VLCI_NODE_PLUS:
        return sign(run, node, names);
    case VLCI_NODE_AND:
    case VLCI_NODE_OR:
        return logic(run, node, names);
    case VLCI_NODE_MATH:
        return math(run, node, names);
    case VLCI_NODE_CONCAT:
        return concat(run, node, names);
    case VLCI_NODE_COMPARE:
        return compare(run, node, names);
    case VLCI_NODE_EITHER:
        return either(run, node, names);
    default:
        vlci_run_fail(run, "is no expression");
    }
}

static vlci_datum eval(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_run_down(run);
    vlci_datum value = eval_one(run, node, names);
    vlci_run_up(run);
    return value;
}

vlci_datum vlci_eval(vlci_run *run, const vlci_node *node, vlci_names *names) {
    return eval(run, node, names);
}
