/*
 * devices.c - --list-devices: a table, or JSON.
 */
#include "common/devices.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/exit.h"
#include "common/printable.h"

enum { MAX_DEVICES = 64 };

const char *device_type_name(vlcache_device_type type) {
    return type == VLCACHE_DEVICE_GPU ? "GPU" : type == VLCACHE_DEVICE_CPU ? "CPU" : "other";
}

json_t *device_info_json(const vlcache_device_info *told) {
    vlcache_device_info info = *told;
    return json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:I, s:I, s:I, s:I, s:I, s:b, s:b, s:b, s:s}",
                     "index", info.index, "name", printable_utf8(info.name), "platform",
                     printable_utf8(info.platform), "vendor", printable_utf8(info.vendor), "type",
                     device_type_name(info.type), "driver", printable_utf8(info.driver), "version",
                     printable_utf8(info.version), "compute_units", (json_int_t)info.compute_units,
                     "global_memory", (json_int_t)info.global_memory, "max_allocation",
                     (json_int_t)info.max_allocation, "local_memory", (json_int_t)info.local_memory,
                     "max_work_group", (json_int_t)info.max_work_group, "fp16", info.fp16, "subgroups",
                     info.subgroups, "unified_memory", info.unified_memory, "matrix_units",
                     printable_utf8(info.matrix_units));
}

static int print_json(console *c, const vlcache_device_info *infos, size_t n) {
    json_t *devices = json_array();
    for (size_t i = 0; i < n; i++) json_array_append_new(devices, device_info_json(&infos[i]));
    json_t *object = json_pack("{s:s, s:o}", "version", vlcache_version(), "devices", devices);
    char *text = object ? json_dumps(object, JSON_INDENT(2)) : NULL;
    int code = text ? EXIT_OK : console_fail(c, EXIT_MEMORY, "--json: out of host memory");
    if (text) console_print(c, "%s\n", text);
    free(text);
    json_decref(object);
    return code ? code : console_check_output(c);
}

static void print_table(console *c, const vlcache_device_info *infos, size_t n) {
    int widest = 4;
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(infos[i].name) > widest) widest = (int)strlen(infos[i].name);
    console_print(c, "%5s  %-5s  %9s  %-*s  %s\n", "index", "type", "memory", widest, "name", "platform");
    for (size_t i = 0; i < n; i++) {
        char memory[32];
        console_bytes(infos[i].global_memory, memory);
        console_print(c, "%5d  %-5s  %9s  %-*s  %s\n", infos[i].index, device_type_name(infos[i].type),
                      memory, widest, infos[i].name, infos[i].platform);
    }
}

int devices_print(console *c, bool json) {
    static vlcache_device_info infos[MAX_DEVICES];
    size_t n = 0;
    vlcache_status status = vlcache_device_list(infos, MAX_DEVICES, &n);
    if (status) return console_fail_status(c, status);
    if (n > MAX_DEVICES) n = MAX_DEVICES;
    if (json) return print_json(c, infos, n);
    print_table(c, infos, n);
    return EXIT_OK;
}
