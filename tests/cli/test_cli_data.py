from pathlib import Path

import numpy as np
import pytest
import yaml

from simulator.data import load as loading
from simulator.data import store
from simulator.progress.live import PreparationView
from tests.experiments import TINY

FOLDERS = {"kind": "grouped", "groups": {"kind": "folder"}}


def write(folder: Path, **changes):
    """The tiny experiment on a corpus of two folders."""
    for number in range(40):
        words = ["red green blue yellow", "one two three four"][number % 2].split()
        path = folder / f"texts/{number % 2}/{number:02d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{number}: " + " ".join(np.random.default_rng(number).choice(words, 20)))
    data = {"source": "text", "files": "texts/*/*.txt"} | changes.pop("data", {})
    content = TINY | {"data": data} | changes
    (folder / "experiment.yaml").write_text(yaml.safe_dump(content, sort_keys=False))


def test_prepare_keeps_the_tokens_and_does_so_once(tardigrad, tmp_path, cache, monkeypatch):
    write(tmp_path)
    code, out, err = tardigrad("data", "prepare", "experiment.yaml")
    tokens = sum(path.stat().st_size + 1 for path in tmp_path.glob("texts/*/*.txt"))
    found, folder = out.rstrip("\n").split(" in ")
    assert (code, err, found) == (0, "", f"40 documents, {tokens:,} tokens")
    assert Path(folder).parent == cache / "tokens"
    assert (Path(folder) / "tokens.bin").stat().st_size == 2 * tokens
    monkeypatch.setattr(store, "_Preparation", None)
    assert tardigrad("data", "prepare", "experiment.yaml") == (0, out, "")


@pytest.mark.parametrize(
    "command", [["data", "info"], ["data", "prepare"], ["validate"], ["run"], ["run", "--dry-run"]]
)
def test_tokens_that_have_changed_end_every_command_in_one_message(tardigrad, tmp_path, command):
    write(tmp_path)
    _, out, _ = tardigrad("data", "prepare", "experiment.yaml")
    folder = Path(out.rstrip("\n").split(" in ")[1])
    with open(folder / "tokens.bin", "r+b") as file:
        file.write(b"\xff\xff")
    code, out, err = tardigrad(*command, "experiment.yaml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert f"'{folder}': tokens.bin is not what was written to it (its checksum differs): remove this folder" in err


def test_prepare_names_every_text_once(tardigrad, tmp_path):
    write(tmp_path, sweep={"data.shards": [2, 4], "data.documents": ["file", "line"]})
    (tmp_path / "texts/0/00.txt").write_text("two\nlines")
    code, out, _ = tardigrad("data", "prepare", "experiment.yaml")
    assert code == 0
    assert [line.split(",")[0] for line in out.splitlines()] == ["40 documents", "41 documents"]


def test_info_shows_the_corpus_its_shards_and_how_documents_begin(tardigrad, tmp_path):
    write(tmp_path, data={"partition": FOLDERS, "shards": 2, "validation_fraction": 0.1})
    code, out, err = tardigrad("data", "info", "experiment.yaml")
    assert (code, err) == (0, "")
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "source text" in lines
    assert "partition {kind: grouped, groups: {kind: folder}}" in lines
    assert "documents 40" in lines
    assert "vocabulary 257" in lines
    assert any(line.startswith("held out 4 documents, ") for line in lines)
    [first, second, together] = [line.split() for line in lines if line.split()[:1] in (["0"], ["1"], ["all"])][:3]
    assert int(first[1]) + int(second[1]) == int(together[2]) == 36
    assert min(float(row[-1]) for row in (first, second, together)) > 0.2
    assert "documents begin:" in lines
    assert any(line.startswith("0: ") for line in lines)


def test_info_shows_every_division(tardigrad, tmp_path):
    write(tmp_path, sweep={"data.partition": [{"kind": "iid"}, FOLDERS], "data.shards": [2]})
    code, out, _ = tardigrad("data", "info", "experiment.yaml")
    assert code == 0
    alike, grouped = (float(line.split()[-1]) for line in out.splitlines() if line.split()[:2] == ["all", "2"])
    assert alike < 0.1 < 0.2 < grouped


@pytest.mark.parametrize("command", ["prepare", "info"])
def test_there_is_nothing_to_prepare_of_data_that_are_drawn(tardigrad, tmp_path, command):
    (tmp_path / "experiment.yaml").write_text(yaml.safe_dump(TINY))
    assert tardigrad("data", command, "experiment.yaml") == (
        2,
        "",
        "tardigrad: experiment.yaml: data.source = 'synthetic': is drawn, not read: there is nothing to prepare\n",
    )


@pytest.mark.parametrize("command", ["prepare", "info"])
def test_mistakes_end_in_one_message(tardigrad, tmp_path, command):
    write(tmp_path, data={"shards": 39})
    code, out, err = tardigrad("data", command, "experiment.yaml")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("tardigrad: experiment.yaml:")
    assert "data.shards = 39: every shard needs a document of its own, but only 38 of 40 are left" in err


def test_a_mistake_of_another_section_does_not_hide_one_of_the_data(tardigrad, tmp_path):
    write(tmp_path, data={"shards": 39}, inner={"learning_rate": 0.1, "batch_size": 0})
    code, _, err = tardigrad("validate", "experiment.yaml")
    assert (code, err.count("\n")) == (2, 2)
    assert "inner.batch_size = 0: must be at least 1" in err
    assert "data.shards = 39: every shard needs" in err


def test_a_batch_is_checked_only_where_it_is_known(tardigrad, tmp_path):
    write(tmp_path, inner={"learning_rate": 0.1, "batch_size": 0})
    code, _, err = tardigrad("validate", "experiment.yaml")
    assert (code, err.count("\n")) == (2, 1)
    assert "inner.batch_size = 0: must be at least 1" in err


def test_settings_and_variants_choose_the_text(tardigrad, tmp_path):
    variants = {"files": {}, "lines": {"data": {"documents": "line"}}}
    write(tmp_path, variants=variants)
    _, both, _ = tardigrad("data", "prepare", "experiment.yaml")
    _, files, _ = tardigrad("data", "prepare", "experiment.yaml", "--variant", "files")
    _, lines, _ = tardigrad("data", "prepare", "experiment.yaml", "data.documents=line", "--variant", "files")
    assert both == files + lines
    assert files != lines


def test_the_timeline_reads_the_data_where_shards_are_uneven(tardigrad, tmp_path, monkeypatch):
    told = []
    load_dataset = loading.load_text

    def watched(*arguments, progress, **settings):
        told.append(progress)
        return load_dataset(*arguments, progress=progress, **settings)

    monkeypatch.setattr(loading, "load_text", watched)
    write(tmp_path, budget={"local_steps": 20})
    assert tardigrad("timeline", "experiment.yaml")[0] == 0
    assert told == []
    uneven = "data.partition={kind: iid, sizes: [1, 1, 1, 3]}"
    assert tardigrad("timeline", "experiment.yaml", uneven)[0] == 0
    assert [type(view) for view in told] == [PreparationView]
    code, _, err = tardigrad("timeline", "experiment.yaml", uneven, "data.files=none")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("tardigrad: data.files = 'none': matches no file")
    assert err.endswith("(set on the command line)\n")


@pytest.mark.parametrize(
    ("arguments", "words"), [(["--help"], ["prepare", "info"]), (["info", "--help"], ["--variant"])]
)
def test_help_names_the_commands(tardigrad, arguments, words):
    code, out, _ = tardigrad("data", *arguments)
    assert code == 0
    assert all(word in out for word in words)
