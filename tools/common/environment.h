/**
 * environment.h - what --help says of environment variables, in every tool the same.
 */
#ifndef COMMON_ENVIRONMENT_H
#define COMMON_ENVIRONMENT_H

/** All that tools and library read. A literal, to stand among others. */
#define ENVIRONMENT_HELP                                                                                     \
    "\n"                                                                                                     \
    "Environment\n"                                                                                          \
    "  VLCACHE_DEVICE           as --device, where that is not given\n"                                      \
    "  VLCACHE_MODEL            as -m, where that is not given (but of vlcache-info)\n"                      \
    "  VLCACHE_MATRIX_UNITS     none: kernels go without the device's matrix units\n"                        \
    "  VLCACHE_VARIANT          kernel:rung[,kernel:rung...] forces variants of kernels\n"                   \
    "  VLCACHE_GEMM             portable, wide, clblast or matrix: the engine of matrix products\n"          \
    "  VLCACHE_KERNEL_BINARIES  none: kernels that are built are not kept as binaries\n"                     \
    "  VLCACHE_KERNEL_DIR       kernels are read from this folder, while one works on them\n"                \
    "  VLCACHE_LOAD_THREADS     threads that read and pack weights [as many as processors, at most 16]\n"    \
    "  VLCACHE_DUMP             layer.0.*,logits,...: intermediate values that are written to a file,\n"     \
    "  VLCACHE_DUMP_FILE        and to which [vlcache.taps]\n"                                               \
    "  XDG_CACHE_HOME           built kernels and measurements are kept in its folder vlcache [~/.cache,\n"  \
    "                           of HOME]\n"                                                                  \
    "  TERM                     dumb, or not set: no progress bars\n"

#endif
