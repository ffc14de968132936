/*
 * table.c - one walk over the columns for three formats.
 */
#include "bench/table.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "common/interrupt.h"
#include "common/memory.h"

static bool is(const table *t, const char *format) {
    return strcmp(t->format, format) == 0;
}

static void head_md(const column *columns) {
    for (const column *c = columns; c->key; c++)
        if (c->title) printf("| %s ", c->title);
    puts("|");
    for (const column *c = columns; c->key; c++)
        if (c->title) fputs(c->format ? "|--:" : "|---", stdout);
    puts("|");
}

static void head_csv(const column *columns) {
    for (const column *c = columns; c->key; c++) printf("%s%s", c == columns ? "" : ",", c->key);
    putchar('\n');
}

/* A line may take long: whoever reads along has it now. */
static void send(const table *t) {
    if (!console_flush(t->console)) interrupt_raise();
}

table table_begin(const column *columns, const char *format, json_t *head, console *to) {
    table t = {.columns = columns, .format = format, .head = head, .console = to};
    if (is(&t, "md")) head_md(columns);
    if (is(&t, "csv")) head_csv(columns);
    send(&t);
    if (is(&t, "json")) {
        t.all = json_array();
        if (!t.all) memory_out();
    }
    return t;
}

/* The next column, and where its text goes. */
static const column *next(table *t) {
    const column *c = &t->columns[t->at++];
    if (t->all && !t->row) {
        t->row = json_object();
        if (!t->row) memory_out();
    }
    if (is(t, "csv") && t->at > 1) putchar(',');
    return c;
}

static void put_json(table *t, const char *key, json_t *value) {
    if (json_object_set_new(t->row, key, value)) memory_out();
}

/* CSV: in quotes where a comma or a quote asks for them. */
static void put_csv(const char *text) {
    if (!strpbrk(text, ",\"\n")) {
        fputs(text, stdout);
        return;
    }
    putchar('"');
    for (; *text; text++) printf("%s%c", *text == '"' ? "\"" : "", *text);
    putchar('"');
}

/* Markdown: a | would end the cell. */
static void put_md(const char *text) {
    fputs("| ", stdout);
    for (; *text; text++) printf("%s%c", *text == '|' ? "\\" : "", *text);
    putchar(' ');
}

void table_text(table *t, const char *text) {
    const column *c = next(t);
    if (t->all)
        put_json(t, c->key, json_string(text));
    else if (is(t, "csv"))
        put_csv(text);
    else if (c->title)
        put_md(text);
}

/* Six digits: more than any clock has. */
void table_number(table *t, double value) {
    const column *c = next(t);
    if (!isfinite(value)) value = 0;
    if (t->all) {
        put_json(t, c->key,
                 value == rint(value) && fabs(value) < 1e15 ? json_integer((json_int_t)value)
                                                            : json_real(value));
    } else if (is(t, "csv")) {
        printf(value == rint(value) && fabs(value) < 1e15 ? "%.0f" : "%.6g", value);
    } else if (c->title) {
        fputs("| ", stdout);
        printf(c->format, value);
        putchar(' ');
    }
}

void table_none(table *t) {
    const column *c = next(t);
    if (t->all)
        put_json(t, c->key, json_null());
    else if (!is(t, "csv") && c->title)
        fputs("| - ", stdout);
}

void table_spread(table *t, double value, double low, double high) {
    const column *c = &t->columns[t->at];
    if (!is(t, "md")) {
        table_number(t, value);
        table_number(t, low);
        table_number(t, high);
        return;
    }
    t->at += 3;
    if (!c->title) return;
    fputs("| ", stdout);
    printf(c->format, value);
    fputs(" (", stdout);
    printf(c->format, low);
    fputs("..", stdout);
    printf(c->format, high);
    fputs(") ", stdout);
}

void table_end_row(table *t) {
    if (t->all && json_array_append_new(t->all, t->row)) memory_out();
    if (is(t, "md")) puts("|");
    if (is(t, "csv")) putchar('\n');
    t->row = NULL;
    t->at = 0;
    t->rows++;
    send(t);
}

void table_end(table *t) {
    if (t->all) {
        json_t *whole = t->head ? t->head : json_object();
        if (!whole || json_object_set_new(whole, "results", t->all)) memory_out();
        json_dumpf(whole, stdout, JSON_INDENT(1) | JSON_REAL_PRECISION(6));
        putchar('\n');
        t->head = whole;
    }
    json_decref(t->head);
    *t = (table){0};
}
