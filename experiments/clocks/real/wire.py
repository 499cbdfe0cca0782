"""Messages of a real run: a header in JSON and arrays as bytes, over links that are as slow as they are told to be."""

import json
import queue
import socket
import struct
import threading
import time
from collections.abc import Callable
from typing import Any, BinaryIO, NamedTuple

import jax
import numpy as np

_LENGTHS = struct.Struct("<II")  # bytes of the header, and of the arrays
_LONGEST_HEADER = 2**24
_PACE_S = 0.01  # between two parts of a message, at most


class WireError(RuntimeError):
    """Bytes that are no message, or a message that has no place here."""


class Message(NamedTuple):
    """A message.

    Attributes:
      header: what it is, with its facts.
      payload: arrays, see `Layout`; empty without.
      arrival_ns: when its last byte was there, by the machine's monotonic clock.
    """

    header: dict[str, Any]
    payload: bytes
    arrival_ns: int


class Layout:
    """Parameters as bytes: the leaves of their tree one behind the other, as they are in memory.

    Args:
      like: tree of arrays, or of their shapes and dtypes.

    Attributes:
      size: bytes of all leaves.
    """

    def __init__(self, like: Any):
        leaves, self._structure = jax.tree.flatten(like)
        self._leaves = [(leaf.shape, np.dtype(leaf.dtype)) for leaf in leaves]
        self.size = sum(int(np.prod(shape)) * dtype.itemsize for shape, dtype in self._leaves)

    def pack(self, tree: Any) -> bytes:
        """Returns a tree as bytes."""
        return b"".join(np.asarray(leaf).tobytes() for leaf in jax.tree.leaves(tree))

    def unpack(self, payload: bytes) -> Any:
        """Returns the tree, on the device.

        Raises:
          WireError: the bytes are not as many as the leaves have.
        """
        if len(payload) != self.size:
            raise WireError(f"{len(payload)} bytes of parameters where there should be {self.size}")
        leaves, begin = [], 0
        for shape, dtype in self._leaves:
            count = int(np.prod(shape))
            leaves.append(np.frombuffer(payload, dtype, count, begin).reshape(shape))
            begin += count * dtype.itemsize
        return jax.device_put(jax.tree.unflatten(self._structure, leaves))


def packed(header: dict[str, Any], payload: bytes = b"") -> bytes:
    """Returns a message as bytes."""
    text = json.dumps(header).encode()
    return _LENGTHS.pack(len(text), len(payload)) + text + payload


def read(stream: BinaryIO, longest: int) -> Message | None:
    """Returns the next message of a stream, None where it has ended between two of them.

    Args:
      stream: of bytes.
      longest: most bytes of a payload.

    Raises:
      WireError: what comes is not a message, or the stream ends within one.
    """
    lengths = stream.read(_LENGTHS.size)
    if not lengths:
        return None
    if len(lengths) < _LENGTHS.size:
        raise WireError("the stream ends within the lengths of a message")
    of_header, of_payload = _LENGTHS.unpack(lengths)
    if of_header > _LONGEST_HEADER or of_payload > longest:
        raise WireError(f"a message with {of_header} and {of_payload} bytes: {_LONGEST_HEADER} and {longest} at most")
    content = stream.read(of_header + of_payload)
    arrival_ns = time.monotonic_ns()
    if len(content) < of_header + of_payload:
        raise WireError("the stream ends within a message")
    try:
        header = json.loads(content[:of_header])
    except ValueError as error:
        raise WireError(f"a header that is not JSON: {error}") from error
    if not isinstance(header, dict):
        raise WireError(f"a header that is a {type(header).__name__} instead of a mapping")
    return Message(header, content[of_header:], arrival_ns)


def sleep_until(time_ns: float) -> None:
    """Sleeps until a time of the monotonic clock; not at all if that has passed."""
    left_s = (time_ns - time.monotonic_ns()) / 1e9
    if left_s > 0:
        time.sleep(left_s)


class Link:
    """One end of a connection. What it sends travels as long as a link of a latency and a bandwidth would take.

    The sender holds bytes back, one message after the other; two threads of its own send and receive meanwhile.

    Args:
      stream: the connection.
      latency_s: of each message that is sent.
      bandwidth: of what is sent, bytes a second; may be infinite.
      longest: most bytes of a payload that is received.
      receive: called with each message, and with None when the other end has gone.
    """

    def __init__(
        self,
        stream: socket.socket,
        latency_s: float,
        bandwidth: float,
        longest: int,
        receive: Callable[[Message | None], None],
    ):
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._stream, self._latency_ns, self._ns_per_byte = stream, 1e9 * latency_s, 1e9 / bandwidth
        self._part = 2**30 if bandwidth * _PACE_S > 2**30 else max(1, int(bandwidth * _PACE_S))
        self._longest, self._receive = longest, receive
        self._outbox: queue.SimpleQueue[tuple[int, bytes] | None] = queue.SimpleQueue()
        self._sender = threading.Thread(target=self._send_all, daemon=True)
        self._sender.start()
        threading.Thread(target=self._receive_all, daemon=True).start()

    def send(self, header: dict[str, Any], payload: bytes = b"", sent_ns: int | None = None) -> None:
        """Begins to send a message, at a time that is now if none is given."""
        now_ns = time.monotonic_ns() if sent_ns is None else sent_ns
        self._outbox.put((now_ns, packed(header, payload)))

    def finish(self) -> None:
        """Waits until everything is sent, and sends no more."""
        self._outbox.put(None)
        self._sender.join()

    def _send_all(self) -> None:
        free_ns = 0.0
        while (item := self._outbox.get()) is not None:
            sent_ns, content = item
            begin_ns = max(sent_ns + self._latency_ns, free_ns)
            free_ns = begin_ns + len(content) * self._ns_per_byte
            try:
                for first in range(0, len(content), self._part):
                    part = content[first : first + self._part]
                    sleep_until(begin_ns + (first + len(part)) * self._ns_per_byte)
                    self._stream.sendall(part)
            except OSError:
                return  # the other end has gone, which the receiving thread tells
        self._stream.shutdown(socket.SHUT_WR)

    def _receive_all(self) -> None:
        try:
            with self._stream.makefile("rb") as stream:
                while (message := read(stream, self._longest)) is not None:
                    self._receive(message)
        except (OSError, WireError) as error:
            print(f"a connection is given up: {error}", flush=True)  # into the log of the process
        self._receive(None)
