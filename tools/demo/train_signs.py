"""A very small Qwen3-VL for signs.py's questions, from scratch.

    python train_signs.py --out /tmp/signs-model       a Hugging Face folder, in 6 minutes of a CPU; on a GPU where there is one
    python signs.py --side 16 --out /tmp/signs && vlcache-eval -m /tmp/signs-model --data /tmp/signs/signs-8.jsonl

Films begin at two seconds, and the longest doubles when its questions are answered; a short film may begin at any second,
so that all of them are met from the start. A film has several questions: each sees the film and itself, and stands where
the only question of a film would. The text of a step's time is one token each, and so is the second that is asked about;
both begin as the same vector. Loss on the answers, and what is thrown away afterwards: linear heads that read the letter
from the sign's visual token, and the second from that token's row and from the rows that ask, behind the first layers; and
the attention of one head of the last layer, which is to look at that token from the row that names the second, as retrieval
heads of large models do, and from the row that answers. No layer is left to carry the letter from the one to the other.
"""
import argparse
import math
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers import Qwen2VLImageProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3

import signs

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "test" / "data" / "families"))
MOST, PATCH, SIDE = 128, 8, 16
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
WORDS = ["Which", " letter", " did", " the", " sign", " show", " at", " Answer", " with", " a", " sentence", "The", "user",
         "assistant", *(f" {letter}" for letter in signs.LETTERS)]  # fmt: skip
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for c in message['content'] %}{% if c['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer():
    import common

    t = common.byte_tokenizer(SPECIAL, "qwen", 480, words=WORDS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    t.add_tokens([signs.told(second) for second in range(MOST)])
    t.add_tokens([f"second {second}?" for second in range(MOST)])
    return t


def processor():
    sizes = dict(patch_size=PATCH, merge_size=2, temporal_patch_size=2)
    film = dict(size={"shortest_edge": 256, "longest_edge": 512 * 2 * MOST}, max_frames=2 * MOST, fps=2)
    half = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    image = Qwen2VLImageProcessor(**sizes, **half, size={"shortest_edge": 256, "longest_edge": 1024})
    return Qwen3VLProcessor(image, tokenizer(), Qwen3VLVideoProcessor(**sizes, **half, **film), chat_template=TEMPLATE)


def configuration(t, width, layers):
    ids = {f"{name}_token_id": t.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in
           [("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"), ("vision_end", "vision_end")]}  # fmt: skip
    text = dict(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=4,
                num_key_value_heads=2, head_dim=32, vocab_size=(len(t) + 15) // 8 * 8, max_position_embeddings=2048,
                tie_word_embeddings=False, bos_token_id=t.pad_token_id, eos_token_id=t.eos_token_id, initializer_range=0.08,
                rope_parameters={"rope_type": "default", "rope_theta": 5e6, "mrope_section": [6, 5, 5], "mrope_interleaved": True})  # fmt: skip
    eyes = dict(depth=1, hidden_size=64, intermediate_size=128, num_heads=2, out_hidden_size=width, patch_size=PATCH,
                spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=16, deepstack_visual_indexes=[],
                initializer_range=0.08)  # fmt: skip
    return Qwen3VLConfig(vision_config=eyes, text_config=text, tie_word_embeddings=False, **ids)


def attend(self, hidden_states, cu_seqlens=None, position_embeddings=None, **_):
    """Steps all have as many patches: one batch instead of a loop over them."""
    n, size = hidden_states.shape[0], int(cu_seqlens[1])
    q, k, v = self.qkv(hidden_states).reshape(n, 3, self.num_heads, -1).permute(1, 0, 2, 3).unbind(0)
    q, k = qwen3.apply_rotary_pos_emb_vision(q, k, *position_embeddings)
    q, k, v = (x.reshape(n // size, size, self.num_heads, -1).transpose(1, 2) for x in (q, k, v))
    return self.proj(F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, -1))


class Films:
    """Batches of films of one length, with several questions each."""

    def __init__(self, t, seed):
        say = lambda text: t(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        self.seed = seed
        self.time = np.array([t.convert_tokens_to_ids(signs.told(second)) for second in range(MOST)])
        self.second = np.array([t.convert_tokens_to_ids(f"second {second}?") for second in range(MOST)])
        self.letter = np.array([say(f" {letter}") for letter in signs.LETTERS])[:, 0]
        self.head, self.end = say("<|im_start|>user\n<|vision_start|>"), say("<|vision_end|>")
        self.step = [0, *say("<|vision_start|><|video_pad|><|video_pad|><|vision_end|>")]
        self.ask = np.array(say(signs.question(0) + "<|im_end|>\n<|im_start|>assistant\n" + signs.answer("A") + "<|im_end|>"))
        self.names = int(np.flatnonzero(self.ask == self.second[0])[0])  # rows of a question: that names the second
        self.answers = len(self.ask) - 3  # that answers, and that begins to
        self.begins = self.answers - len(say(signs.answer("A"))) + 1

    def draw(self, seconds, start):
        self.seed += 1
        letters, frames = signs.film(self.seed, seconds, SIDE)
        planes = np.stack([np.asarray(frame) for frame in frames]).astype(np.float32) / 127.5 - 1
        patches = planes.reshape(seconds, 2, 1, 2, PATCH, 2, 2, PATCH, 3).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
        return [signs.LETTERS.index(letter) for letter in letters], patches.reshape(seconds * 8, -1)

    def batch(self, n, seconds, questions):
        """Of n films: ids [n][rows], pixels, letters and times of their steps, and what is asked, [n][questions] steps."""
        r = np.random.default_rng(self.seed)
        start = r.integers(0, MOST - seconds + 1, n) * (r.random(n) < 0.5)
        letters, pixels = zip(*(self.draw(seconds, start[i]) for i in range(n)))
        letters, asked = np.array(letters), r.integers(0, seconds, (n, questions))
        film = np.tile(self.step, (n, seconds, 1))
        film[:, :, 0] = self.time[start[:, None] + np.arange(seconds)]
        ask = np.tile(self.ask, (n, questions, 1))
        ask[:, :, self.names] = self.second[start[:, None] + asked]
        ask[:, :, self.answers + 1] = self.letter[np.take_along_axis(letters, asked, 1)]
        same = lambda row: np.tile(row, (n, 1))  # noqa: E731
        ids = np.concatenate([same(self.head), film.reshape(n, -1), same(self.end), ask.reshape(n, -1)], 1)
        times = start[:, None] + np.arange(seconds)
        return [torch.from_numpy(np.ascontiguousarray(x)) for x in (ids, np.concatenate(pixels), letters, times, asked)]

    def places(self, seconds, questions):
        """Rows of the signs and of the questions; M-RoPE positions [3][rows], and what may be seen [rows][rows]."""
        first, size = len(self.head), len(self.ask)
        sign = first + len(self.step) * np.arange(seconds) + 3
        ask = first + len(self.step) * seconds + len(self.end) + size * np.arange(questions)
        rows = np.zeros((3, ask[-1] + size), dtype=np.int64)
        rows[:, : ask[0]] = np.arange(ask[0])
        rows[:, sign] -= 1  # a step is two tokens side by side, behind it the row goes on two further
        rows[2, sign] += 1
        rows[:, ask[0] :] = ask[0] + np.tile(np.arange(size), questions)
        of = np.concatenate([np.zeros(ask[0]), 1 + np.repeat(np.arange(questions), size)])
        seen = np.tri(len(of), dtype=bool) & ((of == 0)[None] | (of[:, None] == of[None]))
        return torch.from_numpy(sign), torch.from_numpy(ask), torch.from_numpy(rows), torch.from_numpy(seen)


class Heads(nn.Module):
    """What is thrown away."""

    def __init__(self, width):
        super().__init__()
        self.read, self.when = nn.Linear(width, len(signs.LETTERS)), nn.Linear(width, MOST)


def looks(layer, kept, rows, mask):
    """Logits of what the first head looks at, [n][rows][rows of the sequence]."""
    a, x = layer.self_attn, kept["x"]
    q = a.q_norm(a.q_proj(x[:, rows]).unflatten(-1, (-1, a.head_dim))[:, :, 0])[:, None]
    k = a.k_norm(a.k_proj(x).unflatten(-1, (-1, a.head_dim))[:, :, 0])[:, None]
    cos, sin = kept["turn"]
    turn = lambda y, c, s: y * c[:, None] + qwen3.rotate_half(y) * s[:, None]  # noqa: E731
    q, k = turn(q, cos[:, rows], sin[:, rows]), turn(k, cos, sin)
    return (q @ k.transpose(2, 3))[:, 0] * a.scaling + torch.where(mask[rows], 0.0, -1e4)


def forward(model, heads, films, n, seconds, questions):
    """Loss on the answers, on what is thrown away, and the share of letters that is right."""
    device, text, kept = model.device, model.model.language_model, {}
    ids, pixels, letters, times, asked = (x.to(device) for x in films.batch(n, seconds, questions))
    sign, ask, place, mask = (x.to(device) for x in films.places(seconds, questions))
    grid = torch.tensor([[n * seconds, 2, 4]], device=device)  # a step sees none but itself: films may be one
    tokens = model.model.visual(pixels, grid_thw=grid).pooler_output.reshape(n, seconds, 2, -1)
    rows = text.embed_tokens(ids)
    rows = rows.index_copy(1, torch.stack([sign - 1, sign], 1).flatten(), tokens.flatten(1, 2))
    hooks = [text.layers[-1].register_forward_pre_hook(lambda m, a, k: kept.update(rows=a[0]), with_kwargs=True),
             text.layers[-1].self_attn.register_forward_pre_hook(
                 lambda m, a, k: kept.update(x=k["hidden_states"], turn=k["position_embeddings"]), with_kwargs=True)]  # fmt: skip
    behind = text(inputs_embeds=rows, position_ids=place[:, None].expand(3, n, -1), attention_mask=mask.expand(n, 1, -1, -1),
                  use_cache=False).last_hidden_state  # fmt: skip
    for hook in hooks:
        hook.remove()
    begins = (ask[:, None] + torch.arange(films.begins, films.answers + 2, device=device)).flatten()
    logits, told = model.lm_head(behind[:, begins]).unflatten(1, (questions, -1)), ids[:, begins + 1].unflatten(1, (questions, -1))
    each = F.cross_entropy(logits.flatten(0, 2), told.flatten(), reduction="none").reshape(told.shape)
    loss = each[:, :, -2].mean() + 0.2 * each.mean()
    name, answer = ask + films.names, ask + films.answers
    when = lambda at, right: F.cross_entropy(heads.when(kept["rows"][:, at]).flatten(0, 1), right.flatten())  # noqa: E731
    second = torch.gather(times, 1, asked)
    looking = looks(text.layers[-1], kept, torch.cat([name, answer]), mask)
    aux = {"read": F.cross_entropy(heads.read(tokens[:, :, 1]).flatten(0, 1), letters.flatten()),
           "when": when(sign, times) + when(answer, second) + when(name, second),
           "look": F.cross_entropy(looking.flatten(0, 1), sign[asked].repeat(1, 2).flatten())}  # fmt: skip
    return loss, aux, (logits[:, :, -2].argmax(-1) == told[:, :, -2]).float().mean().item()


@torch.no_grad()
def begin(model, films):
    """Equal numbers begin as equal vectors, but for the kind of token; heads can be sharp from the start, and the one that
    is to look begins with like to like."""
    text = model.model.language_model
    table, kinds = text.embed_tokens.weight, 2 * text.embed_tokens.weight[:2]
    codes = 2 * table[torch.from_numpy(films.time)]
    table[torch.from_numpy(films.time)], table[torch.from_numpy(films.second)] = codes + kinds[0], codes + kinds[1]
    for layer in text.layers:
        layer.self_attn.q_norm.weight.fill_(1.5), layer.self_attn.k_norm.weight.fill_(1.5)
    a = text.layers[-1].self_attn
    a.k_proj.weight[: a.head_dim] = a.q_proj.weight[: a.head_dim]


def save(model, p, out):
    model.generation_config.eos_token_id, model.generation_config.bos_token_id = p.tokenizer.eos_token_id, None
    model.save_pretrained(out, save_original_format=False)
    p.save_pretrained(out)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=45, help="at most: it ends half as many steps after the longest films are known")
    parser.add_argument("--width", type=int, default=64, help="of the text model")
    parser.add_argument("--layers", type=int, default=3, help="the same")
    parser.add_argument("--tokens", type=int, default=700, help="of a batch: a GPU takes 20,000 in the same time")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--save-every", type=float, default=5, help="minutes")
    args = parser.parse_args()
    torch.manual_seed(0)
    qwen3.Qwen3VLVisionAttention.forward = attend
    p = processor()
    model = Qwen3VLForConditionalGeneration._from_config(configuration(p.tokenizer, args.width, args.layers), attn_implementation="sdpa")
    films, heads = Films(p.tokenizer, 1_000_000_000), Heads(args.width)
    begin(model, films)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device), heads.to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    begun, saved, step, last, longest, mean, right_at = time.time(), 0, 0, math.inf, 2, {}, {}
    print(f"{sum(x.numel() for x in model.parameters()):,} parameters on {device}", flush=True)
    while (spent := (time.time() - begun) / 60 / args.minutes) < 1 and step < last:
        r = np.random.default_rng(step)
        seconds = longest if r.random() < 0.5 else int(2 ** r.uniform(1, math.log2(longest) + 0.01))
        questions = 4 if seconds < 16 else 8
        n = max(1, args.tokens // (seconds * 5 + questions * len(films.ask)))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 50) * min(1, 2.5 * (1 - spent), 3 * (1 - step / last))
        loss, aux, right = forward(model, heads, films, n, seconds, questions)
        optimizer.zero_grad()
        (loss + 0.5 * sum(aux.values())).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        mean = {k: 0.95 * mean.get(k, v) + 0.05 * v for k, v in
                {"loss": loss.item(), **{k: v.item() for k, v in aux.items()}}.items()}  # fmt: skip
        if seconds == longest:
            right_at[seconds] = 0.9 * right_at.get(seconds, 0) + 0.1 * right
            if right_at[seconds] > 0.9 and longest < MOST:
                longest *= 2
            elif right_at[seconds] > 0.99 and last == math.inf:
                last = 3 * step // 2
        if step % 50 == 0:
            print(f"{step}: {60 * args.minutes * spent:.0f} s, " + ", ".join(f"{k} {v:.3f}" for k, v in mean.items()) + "; right "
                  + ", ".join(f"{k} s {v:.2f}" for k, v in right_at.items()), flush=True)  # fmt: skip
        if spent * args.minutes > saved + args.save_every:
            saved = spent * args.minutes
            save(model, p, args.out)
    save(model, p, args.out)


if __name__ == "__main__":
    main()
