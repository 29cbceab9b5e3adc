//! Reason codes of MQTT 5 (section 2.4), and what they mean to people.

macro_rules! reasons {
    ($($name:ident $code:literal $text:literal;)*) => {
        $(
            #[doc = $text]
            pub const $name: u8 = $code;
        )*
        /// What a code means, for people. 0, 1 and 2 are success whatever they grant.
        #[must_use]
        pub fn meaning(code: u8) -> &'static str {
            match code {
                0..=2 => "success",
                $($name => $text,)*
                _ => "unknown reason code",
            }
        }
    };
}

/// Done; in DISCONNECT: a normal end, without the will.
pub const SUCCESS: u8 = 0x00;

reasons! {
    DISCONNECT_WITH_WILL 0x04 "disconnect, and the will is wanted";
    NO_MATCHING_SUBSCRIBERS 0x10 "nobody subscribes to this topic";
    NO_SUBSCRIPTION_EXISTED 0x11 "there was no such subscription";
    CONTINUE_AUTHENTICATION 0x18 "authentication goes on";
    RE_AUTHENTICATE 0x19 "authentication again";
    UNSPECIFIED 0x80 "unspecified error";
    MALFORMED 0x81 "malformed packet";
    PROTOCOL_ERROR 0x82 "protocol error";
    IMPLEMENTATION 0x83 "valid, but not taken by this implementation";
    UNSUPPORTED_VERSION 0x84 "protocol version not supported";
    BAD_CLIENT_ID 0x85 "client id refused";
    BAD_CREDENTIALS 0x86 "user name or password refused";
    NOT_AUTHORIZED 0x87 "not authorized";
    UNAVAILABLE 0x88 "server unavailable";
    BUSY 0x89 "server busy";
    BANNED 0x8a "banned";
    SHUTTING_DOWN 0x8b "server shutting down";
    BAD_AUTH_METHOD 0x8c "authentication method refused";
    KEEP_ALIVE_TIMEOUT 0x8d "silent for longer than its keep-alive allows";
    TAKEN_OVER 0x8e "another connection took the session";
    TOPIC_FILTER_INVALID 0x8f "topic filter not accepted";
    TOPIC_NAME_INVALID 0x90 "topic name not accepted";
    PACKET_ID_IN_USE 0x91 "packet identifier in use";
    PACKET_ID_NOT_FOUND 0x92 "packet identifier not found";
    RECEIVE_MAXIMUM_EXCEEDED 0x93 "more messages without acknowledgement than allowed";
    TOPIC_ALIAS_INVALID 0x94 "topic alias not accepted";
    PACKET_TOO_LARGE 0x95 "packet too large";
    RATE_TOO_HIGH 0x96 "message rate too high";
    QUOTA_EXCEEDED 0x97 "quota exceeded";
    ADMINISTRATIVE 0x98 "administrative action";
    PAYLOAD_FORMAT_INVALID 0x99 "payload is not what its format indicator says";
    RETAIN_NOT_SUPPORTED 0x9a "retained messages not supported";
    QOS_NOT_SUPPORTED 0x9b "quality of service not supported";
    USE_ANOTHER_SERVER 0x9c "use another server for now";
    SERVER_MOVED 0x9d "the server has moved";
    SHARED_NOT_SUPPORTED 0x9e "shared subscriptions not supported";
    RATE_EXCEEDED 0x9f "connection rate exceeded";
    MAXIMUM_CONNECT_TIME 0xa0 "connected for as long as allowed";
    IDENTIFIERS_NOT_SUPPORTED 0xa1 "subscription identifiers not supported";
    WILDCARDS_NOT_SUPPORTED 0xa2 "wildcard subscriptions not supported";
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_have_meanings() {
        assert_eq!(meaning(SUCCESS), "success");
        assert_eq!(meaning(0x87), "not authorized");
        assert_eq!(meaning(0xa3), "unknown reason code");
    }
}
