"""What the tiny folders of all families share: a tokenizer, weights, pictures, and what transformers computes.

A family's module describes folders; `main(FOLDERS)` writes each to ../models/NAME through transformers' own
save_pretrained() (its configuration, processor, tokenizer and weights, as a Hugging Face folder has them), loads it
back, and writes golden/ beside it: the taps of ../README.md for every case (projector and layers for the first only).
Two runs tell the story: one in float64
(kept), one eager in float32, which must choose the same tokens.

    python test/data/families/smolvlm.py [FOLDER ...]
"""
import dataclasses
import json
import math
import pathlib
import shutil
import sys
from collections.abc import Callable

HERE = pathlib.Path(__file__).parent
sys.path.insert(0, str(HERE.parent))

import numpy as np
import torch
from PIL import Image
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import AutoModelForImageTextToText, AutoProcessor, PreTrainedTokenizerFast
from transformers.utils import logging

import taps
from make_goldens import picture as waves  # importing it makes Pillow resize columns first, as ours does
from tiny_models import CORPUS

GREEDY, MARGIN = 48, 1e-3
QWEN_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)


@dataclasses.dataclass
class Folder:
    """One folder. `model` and `processor` are made by functions, since neither is cheap."""

    name: str
    processor: Callable  # () -> processor, whose tokenizer has the special tokens
    config: Callable  # (tokenizer) -> configuration of the model
    cases: list  # (name, [(width, height), ...], prompt with a mark for each picture)
    tiles: Callable  # (inputs, images) -> pixels [tiles, 3, side, side], tiles of each picture
    text: str  # the text model below model.model: "text_model" or "language_model"
    projector: str = "multi_modal_projector"  # below model.model
    special: list = dataclasses.field(default_factory=list)  # tokens that greedy decoding must not choose
    settle: Callable | None = None  # (folder): rewrites files as older versions spelled them
    hub_names: bool = True  # tensors as hub checkpoints call them, not as transformers 5 does
    zero_norms: tuple = ()  # norms whose gain is 1 + weight
    embed: float | None = None  # standard deviation of the embedding, where a family scales it
    dtype: torch.dtype = torch.bfloat16
    attention: str = "sdpa"  # of the run in float64; "eager" where nothing else caps logits
    processor_inputs: Callable | None = None  # (processor, prompt, images) -> inputs, where a family needs more


# ---- tokenizer ------------------------------------------------------------------------------------------------


def byte_tokenizer(special, split="qwen", vocab=300, words=(), **settings):
    """Byte-level BPE; `split`: "qwen" is its regular expression, "digits" cuts single digits and then as GPT-2.
    `words` become tokens of their own ("\\n\\n"); the special tokens' ids come last, as on the hub."""
    trainer = trainers.BpeTrainer(
        vocab_size=vocab, special_tokens=[], initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    tokenizer = Tokenizer(models.BPE())
    if split == "qwen":
        tokenizer.normalizer = normalizers.NFC()
        parts = [pre_tokenizers.Split(Regex(QWEN_SPLIT), "isolated"),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]  # fmt: skip
    else:
        parts = [pre_tokenizers.Digits(individual_digits=True),
                 pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)]  # fmt: skip
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.train_from_iterator([*CORPUS, *[word for word in words for _ in range(99)]], trainer)
    tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in special])
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **settings)


# ---- weights ----------------------------------------------------------------------------------------------------

GAINS = {"q_proj": 1.4, "k_proj": 1.4, "v_proj": 1.0, "o_proj": 1.5, "gate_proj": 1.5, "up_proj": 1.5,
         "down_proj": 1.5, "lm_head": 2.0, "fc2": 1.3}  # fmt: skip


def spread(name, p, tied, folder):
    """Mean and standard deviation of a parameter: streams stay near 1, attention is peaked, nothing is symmetric."""
    part = name.split(".")[-2] if "." in name else name
    if "cross_attn.q_norm" in name:  # peaks that differ by layer
        return 1.5 + 0.5 * int(name.split("layers.")[1].split(".")[0]), 0.5
    if "norm" in part and p.dim() == 1:
        if name.endswith("bias"):
            return 0.0, 0.1
        return (0.0 if any(z in name for z in folder.zero_norms) else 1.0), 0.15
    if name.endswith(("_gate", ".gate", "gate_attn", "gate_ffn")):
        return 0.7, 0.3
    if "lambda" in name:
        return 0.6, 0.2
    if "newline" in name:
        return 0.0, 1.0
    if p.dim() == 1:
        return 0.0, 0.2
    if "embed_tokens" in name:
        return 0.0, folder.embed or (0.25 if tied else 1.0)
    if "position" in name or "cls_token" in name or "class_embedding" in name:
        return 0.0, 0.5
    return 0.0, GAINS.get(part, 1.0) / math.sqrt(p[0].numel())


@torch.no_grad()
def randomise(model, folder, special, n_tokens, seed=1):
    rng = torch.Generator().manual_seed(seed)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    for name, p in sorted(model.named_parameters()):
        mean, std = spread(name, p, tied, folder)
        p.copy_((torch.randn(p.shape, generator=rng) * std + mean).to(folder.dtype))
    head = model.get_output_embeddings().weight
    head[special] = (head[special] * 0.01).to(folder.dtype).to(head.dtype)
    head[n_tokens:] = (head[n_tokens:] * 0.01).to(folder.dtype).to(head.dtype)


# ---- pictures ---------------------------------------------------------------------------------------------------


def blocks(seed, width, height):
    """Large and tiny pictures: rectangles of one colour, which compress well and overshoot when resized."""
    rng = np.random.default_rng(seed)
    colours = rng.integers(0, 256, (height // 13 + 1, width // 29 + 1, 3), dtype=np.uint8)
    return Image.fromarray(np.ascontiguousarray(colours.repeat(13, 0).repeat(29, 1)[:height, :width]))


def picture(seed, width, height):
    return blocks(seed, width, height) if width * height > 4000 or min(width, height) < 4 else waves(seed, width, height)


# ---- one case -----------------------------------------------------------------------------------------------------


class Near(Exception):
    """A result stands too near a tie; the next seed is tried."""


def load(path, dtype, attention):
    model = AutoModelForImageTextToText.from_pretrained(path, dtype=torch.float32, attn_implementation=attention)
    return model.eval().to(dtype)


def inputs_of(folder, processor, prompt, images):
    if folder.processor_inputs:
        return folder.processor_inputs(processor, prompt, images)
    if not images:
        return processor.tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    return processor(text=[prompt], images=[images], add_special_tokens=False, return_tensors="pt")


def watch(model, folder, out):
    """Hooks that keep what passes between the stages of the first forward pass; returns their handles."""
    text, projector = model.model.get_submodule(folder.text), model.model.get_submodule(folder.projector)
    handles = []

    def keep(name, value):
        out.setdefault(name, value.detach())

    def entering(i):  # what a layer gets is what the one before leaves, with all that is added in between
        def hook(module, args, kwargs):
            keep(f"layer.{i - 1}.hidden" if i else "embed", (args[0] if args else kwargs["hidden_states"])[0])

        return hook

    def positions(module, args, kwargs):
        if kwargs.get("position_ids") is not None:
            keep("positions", kwargs["position_ids"][-3:])  # four where those of text stand in front

    handles.append(projector.register_forward_hook(lambda m, a, o: keep("projector.features", o)))
    handles.append(text.register_forward_pre_hook(positions, with_kwargs=True))
    stages = [*text.layers, text.norm]
    handles += [stage.register_forward_pre_hook(entering(i), with_kwargs=True) for i, stage in enumerate(stages)]
    handles.append(text.norm.register_forward_hook(lambda m, a, o: keep("norm", o[0, -1])))
    return handles


@torch.no_grad()
def decode(model, inputs):
    """Greedy tokens, ends ignored, and the logits of each step."""
    arguments = {k: (v.to(model.dtype) if v.is_floating_point() else v) for k, v in inputs.items()}
    made = model.generate(
        **arguments, do_sample=False, max_new_tokens=GREEDY, eos_token_id=-1, pad_token_id=0,
        return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    return made.sequences[0, inputs["input_ids"].shape[1] :].tolist(), [step[0] for step in made.logits]


def run_case(folder, model, processor, prompt, images, special, all_stages):
    inputs, out = inputs_of(folder, processor, prompt, images), {}
    handles = watch(model, folder, out)
    tokens, logits = decode(model, inputs)
    for handle in handles:
        handle.remove()
    margins = []
    for step in logits:
        best = torch.topk(step, 2).values
        margins.append(float((best[0] - best[1]) / best[0].abs()))
    if min(margins) < MARGIN:
        raise Near("two tokens are tied")
    if set(tokens) & set(special):
        raise Near("a special token was chosen")
    made = {"prompt.ids": inputs["input_ids"][0].numpy()}
    if images:
        pixels, tiles = folder.tiles(inputs, images)
        made |= {"vision.pixels": pixels.float().numpy(), "vision.tiles": np.array(tiles)}
    made |= {name: value.numpy() for name, value in out.items() if all_stages or name in ("embed", "positions", "norm")}
    made["logits"] = logits[0].numpy()
    made |= {"greedy.tokens": np.array(tokens), "greedy.margin": np.array(margins)}
    return made


# ---- one folder ---------------------------------------------------------------------------------------------------


def write_folder(folder, path):
    """Saves the folder, and returns the ids that must not be chosen."""
    processor = folder.processor()
    tokenizer = processor.tokenizer
    config = folder.config(tokenizer)
    torch.manual_seed(0)
    model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32, attn_implementation=folder.attention)
    special = [tokenizer.convert_tokens_to_ids(token) for token in folder.special]
    randomise(model, folder, special, len(tokenizer))
    model.generation_config.eos_token_id, model.generation_config.bos_token_id = tokenizer.eos_token_id, None
    model.to(folder.dtype).save_pretrained(path, save_original_format=folder.hub_names)
    processor.save_pretrained(path)
    if folder.settle:
        folder.settle(path)
    return special


def make(folder):
    path = HERE.parent / "models" / folder.name
    shutil.rmtree(path, ignore_errors=True)
    (path / "golden").mkdir(parents=True)
    special = write_folder(folder, path)
    exact, single = load(path, torch.float64, folder.attention), load(path, torch.float32, "eager")
    processor, index = folder.processor(), []
    for k, (case, sizes, prompt) in enumerate(folder.cases):
        for attempt in range(200):
            images = [picture(1000 * k + 10 * attempt + i, *size) for i, size in enumerate(sizes)]
            try:
                made = run_case(folder, exact, processor, prompt, images, special, k == 0)
                break
            except Near as why:
                reason = why
                prompt = prompt if images else prompt.replace("?", "?!", 1)  # no picture to vary
        else:
            raise SystemExit(f"{folder.name}/{case}: no safe picture in 200: {reason}")
        tokens, logits = decode(single, inputs_of(folder, processor, prompt, images))
        assert tokens == made["greedy.tokens"].tolist(), "float32 and float64 decode differently"
        error = np.abs(logits[0].numpy() - made["logits"]).max() / np.abs(made["logits"]).max()
        assert error < 1e-4, f"float32 logits differ by {error}"
        files = [f"{case}.{i}.png" for i in range(len(images))]
        for file, image in zip(files, images):
            image.save(path / "golden" / file, optimize=True)
        taps.write(path / "golden" / f"{case}.taps", made)
        index.append({"case": case, "prompt": prompt, "images": files, "taps": f"{case}.taps"})
        print(f"  {case}: N {len(made['prompt.ids'])}, tiles {made.get('vision.tiles')}, {len(set(tokens))} different "
              f"tokens of {len(tokens)}, picture {attempt}, float32 error {error:.1e}", flush=True)  # fmt: skip
    (path / "golden" / "cases.json").write_text(json.dumps(index, indent=1, ensure_ascii=False) + "\n")
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    goldens = sum(file.stat().st_size for file in (path / "golden").iterdir())
    print(f"{folder.name}: {sum(p.numel() for p in exact.parameters())} parameters, {size} bytes of which goldens {goldens}")


def main(folders):
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for folder in folders:
        if not sys.argv[1:] or folder.name in sys.argv[1:]:
            make(folder)
