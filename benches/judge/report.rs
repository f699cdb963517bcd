//! The report: the verdict in one table and the tables of all parts, as text for the terminal, as
//! Markdown, and as a page with a chart.

use std::fmt::Write;
use std::fs;
use std::io::{IsTerminal, Write as _, stdout};

use super::{Why, machine, page};

/// What a reader has to notice.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Grade {
    Good,
    Bad,
    /// A figure without a limit.
    Plain,
}

#[derive(Clone, Debug)]
pub(crate) struct Cell {
    pub text: String,
    pub grade: Grade,
}

impl Cell {
    pub(crate) fn plain(text: impl Into<String>) -> Cell {
        Cell { text: text.into(), grade: Grade::Plain }
    }

    pub(crate) fn graded(text: impl Into<String>, is_good: bool) -> Cell {
        Cell { text: text.into(), grade: if is_good { Grade::Good } else { Grade::Bad } }
    }

    /// Where there is no result.
    pub(crate) fn none(why: &Why) -> Cell {
        match why {
            Why::Fails(how) => Cell::graded(how, false),
            Why::LeftOut(what) => Cell::plain(*what),
        }
    }

    /// Where nothing was measured.
    pub(crate) fn absent() -> Cell {
        Cell::plain("-")
    }
}

/// How much of a cell the terminal shows: the reason of a failure may be long.
const CELL_MAX: usize = 40;

/// A name, and a cell for each column.
pub(crate) type Row = (String, Vec<Cell>);

pub(crate) struct Table {
    pub corner: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
}

/// A name, and a cell for each contestant.
pub(crate) type Column = (String, Vec<Cell>);

/// The result of a part. Its columns and scores have one entry for each contestant.
#[derive(Default)]
pub(crate) struct Part {
    pub name: String,
    /// How everything was taken.
    pub how: String,
    pub tables: Vec<Table>,
    /// What a reader has to know beside the tables.
    pub remarks: Vec<String>,
    /// A line for each fault that was found, for the written reports.
    pub findings: Vec<String>,
    /// What the verdict shows of it.
    pub columns: Vec<Column>,
    /// For the chart.
    pub scores: Vec<Option<f64>>,
}

pub(crate) struct Report {
    pub names: Vec<String>,
    /// The contestants that take no part, and why.
    pub absent: Vec<(String, String)>,
    pub parts: Vec<Part>,
    pub machine: String,
}

impl Report {
    /// A row for each contestant, with the columns of all parts.
    pub(crate) fn verdict(&self) -> Table {
        let columns = || self.parts.iter().flat_map(|part| &part.columns);
        let rows = self.names.iter().enumerate().map(|(at, name)| {
            (name.clone(), columns().map(|(_, cells)| cells[at].clone()).collect())
        });
        let absent = self
            .absent
            .iter()
            .map(|(name, _)| (name.clone(), columns().map(|_| Cell::absent()).collect()));
        Table {
            corner: "contestant".to_owned(),
            columns: columns().map(|(name, _)| name.clone()).collect(),
            rows: rows.chain(absent).collect(),
        }
    }

    /// Writes all tables to standard output, in colour on a terminal. A reader that has had enough
    /// ends nothing.
    pub(crate) fn print(&self, words: impl Iterator<Item = String>) {
        let in_colour = stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        let mut text = String::new();
        for Part { name, how, tables, remarks, findings, .. } in &self.parts {
            text += &format!("{name}. {how}\n\n");
            text.extend(tables.iter().map(|table| table.text(in_colour) + "\n"));
            text.extend(remarks.iter().map(|remark| format!("{remark}\n\n")));
            if !findings.is_empty() {
                text += &format!("{} findings, in the written reports.\n\n", findings.len());
            }
        }
        text += &format!("{}. {}\n\n", command(words), self.machine);
        text += &format!("{}\n{}", self.verdict().text(in_colour), absences(&self.absent));
        let _ = stdout().write_all(text.as_bytes());
    }

    /// Writes the reports below the target folder. Returns a line for each.
    pub(crate) fn write(&self, name: &str) -> String {
        let files = [("md", Some(self.markdown())), ("html", Some(page::page(self)))];
        let files = files.into_iter().chain([("svg", page::chart(self))]);
        let lines = files.map(|(kind, text)| {
            let path = machine::target().join(format!("{name}.{kind}"));
            match text.map(|text| fs::write(&path, text)) {
                Some(Ok(())) => format!("{}\n", path.display()),
                Some(Err(error)) => format!("{}: {error}\n", path.display()),
                None => {
                    // Of another run.
                    let _ = fs::remove_file(path);
                    String::new()
                }
            }
        });
        lines.collect()
    }

    pub(crate) fn markdown(&self) -> String {
        let verdict = self.verdict().markdown();
        let mut text = format!("# Verdict\n\nOn {}.\n\n{verdict}", self.machine);
        text += &format!("\n{}", absences(&self.absent));
        for Part { name, how, tables, remarks, findings, .. } in &self.parts {
            let tables: Vec<String> = tables.iter().map(Table::markdown).collect();
            write!(text, "\n## {name}\n\n{how}\n\n{}", tables.join("\n")).expect("a string");
            text.extend(remarks.iter().map(|remark| format!("\n{remark}\n")));
            text.extend(findings.iter().map(|finding| format!("\n- {finding}")));
            text += "\n";
        }
        text
    }
}

/// A line for each contestant that takes no part.
pub(crate) fn absences(absent: &[(String, String)]) -> String {
    absent.iter().map(|(name, why)| format!("{name} takes no part: {why}.\n")).collect()
}

/// The command line that has led to a report.
fn command(words: impl Iterator<Item = String>) -> String {
    let words = words
        .filter(|word| word != "--bench")
        .map(|word| if word.contains([' ', '{', '\'']) { format!("'{word}'") } else { word });
    let words: Vec<String> = words.collect();
    let name = env!("CARGO_CRATE_NAME");
    let separator = if words.is_empty() { "" } else { " -- " };
    format!("cargo bench --bench {name}{separator}{}", words.join(" "))
}

impl Table {
    /// In columns of even width. What is bad is red, and has a mark where there is no colour.
    fn text(&self, in_colour: bool) -> String {
        let text = |cell: &Cell| {
            let mut text: String = cell.text.chars().take(CELL_MAX).collect();
            if text.len() < cell.text.len() {
                text += "...";
            }
            if cell.grade == Grade::Bad && !in_colour { text + " !" } else { text }
        };
        let width = |text: &str| text.chars().count();
        let first = self.rows.iter().map(|(name, _)| width(name)).chain([width(&self.corner)]);
        let first = first.max().unwrap_or_default();
        let widths: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .map(|(at, column)| {
                let cells = self.rows.iter().map(|(_, cells)| width(&text(&cells[at])));
                cells.chain([width(column)]).max().unwrap_or_default()
            })
            .collect();
        let mut out = format!("{:first$}", self.corner);
        for (column, width) in self.columns.iter().zip(&widths) {
            write!(out, "  {column:>width$}").expect("a string");
        }
        for (name, cells) in &self.rows {
            write!(out, "\n{name:first$}").expect("a string");
            for (cell, width) in cells.iter().zip(&widths) {
                let (start, end) = match (cell.grade, in_colour) {
                    (Grade::Bad, true) => ("\x1b[31m", "\x1b[0m"),
                    (Grade::Good, true) => ("\x1b[32m", "\x1b[0m"),
                    _ => ("", ""),
                };
                write!(out, "  {start}{:>width$}{end}", text(cell)).expect("a string");
            }
        }
        out + "\n"
    }

    /// What is bad is bold.
    pub(crate) fn markdown(&self) -> String {
        let escape = |text: &str| text.replace('|', "\\|").replace(['\n', '\r'], " ");
        let columns: Vec<String> = self.columns.iter().map(|name| escape(name)).collect();
        let columns = columns.join(" | ");
        let mut text = format!("| {} | {columns} |\n|---|", self.corner);
        text += &"--:|".repeat(self.columns.len());
        for (name, cells) in &self.rows {
            write!(text, "\n| {} |", escape(name)).expect("a string");
            for cell in cells {
                let mark = if cell.grade == Grade::Bad { "**" } else { "" };
                write!(text, " {mark}{}{mark} |", escape(&cell.text)).expect("a string");
            }
        }
        text + "\n"
    }
}
