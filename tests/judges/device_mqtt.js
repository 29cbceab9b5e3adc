// mqtt.js as a device: does and prints what device_lines.py describes, with the same arguments.
'use strict';

const { EventEmitter, once } = require('node:events');
const mqtt = require('mqtt');

const [host, port, level, id, password] = process.argv.slice(2);
const FIVE = level === '5';
const PATIENCE = 60_000; // ms for one step; the machine may be busy
const KEEP_ALIVE = 5; // s
const MESSAGES = 20; // of each kind
const [ONE, TWO, KEPT, WILL] = ['one', 'two', 'kept', 'will'].map((name) => `${id}/${name}`);

const say = (what) => console.log(JSON.stringify(what));
const seen = [];
const changed = new EventEmitter();

function add(thing) {
    seen.push(thing);
    changed.emit('thing');
}

// The first thing that has all of these values.
async function until(wanted) {
    const signal = AbortSignal.timeout(PATIENCE);
    for (;;) {
        const found = seen.find((t) => Object.entries(wanted).every(([k, v]) => t[k] === v));
        if (found) return found;
        await once(changed, 'thing', { signal });
    }
}

async function connected(clientId, will) {
    const client = mqtt.connect({
        host,
        port: Number(port),
        clientId,
        protocolVersion: Number(level),
        keepalive: KEEP_ALIVE,
        reconnectPeriod: 0,
        clean: true,
        username: password ? 'device' : undefined,
        password: password || undefined,
        will: will && { topic: will, payload: Buffer.from('gone'), qos: 1, retain: false },
    });
    client.on('error', (e) => add({ error: clientId, message: e.message }));
    client.on('message', (topic, payload, { qos, retain, properties }) =>
        add({ topic, payload: payload.toString(), qos, retain, properties: JSON.stringify(properties ?? {}) }),
    );
    client.on('packetreceive', ({ cmd }) => cmd === 'pingresp' && add({ ping: clientId }));
    const [connack] = await once(client, 'connect', { signal: AbortSignal.timeout(PATIENCE) });
    return [client, connack];
}

async function main() {
    const [device, connack] = await connected(id);
    say({ what: 'client', client: 'mqtt', version: require('mqtt/package.json').version });
    say({
        what: 'connected',
        code: FIVE ? connack.reasonCode : connack.returnCode,
        present: connack.sessionPresent,
        properties: connack.properties ?? {},
    });
    const granted = async (topic, qos) => (await device.subscribeAsync(topic, { qos })).map((g) => g.qos);
    say({ what: 'granted', granted: [await granted(ONE, 1), await granted(TWO, 2)] });

    const properties = FIVE ? { contentType: 'text/plain', userProperties: { unit: 'C' } } : undefined;
    const publishing = [];
    for (const topic of [ONE, TWO]) {
        for (const qos of [0, 1, 2]) {
            for (let n = 0; n < MESSAGES; n += 1) publishing.push(device.publishAsync(topic, `${qos} ${n}`, { qos, properties }));
        }
        publishing.push(device.publishAsync(topic, 'end', { qos: 2 }));
    }
    await Promise.all(publishing);
    for (const topic of [ONE, TWO]) {
        await until({ topic, payload: 'end' });
        for (const published of [0, 1, 2]) {
            const mine = seen.filter((m) => m.topic === topic && m.payload.startsWith(`${published} `));
            say({
                subscription: topic.slice(id.length + 1),
                published,
                numbers: mine.map((m) => Number(m.payload.split(' ')[1])),
                qos: [...new Set(mine.map((m) => m.qos))].sort(),
                properties: [...new Set(mine.map((m) => m.properties))].sort(),
            });
        }
    }

    const sayMessage = (what, { payload, qos, retain }) => say({ what, payload, qos, retain });
    await device.publishAsync(KEPT, 'kept', { qos: 1, retain: true });
    await granted(KEPT, 1);
    sayMessage('retained', await until({ topic: KEPT, payload: 'kept' }));
    await device.publishAsync(KEPT, '', { qos: 1, retain: true });

    await granted(WILL, 1);
    const [dying] = await connected(`${id}-will`, WILL);
    dying.stream.destroy();
    sayMessage('will', await until({ topic: WILL }));

    await until({ ping: id });
    say({ what: 'answered ping' });
    await device.endAsync();
    say({ what: 'ended' });
}

main().catch((e) => {
    console.error(e, seen.slice(-5));
    process.exit(1);
});
