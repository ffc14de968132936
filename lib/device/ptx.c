/*
 * ptx.c - instructions that a compiler of OpenCL C does not know, on drivers whose binary of a program is PTX
 * text.
 *
 *     OpenCL C --driver--> PTX --edited here--> loaded again as a binary
 *
 * Such an instruction stands in the source as a comment of inline assembly, "//~ wgmma...", whose operands
 * the compiler fills in. Opened, and with the target that has it, the text is what its author meant.
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "cl/shared.h"
#include "core/alloc.h"
#include "device/program.h"

enum { MARK = 3 /* of "//~" */, NUMBER = 32 };

bool vlci_ptx_is(const char *text) {
    return strstr(text, ".version ") && strstr(text, ".target sm_");
}

/* New memory: `text` with `count` bytes at `at` replaced by `with`; `text` is freed. NULL stays NULL. */
static char *splice(char *text, const char *at, size_t count, const char *with) {
    if (!text) return NULL;
    int front = (int)(at - text);
    char *whole = vlci_format("%.*s%s%s", front, text, with, at + count);
    vlci_free(text);
    return whole;
}

/* Opens the comments in place. */
static void open_marks(char *text) {
    for (char *at = text; (at = strstr(at, "//~"));) memset(at, ' ', MARK);
}

static char *set_target(char *text, const char *target) {
    char *at = text && *target ? strstr(text, ".target ") : NULL;
    if (!at) return text;
    at += strlen(".target ");
    return splice(text, at, strcspn(at, ", \r\n"), target);
}

/* The array of each kernel, whatever the compiler puts in front of its name. */
static char *set_local(char *text, size_t bytes, bool *found) {
    char small[NUMBER], large[NUMBER];
    snprintf(small, sizeof small, "smem[%d]", VLCI_PTX_LOCAL);
    snprintf(large, sizeof large, "smem[%zu]", bytes);
    *found = false;
    if (bytes == VLCI_PTX_LOCAL) return text;
    for (char *at; text && (at = strstr(text, small)); *found = true)
        text = splice(text, at, strlen(small), large);
    return text;
}

static char *set_groups(char *text, int groups) {
    char line[NUMBER];
    char *at = text && !strstr(text, ".minnctapersm") ? strstr(text, ".reqntid") : NULL;
    snprintf(line, sizeof line, ".minnctapersm %d\n", groups);
    return at ? splice(text, at, 0, line) : text;
}

vlcache_status vlci_ptx_edit(const char *text, const vlci_ptx *how, char **out) {
    bool found = true;
    *out = NULL;
    if (!vlci_ptx_is(text)) return vlci_fail(VLCACHE_E_BUILD, "the driver's binary of a program is no PTX");
    char *edited = vlci_strdup(text);
    if (edited) open_marks(edited);
    edited = set_target(edited, how->target);
    if (how->local_bytes) edited = set_local(edited, how->local_bytes, &found);
    if (how->groups) edited = set_groups(edited, how->groups);
    if (!edited) return vlci_fail_memory("PTX of a kernel");
    if (found) {
        *out = edited;
        return VLCACHE_OK;
    }
    vlci_free(edited);
    return vlci_fail(VLCACHE_E_BUILD, "the PTX has no array smem[%d]", VLCI_PTX_LOCAL);
}

bool vlci_ptx_same(const vlci_ptx *a, const vlci_ptx *b) {
    if (!a->target || !b->target) return !a->target && !b->target;
    return strcmp(a->target, b->target) == 0 && a->local_bytes == b->local_bytes && a->groups == b->groups;
}

void vlci_ptx_name(const vlci_ptx *how, char name[VLCI_PTX_NAME]) {
    name[0] = 0;
    if (how->target)
        snprintf(name, VLCI_PTX_NAME, "%.16s, %zu bytes, groups %d", how->target, how->local_bytes,
                 how->groups);
}
