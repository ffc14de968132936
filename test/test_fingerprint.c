/*
 * test_fingerprint.c - contents told apart: the hash as its specification has it, files and folders by what
 * they hold, and the table of what was hashed before, which is believed only where it may be.
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "eval/fingerprint.h"
#include "eval/hash.h"
#include "support/evaluation.h"
#include "support/scratch.h"
#include "support/suite.h"

/* ---- the hash ------------------------------------------------------------------------------------------ */

/* Of the reference implementation, seed 0. */
START_TEST(hash_is_xxh64) {
    static const struct {
        const char *text;
        uint64_t hash;
    } known[] = {
        {"", 0xef46db3751d8e999u},
        {"a", 0xd24ec4f1a98c6e5bu},
        {"abc", 0x44bc2cf5ad770999u},
        {"Nobody inspects the spammish repetition", 0xfbcea83c8a378bf1u},
    };
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        ck_assert_uint_eq(hash_of(known[i].text, strlen(known[i].text)), known[i].hash);
}
END_TEST

/* However the bytes come. */
START_TEST(hash_of_pieces) {
    uint8_t bytes[300];
    for (size_t i = 0; i < sizeof bytes; i++) bytes[i] = (uint8_t)(i * i + 3 * i);
    for (size_t n = 0; n <= sizeof bytes; n += 7)
        for (size_t step = 1; step <= 67; step += 3) {
            hashing h;
            hash_begin(&h);
            for (size_t at = 0; at < n; at += step) hash_add(&h, bytes + at, n - at < step ? n - at : step);
            ck_assert_uint_eq(hash_end(&h), hash_of(bytes, n));
        }
}
END_TEST

/* ---- files --------------------------------------------------------------------------------------------- */

static void fingerprint(const char *name, char text[FINGERPRINT_BYTES]) {
    char path[512];
    ck_assert_msg(fingerprint_file(in_scratch(name, path), text), "%s", name);
}

START_TEST(files_by_their_bytes) {
    char one[FINGERPRINT_BYTES], two[FINGERPRINT_BYTES], three[FINGERPRINT_BYTES], path[512];
    scratch_text("one", "abc");
    scratch_text("two", "abc");
    scratch_text("three", "abd");
    fingerprint("one", one);
    fingerprint("two", two);
    fingerprint("three", three);
    ck_assert_str_eq(one, "44bc2cf5ad770999");
    ck_assert_str_eq(one, two);
    ck_assert_str_ne(one, three);
    ck_assert(!fingerprint_file(in_scratch("none", path), one));
    ck_assert(!fingerprint_file("/dev/zero", one));
    ck_assert_int_eq(mkfifo(in_scratch("pipe", path), 0600), 0);
    ck_assert(!fingerprint_file(path, one));
    scratch_clean();
}
END_TEST

/* Every file that a model is read from counts, by name and bytes; others do not. */
START_TEST(models_by_their_files) {
    char before[FINGERPRINT_BYTES], now[FINGERPRINT_BYTES];
    scratch_text("config.json", "{}");
    scratch_text("model-00001-of-00002.safetensors", "weights");
    ck_assert(fingerprint_model(scratch_folder(), NULL, before));
    scratch_text("README.md", "read me");
    scratch_text("pytorch_model.bin", "weights");
    ck_assert(fingerprint_model(scratch_folder(), NULL, now));
    ck_assert_str_eq(now, before);
    static const char *const names[] = {"config.json",    "model-00001-of-00002.safetensors",
                                        "tokenizer.json", "chat_template.jinja",
                                        "merges.txt",     "tokenizer.model"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        scratch_text(names[i], "changed");
        ck_assert(fingerprint_model(scratch_folder(), NULL, now));
        ck_assert_str_ne(now, before);
        strcpy(before, now);
    }
    ck_assert(!fingerprint_model("/no/such/folder", NULL, now));
    scratch_clean();
}
END_TEST

/* ---- the table ----------------------------------------------------------------------------------------- */

static void table_path(char path[512]) {
    in_scratch("vlcache", path);
    mkdir(path, 0700);
    in_scratch("vlcache/fingerprints", path);
}

/* A table that says of "known", which holds "abc", that its hash is 77. */
static void write_table(int mode) {
    char path[512], line[512];
    struct stat s;
    scratch_text("known", "abc");
    ck_assert_int_eq(stat(in_scratch("known", path), &s), 0);
    snprintf(line, sizeof line, "not a line\n%llx %llx %llx %llx %llx %llx %llx 77\n1 2 3\n",
             (unsigned long long)s.st_dev, (unsigned long long)s.st_ino, (unsigned long long)s.st_size,
             (unsigned long long)s.st_mtim.tv_sec, (unsigned long long)s.st_mtim.tv_nsec,
             (unsigned long long)s.st_ctim.tv_sec, (unsigned long long)s.st_ctim.tv_nsec);
    table_path(path);
    scratch_text("vlcache/fingerprints", line);
    ck_assert_int_eq(chmod(path, (mode_t)mode), 0);
}

static void begin_table(void) {
    fingerprint_keep(); /* forgets what other tests have read */
    setenv("XDG_CACHE_HOME", scratch_folder(), 1);
}

static void end_table(void) {
    char path[512];
    fingerprint_keep();
    table_path(path);
    remove(path);
    scratch_clean();
}

START_TEST(known_files_are_not_read) {
    char text[FINGERPRINT_BYTES], path[512];
    begin_table();
    write_table(0600);
    fingerprint("known", text);
    ck_assert_str_eq(text, "0000000000000077");
    const struct timespec old[2] = {{.tv_sec = 1000000000}, {.tv_sec = 1000000000}};
    ck_assert_int_eq(utimensat(AT_FDCWD, in_scratch("known", path), old, 0), 0);
    fingerprint("known", text);
    ck_assert_str_eq(text, "44bc2cf5ad770999");
    end_table();
}
END_TEST

/* A table that others can write, or a link in its place, is not believed. */
START_TEST(a_table_of_others_is_not_believed) {
    char text[FINGERPRINT_BYTES], path[512], moved[512];
    begin_table();
    write_table(_i ? 0600 : 0622);
    table_path(path);
    if (_i) {
        ck_assert_int_eq(rename(path, in_scratch("moved", moved)), 0);
        ck_assert_int_eq(symlink(moved, path), 0);
    }
    fingerprint("known", text);
    ck_assert_str_eq(text, "44bc2cf5ad770999");
    end_table();
}
END_TEST

/* What has just changed may change once more within the same tick of the clock: it is not remembered. */
START_TEST(fresh_files_are_not_remembered) {
    char text[FINGERPRINT_BYTES], path[512];
    begin_table();
    table_path(path);
    scratch_text("fresh", "abc");
    fingerprint("fresh", text);
    fingerprint_keep();
    ck_assert_int_ne(access(path, F_OK), 0);
    ck_assert(fingerprint_file("/bin/sh", text));
    fingerprint_keep();
    char *kept = slurp(path);
    ck_assert_ptr_nonnull(strstr(kept, text));
    free(kept);
    end_table();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("fingerprint");
    TCase *all = tcase_create("fingerprint");
    tcase_add_test(all, hash_is_xxh64);
    tcase_add_test(all, hash_of_pieces);
    tcase_add_test(all, files_by_their_bytes);
    tcase_add_test(all, models_by_their_files);
    tcase_add_test(all, known_files_are_not_read);
    tcase_add_loop_test(all, a_table_of_others_is_not_believed, 0, 2);
    tcase_add_test(all, fresh_files_are_not_remembered);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
