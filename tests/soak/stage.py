"""The programs of a soak: gateway, upstream, the devices. Each may be stopped and started again on the ports it had."""

import contextlib
import getpass
import json
import os
import pathlib
import queue
import random
import re
import signal
import socket
import string
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "speed"))

import peers
from peers import Failed, device, imsi, source

CONF = pathlib.Path(__file__).resolve().parent / "conf"
# Below the ports that the kernel gives to those who call out: nobody takes one while its owner is restarted.
PORTS = range(20_000, 32_000)
# Seconds for a command of the gateway's, for a program's end, and for the devices' result.
COMMAND_LIMIT = 60
STOP_LIMIT = 20
RESULT_LIMIT = 240


def port():
    """One nobody listens at."""
    while True:
        number = random.SystemRandom().choice(PORTS)
        with contextlib.suppress(OSError), socket.socket() as s:
            s.bind(("127.0.0.1", number))
            return number


class Place:
    """Files and ports."""

    def __init__(self, directory, programs):
        self.dir, self.programs = pathlib.Path(directory), pathlib.Path(programs)
        self.ca = self.dir / "ca"
        self.port, self.line_port, self.tls_port, self.plain_port = (port() for _ in range(4))

    def render(self, template, more=""):
        values = {k: v for k, v in vars(self).items() if k not in ("programs",)}
        text = string.Template((CONF / template).read_text()).substitute(values, user=getpass.getuser())
        path = self.dir / template
        path.write_text(text + more)
        return path

    def gateway(self, *command):
        """Runs a command of the gateway's on its store; what it says."""
        config = () if command[0] == "status" else ("--config", self.dir / "gateway.toml")
        whole = [str(c) for c in (self.programs / "onyx-gateway", *command, *config)]
        try:
            done = subprocess.run(whole, capture_output=True, text=True, timeout=COMMAND_LIMIT)
        except subprocess.TimeoutExpired as e:
            raise Failed(f"{' '.join(whole[1:4])}: not done within {COMMAND_LIMIT} s") from e
        if done.returncode:
            raise Failed(f"{' '.join(whole[1:4])}: {done.stderr.strip()}")
        return done.stdout


def stop(program, how=signal.SIGTERM):
    """Ends a program; its status."""
    program.process.send_signal(how)
    try:
        return program.process.wait(STOP_LIMIT)
    except subprocess.TimeoutExpired as e:
        program.process.kill()
        program.process.wait(STOP_LIMIT)
        raise Failed(f"{program.name} did not end within {STOP_LIMIT} s of {how.name}") from e


class Gateway(peers.Program):
    """One life of the gateway's process, with what it weighed at each look."""

    def __init__(self, place, life):
        command = [place.programs / "onyx-gateway", "run", "--config", place.dir / "gateway.toml"]
        # The helper of tests/speed names the log after the program.
        super().__init__(place, f"gateway-{life}", command, place.port)
        self.began = time.monotonic()
        self.samples = []
        self.first = self.look()

    def look(self):
        """Resident memory in KiB, open files, threads."""
        base = pathlib.Path(f"/proc/{self.process.pid}")
        status = dict(line.split(":", 1) for line in (base / "status").read_text().splitlines())
        return {
            "seconds": round(time.monotonic() - self.began, 1),
            "rss_kib": int(status["VmRSS"].split()[0]),
            "files": len(os.listdir(base / "fd")),
            "threads": int(status["Threads"]),
        }

    def sample(self):
        self.samples.append(self.look())
        return self.samples[-1]


class Upstream(peers.Program):
    """mosquitto, which keeps what it has accepted."""

    def __init__(self, place):
        (place.dir / "upstream").mkdir(exist_ok=True)
        conf = place.render("upstream.conf")
        super().__init__(place, "upstream", ["mosquitto", "-c", conf], place.plain_port)


class Journal:
    """Who came to upstream under which name: mosquitto's log, over all its restarts."""

    def __init__(self, place):
        self.path = place.dir / "upstream.log"

    def size(self):
        return self.path.stat().st_size

    def arrivals(self, since=0):
        """(client id, name in its certificate), in the order of connecting."""
        with open(self.path, "rb") as file:
            file.seek(since)
            text = file.read().decode(errors="replace")
        return re.findall(r" as (dev-\S+) \(.* u'([^']*)'\)", text)


class Devices:
    """`onyx-bench load soak`."""

    def __init__(self, place, options):
        command = [
            place.programs / "onyx-bench", "load", "soak", "--to", f"127.0.0.1:{place.port}",
            "--listen", f"127.0.0.1:{place.plain_port}", "--line", f"127.0.0.1:{place.line_port}",
            "--line-to", f"127.0.0.1:{place.tls_port}", *options,
        ]
        self.errors = place.dir / "devices.err"
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(
                [str(c) for c in command], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=errors, text=True
            )
        self.lines = queue.Queue()
        self.last = {}
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.process.stdout:
            self.lines.put(json.loads(line))
        self.lines.put(None)

    def tell(self, *words):
        try:
            print(*words, file=self.process.stdin, flush=True)
        except OSError:
            self.failed()

    def failed(self):
        self.process.wait(STOP_LIMIT)
        raise Failed(f"the devices ended with {self.process.returncode}: {self.errors.read_text().strip()[-2000:]}")

    def news(self):
        """Takes what came; the result, once it is there."""
        with contextlib.suppress(queue.Empty):
            while True:
                line = self.lines.get_nowait()
                if line is None:
                    self.failed()
                if "result" in line:
                    return line["result"]
                self.last = line
        return None

    def result(self):
        self.tell("drain")
        deadline = time.monotonic() + RESULT_LIMIT
        while (result := self.news()) is None:
            if time.monotonic() > deadline:
                raise Failed("the devices gave no result")
            time.sleep(0.02)
        self.process.wait(STOP_LIMIT)
        return result

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(STOP_LIMIT)


def certificates(place, devices, spares):
    command = [place.programs / "onyx-bench", "load", "prepare", "--dir", place.ca]
    subprocess.run([str(c) for c in (*command, "--devices", devices, "--spares", spares)], check=True)


def fill_store(place, devices):
    """Takes the first devices into a new store; the id of their group."""
    for old in [*place.dir.glob("store.db*"), *place.dir.glob("store.key"), *place.dir.glob("upstream*/*.db")]:
        old.unlink()
    (place.dir / "upstream.log").unlink(missing_ok=True)
    subscribers = "".join(
        f'[[subscriber]]\nimsi = "{imsi(n)}"\nsource = "{source(n)}"\n' for n in range(devices)
    )
    files = place.render("files.toml", subscribers)
    place.render("gateway.toml")
    place.gateway("import", files)
    shown = json.loads(place.gateway("subscriber", "show", imsi(0), "--json"))
    return shown["groupId"]
