"""Llama 3.2 Vision: tiles on a canvas, a tower with gated global layers, and layers of cross-attention.

    mllama-hub  meta-llama/Llama-3.2-11B-Vision-Instruct's names and files: at most 4 tiles
    mllama-v5   transformers 5's; at most 2 tiles, other layers cross, one kv head

Two talks of three turns each, and what VL-Cache keeps of a prompt's picture, stand beside the first: golden/more.json. Talks
are read turn by turn on one cache, as transformers takes them: keys and values of a picture are behind those of the
pictures before, and a turn's rows see them by the mask of the whole conversation.
"""
import json
import sys

import common
import numpy as np
import taps
import torch
import vlcache_reference as vl
from tiny_models import LLAMA3_SPLIT
from tokenizers import Regex, pre_tokenizers, processors
from transformers import DynamicCache, MllamaConfig, MllamaProcessor
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.mllama.image_processing_pil_mllama import MllamaImageProcessorPil
from transformers.models.mllama.processing_mllama import (
    convert_sparse_cross_attention_mask_to_dense,
    get_cross_attention_token_mask,
)

SPECIAL = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
           "<|python_tag|>", "<|finetune_right_pad_id|>"]  # fmt: skip
MARK, SIDE = "<|image|>", 28
CLIP = dict(image_mean=[0.48145466, 0.4578275, 0.40821073], image_std=[0.26862954, 0.26130258, 0.27577711])
TEMPLATE = (
    "{{- bos_token }}\n{%- for message in messages %}\n"
    "    {{- '<|start_header_id|>' + message['role'] + '<|end_header_id|>\\n\\n' }}\n"
    "    {%- if message['content'] is string %}\n        {{- message['content'] }}\n    {%- else %}\n"
    "        {%- for content in message['content'] %}\n            {%- if content['type'] == 'image' %}\n"
    "                {{- '<|image|>' }}\n            {%- elif content['type'] == 'text' %}\n"
    "                {{- content['text'] }}\n            {%- endif %}\n        {%- endfor %}\n    {%- endif %}\n"
    "    {{- '<|eot_id|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n"
    "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n"
)


def tokenizer():
    """As Llama 3's; the mark is the last id, which is the vocabulary's size."""
    made = common.byte_tokenizer([*SPECIAL, MARK], bos_token=SPECIAL[0], eos_token="<|eot_id|>", pad_token=SPECIAL[-1])
    inner = made.backend_tokenizer
    inner.normalizer = None
    inner.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(LLAMA3_SPLIT), "isolated"),
                                                   pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])  # fmt: skip
    bos = made.bos_token_id
    inner.post_processor = processors.TemplateProcessing(
        f"{SPECIAL[0]} $A", f"{SPECIAL[0]} $A {SPECIAL[0]} $B", [(SPECIAL[0], bos)]
    )
    return made


def processor(most, **values):
    def make():
        image = MllamaImageProcessorPil(size={"height": SIDE, "width": SIDE}, max_image_tiles=most, **values)
        return MllamaProcessor(image, tokenizer(), chat_template=TEMPLATE)

    return make


def config(vision, text):
    def make(tokenizer):
        shape = dict(hidden_size=64, intermediate_size=80, num_hidden_layers=4, num_attention_heads=4,
                     num_key_value_heads=2, vocab_size=len(tokenizer) - 1, max_position_embeddings=2048,
                     cross_attention_layers=[1, 3], bos_token_id=tokenizer.bos_token_id,
                     eos_token_id=tokenizer.eos_token_id, pad_token_id=tokenizer.pad_token_id)  # fmt: skip
        eyes = dict(hidden_size=48, attention_heads=2, num_hidden_layers=3, num_global_layers=2, intermediate_size=40,
                    image_size=SIDE, patch_size=7, intermediate_layers_indices=[0, 2])  # fmt: skip
        eyes |= vision
        eyes["vision_output_dim"] = eyes["hidden_size"] * (1 + len(eyes["intermediate_layers_indices"]))
        return MllamaConfig(vision_config=eyes, text_config=shape | text,
                            image_token_index=tokenizer.convert_tokens_to_ids(MARK))  # fmt: skip

    return make


def tiles(inputs, images):
    counts = inputs["aspect_ratio_mask"][0].sum(-1).tolist()
    assert len(counts) == len(images)
    return torch.cat([inputs["pixel_values"][0, i, :n] for i, n in enumerate(counts)]), counts


def as_on_the_hub(path):
    """Llama-3.2-11B-Vision-Instruct of 2024."""
    joint = json.loads((path / "processor_config.json").read_text())
    image = joint.pop("image_processor")
    image |= {"image_processor_type": "MllamaImageProcessor", "do_pad": True}
    (path / "preprocessor_config.json").write_text(json.dumps(image, indent=1) + "\n")
    (path / "processor_config.json").unlink()
    config = json.loads((path / "config.json").read_text())
    config["torch_dtype"] = config.pop("dtype")
    text, vision = config["text_config"], config["vision_config"]
    rope = text.pop("rope_parameters")
    text["rope_theta"] = rope.pop("rope_theta")
    text["rope_scaling"] = rope
    vision["num_attention_heads"] = vision["attention_heads"]
    text["torch_dtype"] = vision["torch_dtype"] = config["torch_dtype"]
    (path / "config.json").write_text(json.dumps(config, indent=1) + "\n")
    template = (path / "chat_template.jinja").read_text()
    (path / "chat_template.json").write_text(json.dumps({"chat_template": template}, indent=1) + "\n")
    (path / "chat_template.jinja").unlink()


def turn(text):
    return f"<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n"


def ask(text):
    return "<|begin_of_text|>" + turn(text)


ROPE = {"rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 64}  # fmt: skip
FOLDERS = [
    common.Folder(
        "mllama-hub", processor(4, **CLIP), config({}, {"rope_parameters": ROPE}),
        [("wide", [(61, 30)], ask(MARK + "What is shown in this picture?")),
         ("tall", [(47, 211)], ask(MARK + "Describe it.")),
         ("dot", [(1, 1)], ask("Look: " + MARK + " Why?")),
         ("thin", [(4000, 30)], ask(MARK + "Read the heading.")),
         ("two", [(28, 28), (90, 60)], ask(f"{MARK}First.{MARK}Compare.")),
         ("beside", [(56, 56), (30, 61), (20, 20)], f"{MARK}{MARK}<|begin_of_text|>Is {MARK} one of them?"),
         ("none", [], ask("How many columns are there?"))],
        tiles, "language_model", special=SPECIAL, settle=as_on_the_hub),
    common.Folder(
        "mllama-v5", processor(2),
        config(dict(hidden_size=32, max_num_tiles=2, supported_aspect_ratios=[[1, 1], [1, 2], [2, 1]], image_size=SIDE,
                    patch_size=14, num_global_layers=1, intermediate_layers_indices=[1], hidden_act="gelu_pytorch_tanh"),
               dict(num_key_value_heads=1, num_hidden_layers=3, cross_attention_layers=[1, 2])),
        [("square", [(50, 50)], ask(MARK + "Which word is green?")),
         ("last", [(31, 77)], "<|begin_of_text|>On the table: " + MARK)],
        tiles, "language_model", special=SPECIAL, hub_names=False, dtype=torch.float32),
]  # fmt: skip


# ---- beyond one turn ----------------------------------------------------------------------------------------------

ANSWER = 12
TALKS = {
    "talk": [([(47, 30)], ask(MARK + "Which one is green?")), ([], "<|eot_id|>" + turn("Why?")),
             ([(61, 60)], "<|eot_id|>" + turn("And this one? " + MARK + " Tell me."))],
    "late": [([], ask("Hello?")), ([(60, 20), (20, 20)], "<|eot_id|>" + turn(MARK + MARK + "Compare.")),
             ([], "<|eot_id|>" + turn("Which one?"))],
}  # fmt: skip


def states_mask(ids, counts, most, mark):
    """Which tiles of which pictures a conversation's rows see."""
    sparse = get_cross_attention_token_mask(ids, mark)
    return torch.tensor(convert_sparse_cross_attention_mask_to_dense([sparse], [counts], most, len(ids)))


@torch.no_grad()
def talk(model, processor, prompts, attempt):
    """Turns on one cache; an answer's last token is read with the turn behind it, as the engine does it."""
    made, pictures, ids, counts, cache = {}, [], [], [], DynamicCache(config=model.config)
    mark, most = model.config.image_token_index, model.config.vision_config.max_num_tiles
    for k, (sizes, prompt) in enumerate(prompts):
        images = [common.picture(7000 + 100 * attempt + 10 * k + i, *size) for i, size in enumerate(sizes)]
        said = processor.tokenizer(prompt, add_special_tokens=False)["input_ids"]
        made[f"talk.{k}.ids"] = np.array(said)
        more = {}
        if images:
            more = processor.image_processor([images], return_tensors="pt")
            counts += [int(n) for n in more.pop("num_tiles")[0]]
            more = {name: v.to(model.dtype) if v.is_floating_point() else v for name, v in more.items()}
        ids += said
        tokens = []
        while len(tokens) < ANSWER:
            past = cache.get_seq_length()
            if counts:
                more["cross_attention_mask"] = states_mask(ids, counts, most, mark)[:, past:]
            out = model(input_ids=torch.tensor([ids[past:]]), cache=cache, use_cache=True, **more)
            best = torch.topk(out.logits[0, -1], 2)
            if (best.values[0] - best.values[1]) / best.values[0].abs() < common.MARGIN:
                raise common.Near("two tokens are tied")
            tokens.append(int(best.indices[0]))
            ids.append(tokens[-1])
            more = {}
        made[f"talk.{k}.tokens"] = np.array(tokens)
        pictures += images
    return made, pictures


# ---- VL-Cache: layers of cross-attention, whose tokens are the rows of the tiles that are there -----------------------

BUDGETS, THRESHOLD, COMPACTED, GAP = [0.15, 0.4], 0.01, 24, 1e-4
KEPT = ([(90, 60)], ask(MARK + "How many columns are there?"))
SEEN, MASK = {}, {}  # by layer: attention, last; [kv_heads, columns] that may be seen


def watched_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Eager attention, whose cross-attention is kept, and sees what MASK says."""
    group = query.shape[1] // key.shape[1]
    logits = query @ key.repeat_interleave(group, 1).transpose(2, 3) * scaling
    if attention_mask is not None:
        logits = logits + attention_mask
    crosses = hasattr(module, "layer_idx") and hasattr(module, "q_norm")
    if crosses and module.layer_idx in MASK:
        seen = MASK[module.layer_idx].repeat_interleave(group, 0)
        logits = logits.masked_fill(~seen[None, :, None, :], -torch.inf)
    weights = torch.softmax(logits, -1)
    if crosses:
        SEEN[module.layer_idx] = weights[0].detach().numpy()
    return (weights @ value.repeat_interleave(group, 1)).transpose(1, 2).contiguous(), weights


ALL_ATTENTION_FUNCTIONS.register("watched_cross", watched_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register("watched_cross", eager_mask)


def sparsity(attention):
    """Of [heads, rows, tokens], where each row sees all tokens; refused near the threshold."""
    limit = THRESHOLD * attention.max(-1, keepdims=True)
    if (np.abs(attention - limit) <= GAP * limit).any():
        raise common.Near("an entry is at the threshold")
    return float((attention < limit).mean(axis=(1, 2)).mean())


def best(score, n):
    """The n best tokens, ascending; none is recent."""
    order = sorted(range(len(score)), key=lambda j: (-score[j], j))
    if n < len(score) and score[order[n - 1]] - score[order[n]] <= GAP * score[order[n - 1]]:
        raise common.Near("scores are tied")
    return sorted(order[:n])


@torch.no_grad()
def kept(model, processor, attempt):
    sizes, prompt = KEPT
    images = [common.picture(9000 + 10 * attempt + i, *size) for i, size in enumerate(sizes)]
    inputs = processor(text=[prompt], images=[images], add_special_tokens=False, return_tensors="pt")
    inputs = {name: v.double() if v.is_floating_point() else v for name, v in inputs.items()}
    ids, layers = inputs["input_ids"][0].tolist(), model.config.text_config.cross_attention_layers
    heads = model.config.text_config.num_key_value_heads
    rows = range(ids.index(model.config.image_token_index) + 1, len(ids))
    tokens = int(inputs["aspect_ratio_mask"].sum()) * model.model.vision_model.num_patches
    MASK.clear()

    def prefill():
        MASK.clear()
        out = model(**inputs, use_cache=True)
        return out.logits[0, -1], out.cache

    logits = prefill()[0]
    seen = {layer: SEEN[layer][:, rows, :tokens] for layer in layers}
    measured = [sparsity(seen[layer]) for layer in layers]
    out = {"prompt.ids": np.array(ids), "vlcache.sparsity": np.array(measured)}
    for alpha in BUDGETS:
        at = f"vlcache.{round(100 * alpha)}."
        share, n = vl.budgets(measured, alpha, tokens)
        if any(abs(b * tokens % 1 - 0.5) < 1e-3 for b in share):
            raise common.Near("a budget is near a half")
        out[at + "budget"] = np.array(n)
        cache, step, said = prefill()[1], logits, []
        for k, layer in enumerate(layers):
            score = seen[layer].reshape(heads, -1, len(rows), tokens).sum((1, 2))
            chosen = np.array([best(score[h], n[k]) for h in range(heads)])
            out[f"{at}kept.{k}"] = chosen
            MASK[layer] = torch.zeros(heads, cache.layers[layer].keys.shape[2], dtype=torch.bool)
            MASK[layer].scatter_(1, torch.tensor(chosen), True)
        while True:
            two = torch.topk(step, 2)
            if (two.values[0] - two.values[1]) / two.values[0].abs() < common.MARGIN:
                raise common.Near("two tokens are tied")
            said.append(int(two.indices[0]))
            if len(said) == COMPACTED:
                break
            mask = inputs["cross_attention_mask"][:, -1:]
            step = model(input_ids=torch.tensor([said[-1:]]), cross_attention_mask=mask, cache=cache,
                         use_cache=True).logits[0, -1]  # fmt: skip
        out[at + "tokens"] = np.array(said)
    return out, images


def search(what, make):
    for attempt in range(200):
        try:
            return *make(attempt), attempt
        except common.Near as why:
            reason = why
    raise SystemExit(f"{what}: no safe picture in 200: {reason}")


def save(path, name, made, pictures):
    taps.write(path / f"{name}.taps", made)
    for i, image in enumerate(pictures):
        image.save(path / f"{name}.{i}.png", optimize=True)


def more(folder):
    path, processor = common.HERE.parent / "models" / folder.name, folder.processor()
    exact, watched = (common.load(path, torch.float64, how) for how in ("eager", "watched_cross"))
    said = {}
    for name, prompts in TALKS.items():
        made, pictures, attempt = search(name, lambda k: talk(exact, processor, prompts, k))
        save(path / "golden", name, made, pictures)
        said[name] = [{"prompt": prompt, "images": len(sizes)} for sizes, prompt in prompts]
        print(f"  {name}: {len(pictures)} pictures, attempt {attempt}")
    made, pictures, attempt = search("kept", lambda k: kept(watched, processor, k))
    save(path / "golden", "kept", made, pictures)
    said["kept"] = {"prompt": KEPT[1], "images": len(KEPT[0]), "budgets": [round(100 * b) for b in BUDGETS]}
    print(f"  kept: attempt {attempt}, sparsity {made['vlcache.sparsity']}, "
          f"{[made[f'vlcache.{round(100 * b)}.budget'].tolist() for b in BUDGETS]}")  # fmt: skip
    (path / "golden" / "more.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    common.main(FOLDERS)
    if not sys.argv[1:] or FOLDERS[0].name in sys.argv[1:]:
        more(FOLDERS[0])
