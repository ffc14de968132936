"""Render the demonstration tasks: pages, charts, captions, long answers, several pictures, several questions.

Every picture is a function of its task and seed."""
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
KINDS = [(a, b) for a in COLORS for b in SHAPES]
PLACES = ["top left", "top", "top right", "left", "center", "right", "bottom left", "bottom", "bottom right"]
LABELS = """Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec Mon Tue Wed Thu Fri Sat Sun Oak Elm Fir Ash Cat Dog Fox Owl Bee Cow Hen
Tea Rice Milk Corn Fish Plum Pear Kiwi Lime Fig North South East West Red Blue Gold Iron Zinc Salt""".split()
MONTHS = LABELS[:12]
CHAR0, SHAPE0 = 1, 96                       # auxiliary classes: 0 nothing, then printable ASCII, then shape x colour, then bar colour
CLASSES = SHAPE0 + len(SHAPES) * len(COLORS) + len(COLORS)
COLUMN_SLOTS, COLUMN_CLASSES, IGNORE = 6, 53, 255   # per patch of a bar's column: 3 digits of its value, 3 letters of its label; 0 none
PICTURES = {"interleaved": 2, "interleaved-3": 3}   # of one question; of the other tasks 1
TASKS = ["pages", "pages-hard", "charts", "captions", "captions-long", "pages-long", "transcribe", "turns", *PICTURES]
LONG = ["transcribe-long", "turns-10"]      # for long answers: drawn by --task, not among those that ship
STRANGE = {                                 # what training never drew, each beside its common twin
    "words": """Voltage;Harbour;Altitude;Recipe;Kilometre;Diameter;Chapter;Humidity;Licence;Password;Nickname;Passport;Pharmacy;Warehouse;
Currency;Bandwidth;Frequency;Molecule;Language;Festival;Ingredient;Magazine;Signature;Temperature;Workshop;Yield""".replace("\n", "").split(";"),
    "labels": "Zinnia Quartz Walrus Yak Vole Jade Moth Wren Fern Kelp Lynx Moss Newt Opal Rye Sage Teak Urn Wasp Yam".split(),
    "fonts": ("DejaVuSansMono", "LiberationMono-Regular", "FreeSerif", "FreeMono"),
    "shades": {"red": (160, 60, 50), "green": (110, 190, 120), "blue": (110, 130, 190), "yellow": (190, 170, 70), "purple": (170, 110, 180),
               "orange": (200, 120, 60), "black": (75, 70, 70), "pink": (225, 170, 190)},
    "sizes": (11, 17)}                      # half sides of shapes; in training 22..44
TWINS = [f"{how}-{what}" for what in STRANGE for how in ("common", "rare")]
SPLITS = {"test": 0, "tune": 500_000_000, "train": 10**9}   # first seeds; training goes on from the last
TRAIN_SEED, TEST_SEED, TUNE_SEED = SPLITS["train"], SPLITS["test"], SPLITS["tune"]
PAIR, PLACED = "[^:;]+: [^;]+", "(nothing|a [a-z]+ [a-z]+) (at the|on the|in the) [a-z ]+"
FORMS = {"pages-long": f"^{PAIR}(; {PAIR})*$", "transcribe": f"^{PAIR}(; {PAIR})*$", "transcribe-long": f"^{PAIR}(; {PAIR})*$",
         "captions-long": f"^{PLACED}( and {PLACED}){{8}}$"}     # what a whole answer looks like
ASKED = {"words": "What is the ", "labels": "What is the value of ", "fonts": "What is the ", "shades": "What is ", "sizes": "What is "}
MARK, ORDINALS = "<image>\n", ["first", "second", "third"]
TRANSCRIPT_TOKENS = 640                     # room for the longest answer of transcribe
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
        self.facts = []                                 # what the picture says or shows, one by one

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


def tell_lines(c, lines):
    c.facts = [f"{k}: {v}" for k, v in lines]
    c.whole = ("Read the page.", "; ".join(c.facts))


def page(r, hard=None, pool=KEYS):
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
    keys, lines = r.sample(pool, n), []
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
    tell_lines(c, lines)
    if r.random() < 0.1: turns.insert(0, c.whole)
    return c, turns or [("What is the heading?", "none")]


def dense_page(r, least=15):
    """Two columns of 15..18 lines of small type: the page whose transcript is long."""
    c = Canvas(tuple(r.randint(225, 255) for _ in range(3)))
    ink, face, size, per = tuple(r.randint(0, 70) for _ in range(3)), r.randrange(len(NAMES)), r.randint(14, 16), r.randint(least, 18)
    pitch = min(size * r.uniform(1.12, 1.3), (SIDE - 10) / per)
    top, fit, lines = r.uniform(3, SIDE - 7 - pitch * per), SIDE / 2 - 9, []
    for i, k in enumerate(r.sample(KEYS, 2 * per)):
        v = next((v for v in (value(r) for _ in range(8)) if width(face, size, f"{k}: {v}") <= fit), str(r.randrange(10)))
        c.text(5 + i // per * SIDE / 2, top + i % per * pitch, f"{k}: {v}", face, size, ink)
        lines.append((k, v))
    tell_lines(c, lines)
    return c, [(f"What is the {k}?", v) for k, v in r.sample(lines, len(lines))]


def chart(r, pool=LABELS):
    c = Canvas(tuple(r.randint(235, 255) for _ in range(3)))
    n, face = r.randint(3, 6), r.randrange(len(NAMES))
    size = r.randint(15, 19) if n > 4 else r.randint(15, 24)
    labels = r.sample(pool, n)
    while max(width(face, size, s) for s in labels) > 285 / n - 4: labels = r.sample(pool, n); size = max(13, size - 1)
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
    c.facts = [f"{s}: {v}" for s, v in zip(labels, values)]
    c.whole, c.written = ("Read the chart.", "; ".join(c.facts)), written
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


def caption(r, fewest=1, most=4, pool=KINDS, sizes=(22, 44)):
    c = Canvas(tuple(r.randint(225, 255) for _ in range(3)))
    if r.random() < 0.3:
        for i in (112, 224):
            c.draw.line((i, 0, i, SIDE), fill=(200, 200, 200)); c.draw.line((0, i, SIDE, i), fill=(200, 200, 200))
    n, names = r.randint(fewest, most), list(COLORS)
    cells, kinds = sorted(r.sample(range(9), n)), r.sample(pool, n)
    for cell, (col, kind) in zip(cells, kinds):
        s = r.uniform(*sizes)
        x, y = cell % 3 * 112 + 56 + r.uniform(-8, 8), cell // 3 * 112 + 56 + r.uniform(-8, 8)
        shape(c, kind, x, y, s, COLORS[col])
        cls = SHAPE0 + SHAPES.index(kind) * len(COLORS) + names.index(col)
        for i in range(GRID):
            for j in range(GRID):
                if abs((j + .5) * PATCH - x) < s * .7 and abs((i + .5) * PATCH - y) < s * .7: c.aux[i, j, 0] = cls
    told = c.facts = [f"a {a} {b}" for a, b in kinds]
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


def questions(r):
    """A page or a chart and four to eight questions about it."""
    turns = []
    while len(turns) < 4:
        c, turns = r.choice([page, chart])(r)
        turns = [t for t in dict(turns).items() if t != c.whole]
    return c, turns[:r.randint(4, 8)]


def longest_page(r):
    """Of 64 dense pages the one with the longest transcript, about 500 tokens: most signs are a token each, two letters are one."""
    pages = [dense_page(random.Random(r.random()), 18) for _ in range(64)]
    return max(pages, key=lambda p: sum(1 if x.isalpha() else 2 for x in p[0].whole[1]))


def ten_questions(r):
    """A page, a chart or a scene, and ten questions about it."""
    turns = []
    while len(turns) < 10:
        c, turns = r.choice([lambda r: page(r, True), chart, lambda r: caption(r, 4, 8)])(r)
        turns = [t for t in dict(turns).items() if t[0] not in (c.whole[0], "Describe the image.")]
    return c, turns[:10]


def twin(what, rare, r):
    """A picture with what training never drew, or the same sort of picture with what it did."""
    global NAMES, COLORS
    if what == "words": return page(r, False, STRANGE[what] if rare else KEYS)
    if what == "labels": return chart(r, STRANGE[what] if rare else LABELS)
    kept = NAMES, COLORS
    if rare and what == "fonts": NAMES = STRANGE[what]
    if rare and what == "shades": COLORS = STRANGE[what]
    font.cache_clear(), advance.cache_clear()
    try:
        if what == "fonts": return page(r, False)
        return caption(r, sizes=STRANGE[what]) if rare and what == "sizes" else caption(r)
    finally:
        NAMES, COLORS = kept
        font.cache_clear(), advance.cache_clear()


def interleaved(r, n):
    """n pictures that share keys, labels and shapes; questions say which picture they mean, or ask which it is."""
    keys, labels, kinds = r.sample(KEYS, 16), r.sample(LABELS, 14), r.sample(KINDS, 8)
    make = {"page": lambda: page(r, False, keys), "chart": lambda: chart(r, labels), "drawing": lambda: caption(r, pool=kinds)}
    names = [r.choice(list(make))] * n if r.random() < 0.6 else [r.choice(list(make)) for _ in range(n)]
    canvases, turns, which = [], [], []
    for name, nth in zip(names, ORDINALS):
        c, asked = make[name]()
        canvases.append(c)
        turns += [(q.replace("the image", f"the {nth} picture") if q[-1] == "." else f"{q[:-1]} in the {nth} picture?", a)
                  for q, a in asked if (q, a) != c.whole]
        if names.count(name) == 1: which.append((f"Which picture is a {name}?", nth))
    for c, name, nth in zip(canvases, names, ORDINALS):
        which += [(f"Which picture {'shows' if name == 'drawing' else 'says'} {f}?", nth) for f in c.facts
                  if sum(f in d.facts for d in canvases) == 1]
    turns += r.sample(which, min(len(which), len(turns) // 2))
    r.shuffle(turns)
    lead = MARK * n if r.random() < 0.5 else "".join(f"{nth.capitalize()}: <image> " for nth in ORDINALS[:n])
    return canvases, lead, turns


def sample(task, seed):
    """One picture and questions about it."""
    r = random.Random(f"{task}/{seed}")
    if task == "charts": return chart(r)
    if task == "captions": return caption(r)
    if task == "captions-long": return caption(r, 5, 9)
    if task == "transcribe": return dense_page(r)
    if task == "transcribe-long": return longest_page(r)
    if task == "turns": return questions(r)
    if task == "turns-10": return ten_questions(r)
    if task in TWINS:
        how, what = task.split("-")
        return twin(what, how == "rare", random.Random(f"{what}/{seed}"))
    return page(r, True if task == "pages-hard" else False if task == "pages" else None)


def scene(task, seed):
    """The pictures of any task, the text with their marks in front of the first question, and the questions."""
    if task in PICTURES: return interleaved(random.Random(f"{task}/{seed}"), PICTURES[task])
    c, turns = sample(task, seed)
    return [c], MARK, turns


def test_item(task, i):
    """The pictures of seed i and what a line of the data file says of them, but for where they are."""
    canvases, lead, turns = scene(task, i)
    item = {"id": f"{task}-{i}", "task": task}
    if task in ("turns", "turns-10"):
        item["turns"] = [{"question": q, "answers": [a]} for q, a in turns]
    else:
        r = random.Random(f"question/{task}/{i}")
        if task.endswith("-long") or task == "transcribe": turns = [canvases[0].whole]
        elif task in TWINS: turns = [t for t in turns if t[0].startswith(ASKED[task.split("-")[1]])] or turns
        else: turns = [t for t in turns if t[0] != "Read the page."] or turns
        q, a = r.choice(turns)
        if task == "captions" and r.random() < 0.5:
            q, a = next(t for t in turns if t[0] == "Describe the image.")
        item.update(question=lead + q if len(canvases) > 1 else q, answers=[a])
    item["metric"] = "exact" if task in ("charts", "common-labels", "rare-labels") else "anls"
    if task.startswith("transcribe"): item["max_tokens"] = TRANSCRIPT_TOKENS
    if task in FORMS: item["form"] = FORMS[task]
    return [c.image for c in canvases], item


def write(task, i, folder, f):
    """Draws seed i of a task into the folder; its line goes to f."""
    images, item = test_item(task, i)
    names = [item["id"] + (f"-{k + 1}" if len(images) > 1 else "") + ".png" for k in range(len(images))]
    for image, name in zip(images, names): image.save(f"{folder}/{name}", optimize=True)
    item.update({"images": names} if len(images) > 1 else {"image": names[0]})
    f.write(json.dumps(item) + "\n")


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--task", choices=[*TASKS, *LONG, *TWINS, "all"], required=True, help="all: every task, in one questions.jsonl")
    p.add_argument("--split", choices=SPLITS, default="test", help="test: to report, tune: to choose settings by, train: as in training")
    p.add_argument("--n", type=int, default=100, help="pictures, or conversations, of each task")
    p.add_argument("--out", required=True)
    a = p.parse_args()
    os.makedirs(a.out, exist_ok=True)
    with open(f"{a.out}/{'questions' if a.task == 'all' else a.task}.jsonl", "w") as f:
        for task in TASKS if a.task == "all" else [a.task]:
            for i in range(a.n): write(task, SPLITS[a.split] + i, a.out, f)


if __name__ == "__main__":
    main()
