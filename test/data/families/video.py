"""Videos in the tiny folders of families that take them: golden/videos.json beside cases.json, for test_clip.

A case is a film of some frames at a rate, and what transformers' processor makes of it: which frames, their pixels,
the prompt's ids; positions, first logits and greedy tokens of the model in float64. The frames of a film stand below
each other in one PNG. Folders are those that the families' modules have written; nothing else in them changes.

    python test/data/families/video.py [FOLDER ...]
"""
import json
import sys

import common
import numpy as np
import internvl
import llava_onevision
import qwen_vl
import smolvlm
import taps
import torch
from PIL import Image
from transformers.utils import logging
from transformers.video_utils import VideoMetadata

SEEN = "<|vision_start|><|video_pad|><|vision_end|>"
LOOKED = "<|vision_start|><|image_pad|><|vision_end|>"


def ask(question, shown=SEEN, system=True):
    said = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n" if system else ""
    return said + f"<|im_start|>user\n{shown}{question}<|im_end|>\n<|im_start|>assistant\n"


# folder: (name, (width, height, frames, fps), how it is sampled, pictures in front, prompt)
CASES = {
    "qwen2-vl-hub": [("film", (40, 24, 6, 2.0), {"fps": 2.0}, [], ask("What moves?")),
                     ("films", (47, 30, 9, 3.0), {"num_frames": 4}, [(28, 56)], ask("Compare.", LOOKED + SEEN))],
    "qwen2_5-vl": [("film", (44, 40, 13, 4.0), {"fps": 2.0}, [], ask("What moves?")),
                   ("slow", (32, 16, 14, 0.7), {"fps": 0.35}, [], ask("When does it stop?"))],
    "qwen2_5-vl-hub": [("film", (56, 30, 8, 5.0), {"fps": 5.0}, [], ask("How many are there?"))],
    "qwen3-vl": [("film", (44, 40, 11, 3.0), {}, [], ask("What moves?", system=False)),
                 ("films", (61, 23, 40, 29.97), {"num_frames": 5}, [(16, 24)],
                  ask("Compare.", LOOKED + SEEN, system=False))],
    "onevision-hub": [("film", (30, 30, 7, 2.0), {"num_frames": 5}, [], "<|im_start|>user <video>\nWhat moves?<|im_end|>"
                       "<|im_start|>assistant\n"),
                      ("films", (47, 20, 5, 2.0), {"fps": 1.0}, [(61, 30)], "<|im_start|>user <image><video>\nCompare."
                       "<|im_end|><|im_start|>assistant\n")],
    "internvl-hub": [("film", (28, 28, 9, 2.0), {"num_frames": 4}, [], internvl.ask("What moves?").replace("IMG_CONTEXT", "video")),
                     ("films", (47, 20, 12, 4.0), {"fps": 1.0}, [(61, 30)],
                      internvl.ask("Compare.").replace("Compare", "<video>\nCompare"))],
    "smolvlm-tiles": [("film", (28, 28, 9, 2.0), {}, [], smolvlm.ask("<video>What moves?", 0).replace(":<", ": <")),
                      ("fast", (47, 20, 40, 29.97), {"fps": 7.5}, [], smolvlm.ask(" Look: <video> 3 signs.", 0)),
                      ("long", (20, 61, 12, 1.0), {}, [], smolvlm.ask(" <video>\nWhen does it stop?", 0)),
                      ("single", (31, 28, 1, 3.0), {"num_frames": 4}, [], smolvlm.ask(" <video>Why?", 0))],
}  # fmt: skip
FOLDERS = {folder.name: folder for folder in qwen_vl.FOLDERS + llava_onevision.FOLDERS + internvl.FOLDERS + smolvlm.FOLDERS}


def film(seed, width, height, frames):
    return [common.picture(seed + 31 * i, width, height) for i in range(frames)]


def planes(inputs, frames):
    """[frames, 3, height, width], steps filled up: the processor's patches, put back."""
    if "pixel_values_videos" not in inputs:  # behind those of the pictures in front
        return inputs["pixel_values"].flatten(0, -4)[-frames:]
    if "video_grid_thw" not in inputs:
        return inputs["pixel_values_videos"][0]
    out, at, merge, patch = [], 0, qwen_vl.MERGE, qwen_vl.PATCH
    for t, h, w in inputs["video_grid_thw"].tolist():
        rows = inputs["pixel_values_videos"][at : at + t * h * w]
        rows = rows.reshape(t, h // merge, w // merge, merge, merge, 3, 2, patch, patch)
        out.append(rows.permute(0, 6, 5, 1, 3, 7, 2, 4, 8).reshape(2 * t, 3, h * patch, w * patch))
        at += t * h * w
    return torch.cat(out)


def inputs_of(processor, prompt, pictures, frames, fps, how):
    width, height = frames[0].size
    pixels = torch.from_numpy(np.stack([np.asarray(frame) for frame in frames])).permute(0, 3, 1, 2)
    about = VideoMetadata(total_num_frames=len(frames), fps=fps, width=width, height=height, duration=len(frames) / fps)
    if "num_frames" in how and "SmolVLM" not in type(processor).__name__:
        processor.video_processor.fps = None  # one of both
    made = processor(text=[prompt], images=[pictures] if pictures else None, videos=[pixels], video_metadata=[about],
                     do_sample_frames=True, return_metadata=True, add_special_tokens=False, return_tensors="pt", **how)  # fmt: skip
    told = made.pop("video_metadata")[0] if "video_metadata" in made else None
    chosen = told.frames_indices if told else processor.video_processor.sample_frames(about, **how)
    if "second_per_grid_ts" in made:
        made["second_per_grid_ts"] = torch.as_tensor(made["second_per_grid_ts"])
    return dict(made), [int(i) for i in chosen]


def run(folder, model, inputs, special, frames):
    out = {}
    handles = common.watch(model, folder, out)
    tokens, logits = common.decode(model, inputs)
    for handle in handles:
        handle.remove()
    best = [torch.topk(step, 2).values for step in logits]
    margins = [float((b[0] - b[1]) / b[0].abs()) for b in best]
    if min(margins) < common.MARGIN:
        raise common.Near("two tokens are tied")
    if set(tokens) & set(special):
        raise common.Near("a special token was chosen")
    positions = {"positions": out["positions"].numpy()} if "positions" in out else {}
    return {"prompt.ids": inputs["input_ids"][0].numpy(), **positions,
            "vision.pixels": planes(inputs, frames).float().numpy(), "embed": out["embed"].numpy(),
            "logits": logits[0].numpy(), "greedy.tokens": np.array(tokens)}  # fmt: skip


def make(name):
    folder, path, said = FOLDERS[name], common.HERE.parent / "models" / name, []
    processor = folder.processor()
    processor.video_processor = type(processor.video_processor).from_pretrained(path)
    special = [processor.tokenizer.convert_tokens_to_ids(token) for token in folder.special]
    exact, single = (common.load(path, *how) for how in ((torch.float64, "sdpa"), (torch.float32, "eager")))
    for k, (case, (width, height, n, fps), how, sizes, prompt) in enumerate(CASES[name]):
        for attempt in range(200):
            seed = 20000 + 3000 * k + 37 * attempt
            frames, pictures = film(seed, width, height, n), [common.picture(seed + 7, *size) for size in sizes]
            inputs, chosen = inputs_of(processor, prompt, pictures, frames, fps, how)
            try:
                made = run(folder, exact, inputs, special, len(chosen))
                break
            except common.Near as why:
                reason = why
        else:
            raise SystemExit(f"{name}/{case}: no safe film in 200: {reason}")
        assert common.decode(single, inputs)[0] == made["greedy.tokens"].tolist(), "float32 decodes differently"
        strip = Image.new("RGB", (width, height * n))
        for i, frame in enumerate(frames):
            strip.paste(frame, (0, height * i))
        strip.save(path / "golden" / f"video-{case}.png", optimize=True)
        for i, image in enumerate(pictures):
            image.save(path / "golden" / f"video-{case}.{i}.png", optimize=True)
        made |= {"chosen": np.array(chosen)}
        taps.write(path / "golden" / f"video-{case}.taps", made)
        said.append({"case": case, "prompt": prompt, "frames": n, "fps": fps, "sample_fps": how.get("fps", 0.0),
                     "sample_frames": how.get("num_frames", 0), "film": f"video-{case}.png",
                     "images": [f"video-{case}.{i}.png" for i in range(len(pictures))], "taps": f"video-{case}.taps"})  # fmt: skip
        print(f"  {name}/{case}: N {len(made['prompt.ids'])}, frames {chosen}, pixels {list(made['vision.pixels'].shape)}, "
              f"{len(set(made['greedy.tokens'].tolist()))} different tokens, film {attempt}", flush=True)  # fmt: skip
    (path / "golden" / "videos.json").write_text(json.dumps(said, indent=1) + "\n")


if __name__ == "__main__":
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for chosen_name in sys.argv[1:] or CASES:
        make(chosen_name)
