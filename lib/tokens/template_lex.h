/**
 * template_lex.h (internal) - the text of a template in tokens, as jinja2's lexer gives them with trim_blocks
 * and lstrip_blocks.
 */
#ifndef VLCI_TOKENS_TEMPLATE_LEX_H
#define VLCI_TOKENS_TEMPLATE_LEX_H

#include "tokens/template_value.h"

typedef enum vlci_lexeme_kind {
    VLCI_LEX_END,
    VLCI_LEX_DATA,      /**< text: as it stands */
    VLCI_LEX_BLOCK,     /**< {% */
    VLCI_LEX_BLOCK_END, /**< %} */
    VLCI_LEX_PRINT,     /**< {{ */
    VLCI_LEX_PRINT_END, /**< }} */
    VLCI_LEX_NAME,      /**< text */
    VLCI_LEX_STRING,    /**< text: what it spells */
    VLCI_LEX_INT,       /**< whole */
    VLCI_LEX_FLOAT,     /**< real */
    VLCI_LEX_OPERATOR,  /**< which: its one letter, or that of VLCI_NODE_MATH and _OPERAND */
} vlci_lexeme_kind;

typedef struct vlci_lexeme {
    vlci_lexeme_kind kind;
    int which, line, column;
    const char *text;
    size_t bytes;
    int64_t whole;
    double real;
} vlci_lexeme;

typedef struct vlci_lexer {
    vlci_run *run;    /**< memory and messages */
    const char *text; /**< valid UTF-8, lines ended by \n only */
    size_t n, at;
    int line;
    size_t line_begin; /**< where it begins */
    enum { VLCI_IN_DATA, VLCI_IN_BLOCK, VLCI_IN_PRINT } where;
    bool line_starts; /**< what was read last ended a line */
    bool strip;       /**< white space goes from the head of the text that follows */
    char open[256];   /**< brackets that are open */
    int n_open;
} vlci_lexer;

/** Begins: line ends become \n, broken characters U+FFFD, and the last line loses its end. */
void vlci_lex_begin(vlci_run *run, const char *text, size_t bytes, vlci_lexer *out);

/** The next token. Leaves where there is none. */
vlci_lexeme vlci_lex_next(vlci_lexer *lexer);

#endif
