/*
 * template.c - checked here as well as by the session, so that a slip is told before the weights are loaded.
 */
#include "common/template.h"

#include <stdio.h>
#include <string.h>

#include <vlcache/session.h>

#include "common/exit.h"

int template_read(const flag *f, const char *name, const char *text, void *options) {
    size_t length = strlen(text);
    const char *names = vlcache_chat_template_names();
    for (const char *at = names; (at = strstr(at, text)) && length; at += length) {
        bool starts = at == names || at[-1] == ' ' || at[-1] == ',';
        if (!starts || (at[length] && at[length] != ',')) continue;
        *(const char **)((char *)options + f->offset) = text;
        return EXIT_OK;
    }
    return flag_refuse("%s \"%s\": must be one of %s", name, text, names);
}

void template_names(char *text, size_t capacity) {
    snprintf(text, capacity, "%s", vlcache_chat_template_names());
}
