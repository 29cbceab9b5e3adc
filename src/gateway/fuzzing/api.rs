//! What `tests/fuzz api` calls: lines of whole requests to the API, through its own router, token and store ([`super::world`], [`super::asked`]).
//!
//! What must hold for each:
//! - no panic, and no 5xx: the database is there, and the clock is right;
//! - without the right token, nothing but the page's own files, and refusals; and with it no 401 and no 403, unless the request itself says
//!   that it is a foreign page's;
//! - what is refused, and what only reads, changes nothing;
//! - no secret is in an answer: those of the store, those that came with this or an earlier request, a subscriber's token once it was shown;
//! - what a page of another site sends is refused;
//! - an answer is bounded by [`ANSWER_MAX`];
//! - what was put can be read, all of it.

use std::path::Path;
use std::sync::{LazyLock, Mutex};

use axum::http::{Method, StatusCode};
use hyper::service::Service as _;
use hyper_util::service::TowerToHyperService;

use super::asked::{Asked, contains};
use super::world::World;

/// Largest answer to any request of a line, in bytes: its requests have 4,096 together, and the page's script has most of
/// [`PAGE_MAX`](crate::gateway::http::page::PAGE_MAX).
const ANSWER_MAX: usize = 256 << 10;

/// What needs no token (`http::page::files`).
const OPEN: [&str; 4] = ["/", "/page.css", "/page.js", "/icon.svg"];

/// What comes with requests and is no answer's.
const HIDDEN: [&str; 4] = ["@TOKEN@", "@SESSION@", "@PASSWORD@", "@KEY-LINE@"];

/// One for the process, in a new folder below `TMPDIR`, which whoever starts it removes.
static WORLD: LazyLock<Mutex<World>> = LazyLock::new(|| {
    let folder = std::env::temp_dir().join(format!("onyx-fuzz-api-{}", std::process::id()));
    let mut builder = std::fs::DirBuilder::new();
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(&folder).unwrap();
    Mutex::new(World::new(Path::new(&folder)))
});

/// A line of requests.
pub fn api(data: &[u8]) {
    run(&WORLD.lock().unwrap(), data);
}

/// What is known of an answer.
struct Answer {
    status: StatusCode,
    headers: Vec<u8>,
    body: Vec<u8>,
}

/// The statuses of all answers.
fn run(world: &World, data: &[u8]) -> Vec<StatusCode> {
    let all = Asked::all(data, &world.marks);
    if all.is_empty() {
        return Vec::new();
    }
    world.forget_guesses();
    world.runtime.block_on(async {
        let start = world.store.generation().await.unwrap();
        let (mut before, mut statuses) = (start, Vec::new());
        // What must stay hidden, until a request says it itself: a fuzzer learns what is compared.
        let mut hidden: Vec<Vec<u8>> = HIDDEN.iter().map(|mark| world.marks.get(mark).to_vec()).collect();
        hidden.extend(world.secrets.iter().cloned());
        for asked in &all {
            let answer = ask(world, asked).await;
            let after = world.store.generation().await.unwrap();
            let about = || {
                format!(
                    "{asked:?} -> {} {:?}",
                    answer.status,
                    String::from_utf8_lossy(&answer.body)
                )
            };
            judge(world, asked, &answer, after != before).unwrap_or_else(|why| panic!("{why}: {}", about()));
            hidden.retain(|secret| !asked.tells(secret));
            // A session may be the one that is asked for in the same second.
            let login = asked.uri.path() == "/v1/auth" && answer.status == StatusCode::OK;
            for secret in &hidden {
                let is_this = login && secret == world.marks.get("@SESSION@");
                assert!(is_this || !answer.has(secret), "a secret was told: {}", about());
            }
            hidden.extend(token_made(asked, &answer));
            before = after;
            statuses.push(answer.status);
        }
        if before != start {
            world.put_back().await;
        }
        statuses
    })
}

async fn ask(world: &World, asked: &Asked) -> Answer {
    let service = TowerToHyperService::new(world.router.clone());
    let Ok(answer) = service.call(asked.request()).await;
    let (parts, body) = answer.into_parts();
    let body = axum::body::to_bytes(body, ANSWER_MAX).await;
    let mut headers = Vec::new();
    for (name, value) in &parts.headers {
        headers.extend([name.as_str().as_bytes(), b": ", value.as_bytes(), b"\n"].concat());
    }
    Answer {
        status: parts.status,
        headers,
        body: body.expect("a bounded answer").to_vec(),
    }
}

impl Answer {
    fn has(&self, text: &[u8]) -> bool {
        contains(&self.body, text) || contains(&self.headers, text)
    }
}

/// All but secrets.
fn judge(world: &World, asked: &Asked, answer: &Answer, changed: bool) -> Result<(), &'static str> {
    let (status, path) = (answer.status, asked.uri.path());
    let reads = matches!(asked.method, Method::GET | Method::HEAD);
    if status.is_server_error() {
        return Err("it failed");
    }
    if changed && (reads || !status.is_success()) {
        return Err("it changed something");
    }
    if asked.is_foreign() && !matches!(status.as_u16(), 400 | 403) {
        return Err("a foreign page was heard");
    }
    let brought = |mark| asked.has(world.marks.get(mark));
    if !brought("@TOKEN@") && !brought("@SESSION@") {
        // 400 and 415 are about the head, before it is looked at who asks; so is a body for /v1/auth, which is the way to a session. 404 and
        // 405 are for an address that nobody has.
        let refused = matches!(status.as_u16(), 400 | 401 | 403 | 404 | 405 | 413 | 415);
        let open = reads && status.is_success() && OPEN.contains(&path);
        if changed || !(refused || open) {
            return Err("a stranger was heard");
        }
    }
    if asked.door.is_right() && asked.is_plain() && path != "/v1/auth" && matches!(status.as_u16(), 401 | 403) {
        return Err("the right token was refused");
    }
    if !status.is_success() && answer.body.is_empty() && asked.method != Method::HEAD {
        return Err("a refusal without a reason");
    }
    Ok(())
}

/// The token that was made and shown for the only time.
fn token_made(asked: &Asked, answer: &Answer) -> Option<Vec<u8>> {
    if answer.status != StatusCode::CREATED || !asked.uri.path().ends_with("/token") {
        return None;
    }
    let shown: serde_json::Value = serde_json::from_slice(&answer.body).ok()?;
    let token = shown.get("token")?.as_str()?;
    assert!(token.len() >= 32, "a token that can be guessed");
    Some(token.as_bytes().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn world() -> (tempfile::TempDir, World) {
        let shared = Path::new("/dev/shm");
        let folder = if shared.is_dir() {
            tempfile::tempdir_in(shared)
        } else {
            tempfile::tempdir()
        };
        let folder = folder.unwrap();
        let world = World::new(folder.path());
        (folder, world)
    }

    /// The seeds as they are (each says after its name, in `NAME.STATUS…`, what is answered), and with every byte changed once into one that means
    /// something in a head or in JSON.
    #[test]
    fn the_seeds_are_answered_and_what_is_near_them() {
        let (_folder, world) = world();
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/seeds/api");
        let mut seen = std::collections::BTreeSet::new();
        for seed in std::fs::read_dir(folder).unwrap().flatten() {
            let name = seed.file_name().into_string().unwrap();
            let bytes = std::fs::read(seed.path()).unwrap();
            let statuses: Vec<String> = run(&world, &bytes).iter().map(|s| s.as_str().to_owned()).collect();
            let want = name.split_once('.').unwrap().1;
            assert_eq!(statuses.join("."), want, "{name}");
            seen.extend(statuses);
            // Few, for each takes a millisecond or two.
            for at in (0..bytes.len()).step_by(7) {
                let all = b"\"{}[],:0t\\ \x00#/@?%\n";
                let mut changed = bytes.clone();
                *changed.get_mut(at).unwrap() = all[at % all.len()];
                run(&world, &changed);
            }
        }
        for status in ["200", "201", "204", "400", "401", "403", "404", "405", "409", "415"] {
            assert!(seen.contains(status), "no seed is answered {status}: {seen:?}");
        }
    }

    /// Nobody is sent back what is too long to be read (found by `group`: the id of a credential).
    #[test]
    fn a_long_mistake_is_told_by_its_beginning() {
        let (_folder, world) = world();
        let long = "x".repeat(50_000);
        for (line, body) in [
            ("POST /v1/credentials/d", "{'type':'LONG'}"),
            ("POST /v1/groups", "{'groupId':'LONG'}"),
            ("POST /v1/groups", "{'tags':{'name':'LONG'}}"),
            ("POST /v1/groups", "{'LONG':1}"),
            ("PUT /v1/groups/g/tags", "[{'tagName':'LONG','tagValue':'v'}]"),
            (
                "PUT /v1/groups/g/configuration/OnyxGateway",
                "[{'key':'defaultCredentialsId','value':'LONG'}]",
            ),
            (
                "PUT /v1/groups/g/configuration/OnyxGateway",
                "[{'key':'policy','value':{'retain':'LONG'}}]",
            ),
            (
                "PUT /v1/groups/g/configuration/OnyxGateway",
                "[{'key':'policy','value':{'LONG':'pass'}}]",
            ),
            (
                "PUT /v1/groups/g/configuration/OnyxGateway",
                "[{'key':'LONG','value':1}]",
            ),
            (
                "PUT /v1/groups/g/configuration/SoracomBeam",
                "[{'key':'LONG','value':1}]",
            ),
            (
                "PUT /v1/groups/g/configuration/SoracomBeam",
                "[{'key':'mqtt://beam.soracom.io:1883','value':{'destination':'mqtts://LONG'}}]",
            ),
            ("PUT /v1/subscribers/295012345678903", "{'source':'LONG'}"),
            ("PUT /v1/subscribers/295012345678903", "{'source':'10.0.0.1/LONG'}"),
            ("PUT /v1/subscribers/295012345678903", "{'certificate':'LONG'}"),
            (
                "PUT /v1/subscribers/295012345678903",
                "{'iccid':'LONG','imei':'LONG','status':'LONG','imsi':'LONG'}",
            ),
            ("PUT /v1/subscribers/295012345678903", "{'groupId':'LONG'}"),
            ("POST /v1/subscribers/295012345678901/set_group", "{'groupId':'LONG'}"),
        ] {
            let body = body.replace('\'', "\"").replace("LONG", &long);
            let asked = Asked::all(format!("4 {line}\n\n{body}").as_bytes(), &world.marks).remove(0);
            let answer = world.runtime.block_on(ask(&world, &asked));
            let said = String::from_utf8(answer.body).unwrap();
            assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{line}: {said:.200}");
            assert!(said.len() < 2_000, "{line}: {} bytes: {said:.200}", said.len());
        }
    }

    #[test]
    fn the_target_itself_sees_what_it_is_there_for() {
        let (_folder, world) = world();
        let asked = |text: &str| Asked::all(text.as_bytes(), &world.marks).remove(0);
        let password = world.marks.get("@PASSWORD@");
        for (text, tells) in [
            (
                "4 PUT /v1/groups/g/configuration/SoracomBeam\n\n[{\"value\":{\"password\":\"@PASSWORD@\"}}]",
                false,
            ),
            ("4 PUT /x\n\n{\"cert\":\"\",\"key\":\"@PASSWORD@\"}", false),
            ("4 PUT /x\n\n{\"key\":\"@PASSWORD@\"}", true),
            (
                "4 PUT /x\n\n{\"password\":\"@PASSWORD@\",\"name\":\"@PASSWORD@\"}",
                true,
            ),
            ("4 PUT /x\nauthorization: @PASSWORD@", false),
            ("4 PUT /x\nhost: @PASSWORD@", true),
        ] {
            let asked = asked(text);
            assert!(asked.has(password), "{text}");
            assert_eq!(asked.tells(password), tells, "{text}");
        }
        for (text, foreign) in [
            ("1 GET /v1/groups\norigin: http://evil.example", true),
            ("1 GET /v1/groups\norigin: http://localhost:8080", false),
            ("1 GET /v1/groups\norigin: null", true),
            ("1 GET /v1/groups\nsec-fetch-site: cross-site", true),
            ("1 GET /v1/groups", false),
        ] {
            assert_eq!(asked(text).is_foreign(), foreign, "{text}");
        }
        let answer = |status, body: &[u8]| Answer {
            status,
            headers: Vec::new(),
            body: body.to_vec(),
        };
        let stranger = asked("1 GET /v1/groups");
        let judged = |asked: &Asked, status, changed| judge(&world, asked, &answer(status, b"x"), changed);
        assert!(judged(&stranger, StatusCode::UNAUTHORIZED, false).is_ok());
        assert!(judged(&stranger, StatusCode::OK, false).is_err());
        assert!(judged(&stranger, StatusCode::UNAUTHORIZED, true).is_err());
        assert!(judged(&stranger, StatusCode::BAD_GATEWAY, false).is_err());
        let known = asked("4 DELETE /v1/groups/g");
        assert!(judged(&known, StatusCode::NO_CONTENT, true).is_ok());
        assert!(judged(&known, StatusCode::CONFLICT, true).is_err());
        assert!(judged(&known, StatusCode::UNAUTHORIZED, false).is_err());
        assert!(answer(StatusCode::OK, &world.secrets[0]).has(&world.secrets[0]));
    }
}
