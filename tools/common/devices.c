/*
 * devices.c - the table of --list-devices.
 */
#include "common/devices.h"

#include <stdio.h>
#include <string.h>

#include "common/exit.h"

enum { MAX_DEVICES = 64 };

const char *device_type_name(vlcache_device_type type) {
    return type == VLCACHE_DEVICE_GPU ? "GPU" : type == VLCACHE_DEVICE_CPU ? "CPU" : "other";
}

int devices_print(console *c) {
    static vlcache_device_info infos[MAX_DEVICES];
    size_t n = 0;
    int widest = 4;
    vlcache_status status = vlcache_device_list(infos, MAX_DEVICES, &n);
    if (status) return console_fail_status(c, status);
    if (n > MAX_DEVICES) n = MAX_DEVICES;
    for (size_t i = 0; i < n; i++)
        if ((int)strlen(infos[i].name) > widest) widest = (int)strlen(infos[i].name);
    console_print(c, "%5s  %-5s  %9s  %-*s  %s\n", "index", "type", "memory", widest, "name", "platform");
    for (size_t i = 0; i < n; i++) {
        char memory[32];
        console_bytes(infos[i].global_memory, memory);
        console_print(c, "%5d  %-5s  %9s  %-*s  %s\n", infos[i].index, device_type_name(infos[i].type),
                      memory, widest, infos[i].name, infos[i].platform);
    }
    return EXIT_OK;
}
