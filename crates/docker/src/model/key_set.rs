//! The set that Docker writes as an object with empty values: `{"80/tcp": {}}`.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::{Deref, DerefMut};

use serde::de::{Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::ser::Serializer;

use super::lenient::Lenient;

/// A set of names, such as exposed ports or anonymous volumes; on the wire an object whose values are empty.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeySet(pub BTreeSet<String>);

impl Deref for KeySet {
    type Target = BTreeSet<String>;

    fn deref(&self) -> &Self::Target {
        &self.0
    }
}

impl DerefMut for KeySet {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.0
    }
}

impl<S: Into<String>> FromIterator<S> for KeySet {
    fn from_iter<I: IntoIterator<Item = S>>(names: I) -> Self {
        Self(names.into_iter().map(Into::into).collect())
    }
}

impl<S: Into<String>, const N: usize> From<[S; N]> for KeySet {
    fn from(names: [S; N]) -> Self {
        names.into_iter().collect()
    }
}

impl serde::Serialize for KeySet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        /// `{}`.
        struct Nothing;

        impl serde::Serialize for Nothing {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serde::ser::SerializeMap::end(serializer.serialize_map(Some(0))?)
            }
        }

        serializer.collect_map(self.0.iter().map(|name| (name, Nothing)))
    }
}

impl Lenient for KeySet {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Keys;

        impl<'de> Visitor<'de> for Keys {
            type Value = KeySet;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object, a list of names or null")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<KeySet, A::Error> {
                let mut names = BTreeSet::new();
                while let Some((name, IgnoredAny)) = map.next_entry()? {
                    names.insert(name);
                }
                Ok(KeySet(names))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<KeySet, A::Error> {
                let mut names = BTreeSet::new();
                while let Some(name) = list.next_element()? {
                    names.insert(name);
                }
                Ok(KeySet(names))
            }

            fn visit_unit<E: Error>(self) -> Result<KeySet, E> {
                Ok(KeySet::default())
            }
        }

        deserializer.deserialize_any(Keys)
    }
}
