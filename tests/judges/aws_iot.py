"""awsiotsdk, unmodified, before the AWS IoT Core stand-in. What it does is its first argument; what it found are lines of JSON.

The endpoint keeps its real name and the SDK its own ports: an HTTP proxy, which the SDK takes as an option, leads to loopback.
"""

import json
import sys
import threading

from awscrt import http, mqtt, mqtt5, mqtt_request_response
from awsiot import (
    ServiceStreamOptions,
    V2ServiceException,
    iotidentity,
    iotshadow,
    mqtt5_client_builder,
    mqtt_connection_builder,
)

TASK, ENDPOINT, PROXY_PORT, CA, CERTIFICATE, KEY, CLIENT_ID = sys.argv[1:8]
MORE = sys.argv[8:]
# Seconds for one step; the machine may be busy.
WAIT = 60


def say(**what):
    print(json.dumps(what), flush=True)


def connection(certificate=CERTIFICATE, key=KEY, client_id=CLIENT_ID, port=8883):
    """`port` None leaves it to the SDK, which takes 443 and ALPN then."""
    more = {} if port is None else {"port": port}
    return mqtt_connection_builder.mtls_from_path(
        certificate,
        key,
        endpoint=ENDPOINT,
        ca_filepath=CA,
        client_id=client_id,
        clean_session=True,
        keep_alive_secs=30,
        http_proxy_options=http.HttpProxyOptions("127.0.0.1", int(PROXY_PORT)),
        **more,
    )


def connected(**how):
    c = connection(**how)
    c.connect().result(WAIT)
    return c


def options():
    return mqtt_request_response.ClientOptions(
        max_request_response_subscriptions=4, max_streaming_subscriptions=4, operation_timeout_in_seconds=WAIT
    )


def publish():
    for port in (8883, None):
        c = connected(port=port)
        arrived = threading.Event()
        got = []

        def on_message(topic, payload, **_):
            got.append((topic, payload.decode()))
            arrived.set()

        granted = c.subscribe("a/#", mqtt.QoS.AT_LEAST_ONCE, on_message)[0].result(WAIT)
        c.publish("a/b", "hello", mqtt.QoS.AT_LEAST_ONCE)[0].result(WAIT)
        assert arrived.wait(WAIT), "the message did not come back"
        say(port=port, qos=int(granted["qos"]), topic=got[0][0], payload=got[0][1])
        c.disconnect().result(WAIT)
        if port is not None:
            # One CONNECT a second for a client id.
            threading.Event().wait(1.2)


def five():
    """MQTT 5, at the port that the SDK takes by itself."""
    up, arrived, down = threading.Event(), threading.Event(), threading.Event()
    got = []

    def on_message(data):
        got.append(data.publish_packet)
        arrived.set()

    client = mqtt5_client_builder.mtls_from_path(
        CERTIFICATE,
        KEY,
        endpoint=ENDPOINT,
        ca_filepath=CA,
        client_id=CLIENT_ID,
        http_proxy_options=http.HttpProxyOptions("127.0.0.1", int(PROXY_PORT)),
        on_publish_received=on_message,
        on_lifecycle_connection_success=lambda data: (got.append(data.negotiated_settings), up.set()),
        on_lifecycle_stopped=lambda _: down.set(),
    )
    client.start()
    assert up.wait(WAIT), "no connection"
    terms = got.pop()
    say(receive_maximum=terms.receive_maximum_from_server, qos=int(terms.maximum_qos), retain=terms.retain_available)

    def subscribe(topic):
        wanted = mqtt5.Subscription(topic_filter=topic, qos=mqtt5.QoS.AT_LEAST_ONCE)
        done = client.subscribe(mqtt5.SubscribePacket(subscriptions=[wanted])).result(WAIT)
        return int(done.reason_codes[0])

    def publish(topic, **more):
        packet = mqtt5.PublishPacket(topic=topic, qos=mqtt5.QoS.AT_LEAST_ONCE, payload="hello", **more)
        return int(client.publish(packet).result(WAIT).puback.reason_code)

    say(subscribe=[subscribe("a/#"), subscribe("b/#")])
    properties = [mqtt5.UserProperty(name="unit", value="C")]
    say(publish=[publish("a/b", user_properties=properties, content_type="text/plain"), publish("b/c")])
    assert arrived.wait(WAIT), "the message did not come back"
    packet = got[0]
    say(topic=packet.topic, content_type=packet.content_type, unit=packet.user_properties[0].value)
    client.stop()
    assert down.wait(WAIT), "no end"


def shadow():
    c = connected()
    client = iotshadow.IotShadowClientV2(c, options())
    try:
        client.get_shadow(iotshadow.GetShadowRequest(thing_name=CLIENT_ID)).result(WAIT)
        say(missing=False)
    except V2ServiceException as e:
        say(missing=True, code=e.modeled_error.code, message=e.modeled_error.message)
    delta, ready = threading.Event(), threading.Event()
    deltas = []

    def on_delta(event):
        deltas.append(event)
        delta.set()

    stream = client.create_shadow_delta_updated_stream(
        iotshadow.ShadowDeltaUpdatedSubscriptionRequest(thing_name=CLIENT_ID),
        ServiceStreamOptions(incoming_event_listener=on_delta, subscription_status_listener=lambda _: ready.set()),
    )
    stream.open()
    assert ready.wait(WAIT), "no subscription to deltas"
    state = iotshadow.ShadowState(desired={"interval": 10}, reported={"interval": 60})
    done = client.update_shadow(iotshadow.UpdateShadowRequest(thing_name=CLIENT_ID, state=state)).result(WAIT)
    assert delta.wait(WAIT), "no delta"
    say(version=done.version, delta=deltas[0].state, desired=done.state.desired)
    got = client.get_shadow(iotshadow.GetShadowRequest(thing_name=CLIENT_ID)).result(WAIT)
    say(reported=got.state.reported, delta=got.state.delta, version=got.version)
    try:
        stale = iotshadow.UpdateShadowRequest(thing_name=CLIENT_ID, state=state, version=99)
        client.update_shadow(stale).result(WAIT)
    except V2ServiceException as e:
        say(code=e.modeled_error.code, message=e.modeled_error.message)
    named = iotshadow.UpdateNamedShadowRequest(thing_name=CLIENT_ID, shadow_name="config", state=state)
    say(named=client.update_named_shadow(named).result(WAIT).version)
    say(deleted=client.delete_shadow(iotshadow.DeleteShadowRequest(thing_name=CLIENT_ID)).result(WAIT).version)
    del stream
    c.disconnect().result(WAIT)


def fleet():
    csr, csr_key, directory = MORE
    c = connected()
    client = iotidentity.IotIdentityClientV2(c, options())

    def register(token, serial):
        request = iotidentity.RegisterThingRequest(
            template_name="onyx-bench", certificate_ownership_token=token, parameters={"SerialNumber": serial}
        )
        return client.register_thing(request).result(WAIT)

    made = client.create_keys_and_certificate(iotidentity.CreateKeysAndCertificateRequest()).result(WAIT)
    by_csr = client.create_certificate_from_csr(
        iotidentity.CreateCertificateFromCsrRequest(certificate_signing_request=open(csr).read())
    ).result(WAIT)
    try:
        register("nonsense", "lamp-1")
    except V2ServiceException as e:
        say(status=e.modeled_error.status_code, code=e.modeled_error.error_code)
    things = []
    for response, key in ((made, None), (by_csr, csr_key)):
        thing = f"lamp-{len(things) + 1}"
        certificate = f"{directory}/{thing}.pem"
        open(certificate, "w").write(response.certificate_pem)
        if key is None:
            key = f"{directory}/{thing}.key"
            open(key, "w").write(response.private_key)
        answer = register(response.certificate_ownership_token, thing)
        things.append((answer.thing_name, certificate, key))
    c.disconnect().result(WAIT)
    for thing, certificate, key in things:
        own = connected(certificate=certificate, key=key, client_id=thing)
        own.publish("a/b", thing, mqtt.QoS.AT_LEAST_ONCE)[0].result(WAIT)
        say(thing=thing)
        own.disconnect().result(WAIT)


def retry():
    try:
        connected()
        say(first=True)
    except Exception as e:
        say(first=False, error=type(e).__name__)
    c = connected()
    c.publish("a/b", "registered", mqtt.QoS.AT_LEAST_ONCE)[0].result(WAIT)
    say(second=True)
    c.disconnect().result(WAIT)


{"publish": publish, "five": five, "shadow": shadow, "fleet": fleet, "retry": retry}[TASK]()
