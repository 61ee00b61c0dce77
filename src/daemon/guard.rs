//! Panics of libraries are met here: one costs the work it happened in, and nothing else.

use std::future::Future;

/// Runs work in a task of its own; a panic in it becomes words.
pub(super) async fn guarded<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Result<T, String> {
    tokio::spawn(work).await.map_err(|error| format!("a bug of octo-local's: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_words() {
        assert_eq!(guarded(async { 7 }).await, Ok(7));
        let words = guarded(async { assert!(std::hint::black_box(false), "met on purpose") }).await.unwrap_err();
        assert!(words.contains("bug of octo-local's") && words.contains("met on purpose"), "{words}");
    }
}
