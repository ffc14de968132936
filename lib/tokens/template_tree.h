/**
 * template_tree.h (internal) - a template as the parser leaves it: statements in lists, expressions below
 * them.
 */
#ifndef VLCI_TOKENS_TEMPLATE_TREE_H
#define VLCI_TOKENS_TEMPLATE_TREE_H

#include "tokens/template_value.h"

typedef enum vlci_node_kind {
    /* expressions; `list`: arguments or items, parted by their own kinds */
    VLCI_NODE_CONST,    /**< value */
    VLCI_NODE_NAME,     /**< name */
    VLCI_NODE_LIST,     /**< list */
    VLCI_NODE_TUPLE,    /**< list */
    VLCI_NODE_DICT,     /**< list: keys and values in turns */
    VLCI_NODE_ATTR,     /**< a.name */
    VLCI_NODE_ITEM,     /**< a[b] */
    VLCI_NODE_SLICE,    /**< a:b:c, each may be NULL; below an ITEM only */
    VLCI_NODE_CALL,     /**< a(list) */
    VLCI_NODE_FILTER,   /**< a|name(list), `which`; a NULL: what stands in its block */
    VLCI_NODE_TEST,     /**< a is name(list), `which` */
    VLCI_NODE_NOT,      /**< not a */
    VLCI_NODE_MINUS,    /**< -a */
    VLCI_NODE_PLUS,     /**< +a */
    VLCI_NODE_AND,      /**< a and b */
    VLCI_NODE_OR,       /**< a or b */
    VLCI_NODE_MATH,     /**< a which b: '+' '-' '*' '/' '%', 'q' for //, 'p' for ** */
    VLCI_NODE_CONCAT,   /**< list, joined by ~ */
    VLCI_NODE_COMPARE,  /**< a, then list: each OPERAND */
    VLCI_NODE_OPERAND,  /**< which a: '=' '!' '<' '>' 'l' for <=, 'g' for >=, 'i' for in, 'n' for not in */
    VLCI_NODE_EITHER,   /**< a if b else c; c may be NULL */
    VLCI_NODE_ARGUMENT, /**< a: one by place */
    VLCI_NODE_KEYWORD,  /**< name=a */
    VLCI_NODE_SPREAD,   /**< *a */
    VLCI_NODE_SPREAD_KEYWORDS, /**< **a */
    /* statements, in a row by `next` */
    VLCI_NODE_TEXT,         /**< name: as it stands */
    VLCI_NODE_PRINT,        /**< a */
    VLCI_NODE_IF,           /**< if a: list, else: other */
    VLCI_NODE_FOR,          /**< for a in b if c: list, else: other; which: recursive */
    VLCI_NODE_SET,          /**< a = b */
    VLCI_NODE_SET_BLOCK,    /**< a = list, through the filters b (may be NULL) */
    VLCI_NODE_MACRO,        /**< name(other: PARAMETER...): list */
    VLCI_NODE_PARAMETER,    /**< name, default a (may be NULL) */
    VLCI_NODE_CALL_BLOCK,   /**< call a, the caller being (other): list */
    VLCI_NODE_FILTER_BLOCK, /**< list, through the filters a */
    VLCI_NODE_WITH,         /**< other: SET...; list */
    VLCI_NODE_SCOPE,        /**< list, in a scope of its own: generation, block */
    VLCI_NODE_BREAK,
    VLCI_NODE_CONTINUE,
    /* targets of assignment, beside NAME and TUPLE */
    VLCI_NODE_MEMBER, /**< name.b->name of a namespace */
} vlci_node_kind;

typedef struct vlci_node vlci_node;
struct vlci_node {
    vlci_node_kind kind;
    int line, column;
    int which;
    const char *name; /**< not ended by a zero */
    size_t bytes;     /**< of the name */
    vlci_datum value;
    vlci_node *a, *b, *c, *list, *other;
    vlci_node *next; /**< in a list */
};

#endif
