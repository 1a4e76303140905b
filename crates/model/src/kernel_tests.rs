use super::*;
use crate::random::Random;
use crate::reference::{self, network};
use proptest::prelude::*;

fn scores(kernel: &Kernel, inputs: &[f32], features: usize) -> (Vec<f32>, Vec<[Share; TOP]>) {
    let rows = inputs.len() / features;
    let (mut scores, mut top) = (vec![0.0; rows], vec![[Share::default(); TOP]; rows]);
    kernel.run(inputs, &mut Scratch::default(), &mut Results::Scores(&mut scores, &mut top));
    (scores, top)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// The fused pass computes what candle computes, whichever instructions it uses.
    #[test]
    fn the_fused_pass_equals_candle(
        features in 2..40_usize,
        hidden in prop::collection::vec(1..40_usize, 1..4),
        rows in 1..60_usize,
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let network = network(features, &hidden, &mut random);
        let inputs: Vec<f32> = (0..rows * features).map(|_| random.normal() * 2.0).collect();
        let candle = reference::reconstruct(&network, &inputs).unwrap();
        let unused = Dense { inputs: features, outputs: 0, weights: vec![], bias: vec![] };
        for instructions in Instructions::available() {
            let kernel = Kernel::new(&network, &unused, instructions);
            let mut residuals = vec![0.0; inputs.len()];
            kernel.run(&inputs, &mut Scratch::default(), &mut Results::Residuals(&mut residuals));
            for ((input, candle), residual) in inputs.iter().zip(&candle).zip(&residuals) {
                let (expected, scale) = (input - candle, 1.0 + candle.abs());
                prop_assert!((residual - expected).abs() < 2e-4 * scale, "{instructions:?}: {residual} {expected}");
            }
        }
    }

    /// Scores are candle's, also where values are missing.
    #[test]
    fn scores_equal_candles(
        features in 2..30_usize,
        rows in 1..40_usize,
        missing in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        seed in any::<u64>(),
    ) {
        let mut random = Random::new(seed);
        let network = network(features, &[11, 5], &mut random);
        let mut draw = |count: usize| (0..count).map(|_| random.normal()).collect::<Vec<_>>();
        let (weights, bias) = (draw(features * features), draw(features));
        let whitening = Dense { inputs: features, outputs: features, weights, bias };
        let mut inputs = draw(rows * features);
        // The first feature is never missing: a row of nothing has no score.
        let holes = missing.iter().map(|it| it.index(rows * features)).filter(|it| it % features != 0);
        holes.for_each(|it| inputs[it] = f32::NAN);
        let expected = reference::scores(&network, &whitening, &inputs).unwrap();
        for instructions in Instructions::available() {
            let (found, _) = scores(&Kernel::new(&network, &whitening, instructions), &inputs, features);
            for (found, expected) in found.iter().zip(&expected) {
                prop_assert!((found - expected).abs() < 1e-3 * (1.0 + expected), "{instructions:?}: {found} {expected}");
            }
        }
    }

    /// A batch scores as its rows would one by one, bit for bit; a missing value contributes nothing.
    #[test]
    fn a_batch_scores_as_its_rows_one_by_one(
        rows in 1..50_usize,
        missing in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
        seed in any::<u64>(),
    ) {
        let features = 7;
        let mut random = Random::new(seed);
        let network = network(features, &[9, 3], &mut random);
        let weights = (0..features * features).map(|_| random.normal()).collect();
        let whitening = Dense { inputs: features, outputs: features, weights, bias: vec![0.1; features] };
        let mut inputs: Vec<f32> = (0..rows * features).map(|_| random.normal() * 3.0).collect();
        missing.iter().for_each(|it| inputs[it.index(rows * features)] = f32::NAN);
        for instructions in Instructions::available() {
            let kernel = Kernel::new(&network, &whitening, instructions);
            let (batch, top) = scores(&kernel, &inputs, features);
            for (row, input) in inputs.chunks_exact(features).enumerate() {
                let (single, single_top) = scores(&kernel, input, features);
                prop_assert_eq!(batch[row].to_bits(), single[0].to_bits());
                prop_assert_eq!(top[row], single_top[0]);
                prop_assert!(batch[row].is_finite() && batch[row] >= 0.0);
                let shares = top[row].map(|it| it.share);
                prop_assert!(shares[0] >= shares[1] && shares[1] >= shares[2] && shares.iter().sum::<f32>() < 1.001);
                for it in top[row].iter().filter(|it| it.share > 0.0) {
                    prop_assert!(!input[it.feature as usize].is_nan(), "a missing value is no evidence");
                }
            }
        }
    }
}

/// What a score is depends on whether multiply-adds are fused, and on nothing else of a machine: a prediction can be recomputed
/// bit for bit on any.
#[test]
fn there_are_two_roundings_and_each_machine_can_compute_both() {
    let features = 18;
    let mut random = Random::new(5);
    let network = network(features, &[12, 7], &mut random);
    let weights = (0..features * features).map(|_| random.normal()).collect();
    let whitening = Dense { inputs: features, outputs: features, weights, bias: vec![0.1; features] };
    let inputs: Vec<f32> = (0..1000 * features).map(|_| random.normal() * 2.0).collect();
    let bits = |kernel: &Kernel| {
        let (found, top) = scores(kernel, &inputs, features);
        let shares = top.iter().flatten().map(|it| (it.feature, it.share.to_bits()));
        (found.iter().map(|it| it.to_bits()).collect::<Vec<_>>(), shares.collect::<Vec<_>>())
    };
    let kernels = Instructions::available().into_iter().map(|it| Kernel::new(&network, &whitening, it));
    let kernels: Vec<Kernel> = kernels.collect();
    let (plain, fused) = (&kernels[0], kernels[0].other_rounding());
    assert_ne!(bits(plain), bits(&fused), "else there is one rounding, and nothing to tell apart");
    for wide in &kernels[1..] {
        assert_eq!(bits(wide), bits(&fused), "{:?}", wide.instructions);
        assert_eq!(bits(&wide.other_rounding()), bits(plain), "{:?}", wide.instructions);
    }
}

#[test]
fn scores_that_differ_from_candles_are_told() {
    let mut random = Random::new(3);
    let network = network(5, &[4], &mut random);
    let weights = (0..25).map(|_| random.normal()).collect();
    let whitening = Dense { inputs: 5, outputs: 5, weights, bias: vec![0.1; 5] };
    let inputs: Vec<f32> = (0..3 * 5).map(|_| random.normal()).collect();
    let (mut found, _) = scores(&Kernel::new(&network, &whitening, Instructions::detect()), &inputs, 5);
    assert_eq!(reference::confirm(&network, &whitening, &inputs, &found), Ok(()));
    found[1] += 0.1 * (1.0 + found[1]);
    let problem = reference::confirm(&network, &whitening, &inputs, &found).unwrap_err();
    assert!(problem.starts_with("golden row 1 scores "), "{problem}");
}

#[test]
fn a_score_is_the_mean_of_its_squared_units_and_shares_say_which() {
    let linear = Dense { inputs: 4, outputs: 4, weights: vec![0.0; 16], bias: vec![0.0; 4] };
    let mut identity = linear.clone();
    (0..4).for_each(|it| identity.weights[it * 5] = 1.0);
    let kernel = Kernel::new(&Network::linear(linear), &identity, Instructions::detect());
    let (found, top) = scores(&kernel, &[1.0, -3.0, 0.0, 2.0, 1.0, f32::NAN, 1.0, 1.0], 4);
    assert_eq!(found, [14.0 / 4.0, 1.0]);
    assert_eq!(top[0].map(|it| it.feature), [1, 3, 0]);
    assert_eq!(top[0].map(|it| it.share), [9.0 / 14.0, 4.0 / 14.0, 1.0 / 14.0]);
}

#[test]
fn a_missing_value_leaves_no_residual_for_other_features_to_see() {
    let linear = Dense { inputs: 2, outputs: 2, weights: vec![0.0; 4], bias: vec![0.0, 5.0] };
    let sum = Dense { inputs: 2, outputs: 2, weights: vec![1.0, 1.0, 0.0, 1.0], bias: vec![0.0; 2] };
    let kernel = Kernel::new(&Network::linear(linear), &sum, Instructions::detect());
    let (found, _) = scores(&kernel, &[1.0, f32::NAN, 1.0, 5.0], 2);
    assert_eq!(found, [1.0, 0.5]);
}
