//! How a reply is decoded without tripping over what engines write differently.
//!
//! Owns one rule set for every field of every model: `null`, an absent key and the type's default are the same thing;
//! unknown keys are skipped; an unknown word of an enumeration is kept; a lone string where a list belongs is a list of
//! one; a number in quotes is a number and a number where text belongs is its digits. Anything else that does not fit
//! is an error, because a guess would be a lie.
//!
//! Models are declared with `record!` (decoded only), `body!` (also sent) and `words!` (open enumerations), which put
//! the wire name beside each field. A body leaves out every field that has its default value, as Go's `omitempty` does.
//! This file knows nothing of containers or images.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use serde::Deserialize;
use serde::de::value::StrDeserializer;
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Unexpected, Visitor};

/// A type that can be read from every plausible form an engine gives it.
pub(crate) trait Lenient: Sized {
    /// Reads the value; `null` reads as the default.
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error>;
}

/// Reads one field, list element or map value by [`Lenient`].
pub(crate) struct Field<T>(PhantomData<T>);

impl<T> Field<T> {
    pub(crate) const fn new() -> Self {
        Self(PhantomData)
    }
}

impl<'de, T: Lenient> DeserializeSeed<'de> for Field<T> {
    type Value = T;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<T, D::Error> {
        T::lenient(deserializer)
    }
}

/// A whole reply read by [`Lenient`]: for replies that are a list, where an engine may answer `null`.
pub(crate) struct Decoded<T>(pub(crate) T);

impl<'de, T: Lenient> Deserialize<'de> for Decoded<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        T::lenient(deserializer).map(Self)
    }
}

impl Lenient for String {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;

        impl Visitor<'_> for Text {
            type Value = String;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a number or null")
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<String, E> {
                Ok(v.to_owned())
            }

            fn visit_string<E: Error>(self, v: String) -> Result<String, E> {
                Ok(v)
            }

            fn visit_i64<E: Error>(self, v: i64) -> Result<String, E> {
                Ok(v.to_string())
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<String, E> {
                Ok(v.to_string())
            }

            fn visit_f64<E: Error>(self, v: f64) -> Result<String, E> {
                Ok(v.to_string())
            }

            fn visit_unit<E: Error>(self) -> Result<String, E> {
                Ok(String::new())
            }
        }

        deserializer.deserialize_any(Text)
    }
}

impl Lenient for bool {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Flag;

        impl Visitor<'_> for Flag {
            type Value = bool;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("true, false or null")
            }

            fn visit_bool<E: Error>(self, v: bool) -> Result<bool, E> {
                Ok(v)
            }

            fn visit_u64<E: Error>(self, v: u64) -> Result<bool, E> {
                match v {
                    0 => Ok(false),
                    1 => Ok(true),
                    _ => Err(E::invalid_value(Unexpected::Unsigned(v), &self)),
                }
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<bool, E> {
                match v {
                    "" | "false" => Ok(false),
                    "true" => Ok(true),
                    _ => Err(E::invalid_value(Unexpected::Str(v), &self)),
                }
            }

            fn visit_unit<E: Error>(self) -> Result<bool, E> {
                Ok(false)
            }
        }

        deserializer.deserialize_any(Flag)
    }
}

macro_rules! integer {
    ($($ty:ty),*) => {$(
        impl Lenient for $ty {
            fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Integer;

                impl Visitor<'_> for Integer {
                    type Value = $ty;

                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str(concat!("a whole number in the range of ", stringify!($ty), ", or null"))
                    }

                    fn visit_i64<E: Error>(self, v: i64) -> Result<$ty, E> {
                        <$ty>::try_from(v).map_err(|_| E::invalid_value(Unexpected::Signed(v), &self))
                    }

                    fn visit_u64<E: Error>(self, v: u64) -> Result<$ty, E> {
                        <$ty>::try_from(v).map_err(|_| E::invalid_value(Unexpected::Unsigned(v), &self))
                    }

                    fn visit_f64<E: Error>(self, v: f64) -> Result<$ty, E> {
                        // Go writes a float64 of a whole number as "1e+09": through text it stays exact.
                        if v.fract() != 0.0 {
                            return Err(E::invalid_value(Unexpected::Float(v), &self));
                        }
                        format!("{v:.0}").parse().map_err(|_| E::invalid_value(Unexpected::Float(v), &self))
                    }

                    fn visit_str<E: Error>(self, v: &str) -> Result<$ty, E> {
                        if v.is_empty() {
                            return Ok(0);
                        }
                        v.parse().map_err(|_| E::invalid_value(Unexpected::Str(v), &self))
                    }

                    fn visit_unit<E: Error>(self) -> Result<$ty, E> {
                        Ok(0)
                    }
                }

                deserializer.deserialize_any(Integer)
            }
        }
    )*};
}

integer!(i64, u64, u32, u16);

impl<T: Lenient> Lenient for Option<T> {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Maybe<T>(PhantomData<T>);

        impl<'de, T: Lenient> Visitor<'de> for Maybe<T> {
            type Value = Option<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value or null")
            }

            fn visit_none<E: Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(None)
            }

            fn visit_some<D: Deserializer<'de>>(self, d: D) -> Result<Self::Value, D::Error> {
                T::lenient(d).map(Some)
            }
        }

        deserializer.deserialize_option(Maybe(PhantomData))
    }
}

impl<T: Lenient> Lenient for Vec<T> {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List<T>(PhantomData<T>);

        impl<'de, T: Lenient> Visitor<'de> for List<T> {
            type Value = Vec<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list or null")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Vec<T>, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = seq.next_element_seed(Field::new())? {
                    list.push(item);
                }
                Ok(list)
            }

            fn visit_str<E: Error>(self, v: &str) -> Result<Vec<T>, E> {
                if v.is_empty() {
                    return Ok(Vec::new());
                }
                T::lenient(StrDeserializer::new(v)).map(|item| vec![item])
            }

            fn visit_unit<E: Error>(self) -> Result<Vec<T>, E> {
                Ok(Vec::new())
            }
        }

        deserializer.deserialize_any(List(PhantomData))
    }
}

impl<V: Lenient> Lenient for BTreeMap<String, V> {
    fn lenient<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Object<V>(PhantomData<V>);

        impl<'de, V: Lenient> Visitor<'de> for Object<V> {
            type Value = BTreeMap<String, V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object or null")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut object = BTreeMap::new();
                while let Some(key) = map.next_key()? {
                    object.insert(key, map.next_value_seed(Field::new())?);
                }
                Ok(object)
            }

            fn visit_unit<E: Error>(self) -> Result<Self::Value, E> {
                Ok(BTreeMap::new())
            }
        }

        deserializer.deserialize_any(Object(PhantomData))
    }
}

/// Declares structs that are decoded: each field says its wire name (and older spellings after `|`).
macro_rules! record {
    ($(
        $(#[$attr:meta])*
        $vis:vis struct $name:ident {
            $( $(#[$field_attr:meta])* pub $field:ident: $ty:ty = $($key:literal)|+, )*
        }
    )+) => {$(
        $(#[$attr])*
        #[derive(Clone, Debug, Default, PartialEq)]
        $vis struct $name {
            $( $(#[$field_attr])* pub $field: $ty, )*
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                use serde::de::{DeserializeSeed, Error, IgnoredAny, MapAccess, Visitor};

                #[allow(non_camel_case_types)]
                enum Key { $($field,)* Unknown }

                struct KeyOf;

                impl<'de> DeserializeSeed<'de> for KeyOf {
                    type Value = Key;

                    fn deserialize<D: serde::Deserializer<'de>>(self, d: D) -> Result<Key, D::Error> {
                        d.deserialize_identifier(self)
                    }
                }

                impl Visitor<'_> for KeyOf {
                    type Value = Key;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a key")
                    }

                    fn visit_str<E: Error>(self, key: &str) -> Result<Key, E> {
                        Ok(match key {
                            $( $($key)|+ => Key::$field, )*
                            _ => Key::Unknown,
                        })
                    }
                }

                struct Record;

                impl<'de> Visitor<'de> for Record {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str(concat!("an object (", stringify!($name), ") or null"))
                    }

                    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<$name, A::Error> {
                        let mut record = $name::default();
                        while let Some(key) = map.next_key_seed(KeyOf)? {
                            match key {
                                $( Key::$field => {
                                    record.$field = map.next_value_seed($crate::model::lenient::Field::new())?;
                                } )*
                                Key::Unknown => {
                                    map.next_value::<IgnoredAny>()?;
                                }
                            }
                        }
                        Ok(record)
                    }

                    fn visit_unit<E: Error>(self) -> Result<$name, E> {
                        Ok($name::default())
                    }
                }

                deserializer.deserialize_any(Record)
            }
        }

        impl $crate::model::lenient::Lenient for $name {
            fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                serde::Deserialize::deserialize(deserializer)
            }
        }
    )+};
}

/// Declares structs that are sent as well as decoded; a field that equals its default is not sent.
macro_rules! body {
    ($(
        $(#[$attr:meta])*
        pub struct $name:ident {
            $( $(#[$field_attr:meta])* pub $field:ident: $ty:ty = $key:literal $(| $old:literal)*, )*
        }
    )+) => {
        $crate::model::lenient::record! {$(
            $(#[$attr])*
            pub struct $name {
                $( $(#[$field_attr])* pub $field: $ty = $key $(| $old)*, )*
            }
        )+}

        $(
            impl $name {
                /// Writes the fields that are not at their default into an object that is being written.
                #[allow(dead_code)]
                pub(crate) fn write_fields<M: serde::ser::SerializeMap>(&self, map: &mut M) -> Result<(), M::Error> {
                    $( if self.$field != <$ty>::default() {
                        map.serialize_entry($key, &self.$field)?;
                    } )*
                    Ok(())
                }
            }

            impl serde::Serialize for $name {
                fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let mut map = serializer.serialize_map(None)?;
                    self.write_fields(&mut map)?;
                    serde::ser::SerializeMap::end(map)
                }
            }
        )+
    };
}

/// Declares open enumerations: known words are variants, any other word is kept as it came.
macro_rules! words {
    ($(
        $(#[$attr:meta])*
        pub enum $name:ident {
            $( $(#[$variant_attr:meta])* $variant:ident = $word:literal, )*
        }
    )+) => {$(
        $(#[$attr])*
        #[derive(Clone, Debug, Eq, Hash, PartialEq)]
        pub enum $name {
            $( $(#[$variant_attr])* $variant, )*
            /// A word that this version of the client does not know, as the Engine wrote it; empty when the Engine
            /// wrote none.
            Other(Box<str>),
        }

        impl $name {
            /// The word as it is written on the wire.
            #[must_use]
            pub fn as_str(&self) -> &str {
                match self {
                    $( Self::$variant => $word, )*
                    Self::Other(word) => word,
                }
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::Other(Box::default())
            }
        }

        impl From<&str> for $name {
            fn from(word: &str) -> Self {
                match word {
                    $( $word => Self::$variant, )*
                    other => Self::Other(other.into()),
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl serde::Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl $crate::model::lenient::Lenient for $name {
            fn lenient<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Word;

                impl serde::de::Visitor<'_> for Word {
                    type Value = $name;

                    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                        f.write_str("a word or null")
                    }

                    fn visit_str<E: serde::de::Error>(self, word: &str) -> Result<$name, E> {
                        Ok(word.into())
                    }

                    fn visit_u64<E: serde::de::Error>(self, number: u64) -> Result<$name, E> {
                        Ok(number.to_string().as_str().into())
                    }

                    fn visit_unit<E: serde::de::Error>(self) -> Result<$name, E> {
                        Ok($name::default())
                    }
                }

                deserializer.deserialize_any(Word)
            }
        }
    )+};
}

pub(crate) use {body, record, words};
