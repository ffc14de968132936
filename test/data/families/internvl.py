"""InternVL as transformers has it (the hub's -hf folders): InternViT and Qwen2 or Qwen3.

    internvl-hub     OpenGVLab/InternVL3-*-hf's names and files; q, k and v with biases
    internvl-qknorm  transformers 5's; InternViT-6B's RMSNorms, of q and k too, and Qwen3
"""
import json

import common
from transformers import InternVLConfig, InternVLProcessor
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.internvl.video_processing_internvl import InternVLVideoProcessor

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<img>", "</img>", "<IMG_CONTEXT>", "<video>"]
NAMED = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>",
         "video_token": "<video>"}  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n'}}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}{{ '<IMG_CONTEXT>\\n' }}{% elif content['type'] == 'text' %}"
    "{{ content['text'] }}{% endif %}{% endfor %}{{'<|im_end|>\\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{'<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer():
    return common.byte_tokenizer(SPECIAL, eos_token="<|im_end|>", pad_token="<|endoftext|>", extra_special_tokens=NAMED)


def processor(least, most):
    def make():
        image = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, min_patches=least, max_patches=most)
        return InternVLProcessor(image, tokenizer(), InternVLVideoProcessor(), image_seq_length=4, chat_template=TEMPLATE)

    return make


def config(vision, text):
    def make(tokenizer):
        shape = dict(hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4,
                     num_key_value_heads=2, vocab_size=(len(tokenizer) + 15) // 8 * 8, rope_theta=1e6,
                     max_position_embeddings=2048, eos_token_id=tokenizer.eos_token_id, bos_token_id=None)  # fmt: skip
        return InternVLConfig(
            vision_config=dict(hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                               image_size=[28, 28], patch_size=[7, 7]) | vision,
            text_config=shape | text, image_token_id=tokenizer.convert_tokens_to_ids("<IMG_CONTEXT>"),
            image_seq_length=4, tie_word_embeddings=text.get("tie_word_embeddings", False))  # fmt: skip

    return make


def inputs(processor, prompt, images):
    if not images:
        return processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    made = processor(text=[prompt], images=images, add_special_tokens=False, return_tensors="pt")
    return Inputs(made, [processor.image_processor.get_number_of_image_patches(i.height, i.width, {"crop_to_patches": True})
                         for i in images])  # fmt: skip


class Inputs(dict):
    """What the model takes; `counts` stands beside it."""

    def __init__(self, made, counts):
        super().__init__(made)
        self.counts = counts


def tiles(inputs, images):
    assert sum(inputs.counts) == len(inputs["pixel_values"])
    return inputs["pixel_values"], inputs.counts


def as_on_the_hub(path):
    """InternVL3-*-hf of 2025."""
    joint = json.loads((path / "processor_config.json").read_text())
    image = joint.pop("image_processor")
    joint.pop("video_processor")
    image |= {"image_processor_type": "GotOcr2ImageProcessorFast", "crop_to_patches": False, "crop_size": None}
    (path / "preprocessor_config.json").write_text(json.dumps(image, indent=1) + "\n")
    (path / "processor_config.json").write_text(json.dumps(joint, indent=1) + "\n")
    config = json.loads((path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    text = config["text_config"]
    text.pop("dtype", None)
    text.pop("layer_types", None)
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"factor": 2.0, "rope_type": "dynamic", "type": "dynamic"}}
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def ask(text, pictures=1):
    return "<|im_start|>user\n" + "<IMG_CONTEXT>\n" * pictures + f"{text}<|im_end|>\n<|im_start|>assistant\n"


FOLDERS = [
    common.Folder(
        "internvl-hub", processor(1, 6),
        config(dict(attention_bias=True), dict(model_type="qwen2")),
        [("wide", [(61, 30)], ask("What is shown in this picture?")),
         ("tall", [(47, 211)], ask("Describe it.")),
         ("dot", [(1, 1)], ask("Why?")),
         ("thin", [(4000, 30)], ask("Read the heading.")),
         ("two", [(28, 28), (90, 60)], ask("Compare.", 2)),
         ("none", [], "<|im_start|>user\nHow many columns are there?<|im_end|>\n<|im_start|>assistant\n")],
        tiles, "language_model", special=SPECIAL, settle=as_on_the_hub, processor_inputs=inputs),
    common.Folder(
        "internvl-qknorm", processor(2, 5),
        config(dict(use_qk_norm=True, norm_type="rms_norm", use_mean_pooling=False),
               dict(model_type="qwen3", head_dim=24, tie_word_embeddings=True)),
        [("square", [(50, 50)], ask("Which word is green?")),
         ("last", [(31, 77)], "<|im_start|>user\nOn the table: <IMG_CONTEXT><|im_end|>\n<|im_start|>assistant\n")],
        tiles, "language_model", special=SPECIAL, hub_names=False, processor_inputs=inputs),
]  # fmt: skip

if __name__ == "__main__":
    common.main(FOLDERS)
