/**
 * template_run.h (internal) - the parts of the interpreter, a file each, and what they call of one another:
 * they go round in circles, as a macro called by a filter's argument does.
 */
#ifndef VLCI_TOKENS_TEMPLATE_RUN_H
#define VLCI_TOKENS_TEMPLATE_RUN_H

#include "tokens/template_tree.h"

/** A name and what it stands for. */
typedef struct vlci_variable {
    const char *name;
    size_t bytes;
    vlci_datum value;
} vlci_variable;

/** Names that are set in a template, a loop's round, a macro. */
typedef struct vlci_scope_of_names vlci_names;
struct vlci_scope_of_names {
    vlci_names *up;
    vlci_variable *at;
    size_t n, room;
    bool kept; /**< a macro that was made in it refers to it */
};

struct vlci_macro {
    const vlci_node *node; /**< MACRO or CALL_BLOCK */
    vlci_names *names;     /**< where it was made */
};

struct vlci_loop {
    vlci_list *items;
    size_t at;             /**< index of the item at hand */
    int depth;             /**< 0: the outermost */
    vlci_datum changed;    /**< what loop.changed() heard last */
    const vlci_node *node; /**< of a recursive loop */
    vlci_names *names;
};

/** What a macro, a function, a method, a filter or a test is called with. */
typedef struct vlci_call {
    vlci_datum subject; /**< of a filter or test; of a method: what it belongs to */
    vlci_datum *at;     /**< [n]: by place */
    size_t n, room;
    vlci_variable *named; /**< [n_named] */
    size_t n_named, room_named;
    vlci_datum caller; /**< of {% call %}; MISSING: none */
} vlci_call;

/** Puts arguments in the places of `names` ("a b c"), MISSING where none was given. `what` is for messages.
 * Leaves where there are too many, where one is unknown, or fewer than `least`. */
void vlci_call_bind(vlci_run *run, const vlci_call *call, const char *what, const char *names, size_t least,
                    vlci_datum *values);

/** Runs a template's statements with the variables of `globals`, whose output is appended to `out`. */
void vlci_run_statements(vlci_run *run, const vlci_node *first, vlci_names *globals, vlci_writing *out);

/** Calls a value. Leaves where it cannot be called. */
vlci_datum vlci_run_call(vlci_run *run, vlci_datum callee, const vlci_call *call);

/** value.name and value[key], as jinja2's sandbox gives them: undefined where there is none. */
vlci_datum vlci_run_attribute(vlci_run *run, vlci_datum value, const vlci_words *name);
vlci_datum vlci_run_item(vlci_run *run, vlci_datum value, vlci_datum key);

/** Binary operators, named as VLCI_NODE_MATH names them. */
vlci_datum vlci_run_math(vlci_run *run, int which, vlci_datum a, vlci_datum b);

/** Sets a variable of this scope. */
void vlci_names_set(vlci_run *run, vlci_names *names, const char *name, size_t bytes, vlci_datum value);

/** Of this scope or one above it; NULL: none. */
const vlci_datum *vlci_names_get(vlci_run *run, const vlci_names *names, const char *name, size_t bytes);

/* ---- template_eval.c -------------------------------------------------------------------------------- */

vlci_datum vlci_eval(vlci_run *run, const vlci_node *node, vlci_names *names);

/** A call with a caller, as {% call %} makes it. */
vlci_datum vlci_eval_call(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum caller);

/** FILTER nodes whose innermost has no subject, applied to a value. */
vlci_datum vlci_eval_filters(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum value);

/** Whether a name is read anywhere in a macro: then it takes what the name stands for. */
bool vlci_tree_speaks_of(const vlci_node *node, const char *name);

/* ---- template_statement.c
 * -------------------------------------------------------------------------------------
 */

vlci_datum vlci_macro_call(vlci_run *run, const vlci_macro *macro, const vlci_call *call);
vlci_datum vlci_loop_call(vlci_run *run, const vlci_loop *loop, const vlci_call *call);

/* ---- template_filter.c, template_test.c ------------------------------------------------------------- */

/** Index of a filter or a test; -1: there is none. */
int vlci_filter_find(const char *name, size_t bytes);
int vlci_test_find(const char *name, size_t bytes);

/** What it gives for call->subject. Leaves where the arguments or the value do not fit. */
vlci_datum vlci_filter_run(vlci_run *run, int which, const vlci_call *call);
bool vlci_test_run(vlci_run *run, int which, const vlci_call *call);

/* ---- template_call.c -------------------------------------------------------------------------------- */

struct vlci_method {
    vlci_datum of;
    int which;
};

/** Sets range, dict, namespace, raise_exception and strftime_now. */
void vlci_functions_set(vlci_run *run, vlci_names *globals);

/** Calls one of them. */
vlci_datum vlci_function_run(vlci_run *run, int which, const vlci_call *call);

/** The method `name` of a text, a dict, or a list, undefined where it has none. Methods that change a value
 * are none, as in jinja2's immutable sandbox. */
vlci_datum vlci_method_find(vlci_run *run, vlci_datum of, const vlci_words *name);
vlci_datum vlci_method_run(vlci_run *run, const vlci_method *method, const vlci_call *call);

/* ---- template_text.c: of texts, for methods and filters alike ------------------------------------------ */

/** Without white space, or without the characters of `characters` (NULL: white space), at its sides. */
const vlci_words *vlci_words_strip(vlci_run *run, const vlci_words *words, const vlci_words *characters,
                                   bool left, bool right);

/** With every `from` replaced by `to`, at most `most` of them (< 0: all). */
const vlci_words *vlci_words_replace(vlci_run *run, const vlci_words *words, const vlci_words *from,
                                     const vlci_words *to, int64_t most);

typedef enum vlci_letters {
    VLCI_UPPER,
    VLCI_LOWER,
    VLCI_CAPITALIZE,
    VLCI_TITLE,
    VLCI_SWAP,
    VLCI_WORD_TITLE
} vlci_letters;

/** With other letters: the whole is whose any byte was. */
const vlci_words *vlci_words_letters(vlci_run *run, const vlci_words *words, vlci_letters letters);

/** HTML-escaped, and safe. */
const vlci_words *vlci_words_escape(vlci_run *run, const vlci_words *words);

/** Python's "..." % arguments and "...".format(...). */
const vlci_words *vlci_words_percent(vlci_run *run, const vlci_words *format, vlci_datum arguments);
const vlci_words *vlci_words_format(vlci_run *run, const vlci_words *format, const vlci_call *call);

/** A method of a text by its index; -1: none. */
int vlci_text_method_find(const vlci_words *name);
vlci_datum vlci_text_method_run(vlci_run *run, int which, const vlci_words *words, const vlci_call *call);

/* ---- template_json.c ----------------------------------------------------------------------------------- */

/** json.dumps() with ensure_ascii, indent (MISSING or NONE: none), separators, sort_keys. */
const vlci_words *vlci_words_json(vlci_run *run, const vlci_call *call);

#endif
