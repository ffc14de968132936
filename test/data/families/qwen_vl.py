"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: pictures of any size, M-RoPE; windows; DeepStack.

    qwen2-vl-hub    Qwen2-VL's files of 2024: the text model's settings in the root, min_pixels and max_pixels
    qwen2_5-vl      transformers 5's files; windows of 4 x 4 tokens
    qwen2_5-vl-hub  Qwen2.5-VL's files of 2025; windows of 2 x 2 tokens, three layers of four
    qwen3-vl        tied embeddings, heads that are not hidden / heads wide, three sets of DeepStack features

Beside the cases, more.json of a folder has a talk of two turns and what VL-Cache keeps of a prompt, whose rows are not
where their positions are.
"""
import json
import sys
import types

import common
import make_goldens
import numpy as np
import taps
import torch
from transformers import Qwen2_5_VLConfig, Qwen2_5_VLProcessor, Qwen2VLConfig, Qwen2VLProcessor
from transformers import Qwen2VLVideoProcessor, Qwen3VLConfig, Qwen3VLProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|vision_pad|>",
           "<|image_pad|>", "<|video_pad|>"]  # fmt: skip
SYSTEM = (
    "{% if loop.first and message['role'] != 'system' %}<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
    "{% endif %}"
)
TEMPLATE = (
    "{% for message in messages %}SYSTEM<|im_start|>{{ message['role'] }}\n"
    "{% if message['content'] is string %}{{ message['content'] }}{% else %}{% for content in message['content'] %}"
    "{% if content['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif 'text' in content %}{{ content['text'] }}{% endif %}{% endfor %}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
PATCH, MERGE = 4, 2
FACTOR = PATCH * MERGE
PIXELS = {"shortest_edge": 4 * FACTOR**2, "longest_edge": 30 * FACTOR**2}


def tokenizer():
    return common.byte_tokenizer(SPECIAL, "qwen", 300, eos_token="<|im_end|>", pad_token="<|endoftext|>")


def processor(make, video, system, **image):
    def made():
        sizes = dict(patch_size=PATCH, merge_size=MERGE, temporal_patch_size=2, size=dict(PIXELS))
        template = TEMPLATE.replace("SYSTEM", SYSTEM if system else "")
        return make(Qwen2VLImageProcessorPil(**sizes, **image), tokenizer(), video(**sizes), chat_template=template)

    return made


def settings(t, vision, sections, text=(), **rope):
    ids = {name: t.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in
           [("image_token_id", "image_pad"), ("video_token_id", "video_pad"), ("vision_start_token_id", "vision_start"),
            ("vision_end_token_id", "vision_end")]}  # fmt: skip
    shape = dict(hidden_size=48, intermediate_size=56, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=1,
                 vocab_size=(len(t) + 15) // 8 * 8, rms_norm_eps=1e-6, max_position_embeddings=2048,
                 bos_token_id=t.convert_tokens_to_ids("<|endoftext|>"), eos_token_id=t.eos_token_id,
                 rope_parameters={"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections, **rope})  # fmt: skip
    eyes = dict(depth=3, num_heads=2, patch_size=PATCH, spatial_merge_size=MERGE, temporal_patch_size=2)
    tied = dict(text).get("tie_word_embeddings", False)
    return dict(vision_config=eyes | vision, text_config=shape | dict(text), tie_word_embeddings=tied, **ids)


def tiles(inputs, images):
    """Planes of each picture, one after the other: the processor's patches, put back; the second frame is the first."""
    out, at = [], 0
    for t, h, w in inputs["image_grid_thw"].tolist():
        rows = inputs["pixel_values"][at : at + t * h * w]
        rows = rows.reshape(h // MERGE, w // MERGE, MERGE, MERGE, 3, 2, PATCH, PATCH)
        assert t == 1 and (rows[:, :, :, :, :, 0] == rows[:, :, :, :, :, 1]).all()
        out.append(rows[:, :, :, :, :, 0].permute(4, 0, 2, 5, 1, 3, 6).reshape(-1))
        at += t * h * w
    return torch.cat(out), [1] * len(images)


def ask(text, pictures=1, system=True, turns=()):
    """What the template makes of a question behind its pictures, and of (answer, question, pictures) that follow."""
    said = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" if system else ""
    picture = "<|vision_start|><|image_pad|><|vision_end|>"
    said += f"<|im_start|>user\n{picture * pictures}{text}<|im_end|>\n<|im_start|>assistant\n"
    for answer, question, more in turns:
        said += f"{answer}<|im_end|>\n<|im_start|>user\n{picture * more}{question}<|im_end|>\n<|im_start|>assistant\n"
    return said


def as_on_the_hub(path):
    """The files of 2024 and 2025: one flat config.json, in_chans, mrope, and pixels beside no size."""
    config = json.loads((path / "config.json").read_text())
    text, vision = config.pop("text_config"), config["vision_config"]
    kind = text.pop("model_type").removesuffix("_text")
    rope = text.pop("rope_parameters")
    text |= {"rope_theta": rope["rope_theta"], "rope_scaling": {"type": "mrope", "mrope_section": rope["mrope_section"]}}
    for name in ("layer_types", "pad_token_id", "dtype"):
        text.pop(name, None)
    vision.pop("rope_parameters")
    vision |= {"model_type": kind, "in_chans": vision.pop("in_channels"), "spatial_patch_size": vision["patch_size"]}
    config |= text
    config["torch_dtype"] = config.pop("dtype")
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    joint = json.loads((path / "processor_config.json").read_text())
    image, size = joint["image_processor"], joint["image_processor"].pop("size")
    image |= {"min_pixels": size["shortest_edge"], "max_pixels": size["longest_edge"]}
    image["image_processor_type"] = "Qwen2VLImageProcessor"
    image = {k: v for k, v in image.items() if k.startswith("image_") or k.endswith(("_pixels", "_size"))}
    (path / "preprocessor_config.json").write_text(json.dumps(image, indent=1) + "\n")
    template = (path / "chat_template.jinja").read_text()
    (path / "chat_template.json").write_text(json.dumps({"chat_template": template}, indent=1) + "\n")
    for name in ("processor_config.json", "chat_template.jinja"):
        (path / name).unlink()


def folder(name, processor_of, config, cases, **more):
    return common.Folder(name, processor_of, config, cases, tiles, "language_model", "visual.merger", SPECIAL, **more)


QWEN2 = dict(embed_dim=32, hidden_size=48, mlp_ratio=2)
QWEN2_5 = dict(hidden_size=32, intermediate_size=42, out_hidden_size=48, window_size=4 * FACTOR, fullatt_block_indexes=[1])
QWEN3 = dict(hidden_size=32, intermediate_size=44, out_hidden_size=48, num_position_embeddings=49,
             deepstack_visual_indexes=[0, 1, 2])  # fmt: skip
HALF = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
ODD = [
    ("tall", [(47, 211)], "How many columns are there in 2024?"),
    ("dot", [(1, 1)], "Why?"),
]
FOLDERS = [
    folder(
        "qwen2-vl-hub", processor(Qwen2VLProcessor, Qwen2VLVideoProcessor, True),
        lambda t: Qwen2VLConfig(**settings(t, QWEN2, [2, 3, 3])),
        [("square", [(40, 40)], ask("What is shown in this picture?")),
         ("two", [(47, 21), (28, 56)], ask("Compare.", 2)),
         ("thin", [(4000, 30)], ask("Read the heading.")),
         ("none", [], ask("What is the total of the invoice?", 0))], settle=as_on_the_hub),
    folder(
        "qwen2_5-vl", processor(Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, True),
        lambda t: Qwen2_5_VLConfig(**settings(t, QWEN2_5, [2, 3, 3])),
        [("square", [(44, 40)], ask("What is shown in this picture?")),
         *[(name, sizes, ask(question)) for name, sizes, question in ODD],
         ("turns", [(61, 23), (28, 56)], ask("Look.", turns=[("A red square.", "And this one?", 1)]))], hub_names=False),
    folder(
        "qwen2_5-vl-hub", processor(Qwen2_5_VLProcessor, Qwen2VLVideoProcessor, True),
        lambda t: Qwen2_5_VLConfig(**settings(t, QWEN2_5 | {"window_size": 2 * FACTOR, "fullatt_block_indexes": [2]}, [4, 2, 2])),
        [("wide", [(55, 30)], ask("Is it a cat?")),
         ("three", [(30, 30), (8, 80), (16, 16)], ask("Which one is green?", 3))], settle=as_on_the_hub),
    folder(
        "qwen3-vl", processor(Qwen3VLProcessor, Qwen3VLVideoProcessor, False, **HALF),
        lambda t: Qwen3VLConfig(**settings(t, QWEN3, [4, 4, 4], {"num_hidden_layers": 4, "head_dim": 24, "tie_word_embeddings": True},
                                           mrope_interleaved=True)),
        [("square", [(44, 40)], ask("What is shown in this picture?", system=False)),
         *[(name, sizes, ask(question, system=False)) for name, sizes, question in ODD],
         ("turns", [(61, 23), (28, 56)], ask("Look.", system=False, turns=[("A red square.", "And this one?", 1)])),
         ("none", [], ask("What is the total of the invoice?", 0, False))], hub_names=False),
]  # fmt: skip


# ---- beyond one turn ----------------------------------------------------------------------------------------------

ANSWER, BUDGETS = 12, [0.15, 0.4]
TALK = [([(47, 30), (24, 64)], "Which one is green?"), ([(61, 23)], "And this one?"), ([], "Why?")]


def joined(turns):
    """Turns and answers, one behind the other, as one prompt."""
    rows = ("input_ids", "mm_token_type_ids", "attention_mask")
    names = {name for turn in turns for name in turn}
    return {name: torch.cat([t[name] for t in turns if name in t], 1 if name in rows else 0) for name in names}


def words(ids):
    ids = torch.tensor([ids])
    return {"input_ids": ids, "mm_token_type_ids": torch.zeros_like(ids), "attention_mask": torch.ones_like(ids)}


def talk(model, processor, prompts, attempt):
    """Three turns, answers of ANSWER tokens but the last; each is read as if all before had been one prompt."""
    turns, made, pictures = [], {}, []
    for k, (sizes, prompt) in enumerate(prompts):
        images = [common.picture(7000 + 100 * attempt + 10 * k + i, *size) for i, size in enumerate(sizes)]
        turns.append(dict(processor(text=[prompt], images=[images] if images else None, return_tensors="pt")))
        tokens, logits = common.decode(model, joined(turns))
        margins = [float((b[0] - b[1]) / b[0].abs()) for b in (torch.topk(step, 2).values for step in logits)]
        if min(margins[: ANSWER + 1]) < common.MARGIN:
            raise common.Near("two tokens are tied")
        made[f"talk.{k}.ids"] = turns[-1]["input_ids"][0].numpy()
        made[f"talk.{k}.tokens"] = np.array(tokens[:ANSWER])
        turns.append(words(tokens[:ANSWER]))
        pictures.append(images)
    return made, pictures


@torch.no_grad()
def kept(watched, processor, prompt, sizes, attempt, special):
    """VL-Cache's taps of ../README.md for one prompt."""
    images = [common.picture(9000 + 10 * attempt + i, *size) for i, size in enumerate(sizes)]
    inputs = {k: v.double() if v.is_floating_point() else v for k, v in
              processor(text=[prompt], images=[images], return_tensors="pt").items()}  # fmt: skip
    ids, watch, out, at = inputs["input_ids"][0].tolist(), make_goldens.WATCH, {}, None

    def prefill():
        watch.kept, watch.prompt, watched.model.rope_deltas = None, len(ids), None
        made = watched(**inputs, use_cache=True)
        return made.logits[0, -1], made.cache

    logits = prefill()[0]
    stages = types.SimpleNamespace(model=watched)
    for at, mask in make_goldens.vlcache(stages, ids, watched.config.image_token_id, BUDGETS, out):
        cache, step, tokens = prefill()[1], logits, []
        watch.kept = mask
        while True:
            best = torch.topk(step, 2)
            if (best.values[0] - best.values[1]) / best.values[0].abs() < common.MARGIN:
                raise common.Near("two tokens are tied")
            tokens.append(int(best.indices[0]))
            if len(tokens) == make_goldens.COMPACTED:
                break
            step = watched(input_ids=torch.tensor([tokens[-1:]]), cache=cache, use_cache=True).logits[0, -1]
        if set(tokens) & set(special):
            raise common.Near("a special token was chosen")
        out[at + "tokens"] = np.array(tokens)
    return {"prompt.ids": np.array(ids)} | out, images


def search(what, make):
    for attempt in range(200):
        try:
            return make(attempt)
        except (common.Near, make_goldens.Near) as why:
            reason = why
    raise SystemExit(f"{what}: no safe picture in 200: {reason}")


def save(path, name, made, pictures):
    taps.write(path / f"{name}.taps", made)
    for i, image in enumerate(pictures):
        image.save(path / f"{name}.{i}.png", optimize=True)


def more(folder, system):
    """golden/more.json of a folder, and what it names."""
    path = common.HERE.parent / "models" / folder.name
    processor = folder.processor()
    exact = common.load(path, torch.float64, "sdpa")
    watched = make_goldens.load(path, torch.float64, "watched")
    special = [processor.tokenizer.convert_tokens_to_ids(token) for token in SPECIAL]
    prompts, said = [], ask(TALK[0][1], len(TALK[0][0]), system)
    for sizes, question in TALK:
        turn = said if not prompts else "<|im_end|>\n" + ask(question, len(sizes), False)
        prompts.append((sizes, turn))
    made, pictures = search("talk", lambda attempt: talk(exact, processor, prompts, attempt))
    save(path / "golden", "talk", made, [image for images in pictures for image in images])
    prompt = ask("How many columns are there?", 2, system)
    sizes = [(61, 40), (30, 50)]
    made, images = search("kept", lambda attempt: kept(watched, processor, prompt, sizes, attempt, special))
    save(path / "golden", "kept", made, images)
    said = {"talk": [{"prompt": turn, "images": len(sizes)} for sizes, turn in prompts],
            "kept": {"prompt": prompt, "images": len(sizes), "budgets": [round(100 * b) for b in BUDGETS]}}  # fmt: skip
    (path / "golden" / "more.json").write_text(json.dumps(said, indent=1) + "\n")
    print(f"{folder.name}: talk {[len(made) for made in pictures]} pictures, kept N {len(made['prompt.ids'])}")


if __name__ == "__main__":
    common.main(FOLDERS)
    for chosen, said in ((FOLDERS[1], True), (FOLDERS[3], False)):
        if not sys.argv[1:] or chosen.name in sys.argv[1:]:
            more(chosen, said)
