/*
 * page.c - labels in a column, texts broken beside them; JSON.
 */
#include "info/page.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"

void page_field(console *c, const char *label, const char *format, ...) {
    char text[2200];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    for (size_t end = strlen(text); end && text[end - 1] == ' ';) text[--end] = 0;
    console_print(c, "%*s%-*s%s", PAGE_INDENT, "", PAGE_LABEL, label, strlen(label) < PAGE_LABEL ? "" : " ");
    size_t room = PAGE_WIDTH - PAGE_INDENT - PAGE_LABEL;
    for (const char *at = text; *at;) {
        size_t length = strlen(at);
        if (length > room) {
            length = room;
            while (length && at[length] != ' ') length--;
            if (!length) length = room;
        }
        console_print(c, "%.*s\n", (int)length, at);
        at += length + strspn(at + length, " ");
        if (*at) console_print(c, "%*s", PAGE_INDENT + PAGE_LABEL, "");
    }
    if (!*text) console_print(c, "\n");
}

json_t *page_text(const char *text) {
    if (!text) return json_null();
    json_t *json = json_string(text);
    if (json) return json;
    char copy[2200];
    snprintf(copy, sizeof copy, "%s", text);
    for (char *at = copy; *at; at++)
        if ((unsigned char)*at >= 0x80) *at = '?';
    return json_string(copy);
}

int page_json(console *c, json_t *object) {
    char *text = object ? json_dumps(object, JSON_INDENT(2) | JSON_REAL_PRECISION(6)) : NULL;
    int code = text ? EXIT_OK : console_fail(c, EXIT_MEMORY, "out of host memory");
    if (text) console_print(c, "%s\n", text);
    free(text);
    json_decref(object);
    return code;
}
