/*
 * variant.c - from "--policy a,b@axis=value" and "--budget x,y" to compression options.
 */
#include "eval/variant.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/flag.h"

enum { MOST_POLICIES = 64, MOST_BUDGETS = 64 };

/* ---- the lists ---------------------------------------------------------------------------------------- */

static bool is_known(const policy_spec *of, size_t n, const char *label) {
    for (size_t i = 0; i < n; i++)
        if (strcmp(of[i].label, label) == 0) return true;
    return false;
}

/* "full" stands first already; given again it is passed over. */
static int order(const policy_list *given, policy_spec *of, size_t *n) {
    of[0] = (policy_spec)POLICY_INIT;
    of[0].label = of[0].options.policy = "full";
    *n = 1;
    for (size_t i = 0; i < given->n; i++) {
        const policy_spec *p = &given->items[i];
        if (strcmp(p->label, "full") == 0 && strcmp(p->options.policy, "full") == 0) continue;
        if (*n == MOST_POLICIES) return flag_refuse("--policy: more than %d policies", MOST_POLICIES - 1);
        if (is_known(of, *n, p->label)) return flag_refuse("--policy: \"%s\" stands there twice", p->label);
        of[(*n)++] = *p;
    }
    return EXIT_OK;
}

static int compare_numbers(const void *a, const void *b) {
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static int take_budgets(const char *text, double *budgets, size_t *n) {
    for (bool more = true; more;) {
        char piece[32];
        size_t length = strcspn(text, ",");
        double value = 0.0;
        snprintf(piece, sizeof piece, "%.*s", (int)length, text);
        if (length >= sizeof piece || !flag_read_number(piece, &value) || value <= 0.0 || value > 1.0)
            return flag_refuse("--budget \"%s\": must be a share above 0 and at most 1", piece);
        if (*n == MOST_BUDGETS) return flag_refuse("--budget: more than %d budgets", MOST_BUDGETS);
        budgets[(*n)++] = value;
        more = text[length] != 0;
        text += length + more;
    }
    qsort(budgets, *n, sizeof *budgets, compare_numbers);
    size_t kept = 0;
    for (size_t i = 0; i < *n; i++)
        if (!i || budgets[i] != budgets[i - 1]) budgets[kept++] = budgets[i];
    *n = kept;
    return EXIT_OK;
}

/* Every name of the library, comma-separated. */
static void all_policies(char *text, size_t room) {
    size_t used = 0;
    for (size_t i = 0; vlcache_policy_name(i) && used < room; i++)
        used += (size_t)snprintf(text + used, room - used, "%s%s", i ? "," : "", vlcache_policy_name(i));
}

static void cross(const policy_spec *of, size_t n, variants *v) {
    v->n = 0;
    for (size_t p = 0; p < n; p++)
        for (size_t b = 0; b < (p ? v->n_budgets : 1); b++) {
            variant *made = &v->items[v->n++];
            *made = (variant){of[p].label, (int)p, of[p].options, of[p].recall, of[p].stream};
            made->options.budget = p ? v->budgets[b] : 1.0;
        }
}

static bool reserve(size_t n_policies, variants *v) {
    v->labels = calloc(n_policies, sizeof *v->labels);
    v->items = calloc(1 + n_policies * v->n_budgets, sizeof *v->items);
    return v->labels && v->items;
}

int variants_parse(const char *list, const char *budgets, variants *out) {
    char every[512];
    policy_spec of[MOST_POLICIES];
    *out = (variants){0};
    all_policies(every, sizeof every);
    if (!list) list = every;
    out->budgets = calloc(MOST_BUDGETS, sizeof *out->budgets);
    if (!out->budgets) goto no_memory;
    int code = policies_read(list, &out->given);
    if (!code) code = order(&out->given, of, &out->n_policies);
    if (!code) code = take_budgets(budgets, out->budgets, &out->n_budgets);
    if (code) return code;
    if (!reserve(out->n_policies, out)) goto no_memory;
    for (size_t p = 0; p < out->n_policies; p++) out->labels[p] = of[p].label;
    cross(of, out->n_policies, out);
    return EXIT_OK;
no_memory:
    fprintf(stderr, "%s: out of host memory\n", program_invocation_short_name);
    return EXIT_MEMORY;
}

size_t variants_at(const variants *v, size_t policy, size_t budget) {
    return policy ? 1 + (policy - 1) * v->n_budgets + budget : 0;
}

size_t variants_compared(const variants *v) {
    return 1 + (v->n_policies - 1) * v->n_budgets;
}

void variants_release(variants *v) {
    free(v->items);
    free(v->labels);
    free(v->budgets);
    policies_release(&v->given);
    *v = (variants){0};
}

json_t *variant_json(const variant *v) {
    json_t *object = json_pack("{s:s, s:s, s:f}", "label", v->label, "policy", v->options.policy, "budget",
                               v->options.budget);
    if (object && v->recall) json_object_set_new(object, "recall", json_string("host"));
    if (object && v->stream) json_object_set_new(object, "stream", json_integer(v->stream));
    if (object) policy_tell(&v->options, object);
    return object;
}
