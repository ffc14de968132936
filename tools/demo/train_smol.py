"""Train a second demonstration model: a real language model, SmolLM2-135M-Instruct, that learns to look at rendered pictures.

    python test/smollm2.py vlcache-run --folder /tmp/smollm2               # the language model, as a Hugging Face folder
    python train_smol.py --blank /tmp/blank --text /tmp/smollm2            # settings, processor, tokenizer: all but weights
    python train_smol.py --blank /tmp/blank --text /tmp/smollm2 --out /tmp/smol --total 545

    <|im_start|>User:<fake_token_around_image><global-img><image> x n<fake_token_around_image>{q}<end_of_utterance>
    Assistant: {a}<end_of_utterance>
    User: {q}<end_of_utterance> ...

A SmolVLM: a SigLIP tower from scratch, pixel shuffle, one matrix, and the language model. First the tower learns alone,
from the two auxiliary heads (--look seconds). Then the connector is set to the matrix that best makes, of the features of a
patch, the embeddings of the characters in it, and all learn from the answers too, the language model at a rate that grows
from nothing within --thaw seconds. Every picture is new, so that the share of right answers in the log, each behind
the right answers before it, is that of pictures never seen. Data, loader and heads are those of train.py."""
import argparse, json, math, os, shutil, time
import numpy as np
import render, train

MARKS = ["<fake_token_around_image>", "<global-img>", "<image>", "<end_of_utterance>"]
END = "<|im_end|>"                          # of the language model: what pads, and what <end_of_utterance> begins as
AROUND = f"{MARKS[0]}{MARKS[1]}{MARKS[2]}{MARKS[0]}"
SPARE = 64                                  # rows of the vocabulary for the marks, a round number


class Speech(train.Speech):
    start, marker = "<|im_start|>", "\nAssistant:"

    def __init__(self, tokenizer, scale):
        from tokenizers import Tokenizer
        id_of = Tokenizer.from_file(tokenizer).token_to_id
        self.first, self.pad, self.image, self.end = (id_of(t) for t in (self.start, END, MARKS[2], MARKS[3]))
        self.patches, self.tokens = render.GRID ** 2, (render.GRID // scale) ** 2

    def conversation(self, lead, turns):
        lead = ("<image>" if lead == render.MARK else lead).replace("<image>", AROUND)    # a picture alone: no newline, as the template has it
        space = "" if lead.startswith(AROUND) else " "
        return "".join(f"User:{space + lead if i == 0 else ' '}{q}<end_of_utterance>\nAssistant: {a}<end_of_utterance>\n" for i, (q, a) in enumerate(turns))


# ---- the folder without its weights -----------------------------------------------------------------------------------


def make_blank(a):
    """Settings, tokenizer and processor, in transformers' own files."""
    from tokenizers import AddedToken, Tokenizer
    from transformers import PreTrainedTokenizerFast, SmolVLMConfig, SmolVLMProcessor
    from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil
    from transformers.models.smolvlm.processing_smolvlm import DEFAULT_CHAT_TEMPLATE
    from transformers.models.smolvlm.video_processing_smolvlm import SmolVLMVideoProcessor
    t = Tokenizer.from_file(a.text + "/tokenizer.json")
    t.add_special_tokens([AddedToken(m, normalized=False, special=True) for m in MARKS])
    text = json.load(open(a.text + "/config.json"))
    vocabulary = text["vocab_size"]
    if t.token_to_id(MARKS[0]) != vocabulary: raise SystemExit(f"{a.text}/tokenizer.json has other than {vocabulary} tokens")
    ids = {"bos_token_id": t.token_to_id("<|im_start|>"), "eos_token_id": t.token_to_id(MARKS[3]), "pad_token_id": t.token_to_id(END)}
    keep = ("hidden_size intermediate_size num_hidden_layers num_attention_heads num_key_value_heads head_dim hidden_act rms_norm_eps "
            "max_position_embeddings rope_parameters attention_bias mlp_bias").split()
    config = SmolVLMConfig(
        scale_factor=a.scale, image_token_id=t.token_to_id(MARKS[2]), tie_word_embeddings=True, pad_token_id=ids["pad_token_id"],
        text_config={"model_type": "llama", "vocab_size": vocabulary + SPARE, "tie_word_embeddings": True, **ids, **{k: text[k] for k in keep}},
        vision_config={"hidden_size": a.width, "intermediate_size": 4 * a.width, "num_hidden_layers": a.layers, "num_attention_heads": a.width // 64,
                       "image_size": render.SIDE, "patch_size": a.patch})
    config.architectures, config.dtype = ["SmolVLMForConditionalGeneration"], "bfloat16"
    words = PreTrainedTokenizerFast(tokenizer_object=t, bos_token="<|im_start|>", eos_token=MARKS[3], pad_token=END, unk_token="<|endoftext|>")
    edge = {"longest_edge": render.SIDE}
    image = SmolVLMImageProcessorPil(size=edge, max_image_size=edge, do_image_splitting=False)
    video = SmolVLMVideoProcessor(size=edge, max_image_size=edge, num_frames=8, fps=1)
    side = render.SIDE // a.patch // a.scale
    SmolVLMProcessor(image, words, video, image_seq_len=side * side, chat_template=DEFAULT_CHAT_TEMPLATE).save_pretrained(a.blank)
    config.save_pretrained(a.blank)
    json.dump({**ids, "max_new_tokens": 64}, open(a.blank + "/generation_config.json", "w"), indent=1)


# ---- model ------------------------------------------------------------------------------------------------------------


def grid_waves(side, width):
    """Sines and cosines of row and column, width/4 of each: positions that are neighbours begin alike."""
    import torch
    angle = torch.arange(side)[:, None] / 100 ** (torch.arange(width // 4) / (width // 4))
    one = torch.cat([angle.sin(), angle.cos()], 1)
    return torch.cat([one[:, None].expand(-1, side, -1), one[None].expand(side, -1, -1)], 2).reshape(side * side, width)


def read_text(path):
    """Weights of the language model: a folder, or a GGUF file that transformers takes apart."""
    import torch
    from transformers import AutoModelForCausalLM
    where, name = (path, None) if os.path.isdir(path) else os.path.split(path)
    more = {"gguf_file": name} if name else {}
    return AutoModelForCausalLM.from_pretrained(where or ".", dtype=torch.float32, **more).state_dict()


def build_model(a):
    """Tower and connector at random, the language model as it is; marks begin as the mean token, the end of an answer as the end it had."""
    import torch
    from transformers import AutoConfig, SmolVLMForConditionalGeneration
    model = SmolVLMForConditionalGeneration._from_config(AutoConfig.from_pretrained(a.blank), dtype=torch.float32, attn_implementation="sdpa")
    if not a.text: return model
    known, lm = read_text(a.text), model.model.text_model
    table = lm.embed_tokens.weight.data
    with torch.no_grad():
        was = known["model.embed_tokens.weight"]
        spread = torch.randn(len(table) - len(was), was.shape[1]) * was.std() * 0.1
        table.copy_(torch.cat([was, was.mean(0) + spread]))
        marks = Speech(a.blank + "/tokenizer.json", a.scale)
        table[marks.end] = was[marks.pad]
        model.model.vision_model.embeddings.position_embedding.weight.copy_(grid_waves(render.GRID, a.width) * 0.5)
        model.model.connector.modality_projection.proj.weight.normal_(std=was.std().item() / math.sqrt(a.width * a.scale ** 2))
    lm.load_state_dict({k.removeprefix("model."): v for k, v in known.items() if k.startswith("model.") and "embed" not in k} | {"embed_tokens.weight": table})
    return model


class Reader:
    """The model's walk for training: each kind of layer is compiled once."""

    def __init__(self, model, heads, a):
        import torch
        from heads import place, through
        quick = torch.compile if a.device == "cuda" else lambda f: f
        self.model, self.heads, self.place, self.through = model, heads, place, through
        self.lm, self.vision = model.model.text_model, model.model.vision_model
        self.vision_layers = [quick(x) for x in self.vision.encoder.layers]
        self.text_layers = [quick(x) for x in self.lm.layers]
        self.image = model.config.image_token_id
        self.turn = self.lm.rotary_emb(torch.zeros(1, device=a.device, dtype=torch.bfloat16 if a.device == "cuda" else torch.float32),
                                       torch.arange(a.positions, device=a.device)[None])

    def look(self, pix):
        """Features of all patches: [pictures, patches, width]."""
        x = pix.flatten(0, 1).permute(0, 3, 1, 2).float() / 127.5 - 1
        e = self.vision.embeddings.patch_embedding(x).flatten(2).transpose(1, 2)
        return self.vision.post_layernorm(self.through(self.vision_layers, e + self.vision.embeddings.position_embedding.weight))

    def read(self, ids, features):
        """Last states of all positions: [rows x positions, hidden]."""
        tokens = self.model.model.connector(features)
        e = self.place(self.lm.embed_tokens(ids), tokens.reshape(len(ids), -1, tokens.shape[-1]), ids == self.image)
        y = self.lm.norm(self.through(self.text_layers, e, position_embeddings=self.turn))
        return y.flatten(0, 1)

    def answer(self, ids, features, at, weight):
        return judge(self.read(ids, features)[at], self.lm.embed_tokens.weight, ids.flatten()[at + 1], weight)


def spelled(tok, table):
    """What each class of the first head is in the language model's own embeddings: a character, the words of a shape, a bar's colour."""
    ids = lambda text: tok.encode(text, add_special_tokens=False).ids[:1]
    names = [f" {c} {s}" for s in render.SHAPES for c in render.COLORS]
    words = [[" "]] + [[chr(c)] for c in range(32, 32 + render.SHAPE0 - render.CHAR0)] + [[" " + w for w in n.split()] for n in names]
    words += [[" " + c] for c in render.COLORS]
    import torch
    return torch.stack([table[[i for w in ws for i in ids(w)]].mean(0) for ws in words])


def align(model, h, aux, tok, weights=(1.0, 0.6, 0.4), damp=1e-3):
    """The connector becomes the least-squares map from features to the weighted embeddings of what is in each patch."""
    import torch
    connector, scale = model.model.connector, model.config.scale_factor
    table = model.model.text_model.embed_tokens.weight.detach()
    if not render.CLASSES == len(of := spelled(tok, table)): raise SystemExit("spelled() and render.CLASSES differ")
    kinds = aux.reshape(*h.shape[:2], -1).long()
    share = torch.tensor(weights, device=h.device) * torch.cat([torch.ones_like(kinds[..., :1]), (kinds[..., 1:] > 0)], -1)
    wanted = (of[kinds] * share[..., None]).sum(2) / share.sum(2).sqrt()[..., None]
    x = connector.pixel_shuffle(h.float(), scale).flatten(0, 1)
    y = connector.pixel_shuffle(wanted, scale).flatten(0, 1).view(len(x), scale * scale, -1).mean(1)
    square = (x.T @ x).double()
    square += torch.eye(len(square), device=h.device, dtype=torch.double) * damp * square.trace() / len(square)
    connector.modality_projection.proj.weight.data.copy_(torch.linalg.solve(square, (x.T @ y).double()).T)
    return 1 - ((x @ connector.modality_projection.proj.weight.T - y).pow(2).sum() / (y - y.mean(0)).pow(2).sum()).item()


def judge(y, table, targets, weight):
    """Mean cross-entropy of the tokens that answer, and which of them come out right."""
    from torch.nn import functional as F
    logits = F.linear(y, table).float()
    each = F.cross_entropy(logits, targets, reduction="none")
    return (each * weight).sum() / weight.sum().clamp(min=1e-6), logits.argmax(1) == targets


def learnt(n, seed=0):
    """Chooses of a batch the n rows of states from which an answer's token is told, and the task of each; 0 fills up."""
    r = np.random.default_rng(seed)

    def choose(views):
        mask = views[2].reshape(-1)
        at = np.flatnonzero(mask)
        if len(at) > n: at = np.sort(r.choice(at, n, replace=False))
        out, task = np.zeros(n, np.int64), np.zeros(n, np.uint8)
        out[:len(at)], task[:len(at)] = at - 1, mask[at]
        return [out, task]

    return choose


def whole_answers(at, task, right, names):
    """Of each task the share of answers all of whose tokens are right. Dropped tokens make an answer two."""
    at, task, right = (x.cpu().numpy() for x in (at, task, right))
    at, right, task = at[task > 0], right[task > 0], task[task > 0]
    first = np.flatnonzero(np.diff(at, prepend=-9) != 1)
    if not len(first): return {}
    good, kind = np.minimum.reduceat(right.astype(np.uint8), first), task[first]
    return {n: round(float(good[kind == k].mean()), 3) for k, n in enumerate(names, 1) if (kind == k).any()}


def plain_text(model, a, positions=512):
    """Nats a token of English text that has nothing to do with pictures, from eight pieces: what training takes from the language model."""
    import torch
    from tokenizers import Tokenizer
    from torch.nn import functional as F
    ids = Tokenizer.from_file(a.blank + "/tokenizer.json").encode(open(a.plain).read(), add_special_tokens=False).ids
    ids = torch.tensor(ids[:len(ids) // positions * positions][:8 * positions], device=a.device).view(-1, positions)
    with torch.no_grad(), torch.autocast(a.device, torch.bfloat16, enabled=a.device == "cuda"):
        logits = F.linear(model.model.text_model(input_ids=ids, use_cache=False)[0], model.model.text_model.embed_tokens.weight)
    return F.cross_entropy(logits[:, :-1].flatten(0, 1).float(), ids[:, 1:].flatten()).item()


def export(model, folder, blank):
    """The folder in bf16: the blank's files and the weights."""
    import torch
    new = folder + ".new"
    shutil.rmtree(new, ignore_errors=True)
    shutil.copytree(blank, new)
    state = {k: v.detach().to("cpu", torch.bfloat16) for k, v in model.state_dict().items() if k != "lm_head.weight"}
    from safetensors.torch import save_file
    save_file({k: v.contiguous() for k, v in state.items()}, new + "/model.safetensors", metadata={"format": "pt"})
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(new, folder)


# ---- training ---------------------------------------------------------------------------------------------------------


def options():
    p = argparse.ArgumentParser()
    p.add_argument("--blank", required=True, help="the folder without weights; without --out it is made")
    p.add_argument("--text", help="the language model: a folder, or a GGUF file; without it all weights are random")
    p.add_argument("--out")
    p.add_argument("--patch", type=int, default=14)
    p.add_argument("--scale", type=int, default=1, help="of the pixel shuffle")
    p.add_argument("--width", type=int, default=384, help="of the tower")
    p.add_argument("--layers", type=int, default=8, help="of the tower")
    p.add_argument("--mix", default=train.MIX)
    p.add_argument("--weigh", default="", help="weights of the answers' tokens by task")
    p.add_argument("--full", type=float, default=0.1, help="share of pages and charts that are also told as a whole, first")
    p.add_argument("--seconds", type=float, default=1000, help="length of the schedule, compilation not counted")
    p.add_argument("--total", type=float, help="seconds after which training ends, start and compilation counted")
    p.add_argument("--look", type=float, default=65, help="seconds in which the tower learns alone")
    p.add_argument("--thaw", type=float, default=25, help="seconds in which the language model's rate grows to its full size")
    p.add_argument("--steps", type=int, default=10**9)
    p.add_argument("--batch", type=int, default=64)
    p.add_argument("--pictures", type=int, default=1)
    p.add_argument("--positions", type=int, default=768)
    p.add_argument("--answers", type=int, default=64, help="tokens of answers a row that are learnt, on average and at most")
    p.add_argument("--workers", type=int, default=15)
    p.add_argument("--lr", type=float, default=8e-4, help="of tower and connector")
    p.add_argument("--text-lr", type=float, default=5e-4)
    p.add_argument("--warmup", type=int, default=300)
    p.add_argument("--plain", help="an English text, whose likelihood is told in the end; with --steps 0 that of the language model as it was")
    p.add_argument("--save-every", type=float, default=120)
    p.add_argument("--log-every", type=float, default=15)
    p.add_argument("--least", type=float, default=0, help="rows a second; training that is slower, or learns nothing, stops after two minutes")
    p.add_argument("--round", type=int, default=0, help="another round sees other training pictures")
    p.add_argument("--device", default="cuda")
    a = p.parse_args()
    needed = f"{a.blank}/tokenizer.json" if a.out else f"{a.text}/tokenizer.json" if a.text else None
    if needed is None: p.error("--text: the folder of the language model that --blank is made for")
    if not os.path.isfile(needed): p.error(f"{needed} is not there; " + ("leave out --out once: that makes --blank" if a.out else "--text is a model's folder here"))
    return a


def fault(told, least):
    """Why training should not go on, from what was told so far: (reading, patches, answers, rows a second, seen) each time."""
    if not all(math.isfinite(x) for x in told[-1]): return "a loss is not a number"
    if told[-1][3] < least: return f"{told[-1][3]:.0f} rows a second, {least:.0f} are the least"
    if told[-1][4] < 0.12: return f"the tower tells {told[-1][4]:.3f} of the characters"
    answers = [t[2] for t in told if t[0]]
    if len(answers) > 2 and answers[-1] > 0.95 * answers[0]: return f"the loss of the answers is {answers[-1]:.3f}, and was {answers[0]:.3f}"
    return None


def main():
    a, born = options(), time.time()
    render.PATCH, render.GRID = a.patch, render.SIDE // a.patch
    if not a.out: return make_blank(a)
    os.makedirs(a.out, exist_ok=True)
    speech = Speech(a.blank + "/tokenizer.json", a.scale)
    mix = train.parse_mix(a.mix, a.pictures, a.positions, speech)
    weights = train.parse_shares("--weigh", a.weigh, mix)
    first = a.round * 50_000_000
    loader = train.Loader(a, speech, mix, first, a.blank + "/tokenizer.json")

    import torch
    from heads import Heads
    from tokenizers import Tokenizer
    torch.manual_seed(1 + a.round)
    torch.set_float32_matmul_precision("high")
    cuda, begin = a.device == "cuda", time.time() - born
    model = build_model(a).to(a.device).train()
    built = time.time() - born
    heads = Heads(a.width).to(a.device)
    reader = Reader(model, heads, a)
    eyes = [q for n, q in model.named_parameters() if ".text_model." not in n and "lm_head" not in n] + list(heads.parameters())
    words = list(reader.lm.parameters())
    opt = torch.optim.AdamW([{"params": [q for q in eyes if q.ndim > 1], "weight_decay": 0.02},
                             {"params": [q for q in eyes if q.ndim <= 1], "weight_decay": 0.0},
                             {"params": words, "weight_decay": 0.0}], lr=a.lr, betas=(0.9, 0.98), fused=cuda)
    weight_of = torch.tensor([0.0] + [weights.get(t, 1.0) for t in mix], device=a.device)
    log = open(a.out + "/train.log", "a")

    def say(line):
        print(line, flush=True)
        log.write(line + "\n"); log.flush()

    def losses(batch, reading):
        pix, ids, _, aux, column, at, task = batch
        with torch.autocast(a.device, torch.bfloat16, enabled=cuda):
            h = reader.look(pix)
            side, tied = reader.heads(h, aux, column)
            zero = torch.zeros((), device=a.device)
            return (h.detach(), side, tied, *(reader.answer(ids, h, at, weight_of[task.long()]) if reading else (zero, None)))

    loader.begin(a.device, learnt(a.answers * a.batch, first))
    batch = loader.next()
    for reading in (True, False):           # compiles
        sum(losses(batch, reading)[1:4]).backward()
        opt.zero_grad(set_to_none=True)
    if cuda: torch.cuda.synchronize()
    t0 = saved = time.time()
    if a.total: a.seconds = min(a.seconds, a.total - (t0 - born))
    say(f"ready after {t0 - born:.0f} s, of which import {begin:.0f}, model {built - begin:.0f}; {sum(q.numel() for q in model.parameters()) / 1e6:.1f}M "
        f"parameters, {a.seconds:.0f} s to go")
    step, mark, told, was, why = 0, (t0, 0), [], False, None
    while step < a.steps and (now := time.time() - t0) < a.seconds and not why:
        reading = now >= a.look
        if reading and not was:
            say(f"step {step}: the connector is set; it tells {align(model, losses(batch, False)[0], batch[3], Tokenizer.from_file(a.blank + '/tokenizer.json')):.3f} "
                "of what there is to tell of the characters' embeddings")
        rate = 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * now / a.seconds))
        warm = a.lr * min(1, (step + 1) / a.warmup)
        for g, lr in zip(opt.param_groups, (warm, warm, a.text_lr * min(1, max(0, now - a.look) / max(a.thaw, 1e-9)))): g["lr"] = lr * rate
        h, side, tied, ce, right = losses(batch, reading)
        (side + tied + ce).backward()
        torch.nn.utils.clip_grad_norm_(eyes, 1.0)
        if reading: torch.nn.utils.clip_grad_norm_(words, 1.0)
        opt.step()
        opt.zero_grad(set_to_none=True)
        step += 1
        if time.time() - mark[0] > a.log_every or reading and not was:
            told.append((reading, side.item(), ce.item(), (step - mark[1]) * a.batch / (time.time() - mark[0]),
                         heads.seen(h, batch[3])))
            more = f" answers {told[-1][2]:.4f} right {json.dumps(whole_answers(batch[5], batch[6], right, list(mix)))}" if reading else ""
            say(f"step {step} seconds {time.time() - t0:.0f} lr {opt.param_groups[0]['lr']:.2e} {opt.param_groups[2]['lr']:.2e} patches {told[-1][1]:.4f} "
                f"seen {told[-1][4]:.3f} columns {tied.item():.4f} waiting {loader.ready.qsize()} rows/s {told[-1][3]:.0f}{more}")
            if now > 120 or not all(map(math.isfinite, told[-1][1:3])): why = fault(told, a.least)
            mark = time.time(), step
        was = reading
        batch = loader.next()
        if time.time() - saved > a.save_every:
            export(model, a.out + "/model", a.blank)
            saved = time.time()
    if why: raise SystemExit(f"stopped: {why}")
    export(model, a.out + "/model", a.blank)
    say(f"{step} steps of {a.batch} rows in {time.time() - t0:.0f} s" + (f", {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the device's memory at most" if cuda else ""))
    if a.plain: say(f"plain text: {plain_text(model, a):.4f} nats a token")


if __name__ == "__main__":
    main()
