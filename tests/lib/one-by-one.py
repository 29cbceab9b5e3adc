#!/usr/bin/env python3
"""Runs each test of a Rust test program in an emulator process of its own: a cargo runner.

    CARGO_TARGET_..._RUNNER=tests/lib/one-by-one.py ONYX_EMULATOR="qemu-arm-static ..." cargo test --lib --target ...

A test program is one process with many threads, and children that its tests fork from it. Natively that is well; under user-mode
emulation one test that gets stuck takes all others with it, and nothing tells which it was. Here a stuck test is named, what its
threads were doing is shown, and the others go on.

A test that failed has failed: it is never tried again. An emulator process that has not ended within its time is another matter.
QEMU's user-mode emulation is known to deadlock when a program with threads forks (a lock of its fd-trans.c is not taken care of; fixed
in 7.2.19, and Debian bookworm has 7.2), our CI hung there once, and the tests that got stuck had ended natively in the very same run.
So such a process is killed and its test started once more, and that is said aloud: a line with the test's name and what its threads
were doing, and at the end how many there were. One that is stuck for the second time has failed, and so has every one that gets stuck
after RESTARTS_MAX others: a fault of ours that makes tests hang does not pass for one of QEMU's.

Two tests run at a time. The closing line is libtest's, so that readers of one can read the other.
"""

import os
import queue
import shlex
import signal
import subprocess
import sys
import threading
import time

# Emulator processes at a time: one per core of the machine this was made for.
AT_A_TIME = 2
# Seconds. The slowest test takes 32 of processor time; on two cores with a load of 18 it was seen to take 230.
TEST_LIMIT = 300
# How many stuck emulator processes of a run are started again.
RESTARTS_MAX = 3
# Seconds for the output of a killed test to end; what hid from its session may hold it open.
OUTPUT_LIMIT = 10
# Seconds for the program to list its tests, which takes a tenth.
LIST_LIMIT = 60
# How often what is left of a stuck test is looked for and killed, a tenth of a second apart.
KILL_ROUNDS = 20
# How many of the slowest are named at the end.
SLOWEST = 3
# Cargo's variable, which the tests read to start themselves as children; they must find the emulator there, not this script.
RUNNER_VARIABLE = "CARGO_TARGET_ARMV7_UNKNOWN_LINUX_GNUEABIHF_RUNNER"


def read(path):
    try:
        with open(path, "rb") as file:
            return file.read().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError as error:
        return f"({error.strerror})"


def processes_of(session):
    """The processes of a session. Each test has one, so all that it started is found unless it went out of its way."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        fields = read(f"/proc/{pid}/stat").rpartition(")")[2].split()
        # A zombie has nothing left to end.
        if len(fields) > 3 and fields[3] == str(session) and fields[0] != "Z":
            found.append(int(pid))
    return found


def brief(session):
    """The state of each thread of a stuck test, on one line."""
    found = []
    for pid in processes_of(session):
        threads = os.listdir(f"/proc/{pid}/task") if os.path.isdir(f"/proc/{pid}/task") else []
        states = ", ".join(
            f"{read(f'/proc/{pid}/task/{tid}/stat').rpartition(')')[2][:2].strip() or 'gone'} in {read(f'/proc/{pid}/task/{tid}/wchan')}"
            for tid in threads
        )
        found.append(f"process {pid}: {states}")
    return "; ".join(found)


def describe(session):
    """What each thread of a stuck test is doing, in the kernel's words."""
    lines = []
    for pid in processes_of(session):
        lines.append(f"  process {pid}: {read(f'/proc/{pid}/cmdline')}")
        for tid in os.listdir(f"/proc/{pid}/task") if os.path.isdir(f"/proc/{pid}/task") else []:
            task = f"/proc/{pid}/task/{tid}"
            fields = read(f"{task}/stat").rpartition(")")[2].split()
            state, ticks = (fields[0], int(fields[11]) + int(fields[12])) if len(fields) > 12 else ("gone", 0)
            lines.append(
                f"    thread {tid} ({read(f'{task}/comm')}): state {state}, {ticks / os.sysconf('SC_CLK_TCK'):.2f} s of CPU,"
                f" in {read(f'{task}/wchan')}, syscall {read(f'{task}/syscall')}"
            )
    return "\n".join(lines)


def end(child):
    """Kills a test and all that it started."""
    # More than once: one that is about to be killed may have forked another since they were counted.
    for _ in range(KILL_ROUNDS):
        left = processes_of(child.pid)
        for pid in left:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        if not left:
            return
        time.sleep(0.1)


class Run:
    def __init__(self, command, limit=TEST_LIMIT):
        self.command = command
        self.limit = limit
        self.lock = threading.Lock()
        self.running = {}
        self.passed, self.failed, self.ignored, self.restarted = [], [], [], []
        self.started = 0
        self.stopped = False

    def say(self, text):
        with self.lock:
            print(text, flush=True)

    def listed(self, *arguments):
        out = subprocess.run(
            [*self.command, "--list", "--format", "terse", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=LIST_LIMIT,
            check=True,
        )
        lines = out.stdout.decode().splitlines()
        return [line[: -len(": test")] for line in lines if line.endswith(": test")]

    def start(self, name):
        """An emulator process for a test; none once the run is being stopped."""
        with self.lock:
            if self.stopped:
                return None
            child = subprocess.Popen(
                [*self.command, "--exact", name],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
            self.running[name] = child
            self.started += 1
            return child

    def may_start_again(self, name):
        """Whether a stuck process of a test is one to start again; if so it counts."""
        with self.lock:
            if name in self.restarted or len(self.restarted) >= RESTARTS_MAX:
                return False
            self.restarted.append(name)
            return True

    def one(self, name):
        began = time.monotonic()
        child = self.start(name)
        if child is None:
            return
        problem = ""
        try:
            said = child.communicate(timeout=self.limit)[0]
        except subprocess.TimeoutExpired:
            # A process that has ended is not stuck: something it started outlived it.
            stuck = child.poll() is None
            states, threads = brief(child.pid), describe(child.pid)
            end(child)
            try:
                said = child.communicate(timeout=OUTPUT_LIMIT)[0]
            except subprocess.TimeoutExpired:
                said = b"(its output is held open by a process that left its session)"
            if self.stopped:
                return
            if stuck and self.may_start_again(name):
                self.say(f"| stuck for {self.limit} s, started again: {name}: {states}")
                return self.one(name)
            what = "stuck: not done" if stuck else "ended, but something that it started was not done"
            problem = f"{what} after {self.limit} s\n{threads}\n"
        if self.stopped:
            return
        took = time.monotonic() - began
        with self.lock:
            del self.running[name]
        # That it says "1 passed" shows that the name was found and the test really ran.
        if not problem and child.returncode == 0 and b"test result: ok. 1 passed; 0 failed;" in said:
            self.passed.append((took, name))
            self.say(f"test {name} ... ok")
        else:
            self.failed.append(name)
            self.say(f"test {name} ... FAILED\n{problem}status {child.returncode}\n{said.decode(errors='replace')}")

    def stop(self, number, _frame):
        """The step's time is over: says what was running, and takes it along."""
        # Not under the lock: a signal may come while this very thread holds it.
        self.stopped = True
        for name, child in list(self.running.items()):
            print(f"| still running: {name}\n{describe(child.pid)}", flush=True)
            end(child)
        os._exit(128 + number)

    def all(self, filters):
        began = time.monotonic()
        self.ignored = self.listed("--ignored", *filters)
        names = [name for name in self.listed(*filters) if name not in self.ignored]
        if not names:
            sys.exit("one-by-one: no test to run")
        waiting = queue.SimpleQueue()
        for name in names:
            waiting.put(name)

        def work():
            while True:
                try:
                    self.one(waiting.get_nowait())
                except queue.Empty:
                    return

        workers = [threading.Thread(target=work, daemon=True) for _ in range(AT_A_TIME)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()

        for took, name in sorted(self.passed, reverse=True)[:SLOWEST]:
            print(f"| {took:5.1f} s {name}")
        for name in self.ignored:
            print(f"| ignored: {name}")
        for name in self.failed:
            print(f"| failed: {name}")
        print(f"| {len(self.restarted)} of {self.started} emulator processes were stuck and were started again")
        # A worker that died of a mistake here must not look like a test that passed.
        missing = len(names) - len(self.passed) - len(self.failed)
        print(
            f"test result: {'FAILED' if self.failed or missing else 'ok'}. {len(self.passed)} passed; {len(self.failed)} failed;"
            f" {len(self.ignored)} ignored; {missing} never run; finished in {time.monotonic() - began:.2f}s"
        )
        return 1 if self.failed or missing else 0


def main():
    emulator = os.environ.get("ONYX_EMULATOR", "")
    os.environ[RUNNER_VARIABLE] = emulator
    # One thread for the test, as little as possible for a fork to trip over.
    os.environ["RUST_TEST_THREADS"] = "1"
    run = Run([*shlex.split(emulator), sys.argv[1]])
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, run.stop)
    sys.exit(run.all(sys.argv[2:]))


if __name__ == "__main__":
    main()
