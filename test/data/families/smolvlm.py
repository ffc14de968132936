"""SmolVLM and Idefics3: the same but for their processor's class and how old their hub folders are.

    smolvlm-tiles   transformers 5's files; tied embeddings
    idefics3-hub    HuggingFaceM4/Idefics3-8B-Llama3's files; scale 3, 15 pixels a patch
"""
import json

import common
from transformers import Idefics3Config, Idefics3Processor, SmolVLMConfig, SmolVLMProcessor
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE
from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor

MARKS = ["<fake_token_around_image>", "<image>", "<end_of_utterance>"]
TILES = [f"<row_{r + 1}_col_{c + 1}>" for r in range(4) for c in range(4)]
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<global-img>", *TILES, *MARKS]


def tokenizer():
    return common.byte_tokenizer(SPECIAL, "digits", 310, words=["\n\n"], bos_token="<|im_start|>",
                                 eos_token="<end_of_utterance>", pad_token="<|im_end|>", unk_token="<|endoftext|>")  # fmt: skip


def settings(tokenizer, side, patch, scale, text):
    vocab = (len(tokenizer) + 15) // 8 * 8
    ids = dict(bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)
    shape = dict(hidden_size=64, intermediate_size=80, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2,
                 head_dim=16, vocab_size=vocab, rms_norm_eps=1e-5, rope_theta=10000.0, max_position_embeddings=2048)  # fmt: skip
    return dict(
        scale_factor=scale, image_token_id=tokenizer.convert_tokens_to_ids("<image>"),
        vision_config=dict(hidden_size=48, intermediate_size=40, num_hidden_layers=2, num_attention_heads=2,
                           image_size=side, patch_size=patch),
        text_config=dict(model_type="llama", **(shape | ids | text)),
        tie_word_embeddings=text.get("tie_word_embeddings", False),
    )  # fmt: skip


def tiles(inputs, images):
    pixels = inputs["pixel_values"][0]
    counts = [max(1, r * c + 1 if r * c else 1) for r, c in zip(inputs["rows"][0], inputs["cols"][0])]
    assert sum(counts) == len(pixels)
    return pixels, counts


def inputs(make):
    """With rows and columns, which the model itself does not take."""

    def inputs_of(processor, prompt, images):
        if not images:
            return processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
        made = processor(text=[prompt], images=[images], add_special_tokens=False, return_tensors="pt")
        seen = processor.image_processor([images], return_row_col_info=True)
        return Inputs(made, seen["rows"], seen["cols"])

    return inputs_of


class Inputs(dict):
    """What the model takes; `rows` and `cols` stand beside it."""

    def __init__(self, made, rows, cols):
        super().__init__({k: v for k, v in made.items() if k not in ("rows", "cols")})
        self.rows, self.cols = rows, cols

    def __missing__(self, key):
        return {"rows": self.rows, "cols": self.cols}[key]


def smolvlm_processor():
    image = SmolVLMImageProcessorPil(size={"longest_edge": 84}, max_image_size={"longest_edge": 28})
    video = SmolVLMVideoProcessor(size={"longest_edge": 28}, max_image_size={"longest_edge": 28}, num_frames=6, fps=1)
    return SmolVLMProcessor(image, tokenizer(), video, image_seq_len=4, chat_template=DEFAULT_CHAT_TEMPLATE)


def idefics3_processor():
    image = Idefics3ImageProcessorPil(size={"longest_edge": 90}, max_image_size={"longest_edge": 45})
    return Idefics3Processor(image, tokenizer(), image_seq_len=1, chat_template=DEFAULT_CHAT_TEMPLATE)


def as_on_the_hub(path):
    """Idefics3-8B-Llama3 of 2024: preprocessor_config.json, torch_dtype, an old rope, no generation settings."""
    joint = json.loads((path / "processor_config.json").read_text())
    image = joint.pop("image_processor")
    image["image_processor_type"] = "Idefics3ImageProcessor"
    (path / "preprocessor_config.json").write_text(json.dumps(image, indent=1) + "\n")
    (path / "processor_config.json").write_text(json.dumps(joint, indent=1) + "\n")
    config = json.loads((path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    text = config["text_config"]
    text.pop("dtype", None)
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": None}
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def ask(text, pictures=1):
    return f"<|im_start|>User:{'<image>' * pictures}{text}<end_of_utterance>\nAssistant:"


FOLDERS = [
    common.Folder(
        "smolvlm-tiles", smolvlm_processor,
        lambda t: SmolVLMConfig(**settings(t, 28, 7, 2, {"tie_word_embeddings": True})),
        [("square", [(50, 56)], ask("What is shown in this picture?")),
         ("tall", [(47, 211)], ask("How many columns are there in 2024?")),
         ("dot", [(1, 1)], ask("Why?")),
         ("thin", [(4000, 30)], ask("Read the heading.")),
         ("turns", [(61, 23), (28, 56)], ask("Look.") + " A red square.<end_of_utterance>\n" + ask("And this one?")[12:]),
         ("none", [], "<|im_start|>User: What is the total of the invoice?<end_of_utterance>\nAssistant:")],
        tiles, "text_model", "connector", SPECIAL, hub_names=False, processor_inputs=inputs(smolvlm_processor)),
    common.Folder(
        "idefics3-hub", idefics3_processor,
        lambda t: Idefics3Config(**settings(t, 45, 15, 3, {})),
        [("two", [(45, 45), (90, 40)], ask("Compare.", 2)),
         ("wide", [(211, 47)], "<|im_start|>User: In <image> which word is green?<end_of_utterance>\nAssistant:")],
        tiles, "text_model", "connector", SPECIAL, settle=as_on_the_hub, processor_inputs=inputs(idefics3_processor)),
]  # fmt: skip

if __name__ == "__main__":
    common.main(FOLDERS)
