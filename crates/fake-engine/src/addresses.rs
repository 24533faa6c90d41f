//! Owns a network's addresses: which it has and which are taken. Knows no networks and no containers.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

/// The addresses of a network.
#[derive(Debug)]
pub(crate) struct Pool {
    base: u32,
    pub(crate) prefix: u32,
    pub(crate) gateway: u32,
    /// Where addresses that nobody asked for come from, where it is not all of it.
    range: Option<Range>,
    used: BTreeSet<u32>,
    /// No address that may be given out below this is free.
    lowest: u32,
}

/// A part of a network's addresses.
#[derive(Clone, Copy, Debug)]
struct Range {
    base: u32,
    prefix: u32,
}

impl Range {
    /// `192.0.2.8/29`
    fn parse(text: &str) -> Option<Self> {
        let (address, prefix) = text.split_once('/')?;
        let (address, prefix): (Ipv4Addr, u32) = (address.parse().ok()?, prefix.parse().ok()?);
        if !(8..=32).contains(&prefix) {
            return None;
        }
        Some(Self {
            base: u32::from(address) & (u32::MAX << (32 - prefix)),
            prefix,
        })
    }

    fn last(self) -> u32 {
        self.base + ((1 << (32 - self.prefix)) - 1)
    }
}

impl Pool {
    pub(crate) fn new(base: u32, prefix: u32, gateway: Option<u32>) -> Self {
        let gateway = gateway.unwrap_or(base + 1);
        Self {
            base,
            prefix,
            gateway,
            range: None,
            used: BTreeSet::from([gateway]),
            lowest: base + 1,
        }
    }

    /// A subnet with its gateway, by default the first address.
    pub(crate) fn parse(subnet: &str, gateway: Option<&str>) -> Option<Self> {
        let Range { base, prefix } = Range::parse(subnet)?;
        if prefix > 30 {
            return None;
        }
        let pool = Self::new(base, prefix, None);
        match gateway.filter(|text| !text.is_empty()) {
            None => Some(pool),
            Some(text) => {
                let gateway = u32::from(text.parse::<Ipv4Addr>().ok()?);
                pool.holds(gateway)
                    .then(|| Self::new(base, prefix, Some(gateway)))
            }
        }
    }

    /// The same, with addresses that nobody asks for from a part of it only.
    pub(crate) fn within(mut self, range: &str) -> Option<Self> {
        let range = Range::parse(range)?;
        if !(self.holds(range.base) && self.holds(range.last())) {
            return None;
        }
        self.lowest = range.base.max(self.base + 1);
        self.range = Some(range);
        Some(self)
    }

    fn last(&self) -> u32 {
        let Self { base, prefix, .. } = *self;
        Range { base, prefix }.last()
    }

    pub(crate) fn holds(&self, address: u32) -> bool {
        (self.base..=self.last()).contains(&address)
    }

    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        self.holds(other.base) || other.holds(self.base)
    }

    /// Takes this address; false if somebody has it.
    pub(crate) fn reserve(&mut self, address: u32) -> bool {
        self.used.insert(address)
    }

    /// Takes the lowest address that is free.
    pub(crate) fn take(&mut self) -> Option<u32> {
        // The last address of the network is its broadcast address.
        let end = self.range.map_or(self.last(), |range| {
            range.last().saturating_add(1).min(self.last())
        });
        while self.lowest < end && self.used.contains(&self.lowest) {
            self.lowest += 1;
        }
        (self.lowest < end).then(|| {
            self.used.insert(self.lowest);
            self.lowest
        })
    }

    pub(crate) fn release(&mut self, address: u32) {
        self.used.remove(&address);
        if self.range.is_none_or(|range| range.base <= address) {
            self.lowest = self.lowest.min(address);
        }
    }

    /// How a network shows it.
    pub(crate) fn view(&self) -> Value {
        let text = |base: u32, prefix: u32| format!("{}/{prefix}", Ipv4Addr::from(base));
        let mut view = json!({
            "Subnet": text(self.base, self.prefix),
            "Gateway": Ipv4Addr::from(self.gateway).to_string(),
        });
        if let Some(range) = self.range {
            view["IPRange"] = json!(text(range.base, range.prefix));
        }
        view
    }
}

/// The MAC address the engine derives from an IPv4 address.
pub(crate) fn mac_of(address: u32) -> String {
    let [a, b, c, d] = address.to_be_bytes();
    let mut text = "02:42".to_owned();
    for byte in [a, b, c, d] {
        text.push(':');
        for digit in [byte >> 4, byte & 0xf] {
            text.push(char::from(b"0123456789abcdef"[usize::from(digit)]));
        }
    }
    text
}
