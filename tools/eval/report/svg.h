/**
 * svg.h - charts: lines and points over two axes, with a legend above.
 */
#ifndef REPORT_SVG_H
#define REPORT_SVG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/** One point; low and high are NaN where it has no interval. A point whose y is NaN is not drawn. */
typedef struct svg_point {
    double x, y, low, high;
} svg_point;

typedef struct svg_series {
    const char *name;
    int look; /* its colour and marker, from 0; the same thing looks the same in every chart */
    const svg_point *points;
    size_t n;
} svg_series;

/** A place on the x axis with a name; where x stands for a number, there are no ticks and the axis finds its
 * own. */
typedef struct svg_tick {
    double at;
    const char *name;
} svg_tick;

typedef struct svg_chart {
    const char *id;      /* letters, digits and - */
    const char *title;   /* for those who cannot see it */
    const char *heading; /* above it; NULL: none */
    const char *x_title, *y_title;
    const svg_tick *ticks;
    size_t n_ticks;
    const svg_series *series;
    size_t n_series;
    bool wide;          /* as wide as the page, not half of it */
    bool lines;         /* joins the points of a series */
    bool dodge;         /* draws points that share an x beside one another */
    bool named;         /* writes the last word of each name beside its first point; no legend */
    bool from_zero;     /* the y axis begins at 0 */
    const char *unit;   /* behind numbers of y: "%" or "" */
    const char *x_unit; /* of x, where it has no ticks */
    double whole;       /* a dashed line across; NaN: none */
    const char *whole_name;
} svg_chart;

/** Writes a figure: a legend and an svg element. */
void svg_write(FILE *out, const svg_chart *chart);

/** Ticks at 0, 1 ... that count things from `first` on. */
typedef struct svg_numbers {
    size_t n;
    svg_tick *ticks;
    char (*names)[24];
} svg_numbers;

svg_numbers svg_numbers_make(size_t n, size_t first);
void svg_numbers_release(svg_numbers *numbers);

#endif
