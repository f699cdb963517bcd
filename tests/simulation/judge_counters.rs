//! What has to be true of the statistics and of the recorder, and what may be left at the exit.

use onepoll::event_loop::state::StateName;
use onepoll::http::Handler;
use onepoll::limits;
use onepoll::observe::Observe;

use super::world::World;

impl World {
    /// Nothing is left, and what is counted is what has happened.
    pub fn judge_end(&mut self, observe: &mut Observe) {
        if self.judge.failure.is_some() {
            return;
        }
        if self.descriptors > 0 {
            self.fail(format!("{} sockets are left open", self.descriptors));
        }
        if self.random.one_in(8) {
            let page = observe.render("/metrics", b"");
            let page = String::from_utf8_lossy(&page.body).into_owned();
            self.judge_metrics(&page);
            if !self.links.is_empty() {
                self.judge_trace(observe);
            }
        }
    }

    /// The recorder has the changes of a connection that it was told of.
    fn judge_trace(&mut self, observe: &mut Observe) {
        let all: usize = self.links.iter().map(|link| link.judged.changes.len() + 2).sum();
        let at = self.random.below(self.links.len());
        let (number, changes) = (self.links[at].number, &self.links[at].judged.changes);
        if all > limits::RECORDS_MAX || changes.len() + 2 > limits::TRACE_LINES_MAX || number == 0 {
            return;
        }
        let page = observe.render("/trace", format!("conn={number}").as_bytes());
        let page = String::from_utf8_lossy(&page.body).into_owned();
        // There are two lines of heading ahead of them, and one for its accepting.
        let lines: Vec<&str> = page.lines().skip(3).collect();
        let is_in = |(line, (from, to)): (&&str, &(StateName, StateName))| {
            line.contains(&format!("{} -> {} ", from.name(), to.name()))
        };
        let has_all = lines.len() == changes.len() + 1 && lines.iter().zip(changes).all(is_in);
        if !has_all {
            self.fail_on(at, &format!("its changes are {changes:?}, and its trace is {page}"));
        }
    }

    fn judge_metrics(&mut self, page: &str) {
        let sum = |name: &str| -> u64 {
            let lines = page.lines().filter(|line| line.starts_with(name));
            lines.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum()
        };
        let links = || self.links.iter().filter(|link| link.number > 0);
        let read: usize = links().map(|link| link.read).sum();
        let written: usize = links().map(|link| link.written).sum();
        let served: usize = links().map(|link| link.output.told.responses as usize).sum();
        let accepted: usize = self.judge.accepted.iter().sum();
        let wrong: Vec<String> = [
            ("onepoll_connections_accepted_total", accepted),
            ("onepoll_received_bytes_total", read),
            ("onepoll_sent_bytes_total", written),
            ("onepoll_requests_total", served),
            ("onepoll_timeouts_total", self.judge.timed_out),
            ("onepoll_connections{", 0),
        ]
        .into_iter()
        .filter(|&(name, count)| sum(name) != count as u64)
        .map(|(name, count)| format!("{name} is {} and should be {count}", sum(name)))
        .collect();
        if !wrong.is_empty() {
            self.fail(wrong.join(", "));
        }
    }
}
