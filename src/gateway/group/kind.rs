//! Which cloud is behind a host name.

use super::Kind;

impl Kind {
    /// By the domain names that the clouds give their endpoints (facts: Azure Event Grid `*.ts.eventgrid.azure.net`, IoT Hub
    /// `*.azure-devices.net`, AWS IoT Core `*.iot.<region>.amazonaws.com`).
    #[must_use]
    pub fn of_host(host: &str) -> Self {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|s| host.ends_with(s));
        if ends(&[".eventgrid.azure.net"]) {
            Self::EventGrid
        } else if ends(&[".azure-devices.net", ".azure-devices.cn", ".azure-devices.us"]) {
            Self::IotHub
        } else if ends(&[".amazonaws.com", ".amazonaws.com.cn"]) && host.contains(".iot.") {
            Self::AwsIot
        } else {
            Self::Standard
        }
    }

    /// A word for logs, metrics and JSON.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EventGrid => "event-grid",
            Self::IotHub => "iot-hub",
            Self::AwsIot => "aws-iot",
            Self::Standard => "standard",
        }
    }
}
