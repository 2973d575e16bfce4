"""Documents of extractors and caches: round trips, pinned ids, refusals."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from vfs_ops.errors import DamagedError, NewerFormatError, SpecError
from vfs_ops.identity.canonical import canonical_json, document_id
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.identity.spec import (
    NULL_DIGEST,
    CacheSpec,
    ExtractorSpec,
    images_document,
    shard_inputs,
)

LITE = Preprocessing(
    resize=Resize("short", (256,), "bicubic"),
    crop=(224, 224),
    mean=(0.5, 0.5, 0.5),
    std=(0.5, 0.5, 0.5),
)
EXTRACTOR = ExtractorSpec(
    model="efficientnet-lite0",
    weights="0" * 64,
    layer="blocks.6",
    output=None,
    axes="nchw",
    prefix_tokens=0,
    preprocessing=LITE,
)
CACHE = CacheSpec(images="1" * 64, extractor=EXTRACTOR)

sides = st.integers(1, 16_384)
pairs = st.tuples(sides, sides)
numbers = st.floats(-1e6, 1e6)
interpolations = st.sampled_from(["nearest", "bilinear", "bicubic", "lanczos"])
exact = st.builds(Resize, st.just("exact"), pairs, interpolations, st.booleans())
short = st.builds(Resize, st.just("short"), st.tuples(sides), interpolations, st.booleans())


@st.composite
def preprocessings(draw: st.DrawFn) -> Preprocessing:
    resize = draw(exact | short | st.none())
    crop = draw(pairs if resize is None or resize.mode == "short" else pairs | st.none())
    color = draw(st.sampled_from(["rgb", "gray"]))
    channels = 3 if color == "rgb" else 1
    low = draw(st.integers(-2000, 2000) | numbers)
    return Preprocessing(
        resize=resize,
        crop=crop,
        color=color,
        value_range=(low, low + draw(st.floats(0.125, 5000))),
        mean=draw(st.none() | st.tuples(*[numbers] * channels)),
        std=draw(st.none() | st.tuples(*[st.floats(0.001, 1e6)] * channels)),
    )


@st.composite
def extractors(draw: st.DrawFn) -> ExtractorSpec:
    axes = draw(st.sampled_from(["nchw", "nhwc", "tokens"]))
    return ExtractorSpec(
        model=draw(st.text("abc:-0", min_size=1)),
        weights=draw(st.text("0123456789abcdef", min_size=64, max_size=64)),
        layer=draw(st.text("abc.0")),
        output=draw(st.none() | st.integers(0, 9) | st.text("abc")),
        axes=axes,
        prefix_tokens=draw(st.integers(0, 5)) if axes == "tokens" else 0,
        preprocessing=draw(preprocessings()),
    )


caches = st.builds(
    CacheSpec,
    images=st.text("0123456789abcdef", min_size=64, max_size=64),
    extractor=extractors(),
    precision=st.sampled_from(["float32", "bfloat16", "float16"]),
    dtype=st.sampled_from(["float16", "float32"]),
    origin=st.sampled_from(["built", "imported:" + "5" * 64]),
)


@given(caches)
def test_documents_read_back_with_their_ids(spec: CacheSpec) -> None:
    stored = json.loads(canonical_json(spec.document()))
    again = CacheSpec.from_document(stored)
    assert again.id == spec.id
    assert again.document() == spec.document()
    assert again.extractor.id == spec.extractor.id
    assert Preprocessing.from_document(stored["extractor"]["preprocessing"]) is not None


@given(caches, caches)
def test_different_specs_have_different_ids(one: CacheSpec, two: CacheSpec) -> None:
    assert (one.id == two.id) == (canonical_json(one.document()) == canonical_json(two.document()))


def test_ids_are_pinned() -> None:
    # Whoever changes these changes the identity of every cache there is.
    assert EXTRACTOR.id == "6c02a5f628cf2ff12aea8d2766cd9ae4e8297ef031fca013fc30e613b0fdeaa9"
    assert CACHE.id == "bdfb9a4bc95cd221b9758aec6abf2e4b52d66c9c41a4b00eefd7b47610225752"
    images = images_document([b"\x01" * 32, NULL_DIGEST])
    assert document_id(images) == "dd84854d9b389dba7f18a07286562b7e2a3ddadff1bfd072c87c743b13b19e33"
    assert (
        shard_inputs(CACHE, [b"\x01" * 32, NULL_DIGEST])
        == "fc1f849f4abb6723477c8852bdba9b5ad3d8177037e3f6e1f57038b239561833"
    )


def test_integers_and_floats_make_one_identity() -> None:
    whole = replace(LITE, value_range=(0, 1), mean=(1, 0, 0), std=(1, 1, 1))
    real = replace(LITE, value_range=(0.0, 1.0), mean=(1.0, 0.0, -0.0), std=(1.0, 1.0, 1.0))
    assert replace(EXTRACTOR, preprocessing=whole).id == replace(EXTRACTOR, preprocessing=real).id


CHANGES: list[dict[str, Any]] = [
    {"model": "efficientnet-lite1"},
    {"weights": "2" * 64},
    {"layer": "blocks.5"},
    {"output": 0},
    {"output": "out"},
    {"axes": "nhwc"},
    {"axes": "tokens"},
    {"axes": "tokens", "prefix_tokens": 1},
    {"preprocessing": replace(LITE, crop=(224, 225))},
    {"preprocessing": replace(LITE, resize=None)},
    {"preprocessing": replace(LITE, resize=Resize("short", (255,), "bicubic"))},
    {"preprocessing": replace(LITE, resize=Resize("short", (256,), "bilinear"))},
    {"preprocessing": replace(LITE, resize=Resize("short", (256,), "bicubic", False))},
    {"preprocessing": replace(LITE, resize=Resize("exact", (256, 256), "bicubic"))},
    {"preprocessing": replace(LITE, value_range=(-1024.0, 1024.0))},
    {"preprocessing": replace(LITE, mean=None)},
    {"preprocessing": replace(LITE, std=None)},
    {"preprocessing": replace(LITE, color="gray", mean=(0.5,), std=(0.5,))},
]


def test_every_part_of_an_extractor_is_in_its_id() -> None:
    ids = [EXTRACTOR.id, *(replace(EXTRACTOR, **change).id for change in CHANGES)]
    assert len(set(ids)) == len(ids)


def test_every_part_of_a_cache_is_in_its_id_and_in_the_inputs_of_a_shard() -> None:
    changes: list[dict[str, Any]] = [
        {"precision": "bfloat16"},
        {"dtype": "float32"},
        {"origin": "imported:" + "5" * 64},
        {"extractor": replace(EXTRACTOR, layer="x")},
    ]
    specs = [CACHE, *(replace(CACHE, **change) for change in changes)]
    assert len({spec.id for spec in specs}) == len(specs)
    assert len({shard_inputs(spec, [NULL_DIGEST]) for spec in specs}) == len(specs)
    grown = replace(CACHE, images="3" * 64)
    assert grown.id != CACHE.id
    assert shard_inputs(grown, [NULL_DIGEST]) == shard_inputs(CACHE, [NULL_DIGEST])


def test_images_ids_know_number_and_order() -> None:
    one, two = b"\x01" * 32, b"\x02" * 32
    lists = [[], [one], [one, one], [one, two], [two, one], [one, NULL_DIGEST], [NULL_DIGEST]]
    assert len({document_id(images_document(digests)) for digests in lists}) == len(lists)
    with pytest.raises(SpecError, match="expected 32"):
        images_document([b"short"])


@pytest.mark.parametrize(
    "make",
    [
        lambda: Resize("long", (3,)),  # type: ignore[arg-type]
        lambda: Resize("short", (3, 4)),
        lambda: Resize("exact", (3,)),
        lambda: Resize("exact", (0, 3)),
        lambda: Resize("exact", (3, 16_385)),
        lambda: Resize("exact", (3.0, 3.0)),  # type: ignore[arg-type]
        lambda: Resize("exact", (True, True)),
        lambda: Resize("exact", (3, 3), "area"),  # type: ignore[arg-type]
        lambda: Preprocessing(None, None),
        lambda: Preprocessing(Resize("short", (3,)), None),
        lambda: Preprocessing(None, (3, 3), "bgr"),  # type: ignore[arg-type]
        lambda: replace(LITE, value_range=(1.0, 1.0)),
        lambda: replace(LITE, value_range=(0.0, float("nan"))),
        lambda: replace(LITE, mean=(0.5,)),
        lambda: replace(LITE, std=(0.5, 0.5, 0.0)),
        lambda: replace(LITE, std=(0.5, 0.5, float("nan"))),
        lambda: replace(LITE, mean=(0.5, 0.5, float("nan"))),
        lambda: replace(LITE, value_range=(0.0, float("inf"))),
        lambda: replace(EXTRACTOR, weights="abc"),
        lambda: replace(EXTRACTOR, axes="nhw"),
        lambda: replace(EXTRACTOR, prefix_tokens=1),
        lambda: replace(EXTRACTOR, axes="tokens", prefix_tokens=-1),
        lambda: replace(CACHE, images="x"),
        lambda: replace(CACHE, precision="int8"),
        lambda: replace(CACHE, dtype="float64"),
        lambda: replace(CACHE, origin="found"),
    ],
)
def test_impossible_values_are_refused(make: Any) -> None:
    with pytest.raises(SpecError):
        make()


def paths(value: Any, at: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    inner = value.items() if isinstance(value, dict) else enumerate(value)
    found = [at]
    for key, item in inner if isinstance(value, dict | list) else ():
        found += paths(item, (*at, key)) if isinstance(item, dict | list) else [(*at, key)]
    return found


ALL_PATHS = [path for path in paths(CACHE.document()) if path]
junk = st.sampled_from(
    [None, "", "x", 5, -1, 1.5, True, [], [1], {}, {"a": 1}, [None, None], "9" * 64]
)


@given(st.sampled_from(ALL_PATHS), junk, st.booleans())
def test_changed_documents_are_refused_or_mean_what_they_say(
    path: tuple[Any, ...], value: object, remove: bool
) -> None:
    document = json.loads(canonical_json(CACHE.document()))
    place = document
    for key in path[:-1]:
        place = place[key]
    if remove:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    try:
        spec = CacheSpec.from_document(document)
    except (SpecError, DamagedError, NewerFormatError):
        return
    stored = {key: item for key, item in document.items() if key not in ("kind", "format")}
    read = {key: item for key, item in spec.document().items() if key not in ("kind", "format")}
    if path[-1] not in ("kind", "format"):
        assert read == stored


def test_newer_documents_are_refused() -> None:
    for change in ({"format": 2}, {"format": None}):
        with pytest.raises(NewerFormatError):
            CacheSpec.from_document({**CACHE.document(), **change})
    newer = {**EXTRACTOR.document(), "decoding": {"version": 2}}
    with pytest.raises(NewerFormatError):
        ExtractorSpec.from_document(newer)
    with pytest.raises(SpecError, match="expected exactly"):
        CacheSpec.from_document({**CACHE.document(), "more": 1})
