"""Small valid objects for tests."""

import numpy as np
import torch
from PIL import Image

from vfs_ops.caches import plans
from vfs_ops.caches.layout import cache_key
from vfs_ops.caches.plans import Plan
from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.identity.spec import CacheSpec, ExtractorSpec
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model


def cut_small(patch):
    """Cut caches into shards of 16 images, chunks of a few and batches of 8."""
    patch.setattr(plans, "BATCH_SIZE", 8)
    patch.setattr(plans, "MAX_IMAGES_PER_SHARD", 16)
    patch.setattr(plans, "CHUNK_BYTES", 2000)


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
        "threads": 1,
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


def write_photos(folder, count, seed=0, first=0):
    """Write small pictures of blobs into ``folder/<label>/<number>.png``, all different."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[:1:48j, :1:64j]
    for number in range(count):
        pixels = np.zeros((48, 64, 3))
        for _ in range(6):
            cy, cx, radius = random.uniform(0.1, 0.9, 3)
            blob = np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / (0.02 + 0.05 * radius))
            pixels += blob[..., None] * random.uniform(0, 255, 3)
        place = folder / ("even" if number % 2 == 0 else "odd")
        place.mkdir(parents=True, exist_ok=True)
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(place / f"{first + number:04d}.png")


def make_extractor(layers=("0", "2"), seed=0, size=32, **options):
    """Return a tiny CNN: layer 0 has 8×8 cells of 6 numbers, layer 2 has 4×4 of 10."""
    random = np.random.RandomState(seed)  # the same numbers in every version of every library
    module = torch.nn.Sequential(
        torch.nn.Conv2d(3, 6, 4, stride=4),
        torch.nn.ReLU(inplace=True),
        torch.nn.Conv2d(6, 10, 2, stride=2),
    )
    with torch.no_grad():
        for parameter in module.parameters():
            values = random.uniform(-0.3, 0.3, tuple(parameter.shape))
            parameter.copy_(torch.from_numpy(values))
    preprocessing = Preprocessing(resize=Resize("exact", (size, size)), crop=None)
    model = load_model(module, name="toy", preprocessing=preprocessing)
    return FeatureExtractor(model, layers, device="cpu", **options)


def stored_bytes(cache):
    """Return every object of a cache but the receipts, which say when and how fast, by its key."""
    stats = cache.workspace.walk(cache_key(cache.id))
    names = [stat.path for stat in stats if "receipts" not in stat.path]
    return {name: cache.workspace.read(name) for name in names if "complete" not in name}
