"""A 7B model's first layers in 16 bits: how far from float64, and do its tokens change?

    python3 test/rounding.py BUILD [--geometry NAME] [--layers N] [--positions N] [--folder DIR] [--quick]

Makes a folder of LLaVA-Mistral-7B's geometry with 4 layers of text and random bf16 weights (2.8 GB; DIR, made where it
is not there), asks about a picture, and tells the model 500 tokens of an answer. The logits of each of these positions
come out of vlcache-eval, on the device that VLCACHE_DEVICE names, and out of transformers, in float64 (what is right)
and in bf16 (sdpa). Wanted of ours, stored in bf16:

    first logits       within 2e-2 of float64's, as |ours - right| / |right| over the vocabulary
    the best token     float64's in 98% of positions; transformers' own bf16 is told beside it
    three runs         equal to the bit
    --dtype f32        within 1e-4, so that ids, pixels and positions are the same ones

Random logits are near ties: the best of 32,064 equal normals leads by a fifth of their deviation, and rounding alone
would decide some tokens in twenty. So rows of the head have lengths that differ, e^N(0, 1) times 1 / sqrt(hidden): the
best then comes from some dozens of tokens that are heard more than others, and leads by more, as in a trained model: an
error of 7e-3 changes one token in a hundred, twice that two. Queries are twice as long as keys, so that rows attend to
a few of 600, not evenly to all; that the picture counts is looked at, too.

For hands and a GPU with 24 GB; --quick is a tiny geometry for a processor. Skips (exit status 77) where torch,
transformers 5 or memory is missing; the status is 1 where anything is not as wanted.
"""
import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

SKIPPED = 77
ROOT = pathlib.Path(__file__).parents[1]
DEMO = ROOT / "tools" / "demo" / "model"  # whose words are the folder's
SETTINGS = ["tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
            "processor_config.json", "generation_config.json", "preprocessor_config.json"]  # fmt: skip
QUESTION = "<s><image>\nWhat is the total of the receipt, and who has signed it?"


def skip(why):
    print(f"rounding: skipped: {why}")
    sys.exit(SKIPPED)


try:
    import numpy as np
    import torch
    import transformers
except ImportError as e:
    skip(f"no {e.name}")
sys.path.insert(0, str(ROOT / "test" / "data"))
import taps  # noqa: E402


# ---- the folder ----------------------------------------------------------------------------------------------------


def config_of(o):
    command = [o.build / "vlcache-bench", "--geometry", o.geometry, "--config"]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"rounding: {done.stderr.strip()}")
    settings = json.loads(done.stdout)
    settings["image_token_index"] = json.loads((DEMO / "config.json").read_text())["image_token_index"]
    settings["text_config"]["num_hidden_layers"] = o.layers
    if settings["text_config"]["vocab_size"] < 640:
        settings["text_config"]["vocab_size"] = 640  # the words that there are
    return transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)


def fill(model):
    """Weights as the head of this file says, one tensor after another from one seed."""
    torch.manual_seed(0)
    for name, p in model.named_parameters():
        random = torch.randn(p.shape, device=p.device)
        if p.ndim < 2:
            random = random * 0.02 + (1.0 if name.endswith("weight") else 0.0)
        elif "embed_tokens" not in name and "position_embedding" not in name:
            random /= p[0].numel() ** 0.5
        if "language_model" in name and "q_proj" in name:
            random *= 2
        if "lm_head" in name:
            random *= torch.randn(p.shape[0], 1, device=p.device).exp()
        p.copy_(random)


def make_folder(o, folder):
    with torch.device(o.device):
        model = transformers.AutoModelForImageTextToText.from_config(config_of(o), dtype=torch.bfloat16)
    fill(model)
    model.save_pretrained(folder)
    for name in SETTINGS:
        shutil.copy(DEMO / name, folder)
    preparing = json.loads((folder / "preprocessor_config.json").read_text())
    side = model.config.vision_config.image_size
    preparing.update(size={"shortest_edge": side}, crop_size={"height": side, "width": side})
    (folder / "preprocessor_config.json").write_text(json.dumps(preparing))


# ---- what is asked -------------------------------------------------------------------------------------------------


def told(tokenizer, n):
    """A text of n tokens or a few more, cut between words; and its ids."""
    text = " ".join((ROOT / "README.md").read_text().split())
    at = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"][n - 1][1]
    text = text[: text.index(" ", at)]
    return text, tokenizer(text, add_special_tokens=False)["input_ids"]


def picture(side, seed, path):
    """A picture of the tower's side, so that nothing is resized: coarse squares of random colours."""
    squares = np.random.default_rng(seed).integers(0, 256, (side // 14, side // 14, 3), dtype=np.uint8)
    pixels = np.repeat(np.repeat(squares, 14, 0), 14, 1)
    path.write_bytes(b"P6\n%d %d\n255\n" % (side, side) + pixels.tobytes())
    return pixels


class Asked:
    def __init__(self, o, folder, scratch):
        tokenizer = transformers.PreTrainedTokenizerFast.from_pretrained(folder)
        shape = transformers.AutoConfig.from_pretrained(folder)
        preparing = json.loads((folder / "preprocessor_config.json").read_text())
        vision = shape.vision_config
        mean, std = (np.array(preparing[k]) for k in ("image_mean", "image_std"))
        self.text, self.told = told(tokenizer, o.positions)
        visual = (vision.image_size // vision.patch_size) ** 2
        ids = tokenizer(QUESTION, add_special_tokens=False)["input_ids"]
        self.ids = [i for t in ids for i in [t] * (visual if t == shape.image_token_id else 1)]
        self.pictures = [scratch / f"{seed}.ppm" for seed in range(2)]
        self.pixels = [((picture(vision.image_size, seed, path) / 255.0 - mean) / std).transpose(2, 0, 1)
                       for seed, path in enumerate(self.pictures)]  # fmt: skip


# ---- logits of each told position ----------------------------------------------------------------------------------


def theirs(o, folder, asked, dtype, attention, which=0):
    """transformers' logits [positions][vocabulary], float64 on the host."""
    model = transformers.AutoModelForImageTextToText.from_pretrained(
        folder, dtype=dtype, attn_implementation=attention, device_map=o.device).eval()  # fmt: skip
    ids = torch.tensor([asked.ids + asked.told[:-1]], device=o.device)
    pixels = torch.tensor(asked.pixels[which][None], device=o.device, dtype=dtype)
    logits = model(input_ids=ids, pixel_values=pixels, logits_to_keep=len(asked.told)).logits[0]
    logits = logits.double().cpu().numpy()
    del model
    if o.device == "cuda":
        torch.cuda.empty_cache()
    return logits


def ours(o, folder, asked, scratch, *flags):
    """The same of vlcache-eval, float32."""
    question = {"id": "one", "task": "rounding", "image": asked.pictures[0].name, "metric": "likelihood", "raw": True,
                "question": QUESTION, "answers": [asked.text]}  # fmt: skip
    (scratch / "q.jsonl").write_text(json.dumps(question) + "\n")
    dump = scratch / "dump.taps"
    dump.unlink(missing_ok=True)
    environment = dict(os.environ, VLCACHE_DUMP="logits", VLCACHE_DUMP_FILE=str(dump))
    asking = ["-m", folder, "--data", scratch / "q.jsonl", "--policy", "full", "--quiet"]
    command = [o.build / "vlcache-eval", *asking, *flags]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode:
        sys.exit(f"rounding: vlcache-eval: {done.stderr.strip()}")
    rows = np.concatenate([value for name, value in taps.records(dump) if name == "logits"])
    if len(rows) != len(asked.told):
        sys.exit(f"rounding: {len(rows)} rows of logits, {len(asked.told)} tokens were told")
    return rows


# ---- judging -------------------------------------------------------------------------------------------------------


def off(got, right):
    return np.linalg.norm(got - right) / np.linalg.norm(right)


def judge(name, got, right):
    """A line: error of the first position, the largest of any, how many best tokens are float64's."""
    got = got.astype(np.float64)
    errors = [off(g, r) for g, r in zip(got, right)]
    same = (got.argmax(1) == right.argmax(1)).sum()
    print(f"| {name} | {errors[0]:.1e} | {max(errors):.1e} | {same} of {len(right)} |", flush=True)
    return errors[0], max(errors), same / len(right)


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("build", type=pathlib.Path)
    p.add_argument("--geometry", default="llava-mistral-7b")
    p.add_argument("--layers", type=int, default=4)
    p.add_argument("--positions", type=int, default=500)
    p.add_argument("--runs", type=int, default=3)
    p.add_argument("--folder", type=pathlib.Path, help="kept; else in a temporary one")
    p.add_argument("--quick", action="store_true")
    o = p.parse_args()
    if o.quick:
        o.geometry, o.positions = "tiny", 60
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    o.device = "cuda" if torch.cuda.is_available() else "cpu"
    if not o.quick and (o.device == "cpu" or torch.cuda.mem_get_info()[0] < 20e9):
        skip("no GPU with 20 GB that are free; --quick is for processors")
    return o


def check(o, folder, scratch):
    asked = Asked(o, folder, scratch)
    right = theirs(o, folder, asked, torch.float64, "eager")
    lead = np.sort(right, 1)
    print(f"torch {torch.__version__}, transformers {transformers.__version__}")
    print(f"{o.geometry}, {o.layers} layers, {len(asked.ids)} tokens and {len(asked.told)} told; logits deviate by"
          f" {right.std():.2f}, the best of {len(set(right.argmax(1)))} leads by"
          f" {np.median(lead[:, -1] - lead[:, -2]):.2f}\n")  # fmt: skip
    print("| | first logits | any position | best token as float64 |\n|---|--:|--:|--:|")
    other = theirs(o, folder, asked, torch.float64, "eager", 1)
    seen, _, _ = judge("float64, another picture", other, right)
    judge("transformers, bf16, sdpa", theirs(o, folder, asked, torch.bfloat16, "sdpa"), right)
    runs = [ours(o, folder, asked, scratch) for _ in range(o.runs)]
    first, _, same = judge("vlcache, bf16", runs[0], right)
    _, exact, _ = judge("vlcache, --dtype f32", ours(o, folder, asked, scratch, "--dtype", "f32"), right)
    wanted = {
        "first logits within 2e-2 of float64": first <= 2e-2,
        "the best token is float64's in 98%": same >= 0.98,
        f"{o.runs} runs are equal to the bit": all(np.array_equal(r, runs[0]) for r in runs),
        "f32 within 1e-4": exact <= 1e-4,
        "another picture is twice as far": seen >= 4e-2,
    }
    print()
    for what, holds in wanted.items():
        print(f"{'yes' if holds else 'NO '}  {what}")
    return 0 if all(wanted.values()) else 1


def main():
    o = options()
    with tempfile.TemporaryDirectory() as scratch, torch.inference_mode():
        scratch = pathlib.Path(scratch)
        folder = o.folder or scratch / "folder"
        if not (folder / "config.json").exists():
            folder.mkdir(parents=True, exist_ok=True)
            make_folder(o, folder)
        return check(o, folder, scratch)


if __name__ == "__main__":
    sys.exit(main())
