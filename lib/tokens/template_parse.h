/**
 * template_parse.h (internal) - the text of a template -> its tree.
 */
#ifndef VLCI_TOKENS_TEMPLATE_PARSE_H
#define VLCI_TOKENS_TEMPLATE_PARSE_H

#include "tokens/template_tree.h"

/**
 * Parses a template into run->arena: its first statement, NULL where it is empty. Leaves with
 * VLCACHE_E_FORMAT (file, line, column). A filter or test that does not exist is refused where jinja2 refuses
 * it: not inside of an {% if %}, where only using it fails.
 */
vlci_node *vlci_template_parse(vlci_run *run, const char *text, size_t bytes);

#endif
