import os
import subprocess
import sys

import pytest
from matplotlib.image import imread

from simulator.report import ReportError, file_names, perplexity_curves, save, staleness, timeline, write_figures
from tests.record.builders import build_record


@pytest.mark.parametrize("draw", [lambda r: perplexity_curves([r]), lambda r: staleness([r]), timeline])
def test_equal_figures_give_equal_svg(tmp_path, draw):
    for name in "ab":
        save(draw(build_record()), tmp_path / name)
    first, second = ((tmp_path / f"{name}.svg").read_bytes() for name in "ab")
    assert first == second
    assert b"dc:date" not in first
    save(draw(build_record("another")), tmp_path / "c")
    assert (tmp_path / "c.svg").read_bytes() != first


def test_svg_is_the_same_in_another_process(tmp_path):
    code = (
        "import sys, pathlib; from tests.record.builders import build_record; from simulator.report import *;"
        "save(timeline(build_record()), pathlib.Path(sys.argv[1]))"
    )
    environment = os.environ | {"PYTHONPATH": os.getcwd(), "PYTHONHASHSEED": "7"}
    subprocess.run([sys.executable, "-c", code, tmp_path / "other"], check=True, env=environment)
    save(timeline(build_record()), tmp_path / "this")
    assert (tmp_path / "this.svg").read_bytes() == (tmp_path / "other.svg").read_bytes()


def test_save_writes_png_at_200_dots_per_inch_and_svg(tmp_path):
    figure = perplexity_curves([build_record()], size=(3.5, 3.0))
    paths = save(figure, tmp_path / "made" / "v0.1")
    assert paths == [tmp_path / "made" / "v0.1.png", tmp_path / "made" / "v0.1.svg"]
    assert sorted(os.listdir(tmp_path / "made")) == ["v0.1.png", "v0.1.svg"]
    assert imread(paths[0]).shape[:2] == (600, 700)


def test_interrupted_save_leaves_the_old_file(tmp_path, monkeypatch):
    figure = perplexity_curves([build_record()])
    (tmp_path / "x.png").write_text("old")

    def interrupted(path, **_):
        path.write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(figure, "savefig", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(figure, tmp_path / "x")
    assert os.listdir(tmp_path) == ["x.png"]
    assert (tmp_path / "x.png").read_text() == "old"


def test_file_names_are_safe_and_unique():
    hostile = ["../../x", "a/b", "", "x" * 500, "x" * 500, "a-b", "A B", "größe", "名前", "..", "con\x00\n"]
    names = file_names(hostile)
    assert names[:3] == ["x", "a-b", "run"]
    assert names[5:8] == ["a-b-2", "a-b-3", "groe"]
    assert len(set(names)) == len(hostile)
    for name in names:
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert 0 < len(name) <= 70
    assert file_names(["a", "a 2", "a", "a"]) == ["a", "a-2", "a-3", "a-4"]


def test_write_figures_of_a_trained_experiment(tmp_path):
    records = [build_record(variant, seed=seed) for variant in ("sync", "../../x") for seed in (0, 1)]
    paths = write_figures(records, tmp_path / "figures")
    names = ["perplexity_vs_time", "perplexity_vs_local_steps", "staleness", "utilization"]
    names += ["timeline_sync", "timeline_x"]
    expected = [tmp_path / "figures" / f"{name}.{suffix}" for name in names for suffix in ("png", "svg")]
    assert paths == expected
    assert sorted(tmp_path.rglob("*.*")) == sorted(expected)


def test_write_figures_of_a_timeline_alone(tmp_path):
    paths = write_figures([build_record(trainer="null")], tmp_path)
    assert {path.stem for path in paths} == {"staleness", "utilization", "timeline_async-nesterov"}
    with pytest.raises(ReportError, match="no records given"):
        write_figures([], tmp_path)


def test_importing_reports_imports_neither_jax_nor_simpy_nor_pyplot():
    code = (
        "import sys, simulator.report;"
        "print(*{'jax', 'simpy', 'flax', 'matplotlib.pyplot', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["matplotlib"]
