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


def answer(model, processor, images, questions, new=48):
    text = [f"<s>USER: <image>\n{q} ASSISTANT:" for q in questions]
    batch = processor(images=images, text=text, padding=True, return_tensors="pt").to(model.device)
    batch["pixel_values"] = batch["pixel_values"].to(model.dtype)
    out = model.generate(**{k: batch[k] for k in ("input_ids", "attention_mask", "pixel_values")}, do_sample=False, max_new_tokens=new)
    return [s.strip() for s in processor.tokenizer.batch_decode(out[:, batch["input_ids"].shape[1]:], skip_special_tokens=True)]


def item(args):
    """The picture, its question, and for charts the kind of question."""
    task, i = args
    image, d = render.test_item(task, i)
    if task == "charts":
        q = d["question"]
        d["kind"] = "highest or lowest" if "est?" in q else "which is larger" if "larger" in q else \
            "value written" if render.sample(task, render.TEST_SEED + i)[0].written else "value against the grid"
    return image, d


def mean(rows):
    return {**{m: round(sum(r[m] for r in rows) / len(rows), 4) for m in ("anls", "exact")}, "n": len(rows)}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--model", required=True)
    p.add_argument("--n", "--limit", type=int, default=300, help="pictures a task")
    p.add_argument("--batch", type=int, default=150)
    p.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    p.add_argument("--tasks", default=",".join(render.TASKS))
    p.add_argument("--out")
    a = p.parse_args()
    with mp.get_context("fork").Pool(min(8, os.cpu_count() or 1)) as pool:
        drawn = {t: pool.map(item, [(t, i) for i in range(a.n)]) for t in a.tasks.split(",")}
    processor = AutoProcessor.from_pretrained(a.model)
    model = LlavaForConditionalGeneration.from_pretrained(a.model, dtype=torch.bfloat16 if a.device == "cuda" else torch.float32).to(a.device).eval()
    result, rows = {}, []
    for task, items in drawn.items():
        begun, mine = time.time(), []
        new = 200 if task.endswith("-long") else 48
        for i in range(0, a.n, a.batch):
            part = items[i:i + a.batch]
            for (_, d), g in zip(part, answer(model, processor, [x for x, _ in part], [d["question"] for _, d in part], new)):
                mine.append({**d, "guess": g, "anls": anls(g, d["answers"]), "exact": float(g in d["answers"])})
        result[task] = mean(mine)
        print(task, result[task], f"{time.time() - begun:.1f} s", flush=True)
        for kind in sorted({r["kind"] for r in mine if "kind" in r}):
            result[f"{task}: {kind}"] = mean([r for r in mine if r["kind"] == kind])
            print("  ", kind, result[f"{task}: {kind}"], flush=True)
        rows += mine
        if a.out: json.dump({"n": a.n, "result": result, "rows": rows}, open(a.out, "w"), indent=1)


if __name__ == "__main__":
    main()
