#!/usr/bin/env python3
"""The shipped model with its text layers repeated to N of them: for what the depth of a model costs, not for answers.

    python tools/demo/deepen.py N OUT
"""
import json
import pathlib
import shutil
import struct
import sys

MODEL = pathlib.Path(__file__).parent / "model"
LAYER = "language_model.", ".layers."


def tensors():
    for path in sorted(MODEL.glob("*.safetensors")):
        data = path.read_bytes()
        size = struct.unpack("<Q", data[:8])[0]
        for name, about in json.loads(data[8 : 8 + size]).items():
            if name != "__metadata__":
                begin, end = (8 + size + at for at in about["data_offsets"])
                yield name, (about, data[begin:end])


def layer_of(name):
    if all(part in name for part in LAYER):
        return int(name.split(LAYER[1])[1].split(".")[0])


def main(depth, out):
    given = dict(tensors())
    layers = 1 + max(n for n in map(layer_of, given) if n is not None)
    kept = {name: of for name, of in given.items() if layer_of(name) is None}
    for n in range(depth):
        for name, of in given.items():
            if layer_of(name) == n % layers:
                kept[name.replace(f"{LAYER[1]}{n % layers}.", f"{LAYER[1]}{n}.")] = of
    header, at = {}, 0
    for name, (about, data) in kept.items():
        header[name] = dict(about, data_offsets=[at, at + len(data)])
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    out.mkdir(parents=True)
    with open(out / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.writelines(data for _, data in kept.values())
    for path in MODEL.iterdir():
        if "safetensors" not in path.name:
            shutil.copy(path, out)
    config = json.loads((out / "config.json").read_text())
    config["text_config"]["num_hidden_layers"] = depth
    (out / "config.json").write_text(json.dumps(config, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    main(int(sys.argv[1]), pathlib.Path(sys.argv[2]))
