import io
import re
import time

import pytest
from rich.console import Console

from simulator import Cache, Progress, simulate
from simulator.progress import live
from simulator.progress.live import LiveView, PreparationView
from tests.experiments import tiny


def progress(fraction, **changes):
    values = {
        "simulated_s": 3332.0,
        "local_steps": 2000,
        "tokens": 10_000,
        "server_updates": 7,
        "staleness": 1.5,
        "train_loss": 1.75,
        "perplexity": 5.5,
        "fraction": fraction,
    }
    return Progress(**(values | changes))


def watched(width=80, terminal=True):
    """What a console shows after each stage of two simulations."""
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=terminal, width=width)
    frames = []
    with LiveView(console, 2) as view:
        for name in ("sync [DiLoCo]", "a variant with a name that is far too long for any terminal to show it whole"):
            observer = view.add_run(name)
            observer.pretrained(50, 100, 2.25)
            frames.append(drawn(view, width))
            observer.advanced(progress(0.25))
            observer.advanced(progress(0.5, tokens=20_000))
            frames.append(drawn(view, width))
            observer.finished()
            frames.append(drawn(view, width))
    return frames, stream.getvalue()


def drawn(view, width):
    console = Console(file=io.StringIO(), width=width)
    with console.capture() as capture:
        console.print(view)
    return capture.get()


def test_the_view_shows_pretraining_then_the_clock_then_the_time_taken():
    frames, _ = watched()
    assert "[1/2] sync [DiLoCo]" in frames[0]
    assert "pretraining: 50 of 100 steps · loss 2.250" in frames[0]
    assert "50 %" in frames[1]
    assert "left" in frames[1]
    for words in ("clock 55 min 32 s", "7 updates", "staleness 1.5", "loss 1.750", "perplexity 5.500", "tokens/s"):
        assert words in frames[1]
    assert "100 % took" in frames[2]
    assert "[2/2]" in frames[3]


@pytest.mark.parametrize("width", [60, 80, 160])
def test_every_simulation_keeps_to_one_line_the_detail_to_two_and_all_together_to_one(width):
    frames, _ = watched(width)
    for frame, bars in zip(frames, (1, 1, 1, 2, 2, 2), strict=True):
        lines = frame.rstrip("\n").split("\n")
        assert sum("%" in line for line in lines) == bars
        assert len(lines) <= bars + 3
        assert "of 2 done" in lines[-1]
        assert max(len(line) for line in lines) <= width


def test_nothing_is_drawn_where_there_is_no_terminal():
    assert watched(terminal=True)[1] != ""
    assert watched(terminal=False)[1] == ""


def test_where_there_is_no_terminal_a_line_is_written_now_and_then(monkeypatch):
    monkeypatch.setattr(live, "_LINE_EVERY_S", 0.01)
    flushed = []

    class File(io.StringIO):
        def flush(self):
            flushed.append(self.getvalue())

    def written(words):
        while not flushed or words not in flushed[-1].splitlines()[-1]:
            time.sleep(0.001)
        return flushed[-1].splitlines()[-1]

    with LiveView(Console(file=File(), force_terminal=False, width=40), 2) as view:
        observer = view.add_run("sync [DiLoCo]")
        assert re.match(r"\d\d:\d\d:\d\d \[1/2\] sync \[DiLoCo\] 0 % · preparing · 0 of 2 done", written("preparing"))
        observer.advanced(progress(0.25))
        observer.advanced(progress(0.5, tokens=20_000))
        for words in (" 50 % · clock 55 min 32 s · 7 updates · ", "loss 1.750", "1 running · 1 waiting", " left"):
            assert words in written(" 50 %")
        observer.finished()
        assert "1 of 2 done" in written("1 of 2 done")
        view.add_run("a")
        view.add_run("b")
        assert "[2/2] a 0 % · [3/2] b 0 % · 1 of 2 done" in written(" b ")
    lines = len(flushed)
    time.sleep(0.05)
    assert len(flushed) == lines


@pytest.mark.usefixtures("mixed_dtypes")
def test_a_simulation_reports_to_its_observer():
    class Observer:
        def __init__(self):
            self.pretraining, self.updates = [], []

        def pretrained(self, steps, of, loss):
            self.pretraining.append((steps, of, loss))

        def advanced(self, progress):
            self.updates.append(progress)

    observer = Observer()
    experiment = tiny(pretrain={"steps": 150}, budget={"local_steps": 40})
    record = simulate(experiment, observer=observer, cache=Cache())
    assert [entry[:2] for entry in observer.pretraining] == [(100, 150), (150, 150)]
    assert observer.pretraining[0][2] > observer.pretraining[1][2]
    assert [update.local_steps for update in observer.updates] == list(range(5, 45, 5))
    assert [update.simulated_s for update in observer.updates] == record.rounds["update_s"].tolist()
    assert observer.updates[-1].fraction == 1.0
    assert observer.updates[-1].tokens == record.summary["tokens"]


PREPARATION = [
    (0.0, ("training the tokenizer", 0, None, "")),
    (20.0, ("tokenising", 10_000_000, 50_000_000, "bytes")),  # what a stopped preparation has kept
    (24.0, ("tokenising", 20_000_000, 50_000_000, "bytes")),
    (62.0, ("tokenising", 50_000_000, 50_000_000, "bytes")),
    (62.0, ("clustering documents", 0, 3_000, "documents")),
    (93.0, ("clustering documents", 1_500, 3_000, "documents")),
    (94.0, ("reading", 700, None, "documents")),
]


def prepared(monkeypatch, steps, terminal):
    """What is shown after each of (time in s, what is told), and all that is written."""
    now_s = [0.0]
    monkeypatch.setattr(live.time, "monotonic", lambda: now_s[0])
    stream = io.StringIO()
    drawn, frames = Console(width=100), []
    with PreparationView(Console(file=stream, force_terminal=terminal, width=100)) as view:
        for now_s[0], told in steps:
            view(*told)
            with drawn.capture() as capture:
                drawn.print(view)
            frames.append(" ".join(capture.get().replace("━", "").replace("╸", "").replace("╺", "").split()))
    return frames, stream.getvalue()


def test_preparation_shows_the_step_how_much_is_done_and_the_time_left(monkeypatch):
    plain, _ = prepared(monkeypatch, PREPARATION, terminal=True)
    assert plain[0] == "data: training the tokenizer"
    assert plain[1] == "data: tokenising 10 MB of 50 MB"
    assert plain[2] == "data: tokenising 20 MB of 50 MB 12 s left"
    assert plain[3].startswith("data: tokenising 50 MB of 50 MB took ")
    assert plain[4] == "data: clustering documents 0 of 3,000 documents"
    assert plain[5] == "data: clustering documents 1,500 of 3,000 documents 31 s left"
    assert plain[6] == "data: reading 700 documents"


def test_where_there_is_no_terminal_long_preparation_writes_a_line_now_and_then(monkeypatch):
    _, written = prepared(monkeypatch, PREPARATION, terminal=False)
    assert written == "data: tokenising 50 MB of 50 MB\ndata: clustering documents 1,500 of 3,000 documents\n"


@pytest.mark.parametrize("terminal", [True, False])
def test_nothing_to_prepare_and_short_preparation_leave_nothing_behind(monkeypatch, terminal):
    assert prepared(monkeypatch, [], terminal)[1] == ""
    if not terminal:
        assert prepared(monkeypatch, PREPARATION[:3], terminal)[1] == ""
