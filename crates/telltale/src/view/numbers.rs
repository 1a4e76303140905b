//! Numbers as people read them.

use std::time::Duration;

/// Groups the digits by three: `1,234,567`.
#[must_use]
pub fn grouped(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate a second: one decimal below ten, none above.
#[must_use]
pub fn rate(value: f64) -> String {
    if value < 9.95 { format!("{value:.1}") } else { grouped(value.round() as u64) }
}

/// Minutes and seconds, with hours where there are any: `1:05`, `2:00:09`.
#[must_use]
pub fn clock(duration: Duration) -> String {
    let seconds = duration.as_secs();
    let (hours, minutes, seconds) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    if hours > 0 { format!("{hours}:{minutes:02}:{seconds:02}") } else { format!("{minutes}:{seconds:02}") }
}

/// Four significant digits, without an exponent where that is short.
#[must_use]
pub fn figure(value: f64) -> String {
    let magnitude = value.abs();
    if magnitude == 0.0 {
        "0".to_owned()
    } else if !(0.000_1..1e7).contains(&magnitude) {
        format!("{value:.2e}")
    } else if magnitude >= 1000.0 {
        format!("{value:.0}")
    } else {
        let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 7) as usize;
        format!("{value:.decimals$}")
    }
}

/// A share in whole percent.
#[must_use]
pub fn whole_percent(share: f64) -> String {
    format!("{:.0} %", share * 100.0)
}

/// A share in percent, with decimals where it is small.
#[must_use]
pub fn percent(share: f64) -> String {
    let percent = share * 100.0;
    if percent >= 10.0 || percent == 0.0 { format!("{percent:.0} %") } else { format!("{percent:.2} %") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        for (value, text) in [(0, "0"), (999, "999"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(grouped(value), text);
        }
        for (value, text) in [(0.0, "0.0"), (9.94, "9.9"), (9.99, "10"), (12_345.6, "12,346")] {
            assert_eq!(rate(value), text);
        }
        for (seconds, text) in [(5, "0:05"), (65, "1:05"), (7209, "2:00:09")] {
            assert_eq!(clock(Duration::from_secs(seconds)), text);
        }
        for (value, text) in [
            (0.0, "0"),
            (1.0, "1.000"),
            (0.012_345, "0.01235"),
            (123.46, "123.5"),
            (98_765.4, "98765"),
            (1e-7, "1.00e-7"),
        ] {
            assert_eq!(figure(value), text);
        }
        assert_eq!(whole_percent(0.0749), "7 %");
        for (value, text) in [(0.0, "0 %"), (0.001_23, "0.12 %"), (0.615, "62 %")] {
            assert_eq!(percent(value), text);
        }
    }
}
