"""Eclipse paho asks and listens on one connection, which mosquitto's programs do not do where a filter has wildcards.

Arguments: address, port, CA file, certificate, key, client id, user name, filter to subscribe to, topic to publish an empty message to.
Prints the first message that comes, whatever its topic, as JSON, and ends.
"""

import json
import queue
import sys

import paho.mqtt.client as mqtt

host, port, ca, certificate, key, client_id, user, subscription, topic = sys.argv[1:]
# Nothing here takes longer, in seconds, even on a busy machine.
PATIENCE = 60

acks, messages = queue.Queue(), queue.Queue()
client = mqtt.Client(client_id, reconnect_on_failure=False)
client.username_pw_set(user)
client.tls_set(ca, certificate, key)
client.on_connect = lambda _c, _u, _flags, code: acks.put(("CONNACK", code))
client.on_subscribe = lambda _c, _u, _mid, granted: acks.put(("SUBACK", granted[0]))
client.on_publish = lambda _c, _u, _mid: acks.put(("PUBACK", 0))
client.on_message = lambda _c, _u, message: messages.put(message)
client.connect(host, int(port))
client.loop_start()
assert acks.get(timeout=PATIENCE) == ("CONNACK", 0)
client.subscribe(subscription, 1)
assert acks.get(timeout=PATIENCE) == ("SUBACK", 1)
client.publish(topic, qos=1)
assert acks.get(timeout=PATIENCE) == ("PUBACK", 0)
first = messages.get(timeout=PATIENCE)
print(json.dumps({"topic": first.topic, "payload": first.payload.decode()}))
client.disconnect()
