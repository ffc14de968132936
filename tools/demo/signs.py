"""Films of a moving shape beside a sign that says another letter each second, and questions about one second.

    python signs.py --seconds 4 8 16 32 64 128 --n 40 --out /tmp/signs      frames, and signs-N.jsonl for vlcache-eval
    vlcache-eval -m DIR --data /tmp/signs/signs-128.jsonl --policy vlcache,centroids,h2o,snapkv --budget 0.02

A disc moves on the left, the sign stands on the right, and the caption below tells the second. Two frames are a second,
of which Qwen's models make one step. A film is a function of its seed. At a fixed size of the cache the budget is that
size over the tokens of the prompt, which grow with the film.
"""
import argparse
import functools
import json
import math
import pathlib
import random

from PIL import Image, ImageDraw, ImageFont

LETTERS = "ABCDEFGHJKLMNPRS"
FPS, SIDE = 2, 112  # of the sign, in pixels; below 64 there is no caption
GROUNDS = [(255, 255, 255), (250, 230, 120), (190, 230, 190), (200, 215, 250)]


@functools.cache
def font(size):
    return ImageFont.load_default(size=size)


@functools.cache
def glyph(letter, ground, side):
    sign = Image.new("RGB", (side, side), ground)
    ImageDraw.Draw(sign).text((side / 2, side / 2), letter, (20, 20, 40), font=font(15 * side / 16), anchor="mm")
    return sign


def film(seed, seconds, side=SIDE):
    """The letters, and the frames."""
    r = random.Random(f"signs/{seed}")
    letters = [r.choice(LETTERS) for _ in range(seconds)]
    colour, phase, speed = tuple(r.randrange(60, 256) for _ in range(3)), r.random() * 6.3, r.uniform(0.5, 2)
    frames = []
    for i in range(seconds * FPS):
        below = side // 4 if side >= 64 else 0
        frame = Image.new("RGB", (2 * side, side + below), (30, 34, 48))
        x, y = (side / 2 + side / 4 * f(phase + speed * i / FPS) for f in (math.cos, math.sin))
        draw, r = ImageDraw.Draw(frame), 3 * side / 16
        draw.ellipse((x - r, y - r, x + r, y + r), fill=colour)
        if below:
            draw.text((side, side + below / 2), f"second {i // FPS}", (240, 240, 240), font=font(0.7 * below), anchor="mm")
        frame.paste(glyph(letters[i // FPS], GROUNDS[(i // FPS + seed) % len(GROUNDS)], side), (side, 0))
        frames.append(frame)
    return letters, frames


def told(second):
    """A step's time as Qwen3-VL writes it: the mean of its two frames."""
    return f"<{second + 0.5 / FPS:.1f} seconds>"


def question(second):
    return f"Which letter did the sign show at second {second}? Answer with a sentence."


def answer(letter):
    """The letter stands behind what is said first: the first token of an answer comes from the whole prompt, whatever is
    kept of it, and a policy that defers is at work from the fifth."""
    return f"The sign did show the letter {letter}"


def write(out, seconds, n, side):
    lines = []
    for seed in range(n):
        letters, frames = film(seed, seconds, side)
        names = [f"{seconds}-{seed}/{i:03d}.png" for i in range(len(frames))]
        (out / f"{seconds}-{seed}").mkdir(parents=True, exist_ok=True)
        for name, frame in zip(names, frames):
            frame.save(out / name)
        second = random.Random(f"asked/{seed}").randrange(seconds)
        lines.append({"id": f"{seconds}-{seed}", "task": f"signs-{seconds * FPS}", "video": names, "fps": FPS,
                      "question": question(second), "answers": [f"the letter {letters[second]}"], "metric": "contains", "max_tokens": 16})
    (out / f"signs-{seconds}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=int, nargs="+", default=[4, 8, 16, 32, 64, 128])
    parser.add_argument("--n", type=int, default=40)
    parser.add_argument("--side", type=int, default=SIDE, help="of the sign, pixels; train_signs.py's model takes 16")
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    for length in args.seconds:
        write(args.out, length, args.n, args.side)
