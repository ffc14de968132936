/*
 * amx.c - whether this process may use the matrix unit of an x86 processor.
 *
 * The registers are 8 KiB that a thread's state grows by, so Linux wants to be asked, once for a process:
 * all its threads may use them then, those that a driver made before as well, and what it forks. A thread
 * that uses them without is killed: nothing that holds an instruction of the unit is built or run before
 * processor and system have both said yes, and the driver has been seen to make code for it.
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
    SAVES = 1 << 27,  /* OSXSAVE: there is an XCR0 */
    BF16 = 1 << 22,
    TILE = 1 << 24
};

static bool processor_has(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(7, 0, &a, &b, &c, &d) && d & BF16 && d & TILE;
}

static bool system_saves(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c & SAVES)) return false;
    __asm__("xgetbv" : "=a"(a), "=d"(d) : "c"(0));
    return (a & TILES) == TILES;
}

/* Palette 1: 8 registers of 16 rows of 64 bytes. */
static bool shapes_fit(void) {
    unsigned a, b, c, d;
    return __get_cpuid_count(0x1d, 1, &a, &b, &c, &d) && b >> 16 >= 8 && (b & 0xffff) >= 64 &&
           (c & 0xffff) >= 16;
}

const char *vlci_amx_refused(void) {
    if (!processor_has()) return "the processor has none";
    if (!system_saves()) return "the system does not save its registers";
    if (!shapes_fit()) return "its registers are smaller than 16 rows of 64 bytes";
    return syscall(SYS_arch_prctl, REQUEST, TILE_DATA) ? strerror(errno) : NULL;
}
#else
const char *vlci_amx_refused(void) {
    return "the processor has none";
}
#endif
