//! Every stand-in on the port of the real service, the addresses in a row.

use crate::stage::{DEVICE, Stage, said};
use crate::tools::{command, output, succeed};

#[tokio::test]
async fn every_door_is_on_its_real_port() {
    let stage = Stage::start(&["--standard-ports", "--bind", "127.0.84.1"]).await;
    for (name, address, port) in [
        ("krypton", "127.0.84.1", "8036"),
        ("event-grid", "127.0.84.1", "8883"),
        ("iot-hub", "127.0.84.2", "8883"),
        ("aws-iot", "127.0.84.3", "8883"),
        ("beam", "127.0.84.1", "1883"),
    ] {
        assert_eq!(stage.address(name), (address.into(), port.into()), "{name}");
    }
    assert!(stage.control().starts_with("http://127.0.84.1:"), "{}", stage.control());
    // The certificates carry the host name and the address.
    for (cloud, name) in [
        ("event-grid", "onyx.japaneast-1.ts.eventgrid.azure.net"),
        ("iot-hub", "onyx-hub.azure-devices.net"),
        ("aws-iot", "onyx-ats.iot.ap-northeast-1.amazonaws.com"),
        ("krypton", "krypton.soracom.io"),
    ] {
        let (host, port) = stage.address(cloud);
        for check in [["-verify_hostname", name], ["-verify_ip", &host]] {
            let mut c = command("openssl");
            c.args(["s_client", "-connect", &format!("{host}:{port}"), "-servername", name]);
            c.args(["-CAfile", &stage.path("ca.pem"), "-verify_return_error"])
                .args(check);
            c.args(["-cert", &stage.path(&format!("devices/{DEVICE}.pem"))]);
            c.args(["-key", &stage.path(&format!("devices/{DEVICE}.key"))]);
            succeed(&mut c).await;
        }
    }
    succeed(&mut stage.publisher()).await;
    // A second bench there is told which door, and what to do.
    let mut c = command(env!("CARGO_BIN_EXE_onyx-bench"));
    c.args([
        "clouds",
        "--standard-ports",
        "--bind",
        "127.0.84.1",
        "--dir",
        &stage.path("second"),
    ]);
    let out = output(&mut c).await;
    let text = said(&out);
    assert!(
        !out.status.success() && text.contains("https door of krypton") && text.contains("ss -ltnp sport = :8036"),
        "{text}"
    );
}
