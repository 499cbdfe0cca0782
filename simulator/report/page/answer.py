"""Answers in words that follow from the records."""

from collections import Counter
from collections.abc import Mapping, Sequence

from simulator.host import format as human
from simulator.report.baselines import unequal
from simulator.report.group_keys import one_line
from simulator.report.grouping import Group
from simulator.report.page.limits import ANSWERS, SENTENCES
from simulator.report.page.results import compared_with, mean_of, steps_ratio


def answers(groups: Sequence[Group]) -> list[str]:
    """Returns one or a few sentences: which variant reached the lowest perplexity, and what it took.

    For each sweep point with several variants; where these are more than a few, how often which variant did, see
    `answers_table`; where they are too many or have one variant each, over everything.
    """
    reached, points = _reached(groups)
    if not reached:
        return [_of_timelines(groups)]
    found = compared_with(groups)
    if not 1 <= len(points) <= ANSWERS:
        return [_sentence(groups, reached, list(reached), found, "")]
    if len(points) > SENTENCES:
        return [_tally(groups, reached, points)]
    sentences = []
    for baseline, members in points.items():
        at = _point(groups, baseline) if len(points) > 1 else ""
        sentences.append(_sentence(groups, reached, members, found, at))
    return sentences


def answers_table(groups: Sequence[Group]) -> list[dict[str, str]]:
    """Returns the results at each sweep point, if these are more than sentences can tell and not too many."""
    reached, points = _reached(groups)
    if not SENTENCES < len(points) <= ANSWERS:
        return []
    rows = []
    for baseline, members in points.items():
        best = _best(groups, reached, members)
        own_s, other_s = (mean_of(groups[index], "simulated_seconds") for index in (best[0], baseline))
        own, other = reached[best[0]], reached.get(baseline)
        steps = steps_ratio(groups, best[0], baseline)
        rivals = [index for index in members if index not in best and _overlap(groups[best[0]], groups[index])]
        rows.append(
            {
                "sweep point": _point(groups, baseline),
                "lowest final perplexity": human.perplexity(own),
                "reached by": _listed([_name(groups, index, baseline) for index in best]),
                "in": human.short_duration(own_s),
                "beside": _name(groups, baseline, baseline),
                "perplexity": human.ratio(own / other) if other else human.UNKNOWN,
                "simulated time": human.ratio(own_s / other_s) if own_s and other_s else human.UNKNOWN,
                "local steps": human.ratio(steps) if unequal(steps) else "",
                "seeds overlap with": _listed([_name(groups, index, baseline) for index in rivals]),
            }
        )
    if not any(row["local steps"] for row in rows):
        for row in rows:
            del row["local steps"]
    return rows


def _tally(groups: Sequence[Group], reached: dict[int, float], points: Mapping[int, Sequence[int]]) -> str:
    """Returns the number of sweep points at which each variant was best."""
    best = [(baseline, _best(groups, reached, members)) for baseline, members in points.items()]
    alone = Counter(_name(groups, each[0], of) for of, each in best if len(each) == 1).most_common()
    count = len({baseline for baseline in compared_with(groups) if baseline is not None})
    parts = [f"{name} reached the lowest final perplexity at {most}" for name, most in alone[:1]]
    parts += [f"{name} at {number}" for name, number in alone[1:]]
    equal = sum(len(each) > 1 for _, each in best)
    parts += [f"several are equal at {equal}"] if equal else []
    parts += [f"all diverged at {count - len(points)}"] if count > len(points) else []
    runs = {len(groups[index].records) for index in reached}
    means = f" (means of {runs.pop()} runs)" if len(runs) == 1 and runs != {1} else ""
    return f"Of {count} sweep points: {', '.join(parts)}{means}."


def _best(groups: Sequence[Group], reached: dict[int, float], members: Sequence[int]) -> list[int]:
    """Returns those that reached the lowest perplexity, to the digits that are shown, the fastest first."""
    lowest = human.perplexity(min(reached[index] for index in members))
    best = [index for index in members if human.perplexity(reached[index]) == lowest]
    return sorted(best, key=lambda index: mean_of(groups[index], "simulated_seconds") or 0.0)


def _reached(groups: Sequence[Group]) -> tuple[dict[int, float], Mapping[int, Sequence[int]]]:
    """Returns the perplexity that each group reached, and the groups of each sweep point by the baseline there."""
    means = ((index, mean_of(group, "final_perplexity")) for index, group in enumerate(groups))
    reached = {index: mean for index, mean in means if mean is not None}
    found = compared_with(groups)
    points: dict[int, list[int]] = {}
    for index in reached:
        baseline = found[index]
        if baseline is not None:
            points.setdefault(baseline, []).append(index)
    return reached, points


def _point(groups: Sequence[Group], index: int) -> str:
    """Returns the name of a group's sweep point, with its experiment if there are several."""
    group = groups[index]
    experiment = [group.keys["name"].shown] if "name" in group.keys else []
    return ", ".join([*experiment, *group.parts[1:]])


def _name(groups: Sequence[Group], index: int, baseline: int | None) -> str:
    """Returns the name of a group beside others of its sweep point: its variant, and other differences from it."""
    group = groups[index]
    if baseline is None:
        return group.label
    return ", ".join(
        [one_line(group.variant), *(part for part in group.parts[1:] if part not in groups[baseline].parts)]
    )


def _sentence(
    groups: Sequence[Group],
    reached: dict[int, float],
    members: Sequence[int],
    found: Sequence[int | None],
    at: str,
) -> str:
    best = min(members, key=lambda index: reached[index])
    group, baseline = groups[best], found[best]

    def name(index: int) -> str:
        return _name(groups, index, baseline if at else None)

    where = f"At {at}, {name(best)}" if at else name(best)
    runs = len(group.records)
    text = f"{where} reached the lowest final perplexity, {human.perplexity(reached[best])}"
    text += f" (mean of {runs} runs)" if runs > 1 else ""
    time_s = mean_of(group, "simulated_seconds")
    if baseline is None or baseline == best:
        text += f", in {human.short_duration(time_s)} of simulated time."
        others = [index for index in members if index != best]
        if baseline == best and others:
            second = min(others, key=lambda index: reached[index])
            text += f" Next is {name(second)}: {_beside(groups, reached, second, best)}."
    elif baseline in reached:
        text += f": {_beside(groups, reached, best, baseline)} of {name(baseline)}."
    else:
        text += f"; {name(baseline)} diverged."
    rivals = [index for index in members if index != best and _overlap(groups[best], groups[index])]
    if rivals:
        text += f" Over the seeds its range overlaps with that of {_listed([name(index) for index in rivals])}."
    data = {run.get("data_hash") for index in members for run in groups[index].summaries}
    return text + (" They were not evaluated on the same data, so this compares little." if len(data) > 1 else "")


def _beside(groups: Sequence[Group], reached: dict[int, float], index: int, other: int) -> str:
    """Returns a group's perplexity and simulated time as multiples of those of another, with unequal work."""
    own_s, other_s = (mean_of(groups[i], "simulated_seconds") for i in (index, other))
    text = f"{human.ratio(reached[index] / reached[other])} the perplexity"
    text += f" in {human.ratio(own_s / other_s)} the simulated time" if own_s and other_s else ""
    steps = steps_ratio(groups, index, other)
    return text + (f", with {human.ratio(steps)} the local steps" if unequal(steps) else "")


def _overlap(group: Group, other: Group) -> bool:
    """Returns whether the ranges of two groups' perplexities, both of several runs, have something in common."""
    ranges = []
    for each in (group, other):
        values = [record.summary["final_perplexity"] for record in each.records]
        if len(values) < 2 or not all(map(human.known, values)):
            return False
        ranges.append((min(values), max(values)))
    (low, high), (other_low, other_high) = ranges
    return bool(low <= other_high and other_low <= high)


def _listed(names: Sequence[str]) -> str:
    if not names:
        return ""
    if len(names) > 3:
        return f"{len(names)} others"
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _of_timelines(groups: Sequence[Group]) -> str:
    """Returns the sentences of runs of which nothing was trained, or everything diverged."""
    if any(record.summary["trainer"] != "null" for group in groups for record in group.records):
        return "No variant has a finite final perplexity in all of its runs."
    known = {index: mean_of(group, "utilization") for index, group in enumerate(groups)}
    used = {index: share for index, share in known.items() if share is not None}
    if not used:
        return "Nothing was trained, and no round arrived."
    best = max(used, key=lambda index: used[index])
    return (
        f"Nothing was trained. {groups[best].label} keeps its workers busiest: {human.percent(used[best])} of the time."
    )
