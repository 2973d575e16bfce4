import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from vfs_ops.errors import RegionError
from vfs_ops.widgets.run_lengths import decode_runs, encode_runs


@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=20), elements=st.booleans()))
def test_masks_survive(mask):
    runs = np.frombuffer(encode_runs(mask), "<u4")
    assert (runs[1:] > 0).all()
    decoded = decode_runs(encode_runs(mask), mask.shape[1], mask.shape[0])
    np.testing.assert_array_equal(decoded, mask)


@pytest.mark.parametrize("data", [b"", b"\x01", (7).to_bytes(4, "little") * 2])
def test_what_is_no_mask_of_that_size_is_refused(data):
    with pytest.raises(RegionError, match="a mask"):
        decode_runs(data, 3, 4)
