//! Whether parts of this process run, as `componentstatuses` tells it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use apiserver::Component;

/// The parts that upstream's server asks over their health ports.
#[derive(Clone, Default)]
pub struct Components {
    pub controllers: Running,
    pub scheduler: Running,
}

/// Set while a part runs. Cheap to clone; all clones are one.
#[derive(Clone, Default)]
pub struct Running(Arc<AtomicBool>);

// === Components ===

impl Components {
    /// What the server is given, in the order of its lists.
    pub fn checks(&self) -> Vec<Component> {
        vec![
            self.controllers.check("controller-manager"),
            self.scheduler.check("scheduler"),
        ]
    }
}

// === Running ===

impl Running {
    /// The part's work; it counts as running until that ends, in whatever way.
    pub async fn during<T>(self, work: impl Future<Output = T>) -> T {
        let _end = End(self.0.clone());
        self.0.store(true, Ordering::Relaxed);
        work.await
    }

    fn check(&self, name: &'static str) -> Component {
        let running = self.0.clone();
        Component {
            name,
            check: Arc::new(move || match running.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err(format!("{name} is not running")),
            }),
        }
    }
}

struct End(Arc<AtomicBool>);

impl Drop for End {
    fn drop(&mut self) {
        self.0.store(false, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_part_is_healthy_while_it_runs() {
        let all = Components::default();
        let health = || all.checks().iter().map(|c| (c.check)().is_ok()).collect();
        let ill: Vec<bool> = health();
        assert_eq!(ill, [false, false]);
        let seen: Vec<bool> = all.scheduler.clone().during(async { health() }).await;
        assert_eq!(seen, [false, true]);
        let after: Vec<bool> = health();
        assert_eq!(after, [false, false]);
    }
}
