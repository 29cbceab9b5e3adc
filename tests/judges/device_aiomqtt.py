"""aiomqtt (on the paho of today) as a device; see device_lines.py."""

import asyncio
import contextlib
import importlib.metadata
import logging
import socket

import aiomqtt
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from device_lines import *

FIVE = LEVEL == 5
seen = Seen()


class Pings(logging.Handler):
    """paho says in its log alone that a ping was answered."""

    def emit(self, record):
        if record.getMessage() == "Received PINGRESP":
            seen.add(ping=ID)


def client(client_id, will=None):
    logger = logging.getLogger(client_id)
    logger.propagate = False
    logger.setLevel(logging.DEBUG)
    logger.addHandler(Pings() if client_id == ID else logging.NullHandler())
    return aiomqtt.Client(
        HOST,
        PORT,
        identifier=client_id,
        username=USER if PASSWORD else None,
        password=PASSWORD or None,
        protocol=aiomqtt.ProtocolVersion.V5 if FIVE else aiomqtt.ProtocolVersion.V311,
        will=aiomqtt.Will(will, "gone", 1) if will else None,
        keepalive=KEEP_ALIVE,
        bind_address=SOURCE,
        timeout=PATIENCE,
        logger=logger,
    )


async def listen(device):
    async for m in device.messages:
        properties = {} if m.properties is None else m.properties.json()
        seen.add(topic=m.topic.value, payload=m.payload.decode(), qos=m.qos, retain=m.retain, properties=properties)


async def until(**wanted):
    return await asyncio.to_thread(seen.until, **wanted)


async def granted(device, topic, qos):
    return [int(getattr(code, "value", code)) for code in await device.subscribe(topic, qos)]


async def main():
    say(what="client", client="aiomqtt", version=importlib.metadata.version("aiomqtt"))
    async with client(ID) as device:
        say(what="connected")
        listening = asyncio.create_task(listen(device))
        say(what="granted", granted=[await granted(device, ONE, 1), await granted(device, TWO, 2)])

        more = {}
        if FIVE:
            more["properties"] = Properties(PacketTypes.PUBLISH)
            more["properties"].ContentType = CONTENT_TYPE
            more["properties"].UserProperty = UNIT
        for topic, qos, payload in numbered(2):
            await device.publish(topic, payload, qos, **more)
        await asyncio.to_thread(say_numbers, seen, 2)

        await device.publish(KEPT, "kept", 1, retain=True)
        await granted(device, KEPT, 1)
        say_message("retained", await until(topic=KEPT, payload="kept"))
        await device.publish(KEPT, "", 1, retain=True)

        await granted(device, WILL, 1)
        # The end of a line is an error, rightly.
        with contextlib.suppress(aiomqtt.MqttError):
            async with client(WILL_ID, will=WILL) as dying:
                dying._client.socket().shutdown(socket.SHUT_RDWR)
                say_message("will", await until(topic=WILL))

        await until(ping=ID)
        say(what="answered ping")
        listening.cancel()
    say(what="ended")


asyncio.run(main())
