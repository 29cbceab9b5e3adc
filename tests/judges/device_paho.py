"""Eclipse paho for Python as a device; see device_lines.py."""

import socket

import paho.mqtt
import paho.mqtt.client as mqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from device_lines import *

FIVE = LEVEL == 5
seen = Seen()


def shown(properties):
    return {} if properties is None else properties.json()


def connected(client_id, will=None):
    """A client that reports to `seen`; its will is seen to by `will`."""
    client = mqtt.Client(client_id, protocol=mqtt.MQTTv5 if FIVE else mqtt.MQTTv311, reconnect_on_failure=False)
    if PASSWORD:
        client.username_pw_set(USER, PASSWORD)
    if will:
        client.will_set(will, "gone", 1)

    def on_connect(_client, _data, flags, code, properties=None):
        seen.add(
            connack=client_id, code=int(getattr(code, "value", code)), present=flags["session present"], properties=shown(properties)
        )

    def on_subscribe(_client, _data, mid, granted, properties=None):
        seen.add(suback=mid, granted=[int(getattr(g, "value", g)) for g in granted])

    def on_disconnect(_client, _data, code, properties=None):
        seen.add(gone=client_id, code=int(getattr(code, "value", code)))

    def on_message(_client, _data, m):
        properties = shown(getattr(m, "properties", None))
        seen.add(topic=m.topic, payload=m.payload.decode(), qos=m.qos, retain=m.retain, properties=properties)

    def on_log(_client, _data, _level, text):
        if text == "Received PINGRESP":
            seen.add(ping=client_id)

    client.on_connect, client.on_subscribe, client.on_disconnect = on_connect, on_subscribe, on_disconnect
    client.on_message, client.on_log = on_message, on_log
    client.connect(HOST, PORT, KEEP_ALIVE, bind_address=SOURCE)
    client.loop_start()
    return client, seen.until(connack=client_id)


def granted(topic, qos):
    result, mid = device.subscribe(topic, qos)
    assert result == mqtt.MQTT_ERR_SUCCESS, result
    return seen.until(suback=mid)["granted"]


def published(topic, payload, qos, **more):
    info = device.publish(topic, payload, qos, **more)
    info.wait_for_publish(PATIENCE)
    assert info.is_published(), (topic, payload)


device, answer = connected(ID)
say(what="client", client="paho-mqtt", version=paho.mqtt.__version__)
say(what="connected", code=answer["code"], present=bool(answer["present"]), properties=answer["properties"])
say(what="granted", granted=[granted(ONE, 1), granted(TWO, 2)])

more = {}
if FIVE:
    more["properties"] = Properties(PacketTypes.PUBLISH)
    more["properties"].ContentType = CONTENT_TYPE
    more["properties"].UserProperty = UNIT
for info in [device.publish(topic, payload, qos, **more) for topic, qos, payload in numbered(2)]:
    info.wait_for_publish(PATIENCE)
    assert info.is_published(), info
say_numbers(seen, 2)

published(KEPT, "kept", 1, retain=True)
granted(KEPT, 1)
say_message("retained", seen.until(topic=KEPT, payload="kept"))
published(KEPT, "", 1, retain=True)

granted(WILL, 1)
dying, _ = connected(WILL_ID, will=WILL)
dying.socket().shutdown(socket.SHUT_RDWR)
say_message("will", seen.until(topic=WILL))

seen.until(ping=ID)
say(what="answered ping")
device.disconnect()
say(what="ended", code=seen.until(gone=ID)["code"])
