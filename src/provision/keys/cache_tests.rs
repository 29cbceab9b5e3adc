use std::os::unix::fs::PermissionsExt;

use super::*;

const ENDPOINT: &str = "https://g.api.soracom.io";

#[test]
fn a_key_is_kept_for_its_sim_and_its_endpoint_alone() {
    let dir = tempfile::tempdir().unwrap();
    let state = dir.path().join("state");
    let imsi: Imsi = "295012345678901".parse().unwrap();
    let cache = Cache::new(&state, ENDPOINT.into(), &imsi, Form::Plain);
    assert!(cache.load().is_none() && cache.forget().is_ok());
    assert!(!format!("{cache:?}").contains("295012345678901"));
    let key = Key::new(imsi.clone(), Segment::try_from("k-1".to_owned()).unwrap(), [7; 16]);
    cache.save(&key).unwrap();
    assert_eq!(cache.load(), Some(key.clone()));
    let mode = |p: &Path| std::fs::metadata(p).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(cache.path()), mode(&state)), (0o600, 0o700));
    assert_eq!(std::fs::read_dir(state.join("credentials")).unwrap().count(), 1);
    let elsewhere = Cache::new(&state, "https://api.soracom.io".into(), &imsi, Form::Plain);
    assert!(elsewhere.load().is_none());
    let other: Imsi = "295012345678902".parse().unwrap();
    let others = Cache::new(&state, ENDPOINT.into(), &other, Form::Plain);
    assert!(others.load().is_none());
    std::fs::copy(cache.path(), others.path()).unwrap();
    assert!(others.load().is_none(), "the file says whose it is");
    let whole = std::fs::read(cache.path()).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(cache.path(), &whole[..cut]).unwrap();
        assert!(cache.load().is_none(), "{cut}");
    }
    cache.forget().unwrap();
    assert!(cache.load().is_none() && !cache.path().exists());
}

/// A sealing key of these bytes, as systemd would hand it over.
fn seal(byte: u8) -> Seal {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("k"), [byte; 32]).unwrap();
    Seal::from_directory(dir.path(), "k").unwrap()
}

fn key(imsi: &Imsi, id: &str) -> Key {
    Key::new(imsi.clone(), Segment::try_from(id.to_owned()).unwrap(), [0x41; 16])
}

/// What nobody finds in a sealed file.
fn shows_the_key(cache: &Cache) -> bool {
    let content = std::fs::read(cache.path()).unwrap();
    let ck = STANDARD.encode([0x41; 16]);
    content.windows(ck.len()).any(|w| w == ck.as_bytes())
}

#[test]
fn a_key_is_sealed_and_one_from_before_is_read_and_sealed_with_the_next() {
    let dir = tempfile::tempdir().unwrap();
    let imsi: Imsi = "295012345678901".parse().unwrap();
    let with = |form| Cache::new(dir.path(), ENDPOINT.into(), &imsi, form);
    let (plain, sealed) = (with(Form::Plain), with(Form::Sealed(seal(1))));
    let (old, new) = (key(&imsi, "old"), key(&imsi, "new"));
    plain.save(&old).unwrap();
    assert!(shows_the_key(&plain));
    assert_eq!(sealed.load(), Some(old));
    sealed.save(&new).unwrap();
    assert!(!shows_the_key(&sealed));
    assert_eq!(
        std::fs::metadata(sealed.path()).unwrap().permissions().mode() & 0o777,
        0o600
    );
    assert_eq!(sealed.load(), Some(new.clone()));
    // It is for this SIM: a copy at another's place is none, and makes room.
    let other: Imsi = "295012345678902".parse().unwrap();
    let others = Cache::new(dir.path(), ENDPOINT.into(), &other, Form::Sealed(seal(1)));
    std::fs::copy(sealed.path(), others.path()).unwrap();
    assert_eq!(others.load(), None);
    others.save(&key(&other, "o")).unwrap();
    assert_eq!(others.load(), Some(key(&other, "o")));
    // So does a damaged one.
    let whole = std::fs::read(sealed.path()).unwrap();
    for cut in 0..whole.len() {
        std::fs::write(sealed.path(), &whole[..cut]).unwrap();
        assert_eq!(sealed.load(), None, "{cut}");
    }
    sealed.save(&new).unwrap();
    assert_eq!(sealed.load(), Some(new));
}

#[test]
fn one_that_is_sealed_under_another_key_is_none_and_stays() {
    let dir = tempfile::tempdir().unwrap();
    let imsi: Imsi = "295012345678901".parse().unwrap();
    let with = |form| Cache::new(dir.path(), ENDPOINT.into(), &imsi, form);
    let missing = || SealError::NoDirectory { name: "k".into() };
    let sealed = with(Form::Sealed(seal(1)));
    let kept = key(&imsi, "kept");
    sealed.save(&kept).unwrap();
    for form in [Form::Plain, Form::Sealed(seal(2)), Form::Unable(missing())] {
        let stranger = with(form);
        assert_eq!(stranger.load(), None);
        let e = stranger.save(&key(&imsi, "theirs")).unwrap_err().to_string();
        assert!(
            e.contains("credentials.encrypt_with") && e.contains("credentials forget"),
            "{e}"
        );
        assert_eq!(sealed.load(), Some(kept.clone()), "it is as it was");
    }
    sealed.forget().unwrap();
    // Encryption is wanted and impossible: then nothing is kept, and what is there in plain is still good.
    let unable = with(Form::Unable(missing()));
    let e = unable.save(&kept).unwrap_err().to_string();
    assert!(e.contains("systemd") && !unable.path().exists(), "{e}");
    with(Form::Plain).save(&kept).unwrap();
    assert_eq!(unable.load(), Some(kept));
}
