"""A model whose bits depend on the number of threads, as those of some convolutions do."""

import torch

from vfs_ops.identity.preprocessing import Preprocessing, Resize
from vfs_ops.models.extract import FeatureExtractor
from vfs_ops.models.loading import load_model


class CountsThreads(torch.nn.Module):
    """Pools, and adds a little for every thread that torch may use."""

    def __init__(self):
        super().__init__()
        self.body = torch.nn.AvgPool2d(8)

    def forward(self, x):
        return self.body(x + 0.01 * torch.get_num_threads())


def thread_counter():
    """Return an extractor of that model, with the number of threads that torch is set to."""
    preprocessing = Preprocessing(resize=Resize("exact", (32, 32)), crop=None)
    model = load_model(CountsThreads(), name="counts-threads", preprocessing=preprocessing)
    return FeatureExtractor(model, ["body"], device="cpu")
