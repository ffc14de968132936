/*
 * x86.c - whether this process may use the matrix unit (AMX) of an x86 processor, and its products of pairs
 * of bf16 (AVX512_BF16).
 *
 * The unit's registers are 8 KiB that a thread's state grows by, so Linux wants to be asked, once for a
 * process: all its threads may use them then, those that a driver made before as well, and what it forks. A
 * thread that uses what it may not, or what the processor lacks, is killed: nothing that holds such an
 * instruction is built or run before processor and system have both said yes, and the driver has been seen
 * to make code for it.
 */
#include <string.h>

#include "device/program.h"

bool vlci_x86_is(const char *binary, size_t bytes) {
    static const char head[] = "\177ELF\2\1"; /* of 64 bits, little-endian */
    enum { MACHINE = 18, X86_64 = 62 };       /* two bytes of it */
    const char *end = binary + bytes;
    for (const char *at = binary; at; at++) {
        at = memmem(at, (size_t)(end - at), head, sizeof head - 1);
        if (!at || end - at < MACHINE + 2) return false;
        if (at[MACHINE] == X86_64 && at[MACHINE + 1] == 0) return true;
    }
    return false;
}

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
    REQUEST = 0x1023, /* ARCH_REQ_XCOMP_PERM */
    TILE_DATA = 18,   /* the registers, among the states that the system saves */
    TILES = 3 << 17,  /* their shapes and themselves, in XCR0 */
    VECTORS = 0xe6,   /* of 512 bits, and all that is a part of them, in XCR0 */
    SAVES = 1 << 27,  /* OSXSAVE: there is an XCR0 */
    BF16 = 1 << 22,
    TILE = 1 << 24,
    FLOATS = 1 << 16, /* vectors of 512 bits, */
    WORDS = 1 << 30,  /* of elements of 16 bits too, */
    PAIRS = 1 << 5    /* and products of pairs of bf16 */
};

static bool has_amx(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & BF16 && d & TILE;
}

static bool has_pairs(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(b & FLOATS) || !(b & WORDS)) return false;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) && a & PAIRS;
}

static bool system_saves(unsigned states) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & SAVES)) return false;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & states) == states;
}

/* Palette 1: 8 registers of 16 rows of 64 bytes. */
static bool shapes_fit(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(0x1d, 1, &a, &b, &c, &d) && b >> 16 >= 8 && (b & 0xffff) >= 64 &&
           (c & 0xffff) >= 16;
}

const char *vlci_amx_refused(void) {
    if (!has_amx()) return "the processor has none";
    if (!system_saves(TILES)) return "the system does not save its registers";
    if (!shapes_fit()) return "its registers are smaller than 16 rows of 64 bytes";
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) ? strerror(errno) : NULL;
}

const char *vlci_dot_refused(void) {
    if (!has_pairs()) return "the processor has none";
    return system_saves(VECTORS) ? NULL : "the system does not save its registers";
}
#else
const char *vlci_amx_refused(void) {
    return "the processor has none";
}

const char *vlci_dot_refused(void) {
    return "the processor has none";
}
#endif
