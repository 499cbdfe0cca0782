"""Devices and links from a CSV file with a row for each worker."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from experiment_files import SMALL

from simulator.experiment import ExperimentError, load

FILE = """# measured in May
worker, seconds_per_step, price_per_hour, latency, up.bandwidth, down.bandwidth
0, 580ms, 3.5, 50ms, 100Mbit/s, 1Gbit/s
1, 0.75, 0.5, 0, unlimited, 1Gbit/s

"""
BOTH = {"devices": {"file": "workers.csv", "jitter": 0.1}, "network": {"file": "workers.csv"}}


def cluster_of(folder: Path, content: str, cluster: dict[str, Any] = BOTH) -> Any:
    if content:
        (folder / "workers.csv").write_text(content, encoding="utf-8")
    path = folder / "file.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(SMALL) | {"cluster": cluster}), encoding="utf-8")
    [point] = load(path)
    return point.experiment.cluster


def said(folder: Path, content: str, cluster: dict[str, Any] = BOTH) -> list[str]:
    with pytest.raises(ExperimentError) as caught:
        cluster_of(folder, content, cluster)
    return [f"{problem.key}: {problem.message}".replace(f"{folder}/", "") for problem in caught.value.problems]


def test_each_section_takes_its_own_columns(tmp_path: Path):
    cluster = cluster_of(tmp_path, FILE)
    assert cluster.devices.seconds_per_step == (0.58, 0.75)
    assert cluster.devices.price_per_hour == (3.5, 0.5)
    assert cluster.devices.jitter == 0.1
    assert cluster.network.latency == (0.05, 0.0)
    assert cluster.network.direction("up").bandwidth == (12.5e6, float("inf"))
    assert cluster.network.direction("down").bandwidth == (125e6, 125e6)


def test_what_was_read_is_what_a_record_holds(tmp_path: Path):
    cluster = cluster_of(tmp_path, FILE)
    (tmp_path / "workers.csv").unlink()
    assert type(cluster).model_validate(cluster.model_dump()) == cluster


def test_speeds_may_be_relative(tmp_path: Path):
    cluster = cluster_of(
        tmp_path, "relative_speed\n1\n2.5\n", {"devices": {"file": "workers.csv", "seconds_per_step": 2}}
    )
    assert (cluster.devices.relative_speed, cluster.devices.seconds_per_step) == ((1.0, 2.5), 2.0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("seconds_per_step\n0.5\nfast\n", "workers.csv:3: seconds_per_step = 'fast': not a duration: write a number"),
        ("seconds_per_step\n0\n", "workers.csv:2: seconds_per_step = '0': input should be greater than 0"),
        (
            "seconds_per_stp\n1\n",
            "workers.csv:1: no column is called 'seconds_per_stp'; known: worker, seconds_per_step",
        ),
        ("worker,seconds_per_step\n1,2\n", "workers.csv:2: worker '1' should be 0: a row for each worker, from 0"),
        ("seconds_per_step,latency\n1\n", "workers.csv:2: expected seconds_per_step, latency, not ['1']"),
        (
            "latency\n1\n",
            "workers.csv:1: needs a column seconds_per_step, relative_speed, price_per_hour, names, sites; it has late",
        ),
        ("seconds_per_step\n", "workers.csv: has no row of a worker"),
        (
            "#\n",
            "workers.csv: needs a column seconds_per_step, relative_speed, price_per_hour, names, sites; it has none",
        ),
    ],
)
def test_mistakes_are_named_by_file_line_and_column(tmp_path: Path, content: str, message: str):
    [found] = said(tmp_path, content, {"devices": {"file": "workers.csv"}})
    assert found.startswith(f"cluster.devices.file: {message}")


def test_a_file_that_is_missing_is_named_with_its_key(tmp_path: Path):
    [found] = said(tmp_path, "", {"devices": {"file": "nobody.csv"}})
    assert found.startswith("cluster.devices.file: the file cannot be read: No such file")


def test_a_column_that_is_given_beside_the_file_is_refused(tmp_path: Path):
    cluster = {"devices": {"file": "workers.csv", "price_per_hour": 1.0}}
    [found] = said(tmp_path, FILE, cluster)
    assert found.endswith("workers.csv has a column price_per_hour, which is given beside it too: leave one out")


@pytest.mark.parametrize("down", [3, "fast", [1]])
def test_a_direction_that_is_no_mapping_is_refused_as_without_a_file(tmp_path: Path, down: Any):
    network = {"file": "workers.csv", "down": down}
    found = said(tmp_path, FILE, {"devices": {"file": "workers.csv"}, "network": network})
    assert found == ["cluster.network.down: expected a mapping of keys to values"]
