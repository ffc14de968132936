/*
 * cache.c - kernel binaries and measurements on disk.
 *
 * A cached file is a seal and the content: "VLCACHE1", content length (8 bytes), FNV-1a of the content (8
 * bytes), content. Whatever does not fit its seal counts as absent, is rebuilt and written again. Names are
 * fingerprints of all that the content depends on.
 *
 * What lies here is run as code, and the seal keeps out accidents, not people: folder and entries count only
 * when the user or root owns them and nobody else may write to them.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/alloc.h"
#include "core/log.h"
#include "device/program.h"

static const char seal_magic[8] = "VLCACHE1";
enum { SEAL_BYTES = 24 };
static const uint64_t max_file = 256u << 20;

static uint64_t fnv(uint64_t sum, const void *data, size_t bytes) {
    const unsigned char *at = data;
    for (size_t i = 0; i < bytes; i++) sum = (sum ^ at[i]) * 0x100000001b3u;
    return sum;
}

void vlci_fingerprint(const char *const *texts, size_t n, char out[33]) {
    uint64_t a = 0xcbf29ce484222325u, b = 0x9e3779b97f4a7c15u;
    for (size_t i = 0; i < n; i++) { /* the final zero byte separates the texts */
        a = fnv(a, texts[i], strlen(texts[i]) + 1);
        b = fnv(b, texts[i], strlen(texts[i]) + 1);
    }
    snprintf(out, 33, "%016llx%016llx", (unsigned long long)a, (unsigned long long)b);
}

vlcache_status vlci_cache_folder(const char *asked, char **folder) {
    const char *xdg = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    bool none = asked ? !*asked : !(xdg && *xdg == '/') && !(home && *home);
    *folder = NULL;
    if (none) return VLCACHE_OK;
    *folder = asked                ? vlci_strdup(asked)
              : xdg && *xdg == '/' ? vlci_format("%s/vlcache", xdg)
                                   : vlci_format("%s/.cache/vlcache", home);
    return *folder ? VLCACHE_OK : vlci_fail_memory("name of the cache folder");
}

/* mkdir -p, with the last folder private to the user. */
static void make_folder(const char *path) {
    char *copy = vlci_strdup(path);
    if (!copy) return;
    for (char *c = copy + 1; *c; c++) {
        if (*c != '/') continue;
        *c = 0;
        mkdir(copy, 0777);
        *c = '/';
    }
    mkdir(copy, 0700); /* whether it is there now, opening it tells */
    vlci_free(copy);
}

/* Why what is open there may not be believed; NULL: it may. */
static const char *distrust(int file, mode_t kind) {
    struct stat about;
    if (fstat(file, &about)) return "cannot be examined";
    if ((about.st_mode & S_IFMT) != kind) return kind == S_IFDIR ? "is no folder" : "is no regular file";
    if (about.st_uid != 0 && about.st_uid != geteuid()) return "belongs to another user";
    return about.st_mode & 022 ? "may be written by others (chmod go-w)" : NULL;
}

/* Said once for each folder in a row, not for each of its kernels. */
static bool is_told(uint64_t *told, const char *folder, const char *why) {
    uint64_t now = fnv(fnv(0xcbf29ce484222325u, folder, strlen(folder)), why, strlen(why));
    return __atomic_exchange_n(told, now, __ATOMIC_RELAXED) == now;
}

static void warn_of_folder(const char *folder, const char *why) {
    static uint64_t told;
    if (!is_told(&told, folder, why))
        vlci_log(VLCACHE_LOG_WARN, "%s: %s: the kernel cache is not used", folder, why);
}

static void warn_of_writing(const char *folder, const char *name, const char *why) {
    static uint64_t told;
    if (!is_told(&told, folder, why))
        vlci_log(VLCACHE_LOG_WARN, "%s/%s: cannot be written: %s", folder, name, why);
}

/* The folder of the cache, open; -1: none, or one that is not to be trusted. */
static int open_folder(const char *folder) {
    int dir = open(folder, O_RDONLY | O_DIRECTORY | O_NONBLOCK | O_CLOEXEC);
    if (dir < 0) {
        if (errno != ENOENT) warn_of_folder(folder, strerror(errno));
        return -1;
    }
    const char *why = distrust(dir, S_IFDIR);
    if (!why) return dir;
    warn_of_folder(folder, why);
    close(dir);
    return -1;
}

/* NULL where it is none, and `*why`. */
static unsigned char *read_sealed(FILE *file, size_t *bytes, const char **why) {
    unsigned char seal[SEAL_BYTES];
    *why = "corrupt cache entry";
    if (fread(seal, 1, SEAL_BYTES, file) != SEAL_BYTES || memcmp(seal, seal_magic, sizeof seal_magic))
        return NULL;
    uint64_t length, sum;
    memcpy(&length, seal + 8, 8);
    memcpy(&sum, seal + 16, 8);
    if (length > max_file) return NULL;
    unsigned char *data = vlci_alloc((size_t)length + 1, 1);
    if (!data) *why = "no host memory for a cache entry";
    if (!data) return NULL;
    bool whole = fread(data, 1, (size_t)length, file) == length && fgetc(file) == EOF;
    if (!whole || fnv(0xcbf29ce484222325u, data, (size_t)length) != sum) {
        vlci_free(data);
        return NULL;
    }
    data[length] = 0;
    *bytes = (size_t)length;
    return data;
}

/* An entry to read; NULL: none, or one that is not to be trusted. A FIFO must not make us wait. */
static FILE *open_entry(int dir, const char *folder, const char *name) {
    int entry = openat(dir, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (entry < 0 && errno == ENOENT) return NULL;
    const char *why = entry < 0 ? strerror(errno) : distrust(entry, S_IFREG);
    FILE *file = why ? NULL : fdopen(entry, "rb");
    if (why) vlci_log(VLCACHE_LOG_WARN, "%s/%s: %s: not used, built again", folder, name, why);
    if (!file && entry >= 0) close(entry);
    return file;
}

unsigned char *vlci_cache_load(const vlcache_device *device, const char *name, size_t *bytes) {
    const char *folder = device->cache_dir;
    int dir = folder ? open_folder(folder) : -1;
    if (dir < 0) return NULL;
    FILE *file = open_entry(dir, folder, name);
    const char *why = NULL;
    unsigned char *data = file ? read_sealed(file, bytes, &why) : NULL;
    if (file && !data) vlci_log(VLCACHE_LOG_WARN, "%s/%s: %s, built again", folder, name, why);
    if (file) fclose(file);
    close(dir);
    return data;
}

static bool write_sealed(FILE *file, const void *data, size_t bytes) {
    uint64_t length = bytes, sum = fnv(0xcbf29ce484222325u, data, bytes);
    return fwrite(seal_magic, 1, 8, file) == 8 && fwrite(&length, 8, 1, file) == 1 &&
           fwrite(&sum, 8, 1, file) == 1 && fwrite(data, 1, bytes, file) == bytes;
}

/* A new file `name`.xxxxxx that nobody can have foreseen; -1 where there can be none. */
static int create_temporary(int dir, const char *name, char temporary[64]) {
    for (int attempt = 0; attempt < 16; attempt++) {
        unsigned char random[3];
        if (getrandom(random, sizeof random, 0) != (ssize_t)sizeof random) return -1;
        snprintf(temporary, 64, "%.40s.%02x%02x%02x", name, random[0], random[1], random[2]);
        int file = openat(dir, temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        if (file >= 0 || errno != EEXIST) return file;
    }
    return -1;
}

void vlci_cache_store(const vlcache_device *device, const char *name, const void *data, size_t bytes) {
    const char *folder = device->cache_dir;
    char temporary[64];
    if (!folder) return;
    make_folder(folder);
    int dir = open_folder(folder);
    if (dir < 0) return;
    int created = create_temporary(dir, name, temporary);
    FILE *file = created >= 0 ? fdopen(created, "wb") : NULL;
    bool written = file && write_sealed(file, data, bytes);
    if (file) written = fclose(file) == 0 && written;
    if (created >= 0 && !file) close(created);
    if (!written || renameat(dir, temporary, dir, name)) {
        warn_of_writing(folder, name, strerror(errno));
        if (created >= 0) unlinkat(dir, temporary, 0);
    }
    close(dir);
}

static void text_name(const vlcache_device *device, const char *key, char out[40]) {
    const vlcache_device_info *info = &device->caps.info;
    const char *texts[] = {key, info->platform, info->name, info->driver, info->version};
    vlci_fingerprint(texts, 5, out);
    strcat(out, ".txt");
}

/* A blob that was written since the device was opened: there may be no cache on disk, or none that can be
 * written. */
typedef struct vlci_note {
    struct vlci_note *next;
    char name[40];
    char text[];
} vlci_note;

static bool read_note(vlcache_device *device, const char *name, char **text) {
    pthread_mutex_lock(&device->lock);
    const vlci_note *note = device->notes; /* the newest of a name comes first */
    while (note && strcmp(note->name, name)) note = note->next;
    *text = note ? vlci_strdup(note->text) : NULL;
    pthread_mutex_unlock(&device->lock);
    return *text != NULL;
}

static void write_note(vlcache_device *device, const char *name, const char *text) {
    vlci_note *note = vlci_calloc(1, sizeof *note + strlen(text) + 1);
    if (!note) return;
    strcpy(note->name, name);
    strcpy(note->text, text);
    pthread_mutex_lock(&device->lock);
    note->next = device->notes;
    device->notes = note;
    pthread_mutex_unlock(&device->lock);
}

void vlci_notes_release(vlcache_device *device) {
    while (device->notes) {
        vlci_note *next = device->notes->next;
        vlci_free(device->notes);
        device->notes = next;
    }
}

bool vlci_cache_read(vlcache_device *device, const char *key, char **text) {
    char name[40];
    size_t bytes = 0;
    text_name(device, key, name);
    if (read_note(device, name, text)) return true;
    *text = (char *)vlci_cache_load(device, name, &bytes);
    return *text != NULL;
}

void vlci_cache_write(vlcache_device *device, const char *key, const char *text) {
    char name[40];
    text_name(device, key, name);
    write_note(device, name, text);
    vlci_cache_store(device, name, text, strlen(text));
}

/* ---- the folder as a whole ----------------------------------------------------------------------------- */

/* A fingerprint with .clbin or .txt, or what an interrupted write has left of one. */
static bool is_entry(const char *name) {
    if (strspn(name, "0123456789abcdef") != 32) return false;
    const char *end = name + 32;
    size_t kind = strncmp(end, ".clbin", 6) == 0 ? 6 : strncmp(end, ".txt", 4) == 0 ? 4 : 0;
    return kind && (end[kind] == 0 || (end[kind] == '.' && strlen(end + kind) == 7));
}

/* Counts the entries of a folder, and deletes them when asked. One that another process has just renamed or
 * deleted is none. */
static vlcache_status walk(const char *folder, bool unlink_them, size_t *files, uint64_t *bytes) {
    *files = 0, *bytes = 0;
    DIR *dir = opendir(folder);
    if (!dir && errno == ENOENT) return VLCACHE_OK;
    if (!dir) return vlci_fail(vlci_errno_status(errno), "%s: cannot be read: %s", folder, strerror(errno));
    vlcache_status status = VLCACHE_OK;
    for (struct dirent *entry; !status && (entry = readdir(dir));) {
        struct stat about;
        if (!is_entry(entry->d_name) || fstatat(dirfd(dir), entry->d_name, &about, AT_SYMLINK_NOFOLLOW) ||
            !S_ISREG(about.st_mode))
            continue;
        if (unlink_them && unlinkat(dirfd(dir), entry->d_name, 0)) {
            if (errno != ENOENT)
                status = vlci_fail(vlci_errno_status(errno), "%s/%s: cannot be deleted: %s", folder,
                                   entry->d_name, strerror(errno));
            continue;
        }
        *files += 1;
        *bytes += (uint64_t)about.st_size;
    }
    closedir(dir);
    return status;
}

vlcache_status vlcache_cache_describe(const char *cache_dir, char **folder, size_t *files, uint64_t *bytes) {
    if (folder) *folder = NULL;
    if (!folder || !files || !bytes)
        return vlci_fail(VLCACHE_E_ARGUMENT, "vlcache_cache_describe: folder, files or bytes is NULL");
    *files = 0, *bytes = 0;
    vlcache_status status = vlci_cache_folder(cache_dir, folder);
    return *folder ? walk(*folder, false, files, bytes) : status;
}

vlcache_status vlcache_cache_clear(const char *cache_dir, size_t *files) {
    size_t deleted = 0;
    uint64_t bytes = 0;
    char *folder;
    vlcache_status status = vlci_cache_folder(cache_dir, &folder);
    if (folder) status = walk(folder, true, &deleted, &bytes);
    if (files) *files = deleted;
    vlci_free(folder);
    return status;
}
