//! What the clients do. All of them follow their plans, and none of them knows the server.

use super::link::Link;
use super::plan::{Ending, Fault, Reading};
use super::time::{Nanos, SECOND};
use super::world::{Happening, World};

impl World {
    pub fn client_connects(&mut self, at: usize, now: Nanos) {
        match self.links[at].client.ending {
            Ending::Leave => self.close(at, now),
            Ending::Reset(time) | Ending::Abandon(time) | Ending::Silence(time) => {
                self.schedule(now + time, Happening::Ends(at));
                self.send_requests(at, now);
            }
            Ending::Close | Ending::HalfClose | Ending::Stay => self.send_requests(at, now),
        }
    }

    pub fn client_acts(&mut self, at: usize, now: Nanos) {
        self.send_requests(at, now);
    }

    /// Sends as many requests as the client has ahead of their responses.
    fn send_requests(&mut self, at: usize, now: Nanos) {
        let link = &mut self.links[at];
        if !link.may_send() || link.waits_to_continue {
            return;
        }
        let kinds = self.catalog.kinds(link.service);
        let mut end = link.sent;
        while let Some(request) = link.requests.get(link.begun)
            && link.begun - link.received < link.client.window
        {
            link.pipelines |= link.begun > link.received;
            link.begun += 1;
            if let Some(body) = kinds[request.kind].expects_at {
                end = request.end - kinds[request.kind].bytes.len() + body;
                link.waits_to_continue = true;
                break;
            }
            end = request.end;
        }
        if link.waits_to_continue {
            self.schedule(now + SECOND, Happening::Continues(at));
        }
        self.transmit(at, end, now);
    }

    /// Sends the body for which the client has waited.
    pub fn client_continues(&mut self, at: usize, now: Nanos) {
        let link = &mut self.links[at];
        if link.waits_to_continue && link.may_send() {
            link.waits_to_continue = false;
            let end = link.requests[link.begun - 1].end;
            self.transmit(at, end, now);
            self.send_requests(at, now);
        }
    }

    /// Sends bytes, cut into parts.
    fn transmit(&mut self, at: usize, end: usize, now: Nanos) {
        let link = &mut self.links[at];
        let parts = 1 + link.random.below(link.client.parts);
        let mut due = link.last_arrival.max(now + link.client.latency);
        for left in (0..parts).rev() {
            let link = &mut self.links[at];
            let len = end - link.sent;
            if len == 0 {
                break;
            }
            link.sent += match left {
                0 => len,
                _ if link.client.is_even => len.div_ceil(left + 1),
                _ => 1 + link.random.below(len),
            };
            link.last_arrival = due;
            let (sent, gap) = (link.sent, link.client.gap);
            self.schedule(due, Happening::Arrives(at, sent));
            due += gap;
        }
        self.half_close(at, now);
    }

    fn half_close(&mut self, at: usize, now: Nanos) {
        let link = &self.links[at];
        let has_sent_all = link.begun == link.requests.len() && !link.waits_to_continue;
        if has_sent_all && link.client.ending == Ending::HalfClose {
            self.send_client_fin(at, now);
        }
    }

    fn send_client_fin(&mut self, at: usize, now: Nanos) {
        let link = &mut self.links[at];
        if !link.fin_sent {
            link.fin_sent = true;
            link.last_arrival = link.last_arrival.max(now + link.client.latency);
            let due = link.last_arrival;
            self.schedule(due, Happening::FinArrives(at));
        }
    }

    /// The client closes its socket.
    fn close(&mut self, at: usize, now: Nanos) {
        self.send_client_fin(at, now);
        self.links[at].is_gone = true;
    }

    /// Bytes have come to the client's kernel.
    pub fn deliver(&mut self, at: usize, end: usize, now: Nanos) {
        let link = &mut self.links[at];
        if link.is_gone {
            let due = now + link.client.latency;
            self.schedule(due, Happening::ResetArrives(at));
            return;
        }
        link.delivered = end;
        match link.client.reading {
            Reading::AtOnce => self.take(at, end, now),
            Reading::Slowly(_, gap) if !link.reads_later => {
                link.reads_later = true;
                self.schedule(now + gap, Happening::Reads(at));
            }
            Reading::Slowly(..) | Reading::Never => {}
        }
    }

    pub fn client_reads(&mut self, at: usize, now: Nanos) {
        let link = &mut self.links[at];
        link.reads_later = false;
        let Reading::Slowly(bytes, gap) = link.client.reading else { return };
        if link.is_gone {
            return;
        }
        let end = link.delivered.min(link.taken + bytes);
        if end < link.delivered {
            link.reads_later = true;
            self.schedule(now + gap, Happening::Reads(at));
        }
        self.take(at, end, now);
    }

    /// The client reads, and goes on with what it has got.
    fn take(&mut self, at: usize, end: usize, now: Nanos) {
        self.links[at].taken = end;
        self.make_room(at);
        let link = &mut self.links[at];
        let had = link.received;
        while let Some(&(_, closes)) = link.output.ends.get(link.received).filter(|it| it.0 <= end)
        {
            link.received += 1;
            link.stopped |= closes && link.client.obeys;
        }
        let is_told = link.output.continues.last().is_some_and(|&at| at <= end);
        let is_served = link.received == link.begun;
        let (has_more, has_all) = (link.received > had, link.received == link.requests.len());
        let may_close = has_all || link.stopped;
        let think = link.client.think;
        if link.waits_to_continue && (is_told || is_served) {
            self.client_continues(at, now);
        }
        if may_close && self.links[at].client.ending == Ending::Close {
            self.close(at, now);
        } else if has_more && think == 0 {
            self.send_requests(at, now);
        } else if has_more {
            self.schedule(now + think, Happening::Acts(at));
        }
        if self.links[at].fin_delivered {
            self.close_after_server(at, now);
        }
    }

    pub fn client_gets_fin(&mut self, at: usize, now: Nanos) {
        self.links[at].fin_delivered = true;
        self.close_after_server(at, now);
    }

    fn close_after_server(&mut self, at: usize, now: Nanos) {
        let link = &self.links[at];
        if link.taken == link.written
            && let Some(time) = link.client.closes_after
        {
            self.schedule(now + time, Happening::Ends(at));
        }
    }

    pub fn client_gets_reset(&mut self, at: usize) {
        let link = &mut self.links[at];
        if !link.is_gone {
            (link.is_gone, link.fin_sent) = (true, true);
            self.judge_reset(at);
        }
    }

    pub fn client_ends(&mut self, at: usize, now: Nanos) {
        let link = &mut self.links[at];
        if link.is_gone {
            return;
        }
        match link.client.ending {
            _ if link.fin_delivered => self.close(at, now),
            Ending::Reset(_) => {
                (link.is_gone, link.fin_sent) = (true, true);
                let due = link.last_arrival.max(now + link.client.latency);
                self.schedule(due, Happening::ResetArrives(at));
                self.counts.fault(Fault::Reset);
            }
            Ending::Silence(_) => {
                (link.client.reading, link.client.closes_after) = (Reading::Never, None);
                link.stopped = true;
                self.counts.fault(Fault::Silence);
            }
            Ending::Abandon(_) => self.close(at, now),
            Ending::Close | Ending::HalfClose | Ending::Stay | Ending::Leave => {}
        }
    }
}

impl Link {
    fn may_send(&self) -> bool {
        !self.stopped && !self.fin_sent && !self.is_gone && !self.fin_delivered
    }
}
