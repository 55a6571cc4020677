"""The side stream of escaped values."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlic.runtime.errors import BitstreamError, CorruptStreamError
from mlic.runtime.escape import MAX_RAW, EscapeReader, EscapeWriter

RAWS = st.lists(st.integers(0, MAX_RAW), min_size=1, max_size=40)


def write(*groups):
    writer = EscapeWriter()
    for group in groups:
        writer.add(np.array(group, np.int64))
    return writer.finish()


def read(data, count):
    reader = EscapeReader(data)
    raws = reader.take(count)
    reader.finish()
    return raws.tolist()


def test_layout_is_frozen():
    # 0: 1   1: 010   2: 011   3: 00100   7: 0001000, then five zero bits
    assert write([0, 1], [2, 3, 7]) == bytes([0b10100110, 0b01000001, 0b00000000])


@given(RAWS)
def test_round_trip(raws):
    assert read(write(raws), len(raws)) == raws


def test_groups_are_read_as_they_were_written():
    reader = EscapeReader(write([5, 6], [], [7]))
    assert reader.take(2).tolist() == [5, 6]
    assert reader.take(0).tolist() == []
    assert reader.take(1).tolist() == [7]
    reader.finish()


@given(st.binary(max_size=30), st.integers(0, 300))
def test_arbitrary_bytes_decode_or_raise_bitstream_error(data, count):
    try:
        raws = read(data, count)
    except BitstreamError:
        return
    assert write(raws) == data


@given(RAWS)
def test_every_prefix_is_noticed(raws):
    data = write(raws)
    for length in range(len(data)):
        with pytest.raises(CorruptStreamError):
            read(data[:length], len(raws))


def test_trailing_data_is_reported():
    data = write([1, 2])
    for more in (b"\0", b"\1"):
        with pytest.raises(CorruptStreamError, match="left over"):
            read(data + more, 2)
    with pytest.raises(CorruptStreamError, match="left over"):
        read(data, 1)


def test_nothing_written_is_nothing():
    assert write() == b""
    assert read(b"", 0) == []


def test_a_code_longer_than_any_encoder_writes_is_corrupt():
    with pytest.raises(CorruptStreamError, match="too long"):
        EscapeReader(bytes(3) + b"\x08" + bytes(40)).take(1)


def test_a_count_beyond_the_stream_is_refused_before_anything_is_allocated():
    with pytest.raises(CorruptStreamError, match="8 left"):
        EscapeReader(b"\xff").take(1 << 60)
