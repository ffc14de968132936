/*
 * trial.c - which matrix units a device lets kernels use, and a processor's products of pairs of bf16. No
 * query tells: a tiny program is built, run, and its sums are checked; what was found is kept beside the
 * binaries. On a processor nothing is built before it and the system allow it (x86.c).
 *
 *     found: a line for each unit, "wgmma yes", or in place of a yes why not
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cl/shared.h"
#include "core/alloc.h"
#include "core/log.h"
#include "device/program.h"

enum { DEPTH = 64, WHY = 120, UNITS_MOST = 3, ROWS_MOST = 64, COLUMNS_MOST = 32 };

/* A unit: the kernel that tries it multiplies `rows` rows by `columns`, with so many work-items. */
typedef struct unit {
    const char *name, *kernel, *options;
    vlci_ptx ptx;
    int rows, columns;
    size_t items;
    const char *(*refused)(void); /* why this process may not use it; NULL: nothing is to be asked */
} unit;

/* Those that devices of a kind may have, and why not where drivers do not speak their language. */
typedef struct kind {
    const char *unspoken;
    int n;
    unit units[UNITS_MOST];
} kind;

static const kind gpus = {
    "the driver's binaries are no PTX",
    3,
    {{"wgmma",
      "trial_wgmma",
      "-DTRIAL_WGMMA",
      {.target = "sm_90a", .local_bytes = VLCI_PTX_LOCAL_MOST},
      64,
      8,
      128,
      NULL},
     {"mma, 160 KiB", "trial_mma", "-DTRIAL_MMA", {.target = "", .local_bytes = 163840}, 16, 8, 32, NULL},
     {"mma, 96 KiB", "trial_mma", "-DTRIAL_MMA", {.target = "", .local_bytes = 98304}, 16, 8, 32, NULL}}};

static const kind processors = {
    "the driver's binaries are no x86 code",
    2,
    {{"amx", "trial_amx", "-DTRIAL_AMX -DAMX=1", {0}, 32, 32, 1, vlci_amx_refused},
     {"avx512_bf16", "trial_dot", "-DTRIAL_DOT -DDOT=1", {0}, 32, 32, 1, vlci_dot_refused}}};

static const kind *kind_of(const vlcache_device *device) {
    return device->caps.wide_vectors ? &processors : &gpus;
}

/* ---- one trial ----------------------------------------------------------------------------------------- */

/* Whole numbers small enough that every sum of products is exact. */
static int element(int which, int row, int k) {
    return which ? (row * 5 + k * 2) % 7 - 3 : (row * 7 + k * 3) % 11 - 5;
}

/* Where element k of a row lies: a GPU's blocks, swizzled; a processor's tiles and pairs. */
static size_t place(const unit *u, int which, int row, int k) {
    if (u->ptx.target) return VLCI_BLOCK_AT(row, k, DEPTH);
    return which ? VLCI_PAIR_AT(row, k, DEPTH) : VLCI_TILE_AT(row, k, DEPTH);
}

/* In bf16. */
static vlcache_status write_operand(vlcache_device *device, const unit *u, int which, cl_mem *out) {
    uint16_t block[ROWS_MOST * DEPTH] = {0};
    int rows = which ? u->columns : u->rows;
    for (int row = 0; row < rows; row++)
        for (int k = 0; k < DEPTH; k++) {
            float value = (float)element(which, row, k);
            uint32_t bits;
            memcpy(&bits, &value, 4);
            block[place(u, which, row, k)] = (uint16_t)(bits >> 16);
        }
    size_t bytes = (size_t)rows * DEPTH * 2;
    vlcache_status status = vlci_memory_create(device, bytes, "trial of matrix units", out);
    return status ? status : vlci_write(device, *out, 0, block, bytes);
}

static vlcache_status check_sums(vlcache_device *device, const unit *u, cl_mem out) {
    float sums[COLUMNS_MOST * ROWS_MOST];
    int rows = u->rows;
    vlcache_status status = vlci_read(device, out, 0, sums, (size_t)(u->columns * rows) * sizeof *sums);
    for (int n = 0; !status && n < u->columns; n++)
        for (int r = 0; !status && r < rows; r++) {
            int want = 0;
            for (int k = 0; k < DEPTH; k++) want += element(0, r, k) * element(1, n, k);
            if (sums[n * rows + r] != (float)want)
                status = vlci_fail(VLCACHE_E_DEVICE, "wrong sum: %g, %d expected", (double)sums[n * rows + r],
                                   want);
        }
    return status;
}

static vlcache_status try_unit(vlcache_device *device, const unit *u) {
    cl_mem a = NULL, b = NULL, out = NULL;
    size_t bytes = (size_t)(u->columns * u->rows) * sizeof(float);
    const vlci_kernel *kernel;
    vlcache_status status =
        vlci_kernel_get_ptx(device, "matrix_unit.cl", u->kernel, u->options, &u->ptx, &kernel);
    if (!status) status = write_operand(device, u, 0, &a);
    if (!status) status = write_operand(device, u, 1, &b);
    if (!status) status = vlci_memory_create(device, bytes, "trial of matrix units", &out);
    if (!status) status = vlci_fill(device, out, 0, bytes, 0x7fc00000u);
    if (!status)
        status = VLCI_LAUNCH(device, kernel, VLCI_GRID(1, 1, 1, u->items, 1, 1), VLCI_MEM(a), VLCI_MEM(b),
                             VLCI_MEM(out));
    if (!status) status = check_sums(device, u, out);
    vlci_memory_release(device, &a);
    vlci_memory_release(device, &b);
    vlci_memory_release(device, &out);
    return status;
}

/* Whether the driver's binary of a plain program is what the units' instructions are written in: PTX, or x86
 * code. Other compilers are not shown inline assembly at all, of which some die. */
static vlcache_status speaks(vlcache_device *device, bool *does) {
    const vlci_kernel *kernel;
    cl_program program = NULL;
    size_t bytes = 0;
    *does = false;
    vlcache_status status = vlci_kernel_get(device, "probe.cl", "probe", "", &kernel);
    if (status) return status;
    if (clGetKernelInfo(kernel->handle, CL_KERNEL_PROGRAM, sizeof program, &program, NULL)) return VLCACHE_OK;
    char *binary = vlci_program_binary(program, &bytes);
    if (binary) *does = kind_of(device) == &gpus ? vlci_ptx_is(binary) : vlci_x86_is(binary, bytes);
    vlci_free(binary);
    return VLCACHE_OK;
}

/* ---- what was found ------------------------------------------------------------------------------------ */

typedef struct found {
    bool refused[UNITS_MOST];  /* to this process: such are not tried, and not kept */
    char why[UNITS_MOST][WHY]; /* "yes", or why not */
} found;

static void keep_reason(char why[WHY], const char *reason) {
    snprintf(why, WHY, "%s", reason);
    for (char *c = why; *c; c++)
        if ((unsigned char)*c < ' ') *c = ' ';
}

static vlcache_status try_all(vlcache_device *device, found *f) {
    const kind *all = kind_of(device);
    bool can = false;
    vlcache_status status = speaks(device, &can);
    for (int i = 0; !status && i < all->n; i++) {
        if (f->refused[i]) continue;
        vlcache_status failed = can ? try_unit(device, &all->units[i]) : VLCACHE_OK;
        if (failed == VLCACHE_E_NO_MEMORY || failed == VLCACHE_E_CANCELLED) status = failed;
        keep_reason(f->why[i], !can ? all->unspoken : failed ? vlcache_error_message() : "yes");
    }
    return status;
}

/* "mma yes\nwgmma ..." into f. */
static bool parse_found(const char *text, const kind *all, found *f) {
    for (int i = 0; i < all->n; i++) {
        if (f->refused[i]) continue;
        size_t name = strlen(all->units[i].name), length = strcspn(text, "\n");
        if (strncmp(text, all->units[i].name, name) || text[name] != ' ' || !text[length] ||
            length - name > WHY)
            return false;
        snprintf(f->why[i], WHY, "%.*s", (int)(length - name - 1), text + name + 1);
        text += length + 1;
    }
    return !*text;
}

static void write_found(vlcache_device *device, const char *key, const found *f) {
    const kind *all = kind_of(device);
    char text[UNITS_MOST * (WHY + 16)];
    int used = 0;
    for (int i = 0; i < all->n; i++)
        if (!f->refused[i])
            used +=
                snprintf(text + used, sizeof text - (size_t)used, "%s %s\n", all->units[i].name, f->why[i]);
    vlci_cache_write(device, key, text);
}

/* Into the caps: the flags, and the sentence for people. */
static void tell(vlcache_device *device, const found *f) {
    char *text = device->caps.info.matrix_units;
    size_t room = sizeof device->caps.info.matrix_units, used = 0;
    const kind *all = kind_of(device);
    bool has[UNITS_MOST] = {0};
    for (int i = 0; i < all->n; i++) {
        has[i] = strcmp(f->why[i], "yes") == 0;
        used += (size_t)snprintf(text + used, room - used, "%s%s%s%s%s", i ? ", " : "", has[i] ? "" : "no ",
                                 all->units[i].name, has[i] ? "" : ": ", has[i] ? "" : f->why[i]);
        if (used >= room) used = room - 1;
    }
    device->caps.amx = all == &processors && has[0];
    device->caps.dot = all == &processors && has[1];
    device->caps.wgmma = all == &gpus && has[0];
    device->caps.mma = all == &gpus && (has[1] || has[2]);
    for (int i = all->n; i--;)
        if (has[i] && all->units[i].ptx.local_bytes > device->caps.ptx_local)
            device->caps.ptx_local = all->units[i].ptx.local_bytes;
}

/* Which units are refused, asked anew each time: it is this process that may, or may not. Appends their names
 * to the key; how many are left. */
static int ask_each(const vlcache_device *device, found *f, char *key, size_t room) {
    const kind *all = kind_of(device);
    int left = 0;
    for (int i = 0; i < all->n; i++) {
        const char *reason = all->units[i].refused ? all->units[i].refused() : NULL;
        f->refused[i] = reason != NULL;
        left += !reason;
        if (!reason) continue;
        keep_reason(f->why[i], reason);
        size_t used = (size_t)snprintf(key, room, " no %s", all->units[i].name);
        if (used > room) used = room;
        key += used;
        room -= used;
    }
    return left;
}

vlcache_status vlci_trial(vlcache_device *device) {
    found f = {0};
    char key[64], *text = NULL;
    vlcache_status status = VLCACHE_OK;
    const char *said = getenv("VLCACHE_MATRIX_UNITS");
    if (said && strcmp(said, "none") == 0) {
        keep_reason(device->caps.info.matrix_units, "none: VLCACHE_MATRIX_UNITS says so");
        return VLCACHE_OK;
    }
    if (said && *said)
        return vlci_refuse_text(VLCACHE_E_ARGUMENT, NULL, "VLCACHE_MATRIX_UNITS", said,
                                "must be none, or not set");
    int used = snprintf(key, sizeof key, "matrix units %s", VLCACHE_VERSION),
        left = ask_each(device, &f, key + used, sizeof key - (size_t)used);
    if (left && (!vlci_cache_read(device, key, &text) || !parse_found(text, kind_of(device), &f))) {
        status = try_all(device, &f);
        if (!status) write_found(device, key, &f);
    }
    vlci_free(text);
    if (!status) tell(device, &f);
    return status;
}
