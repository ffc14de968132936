#!/usr/bin/env python3
"""Writes chats.json: the ids that transformers gives for whole conversations, turn by turn, with the tiny models'
processors: their own templates and those below. One object a line {model, template (null: its own), system,
turns: [{text, images, answer, ids}], rewritten}; ids are of all up to the question, and what stands in front of the
answer. Run it anywhere."""
import json
import os

os.environ["OMP_NUM_THREADS"] = "1"
from transformers import AutoProcessor  # noqa: E402

HERE = os.path.dirname(os.path.abspath(__file__))
# As LLaVA 1.5 has it on the hub: pictures first, lists for all roles, no BOS, a blank behind every text.
HUB = (
    "{% for message in messages %}{% if message['role'] != 'system' %}{{ message['role'].upper() + ': '}}{% endif %}"
    "{% for content in message['content'] | selectattr('type', 'equalto', 'image') %}{{ '<image>\n' }}{% endfor %}"
    "{% if message['role'] != 'assistant' %}{% for content in message['content'] | selectattr('type', 'equalto', 'text') %}"
    "{{ content['text'] + ' '}}{% endfor %}{% else %}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'text') %}{% generation %}{{ content['text'] + ' '}}{% endgeneration %}{% endfor %}"
    "{% endif %}{% endfor %}{% if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif %}"
)  # fmt: skip
# A default system turn, texts or lists.
QWEN = (
    "{% for m in messages %}{% if loop.first and m['role'] != 'system' %}<|im_start|>system\nBe kind.<|im_end|>\n{% endif %}"
    "<|im_start|>{{ m.role }}\n{% if m.content is string %}{{ m.content }}<|im_end|>\n{% else %}{% for c in m.content %}"
    "{% if c.type == 'image' or 'image' in c %}<image>{% elif 'text' in c %}{{ c.text }}{% endif %}{% endfor %}"
    "<|im_end|>\n{% endif %}{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)  # fmt: skip
# Roles must alternate, texts are trimmed, the system's words go to the first question.
STRICT = (
    "{{ bos_token }}{% if messages[0].role == 'system' %}{% set system = messages[0].content + '\n\n' %}"
    "{% set rest = messages[1:] %}{% else %}{% set system = '' %}{% set rest = messages %}{% endif %}"
    "{% for m in rest %}{% if (m.role == 'user') != (loop.index0 % 2 == 0) %}{{ raise_exception('roles must alternate') }}"
    "{% endif %}{% if m.role == 'user' %}[INST] {{ (system if loop.first else '') + m.content | trim }} [/INST]"
    "{% else %} {{ m.content | trim }}{{ eos_token }}{% endif %}{% endfor %}"
)  # fmt: skip
# What stands before </think> goes from earlier answers.
THINK = (
    "{% for m in messages %}{% set content = m.content %}{% if m.role == 'assistant' %}"
    "{% set content = m.content.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "<|im_start|>{{ m.role }}\n{{ content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n<think>\n{% endif %}"
)  # fmt: skip
TURNS = [("What is shown?", 1, "A small red square."), ("And the second word?", 0, "It is green"), ("Which one is larger?", 1, "")]
TWO = [("First or second?", 2, "The first is \u00e9 \u8a9e 12.5."), ("  Why\n\nis that? ", 0, "")]
THOUGHT = [("One?", 0, "Hm.\n</think>\n\nTwo."), ("Three?", 0, "")]
CASES = [
    # model, template, kind of content, system, turns
    ("llava-llama-mha", None, "mixed", None, TURNS), ("llava-llama-mha", None, "mixed", None, TWO),
    ("llava-llama-mha", HUB, "items", None, TURNS), ("llava-llama-mha", HUB, "items", "Answer briefly.", TWO),
    ("llava-mistral-gqa4", None, "text", None, TURNS),
    ("llava-mistral-gqa4", STRICT, "text", "Answer briefly.", TURNS), ("next-mistral-gqa2", HUB, "items", None, TWO),
    ("llava-llama-full", None, "text", None, TURNS), ("llava-llama-full", None, "text", "Answer briefly.", TWO),
    ("llava-llama-full", QWEN, "items", None, TURNS), ("llava-llama-full", QWEN, "items", "Answer briefly.", TWO),
    ("llava-llama-full", THINK, "text", None, THOUGHT), ("next-llama-mqa", None, "text", None, TURNS),
    ("next-llama-mqa", None, "text", "Answer briefly.", TWO), ("next-llama-mqa", QWEN, "items", None, TWO),
]  # fmt: skip


def message(role, kind, text, images):
    if kind == "items" or (kind == "mixed" and role == "user"):
        return {"role": role, "content": [{"type": "image"}] * images + [{"type": "text", "text": text}]}
    return {"role": role, "content": "<image>\n" * images + text}


def ids_of(processor, messages, template):
    """As the processor's apply_chat_template() does with tokenize=True: BOS is added unless it is there. Where only
    the tokenizer has a template, that one is taken."""
    template = template or processor.chat_template or processor.tokenizer.chat_template
    text = processor.apply_chat_template(messages, chat_template=template, tokenize=False, add_generation_prompt=True)
    bos = processor.tokenizer.bos_token
    return processor.tokenizer(text, add_special_tokens=not (bos and text.startswith(bos)))["input_ids"]


def main():
    lines = []
    for model, template, kind, system, turns in CASES:
        processor = AutoProcessor.from_pretrained(os.path.join(HERE, "models", model))
        messages = [message("system", kind, system, 0)] if system else []
        line = {"model": model, "template": template, "system": system, "turns": [], "rewritten": template is THINK}
        for text, images, answer in turns:
            messages.append(message("user", kind, text, images))
            ids = ids_of(processor, messages, template)
            line["turns"].append({"text": text, "images": images, "answer": answer, "ids": ids})
            messages.append(message("assistant", kind, answer, 0))
        lines.append(json.dumps(line))
    with open(os.path.join(HERE, "chats.json"), "w") as f:
        f.write("[\n" + ",\n".join(lines) + "\n]\n")


if __name__ == "__main__":
    main()
