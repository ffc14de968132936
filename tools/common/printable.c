/*
 * printable.c - one walk over UTF-8, character by character.
 *
 *     C0  U+0000..U+001F, U+007F    but newline and tab
 *     C1  U+0080..U+009F            what a terminal takes as ESC and a letter
 */
#include "common/printable.h"

#include <stdint.h>
#include <stdlib.h>

/* Bytes of the character at `at`, its number in `*point`; 0: they are no UTF-8 (overlong, surrogate, torn).
 */
static int character_at(const unsigned char *at, uint32_t *point) {
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    int n = *at < 0x80 ? 1 : *at < 0xc0 ? 0 : *at < 0xe0 ? 2 : *at < 0xf0 ? 3 : *at < 0xf8 ? 4 : 0;
    uint32_t value = n == 1 ? *at : *at & (0x7fu >> n);
    for (int i = 1; i < n; i++) {
        if ((at[i] & 0xc0) != 0x80) return 0;
        value = value << 6 | (at[i] & 0x3fu);
    }
    *point = value;
    return n && value >= least[n] && value <= 0x10ffff && (value < 0xd800 || value > 0xdfff) ? n : 0;
}

void printable_put(FILE *out, const char *text) {
    const unsigned char *at = (const unsigned char *)text;
    while (*at) {
        uint32_t point = 0;
        int n = character_at(at, &point);
        bool control = (point < 0x20 && point != '\n' && point != '\t') || (point >= 0x7f && point <= 0x9f);
        if (!n || control)
            fputs("\xef\xbf\xbd", out);
        else
            fwrite(at, 1, (size_t)n, out);
        at += n ? n : 1;
    }
}

bool printable_vprintf(FILE *out, const char *format, va_list args) {
    char *text = NULL, cut[1024];
    va_list again;
    va_copy(again, args);
    if (vasprintf(&text, format, args) < 0) {
        text = NULL;
        vsnprintf(cut, sizeof cut, format, again); /* without memory, as much of it as fits */
    }
    va_end(again);
    bool whole = text != NULL;
    printable_put(out, whole ? text : cut);
    free(text);
    return whole;
}

int printable_step(const char *text) {
    uint32_t point;
    return character_at((const unsigned char *)text, &point);
}

char *printable_utf8(char *text) {
    for (unsigned char *at = (unsigned char *)text; *at;) {
        uint32_t point;
        int n = character_at(at, &point);
        if (!n) *at = '?';
        at += n ? n : 1;
    }
    return text;
}
