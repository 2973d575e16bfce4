"""Untrusted bytes to pixels by the rules of `spec.DECODING`, and pixels to a model's input size."""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from typing import Any, Final

import numpy as np
from PIL import ExifTags, Image, UnidentifiedImageError, features

from vfs_ops.errors import ImageError, SpecError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images.interpolation import interpolate

FORMATS: Final = ("JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP") + (
    ("AVIF",) if features.check("avif") else ()
)
"""Pillow's names of the formats that are decoded; no other decoder is ever reached."""

MAX_PIXELS: Final = 89_478_485
"""Width × height above which an image is refused; where Pillow (by default) starts to warn."""

MAX_BYTES: Final = 256 * 2**20
"""Size above which an image file is refused, in bytes."""

# All that Pillow's parsers and decoders are known to raise on garbage. A warning is one where the
# process turned warnings into errors; Pillow's DecompressionBombWarning is among them.
_GARBAGE: Final = (
    OSError,
    SyntaxError,
    ValueError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    AssertionError,
    EOFError,
    RuntimeError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
    Warning,
)

_TRANSPOSE: Final = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""EXIF orientation → what turns the stored pixels upright (EXIF 2.32, tag 0x0112)."""

_RESAMPLE: Final = {
    "nearest": Image.Resampling.NEAREST,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}


def decode_image(data: bytes) -> Image.Image:
    """Decode the bytes of an untrusted image file.

    Parameters
    ----------
    data
        A whole file in one of `FORMATS`.

    Returns
    -------
    PIL.Image.Image
        Of mode ``"L"`` for grayscale files and ``"RGB"`` for all others, upright (the EXIF
        orientation is applied), with transparency composited over white. The first frame of an
        animation.

    Raises
    ------
    ImageError
        If the file is too large, no image, truncated or corrupt, or of 32-bit grayscale.
    """
    if len(data) > MAX_BYTES:
        raise ImageError(f"the file has {len(data)} bytes; expected at most {MAX_BYTES}")
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            _check_size(image)
            image.load()
            return _to_pixels(image)
    except UnidentifiedImageError as error:
        raise ImageError(f"no image of a known format ({', '.join(FORMATS)})") from error
    except _GARBAGE as error:
        raise ImageError(f"cannot be decoded: {one_line(error)}") from error


def decode_pixels(image: Image.Image | np.ndarray[Any, Any]) -> Image.Image:
    """Apply the rules of `decode_image` to an image that is already open, or to an array.

    Parameters
    ----------
    image
        A Pillow image, or an array of shape (height, width) or (height, width, 1 | 3 | 4) of
        dtype bool, uint8 or, with one channel, uint16 (0 to 65535).

    Returns
    -------
    PIL.Image.Image
        Of mode ``"L"`` or ``"RGB"``; never the object that was given.

    Raises
    ------
    ImageError
        If the image is too large or of another mode, or the array of another shape or dtype.
        Floating-point arrays are refused, since their range is not known.
    """
    if isinstance(image, np.ndarray):
        image = _from_array(image)
    try:
        _check_size(image)
        image.load()
        return _to_pixels(image)
    except _GARBAGE as error:
        raise ImageError(f"cannot be decoded: {one_line(error)}") from error


def content_digest(data: bytes) -> bytes:
    """Return the content digest of an image file: the SHA-256 of its bytes."""
    return hashlib.sha256(data).digest()


def pixel_digest(image: Image.Image) -> bytes:
    """Return the content digest of an image without a file: the SHA-256 of mode, size, pixels."""
    header = f"{image.mode}:{image.width}x{image.height}:".encode()
    return hashlib.sha256(header + image.tobytes()).digest()


def fit(image: Image.Image, preprocessing: Preprocessing) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Bring decoded pixels to the model's colour mode and input size.

    Sizes, offsets and values are those of torchvision's ``Resize`` and ``CenterCrop`` on Pillow
    images; without antialiasing those of ``torch.nn.functional.interpolate``.

    Parameters
    ----------
    image
        Mode ``"L"`` or ``"RGB"``, as decoded.
    preprocessing
        Its resize, crop and colour are applied; range, mean and deviation are not.

    Returns
    -------
    numpy.ndarray
        uint8 of shape (height, width, channels).

    Raises
    ------
    ImageError
        If resizing would make an image of more than `MAX_PIXELS` (a very long, thin one).
    SpecError
        If Lanczos interpolation is asked for without antialiasing, which nothing defines.
    """
    mode = "RGB" if preprocessing.color == "rgb" else "L"
    if image.mode != mode:
        image = image.convert(mode)
    if preprocessing.resize is not None:
        image = _resize(image, preprocessing.resize)
    if preprocessing.crop is not None:
        image = image.crop(crop_box(image.size, preprocessing.crop))  # zeros outside the image
    pixels = np.array(image, dtype=np.uint8)
    return pixels.reshape(image.height, image.width, -1)


def resized_size(size: tuple[int, int], resize: Resize) -> tuple[int, int]:
    """Return the (width, height) that an image of `size` (width, height) is resized to.

    Examples
    --------
    >>> resized_size((640, 427), Resize("short", (256,)))
    (383, 256)
    """
    if resize.mode == "exact":
        return resize.size[1], resize.size[0]
    width, height = size
    short, long = sorted(size)
    longer = int(resize.size[0] * long / short)  # torchvision rounds down
    return (resize.size[0], longer) if width <= height else (longer, resize.size[0])


def crop_box(size: tuple[int, int], crop: tuple[int, int]) -> tuple[int, int, int, int]:
    """Return (left, top, right, bottom) of a centred crop, negative where zeros are padded.

    Parameters
    ----------
    size
        (width, height) of the image.
    crop
        (height, width) of the crop.
    """
    left, top = _crop_start(size[0], crop[1]), _crop_start(size[1], crop[0])
    return left, top, left + crop[1], top + crop[0]


def _crop_start(length: int, crop: int) -> int:
    if crop > length:
        return -((crop - length) // 2)
    return round((length - crop) / 2)  # half to even, as torchvision does


def _check_size(image: Image.Image) -> None:
    width, height = image.size
    if width < 1 or height < 1 or width * height > MAX_PIXELS:
        raise ImageError(f"the image is {width} × {height} pixels; at most {MAX_PIXELS} in all")


def _from_array(array: np.ndarray[Any, Any]) -> Image.Image:
    if array.ndim == 3 and array.shape[2] == 1:
        array = array[:, :, 0]
    channels = array.shape[2] if array.ndim == 3 else 1
    known = array.dtype == np.uint8 or (channels == 1 and array.dtype in (np.bool_, np.uint16))
    if array.ndim not in (2, 3) or channels not in (1, 3, 4) or 0 in array.shape or not known:
        raise ImageError(
            f"an array of shape {array.shape} and dtype {array.dtype} is no image; expected "
            "(height, width) or (height, width, 1 | 3 | 4) of uint8, or one channel of uint16 or "
            "bool; scale and convert it, for example (255 * x).round().astype('uint8')"
        )
    if array.shape[0] * array.shape[1] > MAX_PIXELS:  # before it is copied
        raise ImageError(f"the array has shape {array.shape}; at most {MAX_PIXELS} pixels in all")
    if array.dtype == np.bool_:
        array = array * np.uint8(255)
    elif array.dtype == np.uint16:
        array = _eight_bit(array)
    return Image.fromarray(np.ascontiguousarray(array))


def _eight_bit(array: np.ndarray[Any, Any]) -> np.ndarray[Any, np.dtype[np.uint8]]:
    return ((array.astype(np.uint32) + 128) // 257).astype(np.uint8)  # v / 257, rounded


def _to_pixels(image: Image.Image) -> Image.Image:
    orientation = _orientation(image)
    image = _without_alpha(image)
    if orientation in _TRANSPOSE:
        image = image.transpose(_TRANSPOSE[orientation])
    return image


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(ExifTags.Base.Orientation, 1))
    except _GARBAGE:  # unreadable EXIF says nothing; the pixels are as good as without it
        return 1


def _without_alpha(image: Image.Image) -> Image.Image:
    mode, transparency = image.mode, image.info.get("transparency")
    if mode in ("I", "F"):
        raise ImageError(f"32-bit grayscale (mode {mode}) has no known range; save it as 8 or 16")
    if mode.startswith("I;16"):
        values = np.asarray(image)
        eight_bit = _eight_bit(values)
        if isinstance(transparency, int):
            eight_bit[values == transparency] = 255
        return Image.fromarray(eight_bit)
    gray = mode in ("1", "L", "LA", "La")
    if not image.has_transparency_data:
        return image.convert("L" if gray else "RGB") if mode not in ("L", "RGB") else _own(image)
    layered = image.convert("RGBA")
    opaque = layered.convert("RGB")
    canvas = Image.new("RGB", image.size, "white")
    canvas.paste(opaque, mask=layered.getchannel("A"))
    return canvas.getchannel("R") if gray else canvas


def _own(image: Image.Image) -> Image.Image:
    plain = Image.new(image.mode, image.size)  # without metadata, palette or open file
    plain.paste(image)
    return plain


def one_line(error: BaseException) -> str:
    """Return an error's message as one short line of printable text."""
    text = " ".join(str(error).split()) or type(error).__name__
    return "".join(character for character in text if character.isprintable())[:200]


def _resize(image: Image.Image, resize: Resize) -> Image.Image:
    size = resized_size(image.size, resize)
    if size[0] * size[1] > MAX_PIXELS:
        raise ImageError(
            f"an image of {image.width} × {image.height} pixels is too thin: resized it would have "
            f"{size[0]} × {size[1]}, more than {MAX_PIXELS} in all"
        )
    if resize.antialias or resize.interpolation == "nearest":
        return image.resize(size, _RESAMPLE[resize.interpolation])
    if resize.interpolation == "lanczos":
        raise SpecError("lanczos interpolation without antialiasing is not defined; turn it on")
    return Image.fromarray(interpolate(np.asarray(image), size, resize.interpolation))
