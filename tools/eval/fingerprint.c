/*
 * fingerprint.c - hash.c over files, and a table of what was hashed before.
 *
 *     $XDG_CACHE_HOME/vlcache/fingerprints, a line a file:
 *     device inode size mtime.ns ctime.ns hash                               all in hexadecimal
 *
 * The time of the last change of the inode cannot be set by whoever replaces a file, so a new file under an
 * old name, size and time is seen. A file that has changed within the last seconds is not remembered: the
 * clock of a file system is coarse, and it may change once more without a trace. The table is believed only
 * where nobody else can write it.
 */
#include "eval/fingerprint.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "eval/hash.h"

enum { FACTS = 7, MOST_ENTRIES = 1 << 14, BLOCK_BYTES = 1 << 20, SETTLED_SECONDS = 3 };

/* What the file system says of a file, and its hash. */
typedef struct entry {
    uint64_t facts[FACTS], hash;
} entry;

static struct {
    entry *entries;
    size_t n, room;
    bool read, changed;
} known;

/* ---- the table ---------------------------------------------------------------------------------------- */

/* "" where there is no place for it. */
static void table_path(char path[4096], const char *name) {
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    int n = 0;
    if (cache && *cache == '/')
        n = snprintf(path, 4096, "%s/vlcache/%s", cache, name);
    else if (home && *home == '/')
        n = snprintf(path, 4096, "%s/.cache/vlcache/%s", home, name);
    if (n <= 0 || n >= 4096) *path = 0;
}

static void add_entry(const entry *e) {
    if (known.n == known.room) {
        size_t room = known.room ? 2 * known.room : 256;
        entry *grown = realloc(known.entries, room * sizeof *grown);
        if (!grown) return; /* it is hashed again the next time */
        known.entries = grown;
        known.room = room;
    }
    known.entries[known.n++] = *e;
}

static bool parse_entry(const char *line, entry *e) {
    uint64_t *fields[FACTS + 1];
    for (size_t i = 0; i < FACTS; i++) fields[i] = &e->facts[i];
    fields[FACTS] = &e->hash;
    for (size_t i = 0; i <= FACTS; i++) {
        char *end;
        if (!*line || !strchr("0123456789abcdef", *line)) return false;
        *fields[i] = strtoull(line, &end, 16);
        if (*end != (i < FACTS ? ' ' : '\n')) return false;
        line = end + 1;
    }
    return true;
}

/* The user's own, or root's, and nobody else's to write. */
static FILE *open_table(const char *path) {
    struct stat s;
    int fd = *path ? open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC) : -1;
    bool own = fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode) &&
               (s.st_uid == geteuid() || s.st_uid == 0) && !(s.st_mode & 022);
    FILE *file = own ? fdopen(fd, "r") : NULL;
    if (fd >= 0 && !file) close(fd);
    return file;
}

static void read_table(void) {
    char path[4096], line[256];
    entry e;
    if (known.read) return;
    known.read = true;
    table_path(path, "fingerprints");
    FILE *file = open_table(path);
    while (file && known.n < MOST_ENTRIES && fgets(line, sizeof line, file))
        if (parse_entry(line, &e)) add_entry(&e);
    if (file) fclose(file);
}

/* The newest entries stand last, and stay. */
static bool write_table(FILE *file) {
    size_t first = known.n > MOST_ENTRIES / 2 ? known.n - MOST_ENTRIES / 2 : 0;
    for (size_t i = first; i < known.n; i++) {
        for (size_t k = 0; k < FACTS; k++)
            fprintf(file, "%llx ", (unsigned long long)known.entries[i].facts[k]);
        fprintf(file, "%llx\n", (unsigned long long)known.entries[i].hash);
    }
    return fflush(file) == 0 && !ferror(file);
}

void fingerprint_keep(void) {
    char path[4096], draft[4096];
    table_path(path, "fingerprints");
    table_path(draft, ".fingerprints-XXXXXX");
    int fd = known.changed && *path && *draft ? mkostemp(draft, O_CLOEXEC) : -1;
    FILE *file = fd >= 0 ? fdopen(fd, "w") : NULL;
    bool good = file && write_table(file);
    if (file)
        good = fclose(file) == 0 && good;
    else if (fd >= 0)
        close(fd);
    if (fd >= 0 && (!good || rename(draft, path))) unlink(draft);
    free(known.entries);
    memset(&known, 0, sizeof known);
}

/* ---- one file ----------------------------------------------------------------------------------------- */

static void facts_of(const struct stat *s, entry *e) {
    const uint64_t facts[FACTS] = {(uint64_t)s->st_dev,          (uint64_t)s->st_ino,
                                   (uint64_t)s->st_size,         (uint64_t)s->st_mtim.tv_sec,
                                   (uint64_t)s->st_mtim.tv_nsec, (uint64_t)s->st_ctim.tv_sec,
                                   (uint64_t)s->st_ctim.tv_nsec};
    memcpy(e->facts, facts, sizeof facts);
}

static bool recall(entry *e) {
    read_table();
    for (size_t i = known.n; i-- > 0;)
        if (memcmp(known.entries[i].facts, e->facts, sizeof e->facts) == 0) {
            e->hash = known.entries[i].hash;
            return true;
        }
    return false;
}

static void remember(const entry *e, const struct stat *s) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (s->st_ctim.tv_sec + SETTLED_SECONDS > now.tv_sec) return;
    add_entry(e);
    known.changed = true;
}

/* In MiB; false once Ctrl-C was pressed. */
static bool show(console *c, uint64_t done, uint64_t size) {
    if (!c || console_progress(c, "reading the model", done >> 20, size >> 20)) return true;
    errno = EINTR;
    return false;
}

static bool hash_open(int fd, uint64_t size, console *c, uint64_t *out) {
    uint8_t *block = malloc(BLOCK_BYTES);
    ssize_t got = block ? 1 : -1;
    hashing h;
    hash_begin(&h);
    while (got > 0) {
        do got = read(fd, block, BLOCK_BYTES);
        while (got < 0 && errno == EINTR);
        if (got > 0) hash_add(&h, block, (size_t)got);
        if (got > 0 && !show(c, h.bytes, size)) got = -1;
    }
    free(block);
    *out = hash_end(&h);
    return got == 0;
}

/* Nothing but a regular file: anything else might never end, or never begin. */
static bool hash_file(const char *path, console *c, uint64_t *out) {
    struct stat s, after;
    entry e;
    int fd = stat(path, &s) == 0 && S_ISREG(s.st_mode) ? open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC) : -1;
    bool good = fd >= 0 && fstat(fd, &s) == 0 && S_ISREG(s.st_mode);
    if (good) facts_of(&s, &e);
    if (good && !recall(&e)) {
        good = hash_open(fd, (uint64_t)s.st_size, c, &e.hash) && fstat(fd, &after) == 0;
        bool still = good && after.st_size == s.st_size && after.st_ctim.tv_sec == s.st_ctim.tv_sec &&
                     after.st_ctim.tv_nsec == s.st_ctim.tv_nsec;
        if (still) remember(&e, &s);
    }
    int cause = errno;
    if (fd >= 0) close(fd);
    errno = cause;
    *out = good ? e.hash : 0;
    return good;
}

void fingerprint_text(uint64_t hash, char text[FINGERPRINT_BYTES]) {
    snprintf(text, FINGERPRINT_BYTES, "%016llx", (unsigned long long)hash);
}

bool fingerprint_file(const char *path, char text[FINGERPRINT_BYTES]) {
    uint64_t hash;
    bool good = hash_file(path, NULL, &hash);
    fingerprint_text(hash, text);
    return good;
}

/* ---- a folder ----------------------------------------------------------------------------------------- */

static int is_of_model(const struct dirent *e) {
    static const char *const endings[] = {".json", ".safetensors", ".jinja", ".txt", ".model", ".gguf"};
    const char *dot = strrchr(e->d_name, '.');
    bool counts = false;
    for (size_t i = 0; i < sizeof endings / sizeof *endings && dot && dot != e->d_name; i++)
        counts = counts || strcmp(dot, endings[i]) == 0;
    return counts;
}

static int by_bytes(const struct dirent **a, const struct dirent **b) {
    return strcmp((*a)->d_name, (*b)->d_name); /* the same in every locale */
}

/* A folder that is called like a file of a model, or a link that leads nowhere, is none. */
static bool add_file(hashing *all, const char *folder, const char *name, console *c) {
    char path[4096], text[FINGERPRINT_BYTES];
    uint64_t hash;
    struct stat s;
    if (snprintf(path, sizeof path, "%s/%s", folder, name) >= (int)sizeof path)
        return errno = ENAMETOOLONG, false;
    if (stat(path, &s) || !S_ISREG(s.st_mode)) return true;
    if (!hash_file(path, c, &hash)) return false;
    fingerprint_text(hash, text);
    hash_add(all, name, strlen(name) + 1);
    hash_add(all, text, strlen(text));
    return true;
}

bool fingerprint_model(const char *folder, console *c, char text[FINGERPRINT_BYTES]) {
    struct dirent **entries = NULL;
    hashing all;
    hash_begin(&all);
    int n = scandir(folder, &entries, is_of_model, by_bytes);
    bool good = n >= 0;
    for (int i = 0; i < n; i++) {
        good = good && add_file(&all, folder, entries[i]->d_name, c);
        free(entries[i]);
    }
    free(entries);
    fingerprint_text(hash_end(&all), text);
    return good;
}
