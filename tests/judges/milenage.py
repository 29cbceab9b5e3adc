"""MILENAGE (3GPP TS 35.206) on AES-128 (FIPS 197), written from the two standards with nothing but Python: a second opinion about the bench's
keys. Run by itself it checks both against published values."""


def _xtime(a):
    a <<= 1
    return (a ^ 0x11B) & 0xFF if a & 0x100 else a


def _multiply(a, b):
    product = 0
    while b:
        if b & 1:
            product ^= a
        a, b = _xtime(a), b >> 1
    return product


def _make_sbox():
    box = []
    for value in range(256):
        inverse = next((x for x in range(1, 256) if _multiply(value, x) == 1), 0)
        out = 0x63
        for shift in range(5):
            out ^= ((inverse << shift) | (inverse >> (8 - shift))) & 0xFF
        box.append(out)
    return box


_SBOX = _make_sbox()


def aes128(key, block):
    """One block, encrypted."""
    words = [list(key[i : i + 4]) for i in range(0, 16, 4)]
    constant = 1
    for i in range(4, 44):
        word = list(words[i - 1])
        if i % 4 == 0:
            word = [_SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _xtime(constant)
        words.append([a ^ b for a, b in zip(words[i - 4], word)])
    keys = [sum(words[i : i + 4], []) for i in range(0, 44, 4)]
    state = [a ^ b for a, b in zip(block, keys[0])]
    for turn in range(1, 11):
        state = [_SBOX[b] for b in state]
        state = [state[(i + 4 * (i % 4)) % 16] for i in range(16)]
        if turn < 10:
            mixed = []
            for c in range(0, 16, 4):
                a = state[c : c + 4]
                for r in range(4):
                    mixed.append(
                        _multiply(a[r], 2) ^ _multiply(a[(r + 1) % 4], 3) ^ a[(r + 2) % 4] ^ a[(r + 3) % 4]
                    )
            state = mixed
        state = [a ^ b for a, b in zip(state, keys[turn])]
    return bytes(state)


def xor(a, b):
    return bytes(x ^ y for x, y in zip(a, b))


class Milenage:
    def __init__(self, k, opc):
        self.k, self.opc = k, opc

    @staticmethod
    def opc(k, op):
        return xor(aes128(k, op), op)

    def _out(self, rand, rotation, constant):
        temp = aes128(self.k, xor(rand, self.opc))
        mixed = xor(temp, self.opc)
        n = rotation // 8
        turned = bytearray(mixed[n:] + mixed[:n])
        turned[15] ^= constant
        return xor(aes128(self.k, bytes(turned)), self.opc)

    def f1_both(self, rand, sqn, amf):
        """MAC-A and MAC-S."""
        temp = aes128(self.k, xor(rand, self.opc))
        mixed = xor((sqn + amf) * 2, self.opc)
        out = xor(aes128(self.k, xor(temp, mixed[8:] + mixed[:8])), self.opc)
        return out[:8], out[8:]

    def f2_f5(self, rand):
        """RES and AK."""
        out = self._out(rand, 0, 1)
        return out[8:], out[:6]

    def f3(self, rand):
        return self._out(rand, 32, 2)

    def f4(self, rand):
        return self._out(rand, 64, 4)

    def f5_star(self, rand):
        return self._out(rand, 96, 8)[:6]


def check():
    h = bytes.fromhex
    # FIPS 197 appendix C.1.
    assert aes128(bytes(range(16)), h("00112233445566778899aabbccddeeff")) == h("69c4e0d86a7b0430d8cdb78070b4c55a")
    # TS 35.208, test set 1.
    k, op = h("465b5ce8b199b49faa5f0a2ee238a6bc"), h("cdc202d5123e20f62b6d676ac72cb318")
    m = Milenage(k, Milenage.opc(k, op))
    rand = h("23553cbe9637a89d218ae64dae47bf35")
    assert m.opc == h("cd63cb71954a9f4e48a5994e37a02baf")
    assert m.f1_both(rand, h("ff9bb4d0b607"), h("b9b9")) == (h("4a9ffac354dfafb3"), h("01cfaf9ec4e871e9"))
    assert m.f2_f5(rand) == (h("a54211d5e3ba50bf"), h("aa689c648370"))
    assert m.f3(rand) == h("b40ba9a3c58b2a05bbf0d987b21bf8cb")
    assert m.f4(rand) == h("f769bcd751044604127672711c6d3441")
    assert m.f5_star(rand) == h("451e8beca43b")


check()
