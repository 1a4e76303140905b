//! Which vector instructions this machine has, and the one place where code compiled for them is entered.
//!
//! The code is plain arrays that the compiler turns into vector instructions, compiled three times (portable, AVX2 +
//! FMA, AVX-512) and chosen at run time. Everything below an entry point is an `#[inline(always)]` function: a
//! closure or a call would be compiled without the wider instructions.

/// Which vector instructions are used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Instructions {
    /// What every machine has.
    Portable,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F.
    Avx512,
}

/// Work that is compiled for each kind of instructions.
pub(crate) trait Task {
    /// Does the work. `FMA`: multiply and add in one step; `WIDE`: there are registers for twice as many sums.
    ///
    /// Must be `#[inline(always)]`, with all that it calls.
    fn run<const FMA: bool, const WIDE: bool>(self);
}

impl Instructions {
    /// The widest that this machine has.
    #[must_use]
    pub fn detect() -> Self {
        #[cfg(target_arch = "x86_64")]
        {
            if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx512f") {
                return Self::Avx512;
            }
            if is_x86_feature_detected!("fma") && is_x86_feature_detected!("avx2") {
                return Self::Avx2;
            }
        }
        Self::Portable
    }

    /// All that this machine has, widest last.
    #[must_use]
    pub fn available() -> Vec<Self> {
        let all = [Self::Portable, Self::Avx2, Self::Avx512];
        all.into_iter().filter(|it| *it <= Self::detect()).collect()
    }

    /// Does `task` with these instructions, or with the widest that there are if they are fewer.
    pub(crate) fn run(self, task: impl Task) {
        match self.min(Self::detect()) {
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => {
                #[expect(unsafe_code, reason = "a function compiled for AVX-512")]
                // SAFETY: `min` with what was detected.
                unsafe {
                    avx512(task);
                }
            }
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => {
                #[expect(unsafe_code, reason = "a function compiled for AVX2 and FMA")]
                // SAFETY: `min` with what was detected.
                unsafe {
                    avx2(task);
                }
            }
            _ => task.run::<false, false>(),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,fma")]
fn avx512(task: impl Task) {
    task.run::<true, true>();
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn avx2(task: impl Task) {
    task.run::<true, false>();
}

#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}
