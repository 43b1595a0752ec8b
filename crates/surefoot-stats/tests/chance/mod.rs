//! Seeded chance: the same numbers every time.

use surefoot_stats::Arm;

/// SplitMix64.
pub struct Chance(pub u64);

impl Chance {
    #[expect(clippy::cast_precision_loss, reason = "53 bits are exact")]
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((z ^ (z >> 31)) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Failures among `n` requests: skips from one to the next.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
    pub fn arm(&mut self, n: u64, p: f64) -> Arm {
        let (mut k, mut at) = (0, 0_u64);
        loop {
            at = at.saturating_add((self.uniform().ln() / (-p).ln_1p()) as u64 + 1);
            if at > n {
                return Arm::new(n, k).unwrap();
            }
            k += 1;
        }
    }
}
