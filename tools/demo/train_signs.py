"""A very small Qwen3-VL for signs.py's questions, from scratch.

    python train_signs.py --out /tmp/signs-model --minutes 5         a Hugging Face folder; on a GPU where there is one
    python signs.py --side 16 --out /tmp/signs && vlcache-eval -m /tmp/signs-model --data /tmp/signs/signs-8.jsonl

The text of a step's time is one token each, and so is the second that is asked about. Loss on the answers of several
questions a film, and what is thrown away afterwards: linear heads that read the letter from the sign's visual token, and
the second from that token's row and from the row that answers, behind the first layers; and the attention of one head
of the third layer, which is to look from the row that answers at that token.
"""
import argparse
import pathlib
import sys
import time

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from transformers import PreTrainedTokenizerFast, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor
from transformers import Qwen2VLImageProcessor, Qwen3VLVideoProcessor
from transformers.models.qwen3_vl import modeling_qwen3_vl as qwen3

import signs

sys.path.insert(0, str(pathlib.Path(__file__).parents[2] / "test" / "data" / "families"))
MOST, PATCH = 128, 8
SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>"]
WORDS = ["Which", " letter", " did", " the", " sign", " show", " at", " Answer", " with", "user", "assistant"]
SIDE = 16
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for c in message['content'] %}{% if c['type'] == 'video' %}"
    "<|vision_start|><|video_pad|><|vision_end|>{% elif 'text' in c %}{{ c['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def tokenizer():
    import common

    t = common.byte_tokenizer(SPECIAL, "qwen", 280, words=WORDS, eos_token="<|im_end|>", pad_token="<|endoftext|>")
    t.add_tokens([signs.told(second) for second in range(MOST)])
    t.add_tokens([f"second {second}?" for second in range(MOST)])
    return t


def processor():
    sizes = dict(patch_size=PATCH, merge_size=2, temporal_patch_size=2)
    film = dict(size={"shortest_edge": 256, "longest_edge": 512 * 2 * MOST}, max_frames=2 * MOST, fps=2)
    half = dict(image_mean=[0.5] * 3, image_std=[0.5] * 3)
    image = Qwen2VLImageProcessor(**sizes, **half, size={"shortest_edge": 256, "longest_edge": 1024})
    return Qwen3VLProcessor(image, tokenizer(), Qwen3VLVideoProcessor(**sizes, **half, **film), chat_template=TEMPLATE)


def configuration(t):
    ids = {f"{name}_token_id": t.convert_tokens_to_ids(f"<|{mark}|>") for name, mark in
           [("image", "image_pad"), ("video", "video_pad"), ("vision_start", "vision_start"), ("vision_end", "vision_end")]}  # fmt: skip
    text = dict(hidden_size=96, intermediate_size=192, num_hidden_layers=4, num_attention_heads=4, num_key_value_heads=2,
                head_dim=24, vocab_size=(len(t) + 15) // 8 * 8, max_position_embeddings=2048, tie_word_embeddings=False,
                bos_token_id=t.pad_token_id, eos_token_id=t.eos_token_id,
                rope_parameters={"rope_type": "default", "rope_theta": 1e5, "mrope_section": [4, 4, 4], "mrope_interleaved": True})  # fmt: skip
    eyes = dict(depth=2, hidden_size=64, intermediate_size=128, num_heads=2, out_hidden_size=96, patch_size=PATCH,
                spatial_merge_size=2, temporal_patch_size=2, num_position_embeddings=16, deepstack_visual_indexes=[])  # fmt: skip
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
        self.t, self.seed = t, seed
        self.letter = [t.convert_tokens_to_ids(letter) for letter in signs.LETTERS]
        self.time = [t.convert_tokens_to_ids(signs.told(second)) for second in range(MOST)]
        say = lambda text: t(text, add_special_tokens=False)["input_ids"]  # noqa: E731
        self.second = [t.convert_tokens_to_ids(f"second {second}?") for second in range(MOST)]
        self.head, self.ask = say("<|im_start|>user\n<|vision_start|>"), say(signs.question(0))
        self.marks = [t.convert_tokens_to_ids(f"<|{mark}|>") for mark in ("vision_start", "video_pad", "video_pad", "vision_end")]
        self.close = say("<|vision_end|>")
        self.answer, self.next = say("<|im_end|>\n<|im_start|>assistant\n"), say("<|im_end|>\n<|im_start|>user\n")

    def ids(self, letters, asked):
        row, places, signs_at = list(self.head), [], []
        for second in range(len(letters)):
            signs_at.append(len(row) + 3)
            row += [self.time[second], *self.marks]
        row += self.close
        for i, second in enumerate(asked):
            question = [self.second[second] if token == self.second[0] else token for token in self.ask]
            row += (self.next if i else []) + question + self.answer
            places.append(len(row) - 1)
            row.append(self.letter[signs.LETTERS.index(letters[second])])
        return row, places, signs_at

    def batch(self, n, seconds, questions):
        rows, pixels, asked = [], [], []
        for _ in range(n):
            self.seed += 1
            letters, frames = signs.film(self.seed, seconds, SIDE)
            asked.append(np.random.default_rng(self.seed).integers(0, seconds, questions))
            rows.append((*self.ids(letters, asked[-1]), letters))
            planes = np.stack([np.asarray(frame) for frame in frames]).astype(np.float32) / 127.5 - 1
            patches = planes.reshape(seconds, 2, 1, 2, PATCH, 2, 2, PATCH, 3).transpose(0, 2, 5, 3, 6, 8, 1, 4, 7)
            pixels.append(patches.reshape(seconds * 8, -1))
        ids = torch.tensor([row[0] for row in rows])
        seen = torch.tensor([[signs.LETTERS.index(letter) for letter in row[3]] for row in rows])
        return ids, torch.from_numpy(np.concatenate(pixels)), rows[0][1], rows[0][2], seen, torch.tensor(np.array(asked))


def positions(ids, video):
    """Of one row, all alike: a step is two tokens side by side, behind it the row goes on two further."""
    out, at, i = torch.zeros(3, len(ids), dtype=torch.long), 0, 0
    while i < len(ids):
        step = ids[i] == video
        out[:, i] = at
        if step:
            out[:, i + 1] = torch.tensor([at, at, at + 1])
        at, i = (at + 2, i + 2) if step else (at + 1, i + 1)
    return out


def forward(model, heads, batch):
    device = model.device
    ids, pixels, places, signs_at, seen, asked = (x.to(device) if torch.is_tensor(x) else x for x in batch)
    n, seconds = seen.shape
    place = positions(ids[0].tolist(), model.config.video_token_id).to(device)
    inner = {}
    hook = model.model.language_model.layers[1].register_forward_hook(lambda m, a, o: inner.update(rows=o[0] if isinstance(o, tuple) else o))
    visual = model.model.visual.register_forward_hook(lambda m, a, o: inner.update(tokens=o.pooler_output))
    made = model(input_ids=ids, pixel_values_videos=pixels, video_grid_thw=torch.tensor([[seconds, 2, 4]] * n, device=device),
                 position_ids=place[:, None].expand(3, n, -1), use_cache=False, output_attentions=True)  # fmt: skip
    logits = made.logits
    looks = made.attentions[2][:, 0, places]  # [n][questions][rows]
    target = torch.tensor(signs_at, device=device)[asked]
    hook.remove(), visual.remove()
    right = torch.gather(seen, 1, asked)
    letters = torch.tensor(heads.letter, device=device)[right]
    picked = logits[:, places]
    tokens = inner["tokens"].reshape(n, seconds, 2, -1)[:, :, 1]
    loss = F.cross_entropy(picked.flatten(0, 1), letters.flatten())
    aux = F.cross_entropy(heads.read(tokens).flatten(0, 1), seen.flatten())
    aux = aux + F.cross_entropy(heads.when(inner["rows"][:, signs_at]).flatten(0, 1), torch.arange(seconds, device=device).repeat(n))
    aux = aux + F.cross_entropy(heads.when(inner["rows"][:, places]).flatten(0, 1), asked.flatten())
    aux = aux - torch.gather(looks, 2, target[..., None]).clamp_min(1e-9).log().mean()
    return loss, aux, (picked.argmax(-1) == letters).float().mean().item()


class Heads(nn.Module):
    def __init__(self, width, letter):
        super().__init__()
        self.read, self.when, self.letter = nn.Linear(width, len(signs.LETTERS)), nn.Linear(width, MOST), letter


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, required=True)
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--tokens", type=int, default=2400, help="of a batch")
    parser.add_argument("--lr", type=float, default=3e-3)
    args = parser.parse_args()
    torch.manual_seed(0)
    qwen3.Qwen3VLVisionAttention.forward = attend
    p = processor()
    model = Qwen3VLForConditionalGeneration._from_config(configuration(p.tokenizer), attn_implementation="eager")
    films = Films(p.tokenizer, 1_000_000_000)
    heads = Heads(96, films.letter)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    model.to(device), heads.to(device)
    parameters = [*model.parameters(), *heads.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=args.lr, betas=(0.9, 0.98), weight_decay=0.01)
    begun, step, mean = time.time(), 0, {}
    while (spent := (time.time() - begun) / 60 / args.minutes) < 1:
        longest = 8 if spent < 0.35 else 32 if spent < 0.6 else MOST
        seconds = min(int(2 ** np.random.default_rng(step).uniform(2, np.log2(longest) + 0.01)), longest)
        questions = 6
        n = max(1, args.tokens // (seconds * 5 + questions * 22))
        for group in optimizer.param_groups:
            group["lr"] = args.lr * min(1, (step + 1) / 50) * min(1, 2.5 * (1 - spent))
        loss, aux, right = forward(model, heads, films.batch(n, seconds, questions))
        optimizer.zero_grad()
        (loss + 0.5 * aux).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        mean = {k: 0.95 * mean.get(k, v) + 0.05 * v for k, v in (("loss", loss.item()), ("aux", aux.item()), ("right", right))}
        step += 1
        if step % 25 == 0:
            print(f"{step}: {60 * args.minutes * spent:.0f} s, {seconds} s, " + ", ".join(f"{k} {v:.3f}" for k, v in mean.items()), flush=True)
    model.generation_config.eos_token_id, model.generation_config.bos_token_id = p.tokenizer.eos_token_id, None
    model.to("cpu").save_pretrained(args.out, save_original_format=False)
    p.save_pretrained(args.out)


if __name__ == "__main__":
    main()
