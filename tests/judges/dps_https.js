// Microsoft's Node client provisions a device over HTTPS.
//
// Arguments: the address of the service, id scope, registration id, certificate, key. The client's port is 443; NODE_EXTRA_CA_CERTS
// tells whom to trust. What it gets, or the error, is printed.
'use strict';

const fs = require('fs');
const { ProvisioningDeviceClient } = require('azure-iot-provisioning-device');
const { Http } = require('azure-iot-provisioning-device-http');
const { X509Security } = require('azure-iot-security-x509');

const [service, scope, name, certificate, key] = process.argv.slice(2);
const security = new X509Security(name, {
  cert: fs.readFileSync(certificate, 'ascii'),
  key: fs.readFileSync(key, 'ascii'),
});
const client = ProvisioningDeviceClient.create(service, scope, new Http(), security);
client.setProvisioningPayload({ model: 'garden' });
client.register((error, result) => {
  if (error) {
    const body = error.responseBody || (error.innerError && error.innerError.responseBody);
    console.log(JSON.stringify({ error: error.name, says: error.message, body: String(body) }));
  } else {
    console.log(JSON.stringify(result));
  }
});
