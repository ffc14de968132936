"""Train the demonstration model from scratch on rendered pictures and export it as a Hugging Face folder."""
import argparse, json, math, mmap, multiprocessing as mp, os, random, shutil, time
import numpy as np
import render

PREFIX, N_IMG = "<s>USER: <image>", 576
SPECIALS = ["<unk>", "<s>", "</s>", "<pad>", "<image>"]
MEAN, STD = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
TEXT = 160                                  # text positions after the image
TEMPLATE = ("{{ bos_token }}{% for m in messages %}{% if m['role'] == 'user' %}USER: {% if m['content'] is string %}{{ m['content'] }}"
            "{% else %}{% for c in m['content'] if c['type'] == 'image' %}<image>\n{% endfor %}"
            "{% for c in m['content'] if c['type'] == 'text' %}{{ c['text'] }}{% endfor %}{% endif %} ASSISTANT:"
            "{% else %} {% if m['content'] is string %}{{ m['content'] }}{% else %}{% for c in m['content'] %}{{ c['text'] }}{% endfor %}"
            "{% endif %}{{ eos_token }}{% endif %}{% endfor %}")


def conversation(turns):
    return "<s>" + "".join(f"USER: {'<image>' + chr(10) if i == 0 else ''}{q} ASSISTANT: {a}</s>" for i, (q, a) in enumerate(turns))


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


def encode(tok, turns):
    """Ids after the image, and which of them are learnt: the answers and their </s>."""
    while True:
        ids = tok.encode(conversation(turns), add_special_tokens=False).ids
        ids = ids[ids.index(4) + 1:]
        if len(ids) <= TEXT or len(turns) == 1: break
        turns = turns[:max(1, min(len(turns) - 1, int(len(turns) * TEXT / len(ids))))]
    ids = ids[:TEXT]
    mask, on = [0] * len(ids), False
    marker = tok.encode("<s> ASSISTANT:", add_special_tokens=False).ids[1:]
    m = len(marker)
    for i in range(len(ids)):
        mask[i] = int(on)
        if ids[i] == 2: on = False
        elif not on and ids[i - m + 1:i + 1] == marker: on = True
    return ids, mask


def worker(rank, slots, views, free, ready, folder):
    from tokenizers import Tokenizer
    tok = Tokenizer.from_file(folder + "/tokenizer.json")
    seed = render.TRAIN_SEED * (rank + 2)
    r = random.Random(rank)
    while True:
        s = free.get()
        pix, ids, mask, aux = views[s]
        ids[:], mask[:] = 3, 0
        for b in range(len(ids)):
            seed += 1
            c, turns = render.sample(r.choices(("any", "charts", "captions"), (46, 28, 26))[0], seed)
            i, m = encode(tok, turns)
            pix[b], aux[b] = np.asarray(c.image), c.aux.reshape(-1, render.SLOTS)
            ids[b, :len(i)], mask[b, :len(i)] = i, m
        ready.put(s)


def make_slots(n, b):
    views = []
    for _ in range(n):
        out = []
        for shape, t in (((b, 336, 336, 3), np.uint8), ((b, TEXT), np.int64), ((b, TEXT), np.uint8), ((b, N_IMG, render.SLOTS), np.uint8)):
            out.append(np.frombuffer(mmap.mmap(-1, int(np.prod(shape)) * np.dtype(t).itemsize), t).reshape(shape))
        views.append(out)
    return views


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


def export(model, folder, tokenizer):
    import torch
    from safetensors.torch import save_file
    os.makedirs(folder, exist_ok=True)
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
    put("model.safetensors.index.json", {"metadata": {"total_size": sum(v.numel() * 2 for v in state.values())}, "weight_map": index})


def hub_name(k):
    """The names LLaVA checkpoints use on disk: language_model.model.*, vision_tower.vision_model.*, multi_modal_projector.*"""
    if k.startswith("lm_head."): return "language_model." + k
    k = k.removeprefix("model.")
    if k.startswith("language_model."): return "language_model.model." + k.removeprefix("language_model.")
    if k.startswith("vision_tower.") and not k.startswith("vision_tower.vision_model."): return "vision_tower.vision_model." + k.removeprefix("vision_tower.")
    return k


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--out", required=True)
    p.add_argument("--seconds", type=float, default=880, help="wall-clock length of the schedule")
    p.add_argument("--batch", type=int, default=256)
    p.add_argument("--workers", type=int, default=15)
    p.add_argument("--lr", type=float, default=1e-3)
    p.add_argument("--warmup", type=int, default=400)
    p.add_argument("--save-every", type=float, default=120)
    p.add_argument("--device", default="cuda")
    p.add_argument("--overfit", action="store_true", help="smoke test: one batch, again and again")
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    build_tokenizer(a.out + "/tokenizer.json")
    ctx = mp.get_context("fork")
    views = make_slots(2 * a.workers, a.batch)
    free, ready = ctx.Queue(), ctx.Queue()
    for s in range(len(views)): free.put(s)
    for w in range(a.workers):
        ctx.Process(target=worker, args=(w, len(views), views, free, ready, a.out), daemon=True).start()

    import torch, torch.nn.functional as F
    torch.manual_seed(1)
    torch.set_float32_matmul_precision("high")
    cuda = a.device == "cuda"
    model = build_model().to(a.device).train()
    vision = getattr(model.model.vision_tower, "vision_model", model.model.vision_tower)
    lm, head = model.model.language_model, model.lm_head
    aux_head = torch.nn.Linear(256, render.SLOTS * render.CLASSES).to(a.device)
    params = list(model.parameters()) + list(aux_head.parameters())
    opt = torch.optim.AdamW([{"params": [q for q in params if q.ndim > 1], "weight_decay": 0.02},
                             {"params": [q for q in params if q.ndim <= 1], "weight_decay": 0.0}], lr=a.lr, betas=(0.9, 0.98), fused=cuda)
    from tokenizers import Tokenizer
    pre = torch.tensor(Tokenizer.from_file(a.out + "/tokenizer.json").encode(PREFIX, add_special_tokens=False).ids[:-1], device=a.device)
    mean, std = (torch.tensor(v, device=a.device).view(1, 3, 1, 1) * 255 for v in (MEAN, STD))

    def loss_fn(pix, ids, mask, aux):
        x = (pix.permute(0, 3, 1, 2).float() - mean) / std
        h = vision.pre_layrnorm(vision.embeddings(x))
        for layer in vision.encoder.layers[:-1]:
            h = layer(h, None)
            h = h[0] if isinstance(h, tuple) else h
        h = h[:, 1:]
        guess = aux_head(h).view(-1, render.CLASSES)
        target = aux.reshape(-1).long()
        weight = torch.where(target > 0, 1.0, 0.1)
        side = (F.cross_entropy(guess.float(), target, reduction="none") * weight).sum() / weight.sum()
        emb = lm.get_input_embeddings()
        img = model.model.multi_modal_projector(h)
        e = torch.cat([emb(pre)[None].expand(len(ids), -1, -1).to(img.dtype), img, emb(ids).to(img.dtype)], 1)
        y = lm(inputs_embeds=e, use_cache=False).last_hidden_state[:, -TEXT - 1:-1]
        ce = F.cross_entropy(head(y).flatten(0, 1).float(), ids.flatten(), reduction="none")
        m = mask.flatten().float()
        return (ce * m).sum() / m.sum().clamp(min=1), side

    if cuda:
        torch._dynamo.config.suppress_errors = True
        step_fn = torch.compile(loss_fn)
    else:
        step_fn = loss_fn
    t0, step, saved, log, kept = None, 0, time.time(), open(a.out + "/train.log", "a"), None
    while True:
        if kept is None or not a.overfit:
            s = ready.get()
            batch = [torch.from_numpy(v).to(a.device) for v in views[s]]
            free.put(s)
            kept = batch
        done = (time.time() - t0) / a.seconds if t0 else 0.0
        if done >= 1: break
        rate = a.lr * min(1, (step + 1) / a.warmup) * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done)))
        for g in opt.param_groups: g["lr"] = rate
        with torch.autocast(a.device, torch.bfloat16, enabled=cuda):
            ce, side = step_fn(*kept)
        (ce + side).backward()
        torch.nn.utils.clip_grad_norm_(params, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        if t0 is None and step == 3: t0 = time.time()
        if step % (50 if cuda else 10) == 0:
            line = f"step {step} images {step * a.batch} seconds {time.time() - t0:.0f} lr {rate:.2e} answers {ce.item():.4f} patches {side.item():.4f} waiting {ready.qsize()}"
            print(line, flush=True); log.write(line + "\n"); log.flush()
        if time.time() - saved > a.save_every:
            export(model, a.out + "/model.new", a.out + "/tokenizer.json")
            os.system(f"rm -rf '{a.out}/model' && mv '{a.out}/model.new' '{a.out}/model'")
            saved = time.time()
    export(model, a.out + "/model.new", a.out + "/tokenizer.json")
    os.system(f"rm -rf '{a.out}/model' && mv '{a.out}/model.new' '{a.out}/model'")
    open(a.out + "/done", "w").write(f"{step} steps\n")


if __name__ == "__main__":
    main()
