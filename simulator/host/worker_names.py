"""Names and sites of workers, and the labels that tell one worker from another."""

from collections import Counter
from collections.abc import Mapping, Sequence

Words = str | Sequence[str] | Mapping[str, int]
"""One word for all workers, one for each, or how many workers have each, in order."""


def of_each(words: Words | None, workers: int) -> list[str] | None:
    """Returns the word of each worker, None where there are none."""
    if words is None:
        return None
    if isinstance(words, str):
        return [words] * workers
    if isinstance(words, Mapping):
        return [word for word, count in words.items() for _ in range(count)]
    return list(words)


def labels(names: Sequence[str] | None, sites: Sequence[str] | None, workers: int) -> list[str]:
    """Returns the label of each worker: "H100 in east" where it alone is called so, else "H100 2 in east".

    Args:
      names: of the kinds of devices, one of each worker; without them a worker has its number, from 0.
      sites: of each worker; labels without them have none.
      workers: number of workers.
    """
    if names is None:
        labelled = [f"worker {worker}" for worker in range(workers)]
    else:
        kinds = list(zip(names, sites or [""] * workers, strict=True))
        alike, seen, labelled = Counter(kinds), Counter[tuple[str, str]](), []
        for kind in kinds:
            seen[kind] += 1
            labelled.append(kind[0] if alike[kind] == 1 else f"{kind[0]} {seen[kind]}")
    return labelled if sites is None else [f"{each} in {site}" for each, site in zip(labelled, sites, strict=True)]


def pair_of(pairs: Sequence[Sequence[str]], sender: str, receiver: str) -> int | None:
    """Returns the place of the pair of sites that says what the way from one to the other is like, None if none does.

    Args:
      pairs: each from its first site to its second, and back unless that way is a pair of its own.
      sender: site of it.
      receiver: site of it.
    """
    known = [tuple(pair) for pair in pairs]
    way = next((way for way in ((sender, receiver), (receiver, sender)) if way in known), None)
    return None if way is None else known.index(way)
