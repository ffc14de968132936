/*
 * template_statement.c - statements: what each writes, and the scopes that names live in.
 *
 *     {% for %}, {% macro %}, {% call %}, {% with %} open a scope; {% if %} and the template itself do not
 */
#include "tokens/template_run.h"

#include <string.h>

/* ---- names --------------------------------------------------------------------------------------------- */

static vlci_variable *find_here(const vlci_names *names, const char *name, size_t bytes) {
    for (size_t i = 0; i < names->n; i++)
        if (names->at[i].bytes == bytes && memcmp(names->at[i].name, name, bytes) == 0) return &names->at[i];
    return NULL;
}

const vlci_datum *vlci_names_get(vlci_run *run, const vlci_names *names, const char *name, size_t bytes) {
    for (; names; names = names->up) {
        vlci_run_charge(run, 2 * names->n);
        const vlci_variable *found = find_here(names, name, bytes);
        if (found) return &found->value;
    }
    return NULL;
}

void vlci_names_set(vlci_run *run, vlci_names *names, const char *name, size_t bytes, vlci_datum value) {
    vlci_run_charge(run, 2 * names->n);
    vlci_variable *old = find_here(names, name, bytes);
    if (old) {
        old->value = value;
        return;
    }
    names->at = vlci_arena_grow(&run->arena, names->at, names->n, &names->room, sizeof *names->at);
    names->at[names->n++] = (vlci_variable){name, bytes, value};
}

static vlci_names *scope_below(vlci_run *run, vlci_names *up) {
    vlci_names *names = VLCI_ARENA_NEW(&run->arena, vlci_names);
    names->up = up;
    return names;
}

/* ---- statements ---------------------------------------------------------------------------------------- */

typedef enum flow { GO_ON, BREAK, CONTINUE } flow;

static flow run_all(vlci_run *run, const vlci_node *first, vlci_names *names, vlci_writing *out);

static void stand(vlci_run *run, const vlci_node *node) {
    run->line = node->line;
    run->column = node->column;
}

static void assign(vlci_run *run, const vlci_node *target, vlci_names *names, vlci_datum value);

static void assign_member(vlci_run *run, const vlci_node *target, const vlci_names *names, vlci_datum value) {
    const vlci_datum *space = vlci_names_get(run, names, target->name, target->bytes);
    const vlci_node *member = target->b;
    stand(run, target);
    if (!space || space->kind != VLCI_SPACE)
        vlci_run_fail(run, "%.*s is no namespace: nothing in it can be set",
                      (int)(target->bytes < 60 ? target->bytes : 60), target->name);
    if (member->name[0] == '_') vlci_run_fail(run, "a namespace takes no name that begins with _");
    vlci_dict_set(run, space->dict, vlci_text_datum(vlci_words_of(run, member->name, member->bytes)), value);
}

static void assign_tuple(vlci_run *run, const vlci_node *target, vlci_names *names, vlci_datum value) {
    vlci_list *items = vlci_items(run, value);
    size_t i = 0, n = 0;
    for (const vlci_node *part = target->list; part; part = part->next) n++;
    stand(run, target);
    if (items->n != n || value.kind == VLCI_UNDEFINED)
        vlci_run_fail(run, "%zu values cannot be put into %zu names", items->n, n);
    for (const vlci_node *part = target->list; part; part = part->next)
        assign(run, part, names, items->at[i++]);
}

static void assign(vlci_run *run, const vlci_node *target, vlci_names *names, vlci_datum value) {
    if (target->kind == VLCI_NODE_MEMBER)
        assign_member(run, target, names, value);
    else if (target->kind == VLCI_NODE_TUPLE)
        assign_tuple(run, target, names, value);
    else
        vlci_names_set(run, names, target->name, target->bytes, value);
}

/* What a body writes, as a text. */
static const vlci_words *body_text(vlci_run *run, const vlci_node *first, vlci_names *names) {
    vlci_writing text = {0};
    run_all(run, first, names, &text);
    return vlci_written(run, &text);
}

static void run_set_block(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_datum value = vlci_text_datum(body_text(run, node->list, scope_below(run, names)));
    if (node->b) value = vlci_eval_filters(run, node->b, names, value);
    assign(run, node->a, names, value);
}

/* The items that a loop takes: those for which its condition holds. */
static vlci_list *chosen(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum of) {
    vlci_list *all = vlci_items(run, of), *some;
    if (!node->c) return all;
    some = vlci_list_new(run, VLCI_PLAIN_LIST);
    for (size_t i = 0; i < all->n; i++) {
        vlci_names *inner = scope_below(run, names);
        assign(run, node->a, inner, all->at[i]);
        if (vlci_truth(vlci_eval(run, node->c, inner))) vlci_list_add(run, some, all->at[i]);
    }
    return some;
}

static flow go_through(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_loop *loop,
                       vlci_writing *out) {
    vlci_names *inner = NULL;
    for (loop->at = 0; loop->at < loop->items->n; loop->at++) {
        if (!inner || inner->kept) inner = scope_below(run, names);
        inner->n = 0;
        vlci_names_set(run, inner, "loop", 4, (vlci_datum){.kind = VLCI_LOOP, .loop = loop});
        assign(run, node->a, inner, loop->items->at[loop->at]);
        if (run_all(run, node->list, inner, out) == BREAK) break;
    }
    return GO_ON;
}

/* A loop over a value; of a recursive one, also the calls of loop(). */
static void run_loop(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_datum of, int depth,
                     vlci_writing *out) {
    vlci_loop *loop = VLCI_ARENA_NEW(&run->arena, vlci_loop);
    loop->items = chosen(run, node, names, of);
    loop->depth = depth;
    loop->node = node->which ? node : NULL;
    loop->names = names;
    if (loop->items->n)
        go_through(run, node, names, loop, out);
    else
        run_all(run, node->other, scope_below(run, names), out);
}

vlci_datum vlci_loop_call(vlci_run *run, const vlci_loop *loop, const vlci_call *call) {
    vlci_writing text = {0};
    if (!loop->node || call->n != 1 || call->n_named)
        vlci_run_fail(run, "loop() belongs to a recursive loop and takes one value");
    run_loop(run, loop->node, loop->names, call->at[0], loop->depth + 1, &text);
    return vlci_text_datum(vlci_written(run, &text));
}

static void define_macro(vlci_run *run, const vlci_node *node, vlci_names *names) {
    vlci_macro *macro = VLCI_ARENA_NEW(&run->arena, vlci_macro);
    *macro = (vlci_macro){node, names};
    for (vlci_names *up = names; up; up = up->up) up->kept = true;
    vlci_names_set(run, names, node->name, node->bytes, (vlci_datum){.kind = VLCI_MACRO, .macro = macro});
}

static void run_call_block(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_writing *out) {
    vlci_macro *macro = VLCI_ARENA_NEW(&run->arena, vlci_macro);
    *macro = (vlci_macro){node, names};
    for (vlci_names *up = names; up; up = up->up) up->kept = true;
    vlci_datum value = vlci_eval_call(run, node->a, names, (vlci_datum){.kind = VLCI_MACRO, .macro = macro});
    vlci_put_datum(run, out, value);
}

static void run_filter_block(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_writing *out) {
    vlci_names *inner = scope_below(run, names);
    vlci_datum value = vlci_text_datum(body_text(run, node->list, inner));
    vlci_put_datum(run, out, vlci_eval_filters(run, node->a, inner, value));
}

static flow run_with(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_writing *out) {
    vlci_names *inner = scope_below(run, names);
    for (const vlci_node *set = node->other; set; set = set->next)
        assign(run, set->a, inner, vlci_eval(run, set->b, names));
    return run_all(run, node->list, inner, out);
}

static flow run_one(vlci_run *run, const vlci_node *node, vlci_names *names, vlci_writing *out) {
    stand(run, node);
    switch (node->kind) {
    case VLCI_NODE_TEXT:
        vlci_put(run, out, node->name, node->bytes, VLCI_ORIGIN_TEMPLATE);
        break;
    case VLCI_NODE_PRINT:
        vlci_put_datum(run, out, vlci_eval(run, node->a, names));
        break;
    case VLCI_NODE_IF:
        return run_all(run, vlci_truth(vlci_eval(run, node->a, names)) ? node->list : node->other, names,
                       out);
    case VLCI_NODE_FOR:
        run_loop(run, node, names, vlci_eval(run, node->b, names), 0, out);
        break;
    case VLCI_NODE_SET:
        assign(run, node->a, names, vlci_eval(run, node->b, names));
        break;
    case VLCI_NODE_SET_BLOCK:
        run_set_block(run, node, names);
        break;
    case VLCI_NODE_MACRO:
        define_macro(run, node, names);
        break;
    case VLCI_NODE_CALL_BLOCK:
        run_call_block(run, node, names, out);
        break;
    case VLCI_NODE_FILTER_BLOCK:
        run_filter_block(run, node, names, out);
        break;
    case VLCI_NODE_WITH:
        return run_with(run, node, names, out);
    case VLCI_NODE_SCOPE:
        return run_all(run, node->list, scope_below(run, names), out);
    case VLCI_NODE_BREAK:
        return BREAK;
    case VLCI_NODE_CONTINUE:
        return CONTINUE;
    default:
        break;
    }
    return GO_ON;
}

static flow run_all(vlci_run *run, const vlci_node *first, vlci_names *names, vlci_writing *out) {
    flow went = GO_ON;
    vlci_run_down(run);
    for (const vlci_node *node = first; node && went == GO_ON; node = node->next)
        went = run_one(run, node, names, out);
    vlci_run_up(run);
    return went;
}

void vlci_run_statements(vlci_run *run, const vlci_node *first, vlci_names *globals, vlci_writing *out) {
    run_all(run, first, scope_below(run, globals), out);
}

/* ---- macros -------------------------------------------------------------------------------------------- */

static const vlci_datum *named_argument(const vlci_call *call, const vlci_node *parameter) {
    for (size_t i = 0; i < call->n_named; i++)
        if (call->named[i].bytes == parameter->bytes &&
            memcmp(call->named[i].name, parameter->name, parameter->bytes) == 0)
            return &call->named[i].value;
    return NULL;
}

/* What no parameter takes: varargs and kwargs, which a macro has where it speaks of them. */
static void set_rest(vlci_run *run, const vlci_node *node, const vlci_call *call, size_t taken,
                     vlci_names *names) {
    vlci_list *more = vlci_list_new(run, VLCI_TUPLE);
    vlci_dict *others = vlci_dict_new(run);
    for (size_t i = taken; i < call->n; i++) vlci_list_add(run, more, call->at[i]);
    for (size_t i = 0; i < call->n_named; i++) {
        const vlci_node *p = node->other;
        while (p && (p->bytes != call->named[i].bytes || memcmp(p->name, call->named[i].name, p->bytes)))
            p = p->next;
        if (p) continue;
        const vlci_words *key = vlci_words_of(run, call->named[i].name, call->named[i].bytes);
        vlci_dict_set(run, others, vlci_text_datum(key), call->named[i].value);
    }
    if (more->n && !vlci_tree_speaks_of(node, "varargs"))
        vlci_run_fail(run, "a macro takes no so many arguments");
    if (others->n && !vlci_tree_speaks_of(node, "kwargs"))
        vlci_run_fail(run, "a macro has no parameter %.*s", (int)others->at[0].key.words->n,
                      others->at[0].key.words->data);
    vlci_names_set(run, names, "varargs", 7, vlci_list_datum(more));
    vlci_names_set(run, names, "kwargs", 6, (vlci_datum){.kind = VLCI_DICT, .dict = others});
}

vlci_datum vlci_macro_call(vlci_run *run, const vlci_macro *macro, const vlci_call *call) {
    const vlci_node *node = macro->node;
    vlci_names *names = scope_below(run, macro->names);
    size_t i = 0;
    for (const vlci_node *p = node->other; p; p = p->next, i++) {
        const vlci_datum *named = named_argument(call, p);
        vlci_datum value = vlci_undefined(vlci_words_of(run, p->name, p->bytes));
        if (named && i < call->n) vlci_run_fail(run, "a macro's parameter is given twice");
        if (i < call->n || named)
            value = named ? *named : call->at[i];
        else if (p->a)
            value = vlci_eval(run, p->a, names);
        vlci_names_set(run, names, p->name, p->bytes, value);
    }
    set_rest(run, node, call, i, names);
    bool called = call->caller.kind != VLCI_MISSING;
    if (called && !vlci_tree_speaks_of(node, "caller")) vlci_run_fail(run, "a macro takes no caller");
    vlci_names_set(run, names, "caller", 6, called ? call->caller : vlci_undefined(NULL));
    return vlci_text_datum(body_text(run, node->list, names));
}
