"""The programs that are measured, and the upstream behind them: each is started afresh for every measurement and stopped after it."""

import contextlib
import getpass
import os
import pathlib
import re
import signal
import socket
import string
import subprocess
import time

CONF = pathlib.Path(__file__).resolve().parent / "conf"
# Seconds in which a program must take connections, and in which it must have ended.
START_LIMIT = 20
STOP_LIMIT = 10
# Seconds that thousands of credentials may take into the store.
IMPORT_LIMIT = 300
PATH = os.environ.get("PATH", "") + ":/usr/local/sbin:/usr/sbin:/sbin"


class Failed(Exception):
    """A measurement that is none."""


def imsi(number):
    """As src/bench/load/names.rs has it, like the two below."""
    return f"00101{number:010}"


def device(number):
    return f"dev-{imsi(number)}"


def source(number):
    return f"127.64.{number >> 8}.{number & 255}"


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Place:
    """Where configuration, logs and certificates lie."""

    def __init__(self, directory, devices):
        self.dir = pathlib.Path(directory)
        self.ca = self.dir / "ca"
        # How many have a certificate and are known to the gateway.
        self.devices = devices
        # Upstream's, for a whole pass: it stands in the store.
        self.tls_port = free_port()

    def render(self, template, name, more="", **values):
        """Writes a configuration; answers its path."""
        text = string.Template((CONF / template).read_text()).substitute(
            dir=self.dir, ca=self.ca, conf=CONF, user=getpass.getuser(), first_device=device(0), **values
        )
        path = self.dir / name
        path.write_text(text + more)
        return path


class Program:
    """A running program; `pids` are it and its children."""

    def __init__(self, place, name, command, port, cwd=None):
        self.name, self.port = name, port
        self.log = place.dir / f"{name}.out"
        with open(self.log, "wb") as out:
            self.process = subprocess.Popen(
                [str(c) for c in command], stdout=out, stderr=out, stdin=subprocess.DEVNULL, cwd=cwd,
                env={**os.environ, "PATH": PATH},
            )
        try:
            self.wait_until(self.takes_connections, "takes connections")
        except BaseException:
            self.stop()
            raise

    def wait_until(self, condition, what):
        deadline = time.monotonic() + START_LIMIT
        while not condition():
            if self.process.poll() is not None:
                raise Failed(f"{self.name} ended with {self.process.returncode}: {self.said()}")
            if time.monotonic() > deadline:
                raise Failed(f"{self.name} never {what}: {self.said()}")
            time.sleep(0.01)

    def takes_connections(self):
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=1):
            return True
        return False

    def said(self):
        return self.log.read_text(errors="replace")[-2000:]

    @property
    def pids(self):
        pid = self.process.pid
        children = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return [pid, *map(int, children)]

    def watch(self, name):
        return f"{name}=" + "+".join(map(str, self.pids))

    def stop(self):
        if self.process.poll() is None:
            # A stopped process hears nothing.
            self.process.send_signal(signal.SIGCONT)
            self.process.terminate()
            try:
                self.process.wait(STOP_LIMIT)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait(STOP_LIMIT)


class Upstream(Program):
    """mosquitto with a TLS door that wants certificates, and a plain one."""

    def __init__(self, place):
        self.plain_port = free_port()
        self.journal = place.dir / "upstream.log"
        self.journal.unlink(missing_ok=True)
        conf = place.render("upstream.conf", "upstream.conf", plain_port=self.plain_port, tls_port=place.tls_port)
        super().__init__(place, "upstream", ["mosquitto", "-c", conf], self.plain_port)

    def arrivals(self):
        """(client id, user name by its certificate) of everybody who connected."""
        return re.findall(r" as (\S+) \(.* u'([^']*)'\)", self.journal.read_text(errors="replace"))


def ready(program, condition, what):
    """The program, once it is as far as that."""
    try:
        program.wait_until(lambda: condition(program), what)
    except BaseException:
        program.stop()
        raise
    return program


def in_files(place, port):
    """Our gateway's configuration with every device in it."""
    subscribers = "".join(
        f'[[subscriber]]\nimsi = "{imsi(n)}"\nsource = "{source(n)}"\n' for n in range(place.devices)
    )
    return place.render("gateway.toml", "gateway.toml", subscribers, port=port, tls_port=place.tls_port)


def onyx(binary):
    """Our gateway, everything in files."""

    def start(place, _):
        port = free_port()
        return Program(place, "onyx", [binary, "run", "--config", in_files(place, port)], port)

    return start


def has_store(binary):
    done = subprocess.run([binary, "import", "--help"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return done.returncode == 0


def onyx_store(binary):
    """Our gateway, everything in a SQLite store, which is made at the first start."""
    made = []

    def start(place, _):
        port = free_port()
        conf = place.render("store.toml", "store.toml", port=port)
        if not made:
            for old in place.dir.glob("store.db*"):
                old.unlink()
            command = [binary, "import", in_files(place, port), "--config", conf]
            done = subprocess.run(command, capture_output=True, text=True, timeout=IMPORT_LIMIT)
            if done.returncode:
                raise Failed(f"onyx-gateway import: {done.stderr.strip()}")
            made.append(True)
        return Program(place, "onyx-store", [binary, "run", "--config", conf], port)

    return start


def nginx(place, upstream):
    port = free_port()
    conf = place.render("nginx.conf", "nginx.conf", port=port, tls_port=place.tls_port)
    # The master listens before its worker is there, and the worker is what is measured.
    return ready(Program(place, "nginx", ["nginx", "-p", place.dir, "-c", conf], port), lambda p: len(p.pids) == 2, "has its worker")


def haproxy(place, upstream):
    port = free_port()
    pair = [(place.ca / "devices" / f"{device(0)}.{end}").read_text() for end in ("pem", "key")]
    (place.dir / "haproxy.pem").write_text("".join(pair))
    conf = place.render("haproxy.cfg", "haproxy.cfg", port=port, tls_port=place.tls_port)
    return Program(place, "haproxy", ["haproxy", "-db", "-f", conf], port)


def bridge(place, upstream):
    port = free_port()
    conf = place.render("bridge.conf", "bridge.conf", port=port, tls_port=place.tls_port)
    program = Program(place, "bridge", ["mosquitto", "-c", conf], port)
    return ready(program, lambda _: any(c == device(0) for c, _ in upstream.arrivals()), "reaches upstream")


# Whether each device keeps its own identity upstream.
OWN_IDENTITY = {"nginx"}
PEERS = {"nginx": nginx, "haproxy": haproxy, "bridge": bridge}
