"""Datasets that somebody else wrote: whatever is in them, only typed errors come out."""

import io

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from makers import write_photos

from vfs_ops.datasets import sources
from vfs_ops.datasets.dataset import folder_of, open_dataset
from vfs_ops.datasets.folders import FolderSource
from vfs_ops.datasets.ingestion import ingest
from vfs_ops.datasets.manifests import OWN_COLUMNS, column_types, encode_manifest, open_manifest
from vfs_ops.datasets.previews import MAX_PREVIEW_BYTES, check_span
from vfs_ops.datasets.staging import gather_previews, records_of
from vfs_ops.errors import DamagedError, SourceError, VfsError
from vfs_ops.identity.canonical import canonical_json, document_id
from vfs_ops.identity.spec import images_document
from vfs_ops.store import parquet_files
from vfs_ops.store.workspace import Workspace


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    write_photos(folder / "photos", 6)
    (folder / "photos" / "bad.png").write_bytes(b"junk")
    lines = [f'{n:04d}.png,{n},t{n},2020-01-0{n + 1},"[[{n},2]]"' for n in range(6)]
    (folder / "labels.csv").write_text("\n".join(["file,score,text,day,boxes", *lines]) + "\n")
    source = FolderSource(str(folder / "photos"), labels=str(folder / "labels.csv"))
    return ingest(source, Workspace.at(str(folder / "ws")))


def replant(original, manifest, **changes):
    """Store a dataset with another manifest, whose document says what fits it."""
    workspace = Workspace.in_memory()
    document = {**original.document, **changes}
    new = document_id(document)
    for stat in original.workspace.walk(folder_of(original.id)):
        key = stat.path.replace(original.id, new)
        workspace.create(key, original.workspace.read(stat.path))
    workspace.replace(f"{folder_of(new)}/manifest.parquet", manifest)
    workspace.replace(f"{folder_of(new)}/dataset.json", canonical_json(document))
    return workspace, new


def fitting(original, table):
    """Store a table as manifest, with a document made to fit."""
    digests = table["digest"].to_pylist() if "digest" in table.column_names else []
    sound = all(isinstance(d, bytes) and len(d) == 32 for d in digests)
    changes = {"images": document_id(images_document(digests))} if sound else {}
    return replant(
        original,
        encode_manifest(table),
        count=table.num_rows,
        columns=column_types(table.schema),
        **changes,
    )


def use(workspace, dataset_id):
    """Do all there is to do with a dataset, collecting the errors, all of which are typed."""
    try:
        dataset = open_dataset(workspace, dataset_id)
    except VfsError as error:
        return [error]
    errors = []
    reader = None

    def read(row):
        nonlocal reader
        reader = reader or dataset.reader()
        return reader.read(row)

    rows = range(min(dataset.count, 9))
    for act in (
        dataset.table,
        dataset.digests,
        lambda: dataset.rows(rows).to_pylist(),
        lambda: dataset.where([("score", ">", 1), ("text", "!=", "x")]),
        lambda: dataset.where([("label", "==", "even")]),
        lambda: dataset.where([("boxes", "contains", 1)]),
        lambda: gather_previews(workspace, dataset, records_of(dataset)),
        *(lambda row=row: dataset.preview(row) for row in rows),
        *(lambda row=row: read(row) for row in rows),
    ):
        try:
            act()
        except VfsError as error:
            errors.append(error)
    return errors


def test_the_original_is_sound(original):
    errors = use(original.workspace, original.id)
    # the bad image has no preview and no pixels, and lists of lists contain no number
    assert len(errors) == 3


KINDS = [
    *(pa.string(), pa.large_string(), pa.binary(), pa.binary(32), pa.binary(5), pa.int8()),
    *(pa.int32(), pa.int64(), pa.uint64(), pa.float32(), pa.bool_(), pa.date32(), pa.null()),
    *(pa.timestamp("s"), pa.timestamp("ns", "UTC"), pa.time32("s"), pa.decimal128(5, 2)),
    *(pa.list_(pa.string()), pa.list_(pa.binary()), pa.struct([("x", pa.int64())])),
    *(pa.dictionary(pa.int32(), pa.string()), pa.map_(pa.string(), pa.int32()), pa.float16()),
]


@st.composite
def values(draw, kind):
    if pa.types.is_integer(kind):
        edge = st.sampled_from([0, 1, -1, 2**31 - 1, -(2**31), 2**62, -(2**62)])
        return draw(st.none() | edge)
    if pa.types.is_string(kind):
        return draw(st.none() | st.text(max_size=5) | st.sampled_from(["../x", "a#b", "/etc/x"]))
    return None


@st.composite
def tables(draw, table):
    for _ in range(draw(st.integers(1, 3))):
        place = draw(st.integers(0, table.num_columns - 1))
        name, kind = table.column_names[place], table.schema.field(place).type
        action = draw(st.sampled_from(["drop", "retype", "values", "rename", "double", "rows"]))
        if action == "drop" and table.num_columns > 1:
            table = table.remove_column(place)
        elif action == "retype":
            other = pa.nulls(table.num_rows, draw(st.sampled_from(KINDS)))
            table = table.set_column(place, name, other)
        elif action == "values":
            new = [draw(values(kind)) for _ in range(table.num_rows)]
            try:
                table = table.set_column(place, name, pa.array(new, kind))
            except (pa.ArrowException, OverflowError):
                continue
        elif action == "rename":
            other = draw(st.sampled_from(["", "x", "byte_offset", "uri", "a.b", "\x00"]))
            table = table.rename_columns([*table.column_names[:place], other,
                                          *table.column_names[place + 1 :]])  # fmt: skip
        elif action == "double":
            table = table.append_column(name, table.column(place))
        else:
            table = table.slice(0, draw(st.integers(0, table.num_rows)))
    return table


@given(st.data())
@settings(max_examples=60)
def test_columns_dropped_retyped_and_refilled(original, data):
    table = data.draw(tables(original.table()))
    try:
        workspace, new = fitting(original, table)
    except (pa.ArrowException, KeyError, ValueError, VfsError):
        return  # which Parquet itself cannot hold
    use(workspace, new)


@given(st.data())
@settings(max_examples=100)
def test_flipped_bytes(original, data):
    file = data.draw(st.sampled_from(["dataset.json", "manifest.parquet", "stat.parquet"]))
    key = f"{folder_of(original.id)}/{file}"
    content = bytearray(original.workspace.read(key))
    flips = st.tuples(st.integers(0, len(content) - 1), st.integers(0, 255))
    for place, value in data.draw(st.lists(flips, min_size=1, max_size=4)):
        content[place] = value
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    workspace, same = replant(original, original.workspace.read(original.manifest.key))
    workspace.replace(key, bytes(content))
    use(workspace, same)


def test_nulls_where_none_may_be(original):
    table = original.table()
    for name in ("uri", "digest"):
        column = pa.array([None, *table[name].to_pylist()[1:]], table.schema.field(name).type)
        place = table.schema.get_field_index(name)
        changed = table.set_column(place, name, column)
        workspace, new = replant(original, encode_manifest(changed))
        with pytest.raises(DamagedError, match=name):
            open_dataset(workspace, new)


def test_absurd_counts(original):
    workspace, new = replant(original, encode_manifest(original.table()), count=10**15)
    with pytest.raises(DamagedError, match="rows"):
        open_dataset(workspace, new)
    sink = io.BytesIO()
    many = pa.table({"x": pa.nulls(100_000, pa.int8())})
    pq.write_table(many, sink, row_group_size=100_000)
    with pytest.raises(DamagedError, match="sizes"):
        parquet_files.open_footer(sink, "it")


def test_one_long_text_in_every_row_is_not_spelled_out():
    count, workspace = 8192, Workspace.in_memory()
    columns = {field.name: pa.nulls(count, field.type) for field in OWN_COLUMNS}
    columns["uri"] = pa.array(["a"] * count)
    columns["digest"] = pa.array([bytes(32)] * count, pa.binary(32))
    table = pa.table(columns, schema=OWN_COLUMNS)
    text = pa.DictionaryArray.from_arrays(np.zeros(count, np.int32), ["x" * 900_000])
    for bomb in (text, pa.ListArray.from_arrays(np.arange(count + 1, dtype=np.int32), text)):
        workspace.replace("m", encode_manifest(table.append_column("bomb", bomb)))
        assert workspace.stat("m").size < 100_000
        sink = pa.BufferReader(workspace.read("m"))
        footer = parquet_files.open_footer(sink, "it")
        before = pa.total_allocated_bytes()
        with pytest.raises(DamagedError, match="decodes to more"):
            parquet_files.read_groups(sink, footer, [0], ["bomb"], "it")
        assert pa.total_allocated_bytes() - before < 2**28


def test_a_text_that_is_no_unicode_is_damage():
    workspace = Workspace.in_memory()
    columns = {field.name: pa.nulls(1, field.type) for field in OWN_COLUMNS}
    wrong = pa.array([b"\xff"]).view(pa.string())
    columns |= {"uri": wrong, "digest": pa.array([bytes(32)], pa.binary(32))}
    workspace.create("m", encode_manifest(pa.table(columns, schema=OWN_COLUMNS)))
    with pytest.raises(DamagedError):
        open_manifest(workspace, "m").read(["uri"])


@pytest.mark.parametrize("span", [(-1, 0, 5), (0, -1, 5), (0, 0, -5), (0, 0, 0), (0, 0, 10**10)])
def test_places_that_no_preview_has(original, span):
    with pytest.raises(DamagedError):
        check_span(*span, "it")
    table = original.table()
    for name, value in zip(("pack", "offset", "length"), span, strict=True):
        place = table.schema.get_field_index(f"preview_{name}")
        field = table.schema.field(place)
        if value > 2**31 - 1:
            value = 2**31 - 1
        table = table.set_column(place, field, pa.array([value] * table.num_rows, field.type))
    workspace, new = replant(original, encode_manifest(table))
    with pytest.raises(DamagedError):
        open_dataset(workspace, new).preview(0)
    dataset = open_dataset(workspace, new)
    records = records_of(dataset)
    with pytest.raises(VfsError):
        gather_previews(workspace, dataset, records)
    assert MAX_PREVIEW_BYTES > 256 * 256 * 3


def test_more_metadata_than_can_be_read_again_is_refused(original, monkeypatch):
    long = pa.table({"x": ["y" * 2000]})
    monkeypatch.setattr(sources, "MAX_WRITTEN_BYTES", 1000)
    with pytest.raises(SourceError, match="bytes of metadata"):
        sources.file_listing(None, ["http://h/x"], [None], [None], [1], long)


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("width", None),
        ("width", 0),
        ("height", -5),
        ("width", 2**31 - 1),
        ("bytes", -1),
    ],
)
def test_numbers_that_can_mean_nothing(original, column, value):
    table = original.table()
    place = table.schema.get_field_index(column)
    field = table.schema.field(place)
    changed = table.set_column(place, field, pa.array([value] * len(table), field.type))
    dataset = open_dataset(*fitting(original, changed))
    with pytest.raises(DamagedError, match=f"{column}|pixels"):
        dataset.rows([0], [column])
    with pytest.raises(DamagedError):
        dataset.table()
