"""LLaVA-OneVision: SigLIP and Qwen2, a picture in tiles or several without.

    onevision-hub   llava-hf/llava-onevision-qwen2-*-hf's names and files; 30 pixels a tile, 7 a patch: 2 are left over
    onevision-v5    transformers 5's; few patches a picture, so that the tiles' features are shrunk
"""
import json

import common
from transformers import LlavaOnevisionConfig, LlavaOnevisionProcessor
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil
from transformers.models.llava_onevision.modeling_llava_onevision import image_size_to_num_patches
from transformers.models.llava_onevision.video_processing_llava_onevision import LlavaOnevisionVideoProcessor

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<image>", "<video>"]
TEMPLATE = (
    "{% for message in messages %}{{'<|im_start|>' + message['role'] + ' '}}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'image') %}{{ '<image>' }}{% endfor %}{% for content in message['content'] | "
    "selectattr('type', 'equalto', 'text') %}{{ '\\n' + content['text'] }}{% endfor %}{{'<|im_end|>'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)


def tokenizer():
    return common.byte_tokenizer(SPECIAL, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def grid(side, most):
    return [[r * side, c * side] for r in range(1, most + 1) for c in range(1, most + 1)]


def processor(side, patches, most, ratio):
    def make():
        image = LlavaOnevisionImageProcessorPil(size={"height": side, "width": side}, image_grid_pinpoints=grid(side, most),
                                                image_mean=[0.5, 0.5, 0.5], image_std=[0.5, 0.5, 0.5])  # fmt: skip
        return LlavaOnevisionProcessor(
            image, tokenizer(), LlavaOnevisionVideoProcessor(), num_image_tokens=patches**2,
            vision_feature_select_strategy="full", chat_template=TEMPLATE, vision_aspect_ratio=ratio)  # fmt: skip

    return make


def config(side, patch, most, ratio):
    def make(tokenizer):
        return LlavaOnevisionConfig(
            vision_config=dict(model_type="siglip_vision_model", hidden_size=48, intermediate_size=40, num_hidden_layers=2,
                               num_attention_heads=2, image_size=side, patch_size=patch, vision_use_head=False),
            text_config=dict(model_type="qwen2", hidden_size=64, intermediate_size=80, num_hidden_layers=2,
                             num_attention_heads=4, num_key_value_heads=2, vocab_size=(len(tokenizer) + 15) // 8 * 8,
                             rope_theta=1e6, max_position_embeddings=2048, eos_token_id=tokenizer.eos_token_id,
                             bos_token_id=tokenizer.pad_token_id),
            image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
            video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
            image_grid_pinpoints=grid(side, most), vision_aspect_ratio=ratio)  # fmt: skip

    return make


def tiles(inputs, images):
    pixels, several = inputs["pixel_values"], len(images) > 1
    shape = dict(grid_pinpoints=GRIDS[pixels.shape[-1]], patch_size=pixels.shape[-1])
    counts = [1 if several else image_size_to_num_patches(image_size=size, **shape) for size in inputs["image_sizes"]]
    return common.torch.cat([p[:n] for p, n in zip(pixels, counts)]), counts


GRIDS = {30: grid(30, 3), 28: grid(28, 3)}


def as_on_the_hub(path):
    """llava-onevision-qwen2-0.5b-ov-hf of 2024."""
    joint = json.loads((path / "processor_config.json").read_text())
    image = joint.pop("image_processor")
    joint.pop("video_processor")
    image |= {"image_processor_type": "LlavaOnevisionImageProcessor", "do_center_crop": None, "crop_size": None}
    (path / "preprocessor_config.json").write_text(json.dumps(image, indent=1) + "\n")
    (path / "processor_config.json").write_text(json.dumps(joint, indent=1) + "\n")
    config = json.loads((path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    config["use_image_newline_parameter"] = True
    text = config["text_config"]
    text.pop("dtype", None)
    text.pop("layer_types", None)
    text |= {"rope_theta": text.pop("rope_parameters")["rope_theta"], "rope_scaling": None}
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def ask(text, pictures=1):
    return f"<|im_start|>user {'<image>' * pictures}\n{text}<|im_end|><|im_start|>assistant\n"


FOLDERS = [
    common.Folder(
        "onevision-hub", processor(30, 4, 3, "anyres_max_9"), config(30, 7, 3, "anyres_max_9"),
        [("wide", [(61, 30)], ask("What is shown in this picture?")),
         ("two", [(47, 80), (45, 30)], ask("Compare.", 2)),
         ("dot", [(1, 1)], ask("Why?")),
         ("thin", [(4000, 30)], ask("Read the heading.")),
         ("none", [], "<|im_start|>user \nHow many columns are there?<|im_end|><|im_start|>assistant\n")],
        tiles, "language_model", special=SPECIAL, settle=as_on_the_hub),
    common.Folder(
        "onevision-v5", processor(28, 4, 3, "anyres_max_2"), config(28, 7, 3, "anyres_max_2"),
        [("shrunk", [(80, 77)], ask("Which word is green?")),
         ("tall", [(47, 211)], "<|im_start|>user In the <image> on the table<|im_end|><|im_start|>assistant\n"),
         ("three", [(20, 28), (28, 20), (28, 28)], ask("How many signs?", 3))],
        tiles, "language_model", special=SPECIAL, hub_names=False),
]  # fmt: skip

if __name__ == "__main__":
    common.main(FOLDERS)
