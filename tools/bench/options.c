/*
 * options.c - the flags of vlcache-bench, and --help.
 */
#include "bench/options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "bench/geometry.h"
#include "common/environment.h"
#include "common/exit.h"
#include "common/flag.h"

#define AT(field) offsetof(options, field)
enum { MOST_TOKENS = 1 << 20 };

bool options_word(const char **at, char word[WORD_BYTES]) {
    size_t n = strcspn(*at, ",");
    if (!n) return false;
    snprintf(word, WORD_BYTES, "%.*s", (int)(n < WORD_BYTES ? n : WORD_BYTES - 1), *at);
    *at += n + ((*at)[n] == ',');
    return true;
}

/* "512,2048" into the list at the flag's offset: each from low to high. */
static int read_list(const flag *f, const char *name, const char *text, void *out) {
    list *l = (list *)((char *)out + f->offset);
    const char *at = text;
    char word[WORD_BYTES], *end = NULL;
    l->n = 0;
    while (options_word(&at, word)) {
        long value = *word >= '0' && *word <= '9' ? strtol(word, &end, 10) : -1;
        if (value < f->low || value > f->high || *end)
            return flag_refuse("%s \"%s\": must be whole numbers from %g to %.0f, parted by commas", name,
                               word, f->low, f->high);
        if (l->n == LIST_MOST) return flag_refuse("%s: more than %d numbers", name, LIST_MOST);
        l->at[l->n++] = (int)value;
    }
    return l->n && !*at && at[-1] != ','
               ? EXIT_OK
               : flag_refuse("%s \"%s\": must be whole numbers, parted by commas", name, text);
}

/* clang-format off */
static const flag table[] = {
    {FLAG_GROUP, .name = "Which model"},
    {FLAG_TEXT, 'm', "model", .argument = "DIR", .offset = AT(model),
     .help = "Hugging Face folder; the model that ships"},
    {FLAG_TEXT, .name = "geometry", .argument = "NAME", .offset = AT(geometry), .names = geometry_names,
     .help = "in place of one: random weights, made on the device, in the shape that a\nconfig.json says, or one of"},
    {FLAG_ACTION, .name = "config", .offset = AT(action), .low = ACTION_CONFIG,
     .help = "prints the config.json of a named geometry, for another program to measure\nthe same"},
    {FLAG_DTYPE, .name = "dtype", .argument = "TYPE", .offset = AT(dtype), .help = "auto, f32, f16 or bf16"},
    {FLAG_SWITCH, .name = "no-mmap", .offset = AT(no_mmap),
     .help = "reads all weights into memory of its own, those too that a processor would\nread in their files"},
    {FLAG_GROUP, .name = "What is asked"},
    {FLAG_OWN, 'p', "n-prompt", .argument = "LIST", .offset = AT(lengths), .low = 1, .high = MOST_TOKENS, .read = read_list,
     .help = "tokens of a prompt, at random, pictures among them; several numbers\nparted by commas, as for -b and -d [2048 with --geometry]"},
    {FLAG_WHOLE, .name = "images", .argument = "N", .offset = AT(images), .low = AS_MANY_AS_FIT, .high = 4096,
     .help = "pictures in each prompt; -1: as many as fit before 32 tokens of a\nquestion. Without -p: and these 32 tokens"},
    {FLAG_TEXT, .name = "image", .argument = "FILE", .offset = AT(image),
     .help = "the picture; random pixels of the tower's side"},
    {FLAG_TEXT, .name = "prompt", .argument = "TEXT", .offset = AT(prompt),
     .help = "words in place of -p, with --image or without a picture"},
    {FLAG_OWN, 'd', "depth", .argument = "LIST", .offset = AT(depths), .high = MOST_TOKENS, .read = read_list,
     .help = "tokens that the conversation holds before, read and compressed as a\nturn of their own that is not timed [0]"},
    {FLAG_WHOLE, 'n', "n-gen", .also = "tokens", .argument = "N", .offset = AT(tokens), .high = 1 << 20,
     .help = "tokens of an answer; no end token ends it before"},
    {FLAG_WHOLE, 'c', "context", .argument = "N", .offset = AT(context), .high = 1 << 30,
     .help = "tokens of a conversation at most; 0: the model's"},
    {FLAG_GROUP, .name = "What is compared"},
    {FLAG_TEXT, .name = "policy", .argument = "LIST", .offset = AT(list),
     .help = "policies, parted by commas; axes behind @, as for vlcache-eval:\ncentroids@storage=bits:4/2,recent=0.2; one that is named twice is measured\ntwice, in turns with the others: label= tells them apart\n[full,vlcache,vlcache+; vlcache with --paper]"},
    {FLAG_ABOVE, .name = "budget", .argument = "X", .offset = AT(budget), .high = 1,
     .help = "share of the full cache's bytes that they keep"},
    {FLAG_OWN, 'b', "sequences", .argument = "LIST", .offset = AT(sequences), .low = 1, .high = MOST_SEQUENCES, .read = read_list,
     .help = "numbers of sequences [1 with -p or --images, else 1,4,16,64]"},
    {FLAG_ABOVE, .name = "kv-mib", .argument = "X", .offset = AT(kv_mib), .high = 1 << 30,
     .help = "KV memory in MiB: tells how many conversations fit into it, instead of\nhow fast they are"},
    {FLAG_ACTION, .name = "paper", .offset = AT(action), .low = ACTION_PAPER,
     .help = "the table of the VL-Cache paper: full against --policy (vlcache) at\n--budget, 100 tokens, from 1 x 2K to 64 x 2K"},
    {FLAG_ACTION, .name = "kernels", .offset = AT(action), .low = ACTION_KERNELS,
     .help = "each rung of each kernel that the device has: time, rate and the error\nagainst doubles, of choices the share that differs, of codes in steps;\nneeds no model"},
    {FLAG_TEXT, .name = "only", .argument = "LIST", .offset = AT(only),
     .help = "of --kernels those whose \"kernel rung shape\" has one of these texts in it,\nparted by commas: gemv,attention prefill [all]"},
    {FLAG_SWITCH, .name = "chosen", .offset = AT(chosen), .help = "of --kernels the rungs that the device chooses by itself"},
    {FLAG_GROUP, .name = "How"},
    {FLAG_WHOLE, 'r', "repetitions", .argument = "N", .offset = AT(repetitions), .low = 1, .high = MOST_RUNS,
     .help = "runs; medians are told, and the spread"},
    {FLAG_SWITCH, .name = "no-warmup", .offset = AT(cold), .help = "no run before the first that counts"},
    {FLAG_SWITCH, .name = "no-ceiling", .offset = AT(plain),
     .help = "do not measure what the device can do; no shares of it are told"},
    {FLAG_SWITCH, .name = "profile", .offset = AT(profile),
     .help = "device time by kernel at the end, over all that ran; every launch is\nwaited for, so other times are longer"},
    {FLAG_SWITCH, .name = "quick", .offset = AT(quick), .help = "--kernels and --paper: small shapes, to try them out"},
    {FLAG_CHOICE, 'o', "output", .argument = "FORMAT", .offset = AT(format), .choices = "md|csv|json", .help = "md, csv or json"},
    {FLAG_TEXT, .name = "device", .argument = "NAME", .offset = AT(device), .help = "index or part of a name; the first"},
    {FLAG_SWITCH, 'q', "quiet", .offset = AT(quiet), .help = "no bars"},
    {FLAG_ACTION, 'h', "help", .offset = AT(action), .low = ACTION_HELP, .help = "this text"},
    {FLAG_ACTION, .name = "version", .offset = AT(action), .low = ACTION_VERSION, .help = "the version"},
    {FLAG_END, .name = NULL},
};
/* clang-format on */

static options defaults(void) {
    return (options){.format = "md", .budget = 0.1, .images = AS_MANY_AS_FIT, .tokens = 64, .repetitions = 3};
}

bool options_words(const options *o) {
    return !o->lengths.n && o->images == AS_MANY_AS_FIT && !o->geometry && o->action == ACTION_MEASURE;
}

static int read_policies(options *o) {
    int code = policies_read(o->list, &o->policies);
    for (size_t i = 0; i < o->policies.n && !code; i++) {
        policy_spec *p = &o->policies.items[i];
        p->options.budget = o->budget;
        if (p->stream) code = flag_refuse("--policy %s: stream: no video is read here", p->label);
    }
    return code;
}

/* What fits is counted of one question, one conversation after another. */
static int check_fit(const options *o) {
    const char *other = o->lengths.n > 1 ? "-p with several numbers"
                        : o->depths.n    ? "-d"
                        : o->sequences.n ? "-b"
                                         : NULL;
    if (o->kv_mib > 0 && o->tokens < 1) return flag_refuse("--kv-mib: with at least one token (-n)");
    if (o->kv_mib > 0 && other) return flag_refuse("--kv-mib: not with %s", other);
    return EXIT_OK;
}

/* --kernels has shapes of its own and no model, --paper the rows of its table: what they would not heed. */
static int check_action(const options *o) {
    const struct {
        bool given, paper; /* asked for; heeded by --paper */
        const char *flag;
    } others[] = {{o->model, true, "-m"},
                  {o->geometry, true, "--geometry"},
                  {o->images != AS_MANY_AS_FIT, true, "--images"},
                  {o->image, true, "--image"},
                  {o->list, true, "--policy"},
                  {o->lengths.n, false, "-p"},
                  {o->depths.n, false, "-d"},
                  {o->sequences.n, false, "-b"},
                  {o->prompt, false, "--prompt"},
                  {o->context, false, "-c"},
                  {o->kv_mib > 0, false, "--kv-mib"}};
    bool kernels = o->action == ACTION_KERNELS, paper = o->action == ACTION_PAPER;
    if (o->action == ACTION_CONFIG && !o->geometry)
        return flag_refuse("--config: of a --geometry that is named in --help");
    if (o->action == ACTION_CONFIG && !geometry_find(o->geometry))
        return flag_refuse("--config: --geometry %s is not one that is named in --help", o->geometry);
    for (size_t i = 0; i < sizeof others / sizeof *others && (kernels || paper); i++)
        if (others[i].given && (kernels || !others[i].paper))
            return flag_refuse("%s: not with %s", others[i].flag, kernels ? "--kernels" : "--paper");
    if (o->quick && !kernels && !paper) return flag_refuse("--quick: of --kernels and --paper");
    if ((o->only || o->chosen) && !kernels)
        return flag_refuse("%s: of --kernels", o->only ? "--only" : "--chosen");
    return EXIT_OK;
}

/* What one flag means for another. */
static int settle(options *o) {
    bool words = options_words(o);
    int code = check_fit(o);
    if (!code) code = check_action(o);
    if (code) return code;
    if (o->model && o->geometry) return flag_refuse("-m and --geometry: one of both");
    if (o->prompt && !words)
        return flag_refuse("--prompt: words, where %s asks for ids; leave one out",
                           o->geometry ? "--geometry" : "-p or --images");
    if (!o->prompt) o->prompt = "Describe the image in full.";
    if (!o->list) o->list = o->action == ACTION_PAPER ? "vlcache" : "full,vlcache,vlcache+";
    if (!*o->list || *o->list == ',')
        return flag_refuse("--policy \"%s\": names of policies, parted by commas", o->list);
    if (!o->lengths.n && !words && o->images == AS_MANY_AS_FIT) o->lengths = (list){1, {2048}};
    if (!o->sequences.n) o->sequences = words ? (list){4, {1, 4, 16, 64}} : (list){1, {1}};
    if (!o->depths.n) o->depths = (list){1, {0}};
    code = read_policies(o);
    if (!code && o->action == ACTION_PAPER && o->policies.n > 1)
        return flag_refuse("--policy: one beside full, with --paper");
    return code;
}

int options_parse(int argc, char **argv, options *o) {
    *o = defaults();
    int code = flags_parse(table, argc, argv, o);
    return code || o->action == ACTION_HELP || o->action == ACTION_VERSION ? code : settle(o);
}

void options_release(options *o) {
    policies_release(&o->policies);
}

void options_help(void) {
    options o = defaults();
    puts(
        "vlcache-bench - how fast: prompts, tokens, many sequences at once, kernels; or how many fit\n\n"
        "    vlcache-bench --image page.png -b 1,4,16,64\n"
        "    vlcache-bench --geometry llava-mistral-7b -p 2048,8192 -n 64 -o csv\n"
        "    vlcache-bench --geometry llava-mistral-7b --paper\n"
        "    vlcache-bench --kernels\n"
        "    vlcache-bench --image page.png -n 8 --policy full,vlcache --kv-mib 32\n\n"
        "\"first\" is until each sequence has its first token; of it \"vision\", \"prefill\" and "
        "\"compress\" "
        "are parts;\n"
        "what policies that defer compress after some tokens is late_compress_ms of -o csv and json.\n"
        "A token's time is the median of the steps in which all answer, \"worst\" the longest of them. "
        "\"host "
        "ms\" is\n"
        "what a step takes without waiting for the device: the library's own work and the driver's. Rates "
        "are\n"
        "shares of what the device reaches in a copy and in a matrix product, measured first. \"page ends\" "
        "are rows\n"
        "of memory that are held and hold nothing.");
    flags_print(table, &o);
    puts(ENVIRONMENT_HELP
         "\nExit codes: 0; 1 usage; 2 a file: model or picture, or output that cannot be written; 3 no "
         "device, the\n"
         "device or its driver failed, or, with --kernels, an output is further from doubles than rounding\n"
         "explains; 4 out of memory; 130 Ctrl-C");
}
