/**
 * section.h - the sections of a report (eval/report.h), each written to a stream.
 */
#ifndef REPORT_SECTION_H
#define REPORT_SECTION_H

#include "eval/report.h"
#include "eval/report/page.h"
#include "eval/report/svg.h"

void section_scores(const report *r, FILE *out);
void section_retention(const report *r, FILE *out);
void section_ablation(const report *r, FILE *out);
void section_sparsity(const report *r, FILE *out);
void section_hits(const report *r, FILE *out);
void section_threshold(const report *r, FILE *out);
void section_gallery(const report *r, FILE *out);

/** Of the studies that --study names. */
void section_layers(const report *r, FILE *out);
void section_spectrum(const report *r, FILE *out);
void section_visual(const report *r, FILE *out);

/** Of tasks whose answers are long, or many; of answers that have a form; of tasks named rare- and common-:
 * nothing where there are none. */
void section_positions(const report *r, FILE *out);
void section_coherence(const report *r, FILE *out);
void section_rare(const report *r, FILE *out);

/** "<h3>pages <small>ANLS, 100 questions</small></h3>" */
void section_task(FILE *out, const sheet *s);

/** What charts of retention have in common. */
#define SECTION_RETENTION .y_title = "Retention", .unit = "%", .whole = 100.0, .whole_name = "full cache"

/** As percentages; of one question there is no interval, low and high become NaN. */
estimate section_percent(const sheet *s, estimate e);

/** "<td>97<small>91–100</small></td>", without what is NaN. */
void section_interval_cell(FILE *out, const estimate *percent);

/** The beginning of a table of policies by budgets, up to its rows. */
void section_table_head(const variants *v, FILE *out);

/** Names of budgets as ticks at 0, 1 ...; `texts` holds them. */
void section_budget_ticks(const variants *v, char (*texts)[16], svg_tick *ticks);

#endif
