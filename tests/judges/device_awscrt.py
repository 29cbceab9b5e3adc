"""AWS' common runtime as a device, without its cloud; see device_lines.py. Neither of its clients has QoS 2."""

import importlib.metadata
import os
import socket
import tempfile
import threading

from awscrt import io, mqtt, mqtt5

from device_lines import *

# The runtime says in its log alone that a ping was answered.
LOG = tempfile.NamedTemporaryFile("r", suffix=".log")
io.init_logging(io.LogLevel.Trace, LOG.name)
seen = Seen()


def sockets():
    """File descriptors of this process that lead to the other side: the runtime does not show its own."""
    found = set()
    for fd in map(int, os.listdir("/proc/self/fd")):
        try:
            with socket.socket(fileno=os.dup(fd)) as s:
                if s.getpeername() == (HOST, PORT):
                    found.add(fd)
        except OSError:
            pass  # no socket, one without a peer, or the descriptor of the list itself
    return found


def destroy(fd):
    with socket.socket(fileno=os.dup(fd)) as s:
        s.shutdown(socket.SHUT_RDWR)


class Four:
    """MQTT 3.1.1."""

    def __init__(self, client_id, will=None):
        self.id = client_id
        self.connection = mqtt.Connection(
            mqtt.Client(),
            HOST,
            PORT,
            client_id,
            keep_alive_secs=KEEP_ALIVE,
            ping_timeout_ms=3_000,
            reconnect_min_timeout_secs=PATIENCE,
            will=mqtt.Will(will, mqtt.QoS.AT_LEAST_ONCE, b"gone", False) if will else None,
            username=USER,
            password=PASSWORD or None,
        )
        self.answer = {"present": self.connection.connect().result(PATIENCE)["session_present"]}

    def subscribe(self, topic, qos):
        done = self.connection.subscribe(topic, mqtt.QoS(qos), self._message)[0].result(PATIENCE)
        return [int(done["qos"])]

    def _message(self, topic, payload, dup, qos, retain, **_):
        seen.add(topic=topic, payload=payload.decode(), qos=int(qos), retain=retain, properties={})

    def publish(self, topic, payload, qos, retain=False):
        return self.connection.publish(topic, payload, mqtt.QoS(qos), retain)[0]

    def end(self):
        self.connection.disconnect().result(PATIENCE)


class Five:
    """MQTT 5."""

    def __init__(self, client_id, will=None):
        self.id = client_id
        self.client = mqtt5.Client(
            mqtt5.ClientOptions(
                HOST,
                PORT,
                connect_options=mqtt5.ConnectPacket(
                    KEEP_ALIVE,
                    client_id,
                    USER,
                    PASSWORD or None,
                    will=mqtt5.PublishPacket("gone", mqtt5.QoS.AT_LEAST_ONCE, topic=will) if will else None,
                ),
                min_reconnect_delay_ms=PATIENCE * 1_000,
                max_reconnect_delay_ms=PATIENCE * 1_000,
                # Else any part of that may be enough.
                retry_jitter_mode=mqtt5.ExponentialBackoffJitterMode.NONE,
                ping_timeout_ms=3_000,
                on_publish_callback_fn=lambda data: self._message(data.publish_packet),
                on_lifecycle_event_connection_success_fn=lambda data: seen.add(connack=client_id, packet=data.connack_packet),
                on_lifecycle_event_connection_failure_fn=lambda data: seen.add(refused=client_id, why=str(data.exception)),
                on_lifecycle_event_stopped_fn=lambda _: seen.add(gone=client_id),
            )
        )
        self.client.start()
        packet = seen.until(connack=client_id)["packet"]
        terms = {k: v for k, v in vars(packet).items() if v is not None and k not in ("session_present", "reason_code")}
        self.answer = {"code": int(packet.reason_code), "present": packet.session_present, "properties": terms}

    def subscribe(self, topic, qos):
        wanted = mqtt5.SubscribePacket([mqtt5.Subscription(topic, mqtt5.QoS(qos))])
        return [int(code) for code in self.client.subscribe(wanted).result(PATIENCE).reason_codes]

    def _message(self, m):
        properties = {"content_type": m.content_type, "user": [[p.name, p.value] for p in m.user_properties or ()]}
        seen.add(topic=m.topic, payload=m.payload.decode(), qos=int(m.qos), retain=m.retain, properties=properties)

    def publish(self, topic, payload, qos, retain=False):
        packet = mqtt5.PublishPacket(
            payload,
            mqtt5.QoS(qos),
            retain,
            topic,
            content_type=CONTENT_TYPE,
            user_properties=[mqtt5.UserProperty(*UNIT)],
        )
        return self.client.publish(packet)

    def end(self):
        self.client.stop(mqtt5.DisconnectPacket())
        seen.until(gone=self.id)


def answered_ping():
    """Until the log says so; it has no other way of telling."""
    wait = threading.Event()
    for _ in range(PATIENCE * 20):
        if any("PINGRESP" in line for line in LOG):
            return
        wait.wait(0.05)
    raise AssertionError("no ping was answered")


assert not SOURCE, "awscrt cannot choose its source address"
Client = Five if LEVEL == 5 else Four
device = Client(ID)
say(what="client", client="awscrt", version=importlib.metadata.version("awscrt"))
say(what="connected", **device.answer)
say(what="granted", granted=[device.subscribe(ONE, 1), device.subscribe(TWO, 1)])

for done in [device.publish(topic, payload, qos) for topic, qos, payload in numbered(1)]:
    done.result(PATIENCE)
say_numbers(seen, 1)

device.publish(KEPT, "kept", 1, retain=True).result(PATIENCE)
device.subscribe(KEPT, 1)
say_message("retained", seen.until(topic=KEPT, payload="kept"))
device.publish(KEPT, "", 1, retain=True).result(PATIENCE)

device.subscribe(WILL, 1)
before = sockets()
dying = Client(WILL_ID, will=WILL)
(line,) = sockets() - before
destroy(line)
say_message("will", seen.until(topic=WILL))

answered_ping()
say(what="answered ping")
device.end()
say(what="ended")
# The other one would wait for its next try.
os._exit(0)
