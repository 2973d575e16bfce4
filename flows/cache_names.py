"""The catalog's names of caches: readable, and never two meanings of one name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any, Final

from catalog import Entry, list_versions
from vfs_ops.errors import InvalidNameError
from vfs_ops.identity.canonical import canonical_json, check_name
from vfs_ops.identity.spec import ExtractorSpec
from vfs_ops.store.workspace import Workspace

_DIGITS: Final = 8
_LONGEST: Final = 128 - 1 - _DIGITS


def cache_name(dataset: str, model: str, layer: str) -> str:
    """Return the name that a cache has if nothing else has it.

    Examples
    --------
    >>> cache_name("photos", "torchvision:resnet50", "layer4")
    'photos-torchvision-resnet50-layer4'
    """
    text = re.sub(r"[^a-z0-9._-]+", "-", "-".join((dataset, model, layer)).lower())
    if len(text) > _LONGEST:
        tail = hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]
        text = f"{text[: _LONGEST - 1 - _DIGITS]}-{tail}"
    return check_name(text)


def cache_names(
    workspace: Workspace,
    dataset: str,
    specs: Sequence[ExtractorSpec],
    *,
    precision: str,
    dtype: str,
    name: str | None = None,
) -> list[str]:
    """Choose the names of a build's caches.

    A name stands for one dataset (of any version), extractor, precision and dtype. Where that of
    `cache_name` stands for others already, eight digits of a digest of these four are added to it.

    Parameters
    ----------
    name
        Given by the user, for a single layer.

    Raises
    ------
    InvalidNameError
        If `name` cannot be one, stands for something else, or is given for several layers.
    """
    if name is not None and len(specs) != 1:
        raise InvalidNameError(
            f"--name {name[:60]!r} is given for {len(specs)} layers; build one layer at a time, or "
            "leave it out"
        )
    names: list[str] = []
    for spec in specs:
        facts = {
            "dataset": dataset,
            "extractor_id": spec.id,
            "precision": precision,
            "dtype": dtype,
        }
        layer = spec.layer if spec.output is None else f"{spec.layer}-{spec.output}"
        chosen = cache_name(dataset, spec.model, layer) if name is None else check_name(name)
        known = list_versions(workspace, "cache", chosen)
        if chosen in names or any(_meaning(entry) != facts for entry in known):
            if name is not None:
                raise InvalidNameError(
                    f"the name {name!r} stands for a cache of another dataset, extractor, "
                    f"precision or dtype (`vfs show {name} --kind cache`); choose another"
                )
            digest = hashlib.sha256(canonical_json(facts)).hexdigest()
            chosen = f"{chosen}-{digest[:_DIGITS]}"
        names.append(chosen)
    return names


def _meaning(entry: Entry) -> dict[str, Any]:
    """Return what the name of a cache's entry stands for."""
    dataset = entry.facts.get("dataset")
    names = ("extractor_id", "precision", "dtype")
    return {
        "dataset": dataset.get("name") if isinstance(dataset, dict) else None,
        **{name: entry.facts.get(name) for name in names},
    }
