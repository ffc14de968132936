/*
 * cider.c - CIDEr-D
 *
 *     g(w, s)  = count of n-gram w in s * (log(questions) - log(max(1, questions with w in a reference)))
 *     sim_n    = sum_w min(g(w, c), g(w, r)) g(w, r) / (|g(c)| |g(r)|)
 *                * exp(-(length c - length r)^2 / 2 / 6^2)
 *     score    = 10 * mean over references r and n = 1..4 of sim_n(answer c, r)
 *
 * Length is the number of 2-grams, as in the public code: for texts of at least one word its difference is
 * that of the words. Sums run in the order in which n-grams first occur, so they are the same on every run.
 */
#include "eval/cider.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "eval/words.h"

enum { ORDERS = 4 };
static const double sigma = 6.0;

/* The n-grams of one text: how often each occurs, and the length of their vectors. */
typedef struct grams {
    json_t *count[ORDERS];
    double norm[ORDERS];
    size_t length;
} grams;

static void grams_release(grams *g) {
    for (int n = 0; n < ORDERS; n++) json_decref(g->count[n]);
}

static bool increment(json_t *object, const char *key) {
    json_t *count = json_object_get(object, key);
    if (count) return json_integer_set(count, json_integer_value(count) + 1) == 0;
    return json_object_set_new(object, key, json_integer(1)) == 0;
}

/* Words first..last of `w` with a space between them: the name of an n-gram. */
static void name_gram(const words *w, size_t first, size_t last, char *key) {
    for (size_t i = first; i <= last; i++) {
        size_t length = strlen(w->text + w->start[i]);
        memcpy(key, w->text + w->start[i], length);
        key += length;
        *key++ = i < last ? ' ' : 0;
    }
}

static bool count_grams(const words *w, char *key, grams *g) {
    for (size_t n = 0; n < ORDERS; n++)
        for (size_t i = 0; i + n < w->n; i++) {
            name_gram(w, i, i + n, key);
            if (!increment(g->count[n], key)) return false;
        }
    g->length = w->n > 1 ? w->n - 1 : 0;
    return true;
}

static bool grams_of(const char *text, grams *g) {
    words w;
    *g = (grams){.length = 0};
    bool good = words_of(text, &w);
    char *key = good ? malloc(8 * strlen(text) + 16) : NULL; /* longest word list: a bracket a byte */
    for (int n = 0; n < ORDERS; n++) g->count[n] = json_object();
    good = key && g->count[0] && g->count[1] && g->count[2] && g->count[3] && count_grams(&w, key, g);
    free(key);
    words_release(&w);
    return good;
}

/* ---- document frequency -------------------------------------------------------------------------------- */

bool cider_begin(cider *c) {
    *c = (cider){json_object(), 0};
    return c->frequency != NULL;
}

void cider_release(cider *c) {
    json_decref(c->frequency);
    c->frequency = NULL;
}

/* Every n-gram of a question's references, once. */
static bool merge(json_t *seen, const grams *g) {
    for (int n = 0; n < ORDERS; n++)
        if (json_object_update(seen, g->count[n])) return false;
    return true;
}

bool cider_add(cider *c, const char *const *references, size_t n) {
    json_t *seen = json_object(), *value;
    const char *key;
    bool good = seen != NULL;
    for (size_t i = 0; i < n && good; i++) {
        grams g;
        good = grams_of(references[i], &g) && merge(seen, &g);
        grams_release(&g);
    }
    json_object_foreach(seen, key, value) good = good && increment(c->frequency, key);
    c->questions++;
    json_decref(seen);
    return good;
}

/* ---- similarity ---------------------------------------------------------------------------------------- */

static double weight(const cider *c, const char *key, const json_t *count) {
    double df = (double)json_integer_value(json_object_get(c->frequency, key));
    return (double)json_integer_value(count) * (log((double)c->questions) - log(fmax(1.0, df)));
}

static void measure(const cider *c, grams *g) {
    const char *key;
    json_t *count;
    for (int n = 0; n < ORDERS; n++) {
        double sum = 0.0;
        json_object_foreach(g->count[n], key, count) sum += pow(weight(c, key, count), 2.0);
        g->norm[n] = sqrt(sum);
    }
}

/* sim_n, n counted from 0. */
static double similarity(const cider *c, const grams *answer, const grams *reference, int n) {
    const char *key;
    json_t *count;
    double sum = 0.0, delta = (double)answer->length - (double)reference->length;
    json_object_foreach(answer->count[n], key, count) {
        json_t *theirs = json_object_get(reference->count[n], key);
        double g = theirs ? weight(c, key, theirs) : 0.0;
        sum += fmin(weight(c, key, count), g) * g;
    }
    if (answer->norm[n] > 0.0 && reference->norm[n] > 0.0) sum /= answer->norm[n] * reference->norm[n];
    return sum * exp(-delta * delta / (2.0 * sigma * sigma));
}

double cider_score(const cider *c, const char *answer, const char *const *references, size_t n) {
    grams ours;
    bool good = grams_of(answer, &ours);
    double sum = 0.0;
    if (good) measure(c, &ours);
    for (size_t i = 0; i < n && good; i++) {
        grams theirs;
        good = grams_of(references[i], &theirs);
        if (good) measure(c, &theirs);
        for (int k = 0; k < ORDERS && good; k++) sum += similarity(c, &ours, &theirs, k);
        grams_release(&theirs);
    }
    grams_release(&ours);
    return good ? 10.0 * sum / ORDERS / (double)n : NAN;
}
