#!/usr/bin/env python3
"""Holds the interpreter of templates against Python's jinja2, set up as transformers sets it up: every template of
a folder with every conversation below must give the same text, byte for byte, or be refused by both.

    test/templates.py RENDER [FOLDER]     RENDER: the program of test/render.c; FOLDER: of *.jinja files, else
                                          $VLCACHE_CHAT_TEMPLATES, else shared/data/chat-templates beside the checkout

Exit 77 (skipped) where jinja2 or the folder is missing."""
import glob
import json
import os
import subprocess
import sys

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "data"))
NOW = 1721779200  # 2024-07-24


def text(role, content):
    return {"role": role, "content": content}


def items(role, *content):
    return {"role": role, "content": [{"type": "image"} if c is None else {"type": "text", "text": c} for c in content]}


ANSWER = "<think>\nHm, 4.\n</think>\n\nIt is four."
CONVERSATIONS = [
    [text("user", "What is 2 + 2?")],
    [text("system", "Be brief."), text("user", "  What is\n\n2 + 2?  ")],
    [text("user", "One"), text("assistant", "Two"), text("user", "Three")],
    [text("system", "S"), text("user", "One"), text("assistant", ANSWER), text("user", "Drei äöü 語 \U0001f600"),
     text("assistant", " Four \n"), text("user", "Five")],
    [text("user", "One"), text("assistant", "Two")],
    [items("user", "What is it?")],
    [items("user", None, "What is it?")],
    [items("user", None, "Which of", None, "them is it?", None)],
    [items("system", "S"), items("user", None, None, "One"), items("assistant", "Two"), items("user", "Three")],
    [items("user", None, "One"), text("assistant", "Two"), items("user", None, "Three")],
    [text("assistant", "I begin.")],
    [text("user", "One"), text("user", "Two")],
    [text("system", "S")],
    [text("user", "")],
    [text("tool", "result"), text("user", "One")],
    [],
]  # fmt: skip
TOOL = {"type": "function", "function": {"name": "weather", "description": "The <weather> & \"more\" of a city",
        "parameters": {"type": "object", "properties": {"city": {"type": "string", "description": "a city"},
        "days": {"type": "integer", "enum": [1, 2.5, True, None]}}, "required": ["city"]}}}  # fmt: skip
CALL = {"id": "call12345", "type": "function", "function": {"name": "weather", "arguments": {"city": "Köln", "days": 2}}}
WITH_TOOLS = [
    [text("user", "How is the weather?")],
    [text("system", "S"), text("user", "How is the weather?"),
     {"role": "assistant", "content": "", "tool_calls": [CALL]},
     {"role": "tool", "name": "weather", "tool_call_id": "call12345", "content": "rain"}],
    [text("user", "U"), {"role": "assistant", "content": "x", "reasoning_content": "Hm.", "tool_calls": [CALL, CALL]},
     {"role": "tool", "name": "weather", "tool_call_id": "call12345", "content": "{\"rain\": 1}"},
     text("assistant", "It rains."), text("user", "Thanks")],
]  # fmt: skip
TOKENS = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}


def cases():
    for messages in CONVERSATIONS:
        for prompt in (True, False):
            yield {**TOKENS, "messages": messages, "tools": None, "documents": None, "add_generation_prompt": prompt}
    yield {"messages": CONVERSATIONS[0], "add_generation_prompt": True}
    yield {**TOKENS, "messages": CONVERSATIONS[3], "add_generation_prompt": True, "enable_thinking": False}
    yield {**TOKENS, "messages": CONVERSATIONS[3], "add_generation_prompt": True, "enable_thinking": True}
    for messages in WITH_TOOLS:
        yield {**TOKENS, "messages": messages, "tools": [TOOL], "add_generation_prompt": True}


class Interpreter:
    def __init__(self, program):
        self.process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        env={**os.environ, "TZ": "UTC"})  # fmt: skip

    def render(self, template, variables):
        self.process.stdin.write(json.dumps({"template": template, "variables": variables, "now": NOW}) + "\n")
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("the interpreter has crashed")
        return json.loads(line)


def folder_of(argv):
    beside = [os.path.join(HERE, up, "shared/data/chat-templates") for up in ("..", "../..", "../../..")]
    return next((f for f in [*argv[2:], os.environ.get("VLCACHE_CHAT_TEMPLATES"), *beside] if f and os.path.isdir(f)), None)


def main(argv):
    folder = folder_of(argv)
    try:
        import jinja_reference
    except ImportError as e:
        print(f"skipped: {e}")
        return 77
    if not folder:
        print("skipped: no folder of templates, see VLCACHE_CHAT_TEMPLATES")
        return 77
    interpreter, bad, texts, refused, names = Interpreter(argv[1]), {}, 0, 0, sorted(glob.glob(folder + "/*.jinja"))
    for name in names:
        with open(name, encoding="utf-8") as f:
            source = f.read()
        for i, variables in enumerate(cases()):
            want, got = jinja_reference.render(source, variables, NOW), interpreter.render(source, variables)
            texts, refused = texts + ("text" in want), refused + ("error" in want)
            if want.get("text") != got.get("text"):
                bad.setdefault(os.path.basename(name), []).append((i, want, got))
    for name, list_of in bad.items():
        for i, want, got in list_of[: 3 if len(argv) > 2 or True else 0]:
            print(f"{name}, case {i}:\n  jinja2: {want}\n  vlcache: {got}")
    print(f"{len(names) - len(bad)} of {len(names)} templates agree; {texts} texts, {refused} refusals of jinja2")
    return 1 if bad or not names else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
