//! The functions between layers, as vector instructions compute them.

use crate::instructions::{Instructions, Task, multiply_add};

/// tanh of each value, in place.
pub(crate) fn tanh_all(values: &mut [f32], instructions: Instructions) {
    struct All<'a>(&'a mut [f32]);
    impl Task for All<'_> {
        #[inline(always)]
        fn run<const FMA: bool, const WIDE: bool>(self) {
            for value in self.0 {
                *value = tanh::<FMA>(*value);
            }
        }
    }
    instructions.run(All(values));
}

/// The logistic function, 1 / (1 + exp(−value)).
#[inline(always)]
pub(crate) fn sigmoid<const FMA: bool>(value: f32) -> f32 {
    multiply_add::<FMA>(0.5, tanh::<FMA>(value * 0.5), 0.5)
}

/// Hyperbolic tangent, a few units in the last place off.
///
/// # Source
///
/// The rational approximation of Eigen, `generic_fast_tanh_float` in `MathFunctionsImpl.h`: beyond the clamp tanh
/// rounds to ±1.
#[inline(always)]
#[expect(clippy::excessive_precision, reason = "the constants as the source has them")]
pub(crate) fn tanh<const FMA: bool>(value: f32) -> f32 {
    const CLAMP: f32 = 7.905_311_107_635_498;
    const ODD: [f32; 7] = [
        -2.760_768_477_423_55e-16,
        2.000_187_904_824_77e-13,
        -8.604_671_522_137_35e-11,
        5.122_297_090_371_14e-8,
        1.485_722_357_179_79e-5,
        6.372_619_288_754_36e-4,
        4.893_524_558_917_86e-3,
    ];
    const EVEN: [f32; 4] =
        [1.198_258_394_667_02e-6, 1.185_347_056_866_54e-4, 2.268_434_632_439_00e-3, 4.893_525_185_543_85e-3];
    let value = value.clamp(-CLAMP, CLAMP);
    let square = value * value;
    let mut odd = ODD[0];
    for coefficient in &ODD[1..] {
        odd = multiply_add::<FMA>(odd, square, *coefficient);
    }
    let mut even = EVEN[0];
    for coefficient in &EVEN[1..] {
        even = multiply_add::<FMA>(even, square, *coefficient);
    }
    value * odd / even
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tanh_is_close_to_the_library_everywhere() {
        for instructions in Instructions::available() {
            for input in (-20_000..=20_000).map(|it| it as f32 / 1000.0) {
                let mut output = [input];
                tanh_all(&mut output, instructions);
                assert!(
                    (output[0] - input.tanh()).abs() < 5e-7,
                    "{instructions:?}: tanh({input}) = {output:?}"
                );
            }
        }
    }
}
