/*
 * template_expression.c - tokens -> expressions, by recursive descent, in the order of precedence that jinja2
 * has:
 *
 *     a if b else c,  or,  and,  not,  == in ...,  + -,  ~,  * / // %,  **,  -a,  a.b a[b] a(b),  a|b  a is b
 */
#include <string.h>

#include "tokens/template_parser.h"
#include "tokens/template_run.h"

static vlci_node *parse_unary(vlci_parser *p, bool with_filters);

/* ---- tokens -------------------------------------------------------------------------------------------- */

static void stand(vlci_parser *p) {
    p->run->line = p->at.line;
    p->run->column = p->at.column;
}

void vlci_parser_next(vlci_parser *p) {
    if (p->looked)
        p->at = p->ahead;
    else
        p->at = vlci_lex_next(&p->lexer);
    p->looked = false;
    stand(p);
}

static const vlci_lexeme *look(vlci_parser *p) {
    if (!p->looked) p->ahead = vlci_lex_next(&p->lexer);
    p->looked = true;
    stand(p);
    return &p->ahead;
}

static bool lexeme_is(const vlci_lexeme *x, const char *name) {
    return x->kind == VLCI_LEX_NAME && x->bytes == strlen(name) && memcmp(x->text, name, x->bytes) == 0;
}

bool vlci_parser_is_name(const vlci_parser *p, const char *name) {
    return lexeme_is(&p->at, name);
}

bool vlci_parser_is_operator(const vlci_parser *p, int which) {
    return p->at.kind == VLCI_LEX_OPERATOR && p->at.which == which;
}

bool vlci_parser_skip_name(vlci_parser *p, const char *name) {
    bool there = vlci_parser_is_name(p, name);
    if (there) vlci_parser_next(p);
    return there;
}

bool vlci_parser_skip_operator(vlci_parser *p, int which) {
    bool there = vlci_parser_is_operator(p, which);
    if (there) vlci_parser_next(p);
    return there;
}

/* What the token at hand is, for messages. */
const char *vlci_parser_describe(const vlci_parser *p, char text[static 80]) {
    static const char *const names[] = {"the end of the template",
                                        "text",
                                        "{%",
                                        "%}",
                                        "{{",
                                        "}}",
                                        "a name",
                                        "a string",
                                        "a number",
                                        "a number",
                                        ""};
    size_t n = p->at.bytes < 60 ? p->at.bytes : 60;
    if (p->at.kind == VLCI_LEX_OPERATOR) {
        text[0] = text[2] = '"';
        text[1] = (char)p->at.which;
        text[3] = 0;
    } else if (p->at.kind == VLCI_LEX_NAME) {
        memcpy(text, p->at.text, n);
        text[n] = 0;
    } else {
        strcpy(text, names[p->at.kind]);
    }
    return text;
}

_Noreturn void vlci_parser_fail_expected(vlci_parser *p, const char *what) {
    char text[80];
    vlci_run_fail(p->run, "%s is expected, not %s", what, vlci_parser_describe(p, text));
}

void vlci_parser_expect_operator(vlci_parser *p, int which) {
    const char text[] = {'"', (char)which, '"', 0};
    if (!vlci_parser_skip_operator(p, which)) vlci_parser_fail_expected(p, text);
}

void vlci_parser_expect_name(vlci_parser *p, const char *name) {
    if (!vlci_parser_skip_name(p, name)) vlci_parser_fail_expected(p, name);
}

vlci_node *vlci_parser_node(vlci_parser *p, vlci_node_kind kind) {
    vlci_node *made = VLCI_ARENA_NEW(&p->run->arena, vlci_node);
    *made = (vlci_node){.kind = kind, .line = p->at.line, .column = p->at.column};
    return made;
}

static vlci_node *with(vlci_node *made, vlci_node *a, vlci_node *b) {
    made->a = a;
    made->b = b;
    return made;
}

void vlci_parser_add(vlci_nodes *to, vlci_node *item) {
    *(to->last ? &to->last->next : &to->first) = item;
    to->last = item;
}

/* A node that is called after the name at hand, which is stepped over. */
vlci_node *vlci_parser_named(vlci_parser *p, vlci_node_kind kind) {
    if (p->at.kind != VLCI_LEX_NAME) vlci_parser_fail_expected(p, "a name");
    vlci_node *made = vlci_parser_node(p, kind);
    made->name = p->at.text;
    made->bytes = p->at.bytes;
    vlci_parser_next(p);
    return made;
}

/* ---- what stands for itself ---------------------------------------------------------------------------- */

static vlci_node *constant(vlci_parser *p, vlci_datum value) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_CONST);
    made->value = value;
    vlci_parser_next(p);
    return made;
}

/* Strings in a row are one. */
static vlci_node *strings(vlci_parser *p) {
    vlci_writing text = {0};
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_CONST);
    for (; p->at.kind == VLCI_LEX_STRING; vlci_parser_next(p))
        vlci_put(p->run, &text, p->at.text, p->at.bytes, VLCI_ORIGIN_TEMPLATE);
    const vlci_words *words = vlci_written(p->run, &text);
    made->value = vlci_text_datum(vlci_words_of(p->run, words->data, words->n));
    return made;
}

vlci_node *vlci_parser_name(vlci_parser *p) {
    static const struct {
        const char *name;
        vlci_datum value;
    } known[] = {{"true", {.kind = VLCI_BOOL, .truth = true}},
                 {"True", {.kind = VLCI_BOOL, .truth = true}},
                 {"false", {.kind = VLCI_BOOL}},
                 {"False", {.kind = VLCI_BOOL}},
                 {"none", {.kind = VLCI_NONE}},
                 {"None", {.kind = VLCI_NONE}}};
    for (size_t i = 0; i < sizeof known / sizeof *known; i++)
        if (vlci_parser_is_name(p, known[i].name)) return constant(p, known[i].value);
    return vlci_parser_named(p, VLCI_NODE_NAME);
}

static vlci_node *list_display(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_LIST);
    vlci_nodes items = {0};
    vlci_parser_expect_operator(p, '[');
    while (!vlci_parser_is_operator(p, ']')) {
        if (items.first) vlci_parser_expect_operator(p, ',');
        if (vlci_parser_is_operator(p, ']')) break;
        vlci_parser_add(&items, vlci_parser_expression(p));
    }
    vlci_parser_expect_operator(p, ']');
    made->list = items.first;
    return made;
}

static vlci_node *dict_display(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_DICT);
    vlci_nodes items = {0};
    vlci_parser_expect_operator(p, '{');
    while (!vlci_parser_is_operator(p, '}')) {
        if (items.first) vlci_parser_expect_operator(p, ',');
        if (vlci_parser_is_operator(p, '}')) break;
        vlci_parser_add(&items, vlci_parser_expression(p));
        vlci_parser_expect_operator(p, ':');
        vlci_parser_add(&items, vlci_parser_expression(p));
    }
    vlci_parser_expect_operator(p, '}');
    made->list = items.first;
    return made;
}

/* ---- tuples -------------------------------------------------------------------------------------------- */

static bool tuple_ends(const vlci_parser *p, const char *word) {
    return p->at.kind == VLCI_LEX_BLOCK_END || p->at.kind == VLCI_LEX_PRINT_END ||
           vlci_parser_is_operator(p, ')') || (word && vlci_parser_is_name(p, word));
}

/* One, or several with commas: a tuple. `word` ends it, too. */
vlci_node *vlci_parser_tuple(vlci_parser *p, vlci_part_of_tuple part, const char *word, bool empty) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_TUPLE);
    vlci_nodes items = {0};
    bool tuple = false;
    for (;;) {
        if (items.first) vlci_parser_expect_operator(p, ',');
        if (tuple_ends(p, word)) break;
        vlci_parser_add(&items, part(p));
        if (!vlci_parser_is_operator(p, ',')) break;
        tuple = true;
    }
    if (!tuple && items.first) return items.first;
    if (!tuple && !empty) vlci_parser_fail_expected(p, "an expression");
    made->list = items.first;
    return made;
}

static vlci_node *parse_primary(vlci_parser *p) {
    vlci_node *made;
    switch (p->at.kind) {
    case VLCI_LEX_NAME:
        return vlci_parser_name(p);
    case VLCI_LEX_STRING:
        return strings(p);
    case VLCI_LEX_INT:
        return constant(p, vlci_int(p->at.whole));
    case VLCI_LEX_FLOAT:
        return constant(p, vlci_float(p->at.real));
    default:
        break;
    }
    if (vlci_parser_is_operator(p, '[')) return list_display(p);
    if (vlci_parser_is_operator(p, '{')) return dict_display(p);
    if (!vlci_parser_skip_operator(p, '(')) vlci_parser_fail_expected(p, "an expression");
    made = vlci_parser_tuple(p, vlci_parser_expression, NULL, true);
    vlci_parser_expect_operator(p, ')');
    return made;
}

/* ---- arguments, subscripts, filters, tests ------------------------------------------------------------- */

static vlci_node *argument(vlci_parser *p, vlci_node_kind *last) {
    vlci_node *made;
    if (vlci_parser_is_operator(p, '*') || vlci_parser_is_operator(p, 'p')) {
        made = vlci_parser_node(p, vlci_parser_is_operator(p, '*') ? VLCI_NODE_SPREAD
                                                                   : VLCI_NODE_SPREAD_KEYWORDS);
        vlci_parser_next(p);
    } else if (p->at.kind == VLCI_LEX_NAME && look(p)->kind == VLCI_LEX_OPERATOR && p->ahead.which == '=') {
        made = vlci_parser_named(p, VLCI_NODE_KEYWORD);
        vlci_parser_next(p);
    } else {
        made = vlci_parser_node(p, VLCI_NODE_ARGUMENT);
    }
    bool spread = made->kind == VLCI_NODE_SPREAD && *last == VLCI_NODE_KEYWORD;
    if ((made->kind < *last && !spread) || (made->kind == *last && *last >= VLCI_NODE_SPREAD))
        vlci_run_fail(p->run, "arguments stand in a wrong order");
    *last = made->kind;
    made->a = vlci_parser_expression(p);
    return made;
}

static vlci_node *arguments(vlci_parser *p) {
    vlci_nodes items = {0};
    vlci_node_kind last = VLCI_NODE_ARGUMENT;
    vlci_parser_expect_operator(p, '(');
    while (!vlci_parser_is_operator(p, ')')) {
        if (items.first) vlci_parser_expect_operator(p, ',');
        if (vlci_parser_is_operator(p, ')')) break;
        vlci_parser_add(&items, argument(p, &last));
    }
    vlci_parser_expect_operator(p, ')');
    return items.first;
}

static vlci_node *slice_part(vlci_parser *p) {
    bool none =
        vlci_parser_is_operator(p, ':') || vlci_parser_is_operator(p, ']') || vlci_parser_is_operator(p, ',');
    return none ? NULL : vlci_parser_expression(p);
}

static vlci_node *subscribed(vlci_parser *p) {
    vlci_node *slice = vlci_parser_node(p, VLCI_NODE_SLICE),
              *first = vlci_parser_is_operator(p, ':') ? NULL : vlci_parser_expression(p);
    if (!vlci_parser_skip_operator(p, ':')) return first;
    slice->a = first;
    slice->b = slice_part(p);
    if (vlci_parser_skip_operator(p, ':')) slice->c = slice_part(p);
    return slice;
}

static vlci_node *subscript(vlci_parser *p, vlci_node *of) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_ITEM);
    if (vlci_parser_skip_operator(p, '.')) {
        if (p->at.kind == VLCI_LEX_INT) return with(made, of, constant(p, vlci_int(p->at.whole)));
        return with(vlci_parser_named(p, VLCI_NODE_ATTR), of, NULL);
    }
    vlci_parser_expect_operator(p, '[');
    vlci_nodes items = {0};
    while (!vlci_parser_is_operator(p, ']')) {
        if (items.first) vlci_parser_expect_operator(p, ',');
        vlci_parser_add(&items, subscribed(p));
    }
    vlci_parser_expect_operator(p, ']');
    if (!items.first || items.first->next) vlci_run_fail(p->run, "a subscript is one value or one slice");
    return with(made, of, items.first);
}

static vlci_node *call(vlci_parser *p, vlci_node *of) {
    vlci_node *made = with(vlci_parser_node(p, VLCI_NODE_CALL), of, NULL);
    made->list = arguments(p);
    return made;
}

static vlci_node *postfix(vlci_parser *p, vlci_node *of) {
    for (int depth = 0;; depth++) {
        if (depth > VLCI_MOST_DEPTH / 2) vlci_run_fail(p->run, "is too deep");
        if (vlci_parser_is_operator(p, '.') || vlci_parser_is_operator(p, '['))
            of = subscript(p, of);
        else if (vlci_parser_is_operator(p, '('))
            of = call(p, of);
        else
            return of;
    }
}

/* Looks the name of a filter or a test up. */
static void resolve(vlci_parser *p, vlci_node *made) {
    bool filter = made->kind == VLCI_NODE_FILTER;
    made->which =
        filter ? vlci_filter_find(made->name, made->bytes) : vlci_test_find(made->name, made->bytes);
    if (made->which < 0 && !p->soft && !p->unknown) p->unknown = made;
}

vlci_node *vlci_parser_filter(vlci_parser *p, vlci_node *of) {
    vlci_node *made = with(vlci_parser_named(p, VLCI_NODE_FILTER), of, NULL);
    resolve(p, made);
    if (vlci_parser_is_operator(p, '(')) made->list = arguments(p);
    return made;
}

static bool test_has_operand(const vlci_parser *p) {
    bool starts = (p->at.kind >= VLCI_LEX_NAME && p->at.kind <= VLCI_LEX_FLOAT) ||
                  vlci_parser_is_operator(p, '[') || vlci_parser_is_operator(p, '{');
    return starts && !vlci_parser_is_name(p, "else") && !vlci_parser_is_name(p, "or") &&
           !vlci_parser_is_name(p, "and");
}

static vlci_node *test(vlci_parser *p, vlci_node *of) {
    vlci_node *outer = vlci_parser_skip_name(p, "not") ? vlci_parser_node(p, VLCI_NODE_NOT) : NULL;
    vlci_node *made = with(vlci_parser_named(p, VLCI_NODE_TEST), of, NULL);
    resolve(p, made);
    if (vlci_parser_is_operator(p, '(')) {
        made->list = arguments(p);
    } else if (test_has_operand(p)) {
        if (vlci_parser_is_name(p, "is")) vlci_run_fail(p->run, "tests cannot stand in a row");
        made->list = vlci_parser_node(p, VLCI_NODE_ARGUMENT);
        made->list->a = postfix(p, parse_primary(p));
    }
    return outer ? with(outer, made, NULL) : made;
}

static vlci_node *filters(vlci_parser *p, vlci_node *of) {
    for (int depth = 0;; depth++) {
        if (depth > VLCI_MOST_DEPTH / 2) vlci_run_fail(p->run, "is too deep");
        if (vlci_parser_skip_operator(p, '|'))
            of = vlci_parser_filter(p, of);
        else if (vlci_parser_skip_name(p, "is"))
            of = test(p, of);
        else if (vlci_parser_is_operator(p, '('))
            of = call(p, of);
        else
            return of;
    }
}

/* ---- operators ----------------------------------------------------------------------------------------- */

static vlci_node *parse_unary(vlci_parser *p, bool with_filters) {
    vlci_node *made;
    vlci_run_down(p->run);
    if (vlci_parser_is_operator(p, '-') || vlci_parser_is_operator(p, '+')) {
        made = vlci_parser_node(p, vlci_parser_is_operator(p, '-') ? VLCI_NODE_MINUS : VLCI_NODE_PLUS);
        vlci_parser_next(p);
        made->a = parse_unary(p, false);
    } else {
        made = parse_primary(p);
    }
    made = postfix(p, made);
    if (with_filters) made = filters(p, made);
    vlci_run_up(p->run);
    return made;
}

/* Operators of one level, from the left. */
static vlci_node *chain(vlci_parser *p, vlci_node *(*part)(vlci_parser *), const char *which) {
    vlci_node *left = part(p);
    int depth = 0;
    while (p->at.kind == VLCI_LEX_OPERATOR && strchr(which, p->at.which)) {
        vlci_node *made = vlci_parser_node(p, VLCI_NODE_MATH);
        if (++depth > VLCI_MOST_DEPTH / 2) vlci_run_fail(p->run, "too many operators stand in a row");
        made->which = p->at.which;
        vlci_parser_next(p);
        left = with(made, left, part(p));
    }
    return left;
}

static vlci_node *plain_unary(vlci_parser *p) {
    return parse_unary(p, true);
}

static vlci_node *power(vlci_parser *p) {
    return chain(p, plain_unary, "p");
}

static vlci_node *product(vlci_parser *p) {
    return chain(p, power, "*/q%");
}

static vlci_node *concat(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_CONCAT);
    vlci_nodes items = {0};
    vlci_parser_add(&items, product(p));
    while (vlci_parser_skip_operator(p, '~')) vlci_parser_add(&items, product(p));
    made->list = items.first;
    return items.first->next ? made : items.first;
}

static vlci_node *sum(vlci_parser *p) {
    return chain(p, concat, "+-");
}

/* The operator of a comparison, stepped over; 0: none. */
static int comparison(vlci_parser *p) {
    int which = 0;
    if (p->at.kind == VLCI_LEX_OPERATOR && strchr("e!<>lg", p->at.which)) which = p->at.which;
    if (vlci_parser_is_name(p, "in")) which = 'i';
    if (vlci_parser_is_name(p, "not") && lexeme_is(look(p), "in")) {
        vlci_parser_next(p);
        which = 'n';
    }
    if (which) vlci_parser_next(p);
    return which;
}

static vlci_node *compare(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_COMPARE);
    vlci_nodes operands = {0};
    made->a = sum(p);
    for (int which; (which = comparison(p));) {
        vlci_node *operand = vlci_parser_node(p, VLCI_NODE_OPERAND);
        operand->which = which;
        operand->a = sum(p);
        vlci_parser_add(&operands, operand);
    }
    made->list = operands.first;
    return operands.first ? made : made->a;
}

static vlci_node *negation(vlci_parser *p) {
    if (!vlci_parser_is_name(p, "not")) return compare(p);
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_NOT);
    vlci_parser_next(p);
    vlci_run_down(p->run);
    made->a = negation(p);
    vlci_run_up(p->run);
    return made;
}

static vlci_node *logic(vlci_parser *p, vlci_node *(*part)(vlci_parser *), const char *word,
                        vlci_node_kind kind) {
    vlci_node *left = part(p);
    for (int depth = 0; vlci_parser_is_name(p, word); depth++) {
        if (depth > VLCI_MOST_DEPTH / 2) vlci_run_fail(p->run, "too many operators stand in a row");
        vlci_node *made = vlci_parser_node(p, kind);
        vlci_parser_next(p);
        left = with(made, left, part(p));
    }
    return left;
}

static vlci_node *conjunction(vlci_parser *p) {
    return logic(p, negation, "and", VLCI_NODE_AND);
}

vlci_node *vlci_parser_disjunction(vlci_parser *p) {
    return logic(p, conjunction, "or", VLCI_NODE_OR);
}

vlci_node *vlci_parser_expression(vlci_parser *p) {
    vlci_run_down(p->run);
    bool soft = p->soft;
    const vlci_node *unknown = p->unknown;
    vlci_node *first = vlci_parser_disjunction(p);
    for (int depth = 0; vlci_parser_is_name(p, "if"); depth++) {
        if (depth > VLCI_MOST_DEPTH / 2) vlci_run_fail(p->run, "too many operators stand in a row");
        vlci_node *made = with(vlci_parser_node(p, VLCI_NODE_EITHER), first, NULL);
        vlci_parser_next(p);
        p->unknown = unknown;
        p->soft = true;
        made->b = vlci_parser_disjunction(p);
        if (vlci_parser_skip_name(p, "else")) made->c = vlci_parser_expression(p);
        p->soft = soft;
        first = made;
    }
    vlci_run_up(p->run);
    return first;
}
