//! The contract while everything dies: a short soak with a fixed seed. `make soak` runs longer ones.

use telltale_testkit::soak::{Settings, run};
use tokio_util::sync::CancellationToken;

#[test]
fn nothing_is_lost_or_doubled_while_everything_dies() {
    let settings =
        Settings::of_test(env!("CARGO_BIN_EXE_telltale"), concat!(env!("CARGO_TARGET_TMPDIR"), "/soak"));
    let report = run(&settings, &CancellationToken::new()).unwrap();
    assert!(report.violations.is_empty(), "{report}");
    assert!(report.count.acknowledged > 1000, "{report}");
    assert_eq!(report.count.lost + report.count.moved, 0, "{report}");
    for (kind, faults) in &report.faults {
        assert_eq!(faults.recovered, faults.count, "{kind}: {report}");
    }
}
