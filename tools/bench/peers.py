"""vlcache beside transformers and torch, on one device in one hour: the figures that README compares with.

    python3 tools/bench/peers.py --bench build/vlcache-bench                     # all of it; 3 minutes on an H100
    python3 tools/bench/peers.py --only prompts,pictures --geometry llava-half   # some of it, on a processor
    python3 tools/bench/peers.py --quick                                         # tiny shapes, to try it out

Ours are what vlcache-bench says. Theirs are transformers (sdpa, random weights, the shape that `vlcache-bench
--geometry NAME --config` prints) and torch's own products and attention, on the GPU that torch finds, else on the
processor. Both run by turns, a section after the other:

    prompts    a prompt is read (text model and head of the last row), then --tokens tokens, each known to the host
    pictures   the vision tower and projector, one picture and eight
    many       64 prompts of 2,048 tokens read at once, then 100 tokens for each
    families   tower, prompt and a token of models of other families, one picture each
    products   torch.matmul on the shapes of `vlcache-bench --kernels`, all of x, W and y in bf16 where the device's own
               kernel leaves y in 16 bits, too
    attention  scaled_dot_product_attention on them, causal, by cuDNN and by its flash attention
    graph      transformers' tokens again, with a cache of fixed size and all launches recorded once as a CUDA graph:
               what is left when launching costs nothing

All are medians; what does not run says why in its place. Pixels are there already when transformers' clock begins, and
its prompts are ids without pictures among them, so that M-RoPE and DeepStack cost it nothing.
"""
import argparse
import json
import math
import pathlib
import re
import statistics
import subprocess
import sys
import time
import warnings

SECTIONS = ["prompts", "pictures", "many", "families", "products", "attention", "graph"]
FAMILIES = ["qwen2.5-vl-3b", "qwen3-vl-4b", "smolvlm2-2.2b", "internvl3-2b"]
QUESTION = 32  # tokens that `vlcache-bench --images` asks behind the pictures
CHUNK = 2048  # rows that a cache of fixed size is filled with at a time

try:
    import torch
    import transformers
    from torch.nn.attention import SDPBackend, sdpa_kernel
    from torch.nn.functional import scaled_dot_product_attention
except ImportError as e:
    sys.exit(f"peers: {e.name} is missing: pip install torch transformers (5 or later)")


# ---- ours ----------------------------------------------------------------------------------------------------------


def bench(o, *flags):
    """What vlcache-bench says with these flags, as JSON."""
    command = [o.bench, "-q", "--no-ceiling", "-o", "json", *map(str, flags)]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"peers: {' '.join(command)}: {done.stderr.strip() or done.returncode}")
    said = json.loads(done.stdout)
    note(f"  {' '.join(command[1:])}: on {said['device']}")
    return said["results"]


def config_of(o, geometry):
    if pathlib.Path(geometry).is_file():
        return json.loads(pathlib.Path(geometry).read_text())
    done = subprocess.run([o.bench, "--geometry", geometry, "--config"], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"peers: {done.stderr.strip()}")
    return json.loads(done.stdout)


# ---- theirs --------------------------------------------------------------------------------------------------------


def now(o):
    if o.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


def timed(o, work, launches=1):
    begun = now(o)
    for _ in range(launches):
        work()
    return 1e3 * (now(o) - begun) / launches


def median(o, work, least=0.0):
    """Milliseconds of `work`, each measurement of so many launches that it takes `least` ms."""
    once = [timed(o, work), timed(o, work)][1]
    launches = max(1, math.ceil(least / max(once, 1e-3)))
    return statistics.median(timed(o, work, launches) for _ in range(o.repetitions))


def tried(work):
    """What `work` returns, or why it cannot be done, in a few words."""
    try:
        return work()
    except torch.OutOfMemoryError:
        return "out of memory"
    except Exception as e:  # whatever a version of torch or transformers cannot do is a figure that is not there
        note(f"  {type(e).__name__}: {e}")
        return type(e).__name__
    finally:
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


class Peer:
    """A model of transformers with random weights, in the shape of a config.json."""

    def __init__(self, o, config):
        self.o = o
        settings = dict(config)
        self.preparing = settings.pop("image_processor", {})
        shape = transformers.AutoConfig.for_model(settings.pop("model_type"), **settings)
        self.text_shape = shape.get_text_config()
        with torch.device(o.device):
            self.model = transformers.AutoModelForImageTextToText.from_config(
                shape, dtype=torch.bfloat16, attn_implementation="sdpa").eval()  # fmt: skip
        inner = self.model.model
        self.text = inner.language_model if hasattr(inner, "language_model") else inner.text_model
        self.shape = shape

    def read(self, ids, cache, **more):
        hidden = self.text(input_ids=ids, past_key_values=cache, use_cache=True, **more).last_hidden_state
        return self.model.lm_head(hidden[:, -1:])

    def ids(self, sequences, n):
        return torch.randint(10, 500, (sequences, n), device=self.o.device)

    def prompt(self, n, sequences=1):
        """Median ms until `n` tokens of each sequence are read; and the cache of the last time."""
        ids, times = self.ids(sequences, n), []
        for _ in range(1 + (self.o.repetitions if sequences == 1 else 1)):
            cache = None  # the last one goes first
            cache = transformers.DynamicCache(config=self.text_shape)
            times.append(timed(self.o, lambda: self.read(ids, cache)))
        return statistics.median(times[1:]), cache

    def token(self, cache, tokens, sequences=1):
        """Median ms of a token of each sequence behind `cache`."""
        chosen, times = self.ids(sequences, 1), []

        def step():
            nonlocal chosen
            chosen = self.read(chosen, cache).argmax(-1)
            chosen.tolist()

        for _ in range(tokens):
            times.append(timed(self.o, step))
        return statistics.median(times)

    def graph(self, depth, tokens):
        """The same with a cache of fixed size, its launches recorded once."""
        if self.o.device != "cuda":
            return "no GPU"
        cache = transformers.StaticCache(config=self.text_shape, max_cache_len=depth + tokens + 8)
        for at in range(0, depth, CHUNK):
            n = min(CHUNK, depth - at)
            self.read(self.ids(1, n), cache, cache_position=torch.arange(at, at + n, device="cuda"))
        chosen, place = self.ids(1, 1), torch.full((1,), depth, device="cuda")

        def step():
            logits = self.read(chosen, cache, cache_position=place, position_ids=place[None])
            chosen.copy_(logits.argmax(-1))
            place.add_(1)

        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):
            step()
            step()
        torch.cuda.current_stream().wait_stream(aside)
        recorded = torch.cuda.CUDAGraph()
        with torch.cuda.graph(recorded):
            step()

        def again():
            recorded.replay()
            chosen.tolist()

        return statistics.median(timed(self.o, again) for _ in range(tokens))

    def pixels(self, pictures, tokens):
        """What the tower takes for pictures of so many visual tokens each (where sizes are free)."""
        vision = self.shape.vision_config

        def random(*shape):
            return torch.randn(*shape, device=self.o.device, dtype=torch.bfloat16)

        if hasattr(vision, "spatial_merge_size"):  # Qwen's: a square picture, as patches in a row
            side = math.isqrt(tokens) * vision.spatial_merge_size
            patch = 3 * vision.temporal_patch_size * vision.patch_size**2
            grid = torch.tensor([[1, side, side]] * pictures, device=self.o.device)
            return {"pixel_values": random(pictures * side * side, patch), "image_grid_thw": grid}
        side = vision.image_size if isinstance(vision.image_size, int) else vision.image_size[0]
        if "max_image_size" in self.preparing:  # Idefics3's tiles and the whole
            across = self.preparing["size"]["longest_edge"] // self.preparing["max_image_size"]["longest_edge"]
            return {"pixel_values": random(pictures, across * across + 1, 3, side, side)}
        return {"pixel_values": random(pictures, 3, side, side)}

    def tower(self, pictures, tokens):
        return median(self.o, lambda p=self.pixels(pictures, tokens): self.model.model.get_image_features(**p))


# ---- tables --------------------------------------------------------------------------------------------------------


def note(text):
    print(text, file=sys.stderr, flush=True)


def cell(value):
    return value if isinstance(value, str) else f"{value:.3g}" if value < 100 else f"{value:.0f}"


def row(name, *cells, ratio=None):
    """`ratio`: ours and theirs; how many times as long theirs take."""
    ours, theirs = ratio or cells[-2:]
    times = f"{theirs / ours:.2f}" if not isinstance(ours, str) and not isinstance(theirs, str) and ours > 0 else "-"
    print(f"| {name} | {' | '.join(map(cell, cells))} | {times} |", flush=True)


def head(*titles):
    print(f"\n| {' | '.join(titles)} |\n|---|{'--:|' * (len(titles) - 1)}", flush=True)


def of(lines, policy, prompt):
    return next(x for x in lines if x["policy"] == policy and x["prompt_tokens"] == prompt)


# ---- sections ------------------------------------------------------------------------------------------------------


def prompts(o, peer):
    policies = o.policy.split(",")
    ours = bench(o, "--geometry", o.geometry, "-p", ",".join(map(str, o.prompts)), "-n", o.tokens, "--policy", o.policy,
                 "-r", o.repetitions)  # fmt: skip
    peer = peer()
    head(f"{o.geometry}, ms", *policies, "transformers", "times")
    for n in o.prompts:
        lines = [of(ours, p, n) for p in policies]
        done = tried(lambda: peer.prompt(n))
        theirs, cache = done if isinstance(done, tuple) else (done, None)
        token = tried(lambda: peer.token(cache, o.tokens)) if cache else "-"
        row(f"prefill {n:,}", *(x["prefill_ms"] for x in lines), theirs, ratio=(lines[0]["prefill_ms"], theirs))
        row(f"a token behind {n:,}", *(x["token_ms"] for x in lines), token, ratio=(lines[0]["token_ms"], token))
        del done, cache


def graph(o, peer):
    peer = peer()
    print(f"\n| {o.geometry}, a token in a CUDA graph, ms | transformers |\n|---|--:|")
    for n in o.prompts:
        print(f"| behind {n:,} | {cell(tried(lambda: peer.graph(n, o.tokens)))} |", flush=True)


def pictures(o, peer):
    ours = [bench(o, "--geometry", o.geometry, "--images", n, "-n", 1, "--policy", "full", "-r", o.repetitions)[0]
            for n in o.pictures]  # fmt: skip
    peer = peer()
    head(f"{o.geometry}, tower, ms", "vlcache", "transformers", "times")
    for n, line in zip(o.pictures, ours):
        row(f"pictures: {n}", line["vision_ms"], tried(lambda: peer.tower(n, (line["prompt_tokens"] - QUESTION) // n)))


def many(o, peer):
    sequences, n, tokens = o.many
    policies = o.policy.split(",")[:2]
    ours = bench(o, "--geometry", o.geometry, "-p", n, "-b", sequences, "-n", tokens, "--policy", ",".join(policies),
                 "-r", 1)  # fmt: skip
    peer = peer()
    lines = [of(ours, p, n) for p in policies]
    done = tried(lambda: peer.prompt(n, sequences))
    read, cache = done if isinstance(done, tuple) else (done, None)
    step = tried(lambda: peer.token(cache, tokens, sequences)) if cache else "-"
    head(f"{o.geometry}, {sequences} x {n:,} tokens", *policies, "transformers", "times")
    row("prefill, ms", *(x["prefill_ms"] for x in lines), read, ratio=(lines[0]["prefill_ms"], read))
    row("a step, ms", *(x["token_ms"] for x in lines), step, ratio=(lines[0]["token_ms"], step))
    rate = "-" if isinstance(step, str) else sequences / step * 1e3
    row("tokens/s", *(x["tokens_per_s"] for x in lines), rate, ratio=(rate, lines[0]["tokens_per_s"]))


def families(o, _):
    parts = ("tower", "prefill", "a token")
    head("a picture each, ms", "tokens", *(f"vlcache {x}" for x in parts), *(f"transformers {x}" for x in parts))
    for name in o.families:
        ours = bench(o, "--geometry", name, "--images", 1, "-n", 32, "--policy", "full", "-r", o.repetitions)[0]
        peer = tried(lambda: Peer(o, config_of(o, name)))
        n, theirs = int(ours["prompt_tokens"]), [peer] * 3
        if isinstance(peer, Peer):
            done = tried(lambda: peer.prompt(n))
            read, cache = done if isinstance(done, tuple) else (done, None)
            token = tried(lambda: peer.token(cache, 16)) if cache else "-"
            theirs = [tried(lambda: peer.tower(1, n - QUESTION)), read, token]
            del done, cache
        ours = [ours["vision_ms"], ours["prefill_ms"], ours["token_ms"]]
        print(f"| {name} | {n:,} | {' | '.join(map(cell, ours + theirs))} |", flush=True)
        del peer
        tried(lambda: None)  # gives its memory back


def rates(o, kernel):
    """TFLOP/s of the rungs that the device chooses, by shape: of the line whose dtypes are torch's, else the best."""
    flags = ["--quick"] if o.quick else []
    best = {}
    for line in bench(o, "--kernels", "--chosen", "--only", kernel, *flags):
        if line["tflops"]:
            like = line["rung"].endswith("16-bit x and y"), line["tflops"]
            best[line["shape"]] = max(like, best.get(line["shape"], (False, 0)))
    return best


def random(o, *shape):
    return torch.randn(*shape, device=o.device, dtype=torch.bfloat16)


def products(o, _):
    ours = rates(o, "gemm")
    head("matrix products, TFLOP/s", "vlcache", "torch.matmul", "ours / theirs")
    for shape, (same, rate) in ours.items():
        m, n, k = map(int, re.findall(r"\d+", shape)[:3])
        x, w = random(o, m, k), random(o, n, k).T
        ms = tried(lambda: median(o, lambda: torch.matmul(x, w), 4))
        theirs = ms if isinstance(ms, str) else 2e-9 * m * n * k / ms
        dtypes = "bf16 x bf16 -> bf16" if same else "bf16 x bf16 -> f32, torch's bf16"
        row(f"{m:,} x {n:,} x {k:,}, {dtypes}", rate, theirs, ratio=(theirs, rate))


def attention(o, _):
    ours = rates(o, "attention prefill")
    head("causal attention, TFLOP/s", "vlcache", "cuDNN", "flash", "ours / best")
    for shape, (_, rate) in ours.items():
        batch, rows, keys, heads, kv_heads, dim = map(int, re.findall(r"\d+", shape))
        if rows != keys:  # torch's causal mask begins with the first key
            continue
        q, k, v = (random(o, batch, h, rows, dim) for h in (heads, kv_heads, kv_heads))

        def once(how):
            with sdpa_kernel([how]):
                ms = median(o, lambda: scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True), 4)
            return 4e-9 * batch * heads * dim * (rows * (rows + 1) / 2) / ms

        theirs = [tried(lambda: once(how)) for how in (SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION)]
        best = max((t for t in theirs if not isinstance(t, str)), default="-")
        row(shape, rate, *theirs, ratio=(best, rate))


# ---- the whole -----------------------------------------------------------------------------------------------------


def numbers(text):
    return [int(n) for n in text.split(",")]


def options():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--bench", default=str(pathlib.Path(__file__).parents[2] / "build" / "vlcache-bench"))
    p.add_argument("--geometry", default="llava-mistral-7b", help="of prompts, pictures and many [%(default)s]")
    p.add_argument("--only", default=",".join(SECTIONS), metavar="LIST", help="sections [%(default)s]")
    p.add_argument("-p", dest="prompts", type=numbers, default="594,2048,8192,32768", metavar="LIST")
    p.add_argument("-n", dest="tokens", type=int, default=64)
    p.add_argument("--images", dest="pictures", type=numbers, default="1,8", metavar="LIST")
    p.add_argument("-r", dest="repetitions", type=int, default=3)
    p.add_argument("--policy", default="full,vlcache", help="ours; the first is what is compared [%(default)s]")
    p.add_argument("--families", type=lambda t: t.split(","), default=FAMILIES, metavar="LIST")
    p.add_argument("--threads", type=int, default=0, help="of torch on a processor [its own choice]")
    p.add_argument("--quick", action="store_true", help="the tiny geometry and small shapes")
    o = p.parse_args()
    o.many = (64, 2048, 100)
    if o.quick:
        o.geometry, o.prompts, o.many, o.tokens, o.families = "tiny", [100, 300], (4, 100, 8), 8, ["tiny"]
    unknown = [s for s in o.only.split(",") if s not in SECTIONS]
    if unknown:
        p.error(f"--only {unknown[0]}: one of {', '.join(SECTIONS)}")
    if not pathlib.Path(o.bench).is_file():
        p.error(f"--bench {o.bench}: no such file: cmake -B build && cmake --build build --target vlcache-bench")
    o.device = "cuda" if torch.cuda.is_available() else "cpu"
    if o.threads:
        torch.set_num_threads(o.threads)
    return o


def main():
    o = options()
    warnings.simplefilter("ignore")  # of names that transformers is about to change
    where = torch.cuda.get_device_name() if o.device == "cuda" else f"{torch.get_num_threads()} threads"
    print(f"torch {torch.__version__}, transformers {transformers.__version__}, {where}")
    made = []

    def peer():
        if not made:
            made.append(Peer(o, config_of(o, o.geometry)))
        return made[0]

    with torch.inference_mode():
        for name in SECTIONS:
            if name not in o.only.split(","):
                continue
            if name == "families":
                made.clear()  # makes room
            begun = time.perf_counter()
            globals()[name](o, peer)
            note(f"  {name}: {time.perf_counter() - begun:.0f} s")


if __name__ == "__main__":
    main()
