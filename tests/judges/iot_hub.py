"""Microsoft's own Python client (azure-iot-device) as a device of the IoT Hub stand-in, unmodified.

Usage: iot_hub.py GATEWAY HOST DEVICE CA CERTIFICATE KEY

It does what it is told on standard input, one JSON value a line, and says on standard output what came of it, one JSON value a line.
Messages, methods and desired properties are said when they come.
"""

import json
import sys
import threading

from azure.iot.device import IoTHubDeviceClient, Message, MethodResponse, X509

gateway, host, device, ca, certificate, key = sys.argv[1:7]
lock = threading.Lock()


def say(**what):
    with lock:
        print(json.dumps(what), flush=True)


def on_message(m):
    say(
        event="c2d",
        data=m.data.decode(),
        mid=m.message_id,
        cid=m.correlation_id,
        content_type=m.content_type,
        custom=m.custom_properties,
    )


def on_method(request):
    say(event="method", name=request.name, payload=request.payload)
    if request.name == "silence":
        return
    status = 200 if request.name == "echo" else 404
    answer = MethodResponse.create_from_method_request(request, status, {"got": request.payload})
    client.send_method_response(answer)


def on_desired(patch):
    say(event="desired", patch=patch)


with open(ca) as f:
    trusted = f.read()
client = IoTHubDeviceClient.create_from_x509_certificate(
    x509=X509(cert_file=certificate, key_file=key),
    hostname=host,
    device_id=device,
    server_verification_cert=trusted,
    gateway_hostname=gateway,
    connection_retry_interval=1,
)

for line in sys.stdin:
    told = json.loads(line)
    do = told["do"]
    try:
        if do == "connect":
            client.connect()
        elif do == "listen":
            client.on_message_received = on_message
            client.on_method_request_received = on_method
            client.on_twin_desired_properties_patch_received = on_desired
        elif do == "send":
            m = Message(told["data"])
            m.message_id = "id 1/2"
            m.content_type = "application/json"
            m.content_encoding = "utf-8"
            m.custom_properties.update(told["custom"])
            client.send_message(m)
        elif do == "twin":
            say(event="twin", twin=client.get_twin())
        elif do == "report":
            client.patch_twin_reported_properties(told["patch"])
        elif do == "disconnect":
            client.disconnect()
        elif do == "end":
            break
        say(event="done", do=do)
    except Exception as e:  # what went wrong is the finding
        say(event="failed", do=do, error=type(e).__name__, cause=str(e.__cause__ or e))
client.shutdown()
say(event="ended")
