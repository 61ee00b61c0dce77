//! Panics are met here: one costs the work it happened in, and nothing else. What is told of it
//! holds no value, which may be secret: the place, and words that stand in the program's text.

use std::any::Any;
use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::panic::PanicHookInfo;

use futures_util::FutureExt as _;

thread_local! {
    /// Where this thread panicked last.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// For the panic hook: where it is, and remembers it for whoever meets the panic.
pub fn note(panic: &PanicHookInfo<'_>) -> String {
    let place = panic
        .location()
        .map(|at| format!(" at {}:{}", at.file(), at.line()))
        .unwrap_or_default();
    PLACE.set(place.clone());
    place
}

/// Does work; a panic in it becomes words.
pub(super) async fn guarded<T>(work: impl Future<Output = T>) -> Result<T, String> {
    // Nothing is used that the work leaves behind: what it owned goes with it.
    AssertUnwindSafe(work)
        .catch_unwind()
        .await
        .map_err(|panic| words_of(panic.as_ref()))
}

/// Words that were made while running may hold a value.
fn words_of(panic: &(dyn Any + Send)) -> String {
    let words = panic
        .downcast_ref::<&'static str>()
        .map(|words| format!(": {words}"))
        .unwrap_or_default();
    format!("a bug of octo-local's{}{words}", PLACE.take())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_words() {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            note(panic);
            before(panic);
        }));
        assert_eq!(guarded(async { 7 }).await, Ok(7));
        let words = guarded(async { assert!(std::hint::black_box(false), "met on purpose") })
            .await
            .unwrap_err();
        assert!(
            words.starts_with("a bug of octo-local's at src/daemon/guard.rs:"),
            "{words}"
        );
        assert!(words.ends_with(": met on purpose"), "{words}");
    }

    #[tokio::test]
    async fn a_panic_with_a_value_tells_nothing_of_it() {
        let secret = std::hint::black_box("S3cr3tMarker");
        let words = guarded(async { panic!("the password is {secret}") })
            .await
            .unwrap_err();
        assert!(
            words.starts_with("a bug of octo-local's") && !words.contains("password"),
            "{words}"
        );
        assert!(!words.contains(secret), "{words}");
    }
}
