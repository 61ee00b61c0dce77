//! A person with a browser, who is there before Octopus is.

use std::cell::RefCell;

use crate::kit::browser::Browser;
use crate::kit::http;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

#[test]
fn a_browser_that_came_early_lands_on_octopus_by_itself() {
    let stack = Stack::demo("browser");
    // Long enough to be seen on the page.
    stack.set("STANDIN_SQL_START_DELAY_MS", "4000");
    stack.set("STANDIN_OCTOPUS_MIGRATE_MS", "6000");
    let browser = Browser::start();
    let up = stack.spawn(&["up", "--demo"]);
    let port = stack.web();
    wait_until("the front door is open", || http::get(port, "/", ""));
    browser.open(&format!("http://127.0.0.1:{port}/"));
    assert_eq!(browser.title(), "Octopus is on its way");
    // The page that was opened once follows what the stack does.
    let shown = RefCell::new(Vec::new());
    let reads = |what: &str, absent: &str| {
        wait_until(&format!("the page says {what}"), || {
            let text = browser.text();
            let says = text.contains(what) && (absent.is_empty() || !text.contains(absent));
            shown.borrow_mut().push(text);
            says.then_some(())
        });
    };
    reads("db: ", "");
    reads("octopus-server-1: starting", "db: ");
    wait_until("the page is Octopus'", || {
        browser
            .title()
            .starts_with("Octopus stand-in: ")
            .then_some(())
    });
    let text = browser.text();
    assert!(text.contains("This is a stand-in"), "{text}");
    assert!(
        text.contains("is ready, and its database answers"),
        "{text}"
    );
    let early = shown
        .borrow()
        .iter()
        .any(|text| text.contains("turns into Octopus by itself"));
    assert!(early, "{shown:?}");
    stack.end(up).ok();
    drop(browser);
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
