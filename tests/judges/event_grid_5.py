"""Eclipse paho judges the Event Grid stand-in's MQTT 5: what mosquitto's clients cannot ask or do not tell.

Arguments: address, port, CA file, folder with NAME.pem and NAME.key of the devices "one" and "two". Prints one JSON object a question.
"""

import json
import queue
import ssl
import sys

import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties
from paho.mqtt.subscribeoptions import SubscribeOptions

HOST, PORT, CA, DEVICES = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
# Nothing asked here takes longer, in seconds, even on a busy machine.
PATIENCE = 60


class Client(mqtt.Client):
    """Keeps the reason of the server's DISCONNECT: paho 1.6 looks at it only if a property follows."""

    said = None

    def _handle_disconnect(self):
        body = self._in_packet["packet"]
        self.said = body[0] if body else 0
        return super()._handle_disconnect()


class Device:
    """A client whose callbacks go into queues, so that each step can wait for its own answer."""

    def __init__(self, name, session, will=None):
        self.connected, self.gone, self.acks, self.messages = (queue.Queue() for _ in range(4))
        c = Client(session, protocol=mqtt.MQTTv5, reconnect_on_failure=False)
        c.username_pw_set(name)
        c.tls_set(CA, f"{DEVICES}/{name}.pem", f"{DEVICES}/{name}.key", tls_version=ssl.PROTOCOL_TLS_CLIENT)
        c.on_connect = lambda _c, _u, flags, code, properties: self.connected.put((flags, code, properties))
        c.on_disconnect = lambda _c, _u, code, properties=None: self.gone.put(code)
        c.on_subscribe = lambda _c, _u, _mid, codes, properties=None: self.acks.put([r.value for r in codes])
        c.on_publish = lambda _c, _u, mid: self.acks.put(mid)
        c.on_message = lambda _c, _u, message: self.messages.put(message)
        if will:
            c.will_set(*will[:4], properties=will[4] if len(will) > 4 else None)
        self.client = c

    def connect(self, keep_alive=60, clean=True, **wanted):
        properties = Properties(PacketTypes.CONNECT)
        for key, value in wanted.items():
            setattr(properties, key, value)
        self.client.connect(HOST, PORT, keep_alive, clean_start=clean, properties=properties)
        self.client.loop_start()
        return self.connected.get(timeout=PATIENCE)

    def subscribe(self, topic, identifier=None, user=None, **options):
        properties = Properties(PacketTypes.SUBSCRIBE)
        if identifier:
            properties.SubscriptionIdentifier = identifier
        if user:
            properties.UserProperty = user
        self.client.subscribe(topic, options=SubscribeOptions(qos=1, **options), properties=properties)

    def publish(self, topic, payload, qos=1, retain=False, **wanted):
        properties = Properties(PacketTypes.PUBLISH)
        for key, value in wanted.items():
            setattr(properties, key, value)
        self.client.publish(topic, payload, qos, retain, properties)

    def reason(self):
        self.gone.get(timeout=PATIENCE)
        return self.client.said

    def close(self, **how):
        self.client.disconnect(**how)
        self.gone.get(timeout=PATIENCE)
        self.client.loop_stop()


def say(question, answer):
    print(json.dumps({"question": question, "answer": answer}), flush=True)


def terms():
    d = Device("one", "one-1")
    _, code, properties = d.connect(keep_alive=2000, SessionExpiryInterval=100_000)
    say("terms", {"code": code.value, **properties.json()})
    d.close()


def refused_connect(question, name="one", will=None, **wanted):
    d = Device(name, "one-1", will)
    _, code, _ = d.connect(**wanted)
    say(question, code.value)
    d.client.loop_stop()


def refused(question, act):
    """Something for which the server says DISCONNECT."""
    d = Device("one", "one-1")
    d.connect()
    act(d)
    say(question, d.reason())
    d.client.loop_stop()


def take_over():
    first = Device("one", "one-1")
    first.connect()
    second = Device("one", "one-1")
    second.connect()
    say("taken over", first.reason())
    first.client.loop_stop()
    stranger = Device("two", "one-1")
    _, code, _ = stranger.connect()
    say("a stranger", code.value)
    stranger.client.loop_stop()
    more = Device("one", "one-2")
    _, code, _ = more.connect()
    say("one session more", code.value)
    more.client.loop_stop()
    second.close()


def subscriptions():
    d = Device("one", "one-1")
    d.connect()
    d.publish("exampletopics/kept", "old", retain=True)
    d.acks.get(timeout=PATIENCE)
    d.subscribe("exampletopics/#", user=("a", "b"))
    say("user properties on SUBSCRIBE", d.acks.get(timeout=PATIENCE))
    d.subscribe("elsewhere/#")
    say("a filter that is not allowed", d.acks.get(timeout=PATIENCE))
    d.subscribe("exampletopics/#", noLocal=True, retainHandling=2)
    say("no local, nothing kept", d.acks.get(timeout=PATIENCE))
    other = Device("two", "two-1")
    other.connect()
    d.publish("exampletopics/a", "own")
    other.publish("exampletopics/a", "foreign")
    say("first message", d.messages.get(timeout=PATIENCE).payload.decode())
    d.subscribe("exampletopics/kept", retainHandling=0)
    message = d.messages.get(timeout=PATIENCE)
    say("kept", [message.payload.decode(), message.retain])
    d.publish("exampletopics/kept", "", retain=True)
    other.close()
    d.close()


def aliases():
    d, other = Device("one", "one-1"), Device("two", "two-1")
    d.connect()
    other.connect()
    d.subscribe("exampletopics/#")
    d.acks.get(timeout=PATIENCE)
    other.publish("exampletopics/long", "1", TopicAlias=10)
    other.publish("", "2", TopicAlias=10, ContentType="text/plain", ResponseTopic="exampletopics/r", CorrelationData=b"\x01",
                  UserProperty=("k", "v"), MessageExpiryInterval=100, PayloadFormatIndicator=1)
    d.messages.get(timeout=PATIENCE)
    m = d.messages.get(timeout=PATIENCE)
    say("by alias", [m.topic, m.payload.decode(), m.properties.json()])
    other.close()
    d.close()


def sessions():
    d = Device("one", "one-1")
    flags, _, _ = d.connect(SessionExpiryInterval=600)
    d.subscribe("exampletopics/#")
    d.acks.get(timeout=PATIENCE)
    d.close()
    d = Device("one", "one-1")
    again, _, _ = d.connect(clean=False, SessionExpiryInterval=600)
    # DISCONNECT takes the expiry back.
    properties = Properties(PacketTypes.DISCONNECT)
    properties.SessionExpiryInterval = 0
    d.close(properties=properties)
    d = Device("one", "one-1")
    after, _, _ = d.connect(clean=False)
    say("session present", [f["session present"] for f in (flags, again, after)])
    d.close()


def wills():
    watcher = Device("two", "two-1")
    watcher.connect()
    watcher.subscribe("exampletopics/will")
    watcher.acks.get(timeout=PATIENCE)
    properties = Properties(PacketTypes.WILLMESSAGE)
    properties.UserProperty = ("k", "v")
    d = Device("one", "one-1", ("exampletopics/will", "bye", 1, False, properties))
    d.connect()
    d.close(reasoncode=mqtt.ReasonCodes(PacketTypes.DISCONNECT, "Disconnect with will message"))
    m = watcher.messages.get(timeout=PATIENCE)
    say("will", [m.payload.decode(), m.properties.json().get("UserProperty")])
    # A will that waits is not published when the session goes on, and is when the session ends.
    delayed = Properties(PacketTypes.WILLMESSAGE)
    delayed.WillDelayInterval = 2
    d = Device("one", "one-1", ("exampletopics/will", "later", 1, False, delayed))
    d.connect(SessionExpiryInterval=600)
    d.client.socket().close()
    d = Device("one", "one-1", ("exampletopics/will", "sooner", 1, False, delayed))
    d.connect(clean=False, SessionExpiryInterval=0)
    d.close(reasoncode=mqtt.ReasonCodes(PacketTypes.DISCONNECT, "Disconnect with will message"))
    # If the first will had been published after all, it would come before this one.
    delayed = Properties(PacketTypes.WILLMESSAGE)
    delayed.WillDelayInterval = 3
    d = Device("one", "one-1", ("exampletopics/will", "last", 1, False, delayed))
    d.connect(SessionExpiryInterval=600)
    d.client.socket().close()
    say("delayed wills", [watcher.messages.get(timeout=PATIENCE).payload.decode() for _ in range(2)])
    watcher.close()


terms()
refused_connect("user properties on CONNECT", UserProperty=("a", "b"))
refused_connect("enhanced authentication", AuthenticationMethod="SCRAM-SHA-1")
refused_connect("another's name", name="one", will=("elsewhere/x", "x", 1, False))
long = Properties(PacketTypes.WILLMESSAGE)
long.WillDelayInterval = 301
refused_connect("a long will delay", will=("exampletopics/x", "x", 1, False, long))
refused("alias over the maximum", lambda d: d.publish("exampletopics/a", "x", TopicAlias=11))
refused("an unknown alias", lambda d: d.publish("", "x", TopicAlias=3))
refused("QoS 2", lambda d: d.publish("exampletopics/a", "x", qos=2))
refused("not allowed at QoS 0", lambda d: d.publish("elsewhere/a", "x", qos=0))
refused("subscription identifier", lambda d: d.subscribe("exampletopics/#", identifier=5))
refused("shared subscription", lambda d: d.subscribe("$share/g/exampletopics/#"))
take_over()
subscriptions()
aliases()
sessions()
wills()
