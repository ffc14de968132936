/**
 * memory.h - what happens to a tool where memory runs out while JSON is read or made.
 */
#ifndef COMMON_MEMORY_H
#define COMMON_MEMORY_H

/**
 * From now on that ends the program, with a message and EXIT_MEMORY. jansson goes on instead: a text that it
 * reads loses a letter, an object that it makes a field, and neither of them shows. For the start of main().
 */
void memory_guard_json(void);

#endif
