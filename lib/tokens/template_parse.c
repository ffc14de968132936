/*
 * template_parse.c - tokens -> statements.
 */
#include "tokens/template_parse.h"

#include <string.h>

#include "tokens/template_parser.h"

static vlci_node *parse_statements(vlci_parser *p, const char *const *ends, int *end);

/* ---- statements ---------------------------------------------------------------------------------------- */

static void end_block(vlci_parser *p) {
    if (p->at.kind != VLCI_LEX_BLOCK_END) vlci_parser_fail_expected(p, "%}");
    vlci_parser_next(p);
}

/* The statements up to one of the words, `*end` its index; it is stepped over. */
static vlci_node *body_until(vlci_parser *p, const char *const *ends, int *end) {
    vlci_parser_skip_operator(p, ':');
    end_block(p);
    return parse_statements(p, ends, end);
}

static vlci_node *body(vlci_parser *p, const char *word) {
    const char *const ends[] = {word, NULL};
    int end;
    return body_until(p, ends, &end);
}

static vlci_node *target_part(vlci_parser *p) {
    if (vlci_parser_is_operator(p, '(')) {
        vlci_parser_next(p);
        vlci_node *inner = vlci_parser_tuple(p, target_part, NULL, false);
        vlci_parser_expect_operator(p, ')');
        return inner;
    }
    vlci_node *made = vlci_parser_name(p);
    if (made->kind != VLCI_NODE_NAME) vlci_run_fail(p->run, "nothing can be assigned to a constant");
    return made;
}

static vlci_node *set_target_part(vlci_parser *p) {
    vlci_node *made = target_part(p);
    if (made->kind != VLCI_NODE_NAME || !vlci_parser_skip_operator(p, '.')) return made;
    made->kind = VLCI_NODE_MEMBER;
    made->b = vlci_parser_named(p, VLCI_NODE_NAME);
    return made;
}

static vlci_node *parse_if(vlci_parser *p) {
    static const char *const ends[] = {"elif", "else", "endif", NULL};
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_IF);
    int end;
    vlci_run_down(p->run);
    made->a = vlci_parser_tuple(p, vlci_parser_disjunction, NULL, false);
    made->list = body_until(p, ends, &end);
    if (end == 0) {
        made->other = parse_if(p);
    } else if (end == 1) {
        made->other = body(p, "endif");
    }
    vlci_run_up(p->run);
    return made;
}

static vlci_node *parse_soft_if(vlci_parser *p) {
    bool soft = p->soft;
    p->soft = true;
    vlci_node *made = parse_if(p);
    p->soft = soft;
    return made;
}

static vlci_node *parse_for(vlci_parser *p) {
    static const char *const ends[] = {"endfor", "else", NULL};
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_FOR);
    bool soft = p->soft;
    int end;
    made->a = vlci_parser_tuple(p, target_part, "in", false);
    if (made->a->bytes == 4 && memcmp(made->a->name, "loop", 4) == 0)
        vlci_run_fail(p->run, "a loop cannot give its items the name loop");
    vlci_parser_expect_name(p, "in");
    made->b = vlci_parser_tuple(p, vlci_parser_disjunction, "recursive", false);
    p->soft = false;
    if (vlci_parser_skip_name(p, "if")) made->c = vlci_parser_expression(p);
    made->which = vlci_parser_skip_name(p, "recursive");
    p->loops++;
    made->list = body_until(p, ends, &end);
    p->loops--;
    if (end == 1) made->other = body(p, "endfor");
    p->soft = soft;
    return made;
}

static vlci_node *parse_set(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_SET);
    made->a = vlci_parser_tuple(p, set_target_part, NULL, false);
    if (vlci_parser_skip_operator(p, '=')) {
        made->b = vlci_parser_tuple(p, vlci_parser_expression, NULL, false);
        end_block(p);
        return made;
    }
    made->kind = VLCI_NODE_SET_BLOCK;
    while (vlci_parser_skip_operator(p, '|')) made->b = vlci_parser_filter(p, made->b);
    made->list = body(p, "endset");
    return made;
}

static vlci_node *parameters(vlci_parser *p) {
    vlci_nodes items = {0};
    vlci_parser_expect_operator(p, '(');
    while (!vlci_parser_is_operator(p, ')')) {
        if (items.first) vlci_parser_expect_operator(p, ',');
        vlci_node *made = vlci_parser_named(p, VLCI_NODE_PARAMETER);
        if (vlci_parser_skip_operator(p, '='))
            made->a = vlci_parser_expression(p);
        else if (items.last && items.last->a)
            vlci_run_fail(p->run, "a parameter without default stands behind one with");
        vlci_parser_add(&items, made);
    }
    vlci_parser_expect_operator(p, ')');
    return items.first;
}

/* The body of a macro or a call: no loop around it goes on inside. */
static vlci_node *macro_body(vlci_parser *p, const char *word) {
    int loops = p->loops;
    bool soft = p->soft;
    p->loops = 0;
    p->soft = false;
    vlci_node *made = body(p, word);
    p->loops = loops;
    p->soft = soft;
    return made;
}

static vlci_node *parse_macro(vlci_parser *p) {
    vlci_node *made = vlci_parser_named(p, VLCI_NODE_MACRO);
    made->other = parameters(p);
    made->list = macro_body(p, "endmacro");
    return made;
}

static vlci_node *parse_call_block(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_CALL_BLOCK);
    if (vlci_parser_is_operator(p, '(')) made->other = parameters(p);
    made->a = vlci_parser_expression(p);
    if (made->a->kind != VLCI_NODE_CALL) vlci_run_fail(p->run, "{%% call %%} needs a call");
    made->list = macro_body(p, "endcall");
    return made;
}

static vlci_node *parse_filter_block(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_FILTER_BLOCK);
    do made->a = vlci_parser_filter(p, made->a);
    while (vlci_parser_skip_operator(p, '|'));
    made->list = body(p, "endfilter");
    return made;
}

static vlci_node *parse_with(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_WITH);
    vlci_nodes sets = {0};
    while (p->at.kind != VLCI_LEX_BLOCK_END && !vlci_parser_is_operator(p, ':')) {
        if (sets.first) vlci_parser_expect_operator(p, ',');
        vlci_node *set = vlci_parser_node(p, VLCI_NODE_SET);
        set->a = target_part(p);
        vlci_parser_expect_operator(p, '=');
        set->b = vlci_parser_expression(p);
        vlci_parser_add(&sets, set);
    }
    made->other = sets.first;
    made->list = body(p, "endwith");
    return made;
}

static vlci_node *parse_generation(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_SCOPE);
    made->list = macro_body(p, "endgeneration");
    return made;
}

static vlci_node *parse_print(vlci_parser *p) {
    vlci_nodes all = {0};
    while (p->at.kind != VLCI_LEX_BLOCK_END) {
        if (all.first) vlci_parser_expect_operator(p, ',');
        vlci_node *made = vlci_parser_node(p, VLCI_NODE_PRINT);
        made->a = vlci_parser_expression(p);
        vlci_parser_add(&all, made);
    }
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_SCOPE);
    made->list = all.first;
    end_block(p);
    return made;
}

static vlci_node *parse_break(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_BREAK);
    end_block(p);
    return made;
}

static vlci_node *parse_continue(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_CONTINUE);
    end_block(p);
    return made;
}

static const struct {
    const char *name;
    vlci_node *(*parse)(vlci_parser *);
} tags[] = {
    {"if", parse_soft_if},        {"for", parse_for},
    {"set", parse_set},           {"macro", parse_macro},
    {"call", parse_call_block},   {"filter", parse_filter_block},
    {"with", parse_with},         {"generation", parse_generation},
    {"print", parse_print},       {"break", parse_break},
    {"continue", parse_continue},
};

static vlci_node *parse_statement(vlci_parser *p) {
    for (size_t i = 0; i < sizeof tags / sizeof *tags; i++) {
        if (!vlci_parser_is_name(p, tags[i].name)) continue;
        bool jumps = tags[i].parse == parse_break || tags[i].parse == parse_continue;
        if (jumps && !p->loops) vlci_run_fail(p->run, "%s stands in no loop", tags[i].name);
        vlci_parser_next(p);
        return tags[i].parse(p);
    }
    char text[80];
    vlci_run_fail(p->run, "no tag is called %s", vlci_parser_describe(p, text));
}

static vlci_node *data(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_TEXT);
    made->name = p->at.text;
    made->bytes = p->at.bytes;
    vlci_parser_next(p);
    return made;
}

static vlci_node *print(vlci_parser *p) {
    vlci_node *made = vlci_parser_node(p, VLCI_NODE_PRINT);
    vlci_parser_next(p);
    made->a = vlci_parser_tuple(p, vlci_parser_expression, NULL, false);
    if (p->at.kind != VLCI_LEX_PRINT_END) vlci_parser_fail_expected(p, "}}");
    vlci_parser_next(p);
    return made;
}

static void refuse_unknown(vlci_parser *p) {
    const vlci_node *node = p->unknown;
    if (!node) return;
    p->run->line = node->line;
    p->run->column = node->column;
    vlci_run_fail(p->run, "no %s is called %.*s", node->kind == VLCI_NODE_FILTER ? "filter" : "test",
                  (int)(node->bytes < 60 ? node->bytes : 60), node->name);
}

static int end_word(const vlci_parser *p, const char *const *ends) {
    for (int i = 0; ends && ends[i]; i++)
        if (vlci_parser_is_name(p, ends[i])) return i;
    return -1;
}

/* `ends` NULL: up to the end of the template. */
static vlci_node *parse_statements(vlci_parser *p, const char *const *ends, int *end) {
    vlci_nodes all = {0};
    vlci_run_down(p->run);
    for (;;) {
        refuse_unknown(p);
        if (p->at.kind == VLCI_LEX_END && !ends) break;
        if (p->at.kind == VLCI_LEX_END) vlci_run_fail(p->run, "{%% %s %%} is missing", ends[0]);
        if (p->at.kind == VLCI_LEX_DATA) {
            vlci_parser_add(&all, data(p));
        } else if (p->at.kind == VLCI_LEX_PRINT) {
            vlci_parser_add(&all, print(p));
        } else {
            vlci_parser_next(p);
            *end = end_word(p, ends);
            if (*end >= 0) {
                vlci_parser_next(p);
                bool last = strcmp(ends[*end], "else") && strcmp(ends[*end], "elif");
                if (last) end_block(p);
                break;
            }
            vlci_parser_add(&all, parse_statement(p));
        }
    }
    vlci_run_up(p->run);
    return all.first;
}

vlci_node *vlci_template_parse(vlci_run *run, const char *text, size_t bytes) {
    vlci_parser p = {.run = run};
    int end;
    run->line = run->column = 1;
    vlci_lex_begin(run, text, bytes, &p.lexer);
    vlci_parser_next(&p);
    return parse_statements(&p, NULL, &end);
}
