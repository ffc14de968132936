#include "bench/kernels.h"

#include "common/exit.h"

int kernels_tell(bench *b) {
    return console_fail(&b->console, EXIT_USAGE, "--kernels: not yet");
}
