"""What the Python devices (device_*.py) have in common.

A device connects, subscribes at QoS 1 and QoS 2, publishes numbered messages at every QoS and gets them back, gets a retained message,
sees the will of a second client whose socket was destroyed, stays silent until its client asked for a sign of life and got it, and
ends by DISCONNECT. It prints what it saw as lines of JSON which name neither address nor client id: the same script at another door
has to print the same lines.

Arguments: host, port, protocol level (4 is MQTT 3.1.1, 5 is MQTT 5), client id, password ("" is none), source address ("" is any).
"""

import json
import sys
import threading

HOST, PORT, LEVEL, ID, PASSWORD, SOURCE = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:7]
# What the gateway makes of it is not the device's affair.
USER = "device"
# Seconds for one step; the machine may be busy.
PATIENCE = 60
# Seconds; the shortest that Beam takes.
KEEP_ALIVE = 5
# Of each kind.
MESSAGES = 20
# MQTT 5's own, on every numbered message.
CONTENT_TYPE, UNIT = "text/plain", ("unit", "C")

ONE, TWO, KEPT, WILL = (f"{ID}/{name}" for name in ("one", "two", "kept", "will"))
WILL_ID = f"{ID}-will"


def say(**what):
    print(json.dumps(what, sort_keys=True), flush=True)


class Seen:
    """What happened, in its order; may be told by any thread."""

    def __init__(self):
        self._changed = threading.Condition()
        self._things = []

    def add(self, **thing):
        with self._changed:
            self._things.append(thing)
            self._changed.notify_all()

    def until(self, **wanted):
        """The first thing that has all of these values."""

        def found():
            return next((t for t in self._things if all(t.get(k) == v for k, v in wanted.items())), None)

        with self._changed:
            assert self._changed.wait_for(found, PATIENCE), f"never came: {wanted}; came: {self._things[-5:]}"
            return found()

    def messages(self, topic):
        with self._changed:
            return [t for t in self._things if t.get("topic") == topic]


def numbered(most):
    """Topic, QoS and payload of every message to publish, and the end of each topic last. `most` is the client's highest QoS."""
    for topic in (ONE, TWO):
        for qos in range(most + 1):
            for n in range(MESSAGES):
                yield topic, qos, f"{qos} {n}"
        yield topic, most, "end"


def say_numbers(seen, most):
    """Returns when both ends came: what was published before came before."""
    for topic in (ONE, TWO):
        seen.until(topic=topic, payload="end")
        came = [(m["payload"].split(), m) for m in seen.messages(topic)]
        for published in range(most + 1):
            mine = [(int(words[1]), m) for words, m in came if words[0] == str(published)]
            say(
                subscription=topic.removeprefix(f"{ID}/"),
                published=published,
                numbers=[n for n, _ in mine],
                qos=sorted({m["qos"] for _, m in mine}),
                properties=sorted({json.dumps(m["properties"], sort_keys=True) for _, m in mine}),
            )


def say_message(what, message):
    say(what=what, payload=message["payload"], qos=message["qos"], retain=bool(message["retain"]))
