"""Values: trees of arrays that are computed when somebody asks for them, and only then."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any


class UnknownValueError(LookupError):
    """A value that is neither known nor can be computed."""


class Value:
    """A tree of arrays, or a promise of one. A known value holds on to nothing that it was computed from.

    Attributes:
      number: values are numbered in the order in which they are made, the same in every run of a simulation.
      kind: of the tree, from which its structure follows.
    """

    __slots__ = ("_compute", "_inputs", "_tree", "is_known", "kind", "number")

    def __init__(self, number: int, kind: str, compute: Callable[..., Any] | None, inputs: tuple["Value", ...]):
        self.number, self.kind, self.is_known = number, kind, False
        self._compute, self._inputs, self._tree = compute, inputs, None

    def get(self) -> Any:
        """Returns the tree, computing what is needed for it.

        Raises:
          UnknownValueError: it is to be restored from a checkpoint, and is not.
        """
        if not self.is_known:
            if self._compute is None:
                raise UnknownValueError(f"value {self.number}, of kind {self.kind}, is not known")
            self.set(self._compute(*[each.get() for each in self._inputs]))
        return self._tree

    def set(self, tree: Any) -> None:
        """Makes the value known."""
        self._tree, self.is_known = tree, True
        self._compute, self._inputs = None, ()

    def await_checkpoint(self) -> None:
        """Leaves the value to be restored, since it was known when the checkpoint was made."""
        self._compute, self._inputs = None, ()

    @property
    def inputs(self) -> tuple["Value", ...]:
        """Values that it depends on; none once it is known."""
        return self._inputs


class Values:
    """Maker of values."""

    def __init__(self) -> None:
        self._made = 0

    def known(self, kind: str, tree: Any) -> Value:
        """Returns a value that is known."""
        value = self.expected(kind)
        value.set(tree)
        return value

    def lazy(self, kind: str, compute: Callable[..., Any], *inputs: Value) -> Value:
        """Returns the value of a function of others."""
        return Value(self.next_number(), kind, compute, inputs)

    def expected(self, kind: str) -> Value:
        """Returns a value that is going to be set."""
        return Value(self.next_number(), kind, None, ())

    def next_number(self) -> int:
        """Returns the number of the next value."""
        self._made += 1
        return self._made - 1


def reachable(roots: Iterable[Value]) -> Iterator[Value]:
    """Yields values and all that those of them depend on that are not known, each once."""
    pending, seen = list(roots), set()
    while pending:
        value = pending.pop()
        if value.number not in seen:
            seen.add(value.number)
            yield value
            pending.extend(value.inputs)
