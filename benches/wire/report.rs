//! The report on all runs: tables in Markdown and a chart in SVG.

use std::fmt::Write;

use crate::{Case, Run, Runs};

/// The results, case by case.
pub(crate) struct Report {
    names: Vec<String>,
    rows: Vec<Row>,
}

/// The medians of all servers in one case, or why one of them took no part.
struct Row {
    case: &'static str,
    quantiles: &'static [(&'static str, usize)],
    medians: Vec<Result<Run, &'static str>>,
}

/// Reads what wrk has printed; the processor time is not in it.
pub(crate) fn read(text: &str) -> Option<Run> {
    let behind = |key: &str| {
        let mut lines = text.lines().map(str::trim);
        lines.find_map(|line| Some(line.strip_prefix(key)?.trim()))
    };
    let number = |word: &str| word.parse::<f64>().ok();
    let errors =
        text.lines().filter(|line| line.contains("Socket errors") || line.contains("Non-2xx"));
    let requests = text.split_once(" requests in ").map(|(before, _)| before);
    Some(Run {
        requests: requests.and_then(|before| before.lines().last()?.trim().parse().ok())?,
        rate: behind("Requests/sec:").and_then(number)?,
        cpu: 0.0,
        latencies: vec![behind("50%").and_then(micros)?, behind("99%").and_then(micros)?],
        errors: errors.count() as u64,
    })
}

/// A time as wrk writes it.
fn micros(text: &str) -> Option<f64> {
    let unit = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(unit);
    let factor = match unit {
        "us" => 1.0,
        "ms" => 1e3,
        "s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * factor)
}

impl Report {
    pub(crate) fn new(names: Vec<String>) -> Report {
        Report { names, rows: Vec::new() }
    }

    /// Adds all runs of a case, server by server, and prints their medians.
    pub(crate) fn add(&mut self, case: &Case, runs: &[Runs]) {
        let medians = runs.iter().map(|runs| match runs {
            Ok(runs) => Ok(medians(runs)),
            Err(why) => Err(*why),
        });
        let medians = medians.collect();
        self.rows.push(Row { case: case.name, quantiles: case.quantiles(), medians });
        println!("{}", self.table(self.rows.len() - 1));
    }

    /// One case in Markdown.
    fn table(&self, at: usize) -> String {
        let Row { case, quantiles, medians } = &self.rows[at];
        let ours = medians[0].as_ref().map_or(f64::NAN, |run| run.cpu);
        let mut text = format!("| {case} | requests/s | CPU ns per request | to ours |");
        text.extend(quantiles.iter().map(|(name, _)| format!(" {name} µs |")));
        text += &format!("\n|---|{}\n", "--:|".repeat(3 + quantiles.len()));
        for (name, run) in self.names.iter().zip(medians) {
            let row = match run {
                Ok(run) => {
                    let remark = if run.errors > 0 { " (with errors)" } else { "" };
                    let Run { rate, cpu, latencies, .. } = run;
                    let ratio = cpu / ours;
                    let latencies = latencies.iter().map(|&time| match time {
                        // As is common with several requests at once.
                        0.0 => " | ?".to_owned(),
                        _ => format!(" | {time:.0}"),
                    });
                    let latencies: String = latencies.collect();
                    format!("{name}{remark} | {rate:.0} | {cpu:.0} | {ratio:.2}{latencies}")
                }
                Err(why) => format!("{name} ({why}){}", " | -".repeat(3 + quantiles.len())),
            };
            writeln!(text, "| {row} |").expect("a string takes any text");
        }
        text
    }

    pub(crate) fn markdown(&self) -> String {
        let tables = (0..self.rows.len()).map(|at| self.table(at));
        tables.collect::<Vec<_>>().join("\n")
    }

    /// The processor time per request as bars, the shorter the better. Each case has a scale of
    /// its own.
    pub(crate) fn svg(&self) -> String {
        let height = self.rows.len() * (self.names.len() * 22 + 40) + 10;
        let mut text = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"640\" height=\"{height}\" \
             font-family=\"sans-serif\" font-size=\"13\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n"
        );
        let mut y = 24;
        for Row { case, medians, .. } in &self.rows {
            let most = medians.iter().flatten().map(|run| run.cpu).fold(1.0, f64::max);
            writeln!(
                text,
                "<text x=\"8\" y=\"{y}\" font-weight=\"bold\">{case}: CPU ns per request</text>"
            )
            .expect("a string takes any text");
            for (at, (name, run)) in self.names.iter().zip(medians).enumerate() {
                let (width, label) = match run {
                    Ok(run) => (run.cpu / most * 400.0, format!("{:.0}", run.cpu)),
                    Err(why) => (0.0, (*why).to_owned()),
                };
                let top = y + 10 + at * 22;
                let (base, behind) = (top + 13, 138.0 + width);
                let fill = if at == 0 { "#c2410c" } else { "#94a3b8" };
                let name = escape(name);
                writeln!(
                    text,
                    "<text x=\"122\" y=\"{base}\" text-anchor=\"end\">{name}</text>\n\
                     <rect x=\"130\" y=\"{top}\" width=\"{width:.1}\" height=\"17\" \
                     fill=\"{fill}\"/>\n\
                     <text x=\"{behind:.1}\" y=\"{base}\">{label}</text>"
                )
                .expect("a string takes any text");
            }
            y += medians.len() * 22 + 40;
        }
        text + "</svg>\n"
    }
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}

fn medians(runs: &[Run]) -> Run {
    let latencies = (0..runs[0].latencies.len()).map(|at| median(runs, |run| run.latencies[at]));
    Run {
        requests: median(runs, |run| run.requests),
        rate: median(runs, |run| run.rate),
        cpu: median(runs, |run| run.cpu),
        latencies: latencies.collect(),
        errors: runs.iter().map(|run| run.errors).sum(),
    }
}

fn median(runs: &[Run], value: impl Fn(&Run) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
