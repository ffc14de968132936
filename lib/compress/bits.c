/*
 * bits.c - energies -> bits: a water level found by halving, then the last steps one by one.
 *
 *     Of a matrix, whose energies fall, only how many dimensions have each width counts: the next step of a
 *     width is that of the first dimension that has it.
 *
 * A step from width to width has the use E gain(width). One whose use is larger than that of the step before
 * it is taken with that: above a level lie all steps with E min(gains up to it) at or above it.
 */
#include "compress/bits.h"

#include <math.h>
#include <string.h>

#include "core/alloc.h"

/* HALVINGS: of the level's logarithm, or until FEW steps are between the last two levels: they are taken one
 * by one. */
enum { WIDTHS = 4, STEPS = WIDTHS - 1, HALVINGS = 32, FEW = 64 };
static const int bits_of[WIDTHS] = {0, 2, 4, 8};
static const double left_over[WIDTHS] = {1.0, 0.1175, 0.009497, 0.00008};
#define LEAST_USE 1e-30 /* of the largest: steps below it are the last to be taken */

/* Dimensions of a matrix that have at least each width; all have the first. */
typedef struct counts {
    int n[WIDTHS];
} counts;

/* The next step of a width of a matrix. */
typedef struct step {
    double use; /* energy that a bit takes off */
    int matrix, from;
    int at; /* its dimension among those of all */
} step;

typedef struct share {
    const vlci_bits *bits;
    double gain[STEPS], least[STEPS]; /* of a step, for each unit of energy; least: of it and those before */
    counts *now, *low, *high;         /* [matrices] */
    step *heap;                       /* [matrices * STEPS] */
    int n;
    double used;
} share;

static double cost(const vlci_bits *b, int from) {
    return bits_of[from + 1] - bits_of[from] + (from == 0 ? b->basis : 0.0);
}

/* ---- the level ----------------------------------------------------------------------------------------- */

/* How many of the energies from .. until - 1, which fall, are at least `level`; those before `from` are. */
static int count_above(const double *energy, int from, int until, double gain, double level) {
    while (from < until) {
        int middle = from + (until - from) / 2;
        if (energy[middle] > 0.0 && energy[middle] * gain >= level)
            from = middle + 1;
        else
            until = middle;
    }
    return from;
}

/* now: what is above a level that lies between those of low and high. Returns its cost. */
static double fill(share *s, double level) {
    double sum = 0.0;
    for (int m = 0; m < s->bits->matrices; m++)
        for (int w = 0; w < STEPS; w++) {
            s->now[m].n[w + 1] = count_above(s->bits->energy + (size_t)m * (size_t)s->bits->dims,
                                             s->high[m].n[w + 1], s->low[m].n[w + 1], s->least[w], level);
            sum += s->now[m].n[w + 1] * cost(s->bits, w);
        }
    return sum;
}

/* Steps between two levels. */
static int between(const share *s) {
    int n = 0;
    for (int m = 0; m < s->bits->matrices; m++)
        for (int w = 1; w < WIDTHS; w++) n += s->low[m].n[w] - s->high[m].n[w];
    return n;
}

static void copy(const share *s, counts *to, const counts *from) {
    memcpy(to, from, (size_t)s->bits->matrices * sizeof *to);
}

static double clip(double value, double low, double high) {
    return value < low ? low : value > high ? high : value;
}

/* now: all steps above the lowest level whose cost is certain to fit. Where costs point to, and half-way, in
 * turns. */
static void find_level(share *s) {
    const vlci_bits *b = s->bits;
    double top = 0.0, high, low, fits = b->most * (1.0 - 1e-9);
    for (int m = 0; m < b->matrices; m++) {
        top = fmax(top, b->energy[(size_t)m * (size_t)b->dims]);
        s->high[m] = (counts){{b->dims}};
        s->low[m] = (counts){{b->dims, b->dims, b->dims, b->dims}};
    }
    copy(s, s->now, s->high);
    double most = fill(s, 0.0), least = 0.0; /* at the lower level, and at the higher one */
    high = log(2.0 * top * s->gain[0]);
    low = high + log(LEAST_USE);
    for (int i = 0; i < HALVINGS && top > 0.0 && between(s) > FEW; i++) {
        double part = i % 2 || most <= least ? 0.5 : clip((most - fits) / (most - least), 0.02, 0.98);
        double level = low + (high - low) * part, used = fill(s, exp(level));
        if (used <= fits) {
            high = level;
            least = used;
            copy(s, s->high, s->now);
        } else {
            low = level;
            most = used;
            copy(s, s->low, s->now);
        }
    }
    copy(s, s->now, s->high);
}

/* ---- the last steps ------------------------------------------------------------------------------------ */

static bool before(const step *a, const step *b) {
    return a->use != b->use ? a->use > b->use : a->at < b->at;
}

static void push(share *s, step one) {
    int at = s->n++;
    for (; at > 0 && before(&one, &s->heap[(at - 1) / 2]); at = (at - 1) / 2)
        s->heap[at] = s->heap[(at - 1) / 2];
    s->heap[at] = one;
}

static step pop(share *s) {
    step top = s->heap[0], last = s->heap[--s->n];
    int at = 0;
    for (int child = 1; child < s->n; child = 2 * at + 1) {
        if (child + 1 < s->n && before(&s->heap[child + 1], &s->heap[child])) child++;
        if (!before(&s->heap[child], &last)) break;
        s->heap[at] = s->heap[child];
        at = child;
    }
    s->heap[at] = last;
    return top;
}

/* The next step of a width, where a dimension has it and is worth more. */
static void consider(share *s, int matrix, int from) {
    const counts *c = &s->now[matrix];
    if (from >= STEPS || c->n[from + 1] >= c->n[from]) return;
    int at = matrix * s->bits->dims + c->n[from + 1];
    double use = s->bits->energy[at] * s->gain[from];
    if (use > 0.0) push(s, (step){use, matrix, from, at});
}

/* A step that does not fit is the last of its width: those behind it cost as much. */
static void take_rest(share *s) {
    for (int m = 0; m < s->bits->matrices; m++)
        for (int w = 0; w < STEPS; w++) {
            s->used += s->now[m].n[w + 1] * cost(s->bits, w);
            consider(s, m, w);
        }
    while (s->n && s->bits->most - s->used >= 2.0) {
        step one = pop(s);
        counts *c = &s->now[one.matrix];
        double more = s->used + cost(s->bits, one.from);
        if (more > s->bits->most) continue;
        s->used = more;
        bool waits = one.from + 1 < STEPS && c->n[one.from + 2] < c->n[one.from + 1];
        c->n[one.from + 1]++;
        consider(s, one.matrix, one.from);
        if (!waits) consider(s, one.matrix, one.from + 1);
    }
}

/* ---- all ----------------------------------------------------------------------------------------------- */

static void write_bits(const share *s, uint8_t *out) {
    const vlci_bits *b = s->bits;
    for (int m = 0; m < b->matrices; m++)
        for (int w = 0; w < WIDTHS; w++) {
            int from = w < STEPS ? s->now[m].n[w + 1] : 0, until = s->now[m].n[w];
            if (from < until) memset(out + m * b->dims + from, bits_of[w], (size_t)(until - from));
        }
}

vlcache_status vlci_bits_share(const vlci_bits *b, uint8_t *out) {
    size_t n = (size_t)b->matrices;
    share s = {.bits = b,
               .now = vlci_alloc(3 * n + 1, sizeof *s.now),
               .heap = vlci_alloc(n * STEPS + 1, sizeof *s.heap)};
    vlcache_status status = s.now && s.heap ? VLCACHE_OK : vlci_fail_memory("bits of coded rows");
    for (int w = 0; w < STEPS; w++) {
        s.gain[w] = (left_over[w] - left_over[w + 1]) / cost(b, w);
        s.least[w] = w ? fmin(s.least[w - 1], s.gain[w]) : s.gain[w];
    }
    if (!status) {
        s.low = s.now + n;
        s.high = s.low + n;
        find_level(&s);
        take_rest(&s);
        write_bits(&s, out);
    }
    vlci_free(s.now);
    vlci_free(s.heap);
    return status;
}

void vlci_bits_temper(const float *energy, int n, double total, double weight, double *out) {
    double whole = total * weight, factor = whole > 0.0 ? weight * pow(whole, -0.75) : 0.0;
    for (int i = 0; i < n; i++) out[i] = (double)energy[i] * factor;
}
