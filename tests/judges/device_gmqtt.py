"""gmqtt as a device; see device_lines.py."""

import asyncio
import importlib.metadata
import logging

import gmqtt
from gmqtt.mqtt.constants import MQTTv50, MQTTv311
from gmqtt.storage import PersistentStorage

from device_lines import *

FIVE = LEVEL == 5
seen = Seen()
# What gmqtt keeps until it is acknowledged.
unanswered = PersistentStorage()


class Pings(logging.Handler):
    """gmqtt says in its log alone that a ping was answered."""

    def emit(self, record):
        if "PINGRESP" in record.getMessage():
            seen.add(ping=ID)


def on_message(_client, topic, payload, qos, properties):
    properties = dict(properties)
    retain = properties.pop("retain")
    properties.pop("dup")
    seen.add(topic=topic, payload=payload.decode(), qos=qos, retain=retain, properties=properties)


async def connected(client_id, will=None):
    """A client that reports to `seen`; its will is published to `will`."""
    logger = logging.getLogger(client_id)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Pings() if client_id == ID else logging.NullHandler())
    client = gmqtt.Client(
        client_id,
        will_message=gmqtt.Message(will, "gone", qos=1) if will else None,
        persistent_storage=unanswered if client_id == ID else None,
        logger=logger,
    )
    # It would try once more even so, but not before this process ends.
    client.stop_reconnect()
    client.reconnect_delay = PATIENCE
    if PASSWORD:
        client.set_auth_credentials(USER, PASSWORD)
    client.on_connect = lambda _c, present, code, properties: seen.add(
        connack=client_id, code=code, present=present, properties=dict(properties)
    )
    client.on_subscribe = lambda _c, mid, granted, properties: seen.add(suback=mid, granted=list(granted))
    client.on_message = on_message
    client.on_disconnect = lambda _c, *_: seen.add(gone=client_id)
    await asyncio.wait_for(
        client.connect(HOST, PORT, keepalive=KEEP_ALIVE, version=MQTTv50 if FIVE else MQTTv311), PATIENCE
    )
    return client, await until(connack=client_id)


async def until(**wanted):
    return await asyncio.to_thread(seen.until, **wanted)


async def granted(device, topic, qos):
    return (await until(suback=device.subscribe(topic, qos)))["granted"]


async def acknowledged():
    await asyncio.wait_for(unanswered.wait_empty(), PATIENCE)


async def main():
    assert not SOURCE, "gmqtt cannot choose its source address"
    device, answer = await connected(ID)
    say(what="client", client="gmqtt", version=importlib.metadata.version("gmqtt"))
    say(what="connected", code=answer["code"], present=bool(answer["present"]), properties=answer["properties"])
    say(what="granted", granted=[await granted(device, ONE, 1), await granted(device, TWO, 2)])

    more = {"content_type": CONTENT_TYPE, "user_property": UNIT} if FIVE else {}
    for topic, qos, payload in numbered(2):
        device.publish(topic, payload, qos=qos, **more)
    await acknowledged()
    await asyncio.to_thread(say_numbers, seen, 2)

    device.publish(KEPT, "kept", qos=1, retain=True)
    await acknowledged()
    await granted(device, KEPT, 1)
    say_message("retained", await until(topic=KEPT, payload="kept"))
    device.publish(KEPT, "", qos=1, retain=True)
    await acknowledged()

    await granted(device, WILL, 1)
    dying, _ = await connected(WILL_ID, will=WILL)
    dying._connection._transport.abort()
    say_message("will", await until(topic=WILL))

    await until(ping=ID)
    say(what="answered ping")
    await device.disconnect()
    say(what="ended")


asyncio.run(main())
