"""Small valid objects for tests."""

import numpy as np

from vfs_ops.plans import Plan
from vfs_ops.spec import CacheSpec, ExtractorSpec, Preprocessing, Resize


def make_plan(**changes):
    values = {
        "cache": "a" * 64,
        "dataset": "b" * 64,
        "images": 100,
        "grid": (3, 4),
        "channels": 5,
        "dtype": "float16",
        "images_per_shard": 32,
        "images_per_chunk": 4,
        "batch_size": 16,
        "codec": "none",
        "sample_ratio": 1.1,
        "weights": "random:0",
        "versions": {"torch": "2"},
    }
    return Plan(**{**values, **changes})


def make_cache_spec(images="c" * 64, dtype="float16", **extractor):
    """Return the identity of a cache of a model that never existed."""
    values = {
        "model": "custom:toy",
        "weights": "d" * 64,
        "layer": "body.1",
        "output": None,
        "axes": "nchw",
        "prefix_tokens": 0,
        "preprocessing": Preprocessing(resize=Resize("exact", (24, 32)), crop=None),
    }
    return CacheSpec(images=images, extractor=ExtractorSpec(**{**values, **extractor}), dtype=dtype)


def random_maps(plan, images, seed=0):
    """Return feature maps that the plan's dtype holds exactly."""
    values = np.random.default_rng(seed).integers(-9, 9, (images, *plan.image_shape))
    return values.astype(plan.dtype)
