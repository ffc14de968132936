/*
 * chat_names.c - vicuna, mistral, chatml, llama3 and plain, for checkpoints that come without a template: the
 * forms that their families were trained with.
 */
#include "tokens/chat_names.h"

#include <stddef.h>
#include <string.h>

static const struct {
    const char *name, *text;
} templates[] = {
    {"vicuna",
     "{{ bos_token }}"
     "{% for message in messages %}"
     "{% if message['role'] == 'user' %}{{ 'USER: ' + message['content'] }}"
     "{% elif message['role'] == 'assistant' %}"
     "{{ ' ASSISTANT: ' + message['content'] + (eos_token or '</s>') }}"
     "{% else %}{{ message['content'] + ' ' }}{% endif %}"
     "{% endfor %}"
     "{% if add_generation_prompt %}{{ ' ASSISTANT:' }}{% endif %}"},
    {"mistral",
     "{{ bos_token }}"
     "{% set ns = namespace(system='') %}"
     "{% for message in messages %}"
     "{% if message['role'] == 'user' %}{{ '[INST] ' + ns.system + message['content'] + ' [/INST]' }}"
     "{% set ns.system = '' %}"
     "{% elif message['role'] == 'assistant' %}{{ ' ' + message['content'] + (eos_token or '</s>') }}"
     "{% else %}{% set ns.system = message['content'] + '\n\n' %}{% endif %}"
     "{% endfor %}"},
    {"chatml",
     "{% for message in messages %}"
     "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
     "{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"},
    {"llama3",
     "{{ bos_token }}"
     "{% for message in messages %}"
     "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] + "
     "'<|eot_id|>' }}"
     "{% endfor %}"
     "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}"},
    {"plain",
     "{% for message in messages %}"
     "{{ message['content'] }}"
     "{% if message['role'] != 'user' and not loop.last %}{{ '\n' }}{% endif %}"
     "{% endfor %}"},
};

const char *vlci_chat_text(const char *name) {
    for (size_t i = 0; i < sizeof templates / sizeof *templates; i++)
        if (strcmp(templates[i].name, name) == 0) return templates[i].text;
    return NULL;
}

const char *vlci_chat_names(void) {
    return "vicuna, mistral, chatml, llama3, plain";
}
