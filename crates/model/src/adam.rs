//! Parameters that learn, by Adam.

const BETA1: f32 = 0.9;
const BETA2: f32 = 0.999;
const EPSILON: f32 = 1e-8;

use crate::instructions::{Instructions, Task, multiply_add};

/// Numbers that learn, their gradient, and the moments of the gradients before.
#[derive(Debug, Clone, Default)]
pub(crate) struct Parameter {
    pub(crate) values: Vec<f32>,
    pub(crate) gradient: Vec<f32>,
    mean: Vec<f32>,
    square: Vec<f32>,
}

/// How far the next step goes.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Pace {
    steps: i32,
}

impl Pace {
    /// The rate of the next step, with Adam's correction for moments that began at 0.
    ///
    /// # Source
    ///
    /// Kingma, Ba: "Adam: A Method for Stochastic Optimization", 2015, algorithm 1.
    pub(crate) fn next(&mut self, learning_rate: f32) -> f32 {
        self.steps += 1;
        learning_rate * (1.0 - BETA2.powi(self.steps)).sqrt() / (1.0 - BETA1.powi(self.steps))
    }
}

impl Parameter {
    pub(crate) fn new(values: Vec<f32>) -> Self {
        let zeros = vec![0.0; values.len()];
        Self { values, gradient: zeros.clone(), mean: zeros.clone(), square: zeros }
    }

    /// One step against the gradient, which begins at 0 again.
    pub(crate) fn step(&mut self, rate: f32, instructions: Instructions) {
        instructions.run(Step { parameter: self, rate });
    }
}

struct Step<'a> {
    parameter: &'a mut Parameter,
    rate: f32,
}

impl Task for Step<'_> {
    #[inline(always)]
    fn run<const FMA: bool, const WIDE: bool>(self) {
        let Parameter { values, gradient, mean, square } = self.parameter;
        let moments = mean.iter_mut().zip(square.iter_mut());
        for ((value, gradient), (mean, square)) in values.iter_mut().zip(gradient).zip(moments) {
            *mean = multiply_add::<FMA>(BETA1, *mean, (1.0 - BETA1) * *gradient);
            *square = multiply_add::<FMA>(BETA2, *square, (1.0 - BETA2) * *gradient * *gradient);
            *value -= self.rate * *mean / (square.sqrt() + EPSILON);
            *gradient = 0.0;
        }
    }
}
