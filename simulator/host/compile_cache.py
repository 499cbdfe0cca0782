"""Compiled programs, kept for later processes by JAX's persistent compilation cache.

    TARDIGRAD_CACHE (or ~/.cache/tardigrad)/
      programs/CPU/KEY-cache    a compiled program, by all that determines it: its computation, compiler, flags, devices
      programs/CPU/KEY-atime    when it was last used; written last, so that an entry without it is torn

A program that is read computes the same bits as one that is compiled. It is run as it is: so the folder is the user's
alone.
"""

import contextlib
import errno
import hashlib
import os
import platform
import shutil
import stat
import warnings
from pathlib import Path

from simulator.host.cache_folder import cache_folder
from simulator.host.errors import SettingError
from simulator.host.files import locked
from simulator.host.jax_setup import jax_option, set_jax_option

_FOLDER, _SIZE = "JAX_COMPILATION_CACHE_DIR", "JAX_COMPILATION_CACHE_MAX_SIZE"
_LOCK_FILE = ".lockfile"  # JAX's
_ROOM = 2**26  # bytes
_ENTRY, _USED = "-cache", "-atime"


def keep_compiled_programs() -> None:
    """Makes JAX keep compiled programs in the cache folder; to be called before it compiles anything.

    JAX's own settings, such as the environment's JAX_COMPILATION_CACHE_DIR, take precedence. Where the folder cannot be
    used there is a warning, and programs are compiled anew.
    """
    if _FOLDER in os.environ or jax_option(_FOLDER):
        return
    try:
        folder = cache_folder() / "programs" / _cpu()
    except SettingError as error:
        warnings.warn(f"compiled programs are not kept: {error}", stacklevel=2)
        return
    try:
        for each in (folder.parent, folder):
            each.mkdir(parents=True, exist_ok=True, mode=0o700)  # the mode is that of the last one alone
        if not (_is_users_alone(folder) and _is_users_alone(folder.parent)):
            raise PermissionError("others may write to it, and what is read there is run")
        if shutil.disk_usage(folder).free < _ROOM:  # else JAX would warn of every program
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        if _SIZE not in os.environ:  # else JAX may not note when programs are used
            _remove_torn(folder)
    except OSError as error:
        what = f"{folder}: compiled programs are not kept ({error.strerror or error})"
        warnings.warn(f"{what}: make it a folder of your own, or set TARDIGRAD_CACHE to another", stacklevel=2)
        return
    for name, value in {
        _FOLDER: str(folder),
        _SIZE: 2**31,  # bytes; what was not used for longest goes first
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": 0.1,  # what is compiled faster is hardly read faster
    }.items():
        if name not in os.environ:
            set_jax_option(name, value)


def _cpu() -> str:
    """Returns a name for this CPU's features: machines that share the folder may differ."""
    features = [platform.machine(), platform.processor()]
    with contextlib.suppress(OSError):  # other systems than Linux have no such file
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        features += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(features).encode()).hexdigest()[:12]


def _is_users_alone(folder: Path) -> bool:
    """Returns whether a folder is this user's and no other may write to it; True where there are no such rights."""
    if not hasattr(os, "getuid"):
        return True
    status = folder.stat()
    return status.st_uid == os.getuid() and not status.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _remove_torn(folder: Path) -> None:
    """Removes half-written files of a process that was killed: JAX would stumble over them again and again."""
    with locked(folder / _LOCK_FILE):
        entries = {path.name.removesuffix(_ENTRY) for path in folder.glob(f"*{_ENTRY}")}
        used = {path.name.removesuffix(_USED) for path in folder.glob(f"*{_USED}") if path.stat().st_size}
        for key in entries ^ used:
            (folder / f"{key}{_ENTRY}").unlink(missing_ok=True)
            (folder / f"{key}{_USED}").unlink(missing_ok=True)
