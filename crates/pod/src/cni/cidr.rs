//! An address with the length of its network's prefix: `10.1.0.5/16`. Pure.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An address and the length of its network's prefix. The bits behind the prefix are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Cidr {
    /// The address.
    pub address: IpAddr,
    /// How many bits name the network.
    pub prefix: u8,
}

/// A text that is no address with a prefix.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an address with the length of a prefix, such as 10.244.0.0/24")]
pub struct BadCidr(String);

impl FromStr for Cidr {
    type Err = BadCidr;

    fn from_str(text: &str) -> Result<Self, BadCidr> {
        let bad = || BadCidr(text.chars().take(64).collect());
        let (address, prefix) = text.split_once('/').ok_or_else(bad)?;
        let address: IpAddr = address.parse().map_err(|_| bad())?;
        // Only digits: a number may be written with a sign otherwise.
        let digits = prefix.bytes().all(|byte| byte.is_ascii_digit());
        let most = if address.is_ipv4() { 32 } else { 128 };
        match prefix.parse() {
            Ok(prefix) if digits && prefix <= most => Ok(Self { address, prefix }),
            _ => Err(bad()),
        }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

impl Serialize for Cidr {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Cidr {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_parses_prints_the_same_and_the_rest_is_refused() {
        for text in ["10.1.0.5/16", "0.0.0.0/0", "fd00::1/64", "::/128"] {
            assert_eq!(text.parse::<Cidr>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "/",
            "10.1.0.5",
            "10.1.0.5/33",
            "fd00::1/129",
            "a/8",
            "10.0.0.0/+8",
            "10.0.0.0/",
            "10.0.0.0/8/8",
        ] {
            assert!(text.parse::<Cidr>().is_err(), "{text}");
        }
    }
}
