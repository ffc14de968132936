/*
 * json.c - the text of a JSON file, and a look at every field of it through the takers.
 */
#include <stdlib.h>
#include <string.h>

#include "checkpoint/json.h"
#include "fuzz.h"

static void take(const vlci_scope *scope, const char *key) {
    vlci_scope child;
    const json_t *array;
    const char *text;
    float real = 0.5f;
    bool flag;
    int whole = 7;
    if (!vlci_json_int(scope, key, -9, 99, &whole)) FUZZ_HOLDS(whole >= -9 && whole <= 99);
    if (!vlci_json_float(scope, key, 0, 1, &real)) FUZZ_HOLDS(real >= 0 && real <= 1);
    vlci_json_bool(scope, key, &flag);
    vlci_json_string(scope, key, &text);
    vlci_json_array(scope, key, &array);
    vlci_json_object(scope, key, &child);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    json_t *root = NULL, *value;
    const char *key;
    char *text = fuzz_text(&in);
    if (!vlci_json_parse("f.json", text, strlen(text), &root)) {
        vlci_scope scope = vlci_scope_of("f.json", root);
        FUZZ_HOLDS(json_is_object(root));
        json_object_foreach(root, key, value) take(&scope, key);
    }
    json_decref(root);
    free(text);
    return 0;
}
