//! Kubernetes quantities: `500m` of a CPU, `64Mi` of memory.
//!
//! Owns the text form and its exact value. Refuses to know what is being measured: ranges and minimums belong to whoever reads the
//! field.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// A nano-unit, the finest step of a Kubernetes quantity.
const NANOS_PER_UNIT: i128 = 1_000_000_000;

/// The largest value Kubernetes stores, in whole units (`resource.Quantity` is an `int64` of units). Kubernetes silently cuts larger
/// ones to this; berth refuses them, because a limit that is not the one written is worse than none.
const MAX_UNITS: i128 = i64::MAX as i128;

/// More digits than any quantity needs. Bounds the work done on outside input.
const MAX_TEXT: usize = 128;

/// An exact amount, as written in `resources` and `sizeLimit`.
///
/// Kept in nano-units, so `0.1`, `100m` and `1e-1` are one value. Finer digits are rounded away from zero, as Kubernetes does. The
/// magnitude is at most 2^63 − 1 units. Two quantities are equal when their values are; how they were written is forgotten.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Quantity {
    nanos: i128,
}

/// Why a text is not a quantity.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum QuantityError {
    /// Nothing there, or only a sign or a suffix.
    #[error("no number in it")]
    NoNumber,
    /// The text is longer than 128 bytes.
    #[error("more than {MAX_TEXT} characters")]
    TooLong,
    /// What follows the number is not a suffix of Kubernetes.
    #[error("unknown suffix {suffix:?}{}", hint(suffix))]
    Suffix {
        /// The text after the number.
        suffix: String,
    },
    /// The value does not fit in 63 bits of whole units.
    #[error("too large (the most is 2^63 − 1, about 9.2E)")]
    TooLarge,
}

/// Says what a wrong suffix was probably meant to be.
fn hint(suffix: &str) -> &'static str {
    match suffix {
        "K" => " (did you mean k or Ki?)",
        "KB" | "kB" | "kb" | "KiB" | "ki" | "KI" => " (did you mean k or Ki?)",
        "MB" | "mB" | "mb" | "MiB" | "mi" | "MI" | "mI" => " (did you mean M or Mi?)",
        "GB" | "gb" | "GiB" | "g" | "gi" | "GI" => " (did you mean G or Gi?)",
        "TB" | "tb" | "TiB" | "t" | "ti" | "TI" => " (did you mean T or Ti?)",
        _ => " (one of n u m k M G T P E, Ki Mi Gi Ti Pi Ei, or an exponent such as e3)",
    }
}

impl Quantity {
    /// Whole units, for example bytes.
    pub fn from_units(units: i64) -> Self {
        Self {
            nanos: i128::from(units) * NANOS_PER_UNIT,
        }
    }

    /// The value in whole units, rounded up; for memory this is bytes.
    pub fn units(self) -> i64 {
        self.rounded_up(NANOS_PER_UNIT)
    }

    /// The value in thousandths, rounded up and cut at `i64::MAX`; for CPU this is milli-cores.
    pub fn millis(self) -> i64 {
        self.rounded_up(NANOS_PER_UNIT / 1_000)
    }

    /// Whether the value is a whole number of units.
    pub fn is_whole(self) -> bool {
        self.nanos % NANOS_PER_UNIT == 0
    }

    /// Whether the value is below zero.
    pub fn is_negative(self) -> bool {
        self.nanos < 0
    }

    fn rounded_up(self, step: i128) -> i64 {
        let rounded = self.nanos.div_euclid(step) + i128::from(self.nanos.rem_euclid(step) != 0);
        i64::try_from(rounded).unwrap_or(if rounded < 0 { i64::MIN } else { i64::MAX })
    }
}

/// What the text after the number multiplies by.
enum Scale {
    Ten(i64),
    Two(u32),
}

fn scale(suffix: &str) -> Option<Scale> {
    Some(match suffix {
        "n" => Scale::Ten(-9),
        "u" => Scale::Ten(-6),
        "m" => Scale::Ten(-3),
        "" => Scale::Ten(0),
        "k" => Scale::Ten(3),
        "M" => Scale::Ten(6),
        "G" => Scale::Ten(9),
        "T" => Scale::Ten(12),
        "P" => Scale::Ten(15),
        "E" => Scale::Ten(18),
        "Ki" => Scale::Two(10),
        "Mi" => Scale::Two(20),
        "Gi" => Scale::Two(30),
        "Ti" => Scale::Two(40),
        "Pi" => Scale::Two(50),
        "Ei" => Scale::Two(60),
        exponent => {
            let digits = exponent.strip_prefix(['e', 'E'])?;
            let unsigned = digits.strip_prefix(['+', '-']).unwrap_or(digits);
            if unsigned.is_empty() || !unsigned.bytes().all(|b| b.is_ascii_digit()) {
                return None;
            }
            // Out of range is far beyond any value either way; the sign decides which.
            Scale::Ten(digits.parse().unwrap_or(if digits.starts_with('-') {
                -1_000_000
            } else {
                1_000_000
            }))
        }
    })
}

impl FromStr for Quantity {
    type Err = QuantityError;

    fn from_str(text: &str) -> Result<Self, QuantityError> {
        if text.len() > MAX_TEXT {
            return Err(QuantityError::TooLong);
        }
        let (negative, unsigned) = match text.as_bytes().first() {
            Some(b'-') => (true, &text[1..]),
            Some(b'+') => (false, &text[1..]),
            _ => (false, text),
        };
        let end = unsigned
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .unwrap_or(unsigned.len());
        let (number, suffix) = unsigned.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(QuantityError::NoNumber);
        }
        let scale = scale(suffix).ok_or_else(|| QuantityError::Suffix {
            suffix: suffix.to_owned(),
        })?;
        let digits = format!("{whole}{fraction}");
        let digits = digits.trim_start_matches('0');
        let fraction_digits = i64::try_from(fraction.len()).map_err(|_| QuantityError::TooLong)?;
        let magnitude = match scale {
            Scale::Ten(exponent) => decimal_nanos(digits, exponent - fraction_digits + 9)?,
            Scale::Two(shift) => binary_nanos(digits, fraction_digits, shift)?,
        };
        if magnitude > MAX_UNITS * NANOS_PER_UNIT {
            return Err(QuantityError::TooLarge);
        }
        Ok(Self {
            nanos: if negative { -magnitude } else { magnitude },
        })
    }
}

/// `digits` × 10^`exponent`, rounded up.
fn decimal_nanos(digits: &str, exponent: i64) -> Result<i128, QuantityError> {
    if digits.is_empty() {
        return Ok(0);
    }
    if exponent < 0 {
        let cut = usize::try_from(-exponent).map_err(|_| QuantityError::TooLong)?;
        let kept = digits.len().saturating_sub(cut);
        let lost = digits[kept..].bytes().any(|digit| digit != b'0') || kept == 0;
        return Ok(parse_digits(&digits[..kept])? + i128::from(lost));
    }
    let power = u32::try_from(exponent)
        .ok()
        .and_then(|exponent| 10_i128.checked_pow(exponent));
    power
        .and_then(|power| parse_digits(digits).ok()?.checked_mul(power))
        .ok_or(QuantityError::TooLarge)
}

/// `digits` × 10^−`fraction_digits` × 2^`shift` units, in nano-units, rounded up.
fn binary_nanos(digits: &str, fraction_digits: i64, shift: u32) -> Result<i128, QuantityError> {
    // Digits beyond the 18th after the point are below a nano-unit even of Ei; they only decide the rounding.
    const KEPT: i64 = 18;
    let (digits, fraction_digits, lost) = if fraction_digits > KEPT {
        let cut = usize::try_from(fraction_digits - KEPT).map_err(|_| QuantityError::TooLong)?;
        let kept = digits.len().saturating_sub(cut);
        (
            &digits[..kept],
            KEPT,
            digits[kept..].bytes().any(|digit| digit != b'0'),
        )
    } else {
        (digits, fraction_digits, false)
    };
    let divisor = 10_i128.pow(u32::try_from(fraction_digits).map_err(|_| QuantityError::TooLong)?);
    let value = parse_digits(digits)?;
    let (whole, part) = (value / divisor, value % divisor);
    let factor = 1_i128 << shift;
    let nanos_of_whole = whole
        .checked_mul(factor)
        .and_then(|units| units.checked_mul(NANOS_PER_UNIT))
        .ok_or(QuantityError::TooLarge)?;
    // part < 10^18 and factor ≤ 2^60, so the product is below 2^120; the remainder keeps the nano step exact.
    let scaled = part * factor;
    let (units, rest) = (scaled / divisor, scaled % divisor);
    let nanos_of_rest = rest * NANOS_PER_UNIT;
    let rounding = i128::from(lost || nanos_of_rest % divisor != 0);
    nanos_of_whole
        .checked_add(units * NANOS_PER_UNIT + nanos_of_rest / divisor + rounding)
        .ok_or(QuantityError::TooLarge)
}

fn parse_digits(digits: &str) -> Result<i128, QuantityError> {
    if digits.is_empty() {
        return Ok(0);
    }
    digits.parse().map_err(|_| QuantityError::TooLarge)
}

/// The shortest Kubernetes spelling: a binary suffix when one divides the value, else a decimal one.
impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const BINARY: [(u32, &str); 6] = [
            (60, "Ei"),
            (50, "Pi"),
            (40, "Ti"),
            (30, "Gi"),
            (20, "Mi"),
            (10, "Ki"),
        ];
        const DECIMAL: [(u32, &str); 10] = [
            (27, "E"),
            (24, "P"),
            (21, "T"),
            (18, "G"),
            (15, "M"),
            (12, "k"),
            (9, ""),
            (6, "m"),
            (3, "u"),
            (0, "n"),
        ];
        if self.nanos == 0 {
            return f.write_str("0");
        }
        if self.is_whole() {
            let units = self.nanos / NANOS_PER_UNIT;
            for (shift, suffix) in BINARY {
                if units % (1 << shift) == 0 {
                    return write!(f, "{}{suffix}", units >> shift);
                }
            }
        }
        for (power, suffix) in DECIMAL {
            let step = 10_i128.pow(power);
            if self.nanos % step == 0 {
                return write!(f, "{}{suffix}", self.nanos / step);
            }
        }
        Ok(())
    }
}

impl Serialize for Quantity {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn nanos(text: &str) -> Result<i128, QuantityError> {
        text.parse::<Quantity>().map(|quantity| quantity.nanos)
    }

    #[test]
    fn every_suffix_has_its_factor() {
        for (text, value) in [
            ("0", 0),
            ("1n", 1),
            ("1u", 1_000),
            ("1m", 1_000_000),
            ("1", 1_000_000_000),
            ("1k", 1_000_000_000_000),
            ("1M", 1_000_000_000_000_000),
            ("1G", 1_000_000_000_000_000_000),
            ("1T", 1_000_000_000_000_000_000_000),
            ("1P", 1_000_000_000_000_000_000_000_000),
            ("1E", 1_000_000_000_000_000_000_000_000_000),
            ("1Ki", 1_024_000_000_000),
            ("1Mi", 1_048_576_000_000_000),
            ("1Gi", 1_073_741_824_000_000_000),
            ("1Ti", 1_099_511_627_776_000_000_000),
            ("1Pi", 1_125_899_906_842_624_000_000_000),
            ("1Ei", 1_152_921_504_606_846_976_000_000_000),
            ("1e3", 1_000_000_000_000),
            ("1E3", 1_000_000_000_000),
            ("12E-1", 1_200_000_000),
            ("1e+2", 100_000_000_000),
            ("-1.5", -1_500_000_000),
            ("+.5", 500_000_000),
            ("5.", 5_000_000_000),
            ("0.5Gi", 536_870_912_000_000_000),
            ("1.5Ki", 1_536_000_000_000),
        ] {
            assert_eq!(nanos(text), Ok(value), "{text}");
        }
    }

    #[test]
    fn digits_below_a_nano_round_away_from_zero() {
        assert_eq!(nanos("0.0000000001"), Ok(1));
        assert_eq!(nanos("-0.0000000001"), Ok(-1));
        assert_eq!(nanos("1.0000000010"), Ok(1_000_000_001));
        assert_eq!(nanos("1e-40"), Ok(1));
        assert_eq!(nanos("0e-40"), Ok(0));
        assert_eq!(nanos("1e-99999999999999999999"), Ok(1));
        assert_eq!(nanos("0.00000000000000000000001Ki"), Ok(1));
        assert_eq!(nanos("0.0000000000001Ki"), Ok(1));
    }

    #[test]
    fn values_beyond_63_bits_are_refused() {
        assert_eq!(
            nanos("9223372036854775807"),
            Ok(9_223_372_036_854_775_807_000_000_000)
        );
        for text in [
            "9223372036854775808",
            "10E",
            "8Ei",
            "1e19",
            "1e99999999999999999999",
            "-10E",
            "99999999999999999999999999999999999999999999Ki",
        ] {
            assert_eq!(nanos(text), Err(QuantityError::TooLarge), "{text}");
        }
    }

    #[test]
    fn what_is_not_a_quantity_is_refused() {
        for text in ["", "-", "m", ".", "-.", "1..2", "1.2.3", "Mi"] {
            assert_eq!(nanos(text), Err(QuantityError::NoNumber), "{text:?}");
        }
        for text in [
            "1K", "1 Mi", "1mi", "1MB", "1e", "1e+", "1i", "1Kii", "0x10", "1_000", "1,5", "١",
        ] {
            assert!(nanos(text).is_err(), "{text:?}");
        }
        assert_eq!(nanos(&"1".repeat(129)), Err(QuantityError::TooLong));
        assert_eq!(
            "64MB"
                .parse::<Quantity>()
                .expect_err("not a suffix")
                .to_string(),
            "unknown suffix \"MB\" (did you mean M or Mi?)"
        );
    }

    #[test]
    fn units_and_millis_round_up() {
        let quantity: Quantity = "1.0001".parse().expect("valid");
        assert_eq!((quantity.units(), quantity.millis()), (2, 1001));
        let quantity: Quantity = "-1.5".parse().expect("valid");
        assert_eq!((quantity.units(), quantity.millis()), (-1, -1500));
        assert_eq!("9E".parse::<Quantity>().expect("valid").millis(), i64::MAX);
    }

    #[test]
    fn equal_values_have_one_spelling() {
        for (text, spelling) in [
            ("1024Mi", "1Gi"),
            ("1073741824", "1Gi"),
            ("0.5", "500m"),
            ("1000m", "1"),
            ("1000000000", "1G"),
            ("-1.5", "-1500m"),
            ("1500", "1500"),
            ("1n", "1n"),
            ("-0", "0"),
        ] {
            assert_eq!(
                text.parse::<Quantity>().expect("valid").to_string(),
                spelling,
                "{text}"
            );
        }
    }

    proptest! {
        #[test]
        fn any_text_parses_or_is_refused_without_a_panic(text in "\\PC{0,40}") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn number_like_text_parses_or_is_refused_without_a_panic(text in "[-+]?[0-9]{0,40}\\.?[0-9]{0,60}([numkMGTPE]|[KMGTPE]i|[eE][-+]?[0-9]{1,12})?") {
            let _ = text.parse::<Quantity>();
        }

        #[test]
        fn printing_and_parsing_give_the_same_value(nanos in -9_223_372_036_854_775_807_000_000_000_i128..=9_223_372_036_854_775_807_000_000_000) {
            let quantity = Quantity { nanos };
            prop_assert_eq!(quantity.to_string().parse::<Quantity>(), Ok(quantity));
        }
    }
}
