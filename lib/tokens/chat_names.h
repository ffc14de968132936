/**
 * chat_names.h (internal) - the templates that are here under a name.
 */
#ifndef VLCI_TOKENS_CHAT_NAMES_H
#define VLCI_TOKENS_CHAT_NAMES_H

/** The text of a template by its name; NULL: none (static storage). */
const char *vlci_chat_text(const char *name);

/** All names, comma-separated (static storage). */
const char *vlci_chat_names(void);

#endif
