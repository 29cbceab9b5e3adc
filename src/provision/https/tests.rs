use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::*;

const WITHIN: Duration = Duration::from_millis(500);
const BODY_MAX: usize = 100;

/// Plain HTTP, so that the bytes can be written by hand; TLS has its tests with the program.
async fn asked(answer: Option<&'static [u8]>) -> (Result<Answer, HttpsError>, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"{}") {
            assert!(socket.read_buf(&mut request).await.unwrap() > 0);
        }
        match answer {
            Some(bytes) => socket.write_all(bytes).await.unwrap(),
            // Silence: until the client has had enough.
            None => drop(socket.read_buf(&mut request).await),
        }
        String::from_utf8(request).unwrap()
    });
    let settings = Settings {
        url: Url::parse("http://dps.example").unwrap(),
        address: Some(address),
        roots: RootCertStore::empty(),
        identity: None,
        within: WITHIN,
        body_max: BODY_MAX,
    };
    let https = Https::new(settings, &Via::default(), &Clock::new()).unwrap();
    let body = Some(b"{}".to_vec());
    let question = Question {
        method: Method::PUT,
        path: "/a/b:c/register",
        query: Some("api-version=1"),
        headers: &[("x-signature", "s3cret".to_owned())],
        json: body,
    };
    assert!(!format!("{question:?}").contains("s3cret"));
    let answer = https.ask(question).await;
    (answer, server.await.unwrap())
}

#[tokio::test]
async fn a_request_and_its_answer() {
    let (answer, request) = asked(Some(
        b"HTTP/1.1 202 Accepted\r\nRetry-After: 3\r\nContent-Length: 2\r\n\r\nhi",
    ))
    .await;
    let want = Answer {
        status: 202,
        retry_after: Some(Duration::from_secs(3)),
        body: b"hi".to_vec().into(),
    };
    assert_eq!(answer.unwrap(), want);
    let request = request.to_lowercase();
    assert!(
        request.starts_with("put /a/b:c/register?api-version=1 http/1.1\r\n"),
        "{request}"
    );
    for header in [
        "host: dps.example",
        "content-type: application/json\r\n",
        "content-length: 2\r\n",
        "x-signature: s3cret\r\n",
    ] {
        assert!(request.contains(header), "{header:?} is not in {request}");
    }
    assert!(!format!("{want:?}").contains("hi"), "a body may hold a key");
}

#[tokio::test]
async fn retry_after_is_read_and_nobody_is_followed() {
    for (value, want) in [
        ("0", Some(0)),
        (" 120 ", Some(120)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        ("soon", None),
        ("-1", None),
        ("1.5", None),
        ("99999999999999999999", None),
    ] {
        let text = format!(
            "HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nRetry-After: {value}\r\nContent-Length: 0\r\n\r\n"
        );
        let (answer, _) = asked(Some(text.leak().as_bytes())).await;
        let answer = answer.unwrap();
        assert_eq!(
            (answer.status, answer.retry_after),
            (302, want.map(Duration::from_secs)),
            "{value}"
        );
    }
}

#[tokio::test]
async fn what_is_no_answer_is_named_and_bounded() {
    let long: &'static str = "x".repeat(BODY_MAX + 1).leak();
    let declared = format!("HTTP/1.1 200 OK\r\nContent-Length: 101\r\n\r\n{long}");
    let endless = format!("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n{long}");
    for text in [declared, endless] {
        let (answer, _) = asked(Some(text.leak().as_bytes())).await;
        let e = answer.unwrap_err();
        assert!(matches!(e, HttpsError::TooLong { most: BODY_MAX, .. }), "{e}");
    }
    for bytes in [
        &b""[..],
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"\x15\x03\x01\x00\x02\x02\x28",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200",
    ] {
        let (answer, _) = asked(Some(bytes)).await;
        let e = answer.unwrap_err();
        assert!(
            matches!(&e, HttpsError::Broken { host, why } if host == "dps.example" && !why.is_empty()),
            "{e}"
        );
    }
    let (answer, _) = asked(None).await;
    let e = answer.unwrap_err();
    assert!(matches!(e, HttpsError::Late { within: WITHIN, .. }), "{e}");
    assert_eq!(e.to_string(), "dps.example did not answer within 0.5 s");
}

#[test]
fn retry_after_in_both_forms() {
    let now = Duration::from_secs(784_111_777);
    // RFC 9110 section 5.6.7's own date, and a time before and after it.
    let date = "Sun, 06 Nov 1994 08:49:37 GMT";
    let nine = Duration::from_secs(9);
    assert_eq!(retry_after(date, now - nine), Some(nine));
    assert_eq!(retry_after(date, now + now), Some(Duration::ZERO));
    assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
    for bad in ["", "soon", "-1", "1.5"] {
        assert_eq!(retry_after(bad, now), None, "{bad}");
    }
}
