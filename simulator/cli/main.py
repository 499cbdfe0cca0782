"""The `tardigrad` command."""

import contextlib
import functools
import importlib
import os
import signal
import sys
import warnings
from collections.abc import Callable, Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer

from simulator.cli import commands
from simulator.cli.output import EXIT_BAD_INPUT, EXIT_BROKEN, fail
from simulator.host.errors import SettingError
from simulator.host.jax_setup import load_jax, use_cpu_cores
from simulator.host.output import UnreadError, open_standard_streams
from simulator.host.signals import Interrupted
from simulator.host.text import system_error, visible

EXIT_SIGNAL = 128  # and the signal's number
_UNREAD = 13  # SIGPIPE, which not every system has


@contextlib.contextmanager
def _messages() -> Iterator[None]:
    """Ends the process with one clear message where the input or the disk is at fault."""
    try:
        yield
        sys.stdout.flush()
    except UnreadError:
        sys.exit(EXIT_SIGNAL + _UNREAD)  # as a shell says of programs that end by this signal
    except KeyboardInterrupt:
        sys.stderr.write("tardigrad: interrupted; what had been written down is kept\n")
        _leave(EXIT_SIGNAL + signal.SIGINT)
    except Interrupted as interrupted:
        sys.stderr.write(f"tardigrad: {visible(str(interrupted))}\n")
        _leave(EXIT_SIGNAL + interrupted.number)
    except OSError as error:
        fail(system_error(error), EXIT_BAD_INPUT)
    except Exception as error:
        code = _exit_code(error)
        if code is None:
            raise
        fail(str(error), code)


def _exit_code(error: Exception) -> int | None:
    """Returns the exit code of an error whose message says it all, None of any other."""
    from simulator.experiment import ExperimentError, SimulationError  # loads pydantic, which help does not need

    if isinstance(error, SimulationError):
        return EXIT_BROKEN
    if isinstance(error, ExperimentError):
        return EXIT_BAD_INPUT
    if not isinstance(error, ValueError):
        return None
    from simulator.record import RecordError  # loads pandas
    from simulator.report import ReportError

    return EXIT_BAD_INPUT if isinstance(error, SettingError | RecordError | ReportError) else None


_LOAD_JAX = {"catalogue", "compare", "data", "plan", "run", "validate"}  # a wrong setting of JAX's is then one message


def _command(module: str, options: Callable[..., None]) -> Callable[..., None]:
    """Returns a command with the options of a function; the function of the same name in a module does it.

    Its mistakes end in messages. Its paths may begin with ~: shells put a home folder there at the start of a word
    alone, and not in --out=~/runs.
    """

    @functools.wraps(options)
    def command(**arguments: Any) -> None:
        with _messages():  # else typer ends at KeyboardInterrupt without a word
            if module in _LOAD_JAX:
                load_jax()
            function = getattr(importlib.import_module(f"simulator.cli.{module}"), options.__name__)
            function(**{name: _expanded(value) for name, value in arguments.items()})

    return command


def _expanded(value: Any) -> Any:
    if isinstance(value, list):
        return [_expanded(each) for each in value]
    return value.expanduser() if isinstance(value, Path) else value


def _leave(code: int) -> None:
    """Ends the process at once: the interpreter cannot be torn down safely while JAX's threads still compute."""
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


def _show_version(asked: bool) -> None:
    if asked:
        sys.stdout.write(f"tardigrad {version('tardigrad')}\n")
        raise typer.Exit


app = typer.Typer(
    help="Simulate heterogeneous clusters on one host, and train a real model as they would.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


@app.callback()
def _tardigrad(
    version: Annotated[
        bool, typer.Option("--version", help="Show the version and exit.", callback=_show_version, is_eager=True)
    ] = False,
) -> None:
    """Options of the command itself."""


data_app = typer.Typer(help="Prepare the text of an experiment file, and look at it.", no_args_is_help=True)
app.add_typer(data_app, name="data")
sweep_app = typer.Typer(help="Look at sweeps that `run` has made, or is making.", no_args_is_help=True)
app.add_typer(sweep_app, name="sweep")

COMMANDS: tuple[tuple[typer.Typer, str, str, Callable[..., None]], ...] = (
    (app, "run", "run", commands.run),
    (app, "timeline", "run", commands.timeline),
    (app, "plan", "plan", commands.plan),
    (app, "plot", "figures", commands.plot),
    (app, "report", "figures", commands.report),
    (app, "trace", "figures", commands.trace),
    (app, "compare", "compare", commands.compare),
    (app, "validate", "validate", commands.validate),
    (app, "schema", "schema", commands.schema),
    (app, "explain", "explain", commands.explain),
    (app, "methods", "methods", commands.methods),
    (app, "verify", "records", commands.verify),
    (app, "calibrate", "calibrate", commands.calibrate),
    (app, "profiles", "catalogue", commands.profiles),
    (app, "models", "catalogue", commands.presets),
    (data_app, "prepare", "data", commands.prepare),
    (data_app, "info", "data", commands.info),
    (sweep_app, "status", "records", commands.status),
)
"""Each command: where it stands, its name, the module that does it, and its options."""
for group, name, module, options in COMMANDS:
    group.command(name)(_command(module, options))


def _formatted(
    message: Warning | str, category: type[Warning], filename: str, lineno: int, line: str | None = None
) -> str:
    """Returns a warning as a line, where it is about the user's input, and else as Python does."""
    if category is UserWarning:
        return f"tardigrad: note: {visible(str(message))}\n"
    return _as_python_does(message, category, filename, lineno, line)


_as_python_does = warnings.formatwarning


def main() -> None:
    """Entry point: mistakes end in one message on standard error and a non-zero exit code."""
    open_standard_streams()
    warnings.formatwarning = _formatted
    use_cpu_cores()
    with _messages():
        app()
