/**
 * template.h - a small interpreter of Jinja, the language of chat templates: expressions, filters, tests,
 * for, if, set, macro, call, filter, with, raw, namespace(), loop controls, generation; white space as
 * transformers sets jinja2 up (trim_blocks, lstrip_blocks).
 *
 * Templates are not trusted: a rendering is bounded in steps, depth, output and memory (template_value.h),
 * and reaches nothing but what it is given.
 */
#ifndef VLCI_TOKENS_TEMPLATE_H
#define VLCI_TOKENS_TEMPLATE_H

#include <jansson.h>

#include "core/status.h"

/** Parsed; immutable, shareable between threads. */
typedef struct vlci_template vlci_template;

/** Parses a text; `file` is for messages and copied. Errors: VLCACHE_E_FORMAT ("file: line:column: why"),
 * VLCACHE_E_NO_MEMORY. */
vlcache_status vlci_template_create(const char *file, const char *text, size_t bytes, vlci_template **out);

void vlci_template_destroy(vlci_template **tpl);

/** What of a message a piece is. */
typedef enum vlci_piece_kind {
    VLCI_PIECE_TEXT,  /**< words: control tokens in them stay words */
    VLCI_PIECE_MARK,  /**< the text that stands for a picture, among words */
    VLCI_PIECE_IMAGE, /**< an item {"type": "image"}, in a message with items */
    VLCI_PIECE_VIDEO, /**< an item {"type": "video"} */
} vlci_piece_kind;

typedef struct vlci_piece {
    vlci_piece_kind kind;
    const char *text; /**< of TEXT and MARK; borrowed */
    size_t bytes;
    bool answer; /**< of TEXT: the last answer */
} vlci_piece;

/** A message: its content is one text, or a list of items where `items` says so. */
typedef struct vlci_message {
    const char *role;
    const vlci_piece *pieces;
    size_t n_pieces;
    bool items;
} vlci_message;

/** What a template is rendered with. */
typedef struct vlci_rendering {
    const vlci_message *messages; /**< [n_messages]: the variable "messages"; NULL: it is in `variables` */
    size_t n_messages;
    bool prompt;             /**< the variable "add_generation_prompt" */
    const json_t *variables; /**< an object: bos_token, ...; NULL: none. Its texts count as the template's */
    int64_t now;             /**< seconds since 1970, for strftime_now(); -1: the clock's */
} vlci_rendering;

/** Whose a byte of the output is. */
enum { VLCI_BYTE_TEMPLATE, VLCI_BYTE_WORDS, VLCI_BYTE_ANSWER };

/** A text and whose each of its bytes is. Release with vlci_rendered_release(). */
typedef struct vlci_rendered {
    char *text;           /**< [bytes], ended by a zero that is not counted */
    unsigned char *whose; /**< [bytes] */
    size_t bytes;
} vlci_rendered;

/**
 * Renders. Words that a template cuts, joins, strips or replaces stay words; where it mixes them otherwise
 * (upper, tojson) the whole counts as words. Errors: VLCACHE_E_ARGUMENT (raise_exception(): its text),
 * VLCACHE_E_FORMAT ("file: line:column: why"), VLCACHE_E_NO_MEMORY; `*out` is then zeroed.
 */
vlcache_status vlci_template_render(const vlci_template *tpl, const vlci_rendering *with, vlci_rendered *out);

/** Puts `by[i]` in the place of the last n marks that the template wrote (of fewer, the last of them), as
 * the template's; `*found` (may be NULL) is how many marks it wrote. Errors: VLCACHE_E_NO_MEMORY, nothing has
 * changed then. */
vlcache_status vlci_rendered_replace(vlci_rendered *rendered, const char *mark, char *const *by, size_t n,
                                     size_t *found);

void vlci_rendered_release(vlci_rendered *rendered);

#endif
