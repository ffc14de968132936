/*
 * test_safetensors.c - good files under every naming scheme, files that lie, and memory that runs out.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "checkpoint/safetensors.h"
#include "support/scratch.h"
#include "support/suite.h"

/* length (8 bytes) + header + `data` bytes 0, 1, 2 ... */
static void write_tensors(const char *file, const char *header, size_t data) {
    size_t length = strlen(header);
    unsigned char *bytes = malloc(8 + length + data);
    for (int i = 0; i < 8; i++) bytes[i] = (unsigned char)((uint64_t)length >> 8 * i);
    memcpy(bytes + 8, header, length);
    for (size_t i = 0; i < data; i++) bytes[8 + length + i] = (unsigned char)i;
    scratch_write(file, bytes, 8 + length + data);
    free(bytes);
}

static vlci_checkpoint *open_good(void) {
    vlci_checkpoint *checkpoint = NULL;
    vlcache_status status = vlci_checkpoint_open(scratch_folder(), &checkpoint);
    ck_assert_msg(status == VLCACHE_OK, "%s", vlcache_error_message());
    return checkpoint;
}

/* It must be refused with this status, by a message that names the file and says why. */
static void refused(vlcache_status expected, const char *file, const char *why) {
    vlci_checkpoint *checkpoint = (void *)1;
    vlcache_status status = vlci_checkpoint_open(scratch_folder(), &checkpoint);
    const char *message = vlcache_error_message();
    ck_assert_msg(status == expected, "%s: got %d: %s", why, status, message);
    ck_assert_ptr_null(checkpoint);
    ck_assert_msg(strstr(message, file) && strstr(message, why), "\"%s\" lacks \"%s\" or \"%s\"", message,
                  file, why);
}

START_TEST(good_file) {
    write_tensors("model.safetensors",
                  "{\"__metadata__\":{\"format\":\"pt\"},"
                  "\"b\":{\"dtype\":\"F16\",\"shape\":[2,3],\"data_offsets\":[8,20]},"
                  "\"a\":{\"dtype\":\"F32\",\"shape\":[2],\"data_offsets\":[0,8]},"
                  "\"q\":{\"dtype\":\"I64\",\"shape\":[],\"data_offsets\":[20,28]},"
                  "\"x\":{\"dtype\":\"F4_NEW\",\"shape\":[9],\"data_offsets\":[28,31]},"
                  "\"e\":{\"dtype\":\"BF16\",\"shape\":[0,4],\"data_offsets\":[20,20]}}   ",
                  31);
    vlci_checkpoint *checkpoint = open_good();
    vlci_weight_view view;
    ck_assert_uint_eq(vlci_checkpoint_bytes(checkpoint), 31);
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "b", 2, (size_t[]){2, 3}, &view), VLCACHE_OK);
    ck_assert_int_eq(view.dtype, VLCACHE_DTYPE_F16);
    ck_assert_uint_eq(view.bytes, 12);
    for (int i = 0; i < 12; i++) ck_assert_int_eq(((const unsigned char *)view.data)[i], 8 + i);
    vlci_checkpoint_drop(&view);
    ck_assert_int_eq(((const unsigned char *)view.data)[11], 19);
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "e", 2, (size_t[]){0, 4}, &view), VLCACHE_OK);
    ck_assert(!vlci_checkpoint_find(checkpoint, "c", &view));
    ck_assert(vlci_checkpoint_find(checkpoint, "q", &view));
    /* other dtypes: only when asked for */
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "x", 1, (size_t[]){9}, &view), VLCACHE_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "F4_NEW"));
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "a", 1, (size_t[]){3}, &view), VLCACHE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "shape is 2, the configuration asks for 3"));
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "none", 1, (size_t[]){3}, &view), VLCACHE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "\"none\" is missing"));
    vlci_checkpoint_close(&checkpoint);
    ck_assert_ptr_null(checkpoint);
    vlci_checkpoint_close(&checkpoint);
}
END_TEST

START_TEST(schemes) {
    static const char *const canonical[] = {"language_model.model.layers.0.w",
                                            "language_model.lm_head.weight",
                                            "vision_tower.vision_model.pre.w", "multi_modal_projector.l.bias",
                                            "image_newline"};
    static const char *const named[][5] = {
        {"language_model.model.layers.0.w", "language_model.lm_head.weight",
         "vision_tower.vision_model.pre.w", "multi_modal_projector.l.bias", "image_newline"},
        {"language_model.model.layers.0.w", "language_model.lm_head.weight", "vision_tower.pre.w",
         "multi_modal_projector.l.bias", "image_newline"},
        {"model.language_model.layers.0.w", "lm_head.weight", "model.vision_tower.pre.w",
         "model.multi_modal_projector.l.bias", "model.image_newline"},
        {"model.language_model.layers.0.w", "lm_head.weight", "model.vision_tower.vision_model.pre.w",
         "model.multi_modal_projector.l.bias", "model.image_newline"},
    };
    for (size_t s = 0; s < sizeof named / sizeof *named; s++) {
        char header[1024] = "{";
        for (int i = 0; i < 5; i++)
            sprintf(header + strlen(header),
                    "%s\"%s\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[%d,%d]}", i ? "," : "",
                    named[s][i], 2 * i, 2 * i + 2);
        strcat(header, "}");
        write_tensors("model.safetensors", header, 10);
        vlci_checkpoint *checkpoint = open_good();
        for (int i = 0; i < 5; i++) {
            vlci_weight_view view;
            ck_assert_msg(vlci_checkpoint_find(checkpoint, canonical[i], &view), "%s", named[s][i]);
            ck_assert_int_eq(*(const unsigned char *)view.data, 2 * i);
        }
        vlci_checkpoint_close(&checkpoint);
    }
}
END_TEST

static const char one_a[] = "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}";
static const char one_b[] = "{\"b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]}}";
static const char good_index[] = "{\"weight_map\":{\"a\":\"m-1.safetensors\",\"b\":\"m-2.safetensors\"}}";

START_TEST(shards) {
    write_tensors("m-1.safetensors", one_a, 4);
    write_tensors("m-2.safetensors", one_b, 2);
    scratch_text("model.safetensors.index.json", good_index);
    vlci_checkpoint *checkpoint = open_good();
    vlci_weight_view view;
    ck_assert_uint_eq(vlci_checkpoint_bytes(checkpoint), 6);
    ck_assert(vlci_checkpoint_find(checkpoint, "b", &view));
    ck_assert_ptr_nonnull(strstr(view.file, "m-2.safetensors"));
    vlci_checkpoint_close(&checkpoint);
}
END_TEST

START_TEST(bad_index) {
    static const struct {
        const char *text;
        vlcache_status status;
        const char *why;
    } cases[] = {
        {"", VLCACHE_E_FORMAT, "index.json"},
        {"[]", VLCACHE_E_FORMAT, "must hold a JSON object"},
        {"{}", VLCACHE_E_FORMAT, "weight_map: is missing"},
        {"{\"weight_map\":[]}", VLCACHE_E_FORMAT, "weight_map: must be an object"},
        {"{\"weight_map\":{\"a\":7}}", VLCACHE_E_FORMAT, "weight_map.a: must name a file"},
        {"{\"weight_map\":{\"a\":\"\"}}", VLCACHE_E_FORMAT, "weight_map.a"},
        {"{\"weight_map\":{\"a\":\"../m-1.safetensors\"}}", VLCACHE_E_FORMAT, "in the same folder"},
        {"{\"weight_map\":{\"a\":\"/etc/passwd\"}}", VLCACHE_E_FORMAT, "in the same folder"},
        {"{\"weight_map\":{\"a\":\"..\"}}", VLCACHE_E_FORMAT, "in the same folder"},
        {"{\"weight_map\":{\"c\":\"m-1.safetensors\"}}", VLCACHE_E_FORMAT, "weight_map.c"},
        {"{\"weight_map\":{\"a\":\"m-1.safetensors\",\"a\":\"m-2.safetensors\"}}", VLCACHE_E_FORMAT,
         "duplicate"},
    };
    write_tensors("m-1.safetensors", one_a, 4);
    write_tensors("m-2.safetensors", one_b, 2);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text("model.safetensors.index.json", cases[i].text);
        refused(cases[i].status, "model.safetensors.index.json", cases[i].why);
    }
    scratch_text("model.safetensors.index.json", good_index);
    scratch_remove("m-2.safetensors");
    refused(VLCACHE_E_IO, "m-2.safetensors", "cannot be opened");
}
END_TEST

START_TEST(bad_header) {
    static const struct {
        const char *header;
        size_t data;
        const char *why;
    } cases[] = {
        {"", 0, "header"},
        {"{", 0, "model.safetensors"},
        {"[1]", 0, "must hold a JSON object"},
        {"{\"a\":3}", 0, "\"a\": must be an object"},
        {"{\"a\":{\"shape\":[2],\"data_offsets\":[0,4]}}", 4, "dtype"},
        {"{\"a\":{\"dtype\":\"F16\",\"data_offsets\":[0,4]}}", 4, "shape: must be a list"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[-2],\"data_offsets\":[0,4]}}", 4, "shape: must hold integers"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2.5],\"data_offsets\":[0,4]}}", 4,
         "shape: must hold integers"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[1,1,1,1,1,1,1,1,2],\"data_offsets\":[0,4]}}", 4, "dimensions"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[4611686018427387904,8],\"data_offsets\":[0,4]}}", 4,
         "overflows"},
        {"{\"a\":{\"dtype\":\"F32\",\"shape\":[4611686018427387905],\"data_offsets\":[0,4]}}", 4,
         "shape times"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[99999999999999999999],\"data_offsets\":[0,4]}}", 4, "integer"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2]}}", 4, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4,8]}}", 4, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[-4,0]}}", 4, "data_offsets"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,0]}}", 4, "begin lies after end"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 3, "end of the file"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[3],\"data_offsets\":[0,4]}}", 4, "shape times dtype"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]}}", 9, "5 bytes at the end"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[2,6]}}", 6, "hole"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[2,6]}}",
         6, "overlaps"},
        {"{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
         "\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]}}",
         8, "duplicate"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        write_tensors("model.safetensors", cases[i].header, cases[i].data);
        refused(VLCACHE_E_FORMAT, "model.safetensors", cases[i].why);
    }
}
END_TEST

START_TEST(bad_length) {
    static const unsigned char lengths[][8] = {{255, 255, 255, 255, 255, 255, 255, 255},
                                               {248, 255, 255, 255, 255, 255, 255, 255},
                                               {1, 225, 245, 5, 0, 0, 0, 0},
                                               {3, 0, 0, 0, 0, 0, 0, 0},
                                               {0, 0, 0, 0, 0, 0, 0, 128}};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        unsigned char file[10] = {0, 0, 0, 0, 0, 0, 0, 0, '{', '}'};
        memcpy(file, lengths[i], 8);
        scratch_write("model.safetensors", file, sizeof file);
        refused(VLCACHE_E_FORMAT, "model.safetensors", "header: claims");
    }
    scratch_text("model.safetensors", "");
    refused(VLCACHE_E_FORMAT, "model.safetensors", "too short");
    scratch_text("model.safetensors", "1234567");
    refused(VLCACHE_E_FORMAT, "model.safetensors", "too short");
    scratch_remove("model.safetensors");
    refused(VLCACHE_E_IO, "model.safetensors", "holds neither");
    char path[512];
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_folder());
    mkdir(path, 0700);
    refused(VLCACHE_E_IO, "model.safetensors", "not a regular file");
}
END_TEST

/* Every byte of a small good file, changed at random: no crash, and whatever opens is within the file. */
START_TEST(mutations) {
    char header[] =
        "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"F32\",\"shape\":[1,1],\"data_offsets\":[4,8]}}";
    unsigned seed = 1;
    for (int round = 0; round < 3000; round++) {
        unsigned char file[8 + sizeof header - 1 + 8] = {sizeof header - 1};
        memcpy(file + 8, header, sizeof header - 1);
        for (int k = 0; k < 1 + round % 3; k++) {
            seed = seed * 1664525u + 1013904223u;
            size_t at = (seed >> 8) % sizeof file;
            seed = seed * 1664525u + 1013904223u;
            file[at] = (unsigned char)(seed & 1 ? '0' + (seed >> 9) % 10 : seed >> 16);
        }
        scratch_write("model.safetensors", file, sizeof file);
        vlci_checkpoint *checkpoint;
        vlci_weight_view view;
        if (vlci_checkpoint_open(scratch_folder(), &checkpoint)) continue;
        if (vlci_checkpoint_find(checkpoint, "a", &view)) ck_assert_uint_le(view.bytes, 8);
        vlci_checkpoint_close(&checkpoint);
    }
}
END_TEST

START_TEST(memory) {
    write_tensors("m-1.safetensors", one_a, 4);
    write_tensors("m-2.safetensors", one_b, 2);
    scratch_text("model.safetensors.index.json", good_index);
    bool failed = true;
    for (long at = 0; failed; at++) {
        vlci_checkpoint *checkpoint = NULL;
        failing_start(at);
        vlcache_status status = vlci_checkpoint_open(scratch_folder(), &checkpoint);
        vlci_checkpoint_close(&checkpoint);
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}
END_TEST

int main(void) {
    Suite *suite = suite_create("safetensors");
    TCase *cases = tcase_create("all");
    tcase_add_checked_fixture(cases, NULL, scratch_clean);
    tcase_add_test(cases, good_file);
    tcase_add_test(cases, schemes);
    tcase_add_test(cases, shards);
    tcase_add_test(cases, bad_index);
    tcase_add_test(cases, bad_header);
    tcase_add_test(cases, bad_length);
    tcase_add_test(cases, mutations);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
