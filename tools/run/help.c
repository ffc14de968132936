/*
 * help.c - --help: usage, the table of flags with their defaults, chat, environment, exit codes, examples.
 */
#include "run/help.h"

#include <stdio.h>

#include "common/environment.h"
#include "common/folder.h"
#include "run/options.h"

static const char usage[] =
    "vlcache-run " VLCACHE_VERSION
    ": ask a vision-language model about pictures and videos, on any OpenCL device, with a small\n"
    "KV cache.\n"
    "\n"
    "Usage:\n"
    "  vlcache-run [-m DIR] [--image FILE]... -p TEXT   one question; its answer on standard output\n"
    "  vlcache-run [-m DIR] [--image FILE]...           a chat: one question a line\n"
    "  vlcache-run --list-devices | --help | --version\n";

static const char rest[] =
    "\n"
    "Other spellings: --n-predict for --predict, --temperature for --temp. Defaults stand in [brackets].\n"
    "\n"
    "In a chat\n"
    "  /image FILE               show a picture with the next question; may be given again\n"
    "  /video FILE, /frames DIR  the same of a video, and of a folder of frames (--fps says their rate)\n"
    "  /clear                    forget the conversation, and what was shown and not yet asked about\n"
    "  /help                     these commands\n"
    "  /quit                     end, as the end of input does\n"
    "  Ctrl-C ends an answer; at the prompt it ends the chat. Input that is not a terminal is read line\n"
    "  by line; an error does not end it, Ctrl-C does; the last error gives the exit code.\n"
    "\n"
    "What goes where\n"
    "  Standard output holds the answer and nothing else, piece by piece as it is generated. Standard\n"
    "  error holds progress bars (on a terminal only) and one summary line: tokens, time to the first\n"
    "  token, tokens a second after it, and how much of the prompt's keys and values was kept; in a chat,\n"
    "  of those of the whole conversation.\n"
    "  In --json, timings_ms.load is opening the device and loading the model; image, vision, prefill,\n"
    "  compress and decode are apart from one another: what is deferred of compress comes between tokens,\n"
    "  and decode does not have it; build (of kernels) is contained in them.\n"
    "  weights has their bytes, and how many of them a processor reads in their files (--no-mmap: none).\n"
    "  frames lists those of videos that were seen: video, frame of it, second.\n"
    "  prompt.post_vision counts the text tokens behind any picture, which vlcache chooses by.\n"
    "  With --recall host, recall has the bytes in the host's memory, and bytes and milliseconds of what\n"
    "  came back for the turn; saves is false where host and device have one memory.\n" ENVIRONMENT_HELP
    "\n"
    "Exit codes\n"
    "  0     the answer is complete, or the reader of standard output has left\n"
    "  1     usage: a flag; pictures without their marks in a --raw prompt; a prompt beyond the context\n"
    "  2     a file: model or picture missing, malformed or not supported; output that cannot be written\n"
    "  3     no such device, or the device or its driver failed\n"
    "  4     out of host or device memory\n"
    "  130   Ctrl-C: the first ends the answer, the second the program\n"
    "\n"
    "Examples\n"
    "  vlcache-run --image receipt.png -p 'What is the total?'\n"
    "  vlcache-run -m llava-1.5-7b-hf --image cat.jpg -p 'Describe the picture.' -n 100 --budget 0.2\n"
    "  vlcache-run --image page.png -p 'What is the heading?' --heatmap kept.png --policy vlcache\n"
    "  vlcache-run -m Qwen2.5-VL-3B-Instruct --video talk.mp4 -p 'What happens?' --sample-fps 1\n"
    "  vlcache-run --image page.png -p 'What is the heading?' --json | jq .kv_bytes\n"
    "  curl -s https://example.org/cat.jpg | vlcache-run --image - -p 'What is this?'\n";

void help_print(console *c) {
    char model[FOLDER_BYTES];
    fputs(usage, stdout);
    options_print_flags();
    fputs(rest, stdout);
    if (folder_of_model(model)) console_print(c, "\nThe model without -m: %s\n", model);
}
