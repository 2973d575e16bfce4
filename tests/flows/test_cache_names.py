from dataclasses import replace

import pytest
from makers import make_cache_spec, make_extractor

import catalog
from flows.cache_names import cache_name, cache_names, register
from vfs_ops.builds.builder import build
from vfs_ops.errors import InvalidNameError, NameTakenError

RECIPE = {"precision": "float32", "dtype": "float16"}


@pytest.fixture
def named(caches):
    """Register the caches of both layers of the toy under the names made up for them."""
    specs = [cache.spec.extractor for cache in caches]
    names = cache_names(caches[0].workspace, "photos", specs, **RECIPE)
    for name, cache in zip(names, caches, strict=True):
        catalog.register_cache(cache.workspace, name, cache, dataset_name="photos")
    return caches[0].workspace, specs, names


def test_names_tell_library_model_and_layer():
    assert cache_name("photos", "timm:resnet50", "layer4.1") == "photos-timm-resnet50-layer4.1"
    assert cache_name("a", "efficientnet-lite0", "Blocks[6]") == "a-efficientnet-lite0-blocks-6-"


def test_long_names_keep_apart_what_their_tails_tell():
    names = {cache_name("p" * 100, "timm:x", f"{'layer.' * 20}{number}") for number in range(5)}
    assert len(names) == 5
    assert all(len(name) == 119 for name in names)


def test_the_same_meaning_has_the_same_name(named):
    workspace, specs, names = named
    assert names == ["photos-custom-toy-0", "photos-custom-toy-2"]
    assert cache_names(workspace, "photos", specs, **RECIPE) == names


@pytest.mark.parametrize(
    "changes",
    [{"dtype": "float32"}, {"precision": "bfloat16"}],
)
def test_another_recipe_has_another_name(named, changes):
    workspace, specs, names = named
    others = cache_names(workspace, "photos", specs, **{**RECIPE, **changes})
    assert [other[: len(name)] for other, name in zip(others, names, strict=True)] == names
    assert len({*others, *names}) == 4
    assert others == cache_names(workspace, "photos", specs, **{**RECIPE, **changes})
    with pytest.raises(NameTakenError, match="choose another"):
        cache_names(workspace, "photos", specs[:1], **{**RECIPE, **changes}, name=names[0])


def test_other_weights_have_another_name_and_never_a_version_of_it(named, dataset_of):
    workspace, _, names = named
    extractor = make_extractor(["0"], seed=1)
    [name] = cache_names(workspace, "photos", extractor.specs, **RECIPE)
    assert name.startswith(f"{names[0]}-")
    assert len(name) == len(names[0]) + 9
    [cache] = build(dataset_of, extractor)
    assert catalog.register_cache(workspace, name, cache, dataset_name="photos").version == 1
    assert cache_names(workspace, "photos", extractor.specs, **RECIPE) == [name]


@pytest.fixture
def dataset_of(caches):
    return caches[0].dataset


def test_the_name_of_another_dataset_is_not_taken_over(named):
    workspace, specs, names = named
    with pytest.raises(InvalidNameError, match="another dataset"):
        cache_names(workspace, "pictures", specs[:1], **RECIPE, name=names[0])


def test_a_name_that_was_free_when_it_was_chosen_is_taken_by_one(caches):
    """Both builds have looked before either registers: as two first builds at once do."""
    workspace, specs = caches[0].workspace, [cache.spec.extractor for cache in caches]
    [chosen] = cache_names(workspace, "photos", specs[:1], **RECIPE)
    names = [
        register(workspace, chosen, cache, dataset="photos", given=False).name
        for cache in (*caches, *caches)
    ]
    assert names[0] == names[2] == chosen
    assert names[1] == names[3]
    assert names[1][:-9] == chosen
    for name in names[:2]:
        assert [entry.version for entry in catalog.list_versions(workspace, "cache", name)] == [1]
    with pytest.raises(NameTakenError):
        register(workspace, chosen, caches[1], dataset="photos", given=True)


def test_layers_that_differ_by_case_alone_are_kept_apart(workspace):
    spec = make_cache_spec().extractor
    specs = [replace(spec, layer="body.a"), replace(spec, layer="Body.A")]
    names = cache_names(workspace, "photos", specs, **RECIPE)
    assert len(set(names)) == 2


def test_a_given_name_is_for_one_layer(workspace):
    spec = make_cache_spec().extractor
    assert cache_names(workspace, "photos", [spec], **RECIPE, name="mine") == ["mine"]
    with pytest.raises(InvalidNameError, match="2 layers"):
        cache_names(workspace, "photos", [spec, spec], **RECIPE, name="mine")
    with pytest.raises(InvalidNameError):
        cache_names(workspace, "photos", [spec], **RECIPE, name="../mine")
