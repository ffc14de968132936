"""Render the demonstration tasks: pages, charts, captions and long answers. Every picture is a function of its task and seed."""
import argparse, functools, glob, json, os, random
import numpy as np
from PIL import Image, ImageDraw, ImageFont

SIDE, PATCH, GRID, SLOTS = 336, 14, 24, 3
KEYS = """Name;Date;Total;Invoice No;Order;Phone;City;Street;Country;Price;Tax;Subtotal;Discount;Amount;Balance;Due date;Account;
Customer;Vendor;Seller;Buyer;Item;Quantity;Unit;Weight;Height;Width;Length;Color code;Model;Serial;Batch;Version;Room;Floor;Seat;Gate;
Flight;Train;Ticket;Time;Start;End;Code;PIN;Area;Score;Rank;Team;Author;Title;Page count;Year;Rate;Fee;Deposit;Status code;Doctor;
Patient;Dose""".replace("\n", "").split(";")
COLORS = {"red": (220, 30, 30), "green": (30, 150, 50), "blue": (40, 70, 220), "yellow": (240, 210, 30),
          "purple": (140, 40, 170), "orange": (245, 130, 20), "black": (20, 20, 20), "pink": (250, 140, 190)}
SHAPES = ["circle", "square", "triangle", "star", "diamond"]
PLACES = ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]
LABELS = """Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Mon Tue Wed Thu Fri Sat Sun Oak Elm Fir Ash Cat Dog Fox Owl Bee Cow Hen
Tea Rice Milk Corn Fish Plum Pear Kiwi Lime Fig North South East West Red Blue Gold Iron Zinc Salt""".split()
MONTHS = LABELS[:12]
CHAR0, SHAPE0 = 1, 96                       # auxiliary classes: 0 nothing, then printable ASCII, then shape x colour, then bar colour
CLASSES = SHAPE0 + len(SHAPES) * len(COLORS) + len(COLORS)
COLUMN_SLOTS, COLUMN_CLASSES, IGNORE = 6, 53, 255   # per patch of a bar's column: 3 digits of its value, 3 letters of its label; 0 none
TASKS = ["pages", "pages-hard", "charts", "captions", "captions-long", "pages-long"]
TRAIN_SEED, TEST_SEED = 10**9, 0            # test seeds stay below 10**9
FONT_DIR = os.environ.get("DEMO_FONTS", "/usr/share/fonts/truetype")
NAMES = ("DejaVuSans", "DejaVuSerif", "LiberationSans-Regular", "LiberationSerif-Regular", "FreeSans")


@functools.lru_cache(None)
def font(face, size):
    hits = glob.glob(f"{FONT_DIR}/**/{NAMES[face]}.ttf", recursive=True)
    if not hits:
        raise SystemExit(f"no {NAMES[face]}.ttf under {FONT_DIR} (set DEMO_FONTS)")
    return ImageFont.truetype(hits[0], size, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(None)
def advance(face, size, c):
    return font(face, size).getlength(c)


def width(face, size, s):
    return sum(advance(face, size, c) for c in s)


class Canvas:
    def __init__(self, background):
        self.image = Image.new("RGB", (SIDE, SIDE), background)
        self.draw = ImageDraw.Draw(self.image)
        self.aux = np.zeros((GRID, GRID, SLOTS), np.uint8)
        self.column = np.full((GRID, GRID, COLUMN_SLOTS), IGNORE, np.uint8)
        self.whole, self.written = None, False          # (question, answer) that transcribes the picture; values above the bars

    def mark(self, x, y, cls):
        i, j = int(y // PATCH), int(x // PATCH)
        if 0 <= i < GRID and 0 <= j < GRID:
            slots = self.aux[i, j]
            free = np.flatnonzero(slots == 0)
            if len(free):
                slots[free[0]] = cls

    def text(self, x, y, s, face, size, fill):
        self.draw.text((x, y), s, font=font(face, size), fill=fill)
        for c in s:
            w = advance(face, size, c)
            if c != " ":
                self.mark(x + w / 2, y + size * 0.62, CHAR0 + ord(c) - 32)
            x += w


    def tell(self, classes, x0, x1, y0, y1, each=1):
        """The patches whose centre column lies in x0..x1 and whose rows meet y0..y1 (every `each`-th) learn these classes."""
        j0, j1 = max(0, -int(-(x0 - PATCH / 2) // PATCH)), min(GRID - 1, int((x1 - PATCH / 2) // PATCH))
        i0, i1 = max(0, int(y0 // PATCH)), min(GRID - 1, int(y1 // PATCH))
        self.column[-(-i0 // each) * each:i1 + 1:each, j0:j1 + 1] = classes


def column_classes(label, v):
    digits = [int(d) + 1 for d in v[:3]]
    letters = [ord(x) - (64 if x < "a" else 70) for x in label[:3]]
    return digits + [0] * (3 - len(digits)) + letters + [0] * (3 - len(letters))


def word(r, lo=2, hi=3):
    return "".join(r.choice("bcdfghjklmnprstvwz") + r.choice("aeiou") + r.choice(["", "", "n", "r", "s", "l"])
                   for _ in range(r.randint(lo, hi))).capitalize()


def value(r):
    k = r.randrange(9)
    if k == 0: return str(r.randrange(10 ** r.randint(1, 6)))
    if k == 1: return f"{r.randrange(1, 1000)}.{r.randrange(100):02d}"
    if k == 2: return f"${r.randrange(1, 500)}.{r.randrange(100):02d}"
    if k == 3: return f"{r.randint(1990, 2039)}-{r.randint(1, 12):02d}-{r.randint(1, 28):02d}"
    if k == 4: return f"{r.randint(1, 28)} {r.choice(MONTHS)} {r.randint(1990, 2039)}"
    if k == 5: return "".join(r.choice("ABCDEFGHJKLMNPQRSTUVWXYZ") for _ in range(r.randint(2, 3))) + "-" + str(r.randrange(10, 9999))
    if k == 6: return f"{r.randrange(24):02d}:{r.randrange(60):02d}"
    if k == 7: return word(r) + " " + word(r, 1, 2)
    return word(r)


def page(r, hard=None):
    hard = r.random() < 0.35 if hard is None else hard
    bg = tuple(r.randint(225, 255) for _ in range(3))
    ink = tuple(r.randint(0, 70) for _ in range(3))
    c = Canvas(bg)
    face = r.randrange(len(NAMES))
    size = r.randint(15, 20) if hard else r.randint(15, 40)
    columns = 2 if hard and r.random() < 0.4 else 1
    pitch = size * r.uniform(1.15, 1.35)
    room = int((SIDE - 12) / pitch)
    receipt = columns == 1 and r.random() < 0.3
    n = min(room, r.randint(6, 13)) if hard else min(room, r.choice([2, 3, 3, 4, 4, 5, 6, 7, 8]))
    if receipt and n == room: n -= 1
    n *= columns if n * columns <= 14 else 1
    per = -(-n // columns)
    fit = (SIDE - 10) / columns - 6
    keys, lines = r.sample(KEYS, n), []
    for k in keys:
        for _ in range(6):
            v = value(r)
            if width(face, size, f"{k}: {v}") <= fit: break
        else:
            v = str(r.randrange(100))
            if width(face, size, f"{k}: {v}") > fit: continue
        lines.append((k, v))
    top = r.uniform(4, max(4.0, SIDE - 8 - pitch * (per + receipt)))
    slack = fit - max([width(face, size, f"{k}: {v}") for k, v in lines], default=0)
    x0 = 5 + r.uniform(0, max(0, slack))
    turns, y = [], top
    if receipt:
        title = word(r, 1, 2)
        c.text(r.uniform(5, max(5, fit - width(face, size, title))), y, title, face, size, ink)
        turns.append(("What is the heading?", title))
        y += pitch
    right = r.random() < 0.7
    for i, (k, v) in enumerate(lines):
        x, yy = x0 + (i // per) * (SIDE / 2 - 2 if columns == 2 else 0), y + (i % per) * pitch
        if columns == 2: x = 5 + (i // per) * (SIDE / 2)
        if receipt and right:
            c.text(5, yy, k + ":", face, size, ink)
            c.text(SIDE - 6 - width(face, size, v), yy, v, face, size, ink)
        else:
            c.text(x, yy, f"{k}: {v}", face, size, ink)
        turns.append((f"What is the {k}?", v))
    r.shuffle(turns)
    c.whole = ("Read the page.", "; ".join(f"{k}: {v}" for k, v in lines))
    if r.random() < 0.1: turns.insert(0, c.whole)
    return c, turns or [("What is the heading?", "none")]


def chart(r):
    c = Canvas(tuple(r.randint(235, 255) for _ in range(3)))
    n, face = r.randint(3, 6), r.randrange(len(NAMES))
    size = r.randint(15, 19) if n > 4 else r.randint(15, 24)
    labels = r.sample(LABELS, n)
    while max(width(face, size, s) for s in labels) > 285 / n - 4: labels = r.sample(LABELS, n); size = max(13, size - 1)
    written = r.random() < 0.5
    values = r.sample(range(3, 100), n) if written else [v * 10 for v in r.sample(range(1, 11), n)]
    left, base, high = 38, SIDE - 16 - size, r.randint(190, 250)
    c.draw.line((left, base, SIDE - 6, base), fill=(60, 60, 60), width=2)
    c.draw.line((left, base - high, left, base), fill=(60, 60, 60), width=2)
    if not written:
        for v in range(10, 101, 10):
            y = base - high * v / 100
            c.draw.line((left, y, SIDE - 6, y), fill=(190, 190, 190))
            if v % 20 == 0: c.text(4, y - 10, str(v), face, 15, (50, 50, 50))
    step, mono = (SIDE - 10 - left) / n, r.random() < 0.4
    names = list(COLORS)
    one = r.randrange(len(names))
    for i, (s, v) in enumerate(zip(labels, values)):
        k = one if mono else r.randrange(len(names))
        mid, y, half = left + step * (i + 0.5), base - high * v / 100, step * 0.3
        c.draw.rectangle((mid - half, y, mid + half, base), fill=COLORS[names[k]])
        c.text(mid - width(face, size, s) / 2, base + 5, s, face, size, (20, 20, 20))
        if written:
            c.text(mid - width(face, size, str(v)) / 2, y - size - 6, str(v), face, size, (20, 20, 20))
        else:                               # the patch at the top of the bar learns its value
            for d in str(v): c.mark(mid, y + 1, CHAR0 + ord(d) - 32)
        for py in range(int(y) + 15, int(base), PATCH): c.mark(mid, py, SHAPE0 + len(SHAPES) * len(COLORS) + k)
        both = column_classes(s, str(v))
        reach, near = (min(step / 2, (width(face, size, t) + PATCH) / 2) for t in (s, str(v)))
        c.tell(both, mid - half, mid + half, y, base, 4)
        c.tell(both, mid - reach, mid + reach, base + 5 + size * 0.3, base + 5 + size * 0.95)
        c.tell(both, mid - near, mid + near, *((y - size - 6 + size * 0.3, y - 6) if written else (y, y + 2)))
    c.whole, c.written = ("Read the chart.", "; ".join(f"{s}: {v}" for s, v in zip(labels, values))), written
    turns = [(f"What is the value of {s}?", str(v)) for s, v in zip(labels, values)]
    turns += [("Which is the highest?", labels[values.index(max(values))]), ("Which is the lowest?", labels[values.index(min(values))])]
    for _ in range(3):
        a, b = r.sample(range(n), 2)
        turns.append((f"Which is larger, {labels[a]} or {labels[b]}?", labels[a if values[a] > values[b] else b]))
    r.shuffle(turns)
    return c, turns


def shape(c, kind, x, y, s, color):
    if kind == "circle": c.draw.ellipse((x - s, y - s, x + s, y + s), fill=color)
    elif kind == "square": c.draw.rectangle((x - s * .9, y - s * .9, x + s * .9, y + s * .9), fill=color)
    elif kind == "triangle": c.draw.polygon([(x, y - s), (x + s, y + s * .9), (x - s, y + s * .9)], fill=color)
    elif kind == "diamond": c.draw.polygon([(x, y - s), (x + s * .8, y), (x, y + s), (x - s * .8, y)], fill=color)
    else:
        a = [(i * np.pi / 5, s if i % 2 == 0 else s * .42) for i in range(10)]
        c.draw.polygon([(x + q * np.sin(t), y - q * np.cos(t)) for t, q in a], fill=color)


def at(cell):
    return "in the center" if cell == 4 else ("on the " if cell in (3, 5) else "at the ") + PLACES[cell]


def caption(r, fewest=1, most=4):
    c = Canvas(tuple(r.randint(225, 255) for _ in range(3)))
    if r.random() < 0.3:
        for i in (112, 224):
            c.draw.line((i, 0, i, SIDE), fill=(200, 200, 200)); c.draw.line((0, i, SIDE, i), fill=(200, 200, 200))
    n, names = r.randint(fewest, most), list(COLORS)
    cells, kinds = sorted(r.sample(range(9), n)), r.sample([(a, b) for a in names for b in SHAPES], n)
    for cell, (col, kind) in zip(cells, kinds):
        s = r.uniform(22, 44)
        x, y = cell % 3 * 112 + 56 + r.uniform(-8, 8), cell // 3 * 112 + 56 + r.uniform(-8, 8)
        shape(c, kind, x, y, s, COLORS[col])
        cls = SHAPE0 + SHAPES.index(kind) * len(COLORS) + names.index(col)
        for i in range(GRID):
            for j in range(GRID):
                if abs(j * PATCH + 7 - x) < s * .7 and abs(i * PATCH + 7 - y) < s * .7: c.aux[i, j, 0] = cls
    told = [f"a {a} {b}" for a, b in kinds]
    turns = [(f"Where is the {a} {b}?", at(cell)) for (a, b), cell in zip(kinds, cells)]
    turns += [(f"What is {at(cell)}?", t) for t, cell in zip(told, cells)]
    turns.append(("How many shapes are there?", str(n)))
    other = (r.choice(names), r.choice(SHAPES))
    for a, b in (r.choice(kinds), other): turns.append((f"Is there a {a} {b}?", "yes" if (a, b) in kinds else "no"))
    seen = dict(zip(cells, told))
    c.whole = ("Describe the image in full.", " and ".join(f"{seen.get(q, 'nothing')} {at(q)}" for q in range(9)))
    r.shuffle(turns)
    turns.insert(r.choice([0, len(turns)]), ("Describe the image.", " and ".join(f"{t} {at(q)}" for t, q in zip(told, cells))))
    return c, turns


def sample(task, seed):
    r = random.Random(f"{task}/{seed}")
    if task == "charts": return chart(r)
    if task == "captions": return caption(r)
    if task == "captions-long": return caption(r, 5, 9)
    return page(r, True if task == "pages-hard" else False if task == "pages" else None)


def test_item(task, i):
    c, turns = sample(task, TEST_SEED + i)
    r = random.Random(f"question/{task}/{i}")
    turns = [c.whole] if task.endswith("-long") else [t for t in turns if t[0] != "Read the page."] or turns
    q, a = r.choice(turns)
    if task == "captions" and r.random() < 0.5:
        q, a = next(t for t in turns if t[0] == "Describe the image.")
    return c.image, {"id": f"{task}-{i}", "task": task, "question": q, "answers": [a], "metric": "exact" if task == "charts" else "anls"}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--task", choices=TASKS, required=True)
    p.add_argument("--split", choices=["test", "train"], default="test")
    p.add_argument("--n", type=int, default=100)
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    with open(f"{a.out}/{a.task}.jsonl", "w") as f:
        for i in range(a.n):
            image, item = test_item(a.task, i + (TRAIN_SEED if a.split == "train" else 0))
            item["image"] = item["id"] + ".png"
            image.save(f"{a.out}/{item['image']}", optimize=True)
            f.write(json.dumps(item) + "\n")


if __name__ == "__main__":
    main()
