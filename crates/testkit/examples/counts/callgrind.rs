//! Runs a loop under callgrind and reads what it counted.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, ensure};

/// Which variants of `memcpy` and the like the C library takes: those for AVX2, without the instruction that copies any number
/// of bytes at once, which not every CPU is said to be fast at. Fixed, as it is chosen by the CPU that callgrind shows.
const TUNABLES: &str = "glibc.cpu.hwcaps=-AVX512F,-AVX512VL,-ERMS,-FSRM";

/// Instructions a record of loop `name`.
pub(crate) fn count(valgrind: &Path, folder: &Path, name: &str) -> Result<f64> {
    let file = folder.join(format!("{name}.callgrind"));
    let program = std::env::current_exe().context("finding this program")?;
    let output = Command::new(valgrind)
        .args(["--tool=callgrind", "--quiet", "--toggle-collect=*counted_by_callgrind*"])
        .arg(format!("--callgrind-out-file={}", file.display()))
        .arg(program)
        .args(["run", name])
        // The environment lies on the stack: its length would move what is counted, if only by a little.
        .env_clear()
        .envs(["PATH", "VALGRIND_LIB"].iter().filter_map(|it| Some((it, std::env::var_os(it)?))))
        .env("GLIBC_TUNABLES", TUNABLES)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("running {}: deploy/check/tools.sh installs it", valgrind.display()))?;
    ensure!(output.status.success(), "{name}: valgrind ended with {}", output.status);
    let said = String::from_utf8_lossy(&output.stdout);
    let records: f64 = said.trim().parse().with_context(|| format!("{name} said {said:?}"))?;
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {}", file.display()))?;
    let instructions = total(&text).with_context(|| format!("{} has no total", file.display()))?;
    ensure!(instructions > 0, "{name}: callgrind has not seen the function that is counted");
    Ok(instructions as f64 / records)
}

/// Instructions of a profile.
fn total(profile: &str) -> Option<u64> {
    let line = profile.lines().find_map(|it| it.strip_prefix("totals:").or(it.strip_prefix("summary:")))?;
    line.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_profile_says_its_total() {
        assert_eq!(total("# callgrind format\nevents: Ir\nfn=(1) main\n12 34\ntotals: 1234\n"), Some(1234));
        assert_eq!(total("summary: 7\n"), Some(7));
        assert_eq!(total("events: Ir\n"), None);
        assert_eq!(total("totals: many\n"), None);
    }
}
