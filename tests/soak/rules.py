"""What must hold in a soak, and how it is told."""

import statistics

# A life of the gateway's process is judged for memory when it is at least so long, in seconds, and has so many samples: in the first minutes
# the devices' timelines fill up (32 events each), and every device leaves its first dead sockets behind.
MEMORY_FROM = 600
MEMORY_SAMPLES = 12
# Between the second quarter of a life and its last, the median may grow by so much: a share, and so much besides.
SHARE = 0.05
RSS_MORE_KIB = 1024
FILES_MORE = 16
THREADS_MORE = 2
# What a gateway without devices may have open beyond what it had when it had just started: pooled connections to its store, a log.
IDLE_FILES_MORE = 8


def quarters(life, what):
    """Medians of the second and of the last quarter."""
    values = [s[what] for s in life["samples"]]
    n = len(values)
    return statistics.median(values[n // 4 : n // 2]), statistics.median(values[n - n // 4 :])


def flat(life, what, more):
    """None when it is flat or the life was too short to say so; otherwise what is wrong."""
    if not judged(life):
        return None
    second, last = quarters(life, what)
    most = second * (1 + SHARE) + more
    return None if last <= most else f"life {life['number']}: {what} {second:g} in the second quarter, {last:g} in the last"


def judged(life):
    return life["seconds"] >= MEMORY_FROM and len(life["samples"]) >= MEMORY_SAMPLES


def verdicts(run):
    """(rule, what is wrong or None) of every rule."""
    load, done, lives = run["load"], run["done"], run["lives"]

    def none_of(what, count, named=()):
        return f"{count} {what}: {named}" if count else None

    first = lambda found: next((f for f in found if f), None)
    return [
        ("every message that a device has a PUBACK for is at the receiver",
         none_of("lost (device, number)", load["lost"], load["lost_messages"])),
        ("every message is accepted in the end", none_of("without PUBACK", load["open"])),
        ("what arrives again was sent again by its device or redelivered by upstream",
         none_of("doubled", load["arrived_again_unexplained"], load["unexplained_messages"])),
        ("no device hears what it must not, and a removed one is refused",
         none_of("times", load["events"].get("wrong", 0), load["wrong"])),
        ("each device keeps its own certificate upstream",
         none_of("strangers", len(run["strangers"]), run["strangers"][:5])),
        ("a rotated credential is used at the next connect",
         none_of("devices with the old one", len(run["stale"]), run["stale"][:5])
         or (None if run["rotated_seen"] else "no device with a new credential connected twice")),
        ("resident memory is flat", first(flat(life, "rss_kib", RSS_MORE_KIB) for life in lives)),
        ("open files are flat", first(flat(life, "files", FILES_MORE) for life in lives)),
        ("threads are flat", first(flat(life, "threads", THREADS_MORE) for life in lives)),
        ("without devices the gateway's files are closed",
         None if run["idle_files"] <= lives[-1]["first"]["files"] + IDLE_FILES_MORE
         else f"{run['idle_files']} open, {lives[-1]['first']['files']} at the start"),
        ("SIGTERM ends it with status 0, and nothing panics",
         none_of("wrong ends", len(run["wrong_ends"]), run["wrong_ends"])),
        ("everything that was planned was done", none_of("not done", len(missing := [k for k, n in run["planned"].items() if done.get(k, 0) != n]), missing)),
    ]


def thousands(n):
    return f"{n:,}"


def markdown(run):
    load, done = run["load"], run["done"]
    events = load["events"]
    connects = events.get("connected", 0) + events.get("connected_anew", 0)
    left = {k.removeprefix("left_"): n for k, n in events.items() if k.startswith("left_")}
    meta = run["meta"]
    lines = [
        f"{meta['date']}, onyx-gateway {meta['version']}, {meta['machine']}, {meta['upstream']}, seed {meta['seed']}: "
        f"{meta['devices']} devices and up to {meta['guests']} more, {meta['rate']} messages a second, {run['seconds'] / 60:.1f} minutes, "
        f"load average {meta['load_average']:.1f} at the end.",
        "",
        "| what | how many |",
        "|---|---|",
        f"| messages sent | {thousands(load['sent'])} |",
        f"| accepted (PUBACK) | {thousands(load['accepted'])} |",
        f"| accepted and lost | {thousands(load['lost'])} |",
        f"| sent again after a reconnect | {thousands(load['sent_again'])} |",
        f"| arrived again | {thousands(load['arrived_again'])}, of these unexplained {load['arrived_again_unexplained']} |",
        f"| connections of devices | {thousands(connects)} |",
        "| ended by the device | " + ", ".join(f"{thousands(n)} {k.replace('_', ' ')}" for k, n in sorted(left.items())) + " |",
        "| done to the gateway and its upstream | " + ", ".join(f"{n} x {k}" for k, n in sorted(done.items())) + " |",
        f"| rotated credentials seen upstream | {run['rotated_seen']} |",
        "",
        "| life of the process | seconds | RSS MiB at the start, median of 2nd quarter, of last | open files, the same | threads | judged |",
        "|---|---|---|---|---|---|",
    ]
    for life in run["lives"]:
        if len(life["samples"]) >= 4:
            rss = " / ".join(f"{v / 1024:.1f}" for v in (life["first"]["rss_kib"], *quarters(life, "rss_kib")))
            files = " / ".join(f"{v:.0f}" for v in (life["first"]["files"], *quarters(life, "files")))
        else:
            rss = files = "too few looks"
        threads = max((s["threads"] for s in life["samples"]), default=life["first"]["threads"])
        lines.append(
            f"| {life['number']}, ended by {life['end']} | {life['seconds']:.0f} | {rss} | {files} | {threads} | {'yes' if judged(life) else 'too short'} |"
        )
    lines += ["", "| rule | held |", "|---|---|"]
    lines += [f"| {rule} | {'yes' if wrong is None else 'NO: ' + wrong} |" for rule, wrong in run["verdicts"]]
    return "\n".join(lines) + "\n"
