/*
 * svg.c - from numbers to places on a picture of WIDTH x HEIGHT units
 *
 *     x(v) = LEFT + (v - low) / (high - low) * (WIDTH - LEFT - RIGHT)
 *     y(v) = HEIGHT - BOTTOM - (v - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
 *
 * Axes end at round numbers: steps of 1, 2 or 5 times a power of ten, about SPANS of them.
 */
#include "eval/report/svg.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "common/memory.h"
#include "eval/report/page.h"

enum { WIDTH = 560, WIDE = 1124, HEIGHT = 318, LEFT = 54, RIGHT = 16, TOP = 12, BOTTOM = 50, SPANS = 5 };

typedef struct axis {
    double low, high, step;
    int decimals; /* of its numbers */
} axis;

typedef struct plot {
    FILE *out;
    const svg_chart *chart;
    axis x, y;
    int width;
    double gap; /* between points that are drawn beside one another */
} plot;

/* ---- axes --------------------------------------------------------------------------------------------- */

static double round_step(double span) {
    double power = pow(10.0, floor(log10(span))), part = span / power;
    return power * (part < 1.5 ? 1.0 : part < 3.5 ? 2.0 : part < 7.5 ? 5.0 : 10.0);
}

static axis axis_over(double low, double high) {
    if (!(high > low)) high = low + (low != 0.0 ? fabs(low) * 0.1 : 1.0);
    double step = round_step((high - low) / SPANS);
    axis a = {floor(low / step + 1e-9) * step, ceil(high / step - 1e-9) * step, step, 0};
    while (a.decimals < 6 && fabs(step * pow(10.0, a.decimals) - rint(step * pow(10.0, a.decimals))) > 1e-6)
        a.decimals++;
    return a;
}

static void widen(double value, double *low, double *high) {
    if (isnan(value)) return;
    *low = fmin(*low, value);
    *high = fmax(*high, value);
}

/* Whether anything is there to draw. */
static bool find_axes(plot *p) {
    const svg_chart *c = p->chart;
    double left = INFINITY, right = -INFINITY, low = INFINITY, high = -INFINITY;
    for (size_t s = 0; s < c->n_series; s++)
        for (size_t i = 0; i < c->series[s].n; i++) {
            const svg_point *at = &c->series[s].points[i];
            widen(at->x, &left, &right);
            widen(at->y, &low, &high);
            widen(at->low, &low, &high);
            widen(at->high, &low, &high);
        }
    if (left > right || low > high) return false;
    widen(c->whole, &low, &high);
    if (c->from_zero) low = fmin(low, 0.0);
    p->y = axis_over(low, high);
    p->x = axis_over(left, right);
    if (!c->n_ticks) return true;
    double room = c->dodge ? 0.5 : 0.12 + 0.02 * (double)c->n_ticks;
    p->x.low = c->ticks[0].at - room;
    p->x.high = c->ticks[c->n_ticks - 1].at + room;
    return true;
}

static double x_of(const plot *p, double value) {
    return LEFT + (value - p->x.low) / (p->x.high - p->x.low) * (p->width - LEFT - RIGHT);
}

static double y_of(const plot *p, double value) {
    return HEIGHT - BOTTOM - (value - p->y.low) / (p->y.high - p->y.low) * (HEIGHT - TOP - BOTTOM);
}

static void draw_y_axis(const plot *p) {
    for (double v = p->y.low; v <= p->y.high + p->y.step * 1e-6; v += p->y.step) {
        double y = y_of(p, v);
        fprintf(p->out, "<line class=\"grid-line\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"/>", LEFT,
                p->width - RIGHT, y, y);
        fprintf(p->out, "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%.*f%s</text>\n", LEFT - 8, y + 4,
                p->y.decimals, fabs(v) < 1e-9 ? 0.0 : v, p->chart->unit);
    }
}

static void draw_tick(const plot *p, double at, const char *name) {
    double x = x_of(p, at), y = HEIGHT - BOTTOM;
    fprintf(p->out, "<line class=\"axis\" x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\"/>", x, x, y, y + 4);
    fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", x, y + 20);
    page_text(p->out, name);
    fputs("</text>\n", p->out);
}

/* The room that a name takes, in letters of 6.6 units. */
static double longest_name(const svg_chart *c) {
    size_t most = 1;
    for (size_t i = 0; i < c->n_ticks; i++)
        if (strlen(c->ticks[i].name) > most) most = strlen(c->ticks[i].name);
    return 6.6 * (double)most + 8.0;
}

/* Every name where there is room for all, else every second, third ... */
static void draw_x_axis(const plot *p) {
    const svg_chart *c = p->chart;
    char number[32];
    double room = p->width - LEFT - RIGHT, each = c->n_ticks ? room / (double)c->n_ticks : room;
    size_t stride = c->n_ticks ? (size_t)ceil(longest_name(c) / each) : 1;
    if (stride < 1) stride = 1;
    for (size_t i = 0; i < c->n_ticks; i += stride) draw_tick(p, c->ticks[i].at, c->ticks[i].name);
    for (double v = p->x.low; !c->n_ticks && v <= p->x.high + p->x.step * 1e-6; v += p->x.step) {
        snprintf(number, sizeof number, "%.*f%s", p->x.decimals, v, c->x_unit ? c->x_unit : "");
        draw_tick(p, v, number);
    }
    fprintf(p->out, "<line class=\"axis\" x1=\"%d\" x2=\"%d\" y1=\"%d\" y2=\"%d\"/>\n", LEFT,
            p->width - RIGHT, HEIGHT - BOTTOM, HEIGHT - BOTTOM);
}

static void draw_titles(const plot *p) {
    fprintf(p->out, "<text class=\"title\" x=\"%d\" y=\"%d\" text-anchor=\"middle\">",
            (LEFT + p->width - RIGHT) / 2, HEIGHT - 8);
    page_text(p->out, p->chart->x_title);
    fprintf(p->out,
            "</text>\n<text class=\"title\" transform=\"translate(12 %d) rotate(-90)\" "
            "text-anchor=\"middle\">",
            (TOP + HEIGHT - BOTTOM) / 2);
    page_text(p->out, p->chart->y_title);
    fputs("</text>\n", p->out);
}

/* ---- series ------------------------------------------------------------------------------------------- */

/* Markers about (0, 0), alike in area. A series beyond the eighth takes the colours again, with other
 * markers. */
static void draw_marker(FILE *out, int look) {
    static const char *const shapes[PAGE_COLOURS] = {
        "M-4.3 0A4.3 4.3 0 1 0 4.3 0A4.3 4.3 0 1 0 -4.3 0Z",
        "M-3.9 -3.9H3.9V3.9H-3.9Z",
        "M0 -5.2L5 3.7H-5Z",
        "M0 -5.5L5 0L0 5.5L-5 0Z",
        "M0 5.2L5 -3.7H-5Z",
        "M-1.8 -5H1.8V-1.8H5V1.8H1.8V5H-1.8V1.8H-5V-1.8H-1.8Z",
        "M0 -5.6L1.6 -1.9L5.4 -1.7L2.5 0.9L3.4 4.6L0 2.6L-3.4 4.6L-2.5 0.9L-5.4 -1.7L-1.6 -1.9Z",
        "M-2.3 -4.6H2.3L4.6 0L2.3 4.6H-2.3L-4.6 0Z"};
    int shape = (look + look / PAGE_COLOURS) % PAGE_COLOURS;
    fprintf(out, "<path class=\"mark\" d=\"%s\"/>", shapes[shape]);
}

static double shift_of(const plot *p, size_t series) {
    return p->chart->dodge ? p->gap * ((double)series - 0.5 * (double)(p->chart->n_series - 1)) : 0.0;
}

static void draw_line(const plot *p, const svg_series *s, double shift) {
    bool begun = false;
    fputs("<path class=\"line\" d=\"", p->out);
    for (size_t i = 0; i < s->n; i++) {
        if (!isnan(s->points[i].y))
            fprintf(p->out, "%c%.1f %.1f", begun ? 'L' : 'M', x_of(p, s->points[i].x) + shift,
                    y_of(p, s->points[i].y));
        begun = begun || !isnan(s->points[i].y);
    }
    fputs("\"/>\n", p->out);
}

static void draw_whisker(const plot *p, const svg_point *at, double x) {
    double low = y_of(p, at->low), high = y_of(p, at->high);
    fprintf(p->out, "<path class=\"whisker\" d=\"M%.1f %.1fV%.1fM%.1f %.1fH%.1fM%.1f %.1fH%.1f\"/>", x, low,
            high, x - 3, low, x + 3, x - 3, high, x + 3);
}

static const char *name_of_x(const plot *p, double at, char number[32]) {
    for (size_t i = 0; i < p->chart->n_ticks; i++)
        if (p->chart->ticks[i].at == at) return p->chart->ticks[i].name;
    snprintf(number, 32, "%.*f%s", p->x.decimals + 1, at, p->chart->x_unit ? p->chart->x_unit : "");
    return number;
}

/* What pointing at it says: "h2o, Share of the cache 5%: 81.2 (70.1 to 90.0)" */
static void draw_tip(const plot *p, const svg_series *s, const svg_point *at) {
    char number[32];
    int digits = p->y.decimals + 1 > 1 ? p->y.decimals + 1 : 1;
    fputs("<title>", p->out);
    page_text(p->out, s->name);
    fputs(", ", p->out);
    page_text(p->out, p->chart->x_title);
    fputc(' ', p->out);
    page_text(p->out, name_of_x(p, at->x, number));
    fprintf(p->out, ": %.*f%s", digits, at->y, p->chart->unit);
    if (!isnan(at->low) && !isnan(at->high))
        fprintf(p->out, " (%.*f to %.*f%s)", digits, at->low, digits, at->high, p->chart->unit);
    fputs("</title>", p->out);
}

static void draw_point(const plot *p, const svg_series *s, const svg_point *at, double shift) {
    if (isnan(at->y)) return;
    double x = x_of(p, at->x) + shift;
    fputs("<g class=\"point\">", p->out);
    draw_tip(p, s, at);
    if (!isnan(at->low) && !isnan(at->high)) draw_whisker(p, at, x);
    fprintf(p->out, "<g transform=\"translate(%.1f %.1f)\"><circle class=\"hit\" r=\"9\"/>", x,
            y_of(p, at->y));
    draw_marker(p->out, s->look);
    fputs("</g></g>\n", p->out);
}

static void draw_series(const plot *p, size_t index) {
    const svg_series *s = &p->chart->series[index];
    double shift = shift_of(p, index);
    fprintf(p->out, "<g class=\"series k%d\">\n", s->look % PAGE_COLOURS);
    if (p->chart->lines) draw_line(p, s, shift);
    for (size_t i = 0; i < s->n; i++) draw_point(p, s, &s->points[i], shift);
    fputs("</g>\n", p->out);
}

/* ---- names beside points ------------------------------------------------------------------------------ */

enum { NAME_HEIGHT = 12, LETTER = 7, PLACES = 4 };

typedef struct box {
    double x0, y0, x1, y1;
} box;

static bool meet(const box *a, const box *b) {
    return a->x0 < b->x1 && b->x0 < a->x1 && a->y0 < b->y1 && b->y0 < a->y1;
}

/* Room for a word of n letters above, to the right of, below or to the left of (x, y). */
static box box_at(double x, double y, size_t n, int where) {
    static const double dx[PLACES] = {0.0, 0.5, 0.0, -0.5}, dy[PLACES] = {-1.0, 0.0, 1.0, 0.0};
    double w = LETTER * (double)n;
    x += dx[where] * (w + 16);
    y += dy[where] * (0.5 * NAME_HEIGHT + 8);
    return (box){x - 0.5 * w, y - 0.5 * NAME_HEIGHT, x + 0.5 * w, y + 0.5 * NAME_HEIGHT};
}

static box box_of_point(const plot *p, const svg_series *s) {
    double x = x_of(p, s->points[0].x), y = y_of(p, s->points[0].y);
    return (box){x - 5, y - 5, x + 5, y + 5};
}

static bool is_free(const plot *p, const box *b, const box *names, size_t n) {
    if (b->x0 < LEFT || b->x1 > p->width || b->y0 < 0 || b->y1 > HEIGHT - BOTTOM) return false;
    for (size_t i = 0; i < n; i++)
        if (meet(b, &names[i])) return false;
    for (size_t s = 0; s < p->chart->n_series; s++) {
        box point = box_of_point(p, &p->chart->series[s]);
        if (meet(b, &point)) return false;
    }
    return true;
}

/* The last word of a name, at the first of four places that is free; a crowd leaves some without. */
static void draw_name(const plot *p, const svg_series *s, box *names, size_t *n) {
    const char *space = strrchr(s->name, ' '), *word = space ? space + 1 : s->name;
    if (isnan(s->points[0].y)) return;
    for (int where = 0; where < PLACES; where++) {
        box b = box_at(x_of(p, s->points[0].x), y_of(p, s->points[0].y), strlen(word), where);
        if (!is_free(p, &b, names, *n)) continue;
        names[(*n)++] = b;
        fprintf(p->out, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">", 0.5 * (b.x0 + b.x1), b.y1 - 2);
        page_text(p->out, word);
        fputs("</text>\n", p->out);
        return;
    }
}

static void draw_names(const plot *p) {
    size_t n = 0;
    box *names = memory_take(p->chart->n_series + 1, sizeof *names);
    for (size_t s = 0; s < p->chart->n_series; s++) draw_name(p, &p->chart->series[s], names, &n);
    free(names);
}

static void draw_whole(const plot *p) {
    double y = y_of(p, p->chart->whole);
    fprintf(p->out, "<line class=\"whole\" x1=\"%d\" x2=\"%d\" y1=\"%.1f\" y2=\"%.1f\"><title>", LEFT,
            p->width - RIGHT, y, y);
    page_text(p->out, p->chart->whole_name);
    fputs("</title></line>\n", p->out);
}

/* ---- all of it ---------------------------------------------------------------------------------------- */

static void write_legend(FILE *out, const svg_chart *c) {
    if (c->named) return;
    fputs("<ul class=\"legend\">", out);
    if (!isnan(c->whole)) {
        fputs(
            "<li><svg width=\"26\" height=\"14\"><line class=\"whole\" x1=\"0\" x2=\"26\" y1=\"7\" "
            "y2=\"7\"/></svg><span>",
            out);
        page_text(out, c->whole_name);
        fputs("</span></li>", out);
    }
    for (size_t s = 0; s < c->n_series && (c->n_series > 1 || !isnan(c->whole)); s++) {
        fprintf(out, "<li class=\"k%d\"><svg width=\"26\" height=\"14\">%s<g transform=\"translate(13 7)\">",
                c->series[s].look % PAGE_COLOURS, c->lines ? "<path class=\"line\" d=\"M0 7H26\"/>" : "");
        draw_marker(out, c->series[s].look);
        fputs("</g></svg><span>", out);
        page_text(out, c->series[s].name);
        fputs("</span></li>", out);
    }
    fputs("</ul>\n", out);
}

static size_t count_points(const svg_chart *c) {
    size_t n = 0;
    for (size_t s = 0; s < c->n_series; s++)
        for (size_t i = 0; i < c->series[s].n; i++) n += !isnan(c->series[s].points[i].y);
    return n;
}

/* Lines stay near their x; points alone may spread. */
static double choose_gap(const svg_chart *c, int width) {
    double slots = c->n_ticks ? (double)c->n_ticks : 1.0;
    double gap = 0.74 * (width - LEFT - RIGHT) / slots / (double)(c->n_series ? c->n_series : 1);
    return fmin(gap, c->lines ? 7.0 : 16.0);
}

static void draw_chart(FILE *out, const svg_chart *chart) {
    plot p = {.out = out, .chart = chart, .width = chart->wide ? WIDE : WIDTH};
    p.gap = choose_gap(chart, p.width);
    if (!find_axes(&p)) {
        fputs("<p class=\"note\">Nothing to draw: no value is known.</p>\n", out);
        return;
    }
    write_legend(out, chart);
    fprintf(out,
            "<svg class=\"chart%s\" id=\"chart-%s\" viewBox=\"0 0 %d %d\" role=\"img\" data-series=\"%zu\" "
            "data-points=\"%zu\" aria-label=\"",
            chart->wide ? " wide" : "", chart->id, p.width, HEIGHT, chart->n_series, count_points(chart));
    page_text(out, chart->title);
    fputs("\">\n", out);
    draw_y_axis(&p);
    draw_x_axis(&p);
    draw_titles(&p);
    if (!isnan(chart->whole)) draw_whole(&p);
    for (size_t s = 0; s < chart->n_series; s++) draw_series(&p, s);
    if (chart->named) draw_names(&p);
    fputs("</svg>\n", out);
}

void svg_write(FILE *out, const svg_chart *chart) {
    fputs("<figure>\n", out);
    if (chart->heading) fprintf(out, "<h3>%s</h3>\n", chart->heading);
    draw_chart(out, chart);
    fputs("</figure>\n", out);
}

svg_numbers svg_numbers_make(size_t n, size_t first) {
    svg_numbers a = {n, memory_take(n + 1, sizeof *a.ticks), memory_take(n + 1, sizeof *a.names)};
    for (size_t i = 0; i < n; i++) {
        snprintf(a.names[i], sizeof a.names[i], "%zu", first + i);
        a.ticks[i] = (svg_tick){(double)i, a.names[i]};
    }
    return a;
}

void svg_numbers_release(svg_numbers *a) {
    free(a->ticks);
    free(a->names);
}
