//! Request bodies as SORACOM's clients send them at the cellular door: nothing, or `{"requestParameters":{…}}`.

use serde::Deserialize;

use super::denied::Denied;

/// What a request may ask for in place of what the configuration says. Each must be what the configuration says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Parameters {
    /// Azure: the device id.
    pub device_id: Option<String>,
    /// Azure: the hub.
    pub host: Option<String>,
    /// Azure: DPS's host.
    pub global_endpoint: Option<String>,
    /// Azure: DPS's id scope.
    pub id_scope: Option<String>,
    /// AWS: the thing.
    pub thing_name: Option<String>,
    /// AWS: the key alone, the certificates are fetched one by one.
    pub skip_certificates: bool,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Body {
    request_parameters: Option<Parameters>,
}

impl Parameters {
    /// Reads a body; an empty one asks for nothing special.
    ///
    /// # Errors
    /// [`Denied::Body`].
    pub fn read(body: &[u8]) -> Result<Self, Denied> {
        if body.iter().all(u8::is_ascii_whitespace) {
            return Ok(Self::default());
        }
        // serde takes a list for a struct, too.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Denied::Body("it must be a JSON object".to_owned()));
        }
        let body: Body = serde_json::from_slice(body).map_err(|e| Denied::Body(e.to_string()))?;
        Ok(body.request_parameters.unwrap_or_default())
    }

    /// Refuses what is asked for when it is not what there is.
    ///
    /// # Errors
    /// [`Denied::NotYours`].
    pub fn only(&self, key: &'static str, got: Option<&str>, want: &str) -> Result<(), Denied> {
        match got {
            Some(got) if got != want => Err(Denied::NotYours {
                key,
                want: want.to_owned(),
                got: got.chars().take(128).collect(),
            }),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_of_the_known_clients() {
        for empty in [
            "",
            " \n",
            "{}",
            "{\"requestParameters\":null}",
            "{\"requestParameters\":{}}",
        ] {
            assert_eq!(
                Parameters::read(empty.as_bytes()),
                Ok(Parameters::default()),
                "{empty:?}"
            );
        }
        let p = Parameters::read(br#"{"requestParameters":{"thingName":"t","skipCertificates":true}}"#).unwrap();
        assert_eq!((p.thing_name.as_deref(), p.skip_certificates), (Some("t"), true));
        for bad in ["{", "[]", "{\"requestParameters\":{\"thingName\":1}}", "x"] {
            assert!(
                matches!(Parameters::read(bad.as_bytes()), Err(Denied::Body(_))),
                "{bad:?}"
            );
        }
        assert!(p.only("thingName", p.thing_name.as_deref(), "t").is_ok());
        let e = p.only("thingName", p.thing_name.as_deref(), "other").unwrap_err();
        assert_eq!(e.status(), 400);
    }
}
