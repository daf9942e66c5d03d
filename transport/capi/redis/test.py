"""The module as its users meet it: a real redis-server that loads it, clients of Sealane, and redis-cli beside them.
SEALANE_LIBRARY=libsealane.so.0 SEALANE=sealane python3 test.py MODULE CERTS"""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, os.path.join(HERE, "../python"))
import sealane  # noqa: E402

LONG = 60
MODULE, CERTS = (os.path.abspath(path) for path in sys.argv[1:3])
sys.argv[1:] = sys.argv[3:]


def certificate(name):
    return {"ca": f"{CERTS}/ca.pem", "cert": f"{CERTS}/{name}.pem", "key": f"{CERTS}/{name}.key"}


def command(*words):
    parts = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    return b"*%d\r\n" % len(parts) + b"".join(b"$%d\r\n%s\r\n" % (len(part), part) for part in parts)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


class Connection:
    """Replies over TCP as they are, byte for byte."""

    def __init__(self, port):
        self.stream = socket.create_connection(("127.0.0.1", port), LONG)
        self.file = self.stream.makefile("rb")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()
        self.stream.close()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=" and int(rest) >= 0:
            return line + self.file.read(int(rest) + 2)
        for _ in range(int(rest) * (2 if kind == b"%" else 1) if kind in b"*%~>" else 0):
            line += self.reply()
        return line

    def ask(self, *words):
        self.stream.sendall(command(*words))
        return self.reply()


class Server:
    """A redis-server with the module, on free ports."""

    def __init__(self, *options, dir=None, authority=True):
        self.own = None if dir else tempfile.TemporaryDirectory()
        self.dir = dir or self.own.name
        self.port = free_port()
        arguments = ["127.0.0.1:0", f"{CERTS}/server.pem", f"{CERTS}/server.key"] + ([f"{CERTS}/ca.pem"] if authority else [])
        words = ["--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--dir", self.dir, "--loadmodule", MODULE, *arguments]
        run = os.environ.get("REDIS_UNDER", "").split()
        self.log = open(os.path.join(self.dir, "log"), "ab")
        self.process = subprocess.Popen([*run, "redis-server", *words, *options], stdout=self.log, stderr=self.log)
        until = time.monotonic() + LONG
        while True:
            try:
                with Connection(self.port) as tcp:
                    if not tcp.ask("PING").startswith(b"-LOADING"):
                        break
            except OSError:
                pass
            assert self.process.poll() is None and time.monotonic() < until, self.said()
            time.sleep(0.05)
        self.address = self.said().split(" at 127.0.0.1:")[-1].split()[0]
        self.address = "127.0.0.1:" + self.address

    def said(self):
        with open(os.path.join(self.dir, "log"), encoding="utf-8", errors="replace") as file:
            return file.read()

    def tcp(self):
        return Connection(self.port)

    def info(self):
        with self.tcp() as tcp:
            lines = tcp.ask("INFO", "sealane").decode().split("\r\n")
        return dict(line.split(":", 1) for line in lines if ":" in line)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        code = self.process.wait(LONG)
        self.log.close()
        said = self.said()
        if self.own:
            self.own.cleanup()
        assert code in (0, -signal.SIGKILL), f"{code}: {said}"


class Client:
    """A session of its own."""

    def __init__(self, server, **named):
        self.socket = sealane.Socket("127.0.0.1:0", **{**certificate("client"), **named})
        self.peer = self.socket.peer(server.address, "localhost")

    def raw(self, message):
        return self.socket.call(self.peer, message, LONG)

    def ask(self, *words):
        return self.raw(command(*words))


# What redis-server answers to each over TCP must come over Sealane, too, byte for byte: in order, over one data set that begins empty.
ALIKE = """
PING|PING hello|SET a 1|GET a|INCR a|INCRBY a x|APPEND a zz|GET nope|STRLEN a|SET a 2 NX|SET a 2 XX GET|GETDEL a|MSET a 1 b 2 c 3|MGET a b nope
LPUSH l 1 2 3|LRANGE l 0 -1|LPOP l 2|LPUSH a 1|RPUSH m x|LMOVE l m LEFT RIGHT|SADD s x y|SISMEMBER s x|SMEMBERS nope|SCARD s|HSET h f v g w|HGETALL h
HGET h f|HINCRBYFLOAT h n 1.5|ZADD z 1 one 2 two|ZRANGE z 0 -1 WITHSCORES|ZSCORE z one|ZRANGE z 0 -1 REV|XADD x 1-1 f v|XRANGE x - +|XLEN x
XREAD COUNT 1 STREAMS x 0|GEOADD g 13.36 38.11 p|GEODIST g p p|PFADD p a b|PFCOUNT p|SETBIT bits 7 1|BITCOUNT bits|EXPIRE a 100|TTL nope|PERSIST a
TYPE z|OBJECT ENCODING a|RENAME a d|EXISTS a d|DEL d|SORT s ALPHA|DBSIZE|SELECT 1|DBSIZE|SET only here|GET only|SELECT 0|GET only|SELECT 99|SELECT x
SWAPDB 0 0|EVAL "return_{1,{ok='fine'},{err='ERR_bad'}}" 0|EVAL "return_redis.call('get',KEYS[1])" 1 b|EVALSHA ffff 0|SCRIPT EXISTS ffff
FUNCTION LIST|CONFIG GET maxmemory|CONFIG SET nope 1|ACL WHOAMI|CLIENT GETNAME|CLIENT SETNAME me|CLIENT GETNAME|CLIENT SETNAME "a_b"
NOSUCH a b|GET|GET a b|SET a 1 EX|CONFIG|OBJECT FREQ b|MULTI|SET t 1|INCR t|GET nope|EXEC|EXEC|MULTI|INCR b|DISCARD|DISCARD|MULTI|NOSUCH|SET t 2
EXEC|GET t|MULTI|GET|EXEC|MULTI|LPUSH t x|INCR t|EXEC|MULTI|MULTI|EXEC|MULTI|SELECT 1|GET only|EXEC|SELECT 0|ECHO bye|RESET|TOUCH b c|COPY b e
PUBLISH nobody x|COMMAND COUNT|COMMAND INFO get|LATENCY LATEST|LCS b c|ROLE|HELLO 9|HELLO x|HELLO 3 NOPE|FLUSHALL|RANDOMKEY
"""


def alike():
    for text in ALIKE.replace("\n", "|").split("|"):
        if text:
            yield [word.strip('"').replace("_", " ") if '"' in word else word for word in text.split(" ")]


class Plain(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.__exit__()

    def setUp(self):
        with self.server.tcp() as tcp:
            tcp.ask("FLUSHALL")
        self.client = Client(self.server)

    def test_replies_are_those_of_connections(self):
        for version in (2, 3):
            expected = []
            with self.server.tcp() as tcp:
                tcp.ask("HELLO", version)
                for words in alike():
                    expected.append(tcp.ask(*words))
                    if words == ["RESET"]:
                        tcp.ask("HELLO", version)
            client = Client(self.server)
            client.ask("HELLO", version)
            # A transaction stands in one message, so here all does that stands between two of them.
            got, message, sizes = [], b"", []
            in_multi = False
            for words in alike():
                message += command(*words)
                sizes.append(words)
                in_multi = (in_multi or words[0] == "MULTI") and words[0] not in ("EXEC", "DISCARD")
                if in_multi:
                    continue
                reply = client.raw(message)
                got.append((sizes, reply))
                if words == ["RESET"]:
                    client.ask("HELLO", version)
                message, sizes = b"", []
            at = 0
            for sizes, reply in got:
                self.assertEqual(reply, b"".join(expected[at:at + len(sizes)]), (version, sizes))
                at += len(sizes)
            self.assertEqual(at, len(expected))

    def test_one_data_set(self):
        with self.server.tcp() as tcp:
            self.assertEqual(self.client.ask("SET", "a", "over Sealane"), b"+OK\r\n")
            self.assertEqual(tcp.ask("GET", "a"), b"$12\r\nover Sealane\r\n")
            tcp.ask("SET", "a", "over TCP")
            self.assertEqual(self.client.ask("GET", "a"), b"$8\r\nover TCP\r\n")
        tool = os.environ["SEALANE"].split()
        files = [f"{CERTS}/{name}" for name in ("client.pem", "client.key", "ca.pem")]
        flags = [word for pair in zip(("--cert", "--key", "--ca"), files) for word in pair]
        said = subprocess.run([*tool, "kv", "cli", "--sealane", self.server.address, *flags, "get", "a"], check=True, capture_output=True)
        self.assertEqual(said.stdout, b"$8\r\nover TCP\r\n")

    def test_pipelines_and_what_is_malformed(self):
        raw = self.client.raw
        self.assertEqual(raw(command("SET", "n", 1) + command("INCR", "n") * 1000), b"+OK\r\n" + b"".join(b":%d\r\n" % n for n in range(2, 1002)))
        self.assertEqual(raw(b"PING\r\nSET k 'two words'\nGET k\r\n"), b"+PONG\r\n+OK\r\n$9\r\ntwo words\r\n")
        self.assertEqual(raw(b""), b"")
        self.assertEqual(raw(b"\r\n*0\r\nPING\r\n"), b"+PONG\r\n")
        broken = b"-ERR Protocol error: the message ends within a command\r\n"
        whole = command("SET", "k", "v")
        for end in range(1, len(whole)):
            self.assertEqual(raw(command("PING") + whole[:end]), b"+PONG\r\n" + broken, end)
        for bad, why in ((b"*x\r\n", b"invalid multibulk length"), (b"*1\r\n:1\r\n", b"expected '$', got ':'"), (b"*1\r\n$-5\r\n", b"invalid bulk length"),
                         (b"*9999999\r\n", b"invalid multibulk length"), (b"*1\r\n$99999999999\r\n", b"invalid bulk length"),
                         (b"get 'a\r\n", b"unbalanced quotes in request"), (b"x" * 70000, b"too big inline request")):
            self.assertEqual(raw(command("PING") + bad + command("PING")), b"+PONG\r\n-ERR Protocol error: " + why + b"\r\n")
        seed = int.from_bytes(os.urandom(4), "big")
        import random
        chance = random.Random(seed)
        for _ in range(2000):
            message = bytearray(command("SET", "k", "v") * 3)
            for _ in range(chance.randrange(1, 6)):
                message[chance.randrange(len(message))] = chance.randrange(256)
            self.assertIsInstance(raw(bytes(message)), bytes, seed)
        self.assertEqual(raw(b"PING\r\n"), b"+PONG\r\n")

    def test_long_values(self):
        for length in (1 << 20, 20 << 20):
            value = os.urandom(1 << 16) * (length >> 16)
            self.assertEqual(self.client.ask("SET", "long", value), b"+OK\r\n")
            self.assertEqual(self.client.ask("GET", "long"), b"$%d\r\n%s\r\n" % (length, value))
        # A fourth does not fit in; what ran before is told.
        reply = self.client.raw(command("GET", "long") * 4)
        self.assertTrue(reply.endswith(b"\r\n-ERR the replies are longer than a message may be\r\n"))
        self.assertEqual(len(reply) // (20 << 20), 2)

    def test_what_is_not_carried_says_so(self):
        for words in (["SUBSCRIBE", "a"], ["PSUBSCRIBE", "a"], ["MONITOR"], ["BLPOP", "l", 1], ["XREAD", "BLOCK", 0, "STREAMS", "x", "$"], ["WATCH", "a"],
                      ["WAIT", 1, 0], ["SHUTDOWN"], ["DEBUG", "SLEEP", 0], ["MODULE", "LIST"], ["SYNC"], ["CLIENT", "TRACKING", "ON"],
                      ["sealane.turn"], ["REPLICAOF", "NO", "ONE"]):
            self.assertIn(b"is not carried over Sealane", self.client.ask(*words), words)
        with self.server.tcp() as tcp:
            self.assertEqual(tcp.ask("sealane.turn"), b"-ERR it is the module's own\r\n")
            self.assertIn(b"ERR", tcp.ask("EVAL", "return redis.call('sealane.turn')", 0))
        # A transaction ends with its message.
        self.assertEqual(self.client.ask("MULTI"), b"+OK\r\n")
        self.assertEqual(self.client.ask("EXEC"), b"-ERR EXEC without MULTI\r\n")

    def test_many_clients(self):
        async def main():
            async def one(number):
                async with sealane.AsyncSocket(**certificate("client")) as client:
                    peer = client.peer(self.server.address, "localhost")
                    await client.call(peer, command("CLIENT", "SETNAME", f"c{number}") + command("SELECT", number % 16))
                    for _ in range(50):
                        calls = [client.call(peer, command("INCR", "n") + command("CLIENT", "GETNAME")) for _ in range(4)]
                        for reply in await asyncio.gather(*calls):
                            self.assertTrue(reply.endswith(b"c%d\r\n" % number), reply)

            await asyncio.wait_for(asyncio.gather(*(one(number) for number in range(48))), 4 * LONG)

        asyncio.run(main())
        for db in range(16):
            self.assertEqual(self.client.raw(command("SELECT", db) + command("GET", "n")), b"+OK\r\n$3\r\n600\r\n")
        self.assertGreaterEqual(int(self.server.info()["sealane_requests"]), 48 * 201)

    def other(self, what):
        """A client in a process of its own that does this without end."""
        program = f"import sys; sys.argv[1:] = {sys.argv[1:]!r}; sys.path.insert(0, {os.path.join(HERE, '../python')!r}); import sealane\n"
        program += f"s = sealane.Socket('127.0.0.1:0', **{certificate('client')!r}); p = s.peer({self.server.address!r}, 'localhost')\n"
        program += f"print(s.call(p, b'PING\\r\\n', {LONG}), flush=True)\n" + what
        process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE)
        self.assertEqual(process.stdout.readline(), b"b'+PONG\\r\\n'\n")
        return process

    def test_clients_that_stop_and_clients_that_die(self):
        value = bytes(4_000_000)
        self.client.ask("SET", "long", value)
        many = "for n in range(64): s.send(p, b'GET long\\r\\n', n)\nprint('sent', flush=True)\nwhile True: s.recv()\n"
        others = [self.other(many) for _ in range(3)]
        for process in others:
            self.assertEqual(process.stdout.readline(), b"sent\n")
            process.send_signal(signal.SIGSTOP)
        try:
            for n in range(1, 201):
                self.assertEqual(self.client.ask("INCR", "n"), b":%d\r\n" % n)
            self.assertEqual(len(self.client.ask("GET", "long")), len(value) + 12)
            others[0].send_signal(signal.SIGCONT)
        finally:
            for process in others:
                process.kill()
                process.wait()
                process.stdout.close()
        self.assertEqual(self.client.ask("PING"), b"+PONG\r\n")
        self.assertGreater(int(self.server.info()["sealane_requests_waited"]), 0)

    def test_anonymous_clients_need_permission(self):
        with self.assertRaises(sealane.Error):
            Client(self.server, cert=None, key=None).ask("PING")


class Files(unittest.TestCase):
    def test_saving_while_clients_talk(self):
        with Server("--save", "3600", "1") as server:
            client, children = Client(server), 0
            client.ask("SET", "long", bytes(8_000_000))
            for n in range(400):
                self.assertEqual(client.ask("INCR", "n"), b":%d\r\n" % (n + 1))
                if n % 20 == 0:
                    children += client.ask("BGSAVE").startswith(b"+Background saving started")
                self.assertEqual(len(client.ask("GET", "long")), 8_000_012)
            self.assertGreater(children, 1)
            while b"rdb_bgsave_in_progress:1" in client.ask("INFO", "persistence"):
                time.sleep(0.05)
            self.assertEqual(client.ask("SAVE"), b"+OK\r\n")
            self.assertIn(b"rdb_last_bgsave_status:ok", client.ask("INFO", "persistence"))

    def test_what_was_answered_is_in_the_log(self):
        with tempfile.TemporaryDirectory() as directory:
            options = ("--appendonly", "yes", "--appendfsync", "always")
            with Server(*options, dir=directory) as server:
                client = Client(server)
                for n in range(1, 101):
                    self.assertEqual(client.raw(command("INCR", "n") + command("RPUSH", "l", n)), b":%d\r\n:%d\r\n" % (n, n))
                client.raw(command("MULTI") + command("SET", "a", 1) + command("SELECT", 3) + command("SET", "b", 2) + command("EXEC"))
                server.process.kill()
                server.process.wait()
            with Server(*options, dir=directory) as server:
                client = Client(server)
                self.assertEqual(client.raw(command("GET", "n") + command("LLEN", "l") + command("GET", "a")), b"$3\r\n100\r\n:100\r\n$1\r\n1\r\n")
                self.assertEqual(client.raw(command("SELECT", 3) + command("GET", "b")), b"+OK\r\n$1\r\n2\r\n")
                # One that does not take its replies, with a log.
                client.ask("SET", "long", bytes(6_000_000))
                names = [client.socket.send(client.peer, command("GET", "long"), 1 + n) for n in range(24)]
                for _ in names:
                    self.assertEqual(len(client.socket.recv(LONG).payload), 6_000_012)

    def test_a_replica_takes_no_writes_and_has_the_same(self):
        with Server() as first, Server("--replicaof", "127.0.0.1", str(first.port)) as second:
            one, two = Client(first), Client(second)
            for n in range(100):
                one.raw(command("SET", f"k{n}", n) + command("SELECT", 2) + command("INCR", "n") + command("SELECT", 0))
            until = time.monotonic() + LONG
            while two.raw(command("SELECT", 2) + command("GET", "n")) != b"+OK\r\n$3\r\n100\r\n":
                self.assertLess(time.monotonic(), until)
                time.sleep(0.05)
            self.assertEqual(two.raw(command("SELECT", 0) + command("GET", "k99")), b"+OK\r\n$2\r\n99\r\n")
            self.assertEqual(two.ask("SET", "a", 1), b"-READONLY You can't write against a read only replica.\r\n")

    def test_memory_has_a_limit(self):
        with Server("--maxmemory", "20mb") as server:
            client, replies = Client(server), set()
            for n in range(40):
                replies.add(client.ask("SET", f"k{n}", bytes(1_000_000)))
            self.assertEqual(replies, {b"+OK\r\n", b"-OOM command not allowed when used memory > 'maxmemory'.\r\n"})
            self.assertEqual(client.ask("DEL", "k0"), b":1\r\n")


class Users(unittest.TestCase):
    def test_passwords_and_permissions(self):
        with Server("--requirepass", "secret") as server, server.tcp() as tcp:
            tcp.ask("AUTH", "secret")
            tcp.ask("ACL", "SETUSER", "reader", "on", ">r", "+@read", "~open:*")
            client = Client(server)
            denied = b"-NOAUTH Authentication required.\r\n"
            for words in (["GET", "a"], ["PING"], ["SELECT", 1], ["CLIENT", "SETNAME", "x"], ["MULTI"], ["CONFIG", "GET", "requirepass"], ["SUBSCRIBE", "x"]):
                self.assertEqual(client.ask(*words), denied, words)
            self.assertTrue(client.ask("HELLO", 3).startswith(b"-NOAUTH HELLO"))
            self.assertTrue(client.ask("AUTH", "wrong").startswith(b"-WRONGPASS"))
            self.assertEqual(client.ask("GET", "a"), denied)
            self.assertEqual(client.ask("AUTH", "secret"), b"+OK\r\n")
            self.assertEqual(client.ask("SET", "open:a", 1), b"+OK\r\n")
            # Another session has proven nothing.
            other = Client(server)
            self.assertEqual(other.ask("GET", "open:a"), denied)
            self.assertTrue(other.ask("HELLO", 3, "AUTH", "reader", "r").startswith(b"%7\r\n"))
            self.assertEqual(other.ask("GET", "open:a"), b"$1\r\n1\r\n")
            self.assertTrue(other.ask("GET", "closed").startswith(b"-NOPERM"))
            self.assertTrue(other.ask("SET", "open:a", 2).startswith(b"-NOPERM"))
            self.assertTrue(other.ask("CONFIG", "GET", "requirepass").startswith(b"-NOPERM"))
            self.assertTrue(other.ask("ACL", "DELUSER", "reader").startswith(b"-NOPERM"))
            self.assertIn(b"-EXECABORT", other.raw(command("MULTI") + command("SET", "open:a", 3) + command("EXEC")))
            # Its user goes while it is there.
            self.assertEqual(tcp.ask("ACL", "DELUSER", "reader"), b":1\r\n")
            until = time.monotonic() + LONG
            while other.ask("GET", "open:a") != denied:
                self.assertLess(time.monotonic(), until)
            self.assertEqual(client.ask("GET", "open:a"), b"$1\r\n1\r\n")

    def test_nobody_needs_a_certificate_where_no_authority_is_named(self):
        with Server(authority=False) as server:
            self.assertEqual(Client(server, cert=None, key=None).ask("PING"), b"+PONG\r\n")


class Loading(unittest.TestCase):
    def test_what_cannot_work_says_why(self):
        good = [f"{CERTS}/server.pem", f"{CERTS}/server.key", f"{CERTS}/ca.pem"]
        for arguments, why in ((["127.0.0.1:0"], "loadmodule sealane.so ADDRESS"), (["no address", *good], "no address"),
                               (["127.0.0.1:0", "/nowhere", *good[1:]], "/nowhere"), (["127.0.0.1:0", *good, "more"], "got 5 arguments")):
            words = ["redis-server", "--port", str(free_port()), "--bind", "127.0.0.1", "--save", "", "--loadmodule", MODULE, *arguments]
            done = subprocess.run(words, capture_output=True, timeout=LONG, cwd=tempfile.gettempdir(), check=False)
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(why, done.stdout.decode())
        words = ["redis-server", "--port", str(free_port()), "--bind", "127.0.0.1", "--save", "", "--cluster-enabled", "yes"]
        # Its own choice, 10,000 above the other, is no port for most free ones.
        words += ["--cluster-port", str(free_port())]
        with tempfile.TemporaryDirectory() as directory:
            words += ["--dir", directory, "--loadmodule", MODULE, "127.0.0.1:0", *good]
            done = subprocess.run(words, capture_output=True, timeout=LONG, check=False)
            self.assertIn("a cluster is not served", done.stdout.decode())

    def test_it_stays_until_the_server_ends(self):
        with Server("--enable-module-command", "yes") as server, server.tcp() as tcp:
            client = Client(server, handshake_timeout=1)
            self.assertEqual(client.ask("PING"), b"+PONG\r\n")
            self.assertTrue(tcp.ask("MODULE", "UNLOAD", "sealane").startswith(b"-ERR"))
            self.assertEqual(client.ask("PING"), b"+PONG\r\n")
            tcp.stream.sendall(command("SHUTDOWN", "NOSAVE"))
            self.assertEqual(server.process.wait(LONG), 0)
            with self.assertRaises(sealane.Error):
                client.ask("PING")

    def test_a_script_that_takes_long(self):
        with Server("--busy-reply-threshold", "50") as server, server.tcp() as tcp:
            client = Client(server)
            client.ask("PING")
            tcp.stream.sendall(command("EVAL", "while true do end", 0))
            until = time.monotonic() + LONG
            while not client.ask("GET", "a").startswith(b"-BUSY"):
                self.assertLess(time.monotonic(), until)
            with server.tcp() as other:
                self.assertEqual(other.ask("SCRIPT", "KILL"), b"+OK\r\n")
            while client.ask("GET", "a") != b"$-1\r\n":
                self.assertLess(time.monotonic(), until)


if __name__ == "__main__":
    unittest.main()
