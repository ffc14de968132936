"""Films of a moving shape beside a sign that says another letter each second, and questions about one second.

    python signs.py --seconds 4 8 16 32 64 128 --n 40 --out /tmp/signs      frames, and signs-N.jsonl for vlcache-eval
    vlcache-eval -m DIR --data /tmp/signs/signs-128.jsonl --policy vlcache,vlcache+,h2o,snapkv --budget 0.02

A disc moves on the left, the sign stands on the right, and the caption below tells the second. Two frames are a second,
of which Qwen's models make one step. A film is a function of its seed. At a fixed size of the cache the budget is that
size over the tokens of the prompt, which grow with the film.
"""
import argparse
import json
import math
import pathlib
import random

from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHJKLMNPRS"
FPS, SIDE = 2, 112
GROUNDS = [(255, 255, 255), (250, 230, 120), (190, 230, 190), (200, 215, 250)]
FONT, SMALL = ImageFont.load_default(size=96), ImageFont.load_default(size=20)


def glyph(letter, ground):
    sign = Image.new("RGB", (SIDE, SIDE), ground)
    ImageDraw.Draw(sign).text((SIDE / 2, SIDE / 2), letter, (20, 20, 40), font=FONT, anchor="mm")
    return sign


GLYPHS = {(letter, ground): glyph(letter, ground) for letter in LETTERS for ground in GROUNDS}


def film(seed, seconds):
    """The letters, and the frames."""
    r = random.Random(f"signs/{seed}")
    letters = [r.choice(LETTERS) for _ in range(seconds)]
    colour, phase, speed = tuple(r.randrange(60, 256) for _ in range(3)), r.random() * 6.3, r.uniform(0.5, 2)
    frames = []
    for i in range(seconds * FPS):
        frame = Image.new("RGB", (2 * SIDE, SIDE + 28), (30, 34, 48))
        x, y = (SIDE / 2 + SIDE / 4 * f(phase + speed * i / FPS) for f in (math.cos, math.sin))
        draw = ImageDraw.Draw(frame)
        draw.ellipse((x - 20, y - 20, x + 20, y + 20), fill=colour)
        draw.text((SIDE, SIDE + 14), f"second {i // FPS}", (240, 240, 240), font=SMALL, anchor="mm")
        frame.paste(GLYPHS[letters[i // FPS], GROUNDS[(i // FPS + seed) % len(GROUNDS)]], (SIDE, 0))
        frames.append(frame)
    return letters, frames


def question(second):
    return f"Which letter did the sign show at second {second}? Answer with the letter."


def write(out, seconds, n):
    lines = []
    for seed in range(n):
        letters, frames = film(seed, seconds)
        names = [f"{seconds}-{seed}/{i:03d}.png" for i in range(len(frames))]
        (out / f"{seconds}-{seed}").mkdir(parents=True, exist_ok=True)
        for name, frame in zip(names, frames):
            frame.save(out / name)
        second = random.Random(f"asked/{seed}").randrange(seconds)
        lines.append({"id": f"{seconds}-{seed}", "task": f"signs-{seconds * FPS}", "video": names, "fps": FPS,
                      "question": question(second), "answers": [letters[second]], "metric": "exact", "max_tokens": 16})
    (out / f"signs-{seconds}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128])
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    for length in args.seconds:
        write(args.out, length, args.n)
