/*
 * template.c - a name or a file, checked here as well as by the session, so that a slip is told before the
 * weights are loaded.
 */
#include "common/template.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <vlcache/session.h>

#include "common/exit.h"

static bool is_file(const char *path) {
    struct stat found;
    return stat(path, &found) == 0 && S_ISREG(found.st_mode);
}

static bool is_name(const char *text) {
    size_t length = strlen(text);
    const char *names = vlcache_chat_template_names();
    for (const char *at = names; (at = strstr(at, text)) && length; at += length) {
        bool starts = at == names || at[-1] == ' ' || at[-1] == ',';
        if (starts && (!at[length] || at[length] == ',')) return true;
    }
    return false;
}

int template_read(const flag *f, const char *name, const char *text, void *options) {
    if (!is_name(text) && !is_file(text))
        return flag_refuse("%s \"%s\": must be one of %s, or a file with a template", name, text,
                           vlcache_chat_template_names());
    *(const char **)((char *)options + f->offset) = text;
    return EXIT_OK;
}

bool template_is_file(const char *text) {
    return text && !is_name(text);
}

void template_names(char *text, size_t capacity) {
    snprintf(text, capacity, "%s", vlcache_chat_template_names());
}
