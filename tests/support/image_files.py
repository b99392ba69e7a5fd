"""Images in files, as their formats have them."""

import gzip
import io
import pickle
import struct
from typing import ClassVar

import numpy as np
from PIL import Image

RNG = np.random.default_rng(1)


class _Python2Pickler(pickle._Pickler):
    """Writes all strings as Python 2 wrote its: the published files are of that time."""

    dispatch: ClassVar = dict(pickle._Pickler.dispatch)

    def save_string(self, text):
        content = text.encode() if isinstance(text, str) else text
        self.write(pickle.BINSTRING + struct.pack("<i", len(content)) + content)
        self.memoize(text)

    dispatch[str] = dispatch[bytes] = save_string


def python2(content):
    stream = io.BytesIO()
    _Python2Pickler(stream, protocol=2).dump(content)
    return stream.getvalue()


def write_cifar10(folder, count=6):
    """As its authors' Python 2 wrote it: strings are bytes."""
    pixels = RNG.integers(0, 256, (6, count, 3072), dtype=np.uint8)
    for number, name in enumerate([*(f"data_batch_{n}" for n in range(1, 6)), "test_batch"]):
        batch = {b"data": pixels[number], b"labels": [n % 10 for n in range(count)], b"batch_label": b"x"}
        (folder / name).write_bytes(python2(batch))
    meta = {b"label_names": [f"class {n}".encode() for n in range(10)], b"num_vis": 3072}
    (folder / "batches.meta").write_bytes(python2(meta))
    return pixels


def write_idx(file, array):
    head = bytes((0, 0, 8, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    file.write_bytes(
        gzip.compress(head + array.tobytes()) if file.suffix == ".gz" else head + array.tobytes()
    )


def write_mnist(folder, suffix):
    pixels, labels = RNG.integers(0, 256, (20, 28, 28), dtype=np.uint8), np.arange(20, dtype=np.uint8) % 10
    for prefix in ("train", "t10k"):
        write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", pixels)
        write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)
    return pixels, labels


def write_folders(folder, parts=("train", "test"), size=(9, 7), formats=("png", "jpg", "bmp")):
    for part in parts:
        for label, name in enumerate(("cat", "dog")):
            (folder / part / name).mkdir(parents=True)
            for number in range(4):
                image = Image.new("RGB", size, (label * 200, 50, number * 10))
                image.save(folder / part / name / f"{number}.{formats[number % len(formats)]}")
