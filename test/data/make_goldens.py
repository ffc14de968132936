"""Regenerates test/data/models: tiny random checkpoints and what transformers computes with them.

    python make_goldens.py [MODEL ...]

Deterministic: weights and pictures come from seeds that are searched in ascending order, until no result stands so
near a tie that the order of a float32 sum could change it. All stages run in float64 on the weights as stored, then
once more in float32 through transformers' own eager attention, and both must agree. README.md describes the files.
"""
import json
import pathlib
import shutil
import sys

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, DynamicCache, LlavaNextProcessor, LlavaProcessor
from transformers import PreTrainedTokenizerFast
from transformers.utils import logging
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, eager_mask
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

import taps
import tiny_models
import vlcache_reference as vl

HERE = pathlib.Path(__file__).parent
GREEDY, COMPACTED, THRESHOLD, RECENT = 64, 24, 0.01, 0.10
MARGIN, GAP = 1e-3, 1e-4  # least relative distances of best and second token, last kept and first dropped score

VICUNA_CASES = [
    ("middle", [(28, 28)], "<s>USER: <image>\nWhat is shown in this picture? ASSISTANT:", [0.1, 0.3]),
    ("last", [(45, 28)], "<s>USER: Describe the picture, please. <image>", [0.3]),
]
CASES = {
    "llava-llama-mha": VICUNA_CASES,
    "llava-mistral-gqa4": [
        ("middle", [(28, 28)], "<s>[INST] <image>\nHow many signs are there? [/INST]", [0.1, 0.3]),
        ("two", [(28, 28), (40, 31)], "<s>[INST] <image> and <image>\nCompare. [/INST]", [0.2]),
    ],
    "next-mistral-gqa2": [
        ("wide", [(61, 23)], "<s>[INST] <image>\nRead the heading. [/INST]", [0.1, 0.3]),
        ("tall", [(19, 50)], "<s>[INST] In <image> which word is green? [/INST]", [0.2]),
    ],
    "next-llama-bias": [
        ("square", [(56, 56)], "<s>USER: Look: <image>\nWhat is the total of the invoice? ASSISTANT:", [0.1, 0.3]),
        ("last", [(80, 30)], "<s>USER: Describe the small picture on the table <image>", [0.3]),
        ("two", [(28, 56), (70, 33)], "<s>USER: <image><image>\nÀ côté? ASSISTANT:", [0.2]),
    ],
    "llava-llama-full": [
        ("wide", [(41, 17)], "<s><|im_start|>user\n<image>\nWhat is it?<|im_end|>\n<|im_start|>assistant\n", [0.1, 0.3]),
        ("exact", [(30, 30)], "<s><|im_start|>user\nThe <image> is<|im_end|>", [0.2]),
    ],
    "next-llama-mqa": [
        ("square", [(56, 56)], "<|begin_of_text|><|start_header_id|>user<|end_header_id|>\n\n<image>\nWhat is the date?"
         "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n", [0.1, 0.3]),
        ("tall", [(24, 60)], "<|begin_of_text|>It's in the <image> street", [0.2]),
    ],
    "next-vicuna": [
        ("wide", [(90, 22)], "<s>USER: <image>\nWhat is the date? ASSISTANT:", [0.1, 0.3]),
        ("no-image", [], "<s>USER: How many columns are there in the third heading? ASSISTANT:", []),
    ],
}  # fmt: skip


def picture(seed, width, height):
    """A smooth, coloured, slightly rough picture: three waves and a rectangle."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    out = np.empty((height, width, 3))
    for c in range(3):
        fx, fy, phase = rng.uniform(0.05, 0.35), rng.uniform(0.05, 0.35), rng.uniform(0, 6.28)
        out[..., c] = 127 + 100 * np.sin(fx * x + fy * y + phase)
    left, top = rng.integers(0, width // 2), rng.integers(0, height // 2)
    out[top : top + height // 3, left : left + width // 3] = rng.integers(0, 256, 3)
    out += rng.integers(-3, 4, (height, width, 1))
    return Image.fromarray(np.clip(np.rint(out), 0, 255).astype(np.uint8))


def columns_first(self, size, resample=None, box=None, reducing_gap=None):
    """Resizing as Pillow did it up to 12: columns, then rows. 13 chooses the order, which moves results a little."""
    return whole_resize(whole_resize(self, (size[0], self.height), resample), size, resample)


whole_resize, Image.Image.resize = Image.Image.resize, columns_first


# ---- the model under observation --------------------------------------------------------------------------------


class Watch:
    """What the attention of the text layers did last, and which prompt rows each layer may still see."""

    def __init__(self):
        self.attention, self.kept, self.prompt = {}, None, 0


WATCH = Watch()


def watched_attention(module, query, key, value, attention_mask, scaling, dropout=0.0, **kwargs):
    """Plain causal attention in the dtype of its input; in decoding only the kept rows of the prompt are seen."""
    group = query.shape[1] // key.shape[1]
    key, value = key.repeat_interleave(group, 1), value.repeat_interleave(group, 1)
    logits = query @ key.transpose(2, 3) * scaling
    rows, columns = logits.shape[2:]
    seen = torch.ones(rows, columns, dtype=torch.bool).tril(columns - rows)[None, None]
    if WATCH.kept is not None:
        kept = torch.ones(query.shape[1], columns, dtype=torch.bool)
        kept[:, : WATCH.prompt] = torch.from_numpy(WATCH.kept[module.layer_idx]).repeat_interleave(group, 0)
        seen = seen & kept[None, :, None, :]
    weights = torch.softmax(logits.masked_fill(~seen, -torch.inf), -1)
    WATCH.attention[module.layer_idx] = weights[0].detach().numpy()
    return (weights @ value).transpose(1, 2).contiguous(), weights


ALL_ATTENTION_FUNCTIONS.register("watched", watched_attention)
ALL_MASK_ATTENTION_FUNCTIONS.register("watched", eager_mask)


def load(folder, dtype, attention):
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    model.model.language_model.config._attn_implementation = attention
    return model.eval().to(dtype)


def check_loaded(model, s, weights):
    """The folder must give transformers the very weights that were made."""
    state = model.state_dict()
    for name, value in weights.items():
        other = state[tiny_models.v5_name(name)]
        assert torch.equal(value.to(other.dtype), other), f"{s['name']}: {name} was not loaded as saved"
    assert len(state) == len(weights) + s["tied"], f"{s['name']}: parameters were left at random"


class Stages:
    """Runs prefill with hooks and keeps what passes between the stages."""

    def __init__(self, model, unwanted):
        self.model, self.unwanted, self.out, inner = model, unwanted, {}, model.model
        inner.multi_modal_projector.register_forward_hook(self.note_projector)
        for i, layer in enumerate(inner.language_model.layers):
            layer.register_forward_hook(self.note_layer(i))
        inner.language_model.norm.register_forward_hook(self.note("norm"))

    def note(self, name):
        return lambda module, args, output: self.out.__setitem__(name, output.detach())

    def note_projector(self, module, args, output):
        self.out["vision.features"], self.out["projector.features"] = args[0].detach(), output.detach()

    def note_layer(self, i):
        def hook(module, args, output):
            if i == 0:
                self.out["embed"] = args[0][0].detach()
            self.out[f"layer.{i}.hidden"] = (output[0] if isinstance(output, tuple) else output)[0].detach()

        return hook

    @torch.no_grad()
    def prefill(self, ids, pictures):
        """Returns the stages, the logits of the last position and the full cache."""
        WATCH.kept, WATCH.prompt, self.out = None, len(ids), {}
        kwargs = {k: (v.to(self.model.dtype) if v.is_floating_point() else v) for k, v in pictures.items()}
        cache = DynamicCache()
        logits = self.model(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True, **kwargs).logits
        return dict(self.out), logits[0, -1], cache

    @torch.no_grad()
    def greedy(self, logits, cache, steps, kept=None):
        """Greedy tokens, relative margins, and the logits after the first token was decoded."""
        WATCH.kept, tokens, margins, second = kept, [], [], None
        for step in range(steps):
            best = torch.topk(logits, 2)
            tokens.append(int(best.indices[0]))
            margins.append(float((best.values[0] - best.values[1]) / best.values[0].abs()))
            if step + 1 == steps:
                break
            logits = self.model(
                input_ids=torch.tensor([[tokens[-1]]]), past_key_values=cache, use_cache=True
            ).logits[0, -1]
            second = logits if step == 0 else second
        WATCH.kept = None
        return tokens, margins, second


# ---- one case -----------------------------------------------------------------------------------------------------


class Near(Exception):
    """A result stands too near a tie; the next seed is tried."""


def processor_of(folder, s):
    image, settings = tiny_models.processor_configs(s)
    kind = image.pop("image_processor_type")
    make = {"CLIPImageProcessor": CLIPImageProcessorPil, "LlavaImageProcessor": LlavaImageProcessorPil,
            "LlavaNextImageProcessor": LlavaNextImageProcessorPil}[kind]  # fmt: skip
    tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(folder / "tokenizer.json"))
    settings.pop("processor_class")
    return (LlavaNextProcessor if s["pinpoints"] else LlavaProcessor)(make(**image), tokenizer, **settings)


def prepare(processor, prompt, images):
    """Ids with every <image> expanded, and the picture inputs of the model."""
    if not images:
        return processor.tokenizer.encode(prompt, add_special_tokens=False), {}
    inputs = processor(text=prompt, images=images, add_special_tokens=False, return_tensors="pt")
    pictures = {k: inputs[k] for k in ("pixel_values", "image_sizes") if k in inputs}
    return inputs["input_ids"][0].tolist(), pictures


def tiles_of(stages, pictures):
    """Pixels without the padding tiles of a batch, and the number of tiles of each picture."""
    pixels = pictures["pixel_values"]
    if pixels.dim() == 4:
        return pixels, [1] * len(pixels)
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches as count

    config = stages.model.config
    n = [count(size, config.image_grid_pinpoints, config.vision_config.image_size) for size in pictures["image_sizes"]]
    return torch.cat([p[:k] for p, k in zip(pixels, n)]), n


def vlcache(stages, ids, image_token, alphas, out):
    """Adds VL-Cache's taps: sparsity, then budgets, kept sets and the compacted decode for every alpha."""
    n, config = len(ids), stages.model.config.text_config
    rows = vl.score_rows(list(ids), image_token)
    attention = [WATCH.attention[i] for i in range(config.num_hidden_layers)]
    measured = [vl.sparsity(a, rows, THRESHOLD) for a in attention]
    layer_scores = [vl.scores(a, rows, config.num_key_value_heads) for a in attention]
    if any(near for _, _, near in measured):
        raise Near("an attention weight is at the threshold")
    out["vlcache.rows"] = np.array(vl.runs_of(rows))
    out["vlcache.sparsity"] = np.array([m[0] for m in measured])
    out["vlcache.count"] = np.stack([m[1] for m in measured])
    out["vlcache.near"] = np.array([m[2] for m in measured])
    out["vlcache.scores"] = np.stack(layer_scores)
    for alpha in alphas:
        at = f"vlcache.{round(alpha * 100)}."
        beta, n_keep = vl.budgets(out["vlcache.sparsity"], alpha, n)
        if np.any(np.abs(beta * n - np.floor(beta * n) - 0.5) < 1e-3):
            raise Near("a budget is at a half")
        out[at + "beta"], out[at + "budget"] = beta, np.array(n_keep)
        mask = np.zeros((len(attention), config.num_key_value_heads, n), bool)
        for layer, score in enumerate(layer_scores):
            chosen = [vl.keep(row, n_keep[layer], RECENT) for row in score]
            joint = vl.keep(score.sum(0), n_keep[layer], RECENT)
            if min(gap for _, gap in [*chosen, joint]) < GAP:
                raise Near("two scores are tied")
            out[f"{at}kept.{layer}"] = np.array([kept for kept, _ in chosen])
            out[f"{at}kept_joint.{layer}"] = np.array(joint[0])
            for head, (kept, _) in enumerate(chosen):
                mask[layer, head, kept] = True
        yield at, mask


def run_case(stages, processor, prompt, images, alphas):
    """All taps of one case; raises Near when it is not safe."""
    ids, pictures = prepare(processor, prompt, images)
    stage, logits, cache = stages.prefill(ids, pictures)
    out = {"prompt.ids": np.array(ids)}
    if images:
        pixels, tiles = tiles_of(stages, pictures)
        out |= {"vision.pixels": pixels.numpy(), "vision.tiles": np.array(tiles)}
    for name in ("vision.features", "projector.features", "embed"):
        if name in stage:
            out[name] = stage[name].numpy()
    for i in range(stages.model.config.text_config.num_hidden_layers):
        out[f"layer.{i}.hidden"] = stage[f"layer.{i}.hidden"].numpy()
    out["norm"], out["logits"] = stage["norm"][0, -1].numpy(), logits.numpy()
    runs = []
    if images:
        runs = list(vlcache(stages, ids, stages.model.config.image_token_id, alphas, out))
    for at, mask in [("greedy.", None), *runs]:
        full = stages.prefill(ids, pictures)[2]
        tokens, margins, second = stages.greedy(logits, full, COMPACTED if mask is not None else GREEDY, mask)
        if min(margins) < MARGIN:
            raise Near("two tokens are tied")
        if set(tokens) & set(stages.unwanted):
            raise Near("a special token was chosen")
        out |= {at + "tokens": np.array(tokens), at + "margin": np.array(margins)}
        if mask is not None:
            out[at + "logits"] = second.numpy()
    return out


def check_float32(model, processor, prompt, images, taps_made):
    """transformers' own eager float32 run must tell the same story."""
    ids, pictures = prepare(processor, prompt, images)
    with torch.no_grad():
        run = model(input_ids=torch.tensor([ids]), output_attentions=True, **pictures)
        made = model.generate(
            input_ids=torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long), do_sample=False,
            max_new_tokens=GREEDY, min_new_tokens=None, eos_token_id=-1, pad_token_id=0, **pictures,
        )  # fmt: skip
    assert made[0, len(ids) :].tolist() == taps_made["greedy.tokens"].tolist(), "float32 and float64 decode differently"
    error = np.abs(run.logits[0, -1].numpy() - taps_made["logits"]).max() / np.abs(taps_made["logits"]).max()
    assert error < 1e-4, f"float32 logits differ by {error}"
    if images:
        rows = vl.score_rows(list(ids), model.config.image_token_id)
        for layer, a in enumerate(run.attentions):
            counts = vl.sparsity(a[0].numpy(), rows, THRESHOLD)[1]
            assert np.array_equal(counts, taps_made["vlcache.count"][layer]), "float32 counts differ"
    return error


# ---- one model ----------------------------------------------------------------------------------------------------


def make_model(name, seed=1):
    s = tiny_models.spec(name)
    folder = HERE / "models" / name
    shutil.rmtree(folder, ignore_errors=True)
    golden = folder / "golden"
    golden.mkdir(parents=True)
    tokenizer, tokens = tiny_models.tokenizer_of(s)
    n_tokens = tokenizer.get_vocab_size()
    s["vocab"] = (n_tokens + 15) // 8 * 8  # padded, as on the hub
    special = [tokenizer.token_to_id(t) for t in tokens["special"]]
    weights = tiny_models.random_weights(s, seed, n_tokens, special)
    tiny_models.write_texts(folder, s, tokenizer, tokens)
    tiny_models.save_weights(folder, s, weights)
    single = load(folder, torch.float32, "eager")
    check_loaded(single, s, weights)
    stages, processor = Stages(load(folder, torch.float64, "watched"), special), processor_of(folder, s)
    index = []
    for k, (case, sizes, prompt, alphas) in enumerate(CASES[name]):
        for attempt in range(200):
            images = [picture(1000 * k + 10 * attempt + i, *size) for i, size in enumerate(sizes)]
            try:
                made = run_case(stages, processor, prompt, images, alphas)
                break
            except Near as why:
                reason = why
                prompt = prompt if images else prompt.replace("?", "?!", 1)  # no picture to vary
        else:
            raise SystemExit(f"{name}/{case}: no safe picture in 200: {reason}")
        error = check_float32(single, processor, prompt, images, made)
        files = [f"{case}.{i}.png" for i in range(len(images))]
        for file, image in zip(files, images):
            image.save(golden / file, optimize=True)
        taps.write(golden / f"{case}.taps", made)
        index.append(
            {"case": case, "prompt": prompt, "images": files, "taps": f"{case}.taps", "budgets": alphas,
             "threshold": THRESHOLD, "recent": RECENT}
        )  # fmt: skip
        report(name, case, made, attempt, error, alphas)
    tiny_models.write_json(golden / "cases.json", index)
    parameters = sum(w.numel() for w in weights.values())
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    goldens = sum(f.stat().st_size for f in golden.iterdir())
    print(f"{name}: {parameters} parameters, vocabulary {s['vocab']}, {size} bytes of which goldens {goldens}")


def report(name, case, made, attempt, error, alphas):
    tokens = made["greedy.tokens"]
    line = f"  {case}: N {len(made['prompt.ids'])}, {len(set(tokens.tolist()))} different tokens of {len(tokens)}"
    if "vlcache.rows" in made:
        line += f", rows {made['vlcache.rows'].tolist()}, sparsity {np.round(made['vlcache.sparsity'], 3).tolist()}"
    for alpha in alphas:
        at = f"vlcache.{round(alpha * 100)}."
        same = int((made[at + "tokens"] == tokens[:COMPACTED]).sum())
        line += f", {alpha}: n {made[at + 'budget'].tolist()} ({same} tokens as full)"
    print(f"{line}, picture {attempt}, float32 error {error:.1e}", flush=True)


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for model_name in sys.argv[1:] or CASES:
        make_model(model_name)
