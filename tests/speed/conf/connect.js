// The device's name out of its CONNECT, and a CONNECT with a user name instead of the device's own (MQTT 3.1.1 section 3.1).

// Where the remaining length ends, and what it says; null while it is not complete.
function head(bytes) {
    var length = 0;
    for (var i = 1; i < 5 && i < bytes.length; i++) {
        length += (bytes[i] & 0x7f) * Math.pow(128, i - 1);
        if (!(bytes[i] & 0x80)) {
            return { at: i + 1, length: length };
        }
    }
    return null;
}

// The client identifier: after protocol name (6 bytes), level, flags and keep-alive.
function clientId(bytes, at) {
    var length = bytes.readUInt16BE(at + 10);
    return bytes.slice(at + 12, at + 12 + length);
}

// Each connection has a machine of its own, so this is one device's name.
var name = '';

function device() {
    return name;
}

function preread(s) {
    s.on('upload', function (data) {
        var bytes = Buffer.from(data);
        var h = head(bytes);
        if (bytes.length && bytes[0] !== 0x10) {
            s.deny();
            return;
        }
        if (!h || bytes.length < h.at + h.length) {
            return;
        }
        name = clientId(bytes, h.at).toString();
        // A name becomes a path: nothing but what our names are made of.
        if (!/^dev-[0-9]+$/.test(name)) {
            s.deny();
            return;
        }
        s.off('upload');
        s.done();
    });
}

function filter(s) {
    s.on('upload', function (data, flags) {
        var bytes = Buffer.from(data);
        var h = head(bytes);
        var user = Buffer.from(name);
        if (bytes[h.at + 7] & 0xc4) {
            // A will, a user name or a password: the benchmark's devices have none.
            s.deny();
            return;
        }
        var length = h.length + 2 + user.length;
        var front = [0x10];
        do {
            var low = length % 128;
            length = Math.floor(length / 128);
            front.push(length ? low | 0x80 : low);
        } while (length);
        var rest = bytes.slice(h.at, h.at + h.length);
        rest[7] |= 0x80;
        var size = Buffer.from([user.length >> 8, user.length & 0xff]);
        s.send(Buffer.concat([Buffer.from(front), rest, size, user, bytes.slice(h.at + h.length)]), flags);
        s.off('upload');
    });
}

export default { device, preread, filter };
