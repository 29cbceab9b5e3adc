"""One measurement: fresh programs, the load generator, its JSON."""

import contextlib
import json
import subprocess

import peers

# Seconds that a measurement may take besides what it measures.
PATIENCE = 90

# What other programs and the hypervisor may take, in cores, for a run to count.
FOREIGN_MAX = 0.15
STEAL_MAX = 0.10

STALL_SECONDS = 5
STALL_RATE = 10_000
STALL_PAYLOAD = 1_000
LATENCY_RATE = 1_000


def flow_options(kind, seconds):
    """The generator's options for one kind of measurement, and how long it measures."""
    if kind == "stall":
        # One second before, and time enough after for what was kept back.
        return ["--rate", STALL_RATE, "--payload", STALL_PAYLOAD, "--stall-for", STALL_SECONDS], STALL_SECONDS + 4
    if kind == "lat":
        return ["--rate", LATENCY_RATE], seconds
    return ["--window", kind.removeprefix("w")], seconds


class Bench:
    """Starts, measures, stops."""

    def __init__(self, place, generator, targets):
        self.place, self.generator, self.targets = place, generator, targets

    def load(self, *options, limit):
        command = [str(o) for o in (self.generator, "load", *options)]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit, text=True)
        if done.returncode:
            raise peers.Failed(f"{' '.join(command[1:4])}: {done.stderr.strip()}")
        return json.loads(done.stdout) if done.stdout else None

    def run(self, kind, target, seconds, steps):
        with contextlib.ExitStack() as stack:
            upstream = peers.Upstream(self.place)
            stack.callback(upstream.stop)
            gateway = upstream
            if target != "direct":
                gateway = self.targets[target](self.place, upstream)
                stack.callback(gateway.stop)
            watch = ["--watch", gateway.watch("gateway")]
            if gateway is not upstream:
                watch += ["--watch", upstream.watch("upstream")]
            to = ["--to", f"127.0.0.1:{gateway.port}"]
            if kind == "idle":
                options = ["idle", *to, "--steps", ",".join(map(str, steps)), *watch]
                result = self.load(*options, limit=PATIENCE + max(steps) // 20)
            else:
                options, seconds = flow_options(kind, seconds)
                if kind == "stall":
                    options += ["--stall", upstream.process.pid]
                listen = ["--listen", f"127.0.0.1:{upstream.plain_port}"]
                result = self.load("flow", *to, *listen, *options, "--seconds", seconds, *watch, limit=PATIENCE + seconds)
            if target in peers.OWN_IDENTITY:
                strangers = [(c, u) for c, u in upstream.arrivals() if c.startswith("dev-") and c != u]
                if strangers:
                    raise peers.Failed(f"{target}: upstream took one device for another: {strangers[:3]}")
            return result


def machines(result):
    """What the machine did meanwhile: one entry, or one for each step."""
    return [step["machine"] for step in result["steps"]] if "steps" in result else [result["machine"]]


def is_quiet(result):
    return all(m["foreign_cores"] < FOREIGN_MAX and m["steal_cores"] < STEAL_MAX for m in machines(result))
