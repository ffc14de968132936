/**
 * table.h - the scores as text.
 */
#ifndef EVAL_TABLE_H
#define EVAL_TABLE_H

#include <stdio.h>

#include "eval/score.h"

/** Everything that tables and reports speak of. */
typedef struct outcome {
    const data *data;
    const results *results;
    const variants *variants;
    const scores *scores;
} outcome;

/** Prints them in a format, "md", "csv" or "json", whole or not at all. Returns an exit code. */
int table_write(const outcome *o, const char *format, console *c);

/** "pages (ANLS)": what a group is called. */
void table_group_name(const group *g, char *text, size_t room);

/** "10%", "2.5%": a share as people write it. */
void table_share(double share, char text[16]);

#endif
