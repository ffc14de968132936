/*
 * questions.c - the JSON lines of vlcache-eval's --data.
 */
#include "eval/data.h"
#include "fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *input, size_t bytes) {
    data d;
    fuzz_write("p", "", 0); /* a picture that is there */
    fuzz_write("data.jsonl", input, bytes);
    if (!data_read(fuzz_path("data.jsonl"), 3, false, fuzz_console(), &d))
        for (size_t i = 0; i < d.n; i++) {
            FUZZ_HOLDS(d.items[i].n_turns >= 1 && d.items[i].n_images >= 1);
            FUZZ_HOLDS((size_t)d.items[i].group < d.n_groups);
        }
    data_release(&d);
    return 0;
}
