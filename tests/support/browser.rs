//! A headless Chromium, driven through chromedriver by the WebDriver protocol (W3C WebDriver; `se/log` and `goog/cdp` are
//! chromedriver's own). Debian's packages are `chromium` and `chromium-driver`; without them the test fails and says so.
//!
//! WebDriver is JSON over HTTP/1.1, one request after another, which a few lines of TCP speak.
#![allow(unreachable_pub, dead_code)] // shared: no test target uses all of it

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use serde_json::{Value, json};

/// Longest wait for the browser to start, or to answer.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between two looks.
const PAUSE: Duration = Duration::from_millis(25);

/// A browser with one tab; both programs end with it.
pub struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

/// Keeps the browser still: no update, no account, no request of its own.
const FLAGS: [&str; 12] = [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-proxy-server",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-default-apps",
    "--disable-sync",
    "--window-size=1280,900",
];

impl Browser {
    /// Starts both, with an empty profile.
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut driver = Command::new("chromedriver")
            .arg("--port=0")
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .stdin(Stdio::null())
            .spawn()
            .unwrap_or_else(|e| {
                panic!("chromedriver: {e}: run tests/setup (apt-get install chromium chromium-driver)")
            });
        let mut lines = BufReader::new(driver.stdout.take().expect("its output"));
        let mut said = String::new();
        let port = loop {
            let mut line = String::new();
            let n = lines.read_line(&mut line).expect("chromedriver's output");
            said += &line;
            assert_ne!(n, 0, "chromedriver ended: {said}");
            if let Some((_, port)) = line.trim().trim_end_matches('.').rsplit_once("successfully on port ") {
                break port.parse().expect("a port");
            }
        };
        // Whatever else it says, it must not be stopped by a full pipe.
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let mut browser = Self {
            driver,
            port,
            session: String::new(),
            _profile: profile,
        };
        let mut flags: Vec<String> = FLAGS.map(str::to_owned).to_vec();
        flags.push(format!("--user-data-dir={}", browser._profile.path().display()));
        let wanted = json!({"capabilities": {"alwaysMatch": {
            "browserName": "chrome",
            "goog:chromeOptions": {"args": flags},
            "goog:loggingPrefs": {"browser": "ALL", "performance": "ALL"},
        }}});
        let session = browser.ask("POST", "/session", &wanted);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser
    }

    fn try_ask(&self, method: &str, path: &str, body: &Value) -> std::io::Result<Value> {
        let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, self.port))?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let body = if method == "POST" {
            body.to_string()
        } else {
            String::new()
        };
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        )?;
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line)?;
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':') {
                if name.eq_ignore_ascii_case("content-length") {
                    length = value.trim().parse().expect("a length");
                }
            }
        }
        let mut answer = vec![0; length];
        reader.read_exact(&mut answer)?;
        Ok(serde_json::from_slice::<Value>(&answer).expect("JSON")["value"].clone())
    }

    fn ask(&self, method: &str, path: &str, body: &Value) -> Value {
        let answer = self
            .try_ask(method, path, body)
            .unwrap_or_else(|e| panic!("{method} {path}: {e}"));
        assert!(answer["error"].is_null(), "{method} {path} {body}: {answer:#}");
        answer
    }

    fn post(&self, path: &str, body: &Value) -> Value {
        self.ask("POST", &format!("/session/{}/{path}", self.session), body)
    }

    /// Opens an address.
    pub fn open(&self, url: &str) {
        self.post("url", &json!({"url": url}));
    }

    /// Runs JavaScript in the page; what it returns.
    pub fn run(&self, script: &str) -> Value {
        self.post("execute/sync", &json!({"script": script, "args": []}))
    }

    /// Waits until JavaScript returns something true, and answers that.
    pub fn wait(&self, what: &str, script: &str) -> Value {
        let begun = std::time::Instant::now();
        loop {
            let value = self.run(script);
            if !matches!(value, Value::Null | Value::Bool(false)) && value != json!("") && value != json!(0) {
                return value;
            }
            assert!(
                begun.elapsed() < PATIENCE,
                "never {what}; the page: {}",
                self.run("return document.body.innerText")
            );
            std::thread::sleep(PAUSE);
        }
    }

    fn element(&self, css: &str) -> String {
        let found = self.post("element", &json!({"using": "css selector", "value": css}));
        let id = found
            .as_object()
            .and_then(|o| o.values().next())
            .and_then(Value::as_str);
        id.unwrap_or_else(|| panic!("no {css}")).to_owned()
    }

    /// Clicks as a hand would: on what is visible there.
    pub fn click(&self, css: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/click"), &json!({}));
    }

    /// Types over what a field holds.
    pub fn fill(&self, css: &str, text: &str) {
        let element = self.element(css);
        self.post(&format!("element/{element}/clear"), &json!({}));
        if !text.is_empty() {
            self.post(&format!("element/{element}/value"), &json!({"text": text}));
        }
    }

    /// Moves the pointer over an element, so many pixels from its middle.
    pub fn hover(&self, css: &str, x: i32, y: i32) {
        let element = self.element(css);
        let origin = json!({"element-6066-11e4-a52e-4f735466cecf": element});
        self.post(
            "actions",
            &json!({"actions": [{"type": "pointer", "id": "mouse", "parameters": {"pointerType": "mouse"},
                "actions": [{"type": "pointerMove", "duration": 0, "origin": origin, "x": x, "y": y}]}]}),
        );
    }

    /// A command of the browser's own protocol.
    pub fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.post("goog/cdp/execute", &json!({"cmd": command, "params": parameters}))
    }

    /// What the page wrote to the console since it was last asked: errors and refusals of its policy among it.
    pub fn console(&self) -> Vec<Value> {
        self.post("se/log", &json!({"type": "browser"}))
            .as_array()
            .cloned()
            .unwrap_or_default()
    }

    /// Every address that was asked for since it was last asked.
    pub fn requests(&self) -> Vec<String> {
        let log = self.post("se/log", &json!({"type": "performance"}));
        let message = |entry: &Value| serde_json::from_str::<Value>(entry["message"].as_str()?).ok();
        let sent = |entry: &Value| {
            let message = message(entry)?;
            let event = &message["message"];
            (event["method"] == "Network.requestWillBeSent")
                .then(|| event["params"]["request"]["url"].as_str().map(str::to_owned))?
        };
        log.as_array().into_iter().flatten().filter_map(sent).collect()
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // The driver ends the browser when its session ends.
        let _ = self.try_ask("DELETE", &format!("/session/{}", self.session), &Value::Null);
        let _ = self.driver.kill();
        let _ = self.driver.wait();
    }
}
