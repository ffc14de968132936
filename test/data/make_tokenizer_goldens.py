#!/usr/bin/env python3
"""Trains small tokenizers with the structure of the hub's files and writes what the `tokenizers` package
makes of a mixed corpus: tokenizer/<name>/tokenizer.json and golden.json [{text, ids, special, text_back,
shuffled, shuffled_back}]. Needs tokenizers >= 0.21. Run it in this folder."""
import json
import os
import random

from tokenizers import AddedToken, Regex, Tokenizer, decoders, normalizers, pre_tokenizers, processors, trainers
from tokenizers.models import BPE

HERE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "tokenizer")
LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")
QWEN2 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
         r"|\s+(?!\S)|\s+")

CORPUS = [
    "", " ", "  ", "\n", "\t", "a", " a", "a ", "Hello, world!", "Hello world", "  two  spaces   three    four",
    "USER: <image>\nWhat is shown in this image? ASSISTANT:", "<s>USER: <image>\nWhat?</s> USER: again </s>",
    "<s><s></s>", "<image><image>", " <image> ", "x<image>y", "<imag", "<image", "<|im_start|>user\nhi<|im_end|>",
    "I'm, you're, he'll, they'VE, IT'S, 'tis, don’t, ſ'ſ", "1234567890 3.14159 1,000,000 ½ ² Ⅷ ١٢٣",
    "naïve café", "nai\u0308ve cafe\u0301 A\u030a \u1100\u1161\u11a8 ﬁ ① ｆｕｌｌ", "q\u0323\u0307 \u212b \u2126",
    "日本語の文章です。中文字符测试，한국어 텍스트", "مرحبا بالعالم שלום עולם", "Привет мир Ελληνικά हिन्दी ไทย",
    "👍 😀😀 👨\u200d👩\u200d👧\u200d👦 🏳️\u200d🌈 🇩🇪 👩🏽\u200d🚀", "a\u0301\u0301\u0301\u0323 zalgo\u0334\u0335\u0336",
    "tab\tnew\nline\r\nwindows\r\n\r\n  \n\n\n   end", "\u00a0nbsp\u2003em\u200bzero\u180emongol\u3000wide\u0085nel\x1cfs",
    "\x00\x01\x02\x1f\x7f\x80\x9f", "int main(void) {\n    return x[0] ? *p++ : -1; // ok\n}\n",
    "def f(a, b=None):\n\treturn {'k': a ** 2, \"v\": f'{b!r}'}", "https://example.org/a?b=c&d=%20#e",
    "▁▁ under ▁score ▁", "<0x41><0x-1><0xFF> <unk>", "foo bar foobar  foo  barfoo foo_ xfoo foo", "MIXED case ÄÖÜ İstanbul ß",
    "a" * 300, "ab" * 500, " " * 200 + "x", "x" + "\n" * 50, "!?" * 100 + "...", "長" * 60, "😀" * 40,
    "word " * 60, "supercalifragilisticexpialidocious antidisestablishmentarianism",
]


def train(tokenizer, size, alphabet):
    lines = [line for line in CORPUS if line and "\0" not in line] * 3 + ["the quick brown fox jumps over the lazy dog"] * 20
    trainer = trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"] + alphabet[0],
                                  initial_alphabet=alphabet[1], limit_alphabet=120 if alphabet[0] else 1000,
                                  show_progress=False)
    tokenizer.train_from_iterator(lines, trainer)
    data = json.loads(tokenizer.to_str())
    data["added_tokens"] = [t for t in data["added_tokens"] if not t["content"].startswith("<0x")]
    return data


def finish(data, **parts):
    data.update(parts)
    tokenizer = Tokenizer.from_str(json.dumps(data))
    tokenizer.add_special_tokens([AddedToken("<image>", normalized=False), "<|im_start|>", "<|im_end|>"])
    tokenizer.add_tokens([AddedToken("foo", single_word=True), AddedToken("barfoo", lstrip=True, rstrip=True)])
    return tokenizer


def bos(tokenizer):
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))])
    return tokenizer


def sentencepiece(**parts):
    t = Tokenizer(BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    t.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    t.pre_tokenizer = pre_tokenizers.Split("▁", "merged_with_next")
    data = train(t, 900, ([f"<0x{i:02X}>" for i in range(256)], []))
    data["pre_tokenizer"] = None
    return bos(finish(data, **parts))


def byte_level(pattern, normalizer=None, prefix=False, **model):
    t = Tokenizer(BPE(**model))
    if normalizer:
        t.normalizer = normalizer
    level = pre_tokenizers.ByteLevel(add_prefix_space=prefix, use_regex=pattern is None)
    split = [pre_tokenizers.Split(Regex(pattern), "isolated")] if pattern else []
    t.pre_tokenizer = pre_tokenizers.Sequence(split + [level]) if split else level
    t.decoder = decoders.ByteLevel()
    return finish(train(t, 700, ([], pre_tokenizers.ByteLevel.alphabet())))


def make():
    llama2 = sentencepiece(decoder=json.loads(decoders.Sequence([
        decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)
    ]).__getstate__()))
    first = sentencepiece(
        normalizer=None,
        pre_tokenizer={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "first", "split": False},
        decoder=json.loads(llama2.to_str())["decoder"])
    always = sentencepiece(
        normalizer={"type": "NFKC"},
        pre_tokenizer={"type": "Sequence", "pretokenizers": [
            {"type": "Digits", "individual_digits": True}, {"type": "Punctuation", "behavior": "Contiguous"},
            {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True}]},
        decoder={"type": "Metaspace", "replacement": "▁", "prepend_scheme": "always", "split": True})
    llama3 = bos(byte_level(LLAMA3, ignore_merges=True))
    qwen2 = byte_level(QWEN2, normalizer=normalizers.NFC())
    gpt2 = byte_level(None, prefix=True)
    return {"llama2": llama2, "metaspace_first": first, "metaspace_always": always, "llama3": llama3,
            "qwen2": qwen2, "gpt2": gpt2}


def main():
    for name, tokenizer in make().items():
        folder = os.path.join(HERE, name)
        os.makedirs(folder, exist_ok=True)
        data = json.loads(tokenizer.to_str())
        rng = random.Random(name)
        rows = []
        for text in CORPUS:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            shuffled = [rng.randrange(tokenizer.get_vocab_size()) for _ in range(24)]
            rows.append({"text": text.encode().hex(), "ids": ids, "special": tokenizer.encode(text).ids,
                         "back": tokenizer.decode(ids).encode().hex(), "shuffled": shuffled,
                         "shuffled_back": tokenizer.decode(shuffled).encode().hex()})
        with open(os.path.join(folder, "tokenizer.json"), "w") as f:
            json.dump(data, f, ensure_ascii=False, separators=(",", ":"))
        with open(os.path.join(folder, "golden.json"), "w") as f:
            f.write('{"rows":[\n' + ",\n".join(json.dumps(r, separators=(",", ":")) for r in rows) + "\n]}\n")


main()
