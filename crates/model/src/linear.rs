//! The little linear algebra that whitening needs: small symmetric matrices in `f64`.

/// Sweeps of Jacobi's method; it converges quadratically, six to ten are usual.
const SWEEPS: usize = 60;

/// Eigenvalues and eigenvectors of a symmetric matrix: `matrix = Σ values[k] vectors[k] vectors[k]ᵀ`.
///
/// # Shapes
///
/// `matrix` is `(n, n)`, row-major; `vectors[k]` has `n` entries.
///
/// # Source
///
/// The cyclic Jacobi method, Golub, Van Loan: "Matrix Computations", section 8.5.
pub(crate) fn eigen(matrix: &[f64], n: usize) -> (Vec<f64>, Vec<Vec<f64>>) {
    let mut a = matrix.to_vec();
    let mut v = vec![0.0; n * n];
    (0..n).for_each(|it| v[it * n + it] = 1.0);
    let total: f64 = a.iter().map(|it| it * it).sum();
    for _ in 0..SWEEPS {
        let off: f64 =
            (0..n).flat_map(|p| (0..p).map(move |q| (p, q))).map(|(p, q)| a[p * n + q].powi(2)).sum();
        if off <= total * 1e-26 {
            break;
        }
        for p in 0..n {
            for q in p + 1..n {
                rotate(&mut a, &mut v, n, p, q);
            }
        }
    }
    let values = (0..n).map(|it| a[it * n + it]).collect();
    let vectors = (0..n).map(|k| (0..n).map(|row| v[row * n + k]).collect()).collect();
    (values, vectors)
}

fn rotate(a: &mut [f64], v: &mut [f64], n: usize, p: usize, q: usize) {
    let apq = a[p * n + q];
    if apq == 0.0 {
        return;
    }
    let theta = (a[q * n + q] - a[p * n + p]) / (2.0 * apq);
    let t = theta.signum() / (theta.abs() + theta.hypot(1.0));
    let c = 1.0 / t.hypot(1.0);
    let s = t * c;
    for k in 0..n {
        let (x, y) = (a[k * n + p], a[k * n + q]);
        (a[k * n + p], a[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
    for k in 0..n {
        let (x, y) = (a[p * n + k], a[q * n + k]);
        (a[p * n + k], a[q * n + k]) = (c * x - s * y, s * x + c * y);
        let (x, y) = (v[k * n + p], v[k * n + q]);
        (v[k * n + p], v[k * n + q]) = (c * x - s * y, s * x + c * y);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::random::Random;

    #[test]
    fn the_parts_make_the_matrix_again() {
        let n = 18;
        let mut random = Random::new(3);
        let b: Vec<f64> = (0..n * n).map(|_| f64::from(random.normal())).collect();
        let product = |i: usize, j: usize| (0..n).map(|k| b[i * n + k] * b[j * n + k]).sum::<f64>();
        let matrix: Vec<f64> = (0..n * n).map(|it| product(it / n, it % n)).collect();
        let (values, vectors) = eigen(&matrix, n);
        for i in 0..n {
            for j in 0..n {
                let again: f64 = (0..n).map(|k| values[k] * vectors[k][i] * vectors[k][j]).sum();
                assert!((again - matrix[i * n + j]).abs() < 1e-9);
                let dot: f64 = (0..n).map(|k| vectors[i][k] * vectors[j][k]).sum();
                assert!((dot - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }
}
