//! The policy documents and the template that the bench brings along. They are texts like anybody's, read by the same parser.

use serde_json::{Value, json};

use super::document::{Document, DocumentError};
use super::registry::{ATTACHED_MAX, Registry, RegistryError};
use super::template::{Template, TemplateError};

/// The template that is there from the start: its parameter `SerialNumber` is the thing's name.
pub const TEMPLATE: &str = "onyx-bench";
/// What a claim certificate may do: connect under any name and provision.
pub const CLAIM: &str = "onyx-bench-claim";
/// What a certificate of the bench's authority may do: connect as its common name, also followed by a hyphen and more, because Onyx
/// appends the IMEI; its own thing's shadows; provisioning.
const CERTIFICATE: &str = "onyx-bench-certificate";
/// What a provisioned thing may do: connect under its name; its own shadows.
const THING: &str = "onyx-bench-thing";
/// The topics given by option, a few a policy, because a policy has a longest length.
const TOPICS: &str = "onyx-bench-topics";
const TOPICS_A_POLICY: usize = 3;

/// Why the bench cannot bring its policies along.
#[derive(Debug, thiserror::Error)]
pub enum DefaultsError {
    /// A topic is too long for a policy.
    #[error("--aws-topic: {0}")]
    Topic(DocumentError),
    /// More topics than policies can be attached.
    #[error("--aws-topic: at most {max} can be given, there are {got}", max = (ATTACHED_MAX - 1) * TOPICS_A_POLICY)]
    Topics {
        /// How many there are.
        got: usize,
    },
    /// The template.
    #[error(transparent)]
    Template(#[from] TemplateError),
    /// The registry.
    #[error(transparent)]
    Registry(#[from] RegistryError),
}

fn allow(actions: &[&str], resources: Vec<String>) -> Value {
    json!({"Effect": "Allow", "Action": actions, "Resource": resources})
}

fn document(statements: &[Value]) -> String {
    json!({"Version": "2012-10-17", "Statement": statements}).to_string()
}

/// Statements for everything below these resource names: publish, receive, subscribe.
fn topics(registry: &Registry, names: &[String]) -> [Value; 2] {
    let arns = |kind: &str| names.iter().map(|n| registry.arn(kind, n)).collect();
    [
        allow(&["iot:Publish", "iot:Receive", "iot:RetainPublish"], arns("topic")),
        allow(&["iot:Subscribe"], arns("topicfilter")),
    ]
}

/// Puts them into the account. `filters` are MQTT filters, which become resources: `#` and `+` are written `*`.
///
/// # Errors
/// [`DefaultsError`].
pub fn bring(registry: &mut Registry, filters: &[String]) -> Result<(), DefaultsError> {
    const SERVICES: [&str; 2] = ["$aws/certificates/create*", "$aws/provisioning-templates/*"];
    let services: Vec<String> = SERVICES.map(str::to_owned).to_vec();
    let own = |variable: &str| format!("$aws/things/${{{variable}}}/*");
    let put = |registry: &mut Registry, name: &str, statements: &[Value]| -> Result<(), DefaultsError> {
        let text = document(statements);
        let read = Document::parse(&text).map_err(DefaultsError::Topic)?;
        Ok(registry.put_policy(name, text, read)?)
    };
    let cn = "iot:Certificate.Subject.CommonName";
    let names = ["", "-*"].map(|end| registry.arn("client", &format!("${{{cn}}}{end}")));
    let mut certificate = vec![allow(&["iot:Connect"], names.to_vec())];
    certificate.extend(topics(registry, &[services.clone(), vec![own(cn)]].concat()));
    put(registry, CERTIFICATE, &certificate)?;
    let mut claim = vec![allow(&["iot:Connect"], vec![registry.arn("client", "*")])];
    claim.extend(topics(registry, &services));
    put(registry, CLAIM, &claim)?;
    let thing_name = "iot:Connection.Thing.ThingName";
    let client = registry.arn("client", &format!("${{{thing_name}}}"));
    let mut thing = vec![allow(&["iot:Connect"], vec![client])];
    thing.extend(topics(registry, &[own(thing_name)]));
    put(registry, THING, &thing)?;
    let chunks: Vec<_> = filters.chunks(TOPICS_A_POLICY).collect();
    if chunks.len() >= ATTACHED_MAX {
        return Err(DefaultsError::Topics { got: filters.len() });
    }
    let mut names = Vec::new();
    for (index, chunk) in chunks.into_iter().enumerate() {
        let name = format!("{TOPICS}-{index}");
        let resources: Vec<_> = chunk.iter().map(|f| f.replace(['#', '+'], "*")).collect();
        let statements = topics(registry, &resources);
        put(registry, &name, &statements)?;
        names.push(name);
    }
    let text = template(&names);
    let read = Template::parse(&text)?;
    registry.put_template(TEMPLATE, text, read)?;
    registry.set_defaults([vec![CERTIFICATE.to_owned()], names].concat());
    Ok(())
}

fn template(topic_policies: &[String]) -> String {
    let mut resources = json!({
        "thing": {"Type": "AWS::IoT::Thing", "Properties": {"ThingName": {"Ref": "SerialNumber"}}},
        "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
            "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
    });
    for name in std::iter::once(THING).chain(topic_policies.iter().map(String::as_str)) {
        resources[name] = json!({"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": name}});
    }
    json!({
        "Parameters": {"SerialNumber": {"Type": "String"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": resources,
    })
    .to_string()
}
