//! The report as a page without outside resources, in light and dark, with a chart that shows
//! conformance by speed by clean stop.

use std::fmt::Write;

use super::report::{Grade, Part, Report, Table, absences};

/// Of the page, and of the chart, which is also a file of its own.
const COLOURS: &str = "
:root { color-scheme: light dark; --back: #fff; --text: #1c1917; --faint: #57534e;
  --line: #d6d3d1; --good: #15803d; --bad: #b91c1c; }
@media (prefers-color-scheme: dark) { :root { --back: #1c1917; --text: #f5f5f4;
  --faint: #a8a29e; --line: #44403c; --good: #4ade80; --bad: #f87171; } }
svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg .axis { stroke: var(--line); } svg .faint { fill: var(--faint); }
svg .good { fill: var(--good); } svg .bad { fill: none; stroke: var(--bad); stroke-width: 3; }
svg .unknown { fill: none; stroke: var(--faint); stroke-width: 2; }
svg .back { fill: var(--back); }
";

const STYLE: &str = "
body { margin: 2rem auto; max-width: 84rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  background: var(--back); color: var(--text); }
div { overflow-x: auto; }
table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums; }
th, td { padding: .2rem .6rem; border-bottom: 1px solid var(--line); text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; }
.good { color: var(--good); } .bad { color: var(--bad); font-weight: bold; }
p, li, figcaption { color: var(--faint); } code { overflow-wrap: anywhere; }
figure { margin: 1rem 0; max-width: 48rem; }
";

/// The whole page.
pub(crate) fn page(report: &Report) -> String {
    let mut text = format!(
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n\
         <title>Servers, judged</title>\n<style>{COLOURS}{STYLE}</style>\n<main>\n\
         <h1>Servers, judged</h1>\n<p>On {}.</p>\n{}{}",
        escape(&report.machine),
        table(&report.verdict(), "Verdict"),
        figure(report)
    );
    let absences = absences(&report.absent);
    text.extend(absences.lines().map(|line| format!("<p>{}</p>\n", escape(line))));
    for Part { name, how, tables, remarks, findings, .. } in &report.parts {
        let (name, how) = (escape(name), escape(how));
        writeln!(text, "<h2>{name}</h2>\n<p>{how}</p>").expect("a string");
        text.extend(tables.iter().map(|it| table(it, &format!("{name}: {}", it.corner))));
        text.extend(remarks.iter().map(|remark| format!("<p>{}</p>\n", escape(remark))));
        if !findings.is_empty() {
            writeln!(text, "<details><summary>{} findings</summary><ul>", findings.len())
                .expect("a string");
            text.extend(findings.iter().map(|it| format!("<li><code>{}</code>\n", escape(it))));
            text += "</ul></details>\n";
        }
    }
    text + "</main>\n</html>\n"
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;")
}

fn table(table: &Table, name: &str) -> String {
    // A table that is too wide scrolls, by keyboard too.
    let mut text = format!(
        "<div role=\"region\" tabindex=\"0\" aria-label=\"{}\"><table>\n<tr><th scope=\"col\">{}",
        escape(name),
        escape(&table.corner)
    );
    let columns = table.columns.iter().map(|name| format!("<th scope=\"col\">{}", escape(name)));
    text.extend(columns);
    for (name, cells) in &table.rows {
        write!(text, "\n<tr><th scope=\"row\">{}", escape(name)).expect("a string");
        for cell in cells {
            let (class, mark) = match cell.grade {
                Grade::Good => (" class=\"good\"", ""),
                Grade::Bad => (" class=\"bad\"", " !"),
                Grade::Plain => ("", ""),
            };
            write!(text, "<td{class}>{}{mark}", escape(&cell.text)).expect("a string");
        }
    }
    text + "\n</table></div>\n"
}

/// The size of the chart, and the room for the names of its axes.
const WIDTH: f64 = 780.0;
const HEIGHT: f64 = 360.0;
const LEFT: f64 = 60.0;
const BELOW: f64 = 50.0;
/// The room for the names at marks on the right.
const RIGHT: f64 = 190.0;

fn figure(report: &Report) -> String {
    chart(report).map_or_else(String::new, |chart| {
        format!(
            "<figure>\n{chart}<figcaption>Upwards, the share of MUST conversations that are kept; \
             to the right, the requests that a second of a processor serves. A full mark loses no \
             request in a stop.</figcaption>\n</figure>\n"
        )
    })
}

/// A mark for each contestant that has a conformance and a speed.
pub(crate) fn chart(report: &Report) -> Option<String> {
    let scores = |name: &str| {
        let part = report.parts.iter().find(|part| part.name == name);
        move |at: usize| part.and_then(|part| *part.scores.get(at)?)
    };
    let [rules, stop, wire] = ["Rules", "Stop", "Wire"].map(scores);
    let marks = report.names.iter().enumerate();
    let marks = marks.filter_map(|(at, name)| Some((name, rules(at)?, wire(at)?, stop(at))));
    let mut marks: Vec<_> = marks.collect();
    marks.sort_by(|one, other| one.1.total_cmp(&other.1));
    let least = marks.first()?.1;
    let fastest = marks.iter().map(|mark| mark.2).fold(1.0, f64::max);
    let least = (least * 10.0 - 0.5).floor().max(0.0) / 10.0;
    let mut text = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         role=\"img\" aria-label=\"Conformance by speed by clean stop\">\n\
         <style>{COLOURS}</style>\n<rect class=\"back\" width=\"100%\" height=\"100%\"/>\n\
         <path class=\"axis\" fill=\"none\" d=\"M{LEFT} 10V{0}H{1}\"/>\n\
         <text class=\"faint\" x=\"{1}\" y=\"{2}\" text-anchor=\"end\">\
         requests for a second of a processor, up to {fastest:.0}</text>\n\
         <text class=\"faint\" x=\"8\" y=\"18\">100 %</text>\n\
         <text class=\"faint\" x=\"8\" y=\"{0}\">{3:.0} %</text>\n",
        HEIGHT - BELOW,
        WIDTH - RIGHT,
        HEIGHT - BELOW + 30.0,
        least * 100.0
    );
    let mut labels: Vec<(f64, f64)> = Vec::new();
    for (name, conformance, speed, lost) in marks {
        let x = LEFT + speed / fastest * (WIDTH - RIGHT - LEFT);
        let y = HEIGHT - BELOW - (conformance - least) / (1.0 - least) * (HEIGHT - BELOW - 18.0);
        let (class, label) = match lost {
            Some(0.0) => ("good", name.clone()),
            Some(lost) => ("bad", format!("{name}, loses {:.1} %", lost * 100.0)),
            None => ("unknown", name.clone()),
        };
        // The marks come from below. Names at marks that are close stand one above the other.
        let mut label_y = y + 4.0;
        while labels.iter().any(|at| (at.0 - x).abs() < 150.0 && (at.1 - label_y).abs() < 15.0) {
            label_y -= 15.0;
        }
        labels.push((x, label_y));
        let label = escape(&label);
        writeln!(
            text,
            "<circle class=\"{class}\" cx=\"{x:.0}\" cy=\"{y:.0}\" r=\"6\"/>\
             <text x=\"{:.0}\" y=\"{label_y:.0}\">{label}</text>",
            x + 12.0
        )
        .expect("a string");
    }
    Some(text + "</svg>\n")
}
