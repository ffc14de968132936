/*
 * settings.c - settings of checkpoints, right and wrong.
 */
#include "support/settings.h"

#include <check.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "models/families.h"
#include "support/scratch.h"
#include "support/suite.h"

char *settings_changed(const char *base, const char *path, const char *value) {
    json_t *root = json_loads(base, 0, NULL), *at = root;
    char copy[128], *key = copy;
    snprintf(copy, sizeof copy, "%s", path);
    for (char *dot; (dot = strchr(key, '.')); key = dot + 1) {
        *dot = '\0';
        at = json_object_get(at, key);
    }
    ck_assert_msg(*value ? !json_object_set_new(at, key, json_loads(value, JSON_DECODE_ANY, NULL))
                         : !json_object_del(at, key),
                  "%s: cannot be \"%s\"", path, value);
    char *text = json_dumps(root, 0);
    json_decref(root);
    return text;
}

vlcache_status settings_load(const char *config, const char *images, vlci_config *out) {
    scratch_text("config.json", config);
    scratch_text("preprocessor_config.json", images);
    return vlci_config_load(scratch_folder(), out);
}

void settings_refuse(const char *config, const char *images, const settings_fault *f) {
    bool in_config = f->file == 'c';
    char *text = settings_changed(in_config ? config : images, f->field, f->value);
    vlci_config c;
    ck_fails(settings_load(in_config ? text : config, in_config ? images : text, &c), f->status, f->why);
    const vlcache_error *e = vlcache_last_error();
    ck_assert_msg(strstr(e->file, "/config.json") || strstr(e->file, "/preprocessor_config.json"), "%s",
                  e->file);
    ck_assert_msg(strncmp(e->message, e->file, strlen(e->file)) == 0, "%s = %s: %s", f->field, f->value,
                  e->message);
    ck_assert_int_eq(e->status, f->status);
    ck_assert_msg(*e->hint, "%s", e->message);
    ck_assert(!c.eyes && !c.eos_tokens);
    free(text);
}

/* What failing allocations are tried on. */
static vlcache_status read_and_lay_out(void) {
    vlci_config c;
    vlci_picture_layout layout = {0};
    vlcache_status status = vlci_config_load(scratch_folder(), &c);
    if (!status) status = c.family->layout(&c, 200, 100, &layout);
    vlci_picture_layout_release(&layout);
    vlci_config_release(&c);
    return status;
}

void settings_in_short_memory(const char *config, const char *images) {
    bool failed = true;
    scratch_text("config.json", config);
    scratch_text("preprocessor_config.json", images);
    for (long at = 0; failed; at++) {
        failing_start(at);
        vlcache_status status = read_and_lay_out();
        ck_assert_int_eq(failing_stop(&failed), 0);
        ck_assert_int_eq(status, failed ? VLCACHE_E_NO_MEMORY : VLCACHE_OK);
    }
}
