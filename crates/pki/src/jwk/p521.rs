//! Checks ECDSA signatures on the curve P-521 with SHA-512, which ring does not (FIPS 186-5, 6.4.2; SP 800-186, 3.2.1.5).
//! Everything here is public, so nothing has to take constant time.

use std::sync::LazyLock;

use num_bigint::BigUint;
use ring::digest;

/// Bytes of a coordinate, and of each half of a signature.
const SIZE: usize = 66;

/// A point of the curve, affine.
#[derive(Clone, Debug, PartialEq)]
pub struct Point {
    x: BigUint,
    y: BigUint,
}

/// The curve y² = x³ - 3x + b over the field of p.
struct Curve {
    p: BigUint,
    b: BigUint,
    /// The order of the base point.
    n: BigUint,
    base: Point,
}

/// X/Z², Y/Z³; Z is 0 for the point at infinity.
#[derive(Clone)]
struct Jacobian {
    x: BigUint,
    y: BigUint,
    z: BigUint,
}

static CURVE: LazyLock<Curve> = LazyLock::new(|| {
    let hex = |text: &[u8]| BigUint::parse_bytes(text, 16).expect("the constants are hexadecimal");
    Curve {
        p: (BigUint::from(1_u8) << 521_u32) - 1_u8,
        b: hex(b"051953eb9618e1c9a1f929a21a0b68540eea2da725b99b315f3b8b489918ef109e156193951ec7e937b1652c0bd3bb1bf073573df883d2c34f1ef451fd46b503f00"),
        n: hex(b"1fffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffa51868783bf2f966b7fcc0148f709a5d03bb5c9b8899c47aebb6fb71e91386409"),
        base: Point {
            x: hex(b"0c6858e06b70404e9cd9e3ecb662395b4429c648139053fb521f828af606b4d3dbaa14b5e77efe75928fe1dc127a2ffa8de3348b3c1856a429bf97e7e31c2e5bd66"),
            y: hex(b"11839296a789a3bc0045c8a5fb42c7d1bd998f54449579b446817afbd17273e662c97ee72995ef42640c550b9013fad0761353c7086a272c24088be94769fd16650"),
        },
    }
});

// === Point ===

impl Point {
    /// The point of two coordinates; `None` unless it is on the curve.
    pub fn parse(x: &[u8], y: &[u8]) -> Option<Self> {
        let c = &*CURVE;
        let (x, y) = (BigUint::from_bytes_be(x), BigUint::from_bytes_be(y));
        if x >= c.p || y >= c.p {
            return None;
        }
        let right = (&x * &x * &x + &c.b + (&c.p - &x % &c.p) * 3_u8) % &c.p;
        (&y * &y % &c.p == right).then_some(Self { x, y })
    }

    /// Whether the signature, both halves one after the other, is this key's of the message.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        let c = &*CURVE;
        if signature.len() != 2 * SIZE {
            return false;
        }
        let r = BigUint::from_bytes_be(&signature[..SIZE]);
        let s = BigUint::from_bytes_be(&signature[SIZE..]);
        let zero = BigUint::ZERO;
        if r == zero || s == zero || r >= c.n || s >= c.n {
            return false;
        }
        // SHA-512 is shorter than the order, so no bit of it is cut off.
        let hash = digest::digest(&digest::SHA512, message);
        let hash = BigUint::from_bytes_be(hash.as_ref());
        let Some(inverse) = s.modinv(&c.n) else {
            return false;
        };
        let (u, v) = (hash * &inverse % &c.n, &r * &inverse % &c.n);
        match c.sum_of_products(&u, &v, self) {
            Some(x) => x % &c.n == r,
            None => false,
        }
    }
}

// === Curve ===

impl Curve {
    fn minus(&self, a: &BigUint, b: &BigUint) -> BigUint {
        (a + &self.p - b) % &self.p
    }

    /// The first coordinate of u·base + v·key; `None` at infinity.
    fn sum_of_products(&self, u: &BigUint, v: &BigUint, key: &Point) -> Option<BigUint> {
        let of = |p: &Point| Jacobian {
            x: p.x.clone(),
            y: p.y.clone(),
            z: BigUint::from(1_u8),
        };
        let (base, key) = (of(&self.base), of(key));
        let both = self.plus(&base, &key);
        let mut sum = Jacobian {
            x: BigUint::from(1_u8),
            y: BigUint::from(1_u8),
            z: BigUint::ZERO,
        };
        for bit in (0..u.bits().max(v.bits())).rev() {
            sum = self.twice(&sum);
            match (u.bit(bit), v.bit(bit)) {
                (true, true) => sum = self.plus(&sum, &both),
                (true, false) => sum = self.plus(&sum, &base),
                (false, true) => sum = self.plus(&sum, &key),
                (false, false) => {}
            }
        }
        let inverse = sum.z.modinv(&self.p)?;
        Some(&inverse * &inverse % &self.p * sum.x % &self.p)
    }

    fn twice(&self, a: &Jacobian) -> Jacobian {
        let p = &self.p;
        let squared = &a.z * &a.z % p;
        // 3x² - 3z⁴ for a curve with a = -3.
        let slope = (self.minus(&a.x, &squared) * (&a.x + &squared) * 3_u8) % p;
        let y = &a.y * &a.y % p;
        let four = &a.x * &y * 4_u8 % p;
        let x = self.minus(&(&slope * &slope % p), &(&four * 2_u8 % p));
        let eight = &y * &y * 8_u8 % p;
        Jacobian {
            y: self.minus(&(slope * self.minus(&four, &x) % p), &eight),
            z: &a.y * &a.z * 2_u8 % p,
            x,
        }
    }

    fn plus(&self, a: &Jacobian, b: &Jacobian) -> Jacobian {
        let p = &self.p;
        if a.z == BigUint::ZERO {
            return b.clone();
        }
        if b.z == BigUint::ZERO {
            return a.clone();
        }
        let (za, zb) = (&a.z * &a.z % p, &b.z * &b.z % p);
        let (xa, xb) = (&a.x * &zb % p, &b.x * &za % p);
        let (ya, yb) = (&a.y * &b.z % p * &zb % p, &b.y * &a.z % p * &za % p);
        let (h, r) = (self.minus(&xb, &xa), self.minus(&yb, &ya));
        if h == BigUint::ZERO {
            if r == BigUint::ZERO {
                return self.twice(a);
            }
            return Jacobian {
                x: BigUint::from(1_u8),
                y: BigUint::from(1_u8),
                z: BigUint::ZERO,
            };
        }
        let hh = &h * &h % p;
        let hhh = &h * &hh % p;
        let v = xa * hh % p;
        let x = self.minus(&self.minus(&(&r * &r % p), &hhh), &(&v * 2_u8 % p));
        Jacobian {
            y: self.minus(&(r * self.minus(&v, &x) % p), &(ya * hhh % p)),
            z: h * &a.z % p * &b.z % p,
            x,
        }
    }
}
