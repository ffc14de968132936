#!/usr/bin/env python3
"""Writes metrics/golden.json: what the metrics of vlcache-eval must give, computed here a second time, from
the published definitions and with the standard library only.

    anls       Biten et al., ICCV 2019; white space and lengths as in the DocVQA evaluation script
    relaxed    Masry et al., ChartQA, 2022; numbers as pix2struct reads them
    exact, contains
    cider      CIDEr-D: Vedantam et al., CVPR 2015, with the counts and idf of the COCO caption evaluation
    bootstrap  percentile intervals of resampled means, drawn by SplitMix64

Run it in any folder; it takes a second and always writes the same bytes."""
import json
import math
import os
import random
import re

HERE = os.path.dirname(os.path.abspath(__file__))


# ---- texts ----------------------------------------------------------------------------------------------

def normalise(text):
    """Lower case letter by letter (no final sigma, no letter becomes two), white space collapsed."""
    return " ".join("".join(c.lower()[0] for c in text).split())


def distance(a, b):
    """Levenshtein, as the recursion has it."""
    known = {}

    def d(i, j):
        if i == 0 or j == 0:
            return i + j
        if (i, j) not in known:
            known[i, j] = min(d(i - 1, j) + 1, d(i, j - 1) + 1, d(i - 1, j - 1) + (a[i - 1] != b[j - 1]))
        return known[i, j]

    return d(len(a), len(b))


# ---- metrics of one answer ------------------------------------------------------------------------------

def anls(answer, references):
    best = 0.0
    for reference in references:
        longer = max(len(answer), len(reference))
        far = distance(normalise(answer), normalise(reference)) / longer if longer else 0.0
        best = max(best, 1.0 - far)
    return best if best >= 0.5 else 0.0


def exact(answer, references):
    return float(any(normalise(answer) == normalise(r) for r in references))


def contains(answer, references):
    return float(any(normalise(r) in normalise(answer) for r in references))


def number(text):
    text = normalise(text)
    if re.search(r"[^0-9+\-.e% ]", text):  # float() also reads "inf", "nan" and "1_000"
        return None
    try:
        return float(text.rstrip("%")) / 100.0 if text.endswith("%") else float(text)
    except ValueError:
        return None


def relaxed(answer, references):
    for reference in references:
        got, want = number(answer), number(reference)
        if got is not None and want:
            if abs(got - want) / abs(want) <= 0.05:
                return 1.0
        elif normalise(answer) == normalise(reference):
            return 1.0
    return 0.0


# ---- CIDEr-D --------------------------------------------------------------------------------------------

LETTER = "[a-z0-9\u0080-\u2017\u2020-\u2025\u2027-\U0010ffff]"
OTHER = "[a-z\u0080-\u2017\u2020-\u2025\u2027-\U0010ffff]"  # a letter that is no digit
JOINED = (rf"(?:{LETTER}|(?<={LETTER})[-'/_](?={LETTER})|(?<={OTHER})\.(?={OTHER})|(?<=[0-9])[.,](?=[0-9]))+")
TOKEN = re.compile(rf"{JOINED}|\S")
DROPPED = set("'`\".?!,:-;\u2018\u201a\u201b\u201c\u201d\u201e\u201f\u2026")
BRACKETS = {"(": "-lrb-", ")": "-rrb-", "{": "-lcb-", "}": "-rcb-"}
CLITIC = re.compile(r"(.+?)(n't|'s|'re|'ve|'ll|'d|'m)$")
HALVES = {"cannot": ["can", "not"], "gonna": ["gon", "na"], "gotta": ["got", "ta"], "wanna": ["wan", "na"],
          "gimme": ["gim", "me"], "lemme": ["lem", "me"]}


def words(text):
    out = []
    for token in TOKEN.findall(normalise(text).replace("\u2019", "'")):
        if token in DROPPED:
            continue
        clitics = []
        while (found := CLITIC.match(token)):
            token = found.group(1)
            clitics.insert(0, found.group(2))
        out += HALVES.get(token, [BRACKETS.get(token, token)]) + clitics
    return out


def grams(text):
    """[n][n-gram] -> count, for n = 1..4."""
    w = words(text)
    counts = []
    for n in range(1, 5):
        of_n = {}
        for i in range(len(w) - n + 1):
            key = tuple(w[i:i + n])
            of_n[key] = of_n.get(key, 0) + 1
        counts.append(of_n)
    return counts


def cider(questions):
    """One score for each answer; a question is {"references", "answers"}."""
    frequency = {}
    for q in questions:
        for key in {k for r in q["references"] for of_n in grams(r) for k in of_n}:
            frequency[key] = frequency.get(key, 0) + 1
    total = math.log(len(questions))

    def vector(of_n):
        return {k: c * (total - math.log(max(1, frequency.get(k, 0)))) for k, c in of_n.items()}

    def norm(v):
        return math.sqrt(math.fsum(x * x for x in v.values()))

    def similarity(answer, reference):
        penalty = math.exp(-(len(words(answer)) - len(words(reference))) ** 2 / (2 * 6.0 ** 2))
        sims = []
        for a, r in zip(map(vector, grams(answer)), map(vector, grams(reference))):
            dot = math.fsum(min(x, r.get(k, 0.0)) * r.get(k, 0.0) for k, x in a.items())
            sims.append(dot / (norm(a) * norm(r)) if norm(a) * norm(r) > 0 else 0.0)
        return penalty * math.fsum(sims) / 4

    return [[10 * math.fsum(similarity(a, r) for r in q["references"]) / len(q["references"])
             for a in q["answers"]] for q in questions]


# ---- bootstrap ------------------------------------------------------------------------------------------

def splitmix(seed):
    mask = (1 << 64) - 1
    while True:
        seed = (seed + 0x9E3779B97F4A7C15) & mask
        z = ((seed ^ (seed >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        yield z ^ (z >> 31)


def quantile(values, q):
    """Linear between neighbours, R's type 7."""
    values = sorted(values)
    at = q * (len(values) - 1)
    low = math.floor(at)
    high = min(low + 1, len(values) - 1)
    return values[low] + (at - low) * (values[high] - values[low])


def estimate(mean, samples):
    return [mean, quantile(samples, 0.025), quantile(samples, 0.975)]


def bootstrap(rows, seed, resamples=2000):
    """rows[variant][question]; the first variant is the whole cache. The same draws for all of them."""
    n = len(rows[0])
    draws = splitmix(seed)
    picks = [[next(draws) % n for _ in range(n)] for _ in range(resamples)]
    means = [[sum(row[i] for i in pick) / n for pick in picks] for row in rows]
    out = []
    for row, sampled in zip(rows, means):
        whole = sum(rows[0]) / n
        ratios = [s / f for s, f in zip(sampled, means[0]) if f > 0]
        out.append({"score": estimate(sum(row) / n, sampled),
                    "retention": estimate(sum(row) / n / whole, ratios) if whole > 0 else None})
    return out


# ---- cases ----------------------------------------------------------------------------------------------

ANSWERS = [
    ("12.50", ["12.50"]), ("$12.50", ["12.50", "$12.50"]), ("Mon", ["mon"]), ("MON", ["Monday", "mon "]),
    ("  3  Sep\t2038\n", ["3 sep 2038"]), ("3 Sep 2039", ["3 Sep 2038"]), ("", ["x"]), ("x", [""]), ("", [""]),
    ("ab", ["ax"]), ("abc", ["axy"]), ("abcd", ["abxy"]), ("abcd", ["abxyz"]), ("colour", ["color"]),
    ("the total is 40", ["40"]), ("40", ["the total is 40"]), ("40", ["39", "41", "100"]), ("42", ["40"]),
    ("42.0001", ["40"]), ("38", ["40"]), ("37.99", ["40"]), ("-40", ["40"]), ("-39", ["-40"]), ("0", ["0"]),
    ("0.0", ["0"]), ("0.01", ["0"]), ("12%", ["0.12"]), ("12%", ["12"]), ("12 %", ["0.12"]), ("12%", ["12.3%"]),
    ("%", ["%"]), ("1,000", ["1000"]), ("1,000", ["1,000"]), ("1e3", ["1000"]), (".5", ["0.51"]), ("5.", ["5"]),
    ("+7", ["7"]), ("--7", ["7"]), ("1 000", ["1000"]), ("inf", ["inf"]), ("1_0", ["10"]), ("nan", ["nan"]),
    ("Straße", ["STRASSE"]), ("ÉCOLE", ["école"]), ("naïve café", ["naive cafe"]), ("日本語", ["日本"]),
    ("日本", ["日本語"]), ("ΣΊΣΥΦΟΣ", ["σίσυφοσ"]), ("I\u0307", ["\u0130"]), ("\u0130", ["i"]), ("😀😀", ["😀"]),
    ("e\u0301", ["\u00e9"]), ("a\u00a0b", ["a b"]), ("a\u2003\u3000b", ["A B"]), ("a\u200bb", ["ab"]),
    ("yes.", ["yes"]), ("Yes!", ["yes"]), ("New York", ["NEW  YORK", "NYC"]), ("newyork", ["new york"]),
    ("          x", ["y"]), ("x         y", ["xzy"]), ("kitten", ["sitting"]), ("sunday", ["saturday"]),
    ("aaaaaaaaaa", ["a"]), ("PM-2304", ["PM-2034"]), ("a" * 40, ["a" * 39 + "b"]), ("\x1cx\x85", ["x"]),
]
TEXTS = [
    "", " ", ".", "...", "A dog.", "a dog's tail", "I don't, can't and won't.", "They\u2019re here", "she'd've gone",
    "it's 5 o'clock", "a black-and-white T-shirt", "either/or snake_case", "3.5 of 1,000.25", "u.s. and e.g.",
    "fig.3", "1.a", "end.Begin", "1,two", "one,two", "(left) {right} [square]", "\"quoted\" 'single' ``back''",
    "50% of $3 & #4 @ home = x+y", "cannot gonna gotta wanna gimme lemme", "cannots agonna", "well--known - yes",
    "-start end-", "'tis the '90s", "dogs' tails", "naïve café \u2014 dash", "wait\u2026 what", "\u201cgo\u201d \u2018on\u2019",
    "日本語 text", "a\u00a0b", "What?! No: never; ever", "x<y>z", "n't", "'s", "rock'n'roll", "()", "a\nb\tc",
]
SCENES = [
    {"references": ["a red circle left of a blue square", "a blue square right of a red circle"],
     "answers": ["a red circle left of a blue square", "a red circle and a blue square", "a blue square", "", "red"]},
    {"references": ["A green triangle above a yellow star.", "There's a yellow star below a green triangle"],
     "answers": ["a green triangle above a yellow star", "a red circle left of a blue square",
                 "a green triangle above a yellow star a green triangle above a yellow star", "green green green green"]},
    {"references": ["two dogs run on the beach", "two dogs on a beach", "dogs running along the sea"],
     "answers": ["two dogs on the beach", "TWO DOGS ON A BEACH!", "two cats on a sofa", "."]},
    {"references": ["red", "a red one"], "answers": ["red", "blue", "a red one"]},
    {"references": [""], "answers": ["", "red", "a red circle"]},
]


def random_scenes(seed):
    draw = random.Random(seed)
    names = "a the red blue green circle square star of left above and small large cat's".split()

    def sentence(low, high):
        return " ".join(draw.choice(names) for _ in range(draw.randint(low, high)))

    return [{"references": [sentence(1, 14) for _ in range(draw.randint(1, 3))],
             "answers": [sentence(0, 20) for _ in range(4)]} for _ in range(6)]


def random_rows(seed, n, draw_value):
    draw = random.Random(seed)
    return [[draw_value(draw) for _ in range(n)] for _ in range(3)]


def answer_case(answer, references):
    case = {"answer": answer, "references": references}
    for metric in (anls, exact, relaxed, contains):
        case[metric.__name__] = metric(answer, references)
    return case


def bootstrap_case(rows, seed):
    return {"rows": rows, "seed": str(seed), "cells": bootstrap(rows, seed)}


def main():
    tasks = [SCENES, SCENES[:1], random_scenes(1), random_scenes(2)]
    golden = {
        "answers": [answer_case(a, r) for a, r in ANSWERS],
        "words": [{"text": t, "words": words(t)} for t in TEXTS],
        "cider": [[dict(q, scores=s) for q, s in zip(task, cider(task))] for task in tasks],
        "bootstrap": [
            bootstrap_case(random_rows(3, 12, lambda d: float(d.random() < 0.7)), 0),
            bootstrap_case(random_rows(4, 7, lambda d: round(d.random(), 3)), 12345678901234567890),
            bootstrap_case([[0.0] * 4, [0.25] * 4, [0.0, 0.0, 1.0, 1.0]], 1),
            bootstrap_case([[0.5], [0.25], [0.0]], 2),
            bootstrap_case([[0.0, 0.0, 0.0, 1.0], [1.0, 0.0, 0.0, 1.0], [0.5, 0.5, 0.5, 0.5]], 3),
        ],
    }
    with open(os.path.join(HERE, "metrics", "golden.json"), "w", encoding="utf-8") as file:
        json.dump(golden, file, ensure_ascii=True, indent=1)
        file.write("\n")


if __name__ == "__main__":
    main()
