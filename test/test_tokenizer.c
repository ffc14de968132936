/*
 * test_tokenizer.c - ids and texts equal to those of the tokenizers package (goldens), streams equal to whole
 * decodes, files that lie, long lines, and memory that runs out.
 */
#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jansson.h>

#include "core/alloc.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "tokens/tokenizer.h"

static const char *const names[] = {"llama2", "metaspace_first", "metaspace_always",
                                    "llama3", "qwen2",           "gpt2"};
enum { N_NAMES = sizeof names / sizeof *names };

static vlci_tokenizer *load(const char *name) {
    char folder[512];
    vlci_tokenizer *tokenizer;
    snprintf(folder, sizeof folder, VLCACHE_TEST_DATA "/tokenizer/%s", name);
    vlcache_status status = vlci_tokenizer_load(folder, &tokenizer);
    ck_assert_msg(status == VLCACHE_OK, "%s", vlcache_error_message());
    return tokenizer;
}

static json_t *golden(const char *name) {
    char path[512];
    snprintf(path, sizeof path, VLCACHE_TEST_DATA "/tokenizer/%s/golden.json", name);
    json_t *root = json_load_file(path, 0, NULL);
    ck_assert_ptr_nonnull(root);
    return root;
}

/* Hexadecimal to bytes; new memory with a zero behind. */
static char *bytes_of(const json_t *hex, size_t *n) {
    const char *text = json_string_value(hex);
    *n = strlen(text) / 2;
    char *bytes = calloc(*n + 1, 1);
    for (size_t i = 0; i < *n; i++) {
        unsigned value;
        sscanf(text + 2 * i, "%2x", &value);
        bytes[i] = (char)value;
    }
    return bytes;
}

static void check_encode(const vlci_tokenizer *t, const char *name, const json_t *row, bool special) {
    size_t n, n_ids;
    int32_t *ids;
    const json_t *want = json_object_get(row, special ? "special" : "ids");
    char *text = bytes_of(json_object_get(row, "text"), &n);
    ck_assert_int_eq(vlci_tokenizer_encode(t, text, n, special, &ids, &n_ids), VLCACHE_OK);
    for (size_t i = 0; i < n_ids && i < json_array_size(want); i++)
        ck_assert_msg(ids[i] == json_integer_value(json_array_get(want, i)),
                      "%s: \"%s\": id %zu is %d, not %d", name, text, i, ids[i],
                      (int)json_integer_value(json_array_get(want, i)));
    ck_assert_msg(n_ids == json_array_size(want), "%s: \"%s\": %zu ids, not %zu", name, text, n_ids,
                  json_array_size(want));
    vlci_free(ids);
    free(text);
}

/* Decoded at once and as a stream. */
static void check_decode(const vlci_tokenizer *t, const char *name, const json_t *list, const json_t *hex) {
    size_t n = json_array_size(list), bytes;
    int32_t *ids = calloc(n + 1, sizeof *ids);
    char *whole, *want = bytes_of(hex, &bytes), *streamed = calloc(1024 * n + 64, 1);
    vlci_detokenizer *stream;
    const char *piece;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    ck_assert_int_eq(vlci_tokenizer_decode(t, ids, n, &whole), VLCACHE_OK);
    /* the C interface ends a text at a zero byte */
    ck_assert_msg(strcmp(whole, want) == 0, "%s: decoded \"%s\", not \"%s\"", name, whole, want);
    ck_assert_int_eq(vlci_detokenizer_create(t, &stream), VLCACHE_OK);
    for (int round = 0; round < 2; round++) { /* after a flush a stream begins anew */
        streamed[0] = '\0';
        for (size_t i = 0; i < n; i++) {
            ck_assert_int_eq(vlci_detokenizer_push(stream, ids[i], &piece), VLCACHE_OK);
            strcat(streamed, piece);
        }
        ck_assert_int_eq(vlci_detokenizer_flush(stream, &piece), VLCACHE_OK);
        strcat(streamed, piece);
        if (strlen(want) == bytes) ck_assert_str_eq(streamed, want);
    }
    vlci_detokenizer_destroy(&stream);
    vlci_free(whole);
    free(want);
    free(ids);
    free(streamed);
}

START_TEST(goldens) {
    vlci_tokenizer *t = load(names[_i]);
    json_t *root = golden(names[_i]), *row;
    size_t index;
    json_array_foreach(json_object_get(root, "rows"), index, row) {
        check_encode(t, names[_i], row, false);
        check_encode(t, names[_i], row, true);
        check_decode(t, names[_i], json_object_get(row, "ids"), json_object_get(row, "back"));
        check_decode(t, names[_i], json_object_get(row, "shuffled"), json_object_get(row, "shuffled_back"));
    }
    ck_assert_uint_ge(index, 40);
    json_decref(root);
    vlci_tokenizer_destroy(&t);
}
END_TEST

START_TEST(lookup) {
    vlci_tokenizer *t = load("llama2");
    int32_t image = vlci_tokenizer_id(t, "<image>"), foo = vlci_tokenizer_id(t, "foo");
    ck_assert_int_ge(image, 0);
    ck_assert_int_ge(foo, 0);
    ck_assert(vlci_tokenizer_is_special(t, image));
    ck_assert(!vlci_tokenizer_is_special(t, foo));
    ck_assert(!vlci_tokenizer_is_special(t, -1));
    ck_assert(!vlci_tokenizer_is_special(t, 1 << 30));
    ck_assert_int_eq(vlci_tokenizer_id(t, "no such token"), -1);
    ck_assert_int_eq(vlci_tokenizer_id(t, "<s>"), 1);
    ck_assert_uint_gt(vlci_tokenizer_size(t), (size_t)foo);
    char *text;
    ck_assert_int_eq(vlci_tokenizer_decode(t, (int32_t[]){-5, 1 << 30, 1}, 3, &text), VLCACHE_OK);
    ck_assert_str_eq(text, "");
    vlci_free(text);
    vlci_tokenizer_destroy(&t);
    vlci_tokenizer_destroy(&t);
}
END_TEST

/* Broken UTF-8 gives the ids of the same text with U+FFFD. */
START_TEST(broken_utf8) {
    static const char *const pairs[][2] = {{"a\xff"
                                            "b",
                                            "a\xef\xbf\xbd"
                                            "b"},
                                           {"\xe4\xb8", "\xef\xbf\xbd"},
                                           {"\xc0\x80", "\xef\xbf\xbd\xef\xbf\xbd"},
                                           {"\xed\xa0\x80", "\xef\xbf\xbd\xef\xbf\xbd\xef\xbf\xbd"},
                                           {"\xf0\x9f\x91x", "\xef\xbf\xbdx"}};
    vlci_tokenizer *t = load(names[_i]);
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++) {
        int32_t *a, *b;
        size_t na, nb;
        ck_assert_int_eq(vlci_tokenizer_encode(t, pairs[i][0], strlen(pairs[i][0]), false, &a, &na),
                         VLCACHE_OK);
        ck_assert_int_eq(vlci_tokenizer_encode(t, pairs[i][1], strlen(pairs[i][1]), false, &b, &nb),
                         VLCACHE_OK);
        ck_assert_uint_eq(na, nb);
        ck_assert_mem_eq(a, b, na * sizeof *a);
        vlci_free(a);
        vlci_free(b);
    }
    vlci_tokenizer_destroy(&t);
}
END_TEST

/* A quarter of a megabyte in one line, of one kind of character each, must not hang. */
START_TEST(long_lines) {
    static const char kinds[] = "a \n1.\t";
    vlci_tokenizer *t = load(names[_i]);
    size_t n = 1 << 18;
    char *text = malloc(n);
    clock_t start = clock();
    for (const char *k = kinds; *k; k++) {
        int32_t *ids;
        size_t n_ids;
        memset(text, *k, n);
        vlcache_status status = vlci_tokenizer_encode(t, text, n, false, &ids, &n_ids);
        ck_assert_msg(status == VLCACHE_OK, "%s", vlcache_error_message());
        ck_assert_uint_gt(n_ids, 0);
        vlci_free(ids);
    }
    ck_assert_msg(clock() - start < 60 * (clock_t)CLOCKS_PER_SEC, "%s is too slow", names[_i]);
    free(text);
    vlci_tokenizer_destroy(&t);
}
END_TEST

START_TEST(bad_files) {
#define MODEL "\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2},\"merges\":[\"a b\"]}"
    static const struct {
        const char *text;
        vlcache_status status;
        const char *why;
    } cases[] = {
        {"", VLCACHE_E_FORMAT, "tokenizer.json"},
        {"{", VLCACHE_E_FORMAT, "line 1"},
        {"[]", VLCACHE_E_FORMAT, "JSON object"},
        {"{}", VLCACHE_E_FORMAT, "model: is missing"},
        {"{\"model\":3}", VLCACHE_E_FORMAT, "model: must be an object"},
        {"{\"model\":{\"type\":\"Unigram\"}}", VLCACHE_E_UNSUPPORTED, "Unigram"},
        {"{\"model\":{\"merges\":[]}}", VLCACHE_E_FORMAT, "model.vocab: is missing"},
        {"{\"model\":{\"vocab\":{}}}", VLCACHE_E_FORMAT, "model.merges: is missing"},
        {"{\"model\":{\"vocab\":{\"a\":-1},\"merges\":[]}}", VLCACHE_E_FORMAT, "model.vocab.a"},
        {"{\"model\":{\"vocab\":{\"a\":99999999},\"merges\":[]}}", VLCACHE_E_FORMAT, "model.vocab.a"},
        {"{\"model\":{\"vocab\":{\"a\":1,\"b\":1},\"merges\":[]}}", VLCACHE_E_FORMAT, "has the id 1"},
        {"{\"model\":{\"vocab\":{\"a\":1,\"a\":2},\"merges\":[]}}", VLCACHE_E_FORMAT, "duplicate"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a z\"]}}", VLCACHE_E_FORMAT, "not in vocab"},
        {"{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[\"a b\"]}}", VLCACHE_E_FORMAT, "not in vocab"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[\"a\"]}}", VLCACHE_E_FORMAT, "two tokens"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[[\"a\"]]}}", VLCACHE_E_FORMAT, "two tokens"},
        {"{\"model\":{\"vocab\":{\"a\":0},\"merges\":[],\"unk_token\":\"u\"}}", VLCACHE_E_FORMAT,
         "unk_token"},
        {"{\"model\":{\"vocab\":{},\"merges\":[],\"dropout\":0.1}}", VLCACHE_E_UNSUPPORTED, "dropout"},
        {"{\"model\":{\"vocab\":{},\"merges\":[],\"end_of_word_suffix\":\"w\"}}", VLCACHE_E_UNSUPPORTED,
         "end_of_word_suffix"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Precompiled\"}}", VLCACHE_E_UNSUPPORTED, "Precompiled"},
        {"{" MODEL ",\"normalizer\":{\"type\":\"Prepend\"}}", VLCACHE_E_FORMAT, "normalizer.prepend"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Whitespace\"}}", VLCACHE_E_UNSUPPORTED, "Whitespace"},
        {"{" MODEL
         ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"(\"},\"behavior\":\"Isolated\"}}",
         VLCACHE_E_UNSUPPORTED, "regular expression"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"\"}}}", VLCACHE_E_FORMAT,
         "pre_tokenizer.pattern"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"String\":\"x\"}}}",
         VLCACHE_E_FORMAT, "pre_tokenizer.behavior"},
        {"{" MODEL ",\"pre_tokenizer\":{\"type\":\"Metaspace\",\"replacement\":\"xy\"}}", VLCACHE_E_FORMAT,
         "pre_tokenizer.replacement"},
        {"{" MODEL ",\"decoder\":{\"type\":\"WordPiece\"}}", VLCACHE_E_UNSUPPORTED, "WordPiece"},
        {"{" MODEL ",\"decoder\":{\"type\":\"Replace\",\"content\":\"\"}}", VLCACHE_E_FORMAT,
         "decoder.pattern"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"BertProcessing\"}}", VLCACHE_E_UNSUPPORTED,
         "BertProcessing"},
        {"{" MODEL ",\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":"
         "{\"id\":\"x\"}}]}}",
         VLCACHE_E_FORMAT, "special_tokens"},
        {"{" MODEL ",\"added_tokens\":[{\"id\":5}]}", VLCACHE_E_FORMAT, "added_tokens.content"},
        {"{" MODEL ",\"added_tokens\":[{\"content\":\"x\",\"id\":-5}]}", VLCACHE_E_FORMAT, "added_tokens.id"},
        {"{" MODEL ",\"added_tokens\":[{\"content\":\"x\",\"id\":1}]}", VLCACHE_E_FORMAT, "added_tokens.id"},
        {"{" MODEL ",\"added_tokens\":[{\"content\":\"x\",\"id\":5},{\"content\":\"y\",\"id\":5}]}",
         VLCACHE_E_FORMAT, "share the id 5"},
        {"{" MODEL ",\"added_tokens\":[7]}", VLCACHE_E_FORMAT, "added_tokens"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        vlci_tokenizer *t = (void *)1;
        scratch_text("tokenizer.json", cases[i].text);
        vlcache_status status = vlci_tokenizer_load(scratch_folder(), &t);
        const char *message = vlcache_error_message();
        ck_assert_msg(status == cases[i].status, "case %zu: %d: %s", i, status, message);
        ck_assert_ptr_null(t);
        ck_assert_msg(strstr(message, cases[i].why) && strstr(message, "tokenizer.json"),
                      "\"%s\" lacks \"%s\"", message, cases[i].why);
    }
    scratch_clean();
}
END_TEST

/* A merge that makes what it is made of, and byte tokens that are none. */
START_TEST(odd_files) {
    scratch_text("tokenizer.json",
                 "{\"model\":{\"vocab\":{\"a\":0,\"aa\":1,\"aaaa\":2,\"<0x-1>\":3,\"<0x41>\":4,\"\":5},"
                 "\"merges\":[[\"a\",\"a\"],[\"aa\",\"aa\"],[\"a\",\"\"]],\"byte_fallback\":true},"
                 "\"decoder\":{\"type\":\"ByteFallback\"}}");
    vlci_tokenizer *t;
    int32_t *ids;
    size_t n;
    char *text;
    ck_assert_int_eq(vlci_tokenizer_load(scratch_folder(), &t), VLCACHE_OK);
    ck_assert_int_eq(vlci_tokenizer_encode(t, "aaaaaAz", 7, false, &ids, &n), VLCACHE_OK);
    ck_assert_uint_eq(n, 3); /* z has no token and no unknown token */
    ck_assert_int_eq(ids[0], 2);
    ck_assert_int_eq(ids[1], 0);
    ck_assert_int_eq(ids[2], 4);
    vlci_free(ids);
    ck_assert_int_eq(vlci_tokenizer_decode(t, (int32_t[]){4, 3, 4}, 3, &text), VLCACHE_OK);
    ck_assert_str_eq(text, "A<0x-1>A");
    vlci_free(text);
    vlci_tokenizer_destroy(&t);
    scratch_clean();
}
END_TEST

static const char small[] =
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"b\":1,\"ab\":2,\"\xe2\x96\x81\":3},\"merges\":[\"a "
    "b\"]},"
    "\"normalizer\":{\"type\":\"Sequence\",\"normalizers\":[{\"type\":\"NFC\"},{\"type\":\"Replace\","
    "\"pattern\":"
    "{\"Regex\":\"x+\"},\"content\":\"ab\"}]},\"pre_tokenizer\":{\"type\":\"Metaspace\"},"
    "\"decoder\":{\"type\":\"Sequence\",\"decoders\":[{\"type\":\"ByteFallback\"},{\"type\":\"Metaspace\"}]},"
    "\"post_processor\":{\"type\":\"TemplateProcessing\",\"single\":[{\"SpecialToken\":{\"id\":\"<s>\"}},"
    "{\"Sequence\":{\"id\":\"A\"}}],\"special_tokens\":{\"<s>\":{\"ids\":[4]}}},"
    "\"added_tokens\":[{\"id\":4,\"content\":\"<s>\",\"special\":true},{\"id\":5,\"content\":\"bb\"}]}";

START_TEST(memory) {
    scratch_text("tokenizer.json", small);
    bool failed = true;
    for (long at = 0; failed; at++) {
        vlci_tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t n = 0;
        char *text = NULL;
        failing_start(at);
        vlcache_status status = vlci_tokenizer_load(scratch_folder(), &t);
        if (!status) status = vlci_tokenizer_encode(t, "<s>abx bb a\xcc\x81", 14, true, &ids, &n);
        if (!status) status = vlci_tokenizer_decode(t, ids, n, &text);
        vlci_free(text);
        vlci_free(ids);
        vlci_tokenizer_destroy(&t);
        ck_assert_int_eq(failing_stop(&failed), 0);
        /* PCRE2 may do without: its JIT is only an acceleration */
        if (!failed) ck_assert_int_eq(status, VLCACHE_OK);
        if (status) ck_assert_int_eq(status, VLCACHE_E_NO_MEMORY);
    }
    scratch_clean();
}
END_TEST

int main(void) {
    Suite *suite = suite_create("tokenizer");
    TCase *cases = tcase_create("all");
    tcase_add_loop_test(cases, goldens, 0, N_NAMES);
    tcase_add_test(cases, lookup);
    tcase_add_loop_test(cases, broken_utf8, 0, N_NAMES);
    tcase_add_loop_test(cases, long_lines, 0, N_NAMES);
    tcase_add_test(cases, bad_files);
    tcase_add_test(cases, odd_files);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
