#!/usr/bin/env python3
"""Writes what transformers' processor makes of questions that say where their pictures stand: prompts.json, one object a
line {question, images, ids}, with the demonstration model; a run of n visual tokens is written as -n. Run it anywhere."""
import itertools
import json
import os

from PIL import Image
from transformers import AutoProcessor

HERE = os.path.dirname(os.path.abspath(__file__))
MODEL = os.path.join(HERE, "..", "..", "tools", "demo", "model")
QUESTIONS = [
    (1, "What is the Total?"),
    (1, "<image>\nWhat is the Total?"),
    (2, "What is the Total in the second picture?"),
    (2, "<image>\n<image>\nWhat is the Total in the second picture?"),
    (2, "First: <image> Second: <image> Which picture says Total: $12.50?"),
    (3, "<image>\n<image>\n<image>\nWhich picture is a chart?"),
    (3, "First: <image> Second: <image> Third: <image> Which picture shows a red circle?"),
    (2, "What is the Total? <image><image>"),
    (2, "  <image>a <image>\n\nRead the page."),
]


def ids_of(processor, question, pictures, template):
    if template:
        content = [{"type": "image"}] * len(pictures) + [{"type": "text", "text": question}]
        text = processor.apply_chat_template([{"role": "user", "content": content}], add_generation_prompt=True)
    else:
        text = f"<s>USER: {question} ASSISTANT:"
    return processor(images=pictures, text=text)["input_ids"][0]


def runs(ids, image):
    for is_image, group in itertools.groupby(ids, lambda i: i == image):
        group = list(group)
        yield from [-len(group)] if is_image else group


def main():
    processor = AutoProcessor.from_pretrained(MODEL)
    image = processor.tokenizer.convert_tokens_to_ids("<image>")
    with open(os.path.join(HERE, "prompts.json"), "w") as f:
        f.write("[\n")
        for k, (n, question) in enumerate(QUESTIONS):
            pictures = [Image.new("RGB", (336, 336), (40 * i, 90, 200)) for i in range(n)]
            ids = ids_of(processor, question, pictures, "<image>" not in question)
            line = {"question": question, "images": n, "ids": list(runs(ids, image))}
            f.write(json.dumps(line) + (",\n" if k + 1 < len(QUESTIONS) else "\n"))
        f.write("]\n")


if __name__ == "__main__":
    main()
