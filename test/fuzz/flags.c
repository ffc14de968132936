/*
 * flags.c - the command line of the tool whose options FUZZ_OPTIONS names: words parted by zero bytes.
 */
#include <getopt.h>
#include <stdlib.h>

#include "common/exit.h"
#include "common/flag.h"
#include "fuzz.h"
#include FUZZ_OPTIONS

enum { WORDS = 16 };

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    char *argv[WORDS + 1] = {"tool"};
    int argc = 1;
    options o;
    while (argc < WORDS && in.bytes) argv[argc++] = fuzz_text(&in);
    optind = 0; /* anew */
    int code = options_parse(argc, argv, &o);
    FUZZ_HOLDS(code == EXIT_OK || code == EXIT_USAGE || code == EXIT_MEMORY);
    options_release(&o);
    while (argc > 1) free(argv[--argc]);
    return 0;
}
