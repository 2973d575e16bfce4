import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vfs_ops.errors import ExtractorMismatchError, NewerFormatError, QueryError
from vfs_ops.scans.queries import Query, query_from_image, query_from_row
from vfs_ops.scans.query_recipes import QueryRecipe, parse_recipe

MASK = np.array([[0, 255, 255], [7, 255, 0]], np.uint8)


def document(**changes):
    text = QueryRecipe.of("a" * 64, b"\x01" * 32, MASK, search={"k": 3}).to_json()
    return {**json.loads(text), **changes}


@given(
    arrays(np.uint8, array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 255))
)
def test_any_mask_survives(mask):
    recipe = QueryRecipe.of("a" * 64, b"\x01" * 32, mask, "coverage")
    again = parse_recipe(recipe.to_json())
    assert again == recipe
    np.testing.assert_array_equal(again.mask, mask)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "no JSON"),
        ("[" * 100_000, "no JSON"),
        ("[]", "no recipe of a query"),
        (json.dumps(document(kind="cache")), "no recipe"),
        (json.dumps(document(format="1")), "format"),
        (json.dumps(document(path="/etc/passwd")), "set of fields is \\['path'\\]"),
        (json.dumps(document(extractor="../../x")), "extractor"),
        (json.dumps(document(image={"sha256": "x", "width": 3, "height": 2})), "sha256"),
        (json.dumps(document(image={"sha256": "a" * 64, "width": 10**9, "height": 10**9})), "size"),
        (json.dumps(document(image={"sha256": "a" * 64, "width": True, "height": 2})), "size"),
        (
            json.dumps(
                document(region={"runs": [10**12], "values": [0], "downsample": "bilinear"})
            ),
            "runs",
        ),
        (
            json.dumps(document(region={"runs": [5], "values": [0], "downsample": "bilinear"})),
            "sum",
        ),
        (
            json.dumps(document(region={"runs": [6], "values": [300], "downsample": "bilinear"})),
            "values",
        ),
        (
            json.dumps(document(region={"runs": [6], "values": [], "downsample": "bilinear"})),
            "values",
        ),
        (
            json.dumps(document(region={"runs": [6], "values": [0], "downsample": "x"})),
            "downsample",
        ),
        (json.dumps(document(search={"k": 0})), "k"),
        (json.dumps(document(search={"where": "label == 1"})), "where"),
        (json.dumps(document(search={"image": "/etc/passwd"})), "set of options"),
        ("x" * (5 << 20), "at most"),
    ],
)
def test_what_is_no_recipe_is_refused(text, message):
    with pytest.raises(QueryError, match=message):
        parse_recipe(text)


def test_a_newer_format_is_told_apart():
    with pytest.raises(NewerFormatError, match="upgrade"):
        parse_recipe(json.dumps(document(format=2)))


def test_a_recipe_makes_the_same_query(cache, extractor, photos):
    query = query_from_row(cache, 3, boxes=[(5, 5, 40, 30)])
    text = query.to_recipe().to_json()
    assert len(text) < 3000
    again = Query.from_recipe(text, cache)
    np.testing.assert_array_equal(again.features, query.features)
    np.testing.assert_array_equal(again.region.weights, query.region.weights)
    [uri] = cache.dataset.rows([3], ["uri"])["uri"].to_pylist()
    image = (photos / uri).read_bytes()
    through_model = Query.from_recipe(text, cache, image=image, extractor=extractor)
    expected = query_from_image(extractor, image, layer="0", boxes=[(5, 5, 40, 30)])
    np.testing.assert_array_equal(through_model.features, expected.features)


def test_a_recipe_is_not_used_for_something_else(caches, extractor):
    recipe = query_from_row(caches[0], 3).to_recipe()
    with pytest.raises(ExtractorMismatchError, match="choose the cache"):
        Query.from_recipe(recipe, caches[1])
    with pytest.raises(QueryError, match="extractor="):
        Query.from_recipe(recipe, caches[0], image=np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(QueryError, match="the file that the query was made of"):
        Query.from_recipe(
            recipe, caches[0], image=np.zeros((48, 64, 3), np.uint8), extractor=extractor
        )
    foreign = QueryRecipe.of(recipe.extractor, b"\x05" * 32, recipe.mask)
    with pytest.raises(QueryError, match="is not in dataset"):
        Query.from_recipe(foreign, caches[0])
