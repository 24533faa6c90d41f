use base64::engine::general_purpose::STANDARD;

use super::*;

fn header(credentials: &Credentials) -> serde_json::Value {
    let bytes = URL_SAFE
        .decode(credentials.to_header())
        .unwrap_or_else(|error| panic!("{error}"));
    serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn the_header_is_url_safe_base64_with_padding_of_the_engines_json() {
    let credentials = Credentials::password("me", "subjects?~>~").for_server("r.io");
    assert_eq!(
        header(&credentials),
        serde_json::json!({"username": "me", "password": "subjects?~>~", "serveraddress": "r.io"})
    );
    assert_eq!(
        Credentials::password("a", "").to_header(),
        "eyJ1c2VybmFtZSI6ImEifQ=="
    );
    assert_eq!(
        header(&Credentials::identity_token("t")),
        serde_json::json!({"identitytoken": "t"})
    );
    assert_eq!(
        header(&Credentials::registry_token("t")),
        serde_json::json!({"registrytoken": "t"})
    );
}

#[test]
fn byte_values_62_and_63_are_written_in_the_alphabet_the_engine_decodes() {
    // Chosen so that the standard alphabet would give both `+` and `/`.
    let credentials = Credentials::password("u", "~~~???~~~???ÿÿÿ");
    let standard =
        STANDARD.encode(serde_json::to_vec(&credentials.to_fields()).unwrap_or_default());
    assert!(
        standard.contains('+') && standard.contains('/'),
        "{standard}"
    );
    let text = credentials.to_header();
    assert!(
        text.contains('-') && text.contains('_') && !text.contains(['+', '/']),
        "{text}"
    );
}

#[test]
fn debug_shows_who_and_where_but_no_secret() {
    let all = Credentials {
        username: "me".into(),
        password: "hunter2".into(),
        server_address: "r.io".into(),
        identity_token: "hunter3".into(),
        registry_token: "hunter4".into(),
    };
    let shown = format!("{all:?} {all:#?}");
    assert!(
        shown.contains("me") && shown.contains("r.io") && shown.contains("[redacted]"),
        "{shown}"
    );
    assert!(!shown.contains("hunter"), "{shown}");
}

fn entry(auth: &str) -> AuthEntry {
    AuthEntry {
        auth: auth.to_owned(),
        ..AuthEntry::default()
    }
}

#[test]
fn an_auth_is_base64_of_user_and_password() {
    let stored = |pair: &[u8]| decode(&entry(&STANDARD.encode(pair)));
    assert_eq!(stored(b"me:a:b"), Ok(Credentials::password("me", "a:b")));
    assert_eq!(stored(b"me:"), Ok(Credentials::password("me", "")));
    assert_eq!(
        stored("mé:pässwörd".as_bytes()),
        Ok(Credentials::password("mé", "pässwörd"))
    );
    assert_eq!(
        stored(b"me:secret\0\0"),
        Ok(Credentials::password("me", "secret"))
    );
    assert_eq!(
        decode(&entry("bWU6YQ")),
        Ok(Credentials::password("me", "a"))
    );
    assert_eq!(
        decode(&entry("bWU6\r\nYQ==\n")),
        Ok(Credentials::password("me", "a"))
    );
    assert_eq!(
        stored(b"me"),
        Err("has an auth that is not USER:PASSWORD in base64")
    );
    assert_eq!(
        stored(b":p"),
        Err("has an auth that is not USER:PASSWORD in base64")
    );
    assert_eq!(stored(b"\xff:p"), Err("has an auth that is not UTF-8"));
    assert_eq!(
        decode(&entry("bWU6_-")),
        Err("has an auth that is not base64")
    );
    assert_eq!(
        decode(&entry("me:p")),
        Err("has an auth that is not base64")
    );
}

#[test]
fn an_auth_goes_before_the_plain_fields_and_tokens_stand_beside_it() {
    let entry = AuthEntry {
        auth: STANDARD.encode("me:p"),
        username: "other".into(),
        password: "other".into(),
        identity_token: "i".into(),
        registry_token: "r".into(),
    };
    let expected = Credentials {
        identity_token: "i".into(),
        registry_token: "r".into(),
        ..Credentials::password("me", "p")
    };
    assert_eq!(decode(&entry), Ok(expected.clone()));
    assert_eq!(
        decode(&AuthEntry {
            auth: String::new(),
            username: "me".into(),
            password: "p".into(),
            ..entry
        }),
        Ok(expected)
    );
}
