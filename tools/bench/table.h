/**
 * table.h - lines of numbers on standard output: a table to read, CSV, or JSON.
 *
 *     table t = table_begin(columns, "md", NULL, &console);
 *     table_text(&t, "full"); table_number(&t, 1.25); ...     one for each column, in their order
 *     table_end_row(&t);   ...   table_end(&t);
 */
#ifndef BENCH_TABLE_H
#define BENCH_TABLE_H

#include <stdbool.h>

#include <jansson.h>

#include "common/console.h"

typedef struct column {
    const char *key;    /* of JSON and CSV; NULL: the end */
    const char *title;  /* of the table to read; NULL: not in it */
    const char *format; /* of a number there: "%.2f"; NULL: texts */
} column;

typedef struct table {
    const column *columns;
    const char *format; /* md, csv or json */
    int at, rows;
    json_t *row, *all; /* JSON */
    json_t *head;      /* what stands beside the rows, "key": value; owned */
    console *console;
} table;

/** Begins: md and csv print their heads. `head` (owned from now on; NULL: none) is what JSON has beside
 * "results". Where standard output fails, all that runs is interrupted. */
table table_begin(const column *columns, const char *format, json_t *head, console *to);

void table_text(table *t, const char *text);
void table_number(table *t, double value);

/** A number that is not there. */
void table_none(table *t);

/** The next column's number with its spread behind it: "1.25 (1.20..1.31)" in md, three columns elsewhere,
 * whose keys are "key", "key_min" and "key_max". */
void table_spread(table *t, double value, double low, double high);

void table_end_row(table *t);

/** JSON comes now. */
void table_end(table *t);

#endif
