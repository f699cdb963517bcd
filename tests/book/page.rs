//! The exercises, as the page of the book has them. It is the only place of their texts.

/// The page.
pub const PAGE: &str = include_str!("../../src/book/exercises.md");

/// A section of the page.
pub struct Exercise {
    /// Its place on the page.
    pub number: usize,
    pub title: String,
    /// What it is about: the name of its mutation, and the chapter.
    pub source: String,
    pub mutation: String,
    /// The lines of the source that change.
    pub diff: String,
    pub question: String,
    pub solution: String,
    /// The first seed that fails, and part of what the judge says then.
    pub seed: u64,
    pub complaint: String,
}

/// All exercises, in their order.
pub fn exercises() -> Vec<Exercise> {
    PAGE.split("\n## ").skip(1).map(Exercise::of).collect()
}

impl Exercise {
    /// Reads a section. A test runs this for the whole page, so each part of it is there.
    fn of(section: &str) -> Exercise {
        let (heading, text) = section.split_once("\n\n").expect("a heading");
        let (number, title) = heading.split_once(". ").expect("a number and a title");
        let (source, rest) = text.split_once("```diff\n").expect("a difference");
        let (diff, rest) = rest.split_once("```\n").expect("the end of the difference");
        let (question, solution) = between(rest, "", "</details>")
            .split_once("<details><summary>Solution</summary>")
            .expect("a question and a solution");
        let seed = between(solution, "Seed ", " is the first");
        Exercise {
            number: number.parse().expect("a number"),
            title: title.to_owned(),
            source: source.to_owned(),
            mutation: between(source, "Mutation `", "`").to_owned(),
            diff: diff.to_owned(),
            question: question.trim().to_owned(),
            solution: solution.trim().to_owned(),
            seed: seed.parse().expect("a seed"),
            complaint: one_line(between(solution, "the judge says:", "`.")),
        }
    }

    /// The names of tests in the solution: such a name is a sentence.
    pub fn tests(&self) -> impl Iterator<Item = &str> {
        let quoted = self.solution.split('`').skip(1).step_by(2);
        quoted.filter(|it| it.matches('_').count() > 3)
    }
}

/// Quoted text that may be divided between two lines.
fn one_line(text: &str) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    words.join(" ").trim_start_matches('`').to_owned()
}

/// What is between the first `start` and the `end` behind it.
fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let rest = text.split_once(start).unwrap_or_else(|| panic!("no {start:?} in {text}")).1;
    rest.split_once(end).unwrap_or_else(|| panic!("no {end:?} in {text}")).0
}
