"""Films of a moving shape beside a sign that says another letter each second, and questions about one second.

    python signs.py --seconds 4 8 16 32 64 128 --n 40 --out /tmp/signs      frames, and signs-N.jsonl for vlcache-eval

A frame is 32 x 16 pixels: a disc that moves on the left, the sign on the right. Two frames are a second, of which
Qwen3-VL makes one step. A film is a function of its seed: from 0 for tests, from 1,000,000,000 for training.
"""
import argparse
import json
import math
import pathlib
import random

from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHJKLMNPRS"
FPS, SIDE = 2, 16
GROUNDS = [(255, 255, 255), (250, 230, 120), (190, 230, 190), (200, 215, 250)]
FONT = ImageFont.load_default(size=15)


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
        frame = Image.new("RGB", (2 * SIDE, SIDE), (30, 34, 48))
        x, y = (8 + 4 * f(phase + speed * i / FPS) for f in (math.cos, math.sin))
        ImageDraw.Draw(frame).ellipse((x - 3, y - 3, x + 3, y + 3), fill=colour)
        frame.paste(GLYPHS[letters[i // FPS], GROUNDS[(i // FPS + seed) % len(GROUNDS)]], (SIDE, 0))
        frames.append(frame)
    return letters, frames


def told(second):
    """A step's time as Qwen3-VL writes it: the mean of its two frames."""
    return f"<{second + 0.5 / FPS:.1f} seconds>"


def question(second):
    return f"What did the sign say at second {second}?"


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
                      "question": question(second), "answers": [letters[second]], "metric": "exact", "max_tokens": 2})
    (out / f"signs-{seconds}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128])
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    for length in args.seconds:
        write(args.out, length, args.n)
