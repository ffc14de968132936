#!/usr/bin/env python3
"""Writes test/data/image/{prepare,files}.bin, the goldens of test_image.c and test_family.c.

    pip install torch torchvision transformers==5.17 pillow numpy;  python3 test/data/make_image_goldens.py

prepare.bin: what transformers' PIL processors make of procedural pictures (8-bit values, before rescaling), and the
token order that LlavaNextModel.pack_image_features gives to features that are their own row numbers. files.bin:
encoded pictures with the RGB that Pillow decodes. All integers are 32-bit little-endian.
"""
import io
import struct
import sys
import types
import zlib
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from transformers.models.clip.image_processing_clip import CLIPImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.llava.image_processing_llava import LlavaImageProcessor
from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_next.modeling_llava_next import LlavaNextModel
from transformers.models.llava_next.processing_llava_next import LlavaNextProcessor

SIDE, PATCH = 28, 7

# Pillow resized columns first up to 12, as torchvision does; 13 does rows first where the height shrinks more (pull
# request 9549), which moves such results by a few units. One axis a call gives the older order in any version.
whole_resize = Image.Image.resize


def columns_first(self, size, resample=None, box=None, reducing_gap=None):
    if resample == Image.Resampling.NEAREST:
        return whole_resize(self, size, resample)
    return whole_resize(whole_resize(self, (size[0], self.height), resample), size, resample)


Image.Image.resize = columns_first
PINPOINTS = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]


def picture(width, height):
    """The procedural picture; test/support/picture.c draws the same."""
    y, x, c = np.meshgrid(np.arange(height), np.arange(width), np.arange(3), indexing="ij")
    h = (x * 73856093 ^ y * 19349663 ^ c * 83492791).astype(np.uint64) & 0xFFFFFFFF
    h = (h ^ (h >> 13)) * 1274126177 & 0xFFFFFFFF
    noise = (h >> 16) & 0xFF
    smooth = (x * 5 + y * 3 + c * 40).astype(np.uint64) & 0xFF
    return np.where(((x // 8 + y // 8) & 1) == 1, noise, smooth).astype(np.uint8)


def pack_order(width, height):
    patches = SIDE // PATCH
    ns = types.SimpleNamespace
    best = LlavaNextProcessor._get_number_of_features
    config = ns(vision_config=ns(image_size=SIDE, patch_size=PATCH), image_grid_pinpoints=PINPOINTS)
    from transformers.models.llava_next.modeling_llava_next import image_size_to_num_patches

    tiles = image_size_to_num_patches((height, width), PINPOINTS, SIDE)
    rows = torch.arange(tiles * patches * patches, dtype=torch.float64).view(tiles, patches * patches, 1)
    packed, _ = LlavaNextModel.pack_image_features(
        ns(config=config), [rows], [(height, width)], "default", torch.tensor([-1.0], dtype=torch.float64)
    )
    processor = ns(image_processor=ns(image_grid_pinpoints=PINPOINTS), patch_size=PATCH, num_additional_image_tokens=1)
    processor._get_unpadded_features = lambda *a: LlavaNextProcessor._get_unpadded_features(processor, *a)
    assert best(processor, height, width, SIDE, SIDE) - 1 == packed[0].shape[0], (width, height)
    return packed[0][:, 0].to(torch.int32).tolist()


worst = 0.0


def prepare(out, family, width, height, resample=3, short=SIDE, fixed=(0, 0), crop=True, pad=False):
    global worst
    slow = [CLIPImageProcessorPil, LlavaNextImageProcessorPil][family] if not pad else LlavaImageProcessorPil
    fast = [CLIPImageProcessor, LlavaNextImageProcessor][family] if not pad else LlavaImageProcessor
    size = {"shortest_edge": short} if short else {"width": fixed[0], "height": fixed[1]}
    args = dict(size=size, crop_size={"height": SIDE, "width": SIDE}, do_center_crop=crop, resample=resample,
                do_rescale=False, do_normalize=False)
    if pad:
        args["do_pad"] = True
    if family:
        args["image_grid_pinpoints"] = PINPOINTS
    image = Image.fromarray(picture(width, height))
    pixels = np.asarray(slow(**args)(image)["pixel_values"][0])
    pixels = pixels.reshape(-1, 3, SIDE, SIDE)
    if resample in (2, 3):
        other = np.asarray(fast(**args)(image)["pixel_values"][0]).reshape(pixels.shape)
        odd = short == 0 and fixed[0] < SIDE  # the fast one pads the other side by one
        if not odd:
            worst = max(worst, np.abs(pixels.astype(float) - other).max())
    background = [int(v * 255) for v in slow.image_mean] if pad else [0, 0, 0]
    order = pack_order(width, height) if family else list(range((SIDE // PATCH) ** 2))
    head = [family, width, height, resample, short, *fixed, int(crop), int(pad), *background, len(pixels), len(order)]
    out.write(struct.pack(f"<{len(head)}i", *head))
    out.write(struct.pack(f"<{len(order)}i", *order))
    out.write(np.ascontiguousarray(pixels.astype(np.uint8)).tobytes())


def write_prepare(path):
    sizes = [(17, 31), (1, 1), (640, 97), (97, 640), (336, 336), (1000, 20), (20, 1000), (28, 28), (29, 30), (2, 301)]
    with open(path, "wb") as out:
        out.write(struct.pack("<ii", SIDE, PATCH))
        for w, h in sizes:
            prepare(out, 0, w, h)
            prepare(out, 0, w, h, pad=True)
            prepare(out, 1, w, h)
        for filter in range(6):
            prepare(out, 0, 97, 61, resample=filter)
            prepare(out, 0, 9, 13, resample=filter)
            prepare(out, 0, 97, 61, resample=filter, pad=True)
        prepare(out, 0, 50, 40, short=0, fixed=(SIDE, SIDE), crop=False)
        prepare(out, 0, 50, 40, short=0, fixed=(21, 24))  # smaller than the crop: zeros around, odd margin
        prepare(out, 0, 50, 40, short=0, fixed=(23, 41))  # padded across, cropped down
        prepare(out, 0, 60, 45, short=35)
        for w, h in [(59, 27), (333, 500), (500, 333), (45, 44), (112, 56), (57, 56), (85, 29), (3, 2), (1, 600)]:
            prepare(out, 1, w, h)
        out.write(struct.pack("<i", -1))


def smooth(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([255 * x / width, 255 * y / height, 128 + 100 * np.sin(x / 7 + y / 5)], -1).astype(np.uint8)


def png16(array):
    """16-bit RGB(A), which Pillow cannot write."""
    h, w, n = array.shape
    raw = b"".join(b"\0" + row.astype(">u2").tobytes() for row in array)
    chunk = lambda t, b: struct.pack(">I", len(b)) + t + b + struct.pack(">I", zlib.crc32(t + b))
    head = struct.pack(">IIBBBBB", w, h, 16, 2 if n == 3 else 6, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(raw)) + chunk(b"IEND", b"")


def on_white(image):
    rgba = np.asarray(image.convert("RGBA")).astype(float)
    a = rgba[..., 3:] / 255
    return np.rint(rgba[..., :3] * a + 255 * (1 - a)).astype(np.uint8)


def encode(image, form, **args):
    data = io.BytesIO()
    image.save(data, form, **args)
    return data.getvalue()


def write_files(path):
    rgb = Image.fromarray(smooth(23, 17))
    rough = Image.fromarray(picture(23, 17))
    alpha = rough.convert("RGBA")
    alpha.putalpha(Image.fromarray(smooth(23, 17)[..., 0]))
    palette = rough.quantize(13)
    grey16 = (np.arange(23 * 17).reshape(17, 23, 1) * 167 % 65536).astype(np.uint16)
    wide16 = np.concatenate([grey16, grey16[::-1], grey16[:, ::-1]], -1)
    files = []

    def add(name, data, tolerance, expected=None):
        if expected is None:
            expected = on_white(ImageOps.exif_transpose(Image.open(io.BytesIO(data))))
        files.append((name, data, tolerance, expected))

    add("rgb.png", encode(rough, "PNG"), 0)
    add("grey.png", encode(rough.convert("L"), "PNG"), 0)
    add("bit.png", encode(rough.convert("1"), "PNG"), 0)
    add("palette.png", encode(palette, "PNG"), 0)
    add("palette-clear.png", encode(palette, "PNG", transparency=3), 0)
    add("colour-clear.png", encode(rough, "PNG", transparency=tuple(int(v) for v in picture(23, 17)[2, 3])), 0)
    add("grey-alpha.png", encode(alpha.convert("LA"), "PNG"), 1)
    add("alpha.png", encode(alpha, "PNG"), 1)
    add("16.png", png16(wide16), 0, (wide16 >> 8).astype(np.uint8))
    grey = np.repeat((grey16 >> 8).astype(np.uint8), 3, -1)
    add("grey16.png", encode(Image.fromarray(grey16[..., 0]), "PNG"), 0, grey)
    exif = Image.Exif()
    exif[0x0112] = 6
    add("turned.png", encode(rough, "PNG", exif=exif), 0)
    add("plain.jpg", encode(rgb, "JPEG", quality=95, subsampling=0), 6)
    add("420.jpg", encode(rgb, "JPEG", quality=95, subsampling=2), 14)
    add("progressive.jpg", encode(rgb, "JPEG", quality=95, subsampling=0, progressive=True), 6)
    add("grey.jpg", encode(rgb.convert("L"), "JPEG", quality=95), 4)
    add("cmyk.jpg", encode(rgb.convert("CMYK"), "JPEG", quality=95), 8)
    for orientation in range(1, 9):
        exif[0x0112] = orientation
        add(f"turned{orientation}.jpg", encode(rgb, "JPEG", quality=95, subsampling=0, exif=exif), 6)
    add("24.bmp", encode(rough, "BMP"), 0)
    add("8.bmp", encode(rough.convert("L"), "BMP"), 0)
    add("palette.bmp", encode(palette, "BMP"), 0)
    add("palette.gif", encode(palette, "GIF"), 0)
    add("clear.gif", encode(palette, "GIF", transparency=3), 0)
    frames = encode(palette, "GIF", save_all=True, append_images=[rgb.quantize(7)], duration=50)
    add("frames.gif", frames, 0)
    add("6.ppm", encode(rough, "PPM"), 0)
    add("5.pgm", encode(rough.convert("L"), "PPM"), 0)
    add("4.pbm", encode(rough.convert("1"), "PPM"), 0)
    text = "P3 # text\n23 17\n255\n" + " ".join(str(v) for v in picture(23, 17).ravel()) + "\n"
    add("3.ppm", text.encode(), 0, picture(23, 17))
    add("16.pgm", b"P5 23 17 65535\n" + grey16.astype(">u2").tobytes(), 0,
        np.repeat(np.rint(grey16 / 257).astype(np.uint8), 3, -1))
    add("15.pgm", b"P2\n3 2\n15\n0 1 2\n7 14 15\n", 0,
        np.repeat(np.rint(np.array([[[0], [1], [2]], [[7], [14], [15]]]) * 17).astype(np.uint8), 3, -1))
    add("1.pbm", b"P1\n3 2\n101 010", 0,
        np.repeat(np.array([[[0], [255], [0]], [[255], [0], [255]]], np.uint8), 3, -1))
    with open(path, "wb") as out:
        for name, data, tolerance, expected in files:
            h, w, _ = expected.shape
            out.write(struct.pack("<32siiii", name.encode(), tolerance, w, h, len(data)))
            out.write(data + np.ascontiguousarray(expected).tobytes())


folder = Path(__file__).parent / "image"
folder.mkdir(exist_ok=True)
write_prepare(folder / "prepare.bin")
write_files(folder / "files.bin")
print(f"largest difference of the torchvision processors: {worst:g} of 255", file=sys.stderr)
