"""Microsoft's Python client provisions a device over MQTT and sends telemetry to the hub it is assigned to.

Arguments: the address of the service, that of the hub, id scope, registration id, certificate, key, CA file, and what is to happen:
`assigned` or `refused`. Nothing of the client is changed; gateway_hostname leads it to the loopback address.
"""

import json
import sys

from azure.iot.device import IoTHubDeviceClient, Message, ProvisioningDeviceClient, X509

service, hub, scope, name, certificate, key, ca_file, expected = sys.argv[1:]
with open(ca_file, encoding="ascii") as file:
    ca = file.read()
x509 = X509(cert_file=certificate, key_file=key)
provisioning = ProvisioningDeviceClient.create_from_x509_certificate(
    provisioning_host="global.azure-devices-provisioning.net",
    registration_id=name,
    id_scope=scope,
    x509=x509,
    server_verification_cert=ca,
    gateway_hostname=service,
)
provisioning.provisioning_payload = {"model": "garden"}
if expected == "refused":
    try:
        result = provisioning.register()
    except Exception as e:  # the kinds differ between versions of the client; the test looks at the text
        print(json.dumps({"error": type(e).__name__, "says": str(e), "cause": str(e.__cause__)}))
        sys.exit(0)
    sys.exit(f"registered: {result.status}")

result = provisioning.register()
state = result.registration_state
print(
    json.dumps(
        {
            "status": result.status,
            "hub": state.assigned_hub,
            "device": state.device_id,
            "sub_status": state.sub_status,
            "payload": json.loads(state.response_payload) if state.response_payload else None,
        }
    )
)
device = IoTHubDeviceClient.create_from_x509_certificate(
    x509=x509,
    hostname=state.assigned_hub,
    device_id=state.device_id,
    server_verification_cert=ca,
    gateway_hostname=hub,
)
device.connect()
for number in range(3):
    message = Message(json.dumps({"number": number}))
    message.content_type = "application/json"
    message.content_encoding = "utf-8"
    device.send_message(message)
device.shutdown()
print(json.dumps({"sent": 3}))
