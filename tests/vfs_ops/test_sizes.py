import pytest

from vfs_ops.errors import InputError
from vfs_ops.sizes import parse_size


@pytest.mark.parametrize(
    ("text", "bytes_"),
    [("0", 0), ("17 B", 17), ("200GiB", 200 << 30), ("1.5kib", 1536), ("2 TB", 2 * 10**12)],
)
def test_sizes_are_read(text, bytes_):
    assert parse_size(text) == bytes_


@pytest.mark.parametrize("text", ["", "GiB", "-1", "1 iB", "1e9", "inf", "2 XB", "9" * 99, "٣GB"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(InputError, match="is no size"):
        parse_size(text)
