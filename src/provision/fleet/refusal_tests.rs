use serde_json::json;

use super::*;

fn rejected(request: Request, status: u16, code: &str) -> Refusal {
    let body = json!({"statusCode": status, "errorCode": code, "errorMessage": "why so"}).to_string();
    Refusal::read(request, body.as_bytes(), None)
}

#[test]
fn each_class_has_its_cure() {
    use Request::{Create, Provision};
    let topics = Topics::new("MyTemplate");
    for (request, status, code, class, cure) in [
        (
            Provision,
            404,
            "ResourceNotFound",
            Class::Template,
            "credentials.template",
        ),
        (
            Provision,
            403,
            "AccessDenied",
            Class::Forbidden,
            "pre-provisioning hook",
        ),
        (
            Provision,
            400,
            "PreProvisioningHookDenied",
            Class::Forbidden,
            "pre-provisioning hook",
        ),
        (
            Create,
            403,
            "Forbidden",
            Class::Forbidden,
            "iot:Publish on topic/$aws/certificates/create-from-csr/json",
        ),
        (
            Provision,
            400,
            "InvalidCertificateOwnershipToken",
            Class::Token,
            "asks for another",
        ),
        (
            Create,
            400,
            "InvalidCertificateSigningRequest",
            Class::SigningRequest,
            "P-256",
        ),
        (Create, 400, "InvalidCSR", Class::SigningRequest, "P-256"),
        (
            Provision,
            400,
            "InvalidParameters",
            Class::Parameters,
            "credentials.parameters",
        ),
        (Provision, 429, "", Class::Throttled, "later"),
        (Create, 400, "ThrottlingException", Class::Throttled, "later"),
        (Create, 500, "InternalFailure", Class::Service, "AWS failed"),
        (Provision, 302, "Moved", Class::Other, "CloudWatch"),
    ] {
        let refusal = rejected(request, status, code);
        assert_eq!(refusal.class, class, "{status} {code}");
        assert!(
            refusal.cure(&topics).contains(cure),
            "{status} {code}: {}",
            refusal.cure(&topics)
        );
        assert_eq!(refusal.after(), (class == Class::Throttled).then_some(THROTTLED_AFTER));
        let said = refusal.to_string();
        assert!(
            said.contains(&status.to_string()) && said.contains(code) && said.contains("why so"),
            "{said}"
        );
    }
}

#[test]
fn words_of_the_service_are_tamed() {
    let body = json!({"statusCode": 400, "errorCode": "X", "errorMessage":
        format!("token s3cret of 123456789011111\u{1b}[31m\n{}", "a".repeat(5_000))});
    let said = Refusal::read(Request::Provision, body.to_string().as_bytes(), Some("s3cret")).to_string();
    assert!(!said.contains("s3cret") && !said.contains("123456789011111"), "{said}");
    assert!(
        !said.chars().any(char::is_control) && said.chars().count() < WORDS_MAX + 60,
        "{said}"
    );
    for nothing in ["", "nonsense", "{}", "[]"] {
        let refusal = Refusal::read(Request::Create, nothing.as_bytes(), None);
        assert_eq!(refusal.class, Class::Other);
        assert!(refusal.to_string().contains("without a reason"));
    }
}

#[test]
fn a_session_that_fails_names_the_permission_of_its_step() {
    let topics = Topics::new("T");
    let host = || "h".to_owned();
    let closed = SessionError::Closed {
        host: host(),
        when: "before it answered",
        why: None,
    };
    let late = SessionError::Late {
        host: host(),
        what: "answer",
        within: Duration::from_secs(1),
    };
    let refused = SessionError::Refused { host: host(), code: 5 };
    let alert = |cause| SessionError::Tls {
        what: "alert".into(),
        cure: "the other cure".into(),
        cause,
    };
    for (step, error, words) in [
        (Step::Connect, &closed, "iot:Connect on client/onyx-claim-*"),
        (Step::Connect, &refused, "ACTIVE"),
        (Step::Connect, &alert(Cause::Identity), "ACTIVE"),
        (Step::Connect, &alert(Cause::Configuration), "the other cure"),
        (Step::Connect, &late, "session.port"),
        (
            Step::Subscribe,
            &closed,
            "iot:Subscribe on topicfilter/$aws/certificates/create-from-csr/json/*",
        ),
        (
            Step::Ask(Request::Create),
            &closed,
            "iot:Publish on topic/$aws/certificates/create-from-csr/json",
        ),
        (
            Step::Ask(Request::Provision),
            &late,
            "iot:Receive on topic/$aws/provisioning-templates/T/provision/json/*",
        ),
    ] {
        let cure = cure(step, error, &topics);
        assert!(cure.contains(words), "{step}: {error}: {cure}");
    }
}
