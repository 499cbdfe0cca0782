"""Files and folders that are whole or absent, locks, and errors that name what they are about."""

import errno
import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

_REFUSALS = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.EIO,
    errno.ENAMETOOLONG,
)


@contextmanager
def naming(path: Path, *, instead_of: Path | None = None) -> Iterator[None]:
    """Adds a file's or folder's name to the operating system's errors that lack one, or have `instead_of`."""
    try:
        yield
    except OSError as error:
        if error.errno is not None and error.filename in (None, str(instead_of), instead_of):
            error.filename = str(path)
        raise


def refusal(error: Exception, path: Path) -> OSError:
    """Returns the operating system's error, about `path`, behind a library's own words."""
    code = next((code for code in _REFUSALS if os.strerror(code) in str(error)), None)
    if code is None:
        return OSError(f"{path}: cannot be written: {error}")
    return OSError(code, os.strerror(code), str(path))


@contextmanager
def atomic_path(path: Path, *, directory: bool = False, durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`, which replaces `path` when the block ends well and is deleted otherwise.

    The folder around it is made when absent. A reader sees the old file or the new one, never a part of either, also
    after a power failure. A link stays one: the file that it leads to is replaced. A device or a pipe is written to as
    it is.

    Args:
        path: Of the file or folder.
        directory: Whether it is a folder; then the temporary one is there already, in place of what a process that was
            killed has left.
        durable: Whether it is to be there after a power failure, for which the disk is waited for.

    Raises:
        OSError: It cannot be written; names `path`.
    """
    if path.exists() and not (path.is_file() or path.is_dir()):
        with naming(path):
            yield path
        return
    target = path.resolve() if path.is_symlink() else path
    target.parent.mkdir(parents=True, exist_ok=True)
    name = target.name if directory else uuid.uuid4().hex  # that of a file may be as long as a name can be
    temporary = target.with_name(f".{name}.tmp")
    with naming(path, instead_of=temporary):
        try:
            if directory:
                shutil.rmtree(temporary, ignore_errors=True)
                temporary.mkdir()
            yield temporary
            put(temporary, target, durable=durable)
        except BaseException:
            if directory:
                shutil.rmtree(temporary, ignore_errors=True)
            else:
                temporary.unlink(missing_ok=True)
            raise


def put(made: Path, path: Path, *, durable: bool = True) -> None:
    """Renames a file, or a folder with all in it, to `path`, in place of what is there; durably, if need be."""
    for each in [*made.rglob("*"), made] if durable else ():
        _sync(each)
    if made.is_dir() and path.is_dir():
        shutil.rmtree(path)
    made.replace(path)
    if not durable:
        return
    try:
        _sync(path.parent)
    except OSError as error:  # some file systems know no such thing; the file itself is there
        if error.errno not in (errno.EINVAL, errno.EACCES, errno.EPERM):
            raise


def remove_folder(folder: Path) -> None:
    """Removes a folder with all in it, if it is there, as far as it can be; a reader sees all of it or nothing."""
    gone = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(gone, ignore_errors=True)  # of a process that was killed
    try:
        folder.replace(gone)
    except FileNotFoundError:
        return
    except OSError:
        gone = folder  # to which another may not be renamed
    shutil.rmtree(gone, ignore_errors=True)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_file(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replaces a file's content, text as UTF-8, by way of `atomic_path`."""
    with atomic_path(path, durable=durable) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


@contextmanager
def locked(path: Path, occupied: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Holds a lock file, which the operating system releases if the process dies.

    Args:
        path: Of the lock file.
        occupied: Called before another process that holds it is waited for; may raise an error instead.
    """
    from filelock import FileLock, Timeout  # takes long to load, for a command that only shows its help

    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        occupied()
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def is_locked(path: Path) -> bool:
    """Returns whether a process holds a lock file."""
    from filelock import FileLock, Timeout

    if not path.exists():
        return False
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        return True
    lock.release()
    return False
