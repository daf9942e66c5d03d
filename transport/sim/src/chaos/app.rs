//! Owns what stands around the endpoints of a chaos run and sees all that happens: the applications, the bad network, those who mean
//! harm, and the checker.

use endpoint::endpoint::Endpoint;
use endpoint::error::Misuse;
use endpoint::events::Event;
use endpoint::pool::Payload;
use endpoint::session::CallId;
use proto::time::Instant;
use wire::control::packet_number;
use wire::handshake::FLAG_CLIENT;
use wire::ids::Side;

use super::agenda::{Agenda, Served, Todo};
use super::sabotage::Sabotage;
use crate::checker::Checker;
use crate::checker::bodies::body;
use crate::clock::{MS, Time};
use crate::fault::{Altered, Faults};
use crate::hooks::{Hooks, Lost, Verdict};
use crate::link::Frame;
use crate::malice::inside::Insider;
use crate::malice::outside::Stranger;
use crate::rng::{FastMap, Rng};

/// How long an application takes to answer late, on average.
const LATE: f64 = 3.0 * MS as f64;
/// Longest response to a malicious host.
const STRANGE_RESPONSE_MAX: u64 = 20_000;

/// What was counted besides what others count.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames that a cut kept from arriving.
    pub cut_off: u64,
    /// Frames for hosts that were down.
    pub for_the_dead: u64,
    /// Frames for addresses that were not their host's any more.
    pub for_old_addresses: u64,
    /// Frames for which a switch had no room.
    pub queue_full: u64,
    /// Datagrams that no endpoint sent and that arrived.
    pub forged: u64,
    /// Answers that were given late.
    pub late: u64,
}

/// All that stands around the endpoints.
#[derive(Debug)]
pub struct App {
    seed: u64,
    malicious: Option<u32>,
    rng: Rng,
    /// Judges.
    pub checker: Checker,
    /// The bad network.
    pub faults: Faults,
    /// Who sees everything.
    pub stranger: Stranger,
    /// Who is behind the malicious host.
    pub insider: Option<Insider>,
    /// How often each host was started.
    pub lives: Vec<u32>,
    /// What is to do.
    pub agenda: Agenda,
    /// Requests that nobody is going to answer.
    pub unanswered: Vec<Served>,
    /// Applications answer at once.
    pub calm: bool,
    /// Until when the malicious host's endpoint cannot be heard.
    pub muted: Time,
    /// Forged datagrams under way, and what they must not be taken for.
    pub forged: FastMap<u64, Option<Altered>>,
    /// Control packets that were opened, by host, life, session and number, and what they ended with.
    controls: FastMap<(u32, u32, u64, u64), u64>,
    /// How many the endpoint had opened that a frame is being handed to.
    opened: u64,
    /// What was counted.
    pub counts: Counts,
    pub(super) sabotage: Sabotage,
}

impl App {
    /// In a world of so many hosts.
    #[must_use]
    pub fn new(seed: u64, hosts: u32, malicious: Option<u32>, checker: Checker, faults: Faults) -> Self {
        let stream = |n: u64| Rng::new(seed, 0xc4a0_5a00 + n);
        Self {
            seed,
            malicious,
            rng: stream(0),
            checker,
            faults,
            stranger: Stranger::new(stream(1)),
            insider: malicious.map(|host| Insider::new(host, stream(2))),
            lives: vec![1; hosts as usize],
            agenda: Agenda::default(),
            unanswered: Vec::new(),
            calm: false,
            muted: 0,
            forged: FastMap::default(),
            controls: FastMap::default(),
            opened: 0,
            counts: Counts::default(),
            sabotage: Sabotage::default(),
        }
    }

    /// An application has a request.
    fn serve(&mut self, now: Time, served: Served, endpoint: &mut Endpoint, local: Instant) {
        let patient = served.call.is_none_or(|call| self.checker.calls.get(call).wish.patient);
        let choice = if self.calm { 0 } else { self.rng.below(100) };
        match choice {
            ..85 => self.answer(now, served, false, endpoint, local),
            85..91 => {
                let at = now + self.rng.exponential(LATE) as Time;
                self.agenda.put(at, Todo::Answer(served, self.rng.below(4) == 0));
                self.counts.late += 1;
            }
            91..94 => self.answer(now, served, true, endpoint, local),
            _ if patient => self.unanswered.push(served),
            _ => self.answer(now, served, false, endpoint, local),
        }
    }

    fn answer(&mut self, now: Time, served: Served, refuse: bool, endpoint: &mut Endpoint, local: Instant) {
        let outcome =
            if refuse { endpoint.refuse(served.id) } else { endpoint.reply(local, served.id, self.response(&served)) };
        self.answered(now, served, refuse, outcome);
    }

    /// What an application answers.
    pub fn response(&mut self, served: &Served) -> Payload {
        Payload::from(match served.call {
            Some(call) => body(self.seed, call, true, self.checker.calls.get(call).wish.response_len),
            None => vec![0; self.rng.below(STRANGE_RESPONSE_MAX) as usize],
        })
    }

    /// An application answered, or refused, if its endpoint let it.
    pub fn answered(&mut self, now: Time, served: Served, refuse: bool, outcome: Result<(), Misuse>) {
        match (outcome, served.call) {
            (Ok(()), Some(call)) => self.checker.calls.answered(call, refuse),
            // Later there will be room.
            (Err(Misuse::SendBufferFull { .. }), _) => self.agenda.put(now + MS, Todo::Answer(served, false)),
            // Its caller gave it up, or the session is gone.
            (Ok(()) | Err(_), _) => {}
        }
    }

    /// A control packet counts once: what brings it a second time, a faulty network or a stranger, must change nothing. [P-5.3]
    fn repeated(&self, frame: &Frame) -> Option<Altered> {
        let opened = self.controls.get(&self.control_name(frame)?)?;
        // A number proves nothing: the malicious host may seal something else under it.
        (*opened == frame.tail()).then_some(Altered::Sealed)
    }

    fn control_name(&self, frame: &Frame) -> Option<(u32, u32, u64, u64)> {
        let session = u64::from_be_bytes(*frame.bytes.get(8..)?.first_chunk()?);
        let number = packet_number(&frame.bytes).ok().filter(|_| frame.kind() == 2)?;
        Some((frame.to, self.lives[frame.to as usize], session, number))
    }

    /// Which end of its session a frame is from, where that can be told.
    fn sender(&self, frame: &Frame) -> Option<Side> {
        match frame.kind() {
            1 | 2 => {
                let name = u64::from_be_bytes(*frame.bytes.get(8..)?.first_chunk()?);
                let session = self.checker.wiretap.session_of(frame.from, frame.to, name)?;
                Some(session.side(frame.from))
            }
            3 => Some(if frame.bytes.get(1)? & FLAG_CLIENT != 0 { Side::Client } else { Side::Server }),
            5 => Some(Side::Server),
            _ => None,
        }
    }

    fn served(&self, host: u32, id: CallId, call: Option<u64>) -> Served {
        Served { host, life: self.lives[host as usize], id, call }
    }
}

impl Hooks for App {
    fn left(&mut self, now: Time, frame: &Frame) {
        self.checker.left(now, frame);
        if let Some(again) = self.sabotage.sealed_again(frame, &self.checker) {
            self.checker.left(now, &again);
        }
        self.stranger.see(frame, self.lives[frame.to as usize]);
        if let Some(insider) = &mut self.insider {
            insider.hear(frame, &self.checker.wiretap);
        }
    }

    fn sent_by_client(&self, frame: &Frame) -> bool {
        self.sender(frame) == Some(Side::Client)
    }

    fn sent_by_server(&self, frame: &Frame) -> bool {
        self.sender(frame) == Some(Side::Server)
    }

    fn verdict(&mut self, now: Time, frame: &Frame) -> Verdict {
        if now < self.muted && self.malicious == Some(frame.from) {
            return Verdict::Drop;
        }
        match self.sabotage.verdict() {
            Some(verdict) => verdict,
            None => self.faults.judge(now, frame),
        }
    }

    fn arriving(&mut self, _: Time, frame: &Frame, endpoint: &Endpoint) {
        let altered = match self.forged.remove(&frame.id) {
            Some(unauthentic) => {
                self.counts.forged += 1;
                unauthentic
            }
            None => self.faults.arrives(frame.id),
        };
        let altered = altered.or_else(|| self.repeated(frame)).or_else(|| self.sabotage.slander(frame));
        self.checker.arriving(altered, frame, endpoint);
        self.opened = endpoint.counters().controls_opened;
    }

    fn arrived(&mut self, now: Time, frame: &Frame, endpoint: &Endpoint) {
        self.checker.arrived(now, frame, endpoint);
        if endpoint.counters().controls_opened > self.opened
            && let Some(name) = self.control_name(frame)
        {
            self.controls.insert(name, frame.tail());
        }
    }

    fn settled(&mut self, now: Time, host: u32, endpoint: &Endpoint) {
        self.checker.settled(now, host, endpoint);
    }

    fn halted(&self) -> bool {
        self.checker.broken().is_some()
    }

    fn lost(&mut self, _: Time, frame: &Frame, why: Lost) {
        self.faults.is_lost(frame.id);
        self.forged.remove(&frame.id);
        match why {
            Lost::Partition => self.counts.cut_off += 1,
            Lost::HostDown => self.counts.for_the_dead += 1,
            Lost::QueueFull => self.counts.queue_full += 1,
            Lost::Rebound => self.counts.for_old_addresses += 1,
            Lost::Judged | Lost::Nowhere => {}
        }
    }

    fn event(&mut self, now: Time, host: u32, endpoint: &mut Endpoint, local: Instant, event: Event) {
        let event = match self.sabotage.event(event) {
            Some(event) => event,
            None => return,
        };
        let call = self.checker.event(now, host, local, &event);
        if self.sabotage.tells_twice(&event) {
            self.checker.event(now, host, local, &event);
        }
        if let Event::Request { id, .. } = event {
            let served = self.served(host, id, call);
            self.serve(now, served, endpoint, local);
        }
    }
}
