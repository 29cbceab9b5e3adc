//! The admin page in a real browser: a headless Chromium in front of a real gateway, with a real device connected through it to
//! mosquitto. One test, for a browser takes long to start.

use onyx::mqtt::Connect;
use serde_json::{Value, json};

use crate::browser::Browser;
use crate::certs::Kind;
use crate::refusals::connack;
use crate::seeing::{HOSTILE, TOKEN, with_api};
use crate::stage::{A, B, IMSI_A, IMSI_B, IMSI_T, Stage, name};

/// JavaScript: the text of each row of a table's body.
fn rows(id: &str) -> String {
    format!("return [...document.querySelectorAll('#{id} tr')].map((r) => r.innerText)")
}

#[test]
fn an_operator_sees_devices_plots_certificates_and_timelines() {
    let stage = Stage::new();
    // One certificate of a year among those of 20 days; it is only looked at.
    stage
        .authority
        .device(Kind::V1, &name(IMSI_T), &name(IMSI_T), &stage.credentials());
    let gateway = with_api(&stage, "");
    let mut device = gateway.device(A, &Connect::new(HOSTILE, true, 60));
    let mut id = 0;
    let mut publish = |times: u16| {
        for _ in 0..times {
            id += 1;
            assert!(device.publish(id, false, "t", b"0123456789"));
            assert!(device.next().is_some());
        }
    };
    publish(50);
    let hello = |client: &str| Connect::new(client, true, 60).encode().unwrap();
    assert_eq!(
        connack(&gateway, std::net::Ipv4Addr::new(127, 0, 45, 7), &hello(HOSTILE)),
        Some(5)
    );
    assert_eq!(connack(&gateway, B, &hello("")), Some(0));
    gateway.wait_until("only A is here", |s| s["open"] == 1);

    let browser = Browser::start();
    let origin = format!("http://{}/", gateway.api.unwrap());
    browser.open(&origin);

    // The page comes without the token, its data does not; a wrong one is called wrong.
    browser.wait("the form", "return !document.getElementById('sign-in').hidden");
    assert_eq!(browser.run("return document.getElementById('all').hidden"), true);
    browser.fill("#token", "not-the-token-0123456789");
    browser.click("#sign-in button");
    let said = browser.wait(
        "a word about the token",
        "return document.getElementById('wrong').textContent",
    );
    assert_eq!(said, "The token is not right.");
    assert_eq!(browser.run("return document.getElementById('all').hidden"), true);
    // The browser itself notes that the answer was 401; nothing else may be there.
    let console = browser.console();
    assert!(
        console.iter().all(|e| e["message"].as_str().unwrap().contains("401")),
        "{console:#?}"
    );

    browser.fill("#token", TOKEN);
    browser.click("#sign-in button");
    browser.wait("the page", "return !document.getElementById('all').hidden");
    assert_eq!(browser.run("return sessionStorage.length + localStorage.length"), 1);
    assert_eq!(browser.run("return document.cookie"), "");

    // Devices: who is online comes first, and its hostile client id is text.
    let list = browser.run(&rows("devices-rows"));
    let first = list[0].as_str().unwrap();
    assert!(
        first.contains(IMSI_A) && first.contains(HOSTILE) && first.contains("127.0.0.11:") && first.contains("TLS 1.3"),
        "{list:#}"
    );
    assert_eq!(list.as_array().unwrap().len(), 3);
    assert_eq!(
        browser.run("return document.getElementById('devices-count').textContent"),
        "3, 1 online"
    );

    // Search filters, by words and whatever the case.
    for (typed, found) in [
        (IMSI_B, vec![IMSI_B]),
        ("ONERROR default", vec![IMSI_A]),
        ("no such", vec![]),
        ("", vec![IMSI_A, IMSI_B, IMSI_T]),
    ] {
        browser.fill("#search", typed);
        if typed.is_empty() {
            browser.run("document.getElementById('search').dispatchEvent(new Event('input'))");
        }
        let want = json!(found);
        browser.wait(
            &format!("{typed:?} finds {want}"),
            &format!("return JSON.stringify([...document.querySelectorAll('#devices-rows [data-key]')].map((b) => b.dataset.key)) === '{want}'"),
        );
    }

    // Plots have data, axes with units, and values under the pointer.
    publish(50);
    let d = "document.querySelector('#plot-throughput path.line.a')?.getAttribute('d')";
    browser.wait("the throughput has a line", &format!("return ({d} ?? '').length > 5"));
    let ticks = browser
        .run("return [...document.querySelectorAll('#plot-throughput text')].map((t) => t.textContent).join(' ')");
    assert!(ticks.as_str().unwrap().contains("B/s"), "{ticks}");
    browser.wait(
        "the refusals have a bar",
        "return document.querySelector('#plot-refused path[data-series=\"unknown device\"]')?.getAttribute('d')",
    );
    let newest = browser.run("const b = document.querySelector('#plot-throughput svg').getBoundingClientRect(); return Math.round(b.width / 2 - 14)");
    browser.hover(
        "#plot-throughput svg",
        i32::try_from(newest.as_i64().unwrap()).unwrap(),
        0,
    );
    let tip = browser.wait(
        "a value under the pointer",
        "return document.querySelector('#plot-throughput .tip:not([hidden])')?.innerText",
    );
    assert!(
        tip.as_str().unwrap().contains("from devices:") && tip.as_str().unwrap().contains("B/s"),
        "{tip}"
    );
    for range in ["day", "fortnight", "hour"] {
        browser.click(&format!("[data-range={range}]"));
        browser.wait(
            "another range",
            &format!("return document.querySelector('[data-range={range}]').getAttribute('aria-pressed') === 'true'"),
        );
    }

    // Certificates: soonest first, and counted by days left.
    let list = browser.wait("certificates", &rows("certificates-rows"));
    let text = |i: usize| list[i].as_str().unwrap().to_owned();
    assert!(
        text(0).contains(&name(IMSI_A)) && text(0).contains(IMSI_A) && text(0).trim().ends_with("19"),
        "{list:#}"
    );
    assert!(
        text(2).contains(&name(IMSI_T)) && text(2).trim().ends_with("364"),
        "{list:#}"
    );
    let classes = browser
        .run("return [...document.querySelectorAll('#classes li')].map((l) => l.innerText.replace(/\\s+/g, ' '))");
    assert_eq!(
        classes,
        json!([
            "0 expired",
            "0 0-6 days",
            "2 7-29 days",
            "0 30-89 days",
            "1 90-364 days",
            "0 365+ days",
            "0 unusable"
        ])
    );

    // What is wrong is said first, in words.
    let health = browser.run("return document.getElementById('health').innerText");
    assert!(health.as_str().unwrap().contains("end within 30 days: 2"), "{health}");
    let strangers = browser.run(&rows("strangers-rows"));
    assert!(
        strangers[0].as_str().unwrap().contains("127.0.45.7") && strangers[0].as_str().unwrap().contains(HOSTILE),
        "{strangers}"
    );

    // A click on a device shows its timeline, and Escape closes it; so does the keyboard alone.
    browser.click(&format!("[data-key='{IMSI_B}']"));
    let story = browser.wait(
        "a timeline",
        "return document.getElementById('device').open && document.querySelector('.timeline')?.innerText",
    );
    for want in ["connected", "TLS 1.3", "ended: device closed", "127.0.0.22:"] {
        assert!(story.as_str().unwrap().contains(want), "{want:?} is not in {story}");
    }
    browser.click("#device-close");
    browser.wait("it is closed", "return !document.getElementById('device').open");
    browser.run(&format!(
        "document.querySelector(\"[data-key='{IMSI_A}']\").focus(); document.activeElement.click()"
    ));
    browser.wait("the other's", &format!("return document.getElementById('device').open && document.getElementById('device-title').innerText.includes('{IMSI_A}')"));
    let body = browser.run("return document.getElementById('device').innerText");
    assert!(body.as_str().unwrap().contains(HOSTILE), "{body}");
    browser.click("#device-close");

    // No markup of a device's making came to life anywhere, on no width of screen.
    let images = browser.run("return [...document.images].map((i) => i.getAttribute('src'))");
    assert_eq!(
        (images, browser.run("return document.title")),
        (json!(["/icon.svg"]), json!("Onyx gateway"))
    );
    let phone = json!({"width": 390, "height": 844, "deviceScaleFactor": 1, "mobile": true});
    browser.devtools("Emulation.setDeviceMetricsOverride", &phone);
    browser.wait(
        "it fits a phone",
        "return innerWidth === 390 && document.documentElement.scrollWidth === 390",
    );
    accessible(&browser);

    // Fresh by itself: the device goes, and the page says so without a hand.
    drop(device);
    browser.wait(
        "it is shown as gone",
        "return document.getElementById('devices-count').textContent === '3, 0 online'",
    );
    let console = browser.console();
    assert_eq!(console, Vec::<Value>::new(), "{console:#?}");
    let requests = browser.requests();
    assert!(requests.len() > 10, "{requests:?}");
    // The browser's own empty tab, before ours was opened, is made of chrome:// files and data:, which come from no network.
    let of_network = requests
        .iter()
        .filter(|url| !["chrome://", "data:"].iter().any(|inner| url.starts_with(inner)));
    let foreign: Vec<&String> = of_network.filter(|url| !url.starts_with(&origin)).collect();
    assert_eq!(foreign, Vec::<&String>::new());
    // Signing out forgets the token.
    browser.click("#leave");
    browser.wait(
        "the form again",
        "return !document.getElementById('sign-in').hidden && sessionStorage.length === 0",
    );
}

/// Every field and button has a name, and text stands out from what is behind it (WCAG 2.1 AA: 4.5 to 1), light and dark.
fn accessible(browser: &Browser) {
    let nameless = browser.run(
        "const named = (e) => (e.getAttribute('aria-label') ?? e.labels?.[0]?.textContent ?? e.textContent).trim();
         return [...document.querySelectorAll('button, input, select, svg[role]')].filter((e) => !named(e)).map((e) => e.outerHTML)",
    );
    assert_eq!(nameless, json!([]));
    for scheme in ["light", "dark"] {
        // Without motion: a colour on its way is nobody's.
        let media = json!({"features": [
            {"name": "prefers-color-scheme", "value": scheme}, {"name": "prefers-reduced-motion", "value": "reduce"},
        ]});
        browser.devtools("Emulation.setEmulatedMedia", &media);
        let pale = browser.run(
            "const rgb = (c) => c.match(/[\\d.]+/g).map(Number);
             const luminance = (c) => { const [r, g, b] = c.slice(0, 3).map((v) => { v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
             const behind = (e) => { for (; e; e = e.parentElement) { const c = rgb(getComputedStyle(e).backgroundColor); if (c.length < 4 || c[3] > 0) return c; } return [255, 255, 255]; };
             const contrast = (a, b) => (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
             const own = (e) => [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
             const shown = [...document.body.querySelectorAll('*')].filter((e) => own(e) && e.checkVisibility() && !(e instanceof SVGElement) && !e.disabled && !e.closest('noscript, .sr, .skip'));
             return shown.map((e) => [e.textContent.slice(0, 40), contrast(luminance(rgb(getComputedStyle(e).color)), luminance(behind(e)))]).filter(([, c]) => c < 4.5)",
        );
        assert_eq!(pale, json!([]), "{scheme}");
    }
}
