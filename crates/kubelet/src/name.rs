//! Names as Kubernetes spells them: what is allowed where.
//!
//! Owns the rules for names, label keys and values, environment variables, ports and image references. Refuses to know where a name
//! stands in a manifest: every check takes a text and says in one sentence why it will not do.

use berth_pod::image::ImageRef;

/// The longest DNS label (RFC 1123).
pub const LABEL_MAX: usize = 63;
/// The longest DNS subdomain (RFC 1123).
pub const SUBDOMAIN_MAX: usize = 253;
/// The longest service name (RFC 6335).
const PORT_NAME_MAX: usize = 15;
/// The longest pod UID: it becomes part of Docker names and a label value.
const UID_MAX: usize = 63;

/// The result of a check: the reason a text will not do, lower-case and without a full stop.
pub type Check = Result<(), String>;

fn is_lower_alphanumeric(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit()
}

fn length(text: &str, most: usize) -> Check {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text.len() > most {
        return Err(format!(
            "{} characters long, at most {most} are allowed",
            text.len()
        ));
    }
    Ok(())
}

fn is_label(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().copied().is_some_and(is_lower_alphanumeric)
        && bytes.last().copied().is_some_and(is_lower_alphanumeric)
        && bytes
            .iter()
            .all(|&byte| is_lower_alphanumeric(byte) || byte == b'-')
}

/// Checks a DNS-1123 label: container, volume, namespace and host names.
pub fn check_label(text: &str) -> Check {
    length(text, LABEL_MAX)?;
    if is_label(text) {
        return Ok(());
    }
    Err(format!(
        "not a DNS label: use lower-case letters, digits and '-', starting and ending with a letter or digit{}",
        lowered(text, is_label)
    ))
}

/// Checks a DNS-1123 subdomain: pod names.
pub fn check_subdomain(text: &str) -> Check {
    let valid = |text: &str| text.split('.').all(is_label);
    length(text, SUBDOMAIN_MAX)?;
    if valid(text) {
        return Ok(());
    }
    Err(format!(
        "not a DNS subdomain: use lower-case letters, digits, '-' and '.', each part starting and ending with a letter or digit{}",
        lowered(text, valid)
    ))
}

/// Offers the obvious correction, if it is one.
fn lowered(text: &str, valid: impl Fn(&str) -> bool) -> String {
    let candidate = text.to_ascii_lowercase().replace('_', "-");
    if valid(&candidate) {
        format!(" (for example {candidate:?})")
    } else {
        String::new()
    }
}

fn is_qualified_part(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

/// Checks a label or annotation key: an optional DNS subdomain and `/`, then a name of up to 63 characters.
pub fn check_qualified_name(text: &str) -> Check {
    let (prefix, name) = match text.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, text),
    };
    if let Some(prefix) = prefix {
        check_subdomain(prefix).map_err(|reason| format!("the part before '/' is {reason}"))?;
    }
    length(name, LABEL_MAX)?;
    if is_qualified_part(name) {
        return Ok(());
    }
    Err("not a qualified name: use letters, digits, '-', '_' and '.', starting and ending with a letter or digit, with an optional DNS subdomain and '/' in front".to_owned())
}

/// Checks a label value: empty, or up to 63 letters, digits, `-`, `_`, `.`, starting and ending with a letter or digit.
pub fn check_label_value(text: &str) -> Check {
    if text.is_empty() {
        return Ok(());
    }
    length(text, LABEL_MAX)?;
    if is_qualified_part(text) {
        return Ok(());
    }
    Err("not a label value: use letters, digits, '-', '_' and '.', starting and ending with a letter or digit".to_owned())
}

/// Checks an environment variable's name: printable ASCII without `=` (the relaxed rule of Kubernetes 1.34).
pub fn check_env_name(text: &str) -> Check {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text
        .bytes()
        .all(|byte| (b' '..=b'~').contains(&byte) && byte != b'=')
    {
        return Ok(());
    }
    Err("not a variable name: use printable ASCII characters without '='".to_owned())
}

/// Checks a port's name: the service name rule of RFC 6335, as Kubernetes has it.
pub fn check_port_name(text: &str) -> Check {
    length(text, PORT_NAME_MAX)?;
    if is_label(text) && !text.contains("--") && text.bytes().any(|byte| byte.is_ascii_lowercase())
    {
        return Ok(());
    }
    Err("not a port name: use lower-case letters, digits and single '-', with at least one letter, starting and ending with a letter or digit".to_owned())
}

/// Checks a pod UID: it becomes part of a container's Docker name, where `_` separates.
pub fn check_uid(text: &str) -> Check {
    length(text, UID_MAX)?;
    if is_qualified_part(text) && !text.contains('_') {
        return Ok(());
    }
    Err("not a usable UID: use letters, digits, '-' and '.', starting and ending with a letter or digit".to_owned())
}

/// Checks a Linux capability's name, with or without `CAP_`; `ALL` is one too.
pub fn check_capability(text: &str) -> Check {
    if text.is_empty() {
        return Err("must not be empty".to_owned());
    }
    if text
        .bytes()
        .all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
    {
        return Ok(());
    }
    Err(format!(
        "not a capability: names are upper-case, such as NET_ADMIN{}",
        {
            let upper = text.to_ascii_uppercase();
            if upper != text && check_capability(&upper).is_ok() {
                format!(" (did you mean {upper:?}?)")
            } else {
                String::new()
            }
        }
    ))
}

/// Checks an image reference: `[domain[:port]/]path[:tag][@digest]` or an image ID.
pub fn check_image(text: &str) -> Check {
    match text.parse::<ImageRef>() {
        Ok(_) => Ok(()),
        Err(error) => {
            let lower = text.to_ascii_lowercase();
            Err(if lower != text && lower.parse::<ImageRef>().is_ok() {
                format!("{} (did you mean {lower:?}?)", error.rule())
            } else {
                error.rule().to_owned()
            })
        }
    }
}

/// Whether a (valid) image reference names the tag `latest`, spelled out or by having neither tag nor digest.
///
/// Such an image is pulled every time unless `imagePullPolicy` says otherwise.
pub fn is_latest(image: &str) -> bool {
    match image.parse() {
        Ok(ImageRef::Name(name)) => name.digest().is_none() && name.tag() == Some("latest"),
        Ok(ImageRef::Id(_)) | Err(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_are_lower_case_and_at_most_63() {
        for good in ["a", "0", "web-1", &"a".repeat(63)] {
            assert_eq!(check_label(good), Ok(()), "{good}");
        }
        for bad in ["", "-a", "a-", "A", "a.b", "a_b", "ä", &"a".repeat(64)] {
            assert!(check_label(bad).is_err(), "{bad}");
        }
        assert!(
            check_label("My_App")
                .expect_err("upper-case")
                .ends_with("(for example \"my-app\")")
        );
    }

    #[test]
    fn subdomains_are_dotted_labels_and_at_most_253() {
        for good in ["a", "a.b-c.0", "a.".repeat(126).trim_end_matches('.')] {
            assert_eq!(check_subdomain(good), Ok(()), "{good}");
        }
        for bad in ["", ".", "a..b", "a.", ".a", "a.-b", "A.b", &"a".repeat(254)] {
            assert!(check_subdomain(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn qualified_names_have_an_optional_domain() {
        for good in [
            "app",
            "App_1.x",
            "example.com/app",
            &format!("example.com/{}", "a".repeat(63)),
        ] {
            assert_eq!(check_qualified_name(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            "/a",
            "a/",
            "a/b/c",
            "Example.com/a",
            "-a",
            "a b",
            &"a".repeat(64),
        ] {
            assert!(check_qualified_name(bad).is_err(), "{bad}");
        }
        for good in ["", "v1", "A_b.c-d"] {
            assert_eq!(check_label_value(good), Ok(()), "{good}");
        }
        for bad in ["-", "a ", "a/b", &"a".repeat(64)] {
            assert!(check_label_value(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn port_names_need_a_letter_and_no_double_dash() {
        for good in ["http", "a1", "1-a", "abcdefghijklmno"] {
            assert_eq!(check_port_name(good), Ok(()), "{good}");
        }
        for bad in ["", "80", "a--b", "-a", "HTTP", "abcdefghijklmnop"] {
            assert!(check_port_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn variable_names_are_printable_ascii_without_equals() {
        for good in ["A", "_", "my.var-1", "with space"] {
            assert_eq!(check_env_name(good), Ok(()), "{good}");
        }
        for bad in ["", "A=B", "A\n", "Ä"] {
            assert!(check_env_name(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn image_references_follow_the_distribution_grammar() {
        let digest = format!("busybox@sha256:{}", "a".repeat(64));
        for good in [
            "busybox",
            "busybox:latest",
            "library/busybox:1.36",
            "berth.local/demo:1",
            "localhost/a",
            "localhost:5000/a/b",
            "registry.example:5000/team/app:v1.2_3-x",
            "[::1]:5000/a",
            "a__b/c-----d",
            digest.as_str(),
        ] {
            assert_eq!(check_image(good), Ok(()), "{good}");
        }
        for bad in [
            "",
            ":",
            "a:",
            "a b",
            "Busybox",
            "a//b",
            "/a",
            "a/",
            "a:b:c",
            "a..b",
            "a___b",
            "a@",
            "a@sha256:abc",
            "a@md5:00",
            "https://a.example/b",
            "reg:port/a",
            "a:-x",
            "bad_.host:1/a",
            "a@sha256:x@y",
        ] {
            assert!(check_image(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn latest_is_a_tag_or_the_lack_of_one() {
        assert!(is_latest("a"));
        assert!(is_latest("localhost:5000/a"));
        assert!(is_latest("a:latest"));
        assert!(!is_latest("a:1"));
        assert!(!is_latest(&format!("a@sha256:{}", "a".repeat(64))));
    }

    proptest! {
        #[test]
        fn no_check_panics(text in "\\PC{0,80}|[-a-zA-Z0-9_.:/@\\[\\]]{0,80}") {
            let _ = (check_label(&text), check_subdomain(&text), check_qualified_name(&text), check_label_value(&text));
            let _ = (check_env_name(&text), check_port_name(&text), check_uid(&text), check_capability(&text), check_image(&text));
            let _ = is_latest(&text);
        }
    }
}
