//! A service's own figures, read from its metrics as any scraper would.

use telltale_service::Service;

/// Readings that the simulator handed to its sessions.
pub(crate) const PUBLISHED: &str = "readings_published_total";
/// Readings that the broker acknowledged to the simulator.
pub(crate) const ACKNOWLEDGED: &str = "readings_acknowledged_total";
/// Cars of the simulator that are connected.
pub(crate) const CONNECTED: &str = "cars_connected";

/// The value of the metric `name` of `service`, summed over its labels; `None` when it has none.
#[must_use]
pub(crate) fn value(service: &Service, name: &str) -> Option<f64> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &service.registry()).ok()?;
    sum(&text, &format!("telltale_{}_{name}", service.name()))
}

/// The value as a count.
#[must_use]
pub(crate) fn count(service: &Service, name: &str) -> u64 {
    value(service, name).filter(|it| *it >= 0.0).map_or(0, |it| it as u64)
}

fn sum(text: &str, name: &str) -> Option<f64> {
    let values = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let value = if let Some(labels) = rest.strip_prefix('{') { labels.rsplit_once('}')?.1 } else { rest };
        value.starts_with(' ').then(|| value.trim().parse::<f64>().ok()).flatten()
    });
    values.fold(None, |sum, it| Some(sum.unwrap_or(0.0) + it))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_summed_and_longer_names_are_others() {
        let text = "# HELP a x\na_total 3\na_total_more 5\nb{l=\"x y}\"} 1.5\nb{l=\"z\"} 2\n# EOF\n";
        assert_eq!(sum(text, "a_total"), Some(3.0));
        assert_eq!(sum(text, "b"), Some(3.5));
        assert_eq!(sum(text, "c"), None);
    }
}
