/*
 * template_format.c - Python's two ways to put values into a text: "%s of %d" % (a, b), "{} of {n}".format().
 */
#include "tokens/template_run.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/locale.h"

/* ---- percent ------------------------------------------------------------------------------------------- */

typedef struct percent {
    vlci_run *run;
    vlci_datum arguments;
    size_t used;
    vlci_writing to;
} percent;

static bool is_tuple(vlci_datum value) {
    return value.kind == VLCI_LIST && value.list->kind == VLCI_TUPLE;
}

static vlci_datum next_argument(percent *p) {
    size_t n = is_tuple(p->arguments) ? p->arguments.list->n : 1;
    if (p->used >= n) vlci_run_fail(p->run, "%%: has fewer arguments than places");
    return is_tuple(p->arguments) ? p->arguments.list->at[p->used++] : (p->used++, p->arguments);
}

static int64_t whole_of(percent *p, vlci_datum value) {
    if (value.kind == VLCI_FLOAT && fabs(value.real) < 9e18) return (int64_t)value.real;
    if (value.kind != VLCI_INT && value.kind != VLCI_BOOL)
        vlci_run_fail(p->run, "%%: a place for a number gets a %s", vlci_kind_name(value));
    return value.kind == VLCI_INT ? value.whole : value.truth;
}

/* flags: those of the place, with its width and precision, each at most 3 digits. */
static void put_number(percent *p, const char *flags, char kind, vlci_datum value) {
    char format[24], text[1400];
    bool real = strchr("feEgG", kind) != NULL;
    if (real && !vlci_is_number(value)) whole_of(p, value);
    snprintf(format, sizeof format, real ? "%%%s%c" : "%%%sll%c", flags, kind == 'i' ? 'd' : kind);
    int n = real ? vlci_snprintf(text, sizeof text, format, vlci_real(value))
                 : snprintf(text, sizeof text, format, (long long)whole_of(p, value));
    vlci_put(p->run, &p->to, text, (size_t)n, VLCI_ORIGIN_TEMPLATE);
}

static void put_text(percent *p, const char *flags, const vlci_words *words) {
    bool left = strchr(flags, '-') != NULL;
    const char *dot = strchr(flags, '.');
    long width = strtol(flags + strspn(flags, "-+ #0"), NULL, 10);
    size_t n = vlci_words_length(words), most = dot ? (size_t)atoi(dot + 1) : n;
    if (most < n) words = vlci_words_cut(p->run, words, 0, vlci_words_offset(words, most));
    long gap = width - (long)(most < n ? most : n);
    for (long i = 0; i < gap && !left; i++) vlci_put(p->run, &p->to, " ", 1, VLCI_ORIGIN_TEMPLATE);
    vlci_put_words(p->run, &p->to, words);
    for (long i = 0; i < gap && left; i++) vlci_put(p->run, &p->to, " ", 1, VLCI_ORIGIN_TEMPLATE);
}

static vlci_datum named_argument(percent *p, const char *name, size_t n) {
    const vlci_datum *found =
        p->arguments.kind == VLCI_DICT ? vlci_dict_find(p->arguments.dict, name, n) : NULL;
    if (!found) vlci_run_fail(p->run, "%%: no argument is called %.*s", (int)(n < 60 ? n : 60), name);
    return *found;
}

/* The place at `at`, behind its %; where it ends. */
static size_t put_place(percent *p, const vlci_words *format, size_t at) {
    char flags[16];
    size_t n = 0;
    const char *name = NULL, *end = NULL;
    if (at < format->n && format->data[at] == '(') {
        name = format->data + at + 1;
        end = memchr(name, ')', format->n - at - 1);
        if (!end) vlci_run_fail(p->run, "%%: a name has no end");
        at = (size_t)(end - format->data) + 1;
    }
    for (int in_a_row = 0; at < format->n && n < sizeof flags - 1 &&
                           strchr("-+ #0123456789.", format->data[at]) && format->data[at];
         at++) {
        in_a_row = format->data[at] >= '0' && format->data[at] <= '9' ? in_a_row + 1 : 0;
        if (in_a_row > 3) vlci_run_fail(p->run, "%%: a width is too large");
        flags[n++] = format->data[at];
    }
    flags[n] = 0;
    size_t signs = strspn(flags, "-+ #0"), digits = strspn(flags + signs, "0123456789");
    const char *rest = flags + signs + digits;
    if (*rest && (*rest != '.' || rest[1 + strspn(rest + 1, "0123456789")]))
        vlci_run_fail(p->run, "%%: a place of a kind that is not known");
    char kind = at < format->n ? format->data[at] : 0;
    if (kind == '%') {
        vlci_put(p->run, &p->to, "%", 1, VLCI_ORIGIN_TEMPLATE);
        return at + 1;
    }
    if (!kind || !strchr("sriduxXoeEfgG", kind))
        vlci_run_fail(p->run, "%%: a place of a kind that is not known");
    vlci_datum value = name ? named_argument(p, name, (size_t)(end - name)) : next_argument(p);
    if (name) p->used = 1;
    vlci_writing text = {0};
    if (kind == 'r') vlci_put_repr(p->run, &text, value);
    if (kind == 'r')
        put_text(p, flags, vlci_written(p->run, &text));
    else if (kind == 's')
        put_text(p, flags, vlci_words_from(p->run, value));
    else
        put_number(p, flags, kind == 'u' ? 'd' : kind, value);
    return at + 1;
}

const vlci_words *vlci_words_percent(vlci_run *run, const vlci_words *format, vlci_datum arguments) {
    percent p = {.run = run, .arguments = arguments};
    for (size_t at = 0; at < format->n;) {
        const char *next = memchr(format->data + at, '%', format->n - at);
        size_t end = next ? (size_t)(next - format->data) : format->n;
        vlci_put_words(run, &p.to, vlci_words_cut(run, format, at, end));
        at = next ? put_place(&p, format, end + 1) : end;
    }
    bool all = is_tuple(arguments) ? p.used == arguments.list->n
                                   : p.used == 1 || arguments.kind == VLCI_DICT ||
                                         arguments.kind == VLCI_LIST || arguments.kind == VLCI_UNDEFINED;
    if (!all) vlci_run_fail(run, "%%: has more arguments than places");
    return vlci_written(run, &p.to);
}

/* ---- format -------------------------------------------------------------------------------------------- */

/* What {name.attribute[item]} means. */
static vlci_datum field(vlci_run *run, const char *name, size_t n, const vlci_call *call, size_t *next) {
    size_t head = 0, index = 0;
    vlci_datum value = {.kind = VLCI_MISSING};
    while (head < n && !strchr(".[", name[head])) head++;
    bool digits = head > 0 && head < 6;
    for (size_t i = 0; i < head && digits; i++) digits = name[i] >= '0' && name[i] <= '9';
    if (!head) index = (*next)++;
    if (digits) index = (size_t)strtoul(name, NULL, 10);
    if ((!head || digits) && index < call->n) value = call->at[index];
    for (size_t i = 0; i < call->n_named && head && !digits; i++)
        if (call->named[i].bytes == head && memcmp(call->named[i].name, name, head) == 0)
            value = call->named[i].value;
    if (value.kind == VLCI_MISSING) vlci_run_fail(run, "format: has fewer arguments than places");
    while (head < n) {
        bool item = name[head++] == '[';
        size_t end = head;
        while (end < n && !strchr(item ? "]" : ".[", name[end])) end++;
        const vlci_words *key = vlci_words_of(run, name + head, end - head);
        value = item ? vlci_run_item(run, value, vlci_text_datum(key)) : vlci_run_attribute(run, value, key);
        head = end + item;
    }
    return value;
}

const vlci_words *vlci_words_format(vlci_run *run, const vlci_words *format, const vlci_call *call) {
    vlci_writing text = {0};
    size_t next = 0;
    for (size_t at = 0; at < format->n;) {
        size_t end = at;
        while (end < format->n && format->data[end] != '{' && format->data[end] != '}') end++;
        vlci_put_words(run, &text, vlci_words_cut(run, format, at, end));
        if (end == format->n) break;
        char c = format->data[end];
        if (end + 1 < format->n && format->data[end + 1] == c) {
            vlci_put_words(run, &text, vlci_words_cut(run, format, end, end + 1));
            at = end + 2;
            continue;
        }
        const char *close = c == '{' ? memchr(format->data + end, '}', format->n - end) : NULL;
        if (!close) vlci_run_fail(run, "format: a single brace");
        const char *name = format->data + end + 1;
        size_t n = (size_t)(close - name);
        if (memchr(name, ':', n) || memchr(name, '!', n) || memchr(name, '{', n))
            vlci_run_fail(run, "format: takes no width, kind or precision here; use %%");
        vlci_put_datum(run, &text, field(run, name, n, call, &next));
        at = (size_t)(close - format->data) + 1;
    }
    return vlci_written(run, &text);
}
