//! Makes RSA keys, which ring does not: two random primes (FIPS 186-5, A.1.3) and what follows from them.
//! ring checks the whole key again when it reads it.

use num_bigint::BigUint;
use ring::rand::{SecureRandom, SystemRandom};

use crate::key::tlv;

const EXPONENT: u32 = 65_537;
/// Rounds of Miller-Rabin: FIPS 186-5 asks for 4 at these sizes, Go makes 20.
const ROUNDS: usize = 20;
/// Candidates are divided by primes below this first.
const SMALL: u32 = 4000;

/// A key of so many bits as PKCS#1 DER; `None` where the system has no randomness.
pub fn generate(bits: usize) -> Option<Vec<u8>> {
    let random = SystemRandom::new();
    let small = small_primes();
    let one = BigUint::from(1_u8);
    let e = BigUint::from(EXPONENT);
    let p = prime(bits / 2, &small, &random)?;
    let q = loop {
        let q = prime(bits / 2, &small, &random)?;
        // Far enough apart that nobody finds them from their middle.
        let apart = if p > q { &p - &q } else { &q - &p };
        if apart.bits() > (bits / 2 - 100) as u64 {
            break q;
        }
    };
    let (p, q) = if p > q { (p, q) } else { (q, p) };
    let (p1, q1) = (&p - &one, &q - &one);
    let phi = &p1 * &q1;
    let d = e.modinv(&phi)?;
    let numbers = [
        BigUint::from(0_u8),
        &p * &q,
        e,
        d.clone(),
        p.clone(),
        q.clone(),
        &d % &p1,
        &d % &q1,
        q.modinv(&p)?,
    ];
    let mut body = Vec::new();
    for number in &numbers {
        integer(number, &mut body);
    }
    let mut out = Vec::new();
    tlv(0x30, &body, &mut out);
    Some(out)
}

/// A DER INTEGER, which is never negative here.
fn integer(number: &BigUint, out: &mut Vec<u8>) {
    let mut bytes = number.to_bytes_be();
    if bytes.first().is_none_or(|b| b & 0x80 != 0) {
        bytes.insert(0, 0);
    }
    tlv(0x02, &bytes, out);
}

fn small_primes() -> Vec<u32> {
    let mut found: Vec<u32> = Vec::new();
    for n in (3..SMALL).step_by(2) {
        if found
            .iter()
            .take_while(|p| *p * *p <= n)
            .all(|p| n % p != 0)
        {
            found.push(n);
        }
    }
    found
}

/// A random prime whose two highest bits are set and that is not 1 modulo the exponent.
fn prime(bits: usize, small: &[u32], random: &SystemRandom) -> Option<BigUint> {
    loop {
        let mut bytes = vec![0_u8; bits / 8];
        random.fill(&mut bytes).ok()?;
        *bytes.first_mut()? |= 0xc0;
        *bytes.last_mut()? |= 1;
        let n = BigUint::from_bytes_be(&bytes);
        let zero = BigUint::from(0_u8);
        let fits = small.iter().all(|p| &n % *p != zero)
            && &n % EXPONENT != BigUint::from(1_u8)
            && is_prime(&n, random)?;
        if fits {
            return Some(n);
        }
    }
}

/// Miller-Rabin with random bases.
fn is_prime(n: &BigUint, random: &SystemRandom) -> Option<bool> {
    let one = BigUint::from(1_u8);
    let last = n - &one;
    let twos = last.trailing_zeros()?;
    let odd = &last >> twos;
    let mut bytes = vec![0_u8; n.to_bytes_be().len()];
    for _ in 0..ROUNDS {
        random.fill(&mut bytes).ok()?;
        let base = BigUint::from_bytes_be(&bytes) % (&last - &one) + &one + &one;
        let base = if base >= last {
            BigUint::from(2_u8)
        } else {
            base
        };
        let mut x = base.modpow(&odd, n);
        if x == one || x == last {
            continue;
        }
        let mut composite = true;
        for _ in 1..twos {
            x = &x * &x % n;
            if x == last {
                composite = false;
                break;
            }
        }
        if composite {
            return Some(false);
        }
    }
    Some(true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn primes_are_told_from_others() {
        let random = SystemRandom::new();
        let is = |text: &str| is_prime(&text.parse().unwrap(), &random).unwrap();
        // 2^127 - 1, and a product of two primes.
        assert!(is("170141183460469231731687303715884105727"));
        assert!(!is("170141183460469231731687303715884105729"));
        assert!(!is("1000036000099"));
    }

    #[test]
    fn ring_takes_the_key() {
        // 2048 bits, the least that ring takes, to be quick.
        let der = generate(2048).unwrap();
        ring::signature::RsaKeyPair::from_der(&der).unwrap();
    }
}
