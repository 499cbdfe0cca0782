"""Signals that ask a process to stop."""

import os
import signal
from collections.abc import Iterator

import pytest

from simulator.host.signals import StopSignals

pytestmark = pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="this system has no hang-ups")


@pytest.fixture(autouse=True)
def _handlers() -> Iterator[None]:
    """Signals do what they do by default, also where nohup has started the tests."""
    defaults = {
        signal.SIGINT: signal.default_int_handler,
        signal.SIGTERM: signal.SIG_DFL,
        signal.SIGHUP: signal.SIG_DFL,
    }
    former = {number: signal.signal(number, handler) for number, handler in defaults.items()}
    yield
    for number, handler in former.items():
        signal.signal(number, handler)


def send(*numbers: int) -> None:
    for number in numbers:
        os.kill(os.getpid(), number)


@pytest.mark.parametrize(
    ("numbers", "received"),
    [
        ([signal.SIGINT], signal.SIGINT),
        ([signal.SIGTERM], signal.SIGTERM),
        ([signal.SIGHUP], signal.SIGHUP),
        ([signal.SIGHUP, signal.SIGHUP, signal.SIGHUP], signal.SIGHUP),  # of a shell, and of the terminal
        ([signal.SIGTERM, signal.SIGHUP], signal.SIGTERM),  # of a session that ends
        ([signal.SIGHUP, signal.SIGTERM], signal.SIGTERM),
    ],
)
def test_it_is_asked_to_stop_in_order(numbers: list[int], received: int):
    with StopSignals() as stop:
        assert not stop()
        send(*numbers)
        assert stop()
        assert stop.received == received


@pytest.mark.parametrize(
    "numbers",
    [
        [signal.SIGINT, signal.SIGINT],
        [signal.SIGTERM, signal.SIGINT],
        [signal.SIGHUP, signal.SIGTERM, signal.SIGTERM],
    ],
)
def test_whoever_insists_is_heard_at_once(numbers: list[int]):
    with pytest.raises(KeyboardInterrupt), StopSignals():  # noqa: PT012
        send(*numbers[:-1])
        send(numbers[-1])


def test_hang_ups_that_are_ignored_stay_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    with StopSignals() as stop:
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        send(signal.SIGHUP)
        assert not stop()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_signals_are_given_back():
    former = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    with StopSignals():
        pass
    assert former == [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
