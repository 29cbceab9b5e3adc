//! The grammar with the examples of AWS's developer guide, and what is wrong with documents.

use super::*;

fn context(client_id: &str) -> Context {
    let mut c = Context::default();
    c.set("iot:ClientId", client_id);
    c
}

fn arn(kind: &str, name: &str) -> String {
    format!("arn:aws:iot:us-east-1:{ACCOUNT}:{kind}/{name}")
}

fn document(statements: &str) -> Document {
    Document::parse(&format!(r#"{{"Version": "2012-10-17", "Statement": [{statements}]}}"#)).unwrap()
}

fn allow(action: &str, resource: &str) -> String {
    format!(r#"{{"Effect": "Allow", "Action": "{action}", "Resource": "{resource}"}}"#)
}

fn ask(d: &Document, action: &str, resource: &str, c: &Context) -> Verdict {
    verdict(std::iter::once(d), action, resource, c)
}

#[test]
fn the_guide_s_registered_devices_connect_as_their_thing() {
    let d = document(&format!(
        "{},{}",
        allow("iot:Connect", &arn("client", "${iot:Connection.Thing.ThingName}")),
        allow("iot:Publish", &arn("topic", "${iot:Connection.Thing.ThingName}/*"))
    ));
    let mut c = context("lamp");
    assert_eq!(
        ask(&d, "iot:Connect", &arn("client", "lamp"), &c),
        Verdict::NotAllowed,
        "no such thing"
    );
    c.set("iot:Connection.Thing.ThingName", "lamp");
    assert_eq!(ask(&d, "iot:Connect", &arn("client", "lamp"), &c), Verdict::Allowed);
    assert_eq!(ask(&d, "iot:Connect", &arn("client", "other"), &c), Verdict::NotAllowed);
    assert_eq!(ask(&d, "iot:Publish", &arn("topic", "lamp/a/b"), &c), Verdict::Allowed);
    assert_eq!(ask(&d, "iot:Publish", &arn("topic", "lamp"), &c), Verdict::NotAllowed);
    assert_eq!(
        ask(&d, "iot:Subscribe", &arn("topicfilter", "lamp/#"), &c),
        Verdict::NotAllowed
    );
}

#[test]
fn wildcards_are_the_policy_s_and_not_mqtt_s() {
    let c = context("x");
    for (resource, asked, want) in [
        // The guide's table of wildcard characters.
        ("some/*/topic", "some/deep/er/topic", true),
        ("some/?????/topic", "some/12345/topic", true),
        ("some/?????/topic", "some/1234/topic", false),
        ("some/sensor???/topic", "some/sensor001/topic", true),
        ("some/#", "some/thing", false),
        ("some/+/topic", "some/x/topic", false),
        ("some/+/topic", "some/+/topic", true),
        ("some/#", "some/#", true),
        ("*", "anything/at/all", true),
        ("a*b*c", "a-b-b-c", true),
        ("a*b*c", "a-b-b-d", false),
        ("a*", "a", true),
        ("", "a", false),
        ("a${*}b", "a*b", true),
        ("a${*}b", "axb", false),
        ("${iot:ClientId}/?", "x/y", true),
    ] {
        let d = document(&allow("iot:*", &arn("topicfilter", resource)));
        let got = ask(&d, "iot:Subscribe", &arn("topicfilter", asked), &c) == Verdict::Allowed;
        assert_eq!(got, want, "{resource} for {asked}");
    }
}

#[test]
fn a_client_id_with_wildcards_opens_nothing() {
    let d = document(&allow("iot:Publish", &arn("topic", "${iot:ClientId}/up")));
    let sly = context("*");
    assert_eq!(
        ask(&d, "iot:Publish", &arn("topic", "others/up"), &sly),
        Verdict::NotAllowed
    );
    assert_eq!(ask(&d, "iot:Publish", &arn("topic", "*/up"), &sly), Verdict::Allowed);
}

#[test]
fn deny_beats_allow_wherever_it_is_written() {
    let all = document(&allow("iot:*", "*"));
    let deny = document(&format!(
        r#"{{"Effect": "Deny", "Action": ["iot:Publish"], "Resource": ["{}"]}}"#,
        arn("topic", "secret/*")
    ));
    let c = context("x");
    for documents in [[&all, &deny], [&deny, &all]] {
        let says = |topic: &str| verdict(documents.into_iter(), "iot:Publish", &arn("topic", topic), &c);
        assert_eq!(says("secret/a"), Verdict::Denied);
        assert_eq!(says("open"), Verdict::Allowed);
    }
}

#[test]
fn the_condition_of_an_attached_thing() {
    let d = document(
        r#"{"Effect": "Allow", "Action": "iot:Connect", "Resource": "*",
            "Condition": {"Bool": {"iot:Connection.Thing.IsAttached": ["true"]}}}"#,
    );
    let mut c = context("x");
    assert_eq!(ask(&d, "iot:Connect", &arn("client", "x"), &c), Verdict::NotAllowed);
    c.attached = true;
    assert_eq!(ask(&d, "iot:Connect", &arn("client", "x"), &c), Verdict::Allowed);
}

#[test]
fn what_is_wrong_with_a_document_is_named() {
    let with = |s: &str| Document::parse(&format!(r#"{{"Version": "2012-10-17", "Statement": [{s}]}}"#));
    let shape = |r: Result<Document, DocumentError>| matches!(r, Err(DocumentError::Shape(_)));
    assert!(shape(Document::parse("{")) && shape(Document::parse("[]")));
    assert!(shape(with(
        r#"{"Effect": "allow", "Action": "iot:*", "Resource": "*"}"#
    )));
    assert!(shape(with(
        r#"{"Effect": "Allow", "NotAction": "iot:*", "Resource": "*"}"#
    )));
    assert!(matches!(
        Document::parse(r#"{"Version": "2020-01-01", "Statement": []}"#),
        Err(DocumentError::Version(_))
    ));
    assert!(matches!(with(&allow("s3:Get", "*")), Err(DocumentError::Action(_))));
    assert!(matches!(
        with(&allow("iot:*", "topic/a")),
        Err(DocumentError::Resource(_))
    ));
    assert!(matches!(
        with(&allow("iot:*", "arn:${iot:ClientId")),
        Err(DocumentError::Variable(_))
    ));
    assert!(matches!(
        with(r#"{"Effect": "Allow", "Action": "iot:*", "Resource": "*", "Condition": {"IpAddress": {}}}"#),
        Err(DocumentError::Condition(_))
    ));
    assert!(matches!(
        with(&allow("iot:*", &format!("arn:{}", "a".repeat(DOCUMENT_MAX)))),
        Err(DocumentError::TooLong(_))
    ));
}

proptest::proptest! {
    /// Any text is read or refused, and a plain resource allows itself and nothing longer.
    #[test]
    fn nothing_panics_and_plain_text_is_itself(any in ".{0,60}", name in "[a-z/]{1,20}") {
        let _ = Document::parse(&any);
        let _ = Pattern::parse(&any);
        let d = document(&allow("iot:Publish", &arn("topic", &name)));
        let c = context("x");
        proptest::prop_assert_eq!(ask(&d, "iot:Publish", &arn("topic", &name), &c), Verdict::Allowed);
        proptest::prop_assert_eq!(ask(&d, "iot:Publish", &arn("topic", &format!("{name}x")), &c), Verdict::NotAllowed);
    }
}
