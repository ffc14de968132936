/*
 * resample.c - separable antialiased resizing in fixed point.
 *
 *     weight(o, i) = f((i + 1/2 - center(o)) / s),   center(o) = (o + 1/2) * in / out,   s = max(1, in / out)
 *     out(o) = clip8((sum over i of round(2^22 * weight / sum of weights) * in(i) + 2^21) >> 22)
 *
 * Columns first, rounded to 8 bits, then rows: the arithmetic that Pillow documents and uses, so that the
 * results are equal to the bit (its sources were read for the facts: 22 bits, windows, rounding). A pass
 * whose size does not change is left out. Only the wanted window is computed: a picture of 1 x 60,000 pixels
 * resized by its short side and then cropped costs the crop, not the whole.
 */
#include "picture/resample.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"

enum { PRECISION = 22 };

/* The weights of one axis: output o of [first, first + count) reads inputs start[o - first] and length[..]
 * more. */
typedef struct axis {
    int *start, *length; /* count each, owned */
    int32_t *weight;     /* count x taps, owned */
    int taps;
    int low, high; /* inputs read at all */
    bool copy;     /* the size stays: no pass */
} axis;

/* ---- filters ------------------------------------------------------------------------------------------- */

static double sinc(double x) {
    return x == 0.0 ? 1.0 : sin(M_PI * x) / (M_PI * x);
}

static double box(double x) {
    return x > -0.5 && x <= 0.5 ? 1.0 : 0.0;
}

static double bilinear(double x) {
    x = fabs(x);
    return x < 1.0 ? 1.0 - x : 0.0;
}

static double hamming(double x) {
    x = fabs(x);
    if (x == 0.0) return 1.0;
    return x < 1.0 ? sinc(x) * (0.54 + 0.46 * cos(M_PI * x)) : 0.0;
}

/* Keys' cubic with a = -1/2 (R. G. Keys, 1981). */
static double bicubic(double x) {
    const double a = -0.5;
    x = fabs(x);
    if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0;
    return x < 2.0 ? (((x - 5.0) * x + 8.0) * x - 4.0) * a : 0.0;
}

static double lanczos(double x) {
    return x >= -3.0 && x < 3.0 ? sinc(x) * sinc(x / 3.0) : 0.0;
}

static const struct {
    double (*value)(double x);
    double support;
} filters[] = {
    [VLCI_FILTER_LANCZOS] = {lanczos, 3.0}, [VLCI_FILTER_BILINEAR] = {bilinear, 1.0},
    [VLCI_FILTER_BICUBIC] = {bicubic, 2.0}, [VLCI_FILTER_BOX] = {box, 0.5},
    [VLCI_FILTER_HAMMING] = {hamming, 1.0},
};

/* ---- weights ------------------------------------------------------------------------------------------- */

static void axis_release(axis *a) {
    vlci_free(a->start);
    vlci_free(a->length);
    vlci_free(a->weight);
}

/* Where output o's window lies among `in` inputs. */
static void axis_window(axis *a, int slot, double center, double support, int in) {
    int low = (int)(center - support + 0.5), high = (int)(center + support + 0.5);
    low = low < 0 ? 0 : low;
    high = high > in ? in : high;
    a->start[slot] = low;
    a->length[slot] = high - low;
}

static void axis_weigh(const axis *a, int slot, double center, double scale, vlci_filter filter,
                       double *real) {
    double sum = 0.0;
    for (int i = 0; i < a->length[slot]; i++) {
        real[i] = filters[filter].value((i + a->start[slot] - center + 0.5) * (1.0 / scale));
        sum += real[i];
    }
    int32_t *fixed = a->weight + (size_t)slot * (size_t)a->taps;
    for (int i = 0; i < a->length[slot]; i++) {
        double w = (sum != 0.0 ? real[i] / sum : real[i]) * (1 << PRECISION);
        fixed[i] = (int32_t)(w < 0.0 ? w - 0.5 : w + 0.5);
    }
}

/* Weights for outputs first..first+count-1 of a resize of `in` to `out`. */
static vlcache_status axis_make(axis *a, int in, int out, int first, int count, vlci_filter filter) {
    vlcache_status status = VLCACHE_OK;
    double ratio = (double)in / out, scale = ratio < 1.0 ? 1.0 : ratio;
    double support = filters[filter].support * scale;
    double *real = NULL;
    a->copy = in == out;
    a->low = first;
    a->high = first + count;
    if (a->copy) goto done;
    a->taps = (int)ceil(support) * 2 + 1;
    real = vlci_alloc((size_t)a->taps, sizeof *real);
    a->start = vlci_alloc((size_t)count, sizeof *a->start);
    a->length = vlci_alloc((size_t)count, sizeof *a->length);
    a->weight = vlci_calloc((size_t)count * sizeof *a->weight, (size_t)a->taps);
    if (!real || !a->start || !a->length || !a->weight) {
        status = vlci_fail_memory("weights of a picture's resize");
        goto done;
    }
    for (int i = 0; i < count; i++) {
        double center = (first + i + 0.5) * ratio;
        axis_window(a, i, center, support, in);
        axis_weigh(a, i, center, scale, filter, real);
    }
    a->low = a->start[0];
    a->high = a->start[count - 1] + a->length[count - 1];
done:
    vlci_free(real);
    return status;
}

/* ---- passes -------------------------------------------------------------------------------------------- */

static uint8_t clip8(int64_t sum) {
    int64_t value = sum >> PRECISION;
    return (uint8_t)(value < 0 ? 0 : value > 255 ? 255 : value);
}

/* What the background alone sums to for each output column, with the half that rounds. */
static void background_sums(const axis *a, const uint8_t colour[3], int count, int64_t *base) {
    for (int o = 0; o < count; o++) {
        int64_t weights = 0;
        for (int i = 0; !a->copy && i < a->length[o]; i++)
            weights += a->weight[(size_t)o * (size_t)a->taps + (size_t)i];
        for (int c = 0; c < 3; c++) *base++ = (1 << (PRECISION - 1)) + weights * colour[c];
    }
}

/* One canvas row unscaled: `row` of the picture, NULL where the canvas is empty. */
static void copy_columns(const axis *a, const vlci_canvas *canvas, const uint8_t *row, int count,
                         uint8_t *out) {
    for (int o = 0; o < count; o++, out += 3) {
        int x = a->low + o - canvas->left;
        bool inside = row && x >= 0 && x < canvas->picture_width;
        memcpy(out, inside ? row + (size_t)x * 3 : canvas->background, 3);
    }
}

/* One canvas row scaled: base + sum of weight * (pixel - background) over the picture's columns only, so that
 * a thin picture on a wide canvas costs what it shows. */
static void pass_columns(const axis *a, const vlci_canvas *canvas, const uint8_t *row, int count,
                         const int64_t *base, uint8_t *out) {
    const uint8_t *dark = canvas->background;
    int end = canvas->left + (row ? canvas->picture_width : 0);
    for (int o = 0; o < count; o++, out += 3, base += 3) {
        int low = a->start[o] > canvas->left ? a->start[o] : canvas->left;
        int high = a->start[o] + a->length[o] < end ? a->start[o] + a->length[o] : end;
        const int32_t *w = a->weight + (size_t)o * (size_t)a->taps;
        int64_t r = base[0], g = base[1], b = base[2];
        for (int i = low; i < high; i++) {
            const uint8_t *p = row + (size_t)(i - canvas->left) * 3;
            int64_t weight = w[i - a->start[o]];
            r += weight * (p[0] - dark[0]);
            g += weight * (p[1] - dark[1]);
            b += weight * (p[2] - dark[2]);
        }
        out[0] = clip8(r);
        out[1] = clip8(g);
        out[2] = clip8(b);
    }
}

/* `in` holds rows a->low..a->high-1 of `bytes` bytes; `sum` is scratch of as many sums. */
static void pass_row(const axis *a, int o, const uint8_t *in, size_t bytes, int64_t *sum, uint8_t *out) {
    if (a->copy) {
        memcpy(out, in + (size_t)o * bytes, bytes);
        return;
    }
    const int32_t *w = a->weight + (size_t)o * (size_t)a->taps;
    const uint8_t *row = in + (size_t)(a->start[o] - a->low) * bytes;
    for (size_t x = 0; x < bytes; x++) sum[x] = 1 << (PRECISION - 1);
    for (int i = 0; i < a->length[o]; i++, row += bytes)
        for (size_t x = 0; x < bytes; x++) sum[x] += (int64_t)w[i] * row[x];
    for (size_t x = 0; x < bytes; x++) out[x] = clip8(sum[x]);
}

/* ---- both ---------------------------------------------------------------------------------------------- */

/* Row y of the canvas, scaled along its columns. */
static void scale_row(const axis *columns, const vlci_canvas *c, int y, int count, const int64_t *base,
                      uint8_t *out) {
    bool inside = y >= c->top && y < c->top + c->picture_height;
    const uint8_t *row = inside ? c->pixels + (size_t)(y - c->top) * (size_t)c->picture_width * 3 : NULL;
    if (columns->copy) {
        copy_columns(columns, c, row, count, out);
    } else {
        pass_columns(columns, c, row, count, base, out);
    }
}

static vlcache_status smooth(const vlci_canvas *c, vlci_filter filter, const vlci_window *w, uint8_t *out,
                             size_t stride) {
    vlcache_status status = VLCACHE_OK;
    axis columns = {0}, rows = {0};
    uint8_t *middle = NULL;
    int64_t *sum = NULL;
    size_t bytes = (size_t)w->columns * 3;
    if ((status = axis_make(&columns, c->width, w->width, w->x, w->columns, filter))) goto done;
    if ((status = axis_make(&rows, c->height, w->height, w->y, w->rows, filter))) goto done;
    middle = vlci_alloc((size_t)(rows.high - rows.low), bytes);
    sum = vlci_alloc(bytes, sizeof *sum);
    if (!middle || !sum) {
        status = vlci_fail_memory("resize of a picture");
        goto done;
    }
    background_sums(&columns, c->background, w->columns, sum);
    for (int y = rows.low; y < rows.high; y++)
        scale_row(&columns, c, y, w->columns, sum, middle + (size_t)(y - rows.low) * bytes);
    for (int y = 0; y < w->rows; y++) pass_row(&rows, y, middle, bytes, sum, out + (size_t)y * stride);
done:
    vlci_free(sum);
    vlci_free(middle);
    axis_release(&rows);
    axis_release(&columns);
    return status;
}

/* ---- nearest ------------------------------------------------------------------------------------------- */

/* Input of each output first..first+count-1. The position is summed up step by step, as Pillow does: at ties
 * a product would round differently. */
static void nearest_table(int *table, int in, int out, int first, int count) {
    double step = (double)in / out, at = step * 0.5;
    for (int o = 0; o < first + count; o++, at += step) {
        if (o < first) continue;
        int i = (int)at;
        table[o - first] = i < in ? i : in - 1;
    }
}

static vlcache_status nearest(const vlci_canvas *c, const vlci_window *w, uint8_t *out, size_t stride) {
    int *xs = vlci_alloc((size_t)w->columns, sizeof *xs), *ys = vlci_alloc((size_t)w->rows, sizeof *ys);
    vlcache_status status = VLCACHE_OK;
    if (!xs || !ys) {
        status = vlci_fail_memory("resize of a picture");
        goto done;
    }
    nearest_table(xs, c->width, w->width, w->x, w->columns);
    nearest_table(ys, c->height, w->height, w->y, w->rows);
    for (int y = 0; y < w->rows; y++, out += stride) {
        for (int x = 0; x < w->columns; x++) {
            int px = xs[x] - c->left, py = ys[y] - c->top;
            bool inside = px >= 0 && px < c->picture_width && py >= 0 && py < c->picture_height;
            const uint8_t *p =
                inside ? c->pixels + ((size_t)py * (size_t)c->picture_width + (size_t)px) * 3 : c->background;
            memcpy(out + (size_t)x * 3, p, 3);
        }
    }
done:
    vlci_free(ys);
    vlci_free(xs);
    return status;
}

vlcache_status vlci_resample(const vlci_canvas *canvas, vlci_filter filter, const vlci_window *window,
                             uint8_t *out, size_t stride) {
    if (filter == VLCI_FILTER_NEAREST) return nearest(canvas, window, out, stride);
    if ((int)filter < VLCI_FILTER_LANCZOS || filter > VLCI_FILTER_HAMMING)
        return vlci_fail(VLCACHE_E_ARGUMENT,
                         "preprocessor_config.json: resample is %d: it must be 0 (nearest), 1 (lanczos), 2 "
                         "(bilinear), 3 (bicubic), 4 (box) or 5 (hamming)",
                         (int)filter);
    return smooth(canvas, filter, window, out, stride);
}
