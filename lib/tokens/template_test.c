/*
 * template_test.c - tests: value is name(arguments), those of jinja2.
 */
#include <string.h>

#include "tokens/strings.h"
#include "tokens/template_run.h"

typedef bool (*test)(vlci_run *run, vlci_datum value);
typedef bool (*test_with)(vlci_run *run, vlci_datum value, vlci_datum with);

/* ---- kinds --------------------------------------------------------------------------------------------- */

static bool is_defined(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind != VLCI_UNDEFINED;
}
static bool is_undefined(vlci_run *run, vlci_datum value) {
    return !is_defined(run, value);
}
static bool is_none(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_NONE;
}
static bool is_boolean(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_BOOL;
}
static bool is_true(vlci_run *run, vlci_datum value) {
    return is_boolean(run, value) && value.truth;
}
static bool is_false(vlci_run *run, vlci_datum value) {
    return is_boolean(run, value) && !value.truth;
}
static bool is_integer(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_INT;
}
static bool is_float(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_FLOAT;
}
static bool is_number(vlci_run *run, vlci_datum value) {
    (void)run;
    return vlci_is_number(value);
}
static bool is_string(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_WORDS;
}
static bool is_mapping(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_DICT;
}
static bool is_sequence(vlci_run *run, vlci_datum value) { /* an undefined one has what a sequence has */
    (void)run;
    bool list = value.kind == VLCI_LIST && value.list->kind <= VLCI_TUPLE;
    return list || value.kind == VLCI_WORDS || value.kind == VLCI_DICT || value.kind == VLCI_UNDEFINED;
}
static bool is_iterable(vlci_run *run, vlci_datum value) {
    return is_sequence(run, value) || value.kind == VLCI_LIST || value.kind == VLCI_LOOP;
}
static bool is_callable(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind >= VLCI_MACRO || value.kind == VLCI_UNDEFINED;
}
static bool is_escaped(vlci_run *run, vlci_datum value) {
    (void)run;
    return value.kind == VLCI_WORDS && value.words->safe;
}

static bool remainder_is(vlci_run *run, vlci_datum value, int64_t by, int64_t rest) {
    vlci_datum left = vlci_run_math(run, '%', value, vlci_int(by));
    return vlci_equal(run, left, vlci_int(rest));
}
static bool is_even(vlci_run *run, vlci_datum value) {
    return remainder_is(run, value, 2, 0);
}
static bool is_odd(vlci_run *run, vlci_datum value) {
    return remainder_is(run, value, 2, 1);
}

static bool has_case(vlci_run *run, vlci_datum value, const char *method) {
    const vlci_call none = {0};
    int which = vlci_text_method_find(vlci_text_of(run, method).words);
    return vlci_truth(vlci_text_method_run(run, which, vlci_words_from(run, value), &none));
}
static bool is_lower(vlci_run *run, vlci_datum value) {
    return has_case(run, value, "islower");
}
static bool is_upper(vlci_run *run, vlci_datum value) {
    return has_case(run, value, "isupper");
}

static bool is_filter(vlci_run *run, vlci_datum value) {
    const vlci_words *name = vlci_words_from(run, value);
    return vlci_filter_find(name->data, name->n) >= 0;
}
static bool is_test(vlci_run *run, vlci_datum value) {
    const vlci_words *name = vlci_words_from(run, value);
    return vlci_test_find(name->data, name->n) >= 0;
}

/* ---- comparisons --------------------------------------------------------------------------------------- */

static bool is_equal(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_equal(run, value, with);
}
static bool is_unequal(vlci_run *run, vlci_datum value, vlci_datum with) {
    return !vlci_equal(run, value, with);
}
static bool is_less(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_order(run, value, with) < 0;
}
static bool is_greater(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_order(run, value, with) > 0;
}
static bool is_at_most(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_order(run, value, with) <= 0;
}
static bool is_at_least(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_order(run, value, with) >= 0;
}
static bool is_in(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_contains(run, with, value);
}
static bool is_divisible(vlci_run *run, vlci_datum value, vlci_datum with) {
    return vlci_equal(run, vlci_run_math(run, '%', value, with), vlci_int(0));
}

/* Python's `is`: for what a template can tell apart. */
static bool is_same(vlci_run *run, vlci_datum value, vlci_datum with) {
    if (value.kind != with.kind) return false;
    if (value.kind == VLCI_LIST) return value.list == with.list;
    if (value.kind == VLCI_DICT) return value.dict == with.dict;
    return vlci_equal(run, value, with);
}

static const struct {
    const char *name;
    test run;
    test_with run_with; /* where it takes a value */
} tests[] = {
    {"defined", is_defined, NULL},
    {"undefined", is_undefined, NULL},
    {"none", is_none, NULL},
    {"boolean", is_boolean, NULL},
    {"true", is_true, NULL},
    {"false", is_false, NULL},
    {"integer", is_integer, NULL},
    {"float", is_float, NULL},
    {"number", is_number, NULL},
    {"string", is_string, NULL},
    {"mapping", is_mapping, NULL},
    {"sequence", is_sequence, NULL},
    {"iterable", is_iterable, NULL},
    {"callable", is_callable, NULL},
    {"escaped", is_escaped, NULL},
    {"even", is_even, NULL},
    {"odd", is_odd, NULL},
    {"lower", is_lower, NULL},
    {"upper", is_upper, NULL},
    {"filter", is_filter, NULL},
    {"test", is_test, NULL},
    {"eq", NULL, is_equal},
    {"==", NULL, is_equal},
    {"equalto", NULL, is_equal},
    {"ne", NULL, is_unequal},
    {"!=", NULL, is_unequal},
    {"lt", NULL, is_less},
    {"<", NULL, is_less},
    {"lessthan", NULL, is_less},
    {"gt", NULL, is_greater},
    {">", NULL, is_greater},
    {"greaterthan", NULL, is_greater},
    {"le", NULL, is_at_most},
    {"<=", NULL, is_at_most},
    {"ge", NULL, is_at_least},
    {">=", NULL, is_at_least},
    {"in", NULL, is_in},
    {"sameas", NULL, is_same},
    {"divisibleby", NULL, is_divisible},
};

int vlci_test_find(const char *name, size_t bytes) {
    for (size_t i = 0; i < sizeof tests / sizeof *tests; i++)
        if (strlen(tests[i].name) == bytes && memcmp(tests[i].name, name, bytes) == 0) return (int)i;
    return -1;
}

bool vlci_test_run(vlci_run *run, int which, const vlci_call *call) {
    size_t takes = tests[which].run_with != NULL;
    if (call->n != takes || call->n_named)
        vlci_run_fail(run, "the test %s takes %s", tests[which].name, takes ? "a value" : "no arguments");
    vlci_run_charge(run, 0);
    return takes ? tests[which].run_with(run, call->subject, call->at[0])
                 : tests[which].run(run, call->subject);
}
