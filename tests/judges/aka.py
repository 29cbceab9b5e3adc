"""A home network and its SIM in one (TS 33.102 section 6.3, MILENAGE), from nothing but milenage.py: makes a challenge and says what a SIM with the
same K and OPc has to answer, or reads an AUTS.

One argument, JSON: k, opc, rand in hexadecimal digits, and either
  sqn, amf   a challenge: prints autn, res, ck, ik
  auts       prints sqn, the SIM's number, after its MAC-S was found to be right"""

import json
import sys

from milenage import Milenage, xor


def main():
    task = {name: bytes.fromhex(value) for name, value in json.loads(sys.argv[1]).items()}
    milenage, rand = Milenage(task["k"], task["opc"]), task["rand"]
    if "auts" in task:
        hidden, told = task["auts"][:6], task["auts"][6:]
        sqn = xor(hidden, milenage.f5_star(rand))
        # AMF is zero in a resynchronisation (section 6.3.3).
        _, mac_s = milenage.f1_both(rand, sqn, bytes(2))
        assert mac_s == told, "MAC-S is wrong"
        answer = {"sqn": sqn}
    else:
        sqn, amf = task["sqn"], task["amf"]
        mac_a, _ = milenage.f1_both(rand, sqn, amf)
        res, ak = milenage.f2_f5(rand)
        answer = {"autn": xor(sqn, ak) + amf + mac_a, "res": res, "ck": milenage.f3(rand), "ik": milenage.f4(rand)}
    print(json.dumps({name: value.hex() for name, value in answer.items()}))


main()
