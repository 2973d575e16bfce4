"""Decoding untrusted images, and the geometry of preprocessing."""

import contextlib
import io

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, features
from torchvision.transforms import functional

from vfs_ops.errors import ImageError, SpecError
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.images import decoding


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> np.ndarray:
    shape = (height, width) if channels == 1 else (height, width, channels)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


def encode(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decoded(image: Image.Image, kind: str = "PNG", **options: object) -> np.ndarray:
    return np.asarray(decoding.decode_image(encode(image, kind, **options)))


def test_rgb_and_gray_keep_their_values() -> None:
    for channels in (1, 3):
        pixels = noise(5, 7, channels)
        image = decoding.decode_image(encode(Image.fromarray(pixels)))
        assert image.mode == ("L" if channels == 1 else "RGB")
        np.testing.assert_array_equal(np.asarray(image), pixels)


@pytest.mark.parametrize("kind", decoding.FORMATS)
def test_every_format_of_the_list_is_decoded(kind: str) -> None:
    image = decoding.decode_image(encode(Image.new("RGB", (16, 9), (200, 100, 50)), kind))
    assert (image.mode, image.size) == ("RGB", (16, 9))
    assert np.abs(np.asarray(image).astype(int) - (200, 100, 50)).max() <= 8


def test_a_format_off_the_list_is_refused() -> None:
    for kind in ("PPM", "ICO", "PCX", "TGA", "EPS"):
        with pytest.raises(ImageError, match="no image of a known format"):
            decoding.decode_image(encode(Image.new("RGB", (16, 16)), kind))


def test_alpha_is_composited_over_white() -> None:
    rgba = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    expected = [[[10, 20, 30], [255, 255, 255], [127, 127, 127]]]
    np.testing.assert_array_equal(decoded(Image.fromarray(rgba)), expected)
    gray = Image.merge("LA", [Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 0)])
    assert decoded(gray).tolist() == [[255]]
    opaque = Image.merge("LA", [Image.new("L", (1, 1), 100), Image.new("L", (1, 1), 255)])
    assert decoded(opaque).tolist() == [[100]]


def test_palettes_with_and_without_transparency() -> None:
    palette = Image.new("P", (2, 1))
    palette.putpalette([255, 0, 0, 0, 0, 255])
    palette.putpixel((1, 0), 1)
    red, blue, white = [255, 0, 0], [0, 0, 255], [255, 255, 255]
    assert decoded(palette).tolist() == [[red, blue]]
    assert decoded(palette, transparency=0).tolist() == [[white, blue]]
    assert decoded(palette, transparency=bytes([255, 0])).tolist() == [[red, white]]
    assert decoded(palette, "GIF", transparency=1).tolist() == [[red, white]]


def test_a_transparent_colour_without_alpha_channel_becomes_white() -> None:
    rgb = Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8))
    assert decoded(rgb, transparency=(1, 2, 3)).tolist() == [[[255, 255, 255], [4, 5, 6]]]
    gray = Image.fromarray(np.array([[1, 4]], np.uint8))
    assert decoded(gray, transparency=4).tolist() == [[1, 255]]


def test_sixteen_bit_is_divided_by_257_and_rounded() -> None:
    values = np.array([[0, 128, 129, 257, 385, 386, 65535, 65406]], np.uint16)
    expected = np.rint(values / 257).astype(np.uint8)
    for kind in ("PNG", "TIFF"):
        image = decoding.decode_image(encode(Image.fromarray(values), kind))
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), expected)
    assert decoded(Image.fromarray(values), transparency=257)[0, 3] == 255
    np.testing.assert_array_equal(np.asarray(decoding.decode_pixels(values)), expected)


def test_big_endian_sixteen_bit() -> None:
    values = np.array([[0, 257, 65535]], ">u2")
    image = Image.frombytes("I;16B", (3, 1), values.tobytes())
    assert np.asarray(decoding.decode_pixels(image)).tolist() == [[0, 1, 255]]


def test_cmyk_is_converted_by_pillow() -> None:
    image = Image.fromarray(noise(8, 8, 4), "RGBA").convert("RGB").convert("CMYK")
    data = encode(image, "JPEG", quality=95)
    result = decoding.decode_image(data)
    assert result.mode == "RGB"
    np.testing.assert_array_equal(
        np.asarray(result), np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    )


@pytest.mark.parametrize("mode", ["I", "F"])
def test_thirty_two_bit_grayscale_is_refused(mode: str) -> None:
    with pytest.raises(ImageError, match="32-bit grayscale"):
        decoding.decode_image(encode(Image.new(mode, (4, 4)), "TIFF"))
    with pytest.raises(ImageError, match="32-bit grayscale"):
        decoding.decode_pixels(Image.new(mode, (4, 4)))


def test_bilevel_becomes_gray() -> None:
    assert decoded(Image.fromarray(np.array([[True, False]]))).tolist() == [[255, 0]]


EXIF_FORMATS = [f for f in ("JPEG", "PNG", "WEBP", "TIFF", "AVIF") if f in decoding.FORMATS]


@pytest.mark.parametrize("kind", EXIF_FORMATS)
@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied_once(kind: str, orientation: int) -> None:
    # A dark corner at the stored top left; EXIF names where the stored origin is to be shown.
    pixels = np.full((16, 32, 3), 255, np.uint8)
    pixels[:8, :16] = 0
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"quality": 95} if kind != "PNG" else {}
    result = decoded(Image.fromarray(pixels), kind, exif=exif, **options)
    assert result.shape[:2] == ((16, 32) if orientation < 5 else (32, 16))
    bottom, right = orientation in (3, 4, 7, 8), orientation in (2, 3, 6, 7)
    corner = result[-3 if bottom else 2, -3 if right else 2]
    assert corner.max() < 60
    assert sum(result[y, x].max() < 60 for y in (2, -3) for x in (2, -3)) == 1


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_corrupt_exif_does_not_cost_the_image() -> None:
    data = encode(Image.new("RGB", (8, 8)), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert decoding.decode_image(data).size == (8, 8)


def test_the_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue")]
    for kind in ("GIF", "WEBP", "TIFF", "PNG"):
        options = {"lossless": True} if kind == "WEBP" else {}
        result = decoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
        assert result[0, 0].tolist() == [255, 0, 0]


def test_one_pixel() -> None:
    assert decoding.decode_image(encode(Image.new("RGB", (1, 1)))).size == (1, 1)


def test_a_bomb_is_refused_from_its_header() -> None:
    small = encode(Image.new("L", (1, 1)))
    for side in (10_000, 60_000):  # above our limit; above twice Pillow's
        header = b"IHDR" + side.to_bytes(4, "big") * 2 + small[24:29]
        bomb = small[:12] + header + decoding.zlib.crc32(header).to_bytes(4, "big") + small[33:]
        with pytest.raises(ImageError, match="pixels"):
            decoding.decode_image(bomb)


def test_our_own_limit_is_applied_before_anything_is_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "MAX_PIXELS", 99)
    data = encode(Image.fromarray(noise(10, 10)))
    with pytest.raises(ImageError, match="10 × 10 pixels"):
        decoding.decode_image(data[:60])  # no more than the header
    with pytest.raises(ImageError, match="at most 99 pixels"):
        decoding.decode_pixels(noise(10, 10))


def test_limits_are_at_most_those_of_pillow() -> None:
    assert Image.MAX_IMAGE_PIXELS is not None
    assert decoding.MAX_PIXELS <= Image.MAX_IMAGE_PIXELS


def test_a_large_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(decoding, "MAX_BYTES", 10)
    with pytest.raises(ImageError, match="at most 10"):
        decoding.decode_image(bytes(11))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "GIF", "BMP", "TIFF", "WEBP"])
def test_a_truncated_file_is_refused(kind: str) -> None:
    data = encode(Image.fromarray(noise(64, 64)), kind)
    for keep in (0.1, 0.5, 0.9):
        with pytest.raises(ImageError):
            decoding.decode_image(data[: int(len(data) * keep)])


def test_reasons_are_one_short_line_without_addresses() -> None:
    for data in (b"", b"no image", encode(Image.new("RGB", (64, 64)), "JPEG")[:300]):
        with pytest.raises(ImageError) as caught:
            decoding.decode_image(data)
        text = str(caught.value)
        assert text.isprintable()
        assert len(text) < 250
        assert "0x" not in text


@given(st.binary(max_size=400))
def test_arbitrary_bytes_decode_or_raise_an_image_error(data: bytes) -> None:
    for prefix in (b"", b"\xff\xd8\xff\xe0", b"\x89PNG\r\n\x1a\n", b"II*\x00", b"GIF89a", b"BM"):
        with contextlib.suppress(ImageError):
            decoding.decode_image(prefix + data)


SEEDS = [
    encode(Image.fromarray(noise(12, 10, channels)), kind)
    for kind in decoding.FORMATS
    for channels in (1, 3, 4)
    if not (kind == "JPEG" and channels == 4)
]
SEEDS.append(encode(Image.fromarray(noise(12, 10)).convert("P"), transparency=bytes(range(200))))
SEEDS.append(encode(Image.fromarray(noise(12, 10)), "JPEG", exif=Image.Exif(), progressive=True))
SEEDS.append(encode(Image.fromarray(noise(12, 10)), "TIFF", compression="tiff_lzw"))


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None, max_examples=200)
@given(st.data())
def test_corrupt_files_decode_or_raise_an_image_error(data: st.DataObject) -> None:
    seed = bytearray(data.draw(st.sampled_from(SEEDS)))
    places = st.integers(0, len(seed) - 1)
    for _ in range(data.draw(st.integers(1, 8))):
        seed[data.draw(places)] = data.draw(st.integers(0, 255))
    start = data.draw(places)
    del seed[start : start + data.draw(st.integers(0, 40))]
    try:
        mode = decoding.decode_image(bytes(seed)).mode
    except ImageError:
        mode = "refused"
    assert mode in ("L", "RGB", "refused")


def test_arrays_and_open_images_follow_the_same_rules() -> None:
    pixels = noise(4, 6, 4)
    image = Image.fromarray(pixels)
    expected = decoded(image)
    np.testing.assert_array_equal(np.asarray(decoding.decode_pixels(image)), expected)
    np.testing.assert_array_equal(np.asarray(decoding.decode_pixels(pixels)), expected)
    assert decoding.decode_pixels(noise(4, 6, 1)[:, :, None]).mode == "L"
    assert np.asarray(decoding.decode_pixels(np.eye(2, dtype=bool))).tolist() == [
        [255, 0],
        [0, 255],
    ]
    rgb = Image.new("RGB", (2, 2))
    assert decoding.decode_pixels(rgb) is not rgb


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((4, 4)),
        np.zeros((4, 4, 2), np.uint8),
        np.zeros((4, 4, 3), np.uint16),
        np.zeros((0, 4), np.uint8),
        np.zeros(4, np.uint8),
        np.zeros((1, 4, 4, 3), np.uint8),
        np.array("text"),
    ],
)
def test_other_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(ImageError, match="expected"):
        decoding.decode_pixels(array)


def test_digests_are_pinned() -> None:
    assert decoding.content_digest(b"abc").hex().startswith("ba7816bf8f01cfea414140de5dae2223")
    gray = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(2, 3))
    assert decoding.pixel_digest(gray) == decoding.content_digest(b"L:3x2:\0\1\2\3\4\5")
    tall = Image.fromarray(np.arange(6, dtype=np.uint8).reshape(3, 2))
    assert decoding.pixel_digest(tall) != decoding.pixel_digest(gray)


sides = st.integers(1, 60)
MODES = {
    "nearest": functional.InterpolationMode.NEAREST,
    "bilinear": functional.InterpolationMode.BILINEAR,
    "bicubic": functional.InterpolationMode.BICUBIC,
    "lanczos": functional.InterpolationMode.LANCZOS,
}


@settings(deadline=None)
@given(
    sides, sides, st.integers(1, 40), st.tuples(sides, sides), st.booleans(),
    st.sampled_from(list(MODES)),
    st.sampled_from([1, 3]), st.sampled_from(["rgb", "gray"]),
)  # fmt: skip
def test_fit_agrees_with_torchvision(
    height: int, width: int, side: int, crop: tuple[int, int], exact: bool, interpolation: str,
    channels: int, color: str,
) -> None:  # fmt: skip
    image = Image.fromarray(noise(height, width, channels))
    size = crop if exact else (side,)
    resize = Resize("exact" if exact else "short", size, interpolation)  # type: ignore[arg-type]
    result = decoding.fit(image, Preprocessing(resize, crop, color))  # type: ignore[arg-type]
    mode = "RGB" if color == "rgb" else "L"
    expected = functional.resize(image.convert(mode), list(size), MODES[interpolation])
    expected = np.asarray(functional.center_crop(expected, list(crop)))
    assert result.shape == (*crop, 3 if color == "rgb" else 1)
    np.testing.assert_array_equal(result, expected.reshape(result.shape))


@settings(deadline=None)
@given(sides, sides, sides, sides, st.sampled_from(["bilinear", "bicubic"]))
def test_without_antialias_fit_agrees_with_torch(
    height: int, width: int, new_height: int, new_width: int, interpolation: str
) -> None:
    pixels = noise(height, width)
    resize = Resize("exact", (new_height, new_width), interpolation, antialias=False)  # type: ignore[arg-type]
    result = decoding.fit(Image.fromarray(pixels), Preprocessing(resize, None))
    tensor = torch.from_numpy(pixels).permute(2, 0, 1)[None].double()
    expected = torch.nn.functional.interpolate(tensor, (new_height, new_width), mode=interpolation)
    expected = expected[0].permute(1, 2, 0).clamp(0, 255).numpy()
    assert np.abs(result - expected).max() <= 0.5 + 1e-3


def test_fit_refuses_what_is_not_defined_or_too_thin() -> None:
    with pytest.raises(SpecError, match="lanczos"):
        decoding.fit(
            Image.new("L", (4, 4)), Preprocessing(Resize("exact", (2, 2), "lanczos", False), None)
        )
    with pytest.raises(ImageError, match="too thin"):
        decoding.fit(Image.new("L", (100_000, 1)), Preprocessing(Resize("short", (256,)), (8, 8)))


def test_avif_is_on_the_list_where_pillow_has_it() -> None:
    assert ("AVIF" in decoding.FORMATS) == features.check("avif")
