/*
 * template_lex.c - text of a template -> tokens.
 *
 *     a {%- if x %}      data "a", {%, if, x, %}
 *
 * A sign beside a bracket takes white space away: "-" all of it, on that side. Without one, the white space
 * between the beginning of a line and {% or {# goes, and so does the line's end right behind %} or #}; "+"
 * keeps them.
 */
#include "tokens/template_lex.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "core/locale.h"
#include "tokens/strings.h"

void vlci_lex_begin(vlci_run *run, const char *text, size_t bytes, vlci_lexer *out) {
    char *copy = vlci_arena_take(&run->arena, 3 * (bytes + 1), 1);
    size_t n = 0;
    for (size_t i = 0; i < bytes;) {
        int step = vlci_utf8_step(text + i, bytes - i);
        if (text[i] == '\r') {
            copy[n++] = '\n';
            i += i + 1 < bytes && text[i + 1] == '\n' ? 2 : 1;
        } else if (step > 0) {
            memcpy(copy + n, text + i, (size_t)step);
            n += (size_t)step;
            i += (size_t)step;
        } else {
            memcpy(copy + n, "\xef\xbf\xbd", 3);
            n += 3;
            i += step ? (size_t)-step : bytes - i;
        }
    }
    if (n && copy[n - 1] == '\n') n--;
    *out = (vlci_lexer){.run = run, .text = copy, .n = n, .line = 1, .line_starts = true};
}

/* ---- where it stands ----------------------------------------------------------------------------------- */

static bool follows(const vlci_lexer *x, size_t at, const char *text) {
    size_t n = strlen(text);
    return at <= x->n && n <= x->n - at && memcmp(x->text + at, text, n) == 0;
}

static void go_to(vlci_lexer *x, size_t at) {
    for (; x->at < at; x->at++)
        if (x->text[x->at] == '\n') {
            x->line++;
            x->line_begin = x->at + 1;
        }
}

static void stand(vlci_lexer *x) {
    x->run->line = x->line;
    x->run->column = (int)(x->at - x->line_begin) + 1;
}

static vlci_lexeme lexeme(vlci_lexer *x, vlci_lexeme_kind kind) {
    stand(x);
    return (vlci_lexeme){.kind = kind, .line = x->line, .column = x->run->column};
}

static size_t skip_spaces(const vlci_lexer *x, size_t at) {
    return at + vlci_space_head(x->text + at, x->n - at);
}

/* Behind a bracket that ends at `at`: what goes there with it. */
static void end_bracket(vlci_lexer *x, size_t at, bool strip, bool trim) {
    size_t end = strip ? skip_spaces(x, at) : trim && follows(x, at, "\n") ? at + 1 : at;
    go_to(x, end);
    x->line_starts = end > at && x->text[end - 1] == '\n';
    x->where = VLCI_IN_DATA;
}

/* ---- data ---------------------------------------------------------------------------------------------- */

/* The end of the data [begin, at), behind which a bracket opens; `block`: of {% or {#. */
static size_t data_end(const vlci_lexer *x, size_t begin, size_t at, char sign, bool block) {
    if (sign == '-') return at - vlci_space_tail(x->text + begin, at - begin);
    if (sign == '+' || !block) return at;
    size_t line = at;
    while (line > begin && x->text[line - 1] != '\n') line--;
    bool starts = line > begin || x->line_starts;
    return starts && skip_spaces(x, line) >= at ? line : at;
}

/* Where {% raw %} (or endraw) ends that begins at `at`; 0: it is another tag. */
static size_t tag_end(const vlci_lexer *x, size_t at, const char *name, bool *strip, bool *plus) {
    size_t i = at + 2;
    if (i < x->n && strchr("-+", x->text[i]) && x->text[i]) i++;
    i = skip_spaces(x, i);
    if (!follows(x, i, name)) return 0;
    i = skip_spaces(x, i + strlen(name));
    *strip = follows(x, i, "-%}");
    *plus = follows(x, i, "+%}");
    if (*strip || *plus) return i + 3;
    return follows(x, i, "%}") ? i + 2 : 0;
}

static bool raw(vlci_lexer *x, size_t after, vlci_lexeme *data) {
    bool strip, plus;
    size_t begin = after;
    for (size_t at = after; at + 1 < x->n; at++) {
        if (!follows(x, at, "{%")) continue;
        size_t end = tag_end(x, at, "endraw", &strip, &plus);
        if (!end) continue;
        char sign = x->text[at + 2];
        data->text = x->text + begin;
        data->bytes = data_end(x, begin, at, sign, true) - begin;
        end_bracket(x, end, strip, !plus);
        return true;
    }
    vlci_run_fail(x->run, "{%% raw %%} has no end");
}

static void comment(vlci_lexer *x, size_t at) {
    size_t begin = at + 2;
    if (begin < x->n && (x->text[begin] == '-' || x->text[begin] == '+')) begin++;
    stand(x);
    for (size_t i = begin; i < x->n; i++) {
        if (!follows(x, i, "#}")) continue;
        char sign = i > begin ? x->text[i - 1] : 0;
        end_bracket(x, i + 2, sign == '-', sign != '+');
        return;
    }
    vlci_run_fail(x->run, "a comment has no end");
}

/* Opens what stands at x->at; data that {% raw %} holds comes at once. */
static bool open_bracket(vlci_lexer *x, vlci_lexeme *found) {
    bool strip, plus, block = follows(x, x->at, "{%");
    *found = lexeme(x, block ? VLCI_LEX_BLOCK : VLCI_LEX_PRINT);
    if (follows(x, x->at, "{#")) return comment(x, x->at), false;
    size_t end = block ? tag_end(x, x->at, "raw", &strip, &plus) : 0;
    if (end && !plus) {
        found->kind = VLCI_LEX_DATA;
        x->line_starts = false;
        return raw(x, strip ? skip_spaces(x, end) : end, found);
    }
    size_t sign = x->at + 2;
    go_to(x, sign + (sign < x->n && (x->text[sign] == '-' || x->text[sign] == '+')));
    x->where = block ? VLCI_IN_BLOCK : VLCI_IN_PRINT;
    x->n_open = 0;
    return true;
}

/* Text up to the next bracket, or what that opens. */
static vlci_lexeme next_data(vlci_lexer *x) {
    for (;;) {
        size_t begin = x->at, at = begin;
        while (at < x->n &&
               !(x->text[at] == '{' && at + 1 < x->n && strchr("{%#", x->text[at + 1]) && x->text[at + 1]))
            at++;
        vlci_lexeme found = lexeme(x, VLCI_LEX_DATA);
        bool block = at < x->n && x->text[at + 1] != '{';
        char sign = at + 2 < x->n ? x->text[at + 2] : 0;
        size_t end = at < x->n ? data_end(x, begin, at, sign, block) : at;
        found.text = x->text + begin;
        found.bytes = end - begin;
        go_to(x, at);
        if (found.bytes) return found;
        if (at == x->n) return lexeme(x, VLCI_LEX_END);
        if (open_bracket(x, &found)) return found;
    }
}

/* ---- inside of brackets -------------------------------------------------------------------------------- */

static bool name_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' ||
           (c & 0x80);
}

static bool digit(char c) {
    return c >= '0' && c <= '9';
}

static int hex(char c) {
    return digit(c)               ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* \xHH, \uHHHH, \UHHHHHHHH behind the letter at `*at`. */
static uint32_t hex_escape(vlci_lexer *x, size_t *at) {
    int n = x->text[*at] == 'x' ? 2 : x->text[*at] == 'u' ? 4 : 8;
    uint32_t code = 0;
    for (++*at; n--; ++*at) {
        int value = *at < x->n ? hex(x->text[*at]) : -1;
        if (value < 0) vlci_run_fail(x->run, "a string has a broken escape");
        code = code << 4 | (uint32_t)value;
    }
    if (code > 0x10ffff) vlci_run_fail(x->run, "a string has a character beyond Unicode");
    return code;
}

static void escape(vlci_lexer *x, size_t *at, vlci_writing *to) {
    static const char from[] = "abfnrtv\\'\"", what[] = "\a\b\f\n\r\t\v\\'\"";
    char c = x->text[*at];
    const char *known = c ? strchr(from, c) : NULL;
    if (known) {
        vlci_put(x->run, to, &what[known - from], 1, VLCI_ORIGIN_TEMPLATE);
        ++*at;
    } else if (c && strchr("xuU", c)) {
        vlci_put_char(x->run, to, hex_escape(x, at), VLCI_ORIGIN_TEMPLATE);
    } else if (c >= '0' && c <= '7') {
        uint32_t code = 0;
        for (int i = 0; i < 3 && *at < x->n && x->text[*at] >= '0' && x->text[*at] <= '7'; i++, ++*at)
            code = code * 8 + (uint32_t)(x->text[*at] - '0');
        vlci_put_char(x->run, to, code, VLCI_ORIGIN_TEMPLATE);
    } else if (c == '\n') {
        ++*at;
    } else {
        vlci_put(x->run, to, "\\", 1, VLCI_ORIGIN_TEMPLATE);
    }
}

static vlci_lexeme string(vlci_lexer *x) {
    vlci_lexeme found = lexeme(x, VLCI_LEX_STRING);
    vlci_writing text = {0};
    char quote = x->text[x->at];
    size_t at = x->at + 1;
    while (at < x->n && x->text[at] != quote) {
        size_t begin = at;
        while (at < x->n && x->text[at] != quote && x->text[at] != '\\') at++;
        vlci_put(x->run, &text, x->text + begin, at - begin, VLCI_ORIGIN_TEMPLATE);
        if (at + 1 < x->n && x->text[at] == '\\') {
            at++;
            escape(x, &at, &text);
        } else if (at + 1 >= x->n) {
            break;
        }
    }
    if (at >= x->n || x->text[at] != quote) vlci_run_fail(x->run, "a string has no end");
    go_to(x, at + 1);
    found.bytes = text.n;
    found.text = text.n ? text.data : "";
    return found;
}

static vlci_lexeme number(vlci_lexer *x) {
    vlci_lexeme found = lexeme(x, VLCI_LEX_INT);
    char digits[64];
    size_t n = 0, at = x->at;
    int base = 10;
    if (x->text[at] == '0' && at + 2 < x->n && strchr("xXoObB", x->text[at + 1])) {
        base = strchr("xX", x->text[at + 1]) ? 16 : strchr("oO", x->text[at + 1]) ? 8 : 2;
        at += 2;
    }
    for (; at < x->n && n < sizeof digits - 1; at++) {
        char c = x->text[at];
        bool sign = (c == '+' || c == '-') && n && strchr("eE", digits[n - 1]);
        bool dot = c == '.' && found.kind == VLCI_LEX_INT && at + 1 < x->n && digit(x->text[at + 1]);
        bool power = (c == 'e' || c == 'E') && at + 1 < x->n &&
                     (digit(x->text[at + 1]) ||
                      (strchr("+-", x->text[at + 1]) && at + 2 < x->n && digit(x->text[at + 2])));
        if (c == '_' && at + 1 < x->n && hex(x->text[at + 1]) >= 0) continue;
        if (base == 10 ? !(digit(c) || dot || power || sign) : hex(c) < 0 || hex(c) >= base) break;
        if (base == 10 && (dot || power)) found.kind = VLCI_LEX_FLOAT;
        digits[n++] = c;
    }
    digits[n] = 0;
    errno = 0;
    if (found.kind == VLCI_LEX_FLOAT)
        found.real = vlci_strtod(digits, NULL);
    else
        found.whole = strtoll(digits, NULL, base);
    if (errno == ERANGE || !n || n == sizeof digits - 1)
        vlci_run_fail(x->run, "a number is beyond what is counted here");
    go_to(x, at);
    return found;
}

static void balance(vlci_lexer *x, char c) {
    static const char open[] = "([{", close[] = ")]}";
    const char *closes = strchr(close, c);
    if (strchr(open, c)) {
        if (x->n_open == sizeof x->open) vlci_run_fail(x->run, "too many brackets are open");
        x->open[x->n_open++] = c;
    } else if (closes && (!x->n_open || x->open[--x->n_open] != open[closes - close])) {
        vlci_run_fail(x->run, "a \"%c\" closes nothing", c);
    }
}

static vlci_lexeme operator(vlci_lexer *x) {
    static const struct {
        const char *text;
        int which;
    } two[] = {{"//", 'q'}, {"**", 'p'}, {"==", 'e'}, {"!=", '!'}, {"<=", 'l'}, {">=", 'g'}};
    vlci_lexeme found = lexeme(x, VLCI_LEX_OPERATOR);
    for (size_t i = 0; i < sizeof two / sizeof *two; i++)
        if (follows(x, x->at, two[i].text)) {
            found.which = two[i].which;
            go_to(x, x->at + 2);
            return found;
        }
    found.which = x->text[x->at];
    if (!found.which || !strchr("+-/*%~[](){}<>=.:|,;", found.which))
        vlci_run_fail(x->run, "a \"%c\" has no meaning here",
                      found.which > 32 && found.which < 127 ? found.which : '?');
    if (strchr("([{)]}", found.which)) balance(x, (char)found.which);
    go_to(x, x->at + 1);
    return found;
}

/* Whether the bracket ends here; it is stepped over. */
static bool close_bracket(vlci_lexer *x, vlci_lexeme *found) {
    bool block = x->where == VLCI_IN_BLOCK;
    const char *plain = block ? "%}" : "}}", *minus = block ? "-%}" : "-}}";
    if (x->n_open) return false;
    *found = lexeme(x, block ? VLCI_LEX_BLOCK_END : VLCI_LEX_PRINT_END);
    if (follows(x, x->at, minus))
        end_bracket(x, x->at + 3, true, false);
    else if (block && follows(x, x->at, "+%}"))
        end_bracket(x, x->at + 3, false, false);
    else if (follows(x, x->at, plain))
        end_bracket(x, x->at + 2, false, block);
    else
        return false;
    return true;
}

vlci_lexeme vlci_lex_next(vlci_lexer *x) {
    vlci_run_charge(x->run, 0);
    if (x->where == VLCI_IN_DATA) return next_data(x);
    go_to(x, skip_spaces(x, x->at));
    vlci_lexeme found;
    stand(x);
    if (x->at >= x->n) vlci_run_fail(x->run, "the template ends inside of brackets");
    if (close_bracket(x, &found)) return found;
    found = lexeme(x, VLCI_LEX_NAME);
    char c = x->text[x->at];
    if (c == '"' || c == '\'') return string(x);
    if (digit(c)) return number(x);
    if (!name_letter(c)) return operator(x);
    size_t end = x->at;
    while (end < x->n && name_letter(x->text[end])) end++;
    found.text = x->text + x->at;
    found.bytes = end - x->at;
    go_to(x, end);
    return found;
}
