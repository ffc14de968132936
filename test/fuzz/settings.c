/*
 * settings.c - config.json, generation_config.json, preprocessor_config.json, processor_config.json; what
 * they come to for a picture of some size.
 */
#include "fuzz.h"
#include "models/families.h"

static void lay_out(const vlci_config *config, const vlci_family *family, int width, int height) {
    vlci_picture_layout layout;
    vlcache_model_info info = {0};
    family->describe(config, &info);
    if (!family->layout || family->layout(config, width, height, &layout)) return;
    int visual = 0;
    for (int i = 0; i < layout.n; i++) visual += layout.entry[i] < 0;
    FUZZ_HOLDS(layout.n >= 1 && layout.n_tokens >= 1 && layout.tiles >= 1);
    FUZZ_HOLDS(visual == (layout.aside ? 0 : layout.n_tokens));
    vlci_picture_layout_release(&layout);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes) {
    fuzz_input in = {data, bytes};
    vlci_config config;
    fuzz_write_text(&in, "config.json");
    fuzz_write_text(&in, "generation_config.json");
    fuzz_write_text(&in, "preprocessor_config.json");
    fuzz_write_text(&in, "processor_config.json");
    int width = 1 + (int)fuzz_number(&in, 4000), height = 1 + (int)fuzz_number(&in, 4000);
    vlcache_status status = vlci_config_load(fuzz_folder(), &config);
    for (size_t n = 1; n <= 2 && !status; n++)
        lay_out(&config, vlci_family_among(config.family, n), width, height);
    vlci_config_release(&config);
    return 0;
}
