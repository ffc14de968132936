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

/* As a C string tells it: U+FFFD for each zero byte, which would hide what follows. New. */
static char *without_zeros(const char *bytes, size_t n) {
    char *text = calloc(3 * n + 1, 1);
    for (size_t i = 0; i < n; i++) strcat(text, bytes[i] ? (char[]){bytes[i], 0} : "\xef\xbf\xbd");
    return text;
}

/* Decoded at once and as a stream. */
static void check_decode(const vlci_tokenizer *t, const char *name, const json_t *list, const json_t *hex) {
    size_t n = json_array_size(list), bytes;
    int32_t *ids = calloc(n + 1, sizeof *ids);
    char *whole, *text = bytes_of(hex, &bytes), *want = without_zeros(text, bytes),
                 *streamed = calloc(1024 * n + 64, 1);
    vlci_detokenizer *stream;
    const char *piece;
    for (size_t i = 0; i < n; i++) ids[i] = (int32_t)json_integer_value(json_array_get(list, i));
    ck_assert_int_eq(vlci_tokenizer_decode(t, ids, n, &whole), VLCACHE_OK);
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
        ck_assert_str_eq(streamed, want);
    }
    vlci_detokenizer_destroy(&stream);
    vlci_free(whole);
    free(want);
    free(text);
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

/* A token of the vocabulary is not looked for behind its end: the sanitizers' to see. */
START_TEST(zero_bytes) {
    static const char file[] =
        "{\"model\":{\"type\":\"BPE\",\"ignore_merges\":true,\"merges\":[],"
        "\"vocab\":{\"ab\":0,\"c\":1}}}";
    static const char text[64] = "ab";
    vlci_tokenizer *t = NULL;
    int32_t *ids;
    size_t n;
    scratch_text("tokenizer.json", file);
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    ck_ok(vlci_tokenizer_encode(t, text, 2, false, &ids, &n));
    ck_assert(n == 1 && ids[0] == 0);
    vlci_free(ids);
    ck_ok(vlci_tokenizer_encode(t, text, sizeof text, false, &ids, &n));
    ck_assert_uint_eq(n, 0); /* no a, no b, no zero, and nothing for what is unknown */
    vlci_free(ids);
    vlci_tokenizer_destroy(&t);
    scratch_clean();
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

/* A pattern that is none, and one that ends on no text: each by its field. */
START_TEST(bad_patterns) {
    static const char *const regex[] = {"(", "(x?(?1))"};
    for (int i = 0; i < 2; i++) {
        char text[512];
        vlci_tokenizer *t = NULL;
        int32_t *ids = NULL;
        size_t n;
        snprintf(text, sizeof text,
                 "{" MODEL
                 ",\"pre_tokenizer\":{\"type\":\"Split\",\"pattern\":{\"Regex\":\"%s\"},"
                 "\"behavior\":\"Isolated\"}}",
                 regex[i]);
        scratch_text("tokenizer.json", text);
        vlcache_status status = vlci_tokenizer_load(scratch_folder(), &t);
        ck_assert_int_eq(status, i ? VLCACHE_OK : VLCACHE_E_UNSUPPORTED);
        if (!status) status = vlci_tokenizer_encode(t, "ab", 2, false, &ids, &n);
        ck_assert_int_eq(status, VLCACHE_E_UNSUPPORTED);
        const vlcache_error *error = vlcache_last_error();
        ck_assert_ptr_nonnull(strstr(error->file, "tokenizer.json"));
        ck_assert_str_eq(error->field, "pre_tokenizer.pattern.Regex");
        ck_assert_str_eq(error->value, regex[i]);
        ck_assert_ptr_nonnull(strstr(error->hint, i ? "shorten" : "parenthesis"));
        vlci_tokenizer_destroy(&t);
    }
    scratch_clean();
}
END_TEST

/* What stands there without a tokenizer.json, named. */
START_TEST(older_files) {
    static const char *const older[] = {"tokenizer.model", "vocab.json"};
    vlci_tokenizer *t;
    for (int i = 0; i < 2; i++) {
        scratch_text(older[i], "x");
        ck_fails(vlci_tokenizer_load(scratch_folder(), &t), VLCACHE_E_IO, older[i]);
        ck_assert_ptr_nonnull(strstr(vlcache_error_message(), "save_pretrained"));
        scratch_remove(older[i]);
    }
    ck_fails(vlci_tokenizer_load(scratch_folder(), &t), VLCACHE_E_IO, "cannot be opened");
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

/* ---- added tokens -------------------------------------------------------------------------------------- */

static void encodes_parts(const vlci_tokenizer *t, const vlci_text_part *parts, size_t n_parts,
                          const char *want) {
    int32_t *ids;
    size_t n;
    char got[512] = "";
    ck_ok(vlci_tokenizer_encode_parts(t, parts, n_parts, false, &ids, &n));
    for (size_t i = 0; i < n; i++) sprintf(got + strlen(got), "%s%d", i ? " " : "", ids[i]);
    ck_assert_str_eq(got, want);
    vlci_free(ids);
}

static void encodes(const vlci_tokenizer *t, const char *text, const char *want) {
    encodes_parts(t, &(vlci_text_part){text, strlen(text), false}, 1, want);
}

#define LETTERS                                                                                              \
    "{\"model\":{\"type\":\"BPE\",\"vocab\":{\"a\":0,\"<\":1,\"p\":2,\">\":3,\"_\":4,\"ab\":5},\"merges\":[" \
    "]}"

/* What tokenizer.json does not say of added tokens, the files beside it do. */
START_TEST(added_beside) {
    vlci_tokenizer *t;
    scratch_text("tokenizer.json",
                 LETTERS ",\"added_tokens\":[{\"id\":6,\"content\":\"<a>\",\"special\":true}]}");
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    encodes(t, "<a><p>", "6 1 2 3");
    vlci_tokenizer_destroy(&t);
    scratch_text("added_tokens.json", "{\"<p>\":7,\"pp\":8,\"<a>\":6,\"ab\":5}");
    scratch_text("special_tokens_map.json", "{\"pad_token\":{\"content\":\"<p>\"},\"x\":[\"pp\"]}");
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    encodes(t, "<a><p>ppab", "6 7 8 5");
    ck_assert(vlci_tokenizer_is_special(t, 7));
    ck_assert(!vlci_tokenizer_is_special(t, 8));
    ck_assert(!vlci_tokenizer_is_special(t, 5));
    ck_assert_int_eq(vlci_tokenizer_id(t, "<p>"), 7);
    ck_assert_uint_eq(vlci_tokenizer_size(t), 9);
    vlci_tokenizer_destroy(&t);
    /* tokenizer_config.json counts before added_tokens.json, tokenizer.json before both */
    scratch_text("tokenizer_config.json",
                 "{\"added_tokens_decoder\":{\"9\":{\"content\":\"<p>\",\"special\":true,\"lstrip\":true},"
                 "\"10\":{\"content\":\"<a>\"},\"11\":{\"content\":\"a\"}}}");
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    encodes(t, "a <p>pp<a>", "0 9 2 2 6");
    vlci_tokenizer_destroy(&t);
    static const char *const bad[][2] = {
        {"{\"added_tokens_decoder\":{\"6\":{\"content\":\"<p>\"}}}", "share the id 6"},
        {"{\"added_tokens_decoder\":{\"3\":{\"content\":\"<p>\"}}}", "model.vocab says otherwise"},
        {"{\"added_tokens_decoder\":{\"x\":{\"content\":\"<p>\"}}}", "must be an id"},
        {"{\"added_tokens_decoder\":{\"99999999\":{\"content\":\"<p>\"}}}", "must be an id"},
        {"{\"added_tokens_decoder\":{\"9\":{}}}", "added_tokens_decoder.9.content"},
        {"{\"added_tokens_decoder\":[]}", "added_tokens_decoder: must be an object"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        scratch_text("tokenizer_config.json", bad[i][0]);
        ck_fails(vlci_tokenizer_load(scratch_folder(), &t), VLCACHE_E_FORMAT, bad[i][1]);
    }
    scratch_clean();
}
END_TEST

/* The longest token at a place counts, and of equals the one with the lowest id. */
START_TEST(longest_match) {
    vlci_tokenizer *t;
    scratch_text(
        "tokenizer.json",
        "{\"model\":{\"vocab\":{\"a\":0,\"b\":1},\"merges\":[]},\"normalizer\":{\"type\":\"Lowercase\"},"
        "\"added_tokens\":[{\"id\":9,\"content\":\"AA\",\"normalized\":true},"
        "{\"id\":8,\"content\":\"aA\",\"normalized\":true},{\"id\":7,\"content\":\"aaaa\",\"normalized\":"
        "true},"
        "{\"id\":6,\"content\":\"BB\",\"normalized\":false},{\"id\":5,\"content\":\"B\",\"normalized\":false}"
        "]}");
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    encodes(t, "a", "0");
    encodes(t, "aaa", "8 0");
    encodes(t, "Aaaaa", "7 0");
    encodes(t, "abaaBBBb", "0 1 8 6 5 1");
    vlci_tokenizer_destroy(&t);
    scratch_clean();
}
END_TEST

/* "a" a hundred times in place of each, and that four times over: a small file that would fill the memory. */
START_TEST(what_grows_without_end) {
    char content[101], step[256], list[1100] = "", file[2500];
    vlci_tokenizer *t = NULL;
    int32_t *ids = NULL;
    size_t n;
    char *text = NULL;
    memset(content, 'a', 100);
    content[100] = 0;
    snprintf(step, sizeof step, "{\"type\":\"Replace\",\"pattern\":{\"String\":\"a\"},\"content\":\"%s\"}",
             content);
    for (int i = 0; i < 4; i++) sprintf(list + strlen(list), "%s%s", i ? "," : "", step);
    snprintf(file, sizeof file,
             "{\"model\":{\"vocab\":{\"a\":0},\"merges\":[]},\"normalizer\":{\"type\":\"Sequence\","
             "\"normalizers\":[%s]},\"decoder\":{\"type\":\"Sequence\",\"decoders\":[%s]}}",
             list, list);
    scratch_text("tokenizer.json", file);
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    ck_fails(vlci_tokenizer_encode(t, "a", 1, true, &ids, &n), VLCACHE_E_UNSUPPORTED, "more than 64 MiB");
    ck_fails(vlci_tokenizer_decode(t, (int32_t[]){0}, 1, &text), VLCACHE_E_UNSUPPORTED, "more than 64 MiB");
    vlci_tokenizer_destroy(&t);
    scratch_clean();
}
END_TEST

/* Control tokens in a user's words are words; all else is encoded as if the parts were one text. */
START_TEST(words_are_words) {
    static const char *const words[] = {"What is this?",           " two  blanks ",   "\n", "foo",
                                        "caf\xc3\xa9\xef\xb7\x90", "\xcc\x81 accent", "",   "\xff"};
    vlci_tokenizer *t = load(names[_i]);
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        const vlci_text_part parts[] = {{"USER: ", 6, false},
                                        {words[i], strlen(words[i]), true},
                                        {" <image>\n", 9, false},
                                        {words[i], strlen(words[i]), true},
                                        {" ASSISTANT:", 11, false}};
        char joined[256] = "";
        int32_t *ids, *want;
        size_t n, n_want;
        for (int k = 0; k < 5; k++) strcat(joined, parts[k].text);
        ck_ok(vlci_tokenizer_encode(t, joined, strlen(joined), true, &want, &n_want));
        ck_ok(vlci_tokenizer_encode_parts(t, parts, 5, true, &ids, &n));
        ck_assert_msg(n == n_want && memcmp(ids, want, n * sizeof *ids) == 0, "%s: \"%s\"", names[_i],
                      joined);
        vlci_free(ids);
        vlci_free(want);
    }
    static const char *const controls[] = {
        "<image>", "<s>", "</s>", "<|im_end|>", "<|eot_id|>", "<|endoftext|>", "<|begin_of_text|>", "<pad>"};
    for (size_t i = 0; i < sizeof controls / sizeof *controls; i++) {
        int32_t id = vlci_tokenizer_id(t, controls[i]), *ids;
        const vlci_text_part parts[] = {{controls[i], strlen(controls[i]), true},
                                        {controls[i], strlen(controls[i]), false}};
        size_t n, found = 0;
        char *back;
        if (id < 0) continue;
        ck_ok(vlci_tokenizer_encode_parts(t, parts, 2, false, &ids, &n));
        for (size_t k = 0; k < n; k++) found += ids[k] == id;
        ck_assert_msg(found == 1 && ids[n - 1] == id, "%s: %s was found %zu times", names[_i], controls[i],
                      found);
        ck_ok(vlci_tokenizer_decode(t, ids, n, &back));
        char *to = back; /* one of them puts blanks everywhere */
        for (const char *from = back; *from; from++)
            if (*from != ' ') *to++ = *from;
        *to = 0;
        ck_assert_msg(strstr(back, controls[i]), "%s: %s came back as \"%s\"", names[_i], controls[i], back);
        vlci_free(back);
        vlci_free(ids);
    }
    vlci_tokenizer_destroy(&t);
}
END_TEST

/* A control token that is matched in normalized text, and one that half belongs to the template. */
START_TEST(words_in_normalized_text) {
    vlci_tokenizer *t;
    scratch_text(
        "tokenizer.json",
        "{\"model\":{\"vocab\":{\"_\":0,\"<\":1,\"p\":2,\">\":3},\"merges\":[]},\"normalizer\":{\"type\":"
        "\"Sequence\",\"normalizers\":[{\"type\":\"Prepend\",\"prepend\":\"_\"},{\"type\":\"Lowercase\"}]},"
        "\"added_tokens\":[{\"id\":4,\"content\":\"<P>\",\"normalized\":true},"
        "{\"id\":5,\"content\":\"pp\",\"normalized\":false}]}");
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    /* the normalizer prepends to the match as well */
    encodes(t, "<p>", "4");
    encodes_parts(t, &(vlci_text_part){"<p>", 3, true}, 1, "0 1 2 3");
    encodes_parts(t, &(vlci_text_part){"<P>", 3, true}, 1, "0 1 2 3");
    encodes_parts(t, (vlci_text_part[]){{"<p", 2, false}, {">", 1, true}}, 2, "0 1 2 3");
    encodes_parts(t, &(vlci_text_part){"pp", 2, true}, 1, "5"); /* nothing is left to prepend to */
    encodes_parts(t, (vlci_text_part[]){{"", 0, true}, {"", 0, false}}, 2, "");
    char all[3 * 32 + 1] = "";
    for (int i = 0; i < 32; i++) sprintf(all + 3 * i, "\xef\xb7%c", 0x90 + i);
    int32_t *ids;
    size_t n;
    ck_fails(vlci_tokenizer_encode_parts(t, &(vlci_text_part){all, 96, true}, 1, false, &ids, &n),
             VLCACHE_E_UNSUPPORTED, "U+FDD0");
    vlci_tokenizer_destroy(&t);
    scratch_clean();
}
END_TEST

/* 200,000 added tokens and half a megabyte that begins like all of them at each byte: minutes, token by
 * token. */
START_TEST(many_added_tokens) {
    enum { TOKENS = 200000, BYTES = 1 << 19 };
    char *file = malloc(64 * (size_t)TOKENS + 1024), *at = file, *text = malloc(BYTES);
    at += sprintf(at, LETTERS ",\"added_tokens\":[");
    for (int i = 0; i < TOKENS; i++)
        at += sprintf(at, "%s{\"id\":%d,\"content\":\"aaaaaaaa%d_\"}", i ? "," : "", 10 + i, i);
    sprintf(at, "]}");
    scratch_text("tokenizer.json", file);
    vlci_tokenizer *t;
    int32_t *ids;
    size_t n;
    ck_ok(vlci_tokenizer_load(scratch_folder(), &t));
    memset(text, 'a', BYTES);
    memcpy(text + BYTES - 8, "a199999_", 8);
    clock_t start = clock();
    ck_ok(vlci_tokenizer_encode(t, text, BYTES, false, &ids, &n));
    ck_assert_msg(clock() - start < 60 * (clock_t)CLOCKS_PER_SEC, "too slow");
    ck_assert_uint_eq(n, BYTES - 15 + 1);
    ck_assert_int_eq(ids[n - 1], 10 + 199999);
    vlci_free(ids);
    vlci_tokenizer_destroy(&t);
    scratch_clean();
    free(file);
    free(text);
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
    scratch_text("added_tokens.json", "{\"<s>\":4,\"<q>\":6}");
    scratch_text("tokenizer_config.json", "{\"pad_token\":\"<q>\"}");
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
        vlci_free(ids);
        ids = NULL;
        if (!status)
            status = vlci_tokenizer_encode_parts(t, (vlci_text_part[]){{"a", 1, false}, {"<s>bb", 5, true}},
                                                 2, true, &ids, &n);
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
    tcase_add_test(cases, zero_bytes);
    tcase_add_loop_test(cases, long_lines, 0, N_NAMES);
    tcase_add_test(cases, bad_files);
    tcase_add_test(cases, bad_patterns);
    tcase_add_test(cases, older_files);
    tcase_add_test(cases, odd_files);
    tcase_add_test(cases, added_beside);
    tcase_add_test(cases, longest_match);
    tcase_add_test(cases, what_grows_without_end);
    tcase_add_loop_test(cases, words_are_words, 0, N_NAMES);
    tcase_add_test(cases, words_in_normalized_text);
    tcase_add_test(cases, many_added_tokens);
    tcase_add_test(cases, memory);
    suite_add_tcase(suite, cases);
    return suite_run(suite);
}
