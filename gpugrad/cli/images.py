"""Image files as the 28x28 arrays a network was trained on."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np

from .data import SIDE

_PNG = b"\x89PNG\r\n\x1a\n"
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
LARGEST = 50_000_000
"""Pixels of an image: more is taken for a mistake, or for an attack."""


def read_image(path: Path) -> np.ndarray:
    """An image file as grey values from 0 to 255: float64, (height, width).

    PNG files are read here; other formats, and interlaced PNG, need Pillow.
    Transparent parts are white.

    Raises:
        OSError: it cannot be read.
        ValueError: it is no image, or a damaged one.
    """
    content = path.read_bytes()
    try:
        pixels = read_png(content) if content.startswith(_PNG) and content[28:29] == b"\0" else _read_with_pillow(path)
    except (ValueError, zlib.error) as error:
        raise ValueError(f"{path}: {error}") from None
    except struct.error:
        raise ValueError(f"{path}: the PNG file is cut short") from None
    color, alpha = pixels[..., :-1], pixels[..., -1:] / 255
    color = color * alpha + 255 * (1 - alpha)
    return color @ [0.299, 0.587, 0.114]


def _read_with_pillow(path: Path) -> np.ndarray:
    try:
        import PIL.Image
    except ImportError:
        raise ValueError("it is no plain PNG, and other formats need Pillow: pip install pillow") from None
    try:
        with PIL.Image.open(path) as image:
            if image.width * image.height > LARGEST:
                raise ValueError(f"{image.width} x {image.height} pixels are too many")
            return np.asarray(image.convert("RGBA"))
    except (OSError, SyntaxError, PIL.Image.DecompressionBombError):
        raise ValueError("it is no image that Pillow can read") from None


def read_png(content: bytes) -> np.ndarray:
    """A PNG without interlacing as (height, width, 4): red, green, blue and opacity, uint8.

    After the PNG specification (ISO/IEC 15948).

    Raises:
        ValueError, zlib.error, struct.error: the file is damaged.
    """
    at, parts, palette, opacity = len(_PNG), [], b"", b""
    width, height, depth, kind, _, _, interlaced = struct.unpack(">IIBBBBB", content[16:29])
    while at < len(content):
        size, name = struct.unpack(">I4s", content[at : at + 8])
        body = content[at + 8 : at + 8 + size]
        if zlib.crc32(name + body) != struct.unpack(">I", content[at + 8 + size : at + 12 + size])[0]:
            raise ValueError("the PNG file is damaged: a checksum is wrong")
        if name == b"IDAT":
            parts.append(body)
        elif name == b"PLTE":
            palette = body
        elif name == b"tRNS":
            opacity = body
        at += 12 + size
    if interlaced or kind not in _CHANNELS or depth not in (1, 2, 4, 8, 16) or not 0 < width * height <= LARGEST:
        raise ValueError(f"a PNG of {width} x {height} pixels of type {kind}, depth {depth} is not supported")
    channels = _CHANNELS[kind]
    pitch = -(-width * channels * depth // 8)
    unpacker = zlib.decompressobj()
    lines = np.frombuffer(unpacker.decompress(b"".join(parts), height * (pitch + 1)), np.uint8)
    if lines.size != height * (pitch + 1):
        raise ValueError("the PNG file is cut short")
    rows = _unfilter(lines.reshape(height, pitch + 1), max(1, channels * depth // 8))
    if depth == 16:
        samples = rows[:, ::2]
    elif depth == 8:
        samples = rows
    else:
        bits = np.unpackbits(rows, axis=1)[:, : width * depth].reshape(height, width, depth)
        samples = bits @ (1 << np.arange(depth)[::-1]).astype(np.uint8)
        samples = samples if kind == 3 else samples * (255 // (2**depth - 1))
    samples = samples.reshape(height, width, channels)
    result = np.full((height, width, 4), 255, np.uint8)
    if kind == 3:
        table = np.full((256, 4), 255, np.uint8)
        table[: len(palette) // 3, :3] = np.frombuffer(palette, np.uint8).reshape(-1, 3)
        table[: len(opacity), 3] = np.frombuffer(opacity, np.uint8)
        return table[samples[..., 0]]
    result[..., :3] = samples[..., :3] if channels > 2 else samples[..., :1]
    if channels in (2, 4):
        result[..., 3] = samples[..., -1]
    return result


def _unfilter(lines: np.ndarray, step: int) -> np.ndarray:
    """Undo what made each row of a PNG easier to compress; ``step`` is the bytes of a pixel."""
    above = bytearray(lines.shape[1] - 1)
    rows = []
    for line in lines:
        row = bytearray(line[1:].tobytes())
        kind = line[0]
        if kind == 2:
            row = bytearray((line[1:] + np.frombuffer(above, np.uint8)).tobytes())
        elif kind == 1:
            for k in range(step, len(row)):
                row[k] = (row[k] + row[k - step]) & 255
        elif kind in (3, 4):
            for k in range(len(row)):
                left, corner = (row[k - step], above[k - step]) if k >= step else (0, 0)
                guess = (left + above[k]) // 2 if kind == 3 else _nearest(left, above[k], corner)
                row[k] = (row[k] + guess) & 255
        elif kind:
            raise ValueError("the PNG file is damaged: unknown filter")
        rows.append(row)
        above = row
    return np.frombuffer(b"".join(rows), np.uint8).reshape(len(lines), -1)


def _nearest(left: int, above: int, corner: int) -> int:
    """Of three neighbours the one nearest to left + above - corner (Paeth)."""
    to_left, to_above, to_corner = abs(above - corner), abs(left - corner), abs(left + above - 2 * corner)
    if to_left <= to_above and to_left <= to_corner:
        return left
    return above if to_above <= to_corner else corner


def prepare(image: np.ndarray, dataset: str) -> tuple[np.ndarray, str]:
    """Bring an image into the form of the data set, and say what was done to it.

    Both data sets show light things on black in 28x28 pixels.  A digit of MNIST fills a
    box of 20x20 whose centre of mass is the centre of the image; a piece of clothing
    fills the image.

    Returns:
        (28, 28) uint8, and the changes made ("" when none was needed).
    """
    notes = []
    border = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
    if np.median(border) > 127:
        image = 255 - image
        notes.append("inverted, as its background is light")
    if image.shape != (SIDE, SIDE):
        notes.append(f"resized from {image.shape[1]}x{image.shape[0]}")
        image = _fit(image, dataset)
    return np.clip(np.rint(image), 0, 255).astype(np.uint8), ", ".join(notes)


def _fit(image: np.ndarray, dataset: str) -> np.ndarray:
    background = np.median(np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]]))
    image = np.clip(image - background, 0, None)
    peak = image.max()
    result = np.zeros((SIDE, SIDE))
    if peak == 0:
        return result
    image = image * (255 / peak)
    inside = image > 51  # a fifth of full light: not the noise of a photograph
    rows, columns = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    image = image[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = 20 if dataset == "mnist" else SIDE
    scale = side / max(image.shape)
    height, width = (max(1, round(n * scale)) for n in image.shape)
    image = _averages(image.shape[0], height) @ image @ _averages(image.shape[1], width).T
    top, left = (SIDE - height) / 2, (SIDE - width) / 2
    if dataset == "mnist":
        mass = image.sum()
        top = SIDE / 2 - ((np.arange(height) + 0.5) @ image.sum(1)) / mass
        left = SIDE / 2 - ((np.arange(width) + 0.5) @ image.sum(0)) / mass
    top, left = (int(np.clip(round(x), 0, SIDE - n)) for x, n in ((top, height), (left, width)))
    result[top : top + height, left : left + width] = image
    return result


def _averages(old: int, new: int) -> np.ndarray:
    """The matrix (new, old) that averages a row of ``old`` pixels over the part of it that each of ``new`` covers."""
    edges = np.arange(new + 1) * (old / new)
    pixel = np.arange(old)
    covered = np.minimum(edges[1:, None], pixel + 1) - np.maximum(edges[:-1, None], pixel)
    return np.clip(covered, 0, None) * (new / old)
