/*
 * test_linear.c - every engine and rung x dtype x ragged shape against the double oracle: with and without
 * bias, each activation, accumulation, offsets; extreme values stay in their row; nothing outside y is
 * written; the plan is forced, cached, and refuses what it does not know.
 */
#include <check.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "compute/gemm_plan.h"
#include "compute/linear.h"
#include "ref/ref_linear.h"
#include "support/suite.h"

/* ---- support ------------------------------------------------------------------------------------------- */

static vlcache_device *device;
static vlci_linear linear; /* as force() opened it last */
static char cache_dir[64];

static void open_device(void) {
    vlcache_device_options options = VLCACHE_DEVICE_OPTIONS_INIT;
    snprintf(cache_dir, sizeof cache_dir, "/tmp/vlcache-test-linear-XXXXXX");
    ck_assert_ptr_nonnull(mkdtemp(cache_dir));
    options.cache_dir = cache_dir;
    ck_assert_msg(!vlcache_device_open(NULL, &options, &device), "%s", vlcache_error_message());
}

static void close_device(void) {
    vlci_linear_close(&linear);
    ck_assert_uint_eq(vlci_memory_now(device), 0);
    vlcache_device_destroy(&device);
    char command[96];
    snprintf(command, sizeof command, "rm -r '%s'", cache_dir);
    ck_assert_int_eq(system(command), 0);
}

static uint32_t seed = 1;

static float uniform(float low, float high) {
    seed = seed * 1664525u + 1013904223u;
    return low + (high - low) * (float)(seed >> 8) / 16777216.0f;
}

static float plain_value(int64_t i) {
    (void)i;
    return uniform(-1, 1);
}

/* Cancelling giants, subnormals of the 16-bit types, signed zeros, among ordinary numbers. */
static float hard_value(int64_t i) {
    static const float values[] = {3e4f, -3e4f, 6e-8f, -3e-7f, 0.0f, -0.0f, 1.0f, -65504.0f, 65504.0f, 5e-5f};
    return i % 3 ? uniform(-2, 2) : values[(seed >> 9) % 10];
}

typedef struct problem {
    int m, n, k, act;
    bool bias, accumulate, mapped;
    vlcache_dtype dtype;
    int x_offset, y_offset;
    float (*value)(int64_t i);
} problem;

static void must(vlcache_status status) {
    ck_assert_msg(status == VLCACHE_OK, "%s", vlcache_error_message());
}

static cl_mem upload(const void *data, size_t bytes) {
    cl_mem memory = NULL;
    must(vlci_memory_create(device, bytes, "test", &memory));
    must(vlci_write(device, memory, 0, data, bytes));
    return memory;
}

/* W in the layout asked for; what pads a panel is zero. */
static cl_mem upload_weights(const double *w, int n, int k, vlcache_dtype dtype, vlci_layout layout) {
    size_t bytes = vlci_matrix_bytes(n, k, dtype, layout);
    void *data = calloc(1, bytes);
    for (int64_t r = 0; r < n; r++)
        for (int64_t c = 0; c < k; c++)
            ref_store(data, ref_weight_at((int)layout, (int)r, (int)c, k), (float)w[r * k + c], dtype);
    cl_mem memory = upload(data, bytes);
    free(data);
    return memory;
}

/* Where the parts of n rows end that a mapped matrix has in these tests. */
static void part(int n, int until[2]) {
    until[0] = n / 3 / VLCI_PART_MULTIPLE * VLCI_PART_MULTIPLE;
    until[1] = 2 * n / 3 / VLCI_PART_MULTIPLE * VLCI_PART_MULTIPLE;
}

/* W in a file that is mapped, from an address on that only its elements divide, the last part first. */
static void map_weights(const problem *p, const double *w, vlci_matrix *m) {
    size_t element = vlci_dtype_bytes(p->dtype), row = (size_t)p->k * element;
    int file = memfd_create("weights", MFD_CLOEXEC), until[2];
    unsigned char *data = calloc((size_t)p->n + 1, row);
    vlci_mapping *mapping;
    ck_assert_int_ge(file, 0);
    for (int64_t i = 0; i < (int64_t)p->n * p->k; i++) ref_store(data, i, (float)w[i], p->dtype);
    part(p->n, until);
    int begin[] = {0, until[0], until[1], p->n};
    cl_mem *const to[] = {&m->data, &m->more[0], &m->more[1]};
    size_t at[3], end = element, parts = 0;
    for (int i = 2; i >= 0; i--) {
        size_t bytes = (size_t)(begin[i + 1] - begin[i]) * row;
        at[i] = end;
        ck_assert_int_eq(pwrite(file, data + (size_t)begin[i] * row, bytes, (off_t)end), (ssize_t)bytes);
        end += bytes;
    }
    must(vlci_mapping_open(file, end, &mapping));
    close(file);
    for (int i = 0; i < 3; i++) {
        if (begin[i + 1] == begin[i]) continue;
        size_t bytes = (size_t)(begin[i + 1] - begin[i]) * row;
        if (parts) m->until[parts - 1] = begin[i];
        must(vlci_memory_map(device, mapping, at[i], bytes, "test", to[parts++]));
    }
    vlci_mapping_release(&mapping);
    ck_assert_uint_eq(vlci_memory_mapped(device), (size_t)p->n * row);
    free(data);
}

static void compare(const problem *p, const float *got, const double *want, const double *scale) {
    const double step = 1.2e-7 * (8 + sqrt(p->k));
    for (int64_t i = 0; i < (int64_t)p->m * p->n; i++) {
        bool good = isnan(want[i])   ? isnan(got[i])
                    : isinf(want[i]) ? got[i] == want[i]
                                     : fabs(got[i] - want[i]) <= 1e-6 + step * scale[i];
        ck_assert_msg(good, "[%d][%d] x [%d][%d] %s act %d bias %d acc %d: y[%d][%d] = %.9g, want %.9g", p->m,
                      p->k, p->n, p->k, vlcache_dtype_name(p->dtype), p->act, p->bias, p->accumulate,
                      (int)(i / p->n), (int)(i % p->n), (double)got[i], want[i]);
    }
}

enum { GUARD = 64 };

/* Inputs and outputs of one problem, on the host. */
typedef struct arrays {
    double *w, *want, *scale;
    float *x, *bias, *y, *old;
    int64_t x_count, y_count;
} arrays;

static arrays arrays_create(const problem *p) {
    arrays a = {.x_count = p->x_offset + (int64_t)p->m * p->k,
                .y_count = p->y_offset + (int64_t)p->m * p->n + GUARD};
    int64_t w_count = (int64_t)p->n * p->k, out = (int64_t)p->m * p->n;
    a.w = malloc((size_t)w_count * sizeof *a.w);
    a.want = malloc((size_t)out * sizeof *a.want);
    a.scale = malloc((size_t)out * sizeof *a.scale);
    a.x = malloc((size_t)a.x_count * sizeof *a.x);
    a.bias = malloc((size_t)p->n * sizeof *a.bias);
    a.y = malloc((size_t)a.y_count * sizeof *a.y);
    a.old = malloc((size_t)out * sizeof *a.old);
    for (int64_t i = 0; i < w_count; i++) {
        float stored;
        ref_store(&stored, 0, p->value(i), p->dtype);
        a.w[i] = ref_load(&stored, 0, p->dtype);
    }
    for (int64_t i = 0; i < a.x_count; i++) a.x[i] = i < p->x_offset ? NAN : p->value(i);
    for (int i = 0; i < p->n; i++) a.bias[i] = uniform(-1, 1);
    for (int64_t i = 0; i < out; i++) a.old[i] = uniform(-1, 1);
    return a;
}

static void arrays_release(arrays *a) {
    void *all[] = {a->w, a->want, a->scale, a->x, a->bias, a->y, a->old};
    for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) free(all[i]);
}

/* Products of many rows by matrix units have x in 16 bits, those of pairs of bf16 all. */
static void round_rows(const problem *p, arrays *a) {
    float stored;
    vlcache_dtype to = vlci_linear_rounds_to(&linear, p->dtype, p->m);
    for (int64_t i = p->x_offset; i < a->x_count; i++) {
        ref_store(&stored, 0, a->x[i], to);
        a->x[i] = (float)ref_load(&stored, 0, to);
    }
}

/* Runs and compares; what y held before is NaN unless it is added to, and what lies around it must stay. */
static void run_arrays(const problem *p, arrays *a, vlci_layout layout) {
    round_rows(p, a);
    ref_linear(a->w, p->bias ? a->bias : NULL, a->x + p->x_offset, p->accumulate ? a->old : NULL, a->want,
               a->scale, p->m, p->n, p->k, p->act);
    int64_t end = p->y_offset + (int64_t)p->m * p->n;
    for (int64_t i = 0; i < a->y_count; i++) {
        bool inside = i >= p->y_offset && i < end;
        a->y[i] = !inside ? 12345.0f : p->accumulate ? a->old[i - p->y_offset] : NAN;
    }
    vlci_matrix w = {.n = p->n, .k = p->k, .dtype = p->dtype, .layout = layout};
    if (p->mapped)
        map_weights(p, a->w, &w);
    else
        w.data = upload_weights(a->w, p->n, p->k, p->dtype, layout);
    if (p->bias) w.bias = upload(a->bias, (size_t)p->n * sizeof(float));
    cl_mem x = upload(a->x, (size_t)a->x_count * sizeof(float));
    cl_mem y = upload(a->y, (size_t)a->y_count * sizeof(float));
    must(vlci_linear_run(&linear, &w, x, (size_t)p->x_offset, y, (size_t)p->y_offset, p->m,
                         (vlci_activation)p->act, p->accumulate));
    must(vlci_read(device, y, 0, a->y, (size_t)a->y_count * sizeof(float)));
    for (int64_t i = 0; i < a->y_count; i++)
        if (i < p->y_offset || i >= end) ck_assert_msg(a->y[i] == 12345.0f, "wrote outside y, at %d", (int)i);
    compare(p, a->y + p->y_offset, a->want, a->scale);
    vlci_memory_release(device, &w.data);
    for (int i = 0; i < 2; i++) vlci_memory_release(device, &w.more[i]);
    ck_assert_uint_eq(vlci_memory_mapped(device), 0);
    vlci_memory_release(device, &w.bias);
    vlci_memory_release(device, &x);
    vlci_memory_release(device, &y);
}

static void run(const problem *p, vlci_layout layout) {
    arrays a = arrays_create(p);
    run_arrays(p, &a, layout);
    arrays_release(&a);
}

/* Opens products anew. */
static vlci_layout reopen(vlcache_dtype dtype) {
    vlci_linear_close(&linear);
    must(vlci_linear_open(device, dtype, &linear));
    return vlci_linear_layout(&linear, dtype);
}

/* Of processors' units. */
static vlci_layout in_pairs(vlcache_dtype dtype) {
    return dtype == VLCACHE_DTYPE_F16 ? VLCI_PANELS : VLCI_PAIRS;
}

/* Opens them with an engine (and a rung of it), and says in which layout it wants W. The environment has its
 * say when they are opened, and none after. */
static vlci_layout force(const char *engine, const char *variant, vlcache_dtype dtype) {
    suite_set("VLCACHE_GEMM", engine);
    if (variant) suite_set("VLCACHE_VARIANT", variant);
    vlci_layout layout = reopen(dtype);
    const char *rung = variant ? variant : device->caps.amx ? "gemm:amx" : "";
    bool pairs = strcmp(rung, "gemm:amx") == 0 || strcmp(rung, "gemm:pairs") == 0;
    bool dot = variant ? strncmp(variant, "gemm:dot", 8) == 0 : device->caps.dot;
    dot &= dtype == VLCACHE_DTYPE_BF16;
    ck_assert_int_eq(layout, strcmp(engine, "wide") == 0     ? (dot ? VLCI_ROWS : VLCI_PANELS)
                             : strcmp(engine, "matrix") == 0 ? (pairs ? in_pairs(dtype) : VLCI_BLOCKS)
                                                             : VLCI_ROWS);
    suite_set("VLCACHE_VARIANT", NULL);
    suite_set("VLCACHE_GEMM", NULL);
    return layout;
}

static const int shapes[][3] = {{9, 1, 1},    {13, 31, 5},    {10, 33, 17}, {64, 64, 64},
                                {65, 97, 70}, {130, 129, 33}, {17, 40, 257}};
enum { SHAPES = sizeof shapes / sizeof shapes[0] };

/* With weights of the dtypes `first` to `last`. */
static void run_dtypes(const char *engine, const char *variant, vlcache_dtype first, vlcache_dtype last) {
    for (int dtype = (int)first; dtype <= (int)last; dtype++) {
        vlci_layout layout = force(engine, variant, (vlcache_dtype)dtype);
        for (int s = 0; s < (suite_reduced() ? 3 : SHAPES); s++) {
            int kind = s;
            problem p = {
                .m = shapes[s][0], .n = shapes[s][1], .k = shapes[s][2], .dtype = (vlcache_dtype)dtype};
            p.value = plain_value;
            if (!suite_reduced()) run(&p, layout);
            p.bias = true, p.act = kind % 5, p.x_offset = 3 + kind, p.y_offset = 5;
            if (!suite_reduced()) run(&p, layout);
            p.accumulate = true;
            run(&p, layout);
            p.act = 0, p.bias = kind % 2, p.value = hard_value;
            run(&p, layout);
        }
    }
}

/* With all dtypes from `first` on. In a reduced size rungs take turns, each with one, `alone`: compilers that
 * are slow take minutes for a dtype of a rung. */
static void run_shapes(const char *engine, const char *variant, vlcache_dtype first, vlcache_dtype alone) {
    run_dtypes(engine, variant, suite_reduced() ? alone : first,
               suite_reduced() ? alone : VLCACHE_DTYPE_BF16);
}

/* Of matrix units, which take no f32. Processors never choose what stands in for them, and take long to build
 * its many kernels: there one dtype is enough, another than a simulator's. */
static vlcache_dtype first_of_units(void) {
    return device->caps.wide_vectors ? VLCACHE_DTYPE_BF16 : VLCACHE_DTYPE_F16;
}

/* ---- the engines --------------------------------------------------------------------------------------- */

START_TEST(portable_tile_multiplies) {
    run_shapes("portable", "gemm:tile", VLCACHE_DTYPE_F32, VLCACHE_DTYPE_BF16);
}
END_TEST

/* Not with 32 KiB of local memory. Processors never choose it, and take longest of all to build it: see
 * first_of_units(). */
START_TEST(portable_large_multiplies) {
    if (!vlci_gemm_ladder.fits(device, "large")) return;
    if (device->caps.wide_vectors)
        run_dtypes("portable", "gemm:large", VLCACHE_DTYPE_F16, VLCACHE_DTYPE_F16);
    else
        run_shapes("portable", "gemm:large", VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F32);
}
END_TEST

START_TEST(portable_small_multiplies) {
    run_shapes("portable", "gemm:small", VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F16);
}
END_TEST

START_TEST(portable_scalar_multiplies) {
    run_shapes("portable", "gemm:scalar", VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F32);
}
END_TEST

START_TEST(wide_512_bits_multiplies) {
    run_shapes("wide", "gemm:12x32", VLCACHE_DTYPE_F32, VLCACHE_DTYPE_BF16);
}
END_TEST

START_TEST(wide_256_bits_multiplies) {
    run_shapes("wide", "gemm:6x16", VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F32);
}
END_TEST

/* Rows of mapped files, in one part or in up to three, few rows of x and many. */
START_TEST(mapped_rows_multiply) {
    static const int more[][3] = {{1, 1, 1},   {1, 31, 16},  {2, 33, 17},   {3, 48, 31},   {5, 100, 97},
                                  {8, 65, 40}, {7, 16, 200}, {200, 50, 97}, {30, 130, 193}};
    static const char *const rungs[] = {"gemm:12x32", "gemm:6x16", "gemm:dot_plain", "gemm:dot"};
    if (!device->caps.wide_vectors && !suite_reduced()) return; /* its memory is not the host's */
    if (_i == 3 && !device->caps.dot) return;
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++) {
        if ((suite_reduced() || _i >= 2) && dtype != VLCACHE_DTYPE_BF16) continue;
        force("wide", rungs[_i], (vlcache_dtype)dtype);
        must(vlci_linear_open_mapped(&linear, (vlcache_dtype)dtype));
        for (int s = 0; s < SHAPES + 9; s++) {
            const int *shape = s < SHAPES ? shapes[s] : more[s - SHAPES];
            if (suite_reduced() && s != 1 && s != SHAPES + 2) continue;
            problem p = {.m = shape[0], .n = shape[1], .k = shape[2], .dtype = (vlcache_dtype)dtype};
            p.value = s % 2 ? hard_value : plain_value, p.mapped = true;
            run(&p, VLCI_ROWS);
            p.bias = s % 3, p.act = s % 5, p.accumulate = s % 2, p.x_offset = 3 + s, p.y_offset = 5;
            p.value = plain_value;
            run(&p, VLCI_ROWS);
        }
    }
}
END_TEST

START_TEST(matrix_blocks_multiply) {
    run_shapes("matrix", "gemm:blocks", first_of_units(), VLCACHE_DTYPE_F16);
}
END_TEST

START_TEST(matrix_units_multiply) {
    static const struct {
        const char *variant;
        bool wgmma;
    } units[] = {{"gemm:mma", false}, {"gemm:wgmma", true}};
    static const int more[][3] = {{16, 128, 64}, {127, 200, 72},  {333, 520, 1000}, {520, 1032, 136},
                                  {9, 64, 2048}, {256, 256, 256}, {1000, 72, 40},   {161, 4096, 320}};
    if (units[_i].wgmma ? !device->caps.wgmma : !device->caps.mma) return; /* no such unit */
    run_shapes("matrix", units[_i].variant, first_of_units(), VLCACHE_DTYPE_F16);
    for (int dtype = VLCACHE_DTYPE_F16; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++) {
        vlci_layout layout = force("matrix", units[_i].variant, (vlcache_dtype)dtype);
        for (size_t s = 0; s < sizeof more / sizeof *more; s++) {
            problem p = {.m = more[s][0], .n = more[s][1], .k = more[s][2], .dtype = (vlcache_dtype)dtype};
            p.value = s % 2 ? hard_value : plain_value, p.bias = s % 3, p.accumulate = s % 4 == 1;
            p.x_offset = (int)s, p.y_offset = 4 * (int)s;
            run(&p, layout);
        }
    }
}
END_TEST

/* Rows that a tile holds exactly, and some fewer, where all of them are one unit's: each tile is chosen. */
START_TEST(units_have_tiles) {
    static const int rows[] = {88, 104, 120, 152, 200};
    unsigned own = device->caps.info.compute_units;
    if (!device->caps.wgmma) return; /* no such unit */
    vlci_layout layout = force("matrix", "gemm:wgmma", VLCACHE_DTYPE_BF16);
    device->caps.info.compute_units = 1;
    for (int i = 0; i < 10; i++) {
        problem p = {.m = rows[i / 2] - i % 2 * 3, .k = 200, .dtype = VLCACHE_DTYPE_BF16};
        p.n = p.m <= 128 ? 250 : 128; /* two blocks of W for each warpgroup, or one */
        p.bias = i % 3 == 1, p.accumulate = i % 3 == 2, p.value = i % 2 ? hard_value : plain_value;
        run(&p, layout);
    }
    device->caps.info.compute_units = own;
}
END_TEST

/* Few rows of matrix units whose work-groups share tiles: as many as a device of 3, 20 or its own units has.
 */
START_TEST(units_share_tiles) {
    static const int units[] = {3, 20, 0}, more[][3] = {{3, 130, 2100}, {16, 200, 1000}, {17, 640, 640},
                                                        {33, 72, 4100}, {64, 1290, 600}, {64, 256, 2048}};
    unsigned own = device->caps.info.compute_units;
    if (!device->caps.wgmma) return; /* no such unit */
    for (int u = 0; u < 3; u++) {
        if (units[u]) device->caps.info.compute_units = (unsigned)units[u];
        vlcache_dtype dtype = u == 1 ? VLCACHE_DTYPE_F16 : VLCACHE_DTYPE_BF16;
        vlci_layout layout = force("matrix", "gemm:wgmma", dtype);
        for (size_t s = 0; s < sizeof more / sizeof *more; s++) {
            problem p = {.m = more[s][0], .n = more[s][1], .k = more[s][2], .dtype = dtype};
            p.value = s % 2 ? hard_value : plain_value, p.bias = s % 3, p.accumulate = s % 2 == 1;
            p.act = s % 2 ? 0 : (int)s / 2, p.x_offset = (int)s, p.y_offset = 4 * (int)s;
            run(&p, layout);
        }
        device->caps.info.compute_units = own;
    }
}
END_TEST

/* AMX, and what it is held against. Shapes of whole and ragged tiles, of one chunk of k and of more. */
START_TEST(pairs_multiply) {
    static const char *const variants[] = {"gemm:pairs", "gemm:amx"};
    static const int more[][3] = {{32, 32, 32},  {33, 64, 512},  {127, 200, 72}, {160, 260, 1000},
                                  {9, 64, 2048}, {64, 31, 4097}, {577, 96, 64},  {31, 80, 8224}};
    if (_i && !device->caps.amx) return; /* no such unit */
    for (int dtype = VLCACHE_DTYPE_F16; dtype <= (int)VLCACHE_DTYPE_BF16; dtype++) {
        run_dtypes("matrix", variants[_i], (vlcache_dtype)dtype, (vlcache_dtype)dtype);
        vlci_layout layout = force("matrix", variants[_i], (vlcache_dtype)dtype);
        for (size_t s = 0; s < sizeof more / sizeof *more && !suite_reduced(); s++) {
            problem p = {.m = more[s][0], .n = more[s][1], .k = more[s][2], .dtype = (vlcache_dtype)dtype};
            p.value = s % 2 ? hard_value : plain_value, p.bias = s % 3, p.accumulate = s % 4 == 1;
            p.act = s % 2 ? 0 : (int)s / 2, p.x_offset = (int)s, p.y_offset = 4 * (int)s;
            run(&p, layout);
        }
    }
}
END_TEST

/* Dtypes as in run_shapes(). In a reduced size processors build one kernel of each engine, not three:
 * llvmpipe takes ten seconds and more for one, and those of more rows are the same code, unrolled. */
static void run_few_rows(const char *engine, const char *variant, vlcache_dtype first, vlcache_dtype alone) {
    int last = (int)(suite_reduced() ? alone : VLCACHE_DTYPE_BF16);
    bool slow = suite_reduced() && device->caps.wide_vectors;
    for (int dtype = (int)(suite_reduced() ? alone : first); dtype <= last; dtype++) {
        vlci_layout layout = force(engine, variant, (vlcache_dtype)dtype);
        for (int m = slow ? 2 : 1; m <= (slow ? 2 : 8); m += suite_reduced() ? 3 : 1) {
            for (int kind = 0; kind < (suite_reduced() ? 3 : 7); kind++) {
                static const int nk[][2] = {{1, 1}, {33, 64},   {31, 7},   {65, 259},
                                            {7, 9}, {64, 1024}, {24, 2312}};
                problem p = {.m = m, .n = nk[kind][0], .k = nk[kind][1], .dtype = (vlcache_dtype)dtype};
                p.value = kind % 2 ? hard_value : plain_value;
                p.bias = kind != 3, p.act = p.value == plain_value ? kind % 5 : 0;
                p.accumulate = kind == 1 || kind == 4, p.x_offset = kind % 3 * 4, p.y_offset = kind;
                run(&p, layout);
            }
        }
    }
}

/* What is denormal in f32 and bf16, among ordinary numbers: it may count as zero, and is too small to be
 * seen. */
static float tiny_value(int64_t i) {
    static const float values[] = {1e-39f, -3e-39f, 1.2e-38f, 1e-45f, -0.0f};
    return i % 2 ? uniform(-1, 1) : values[(seed >> 9) % 5];
}

/* Products of pairs of bf16, and what they are held against: few rows and many, one piece of k and more. */

START_TEST(dots_multiply) {
    static const char *const variants[] = {"gemm:dot_plain", "gemm:dot", "gemm:pairs", "gemm:amx"};
    static const int more[][3] = {{1, 130, 8224}, {2, 17, 4130},  {5, 300, 2080}, {8, 2064, 1056},
                                  {8, 129, 1024}, {12, 32, 192},  {13, 47, 383},  {192, 300, 194},
                                  {97, 260, 31},  {600, 65, 577}, {1, 2049, 33},  {4, 16, 2048},
                                  {3, 1000, 63}};
    const char *engine = _i < 2 ? "wide" : "matrix"; /* where few rows alone are theirs */
    if (_i % 2 && !(_i < 2 ? device->caps.dot : device->caps.amx)) return; /* not with this processor */
    run_dtypes(engine, variants[_i], VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16);
    run_few_rows(engine, variants[_i], VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16);
    vlci_layout layout = force(engine, variants[_i], VLCACHE_DTYPE_BF16);
    for (size_t s = 0; s < 2 * sizeof more / sizeof *more && !suite_reduced(); s++) {
        const int *shape = more[s / 2];
        problem p = {.m = shape[0], .n = shape[1], .k = shape[2], .dtype = VLCACHE_DTYPE_BF16};
        p.value = s % 2 ? hard_value : plain_value, p.bias = s % 3, p.accumulate = s % 4 == 1;
        p.act = s % 2 ? 0 : (int)s / 2 % 5, p.x_offset = (int)s, p.y_offset = (int)s;
        run(&p, layout);
    }
    for (int m = 1; m < 40; m += 7) {
        problem p = {.m = m, .n = 35, .k = 21, .dtype = VLCACHE_DTYPE_BF16, .value = tiny_value};
        run(&p, layout);
    }
    ck_assert_int_eq(vlci_linear_rounds_to(&linear, VLCACHE_DTYPE_BF16, 1), VLCACHE_DTYPE_BF16);
    for (int dtype = VLCACHE_DTYPE_F32; dtype <= (int)VLCACHE_DTYPE_F16 && _i < 2 && !suite_reduced();
         dtype++) {
        ck_assert_int_eq(force("wide", variants[_i], (vlcache_dtype)dtype), VLCI_PANELS);
        ck_assert_int_eq(vlci_linear_rounds_to(&linear, (vlcache_dtype)dtype, 1),
                         VLCACHE_DTYPE_F32); /* whose they are not */
    }
}
END_TEST

START_TEST(clblast_multiplies) {
    run_shapes("clblast", NULL, VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F32);
}
END_TEST

START_TEST(few_rows_multiply) {
    run_few_rows("portable", NULL, VLCACHE_DTYPE_F32, VLCACHE_DTYPE_F32);
    run_few_rows("wide", device->caps.dot ? "gemm:12x32" : NULL, VLCACHE_DTYPE_F32, VLCACHE_DTYPE_BF16);
    run_few_rows("matrix", "gemm:blocks", first_of_units(), VLCACHE_DTYPE_F16);
    if (!suite_reduced()) run_few_rows("portable", "gemv:16", VLCACHE_DTYPE_BF16, VLCACHE_DTYPE_BF16);
}
END_TEST

START_TEST(every_activation_is_applied) {
    for (int act = 0; act <= VLCI_ACT_QUICK_GELU; act++) {
        problem p = {.m = 11,
                     .n = 37,
                     .k = suite_reduced() ? 9 : 50,
                     .act = act,
                     .bias = true,
                     .dtype = VLCACHE_DTYPE_F16};
        p.value = plain_value;
        static const char *const engines[] = {"portable", "wide", "clblast"};
        for (int e = 0; e < (suite_reduced() ? 2 : 3); e++) {
            vlci_layout layout = force(engines[e], NULL, p.dtype);
            p.m = 11;
            run(&p, layout);
            p.m = 2;
            run(&p, layout);
        }
    }
}
END_TEST

/* An infinity or NaN in a row of x reaches that row of y and no other. */
START_TEST(infinity_stays_in_its_row) {
    static const char *const engines[] = {"portable", "wide", "matrix", "matrix", "wide"};
    static const char *const variants[] = {NULL, NULL, NULL, "gemm:pairs", "gemm:dot_plain"};
    for (int e = 0; e < 5; e++) {
        for (int m = 3; m <= 17; m += 14) {
            problem p = {.m = m, .n = 35, .k = 21, .dtype = VLCACHE_DTYPE_BF16, .value = plain_value};
            vlci_layout layout = force(engines[e], variants[e], p.dtype);
            arrays a = arrays_create(&p);
            a.x[1 * p.k + 20] = INFINITY;
            a.x[(m - 1) * p.k] = NAN;
            run_arrays(&p, &a, layout);
            arrays_release(&a);
        }
    }
}
END_TEST

/* ---- the plan ------------------------------------------------------------------------------------------ */

START_TEST(plan_measures_once) {
    vlci_gemm_engine engine, again;
    vlcache_gemm_engine reports[VLCI_GEMM_ENGINES], cached[VLCI_GEMM_ENGINES];
    must(vlci_gemm_plan(device, VLCACHE_DTYPE_BF16, &engine, reports));
    must(vlci_gemm_plan(device, VLCACHE_DTYPE_BF16, &again, cached));
    ck_assert_int_eq(engine, again);
    int chosen = 0;
    for (int i = 0; i < VLCI_GEMM_ENGINES; i++) {
        ck_assert_str_eq(reports[i].name, cached[i].name);
        ck_assert_int_eq(reports[i].chosen, cached[i].chosen);
        ck_assert(fabs(reports[i].gflops - cached[i].gflops) <= 1e-5 * reports[i].gflops);
        chosen += reports[i].chosen;
        for (int j = 0; j < VLCI_GEMM_ENGINES; j++)
            if (reports[i].chosen) ck_assert(reports[i].gflops >= reports[j].gflops);
        printf("gemm bf16 %s: %.1f GFLOP/s%s\n", reports[i].name, reports[i].gflops,
               reports[i].chosen ? " (chosen)" : "");
    }
    ck_assert_int_eq(chosen, 1);
    problem p = {.m = 20, .n = 50, .k = 30, .dtype = VLCACHE_DTYPE_BF16, .value = plain_value};
    run(&p, reopen(p.dtype));
    ck_assert_int_eq(linear.of[p.dtype].gemm.engine, engine);
}
END_TEST

START_TEST(plan_reads_the_cache_and_doubts_it) {
    static const char *const bad[] = {"",
                                      "portable x",
                                      "portable 1000\nwide nan\nclblast 3\nmatrix 4\n",
                                      "portable -1\nwide 2\nclblast 3\nmatrix 4\n",
                                      "portable 0 slow\nwide 0 slow\nclblast 0 slow\nmatrix 0 none\n",
                                      "portable 1000\nwide 2\nclblast 3\nmatrix 4\nand more",
                                      "portable 1000\nwide 2\nclblast 3\nmatrix 0\n",
                                      "portable 1000\nwide 2\nclblast 3\n",
                                      "portable 1000 wide 2 clblast 3 matrix 4"};
    const char *key = "gemm engines " VLCACHE_VERSION " f32";
    vlci_gemm_engine engine;
    vlcache_gemm_engine reports[VLCI_GEMM_ENGINES];
    vlci_cache_write(device, key,
                     "portable 1000.00\nwide 2.00\nclblast 0.00 it broke: -54\nmatrix 0 no unit\n");
    must(vlci_gemm_plan(device, VLCACHE_DTYPE_F32, &engine, reports));
    ck_assert(reports[0].chosen && reports[0].gflops == 1000 && engine == VLCI_GEMM_PORTABLE);
    ck_assert_str_eq(reports[2].error, "it broke: -54");
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i += 3) {
        vlci_cache_write(device, key, bad[i + seed % 3]);
        must(vlci_gemm_plan(device, VLCACHE_DTYPE_F32, &engine, reports));
        ck_assert(reports[0].gflops > 0 && reports[0].gflops != 1000 && reports[1].gflops != 2);
        ck_assert(reports[1].gflops > 0 || !device->caps.wide_vectors); /* a processor's, measured there */
    }
}
END_TEST

START_TEST(opening_refuses) {
    vlci_gemm_engine engine;
    vlci_linear closed = {0};
    ck_fails(vlci_gemm_plan(device, VLCACHE_DTYPE_AUTO, &engine, NULL), VLCACHE_E_ARGUMENT,
             "f32, f16 or bf16");
    ck_fails(vlci_linear_open(device, VLCACHE_DTYPE_AUTO, &closed), VLCACHE_E_ARGUMENT, "f32, f16 or bf16");
    suite_set("VLCACHE_GEMM", "fast");
    ck_fails(vlci_linear_open(device, VLCACHE_DTYPE_F32, &closed), VLCACHE_E_ARGUMENT, "VLCACHE_GEMM");
    suite_set("VLCACHE_GEMM", "portable");
    suite_set("VLCACHE_VARIANT", "gemm:huge");
    ck_fails(vlci_linear_open(device, VLCACHE_DTYPE_F32, &closed), VLCACHE_E_ARGUMENT, "\"huge\"");
    suite_set("VLCACHE_VARIANT", "gemv:3");
    ck_fails(vlci_linear_open(device, VLCACHE_DTYPE_F32, &closed), VLCACHE_E_ARGUMENT, "\"3\"");
    suite_set("VLCACHE_VARIANT", NULL);
    suite_set("VLCACHE_GEMM", NULL);
    vlci_matrix w = {.n = 4, .k = 4, .dtype = VLCACHE_DTYPE_F32};
    ck_fails(vlci_linear_run(&closed, &w, NULL, 0, NULL, 0, 1, VLCI_ACT_NONE, false), VLCACHE_E_ARGUMENT,
             "not opened");
}
END_TEST

START_TEST(running_refuses) {
    vlci_matrix w[] = {{.n = 4, .k = 0, .dtype = VLCACHE_DTYPE_F32},
                       {.n = 4, .k = 4, .dtype = VLCACHE_DTYPE_F32},
                       {.n = 4, .k = 4, .dtype = VLCACHE_DTYPE_F32, .layout = VLCI_PANELS},
                       {.n = 4, .k = 4, .dtype = VLCACHE_DTYPE_F16}};
    w[0].layout = w[1].layout = force("portable", NULL, VLCACHE_DTYPE_F32);
    static const int rows[] = {1, -1, 1, 1};
    static const char *const says[] = {"shape", "shape", "panels", "f16"};
    for (int i = 0; i < 4; i++)
        ck_fails(vlci_linear_run(&linear, &w[i], NULL, 0, NULL, 0, rows[i], VLCI_ACT_NONE, false),
                 VLCACHE_E_ARGUMENT, says[i]);
    must(vlci_linear_run(&linear, &w[1], NULL, 0, NULL, 0, 0, VLCI_ACT_NONE, false));
}
END_TEST

/* Two dtypes in one object, each by its own engine; closing gives all memory back. */
START_TEST(dtypes_stand_side_by_side) {
    uint64_t before = vlci_memory_now(device);
    problem p = {.m = suite_reduced() ? 9 : 20,
                 .n = suite_reduced() ? 3 : 50,
                 .k = suite_reduced() ? 3 : 30,
                 .dtype = VLCACHE_DTYPE_BF16,
                 .value = plain_value};
    vlci_layout panels = force("wide", NULL, VLCACHE_DTYPE_BF16);
    suite_set("VLCACHE_GEMM", suite_reduced() ? "portable" : "clblast");
    must(vlci_linear_open(device, VLCACHE_DTYPE_F32, &linear));
    must(vlci_linear_open(device, VLCACHE_DTYPE_BF16, &linear)); /* open already: stays with its engine */
    suite_set("VLCACHE_GEMM", NULL);
    ck_assert_int_eq(vlci_linear_layout(&linear, VLCACHE_DTYPE_BF16), panels);
    run(&p, panels);
    p.dtype = VLCACHE_DTYPE_F32;
    run(&p, VLCI_ROWS);
    vlci_linear_close(&linear);
    ck_assert_uint_eq(vlci_memory_now(device), before);
}
END_TEST

START_TEST(bytes_of_a_matrix) {
    ck_assert_uint_eq(vlci_matrix_bytes(33, 10, VLCACHE_DTYPE_BF16, VLCI_ROWS), 660);
    ck_assert_uint_eq(vlci_matrix_bytes(33, 10, VLCACHE_DTYPE_BF16, VLCI_PANELS), 1280);
    ck_assert_uint_eq(vlci_matrix_bytes(65, 10, VLCACHE_DTYPE_BF16, VLCI_BLOCKS), 2 * 64 * 64 * 2);
    ck_assert_uint_eq(vlci_matrix_bytes(33, 40, VLCACHE_DTYPE_BF16, VLCI_PAIRS), 2 * 2 * 32 * 32 * 2);
    ck_assert_uint_eq(vlci_operand_bytes(3, 65),
                      2 * 512 * 64 * 2); /* stripes of 64, of whole tiles of rows */
    ck_assert_uint_eq(vlci_operand_bytes(100000, 64), (size_t)100000 * 64 * 4);
    ck_assert_uint_eq(vlci_matrix_bytes(1 << 17, 1 << 13, VLCACHE_DTYPE_F32, VLCI_ROWS), (size_t)1 << 32);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("linear");
    TCase *cases = tcase_create("linear");
    tcase_add_unchecked_fixture(cases, open_device, close_device);
    tcase_add_test(cases, bytes_of_a_matrix);
    tcase_add_loop_test(cases, pairs_multiply, 0, 2);
    tcase_add_test(cases, portable_tile_multiplies);
    tcase_add_test(cases, portable_large_multiplies);
    tcase_add_test(cases, portable_small_multiplies);
    tcase_add_test(cases, portable_scalar_multiplies);
    tcase_add_test(cases, matrix_blocks_multiply);
    tcase_add_test(cases, wide_256_bits_multiplies);
    tcase_add_loop_test(cases, mapped_rows_multiply, suite_reduced() ? 1 : 0, suite_reduced() ? 3 : 4);
    tcase_add_test(cases, few_rows_multiply);
    tcase_add_test(cases, every_activation_is_applied);
    tcase_add_test(cases, infinity_stays_in_its_row);
    tcase_add_test(cases, opening_refuses);
    tcase_add_test(cases, running_refuses);
    tcase_add_test(cases, dtypes_stand_side_by_side);
    if (!suite_reduced()) { /* what a simulator would take hours for, and kernels that are not ours */
        tcase_add_test(cases, clblast_multiplies);
        tcase_add_test(cases, plan_measures_once);
        tcase_add_test(cases, plan_reads_the_cache_and_doubts_it);
    }
    /* A compiler that unrolls all of a tile takes minutes: CK_EXCLUDE_TAGS=vast leaves it to others. */
    TCase *units = tcase_create("units");
    tcase_add_unchecked_fixture(units, open_device, close_device);
    tcase_add_test(units, units_have_tiles);
    tcase_add_test(units, units_share_tiles);
    tcase_add_loop_test(units, matrix_units_multiply, 0, 2);
    TCase *dots = tcase_create("dots");
    tcase_add_unchecked_fixture(dots, open_device, close_device);
    tcase_add_loop_test(dots, dots_multiply, 0, 4);
    TCase *vast = tcase_create("vast");
    tcase_set_tags(vast, "vast");
    tcase_add_unchecked_fixture(vast, open_device, close_device);
    tcase_add_test(vast, wide_512_bits_multiplies);
    suite_add_tcase(suite, cases);
    suite_add_tcase(suite, units);
    suite_add_tcase(suite, dots);
    suite_add_tcase(suite, vast);
    return suite_run(suite);
}
