"""vlcache beside llama.cpp on one machine: a text model's prompt, its tokens, and how long a process takes to load it.

    python3 tools/bench/llama.py --llama-bench llama.cpp/build/bin/llama-bench --bench build/vlcache-bench

Weights are random, bf16, in the shape that the text model of --geometry has; they are made once, as a Hugging Face
folder for ours and as GGUF for theirs, in --folder. The two run by turns, --rounds times, a process each, so that what
else the machine does meets both; medians are told, and the median and spread of the rounds' ratios. llama.cpp runs with
flash attention and without, whichever is faster counts. Its threads wait for each other spinning: where other work
takes the cores, only `nice -n -15` compares anything. "Load" is a whole process that reads one token and ends, its
files in the page cache; both map them.

What is needed: torch, transformers 5, gguf (PyPI), and llama-bench (-DGGML_NATIVE=ON; its source is also in the sdist
of PyPI's llama-cpp-python, in vendor/).
"""
import argparse
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import peers

try:
    import gguf
    import numpy as np
    import torch
    import transformers
except ImportError as e:
    sys.exit(f"llama: {e.name} is missing: pip install torch transformers gguf numpy")

DEMO = pathlib.Path(__file__).parents[1] / "demo" / "model"  # whose words the folder has
WORDS = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json"]
NAMES = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
ENDS = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


# ---- the same weights twice ----------------------------------------------------------------------------------------


def make_folder(o, folder):
    settings = peers.config_of(o, o.geometry)["text_config"]
    shape = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
    if shape.model_type not in ("llama", "mistral"):
        sys.exit(f"llama: --geometry {o.geometry}: {shape.model_type} is no text model that is written here")
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(shape, dtype=torch.bfloat16)
    model.save_pretrained(folder)
    for name in WORDS:
        shutil.copy(DEMO / name, folder)
    return model


def gguf_name(name):
    name = name.removesuffix(".weight")
    if name in ENDS:
        return ENDS[name] + ".weight"
    layer, part = name.removeprefix("model.layers.").split(".", 1)
    return f"blk.{layer}.{NAMES[part]}.weight"


def make_gguf(model, path):
    """Rows of q and k stay in transformers' order, which is another rotation than llama.cpp's: the work is the same."""
    c, w = model.config, gguf.GGUFWriter(path, "llama")
    w.add_context_length(32768)
    w.add_embedding_length(c.hidden_size)
    w.add_block_count(c.num_hidden_layers)
    w.add_feed_forward_length(c.intermediate_size)
    w.add_head_count(c.num_attention_heads)
    w.add_head_count_kv(c.num_key_value_heads)
    w.add_layer_norm_rms_eps(c.rms_norm_eps)
    w.add_rope_freq_base(c.rope_parameters["rope_theta"])
    w.add_rope_dimension_count(c.hidden_size // c.num_attention_heads)
    w.add_vocab_size(c.vocab_size)
    w.add_file_type(gguf.LlamaFileType.MOSTLY_BF16)
    w.add_tokenizer_model("no_vocab")
    for name, p in model.state_dict().items():
        if p.ndim == 1:
            w.add_tensor(gguf_name(name), p.float().numpy())
        else:
            raw = p.contiguous().view(torch.uint16).numpy().view(np.uint8)
            w.add_tensor(gguf_name(name), raw, raw_dtype=gguf.GGMLQuantizationType.BF16)
    w.write_header_to_file()
    w.write_kv_data_to_file()
    w.write_tensors_to_file()
    w.close()


# ---- a round -------------------------------------------------------------------------------------------------------


def run(command):
    begun = time.perf_counter()
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"llama: {' '.join(map(str, command))}: {done.stderr.strip()[-500:]}")
    return done.stdout, 1e3 * (time.perf_counter() - begun)


def ours(o, folder):
    line = peers.bench(o, "-m", folder, "-p", o.prompt, "-n", o.tokens, "-r", 1, "--policy", "full")[0]
    runner = pathlib.Path(o.bench).with_name("vlcache-run")
    said, whole = run([runner, "-m", folder, "--raw", "-p", "a", "-n", 1, "--json", "--quiet"])
    return {"prefill": line["prefill_ms"], "a token": 1e3 / line["tokens_per_s"], "load": whole,
            "of it the model": json.loads(said)["timings_ms"]["load"]}  # fmt: skip


def theirs(o, path):
    def fastest(*flags):
        said, _ = run([o.llama_bench, "-m", path, "-t", o.threads, "-r", 1, "-fa", "0,1", "-o", "json", *flags])
        return min(x["avg_ns"] for x in json.loads(said)) / 1e6

    _, whole = run([o.llama_bench, "-m", path, "-t", o.threads, "-r", 1, "-p", 1, "-n", 0, "--no-warmup", "-o", "json"])
    return {"prefill": fastest("-p", o.prompt, "-n", 0),
            "a token": fastest("-p", 0, "-n", o.tokens, "-d", o.prompt) / o.tokens, "load": whole}  # fmt: skip


def tell(o, rounds):
    print(f"\n| {o.geometry}, ms | vlcache | llama.cpp | llama.cpp / vlcache |\n|---|--:|--:|--:|")
    for what in rounds[0][0]:
        mine, other = ([r[i].get(what) for r in rounds] for i in (0, 1))
        if other[0] is None:
            print(f"| {what} | {peers.cell(statistics.median(mine))} | | |")
            continue
        ratios = sorted(b / a for a, b in zip(mine, other))
        spread = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f}..{ratios[-1]:.2f})"
        name = {"prefill": f"prefill {o.prompt}", "a token": f"a token behind {o.prompt}"}.get(what, what)
        print(f"| {name} | {peers.cell(statistics.median(mine))} | {peers.cell(statistics.median(other))} | {spread} |")


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", default=str(pathlib.Path(__file__).parents[2] / "build" / "vlcache-bench"))
    p.add_argument("--llama-bench", required=True)
    p.add_argument("--geometry", default="llava-half")
    p.add_argument("-p", dest="prompt", type=int, default=594)
    p.add_argument("-n", dest="tokens", type=int, default=32)
    p.add_argument("-t", dest="threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    p.add_argument("--folder", type=pathlib.Path, help="kept; else a temporary one")
    o = p.parse_args()
    for path in (o.bench, o.llama_bench):
        if not pathlib.Path(path).is_file():
            p.error(f"{path}: no such file")
    return o


def main():
    o = options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = o.folder or pathlib.Path(scratch)
        hub, file = folder / "text", folder / "text.gguf"
        if not file.exists():
            make_gguf(make_folder(o, hub), file)
        ours(o, hub)  # kernels are built, files are in the page cache
        rounds = []
        for i in range(o.rounds):
            rounds.append((ours(o, hub), theirs(o, file)))
            peers.note(f"  round {i + 1}: {rounds[-1]}")
        tell(o, rounds)


if __name__ == "__main__":
    main()
