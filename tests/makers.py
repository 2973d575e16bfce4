"""Small valid objects for tests."""

from vfs_ops.plans import Plan


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
