/*
 * spectrum.c - dims(m) = min { k : E_1 + ... + E_k >= 0.9 total(m) },   means over the kv heads of a layer
 */
#include "compress/spectrum.h"

static const double most = 0.9;

int vlci_spectrum_dims(const float *energy, int n, double total) {
    double sum = 0.0;
    int k = 0;
    while (k < n && sum < most * total) sum += (double)energy[k++];
    return k;
}

void vlci_spectrum_layer(const vlci_spectrum *s, int index, vlcache_compress_layer *layer) {
    for (int kind = 0; kind < 2; kind++) {
        int dims = 0, bits = 0;
        for (int h = 0; h < s->kv_heads; h++) {
            size_t m = 2 * ((size_t)index * (size_t)s->kv_heads + (size_t)h) + (size_t)kind;
            size_t at = m * (size_t)s->columns;
            dims += vlci_spectrum_dims(s->energy + at, s->columns, (double)s->total[m]);
            for (int i = 0; i < s->columns; i++) bits += s->bits[at + (size_t)i];
        }
        layer->dims[kind] = (double)dims / s->kv_heads;
        layer->bits[kind] = (double)bits / s->kv_heads;
    }
}
