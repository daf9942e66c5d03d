"""Sealane for Python: encrypted messages over UDP, by libsealane and ctypes. Standard library only, Python 3.9 or newer.

    import sealane

    with sealane.Socket(ca="certs/ca.pem", cert="certs/client.pem", key="certs/client.key") as client:
        peer = client.peer("127.0.0.1:7000", "localhost")   # the name that its certificate must have
        print(client.call(peer, b"hello"))

`Socket` blocks, and any number of threads may share it. `AsyncSocket` is the same for asyncio. The library is found by the environment
variable SEALANE_LIBRARY, or where the system looks for libsealane.so.0.
"""

import asyncio
import collections
import contextlib
import ctypes
import json
import os
from ctypes import POINTER, byref, c_bool, c_char, c_char_p, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p

OK, NOTHING, INVALID, WOULD_BLOCK, DEADLINE, REFUSED, CLOSED = 0, 1, -1, -9, -13, -15, -21
REQUEST, RESPONSE, ONE_WAY, FAILED = 1, 2, 3, 4
AUTHENTICATED, ANONYMOUS = 1, 2
ADAPTIVE, BLOCK, SPIN = 0, 1, 2
_ABI = 3


class _Error(ctypes.Structure):
    _fields_ = [("status", c_int32), ("may_have_run", c_bool), ("text", c_char * 248)]


class _CallId(ctypes.Structure):
    _fields_ = [("session", c_uint64), ("rpc", c_uint64)]


class _Delivery(ctypes.Structure):
    _fields_ = [
        ("kind", c_int32),
        ("status", c_int32),
        ("protection", c_int32),
        ("may_have_run", c_bool),
        ("cookie", c_uint64),
        ("id", _CallId),
        ("payload", c_void_p),
        ("length", c_size_t),
        ("text", c_char_p),
    ]


_DeliveryPointer = POINTER(_Delivery)

# Arguments of each function that returns a status; an error is added to all of them.
_FUNCTIONS = {
    "config_trust_file": [c_void_p, c_char_p],
    "config_trust_nobody": [c_void_p],
    "config_identity_files": [c_void_p, c_char_p, c_char_p],
    "config_serve": [c_void_p, c_int32],
    "config_installed_only": [c_void_p, c_bool],
    "config_wait": [c_void_p, c_int32],
    "config_message_bytes_max": [c_void_p, c_size_t],
    "config_send_bytes_max": [c_void_p, c_uint64],
    "config_peer_send_bytes_max": [c_void_p, c_uint64],
    "config_mtu": [c_void_p, c_uint32],
    "config_spanning_records": [c_void_p, c_bool],
    "config_timeouts": [c_void_p, c_uint64, c_uint64],
    "socket_new": [c_void_p, c_char_p, POINTER(c_void_p)],
    "socket_close": [c_void_p],
    "socket_address": [c_void_p, POINTER(c_void_p)],
    "socket_fd": [c_void_p, POINTER(c_int)],
    "batch_begin": [c_void_p, POINTER(c_void_p)],
    "peer_new": [c_void_p, c_char_p, c_char_p, POINTER(c_void_p)],
    "connect": [c_void_p, c_void_p],
    "install_session": [c_void_p, c_char_p, c_int32, c_char_p, c_size_t, c_char_p, POINTER(c_void_p)],
    "call": [c_void_p, c_void_p, c_void_p, c_size_t, c_uint64, POINTER(_DeliveryPointer)],
    "send": [c_void_p, c_void_p, c_void_p, c_size_t, c_uint64, POINTER(_CallId)],
    "try_send": [c_void_p, c_void_p, c_void_p, c_size_t, c_uint64, POINTER(_CallId)],
    "send_one_way": [c_void_p, c_void_p, c_void_p, c_size_t, POINTER(_CallId)],
    "try_send_one_way": [c_void_p, c_void_p, c_void_p, c_size_t, POINTER(_CallId)],
    "tell": [c_void_p, c_void_p, c_void_p, c_size_t],
    "abort": [c_void_p, _CallId],
    "recv": [c_void_p, c_int64, POINTER(_DeliveryPointer)],
    "try_recv": [c_void_p, POINTER(_DeliveryPointer)],
    "recv_many": [c_void_p, c_int64, POINTER(_DeliveryPointer), c_size_t, POINTER(c_size_t)],
    "try_recv_many": [c_void_p, POINTER(_DeliveryPointer), c_size_t, POINTER(c_size_t)],
    "reply": [_DeliveryPointer, c_void_p, c_size_t],
    "try_reply": [_DeliveryPointer, c_void_p, c_size_t],
    "refuse": [_DeliveryPointer],
    "delivery_identity": [_DeliveryPointer, POINTER(c_void_p)],
    "delivery_address": [_DeliveryPointer, POINTER(c_void_p)],
    "delivery_peer": [_DeliveryPointer, POINTER(c_void_p)],
    "info_json": [c_void_p, POINTER(c_void_p)],
}
_FREEING = {
    "config_free": c_void_p,
    "socket_free": c_void_p,
    "batch_end": c_void_p,
    "peer_free": c_void_p,
    "string_free": c_void_p,
    "delivery_free": _DeliveryPointer,
}


def _wait(timeout):
    """Seconds, or None for without end, as the library counts."""
    return -1 if timeout is None else int(timeout * 1000)


def _load():
    library = ctypes.CDLL(os.environ.get("SEALANE_LIBRARY", "libsealane.so.0"))
    for name, arguments in _FUNCTIONS.items():
        function = getattr(library, "sealane_" + name)
        function.argtypes, function.restype = arguments + [POINTER(_Error)], c_int32
    for name, argument in _FREEING.items():
        function = getattr(library, "sealane_" + name)
        function.argtypes, function.restype = [argument], None
    library.sealane_config_new.argtypes, library.sealane_config_new.restype = [], c_void_p
    library.sealane_abi_version.argtypes, library.sealane_abi_version.restype = [], c_uint32
    if library.sealane_abi_version() < _ABI:
        raise ImportError(f"libsealane has ABI {library.sealane_abi_version()}; this module needs {_ABI}")
    return library


_library = _load()


class Error(Exception):
    """What a call says of its failure: `status` as in sealane.h, `may_have_run` as far as it is known."""

    def __init__(self, status, text, may_have_run=False):
        super().__init__(text)
        self.status, self.may_have_run = status, may_have_run


def _do(name, *arguments):
    error = _Error()
    status = getattr(_library, "sealane_" + name)(*arguments, byref(error))
    if status < 0:
        raise Error(status, error.text.decode("utf-8", "replace"), error.may_have_run)
    return status


def _text(name, handle):
    """A text that the library gives out, freed."""
    out = c_void_p()
    _do(name, handle, byref(out))
    try:
        return ctypes.string_at(out.value).decode()
    finally:
        _library.sealane_string_free(out)


def _bytes(data):
    """What C takes of bytes, a bytearray, a memoryview or a text: (pointer, length, what must live meanwhile)."""
    if isinstance(data, str):
        data = data.encode()
    if not isinstance(data, bytes):
        view = memoryview(data)
        if not view.c_contiguous or view.readonly:
            data = view.tobytes()
        else:
            kept = (c_char * view.nbytes).from_buffer(view)
            return ctypes.addressof(kept), view.nbytes, kept
    return ctypes.cast(c_char_p(data), c_void_p), len(data), data


class Peer:
    """A peer to send to; belongs to the socket that made it."""

    def __init__(self, handle):
        self._handle = handle

    def __del__(self):
        if getattr(self, "_handle", None):
            _library.sealane_peer_free(self._handle)
            self._handle = None


class Delivery:
    """What came: `kind`, `cookie`, `payload`, `status`, `text`. A request that is neither answered nor refused is refused when the
    delivery goes, which a variable that still holds it puts off. Belongs to one thread at a time."""

    def __init__(self, pointer):
        self._pointer = pointer
        seen = pointer.contents
        self.kind, self.status, self.cookie, self.may_have_run = seen.kind, seen.status, seen.cookie, seen.may_have_run
        self.text = seen.text.decode("utf-8", "replace") if seen.text else None

    @property
    def payload(self):
        """The message. A copy, made when it is asked for."""
        seen = self._pointer.contents
        return ctypes.string_at(seen.payload, seen.length) if seen.payload else b""

    def __len__(self):
        return self._pointer.contents.length

    @property
    def identity(self):
        """Who sent it, for people."""
        return _text("delivery_identity", self._pointer)

    @property
    def address(self):
        """Where its sender is."""
        return _text("delivery_address", self._pointer)

    @property
    def peer(self):
        """Its sender, to send to."""
        out = c_void_p()
        _do("delivery_peer", self._pointer, byref(out))
        return Peer(out)

    def reply(self, data):
        """Answers a request, once."""
        pointer, length, kept = _bytes(data)
        _do("reply", self._pointer, pointer, length)
        del kept

    def try_reply(self, data):
        """`reply` that never blocks: after an `Error` with the status WOULD_BLOCK it may be tried again."""
        pointer, length, kept = _bytes(data)
        _do("try_reply", self._pointer, pointer, length)
        del kept

    def echo(self):
        """Answers a request with its own bytes, without any copy."""
        seen = self._pointer.contents
        _do("reply", self._pointer, seen.payload, seen.length)

    def refuse(self):
        """Refuses a request: its caller gets an `Error` with the status REFUSED."""
        _do("refuse", self._pointer)

    def error(self):
        """Of FAILED: the error."""
        return Error(self.status, self.text or "", self.may_have_run)

    def __del__(self):
        if getattr(self, "_pointer", None):
            _library.sealane_delivery_free(self._pointer)
            self._pointer = None


class Socket:
    """A one-to-many socket, client and server at once.

    address: where to bind; port 0 lets the system choose.
    ca: PEM file with the authorities that are trusted; without it nobody is, which suits only servers of anonymous clients.
    cert, key: PEM files with our certificate chain and its key; without them a client is anonymous.
    serve: AUTHENTICATED or ANONYMOUS, whose requests are taken; without it they are refused.
    installed: only sessions by `install_session`, without certificates; `serve` is then true or false.
    wait: ADAPTIVE, BLOCK or SPIN. peer_timeout, handshake_timeout: in seconds.
    spanning_records: whether longer messages go in records that span packets, where these are small; for paths that keep their order.
    """

    def __init__(self, address="0.0.0.0:0", ca=None, cert=None, key=None, serve=None, installed=False, wait=ADAPTIVE,
                 message_bytes_max=None, send_bytes_max=None, peer_send_bytes_max=None, mtu=None, peer_timeout=0,
                 handshake_timeout=0, spanning_records=False):
        config = c_void_p(_library.sealane_config_new())
        try:
            if installed:
                _do("config_installed_only", config, bool(serve))
            else:
                if ca:
                    _do("config_trust_file", config, os.fsencode(ca))
                else:
                    _do("config_trust_nobody", config)
                if cert or key:
                    _do("config_identity_files", config, os.fsencode(cert or ""), os.fsencode(key or ""))
                if serve:
                    _do("config_serve", config, serve)
            _do("config_wait", config, wait)
            for knob in ("message_bytes_max", "send_bytes_max", "peer_send_bytes_max", "mtu"):
                if locals()[knob] is not None:
                    _do("config_" + knob, config, locals()[knob])
            _do("config_spanning_records", config, bool(spanning_records))
            _do("config_timeouts", config, int(peer_timeout * 1000), int(handshake_timeout * 1000))
            self._handle = c_void_p()
            _do("socket_new", config, address.encode(), byref(self._handle))
        finally:
            _library.sealane_config_free(config)

    @property
    def address(self):
        """Where it is bound."""
        return _text("socket_address", self._handle)

    def fileno(self):
        """A descriptor for event loops: readable when `try_recv` should be called until it gives None."""
        fd = c_int()
        _do("socket_fd", self._handle, byref(fd))
        return fd.value

    def peer(self, address, name):
        """A peer at `address` whose certificate must say `name`. Nothing is sent yet."""
        out = c_void_p()
        _do("peer_new", self._handle, address.encode(), name.encode(), byref(out))
        return Peer(out)

    def install_session(self, address, client, secret, label):
        """Installs a secret of 32 bytes. As client it gives a peer to send to, as server None."""
        out = c_void_p()
        _do("install_session", self._handle, address.encode(), 1 if client else 2, bytes(secret), len(secret), label.encode(), byref(out))
        return Peer(out) if out else None

    def connect(self, peer):
        """Completes the handshake now. Blocks."""
        _do("connect", self._handle, peer._handle)

    def call(self, peer, data, deadline=0):
        """Sends a request and waits for its response, at most `deadline` seconds; 0 means without end."""
        pointer, length, kept = _bytes(data)
        out = _DeliveryPointer()
        _do("call", self._handle, peer._handle, pointer, length, int(deadline * 1000), byref(out))
        del kept
        return Delivery(out).payload

    def _send(self, function, peer, data, *cookie):
        pointer, length, kept = _bytes(data)
        name = _CallId()
        _do(function, self._handle, peer._handle, pointer, length, *cookie, byref(name))
        del kept
        return name

    def send(self, peer, data, cookie=0):
        """Sends a request; its response is delivered with `cookie`. Gives the name of the call, for `abort`."""
        return self._send("send", peer, data, cookie)

    def try_send(self, peer, data, cookie=0):
        """`send` that never blocks: an `Error` with the status WOULD_BLOCK says that too many bytes are held."""
        return self._send("try_send", peer, data, cookie)

    def send_one_way(self, peer, data):
        """Sends a message that wants no response. It is repeated until its receiver has it."""
        return self._send("send_one_way", peer, data)

    def try_send_one_way(self, peer, data):
        """`send_one_way` that never blocks, as `try_send`."""
        return self._send("try_send_one_way", peer, data)

    def tell(self, peer, data):
        """`send_one_way` that waits until the receiver has all of it."""
        pointer, length, kept = _bytes(data)
        _do("tell", self._handle, peer._handle, pointer, length)
        del kept

    @contextlib.contextmanager
    def batch(self):
        """Within it messages wait for company, and leave together at its end at the latest."""
        out = c_void_p()
        _do("batch_begin", self._handle, byref(out))
        try:
            yield
        finally:
            _library.sealane_batch_end(out)

    def abort(self, name):
        """Ends a call that is no longer wanted. False when it had ended before."""
        try:
            _do("abort", self._handle, name)
        except Error:
            return False
        return True

    def recv(self, timeout=None):
        """Waits for what comes next, at most `timeout` seconds; None when nothing came."""
        out = _DeliveryPointer()
        status = _do("recv", self._handle, _wait(timeout), byref(out))
        return Delivery(out) if status == OK else None

    def try_recv(self):
        """`recv` that does not wait."""
        out = _DeliveryPointer()
        return Delivery(out) if _do("try_recv", self._handle, byref(out)) == OK else None

    def _take(self, function, most, *arguments):
        came, count = (_DeliveryPointer * most)(), c_size_t()
        _do(function, self._handle, *arguments, came, most, byref(count))
        return [Delivery(_DeliveryPointer(came[at].contents)) for at in range(count.value)]

    def recv_many(self, most=64, timeout=None):
        """Waits until something came, at most `timeout` seconds, and gives all of it, up to `most`, with one look at the network. What
        answers it travels together if it is sent within `batch`."""
        return self._take("recv_many", most, _wait(timeout))

    def try_recv_many(self, most=64):
        """`recv_many` that does not wait. Fewer than `most` may not be all: nothing more is there when it gives none."""
        return self._take("try_recv_many", most)

    def info(self):
        """What the socket does now and what it has counted, as a dictionary."""
        return json.loads(_text("info_json", self._handle))

    def close(self):
        """Ends all calls, in all threads. The memory goes with the object."""
        try:
            _do("socket_close", self._handle)
        except Error as error:
            if error.status != CLOSED:
                raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def __del__(self):
        if getattr(self, "_handle", None):
            _library.sealane_socket_free(self._handle)
            self._handle = None


class AsyncSocket:
    """`Socket` for asyncio: its loop watches the socket's descriptor, so there is no thread and nothing blocks. Takes the arguments of
    `Socket`; is made and used in a running loop.

        async with sealane.AsyncSocket(ca=..., cert=..., key=...) as client:
            reply = await client.call(client.peer(address, "localhost"), b"hello")
    """

    def __init__(self, *arguments, **named):
        self.socket = Socket(*arguments, **named)
        self._loop = asyncio.get_running_loop()
        self._calls, self._names, self._next = {}, {}, 1
        self._came, self._waiting, self._closed = collections.deque(), collections.deque(), False
        self._room = asyncio.Event()
        self._loop.add_reader(self.socket.fileno(), self._drain)
        self._loop.call_soon(self._drain)

    @property
    def address(self):
        """Where it is bound."""
        return self.socket.address

    def peer(self, address, name):
        """As of `Socket`."""
        return self.socket.peer(address, name)

    def info(self):
        """As of `Socket`."""
        return self.socket.info()

    def _drain(self):
        # A bounded number at once: other tasks of the loop have their turn, too.
        try:
            came = [] if self._closed else self.socket.try_recv_many()
        except Error:
            return self._end()
        for delivery in came:
            if delivery.cookie == 0:
                self._file(delivery)
                continue
            future = self._calls.pop(delivery.cookie, None)
            self._names.pop(delivery.cookie, None)
            if future is None or future.done():
                continue
            if delivery.kind == RESPONSE:
                future.set_result(delivery.payload)
            else:
                future.set_exception(delivery.error())
        if came:
            self._loop.call_soon(self._drain)
        self._room.set()

    def _file(self, delivery):
        while self._waiting:
            future = self._waiting.popleft()
            if not future.done():
                return future.set_result(delivery)
        self._came.append(delivery)

    async def _in_room(self, attempt, *arguments):
        """What `attempt` gives as soon as there is room for it: the descriptor tells of that, too."""
        while True:
            self._room.clear()
            try:
                return attempt(*arguments)
            except Error as error:
                if error.status != WOULD_BLOCK:
                    raise
            await self._room.wait()

    async def call(self, peer, data):
        """Sends a request and gives its response. Cancelled, as by `asyncio.wait_for`, it tells the peer."""
        cookie, self._next = self._next, self._next + 1
        future = self._loop.create_future()
        name = await self._in_room(self.socket.try_send, peer, data, cookie)
        self._calls[cookie], self._names[cookie] = future, name
        try:
            return await future
        finally:
            if self._calls.pop(cookie, None) is not None and not self._closed:
                self.socket.abort(self._names.pop(cookie))

    async def recv(self):
        """The next request or one-way message."""
        if self._came:
            return self._came.popleft()
        if self._closed:
            raise Error(CLOSED, "the socket is closed")
        future = self._loop.create_future()
        self._waiting.append(future)
        return await future

    async def serve(self, handler):
        """Answers every request with what `await handler(delivery)` gives, each in a task of its own, until the socket is closed. None
        or an exception refuses the request."""
        tasks = set()

        async def answer(delivery):
            data = None
            try:
                data = await handler(delivery)
            finally:
                if delivery.kind == REQUEST:
                    try:
                        delivery.refuse() if data is None else await self._in_room(delivery.try_reply, data)
                    except Error:
                        pass  # its caller gave up, or the socket is closed

        try:
            while True:
                task = self._loop.create_task(answer(await self.recv()))
                tasks.add(task)
                task.add_done_callback(tasks.discard)
        except Error as error:
            if error.status != CLOSED:
                raise

    def _end(self):
        if not self._closed:
            self._closed = True
            self._loop.remove_reader(self.socket.fileno())
            closed = Error(CLOSED, "the socket is closed")
            for future in [*self._calls.values(), *self._waiting]:
                if not future.done():
                    future.set_exception(closed)
            self._calls.clear()
            self._waiting.clear()
            self._room.set()

    async def close(self):
        """Ends all calls."""
        self._end()
        # It waits a while for what is under way.
        await self._loop.run_in_executor(None, self.socket.close)

    async def __aenter__(self):
        return self

    async def __aexit__(self, *_):
        await self.close()
