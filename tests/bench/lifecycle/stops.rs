//! Stops of a SQL Server that ignores SIGTERM, as the vendor's images do since 2022: each must be a
//! clean end, soon. What the stand-in itself takes, from the word to shut down in its log to its
//! death, is taken off.

use crate::kit::stack::Stack;
use crate::sizes::Sizes;
use crate::stopwatch::millis;
use crate::stopwatch::millis_between;
use crate::stopwatch::timed;
use crate::table::Row;
use crate::table::Samples;
use crate::table::Unit;

/// What the stand-in logs when T-SQL tells it to shut down.
const TOLD: &str = "terminating because of a system shutdown";
/// What it logs at the start that follows another end.
const UNCLEAN: &str = "did not stop by itself";

/// One stop and start after the other, while no node is wished.
pub(crate) fn measure(sizes: &Sizes) -> Vec<Row> {
    let stack = Stack::real("bench-stops");
    for (key, value) in [
        ("OCTOPUS_NODES", "1"),
        ("STANDIN_SQL_IGNORE_SIGTERM", "Y"),
        ("STANDIN_SQL_START_DELAY_MS", "0"),
        ("STANDIN_SQL_LOGIN_DELAY_MS", "0"),
    ] {
        stack.set(key, value);
    }
    stack.run(&["up"]).ok();
    stack.run(&["stop", "octopus-server"]).ok();
    let (mut unclean, mut beyond) = (0_u32, Vec::new());
    for _ in 0..sizes.stops {
        let since = stack.witness.now();
        let (took, ended) = timed(&mut stack.command(&["stop", "db"]));
        ended.ok();
        let told = stack.witness.said_at(&stack.container("db"), TOLD);
        let died = stack.told_at(since, "die", "db");
        let own = told.map_or(0.0, |told| millis_between(told, died));
        beyond.push(millis(took) - own);
        let ended_well = told.is_some() && exit_code(&stack) == Some(0);
        stack.run(&["start", "db"]).ok();
        let found = stack.witness.said_at(&stack.container("db"), UNCLEAN);
        unclean += u32::from(!ended_well || found.is_some());
    }
    stack.run(&["down", "--volumes", "--yes"]).ok();
    vec![
        Row::new(
            "SQL Server ignores SIGTERM: unclean ends",
            Unit::Count,
            Samples::of([f64::from(unclean)]),
        )
        .must(0.0)
        .aim(0.0)
        .peer("docker stop: all"),
        Row::new(
            "`stop db` beyond the stand-in's own end, worst",
            Unit::Millis,
            Samples::of(beyond),
        )
        .must(2_000.0)
        .aim(2_000.0)
        .worst()
        .peer("docker stop: 10 s"),
    ]
}

fn exit_code(stack: &Stack) -> Option<i64> {
    let shown = stack.witness.inspect(&stack.container("db"))?;
    shown.state?.exit_code
}
