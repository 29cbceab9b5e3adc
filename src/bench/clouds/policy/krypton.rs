//! The rule book of SORACOM Krypton and of the key service before its internet door.
//!
//! Every refusal is a `{code,message}` body, as in all of SORACOM's APIs (its OpenAPI definition, `APICallErrorMessage`). Neither the codes nor
//! the statuses of Krypton's refusals are published, so both are the bench's own (`KRY` or `KEY` and the status): "inferred" below says so. A
//! client may rely on 200 for success and on 200 or 401 for a challenge, and on nothing else.

use super::Rule;

/// A rule with the look of its refusal.
#[derive(Debug, PartialEq, Eq)]
pub struct Article {
    /// The rule.
    pub rule: Rule,
    /// HTTP status.
    pub status: u16,
    /// The message for `X-Soracom-Lang: ja`; the English one is the refusal's detail.
    pub ja: &'static str,
}

impl Article {
    /// What `code` in the body says.
    #[must_use]
    pub fn code(&self) -> String {
        let service = if self.rule.id.starts_with("keys/") {
            "KEY"
        } else {
            "KRY"
        };
        format!("{service}{:04}", self.status)
    }
}

const CLIENTS: &str = "SORACOM's krypton-client-go and Java client; status inferred";
const ENDORSE: &str = "SORACOM's endorse-client-go and Java client; status inferred";

macro_rules! articles {
    ($($(#[$doc:meta])* $name:ident = $id:literal, $status:literal, $says:literal, $source:expr, $ja:literal;)*) => {
        $(
            $(#[$doc])*
            pub const $name: Article = Article {
                rule: Rule { id: $id, says: $says, source: $source },
                status: $status,
                ja: $ja,
            };
        )*

        /// All of them.
        pub(super) static RULES: [&Rule; [$($id),*].len()] = [$(&$name.rule),*];
    };
}

articles! {
    /// Nothing is at this path of this door.
    PATH = "krypton/path", 404, "an operation has one path, and Air's operations are at the internet door only",
        "SORACOM's krypton-client-go and Java client (paths); status inferred", "指定されたパスは存在しません。";
    /// Another method.
    METHOD = "krypton/method", 405,
        "every operation is POST, but the status of an Azure registration is GET at the cellular door",
        "Krypton + IoT Hub article (GET), SORACOM's clients (POST); status inferred", "このパスでは使用できないメソッドです。";
    /// Not JSON of the right shape.
    BODY = "krypton/body", 400, "a body is JSON with the documented fields, or empty at the cellular door",
        CLIENTS, "リクエストボディの形式が正しくありません。";
    /// Too much of it.
    BODY_SIZE = "krypton/body-size", 413, "a body is no larger than the bench reads (16 KiB)",
        "the bench's own bound", "リクエストボディが大きすぎます。";
    /// The caller is no subscriber.
    NO_SIM = "krypton/no-sim", 403, "the cellular door knows its caller by the SIM's session: it is open over SORACOM Air only",
        "Krypton documentation, cellular authentication; status inferred", "SORACOM Air の回線からアクセスしてください。";
    /// The SIM is in no group.
    GROUP = "krypton/group", 403, "the SIM is in a group that has a Krypton configuration",
        "named as a cause of failure in a user's notes (zero-touch kitting); status inferred", "SIM がグループに所属していません。";
    /// The group does not use Krypton.
    DISABLED = "krypton/disabled", 403, "the group's SoracomKrypton configuration has enabled: true",
        "group configuration of the namespace SoracomKrypton; status inferred", "グループで SORACOM Krypton が有効になっていません。";
    /// The group does not use this cloud.
    SERVICE = "krypton/service", 400, "the group's Krypton configuration names the cloud that is asked for",
        "group configuration of the namespace SoracomKrypton; status inferred", "グループにこのサービスの設定がありません。";
    /// A device or thing name that cannot be.
    NAME = "krypton/name", 400, "a deviceId or thingName has the characters that the cloud takes",
        "AWS CreateThing, Azure IoT Hub device identity; status inferred", "デバイス名またはモノの名前が正しくありません。";
    /// No such Azure registration of this SIM.
    REGISTRATION = "krypton/registration", 404, "the status of a registration is told to the SIM that registered",
        "inferred", "この SIM の登録が見つかりません。";
    /// No such AWS certificate of this SIM.
    CERTIFICATE = "krypton/certificate", 404, "a certificate is given to the SIM it was made for",
        "inferred", "この SIM の証明書が見つかりません。";
    /// A header of the signature is missing or cannot be read.
    HEADERS = "krypton/signature-headers", 400,
        "the internet door wants x-soracom-timestamp (Unix ms), x-soracom-digest-algorithm and x-soracom-signature, once each",
        CLIENTS, "署名のヘッダーが不足しているか、正しくありません。";
    /// Another digest.
    DIGEST = "krypton/digest-algorithm", 400, "x-soracom-digest-algorithm is SHA-256",
        "both of SORACOM's clients send it; that nothing else is taken is inferred", "サポートされていないダイジェストアルゴリズムです。";
    /// The device's clock.
    CLOCK = "krypton/clock", 401, "x-soracom-timestamp is within five minutes of the server's clock",
        "inferred: a signature that is good for ever would make no sense", "タイムスタンプがサーバーの時刻と離れすぎています。";
    /// No such key.
    KEY_UNKNOWN = "krypton/key-unknown", 401, "keyId in the body is one that the key service has given away",
        CLIENTS, "keyId が見つかりません。";
    /// A key whose challenge was not met yet.
    KEY_UNVERIFIED = "krypton/key-unverified", 401, "a key signs requests after /verify has taken its RES",
        ENDORSE, "keyId はまだ検証されていません。";
    /// The signature does not fit.
    SIGNATURE = "krypton/signature", 401, "x-soracom-signature is base64(SHA-256(body || timestamp || CK)) over the very bytes sent",
        CLIENTS, "署名が正しくありません。";
    /// The Java client repeats the headers in the body.
    REPEATED = "krypton/repeated-fields", 400, "algorithm and timestamp in a body say what the headers say",
        "SORACOM's Java client sends both; that a difference is refused is inferred", "ボディとヘッダーの内容が一致しません。";
    /// Not JSON of the right shape.
    KEYS_BODY = "keys/body", 400, "a request for a challenge has imsi, after a failed synchronisation also rand and auts; /verify has res or xres, all in base64",
        ENDORSE, "リクエストボディの形式が正しくありません。";
    /// Nobody has this number.
    IMSI = "keys/imsi", 404, "the IMSI is a subscriber's", ENDORSE, "IMSI が見つかりません。";
    /// A plan without SIM authentication.
    PLAN = "keys/plan", 403, "SIM authentication is for the plans plan01s, plan01s-LDV, planP1, planX3 and plan-K2",
        "users.soracom.io, Krypton with Cognito: the plans; status inferred", "この SIM の料金プランでは SIM 認証を利用できません。";
    /// AUTS that this SIM has not made for this challenge.
    RESYNC = "keys/resync", 400, "rand and auts belong to the last challenge of this SIM",
        "3GPP TS 33.102 section 6.3.5; that the challenge must be a pending one is inferred", "AUTS が正しくありません。";
    /// The card's counter is at its end.
    EXHAUSTED = "keys/exhausted", 500, "a SIM has a sequence number left", "3GPP TS 33.102 annex C; status inferred",
        "シーケンス番号を使い切りました。";
    /// No such challenge.
    CHALLENGE = "keys/challenge", 404, "keyId in the path is that of a challenge", ENDORSE, "keyId が見つかりません。";
    /// Too late.
    EXPIRED = "keys/expired", 410, "a challenge is answered within five minutes", "inferred", "チャレンジの有効期限が切れています。";
    /// Another RES.
    RESPONSE = "keys/response", 401, "RES is what the SIM has made of this challenge; there is one try",
        "3GPP TS 33.102 section 6.3.3; status and the single try are inferred", "RES が正しくありません。";
    /// Once more.
    REPLAYED = "keys/replayed", 409, "a challenge is verified once", "inferred", "このチャレンジはすでに検証されています。";
}
