"""Train the demonstration model on rendered pictures, from scratch or from an exported folder, and export a Hugging Face folder.

A row is one conversation of up to --pictures pictures in --positions positions: a scene (one picture, or several that one question is
about) and its questions, then the next scene. Questions that name no picture mean the latest.

    <s>USER: <image> x 576 \\n{q} ASSISTANT: {a}</s>USER: {q} ASSISTANT: {a}</s>USER: <image> x 576 \\n{q} ...

loss = answers (cross-entropy of the answer tokens) + patches (characters, shapes, bars in each patch) + columns (which value and
which label the patches of a bar belong to). The heads of the last two are thrown away: they only teach the image tower what to carry."""
import argparse, json, math, mmap, multiprocessing as mp, os, queue, random, shutil, threading, time
import numpy as np
import render

N_IMG, IMAGE = 576, 4
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TEXT = 64                                   # least room for the text of a scene
MIX = "pages=46,charts=28,captions=26"
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}USER: {% if m['content'] is string %}{{ m['content'] }}"
            "{% else %}{% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
            "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}{% endif %} ASSISTANT:"
            "{% else %} {% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
            "{% endif %}{{ eos_token }}{% endif %}{% endfor %}")


class Speech:
    """How a conversation is written, and in which tokens; another model's derives from it."""
    start, marker = "<s>", " ASSISTANT:"      # before all; what stands before an answer
    first, image, pad, end = 1, IMAGE, 3, 2   # ids: of `start`, of a visual token, of nothing, behind an answer
    tokens, patches = N_IMG, N_IMG            # of a picture: for the text model, and for the auxiliary heads

    def conversation(self, lead, turns):
        return "".join(f"USER: {lead if i == 0 else ''}{q} ASSISTANT: {a}</s>" for i, (q, a) in enumerate(turns))


def build_tokenizer(path):
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    t = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    t.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Metaspace(prepend_scheme="first"), pre_tokenizers.Digits(individual_digits=True)])
    t.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    texts = []
    for i in range(3000):
        _, turns = render.sample(("any", "charts", "captions")[i % 3], render.TRAIN_SEED + i)
        texts += ["USER: " + q + " ASSISTANT: " + a for q, a in turns]
    alphabet = [chr(i) for i in range(33, 127)] + ["▁", "\n"]
    t.train_from_iterator(texts, trainers.BpeTrainer(vocab_size=640, initial_alphabet=alphabet, show_progress=False,
                          special_tokens=SPECIALS + [f"<0x{i:02X}>" for i in range(256)]))
    d = json.loads(t.to_str())
    d["added_tokens"] = [x for x in d["added_tokens"] if x["content"] in SPECIALS]
    d["model"]["byte_fallback"], d["model"]["unk_token"], d["model"]["fuse_unk"] = True, "<unk>", True
    json.dump(d, open(path, "w"), ensure_ascii=False, indent=1)


def encode(tok, speech, lead, turns, room):
    """Ids of a scene, its marks opened, in at most `room` positions, and which of them are learnt: the answers and their </s>."""
    def ids_of(text): return tok.encode(speech.start + text, add_special_tokens=False).ids[1:]
    room -= (speech.tokens - 1) * lead.count("<image>")
    while True:
        ids = ids_of(speech.conversation(lead, turns))
        if len(ids) <= room or len(turns) == 1: break
        turns = turns[:max(1, min(len(turns) - 1, int(len(turns) * room / len(ids))))]
    out, mask, on = [], [], False
    marker = ids_of(speech.marker)
    m = len(marker)
    for i, t in enumerate(ids[:room]):
        n = speech.tokens if t == speech.image else 1
        out += [t] * n
        mask += [int(on)] * n
        if t == speech.end: on = False
        elif not on and ids[i - m + 1:i + 1] == marker: on = True
    return out, mask


def needs(task, speech):
    """Pictures and least positions of a scene."""
    n = render.PICTURES.get(task, 1)
    return n, speech.tokens * n + (render.TRANSCRIPT_TOKENS if task == "transcribe" else TEXT)


def parse_shares(option, text, known):
    shares = {k: float(v) for k, v in (x.split("=") for x in text.split(",") if x)}
    unknown = set(shares) - set(known)
    if unknown: raise SystemExit(f"{option}: no task {sorted(unknown)[0]}; there are {', '.join(known)}")
    return shares


def parse_mix(text, pictures, positions, speech):
    mix = parse_shares("--mix", text, render.TASKS)
    for task in mix:
        n, least = needs(task, speech)
        if n > pictures or least >= positions: raise SystemExit(f"--mix: {task} needs --pictures {n} and --positions {least + 1}")
    return mix


def choose(r, task, c, turns, full):
    """The turns to learn: charts mostly ask for values; a share `full` of the pictures is also told as a whole, first."""
    if task == "charts":
        turns = [t for t in turns if "value of" in t[0] or r.random() < 0.4]
    if task in ("captions-long", "transcribe") or (task in ("pages", "pages-hard", "pages-long", "charts") and r.random() < full):
        turns = [c.whole] + [t for t in turns if t != c.whole]
    return turns[:4] if task == "transcribe" else turns            # the others could be answered from the transcript


def fill(r, tok, speech, mix, full, seed, row):
    """One row: scenes that fit, until the pictures or the positions are used up. Returns the seed of the last scene."""
    pix, ids, mask, aux, column = row
    room_of = {t: needs(t, speech) for t in mix}
    names, shown, used = list(mix), 0, 1
    ids[:], mask[:], pix[:], aux[:], column[:] = speech.pad, 0, 0, 0, render.IGNORE
    ids[0] = speech.first
    while True:
        fit = [t for t, (n, least) in room_of.items()
               if shown + n <= len(pix) and used + least <= len(ids) and (used == 1 or t not in render.PICTURES)]
        if not fit: return seed
        task = r.choices(fit, [mix[t] for t in fit])[0]
        seed += 1
        canvases, lead, turns = render.scene("any" if task == "pages" else task, seed)  # "any": a third of them hard
        for c in canvases:
            pix[shown], aux[shown], column[shown] = np.asarray(c.image), c.aux.reshape(speech.patches, -1), c.column.reshape(speech.patches, -1)
            shown += 1
        least, left = room_of[task][1], len(ids) - used
        later = min(len(pix) - shown, (left - least) // (speech.tokens + TEXT))         # pictures that are still to find room
        room = least if task == "transcribe" else left - later * (speech.tokens + TEXT)
        i, m = encode(tok, speech, lead, choose(r, task, canvases[0], turns, full), room)
        ids[used:used + len(i)], mask[used:used + len(i)] = i, np.array(m) * (names.index(task) + 1)
        used += len(i)


def worker(rank, speech, mix, full, first, views, free, ready, tokenizer):
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(tokenizer)
    seed = render.TRAIN_SEED * (rank + 2) + first
    r = random.Random(f"{rank}/{first}")
    while True:
        s = free.get()
        for row in zip(*views[s]): seed = fill(r, tok, speech, mix, full, seed, row)
        ready.put(s)


def make_slots(n, rows, pictures, positions, patches):
    """Shared memory of n batches: pixels, ids, mask (1 + the task that a learnt position belongs to), targets of the two heads."""
    views = []
    for _ in range(n):
        out = []
        for shape, t in (((pictures, 336, 336, 3), np.uint8), ((positions,), np.int64), ((positions,), np.uint8),
                         ((pictures, patches, render.SLOTS), np.uint8), ((pictures, patches, render.COLUMN_SLOTS), np.uint8)):
            shape = (rows, *shape)
            out.append(np.frombuffer(mmap.mmap(-1, int(np.prod(shape)) * np.dtype(t).itemsize), t).reshape(shape))
        views.append(out)
    return views


class Loader:
    """Processes that draw batches, to be forked before torch is there, and a thread that copies the next ones to the device."""

    def __init__(self, a, speech, mix, first, tokenizer):
        ctx = mp.get_context("fork")
        self.views = make_slots(2 * a.workers, a.batch, a.pictures, a.positions, speech.patches)
        self.free, self.ready, self.ahead = ctx.Queue(), ctx.Queue(), queue.Queue(2)
        for s in range(len(self.views)): self.free.put(s)
        for w in range(a.workers):
            ctx.Process(target=worker, args=(w, speech, mix, a.full, first, self.views, self.free, self.ready, tokenizer), daemon=True).start()

    def begin(self, device, more=lambda views: []):
        """`more` makes arrays of its own of a batch; they stand behind the others."""
        import torch
        stream = torch.cuda.Stream() if device == "cuda" else None

        def feed():                         # while the device works on the batch before
            while True:
                s = self.ready.get()
                with torch.cuda.stream(stream):
                    tensors = [torch.from_numpy(v).to(device, copy=True) for v in [*self.views[s], *more(self.views[s])]]
                if stream: stream.synchronize()
                self.free.put(s)
                self.ahead.put(tensors)

        threading.Thread(target=feed, daemon=True).start()

    def next(self):
        import torch
        batch = self.ahead.get()
        for t in batch:
            if t.is_cuda: t.record_stream(torch.cuda.current_stream())
        return batch


def build_model():
    from transformers import CLIPVisionConfig, LlavaConfig, LlavaForConditionalGeneration, MistralConfig
    vision = CLIPVisionConfig(hidden_size=256, intermediate_size=1024, num_hidden_layers=7, num_attention_heads=4, image_size=336,
                              patch_size=14, projection_dim=256)
    text = MistralConfig(vocab_size=640, hidden_size=256, intermediate_size=768, num_hidden_layers=12, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=64, max_position_embeddings=4096, sliding_window=None, bos_token_id=1,
                         eos_token_id=2, pad_token_id=3, tie_word_embeddings=False)
    cfg = LlavaConfig(vision_config=vision, text_config=text, image_token_index=4, projector_hidden_act="gelu",
                      vision_feature_layer=-2, vision_feature_select_strategy="default", image_seq_length=N_IMG, tie_word_embeddings=False)
    return LlavaForConditionalGeneration._from_config(cfg, attn_implementation="sdpa")


def load(model, folder):
    """Weights of an exported folder, under the names of this model; every name must be there and none left over."""
    from safetensors.torch import load_file
    disk = {}
    for name in sorted(set(json.load(open(folder + "/model.safetensors.index.json"))["weight_map"].values())):
        disk.update(load_file(f"{folder}/{name}"))
    model.load_state_dict({k: v if "position_ids" in k else disk.pop(hub_name(k)).float() for k, v in model.state_dict().items()})
    if disk: raise SystemExit(f"{folder}: {sorted(disk)[0]} belongs to no parameter of this model")


def export(model, folder, tokenizer, source=None):
    """Write the folder; with a source, everything but the weights is that folder's, unchanged."""
    import torch
    from safetensors.torch import save_file
    os.makedirs(folder, exist_ok=True)
    if source:
        for name in os.listdir(source):
            if ".safetensors" not in name: shutil.copyfile(f"{source}/{name}", f"{folder}/{name}")
    else:
        describe(model, folder, tokenizer)
    state = {hub_name(k): v.detach().to("cpu", torch.bfloat16).contiguous() for k, v in model.state_dict().items() if "position_ids" not in k}
    shards, size = [{}], 0
    for k, v in state.items():
        n = v.numel() * 2
        if size + n > 12_000_000: shards.append({}); size = 0
        shards[-1][k] = v; size += n
    index = {}
    for i, s in enumerate(shards):
        name = f"model-{i + 1:05d}-of-{len(shards):05d}.safetensors"
        save_file(s, f"{folder}/{name}", metadata={"format": "pt"})
        index.update({k: name for k in s})
    total = sum(v.numel() * 2 for v in state.values())
    json.dump({"metadata": {"total_size": total}, "weight_map": index}, open(folder + "/model.safetensors.index.json", "w"), indent=2)


def describe(model, folder, tokenizer):
    shutil.copyfile(tokenizer, folder + "/tokenizer.json")
    def put(name, d): json.dump(d, open(f"{folder}/{name}", "w"), indent=2)
    cfg = model.config.to_dict()
    cfg["architectures"], cfg["dtype"] = ["LlavaForConditionalGeneration"], "bfloat16"
    for k in ("text_config", "vision_config"): cfg[k]["dtype"] = "bfloat16"
    put("config.json", cfg)
    put("generation_config.json", {"bos_token_id": 1, "eos_token_id": 2, "pad_token_id": 3, "max_new_tokens": 64})
    image = {"image_processor_type": "CLIPImageProcessor", "do_convert_rgb": True, "do_resize": True, "size": {"shortest_edge": 336}, "resample": 3,
             "do_center_crop": True, "crop_size": {"height": 336, "width": 336}, "do_rescale": True, "rescale_factor": 1 / 255,
             "do_normalize": True, "image_mean": MEAN, "image_std": STD}
    put("preprocessor_config.json", image)
    put("processor_config.json", {"processor_class": "LlavaProcessor", "image_token": "<image>", "patch_size": 14,
                                  "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default"})
    special = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>", "pad_token": "<pad>"}
    put("special_tokens_map.json", special)
    put("tokenizer_config.json", {**special, "tokenizer_class": "PreTrainedTokenizerFast", "processor_class": "LlavaProcessor",
        "image_token": "<image>", "extra_special_tokens": {"image_token": "<image>"}, "padding_side": "left", "model_max_length": 4096,
        "clean_up_tokenization_spaces": False, "chat_template": TEMPLATE,
        "added_tokens_decoder": {str(i): {"content": s, "special": True, "lstrip": False, "rstrip": False, "normalized": False,
                                          "single_word": False} for i, s in enumerate(SPECIALS)}})
    open(folder + "/chat_template.jinja", "w").write(TEMPLATE)


def hub_name(k):
    """The names LLaVA checkpoints use on disk: language_model.model.*, vision_tower.vision_model.*, multi_modal_projector.*"""
    if k.startswith("lm_head."): return "language_model." + k
    k = k.removeprefix("model.")
    if k.startswith("language_model."): return "language_model.model." + k.removeprefix("language_model.")
    if k.startswith("vision_tower.") and not k.startswith("vision_tower.vision_model."): return "vision_tower.vision_model." + k.removeprefix("vision_tower.")
    return k


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--from", dest="source", help="exported folder to start from: its weights, its tokenizer and its other files")
    p.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out, if there is one")
    p.add_argument("--mix", default=MIX, help="shares of the tasks (pages: a third of them hard)")
    p.add_argument("--weigh", default="", help="weights of the answers' tokens by task, 1 where nothing is said")
    p.add_argument("--full", type=float, default=0.0, help="share of pages and charts that are also told as a whole, first")
    p.add_argument("--seconds", type=float, default=880, help="wall-clock length of the schedule, compilation not counted")
    p.add_argument("--total", type=float, help="seconds after which this process stops training, compilation counted")
    p.add_argument("--steps", type=int, default=10**9)
    p.add_argument("--batch", type=int, default=84, help="rows")
    p.add_argument("--pictures", type=int, default=3, help="most pictures of a row")
    p.add_argument("--positions", type=int, default=2048, help="positions of a row")
    p.add_argument("--workers", type=int, default=15)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--head-lr", type=float, default=1e-3, help="of the auxiliary heads, without warm-up")
    p.add_argument("--warmup", type=int, default=400)
    p.add_argument("--save-every", type=float, default=90)
    p.add_argument("--round", type=int, default=0, help="another round sees other training pictures")
    p.add_argument("--device", default="cuda")
    p.add_argument("--overfit", action="store_true", help="smoke test: one batch, again and again")
    return p.parse_args()


def main():
    a, born = options(), time.time()
    os.makedirs(a.out, exist_ok=True)
    speech = Speech()
    mix, tokenizer, newest = parse_mix(a.mix, a.pictures, a.positions, speech), a.out + "/tokenizer.json", a.out + "/checkpoint.pt"
    if a.source: shutil.copyfile(a.source + "/tokenizer.json", tokenizer)
    elif not (a.resume and os.path.exists(tokenizer)): build_tokenizer(tokenizer)
    a.resume = a.resume and os.path.exists(newest)
    weights = parse_shares("--weigh", a.weigh, mix)
    first = a.round * 50_000_000 + (os.stat(newest).st_mtime_ns // 1000 % 40_000_000 if a.resume else 0)
    loader = Loader(a, speech, mix, first, tokenizer)

    import torch, torch.nn.functional as F
    from heads import Heads, place, through
    torch.manual_seed(1 + a.round)
    torch.set_float32_matmul_precision("high")
    cuda = a.device == "cuda"
    model = build_model()
    if a.source: load(model, a.source)
    model = model.to(a.device).train()
    vision = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    lm, head = model.model.language_model, model.lm_head
    heads = Heads(256).to(a.device)
    params = list(model.parameters()) + list(heads.parameters())
    opt = torch.optim.AdamW([{"params": [q for q in model.parameters() if q.ndim > 1], "weight_decay": 0.02},
                             {"params": [q for q in model.parameters() if q.ndim <= 1], "weight_decay": 0.0},
                             {"params": list(heads.parameters()), "weight_decay": 0.0}], lr=a.lr, betas=(0.9, 0.98), fused=cuda)
    turn = lm.rotary_emb(torch.zeros(1, device=a.device, dtype=torch.bfloat16 if cuda else torch.float32), torch.arange(a.positions, device=a.device)[None])
    weight_of = torch.tensor([0.0] + [weights.get(t, 1.0) for t in mix], device=a.device)     # by mask
    mean, std = (torch.tensor(v, device=a.device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))

    def loss_fn(pix, ids, mask, aux, column):
        x = (pix.flatten(0, 1).permute(0, 3, 1, 2).float() - mean) / std
        h = through(vision.encoder.layers[:-1], vision.pre_layrnorm(vision.embeddings(x)))[:, 1:]
        side, tied = heads(h, aux, column)
        img = model.model.multi_modal_projector(h)
        e = place(lm.get_input_embeddings()(ids), img.reshape(len(ids), -1, img.shape[-1]), ids == IMAGE)
        y = lm.norm(through(lm.layers, e, position_embeddings=turn))
        ce = F.cross_entropy(head(y[:, :-1]).flatten(0, 1).float(), ids[:, 1:].flatten(), reduction="none").view(len(ids), -1)
        m = weight_of[mask[:, 1:].long()]
        return (ce * m).sum() / m.sum().clamp(min=1), side, tied, ce.detach()

    if cuda:
        torch._dynamo.config.suppress_errors = True
        step_fn = torch.compile(loss_fn)
    else:
        step_fn = loss_fn
    step, before = 0, 0.0                   # before: seconds of the schedule that earlier processes spent
    if a.resume:
        kept = torch.load(newest, map_location=a.device)
        model.load_state_dict(kept["model"]); heads.load_state_dict(kept["heads"]); opt.load_state_dict(kept["opt"])
        step, before = kept["step"], kept["elapsed"]
    begun, t0, saved, log, batch = step, None, time.time(), open(a.out + "/train.log", "a"), None

    def elapsed():
        return before + (time.time() - t0 if t0 else 0.0)

    def save(last=False):
        if not last:
            torch.save({"model": model.state_dict(), "heads": heads.state_dict(), "opt": opt.state_dict(), "step": step,
                        "elapsed": elapsed()}, newest + ".new")
            os.replace(newest + ".new", newest)
        export(model, a.out + "/model.new", tokenizer, a.source)
        shutil.rmtree(a.out + "/model", ignore_errors=True)
        os.replace(a.out + "/model.new", a.out + "/model")

    loader.begin(a.device)
    while step < a.steps and elapsed() < a.seconds:
        if batch is None or not a.overfit: batch = loader.next()
        rate = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * elapsed() / a.seconds))
        warm = a.lr * min(1, (step + 1) / a.warmup)
        for g, lr in zip(opt.param_groups, (warm, warm, a.head_lr)): g["lr"] = lr * rate
        with torch.autocast(a.device, torch.bfloat16, enabled=cuda):
            ce, side, tied, each = step_fn(*batch)
        (ce + side + tied).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        if step == begun + 3:
            t0 = time.time()
            if a.total: a.seconds = min(a.seconds, before + a.total - (t0 - born))
        if step % (50 if cuda else 5) == 0 or step == begun + 1:
            tasks = " ".join(f"{n} {each[batch[2][:, 1:] == k].mean().item():.4f}" for k, n in enumerate(mix, 1))
            line = (f"step {step} seconds {elapsed():.0f} lr {opt.param_groups[0]['lr']:.2e} answers {ce.item():.4f} patches {side.item():.4f} "
                    f"columns {tied.item():.4f} waiting {loader.ready.qsize()} rows {(step - begun) * a.batch} | {tasks}")
            print(line, flush=True); log.write(line + "\n"); log.flush()
        if time.time() - saved > a.save_every:
            save()
            saved = time.time()
    save(last=True)
    open(a.out + "/done", "w").write(f"{step} steps of {a.batch} rows in {elapsed():.0f} s\n")


if __name__ == "__main__":
    main()
