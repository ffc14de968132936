/*
 * test_run.c - vlcache-run as its users run it: what goes to which stream, exit codes, JSON, chat, Ctrl-C,
 * bars. The tiny model answers where any answer will do, the shipped one where its words matter.
 */
#include <dirent.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "support/scratch.h"
#include "support/suite.h"
#include "support/tool.h"
#include "vlcache/vlcache.h"

/* ---- usage -------------------------------------------------------------------------------------------- */

enum { MAX_ARGUMENTS = 24 };

static const struct {
    const char *argv[8];
    const char *said;
} bad_usage[] = {
    {{"--frobnicate"}, "--frobnicate: no such flag"},
    {{"-z"}, "-z: no such flag"},
    {{"--p", "x"}, "no such flag"}, /* --prompt, --predict or --policy? */
    {{"-n"}, "-n: needs a value"},
    {{"--image"}, "--image: needs a value: --image FILE"},
    {{"--raw=1"}, "--raw: takes no value"},
    {{"picture.png"}, "\"picture.png\": not a flag"},
    {{"-n", "12x"}, "-n \"12x\": must be a whole number from 0 to"},
    {{"-n", ""}, "-n \"\": must be"},
    {{"-n", " 5"}, "must be"},
    {{"--n-predict", "-1"}, "--n-predict \"-1\": must be"},
    {{"-c", "99999999999999999999"}, "-c \"99999999999999999999\": must be"},
    {{"--top-k", "1.5"}, "--top-k \"1.5\": must be"},
    {{"--temp", "nan"}, "--temp \"nan\": must be a number from 0 to 100"},
    {{"--temp", "inf"}, "must be"},
    {{"--temp", "-0.5"}, "must be"},
    {{"--temp", "1e999"}, "must be"},
    {{"--top-p", "0"}, "--top-p \"0\": must be a number above 0 and at most 1"},
    {{"--top-p", "1.01"}, "must be"},
    {{"--seed", "-1"}, "--seed \"-1\": must be"},
    {{"--seed", "18446744073709551616"}, "must be a whole number from 0 to 18446744073709551615"},
    {{"--budget", "0"}, "--budget \"0\": must be above 0 and at most 1"},
    {{"--budget", "0.1%"}, "--budget \"0.1%\": must be above 0"},
    {{"--budget", "nan"}, "must be above 0"},
    {{"--threshold", "1.5"}, "--threshold \"1.5\": must be from 0 to 1"},
    {{"--recent", "-0.1"}, "--recent \"-0.1\": must be from 0 to 1"},
    {{"--policy", "best"}, "--policy: \"best\" is unknown: use one of "},
    {{"--policy", "full", "--budget", "7"}, "must be above 0"},
    {{"--dtype", "q4_0"}, "--dtype \"q4_0\": must be auto, f32, f16 or bf16"},
    {{"--chat-template", "vic"}, "must be one of vicuna, "},
    {{"--chat-template", ""}, "must be one of vicuna, "},
    {{"--json"}, "--json: needs -p"},
    {{"-p", "x", "--dump-kept"}, "--dump-kept: needs --json"},
    {{"--image", PICTURE, "--heatmap", "x.png"}, "--heatmap: needs -p"},
    {{"-p", "x", "--heatmap", "x.png"}, "--heatmap: needs a picture"},
    {{"--image", "-"}, "--image -: needs -p"},
    {{"--image", "-", "--image", "-", "-p", "x"}, "standard input holds one picture"},
};

START_TEST(usage) {
    const char *argv[MAX_ARGUMENTS] = {TOOL};
    process p;
    memcpy(argv + 1, bad_usage[_i].argv, sizeof bad_usage[_i].argv);
    process_run(&p, argv, "", 0);
    expect(&p, 1, bad_usage[_i].said);
    ck_assert_str_eq(p.out, "");
    ck_assert_msg(count_of(p.err, "\n") == 1 && strstr(p.err, "; see --help\n"), "not one line: %s", p.err);
    process_release(&p);
}
END_TEST

START_TEST(help) {
    static const char *const names[] = {"-m, --model DIR", "--image FILE",     "-p, --prompt TEXT",
                                        "-n, --predict N", "-c, --ctx-size N", "--policy NAME",
                                        "--budget X",      "--threshold X",    "--recent X",
                                        "--temp X",        "--top-k N",        "--top-p X",
                                        "-s, --seed N",    "--device SEL",     "--dtype T",
                                        "--raw",           "--json",           "--chat-template NAME",
                                        "--dump-kept",     "--quiet",          "--heatmap OUT.png",
                                        "--list-devices",  "--version",        "VLCACHE_DEVICE",
                                        "VLCACHE_VARIANT", "XDG_CACHE_HOME",   "VLCACHE_MODEL",
                                        "\n  130 ",        "/image FILE"};
    process p;
    RUN(&p, "--help");
    ended(&p, 0);
    ck_assert_str_eq(p.err, "");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        ck_assert_msg(strstr(p.out, names[i]) != NULL, "--help lacks \"%s\"", names[i]);
    ck_assert_ptr_nonnull(strstr(p.out, "share of the full cache's bytes"));
    for (int i = 0; vlcache_policy_name((size_t)i); i++)
        ck_assert_msg(strstr(p.out, vlcache_policy_name((size_t)i)) != NULL, "--help lacks policy %d", i);
    char names_of_templates[256];
    snprintf(names_of_templates, sizeof names_of_templates, "%s", vlcache_chat_template_names());
    for (char *name = strtok(names_of_templates, ", "); name; name = strtok(NULL, ", "))
        ck_assert_msg(strstr(p.out, name) != NULL, "--help lacks template %s", name);
    ck_assert(strstr(p.out, "[256]") && strstr(p.out, "[0.95]") && strstr(p.out, "[vlcache+]"));
    for (char *line = p.out, *end; (end = strchr(line, '\n')); line = end + 1)
        ck_assert_msg(end - line <= 100 || strstr(line, "without -m"), "wide: %.*s", (int)(end - line), line);
    process_release(&p);
    RUN(&p, "--version");
    ended(&p, 0);
    ck_assert_msg(strstr(p.out, VLCACHE_VERSION) && count_of(p.out, "\n") == 1, "%s", p.out);
    process_release(&p);
}
END_TEST

/* ---- devices ------------------------------------------------------------------------------------------ */

START_TEST(devices) {
    vlcache_device_info infos[64];
    size_t n = 0;
    process p;
    ck_ok(vlcache_device_list(infos, 64, &n));
    RUN(&p, "--list-devices");
    ended(&p, 0);
    ck_assert_int_eq(count_of(p.out, "\n"), (int)n + 1);
    for (size_t i = 0; i < n; i++) {
        ck_assert_msg(strstr(p.out, infos[i].name) != NULL, "%s", p.out);
        ck_assert_msg(strstr(p.out, infos[i].platform) != NULL, "%s", p.out);
    }
    process_release(&p);
    RUN(&p, ASK, "--device", "no such device");
    expect(&p, 3, "no OpenCL device matches \"no such device\"");
    ck_assert_str_eq(p.out, "");
    process_release(&p);
    const char *own = getenv("VLCACHE_DEVICE");
    char *kept = own ? strdup(own) : NULL;
    suite_set("VLCACHE_DEVICE", "none of these");
    RUN(&p, ASK);
    expect(&p, 3, "none of these");
    process_release(&p);
    RUN(&p, ASK, "-n", "1", "--device", "0"); /* the flag wins */
    expect(&p, 0, "1 token");
    process_release(&p);
    if (kept)
        suite_set("VLCACHE_DEVICE", kept);
    else
        suite_set("VLCACHE_DEVICE", NULL);
    free(kept);
}
END_TEST

/* ---- files -------------------------------------------------------------------------------------------- */

static void fails(int code, const char *said, const char *const *argv) {
    process p;
    process_run(&p, argv, "", 0);
    expect(&p, code, said);
    ck_assert_str_eq(p.out, "");
    ck_assert_msg(count_of(p.err, "\n") == 1 && strncmp(p.err, "vlcache-run: ", 13) == 0, "%s", p.err);
    process_release(&p);
}
#define FAILS(code, said, ...) fails(code, said, (const char *const[]){TOOL, __VA_ARGS__, NULL})

static void chat(process *p, const char *lines, const char *const *argv) {
    process_run(p, argv, lines, strlen(lines));
}
#define CHAT(p, lines, ...) chat(p, lines, (const char *const[]){TOOL, __VA_ARGS__, NULL})

START_TEST(bad_pictures) {
    static const unsigned char cut[] = "\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\0\x10";
    char path[512];
    FAILS(2, "no-picture.png: cannot be opened", "-m", TINY, "-p", "x", "--image", "no-picture.png");
    FAILS(2, "neither a file nor a pipe", "-m", TINY, "-p", "x", "--image", "/");
    scratch_text("empty.png", "");
    FAILS(2, "empty.png", "-m", TINY, "-p", "x", "--image", in_scratch("empty.png", path));
    scratch_text("text.png", "this is no picture at all, whatever its name says");
    FAILS(2, "text.png", "-m", TINY, "-p", "x", "--image", in_scratch("text.png", path), "--json");
    scratch_write("cut.png", cut, sizeof cut - 1);
    FAILS(2, "cut.png", "-m", TINY, "-p", "x", "--image", in_scratch("cut.png", path));
    FAILS(2, "standard input", "-m", TINY, "-p", "x", "--image", "-"); /* nothing in it */
}
END_TEST

/* Pipes are read, and nothing waits for what cannot come. */
START_TEST(pictures_from_pipes) {
    char path[512], command[2048];
    process p;
    ck_assert_int_eq(mkfifo(in_scratch("pipe.png", path), 0600), 0);
    FAILS(2, "pipe.png: is a pipe that no program writes into", "-m", TINY, "-p", "x", "--image", path);
    FAILS(2, "/dev/zero: neither a file nor a pipe", "-m", TINY, "-p", "x", "--image", "/dev/zero");
    snprintf(command, sizeof command, "cat %s >%s & exec %s -m %s -p x -n 3 --image %s", PICTURE, path, TOOL,
             TINY, path);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
    expect(&p, 0, "3 tokens");
    process_release(&p);
    scratch_remove("pipe.png");
}
END_TEST

/* What a name or a flag says is not obeyed by the terminal that shows it. */
START_TEST(controls_are_shown) {
    process p;
    RUN(&p, "-m", "no\033[2Jmodel\xc2\x9bH\x9b\xff", "-p", "x");
    expect(&p, 2, "no\xef\xbf\xbd[2Jmodel\xef\xbf\xbdH\xef\xbf\xbd\xef\xbf\xbd");
    ck_assert_ptr_null(strchr(p.err, '\033'));
    process_release(&p);
    RUN(&p, "--policy", "\033c\303\251");
    expect(&p, 1,
           "\"\xef\xbf\xbd"
           "c\303\251\" is unknown");
    process_release(&p);
    CHAT(&p, "/\033c\n", "-m", TINY);
    expect(&p, 1,
           "/\xef\xbf\xbd"
           "c: no such command");
    process_release(&p);
}
END_TEST

START_TEST(bad_models) {
    char path[512];
    FAILS(2, "no-model", "-m", "no-model", "-p", "x");
    FAILS(2, "config.json", "-m", in_scratch(".", path), "-p", "x", "--json");
    scratch_text("config.json", "{\"model_type\": \"llava\", ");
    FAILS(2, "config.json", "-m", in_scratch(".", path), "-p", "x");
    scratch_text("config.json", "{\"model_type\": \"gpt2\"}");
    FAILS(2, "gpt2", "-m", in_scratch(".", path), "-p", "x");
    scratch_remove("config.json");
    suite_set("VLCACHE_MODEL", "/no/such/model");
    FAILS(2, "/no/such/model", "-p", "x");
    suite_set("VLCACHE_MODEL", NULL);
}
END_TEST

START_TEST(bad_prompts) {
    FAILS(1, "-c N", ASK, "-c", "20");
    FAILS(1, "<image>", ASK, "--raw");
    FAILS(1, "<image>", "-m", TINY, "-p", "<image> and <image>", "--raw", "--image", PICTURE, "--json");
    FAILS(1, "context", ASK, "-c", "1000000");
}
END_TEST

START_TEST(bad_output) {
    char path[512];
    process p;
    for (int i = 0; i < 3; i++) {
        const char *const asked[] = {"--help", "--version", "--list-devices"};
        process_run(
            &p, (const char *const[]){"/bin/sh", "-c", "exec \"$0\" \"$1\" >/dev/full", TOOL, asked[i], NULL},
            "", 0);
        expect(&p, 2, "standard output cannot be written: No space");
        process_release(&p);
    }
    in_scratch("no-folder/kept.png", path);
    RUN(&p, ASK, "-n", "4", "--heatmap", path);
    expect(&p, 2, "kept.png");
    ck_assert_uint_eq(p.out_bytes, 0); /* before anything is asked */
    process_release(&p);
    process_run(&p, (const char *const[]){"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full", TOOL, ASK, NULL},
                "", 0);
    expect(&p, 2, "standard output cannot be written: No space");
    process_release(&p);
    process_run(&p,
                (const char *const[]){"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full", TOOL, ASK, "--json",
                                      NULL},
                "", 0);
    expect(&p, 2, "standard output cannot be written: No space");
    process_release(&p);
    /* more than any buffer holds, so that it does not fail at the end */
    process_run(&p,
                (const char *const[]){"/bin/sh", "-c", "exec \"$0\" \"$@\" > /dev/full", TOOL, "--image",
                                      PAGE, "--image", PAGE, "-p", "What is the heading?", "--policy", "full",
                                      "--json", "--dump-kept", NULL},
                "", 0);
    expect(&p, 2, "standard output cannot be written: No space");
    process_release(&p);
}
END_TEST

#ifndef __SANITIZE_ADDRESS__ /* whose shadow memory alone is past the limit */
/* A picture of 8000 x 8000 bits is 8 MB as a file and 192 MB as RGB. */
START_TEST(out_of_memory) {
    static char bitmap[16 + 8000 / 8 * 8000] = "P4\n8000 8000\n";
    char path[512];
    process p;
    scratch_write("large.pbm", bitmap, 13 + 8000 / 8 * 8000);
    process_run(&p,
                (const char *const[]){"/bin/sh", "-c", "ulimit -v 150000; exec \"$0\" \"$@\"", TOOL, "-p",
                                      "x", "--image", in_scratch("large.pbm", path), NULL},
                "", 0);
    expect(&p, 4, "out of host memory");
    process_release(&p);
}
END_TEST
#endif

/* ---- one answer --------------------------------------------------------------------------------------- */

START_TEST(streams) {
    process plain, quiet;
    RUN(&plain, ASK, "-n", "40");
    expect(&plain, 0, "40 tokens (ended by -n) | first after ");
    ck_assert_msg(strstr(plain.err, " tokens/s | KV kept ") && strstr(plain.err, "%)\n"), "%s", plain.err);
    ck_assert_msg(count_of(plain.err, "\n") == 1 && !strchr(plain.err, '\r'), "%s", plain.err);
    ck_assert(plain.out_bytes > 40 && plain.out[plain.out_bytes - 1] == '\n');
    RUN(&quiet, ASK, "-n", "40", "--quiet");
    ended(&quiet, 0);
    ck_assert_str_eq(quiet.err, "");
    ck_assert_str_eq(quiet.out, plain.out);
    json_t *object = ASK_JSON(ASK, "-n", "40");
    const char *text = json_string_value(json_object_get(object, "text"));
    ck_assert_uint_eq(strlen(text) + 1, plain.out_bytes);
    ck_assert_int_eq(strncmp(text, plain.out, strlen(text)), 0);
    json_decref(object);
    process_release(&plain);
    process_release(&quiet);
}
END_TEST

START_TEST(picture_from_input) {
    static char data[1 << 20];
    process file, input;
    FILE *stream = fopen(PICTURE, "rb");
    ck_assert_ptr_nonnull(stream);
    size_t bytes = fread(data, 1, sizeof data, stream);
    fclose(stream);
    RUN(&file, ASK, "-n", "40");
    process_run(&input,
                (const char *const[]){TOOL, "-m", TINY, "--image", "-", "-p",
                                      "What is shown in this picture?", "-n", "40", NULL},
                data, bytes);
    expect(&input, 0, "40 tokens");
    ck_assert_str_eq(input.out, file.out);
    process_release(&file);
    process_release(&input);
}
END_TEST

/* With the draws off, the seed is nothing; with them on, it is everything. */
START_TEST(sampling) {
    json_t *greedy = ASK_JSON(ASK, "-n", "24"), *seeded = ASK_JSON(ASK, "-n", "24", "--seed", "5");
    json_t *a = ASK_JSON(ASK, "-n", "24", "--temp", "1.5", "-s", "1");
    json_t *b = ASK_JSON(ASK, "-n", "24", "--temperature", "1.5", "--seed", "1");
    json_t *c = ASK_JSON(ASK, "--n-predict", "24", "--temp", "1.5", "--seed", "2");
#define TOKENS(object) json_object_get(object, "tokens")
    ck_assert(json_equal(TOKENS(greedy), TOKENS(seeded)));
    ck_assert(json_equal(TOKENS(a), TOKENS(b)));
    ck_assert(!json_equal(TOKENS(a), TOKENS(c)));
    json_decref(greedy);
    json_decref(seeded);
    json_decref(a);
    json_decref(b);
    json_decref(c);
}
END_TEST

/* The golden prompt of the tiny model as it stands gives the ids that its template gives. */
START_TEST(raw_prompt) {
    json_t *plain = ASK_JSON(ASK, "-n", "16");
    json_t *raw = ASK_JSON("-m", TINY, "--image", PICTURE, "-n", "16", "--raw", "-p",
                           "<s>USER: <image>\nWhat is shown in this picture? ASSISTANT:");
    ck_assert(json_equal(TOKENS(plain), TOKENS(raw)));
    ck_assert(json_equal(json_object_get(plain, "prompt"), json_object_get(raw, "prompt")));
    json_decref(plain);
    json_decref(raw);
}
END_TEST

/* ---- JSON --------------------------------------------------------------------------------------------- */

static double real(const json_t *object, const char *key) {
    double value = json_real_value(get(object, key, JSON_REAL));
    ck_assert_msg(isfinite(value) && value >= 0, "%s: %g", key, value);
    return value;
}

static void check_shape(const json_t *object, size_t keys) {
    static const char *const spans[] = {"load",    "build",    "image",  "vision",
                                        "prefill", "compress", "decode", "per_token"};
    static const char *const parts[] = {"prompt", "weights", "kv_bytes", "timings_ms"};
    static const size_t parts_keys[] = {3, 2, 5, 8};
    ck_assert_uint_eq(json_object_size(object), keys);
    get(object, "text", JSON_STRING);
    get(object, "finish_reason", JSON_STRING);
    get(get(object, "policy", JSON_OBJECT), "name", JSON_STRING);
    for (int i = 0; i < 4; i++)
        ck_assert_uint_eq(json_object_size(get(object, parts[i], JSON_OBJECT)), parts_keys[i]);
    const json_t *device = get(object, "device", JSON_OBJECT);
    for (int i = 0; i < 8; i++) real(get(object, "timings_ms", JSON_OBJECT), spans[i]);
    ck_assert_uint_gt(strlen(json_string_value(get(device, "name", JSON_STRING))), 0);
    get(device, "platform", JSON_STRING);
    get(device, "index", JSON_INTEGER);
}

static void check_tokens(const json_t *object, int most) {
    const json_t *tokens = get(object, "tokens", JSON_ARRAY),
                 *logits = get(object, "first_logits", JSON_ARRAY);
    ck_assert_int_le((int)json_array_size(tokens), most);
    ck_assert_uint_eq(json_array_size(logits), 5);
    double last = INFINITY;
    for (size_t i = 0; i < 5; i++) {
        const json_t *one = json_array_get(logits, i);
        double logit = json_real_value(get(one, "logit", JSON_REAL));
        get(one, "token", JSON_INTEGER);
        ck_assert_msg(logit <= last, "logit %zu: %g after %g", i, logit, last);
        last = logit;
    }
    if (json_array_size(tokens)) /* greedy: the best logit is the first token */
        ck_assert_int_eq((int)json_integer_value(json_array_get(tokens, 0)),
                         whole(json_array_get(logits, 0), "token"));
}

/* Rows kept in all layers and heads; `row_bytes` of K and V of one head. */
static void check_budget(const json_t *object, int layers, int heads, int row_bytes) {
    const json_t *list = get(object, "layers", JSON_ARRAY), *bytes = get(object, "kv_bytes", JSON_OBJECT);
    int tokens = whole(get(object, "prompt", JSON_OBJECT), "tokens"), rows = 0, in_layers = 0;
    ck_assert_uint_eq(json_array_size(list), (size_t)layers);
    for (int l = 0; l < layers; l++) {
        const json_t *layer = json_array_get(list, (size_t)l), *kept = get(layer, "kept", JSON_ARRAY);
        ck_assert_uint_eq(json_object_size(layer), 4);
        ck_assert_int_eq(whole(layer, "centroids"), 0);
        ck_assert_uint_eq(json_array_size(kept), (size_t)heads);
        double beta = real(layer, "budget");
        for (int h = 0; h < heads; h++) {
            int n = (int)json_integer_value(json_array_get(kept, (size_t)h));
            ck_assert_msg(n >= 1 && n <= tokens && fabs(n - beta * tokens) <= 1.0, "%d of %d, beta %g", n,
                          tokens, beta);
            rows += n;
        }
        in_layers += (int)json_integer_value(json_array_get(kept, 0));
    }
    ck_assert_double_eq_tol(real(object, "budget_kept"), (double)in_layers / (layers * tokens), 1e-8);
    ck_assert_int_eq(whole(bytes, "full"), tokens * layers * heads * row_bytes);
    ck_assert_int_eq(whole(bytes, "kept"), rows * row_bytes);
    ck_assert_int_ge(whole(bytes, "peak"), whole(bytes, "kept"));
}

/* Rows and the centroids that stand for the others, together within the budget. */
START_TEST(json_of_centroids) {
    json_t *object = ASK_JSON(ASK, "-n", "12", "--policy", "centroids");
    const json_t *list = get(object, "layers", JSON_ARRAY), *policy = get(object, "policy", JSON_OBJECT);
    int tokens = whole(get(object, "prompt", JSON_OBJECT), "tokens");
    ck_assert_str_eq(json_string_value(get(policy, "summary", JSON_STRING)), "spread:0.75");
    for (size_t l = 0; l < json_array_size(list); l++) {
        const json_t *layer = json_array_get(list, l);
        int kept = (int)json_integer_value(json_array_get(get(layer, "kept", JSON_ARRAY), 0));
        ck_assert_int_ge(whole(layer, "centroids"), 1);
        ck_assert(fabs(kept + whole(layer, "centroids") - real(layer, "budget") * tokens) <= 1.0);
    }
    json_decref(object);
}
END_TEST

START_TEST(json_compressed) {
    json_t *object = ASK_JSON(ASK, "-n", "12", "--policy", "vlcache", "--budget", "0.3", "--threshold",
                              "0.02", "--recent", "0.2");
    const json_t *prompt = get(object, "prompt", JSON_OBJECT), *policy = get(object, "policy", JSON_OBJECT);
    check_shape(object, 12);
    check_tokens(object, 12);
    check_budget(object, 2, 2, 64 * 2 * 4);
    ck_assert_int_eq(whole(prompt, "visual"), 16);
    ck_assert_int_lt(whole(prompt, "post_vision"), whole(prompt, "tokens") - 16);
    ck_assert_str_eq(json_string_value(get(policy, "name", JSON_STRING)), "vlcache");
    ck_assert_double_eq_tol(real(policy, "budget"), 0.3, 1e-8);
    ck_assert_double_eq_tol(real(policy, "threshold"), 0.02, 1e-8);
    ck_assert_double_eq_tol(real(policy, "recent"), 0.2, 1e-8);
    ck_assert_str_eq(json_string_value(get(object, "finish_reason", JSON_STRING)), "length");
    for (size_t l = 0; l < 2; l++) {
        double sparsity = real(json_array_get(json_object_get(object, "layers"), l), "sparsity");
        ck_assert_msg(sparsity > 0 && sparsity < 1, "%g", sparsity);
    }
    json_decref(object);
}
END_TEST

START_TEST(json_full) {
    json_t *object = ASK_JSON(ASK, "-n", "12", "--policy", "full");
    check_shape(object, 12);
    check_tokens(object, 12);
    check_budget(object, 2, 2, 64 * 2 * 4);
    for (size_t l = 0; l < 2; l++)
        get(json_array_get(json_object_get(object, "layers"), l), "sparsity", JSON_NULL);
    ck_assert_double_eq(real(object, "budget_kept"), 1.0);
    json_t *all = ASK_JSON(ASK, "-n", "12", "--budget", "1");
    ck_assert(json_equal(TOKENS(object), TOKENS(all)));
    json_decref(object);
    json_decref(all);
}
END_TEST

/* kept[layer][kv head]: as many as layers[] says, ascending, inside the prompt, the last token among them. */
static void check_kept(const json_t *object) {
    const json_t *kept = get(object, "kept", JSON_ARRAY), *layers = get(object, "layers", JSON_ARRAY);
    int tokens = whole(get(object, "prompt", JSON_OBJECT), "tokens");
    ck_assert_uint_eq(json_array_size(kept), json_array_size(layers));
    for (size_t l = 0; l < json_array_size(kept); l++) {
        const json_t *heads = json_array_get(kept, l),
                     *counts = json_object_get(json_array_get(layers, l), "kept");
        ck_assert_uint_eq(json_array_size(heads), json_array_size(counts));
        for (size_t h = 0; h < json_array_size(heads); h++) {
            const json_t *positions = json_array_get(heads, h);
            int n = (int)json_array_size(positions), last = -1;
            ck_assert_int_eq(n, (int)json_integer_value(json_array_get(counts, h)));
            for (int i = 0; i < n; i++) {
                int position = (int)json_integer_value(json_array_get(positions, (size_t)i));
                ck_assert_msg(position > last && position < tokens, "%d after %d of %d", position, last,
                              tokens);
                last = position;
            }
            ck_assert_int_eq(last, tokens - 1);
        }
    }
}

START_TEST(json_kept) {
    json_t *some = ASK_JSON(ASK, "-n", "12", "--policy", "vlcache", "--budget", "0.3", "--dump-kept");
    json_t *all = ASK_JSON(ASK, "-n", "12", "--policy", "full", "--dump-kept");
    check_shape(some, 13);
    check_shape(all, 13);
    check_kept(some);
    check_kept(all);
    json_decref(some);
    json_decref(all);
}
END_TEST

/* ---- chat --------------------------------------------------------------------------------------------- */

/* The second question is about a picture that only the session remembers. */
START_TEST(chat_remembers) {
    process p;
    CHAT(&p,
         "/image " PAGE "\nWhat is the heading?\nWhat is the Seat?\n/clear\n\n  /image \"" SAMPLES
         "pages-1.png\" \nWhat is the Model?\r\n/quit\nWhat is the heading?\n",
         "--policy", "full");
    expect(&p, 0, "pages-1.png: 336 x 336 pixels\n");
    ck_assert_str_eq(p.out, "Mon\n878.12\n$283.14\n");
    ck_assert_int_eq(count_of(p.err, "first after"), 3);
    ck_assert_msg(!strchr(p.err, '>'), "a prompt sign, and no terminal: %s", p.err);
    process_release(&p);
}
END_TEST

START_TEST(chat_goes_on) {
    process p;
    CHAT(&p, "/image no-picture.png\n/bogus\n/help\none\n", "-m", TINY, "-n", "3");
    expect(&p, 1, "no-picture.png: cannot be opened");
    expect(&p, 1, "/bogus: no such command");
    expect(&p, 1, "/clear       forget");
    expect(&p, 1, "3 tokens");
    process_release(&p);
    CHAT(&p, "/bogus\n/image no-picture.png\none", "-m", TINY, "-n", "3",
         "--quiet"); /* the last line is not ended */
    expect(&p, 2, "no-picture.png");
    ck_assert_msg(p.out_bytes > 1, "\"%s\"", p.out);
    process_release(&p);
    CHAT(&p, "", "-m", TINY);
    ended(&p, 0);
    ck_assert_str_eq(p.out, "");
    process_release(&p);
}
END_TEST

/* A question too long for the context is refused; the next one still gets the picture that came with it. */
START_TEST(chat_context) {
    process p;
    CHAT(&p,
         "one two three four five six seven eight nine ten one two three four five six seven eight nine ten\n"
         "hm?\n",
         "-m", TINY, "--image", PICTURE, "-n", "2", "-c", "45");
    expect(&p, 1, "/clear forgets the conversation, -c N");
    expect(&p, 1, "2 tokens");
    process_release(&p);
}
END_TEST

/* A turn without a picture keeps all of its own; the line says how much of everything is kept. */
START_TEST(chat_sums_up) {
    process p;
    double first = 0, share = 0;
    CHAT(&p, "/image " PICTURE "\nWhat is shown in this picture?\nwhy?\n/clear\nwhy?\n", "-m", TINY, "-n",
         "2");
    ended(&p, 0);
    const char *at = strstr(p.err, "KV kept "), *next = at ? strstr(at + 1, "KV kept ") : NULL,
               *last = next ? strstr(next + 1, "KV kept ") : NULL;
    ck_assert_msg(last != NULL, "%s", p.err);
    ck_assert_int_eq(sscanf(strchr(at, '('), "(%lf%%)", &first), 1);
    ck_assert_int_eq(sscanf(strchr(next, '('), "(%lf%%)", &share), 1);
    ck_assert_msg(first < 30 && share > first && share < 80, "%g%%, then %g%%: %s", first, share, p.err);
    ck_assert_ptr_nonnull(strstr(last, "(100.0%)"));
    process_release(&p);
}
END_TEST

START_TEST(chat_refuses_zero_bytes) {
    static const char lines[] = "on\0e\ntwo\0\n/quit\0\none\n";
    process p;
    process_run(&p, (const char *const[]){TOOL, "-m", TINY, "-n", "2", NULL}, lines, sizeof lines - 1);
    expect(&p, 1, "a line with a zero byte is no text");
    ck_assert_int_eq(count_of(p.err, "zero byte"), 3);
    ck_assert_int_eq(count_of(p.err, "2 tokens (ended"), 1);
    process_release(&p);
}
END_TEST

/* ---- signals ------------------------------------------------------------------------------------------ */

#define LONG ASK, "-n", "1900", "--policy", "full"

START_TEST(interrupted) {
    process whole_one, p;
    RUN(&whole_one, LONG);
    expect(&whole_one, 0, "tokens");
    process_start(&p, (const char *const[]){TOOL, LONG, NULL});
    process_await_output(&p, 12);
    process_signal(&p, SIGINT);
    process_finish(&p);
    expect(&p, 130, "(cancelled)");
    ck_assert_msg(p.out_bytes < whole_one.out_bytes, "%zu bytes: it was not cut short", p.out_bytes);
    expect_beginning(&p, &whole_one);
    process_release(&whole_one);
    process_release(&p);
}
END_TEST

/* One object all the same, and it says that it was cut short; or none, where nothing was generated yet. */
START_TEST(interrupted_json) {
    process p;
    process_start(&p, (const char *const[]){TOOL, LONG, "--json", NULL});
    usleep(300000);
    process_signal(&p, SIGINT);
    process_finish(&p);
    ck_assert_int_eq(p.code, 130);
    if (p.out_bytes) {
        json_t *object = json_loads(p.out, 0, NULL);
        ck_assert_str_eq(json_string_value(json_object_get(object, "finish_reason")), "cancelled");
        json_decref(object);
    }
    process_release(&p);
}
END_TEST

/* While an answer runs, Ctrl-C ends a chat that no terminal leads; so it does where it waits for a line. */
START_TEST(interrupted_chat) {
    process p;
    process_start(&p, (const char *const[]){TOOL, "-m", TINY, "-n", "1900", "--policy", "full", NULL});
    process_write(&p, "one\n", 4);
    process_await_output(&p, 12);
    process_signal(&p, SIGINT);
    process_await_error(&p, "never said"); /* its standard input stays open: only the signal ends it */
    process_finish(&p);
    expect(&p, 130, "(cancelled)");
    process_release(&p);
    process_start(&p, (const char *const[]){TOOL, "-m", TINY, "-n", "2", NULL});
    process_write(&p, "one\n", 4);
    process_await_error(&p, "2 tokens");
    process_signal(&p, SIGINT);
    process_await_error(&p, "never said");
    process_finish(&p);
    ended(&p, 130);
    process_release(&p);
}
END_TEST

static int entries_of(const char *folder) {
    DIR *list = opendir(folder);
    int n = 0;
    for (struct dirent *entry; list && (entry = readdir(list));) n += strstr(entry->d_name, ".clbin") != NULL;
    if (list) closedir(list);
    return n;
}

/* While kernels are built: a word at once, the end before the next but one, and what is built stays. */
START_TEST(interrupted_building) {
    char cache[600], path[512];
    process p;
    snprintf(cache, sizeof cache, "%s/vlcache", in_scratch("cold", path));
    mkdir(path, 0700);
    setenv("XDG_CACHE_HOME", path, 1);
    process_start(&p, (const char *const[]){TOOL, ASK, "-n", "2", NULL});
    tool_environment();
    while (entries_of(cache) < 2) usleep(2000);
    int before = entries_of(cache);
    process_signal(&p, SIGINT);
    process_finish(&p);
    expect(&p, 130, "vlcache-run: ends with the step that it is at; Ctrl-C again ends it at once\n");
    ck_assert_int_le(entries_of(cache), before + 2);
    ck_assert_str_eq(p.out, "");
    process_release(&p);
    scratch_remove("cold");
}
END_TEST

/* No room for the driver's own files: it fails to build, or calls exit(1), as LLVM does; that is no bad flag.
 */
START_TEST(driver_without_room) {
    char command[2048], path[512];
    process p;
    for (int blocks = 1; blocks <= 64; blocks += 63) {
        mkdir(in_scratch("full", path), 0700);
        snprintf(command, sizeof command,
                 "trap '' XFSZ; ulimit -f %d; export POCL_CACHE_DIR=%s XDG_CACHE_HOME=%s; exec " TOOL
                 " -m " TINY " -n 2 --quiet -p 'What is it?'",
                 blocks, path, path);
        process_run(&p, (const char *const[]){"/bin/sh", "-c", command, NULL}, "", 0);
        if (p.code)
            expect(&p, 3,
                   strstr(p.err, "not build") ? "kernel file" : "the OpenCL driver has ended the program");
        process_release(&p);
        scratch_remove("full");
    }
}
END_TEST

START_TEST(reader_leaves) {
    process p;
    process_start(&p, (const char *const[]){TOOL, LONG, NULL});
    process_await_output(&p, 12);
    process_close_output(&p);
    process_finish(&p);
    ck_assert_int_eq(p.code, 0);
    ck_assert_str_eq(p.err, "");
    process_release(&p);
}
END_TEST

/* ---- bars --------------------------------------------------------------------------------------------- */

/* Every redraw fits the terminal, and the last thing before the summary takes the bar away. */
static void check_bars(const char *text, int columns, double seconds) {
    int draws = 0;
    for (const char *at = strchr(text, '\r'); at && at[1] != '\n'; at = strchr(at + 1, '\r')) {
        size_t length = strcspn(at + 1, "\r\033");
        ck_assert_msg((int)length < columns, "%zu columns: %.*s", length, (int)length, at + 1);
        draws += length > 0;
    }
    ck_assert_msg(draws > 0 && draws <= 10 * (seconds + 1), "%d redraws in %g s", draws, seconds);
    const char *erased = strstr(text, "\r\033[K"), *summary = strstr(text, " tokens (ended");
    ck_assert_msg(erased && summary && erased < summary, "%s", text);
}

START_TEST(bars) {
    process p;
    int columns = _i ? 100 : 24;
    struct timespec start, end;
    clock_gettime(CLOCK_MONOTONIC, &start);
    process_start_terminal(&p, (const char *const[]){TOOL, ASK, "-n", "4", NULL}, columns);
    process_finish(&p);
    clock_gettime(CLOCK_MONOTONIC, &end);
    expect(&p, 0, _i ? "loading weights     [" : "loading weights ");
    check_bars(p.err, columns, difftime(end.tv_sec, start.tv_sec) + 1);
    ck_assert_msg(!strchr(p.out, '\r') && !strchr(p.out, '\033'), "a bar in the answer: %s", p.out);
    process_release(&p);
    process_start_terminal(&p, (const char *const[]){TOOL, ASK, "-n", "4", "--quiet", NULL}, columns);
    process_finish(&p);
    ended(&p, 0);
    ck_assert_str_eq(p.err, "");
    process_release(&p);
}
END_TEST

int main(void) {
    Suite *suite = suite_create("run");
    TCase *tcase = tcase_create("vlcache-run");
    tcase_add_unchecked_fixture(tcase, tool_warm_up, scratch_clean);
    tcase_add_loop_test(tcase, usage, 0, sizeof bad_usage / sizeof *bad_usage);
    tcase_add_test(tcase, help);
    tcase_add_test(tcase, devices);
    tcase_add_test(tcase, bad_pictures);
    tcase_add_test(tcase, pictures_from_pipes);
    tcase_add_test(tcase, controls_are_shown);
    tcase_add_test(tcase, bad_models);
    tcase_add_test(tcase, bad_prompts);
    tcase_add_test(tcase, bad_output);
#ifndef __SANITIZE_ADDRESS__
    tcase_add_test(tcase, out_of_memory);
#endif
    tcase_add_test(tcase, streams);
    tcase_add_test(tcase, picture_from_input);
    tcase_add_test(tcase, sampling);
    tcase_add_test(tcase, raw_prompt);
    tcase_add_test(tcase, json_of_centroids);
    tcase_add_test(tcase, json_compressed);
    tcase_add_test(tcase, json_full);
    tcase_add_test(tcase, json_kept);
    tcase_add_test(tcase, chat_remembers);
    tcase_add_test(tcase, chat_goes_on);
    tcase_add_test(tcase, chat_context);
    tcase_add_test(tcase, chat_sums_up);
    tcase_add_test(tcase, chat_refuses_zero_bytes);
    tcase_add_test(tcase, interrupted);
    tcase_add_test(tcase, interrupted_json);
    tcase_add_test(tcase, interrupted_chat);
    tcase_add_test(tcase, interrupted_building);
    tcase_add_test(tcase, driver_without_room);
    tcase_add_test(tcase, reader_leaves);
    tcase_add_loop_test(tcase, bars, 0, 2);
    suite_add_tcase(suite, tcase);
    return suite_run(suite);
}
