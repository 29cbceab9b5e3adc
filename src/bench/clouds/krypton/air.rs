//! What SORACOM Air knows about the SIM. The real document has many more fields; these are the ones that identify a subscriber in SORACOM's
//! API definition (model `Subscriber`).

use serde_json::{Value, json};

use super::Krypton;
use crate::identity::Imsi;

impl Krypton {
    /// getSubscriberMetadata.
    pub(super) fn subscriber_metadata(&self, imsi: &Imsi) -> Value {
        json!({
            "imsi": imsi.as_str(),
            "status": "active",
            "apn": "soracom.io",
            "type": "s1.standard",
            "speedClass": "s1.standard",
            "plan": self.plan(),
            "groupId": self.group.id(),
            "tags": {},
        })
    }

    fn plan(&self) -> String {
        self.keys().plan().to_owned()
    }
}
