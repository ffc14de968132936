/*
 * test_weight.c - weights on their way to the device: every dtype into every other, every layout, matrices of
 * several parts of any height, through one memory or two, by any number of threads, or left in their file;
 * and what fails on the way.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "models/weight.h"
#include "ref/ref_linear.h"
#include "support/calls.h"
#include "support/scratch.h"
#include "support/suite.h"

static const vlcache_dtype dtypes[] = {VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16, VLCACHE_DTYPE_BF16};

/* ---- elements ------------------------------------------------------------------------------------------ */

static bool same_number(double a, double b) {
    return isnan(a) ? isnan(b) : a == b && signbit(a) == signbit(b);
}

/* Numbers of all sizes that f32 has, also none. */
static void fill_floats(float *to, size_t n, uint64_t *state) {
    for (size_t i = 0; i < n; i++) {
        uint32_t high = (uint32_t)((double)(1.0f + suite_random(state)) * 0x7fffp0);
        uint32_t bits = high << 16 | ((uint32_t)((double)(1.0f + suite_random(state)) * 0x7fffp0));
        memcpy(&to[i], &bits, 4);
    }
}

/* Element i of an array at any address. */
static double number_at(const unsigned char *data, size_t i, vlcache_dtype dtype) {
    uint32_t stored = 0;
    memcpy(&stored, data + i * vlci_dtype_bytes(dtype), vlci_dtype_bytes(dtype));
    int special = dtype == VLCACHE_DTYPE_F32 ? 0 : dtype == VLCACHE_DTYPE_F16 ? 0x7c00 : 0x7f80;
    if (!special || ((int)stored & special) != special) return ref_load(&stored, 0, dtype);
    double value = (int)stored & (special ^ 0x7fff) ? (double)NAN : (double)INFINITY;
    return stored & 0x8000 ? -value : value;
}

/* What a number becomes in a dtype: the oracle knows no infinity. */
static double stored_as(double value, vlcache_dtype dtype) {
    uint32_t stored = 0;
    double most = dtype == VLCACHE_DTYPE_F32   ? (double)INFINITY
                  : dtype == VLCACHE_DTYPE_F16 ? 65520.0
                                               : 0x1.ffp127;
    if (isnan(value) || dtype == VLCACHE_DTYPE_F32) return value;
    if (fabs(value) >= most) return copysign((double)INFINITY, value);
    ref_store(&stored, 0, (float)value, dtype);
    return ref_load(&stored, 0, dtype);
}

/* Any number of elements at any address, and nothing behind the last; against arithmetic of the tests' own.
 */
START_TEST(conversions) {
    enum { MOST = 1100 };
    static unsigned char in[MOST * 4 + 8], out[MOST * 4 + 8];
    static float floats[MOST];
    vlcache_dtype from = dtypes[_i / 3], to = dtypes[_i % 3];
    uint64_t state = 7 + (uint64_t)_i;
    for (size_t n = 0; n <= MOST; n = n < 70 ? n + 1 : n * 2 + 3) {
        size_t off = n % 3, bytes = n * vlci_dtype_bytes(to);
        fill_floats(floats, n, &state);
        vlci_narrow(floats, in + off, from, n);
        memset(out, 0x5a, sizeof out);
        vlci_convert(in + off, from, out + off, to, n);
        for (size_t i = 0; i < n; i++) {
            double value = number_at(in + off, i, from), want = stored_as(value, to),
                   got = number_at(out + off, i, to);
            if (!same_number(want, got)) ck_abort_msg("%a: %a, expected %a", value, got, want);
        }
        for (size_t i = 0; i < 4; i++) ck_assert_uint_eq(out[off + bytes + i], 0x5a);
    }
}
END_TEST

/* ---- matrices ------------------------------------------------------------------------------------------ */

/* Tensors w.0 to w.2 [parts[p]][k], in dtypes of their own, with biases; "v" [parts[0]]. */
typedef struct files {
    int parts[3], k;
    vlcache_dtype dtype[3];
    unsigned char *data[3];
    size_t bytes, shift; /* shift: where data begin, beyond a multiple of 4 */
} files;

static const char *type_name(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F32 ? "F32" : dtype == VLCACHE_DTYPE_F16 ? "F16" : "BF16";
}

static void files_write(files *f, uint64_t seed) {
    char header[2000] = "{", *at = header + 1;
    size_t begin = 0, length;
    for (int p = 0; p < 3; p++) {
        size_t bytes = (size_t)f->parts[p] * (size_t)f->k * vlci_dtype_bytes(f->dtype[p]);
        at += sprintf(at, "%s\"w.%d.weight\":{\"dtype\":\"%s\",\"shape\":[%d,%d],\"data_offsets\":[%zu,%zu]}",
                      p ? "," : "", p, type_name(f->dtype[p]), f->parts[p], f->k, begin, begin + bytes);
        begin += bytes;
    }
    for (int p = 0; p < 3; begin += (size_t)f->parts[p++] * 4)
        at += sprintf(at, ",\"w.%d.bias\":{\"dtype\":\"F32\",\"shape\":[%d],\"data_offsets\":[%zu,%zu]}", p,
                      f->parts[p], begin, begin + (size_t)f->parts[p] * 4);
    length = (size_t)sprintf(at, "}") + (size_t)(at - header);
    while (length % 4 != f->shift) header[length++] = ' ';
    unsigned char *file = calloc(1, 8 + length + begin), *data = file + 8 + length;
    file[0] = (unsigned char)length;
    file[1] = (unsigned char)(length >> 8);
    memcpy(file + 8, header, length);
    f->bytes = begin;
    for (int p = 0; p < 3; p++) {
        size_t n = (size_t)f->parts[p] * (size_t)f->k, bytes = n * vlci_dtype_bytes(f->dtype[p]);
        float *floats = malloc((n + 1) * sizeof *floats);
        for (size_t i = 0; i < n; i++) floats[i] = suite_random(&seed);
        vlci_narrow(floats, data, f->dtype[p], n);
        f->data[p] = malloc(bytes + 1);
        memcpy(f->data[p], data, bytes);
        data += bytes;
        free(floats);
    }
    for (int p = 0; p < 3; p++)
        for (int i = 0; i < f->parts[p]; i++, data += 4) memcpy(data, &(float){(float)(1000 * p + i)}, 4);
    scratch_write("model.safetensors", file, 8 + length + begin);
    free(file);
}

static void files_release(files *f) {
    for (int p = 0; p < 3; p++) free(f->data[p]);
}

/* What the matrix holds, every byte of it: the parts, and zeros for padding. */
static void check_matrix(const files *f, const vlci_matrix *m) {
    size_t bytes = vlci_matrix_bytes(m->n, m->k, m->dtype, m->layout), element = vlci_dtype_bytes(m->dtype);
    unsigned char *want = calloc(1, bytes), *got = malloc(bytes);
    for (int p = 0, row = 0; p < 3; row += f->parts[p], p++)
        for (int r = 0; r < f->parts[p]; r++)
            for (int i = 0; i < m->k; i++) {
                double value = ref_load(f->data[p], (int64_t)r * f->k + i, f->dtype[p]);
                int64_t at = ref_weight_at((int)m->layout, row + r, i, m->k);
                if ((int64_t)element * at >= (int64_t)bytes) ck_abort_msg("beyond the end");
                ref_store(want, at, (float)value, m->dtype);
            }
    const cl_mem parts[] = {m->data, m->more[0], m->more[1]};
    for (int p = 0, from = 0, end; p < 3 && parts[p]; p++, from = end) {
        end = p < 2 && parts[p + 1] ? m->until[p] : m->n;
        size_t at = (size_t)from * (size_t)m->k * element, to = (size_t)end * (size_t)m->k * element;
        suite_download(parts[p], got + at, end == m->n ? bytes - at : to - at);
    }
    size_t off = 0;
    while (off < bytes && want[off] == got[off]) off++;
    ck_assert_msg(off == bytes, "%s, %s, [%d + %d + %d][%d]: byte %zu is wrong", vlci_layout_names[m->layout],
                  vlcache_dtype_name(m->dtype), f->parts[0], f->parts[1], f->parts[2], f->k, off);
    float *bias = malloc((size_t)m->n * sizeof *bias);
    suite_download(m->bias, bias, (size_t)m->n * sizeof *bias);
    for (int p = 0, row = 0; p < 3; row += f->parts[p], p++)
        for (int i = 0; i < f->parts[p]; i++)
            ck_assert_double_eq((double)bias[row + i], (double)(1000 * p + i));
    free(bias);
    free(want);
    free(got);
}

/* An upload of the scratch folder. */
typedef struct rig {
    vlci_compute compute;
    vlci_checkpoint *checkpoint;
    vlci_upload up;
    vlci_matrix matrix;
} rig;

static void rig_open(rig *r, vlcache_dtype dtype) {
    *r = (rig){0};
    ck_ok(vlci_compute_open(suite_device(), VLCI_ACT_SILU, &r->compute));
    ck_ok(vlci_checkpoint_open(scratch_folder(), &r->checkpoint));
    r->up = (vlci_upload){.device = suite_device(),
                          .compute = &r->compute,
                          .checkpoint = r->checkpoint,
                          .dtype = dtype,
                          .total = vlci_checkpoint_bytes(r->checkpoint),
                          .slab_bytes = 20000};
}

static vlcache_status rig_upload(rig *r, const files *f) {
    const vlci_part parts[] = {{"0", f->parts[0]}, {"1", f->parts[1]}, {"2", f->parts[2]}};
    vlcache_status status = vlci_upload_matrix(&r->up, "w.", parts, 3, f->k, true, &r->matrix);
    return vlci_upload_end(&r->up, status);
}

static void rig_close(rig *r) {
    vlci_matrix_release(suite_device(), &r->matrix);
    vlci_checkpoint_close(&r->checkpoint);
    vlci_compute_close(&r->compute);
}

/* The device as one that has a memory of its own, or none. */
static bool one_memory;
static void pretend(bool one) {
    one_memory = suite_device()->caps.info.unified_memory;
    suite_device()->caps.info.unified_memory = one;
}

static void pretend_no_more(void) {
    suite_device()->caps.info.unified_memory = one_memory;
}

/* By the layout that their weights lie in. */
static const struct {
    const char *engine, *variant;
} engines[] = {{"portable", ""}, {"wide", "gemm:12x32"}, {"matrix", "gemm:blocks"}, {"matrix", "gemm:pairs"}};
enum { ENGINES = sizeof engines / sizeof *engines };
static const files shapes[] = {
    {.parts = {1, 1, 1}, .k = 1},      {.parts = {37, 91, 5}, .k = 7},    {.parts = {32, 32, 64}, .k = 64},
    {.parts = {130, 1, 40}, .k = 75},  {.parts = {65, 200, 3}, .k = 200}, {.parts = {31, 33, 0}, .k = 128},
    {.parts = {300, 20, 20}, .k = 13},
};
enum { SHAPES = sizeof shapes / sizeof *shapes };

START_TEST(matrices) {
    static const char *const threads[] = {"1", "2", "5", ""};
    int engine = _i / SHAPES % ENGINES, memories = _i / SHAPES / ENGINES;
    suite_set("VLCACHE_GEMM", engines[engine].engine);
    suite_set("VLCACHE_VARIANT", engines[engine].variant);
    for (int mix = 0; mix < 12; mix++) { /* one dtype stored three times, or three; kept, or made another */
        files f = shapes[_i % SHAPES];
        vlcache_dtype wanted = mix / 4 % 3 ? dtypes[mix / 4 - 1] : VLCACHE_DTYPE_AUTO;
        for (int p = 0; p < 3; p++) f.dtype[p] = mix % 4 == 3 ? dtypes[p] : dtypes[mix % 4];
        bool wide =
            wanted == VLCACHE_DTYPE_F32 || (wanted == VLCACHE_DTYPE_AUTO && (mix % 4 == 0 || mix % 4 == 3));
        vlcache_dtype kept = wide ? VLCACHE_DTYPE_F32 : wanted ? wanted : f.dtype[0];
        if (engine == VLCI_PAIRS && kept == VLCACHE_DTYPE_F16)
            continue; /* no unit that reads pairs takes it */
        files_write(&f, (uint64_t)(_i * 12 + mix));
        suite_set("VLCACHE_LOAD_THREADS", threads[mix % 4]);
        rig r;
        rig_open(&r, wanted);
        r.up.no_mmap = true;
        pretend(memories == 0);
        ck_ok(rig_upload(&r, &f));
        pretend_no_more();
        if (!wide) ck_assert_int_eq((int)r.matrix.layout, engine);
        ck_assert_int_eq(r.matrix.dtype, kept);
        ck_assert_uint_eq(r.up.done, f.bytes);
        check_matrix(&f, &r.matrix);
        rig_close(&r);
        files_release(&f);
    }
    suite_set("VLCACHE_LOAD_THREADS", NULL);
    suite_set("VLCACHE_GEMM", NULL);
    suite_set("VLCACHE_VARIANT", NULL);
}
END_TEST

/* Parts that can stay in their file, as they are stored, by processors. */
static const files whole = {.parts = {32, 48, 21}, .k = 40};

/* As mmap() behind this program, but where files are on a system that maps none. */
static bool maps_nothing;
void *mmap(void *at, size_t bytes, int protection, int flags, int file, off_t offset) {
    if (maps_nothing && file >= 0) {
        errno = ENODEV;
        return MAP_FAILED;
    }
    return (void *)syscall(SYS_mmap, at, bytes, protection, flags, file, offset);
}

/* Of three dtypes, kept (0 to 2) or made another (3), and what is not mapped: at an odd address (4), parts
 * that end elsewhere (5), two memories (6), another engine (7), because the caller says so (8), on a system
 * that maps nothing (9). */
START_TEST(mapped) {
    files f = whole;
    uint64_t before = vlci_memory_now(suite_device());
    bool stays = _i < 3 && suite_device()->caps.wide_vectors;
    for (int p = 0; p < 3; p++) f.dtype[p] = _i < 3 ? dtypes[_i] : VLCACHE_DTYPE_BF16;
    f.shift = _i == 4;
    if (_i == 5) f.parts[0] = 31;
    files_write(&f, (uint64_t)_i);
    suite_set("VLCACHE_GEMM", _i == 7 ? "portable" : "wide");
    rig r;
    rig_open(&r, _i == 3 ? VLCACHE_DTYPE_F16 : VLCACHE_DTYPE_AUTO);
    r.up.no_mmap = _i == 8;
    maps_nothing = _i == 9;
    pretend(_i != 6);
    ck_ok(rig_upload(&r, &f));
    maps_nothing = false;
    pretend_no_more();
    vlci_checkpoint_close(&r.checkpoint);
    size_t bytes = vlci_matrix_bytes(r.matrix.n, f.k, r.matrix.dtype, r.matrix.layout);
    ck_assert_uint_eq(vlci_memory_mapped(suite_device()), stays ? bytes : 0);
    ck_assert_uint_eq(r.up.mapped_bytes, stays ? bytes : 0);
    ck_assert_uint_eq(vlci_memory_now(suite_device()),
                      before + (stays ? 0 : bytes) + (size_t)r.matrix.n * sizeof(float));
    bool dot =
        suite_device()->caps.dot && r.matrix.dtype == VLCACHE_DTYPE_BF16; /* reads rows in any memory */
    ck_assert_int_eq((int)r.matrix.layout, stays || dot || _i == 7 ? VLCI_ROWS : VLCI_PANELS);
    ck_assert_uint_eq(r.up.done, f.bytes);
    check_matrix(&f, &r.matrix);
    rig_close(&r);
    ck_assert_uint_eq(vlci_memory_mapped(suite_device()), 0);
    files_release(&f);
    suite_set("VLCACHE_GEMM", NULL);
}
END_TEST

/* ---- failures ------------------------------------------------------------------------------------------ */

static bool cut_file(void *user, const char *stage, uint64_t done, uint64_t total) {
    (void)stage;
    ck_assert_uint_le(done, total);
    char path[600];
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_folder());
    ck_assert_int_eq(truncate(path, (off_t) * (size_t *)user), 0);
    return true;
}

/* A file that is cut while it is loaded: said, whichever thread sees it. */
START_TEST(cut) {
    files f = shapes[4];
    for (int p = 0; p < 3; p++) f.dtype[p] = VLCACHE_DTYPE_F16;
    for (size_t left = 1000; left < 100000; left += 40000) {
        files_write(&f, 3);
        rig r;
        rig_open(&r, VLCACHE_DTYPE_AUTO);
        r.up.progress = cut_file;
        r.up.progress_user = &left;
        pretend(_i);
        vlcache_status status = rig_upload(&r, &f);
        pretend_no_more();
        ck_fails(status, VLCACHE_E_IO, "changed while it was loaded");
        ck_assert_ptr_nonnull(strstr(vlcache_last_error()->file, "model.safetensors"));
        ck_assert_ptr_null(r.matrix.data);
        rig_close(&r);
        files_release(&f);
    }
}
END_TEST

START_TEST(threads_refused) {
    static const char *const bad[] = {"0", "65", "-1", "two", "2x", "99999999999999999999"};
    files f = shapes[0];
    for (int p = 0; p < 3; p++) f.dtype[p] = VLCACHE_DTYPE_F16;
    files_write(&f, 3);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        rig r;
        rig_open(&r, VLCACHE_DTYPE_AUTO);
        suite_set("VLCACHE_LOAD_THREADS", bad[i]);
        ck_fails(rig_upload(&r, &f), VLCACHE_E_ARGUMENT, "VLCACHE_LOAD_THREADS: is \"");
        ck_assert_str_eq(vlcache_last_error()->hint, "must be from 1 to 64");
        suite_set("VLCACHE_LOAD_THREADS", NULL);
        rig_close(&r);
    }
    files_release(&f);
}
END_TEST

/* Whichever allocation fails, and all behind it; sent (0, 1) or mapped (2). */
START_TEST(failing_memory) {
    files f = _i == 2 ? whole : shapes[4];
    bool failed = true;
    for (int p = 0; p < 3; p++) f.dtype[p] = VLCACHE_DTYPE_BF16;
    files_write(&f, 3);
    pretend(_i);
    for (long at = 0; failed; at++) {
        rig r;
        rig_open(&r, VLCACHE_DTYPE_AUTO);
        ck_ok(vlci_compute_open_dtype(&r.compute, VLCACHE_DTYPE_BF16));
        failing_start(at);
        vlcache_status status = rig_upload(&r, &f);
        vlci_matrix_release(suite_device(), &r.matrix);
        failing_stop(&failed);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
        rig_close(&r);
    }
    pretend_no_more();
    files_release(&f);
}
END_TEST

/* Whichever call of OpenCL fails: told, and the next upload is right; sent (0, 1) or mapped (2). */
START_TEST(failing_calls) {
    files f = _i == 2 ? whole : shapes[4];
    for (int p = 0; p < 3; p++) f.dtype[p] = VLCACHE_DTYPE_BF16;
    files_write(&f, 3);
    uint64_t before = vlci_memory_now(suite_device());
    pretend(_i);
    for (long at = 1, calls = 1; calls_counted() && at <= calls + 1; at++) {
        rig r;
        rig_open(&r, VLCACHE_DTYPE_AUTO);
        ck_ok(vlci_compute_open_dtype(&r.compute, VLCACHE_DTYPE_BF16));
        calls_fail(at);
        calls_start();
        vlcache_status status = rig_upload(&r, &f);
        calls_stop();
        calls_fail(0);
        calls = calls_failable();
        if (status) {
            ck_assert_int_eq(status, VLCACHE_E_DEVICE_MEMORY);
        } else {
            ck_assert_int_gt(at, calls);
            check_matrix(&f, &r.matrix);
        }
        rig_close(&r);
        ck_assert_uint_eq(vlci_memory_now(suite_device()), before);
        ck_assert_uint_eq(vlci_memory_mapped(suite_device()), 0);
    }
    pretend_no_more();
    files_release(&f);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("weight");
    TCase *all = tcase_create("weight");
    tcase_add_loop_test(all, conversions, 0, 9);
    tcase_add_loop_test(all, matrices, 0, SHAPES * ENGINES * 2);
    tcase_add_loop_test(all, mapped, 0, 10);
    tcase_add_loop_test(all, cut, 0, 2);
    tcase_add_test(all, threads_refused);
    tcase_add_loop_test(all, failing_memory, 0, 3);
    tcase_add_loop_test(all, failing_calls, 0, 3);
    suite_balance(all);
    suite_add_tcase(suite, all);
    int code = suite_run(suite);
    scratch_clean();
    return code;
}
