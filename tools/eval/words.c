/*
 * words.c - Penn Treebank words, one pass over the code points of a normalised text.
 */
#include "eval/words.h"

#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "eval/letters.h"

/* The words being made; `room` bytes of text were reserved. */
typedef struct maker {
    words *out;
    size_t used;
    bool open;
} maker;

static bool is_word(int32_t c) {
    if (c >= 0x2018 && c <= 0x201f) return false; /* typographic quotation marks */
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c >= 0x80 && c != 0x2026);
}

static bool is_digit(int32_t c) {
    return c >= '0' && c <= '9';
}

static void put(maker *m, int32_t c) {
    if (!m->open) m->out->start[m->out->n++] = m->used;
    m->open = true;
    m->used += (size_t)utf8proc_encode_char(c, (utf8proc_uint8_t *)m->out->text + m->used);
}

static void end_word(maker *m) {
    if (m->open) m->out->text[m->used++] = 0;
    m->open = false;
}

static void put_word(maker *m, const char *word) {
    end_word(m);
    for (; *word; word++) put(m, *word);
    end_word(m);
}

/* ---- joined words -------------------------------------------------------------------------------------- */

/* What stands at `at`, where the text has exactly `part` and then no further letter. */
static bool stands(const letters *l, size_t at, const char *part) {
    size_t n = strlen(part);
    if (at + n > l->n) return false;
    for (size_t i = 0; i < n; i++)
        if (l->at[at + i] != part[i]) return false;
    return at + n == l->n || !is_word(l->at[at + n]);
}

/* Length of the clitic that begins at `at`, inside a word; 0: none. */
static size_t clitic_at(const letters *l, size_t at) {
    static const char *const clitics[] = {"n't", "'s", "'re", "'ve", "'ll", "'d", "'m"};
    for (size_t i = 0; i < sizeof clitics / sizeof *clitics; i++)
        if (stands(l, at, clitics[i])) return strlen(clitics[i]);
    return 0;
}

/* Length of the first half of a word of two that begins at `at`; 0: it is none. */
static size_t half_at(const letters *l, size_t at) {
    static const struct {
        const char *whole;
        size_t first;
    } pairs[] = {{"cannot", 3}, {"gonna", 3}, {"gotta", 3}, {"wanna", 3}, {"gimme", 3}, {"lemme", 3}};
    for (size_t i = 0; i < sizeof pairs / sizeof *pairs; i++)
        if (stands(l, at, pairs[i].whole)) return pairs[i].first;
    return 0;
}

/* Whether the sign at `at` belongs to the word that it stands in. */
static bool joins(const letters *l, size_t at) {
    if (at == 0 || at + 1 >= l->n) return false;
    int32_t before = l->at[at - 1], after = l->at[at + 1];
    if (!is_word(before) || !is_word(after)) return false;
    switch (l->at[at]) {
    case '-':
    case '\'':
    case '/':
    case '_':
        return true;
    case '.':
        return is_digit(before) == is_digit(after);
    case ',':
        return is_digit(before) && is_digit(after);
    }
    return false;
}

static const char *bracket_name(int32_t c) {
    return c == '(' ? "-lrb-" : c == ')' ? "-rrb-" : c == '{' ? "-lcb-" : c == '}' ? "-rcb-" : NULL;
}

/* A sign that belongs to no word. */
static void take_sign(maker *m, int32_t c) {
    end_word(m);
    if (bracket_name(c)) {
        put_word(m, bracket_name(c));
    } else if (c > ' ' && c < 0x80 && !strchr("'`\".?!,:-;", (int)c)) {
        put(m, c);
        end_word(m);
    }
}

static void split(maker *m, const letters *l) {
    size_t halt = 0; /* a word that began earlier ends before this letter */
    for (size_t i = 0; i < l->n; i++) {
        size_t clitic = m->open ? clitic_at(l, i) : 0, half = m->open ? 0 : half_at(l, i);
        if (half) halt = i + half;
        if (halt && i == halt) end_word(m);
        if (clitic) {
            end_word(m);
            for (size_t end = i + clitic; i < end; i++) put(m, l->at[i]);
            end_word(m);
            i--;
        } else if (is_word(l->at[i]) || joins(l, i)) {
            put(m, l->at[i]);
        } else {
            take_sign(m, l->at[i]);
        }
    }
    end_word(m);
}

bool words_of(const char *text, words *out) {
    letters l;
    *out = (words){NULL, NULL, 0};
    bool good = letters_of(text, &l);
    if (good) { /* a bracket grows to five bytes and each word takes a zero byte */
        out->text = malloc(6 * l.n + 1);
        out->start = malloc((l.n + 1) * sizeof *out->start);
        good = out->text && out->start;
    }
    maker m = {out, 0, false};
    for (size_t i = 0; i < l.n && good; i++)
        if (l.at[i] == 0x2019) l.at[i] = '\''; /* the typographic apostrophe */
    if (good) split(&m, &l);
    letters_release(&l);
    return good;
}

void words_release(words *w) {
    free(w->text);
    free(w->start);
    *w = (words){NULL, NULL, 0};
}
