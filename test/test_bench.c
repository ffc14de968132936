/*
 * test_bench.c - vlcache-bench: its lines say what the engine does, in each format the same; checks of
 * kernels see a kernel that is wrong; and bad flags are refused.
 */
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"

#define BENCH             VLCACHE_BINARY_DIR "/vlcache-bench"
#define RUN_BENCH(p, ...) process_run(p, (const char *const[]){BENCH, __VA_ARGS__, NULL}, "", 0)
#define MEASURE(p, ...)   RUN_BENCH(p, "-m", TINY, "--image", PICTURE, __VA_ARGS__)
#define MADE(p, ...)      RUN_BENCH(p, "--geometry", "tiny", "-q", __VA_ARGS__)

/* What a run with these arguments and -o json says; to be decreased. */
static json_t *json_of(const char *const *argv) {
    process p;
    json_error_t error;
    process_run(&p, argv, "", 0);
    ended(&p, 0);
    json_t *whole_text = json_loads(p.out, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(whole_text != NULL, "%s in %s", error.text, p.out);
    process_release(&p);
    return whole_text;
}
#define MADE_JSON(...)                                                                                       \
    json_of((const char *const[]){BENCH, "--geometry", "tiny", "-q", "-o", "json", __VA_ARGS__, NULL})

/* The lines of a result. */
static const json_t *line_of(const json_t *said, size_t i) {
    return json_array_get(get(said, "results", JSON_ARRAY), i);
}

static size_t lines(const json_t *said) {
    return json_array_size(get(said, "results", JSON_ARRAY));
}

static double number(const json_t *line, const char *key) {
    const json_t *value = json_object_get(line, key);
    ck_assert_msg(json_is_number(value), "\"%s\" is no number", key);
    return json_number_value(value);
}

/* ---- speed --------------------------------------------------------------------------------------------- */

/* A line for each policy, prompt, depth and number of sequences, of which each number is as it must be. */
static void check_line(const json_t *line, int n) {
    double token = number(line, "token_ms"), rate = number(line, "tokens_per_s");
    ck_assert(number(line, "token_ms_min") <= token && token <= number(line, "token_ms_max"));
    ck_assert(number(line, "tokens_per_s_min") <= rate && rate <= number(line, "tokens_per_s_max"));
    ck_assert(number(line, "worst_ms") >= token);
    ck_assert(number(line, "host_ms") > 0);
    ck_assert(number(line, "first_ms") + 0.01 >= number(line, "prefill_ms_min") / n);
    ck_assert(number(line, "whole_ms") > number(line, "first_ms_min"));
    ck_assert(number(line, "prefill_tokens_per_s") > 0 && number(line, "prefill_flops") > 0);
    ck_assert(number(line, "decode_bytes_per_s") > 0 && number(line, "decode_flops") > 0);
    ck_assert(number(line, "decode_bytes_share") > 0 && number(line, "prefill_share") > 0);
    ck_assert(number(line, "peak_mib") > number(line, "kv_mib"));
}

START_TEST(speed_is_told) {
    json_t *said = MADE_JSON("-p", "40,100", "-d", "0,64", "-b", "1,3", "-n", "6", "-r", "2", "--policy",
                             "full,vlcache");
    ck_assert_uint_eq(lines(said), 2 * 2 * 2 * 2);
    ck_assert(number(said, "copy_bytes_per_s") > 0 && number(said, "product_flops") > 0);
    const json_t *model = get(said, "model", JSON_OBJECT);
    ck_assert_str_eq(json_string_value(get(model, "geometry", JSON_STRING)), "tiny");
    ck_assert_int_eq(whole(model, "intermediate"), 512);
    for (size_t i = 0; i < lines(said); i++) {
        const json_t *line = line_of(said, i);
        int n = whole(line, "sequences"), tokens = whole(line, "prompt_tokens");
        ck_assert_str_eq(json_string_value(get(line, "policy", JSON_STRING)), i / 2 % 2 ? "vlcache" : "full");
        ck_assert_int_eq(n, i % 2 ? 3 : 1);
        ck_assert_int_eq(tokens, i / 4 % 2 ? 100 : 40);
        ck_assert_int_eq(whole(line, "depth"), i / 8 ? 64 : 0);
        ck_assert_int_eq(whole(line, "pictures"), tokens == 100 ? 4 : 0);
        check_line(line, n);
        if (n == 3) ck_assert(number(line, "kv_mib") > 2.5 * number(line_of(said, i - 1), "kv_mib"));
        if (i >= 8 && i / 2 % 2 == 0)
            ck_assert(number(line, "kv_mib") > number(line_of(said, i - 8), "kv_mib"));
    }
    /* a tenth of 100 tokens with pictures, all of 40 without one */
    ck_assert(number(line_of(said, 6), "kv_mib") < 0.5 * number(line_of(said, 4), "kv_mib"));
    ck_assert(number(line_of(said, 2), "kv_mib") == number(line_of(said, 0), "kv_mib"));
    json_decref(said);
}
END_TEST

/* Axes of a policy, spelled as vlcache-eval has them: with candidates "visual" all words stay. */
START_TEST(axes_are_heard) {
    static const char *const labels[] = {
        "words", "full", "vlcache@recent=.5,threshold=.1", "vlcache@recall=host", "full", "again"};
    json_t *said = MADE_JSON("-p", "100", "-n", "1", "-r", "1", "--no-ceiling", "--policy",
                             "vlcache@label=words,candidates=visual,full,vlcache@recent=.5,threshold=.1,"
                             "vlcache@recall=host,full,full@label=again");
    ck_assert_uint_eq(lines(said), 6); /* the same again is measured again, in its turn */
    for (size_t i = 0; i < 6; i++)
        ck_assert_str_eq(json_string_value(get(line_of(said, i), "policy", JSON_STRING)), labels[i]);
    ck_assert(number(line_of(said, 0), "kv_mib") > 2 * number(line_of(said, 2), "kv_mib"));
    ck_assert(number(line_of(said, 0), "kv_mib") < number(line_of(said, 1), "kv_mib"));
    json_decref(said);
}
END_TEST

/* A model of a folder, asked in words: the table to read. */
START_TEST(words_are_asked) {
    process p;
    MEASURE(&p, "-q", "-n", "16", "-r", "3", "-b", "1,3", "--policy", "full,vlcache");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), 2 + 4);
    const char *line = strchr(strchr(p.out, '\n') + 1, '\n') + 1;
    for (int i = 0; i < 4; i++, line = strchr(line, '\n') + 1) {
        char policy[16];
        int n, prompt, depth;
        ck_assert_int_eq(sscanf(line, "| %15s | %d | %d | %d |", policy, &n, &prompt, &depth), 4);
        ck_assert_str_eq(policy, i < 2 ? "full" : "vlcache");
        ck_assert_int_eq(n, i % 2 ? 3 : 1);
        ck_assert_int_eq(depth, 0);
        ck_assert_int_gt(prompt, 16);
    }
    int head = (int)strcspn(p.out, "\n"), bars = 0;
    for (int i = 0; i < head; i++) bars += p.out[i] == '|';
    ck_assert_int_eq(count_of(p.out, "|"), bars * 6);
    process_release(&p);
}
END_TEST

/* Ids for a folder's model, too, in answers that no end token ends. */
START_TEST(ids_are_asked) {
    process p;
    MEASURE(&p, "-q", "-p", "80", "-n", "40", "-r", "1", "--policy", "vlcache", "-o", "csv", "--no-warmup");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), 2);
    ck_assert_ptr_nonnull(strstr(p.out, "\nvlcache,1,80,3,0,"));
    process_release(&p);
    RUN_BENCH(&p, "-m", TINY, "-q", "-d", "50", "-b", "1", "-n", "3", "-r", "1", "--policy", "full", "-o",
              "csv");
    ended(&p, 0); /* words behind ids, and no picture at all */
    ck_assert_ptr_nonnull(strstr(p.out, ",0,50,"));
    process_release(&p);
}
END_TEST

START_TEST(pictures_are_counted) {
    json_t *said = MADE_JSON("--images", "3", "-n", "0", "-r", "1", "--policy", "full");
    const json_t *line = line_of(said, 0);
    ck_assert_int_eq(whole(line, "pictures"), 3);
    ck_assert_int_eq(whole(line, "prompt_tokens"), 3 * 16 + 32);
    ck_assert(number(line, "vision_ms") > 0);
    get(line, "token_ms", JSON_NULL); /* nothing was answered */
    get(line, "tokens_per_s_max", JSON_NULL);
    get(line, "decode_bytes_per_s", JSON_NULL);
    json_decref(said);
    process p;
    MADE(&p, "--images", "3", "-p", "48", "-r", "1");
    expect(&p, 1, "3 pictures of 16 tokens take 48");
    process_release(&p);
}
END_TEST

/* A line of CSV has the same columns as an object of JSON, in its order; without ceilings no share. */
START_TEST(formats_agree) {
    process p;
    json_t *said = MADE_JSON("-p", "40", "-n", "4", "-r", "1", "--policy", "full", "--no-ceiling");
    MADE(&p, "-p", "40", "-n", "4", "-r", "1", "--policy", "full", "--no-ceiling", "-o", "csv");
    ended(&p, 0);
    char keys[2048] = "";
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)line_of(said, 0), key, value) {
        if (*keys) strcat(keys, ",");
        strcat(keys, key);
        ck_assert(strstr(key, "share") ? json_is_null(value) : !json_is_null(value));
    }
    ck_assert_int_eq(strncmp(p.out, keys, strlen(keys)), 0);
    ck_assert_int_eq(count_of(p.out, ","), 2 * count_of(keys, ","));
    ck_assert(number(said, "copy_bytes_per_s") == 0);
    json_decref(said);
    process_release(&p);
}
END_TEST

/* A tenth of the cache lets more conversations in, as many more as memory lets one work out. */
START_TEST(fit_is_told) {
    process p;
    int full, small;
    double share;
    MEASURE(&p, "-q", "-n", "4", "--kv-mib", "0.5", "--policy", "full,vlcache");
    ended(&p, 0);
    const char *line = strstr(p.out, "| full |");
    ck_assert(line && sscanf(line, "| full | %d | 1.00 | %lf |", &full, &share) == 2);
    ck_assert(full >= 1 && share >= 0 && share < 0.5);
    line = strstr(p.out, "| vlcache |");
    ck_assert(line && sscanf(line, "| vlcache | %d |", &small) == 1);
    ck_assert_int_gt(small, full);
    process_release(&p);
    json_t *said = MADE_JSON("-p", "200", "-n", "2", "--kv-mib", "1");
    ck_assert_uint_eq(lines(said), 3);
    ck_assert_int_gt(whole(line_of(said, 1), "conversations"), whole(line_of(said, 0), "conversations"));
    json_decref(said);
}
END_TEST

/* Rows in few bits lie beside the engine's pages: all conversations that fit take no more than there is,
 * whoever shares the bits out. */
START_TEST(fit_counts_few_bits) {
    static const char *const policies[] = {"vlcache+", "vlcache+@allocation=heads:1,2,3,1",
                                           "vlcache@storage=bits:4/2"};
    for (size_t i = 0; i < sizeof policies / sizeof *policies; i++) {
        const char *const all[] = {BENCH,          "-m",       TINY,        "--image", PICTURE, "-q",
                                   "--no-ceiling", "-o",       "json",      "-n",      "4",     "--budget",
                                   ".3",           "--policy", policies[i], NULL,      NULL,    NULL};
        const char *fit[sizeof all / sizeof *all];
        memcpy(fit, all, sizeof all);
        fit[15] = "--kv-mib";
        fit[16] = "0.5";
        json_t *one = json_of(all), *many = json_of(fit);
        double held = number(line_of(one, 0), "kv_mib");
        int n = whole(line_of(many, 0), "conversations");
        ck_assert_msg(n >= 1 && n * held <= 0.5 && (n + 3) * held > 0.3, "%s: %d conversations of %g MiB",
                      policies[i], n, held);
        json_decref(one);
        json_decref(many);
    }
}
END_TEST

/* Less than a byte is not as much as there is, and what is not counted to its end is not told. */
START_TEST(fit_is_counted_or_refused) {
    process p;
    MADE(&p, "-p", "1", "-n", "1", "--policy", "full", "--kv-mib", "1e-9");
    expect(&p, 1, "kv_bytes: is 1, must hold from 1 to ");
    process_release(&p);
    MADE(&p, "-p", "1", "-n", "1", "--policy", "full", "--kv-mib", "40");
    expect(&p, 1, "--kv-mib 40: with policy full more than 1024 conversations fit");
    process_release(&p);
}
END_TEST

START_TEST(interrupted) {
    process p;
    process_start(&p, (const char *const[]){BENCH, "--geometry", "tiny", "-q", "-p", "100", "-n", "4000",
                                            "-r", "64", "--no-ceiling", NULL});
    process_await_output(&p, 100); /* the table's head */
    process_signal(&p, SIGINT);
    process_finish(&p);
    ended(&p, 130);
    process_release(&p);
}
END_TEST

/* ---- the paper's table --------------------------------------------------------------------------------- */

START_TEST(paper_is_told) {
    json_t *said = MADE_JSON("--paper", "--quick", "-r", "1", "--no-ceiling");
    ck_assert_uint_eq(lines(said), 2);
    for (size_t i = 0; i < 2; i++) {
        const json_t *line = line_of(said, i);
        double prefill = number(line, "prefill_ms_full") / number(line, "prefill_ms"),
               token = number(line, "token_ms_full") / number(line, "token_ms");
        ck_assert(fabs(number(line, "prefill_ratio") - prefill) < 1e-3 * prefill);
        ck_assert(fabs(number(line, "decode_ratio") - token) < 1e-3 * token);
        ck_assert(number(line, "whole_ratio") > 0.99 * fmin(prefill, token) &&
                  number(line, "whole_ratio") < 1.01 * fmax(prefill, token));
        ck_assert(number(line, "bound") > 1 && number(line, "bound") < 10);
        ck_assert(number(line, "kv_mib") < number(line, "kv_mib_full"));
        ck_assert_str_eq(json_string_value(get(line, "note", JSON_STRING)), "");
    }
    json_decref(said);
}
END_TEST

/* A geometry from a file, too short for any row: what the paper has is told all the same, and why no more. */
START_TEST(paper_rows_that_cannot_be) {
    static const char config[] =
        "{\"model_type\": \"llava\", \"image_token_index\": 90, \"vision_config\": {\"hidden_size\": 32, "
        "\"num_hidden_layers\": 2, \"num_attention_heads\": 2, \"intermediate_size\": 64, \"image_size\": "
        "28, "
        "\"patch_size\": 14}, \"text_config\": {\"hidden_size\": 64, \"num_hidden_layers\": 1, "
        "\"num_attention_heads\": 1, \"intermediate_size\": 64, \"vocab_size\": 99, "
        "\"max_position_embeddings\": 1024}}";
    char path[512];
    process p;
    scratch_text("geometry.json", config);
    in_scratch("geometry.json", path);
    RUN_BENCH(&p, "--geometry", path, "-q", "--paper", "--no-ceiling");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), 2 + 5);
    ck_assert_int_eq(count_of(p.out, "longer than the model's context"), 5);
    ck_assert_ptr_nonnull(strstr(p.out, "| 64 | 2048 | - | 0.98 | - | 5.23 |"));
    process_release(&p);
}
END_TEST

/* ---- kernels ------------------------------------------------------------------------------------------- */

/* Each kernel is built for one run alone: no binaries of them. */
static void keep_binaries(bool kept) {
    if (kept)
        suite_set("VLCACHE_KERNEL_BINARIES", NULL);
    else
        suite_set("VLCACHE_KERNEL_BINARIES", "none");
}

static const char *text_of(const json_t *line, const char *key) {
    return json_string_value(get(line, key, JSON_STRING));
}

/* Whether a line is about a ladder that vlcache-info told: "kernel" or "kernel work". */
static bool is_of(const json_t *line, const json_t *ladder) {
    char whole_name[96];
    snprintf(whole_name, sizeof whole_name, "%s %s", text_of(ladder, "kernel"), text_of(ladder, "work"));
    const char *name = text_of(line, "kernel");
    return strcmp(name, text_of(ladder, "kernel")) == 0 || strcmp(name, whole_name) == 0;
}

/* Lines of a rung, and of these how many have a time; rungs of products are told behind their engine. */
static int lines_of(const json_t *said, const json_t *ladder, const char *rung, int *timed) {
    const char *work = text_of(ladder, "work");
    char name[96];
    int found = 0;
    bool engine = strncmp(work, "engine ", 7) == 0;
    snprintf(name, sizeof name, "%s%s%s", engine ? work + 7 : "", engine ? " " : "", rung);
    for (size_t i = 0; i < lines(said); i++) {
        const json_t *line = line_of(said, i);
        if (!is_of(line, ladder) || strcmp(text_of(line, "rung"), name) != 0) continue;
        found++;
        *timed += !json_is_null(json_object_get(line, "ms"));
    }
    return found;
}

static void check_kernel_line(const json_t *line) {
    double most = strcmp(text_of(line, "kernel"), "code") == 0 ? 0.6 : 3e-2; /* of code: steps */
    ck_assert_str_ne(text_of(line, "note"), "WRONG");
    if (json_is_null(json_object_get(line, "ms"))) return; /* left out, and a note why */
    ck_assert_msg(number(line, "ms") > 0 && number(line, "error") <= most, "%s %s: error %g",
                  text_of(line, "kernel"), text_of(line, "rung"), number(line, "error"));
    ck_assert(json_is_null(json_object_get(line, "tflops")) !=
              json_is_null(json_object_get(line, "gb_per_s")));
}

/* Every rung of every ladder that vlcache-info has for this device, by name: one that is added has to be
 * added to the kernels that are tried. */
START_TEST(kernels_are_tried) {
    json_t *info = json_of((const char *const[]){VLCACHE_BINARY_DIR "/vlcache-info", "--no-measure", "--json",
                                                 "--device", "0", NULL});
    keep_binaries(false);
    json_t *said = json_of((const char *const[]){BENCH, "-q", "--kernels", "--quick", "-r", "1",
                                                 "--no-ceiling", "-o", "json", "--device", "0", NULL});
    keep_binaries(true);
    const json_t *ladders = get(json_array_get(get(info, "devices", JSON_ARRAY), 0), "variants", JSON_ARRAY),
                 *ladder, *rung;
    size_t i, k;
    for (i = 0; i < lines(said); i++) check_kernel_line(line_of(said, i));
    ck_assert_uint_gt(json_array_size(ladders), 10);
    json_array_foreach(ladders, i, ladder) {
        int timed = 0, chosen = 0;
        json_array_foreach(get(ladder, "rungs", JSON_ARRAY), k, rung) {
            bool here = json_is_true(json_object_get(rung, "available"));
            int found = lines_of(said, ladder, text_of(rung, "rung"), &timed);
            ck_assert_msg((found > 0) == here, "%s, %s: %d lines of rung %s", text_of(ladder, "kernel"),
                          text_of(ladder, "work"), found, text_of(rung, "rung"));
        }
        for (k = 0; k < lines(said); k++)
            chosen += is_of(line_of(said, k), ladder) && *text_of(line_of(said, k), "chosen") == '*';
        ck_assert_msg(timed && chosen, "%s, %s: %d times, %d lines are chosen", text_of(ladder, "kernel"),
                      text_of(ladder, "work"), timed, chosen);
    }
    json_decref(said);
    json_decref(info);
}
END_TEST

/* Some of them, by what stands in their lines. */
START_TEST(few_kernels_are_tried) {
    process p;
    keep_binaries(false);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "--only", "norm,rope,x 96 x", "-o",
              "csv");
    keep_binaries(true);
    ended(&p, 0);
    ck_assert_ptr_nonnull(strstr(p.out, "\nnorm,"));
    ck_assert_ptr_nonnull(strstr(p.out, "\nrope and append,"));
    ck_assert_ptr_nonnull(strstr(p.out, " x 96 x "));
    ck_assert_ptr_null(strstr(p.out, " x 70 x "));
    ck_assert_ptr_null(strstr(p.out, "attention"));
    process_release(&p);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "--only", "norm", "--chosen", "-o",
              "csv");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), 1 + 2);
    ck_assert_int_eq(count_of(p.out, ",*,"), 2);
    process_release(&p);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "--only", "16-bit x 37 x 96");
    ended(&p, 0); /* alone, too; a processor with AMX has three rungs of two */
    int rungs = count_of(p.out, "bit x");
    ck_assert_int_ge(rungs, 2);
    process_release(&p);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "--only", "16-bit x and y 37 x");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "bit x and y"), 2 * rungs);
    process_release(&p);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "--only", "16-bit x 37 x 96", "-o",
              "csv", "--dtype", "f32"); /* which no matrix engine takes: a line says so, and no other does */
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"),
                     1 + count_of(p.out, "16-bit x\",") + count_of(p.out, "16-bit x,"));
    ck_assert_int_ge(count_of(p.out, "do not take f32"), 1);
    process_release(&p);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "--only", "portable tile 37 x 96",
              "-o", "csv", "--dtype", "f32");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), 2);
    process_release(&p);
    RUN_BENCH(&p, "-q", "--kernels", "--quick", "--no-ceiling", "--only", "norm,no such kernel");
    expect(&p, 1, "\"no such kernel\": is in no line");
    process_release(&p);
}
END_TEST

/* All of cl/ in the scratch folder. */
static void copy_kernels(char folder[512]) {
    char command[2048];
    in_scratch("cl", folder);
    snprintf(command, sizeof command, "rm -rf '%s' && cp -r '%s/cl' '%s'", folder, VLCACHE_SOURCE_DIR,
             folder);
    ck_assert_int_eq(system(command), 0);
}

/* `was` is changed to `is` in files of that name, all of which have it. */
static void break_kernels(const char *folder, const char *names, const char *was, const char *is) {
    char command[4096];
    snprintf(command, sizeof command, "cd '%s' && ! grep -L '%s' %s | grep -q . && sed -i 's/%s/%s/' %s",
             folder, was, names, was, is, names);
    ck_assert_msg(system(command) == 0, "no \"%s\" in %s", was, names);
}

/* What --kernels says with them of some; to be released. */
static void try_broken(const char *folder, const char *only, process *p) {
    suite_set("VLCACHE_KERNEL_DIR", folder);
    keep_binaries(false);
    RUN_BENCH(p, "-q", "--kernels", "--quick", "-r", "1", "--no-ceiling", "-o", "csv", "--only", only);
    keep_binaries(true);
    suite_set("VLCACHE_KERNEL_DIR", NULL);
}

START_TEST(wrong_kernels_are_seen) {
    char folder[512];
    process p;
    copy_kernels(folder);
    /* Devices differ in which of them they run. */
    break_kernels(folder, "rope.cl rope.clh", "was \\* c - high \\* s", "was * c + high * s");
    try_broken(folder, "norm,rope", &p);
    expect(&p, 3, "2 lines are WRONG");
    ck_assert_int_eq(count_of(p.out, ",WRONG"), 2);
    process_release(&p);
}
END_TEST

/* What few rows have inside their product: the gate, of one line, and the norm, of both. */
START_TEST(wrong_products_are_seen) {
    static const char *const broken[][2] = {{"activate(sum, act) \\* ", "activate(sum, act) + "},
                                            {"(float)length + eps", "(float)length + 0.1f"}};
    char folder[512];
    process p;
    copy_kernels(folder);
    break_kernels(folder, "gemv.cl", broken[_i][0], broken[_i][1]);
    try_broken(folder, "gemv 16 1 x", &p);
    ck_assert_int_eq(p.code, 3);
    ck_assert_int_eq(count_of(p.out, ",WRONG"), 1 + _i);
    process_release(&p);
}
END_TEST

/* A kernel of each ladder of compression, coding and sampling: the rungs that every device has. */
START_TEST(each_wrong_kernel_is_seen) {
    static const char *const broken[][3] = {
        {"score_wide.cl", "exp(s - row_lse\\[at\\])", "exp(s - row_lse[at] + 0.1f)"},
        {"topk.cl", "~bits : bits", "~bits : ~bits"},
        {"few.clh", "exp(x - top)", "exp(0.5f * (x - top))"},
        {"sample.cl", "out\\[r\\] = id;", "out[r] = id ? id - 1 : 1;"},
        {"sample.cl", "u \\* 4294967296.0f", "u * 2147483648.0f"},
        {"code.cl", "floor(z \\* levels)", "ceil(z * levels)"},
        {"code_basis.cl", "rsqrt(left)", "1.1f * rsqrt(left)"},
        {"nearest_wide.cl", "near < best", "near > best"},
        {"spread_wide.cl", "sum = fma(apart, apart, sum);", "sum = fma(apart, seed[d], sum);"}};
    char folder[512];
    process p;
    copy_kernels(folder);
    for (size_t i = 0; i < sizeof broken / sizeof *broken; i++)
        break_kernels(folder, broken[i][0], broken[i][1], broken[i][2]);
    try_broken(folder,
               "score wide,topk single,attention_coded wide 1 x,attention_quantised wide 1 x,sample 1 "
               "largest,sample 1 draws,code wide bases,code wide codes,nearest wide,spread wide",
               &p);
    expect(&p, 3, "11 lines are WRONG");
    ck_assert_msg(count_of(p.out, ",WRONG") == 11 && count_of(p.out, "\n") == 12, "%s", p.out);
    process_release(&p);
}
END_TEST

/* ---- flags --------------------------------------------------------------------------------------------- */

static const struct {
    int code;
    const char *flag, *value, *says;
} endings[] = {
    {0, "--help", NULL, ""},
    {0, "--version", NULL, ""},
    {1, "--no-such-flag", NULL, "no-such-flag"},
    {1, "--policy", "best", "best"},
    {1, "-b", "0", "whole numbers from 1 to 1024"},
    {1, "-b", "2,many", "\"many\": must be whole numbers from 1 to 1024"},
    {1, "-b", "2,,3", "whole numbers"},
    {1, "-b", "2,", "whole numbers"},
    {1, "-b", "", "whole numbers"},
    {1, "-b", "4x", "whole numbers from 1 to 1024"},
    {1, "-p", "0", "whole numbers from 1 to 1048576"},
    {1, "-d", "-1", "whole numbers from 0 to 1048576"},
    {1, "-b", "1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1", "more than 32"},
    {1, "-n", "-1", "from 0"},
    {1, "-r", "0", "from 1"},
    {1, "--images", "-2", "from -1"},
    {1, "--policy", "", "parted by commas"},
    {1, "--policy", "vlcache@storage=bits:9/2", "exact, bits:K/V[:GROUP[:AGE]]"},
    {1, "--policy", "full,vlcache@stores=exact", "\"stores\": no such axis; there are label, allocation"},
    {1, "--policy", "centroids@storage=coded:1.6", "must be none with storage coded"},
    {1, "--policy", "vlcache@stream=8", "no video is read here"},
    {1, "--policy", "vlcache@label=\xff", "must be UTF-8"},
    {1, "--budget", "1.5", "budget"},
    {1, "-o", "xml", "md|csv|json"},
    {1, "--kv-mib=1", "-b2", "--kv-mib: not with -b"},
    {1, "--kv-mib=1", "-d2", "--kv-mib: not with -d"},
    {1, "--kv-mib=1", "-p2,3", "--kv-mib: not with -p with several"},
    {1, "-c", "few", "few"},
    {1, "-c", "8", "-c N sets the context"},
    {1, "-p", "5000", "-c N sets the context"},
    {1, "--geometry", "tiny", "-m and --geometry: one of both"},
    {1, "--config", "--quick", "--config: of a --geometry that is named"},
    {1, "--only", "gemm", "--only: of --kernels"},
    {1, "--kernels", "-p5", "-m: not with --kernels"},
    {1, "--paper", "-p5", "-p: not with --paper"},
    {1, "--paper", "-b2", "-b: not with --paper"},
    {1, "--paper", "--prompt=Hi", "--prompt: not with --paper"},
    {1, "--paper", "--policy=vlcache,centroids", "--policy: one beside full"},
    {1, "--paper", "--kernels", "--paper and --kernels: one of both"},
    {1, "--quick", "-n1", "--quick: of --kernels and --paper"},
    {2, "-m", "/no/such/folder", "/no/such/folder"},
    {2, "--image", "/no/such/picture", "/no/such/picture"},
    {3, "--device", "no such device", "no such device"},
};

START_TEST(bench_ends_as_documented) {
    process p;
    MEASURE(&p, "-q", "-r", "1", "--no-ceiling", endings[_i].flag, endings[_i].value);
    ended(&p, endings[_i].code);
    ck_assert_msg(strstr(p.err, endings[_i].says) != NULL, "\"%s\" lacks \"%s\"", p.err, endings[_i].says);
    ck_assert_ptr_null(strstr(p.out, "(null)"));
    process_release(&p);
}
END_TEST

/* The name of a policy is any text, and stays in its cell. */
START_TEST(labels_stay_in_their_cells) {
    process p;
    MEASURE(&p, "-q", "-r", "1", "-n", "2", "-b", "1", "--no-ceiling", "--no-warmup", "--policy",
            "full@label=a|b");
    ended(&p, 0);
    ck_assert_msg(strstr(p.out, "\n| a\\|b | 1 |") != NULL, "%s", p.out);
    process_release(&p);
}
END_TEST

/* How long lines take, sent through a shell's words, and what comes of it. */
static double time_lines(const char *through, const char *prompts, process *p) {
    double start = vlci_clock_ms();
    process_run(p,
                (const char *const[]){"/bin/sh", "-c", through, BENCH, "--geometry", "tiny", "-q",
                                      "--no-ceiling", "--policy", "full", "-n", "200", "-r", "20", "-p",
                                      prompts, NULL},
                "", 0);
    return (vlci_clock_ms() - start) / 1e3;
}

/* Where nobody reads on, it ends with the line that says so. */
START_TEST(lines_have_a_reader) {
    process p;
    double one = time_lines("exec \"$0\" \"$@\"", "20", &p);
    ended(&p, 0);
    process_release(&p);
    double full = time_lines("exec \"$0\" \"$@\" >/dev/full", "20,21,22,23,24,25,26,27", &p);
    expect(&p, 2, "standard output cannot be written: No space left on device");
    process_release(&p);
    double gone =
        time_lines("{ \"$0\" \"$@\"; echo $? >&2; } | head -n 1 >/dev/null", "20,21,22,23,24,25,26,27", &p);
    ck_assert_str_eq(p.err, "0\n");
    ck_assert_msg(full < 4 * one && gone < 4 * one, "%g s and %g s, a line takes %g s", full, gone, one);
    process_release(&p);
}
END_TEST

/* What another program is to measure is what is measured here: the file of a name is that geometry. */
START_TEST(geometries_are_printed) {
    process p;
    char path[512];
    RUN_BENCH(&p, "--geometry", "tiny", "--config");
    ended(&p, 0);
    scratch_text("geometry.json", p.out);
    process_release(&p);
    in_scratch("geometry.json", path);
    json_t *said =
        json_of((const char *const[]){BENCH, "--geometry", path, "-q", "-o", "json", "-p", "20", "-n", "1",
                                      "-r", "1", "--policy", "full", "--no-ceiling", NULL});
    ck_assert_int_eq(whole(get(said, "model", JSON_OBJECT), "intermediate"), 512);
    json_decref(said);
    RUN_BENCH(&p, "--geometry", path, "--config");
    expect(&p, 1, "geometry.json is not one that is named");
    process_release(&p);
}
END_TEST

START_TEST(geometries_are_refused) {
    process p;
    RUN_BENCH(&p, "--geometry", "llava-9b", "-q");
    expect(&p, 2, "llava-9b: neither a config.json nor one of llava-1.5-7b");
    process_release(&p);
    MADE(&p, "--prompt", "words");
    expect(&p, 1, "--geometry asks for ids");
    process_release(&p);
    MADE(&p, "--kv-mib", "1", "-n", "0");
    expect(&p, 1, "at least one token");
    process_release(&p);
    RUN_BENCH(&p, "--help");
    ended(&p, 0);
    static const char *const names[] = {"llava-1.6-34b,", "llava-onevision-7b,",   "internvl3-2b,",
                                        "smolvlm2-2.2b,", "qwen2.5-vl-3b,",        "qwen2.5-vl-7b,",
                                        "qwen3-vl-4b,",   "llama-3.2-vision-11b,", "tiny\n"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(strstr(p.out, names[i]) != NULL, "no %s in: %s", names[i], p.out);
    for (const char *line = p.out; line; line = (line = strchr(line, '\n')) ? line + 1 : NULL)
        ck_assert_msg(strcspn(line, "\n") <= 110, "a long line: %.*s", (int)strcspn(line, "\n"), line);
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("bench");
    TCase *all = tcase_create("vlcache-bench");
    tool_environment();
    tcase_add_unchecked_fixture(all, NULL, scratch_clean);
    tcase_add_test(all, speed_is_told);
    tcase_add_test(all, axes_are_heard);
    tcase_add_test(all, words_are_asked);
    tcase_add_test(all, ids_are_asked);
    tcase_add_test(all, pictures_are_counted);
    tcase_add_test(all, formats_agree);
    tcase_add_test(all, fit_is_told);
    tcase_add_test(all, fit_counts_few_bits);
    tcase_add_test(all, fit_is_counted_or_refused);
    tcase_add_test(all, interrupted);
    tcase_add_test(all, paper_is_told);
    tcase_add_test(all, paper_rows_that_cannot_be);
    tcase_add_test(all, kernels_are_tried);
    tcase_add_test(all, few_kernels_are_tried);
    tcase_add_test(all, wrong_kernels_are_seen);
    tcase_add_loop_test(all, wrong_products_are_seen, 0, 2);
    tcase_add_test(all, each_wrong_kernel_is_seen);
    tcase_add_loop_test(all, bench_ends_as_documented, 0, sizeof endings / sizeof *endings);
    tcase_add_test(all, labels_stay_in_their_cells);
    tcase_add_test(all, lines_have_a_reader);
    tcase_add_test(all, geometries_are_printed);
    tcase_add_test(all, geometries_are_refused);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
