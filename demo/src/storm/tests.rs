use tokio::time::sleep;

use super::*;

const TTL: Duration = Duration::from_secs(2);
const DELAY: Duration = Duration::from_millis(100);

/// Two ends of all lifetimes, in a time that only moves when everybody waits.
async fn measured(way: Way) -> Outcome {
    let (clock, hands) = Clock::manual();
    tokio::spawn(async move {
        loop {
            sleep(Duration::from_millis(1)).await;
            hands.advance(Duration::from_millis(1));
        }
    });
    let load = |id: u64| async move {
        sleep(DELAY).await;
        Ok(Some(id))
    };
    let outcome = storm(way, TTL * 5 / 2, TTL, load, clock).await.unwrap();
    assert_eq!((outcome.first_error.clone(), outcome.get.count), (None, 12_500 * 2));
    outcome
}

#[tokio::test(start_paused = true)]
async fn when_keys_in_demand_expire_together_the_readers_of_read_through_wait() {
    let outcome = measured(Way::ReadThrough).await;
    // All of those who come during the load, twice.
    let during = 2 * READERS * DELAY.as_millis() as u64;
    assert!((during * 9 / 10..=during * 11 / 10).contains(&outcome.waited), "{outcome:?}");
    assert_eq!((outcome.loads, outcome.most_loads_at_once), (2 * PRODUCTS, PRODUCTS));
    assert_eq!(outcome.stale, 0);
    assert!(outcome.get.p99_us > 50_000.0, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn with_early_refresh_nobody_waits_and_nothing_is_stale() {
    let outcome = measured(Way::EarlyRefresh).await;
    assert_eq!((outcome.waited, outcome.stale), (0, 0), "{outcome:?}");
    assert!(outcome.loads >= 2 * PRODUCTS, "{outcome:?}");
}

#[tokio::test(start_paused = true)]
async fn with_stale_answers_nobody_waits_and_they_are_counted() {
    let outcome = measured(Way::StaleWhileRevalidate).await;
    assert_eq!((outcome.waited, outcome.loads), (0, 2 * PRODUCTS), "{outcome:?}");
    let during = 2 * READERS * DELAY.as_millis() as u64;
    assert!((during * 9 / 10..=during * 11 / 10).contains(&outcome.stale), "{outcome:?}");
}
