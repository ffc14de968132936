/*
 * tool.c - running vlcache-run and reading what it says.
 */
#include "support/tool.h"

#include <check.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "support/scratch.h"

void ended(const process *p, int code) {
    ck_assert_msg(p->code == code, "exit code %d, expected %d; standard error: %s", p->code, code, p->err);
}

void expect(const process *p, int code, const char *said) {
    ended(p, code);
    ck_assert_msg(strstr(p->err, said) != NULL, "standard error lacks \"%s\": %s", said, p->err);
}

/* U+FFFD at a place, how often one behind the other, up to n times. */
static size_t replaced(const char *text, size_t n) {
    size_t i = 0;
    while (i < n && strncmp(text + 3 * i, "\xef\xbf\xbd", 3) == 0) i++;
    return i;
}

void expect_beginning(const process *part, const process *whole) {
    size_t said = part->out_bytes - 1, same = 0;
    ck_assert_int_eq(part->out[said], '\n');
    while (same < said && part->out[same] == whole->out[same]) same++;
    while (same > 0 && same < said && (whole->out[same] & 0xc0) == 0x80) same--; /* where the letter begins */
    size_t left = said - same;
    bool cut = replaced(part->out + same, left / 3) * 3 == left || replaced(whole->out + same, left) == left;
    ck_assert_msg(cut, "printed \"%.*s\" where the whole answer goes on \"%.32s\"", (int)left,
                  part->out + same, whole->out + same);
}

int count_of(const char *text, const char *part) {
    int n = 0;
    for (const char *at = text; (at = strstr(at, part)); at += strlen(part)) n++;
    return n;
}

char *in_scratch(const char *name, char path[512]) {
    snprintf(path, 512, "%s/%s", scratch_folder(), name);
    return path;
}

json_t *ask_json(const char *const *argv) {
    json_error_t error;
    process p;
    process_run(&p, argv, "", 0);
    ended(&p, 0);
    ck_assert_msg(p.out_bytes && p.out[p.out_bytes - 1] == '\n' && count_of(p.out, "\n") == 1, "%s", p.out);
    json_t *object = json_loads(p.out, JSON_REJECT_DUPLICATES, &error);
    ck_assert_msg(object != NULL, "%s in %s", error.text, p.out);
    process_release(&p);
    return object;
}

json_t *get(const json_t *object, const char *key, json_type type) {
    json_t *value = json_object_get(object, key);
    ck_assert_msg(value != NULL, "no \"%s\"", key);
    ck_assert_msg(json_typeof(value) == type, "\"%s\" has type %d, expected %d", key, json_typeof(value),
                  type);
    return value;
}

int whole(const json_t *object, const char *key) {
    return (int)json_integer_value(get(object, key, JSON_INTEGER));
}

/* Kernels come from where the other suites keep them. */
void tool_environment(void) {
    mkdir(VLCACHE_BINARY_DIR "/kernel-cache", 0700);
    mkdir(VLCACHE_BINARY_DIR "/cache", 0700);
    (void)!symlink("../kernel-cache", VLCACHE_BINARY_DIR "/cache/vlcache");
    setenv("XDG_CACHE_HOME", VLCACHE_BINARY_DIR "/cache", 1);
    setenv("TERM", "xterm", 1);
    unsetenv("VLCACHE_MODEL");
}

void tool_warm_up(void) {
    process p;
    tool_environment();
    RUN(&p, ASK, "-n", "4", "--temp", "1");
    process_release(&p);
    RUN(&p, ASK, "-n", "4", "--image", PAGE);
    process_release(&p);
    RUN(&p, "--image", PAGE, "-p", "What is the heading?");
    process_release(&p);
}
