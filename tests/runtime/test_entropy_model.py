"""Tables, indexes, slots and rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mlic.runtime.entropy_model import (
    MAX_SYMBOL,
    EntropyModel,
    FrequencyTables,
    dequantize,
    integers_from_floats,
    quantize,
)
from mlic.runtime.errors import BackendError, BundleError, CorruptStreamError

TOTAL = 1 << 24


def arrays(scales=(0.5, 1.0, 2.0), **changes):
    """Return small tables: per scale two symbols and the escape."""
    tables = {"scale_table": np.array(scales, np.float32), "medians": np.zeros(2, np.float32)}
    for prefix, count in (("y", len(scales)), ("z", 2)):
        tables[f"{prefix}_frequencies"] = np.tile(np.array([TOTAL - 3, 2, 1], np.uint32), count)
        tables[f"{prefix}_lengths"] = np.full(count, 3, np.int32)
        tables[f"{prefix}_offsets"] = np.full(count, -1, np.int32)
    return {key: value for key, value in (tables | changes).items() if value is not None}


RELEASED = np.exp(np.linspace(np.log(0.11), np.log(256), 64)).astype(np.float32)
MODEL = EntropyModel.from_arrays(arrays(RELEASED))


def index_by_definition(scales, table):
    return np.minimum((scales[..., None] > table).sum(axis=-1), len(table) - 1)


def test_an_index_is_the_first_entry_not_below_the_scale():
    model = EntropyModel.from_arrays(arrays())
    scales = np.array([[-3, 0, 0.5, 0.50001], [1.0, 1.5, 2.0, 99.0]], np.float32)
    indexes = model.build_indexes(scales)
    assert indexes.tolist() == [[0, 0, 0, 1], [1, 2, 2, 2]]
    assert indexes.dtype == np.uint8


@given(hnp.arrays(np.float32, st.integers(0, 40), elements=st.floats(width=32, allow_nan=False)))
def test_indexes_agree_with_the_definition(scales):
    assert np.array_equal(MODEL.build_indexes(scales), index_by_definition(scales, RELEASED))


def test_indexes_agree_with_the_definition_next_to_every_boundary():
    up, down = np.float32(np.inf), np.float32(-np.inf)
    scales = np.concatenate([RELEASED, np.nextafter(RELEASED, up), np.nextafter(RELEASED, down)])
    assert np.array_equal(MODEL.build_indexes(scales), index_by_definition(scales, RELEASED))


def test_nan_gets_a_row_within_the_table_and_no_warning():
    bits = np.array([0x7FC00000, 0xFFC00000, 0x7F800001, 0xFF800001, 0x7FFFFFFF], np.uint32)
    assert set(MODEL.build_indexes(bits.view(np.float32)).tolist()) <= {0, 63}


@pytest.mark.parametrize("table", [1 + np.arange(64) / 4096, [0.11], [0.5, 0.50001, 7], np.geomspace(1e-30, 1e30, 256)])
def test_any_rising_table_works(table, rng):
    table = np.asarray(table, np.float32)
    model = EntropyModel.from_arrays(arrays(table))
    scales = np.concatenate([table, np.nextafter(table, np.float32(9e30)), rng.normal(1, 1, 500).astype(np.float32)])
    assert np.array_equal(model.build_indexes(scales), index_by_definition(scales, table))


def test_strided_scales_are_taken(rng):
    scales = rng.normal(0, 3, (4, 6)).astype(np.float32)
    assert np.array_equal(MODEL.build_indexes(scales.T), MODEL.build_indexes(scales).T)


def test_slots_and_raw_numbers_are_as_specified():
    tables = MODEL.y  # symbols -1 and 0, escape slot 2
    symbols = np.array([-1, 0, 1, 2, -2, -3], np.int32)
    slots, raws = tables.slots_from_symbols(symbols, np.zeros(6, np.uint8))
    assert slots.tolist() == [0, 1, 2, 2, 2, 2]
    assert raws.tolist() == [0, 2, 1, 3]


@given(st.lists(st.tuples(st.integers(-MAX_SYMBOL, MAX_SYMBOL), st.integers(0, 15)), max_size=30))
def test_slots_round_trip(tables, pairs):
    symbols, rows = np.array(pairs, np.int32).reshape(-1, 2).T
    rows = rows.astype(np.uint8)
    slots, raws = tables.slots_from_symbols(symbols, rows)
    assert ((slots >= 0) & (slots < tables.lengths[rows])).all()
    assert np.array_equal(tables.symbols_from_slots(slots, rows, lambda count: raws[:count]), symbols)


def test_a_decoded_symbol_beyond_the_limit_is_corrupt():
    rows = np.zeros(1, np.uint8)
    slots, raws = np.array([2], np.int32), np.array([2 * (MAX_SYMBOL + 1)])
    with pytest.raises(CorruptStreamError, match="beyond"):
        MODEL.y.symbols_from_slots(slots, rows, lambda _: raws)


def test_rounding_goes_to_even_and_back():
    values, means = np.array([0.5, 1.5, -0.5, 2.4], np.float32), np.zeros(4, np.float32)
    symbols = quantize(values, means, "graph step_00")
    assert symbols.tolist() == [0, 2, 0, 2]
    assert symbols.dtype == np.int32
    assert dequantize(symbols, means + np.float32(0.25)).tolist() == [0.25, 2.25, 0.25, 2.25]


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 2.0**24, -(2.0**24), 0.5])
def test_what_is_no_symbol_is_an_error_of_the_graph(value):
    with pytest.raises(BackendError, match="graph h_a: symbol"):
        integers_from_floats(np.array([1, value], np.float32), "graph h_a")


def test_the_largest_symbol_is_taken():
    assert integers_from_floats(np.array([MAX_SYMBOL, -MAX_SYMBOL], np.float32), "x").tolist() == [
        MAX_SYMBOL,
        -MAX_SYMBOL,
    ]


def test_rows_are_slices_of_the_frequencies(tables):
    rebuilt = np.concatenate([tables.row(index) for index in range(len(tables))])
    assert np.array_equal(rebuilt, tables.frequencies)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"scale_table": None, "medians": None}, "scale_table is missing; medians is missing"),
        ({"y_lengths": np.full(3, 3, np.int64)}, r"y_lengths is int64 \[3\]; expected int32"),
        ({"y_frequencies": np.zeros((3, 3), np.uint32)}, r"y_frequencies is uint32 \[3, 3\]"),
        ({"y_lengths": np.array([3, 3, 2], np.int32)}, "in all 8; expected 2 or more, in all 9"),
        ({"y_lengths": np.array([7, 1, 1], np.int32)}, "lengths from 1 up"),
        ({"z_offsets": np.zeros(3, np.int32)}, "tables of z: 2 lengths and 3 offsets"),
        ({"y_frequencies": np.full(9, 5, np.uint32)}, "row 0 sums to 15; expected 16777216"),
        ({"z_frequencies": np.array([TOTAL, 0, 0] * 2, np.uint32)}, "frequency 0 at entry 1"),
        ({"y_offsets": np.full(3, -(1 << 31), np.int32)}, "offsets beyond"),
        ({"scale_table": np.array([1, 1, 2], np.float32)}, "not positive, finite and rising"),
        ({"scale_table": np.array([1, 2, np.inf], np.float32)}, "not positive, finite and rising"),
        ({"scale_table": np.array([1, np.nan, 2], np.float32)}, "not positive, finite and rising"),
        ({"scale_table": np.array([-1, 1, 2], np.float32)}, "not positive, finite and rising"),
        ({"scale_table": np.array([1, 2], np.float32)}, "2 scales and 3 rows of y"),
        ({"medians": np.zeros(3, np.float32)}, "3 medians and 2 rows of z"),
        ({"y_lengths": np.zeros(0, np.int32), "y_offsets": np.zeros(0, np.int32)}, "0 lengths"),
    ],
)
def test_inconsistent_tables_are_refused(changes, message):
    with pytest.raises(BundleError, match=message):
        EntropyModel.from_arrays(arrays(**changes))


def test_tables_know_their_rows():
    assert isinstance(MODEL.y, FrequencyTables)
    assert len(MODEL.y) == 64
