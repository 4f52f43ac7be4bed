use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use cache_core::{Announce, Change, Keeper};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep, timeout};

/// How often who waits for the decision looks.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// So many changes are remembered while it is not known who is to be told.
const UNDECIDED: usize = 1000;

/// Who is told of this process's changes: nobody, unless tracking is refused.
#[derive(Default)]
pub(super) struct Switch(Mutex<Decision>);

#[derive(Default)]
enum Decision {
    #[default]
    Open,
    /// What has been changed until then, and whether it is settled.
    Waiting(Vec<(Change, bool)>),
    Tracking,
    Fallback(Keeper),
}

impl Switch {
    pub(super) fn is_decided(&self) -> bool {
        matches!(*self.lock(), Decision::Tracking | Decision::Fallback(_))
    }

    pub(super) fn stay(&self) {
        *self.lock() = Decision::Tracking;
    }

    pub(super) fn fall_back(&self, keeper: Keeper) {
        let mut decision = self.lock();
        if let (Decision::Waiting(changes), Some(announcer)) = (&*decision, keeper.announcer()) {
            for (change, settled) in changes.clone() {
                tell(&*announcer, change, settled);
            }
        }
        *decision = Decision::Fallback(keeper);
    }

    fn told(&self, change: Change, settled: bool) {
        let mut decision = self.lock();
        match &mut *decision {
            Decision::Tracking => {}
            Decision::Fallback(keeper) => {
                if let Some(announcer) = keeper.announcer() {
                    tell(&*announcer, change, settled);
                }
            }
            Decision::Open => *decision = Decision::Waiting(vec![(change, settled)]),
            Decision::Waiting(changes) if changes.len() < UNDECIDED => {
                changes.push((change, settled));
            }
            Decision::Waiting(changes) => {
                // What is not settled has to be made up for, so everything has.
                let settled = settled && changes.iter().all(|(_, settled)| *settled);
                *changes = vec![(Change::Clear, settled)];
            }
        }
    }

    // Nothing in here panics while it is locked.
    fn lock(&self) -> MutexGuard<'_, Decision> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn tell(announcer: &dyn Announce, change: Change, settled: bool) {
    if settled {
        announcer.changed(change);
    } else {
        announcer.unsettled(change);
    }
}

impl Switch {
    /// How much waits for the decision.
    fn waiting(&self) -> usize {
        match &*self.lock() {
            Decision::Waiting(changes) => changes.len(),
            _ => 0,
        }
    }

    fn announcer(&self) -> Option<Arc<dyn Announce>> {
        match &*self.lock() {
            Decision::Fallback(keeper) => keeper.announcer(),
            _ => None,
        }
    }
}

impl Announce for Switch {
    fn changed(&self, change: Change) {
        self.told(change, true);
    }

    fn unsettled(&self, change: Change) {
        self.told(change, false);
    }

    fn flush(&self, limit: Duration) -> BoxFuture<'_, usize> {
        async move {
            let start = Instant::now();
            let decided = timeout(limit, async {
                while self.waiting() > 0 {
                    sleep(LOOK_EVERY).await;
                }
            });
            match (decided.await, self.announcer()) {
                (Err(_), _) => self.waiting(),
                (Ok(()), None) => 0,
                (Ok(()), Some(announcer)) => {
                    announcer.flush(limit.saturating_sub(start.elapsed())).await
                }
            }
        }
        .boxed()
    }

    fn ended(&self) {
        *self.lock() = Decision::Tracking;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was told, and whether it was settled.
    #[derive(Default)]
    struct Told(Mutex<Vec<(Change, bool)>>);

    impl Announce for Told {
        fn changed(&self, change: Change) {
            self.0.lock().expect("nobody panics").push((change, true));
        }

        fn unsettled(&self, change: Change) {
            self.0.lock().expect("nobody panics").push((change, false));
        }

        fn flush(&self, _: Duration) -> BoxFuture<'_, usize> {
            async { 7 }.boxed()
        }
    }

    fn fallen_back(switch: &Switch) -> Vec<(Change, bool)> {
        let told = Arc::new(Told::default());
        switch.fall_back(Keeper::new(Vec::new()).announcing(Arc::clone(&told) as _));
        let told = told.0.lock().expect("nobody panics");
        told.clone()
    }

    #[test]
    fn what_was_changed_before_it_was_decided_is_told_to_what_takes_over() {
        let switch = Switch::default();
        switch.changed(Change::key("a"));
        switch.unsettled(Change::key("b"));
        assert!(!switch.is_decided());
        let expected = vec![(Change::key("a"), true), (Change::key("b"), false)];
        assert_eq!(fallen_back(&switch), expected);
        assert!(switch.is_decided());
    }

    #[tokio::test(start_paused = true)]
    async fn a_flush_waits_for_the_decision_and_for_what_takes_over() {
        let (second, switch) = (Duration::from_secs(1), Arc::new(Switch::default()));
        assert_eq!(switch.flush(second).await, 0, "nothing waits");
        switch.changed(Change::key("a"));
        switch.changed(Change::key("b"));
        assert_eq!(switch.flush(second).await, 2, "nobody has been told yet");
        let flushing = Arc::clone(&switch);
        let flushing = tokio::spawn(async move { flushing.flush(Duration::MAX).await });
        sleep(second).await;
        assert_eq!(fallen_back(&switch).len(), 2);
        assert_eq!(flushing.await.expect("no panic"), 7, "what is left there");

        let switch = Switch::default();
        switch.changed(Change::key("a"));
        switch.stay();
        assert_eq!(switch.flush(second).await, 0, "the server tells");
    }

    #[test]
    fn nobody_is_told_of_what_the_server_tells() {
        let switch = Switch::default();
        switch.changed(Change::key("a"));
        switch.stay();
        assert_eq!(fallen_back(&switch), []);
    }

    #[test]
    fn of_too_many_changes_everything_is_told_and_is_not_settled_if_one_of_them_is_not() {
        for unsettled in [None, Some(0), Some(UNDECIDED), Some(UNDECIDED + 5)] {
            let switch = Switch::default();
            for number in 0..=UNDECIDED + 10 {
                let change = Change::key(&number.to_string());
                match unsettled == Some(number) {
                    true => switch.unsettled(change),
                    false => switch.changed(change),
                }
            }
            let told = fallen_back(&switch);
            assert_eq!(told[0].0, Change::Clear);
            let settled = told.iter().all(|(_, settled)| *settled);
            assert_eq!(settled, unsettled.is_none(), "{unsettled:?} of {} told", told.len());
        }
    }
}
