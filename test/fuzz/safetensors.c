/*
 * safetensors.c - weights: an index, or none; one file, or two shards. The input: index, zero byte, size of
 * the first shard (two bytes), bytes of the files.
 */
#include "checkpoint/safetensors.h"
#include "fuzz.h"

static const vlci_naming names[] = {{{"model.", "m.", NULL}}, {{NULL}}};

/* Whatever is found can be read, or is refused. */
static void read(vlci_checkpoint *checkpoint, const char *name) {
    vlci_weight_view view;
    bool same;
    if (!vlci_checkpoint_find(checkpoint, name, &view)) return;
    size_t dims[VLCI_TENSOR_MAX_DIMS];
    for (int i = 0; i < view.n_dims; i++) dims[i] = view.dim[i];
    if (!vlci_checkpoint_get(checkpoint, name, view.n_dims, dims, &view)) {
        volatile uint8_t sum = 0;
        for (size_t i = 0; i < view.bytes; i++) sum = (uint8_t)(sum + ((const uint8_t *)view.data)[i]);
        vlci_checkpoint_drop(&view);
    }
    vlci_checkpoint_same(checkpoint, name, "model.b", &same);
}

/* What an outline has is told, and never read. */
static void take(vlci_checkpoint *checkpoint, const char *name) {
    vlci_weight_view view;
    bool same;
    if (!vlci_checkpoint_find(checkpoint, name, &view)) return;
    size_t dims[VLCI_TENSOR_MAX_DIMS];
    for (int i = 0; i < view.n_dims; i++) dims[i] = view.dim[i];
    if (!vlci_checkpoint_take(checkpoint, name, view.n_dims, dims, &view)) FUZZ_HOLDS(view.data == NULL);
    vlci_checkpoint_same(checkpoint, name, "model.b", &same);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    static const char *const files[] = {"model.safetensors", "1.safetensors", "2.safetensors"};
    fuzz_input in = {data, bytes};
    vlci_checkpoint *checkpoint = NULL;
    char unused[256];
    for (size_t i = 0; i < 3; i++) fuzz_remove(files[i]);
    fuzz_write_text(&in, "model.safetensors.index.json");
    size_t first = fuzz_number(&in, 65536);
    if (first > in.bytes) first = in.bytes;
    fuzz_write(files[0], in.data, in.bytes);
    fuzz_write(files[1], in.data, first);
    fuzz_write(files[2], in.data + first, in.bytes - first);
    if (!vlci_checkpoint_open(fuzz_folder(), &checkpoint)) {
        vlci_checkpoint_name(checkpoint, names);
        read(checkpoint, "model.a");
        read(checkpoint, "model.b");
        read(checkpoint, "c");
        vlci_checkpoint_unused(checkpoint, unused, sizeof unused);
    }
    vlci_checkpoint_close(&checkpoint);
    if (!vlci_checkpoint_outline(fuzz_folder(), &checkpoint)) {
        uint64_t stored[4], missing;
        vlci_checkpoint_count(checkpoint, stored, &missing);
        vlci_checkpoint_name(checkpoint, names);
        take(checkpoint, "model.a");
    }
    vlci_checkpoint_close(&checkpoint);
    return 0;
}
