//! How a server's seats are shared out among its priority levels, and lent from one to another.
//! Upstream: flowcontrol/apf_controller.go (updateBorrowingLocked) and conc_alloc.go.

use super::demand::Seen;

/// How much of a smoothed demand stays from one period to the next.
const SMOOTHING: f64 = 0.977;
/// Least target, so that nothing is divided by zero.
const TARGET_MIN: f64 = 0.001;

/// What a level's object says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    pub shares: u32,
    pub lendable_percent: u32,
    pub borrowing_percent: Option<u32>,
}

/// The bounds that follow from it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub nominal: usize,
    pub lower: usize,
    pub upper: usize,
}

/// A level's demand, smoothed over periods.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Smoothed {
    pub seen: Seen,
    pub smoothed: f64,
}

/// One level in the sharing.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub exempt: bool,
    pub limits: Limits,
    pub demand: Smoothed,
}

/// The seats each level has from now on.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Allocation {
    pub seats: Vec<usize>,
    pub targets: Vec<f64>,
    pub fair_fraction: f64,
}

impl Smoothed {
    /// The demand after another period.
    pub fn after(self, seen: Seen) -> Self {
        let envelope = seen.average + seen.deviation;
        let faded = SMOOTHING * self.smoothed + (1.0 - SMOOTHING) * envelope;
        Self {
            seen,
            smoothed: envelope.max(faded),
        }
    }
}

/// The bounds of each level.
pub fn limits(total: usize, all: &[Shares]) -> Vec<Limits> {
    let sum: u64 = all.iter().map(|s| u64::from(s.shares)).sum();
    let percent = |of: usize, p: u32| (of as f64 * f64::from(p) / 100.0).round() as usize;
    let one = |s: &Shares| {
        let part = total as f64 * f64::from(s.shares) / sum.max(1) as f64;
        let nominal = part.ceil() as usize;
        let lends = percent(nominal, s.lendable_percent);
        let borrows = s.borrowing_percent.map_or(total, |p| percent(nominal, p));
        Limits {
            nominal,
            lower: nominal.saturating_sub(lends),
            upper: nominal + borrows,
        }
    };
    all.iter().map(one).collect()
}

/// Most seats of one request in a level.
pub fn widest(nominal: usize, hand: Option<usize>) -> usize {
    let Some(hand) = hand else { return 0 };
    let part = (0.15 * nominal as f64).ceil() as usize;
    part.min(nominal / hand.max(1)).max(1)
}

/// Shares out the seats by demand.
pub fn allocate(claims: &[Claim]) -> Allocation {
    let total: usize = claims.iter().map(|c| c.limits.nominal).sum();
    let high = |c: &Claim| c.demand.seen.high.round() as usize;
    let floor = |c: &Claim| match c.exempt {
        true => c.limits.lower.max(high(c)),
        false => c.limits.lower.max(c.limits.nominal.min(high(c))),
    };
    let floors: Vec<usize> = claims.iter().map(floor).collect();
    let of = |exempt: bool| {
        let zipped = claims.iter().zip(&floors);
        zipped.filter(move |(c, _)| c.exempt == exempt)
    };
    let taken: usize = of(true).map(|(_, f)| *f).sum();
    let remaining = total.saturating_sub(taken);
    let lowest: usize = of(false).map(|(c, _)| c.limits.lower).sum();
    let low: usize = of(false).map(|(_, f)| *f).sum();
    let target = |(c, f): (&Claim, &usize)| (*f as f64).max(c.demand.smoothed);
    let mut out = Allocation {
        seats: floors.clone(),
        targets: claims.iter().zip(&floors).map(target).collect(),
        fair_fraction: 0.0,
    };
    let each = claims.iter().zip(&floors).zip(&mut out.seats);
    if remaining <= lowest {
        each.filter(|((c, _), _)| !c.exempt)
            .for_each(|((c, _), seats)| *seats = c.limits.lower);
        return out;
    }
    if remaining <= low {
        let part = (remaining - lowest) as f64 / (low - lowest).max(1) as f64;
        for ((c, f), seats) in each.filter(|((c, _), _)| !c.exempt) {
            let more = (*f - c.limits.lower) as f64 * part;
            *seats = c.limits.lower + more.round() as usize;
        }
        return out;
    }
    let bounds: Vec<Bounds> = of(false)
        .map(|(c, f)| Bounds {
            target: (*f as f64).max(c.demand.smoothed).max(TARGET_MIN),
            lower: *f as f64,
            upper: (c.limits.upper as f64).max(*f as f64),
        })
        .collect();
    out.fair_fraction = fair_fraction(total as f64, &bounds);
    let mut parts = bounds.iter().map(|b| b.at(out.fair_fraction));
    for ((_, _), seats) in each.filter(|((c, _), _)| !c.exempt) {
        *seats = parts.next().unwrap_or(0.0).round() as usize;
    }
    out
}

struct Bounds {
    target: f64,
    lower: f64,
    upper: f64,
}

impl Bounds {
    fn at(&self, fraction: f64) -> f64 {
        (fraction * self.target).max(self.lower).min(self.upper)
    }
}

/// The fraction of every target, within its bounds, that adds up to a sum; the nearest where none does.
/// The sum grows with the fraction and bends only where a bound is met.
fn fair_fraction(sum: f64, all: &[Bounds]) -> f64 {
    let at = |f: f64| all.iter().map(|b| b.at(f)).sum::<f64>();
    let mut bends: Vec<f64> = all
        .iter()
        .flat_map(|b| [b.lower / b.target, b.upper / b.target])
        .collect();
    bends.sort_by(f64::total_cmp);
    let (Some(first), Some(last)) = (bends.first(), bends.last()) else {
        return 0.0;
    };
    if at(*first) >= sum {
        return *first;
    }
    if at(*last) <= sum {
        return *last;
    }
    for pair in bends.windows(2) {
        let (from, to) = (pair[0], pair[1]);
        let (low, high) = (at(from), at(to));
        if high >= sum {
            let part = if high > low {
                (sum - low) / (high - low)
            } else {
                0.0
            };
            return from + (to - from) * part;
        }
    }
    *last
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEFAULTS: [(u32, u32); 8] = [
        (0, 0),
        (5, 0),
        (30, 33),
        (40, 25),
        (10, 0),
        (40, 50),
        (100, 90),
        (20, 50),
    ];

    fn shares() -> Vec<Shares> {
        let one = |(shares, lendable_percent)| Shares {
            shares,
            lendable_percent,
            borrowing_percent: None,
        };
        DEFAULTS.into_iter().map(one).collect()
    }

    fn claims(high: &[f64]) -> Vec<Claim> {
        let all = limits(600, &shares());
        let one = |(i, limits): (usize, Limits)| Claim {
            exempt: i == 0,
            limits,
            demand: Smoothed::default().after(Seen {
                average: high[i],
                deviation: 0.0,
                high: high[i],
            }),
        };
        all.into_iter().enumerate().map(one).collect()
    }

    #[test]
    fn the_default_levels_have_upstreams_seats() {
        let all = limits(600, &shares());
        let nominal: Vec<usize> = all.iter().map(|l| l.nominal).collect();
        assert_eq!(nominal, [0, 13, 74, 98, 25, 98, 245, 49]);
        let lower: Vec<usize> = all.iter().map(|l| l.lower).collect();
        assert_eq!(lower, [0, 13, 50, 73, 25, 49, 24, 24]);
        assert_eq!(all[1].upper, 613);
        assert_eq!(widest(98, Some(6)), 15);
        assert_eq!(widest(13, None), 0);
        assert_eq!(widest(3, Some(6)), 1);
    }

    #[test]
    fn seats_go_where_they_are_wanted_and_their_owners_keep_their_lower_bound() {
        let total: usize = limits(600, &shares()).iter().map(|l| l.nominal).sum();
        let calm = allocate(&claims(&[0.0; 8]));
        let sum: usize = calm.seats.iter().sum();
        assert!(sum.abs_diff(total) <= 8, "{calm:?}");
        let busy = allocate(&claims(&[0.0, 0.0, 0.0, 0.0, 0.0, 900.0, 0.0, 0.0]));
        assert!(busy.seats[5] > 300, "{busy:?}");
        for (seats, claim) in busy.seats.iter().zip(claims(&[0.0; 8])) {
            assert!(*seats >= claim.limits.lower, "{busy:?}");
        }
        let sum: usize = busy.seats.iter().sum();
        assert!(sum.abs_diff(total) <= 8, "{busy:?}");
    }

    #[test]
    fn exempt_requests_take_their_seats_first() {
        let loaded = allocate(&claims(&[590.0, 20.0, 80.0, 90.0, 20.0, 90.0, 90.0, 90.0]));
        assert_eq!(loaded.seats[0], 590);
        let lower: Vec<usize> = limits(600, &shares()).iter().map(|l| l.lower).collect();
        assert_eq!(loaded.seats[1..], lower[1..]);
    }
}
