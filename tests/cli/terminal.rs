//! On a terminal: questions are asked, progress is drawn in place and fits, colours are left out
//! when nobody wants them.

use std::fs::File;
use std::io::Read as _;
use std::io::Write as _;
use std::os::fd::OwnedFd;
use std::process::Child;
use std::process::Command;
use std::sync::Arc;
use std::sync::Mutex;

use rustix::fs::Mode;
use rustix::fs::OFlags;
use rustix::pty;
use rustix::termios::Winsize;

use super::Place;
use crate::kit::process::wait_until;
use crate::kit::stack::Stack;

/// A program on a terminal of its own.
struct Terminal {
    child: Child,
    keyboard: File,
    seen: Arc<Mutex<Vec<u8>>>,
}

impl Terminal {
    fn spawn(mut command: Command, columns: u16) -> Self {
        let master = pty::openpt(pty::OpenptFlags::RDWR | pty::OpenptFlags::NOCTTY).unwrap();
        pty::grantpt(&master).unwrap();
        pty::unlockpt(&master).unwrap();
        let name = pty::ptsname(&master, Vec::new()).unwrap();
        let slave: OwnedFd =
            rustix::fs::open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let size = Winsize {
            ws_col: columns,
            ws_row: 24,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        rustix::termios::tcsetwinsize(&slave, size).unwrap();
        command
            .stdin(slave.try_clone().unwrap())
            .stdout(slave.try_clone().unwrap())
            .stderr(slave);
        let child = command.env("TERM", "xterm").spawn().unwrap();
        // The terminal ends when nobody has it open any more: also not the command that made the
        // child.
        drop(command);
        let master = File::from(master);
        let mut reader = master.try_clone().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                kept.lock().unwrap().extend_from_slice(&bytes[..count]);
            }
        });
        Self {
            child,
            keyboard: master,
            seen,
        }
    }

    fn seen(&self) -> String {
        String::from_utf8_lossy(&self.seen.lock().unwrap()).into_owned()
    }

    /// Waits for a question and answers it.
    fn answer(&mut self, question: &str, answer: &str) {
        wait_until(question, || self.seen().contains(question).then_some(()));
        self.keyboard
            .write_all(format!("{answer}\n").as_bytes())
            .unwrap();
    }

    /// Waits for its end: the exit code, and all that was seen.
    fn end(mut self) -> (i32, String) {
        let status = wait_until("it ends", || self.child.try_wait().unwrap());
        (status.code().unwrap_or(-1), self.seen())
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// What a terminal of so many columns shows in the end: a small one, which knows what the program
/// uses and breaks long lines.
fn screen(text: &str, columns: usize) -> Vec<String> {
    let mut rows: Vec<Vec<char>> = vec![Vec::new()];
    let (mut row, mut column) = (0usize, 0usize);
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        match letter {
            '\r' => column = 0,
            '\n' => row += 1,
            '\x1b' => {
                assert_eq!(letters.next(), Some('['));
                let mut number = String::new();
                let end = letters.by_ref().find(|letter| {
                    !letter.is_ascii_digit() || {
                        number.push(*letter);
                        false
                    }
                });
                match end {
                    Some('F') => (row, column) = (row.saturating_sub(number.parse().unwrap()), 0),
                    Some('K') => rows[row].truncate(column),
                    Some('J') => {
                        rows.truncate(row + 1);
                        rows[row].truncate(column);
                    }
                    Some('m') => {}
                    other => panic!("\\x1b[{number}{other:?} is not known"),
                }
            }
            letter => {
                if column == columns {
                    (row, column) = (row + 1, 0);
                }
                rows.resize(rows.len().max(row + 1), Vec::new());
                let line = &mut rows[row];
                line.resize(line.len().max(column + 1), ' ');
                line[column] = letter;
                column += 1;
            }
        }
        rows.resize(rows.len().max(row + 1), Vec::new());
    }
    rows.into_iter()
        .map(|row| row.into_iter().collect())
        .collect()
}

fn count(rows: &[String], word: &str) -> usize {
    rows.iter().filter(|row| row.contains(word)).count()
}

#[test]
fn init_asks_for_the_licences() {
    let place = Place::new();
    let mut terminal = Terminal::spawn(place.command(&["init"]), 80);
    terminal.answer("licence of SQL Server", "y");
    terminal.answer("licence of Octopus Server", "Yes");
    let (code, seen) = terminal.end();
    assert_eq!(code, 0, "{seen}");
    place.run(&["config"]).ok();
    let place = Place::new();
    let mut terminal = Terminal::spawn(place.command(&["init"]), 80);
    terminal.answer("licence of SQL Server", "maybe");
    terminal.answer("answer y or n", "");
    terminal.answer("licence of Octopus Server", "n");
    let (code, seen) = terminal.end();
    assert!(
        code == 0 && seen.contains("once you have read the licences"),
        "{seen}"
    );
    place.run(&["config"]).with(78);
}

#[test]
fn progress_is_one_block_that_fits_and_data_goes_only_for_the_name() {
    let stack = Stack::demo("cli-tty");
    let (code, seen) = Terminal::spawn(stack.command(&["up", "--demo", "--nodes", "2"]), 40).end();
    assert_eq!(code, 0, "{seen}");
    // What somebody who logs in for the first time needs.
    let words: Vec<&str> = seen.split_whitespace().collect();
    let words = words.join(" ");
    for says in [
        "(stand-ins, not the real servers)",
        "open http://127.0.0.1:",
        "user admin",
        "`octo-local secrets` shows them",
    ] {
        assert!(words.contains(says), "{says}: {words}");
    }
    assert!(
        !stack
            .run(&["secrets", "ADMIN_PASSWORD"])
            .ok()
            .out
            .trim()
            .is_empty()
    );
    assert!(
        seen.contains("\x1b[32m ✔\x1b[0m octopus-server-2  ready")
            || seen.contains("\x1b[32m ✔\x1b[0m"),
        "{seen:?}"
    );
    let rows = screen(&seen, 40);
    for word in [
        "3/3 ready,",
        "✔ db ",
        "✔ octopus-server-1",
        "✔ octopus-server-2",
    ] {
        assert_eq!(count(&rows, word), 1, "{word} in\n{}", rows.join("\n"));
    }
    assert_eq!(
        count(&rows, "/3 ready,"),
        1,
        "one head:\n{}",
        rows.join("\n")
    );
    let mut plain = stack.command(&["restart", "octopus-server-2"]);
    plain.env("NO_COLOR", "1");
    let (code, seen) = Terminal::spawn(plain, 80).end();
    assert!(code == 0 && !seen.contains("\x1b[3"), "{seen:?}");
    let mut down = Terminal::spawn(stack.command(&["down", "--volumes"]), 80);
    down.answer("Type its name:", "yes");
    let (code, seen) = down.end();
    assert!(code == 64 && seen.contains("nothing was removed"), "{seen}");
    assert_eq!(stack.status()["verdict"], "ready");
    let mut down = Terminal::spawn(stack.command(&["down", "--volumes"]), 80);
    down.answer("Type its name:", &stack.name);
    assert_eq!(down.end().0, 0);
    assert_eq!(stack.witness.volumes(&stack.label()), Vec::<String>::new());
}

#[test]
fn a_password_that_is_typed_is_not_shown_and_ctrl_c_changes_nothing() {
    let stack = Stack::demo("cli-password");
    stack.run(&["up", "--demo"]).ok();
    let before = stack.run(&["secrets", "SA_PASSWORD"]).ok().out;
    let ask = || Terminal::spawn(stack.command(&["sa-password", "rotate", "--ask"]), 80);
    let mut broken_off = ask();
    broken_off.answer("The new password of sa:", "\x03");
    let (code, seen) = broken_off.end();
    assert!(
        code == 130 && seen.contains("nothing was changed"),
        "{seen}"
    );
    let typed = "Typed-by-s0mebody";
    let mut differs = ask();
    differs.answer("The new password of sa:", typed);
    differs.answer("The same again:", "Typed-0therwise");
    assert_eq!(differs.end().0, 64);
    assert_eq!(stack.run(&["secrets", "SA_PASSWORD"]).ok().out, before);

    let mut typing = ask();
    typing.answer("The new password of sa:", typed);
    typing.answer("The same again:", typed);
    typing.answer("[y/N]", "y");
    let (code, seen) = typing.end();
    assert!(code == 0 && !seen.contains(typed), "{seen}");
    let after = stack.run(&["secrets", "SA_PASSWORD"]).ok().out;
    assert_eq!(after.trim(), typed);
    stack.run(&["down", "--volumes", "--yes"]).ok();
}
