//! The table of figures: what was measured, beside its peer, and whether it is good enough.

use std::fmt;

/// What a figure counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unit {
    /// Shown in seconds from one second on.
    Millis,
    /// 1,048,576 bytes.
    Mebibytes,
    /// 1,000,000 bytes.
    Megabytes,
    /// Of one core.
    Percent,
    /// Of a peer's figure.
    Share,
    /// Of a second.
    Micros,
    /// 1,024 bytes.
    Kibibytes,
    /// Whole things.
    Count,
}

impl Unit {
    fn show(self, value: f64) -> String {
        match self {
            Self::Millis if value.abs() >= 1_000.0 => format!("{:.2} s", value / 1e3),
            Self::Millis if value.abs() >= 100.0 => format!("{value:.0} ms"),
            Self::Millis => format!("{value:.1} ms"),
            Self::Mebibytes => format!("{value:.2} MiB"),
            Self::Megabytes => format!("{value:.2} MB"),
            Self::Percent => format!("{value:.3} %"),
            Self::Share => format!("{value:.0} %"),
            Self::Micros => format!("{value:.0} µs"),
            Self::Kibibytes => format!("{value:.1} KiB"),
            Self::Count => format!("{value:.0}"),
        }
    }

    /// A bound, which is a round figure, behind the sign of its side.
    fn bound(self, side: &str, value: f64) -> String {
        match self {
            Self::Millis if value >= 1_000.0 => format!("{side} {} s", value / 1e3),
            Self::Millis => format!("{side} {value} ms"),
            Self::Mebibytes => format!("{side} {value} MiB"),
            Self::Megabytes => format!("{side} {value} MB"),
            Self::Percent => format!("{side} {value} %"),
            Self::Share => format!("{side} {value} %"),
            Self::Micros => format!("{side} {value} µs"),
            Self::Kibibytes => format!("{side} {value} KiB"),
            Self::Count if value == 0.0 => "0".to_owned(),
            Self::Count => format!("{side} {value}"),
        }
    }
}

/// Figures of one thing, at least one.
#[derive(Clone, Debug)]
pub(crate) struct Samples(Vec<f64>);

impl Samples {
    /// Of these, in any order.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        assert!(!figures.is_empty(), "nothing was measured");
        figures.sort_by(f64::total_cmp);
        Self(figures)
    }

    /// The one in the middle.
    pub(crate) fn median(&self) -> f64 {
        let middle = self.0.len() / 2;
        if self.0.len() % 2 == 1 {
            self.0[middle]
        } else {
            f64::midpoint(self.0[middle - 1], self.0[middle])
        }
    }

    fn least(&self) -> f64 {
        self.0[0]
    }

    fn most(&self) -> f64 {
        self.0[self.0.len() - 1]
    }

    /// Median, spread and number.
    pub(crate) fn show(&self, unit: Unit) -> String {
        let median = unit.show(self.median());
        match self.0.len() {
            1 => median,
            number => format!(
                "{median} ({} to {}, n={number})",
                unit.show(self.least()),
                unit.show(self.most())
            ),
        }
    }
}

/// One figure.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    what: &'static str,
    unit: Unit,
    peer: String,
    must: Option<f64>,
    aim: Option<f64>,
    measured: Samples,
    /// The worst figure counts, not the median: it is a promise for every time.
    worst: bool,
    /// More is better: the bounds are the least that it must be.
    more: bool,
}

impl Row {
    /// What was measured, without a peer and without bounds.
    pub(crate) fn new(what: &'static str, unit: Unit, measured: Samples) -> Self {
        Self {
            what,
            unit,
            peer: "–".to_owned(),
            must: None,
            aim: None,
            measured,
            worst: false,
            more: false,
        }
    }

    /// What it must keep.
    pub(crate) fn must(self, bound: f64) -> Self {
        Self {
            must: Some(bound),
            ..self
        }
    }

    /// What it should reach.
    pub(crate) fn aim(self, bound: f64) -> Self {
        Self {
            aim: Some(bound),
            ..self
        }
    }

    /// How the peer does.
    pub(crate) fn peer(self, peer: impl Into<String>) -> Self {
        Self {
            peer: peer.into(),
            ..self
        }
    }

    /// Judged by its worst figure.
    pub(crate) fn worst(self) -> Self {
        Self {
            worst: true,
            ..self
        }
    }

    /// Its bounds are the least that it must be.
    pub(crate) fn at_least(self) -> Self {
        Self { more: true, ..self }
    }

    fn judged(&self) -> f64 {
        match (self.worst, self.more) {
            (false, _) => self.measured.median(),
            (true, false) => self.measured.most(),
            (true, true) => self.measured.least(),
        }
    }

    fn keeps(&self, bound: f64) -> bool {
        if self.more {
            self.judged() >= bound
        } else {
            self.judged() <= bound
        }
    }

    fn holds(&self) -> bool {
        self.must.is_none_or(|bound| self.keeps(bound))
    }

    fn verdict(&self) -> &'static str {
        let reached = self.aim.map(|bound| self.keeps(bound));
        match (self.holds(), reached, self.must) {
            (false, _, _) => "**missed**",
            (true, Some(true), _) => "aim",
            (true, Some(false), Some(_)) => "must",
            (true, Some(false), None) => "short of aim",
            (true, None, Some(_)) => "must",
            (true, None, None) => "–",
        }
    }

    fn cells(&self) -> [String; 6] {
        let side = if self.more { "≥" } else { "≤" };
        let bound = |bound: Option<f64>| {
            bound.map_or_else(|| "–".to_owned(), |bound| self.unit.bound(side, bound))
        };
        [
            self.what.to_owned(),
            self.peer.clone(),
            bound(self.must),
            bound(self.aim),
            self.measured.show(self.unit),
            self.verdict().to_owned(),
        ]
    }
}

/// Every figure, as a Markdown table that also reads well as it is.
#[derive(Default)]
pub(crate) struct Table {
    rows: Vec<Row>,
    failed: Vec<&'static str>,
}

impl Table {
    /// Takes figures in.
    pub(crate) fn add(&mut self, rows: Vec<Row>) {
        self.rows.extend(rows);
    }

    /// Notes that something could not be measured.
    pub(crate) fn fail(&mut self, topic: &'static str) {
        self.failed.push(topic);
    }

    /// Whether everything was measured and is as it must be.
    pub(crate) fn holds(&self) -> bool {
        self.failed.is_empty() && self.rows.iter().all(Row::holds)
    }
}

impl fmt::Display for Table {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = ["what", "peer", "must", "aim", "measured", "verdict"].map(str::to_owned);
        let cells: Vec<[String; 6]> = std::iter::once(head)
            .chain(self.rows.iter().map(Row::cells))
            .collect();
        let width = |column: usize| {
            cells
                .iter()
                .map(|row| row[column].chars().count())
                .max()
                .unwrap_or_default()
        };
        let widths: [usize; 6] = std::array::from_fn(width);
        for (number, row) in cells.iter().enumerate() {
            let padded = row
                .iter()
                .zip(widths)
                .map(|(cell, width)| format!("{cell:<width$}"));
            writeln!(out, "| {} |", padded.collect::<Vec<_>>().join(" | "))?;
            if number == 0 {
                writeln!(
                    out,
                    "|{}|",
                    widths.map(|width| "-".repeat(width + 2)).join("|")
                )?;
            }
        }
        self.failed
            .iter()
            .try_for_each(|topic| writeln!(out, "could not be measured: {topic}"))
    }
}
