"""Figures out of measurements: medians with their ranges, ratios, the owner's goals; as a table for people and as Markdown."""

import statistics

KIB, MIB = 1024, 1024 * 1024


def of_flow(r):
    flow, machine = r["flow"], r["machine"]
    acked = flow["acked_while_measured"] or 1
    return {
        "msg/s": flow["acked_per_second"],
        "arrived/s": flow["arrived_per_second"],
        "CPU-s/100k": machine["cpu_seconds"]["gateway"] / acked * 100_000,
        "p50 us": flow["arrival_us"]["p50"],
        "p99 us": flow["arrival_us"]["p99"],
        "ack p50 us": flow["ack_us"]["p50"],
        "ack p99 us": flow["ack_us"]["p99"],
        "lost": flow["acked_and_lost"],
        "generator cores": machine["generator_cpu_seconds"] / machine["seconds"],
        "gateway cores": machine["cpu_seconds"]["gateway"] / machine["seconds"],
    }


def of_stall(r):
    flow, stall = r["flow"], r["stall"]
    return {
        "acked": flow["acked"],
        "arrived": flow["arrived"],
        "lost": flow["acked_and_lost"],
        "held back": flow["held_back"],
        "RSS growth MiB": (stall["rss_most"]["gateway"] - stall["rss_before"]["gateway"]) / MIB,
        "generator cores": r["machine"]["generator_cpu_seconds"] / r["machine"]["seconds"],
    }


def of_idle(r):
    before = r["rss_before"]["gateway"]
    figures = {"RSS at 0 KiB": before / KIB}
    for step in r["steps"]:
        n = step["connections"]
        figures[f"KiB/connection at {n}"] = (step["rss"]["gateway"] - before) / n / KIB
        figures[f"alive of {n}"] = step["alive"]
    first, machine = r["steps"][0], r["steps"][0]["machine"]
    figures["CPU ms/connect"] = machine["cpu_seconds"]["gateway"] / first["new"] * 1_000
    figures["connects/s"] = first["new"] / machine["seconds"]
    figures["generator cores"] = machine["generator_cpu_seconds"] / machine["seconds"]
    return figures


OF = {"stall": of_stall, "idle": of_idle}
# What the tables leave to results.json, where nothing is left out.
UNSHOWN = {
    "w1": {"ack p50 us", "ack p99 us"},
    "w10": {"ack p50 us", "ack p99 us"},
    "lat": {"msg/s", "arrived/s", "gateway cores"},
}


class Figure:
    """Median of several runs, with the least and the most."""

    def __init__(self, values):
        self.values = sorted(v for v in values if v is not None)

    @property
    def median(self):
        return statistics.median(self.values) if self.values else None

    def text(self):
        if not self.values:
            return "-"
        if self.values[0] == self.values[-1]:
            return number(self.median)
        return f"{number(self.median)} [{number(self.values[0])}-{number(self.values[-1])}]"

    def json(self):
        if not self.values:
            return None
        return {"median": self.median, "min": self.values[0], "max": self.values[-1], "n": len(self.values)}


def number(v):
    if v == 0 or abs(v) >= 100:
        return f"{v:,.0f}"
    return f"{v:.1f}" if abs(v) >= 10 else f"{v:.2f}"


class Report:
    """Everything that is said is computed here from the runs in `results`."""

    def __init__(self, results):
        self.meta, self.cells, self.noisy = results["meta"], {}, set()
        runs = {}
        for run in results["runs"]:
            runs.setdefault((run["kind"], run["target"]), []).append(run)
        for cell, all_runs in runs.items():
            # A cell without a single quiet run is shown from what there is, and marked.
            counted = [r for r in all_runs if r["quiet"]] or all_runs
            if not any(r["quiet"] for r in all_runs):
                self.noisy.add(cell)
            rows = [OF.get(cell[0], of_flow)(r["result"]) for r in counted]
            names = dict.fromkeys(name for row in rows for name in row)
            self.cells[cell] = {name: Figure([row.get(name) for row in rows]) for name in names}

    def kinds(self):
        return [k for k in ("w1", "w10", "lat", "idle", "stall") if any(c[0] == k for c in self.cells)]

    def targets(self, kind):
        return [t for t in self.meta["targets"] if (kind, t) in self.cells]

    def median(self, kind, target, name):
        figure = self.cells.get((kind, target), {}).get(name)
        return figure.median if figure else None

    def table(self, kind):
        """Header and rows of texts."""
        targets = self.targets(kind)
        columns = list(dict.fromkeys(name for t in targets for name in self.cells[kind, t] if name not in UNSHOWN.get(kind, ())))
        rows = []
        for t in targets:
            mark = " ~" if (kind, t) in self.noisy else ""
            cell = self.cells[kind, t]
            row = [t + mark, *(cell[c].text() if c in cell else "-" for c in columns)]
            if kind == "lat":
                row[1:1] = [self.added(t, "p50 us"), self.added(t, "p99 us")]
            row.append(str(max(len(f.values) for f in cell.values())))
            rows.append(row)
        added = ["added p50 us", "added p99 us"] if kind == "lat" else []
        return ["", *added, *columns, "n"], rows

    def added(self, target, name):
        here, direct = self.median("lat", target, name), self.median("lat", "direct", name)
        return "-" if here is None or direct is None or target == "direct" else f"{here - direct:+,.0f}"

    def goals(self):
        """(what, ours, theirs, ratio or value, goal, met or None) for each of ours."""
        out = []
        for ours in self.meta["ours"]:
            def ratio(what, kind, name, goal, at_least=False):
                a, b = self.median(kind, ours, name), self.median(kind, "nginx", name)
                if a is not None and b:
                    met = a / b >= goal if at_least else a / b <= goal
                    sign = ">=" if at_least else "<="
                    out.append((ours, what, number(a), number(b), f"{a / b:.2f}x", f"{sign} {goal}x", met))

            def value(what, kind, name, goal, met):
                a, b = self.median(kind, ours, name), self.median(kind, "nginx", name)
                if a is not None:
                    out.append((ours, what, number(a), "-" if b is None else number(b), number(a), goal, met(a)))

            for window in ("w1", "w10"):
                ratio(f"CPU per message, window {window[1:]}", window, "CPU-s/100k", 0.8)
                ratio(f"messages/s, window {window[1:]}", window, "msg/s", 1.1, at_least=True)
                ratio(f"p99, window {window[1:]}, us", window, "p99 us", 1.0)
            ratio("p99 at 1,000/s, us", "lat", "p99 us", 1.0)
            for n in (1_000, 5_000):
                value(f"KiB per idle connection at {n:,}", "idle", f"KiB/connection at {n}", "< 24", lambda a: a < 24)
            value("CPU ms per new connection", "idle", "CPU ms/connect", "<= 0.8", lambda a: a <= 0.8)
            value("acknowledged and lost in the stall", "stall", "lost", "0", lambda a: a == 0)
            value("MiB more RSS in the stall", "stall", "RSS growth MiB", "< 10", lambda a: a < 10)
        return out

    GOALS = ["", "goal", "ours", "nginx+njs", "result", "wanted", ""]

    def goal_rows(self):
        return [[*g[:6], "met" if g[6] else "MISSED"] for g in self.goals()]

    TITLES = {
        "w1": "Window 1: each of 50 devices waits for the PUBACK before it sends the next message",
        "w10": "Window 10: each of 50 devices has ten messages under way",
        "lat": "1,000 messages a second",
        "idle": "Connections that say nothing",
        "stall": "Upstream stands still for 5 s, 10,000 messages of 1,000 bytes a second offered",
    }

    def text(self):
        parts = []
        for kind in self.kinds():
            parts.append(self.TITLES[kind] + "\n" + columns(*self.table(kind)))
        rows = self.goal_rows()
        if rows:
            parts.append("Goals, as ratios to nginx with njs in this same run\n" + columns(self.GOALS, rows))
        if self.noisy:
            parts.append("~ no run was quiet: other programs took more than the limit each time; a rough figure")
        return "\n\n".join(parts)

    def json(self):
        cells = [
            {"kind": k, "target": t, "noisy": (k, t) in self.noisy, "figures": {n: f.json() for n, f in cell.items()}}
            for (k, t), cell in self.cells.items()
        ]
        names = ("gateway", "goal", "ours", "nginx", "result", "wanted", "met")
        return {"cells": cells, "goals": [dict(zip(names, g)) for g in self.goals()]}

    def markdown(self):
        meta = self.meta
        lines = [f"Measured {meta['date']} on {meta['machine']}.", ""]
        lines += [f"- {name}: {version}" for name, version in meta["versions"].items()]
        lines += ["", f"{meta['runs']} runs of {meta['seconds']} s for each cell, in random order; median [least-most].", ""]
        rows = self.goal_rows()
        if rows:
            lines += ["### The goals", "", *markdown_table(self.GOALS, rows), ""]
        for kind in self.kinds():
            lines += [f"### {self.TITLES[kind]}", "", *markdown_table(*self.table(kind)), ""]
        if self.noisy:
            lines += ["`~`: no run was quiet, other programs took more than the limit each time; a rough figure.", ""]
        return "\n".join(lines)


def columns(head, rows):
    widths = [max(len(r[i]) for r in [head, *rows]) for i in range(len(head))]
    def line(row):
        return "  ".join(c.ljust(w) if i < 1 else c.rjust(w) for i, (c, w) in enumerate(zip(row, widths))).rstrip()
    return "\n".join(line(r) for r in [head, *rows])


def markdown_table(head, rows):
    aligned = ["---", *["---:"] * (len(head) - 1)]
    return ["| " + " | ".join(r) + " |" for r in [head, aligned, *rows]]
