"""One measurement: fresh programs, the load generator, its JSON."""

import contextlib
import json
import subprocess

import peers

# Seconds that a measurement may take besides what it measures.
PATIENCE = 90
# Connections a second below which opening them is given up.
CONNECTS_LEAST = 20
# How many devices publish.
DEVICES = 50

# What other programs and the hypervisor may take, in cores, for a run to count.
FOREIGN_MAX = 0.15
STEAL_MAX = 0.10

STALL_PAYLOAD = 1_000
LATENCY_RATE = 1_000
# Seconds that are measured before and after a stall.
BEFORE_STALL, AFTER_STALL = 1, 3


class Bench:
    """Starts, measures, stops."""

    def __init__(self, place, generator, targets, options):
        self.place, self.generator, self.targets, self.options = place, generator, targets, options

    def load(self, *options, limit):
        command = [str(o) for o in (self.generator, "load", *options)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=limit, text=True)
        except subprocess.TimeoutExpired as e:
            raise peers.Failed(f"{' '.join(command[1:5])}: not done within {limit} s") from e
        if done.returncode:
            raise peers.Failed(f"{' '.join(command[1:5])}: {done.stderr.strip()}")
        return json.loads(done.stdout)

    def flow_options(self, kind):
        """The generator's options for one kind of measurement, and how long it measures."""
        o = self.options
        if kind == "stall":
            stall = ["--rate", o.stall_rate, "--payload", STALL_PAYLOAD, "--stall-for", o.stall_seconds]
            return stall, BEFORE_STALL + o.stall_seconds + AFTER_STALL
        if kind == "lat":
            return ["--rate", LATENCY_RATE], o.seconds
        return ["--window", kind.removeprefix("w")], o.seconds

    def run(self, kind, target, steps):
        """One measurement of one target; what the generator says."""
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
                limit = PATIENCE + max(steps) // CONNECTS_LEAST
                result = self.load("idle", *to, "--steps", ",".join(map(str, steps)), *watch, limit=limit)
            else:
                options, seconds = self.flow_options(kind)
                if kind == "stall":
                    options += ["--stall", upstream.process.pid]
                options += ["--devices", min(DEVICES, self.place.devices), "--seconds", seconds]
                listen = ["--listen", f"127.0.0.1:{upstream.plain_port}"]
                result = self.load("flow", *to, *listen, *options, *watch, limit=PATIENCE + seconds)
            if not all(m["cpu_seconds"]["gateway"] > 0 for m in machines(result)):
                raise peers.Failed(f"{target}: the gateway did nothing: {result}")
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
