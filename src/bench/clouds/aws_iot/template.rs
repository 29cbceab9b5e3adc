//! Provisioning templates: what becomes of a new certificate. Read and worked out, no I/O.
//!
//! A template declares `Parameters` and `Resources`: at most one thing, one certificate, any number of policies. Values are texts,
//! `{"Ref": PARAMETER}` or `{"Fn::Join": [SEPARATOR, [VALUES]]}`; the other functions of AWS's (`Fn::Select`, `Fn::Split`, `Fn::Sub`) are
//! refused when the template is read, not passed over. Thing types, groups and hooks are not simulated; they are taken and have no effect.
//! Source: AWS IoT Core developer guide, "Provisioning templates".

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::{Map, Value};

use super::document::{Document, DocumentError};
use super::reserved::is_thing_name;

/// Longest template, in bytes (AWS IoT API reference, CreateProvisioningTemplate: templateBody).
pub const TEMPLATE_MAX: usize = 10_240;

/// Why a text is no template, or why it cannot be worked out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TemplateError {
    /// Not JSON, or not the fields of a template.
    #[error("this is no provisioning template: {0}")]
    Shape(String),
    /// Too long.
    #[error("a provisioning template has at most {TEMPLATE_MAX} bytes, this one has {0}")]
    TooLong(usize),
    /// A resource of a kind that there is not.
    #[error("{0:?} is none of AWS::IoT::Thing, AWS::IoT::Certificate and AWS::IoT::Policy")]
    Kind(String),
    /// A property is missing or is not what it should be.
    #[error("{resource}: {problem}")]
    Property {
        /// The resource's name in the template.
        resource: String,
        /// What is wrong.
        problem: String,
    },
    /// A value that is neither text nor a known function.
    #[error("{0} is neither a text nor {{\"Ref\"}} nor {{\"Fn::Join\"}}")]
    Value(String),
    /// A parameter that was not declared.
    #[error("{0:?} is used but is not among the Parameters")]
    Undeclared(String),
    /// A parameter without default was not given.
    #[error("the parameter {0:?} has no default and was not given")]
    Missing(String),
    /// A name that no thing can have.
    #[error("{0:?} cannot be a thing's name: 1 to 128 letters, digits, ':', '_' or '-'")]
    Thing(String),
    /// A policy's text is none.
    #[error(transparent)]
    Document(#[from] DocumentError),
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Expression {
    Text(String),
    Ref(String),
    Join(String, Vec<Expression>),
}

impl Expression {
    fn read(value: &Value) -> Result<Self, TemplateError> {
        let bad = || TemplateError::Value(value.to_string());
        match value {
            Value::String(text) => Ok(Self::Text(text.clone())),
            Value::Object(map) if map.len() == 1 => match map.iter().next() {
                Some((key, Value::String(name))) if key == "Ref" => Ok(Self::Ref(name.clone())),
                Some((key, Value::Array(args))) if key == "Fn::Join" => match args.as_slice() {
                    [Value::String(separator), Value::Array(parts)] => {
                        let parts = parts.iter().map(Self::read).collect::<Result<_, _>>()?;
                        Ok(Self::Join(separator.clone(), parts))
                    }
                    _ => Err(bad()),
                },
                _ => Err(bad()),
            },
            _ => Err(bad()),
        }
    }

    fn check(&self, declared: &BTreeMap<String, Option<String>>) -> Result<(), TemplateError> {
        match self {
            Self::Ref(name) if !declared.contains_key(name) => Err(TemplateError::Undeclared(name.clone())),
            Self::Join(_, parts) => parts.iter().try_for_each(|p| p.check(declared)),
            _ => Ok(()),
        }
    }

    fn work_out(&self, given: &BTreeMap<String, String>) -> Result<String, TemplateError> {
        match self {
            Self::Text(text) => Ok(text.clone()),
            Self::Ref(name) => given
                .get(name)
                .cloned()
                .ok_or_else(|| TemplateError::Missing(name.clone())),
            Self::Join(separator, parts) => {
                let parts: Vec<_> = parts.iter().map(|p| p.work_out(given)).collect::<Result<_, _>>()?;
                Ok(parts.join(separator))
            }
        }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum PolicyResource {
    Name(Expression),
    Document(Expression),
}

/// A provisioning template.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Name → default.
    parameters: BTreeMap<String, Option<String>>,
    thing: Option<Expression>,
    active: bool,
    policies: Vec<PolicyResource>,
    device_configuration: Map<String, Value>,
}

/// What a template says for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Provisioned {
    /// The thing to create and attach, if there is one.
    pub thing: Option<String>,
    /// Whether the certificate becomes ACTIVE; otherwise INACTIVE.
    pub active: bool,
    /// Policies to attach, by name.
    pub policies: Vec<String>,
    /// Policies to create and attach.
    pub documents: Vec<(String, Document)>,
    /// What the device is told.
    pub device_configuration: Map<String, Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Raw {
    #[serde(rename = "Parameters", default)]
    parameters: BTreeMap<String, RawParameter>,
    #[serde(rename = "Resources")]
    resources: BTreeMap<String, RawResource>,
    #[serde(rename = "DeviceConfiguration", default)]
    device_configuration: Map<String, Value>,
}

#[derive(Deserialize)]
struct RawParameter {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Default")]
    default: Option<String>,
}

#[derive(Deserialize)]
struct RawResource {
    #[serde(rename = "Type")]
    kind: String,
    #[serde(rename = "Properties", default)]
    properties: Map<String, Value>,
}

impl Template {
    /// Reads a template.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn parse(text: &str) -> Result<Self, TemplateError> {
        if text.len() > TEMPLATE_MAX {
            return Err(TemplateError::TooLong(text.len()));
        }
        let raw: Raw = serde_json::from_str(text).map_err(|e| TemplateError::Shape(e.to_string()))?;
        if let Some((name, p)) = raw.parameters.iter().find(|(_, p)| p.kind != "String") {
            let problem = format!("the parameter {name:?} has Type {:?}, expected \"String\"", p.kind);
            return Err(TemplateError::Shape(problem));
        }
        let mut template = Self {
            parameters: raw.parameters.into_iter().map(|(n, p)| (n, p.default)).collect(),
            thing: None,
            active: true,
            policies: Vec::new(),
            device_configuration: raw.device_configuration,
        };
        for (name, resource) in &raw.resources {
            template.add(name, resource)?;
        }
        Ok(template)
    }

    fn add(&mut self, name: &str, resource: &RawResource) -> Result<(), TemplateError> {
        let wrong = |problem: &str| TemplateError::Property {
            resource: name.to_owned(),
            problem: problem.to_owned(),
        };
        let read = |property: &str| -> Result<Option<Expression>, TemplateError> {
            let found = resource.properties.get(property).map(Expression::read).transpose()?;
            if let Some(expression) = &found {
                expression.check(&self.parameters)?;
            }
            Ok(found)
        };
        match resource.kind.as_str() {
            "AWS::IoT::Thing" => {
                if self.thing.is_some() {
                    return Err(wrong("a template creates one thing"));
                }
                self.thing = Some(read("ThingName")?.ok_or_else(|| wrong("ThingName is missing"))?);
            }
            "AWS::IoT::Certificate" => {
                self.active = match read("Status")? {
                    None => true,
                    Some(Expression::Text(t)) if t.eq_ignore_ascii_case("ACTIVE") => true,
                    Some(Expression::Text(t)) if t.eq_ignore_ascii_case("INACTIVE") => false,
                    Some(_) => return Err(wrong("Status is neither \"ACTIVE\" nor \"INACTIVE\"")),
                };
                read("CertificateId")?
                    .ok_or_else(|| wrong("CertificateId is missing: {\"Ref\": \"AWS::IoT::Certificate::Id\"}"))?;
            }
            "AWS::IoT::Policy" => {
                let policy = match (read("PolicyName")?, read("PolicyDocument")?) {
                    (Some(name), None) => PolicyResource::Name(name),
                    (None, Some(text)) => {
                        if let Expression::Text(text) = &text {
                            Document::parse(text)?;
                        }
                        PolicyResource::Document(text)
                    }
                    _ => return Err(wrong("either PolicyName or PolicyDocument is needed, not both")),
                };
                self.policies.push(policy);
            }
            other => return Err(TemplateError::Kind(other.to_owned())),
        }
        Ok(())
    }

    /// Works the template out for a device. `given` are its parameters, those of its certificate (`AWS::IoT::Certificate::…`) included.
    ///
    /// # Errors
    /// [`TemplateError`].
    pub fn work_out(&self, given: &BTreeMap<String, String>) -> Result<Provisioned, TemplateError> {
        let mut values = given.clone();
        for (name, default) in &self.parameters {
            match default {
                Some(default) => {
                    values.entry(name.clone()).or_insert_with(|| default.clone());
                }
                None if !values.contains_key(name) => return Err(TemplateError::Missing(name.clone())),
                None => {}
            }
        }
        let thing = self.thing.as_ref().map(|t| t.work_out(&values)).transpose()?;
        if let Some(name) = thing.as_ref().filter(|n| !is_thing_name(n)) {
            return Err(TemplateError::Thing(name.clone()));
        }
        let (mut policies, mut documents) = (Vec::new(), Vec::new());
        for policy in &self.policies {
            match policy {
                PolicyResource::Name(name) => policies.push(name.work_out(&values)?),
                PolicyResource::Document(text) => {
                    let text = text.work_out(&values)?;
                    let document = Document::parse(&text)?;
                    documents.push((text, document));
                }
            }
        }
        Ok(Provisioned {
            thing,
            active: self.active,
            policies,
            documents,
            device_configuration: self.device_configuration.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GUIDE: &str = r#"{
        "Parameters": {
            "ThingName": {"Type": "String"}, "SerialNumber": {"Type": "String"},
            "Location": {"Type": "String", "Default": "WA"}, "AWS::IoT::Certificate::Id": {"Type": "String"}},
        "Resources": {
            "thing": {"Type": "AWS::IoT::Thing", "Properties": {
                "ThingName": {"Fn::Join": ["-", [{"Ref": "ThingName"}, {"Ref": "SerialNumber"}, {"Ref": "Location"}]]}}},
            "certificate": {"Type": "AWS::IoT::Certificate", "Properties": {
                "CertificateId": {"Ref": "AWS::IoT::Certificate::Id"}, "Status": "Active"}},
            "policy": {"Type": "AWS::IoT::Policy", "Properties": {"PolicyName": "fleet"}}},
        "DeviceConfiguration": {"FallbackUrl": "https://www.example.com/test-site"}
    }"#;

    fn given(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect()
    }

    #[test]
    fn the_guide_s_template() {
        let t = Template::parse(GUIDE).unwrap();
        let id = ("AWS::IoT::Certificate::Id", "ab");
        let done = t
            .work_out(&given(&[("ThingName", "lamp"), ("SerialNumber", "1"), id]))
            .unwrap();
        assert_eq!(done.thing.as_deref(), Some("lamp-1-WA"));
        assert!(done.active);
        assert_eq!(done.policies, ["fleet"]);
        assert_eq!(
            done.device_configuration["FallbackUrl"],
            "https://www.example.com/test-site"
        );
        assert_eq!(
            t.work_out(&given(&[("ThingName", "lamp"), id])),
            Err(TemplateError::Missing("SerialNumber".into()))
        );
        let bad = t.work_out(&given(&[("ThingName", "a b"), ("SerialNumber", "1"), id]));
        assert!(matches!(bad, Err(TemplateError::Thing(_))));
    }

    #[test]
    fn what_is_wrong_with_a_template_is_named() {
        let with = |resource: &str| Template::parse(&format!(r#"{{"Resources": {{"r": {resource}}}}}"#));
        assert!(matches!(Template::parse("{}"), Err(TemplateError::Shape(_))));
        assert!(matches!(
            Template::parse(&" ".repeat(TEMPLATE_MAX + 1)),
            Err(TemplateError::TooLong(_))
        ));
        assert!(matches!(
            with(r#"{"Type": "AWS::S3::Bucket"}"#),
            Err(TemplateError::Kind(_))
        ));
        assert!(matches!(
            with(r#"{"Type": "AWS::IoT::Thing"}"#),
            Err(TemplateError::Property { .. })
        ));
        for (value, undeclared) in [
            (r#"{"Ref": "X"}"#, true),
            (r#"{"Fn::Sub": ["${X}", {}]}"#, false),
            ("1", false),
        ] {
            let e = with(&format!(
                r#"{{"Type": "AWS::IoT::Thing", "Properties": {{"ThingName": {value}}}}}"#
            ));
            assert_eq!(matches!(e, Err(TemplateError::Undeclared(_))), undeclared, "{value}");
            assert_eq!(matches!(e, Err(TemplateError::Value(_))), !undeclared, "{value}");
        }
        let policy = with(r#"{"Type": "AWS::IoT::Policy", "Properties": {"PolicyDocument": "{}"}}"#);
        assert!(matches!(policy, Err(TemplateError::Document(_))));
    }
}
