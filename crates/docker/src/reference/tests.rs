//! How references are read, compared and written.

use proptest::prelude::*;

use super::*;

const HEX: &str = "7f51f7a21524f1e1a6be1c9bcc8e7e3ae87e93e0de1f4b9c27d1ed8ec5bf2f10";

fn name(text: &str) -> ImageName {
    text.parse().unwrap_or_else(|error| panic!("{error}"))
}

#[test]
fn names_are_completed_and_shortened_as_docker_does() {
    let digest = format!("sha256:{HEX}");
    for (text, whole, familiar) in [
        (
            "busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        (
            "busybox:1.36",
            "docker.io/library/busybox:1.36",
            "busybox:1.36",
        ),
        (
            "docker.io/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        (
            "index.docker.io/library/busybox",
            "docker.io/library/busybox:latest",
            "busybox:latest",
        ),
        ("me/app", "docker.io/me/app:latest", "me/app:latest"),
        (
            "localhost/app",
            "localhost/app:latest",
            "localhost/app:latest",
        ),
        (
            "localhost:5000/a/b:t",
            "localhost:5000/a/b:t",
            "localhost:5000/a/b:t",
        ),
        ("HOST/app", "HOST/app:latest", "HOST/app:latest"),
        (
            "[::1]:5000/app",
            "[::1]:5000/app:latest",
            "[::1]:5000/app:latest",
        ),
        (
            "[fe80::1]/app",
            "[fe80::1]/app:latest",
            "[fe80::1]/app:latest",
        ),
        (
            "registry.k8s.io/pause:3.9",
            "registry.k8s.io/pause:3.9",
            "registry.k8s.io/pause:3.9",
        ),
        (
            "a__b-d---e/f_g.h",
            "docker.io/a__b-d---e/f_g.h:latest",
            "a__b-d---e/f_g.h:latest",
        ),
        (
            "docker.io/library/a/b",
            "docker.io/library/a/b:latest",
            "library/a/b:latest",
        ),
        // Shortened further they would be in another registry, or an ID.
        (
            "docker.io/host.example/app",
            "docker.io/host.example/app:latest",
            "docker.io/host.example/app:latest",
        ),
        (
            "docker.io/localhost/app",
            "docker.io/localhost/app:latest",
            "docker.io/localhost/app:latest",
        ),
        (
            &format!("docker.io/library/sha256:{HEX}"),
            &format!("docker.io/library/sha256:{HEX}"),
            &format!("library/sha256:{HEX}"),
        ),
        (
            &format!("busybox@{digest}"),
            &format!("docker.io/library/busybox@{digest}"),
            &format!("busybox@{digest}"),
        ),
        (
            &format!("busybox:1@{digest}"),
            &format!("docker.io/library/busybox:1@{digest}"),
            &format!("busybox:1@{digest}"),
        ),
    ] {
        assert_eq!(name(text).to_string(), whole);
        assert_eq!(name(text).familiar(), familiar);
    }
    assert_eq!(
        name(&format!("busybox:1@{digest}")).lookup(),
        format!("busybox@{digest}")
    );
}

#[test]
fn other_spellings_of_a_name_are_equal() {
    for text in [
        "busybox:latest",
        "library/busybox",
        "docker.io/busybox",
        "docker.io/library/busybox:latest",
        "index.docker.io/busybox",
    ] {
        assert_eq!(name(text), name("busybox"), "{text}");
    }
    for text in [
        "busybox:1",
        "quay.io/busybox",
        "me/busybox",
        "localhost/busybox",
    ] {
        assert_ne!(name(text), name("busybox"), "{text}");
    }
}

#[test]
fn an_id_is_64_digits_with_or_without_the_algorithm() {
    let id = ImageRef::Id(format!("sha256:{HEX}"));
    assert_eq!(HEX.parse().as_ref(), Ok(&id));
    assert_eq!(format!("sha256:{HEX}").parse().as_ref(), Ok(&id));
    assert_eq!(id.to_string(), format!("sha256:{HEX}"));
    for text in ["beef", &HEX[..12], &HEX[..63], "sha256:beef"] {
        assert!(matches!(text.parse(), Ok(ImageRef::Name(_))), "{text}");
    }
    assert!(HEX.parse::<ImageName>().is_err());
}

#[test]
fn what_is_no_reference_is_refused_with_the_rule() {
    let long = |length| "a".repeat(length);
    for (text, rule) in [
        ("", "empty"),
        (":tag", "no name"),
        ("quay.io/", "no name"),
        ("@sha256:00", "no name"),
        ("Busybox", "lower case"),
        ("quay.io/Team/app", "lower case"),
        ("a//b", "each part"),
        ("-a", "each part"),
        ("a-", "each part"),
        ("a..b", "each part"),
        ("a___b", "each part"),
        ("a b", "each part"),
        ("a\n", "each part"),
        ("ä", "each part"),
        ("a:", "the tag"),
        ("a:.t", "the tag"),
        ("a:t t", "the tag"),
        ("a:t:u", "the tag"),
        (&format!("a:{}", long(129)), "the tag"),
        ("a@", "the digest"),
        ("a@sha256:12", "the digest"),
        ("a@md5:00", "the digest"),
        (&format!("a@sha256:{}", HEX.to_uppercase()), "the digest"),
        (&format!("a@sha256:{HEX}@sha256:{HEX}"), "the digest"),
        ("a.b:port/x", "first slash"),
        ("a.b:/x", "first slash"),
        ("-a.b/x", "first slash"),
        ("a..b/x", "first slash"),
        ("[::1/x:1", "first slash"),
        ("[::g]:1/x", "first slash"),
        ("[::1]1:/x", "first slash"),
        ("https://a.b/x", "scheme"),
        (&long(256), "255"),
        (&long(1025), "1024"),
        (HEX, "ID"),
    ] {
        match text.parse::<ImageName>() {
            Ok(name) => panic!("{text:?} was read as {name}"),
            Err(error) => assert!(error.rule().contains(rule), "{error}"),
        }
    }
}

#[test]
fn an_image_is_found_under_its_own_names_only() {
    let stored_digest = name(&format!("quay.io/a@sha256:{HEX}"));
    let stored_tag = name("quay.io/a:1");
    assert!(name("quay.io/a:1").is_found_under(&stored_tag));
    assert!(!name("quay.io/a:1").is_found_under(&stored_digest));
    assert!(!name("quay.io/a").is_found_under(&stored_tag));
    for text in ["quay.io/a", "quay.io/a:7"] {
        assert!(name(&format!("{text}@sha256:{HEX}")).is_found_under(&stored_digest));
    }
    assert!(!name(&format!("quay.io/b@sha256:{HEX}")).is_found_under(&stored_digest));
}

proptest! {
    #[test]
    fn any_text_is_read_or_refused(text: String) {
        let _ = text.parse::<ImageRef>();
    }

    #[test]
    fn both_forms_of_a_name_read_back_as_the_same_name(
        text in "((docker\\.io|index\\.docker\\.io|localhost|[a-zA-Z0-9.:-]{1,8}|\\[[0-9a-f:]{1,6}\\](:[0-9]{1,3})?)/)?(library/)?[a-z0-9._-]{1,6}(/[a-z0-9._-]{1,4}){0,2}(:[a-zA-Z0-9._-]{1,5})?(@sha256:[0-9a-f]{64})?"
    ) {
        if let Ok(name) = text.parse::<ImageName>() {
            prop_assert_eq!(name.to_string().parse(), Ok(name.clone()));
            prop_assert_eq!(name.familiar().parse(), Ok(name.clone()));
            let found: ImageName = name.lookup().parse().unwrap_or_else(|error| panic!("{error}"));
            prop_assert!(name.is_found_under(&found));
            prop_assert!(name.familiar().len() <= name.to_string().len());
        }
    }
}
