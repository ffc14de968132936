/**
 * template_parser.h (internal) - what the two halves of the parser share: the token at hand, and expressions
 * (template_expression.c) for statements (template_parse.c).
 */
#ifndef VLCI_TOKENS_TEMPLATE_PARSER_H
#define VLCI_TOKENS_TEMPLATE_PARSER_H

#include "tokens/template_lex.h"
#include "tokens/template_tree.h"

typedef struct vlci_parser {
    vlci_run *run;
    vlci_lexer lexer;
    vlci_lexeme at, ahead; /**< the token at hand, and the one behind it where `looked` */
    bool looked;
    bool soft;                /**< in an {% if %}: filters that do not exist are refused when they are used */
    const vlci_node *unknown; /**< the first filter or test of this expression that does not exist */
    int loops;                /**< around what is parsed, in this macro */
} vlci_parser;

/** Nodes in a row. */
typedef struct vlci_nodes {
    vlci_node *first, *last;
} vlci_nodes;

/** Steps to the next token. */
void vlci_parser_next(vlci_parser *p);

/** Whether the token at hand is this word or operator; skip: it is stepped over then; expect: leaves else. */
bool vlci_parser_is_name(const vlci_parser *p, const char *name);
bool vlci_parser_is_operator(const vlci_parser *p, int which);
bool vlci_parser_skip_name(vlci_parser *p, const char *name);
bool vlci_parser_skip_operator(vlci_parser *p, int which);
void vlci_parser_expect_operator(vlci_parser *p, int which);
void vlci_parser_expect_name(vlci_parser *p, const char *name);

/** What the token at hand is, for messages. */
const char *vlci_parser_describe(const vlci_parser *p, char text[static 80]);

/** Leaves with "`what` is expected, not ...". */
_Noreturn void vlci_parser_fail_expected(vlci_parser *p, const char *what);

/** A node where the parser stands; one that is called after the name at hand, which is stepped over. */
vlci_node *vlci_parser_node(vlci_parser *p, vlci_node_kind kind);
vlci_node *vlci_parser_named(vlci_parser *p, vlci_node_kind kind);
void vlci_parser_add(vlci_nodes *to, vlci_node *item);

/** An expression; one without "if" at its outside; a name or true, false, none. */
vlci_node *vlci_parser_expression(vlci_parser *p);
vlci_node *vlci_parser_disjunction(vlci_parser *p);
vlci_node *vlci_parser_name(vlci_parser *p);

/** One, or several with commas: a tuple. `word` (may be NULL) ends it, too; `empty`: there may be none. */
typedef vlci_node *(*vlci_part_of_tuple)(vlci_parser *p);
vlci_node *vlci_parser_tuple(vlci_parser *p, vlci_part_of_tuple part, const char *word, bool empty);

/** A filter behind its "|", applied to `of` (NULL: to what a block writes). */
vlci_node *vlci_parser_filter(vlci_parser *p, vlci_node *of);

#endif
