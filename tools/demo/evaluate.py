"""Measure the model on held-out pictures with Hugging Face transformers."""
import argparse, json, multiprocessing as mp, os, time
import torch
from transformers import AutoProcessor, LlavaForConditionalGeneration
import render


def distance(a, b):
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        prev, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            prev, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, prev + (x != y))
    return row[-1]


def anls(guess, answers):
    best = 0.0
    for a in answers:
        g, w = guess.strip().lower(), a.strip().lower()
        s = 1.0 if g == w else 1 - distance(g, w) / max(len(g), len(w), 1)
        best = max(best, s if s >= 0.5 else 0.0)
    return best


def answer(model, processor, images, texts, new):
    """Goes on with the texts, each with its own list of pictures."""
    batch = processor(images=[x for of in images for x in of], text=texts, padding=True, return_tensors="pt").to(model.device)
    batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
    out = model.generate(**{k: batch[k] for k in ("input_ids", "attention_mask", "pixel_values")}, do_sample=False, max_new_tokens=new)
    return [s.strip() for s in processor.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)]


def converse(model, processor, items, new):
    """The answers to every turn of the items; a later turn stands behind the model's own answers."""
    texts, told = ["<s>" for _ in items], [[] for _ in items]
    for k in range(max(len(d["turns"]) for _, d in items)):
        on = [j for j, (_, d) in enumerate(items) if k < len(d["turns"])]
        for j in on:
            q = items[j][1]["turns"][k]["question"]
            texts[j] += f"USER: {render.MARK if k == 0 and '<image>' not in q else ''}{q} ASSISTANT:"
        for j, g in zip(on, answer(model, processor, [items[j][0] for j in on], [texts[j] for j in on], new)):
            told[j].append(g)
            texts[j] += f" {g}</s>"
    return told


def item(args):
    """The pictures, the turns, and for some tasks the kind of question."""
    task, i = args
    images, d = render.test_item(task, i)
    q = d.get("question", "")
    if task == "charts":
        d["kind"] = "highest or lowest" if "est?" in q else "which is larger" if "larger" in q else \
            "value written" if render.sample(task, i)[0].written else "value against the grid"
    if task in render.PICTURES: d["kind"] = "which picture" if "Which picture" in q else "about one of them"
    d.setdefault("turns", [{"question": q, "answers": d.get("answers")}])
    return images, d


def mean(rows):
    return {**{m: round(sum(r[m] for r in rows) / len(rows), 4) for m in ("anls", "exact")}, "n": len(rows)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--n", "--limit", type=int, default=300, help="items a task")
    p.add_argument("--batch", type=int, default=150)
    p.add_argument("--split", choices=render.SPLITS, default="test")
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--tasks", default=",".join(render.TASKS))
    p.add_argument("--out")
    a = p.parse_args()
    with mp.get_context("fork").Pool(min(16, os.cpu_count() or 1)) as pool:
        drawn = {t: pool.map(item, [(t, render.SPLITS[a.split] + i) for i in range(a.n)], 1) for t in a.tasks.split(",")}
    processor = AutoProcessor.from_pretrained(a.model)
    model = LlavaForConditionalGeneration.from_pretrained(a.model, dtype=torch.bfloat16 if a.device == "cuda" else torch.float32).to(a.device).eval()
    result, rows = {}, []
    for task, items in drawn.items():
        begun, mine = time.time(), []
        new = 200 if task.endswith("-long") else items[0][1].get("max_tokens", 48)
        for i in range(0, a.n, a.batch):
            part = items[i:i + a.batch]
            for (_, d), guesses in zip(part, converse(model, processor, part, new)):
                about = {k: d[k] for k in ("id", "task", "kind") if k in d}
                mine += [{**about, "turn": k, **t, "guess": g, "anls": anls(g, t["answers"]), "exact": float(g in t["answers"])}
                         for k, (t, g) in enumerate(zip(d["turns"], guesses))]
        result[task] = mean(mine)
        print(task, result[task], f"{time.time() - begun:.1f} s", flush=True)
        for kind in sorted({r["kind"] for r in mine if "kind" in r}):
            result[f"{task}: {kind}"] = mean([r for r in mine if r["kind"] == kind])
            print("  ", kind, result[f"{task}: {kind}"], flush=True)
        rows += mine
        if a.out: json.dump({"n": a.n, "result": result, "rows": rows}, open(a.out, "w"), indent=1)


if __name__ == "__main__":
    main()
