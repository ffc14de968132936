/*
 * test_failing.c - every tool, wherever memory runs out or the driver fails (test/preload/failing.c): it ends
 * by itself, with the exit code that says why and a word; what it has written is whole, or it is not there;
 * or nothing was lost.
 *
 * Some points of each run; VLCACHE_TEST_EVERY=1 takes every point, =5 every fifth, and says how many there
 * were. As many runs at a time as there are cores.
 */
#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/evaluation.h"
#include "support/scratch.h"
#include "support/suite.h"

enum { SAMPLE = 6, AT_ONCE_MOST = 16, FILES = 3 };

#define MODEL "-m " TINY " --image " PICTURE
#define QUESTIONS                                                                                            \
    " -m " TINY                                                                                              \
    " --data ../q.jsonl -n 3 --policy vlcache --budget .3 -o json --quiet --results r --report r.html"

/* A command, in a folder of its own. */
static const struct run {
    const char *name, *command, *input;
    enum { SAME, BUT_NUMBERS, OTHER } says; /* each time */
    const char *files[FILES];               /* that it leaves, the same each time; the last one grows */
} runs[] = {
    {"run",
     "vlcache-run " MODEL " -n 3 --policy vlcache --quiet -p 'What is it?' --heatmap h.png",
     "",
     SAME,
     {"h.png"}},
    {"chat",
     "vlcache-run " MODEL " -n 3 --profile --recall host",
     "What is it?\nAnd what is this?\n/clear\n",
     SAME,
     {NULL}},
    {"json", "vlcache-run " MODEL " -n 6 --json --dump-kept -p 'What is it?'", "", BUT_NUMBERS, {NULL}},
    {"info", "vlcache-info", "", BUT_NUMBERS, {NULL}},
    {"info --json", "vlcache-info --json", "", BUT_NUMBERS, {NULL}},
    {"info -m", "vlcache-info -m " TINY, "", BUT_NUMBERS, {NULL}},
    {"info -m --json", "vlcache-info -m " TINY " --json", "", BUT_NUMBERS, {NULL}},
    {"bench", "vlcache-bench " MODEL " -q -n 2 -r 1 -b 1,2 --policy vlcache", "", BUT_NUMBERS, {NULL}},
    {"fit", "vlcache-bench " MODEL " -q -n 2 --kv-mib 0.3 --policy vlcache", "", BUT_NUMBERS, {NULL}},
    {"eval", "vlcache-eval" QUESTIONS, "", SAME, {"r.html", NULL, "r"}},
    {"jobs", "vlcache-eval" QUESTIONS " --jobs 2", "", SAME, {"r.html", NULL, "r"}},
};
enum { RUNS = sizeof runs / sizeof *runs };

/* What fails: with which code of OpenCL, and whether it goes on. */
static const struct way {
    const char *what, *code;
    bool on;
    int exits[2]; /* besides 0, where nothing was lost */
} ways[] = {
    {"ALLOCATION", "", false, {4, 4}}, {"ALLOCATION", "", true, {4, 4}}, {"CALL", "-5", false, {3, 4}},
    {"CALL", "-6", false, {4, 4}},     {"CALL", "-5", true, {3, 4}},
};
enum { WAYS_TO_FAIL = sizeof ways / sizeof *ways };

/* Run number `slot` of those that go on at the same time. */
static char *folder_of(int slot, char path[512]) {
    char name[24];
    snprintf(name, sizeof name, "point-%d", slot);
    return in_scratch(name, path);
}

/* It has two minutes; where nothing fails, as long as it takes to build kernels on a busy machine. */
static void start_run(process *p, int slot, const struct run *r, const struct way *w, long at) {
    char command[4096], path[512], name[24];
    snprintf(name, sizeof name, "point-%d", slot);
    scratch_remove(name);
    mkdir(folder_of(slot, path), 0700);
    snprintf(command, sizeof command,
             "cd %s && exec timeout -k 5 %d env LD_PRELOAD=" VLCACHE_BINARY_DIR
             "/libvlcache_failing.so FAILING_SAYS=../says-%d "
             "MALLOC_PERTURB_=165 FAILING_%s=%ld FAILING_CODE=%s FAILING_ON=%d " VLCACHE_BINARY_DIR "/%s",
             path, at < 0 ? 1200 : 120, slot, w->what, at, w->code, w->on, r->command);
    process_start(p, (const char *const[]){"/bin/sh", "-c", command, NULL});
    process_write(p, r->input, strlen(r->input));
    process_end_input(p);
}

/* What an undisturbed run says and leaves. */
static struct {
    process p;
    char *files[FILES];
    long points[2]; /* allocations, calls */
} good = {.p = {.in_fd = -1, .out_fd = -1, .err_fd = -1}};

static char *file_of(int slot, const char *name) {
    char path[512], file[800];
    snprintf(file, sizeof file, "%s/%s", folder_of(slot, path), name);
    return slurp(file);
}

/* Times and speeds, and which of them is the best: what is left is the same each time. */
static void drop_numbers(char *text) {
    char *to = text;
    for (const char *c = text; *c;) {
        size_t word = strncmp(c, "true", 4) == 0    ? 4
                      : strncmp(c, "false", 5) == 0 ? 5
                                                    : strspn(c, "0123456789.*+-e \t");
        c += word;
        if (!word) *to++ = *c++;
    }
    *to = 0;
}

static void forget(void) {
    for (int i = 0; i < FILES; i++) {
        free(good.files[i]);
        good.files[i] = NULL;
    }
    process_release(&good.p);
}

/* Once for all ways in which a run fails. */
static void rehearse(const struct run *r) {
    static const struct run *last;
    if (r == last) return;
    last = NULL;
    forget();
    for (int i = 0; i < 2; i++) { /* once to warm the caches */
        if (i) process_release(&good.p);
        start_run(&good.p, 0, r, &ways[0], -1);
        process_finish(&good.p);
        ended(&good.p, 0);
    }
    if (r->says == BUT_NUMBERS) drop_numbers(good.p.out);
    for (int i = 0; i < FILES; i++) good.files[i] = r->files[i] ? file_of(0, r->files[i]) : NULL;
    char path[512], *says = slurp(in_scratch("says-0", path));
    ck_assert_int_eq(sscanf(says, "%ld %ld", &good.points[0], &good.points[1]), 2);
    free(says);
    last = r;
}

/* Whole or not there; the last one, which grows, a part of it. */
static bool file_is_good(const char *whole, const char *found, bool grows) {
    return !*found || strcmp(whole, found) == 0 || (grows && strncmp(whole, found, strlen(found)) == 0);
}

/* Nothing but the files that are meant to be there. */
static void check_files(int slot, const struct run *r, const char *point, bool all) {
    char path[512];
    DIR *list = opendir(folder_of(slot, path));
    ck_assert_ptr_nonnull(list);
    for (struct dirent *entry; (entry = readdir(list));) {
        bool known = entry->d_name[0] == '.' && strspn(entry->d_name, ".") == strlen(entry->d_name);
        for (int i = 0; i < FILES; i++) known |= r->files[i] && strcmp(entry->d_name, r->files[i]) == 0;
        ck_assert_msg(known, "%s: leaves %s", point, entry->d_name);
    }
    closedir(list);
    for (int i = 0; i < FILES; i++) {
        if (!r->files[i]) continue;
        char *found = file_of(slot, r->files[i]);
        ck_assert_msg(file_is_good(good.files[i], found, i == FILES - 1 && !all), "%s: %s is damaged", point,
                      r->files[i]);
        ck_assert_msg(!all || *found, "%s: no %s", point, r->files[i]);
        free(found);
    }
}

/* Whether it ended with a failure. */
static bool check_run(process *p, int slot, const struct run *r, const struct way *w, long at) {
    char point[128];
    snprintf(point, sizeof point, "%s: %s %ld%s %s", r->name, w->what, at, w->on ? " and on" : "", w->code);
    process_finish(p);
    ck_assert_msg(p->code == 0 || p->code == w->exits[0] || p->code == w->exits[1],
                  "%s: exit code %d: %.800s", point, p->code, p->err);
    ck_assert_msg(p->code == 0 || strstr(p->err, "vlcache-"), "%s: %d without a word: %.800s", point, p->code,
                  p->err);
    ck_assert_msg(p->code != 4 || strstr(p->err, "memory") || strstr(p->err, "MEMORY") ||
                      strstr(p->err, "RESOURCES"),
                  "%s: no word of memory: %.800s", point, p->err);
    /* What it warns of may be missing; of several devices one that cannot be opened says so in its place. */
    bool told =
        strstr(p->err, "warning: ") || strstr(p->out, "cannot be used") || strstr(p->out, "\"error\"");
    if (!p->code && r->says != OTHER && !told) {
        if (r->says == BUT_NUMBERS) drop_numbers(p->out);
        ck_assert_msg(strcmp(p->out, good.p.out) == 0, "%s: says %.800s", point, p->out);
    }
    check_files(slot, r, point, p->code == 0);
    bool failed = p->code != 0;
    process_release(p);
    return failed;
}

static long stride_of(long points) {
    const char *every = getenv("VLCACHE_TEST_EVERY");
    long asked = every ? atol(every) : 0;
    if (asked > 0) return asked;
    return points > SAMPLE ? (points + SAMPLE - 1) / SAMPLE : 1;
}

static int at_once(void) {
    long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : cores > AT_ONCE_MOST ? AT_ONCE_MOST : (int)cores;
}

START_TEST(holds) {
    const struct run *r = &runs[_i / WAYS_TO_FAIL];
    const struct way *w = &ways[_i % WAYS_TO_FAIL];
    process p[AT_ONCE_MOST];
    long at[AT_ONCE_MOST], n = 0, failed = 0;
    rehearse(r);
    long points = good.points[*w->code != 0], stride = stride_of(points);
    for (long k = points ? (_i * 7L) % stride : 0; k < points;) {
        int slots = 0;
        for (; slots < at_once() && k < points; slots++, k += stride)
            start_run(&p[slots], slots, r, w, at[slots] = k);
        for (int i = 0; i < slots; i++, n++) failed += check_run(&p[i], i, r, w, at[i]);
    }
    bool endured = *w->code && !w->on; /* by a tool that tells what it could not measure */
    ck_assert_msg(failed || endured || points < 100, "%s: none of %ld points fails: the shim is not there",
                  r->name, n);
    if (getenv("VLCACHE_TEST_EVERY"))
        fprintf(stderr, "failing: %-12s %-10s %s%s: %ld of %ld points\n", r->name, w->what, w->code,
                w->on ? " and on" : "", n, points);
}
END_TEST

static void begin(void) {
    tool_environment();
    scratch_text("q.jsonl", ASKED("a", "pages-0.png", "What is it?", "x",
                                  "anls") "}\n" ASKED("b", "pages-0.png", "And?", "y", "relaxed") "}\n");
}

static void end(void) {
    forget();
    scratch_clean();
}

int main(void) {
    Suite *suite = suite_create("failing");
    TCase *all = tcase_create("failing");
    tcase_add_unchecked_fixture(all, begin, end);
    tcase_add_loop_test(all, holds, 0, RUNS * WAYS_TO_FAIL);
    suite_add_tcase(suite, all);
    return suite_run(suite);
}
