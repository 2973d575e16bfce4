"""How a damaged cache is made whole again, for the person who reads of the damage."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from catalog import Entry
    from vfs_ops.caches.cache import Cache


def repair_advice(cache: Cache, entry: Entry, checkpoint: str | None = None) -> str:
    """Say what to do about damaged shards: the command that computes them again, where one can.

    Parameters
    ----------
    cache
        The damaged cache.
    entry
        Its entry in the catalog.
    checkpoint
        The file with the model's weights, if it is known.
    """
    spec, weights = cache.spec.extractor, cache.plan.weights
    if cache.spec.origin != "built":
        return "it was imported, so import it again, or mirror a sound copy with --repair"
    if spec.model.startswith("custom:"):
        return f"load {spec.model} in Python and call build(…, check='digests')"
    shown = entry.facts["dataset"]
    dataset = f"{shown['name']}@{shown['version']}" if shown["version"] else shown["name"]
    command = ["vfs", "-w", cache.workspace.url, "build", dataset]
    layer = spec.layer if spec.output is None else f"{spec.layer}#{spec.output}"
    command += ["--model", spec.model, "--layer", layer]
    if weights == "checkpoint":
        command += ["--checkpoint", checkpoint or "FILE"]
    elif weights != "package":
        command += ["--weights", weights.removeprefix(f"{spec.model.partition(':')[0]}:")]
    if cache.spec.dtype != "float16":
        command += ["--dtype", cache.spec.dtype]
    if cache.spec.precision != "float32":
        command += ["--precision", cache.spec.precision]
    command += ["--name", entry.name, "--check", "digests"]
    return f"what is damaged is computed again by: {shlex.join(command)}"
