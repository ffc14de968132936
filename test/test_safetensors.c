/*
 * test_safetensors.c - good files under every naming scheme, files that lie, and memory that runs out.
 */
#include <check.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "checkpoint/safetensors.h"
#include "models/llava.h"
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
    ck_assert(strncmp(message, vlcache_last_error()->file, strlen(vlcache_last_error()->file)) == 0 ||
              strstr(message, "safetensors header: "));
    ck_assert_str_ne(vlcache_last_error()->file, "");
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
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "b", 2, (size_t[]){2, 3}, &view), VLCACHE_OK);
    ck_assert_int_eq(((const unsigned char *)view.data)[11], 19);
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "e", 2, (size_t[]){0, 4}, &view), VLCACHE_OK);
    ck_assert(!vlci_checkpoint_find(checkpoint, "c", &view));
    ck_assert(vlci_checkpoint_find(checkpoint, "q", &view));
    /* other dtypes: only when asked for */
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "x", 1, (size_t[]){9}, &view), VLCACHE_E_UNSUPPORTED);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "F4_NEW"));
    ck_assert_str_eq(vlcache_last_error()->field, "x");
    ck_assert_str_eq(vlcache_last_error()->value, "F4_NEW");
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "a", 1, (size_t[]){3}, &view), VLCACHE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "shape is 2, the configuration asks for 3"));
    ck_assert_str_eq(vlcache_last_error()->field, "a");
    ck_assert_str_eq(vlcache_last_error()->value, "2");
    ck_assert_str_eq(vlcache_last_error()->hint, "the configuration asks for 3");
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "none", 1, (size_t[]){3}, &view), VLCACHE_E_FORMAT);
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "\"none\" is missing"));
    ck_assert_str_eq(vlcache_last_error()->field, "none");
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
        vlci_checkpoint_name(checkpoint, vlci_llava_names);
        for (int i = 0; i < 5; i++) {
            vlci_weight_view view;
            ck_assert_msg(vlci_checkpoint_find(checkpoint, canonical[i], &view), "%s", named[s][i]);
            ck_ok(vlci_checkpoint_get(checkpoint, canonical[i], 1, (size_t[]){1}, &view));
            ck_assert_int_eq(*(const unsigned char *)view.data, 2 * i);
        }
        vlci_checkpoint_close(&checkpoint);
    }
}
END_TEST

/* Tensors are used when they are taken, known when they are skipped under any of their names, and named when
 * neither. */
START_TEST(unused) {
    static const vlci_naming names[] = {{{"part.", "model.part.", "old."}}, {{NULL}}};
    char text[64], few[8];
    vlci_weight_view view;
    write_tensors("model.safetensors",
                  "{\"a\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[0,2]},"
                  "\"model.part.b\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[2,4]},"
                  "\"old.c.1\":{\"dtype\":\"I64\",\"shape\":[1],\"data_offsets\":[4,12]},"
                  "\"old.c.2\":{\"dtype\":\"F16\",\"shape\":[1],\"data_offsets\":[12,14]}}",
                  14);
    vlci_checkpoint *checkpoint = open_good();
    ck_assert_uint_eq(vlci_checkpoint_unused(checkpoint, text, sizeof text), 4);
    ck_assert_str_eq(text, "a, model.part.b, old.c.1, old.c.2");
    ck_assert_uint_eq(vlci_checkpoint_unused(checkpoint, few, sizeof few), 4);
    ck_assert_str_eq(few, "a, mode");
    ck_assert(!vlci_checkpoint_find(checkpoint, "part.b", &view));
    vlci_checkpoint_name(checkpoint, names);
    ck_assert(vlci_checkpoint_find(checkpoint, "part.b", &view)); /* looking is not using */
    ck_assert_uint_eq(vlci_checkpoint_unused(checkpoint, text, sizeof text), 4);
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "part.b", 1, (size_t[]){2}, &view), VLCACHE_E_FORMAT);
    ck_assert_uint_eq(vlci_checkpoint_unused(checkpoint, text, sizeof text), 4);
    ck_assert_int_eq(vlci_checkpoint_get(checkpoint, "part.b", 1, (size_t[]){1}, &view), VLCACHE_OK);
    vlci_checkpoint_skip(checkpoint, "part.c.");
    ck_assert_uint_eq(vlci_checkpoint_unused(checkpoint, text, sizeof text), 1);
    ck_assert_str_eq(text, "a");
    vlci_checkpoint_skip(checkpoint, "a");
    ck_assert_uint_eq(vlci_checkpoint_unused(checkpoint, text, sizeof text), 0);
    ck_assert_str_eq(text, "");
    vlci_checkpoint_close(&checkpoint);
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

/* A file that is cut, or written anew, between its header and its tensors: said, and no signal. */
START_TEST(changed_file) {
    static const char two_f16[] =
        "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"F16\",\"shape\":[524286],\"data_offsets\":[4,1048576]}}";
    enum { BYTES = 1 << 20 };
    char path[512];
    vlci_weight_view view;
    write_tensors("model.safetensors", two_f16, BYTES);
    snprintf(path, sizeof path, "%s/model.safetensors", scratch_folder());
    vlci_checkpoint *checkpoint = open_good();
    ck_ok(vlci_checkpoint_get(checkpoint, "a", 1, (size_t[]){2}, &view));
    ck_assert_int_eq(truncate(path, BYTES / 2), 0);
    ck_fails(vlci_checkpoint_get(checkpoint, "b", 1, (size_t[]){524286}, &view), VLCACHE_E_IO,
             "changed while it was loaded");
    ck_assert_ptr_nonnull(strstr(vlcache_error_message(), path));
    vlci_checkpoint_close(&checkpoint);
    char part[4];
    write_tensors("model.safetensors", two_f16, BYTES);
    checkpoint = open_good();
    ck_ok(vlci_checkpoint_take(checkpoint, "b", 1, (size_t[]){524286}, &view));
    ck_assert_ptr_null(view.data);
    ck_ok(vlci_checkpoint_read(checkpoint, &view, 2, part, 4));
    ck_assert_mem_eq(part, "\6\7\10\11", 4);
    ck_assert_int_eq(truncate(path, BYTES / 2), 0);
    ck_fails(vlci_checkpoint_read(checkpoint, &view, 2, part, 4), VLCACHE_E_IO,
             "changed while it was loaded");
    ck_fails(vlci_checkpoint_read(checkpoint, &view, BYTES - 8, part, 4), VLCACHE_E_IO, "became shorter");
    vlci_checkpoint_close(&checkpoint);
    write_tensors("model.safetensors", one_a, 4);
    checkpoint = open_good();
    const struct timespec times[2] = {{1, 0}, {1, 0}};
    ck_assert_int_eq(utimensat(AT_FDCWD, path, times, 0), 0);
    ck_fails(vlci_checkpoint_get(checkpoint, "a", 1, (size_t[]){2}, &view), VLCACHE_E_IO,
             "changed while it was loaded");
    vlci_checkpoint_close(&checkpoint);
}
END_TEST

/* Two tensors that hold the same, and two that only look so. */
START_TEST(equal_tensors) {
    static const char header[] =
        "{\"a\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[0,4]},"
        "\"b\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[4,8]},"
        "\"c\":{\"dtype\":\"F16\",\"shape\":[2],\"data_offsets\":[8,12]},"
        "\"d\":{\"dtype\":\"F16\",\"shape\":[1,2],\"data_offsets\":[12,16]}}";
    unsigned char file[8 + sizeof header - 1 + 16] = {(unsigned char)(sizeof header - 1)};
    memcpy(file + 8, header, sizeof header - 1);
    file[sizeof file - 5] = 7; /* the last byte of c */
    scratch_write("model.safetensors", file, sizeof file);
    vlci_checkpoint *checkpoint = open_good();
    static const char *const other[] = {"b", "c", "d", "e"};
    for (int i = 0; i < 4; i++) {
        bool same = false;
        ck_ok(vlci_checkpoint_same(checkpoint, "a", other[i], &same));
        ck_assert_int_eq(same, i == 0);
    }
    vlci_checkpoint_close(&checkpoint);
}
END_TEST

/* What stands in place of the weights is named, with the way out. */
START_TEST(other_files) {
    static const struct {
        const char *file, *why;
    } cases[] = {{"llava-7b.Q4_K.gguf", "GGUF files are not read"},
                 {"pytorch_model-00001-of-00002.bin", "save_pretrained"},
                 {"consolidated.00.pth", ".pth"},
                 {"model-00001-of-00002.safetensors", "model.safetensors.index.json too"}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        scratch_text(cases[i].file, "x");
        refused(VLCACHE_E_IO, cases[i].file, cases[i].why);
        scratch_remove(cases[i].file);
    }
    static const char pointer[] =
        "version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 14000000000\n";
    scratch_text("model.safetensors", pointer);
    refused(VLCACHE_E_FORMAT, "model.safetensors", "git lfs pull");
    scratch_remove("model.safetensors");
    scratch_text("model.safetensors.index.json", pointer);
    refused(VLCACHE_E_FORMAT, "model.safetensors.index.json", "git lfs pull");
    scratch_text("model.safetensors.index.json", good_index);
    scratch_text("m-1.safetensors", pointer);
    refused(VLCACHE_E_FORMAT, "m-1.safetensors", "Git LFS pointer");
}
END_TEST

/* A header that would take forty times its size, or a hundred levels and more, is not built. */
START_TEST(greedy_header) {
    size_t n = 8 << 20;
    char *header = malloc(n + 1);
    memcpy(header, "{\"a\":[", 6);
    for (size_t i = 6; i < n - 2; i += 3) memcpy(header + i, "[],", 3);
    strcpy(header + n - 4, "0]}");
    write_tensors("model.safetensors", header, 0);
    struct rusage before, after;
    getrusage(RUSAGE_SELF, &before);
    refused(VLCACHE_E_FORMAT, "model.safetensors", "MiB of memory");
    getrusage(RUSAGE_SELF, &after);
    ck_assert_int_lt(after.ru_maxrss - before.ru_maxrss, 64 << 10); /* parsed, it takes more than 370 MiB */
    memset(header, '[', 400);
    memcpy(header, "{\"a\":", 5);
    header[400] = 0;
    write_tensors("model.safetensors", header, 0);
    refused(VLCACHE_E_FORMAT, "model.safetensors", "nested 396 deep");
    free(header);
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
        vlci_weight_view view;
        bool same;
        vlcache_status status = vlci_checkpoint_open(scratch_folder(), &checkpoint);
        if (!status) status = vlci_checkpoint_get(checkpoint, "a", 1, (size_t[]){2}, &view);
        if (!status) status = vlci_checkpoint_same(checkpoint, "a", "a", &same);
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
    tcase_add_test(cases, unused);
    tcase_add_test(cases, shards);
    tcase_add_test(cases, bad_index);
    tcase_add_test(cases, bad_header);
    tcase_add_test(cases, bad_length);
    tcase_add_test(cases, changed_file);
    tcase_add_test(cases, equal_tensors);
    tcase_add_test(cases, other_files);
    tcase_add_test(cases, greedy_header);
    tcase_add_test(cases, mutations);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
