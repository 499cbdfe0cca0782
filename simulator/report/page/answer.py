"""Answers in words that follow from the records."""

from collections import Counter
from collections.abc import Sequence

from simulator.host import format as human
from simulator.host.text import one_line
from simulator.report.baselines import unequal
from simulator.report.grouping import Group
from simulator.report.page.limits import ANSWERS, SENTENCES
from simulator.report.page.results import compared_with, mean_of, steps_ratio
from simulator.report.seeds import spread


def answers(groups: Sequence[Group]) -> list[str]:
    """Returns one or a few sentences: which variant reached the lowest perplexity, and what it took.

    For each sweep point with several variants; where these are more than a few, how often which variant did, see
    `answers_table`; where they are too many or have one variant each, over everything.
    """
    found = _Perplexities(groups)
    if not found.reached:
        return [_of_timelines(groups)]
    if not 1 <= len(found.points) <= ANSWERS:
        return [found.sentence(list(found.reached), "")]
    if len(found.points) > SENTENCES:
        return [found.tally()]
    several = len(found.points) > 1
    return [found.sentence(members, found.point(of) if several else "") for of, members in found.points.items()]


def answers_table(groups: Sequence[Group]) -> list[dict[str, str]]:
    """Returns the results at each sweep point, if these are more than sentences can tell and not too many."""
    found = _Perplexities(groups)
    if not SENTENCES < len(found.points) <= ANSWERS:
        return []
    rows = [found.row(baseline, members) for baseline, members in found.points.items()]
    empty = [] if any(row["local steps"] for row in rows) else ["local steps"]
    return [{key: text for key, text in row.items() if key not in empty} for row in rows]


class _Perplexities:
    """Final perplexities of groups.

    Attributes:
        groups: All groups; the others name them by their index.
        baselines: The group that each is compared with, see `compared_with`.
        reached: The mean of each group that has one.
        points: The groups of each sweep point that have one, by the baseline there.
    """

    def __init__(self, groups: Sequence[Group]) -> None:
        self.groups, self.baselines = groups, compared_with(groups)
        means = [mean_of(group, "final_perplexity") for group in groups]
        self.reached = {index: mean for index, mean in enumerate(means) if mean is not None}
        self.points: dict[int, list[int]] = {}
        for index in self.reached:
            if (baseline := self.baselines[index]) is not None:
                self.points.setdefault(baseline, []).append(index)

    def row(self, baseline: int, members: Sequence[int]) -> dict[str, str]:
        """Returns the row of `answers_table` of a sweep point."""
        best = self.best(members)
        own_s, other_s = (self.seconds(index) for index in (best[0], baseline))
        own, other = self.reached[best[0]], self.reached.get(baseline)
        steps = steps_ratio(self.groups, best[0], baseline)
        rivals = [index for index in self.rivals(best[0], members) if index not in best]
        return {
            "sweep point": self.point(baseline),
            "lowest final perplexity": human.perplexity(own),
            "reached by": _listed([self.name(index, baseline) for index in best]),
            "in": human.short_duration(own_s),
            "beside": self.name(baseline, baseline),
            "perplexity": human.ratio(own / other if other else None),
            "simulated time": human.ratio(own_s / other_s if own_s and other_s else None),
            "local steps": human.ratio(steps) if unequal(steps) else "",
            "seeds overlap with": _listed([self.name(index, baseline) for index in rivals]),
        }

    def tally(self) -> str:
        """Returns the number of sweep points at which each variant was best."""
        best = [(baseline, self.best(members)) for baseline, members in self.points.items()]
        alone = Counter(self.name(each[0], of) for of, each in best if len(each) == 1).most_common()
        count = len({*self.baselines} - {None})
        parts = [f"{name} reached the lowest final perplexity at {most}" for name, most in alone[:1]]
        parts += [f"{name} at {number}" for name, number in alone[1:]]
        equal = sum(len(each) > 1 for _, each in best)
        parts += [f"several are equal at {equal}"] if equal else []
        parts += [f"all diverged at {count - len(self.points)}"] if count > len(self.points) else []
        runs = {len(self.groups[index].records) for index in self.reached}
        means = f" (means of {runs.pop()} runs)" if len(runs) == 1 and runs != {1} else ""
        return f"Of {count} sweep points: {', '.join(parts)}{means}."

    def sentence(self, members: Sequence[int], at: str) -> str:
        """Returns which of some groups reached the lowest perplexity, at the sweep point of that name if any."""
        best = min(members, key=lambda index: self.reached[index])
        runs, baseline = len(self.groups[best].records), self.baselines[best]

        def name(index: int) -> str:
            return self.name(index, baseline if at else None)

        text = f"{f'At {at}, ' if at else ''}{name(best)} reached the lowest final perplexity, "
        text += human.perplexity(self.reached[best]) + (f" (mean of {runs} runs)" if runs > 1 else "")
        if baseline is None or baseline == best:
            text += f", in {human.short_duration(self.seconds(best))} of simulated time."
            others = [index for index in members if index != best]
            if baseline == best and others:
                second = min(others, key=lambda index: self.reached[index])
                text += f" Next is {name(second)}: {self.beside(second, best)}."
        elif baseline in self.reached:
            text += f": {self.beside(best, baseline)} of {name(baseline)}."
        else:
            text += f"; {name(baseline)} diverged."
        rivals = self.rivals(best, members)
        if rivals:
            text += f" Over the seeds its range overlaps with that of {_listed([name(index) for index in rivals])}."
        data = {run.get("data_hash") for index in members for run in self.groups[index].summaries}
        return text + (" They were not evaluated on the same data, so this compares little." if len(data) > 1 else "")

    def best(self, members: Sequence[int]) -> list[int]:
        """Returns those that reached the lowest perplexity, to the digits that are shown, the fastest first."""
        lowest = human.perplexity(min(self.reached[index] for index in members))
        best = [index for index in members if human.perplexity(self.reached[index]) == lowest]
        return sorted(best, key=lambda index: self.seconds(index) or 0.0)

    def seconds(self, index: int) -> float | None:
        return mean_of(self.groups[index], "simulated_seconds")

    def point(self, index: int) -> str:
        """Returns the name of a group's sweep point, with its experiment if there are several."""
        group = self.groups[index]
        return ", ".join([*([group.keys["name"].shown] if "name" in group.keys else []), *group.parts[1:]])

    def name(self, index: int, baseline: int | None) -> str:
        """Returns the name of a group; beside a baseline its variant, and other differences from that."""
        group = self.groups[index]
        if baseline is None:
            return group.label
        differences = (part for part in group.parts[1:] if part not in self.groups[baseline].parts)
        return ", ".join([one_line(group.variant), *differences])

    def beside(self, index: int, other: int) -> str:
        """Returns a group's perplexity and simulated time as multiples of those of another, with unequal work."""
        own_s, other_s = (self.seconds(each) for each in (index, other))
        text = f"{human.ratio(self.reached[index] / self.reached[other])} the perplexity"
        text += f" in {human.ratio(own_s / other_s)} the simulated time" if own_s and other_s else ""
        steps = steps_ratio(self.groups, index, other)
        return text + (f", with {human.ratio(steps)} the local steps" if unequal(steps) else "")

    def rivals(self, index: int, members: Sequence[int]) -> list[int]:
        """Returns the other groups whose perplexities, of several runs each, have a range in common with a group's."""
        ranges = {each: spread(run["final_perplexity"] for run in self.groups[each].summaries) for each in members}
        own = ranges.pop(index)
        several = {
            each: other for each, other in ranges.items() if own.known == own.runs > 1 < other.runs == other.known
        }
        return [each for each, other in several.items() if own.low <= other.high and other.low <= own.high]


def _listed(names: Sequence[str]) -> str:
    if len(names) > 3:
        return f"{len(names)} others"
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def _of_timelines(groups: Sequence[Group]) -> str:
    """Returns the sentences of runs of which nothing was trained, or everything diverged."""
    if any(run["trainer"] != "null" for group in groups for run in group.summaries):
        return "No variant has a finite final perplexity in all of its runs."
    used = {group.label: share for group in groups if (share := mean_of(group, "utilization")) is not None}
    if not used:
        return "Nothing was trained, and no round arrived."
    best = max(used, key=lambda label: used[label])
    return f"Nothing was trained. {best} keeps its workers busiest: {human.percent(used[best])} of the time."
