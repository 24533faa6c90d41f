//! A map from text to text in two allocations, for labels, annotations and driver options.
//!
//! Owns the layout (one string that holds every key and value, and where each ends) and the order (by key). A list of a
//! thousand containers holds tens of thousands of label strings; one allocation for each would cost more than reading
//! the reply. Refuses to know what the text means.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Index;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, Visitor};
use serde::ser::{SerializeMap, Serializer};

use super::lenient::Lenient;

/// A map from text to text, ordered by key: labels, annotations, options.
///
/// Reading is cheap; [`insert`](Self::insert) rebuilds the map. Build a large one at once, by collecting pairs.
#[derive(Clone, Default, Eq, Hash, PartialEq)]
pub struct TextMap {
    /// Every key followed by its value, without separators.
    text: String,
    /// For each entry, in the order of the keys: where its key ends and where its value ends in `text`.
    ends: Vec<(u32, u32)>,
}

impl TextMap {
    /// An empty map; allocates nothing.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            text: String::new(),
            ends: Vec::new(),
        }
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The value of `key`.
    #[must_use]
    pub fn get(&self, key: &str) -> Option<&str> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let (candidate, value) = self.entry(middle);
            match candidate.cmp(key) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(value),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Whether `key` has a value, be it empty.
    #[must_use]
    pub fn contains_key(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Every key with its value, ordered by key.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &str)> {
        (0..self.len()).map(|index| self.entry(index))
    }

    /// Sets the value of `key`; copies the whole map.
    pub fn insert(&mut self, key: &str, value: &str) {
        let mut entries: BTreeMap<&str, &str> = self.iter().collect();
        entries.insert(key, value);
        *self = entries.into_iter().collect();
    }

    /// The entry at `index`, which is below `len`.
    fn entry(&self, index: usize) -> (&str, &str) {
        let start = if index == 0 {
            0
        } else {
            self.ends[index - 1].1 as usize
        };
        let (middle, end) = self.ends[index];
        let (middle, end) = (middle as usize, end as usize);
        (&self.text[start..middle], &self.text[middle..end])
    }
}

/// Entries that a map has room for from the start: the labels of a Kubernetes container, so that most maps are
/// allocated once.
const USUAL_ENTRIES: usize = 12;
/// Bytes that a map has room for from the start, for the same reason.
const USUAL_TEXT: usize = 512;

/// A place in the text of a map.
fn offset<E: Error>(place: usize) -> Result<u32, E> {
    u32::try_from(place).map_err(|_| E::custom("a map of more than 4 GiB of text"))
}

impl fmt::Debug for TextMap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

impl Index<&str> for TextMap {
    type Output = str;

    /// # Panics
    /// When `key` has no value; see [`get`](TextMap::get).
    fn index(&self, key: &str) -> &str {
        self.get(key)
            .unwrap_or_else(|| panic!("no entry for the key {key:?}"))
    }
}

impl<K: AsRef<str>, V: AsRef<str>> FromIterator<(K, V)> for TextMap {
    /// Of several values for one key, the last stays.
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let pairs: Vec<(K, V)> = pairs.into_iter().collect();
        let entries: BTreeMap<&str, &str> = pairs
            .iter()
            .map(|(k, v)| (k.as_ref(), v.as_ref()))
            .collect();
        let mut map = Self::new();
        map.ends.reserve_exact(entries.len());
        map.text
            .reserve_exact(entries.iter().map(|(k, v)| k.len() + v.len()).sum());
        for (key, value) in entries {
            // Nothing that can be sent or received is as long as 4 GiB.
            map.text.push_str(key);
            let middle = u32::try_from(map.text.len()).unwrap_or(u32::MAX);
            map.text.push_str(value);
            map.ends
                .push((middle, u32::try_from(map.text.len()).unwrap_or(u32::MAX)));
        }
        map
    }
}

impl<K: AsRef<str>, V: AsRef<str>, const N: usize> From<[(K, V); N]> for TextMap {
    fn from(pairs: [(K, V); N]) -> Self {
        pairs.into_iter().collect()
    }
}

impl serde::Serialize for TextMap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut map = serializer.serialize_map(Some(self.len()))?;
        for (key, value) in self.iter() {
            map.serialize_entry(key, value)?;
        }
        map.end()
    }
}

impl<'de> serde::Deserialize<'de> for TextMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Self::lenient(deserializer)
    }
}

/// Appends one key or value to the text of a map.
struct Append<'a>(&'a mut String);

impl<'de> DeserializeSeed<'de> for Append<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl Visitor<'_> for Append<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string, a number, a boolean or null")
    }

    fn visit_str<E: Error>(self, v: &str) -> Result<(), E> {
        if self.0.capacity() == 0 {
            self.0.reserve(USUAL_TEXT);
        }
        self.0.push_str(v);
        Ok(())
    }

    fn visit_bool<E: Error>(self, v: bool) -> Result<(), E> {
        self.0.push_str(if v { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E: Error>(self, v: i64) -> Result<(), E> {
        self.0.push_str(&v.to_string());
        Ok(())
    }

    fn visit_u64<E: Error>(self, v: u64) -> Result<(), E> {
        self.0.push_str(&v.to_string());
        Ok(())
    }

    fn visit_f64<E: Error>(self, v: f64) -> Result<(), E> {
        self.0.push_str(&v.to_string());
        Ok(())
    }

    fn visit_unit<E: Error>(self) -> Result<(), E> {
        Ok(())
    }
}

impl Lenient for TextMap {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object;

        impl<'de> Visitor<'de> for Object {
            type Value = TextMap;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of text, or null")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<TextMap, A::Error> {
                let mut map = TextMap::new();
                let mut ordered = true;
                let (mut last_key, mut start) = (0..0, 0);
                while let Some(()) = entries.next_key_seed(Append(&mut map.text))? {
                    let key = start..map.text.len();
                    if map.ends.is_empty() {
                        map.ends.reserve(USUAL_ENTRIES);
                    } else {
                        ordered = ordered
                            && map.text.as_bytes()[last_key] < map.text.as_bytes()[key.clone()];
                    }
                    entries.next_value_seed(Append(&mut map.text))?;
                    map.ends.push((offset(key.end)?, offset(map.text.len())?));
                    start = map.text.len();
                    last_key = key;
                }
                // The Engine writes keys in order; anything else is put in order here, once.
                Ok(if ordered { map } else { map.iter().collect() })
            }

            fn visit_unit<E: Error>(self) -> Result<TextMap, E> {
                Ok(TextMap::new())
            }
        }

        deserializer.deserialize_any(Object)
    }
}
