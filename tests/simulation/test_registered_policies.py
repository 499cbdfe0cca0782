"""Policies of one's own: registered, named in an experiment file, simulated, verified."""

import dataclasses
import importlib.util
import json
import math
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from simulator import (
    Cache,
    ExperimentError,
    ServerView,
    SynchronizationPolicy,
    import_plugins,
    load,
    register_local_steps,
    register_shard_choice,
    register_synchronization,
    simulate,
)
from simulator.cluster import nanoseconds
from simulator.experiment import SimulationError, registry
from simulator.experiment.file import merge
from simulator.experiment.problems import OF_PLUGINS
from simulator.simulation.checks import check
from simulator.verify import unchecked, verify
from tests.experiments import TINY, tiny

CACHE = Cache()
NESTEROV = {"optimizer": "nesterov", "learning_rate": 0.5, "momentum": 0.9, "weight": 1.0}


@dataclasses.dataclass(frozen=True)
class Share(SynchronizationPolicy):
    """A group restarts when a share of all workers is in it."""

    share: float = 0.5

    def __post_init__(self):
        if not 0 < self.share <= 1:
            raise ValueError(f"share is {self.share}: give one above 0 and up to 1")

    def closes(self, view: ServerView) -> bool:
        return view.outstanding == 0 or view.group >= self.share * view.workers


@dataclasses.dataclass(frozen=True)
class Averaged(Share):
    averages_group = True


class Late(SynchronizationPolicy):
    """Everybody restarts 4 s after the last restart, if anybody is there."""

    timeout_s = 4.0

    def closes(self, view: ServerView) -> bool:
        return view.outstanding == 0 or view.now_ns >= view.started_ns + nanoseconds(self.timeout_s)


def slower_do_less(local_steps, least=1):
    return lambda worker, step_s: max(least, int(step_s.min() / step_s[worker] * local_steps))


def in_turn(sizes):
    return lambda worker, assigned, random: int(assigned.argmin())


@pytest.fixture(autouse=True)
def own_names():
    with registry.emptied():
        assert register_synchronization("share", Share) is Share
        register_synchronization("averaged", Averaged)
        register_synchronization("late", Late)
        register_local_steps("slower_do_less", slower_do_less)
        register_shard_choice("in_turn", in_turn)
        yield


def timeline(**changes):
    return simulate(tiny(**changes), trainer="null", cache=CACHE)


def own(kind, **arguments):
    return {"kind": kind, "arguments": arguments}


def groups(record):
    """How many workers restarted together, of all restarts but the first."""
    restarts = record.rounds.groupby("pull_start_s").size()
    return restarts.iloc[1:].tolist()


def test_a_group_restarts_when_the_policy_says_so():
    record = timeline(synchronization=own("share", share=0.5))
    assert set(groups(record)[:-3]) == {2}  # the last restarts' rounds have not all arrived
    assert set(groups(timeline(synchronization=own("share", share=0.25)))) == {1}
    assert verify(record) == []


def test_everybody_as_a_share_is_the_built_in_policy_of_the_same_meaning():
    everybody = timeline(synchronization=own("share", share=1.0))
    infinite = timeline(synchronization={"kind": "asynchronous", "grace": "infinite"})
    assert everybody.summary["causal_hash"] == infinite.summary["causal_hash"]
    pd.testing.assert_frame_equal(everybody.rounds, infinite.rounds, check_exact=True)
    assert timeline(synchronization=own("share")).summary["causal_hash"] != infinite.summary["causal_hash"]


@pytest.mark.usefixtures("mixed_dtypes")
def test_a_policy_that_averages_everybody_trains_what_a_barrier_does():
    barrier = simulate(tiny(synchronization={"kind": "barrier"}, outer=NESTEROV), cache=CACHE)
    averaged = simulate(tiny(synchronization=own("averaged", share=1.0), outer=NESTEROV), cache=CACHE)
    assert averaged.summary["parameters_hash"] == barrier.summary["parameters_hash"]
    half = simulate(tiny(synchronization=own("averaged", share=0.5), outer=NESTEROV), cache=CACHE)
    assert half.summary["parameters_hash"] != barrier.summary["parameters_hash"]
    assert set(half.rounds["outcome"]) == {"applied", "dropped"}
    assert verify(half) == []
    assert verify(averaged) == []


def test_a_policy_is_asked_again_at_its_timeout():
    record = timeline(synchronization=own("late"))
    starts = sorted(set(record.rounds["pull_start_s"]))
    assert starts[:5] == [0.0, 4.0, 8.0, 12.0, 16.0]  # rounds take 2.9 s, 3.75 s, 7.55 s and 16.65 s
    assert verify(record) == []


def test_steps_and_shards_of_ones_own():
    changes = {"local_steps": own("slower_do_less", least=2), "shard_choice": own("in_turn")}
    record = timeline(**changes)
    by_worker = record.rounds.groupby("worker")["local_steps"]
    assert by_worker.min().tolist() == by_worker.max().tolist() == [5, 3, 2, 2]
    steps = record.rounds.groupby("shard")["local_steps"].sum()
    assert len(steps) == 4
    assert steps.max() - steps.min() <= 10
    assert verify(record) == []
    measured = timeline(local_steps={"kind": "dynamic", "speed": "measured"})
    assert timeline(local_steps=own("slower_do_less")).summary["causal_hash"] == measured.summary["causal_hash"]


@pytest.mark.parametrize("number", [0, 6, 2.5, None])
def test_what_cannot_be_chosen_ends_the_simulation(number):
    register_local_steps("wrong", lambda local_steps: lambda worker, step_s: number)
    with pytest.raises(SimulationError, match=r"local_steps 'wrong' chose .* from 1 to 5$"):
        timeline(local_steps=own("wrong"))


def test_a_policy_sees_but_cannot_change_what_is_known():
    def greedy(sizes):
        def choose(worker, assigned, random):
            assigned[0] = 10**9
            return 0

        return choose

    register_shard_choice("greedy", greedy)
    with pytest.raises(ValueError, match="read-only"):
        timeline(shard_choice=own("greedy"))


def problems(**changes):
    """What is said of a file with these changes."""
    path = Path("own.yaml")
    path.write_text(yaml.safe_dump(merge(TINY, changes), sort_keys=False), encoding="utf-8")
    with pytest.raises(ExperimentError) as raised:
        load(path)
    return [str(problem).split(": ", 1)[1] for problem in raised.value.problems]


def test_mistakes_are_reported_at_their_keys_with_the_nearest_names(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    known = "asynchronous, averaged, barrier, late, quorum, share"
    assert problems(synchronization=own("shrae")) == [
        f"synchronization.kind = 'shrae': unknown kind; did you mean 'share'? {OF_PLUGINS}"
    ]
    assert problems(synchronization=own("zzz")) == [
        f"synchronization.kind = 'zzz': unknown kind; valid: {known} {OF_PLUGINS}"
    ]
    assert problems(synchronization={"kind": "named"}) == [
        f"synchronization.kind = 'named': unknown kind; valid: {known} {OF_PLUGINS}"
    ]
    assert problems(synchronization=own("share", share=3)) == [
        "synchronization.arguments: share refuses them: share is 3: give one above 0 and up to 1"
    ]
    [message] = problems(synchronization=own("share", size=3))
    assert message.startswith("synchronization.arguments: share does not fit: ")
    assert message.endswith("; it takes share")
    assert problems(local_steps=own("slower_do_less", local_steps=3)) == [
        "local_steps.arguments: local_steps is given to every local_steps: take it out of the arguments"
    ]
    assert problems(synchronization={"kind": "share", "share": 0.5}) == [
        "synchronization.share = 0.5: unknown key; valid: arguments, kind"
    ]


class Answers(SynchronizationPolicy):
    """Answers the same to every question."""

    def __init__(self, answer=True, **attributes):
        self.answer = answer
        vars(self).update(attributes)

    def closes(self, view: ServerView) -> bool:
        return self.answer


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (object(), r"<object.*>, which has no closes, averages_group, .*: inherit from SynchronizationPolicy"),
        (Answers(averages_group="no"), "a policy whose averages_group is 'no': see SynchronizationPolicy"),
        (Answers(looks_ahead=None), "a policy whose looks_ahead is None: see SynchronizationPolicy"),
        (Answers(timeout_s="4s"), "a policy whose timeout_s is '4s': see SynchronizationPolicy"),
        (Answers(timeout_s=math.nan), "a policy whose timeout_s is nan: see SynchronizationPolicy"),
        (Answers(closes=True), "a policy whose closes is True: see SynchronizationPolicy"),
        (
            Answers(closes=lambda: True),
            r"a function that cannot be called with \(view\): too many",
        ),
    ],
)
def test_a_factory_that_makes_no_policy_is_refused(made, message):
    register_synchronization("nothing", lambda: made)
    with pytest.raises(ValueError, match=f"its factory returned {message}"):
        tiny(synchronization=own("nothing"))


@pytest.mark.parametrize(
    ("section", "made", "message"),
    [
        ("local_steps", None, "None, which has no __call__: return a function"),
        ("local_steps", lambda worker: 1, r"a function that cannot be called with \(worker, step_s\): too many"),
        ("shard_choice", 3, "3, which has no __call__: return a function"),
        (
            "shard_choice",
            lambda worker, assigned: 1,
            r"a function that cannot be called with \(worker, assigned",
        ),
    ],
)
def test_a_factory_that_makes_no_fitting_function_is_refused_before_the_run(section, made, message):
    register_local_steps("wrong", lambda local_steps: made)
    register_shard_choice("wrong", lambda sizes: made)
    [problem] = check(tiny(**{section: own("wrong")}), CACHE)
    assert problem.key == f"{section}.kind"
    assert re.match(f"its factory returned {message}", problem.message)


def test_what_a_factory_raises_is_said_with_its_line():
    register_local_steps("broken", lambda local_steps, size: size[local_steps])
    [problem] = check(tiny(local_steps=own("broken", size={})), CACHE)
    assert problem.key == "local_steps.arguments"
    assert re.match(r"broken refuses them: KeyError at line \d+ of .*test_registered_policies.py: 5", problem.message)


@pytest.mark.parametrize("answer", [None, "yes", 1])
def test_an_answer_that_is_neither_true_nor_false_ends_the_simulation(answer):
    register_synchronization("answers", Answers)
    message = f"^synchronization 'answers' answered {answer!r} to closes.view.: it has to be True or False$"
    with pytest.raises(SimulationError, match=message):
        timeline(synchronization=own("answers", answer=answer))
    assert timeline(synchronization=own("answers", answer=True)).summary["server_updates"] > 0


def test_the_number_of_workers_is_a_number_among_the_arguments():
    counted = own("share", share="1/workers")
    assert tiny(synchronization=counted).synchronization.arguments == {"share": 0.25}
    assert set(groups(timeline(synchronization=counted))) == {1}
    assert tiny(local_steps=own("slower_do_less", least="workers")).local_steps.arguments == {"least": 4}


@pytest.mark.parametrize("name", ["share", "barrier"])
def test_a_taken_name_is_refused(name):
    with pytest.raises(ValueError, match=f"^synchronization.kind '{name}' exists already: give another name$"):
        register_synchronization(name, lambda: Share(1.0))


def test_what_is_defined_again_takes_its_own_place(tmp_path):
    register_synchronization("share", Share)  # as a cell that is run twice does
    (tmp_path / "again.py").write_text("""
from simulator import register_synchronization
class Again:
    def closes(self, view): return True
register_synchronization("again", Again)
""")
    import_plugins(str(tmp_path / "again.py"))
    before = registry.registered("synchronization")["again"]
    spec = importlib.util.spec_from_file_location("again", tmp_path / "again.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["again"] = module
    spec.loader.exec_module(module)  # as `import again` does
    assert registry.registered("synchronization")["again"] is module.Again is not before


def test_the_base_says_what_is_missing():
    with pytest.raises(NotImplementedError, match=r"define closes\(view\)"):
        SynchronizationPolicy().closes(ServerView(0.0, 0.0, 1, 0, math.inf))


def test_a_record_of_a_policy_that_is_not_registered_here_is_verified_as_far_as_can_be(tmp_path):
    record = timeline(synchronization=own("share"), local_steps=own("slower_do_less"))
    assert unchecked(timeline()) == []
    rounds = record.rounds.copy()
    rounds.loc[4, "staleness"] += 1
    with registry.emptied():
        assert verify(record) == []
        assert unchecked(record) == [
            "synchronization 'share' is not built in: which rounds an outer step takes, and which are dropped is not "
            "checked",
            "local_steps 'slower_do_less' is not built in: how many local steps a round has is not checked",
        ]
        assert {violation.rule for violation in verify(dataclasses.replace(record, rounds=rounds))} >= {"staleness"}
        with pytest.raises(ExperimentError, match="unknown kind"):
            load_tree(record.experiment, tmp_path)


def load_tree(tree, folder):
    path = folder / "file.yaml"
    path.write_text(yaml.safe_dump(tree), encoding="utf-8")
    return load(path)


PLUGIN = """
from simulator import SynchronizationPolicy, register_synchronization

class Half(SynchronizationPolicy):
    def closes(self, view):
        return view.outstanding == 0 or 2 * view.group >= view.workers

register_synchronization("half", Half)
"""


def test_the_command_line_uses_what_a_plugin_registers(tardigrad, tmp_path):
    experiment = merge(TINY, {"synchronization": {"kind": "half"}})
    code, _, error = tardigrad("validate", "experiment.yaml", experiment=experiment)
    assert code == 2
    assert "synchronization.kind = 'half': unknown kind" in error
    (tmp_path / "half.py").write_text(PLUGIN, encoding="utf-8")
    for _ in range(2):  # once in a process
        code, out, error = tardigrad("validate", "experiment.yaml", "--plugin", "half.py")
        assert (code, error) == (0, "")
    code, out, _ = tardigrad("timeline", "experiment.yaml", "--plugin", "half.py", "--out", "done")
    assert code == 0
    assert json.loads((tmp_path / "done/summary.json").read_text())[0]["variant"] == "tiny"
    code, out, _ = tardigrad("verify", "done")
    assert code == 0
    assert "every rule holds" in out
    assert "synchronization 'half' is not built in" in out


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.py", None, "--plugin = 'none.py': no such file: give the path"),
        ("no_such_module", None, "--plugin = 'no_such_module': no such module: give the name"),
        ("bad.py", "x = 1\nx / 0\n", "--plugin = 'bad.py': ZeroDivisionError at line 2 of "),
        ("bad.py", "import no_such\n", "--plugin = 'bad.py': ModuleNotFoundError at line 1 of "),
        ("bad.py", "x = (\n", "--plugin = 'bad.py': SyntaxError"),
    ],
)
def test_a_plugin_that_cannot_be_used(tardigrad, tmp_path, name, content, message):
    if content is not None:
        (tmp_path / name).write_text(content, encoding="utf-8")
    code, _, error = tardigrad("validate", "experiment.yaml", "--plugin", name, experiment=TINY)
    assert code == 2
    assert message in error
