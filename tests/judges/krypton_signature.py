"""What SORACOM's clients would have signed, computed a second time: nothing of it is shared with Onyx.

Reads requests from standard input, one JSON value a line: body (text), timestamp, ck (hexadecimal). Prints the signature of each as JSON."""

import base64
import hashlib
import json
import sys

for line in sys.stdin:
    request = json.loads(line)
    signed = request["body"].encode() + request["timestamp"].encode() + bytes.fromhex(request["ck"])
    print(json.dumps(base64.b64encode(hashlib.sha256(signed).digest()).decode()))
