/**
 * template_value.h (internal) - what a template works with: data as Python has them, and texts whose every
 * byte knows whose it is.
 *
 * All live in the arena of one rendering. Functions that can fail leave by its way out (arena.h).
 */
#ifndef VLCI_TOKENS_TEMPLATE_VALUE_H
#define VLCI_TOKENS_TEMPLATE_VALUE_H

#include <stdbool.h>
#include <stdint.h>

#include "tokens/arena.h"

/** Whose a byte is; of several that an operation mixes, the highest counts. */
typedef enum vlci_origin {
    VLCI_ORIGIN_TEMPLATE, /**< the template's, or a mark that stands for a picture: may control */
    VLCI_ORIGIN_WORDS,    /**< the user's, the system's, an earlier answer's: words */
    VLCI_ORIGIN_ANSWER,   /**< of the last answer: words, too */
} vlci_origin;

/** Valid UTF-8, never changed. */
typedef struct vlci_words {
    const char *data;
    const uint8_t *origin; /**< [n] of vlci_origin; NULL: all the template's */
    size_t n;
    bool safe; /**< Markup: what is joined to it by + is escaped for HTML, as jinja2 does */
} vlci_words;

typedef enum vlci_datum_kind {
    VLCI_MISSING, /**< an argument that was not given */
    VLCI_UNDEFINED,
    VLCI_NONE,
    VLCI_BOOL,
    VLCI_INT,
    VLCI_FLOAT,
    VLCI_WORDS,
    VLCI_LIST,
    VLCI_DICT,
    VLCI_SPACE, /**< namespace(): a dict whose attributes can be set */
    VLCI_MACRO,
    VLCI_FUNCTION, /**< of the template language: `which` of template_call.c */
    VLCI_METHOD,   /**< of a text or a dict */
    VLCI_LOOP,
} vlci_datum_kind;

typedef struct vlci_list vlci_list;
typedef struct vlci_dict vlci_dict;
typedef struct vlci_macro vlci_macro;   /* template_run.h */
typedef struct vlci_loop vlci_loop;     /* template_run.h */
typedef struct vlci_method vlci_method; /* template_call.h */

typedef struct vlci_datum {
    vlci_datum_kind kind;
    int which; /**< VLCI_FUNCTION */
    union {
        bool truth;
        int64_t whole;
        double real;
        const vlci_words *words; /**< also an undefined one's name; NULL: none */
        vlci_list *list;
        vlci_dict *dict; /**< also a namespace's */
        vlci_macro *macro;
        vlci_method *method;
        vlci_loop *loop;
    };
} vlci_datum;

/** What of Python's a list stands for. */
typedef enum vlci_list_kind {
    VLCI_PLAIN_LIST,
    VLCI_TUPLE,
    VLCI_KEYS, /**< of a dict, as the next two */
    VLCI_VALUES,
    VLCI_PAIRS,
    VLCI_GENERATOR
} vlci_list_kind;

struct vlci_list {
    vlci_list_kind kind;
    bool spent; /**< a generator that was gone through once: it is empty */
    vlci_datum *at;
    size_t n, room;
};

typedef struct vlci_entry {
    vlci_datum key, value;
} vlci_entry;

/** In the order in which keys came. */
struct vlci_dict {
    vlci_entry *at;
    size_t n, room;
};

/** Bounds of a rendering. */
enum {
    VLCI_MOST_STEPS = 1 << 24,
    VLCI_MOST_DEPTH = 500,    /**< within some 300 KiB of stack */
    VLCI_MOST_RANGE = 100000, /**< as jinja2's sandbox has it */
    VLCI_MOST_OUTPUT = 64 << 20,
    VLCI_MOST_MEMORY = 512 << 20,
};

/** Where a rendering stands. */
typedef struct vlci_run {
    vlci_arena arena;
    const char *file; /**< for messages */
    int line, column; /**< of what is being evaluated */
    int64_t steps;
    int depth;
    int64_t now; /**< seconds since 1970 that strftime_now() tells; -1: the clock's */
} vlci_run;

/** Leaves with VLCACHE_E_FORMAT "file: line:column: ...". */
_Noreturn void vlci_run_fail(vlci_run *run, const char *format, ...) __attribute__((format(printf, 2, 3)));

/** Counts steps: one, and one for each 16 of `n` bytes or 4 things. Leaves beyond VLCI_MOST_STEPS. */
void vlci_run_charge(vlci_run *run, size_t n);

/** One level deeper, and back. Leaves beyond VLCI_MOST_DEPTH. */
void vlci_run_down(vlci_run *run);
static inline void vlci_run_up(vlci_run *run) {
    run->depth--;
}

/* ---- making them --------------------------------------------------------------------------------------- */

static inline vlci_datum vlci_none(void) {
    return (vlci_datum){.kind = VLCI_NONE};
}
static inline vlci_datum vlci_bool(bool truth) {
    return (vlci_datum){.kind = VLCI_BOOL, .truth = truth};
}
static inline vlci_datum vlci_int(int64_t whole) {
    return (vlci_datum){.kind = VLCI_INT, .whole = whole};
}
static inline vlci_datum vlci_float(double real) {
    return (vlci_datum){.kind = VLCI_FLOAT, .real = real};
}
static inline vlci_datum vlci_text_datum(const vlci_words *words) {
    return (vlci_datum){.kind = VLCI_WORDS, .words = words};
}
static inline vlci_datum vlci_undefined(const vlci_words *name) {
    return (vlci_datum){.kind = VLCI_UNDEFINED, .words = name};
}

/** A text of the template's; `data` is borrowed. */
const vlci_words *vlci_words_of(vlci_run *run, const char *data, size_t n);
vlci_datum vlci_text_of(vlci_run *run, const char *text);

/** Bytes [begin, end) of a text, with their origins. */
const vlci_words *vlci_words_cut(vlci_run *run, const vlci_words *words, size_t begin, size_t end);

vlci_list *vlci_list_new(vlci_run *run, vlci_list_kind kind);
void vlci_list_add(vlci_run *run, vlci_list *list, vlci_datum value);
vlci_datum vlci_list_datum(vlci_list *list);

vlci_dict *vlci_dict_new(vlci_run *run);
void vlci_dict_set(vlci_run *run, vlci_dict *dict, vlci_datum key, vlci_datum value);
/** NULL: no such key. */
const vlci_datum *vlci_dict_get(vlci_run *run, const vlci_dict *dict, vlci_datum key);
const vlci_datum *vlci_dict_find(const vlci_dict *dict, const char *key, size_t n);

/* ---- writing texts ------------------------------------------------------------------------------------- */

/** A text that grows; zeroed is empty. */
typedef struct vlci_writing {
    char *data;
    uint8_t *origin;
    size_t n, room;
} vlci_writing;

void vlci_put(vlci_run *run, vlci_writing *to, const char *data, size_t n, vlci_origin origin);
void vlci_put_words(vlci_run *run, vlci_writing *to, const vlci_words *words);
void vlci_put_char(vlci_run *run, vlci_writing *to, uint32_t code, vlci_origin origin);
/** A value as str() gives it. */
void vlci_put_datum(vlci_run *run, vlci_writing *to, vlci_datum value);
/** A value as repr() gives it; a text's whole repr is whose any of its bytes was. */
void vlci_put_repr(vlci_run *run, vlci_writing *to, vlci_datum value);
/** What was written; the writing begins anew. */
const vlci_words *vlci_written(vlci_run *run, vlci_writing *from);

/** The highest origin of a text's bytes, or of all texts in a value. */
vlci_origin vlci_words_origin(const vlci_words *words);
vlci_origin vlci_datum_origin(vlci_run *run, vlci_datum value);

/* ---- asking -------------------------------------------------------------------------------------------- */

/** "string", "list", ...: for messages. */
const char *vlci_kind_name(vlci_datum value);

bool vlci_truth(vlci_datum value);
bool vlci_equal(vlci_run *run, vlci_datum a, vlci_datum b);
/** < 0, 0, > 0. Leaves where Python has no order. */
int vlci_order(vlci_run *run, vlci_datum a, vlci_datum b);
bool vlci_is_number(vlci_datum value); /**< bool, int or float */
double vlci_real(vlci_datum value);    /**< of a number */
bool vlci_words_are(const vlci_words *words, const char *text);

/** str() of a value: itself where it is a text. */
const vlci_words *vlci_words_from(vlci_run *run, vlci_datum value);

/** What a for loop goes through: a list's own items, characters, keys. Leaves where there is nothing to go
 * through. */
vlci_list *vlci_items(vlci_run *run, vlci_datum value);

/** Whether Python's `item in holder`. */
bool vlci_contains(vlci_run *run, vlci_datum holder, vlci_datum item);

/** Characters of a text; where character `at` begins (n bytes where there are fewer). */
size_t vlci_words_length(const vlci_words *words);
size_t vlci_words_offset(const vlci_words *words, size_t at);

/** First place of `part` at or behind `from`; false: none. */
bool vlci_words_find(vlci_run *run, const vlci_words *words, size_t from, const vlci_words *part, size_t *at);

/** Python's str.isspace() of a character. */
bool vlci_space(uint32_t code);
/** Bytes of white space at the head or the end of a text. */
size_t vlci_space_head(const char *data, size_t n);
size_t vlci_space_tail(const char *data, size_t n);

#endif
