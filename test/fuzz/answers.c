/*
 * answers.c - what a model said against two references, by each metric.
 */
#include <math.h>
#include <stdlib.h>

#include "eval/cider.h"
#include "eval/metric.h"
#include "fuzz.h"

static bool within(double score, double most) {
    return isnan(score) || (score >= 0 && score <= most); /* NaN: memory ran out */
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    if (bytes > 512) return 0; /* the distance of two texts takes their lengths' product */
    fuzz_input in = {data, bytes};
    char *answer = fuzz_text(&in), *one = fuzz_text(&in), *other = fuzz_text(&in);
    const char *references[] = {one, other};
    cider c;
    for (metric m = 0; m < METRICS; m++) {
        if (m == METRIC_LIKELIHOOD) continue; /* reads no answer */
        if (m == METRIC_CIDER) continue;
        FUZZ_HOLDS(within(metric_score(m, answer, references, 2), 1));
        FUZZ_HOLDS(m == METRIC_CONTAINS || metric_score(m, one, references, 2) == 1);
    }
    if (cider_begin(&c) && cider_add(&c, references, 2))
        FUZZ_HOLDS(within(cider_score(&c, answer, references, 2), 10));
    cider_release(&c);
    free(answer);
    free(one);
    free(other);
    return 0;
}
