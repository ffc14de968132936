"""Named taps: one file of named tensors, the format of the goldens and of the library's dumps.

Little-endian. Magic "VLTAPS01", then records until the end of the file:
    u32 name length, name bytes, u32 dtype (1 float32, 4 int32), u32 ndim, u64 dims[ndim], data padded to 8 bytes.
"""
import struct

import numpy as np

MAGIC = b"VLTAPS01"
DTYPES = {1: np.dtype("<f4"), 4: np.dtype("<i4")}


def write(path, taps):
    """Writes a dict name -> array; floats become float32, integers int32."""
    with open(path, "wb") as file:
        file.write(MAGIC)
        for name, value in taps.items():
            array = np.asarray(value)
            code = 1 if array.dtype.kind == "f" else 4
            array = np.ascontiguousarray(array, dtype=DTYPES[code])
            raw, label = array.tobytes(), name.encode()
            file.write(struct.pack("<I", len(label)) + label)
            file.write(struct.pack(f"<II{array.ndim}Q", code, array.ndim, *array.shape))
            file.write(raw + b"\0" * (-len(raw) % 8))


def read(path):
    """Reads a file back as a dict name -> array. A name that occurs twice keeps its last value."""
    return dict(records(path))


def records(path):
    """Reads a file back, (name, array) after (name, array)."""
    with open(path, "rb") as file:
        data = file.read()
    if data[:8] != MAGIC:
        raise ValueError(f"{path}: not a taps file")
    at = 8
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        name = data[at + 4 : at + 4 + length].decode()
        at += 4 + length
        code, ndim = struct.unpack_from("<II", data, at)
        dims = struct.unpack_from(f"<{ndim}Q", data, at + 8)
        at += 8 + 8 * ndim
        count = int(np.prod(dims, dtype=np.int64))
        yield name, np.frombuffer(data, DTYPES[code], count, at).reshape(dims)
        at += count * 4 + -(count * 4) % 8
