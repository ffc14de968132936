/*
 * test_vit.c - the vision transformer with weights of 16 bits, whatever its attention reads: stripes, as
 * products leave them, where a rung takes them, must give what floats give, but for rounding.
 */
#include <check.h>
#include <math.h>
#include <stdlib.h>

#include "models/vit.h"
#include "support/suite.h"

enum { TILES = 2, IMAGE = 56, PATCH = 14 };

static uint64_t seed;

/* Features of random pixels, through a tower of random weights; `rung` of attention, or NULL. */
static float *features_of(const vlci_vit_config *config, vlcache_dtype dtype, const char *rung, size_t *n) {
    vlci_compute compute;
    vlci_vit vit;
    cl_mem features;
    size_t count = (size_t)TILES * 3 * IMAGE * IMAGE;
    vlci_pixels pixels = {
        .tiles = TILES, .height = IMAGE, .width = IMAGE, .data = malloc(count * sizeof(float))};
    seed = 5;
    for (size_t i = 0; i < count; i++) pixels.data[i] = suite_random(&seed);
    suite_set("VLCACHE_GEMM", "matrix");
    suite_force(rung);
    ck_ok(vlci_compute_open(suite_device(), VLCI_ACT_SILU, &compute));
    vlci_upload up = {.device = suite_device(), .compute = &compute, .dtype = dtype};
    ck_ok(vlci_upload_end(&up, vlci_vit_load(&up, config, &vit)));
    suite_force(NULL);
    suite_set("VLCACHE_GEMM", NULL);
    ck_ok(vlci_vit_run(&vit, &pixels, &features));
    *n = (size_t)(TILES * vlci_vit_rows(config) * config->hidden);
    float *got = malloc(*n * sizeof *got);
    suite_download(features, got, *n * sizeof *got);
    suite_release(features);
    vlci_vit_release(&vit);
    vlci_compute_close(&compute);
    free(pixels.data);
    return got;
}

static const struct {
    int heads, head_dim;
    bool class_token;
    vlcache_dtype dtype;
} towers[] = {{8, 72, false, VLCACHE_DTYPE_BF16},
              {3, 64, true, VLCACHE_DTYPE_F16},
              {4, 80, false, VLCACHE_DTYPE_BF16},
              {3, 72, true, VLCACHE_DTYPE_BF16}}; /* heads that end within a stripe */

START_TEST(stripes_are_as_good_as_floats) {
    vlci_vit_config config = towers[_i].class_token ? vlci_vit_clip.defaults : vlci_vit_siglip.defaults;
    config.heads = towers[_i].heads;
    config.head_dim = towers[_i].head_dim;
    config.hidden = config.heads * config.head_dim;
    config.intermediate = 200;
    config.layers = config.run_layers = 2;
    config.image_size = IMAGE;
    config.patch_size = PATCH;
    size_t n;
    float *want = features_of(&config, towers[_i].dtype, "attention:rows", &n);
    float *got = features_of(&config, towers[_i].dtype, NULL, &n);
    double off = 0, all = 0;
    for (size_t i = 0; i < n; i++) {
        off += ((double)got[i] - (double)want[i]) * ((double)got[i] - (double)want[i]);
        all += (double)want[i] * (double)want[i];
    }
    ck_assert_msg(sqrt(off) <= 0.01 * sqrt(all), "heads of %d: features differ by %g of what they are",
                  config.head_dim, sqrt(off / all));
    free(want);
    free(got);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("vit");
    TCase *c = tcase_create("vit");
    suite_balance(c);
    tcase_add_loop_test(c, stripes_are_as_good_as_floats, 0, sizeof towers / sizeof *towers);
    suite_add_tcase(suite, c);
    return suite_run(suite);
}
