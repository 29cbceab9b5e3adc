// Loads the vendors' clients and prints the version of every one of them, as one JSON object.
'use strict';

const assert = require('node:assert');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { Client } = require('azure-iot-device');
const { connect } = require('mqtt');
const { X509Security } = require('azure-iot-security-x509');

for (const found of [ProvisioningDeviceClient.create, Http, Client, X509Security, connect]) {
    assert.strictEqual(typeof found, 'function');
}

const names = Object.keys(require(process.argv[2]).dependencies);
const version = (name) => [name, require(`${name}/package.json`).version];
console.log(JSON.stringify(Object.fromEntries(names.map(version))));
