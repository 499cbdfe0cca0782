import math

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.record import (
    EVALUATION_COLUMNS,
    FAULT_COLUMNS,
    FAULTS,
    OUTCOMES,
    ROUND_COLUMNS,
    EvaluationLog,
    FaultLog,
    RecordError,
    RoundLog,
    perplexity_of,
)
from tests.record.builders import round_log, round_row

_DTYPES = {"integer": "int64", "real": "float64"}
_NAMES = {"outcome": OUTCOMES, "fault": tuple(FAULTS)}
_VALUES = {
    "integer": st.integers(-(2**63), 2**63 - 1),
    "real": st.floats(width=64),
    **{kind: st.sampled_from(names) for kind, names in _NAMES.items()},
}


@pytest.mark.parametrize(
    ("kind", "columns"), [(RoundLog, ROUND_COLUMNS), (FaultLog, FAULT_COLUMNS), (EvaluationLog, EVALUATION_COLUMNS)]
)
@settings(max_examples=50)
@given(st.data())
def test_log_holds_what_a_list_of_rows_would(kind, columns, data):
    appended = {name: column for name, column in columns.items() if name != "waited_to_end"}
    row = st.fixed_dictionaries({name: _VALUES[column.kind] for name, column in appended.items()})
    rows, log = data.draw(st.lists(row)), kind()
    for each in rows:
        log.append(**each)
    frame = log.frame()
    assert list(frame.columns) == list(columns)
    assert len(frame) == len(log) == len(rows)
    if kind is RoundLog:
        assert frame["waited_to_end"].tolist() == [0] * len(rows)
    for name, column in appended.items():
        expected = [each[name] for each in rows]
        if column.kind in _NAMES:
            assert frame[name].tolist() == expected
            assert tuple(frame[name].cat.categories) == _NAMES[column.kind]
        else:
            assert frame[name].dtype == _DTYPES[column.kind]
            np.testing.assert_array_equal(frame[name], np.array(expected, _DTYPES[column.kind]))


def test_frame_is_a_copy_and_the_log_goes_on():
    log = round_log([round_row()])
    first = log.frame()
    first.loc[0, "worker"] = 99
    log.append(**round_row(worker=7))
    assert len(log) == 2
    assert log.frame()["worker"].tolist() == [0, 7]
    assert len(first) == 1


def test_log_takes_numpy_scalars():
    row = round_row(worker=np.int32(3), train_loss=np.float32(0.5))
    assert round_log([row]).frame().loc[0, ["worker", "train_loss"]].tolist() == [3, 0.5]


def test_log_is_small():
    log = round_log([round_row()] * 1000)
    assert len(log._buffer) <= 190 * 1000


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"outcome": "lost"},
            r"^round 0, .*: outcome 'lost' is not one of applied, buffered, dropped; see ROUND_COL",
        ),
        ({"worker": 1.5}, r"^round 0, worker 1.5, .*: .*integer.*ROUND_COLUMNS"),
        ({"train_loss": None}, r"^round 0, worker 0, .*: .*float.*ROUND_COLUMNS"),
    ],
)
def test_log_refuses_values_of_another_kind(change, message):
    log = RoundLog()
    with pytest.raises(RecordError, match=message):
        log.append(**round_row(**change))
    assert len(log) == 0


def test_evaluation_log():
    log = EvaluationLog()
    row = {"simulated_s": 1.5, "local_steps": 2, "tokens": 3, "server_updates": 4, "bytes_sent": 5}
    log.append(**row, loss=0.0, perplexity=1.0)
    log.append(**row, loss=1.0, perplexity=math.e, train_loss=0.25)
    for wrong in ({"tokens": "many"}, {"loss": None}, {"colour": 1}):
        with pytest.raises(RecordError, match=r"simulated_s 1.5, .*EVALUATION_COLUMNS"):
            log.append(**{**row, "loss": 0.0, "perplexity": 1.0, **wrong})
    expected = pd.DataFrame(
        {
            **{name: [value, value] for name, value in row.items()},
            "loss": [0.0, 1.0],
            "perplexity": [1.0, math.e],
            "train_loss": [math.nan, 0.25],
        }
    )
    assert list(expected.columns) == list(EVALUATION_COLUMNS)
    pd.testing.assert_frame_equal(log.frame(), expected)


def test_shards_have_losses_of_their_own():
    log = EvaluationLog(shards=2)
    row = {"simulated_s": 1.5, "local_steps": 2, "tokens": 3, "server_updates": 4, "bytes_sent": 5}
    log.append(**row, loss=0.5, perplexity=1.0, loss_shard_0=0.25, loss_shard_1=0.75)
    with pytest.raises(RecordError, match=r"simulated_s 1.5, .*EVALUATION_COLUMNS"):
        log.append(**row, loss=0.5, perplexity=1.0, loss_shard_0=0.25)
    frame = log.frame()
    assert list(frame.columns) == [*EVALUATION_COLUMNS, "loss_shard_0", "loss_shard_1"]
    assert frame[["loss_shard_0", "loss_shard_1"]].to_numpy().tolist() == [[0.25, 0.75]]


def test_the_perplexity_of_a_loss_is_its_exponential_as_far_as_there_is_one():
    assert perplexity_of(709.7) == math.exp(709.7) < math.inf
    assert perplexity_of(710.0) == perplexity_of(math.inf) == math.inf
    assert math.isnan(perplexity_of(math.nan))
