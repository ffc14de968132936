/**
 * settings.h - a checkpoint's config.json and preprocessor_config.json as texts: with one field changed, and
 * read from the scratch folder.
 */
#ifndef TEST_SUPPORT_SETTINGS_H
#define TEST_SUPPORT_SETTINGS_H

#include "models/config.h"

/** Sets a field ("a.b.c") of a JSON object, `text`, to a JSON text; "" takes it out. New memory (free). */
char *settings_changed(const char *text, const char *path, const char *value);

/** Writes both files into the scratch folder, and reads it. */
vlcache_status settings_load(const char *config, const char *images, vlci_config *out);

/** A field that a folder is refused for. */
typedef struct settings_fault {
    char file; /**< c: config.json, i: preprocessor_config.json */
    const char *field, *value;
    vlcache_status status;
    const char *why; /**< part of the message */
} settings_fault;

/** Both texts but for the fault are refused for it: a file is named, a hint is given, nothing is left. */
void settings_refuse(const char *config, const char *images, const settings_fault *fault);

/** Reading both, and laying a picture out, survives each allocation that fails, and leaves none behind. */
void settings_in_short_memory(const char *config, const char *images);

#endif
