//! The users and groups of an image, from its `/etc/passwd` and `/etc/group`. Pure.

/// The most that is read of such a file, in bytes.
pub(crate) const LIMIT: usize = 1 << 20;

/// The text of an image's lists; empty where it has none.
#[derive(Debug, Default)]
pub struct ImageUsers {
    /// `/etc/passwd`.
    pub passwd: String,
    /// `/etc/group`.
    pub group: String,
}

impl ImageUsers {
    /// The user and the primary group of `user[:group]`; `None` when one of them is a name that the image does not know. A user that it does
    /// not know by number has group 0, as the engine gives it.
    pub fn primary_group(&self, user: &str) -> Option<(String, i64)> {
        let (user, group) = user.split_once(':').unwrap_or((user, ""));
        let user = if user.is_empty() { "0" } else { user };
        let entry = self.user(user);
        if entry.is_none() && user.parse::<i64>().is_err() {
            return None;
        }
        let group = match group {
            "" => entry.map_or(0, |(_, group)| group),
            group => match group.parse() {
                Ok(number) => number,
                Err(_) => self.groups().find(|(name, ..)| *name == group)?.1,
            },
        };
        Some((user.to_owned(), group))
    }

    /// The groups that list the user, given by name or number; none for one that the image does not know.
    pub fn groups_of(&self, user: &str) -> Vec<i64> {
        let Some((name, _)) = self.user(user) else {
            return Vec::new();
        };
        let lists = |members: &str| members.split(',').any(|member| member.trim() == name);
        self.groups()
            .filter(|(.., members)| lists(members))
            .map(|(_, number, _)| number)
            .collect()
    }

    /// Name and primary group of a user.
    fn user(&self, user: &str) -> Option<(&str, i64)> {
        self.passwd.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let uid = fields.nth(1)?;
            let gid = fields.next()?.trim().parse().ok()?;
            (name == user || uid == user).then_some((name, gid))
        })
    }

    /// Name, number and members of each group.
    fn groups(&self) -> impl Iterator<Item = (&str, i64, &str)> {
        self.group.lines().filter_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let gid = fields.nth(1)?.trim().parse().ok()?;
            Some((name, gid, fields.next().unwrap_or_default()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn image() -> ImageUsers {
        ImageUsers {
            passwd: "root:x:0:0:root:/root:/bin/sh\n# nothing\nwww:x:33:44::/:\nbroken:x\n"
                .to_owned(),
            group:
                "root:x:0:\nweb:x:44:\nlog:x:50000:adm, www\nbroken:x\nfew:x:7\nall:x:9:www,root\n"
                    .to_owned(),
        }
    }

    #[test]
    fn a_user_is_found_by_name_and_by_number() {
        let image = image();
        let group = |user| image.primary_group(user).map(|(_, group)| group);
        assert_eq!(group(""), Some(0));
        assert_eq!(group("www"), Some(44));
        assert_eq!(group("33"), Some(44));
        assert_eq!(group("1000"), Some(0));
        assert_eq!(group("nobody"), None);
        assert_eq!(group("broken"), None);
    }

    #[test]
    fn a_group_that_is_named_counts() {
        let image = image();
        let group = |user| image.primary_group(user).map(|(_, group)| group);
        assert_eq!(group("33:7"), Some(7));
        assert_eq!(group("1000:log"), Some(50000));
        assert_eq!(group("www:nothing"), None);
        assert_eq!(group(":2000"), Some(2000));
    }

    #[test]
    fn a_user_is_in_the_groups_that_list_it() {
        assert_eq!(image().groups_of("33"), [50000, 9]);
        assert_eq!(image().groups_of("root"), [9]);
        assert_eq!(image().groups_of("1000"), Vec::<i64>::new());
    }
}
