/*
 * bits.c - energies -> bits: a heap of the next step of each dimension.
 */
#include "compress/bits.h"

#include <math.h>

#include "core/alloc.h"

enum { LEVELS = 4 };
static const int bits_of[LEVELS] = {0, 2, 4, 8};
static const double left_over[LEVELS] = {1.0, 0.1175, 0.009497, 0.00008};

/* The step from level to level + 1 of a dimension. */
typedef struct step {
    double use; /* energy that a bit takes off */
    int at, level;
} step;

typedef struct heap {
    step *list;
    int n;
} heap;

static bool before(const step *a, const step *b) {
    return a->use != b->use ? a->use > b->use : a->at < b->at;
}

static void push(heap *h, step one) {
    int at = h->n++;
    for (; at > 0 && before(&one, &h->list[(at - 1) / 2]); at = (at - 1) / 2)
        h->list[at] = h->list[(at - 1) / 2];
    h->list[at] = one;
}

static step pop(heap *h) {
    step top = h->list[0], last = h->list[--h->n];
    int at = 0;
    for (int child = 1; child < h->n; child = 2 * at + 1) {
        if (child + 1 < h->n && before(&h->list[child + 1], &h->list[child])) child++;
        if (!before(&h->list[child], &last)) break;
        h->list[at] = h->list[child];
        at = child;
    }
    h->list[at] = last;
    return top;
}

static double cost(const vlci_bits *b, int level) {
    return bits_of[level + 1] - bits_of[level] + (level == 0 ? b->basis : 0.0);
}

static void consider(const vlci_bits *b, heap *h, int at, int level) {
    double use = b->energy[at] * (left_over[level] - left_over[level + 1]) / cost(b, level);
    if (use > 0.0) push(h, (step){use, at, level});
}

vlcache_status vlci_bits_share(const vlci_bits *b, uint8_t *out) {
    int n = b->matrices * b->dims;
    heap h = {.list = vlci_alloc((size_t)n + 1, sizeof *h.list)};
    double used = 0.0;
    if (!h.list) return vlci_fail_memory("bits of coded rows");
    for (int i = 0; i < n; i++) {
        out[i] = 0;
        consider(b, &h, i, 0);
    }
    while (h.n) {
        step s = pop(&h);
        double more = used + cost(b, s.level);
        if (more > b->most) continue;
        used = more;
        out[s.at] = (uint8_t)bits_of[s.level + 1];
        if (s.level + 2 < LEVELS) consider(b, &h, s.at, s.level + 1);
    }
    vlci_free(h.list);
    return VLCACHE_OK;
}

void vlci_bits_temper(const float *energy, int n, double total, double weight, double *out) {
    double whole = total * weight, factor = whole > 0.0 ? weight * pow(whole, -0.75) : 0.0;
    for (int i = 0; i < n; i++) out[i] = (double)energy[i] * factor;
}
