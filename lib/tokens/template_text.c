/*
 * template_text.c - what Python does with texts, for methods and filters. Cutting, joining and replacing keep
 * whose each byte is; what changes letters counts as a whole.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <utf8proc.h>

#include "tokens/strings.h"
#include "tokens/template_run.h"

/* ---- stripping, replacing, letters --------------------------------------------------------------------- */

/* Whether a character of n bytes is one of a set. */
static bool is_one_of(const vlci_words *set, const char *character, size_t n) {
    return memmem(set->data, set->n, character, n) != NULL;
}

const vlci_words *vlci_words_strip(vlci_run *run, const vlci_words *words, const vlci_words *characters,
                                   bool left, bool right) {
    size_t begin = 0, end = words->n;
    vlci_run_charge(run, words->n);
    if (!characters) {
        if (left) begin = vlci_space_head(words->data, end);
        if (right) end -= vlci_space_tail(words->data + begin, end - begin);
        return vlci_words_cut(run, words, begin, end);
    }
    while (left && begin < end) {
        uint32_t code;
        size_t n = (size_t)vlci_utf8_char(words->data + begin, end - begin, &code);
        vlci_run_charge(run, characters->n);
        if (!is_one_of(characters, words->data + begin, n)) break;
        begin += n;
    }
    while (right && end > begin) {
        size_t at = end - 1;
        while (at > begin && (words->data[at] & 0xc0) == 0x80) at--;
        vlci_run_charge(run, characters->n);
        if (!is_one_of(characters, words->data + at, end - at)) break;
        end = at;
    }
    return vlci_words_cut(run, words, begin, end);
}

static const vlci_words *with_safety(const vlci_words *words, bool safe) {
    ((vlci_words *)words)->safe = safe;
    return words;
}

/* Between all characters where `from` is empty. */
const vlci_words *vlci_words_replace(vlci_run *run, const vlci_words *words, const vlci_words *from,
                                     const vlci_words *to, int64_t most) {
    vlci_writing text = {0};
    size_t done = 0, at = 0;
    for (int64_t n = 0; (most < 0 || n < most) && vlci_words_find(run, words, at, from, &at); n++) {
        vlci_put_words(run, &text, vlci_words_cut(run, words, done, at));
        vlci_put_words(run, &text, to);
        done = at + from->n;
        at = done;
        if (from->n) continue;
        if (at == words->n) break;
        at += vlci_words_offset(vlci_words_cut(run, words, at, words->n), 1);
    }
    vlci_put_words(run, &text, vlci_words_cut(run, words, done, words->n));
    return with_safety(vlci_written(run, &text), words->safe);
}

static bool is_letter(uint32_t code) {
    utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
    return c == UTF8PROC_CATEGORY_LU || c == UTF8PROC_CATEGORY_LL || c == UTF8PROC_CATEGORY_LT;
}

static uint32_t upper(uint32_t code, vlci_run *run, vlci_writing *to, vlci_origin origin) {
    if (code != 0xdf) return (uint32_t)utf8proc_toupper((utf8proc_int32_t)code);
    vlci_put(run, to, "S", 1, origin); /* the one that becomes two in everyday texts */
    return 'S';
}

const vlci_words *vlci_words_letters(vlci_run *run, const vlci_words *words, vlci_letters letters) {
    vlci_writing text = {0};
    vlci_origin origin = vlci_words_origin(words);
    bool inside = false;
    for (size_t i = 0; i < words->n;) {
        uint32_t code, lower;
        i += (size_t)vlci_utf8_char(words->data + i, words->n - i, &code);
        lower = (uint32_t)utf8proc_tolower((utf8proc_int32_t)code);
        bool first = letters == VLCI_CAPITALIZE ? text.n == 0 : !inside;
        bool up = letters == VLCI_UPPER || (letters >= VLCI_CAPITALIZE && first && letters != VLCI_SWAP) ||
                  (letters == VLCI_SWAP && lower == code);
        inside = letters == VLCI_WORD_TITLE
                     ? !(code && code < 128 && strchr("-({[<", (int)code)) && !vlci_space(code)
                     : is_letter(code);
        vlci_put_char(run, &text, up ? upper(code, run, &text, origin) : lower, origin);
    }
    return with_safety(vlci_written(run, &text), words->safe);
}

const vlci_words *vlci_words_escape(vlci_run *run, const vlci_words *words) {
    static const char from[] = "&<>'\"";
    static const char *const to[] = {"&amp;", "&lt;", "&gt;", "&#39;", "&#34;"};
    vlci_writing text = {0};
    if (words->safe) return words;
    for (size_t i = 0; i < words->n; i++) {
        const char *at = words->data[i] ? strchr(from, words->data[i]) : NULL;
        if (at)
            vlci_put(run, &text, to[at - from], strlen(to[at - from]), words->origin ? words->origin[i] : 0);
        else
            vlci_put_words(run, &text, vlci_words_cut(run, words, i, i + 1));
    }
    return with_safety(vlci_written(run, &text), true);
}

/* ---- methods: parts ------------------------------------------------------------------------------------ */

typedef struct method_call {
    vlci_run *run;
    const char *name;
    const vlci_words *of;
    const vlci_call *call;
} method_call;

/* An argument that must be a text; NULL where it may lack and does. */
static const vlci_words *text_argument(const method_call *m, vlci_datum value) {
    if (value.kind == VLCI_MISSING || value.kind == VLCI_NONE) return NULL;
    if (value.kind != VLCI_WORDS)
        vlci_run_fail(m->run, "%s: takes a string, not a %s", m->name, vlci_kind_name(value));
    return value.words;
}

static int64_t whole_argument(const method_call *m, vlci_datum value, int64_t otherwise) {
    if (value.kind == VLCI_MISSING) return otherwise;
    if (value.kind != VLCI_INT && value.kind != VLCI_BOOL)
        vlci_run_fail(m->run, "%s: takes a whole number, not a %s", m->name, vlci_kind_name(value));
    return value.kind == VLCI_INT ? value.whole : value.truth;
}

static vlci_datum strip_sides(const method_call *m, bool left, bool right) {
    vlci_datum v[1];
    vlci_call_bind(m->run, m->call, m->name, "chars", 0, v);
    return vlci_text_datum(vlci_words_strip(m->run, m->of, text_argument(m, v[0]), left, right));
}

static vlci_datum strip(const method_call *m) {
    return strip_sides(m, true, true);
}
static vlci_datum lstrip(const method_call *m) {
    return strip_sides(m, true, false);
}
static vlci_datum rstrip(const method_call *m) {
    return strip_sides(m, false, true);
}

static void add_cut(const method_call *m, vlci_list *list, size_t begin, size_t end) {
    vlci_list_add(m->run, list, vlci_text_datum(vlci_words_cut(m->run, m->of, begin, end)));
}

static void split_by_space(const method_call *m, vlci_list *list, int64_t most) {
    const vlci_words *w = m->of;
    size_t at = vlci_space_head(w->data, w->n);
    for (; at < w->n; most--) {
        size_t end = at;
        if (most == 0) {
            add_cut(m, list, at, w->n);
            return;
        }
        while (end < w->n && !vlci_space_head(w->data + end, w->n - end)) end++;
        add_cut(m, list, at, end);
        at = end + vlci_space_head(w->data + end, w->n - end);
    }
}

static vlci_datum split(const method_call *m) {
    vlci_datum v[2];
    size_t begin = 0, at;
    vlci_call_bind(m->run, m->call, m->name, "sep maxsplit", 0, v);
    const vlci_words *by = text_argument(m, v[0]);
    int64_t most = whole_argument(m, v[1], -1);
    vlci_list *list = vlci_list_new(m->run, VLCI_PLAIN_LIST);
    if (by && !by->n) vlci_run_fail(m->run, "%s: the separator is empty", m->name);
    if (!by) {
        split_by_space(m, list, most);
        return vlci_list_datum(list);
    }
    for (; most && vlci_words_find(m->run, m->of, begin, by, &at); begin = at + by->n, most--)
        add_cut(m, list, begin, at);
    add_cut(m, list, begin, m->of->n);
    return vlci_list_datum(list);
}

/* The last place of `part` that ends at or before `end`. */
static bool find_last(const method_call *m, const vlci_words *part, size_t end, size_t *at) {
    vlci_run_charge(m->run, end);
    for (size_t i = end >= part->n ? end - part->n + 1 : 0; i-- > 0;)
        if (memcmp(m->of->data + i, part->data, part->n) == 0) return *at = i, true;
    return false;
}

static vlci_datum rsplit(const method_call *m) {
    vlci_datum v[2];
    size_t end = m->of->n, at;
    vlci_call_bind(m->run, m->call, m->name, "sep maxsplit", 0, v);
    const vlci_words *by = text_argument(m, v[0]);
    int64_t most = whole_argument(m, v[1], -1);
    if (!by && most < 0) return split(m);
    if (!by || !by->n) vlci_run_fail(m->run, "%s: needs a separator", m->name);
    vlci_list *list = vlci_list_new(m->run, VLCI_PLAIN_LIST),
              *turned = vlci_list_new(m->run, VLCI_PLAIN_LIST);
    for (; most && find_last(m, by, end, &at); end = at, most--) add_cut(m, list, at + by->n, end);
    add_cut(m, list, 0, end);
    for (size_t i = list->n; i-- > 0;) vlci_list_add(m->run, turned, list->at[i]);
    return vlci_list_datum(turned);
}

static bool ends_line(uint32_t code) {
    return (code >= 10 && code <= 13) || (code >= 28 && code <= 30) || code == 0x85 || code == 0x2028 ||
           code == 0x2029;
}

static vlci_datum splitlines(const method_call *m) {
    vlci_datum v[1];
    vlci_list *list = vlci_list_new(m->run, VLCI_PLAIN_LIST);
    const char *d = m->of->data;
    size_t n = m->of->n, begin = 0;
    vlci_call_bind(m->run, m->call, m->name, "keepends", 0, v);
    vlci_run_charge(m->run, n);
    for (size_t i = 0, step; i < n; i += step) {
        uint32_t code;
        step = (size_t)vlci_utf8_char(d + i, n - i, &code);
        if (!ends_line(code)) continue;
        if (code == '\r' && i + 1 < n && d[i + 1] == '\n') step = 2;
        add_cut(m, list, begin, vlci_truth(v[0]) ? i + step : i);
        begin = i + step;
    }
    if (begin < n) add_cut(m, list, begin, n);
    return vlci_list_datum(list);
}

static vlci_datum parted(const method_call *m, bool last) {
    vlci_datum v[1];
    size_t at = 0;
    vlci_call_bind(m->run, m->call, m->name, "sep", 1, v);
    const vlci_words *by = text_argument(m, v[0]);
    if (!by || !by->n) vlci_run_fail(m->run, "%s: needs a separator", m->name);
    vlci_list *list = vlci_list_new(m->run, VLCI_TUPLE);
    bool found = last ? find_last(m, by, m->of->n, &at) : vlci_words_find(m->run, m->of, 0, by, &at);
    size_t first = found ? at : last ? 0 : m->of->n, second = found ? at + by->n : first;
    add_cut(m, list, 0, first);
    add_cut(m, list, first, second);
    add_cut(m, list, second, m->of->n);
    return vlci_list_datum(list);
}

static vlci_datum partition(const method_call *m) {
    return parted(m, false);
}
static vlci_datum rpartition(const method_call *m) {
    return parted(m, true);
}

static vlci_datum join(const method_call *m) {
    vlci_datum v[1];
    vlci_writing text = {0};
    vlci_call_bind(m->run, m->call, m->name, "iterable", 1, v);
    vlci_list *items = vlci_items(m->run, v[0]);
    for (size_t i = 0; i < items->n; i++) {
        if (items->at[i].kind != VLCI_WORDS) vlci_run_fail(m->run, "join: an item is no string");
        if (i) vlci_put_words(m->run, &text, m->of);
        vlci_put_words(m->run, &text, items->at[i].words);
    }
    return vlci_text_datum(vlci_written(m->run, &text));
}

static vlci_datum replace(const method_call *m) {
    vlci_datum v[3];
    vlci_call_bind(m->run, m->call, m->name, "old new count", 2, v);
    const vlci_words *from = text_argument(m, v[0]), *to = text_argument(m, v[1]);
    if (!from || !to) vlci_run_fail(m->run, "replace: takes strings");
    if (m->of->safe) to = vlci_words_escape(m->run, to);
    return vlci_text_datum(vlci_words_replace(m->run, m->of, from, to, whole_argument(m, v[2], -1)));
}

/* ---- methods: asking ----------------------------------------------------------------------------------- */

static bool has_at(const method_call *m, const vlci_words *part, bool end) {
    const vlci_words *w = m->of;
    if (part->n > w->n) return false;
    return memcmp(end ? w->data + w->n - part->n : w->data, part->data, part->n) == 0;
}

static vlci_datum has_side(const method_call *m, bool end) {
    vlci_datum v[1];
    vlci_call_bind(m->run, m->call, m->name, "prefix", 1, v);
    vlci_run_charge(m->run, 0);
    bool tuple = v[0].kind == VLCI_LIST && v[0].list->kind == VLCI_TUPLE;
    for (size_t i = 0; tuple && i < v[0].list->n; i++)
        if (v[0].list->at[i].kind == VLCI_WORDS && has_at(m, v[0].list->at[i].words, end))
            return vlci_bool(true);
    if (tuple) return vlci_bool(false);
    const vlci_words *part = text_argument(m, v[0]);
    if (!part) vlci_run_fail(m->run, "%s: takes a string", m->name);
    return vlci_bool(has_at(m, part, end));
}

static vlci_datum startswith(const method_call *m) {
    return has_side(m, false);
}
static vlci_datum endswith(const method_call *m) {
    return has_side(m, true);
}

static vlci_datum remove_side(const method_call *m, bool end) {
    vlci_datum v[1];
    vlci_call_bind(m->run, m->call, m->name, "prefix", 1, v);
    const vlci_words *part = text_argument(m, v[0]);
    if (!part || !has_at(m, part, end)) return vlci_text_datum(m->of);
    return vlci_text_datum(
        vlci_words_cut(m->run, m->of, end ? 0 : part->n, end ? m->of->n - part->n : m->of->n));
}

static vlci_datum removeprefix(const method_call *m) {
    return remove_side(m, false);
}
static vlci_datum removesuffix(const method_call *m) {
    return remove_side(m, true);
}

/* In characters; -1: not there. */
static int64_t place_of(const method_call *m, bool last) {
    vlci_datum v[1];
    size_t at = 0;
    vlci_call_bind(m->run, m->call, m->name, "sub", 1, v);
    const vlci_words *part = text_argument(m, v[0]);
    if (!part) vlci_run_fail(m->run, "%s: takes a string", m->name);
    bool found = last ? find_last(m, part, m->of->n, &at) : vlci_words_find(m->run, m->of, 0, part, &at);
    return found ? (int64_t)vlci_words_length(vlci_words_cut(m->run, m->of, 0, at)) : -1;
}

static vlci_datum find(const method_call *m) {
    return vlci_int(place_of(m, false));
}
static vlci_datum rfind(const method_call *m) {
    return vlci_int(place_of(m, true));
}

static vlci_datum index_of(const method_call *m) {
    int64_t at = place_of(m, m->name[0] == 'r');
    if (at < 0) vlci_run_fail(m->run, "%s: the string is not there", m->name);
    return vlci_int(at);
}

static vlci_datum count(const method_call *m) {
    vlci_datum v[1];
    size_t at = 0;
    int64_t n = 0;
    vlci_call_bind(m->run, m->call, m->name, "sub", 1, v);
    const vlci_words *part = text_argument(m, v[0]);
    if (!part) vlci_run_fail(m->run, "count: takes a string");
    if (!part->n) return vlci_int((int64_t)vlci_words_length(m->of) + 1);
    for (; vlci_words_find(m->run, m->of, at, part, &at); at += part->n) n++;
    return vlci_int(n);
}

/* Whether there are characters, all of one kind: isalpha, isdigit, isalnum, isspace. */
static vlci_datum all_are(const method_call *m) {
    const vlci_words *w = m->of;
    vlci_run_charge(m->run, w->n);
    for (size_t i = 0; i < w->n;) {
        uint32_t code;
        i += (size_t)vlci_utf8_char(w->data + i, w->n - i, &code);
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
        bool digit = c == UTF8PROC_CATEGORY_ND;
        bool alpha = c >= UTF8PROC_CATEGORY_LU && c <= UTF8PROC_CATEGORY_LO;
        const char *kind = m->name + 2;
        bool is = strcmp(kind, "space") == 0   ? vlci_space(code)
                  : strcmp(kind, "alpha") == 0 ? alpha
                  : strcmp(kind, "alnum") == 0 ? alpha || digit
                                               : digit;
        if (!is) return vlci_bool(false);
    }
    return vlci_bool(w->n > 0);
}

/* isupper, islower: there are letters, none of the other kind. */
static vlci_datum case_is(const method_call *m) {
    const vlci_words *w = m->of;
    bool any = false;
    vlci_run_charge(m->run, w->n);
    for (size_t i = 0; i < w->n;) {
        uint32_t code;
        i += (size_t)vlci_utf8_char(w->data + i, w->n - i, &code);
        utf8proc_category_t c = utf8proc_category((utf8proc_int32_t)code);
        bool upper_case = strcmp(m->name, "isupper") == 0;
        if (c == (upper_case ? UTF8PROC_CATEGORY_LL : UTF8PROC_CATEGORY_LU) || c == UTF8PROC_CATEGORY_LT)
            return vlci_bool(false);
        any |= c == (upper_case ? UTF8PROC_CATEGORY_LU : UTF8PROC_CATEGORY_LL);
    }
    return vlci_bool(any);
}

/* ---- methods: letters, width, format ------------------------------------------------------------------- */

static vlci_datum letters(const method_call *m) {
    static const char *const names[] = {"upper", "lower", "capitalize", "title", "swapcase"};
    int which = 0;
    vlci_call_bind(m->run, m->call, m->name, "", 0, NULL);
    while (strcmp(names[which], m->name)) which++;
    return vlci_text_datum(vlci_words_letters(m->run, m->of, (vlci_letters)which));
}

/* center, ljust, rjust, zfill: with blanks (or what is given) around it. */
static vlci_datum justify(const method_call *m) {
    vlci_datum v[2];
    bool zeros = strcmp(m->name, "zfill") == 0, left = strcmp(m->name, "ljust") == 0,
         center = strcmp(m->name, "center") == 0;
    vlci_call_bind(m->run, m->call, m->name, zeros ? "width" : "width fillchar", 1, v);
    int64_t width = whole_argument(m, v[0], 0), gap = width - (int64_t)vlci_words_length(m->of);
    const vlci_words *fill = zeros ? vlci_text_of(m->run, "0").words : text_argument(m, v[1]);
    if (!fill) fill = vlci_text_of(m->run, " ").words;
    if (vlci_words_length(fill) != 1) vlci_run_fail(m->run, "%s: fills with one character", m->name);
    size_t sign = zeros && m->of->n && strchr("+-", m->of->data[0]) && m->of->data[0];
    if (gap <= 0) return vlci_text_datum(m->of);
    int64_t before = left ? 0 : center ? gap / 2 + (gap & width & 1) : gap;
    vlci_writing text = {0};
    vlci_put_words(m->run, &text, vlci_words_cut(m->run, m->of, 0, sign));
    for (int64_t i = 0; i < before; i++) vlci_put_words(m->run, &text, fill);
    vlci_put_words(m->run, &text, vlci_words_cut(m->run, m->of, sign, m->of->n));
    for (int64_t i = before; i < gap; i++) vlci_put_words(m->run, &text, fill);
    return vlci_text_datum(vlci_written(m->run, &text));
}

static vlci_datum format(const method_call *m) {
    return vlci_text_datum(vlci_words_format(m->run, m->of, m->call));
}

static const struct {
    const char *name;
    vlci_datum (*run)(const method_call *m);
} methods[] = {
    {"strip", strip},
    {"lstrip", lstrip},
    {"rstrip", rstrip},
    {"split", split},
    {"rsplit", rsplit},
    {"splitlines", splitlines},
    {"partition", partition},
    {"rpartition", rpartition},
    {"join", join},
    {"replace", replace},
    {"startswith", startswith},
    {"endswith", endswith},
    {"removeprefix", removeprefix},
    {"removesuffix", removesuffix},
    {"find", find},
    {"rfind", rfind},
    {"index", index_of},
    {"rindex", index_of},
    {"count", count},
    {"isalpha", all_are},
    {"isdigit", all_are},
    {"isdecimal", all_are},
    {"isnumeric", all_are},
    {"isalnum", all_are},
    {"isspace", all_are},
    {"isupper", case_is},
    {"islower", case_is},
    {"upper", letters},
    {"lower", letters},
    {"capitalize", letters},
    {"title", letters},
    {"swapcase", letters},
    {"center", justify},
    {"ljust", justify},
    {"rjust", justify},
    {"zfill", justify},
    {"format", format},
};

int vlci_text_method_find(const vlci_words *name) {
    for (size_t i = 0; i < sizeof methods / sizeof *methods; i++)
        if (vlci_words_are(name, methods[i].name)) return (int)i;
    return -1;
}

vlci_datum vlci_text_method_run(vlci_run *run, int which, const vlci_words *words, const vlci_call *call) {
    const method_call m = {run, methods[which].name, words, call};
    return methods[which].run(&m);
}
