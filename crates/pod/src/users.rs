//! The users and groups of an image, from its `/etc/passwd` and `/etc/group`. Pure.

/// The most that is read of such a file, in bytes.
pub(crate) const LIMIT: usize = 1 << 20;

/// The user and the primary group of `user[:group]` by an image's `/etc/passwd`; `None` when the user is a name that it does not know. A user
/// that it does not know by number has group 0, as the engine gives it.
pub fn primary_group(user: &str, passwd: &str) -> Option<(String, i64)> {
    let user = match user.split(':').next().unwrap_or_default() {
        "" => "0",
        name => name,
    };
    let entry = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        let uid = fields.nth(1)?;
        let gid: i64 = fields.next()?.trim().parse().ok()?;
        (name == user || uid == user).then_some(gid)
    });
    match entry {
        Some(gid) => Some((user.to_owned(), gid)),
        None if user.parse::<i64>().is_ok() => Some((user.to_owned(), 0)),
        None => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\n# nothing\nwww:x:33:44::/:\nbroken:x\n";

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let group = |user| primary_group(user, PASSWD).map(|(_, group)| group);
        assert_eq!(group(""), Some(0));
        assert_eq!(group("www"), Some(44));
        assert_eq!(group("33"), Some(44));
        assert_eq!(group("33:7"), Some(44));
        assert_eq!(group("1000"), Some(0));
        assert_eq!(group("nobody"), None);
        assert_eq!(group("broken"), None);
    }
}
