"""Imports the vendors' clients and prints the version of every installed package, as one JSON object."""

import importlib.metadata
import json

import awscrt.mqtt5
import awsiot.mqtt5_client_builder
import azure.iot.device
import gmqtt
import paho.mqtt.client

# What is imported has to be what is installed here, and usable.
for found in (
    azure.iot.device.IoTHubDeviceClient,
    azure.iot.device.ProvisioningDeviceClient,
    awscrt.mqtt5.Client,
    gmqtt.Client,
    paho.mqtt.client.Client,
):
    assert callable(found), found
assert callable(awsiot.mqtt5_client_builder.mtls_from_path)

print(json.dumps({d.metadata["Name"]: d.version for d in importlib.metadata.distributions()}))
