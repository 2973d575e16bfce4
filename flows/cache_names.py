"""The catalog's names of caches: readable, and never two meanings of one name."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

import catalog
from catalog import Entry, list_versions
from vfs_ops.errors import InvalidNameError, NameTakenError
from vfs_ops.identity.canonical import canonical_json, check_name
from vfs_ops.identity.spec import ExtractorSpec
from vfs_ops.store.workspace import Workspace

if TYPE_CHECKING:
    from vfs_ops.caches.cache import Cache

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
        If `name` cannot be one, or is given for several layers.
    NameTakenError
        If `name` stands for something else.
    """
    if name is not None and len(specs) != 1:
        raise InvalidNameError(
            f"--name {name[:60]!r} is given for {len(specs)} layers; build one layer at a time, or "
            "leave it out"
        )
    names: list[str] = []
    for spec in specs:
        meant = _meaning(dataset, spec, precision, dtype)
        layer = spec.layer if spec.output is None else f"{spec.layer}-{spec.output}"
        chosen = cache_name(dataset, spec.model, layer) if name is None else check_name(name)
        known = list_versions(workspace, "cache", chosen)
        if chosen in names or any(entry.stands_for != meant for entry in known):
            if name is not None:
                raise NameTakenError(
                    f"the name {name!r} stands for a cache of another dataset, extractor, "
                    f"precision or dtype (`vfs show {name} --kind cache`); choose another"
                )
            chosen = _with_digits(chosen, meant)
        names.append(chosen)
    return names


def register(
    workspace: Workspace,
    name: str,
    cache: Cache,
    *,
    dataset: str,
    given: bool,
    flow_run: str | None = None,
) -> Entry:
    """Register a cache under the name that was chosen for it, or the next free one.

    Between the choice and the registration somebody may have given the name another meaning.

    Parameters
    ----------
    name
        What `cache_names` returned.
    dataset
        The catalog's name of the dataset that the cache is shown with.
    given
        Whether the name is the user's, so that no other may be taken.
    flow_run
        In which run of a flow, if in one.

    Raises
    ------
    NameTakenError
        If the name was given, and stands for something else.
    """
    meant = _meaning(dataset, cache.spec.extractor, cache.spec.precision, cache.spec.dtype)
    try:
        return catalog.register_cache(
            workspace, name, cache, dataset_name=dataset, flow_run=flow_run
        )
    except NameTakenError:
        if given:
            raise
    other = _with_digits(name, meant)
    return catalog.register_cache(workspace, other, cache, dataset_name=dataset, flow_run=flow_run)


def _meaning(dataset: str, spec: ExtractorSpec, precision: str, dtype: str) -> dict[str, str]:
    """Return what a name shall stand for; see `catalog.Entry.stands_for`."""
    return {
        "dataset": dataset,
        "extractor_id": spec.id,
        "precision": precision,
        "dtype": dtype,
    }


def _with_digits(name: str, meant: Mapping[str, Any]) -> str:
    return f"{name}-{hashlib.sha256(canonical_json(meant)).hexdigest()[:_DIGITS]}"
