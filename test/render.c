/*
 * render.c - the interpreter of templates as a program, for test/templates.py, which holds it against
 * Python's jinja2: objects on standard input, one a line,
 *
 *     {"template": text, "variables": {...}, "now": seconds}
 *
 * and for each a line on standard output: {"text": ...}, or {"error": ...}.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokens/template.h"

static json_t *answer(const json_t *asked) {
    const char *text = json_string_value(json_object_get(asked, "template"));
    const vlci_rendering with = {.variables = json_object_get(asked, "variables"),
                                 .now = json_integer_value(json_object_get(asked, "now"))};
    vlci_template *tpl = NULL;
    vlci_rendered out = {0};
    vlcache_status status = vlci_template_create("template", text, strlen(text), &tpl);
    if (!status) status = vlci_template_render(tpl, &with, &out);
    json_t *made = status ? json_pack("{s:s}", "error", vlcache_error_message())
                          : json_pack("{s:s%}", "text", out.text, out.bytes);
    vlci_rendered_release(&out);
    vlci_template_destroy(&tpl);
    return made;
}

int main(void) {
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, stdin) > 0) {
        json_t *asked = json_loads(line, 0, NULL), *made = asked ? answer(asked) : NULL;
        if (!made || json_dumpf(made, stdout, JSON_ENSURE_ASCII)) return 1;
        putchar('\n');
        fflush(stdout);
        json_decref(made);
        json_decref(asked);
    }
    free(line);
    return 0;
}
