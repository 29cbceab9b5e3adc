"""A device that proves its SIM to SORACOM's key service and asks Krypton for something, as SORACOM's clients do it: AT commands to the dongle, HTTPS to
the internet door. Nothing of it is shared with the bench; keys are computed a second time from K and OPc (milenage.py) and compared.

One argument, JSON:
  port       the dongle's AT port
  way        "cgla" (logical channel), "csim" (SELECT on the basic channel), "bare" (AUTHENTICATE at once, as SORACOM's clients)
  k, opc     what the SIM should have
  host, address, tcp, ca    the internet door
  proof      "res" (Go client) or "xres" (Java client)
  java       whether bodies are the Java client's
  calls      [path, parameters] of signed requests
Prints JSON: what came back."""

import base64
import hashlib
import http.client
import json
import os
import re
import select
import socket
import ssl
import sys
import time

from milenage import Milenage, xor

TIME_LIMIT = 20  # seconds for any answer


class Modem:
    def __init__(self, path):
        self.file = os.open(path, os.O_RDWR | os.O_NOCTTY)
        self.say("ATE0")

    def say(self, command):
        """The lines of the answer; the last one is the result."""
        os.write(self.file, command.encode() + b"\r")
        seen, end = b"", time.monotonic() + TIME_LIMIT
        while not (found := re.search(rb"\r\n(OK|ERROR|\+CME ERROR: [^\r]*)\r\n", seen)):
            if not select.select([self.file], [], [], max(0, end - time.monotonic()))[0]:
                raise TimeoutError(f"{command}: {seen!r}")
            seen += os.read(self.file, 4096)
        lines = seen[: found.end()].decode().split("\r\n")
        return [line for line in lines if line and line != command]

    def line(self, command):
        lines = self.say(command)
        assert lines[-1] == "OK", (command, lines)
        return lines[-2]


class Card:
    def __init__(self, modem, way):
        self.modem, self.way, self.channel = modem, way, None
        if way == "cgla":
            self.channel = int(modem.line('AT+CCHO="A0000000871002"').rpartition(" ")[2])
        elif way == "csim":
            assert self.apdu("00A40000023F00")[1][:2] == "61"
            assert self.apdu("00A4040407A0000000871002")[1] == "613A"

    def apdu(self, command):
        """Data and status word."""
        prefix = "AT+CSIM=" if self.channel is None else f"AT+CGLA={self.channel},"
        line = self.modem.line(f'{prefix}{len(command)},"{command}"')
        length, digits = re.fullmatch(r'\+(?:CSIM|CGLA): (\d+),"([0-9A-F]*)"', line).groups()
        assert int(length) == len(digits), line
        return digits[:-4], digits[-4:]

    def authenticate(self, rand, autn):
        command = f"008800812210{rand.hex()}10{autn.hex()}".upper()
        data, status = self.apdu(command)
        if status[:2] == "61":
            data, status = self.apdu(f"00C00000{status[2:]}")
        return bytes.fromhex(data), status

    def close(self):
        if self.channel is not None:
            assert self.modem.say(f"AT+CCHC={self.channel}") == ["OK"]


class Door:
    def __init__(self, job):
        self.job = job

    def post(self, path, body, headers=()):
        job = self.job
        context = ssl.create_default_context(cafile=job["ca"])
        plain = socket.create_connection((job["address"], job["tcp"]), timeout=TIME_LIMIT)
        connection = http.client.HTTPSConnection(job["host"], job["tcp"], timeout=TIME_LIMIT)
        connection.sock = context.wrap_socket(plain, server_hostname=job["host"])
        kind = "application/json;  charset=utf-8" if job.get("java") else "application/json"
        connection.request("POST", path, body, {"Content-Type": kind, **dict(headers)})
        answer = connection.getresponse()
        text = answer.read().decode()
        connection.close()
        return answer.status, text


def b64(data):
    return base64.b64encode(data).decode()


def prove(job, modem, door, report):
    """keyId and CK."""
    imsi = modem.line("AT+CIMI")
    own = Milenage(bytes.fromhex(job["k"]), bytes.fromhex(job["opc"]))
    ask = {"imsi": imsi}
    card = Card(modem, job["way"])
    for _ in range(2):
        status, text = door.post("/v1/keys", json.dumps(ask))
        report["challenge"].append(status)
        assert status in (200, 401), text
        challenge = json.loads(text)
        rand, autn = base64.b64decode(challenge["rand"]), base64.b64decode(challenge["autn"])
        res, ak = own.f2_f5(rand)
        sqn = xor(autn[:6], ak)
        report["autn_is_right"] = own.f1_both(rand, sqn, autn[6:8])[0] == autn[8:]
        data, status = card.authenticate(rand, autn)
        report["card"].append(data[:1].hex() + status)
        if data[:1] != b"\xdc":
            break
        auts = data[2:]
        sqn_ms = xor(auts[:6], own.f5_star(rand))
        report["auts_is_right"] = len(auts) == 14 and own.f1_both(rand, sqn_ms, b"\0\0")[1] == auts[6:]
        report["auts_seq"] = int.from_bytes(sqn_ms, "big") >> 5
        ask = {"imsi": imsi, "rand": challenge["rand"], "auts": b64(auts)}
    card.close()
    if status != "9000":
        return None, None
    assert data[0] == 0xDB
    fields, rest = [], data[1:]
    while rest:
        fields.append(rest[1 : 1 + rest[0]])
        rest = rest[1 + rest[0] :]
    ck, ik = own.f3(rand), own.f4(rand)
    kc = xor(xor(ck[:8], ck[8:]), xor(ik[:8], ik[8:]))
    report["card_is_right"] = fields == [res, ck, ik, kc]
    path = f"/v1/keys/{challenge['keyId']}/verify"
    status, text = door.post(path, json.dumps({job["proof"]: b64(fields[0])}))
    report["verify"] = status
    report["replay"] = door.post(path, json.dumps({job["proof"]: b64(fields[0])}))[0]
    return challenge["keyId"], fields[1]


def signed(job, door, key, ck, path, parameters):
    stamp = str(time.time_ns() // 1_000_000)
    if job.get("java"):
        body = {"keyId": key, "keyLength": 16, "algorithm": "SHA-256", "timestamp": stamp, **parameters}
    else:
        body = {"keyId": key, "requestParameters": parameters or None}
    body = json.dumps(body)
    signature = b64(hashlib.sha256(body.encode() + stamp.encode() + ck).digest())
    headers = {
        "x-soracom-timestamp": stamp,
        "x-soracom-digest-algorithm": "SHA-256",
        "x-soracom-signature": signature,
    }
    status, text = door.post(path, body, headers)
    answer = {"status": status, "body": text}
    if status == 200 and path.endswith("inventory/bootstrap"):
        told = json.loads(text)
        key = hashlib.sha256(base64.b64decode(told["nonce"]) + told["timestamp"].encode() + ck).digest()[:16]
        answer["application_key"] = b64(key)
    return answer


def main():
    job = json.loads(sys.argv[1])
    report = {"challenge": [], "card": [], "answers": []}
    modem, door = Modem(job["port"]), Door(job)
    key, ck = prove(job, modem, door, report)
    if key:
        for path, parameters in job["calls"]:
            report["answers"].append(signed(job, door, key, ck, "/v1/provisioning/" + path, parameters))
            while path.startswith("azure/iot/register"):
                operation = json.loads(report["answers"][-1]["body"])["operationId"]
                path = "azure/iot/registrations/" + operation
                report["answers"].append(signed(job, door, key, ck, "/v1/provisioning/" + path, {}))
    print(json.dumps(report))


main()
