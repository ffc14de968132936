"""Plain text as questions: pieces of files, of which the end is told to the model, for vlcache-eval --data.

    python3 tools/eval/text.py README.md /usr/share/doc/coreutils/NEWS.gz >text.jsonl
    vlcache-eval -m SmolLM2-135M --data text.jsonl --policy snapkv,vlcache+ --budget .05,.1,.2

Each file gives one piece from its middle: --prompt letters that are read, and --told letters behind them whose
likelihood is measured (about four letters are a token of English), both cut between words.
"""
import argparse
import gzip
import json
import os


def read(path):
    with gzip.open(path, "rt", errors="replace") if path.endswith(".gz") else open(path, errors="replace") as f:
        return f.read()


def cut(text, at):
    """The place of the first space from `at` on: a word and the space before it are a token's worth."""
    found = text.find(" ", at)
    return found if found >= 0 else len(text)


def piece(path, prompt, told):
    text = read(path)
    start = cut(text, max(0, (len(text) - prompt - told) // 2)) + 1
    middle = cut(text, start + prompt)
    end = cut(text, middle + told)
    if middle - start < prompt or end - middle < told:
        raise SystemExit(f"{path}: has fewer than {prompt} + {told} letters")
    return {"id": os.path.basename(path), "task": "text", "metric": "likelihood", "raw": True,
            "question": text[start:middle], "answers": [text[middle:end]]}  # fmt: skip


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("files", nargs="+")
    p.add_argument("--prompt", type=int, default=3600)
    p.add_argument("--told", type=int, default=800)
    o = p.parse_args()
    for path in o.files:
        print(json.dumps(piece(path, o.prompt, o.told)))


if __name__ == "__main__":
    main()
