"""Regenerates test/data/text: tiny random text models without eyes, and what transformers computes with them.

    python test/data/text_models.py [FOLDER ...]

Each folder is written by transformers' own save_pretrained() and loaded back; `old` rewrites its settings as 4.x
spelled them. The taps of README.md come from a float64 run; float32 must choose the same tokens, none of them near a
tie, or the next seed is tried.
"""
import json
import math
import pathlib
import shutil
import sys
import warnings

import numpy as np
import torch
from transformers import AutoConfig, AutoModelForCausalLM, DynamicCache, PreTrainedTokenizerFast
from transformers.utils import logging

import taps
import tiny_models
import vlcache_reference as vl

HERE = pathlib.Path(__file__).parent
GREEDY, MARGIN, GAP, RECENT, THRESHOLD = 48, 1e-3, 1e-4, 0.10, 0.01
PROMPT = "USER: What is the total of the invoice? Read the date: 2024-03-17. ASSISTANT:"
SMALL = dict(hidden_size=48, num_hidden_layers=2, num_attention_heads=3, num_key_value_heads=3, intermediate_size=56,
             max_position_embeddings=512)  # fmt: skip


def ours(**more):
    return {**SMALL, **more}


# kind: tokenizer; alphas: budgets of VL-Cache's taps; old: how the settings are rewritten; prefix: all rows of the
# prompt see each other, as PaliGemma's do; different: so many of the greedy tokens are
MODELS = {
    "llama-tied": dict(
        type="llama", dtype="bfloat16", tokenizer="bytes", alphas=[0.3, 0.6],
        settings=ours(tie_word_embeddings=True, attention_bias=True, mlp_bias=True, rope_parameters={
            "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 64})),
    "llama-old": dict(
        type="llama", dtype="float16", tokenizer="legacy", old={"rope_theta": 10000.0, "rope_scaling": {
            "type": "linear", "factor": 2.0}},
        settings=ours(rope_parameters={"rope_type": "linear", "rope_theta": 10000.0, "factor": 2.0})),
    "mistral-window": dict(
        type="mistral", dtype="bfloat16", tokenizer="metaspace",
        settings=ours(sliding_window=9, head_dim=24, num_attention_heads=2, num_key_value_heads=1)),
    "qwen2-yarn": dict(
        type="qwen2", dtype="bfloat16", tokenizer="bytes", old={"rope_theta": 1e6, "rope_scaling": {
            "type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64}, "max_position_embeddings": 128},
        settings=ours(tie_word_embeddings=True, max_position_embeddings=128, rope_parameters={
            "rope_type": "yarn", "rope_theta": 1e6, "factor": 4.0, "original_max_position_embeddings": 64})),
    "qwen2-late-window": dict(
        type="qwen2", dtype="bfloat16", tokenizer="chatml",
        settings=ours(num_hidden_layers=3, num_key_value_heads=1, use_sliding_window=True, sliding_window=12, max_window_layers=2,
                      rope_parameters={"rope_type": "dynamic", "rope_theta": 1e6, "factor": 2.0})),
    "qwen3": dict(
        type="qwen3", dtype="bfloat16", tokenizer="bytes", alphas=[0.4],
        settings=ours(head_dim=24, num_attention_heads=4, num_key_value_heads=2, rope_parameters={"rope_type": "default", "rope_theta": 1e6})),
    "gemma": dict(
        type="gemma", dtype="bfloat16", tokenizer="metaspace",
        old={"hidden_act": "gelu", "hidden_activation": None, "rope_theta": 10000.0, "rope_scaling": None},
        settings=ours(head_dim=32, num_key_value_heads=1)),
    "gemma2": dict(
        type="gemma2", dtype="bfloat16", tokenizer="bytes", alphas=[0.4], different=6,
        settings=ours(head_dim=32, num_key_value_heads=1, query_pre_attn_scalar=20, attn_logit_softcapping=2.0,
                      final_logit_softcapping=3.0, sliding_window=400)),
    "gemma2-window": dict(
        type="gemma2", dtype="float16", tokenizer="metaspace",
        old={"hidden_act": "gelu", "hidden_activation": "gelu_pytorch_tanh", "rope_theta": 10000.0, "cache_implementation": "hybrid"},
        settings=ours(head_dim=16, num_attention_heads=4, num_key_value_heads=2, num_hidden_layers=3, sliding_window=11,
                      query_pre_attn_scalar=16, attn_logit_softcapping=1.5, final_logit_softcapping=None)),
    "gemma-prefix": dict(
        type="gemma", dtype="bfloat16", tokenizer="bytes", prefix=True, alphas=[0.4],
        settings=ours(head_dim=16, num_key_value_heads=1)),
}  # fmt: skip
GAINS = {"q_proj": 1.5, "k_proj": 1.5, "v_proj": 1.0, "o_proj": 1.5, "gate_proj": 1.5, "up_proj": 1.5,
         "down_proj": 1.5, "lm_head": 2.0}  # fmt: skip


class Near(Exception):
    """A result stands too near a tie; the next seed is tried."""


def spread(name, p, s, tied):
    """Mean and standard deviation of a parameter: streams stay near 1, attention is peaked."""
    part = name.split(".")[-2]
    if "norm" in part:
        return (0.0 if s["type"].startswith("gemma") else 1.4 if part in ("q_norm", "k_norm") else 1.0), 0.15
    if p.dim() == 1:
        return 0.0, 0.2
    if part == "embed_tokens":
        return 0.0, 0.05 if s["type"].startswith("gemma") else 0.25 if tied else 1.0
    return 0.0, GAINS[part] / math.sqrt(p.shape[1])


@torch.no_grad()
def randomise(model, s, special, n_tokens, seed):
    rng = torch.Generator().manual_seed(seed)
    head, table = model.get_output_embeddings().weight, model.get_input_embeddings().weight
    for name, p in sorted(model.named_parameters()):
        mean, std = spread(name, p, s, head is table)
        p.copy_((torch.randn(p.shape, generator=rng) * std + mean).to(getattr(torch, s["dtype"])))
    for rows in (special, slice(n_tokens, None)):  # greedy decoding never chooses them
        head[rows] = (head[rows] * 0.01).to(getattr(torch, s["dtype"])).to(head.dtype)


def respell(folder, s):
    """config.json as transformers 4 wrote it."""
    config = json.loads((folder / "config.json").read_text())
    if "old" in s:
        config["torch_dtype"] = config.pop("dtype")
        for key in ("rope_parameters", "layer_types", "hidden_activation"):
            config.pop(key, None)
        config |= s["old"]
    (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")


def write_folder(folder, s, seed):
    tokenizer, tokens = tiny_models.tokenizer_of(s)
    n_tokens = tokenizer.get_vocab_size()
    ids = {f"{key}_token_id": tokenizer.token_to_id(tokens[key]) for key in ("bos", "eos", "pad")}
    config = AutoConfig.for_model(s["type"], vocab_size=(n_tokens + 15) // 8 * 8, **ids, **s["settings"])
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    randomise(model, s, [tokenizer.token_to_id(t) for t in tokens["special"]], n_tokens, seed)
    model.to(getattr(torch, s["dtype"])).save_pretrained(folder)
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, **{f"{k}_token": tokens[k] for k in ("bos", "eos", "pad")})
    fast.save_pretrained(folder)
    tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
    respell(folder, s)
    return fast, [tokenizer.token_to_id(t) for t in tokens["special"]]


@torch.no_grad()
def prefill(model, given, mask):
    cache = DynamicCache()
    run = model(input_ids=given, attention_mask=mask, past_key_values=cache, use_cache=True, output_attentions=True)
    return run, run.logits[0, -1], cache


@torch.no_grad()
def greedy(model, logits, cache, unwanted):
    made, margins = [], []
    for _ in range(GREEDY):
        best = torch.topk(logits, 2)
        made.append(int(best.indices[0]))
        margins.append(float((best.values[0] - best.values[1]) / best.values[0].abs()))
        logits = model(input_ids=torch.tensor([[made[-1]]]), past_key_values=cache, use_cache=True).logits[0, -1]
    if min(margins) < MARGIN or set(made) & set(unwanted):
        raise Near("two tokens are tied, or a special one was chosen")
    return made


def whole_sparsity(attention, rows, threshold, near=1e-4):
    """vl.sparsity() where rows see all of the prompt."""
    seen = attention[:, rows]
    limit = threshold * seen.max(-1, keepdims=True)
    counts = np.stack([(seen < limit).sum((1, 2)), np.full(len(seen), seen[0].size)], 1)
    return float(np.mean(counts[:, 0] / counts[:, 1])), counts, int((np.abs(seen - limit) <= near * limit).sum())


def whole_scores(attention, rows, kv_heads):
    return attention[:, rows].sum(1).reshape(kv_heads, -1, attention.shape[2]).sum(1)


def vlcache(run, config, n, alphas, prefix, out):
    """Sparsity, budgets and kept sets: no picture, so the last rows of the prompt stand for the text behind one."""
    rows = list(range(max(0, n - vl.FALLBACK_ROWS), n))
    attention = [a[0].double().numpy() for a in run.attentions]
    sparsity, scores = (whole_sparsity, whole_scores) if prefix else (vl.sparsity, vl.scores)
    measured = [sparsity(a, rows, THRESHOLD) for a in attention]
    if any(near for _, _, near in measured):
        raise Near("an attention weight is at the threshold")
    out["vlcache.sparsity"] = np.array([m[0] for m in measured])
    for alpha in alphas:
        at = f"vlcache.{round(alpha * 100)}."
        beta, n_keep = vl.budgets(out["vlcache.sparsity"], alpha, n)
        if np.any(np.abs(beta * n - np.floor(beta * n) - 0.5) < 1e-3):
            raise Near("a budget is at a half")
        out[at + "budget"] = np.array(n_keep)
        for layer, a in enumerate(attention):
            chosen = [vl.keep(row, n_keep[layer], RECENT) for row in scores(a, rows, config.num_key_value_heads)]
            if min(gap for _, gap in chosen) < GAP:
                raise Near("two scores are tied")
            out[f"{at}kept.{layer}"] = np.array([kept for kept, _ in chosen])


@torch.no_grad()
def tell(folder, ids, s, special):
    """The taps of a folder in float64, and the greedy tokens, which float32 must choose too."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    given, out = torch.tensor([ids]), {"prompt.ids": np.array(ids)}
    mask = torch.zeros(1, 1, len(ids), len(ids)) if s.get("prefix") else None  # what is added to logits: nothing
    single = greedy(model, *prefill(model, given, mask)[1:], special)
    if len(set(single)) < s.get("different", 1):
        raise Near("greedy tokens are all the same")
    model.double()
    stages = {}
    note = stages.__setitem__  # returns None: a hook that returns anything changes the run
    model.model.layers[0].register_forward_pre_hook(lambda m, args: note("embed", args[0][0]))
    for i, layer in enumerate(model.model.layers):
        layer.register_forward_hook(
            lambda m, args, y, i=i: note(f"layer.{i}.hidden", (y[0] if isinstance(y, tuple) else y)[0]))  # fmt: skip
    model.model.norm.register_forward_hook(lambda m, args, y: note("norm", y[0, -1]))
    run, logits, cache = prefill(model, given, None if mask is None else mask.double())
    stages = dict(stages)  # of the prompt, not of what is decoded
    for name in ("embed", *(f"layer.{i}.hidden" for i in range(model.config.num_hidden_layers)), "norm"):
        out[name] = stages[name].numpy()
    out["logits"] = logits.numpy()
    if "alphas" in s:
        vlcache(run, model.config, len(ids), s["alphas"], s.get("prefix"), out)
    out["greedy.tokens"] = np.array(greedy(model, logits, cache, special))
    if single != out["greedy.tokens"].tolist():
        raise Near("float32 and float64 decode differently")
    return out


def make(name):
    s = {"tokenizer": "bytes", **MODELS[name]}
    folder = HERE / "text" / name
    for seed in range(1, 200):
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "golden").mkdir(parents=True)
        tokenizer, special = write_folder(folder, s, seed)
        ids = tokenizer.encode(PROMPT, add_special_tokens=False)
        try:
            made = tell(folder, ids, s, special)
            break
        except Near as why:
            reason = why
    else:
        raise SystemExit(f"{name}: no safe weights in 200: {reason}")
    taps.write(folder / "golden" / "text.taps", made)
    case = {"case": "text", "prompt": PROMPT, "images": [], "taps": "text.taps", "threshold": THRESHOLD,
            "recent": RECENT}  # fmt: skip
    tiny_models.write_json(folder / "golden" / "cases.json", [case])
    size = sum(f.stat().st_size for f in folder.rglob("*") if f.is_file())
    tokens = made["greedy.tokens"].tolist()
    print(f"{name}: N {len(ids)}, seed {seed}, {len(set(tokens))} different tokens of {len(tokens)}, {size} bytes", flush=True)


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    warnings.simplefilter("ignore", FutureWarning)
    torch.set_num_threads(1)
    for model_name in sys.argv[1:] or MODELS:
        make(model_name)
