/*
 * template_write.c - texts that grow, and values as Python's str() and repr() give them.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "core/locale.h"
#include "tokens/strings.h"
#include "tokens/template_value.h"

/* ---- growing ------------------------------------------------------------------------------------------- */

static void make_room(vlci_run *run, vlci_writing *to, size_t n) {
    if (n <= to->room - to->n) return;
    if (n > VLCI_MOST_OUTPUT || to->n + n > VLCI_MOST_OUTPUT)
        vlci_run_fail(run, "writes more than %d MiB", VLCI_MOST_OUTPUT >> 20);
    size_t room = 2 * (to->n + n) + 64;
    char *data = vlci_arena_take(&run->arena, room, 1);
    uint8_t *origin = vlci_arena_take(&run->arena, room, 1);
    if (to->n) memcpy(data, to->data, to->n);
    if (to->n) memcpy(origin, to->origin, to->n);
    *to = (vlci_writing){data, origin, to->n, room};
}

void vlci_put(vlci_run *run, vlci_writing *to, const char *data, size_t n, vlci_origin origin) {
    if (!n) return;
    vlci_run_charge(run, n);
    make_room(run, to, n);
    memcpy(to->data + to->n, data, n);
    memset(to->origin + to->n, origin, n);
    to->n += n;
}

void vlci_put_words(vlci_run *run, vlci_writing *to, const vlci_words *words) {
    size_t at = to->n;
    vlci_put(run, to, words->data, words->n, VLCI_ORIGIN_TEMPLATE);
    if (words->origin && words->n) memcpy(to->origin + at, words->origin, words->n);
}

void vlci_put_char(vlci_run *run, vlci_writing *to, uint32_t code, vlci_origin origin) {
    uint8_t bytes[4];
    if (code > 0x10ffff || (code >= 0xd800 && code < 0xe000)) code = 0xfffd;
    vlci_put(run, to, (char *)bytes, (size_t)utf8proc_encode_char((utf8proc_int32_t)code, bytes), origin);
}

const vlci_words *vlci_written(vlci_run *run, vlci_writing *from) {
    vlci_words *words = VLCI_ARENA_NEW(&run->arena, vlci_words);
    *words = (vlci_words){.data = from->n ? from->data : "", .origin = from->origin, .n = from->n};
    *from = (vlci_writing){0};
    return words;
}

/* ---- str() and repr() ---------------------------------------------------------------------------------- */

static void put_text(vlci_run *run, vlci_writing *to, const char *text, vlci_origin origin) {
    vlci_put(run, to, text, strlen(text), origin);
}

/* The fewest digits that give the number again, with an exponent where Python has one. */
static void put_float(vlci_run *run, vlci_writing *to, double x, vlci_origin origin) {
    char text[40], digits[40];
    int precision = 1;
    if (isnan(x) || isinf(x)) {
        put_text(run, to, isnan(x) ? "nan" : x < 0 ? "-inf" : "inf", origin);
        return;
    }
    do vlci_snprintf(digits, sizeof digits, "%.*e", precision - 1, x);
    while (precision++ < 17 && vlci_strtod(digits, NULL) != x);
    int exponent = atoi(strchr(digits, 'e') + 1), after = precision - 2 - exponent;
    if (exponent < -4 || exponent >= 16) {
        put_text(run, to, digits, origin);
        return;
    }
    vlci_snprintf(text, sizeof text, "%.*f", after > 1 ? after : 1, x);
    put_text(run, to, text, origin);
}

static bool printable(uint32_t code) {
    switch (utf8proc_category((utf8proc_int32_t)code)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    case UTF8PROC_CATEGORY_ZS:
        return code == ' ';
    default:
        return true;
    }
}

static void repr_char(vlci_run *run, vlci_writing *to, uint32_t code, char quote, vlci_origin origin) {
    char text[16];
    const char *at = code ? strchr("\\\\\nn\rr\tt", (int)code) : NULL;
    if (code == (uint32_t)quote || code == '\\')
        snprintf(text, sizeof text, "\\%c", (char)code);
    else if (code == '\n' || code == '\r' || code == '\t')
        snprintf(text, sizeof text, "\\%c", at[1]);
    else if (printable(code)) {
        vlci_put_char(run, to, code, origin);
        return;
    } else
        snprintf(text, sizeof text, code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x", code);
    put_text(run, to, text, origin);
}

static void repr_words(vlci_run *run, vlci_writing *to, const vlci_words *words) {
    vlci_origin origin = vlci_words_origin(words);
    char quote =
        words->n && memchr(words->data, '\'', words->n) && !memchr(words->data, '"', words->n) ? '"' : '\'';
    vlci_put(run, to, &quote, 1, origin);
    for (size_t i = 0; i < words->n;) {
        uint32_t code;
        i += (size_t)vlci_utf8_char(words->data + i, words->n - i, &code);
        repr_char(run, to, code, quote, origin);
    }
    vlci_put(run, to, &quote, 1, origin);
}

static void repr_list(vlci_run *run, vlci_writing *to, const vlci_list *list) {
    static const char *const open[] = {"[", "(", "dict_keys([", "dict_values([", "dict_items(["},
                             *const close[] = {"]", ")", "])", "])", "])"};
    if (list->kind == VLCI_GENERATOR) vlci_run_fail(run, "a generator has no text: put |list behind it");
    put_text(run, to, open[list->kind], VLCI_ORIGIN_TEMPLATE);
    for (size_t i = 0; i < list->n; i++) {
        if (i) put_text(run, to, ", ", VLCI_ORIGIN_TEMPLATE);
        vlci_put_repr(run, to, list->at[i]);
    }
    if (list->kind == VLCI_TUPLE && list->n == 1) put_text(run, to, ",", VLCI_ORIGIN_TEMPLATE);
    put_text(run, to, close[list->kind], VLCI_ORIGIN_TEMPLATE);
}

static void repr_dict(vlci_run *run, vlci_writing *to, const vlci_dict *dict) {
    put_text(run, to, "{", VLCI_ORIGIN_TEMPLATE);
    for (size_t i = 0; i < dict->n; i++) {
        if (i) put_text(run, to, ", ", VLCI_ORIGIN_TEMPLATE);
        vlci_put_repr(run, to, dict->at[i].key);
        put_text(run, to, ": ", VLCI_ORIGIN_TEMPLATE);
        vlci_put_repr(run, to, dict->at[i].value);
    }
    put_text(run, to, "}", VLCI_ORIGIN_TEMPLATE);
}

static void put_int(vlci_run *run, vlci_writing *to, int64_t whole) {
    char text[24];
    snprintf(text, sizeof text, "%lld", (long long)whole);
    put_text(run, to, text, VLCI_ORIGIN_TEMPLATE);
}

void vlci_put_repr(vlci_run *run, vlci_writing *to, vlci_datum value) {
    vlci_run_down(run);
    switch (value.kind) {
    case VLCI_MISSING:
        break;
    case VLCI_UNDEFINED:
        put_text(run, to, "Undefined", VLCI_ORIGIN_TEMPLATE);
        break;
    case VLCI_NONE:
        put_text(run, to, "None", VLCI_ORIGIN_TEMPLATE);
        break;
    case VLCI_BOOL:
        put_text(run, to, value.truth ? "True" : "False", VLCI_ORIGIN_TEMPLATE);
        break;
    case VLCI_INT:
        put_int(run, to, value.whole);
        break;
    case VLCI_FLOAT:
        put_float(run, to, value.real, VLCI_ORIGIN_TEMPLATE);
        break;
    case VLCI_WORDS:
        repr_words(run, to, value.words);
        break;
    case VLCI_LIST:
        repr_list(run, to, value.list);
        break;
    case VLCI_DICT:
        repr_dict(run, to, value.dict);
        break;
    case VLCI_SPACE:
        put_text(run, to, "<Namespace ", VLCI_ORIGIN_TEMPLATE);
        repr_dict(run, to, value.dict);
        put_text(run, to, ">", VLCI_ORIGIN_TEMPLATE);
        break;
    default:
        vlci_run_fail(run, "a %s has no text", vlci_kind_name(value));
    }
    vlci_run_up(run);
}

void vlci_put_datum(vlci_run *run, vlci_writing *to, vlci_datum value) {
    if (value.kind == VLCI_WORDS)
        vlci_put_words(run, to, value.words);
    else if (value.kind != VLCI_UNDEFINED)
        vlci_put_repr(run, to, value);
}

const vlci_words *vlci_words_from(vlci_run *run, vlci_datum value) {
    vlci_writing text = {0};
    if (value.kind == VLCI_WORDS) return value.words;
    vlci_put_datum(run, &text, value);
    return vlci_written(run, &text);
}
