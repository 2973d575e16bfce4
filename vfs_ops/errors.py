"""One tree of errors, grouped by what a caller does about them.

Every message says what was given, what was expected and what to do next. Errors carry nothing but
their message, so they survive pickling from a worker.
"""

from __future__ import annotations


class VfsError(Exception):
    """Base of every error that this project raises on purpose."""


# --- The caller gave something that cannot be used: change what was given. ---


class InputError(VfsError):
    """Something given cannot be used as it is."""


class InvalidNameError(InputError):
    """A name or key that could leave its folder, or is malformed."""


class NameTakenError(InvalidNameError):
    """A name of the catalog that stands for something else; another one is free."""


class InvalidUrlError(InputError):
    """A URL with a protocol off the list, a chain, or credentials inside."""


class SourceError(InputError):
    """A dataset source that is empty, malformed or cannot be listed."""


class ImageError(InputError):
    """An image that cannot be decoded within the limits."""


class RegionError(InputError):
    """A mask, box or polygon that selects nothing, or does not fit its image."""


class QueryError(InputError):
    """A query or a search option that cannot be answered."""


class PredicateError(InputError):
    """A metadata filter with an unknown column or operator, or a value of the wrong type."""


class SpecError(InputError):
    """A specification (preprocessing, extractor, cache) with impossible or unknown values."""


class ModelError(InputError):
    """A model reference or layer that cannot be used."""


class UnknownModelError(ModelError):
    """No model, weights or layer of that name."""


class NotAFeatureMapError(ModelError):
    """The layer's output has no grid of cells."""


class CheckpointError(ModelError):
    """A checkpoint that is not one, does not fit the model, or holds more than tensors."""


class FeatureRangeError(InputError):
    """Features that the stored dtype cannot hold; float32 can."""


class TooLargeError(InputError):
    """Work that needs more memory than there is; the message names both numbers."""


# --- What was asked for is not there. ---


class NotFoundError(VfsError):
    """No such workspace, dataset, cache, entry or object."""


# --- Two things do not belong together: choose the matching one, or build anew. ---


class MismatchError(VfsError):
    """Two things that must agree do not; the message names what differs."""


class ExtractorMismatchError(MismatchError):
    """A query's extractor or probe differs from the cache's."""


class ImageChangedError(MismatchError):
    """An image is not the one that was ingested; ingest again."""


class PlanMismatchError(MismatchError):
    """A cache is being built under another plan than the one stored."""


# --- Not finished: build it to the end. ---


class IncompleteError(VfsError):
    """A dataset or cache that is not finished."""


# --- What is stored is not what was written: verify, mirror or build again. ---


class DamagedError(VfsError):
    """A stored object is corrupt, truncated or inconsistent."""


class UnsafeMetadataError(DamagedError):
    """Stored metadata that asks for more than this project will do."""


class NewerFormatError(VfsError):
    """Stored by a newer version of this project; upgrade."""


# --- The storage said no. ---


class StorageError(VfsError):
    """The storage could not do what was asked."""


class StorageFullError(StorageError):
    """No space, or over quota."""


class AccessError(StorageError):
    """The storage refuses access, or is read-only."""


class ForbiddenError(AccessError):
    """Refused without a reason: there may be no such object, or no permission to list."""


class UnavailableError(StorageError):
    """The storage or network did not answer; trying again later may work."""


# --- The machines that compute are gone, or do not fit: start or change them, and run again. ---


class ClusterError(VfsError):
    """A cluster that cannot do the work; the message names what it lacks."""


class ClusterLostError(ClusterError):
    """The scheduler or the workers are gone or do not answer; trying again later may work."""


# --- The installation lacks something. ---


class MissingDependencyError(VfsError):
    """An optional package is needed; the message names the extra to install."""
