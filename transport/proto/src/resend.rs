//! Owns what to ask again when there is silence, and when to give up. [P-8.5]
//!
//! Pure: looks at one RPC and says what its timer is for. Timers are lazy: a sign of life only moves `heard`, and the
//! timer finds out when it fires, so that an RPC costs one timer however many packets it has.

use core::time::Duration;

use crate::config::Config;
use crate::io::State;
use crate::rpc::Rpc;
use crate::rtt::Rtt;
use crate::time::Instant;

/// Questions without any answer, below which nobody is given up: a machine that slept itself asks first.
const ASKED_MIN: u8 = 3;

/// From the shortest patience that anybody configures to the longest it is no more than that.
const DOUBLINGS_MAX: u8 = 12;

/// What a timer that fired is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Nothing yet; look again then.
    Wait(Instant),
    /// The caller's deadline passed.
    Deadline,
    /// The peer was silent for too long.
    GiveUp,
    /// Ask the peer about its message to us, then look again after the given time.
    AskForMessage(Duration),
    /// Ask the peer whether our message arrived, then look again after the given time.
    AskForAck(Duration),
}

/// How long to wait for a sign of life after `asked` questions.
pub fn patience(config: &Config, rtt: &Rtt, asked: u8) -> Duration {
    let within = config.patience_ns();
    let base = rtt.patience_ns(within);
    Duration::from_nanos((base << asked.min(DOUBLINGS_MAX)).min(within.1))
}

/// Judges `rpc` at `now`.
pub fn judge(config: &Config, rtt: &Rtt, rpc: &Rpc, now: Instant) -> Due {
    if now >= rpc.deadline {
        return Due::Deadline;
    }
    let pause = patience(config, rtt, rpc.asked);
    let wait = |until: Instant| Due::Wait(until.min(rpc.deadline));
    match rpc.state {
        // The application's turn: no timer but the caller's own.
        State::InService | State::Complete => wait(Instant::FAR),
        State::Requesting if rpc.waits_for_room => hold(config, rpc, now, rpc.heard),
        State::Requesting | State::Telling | State::Responding => {
            // As long as something of ours waits to go out, silence is our own.
            if rpc.out.as_ref().is_some_and(|out| out.is_ready()) {
                return wait(now + pause);
            }
            let since = if rpc.sent_at == Instant::FAR { rpc.heard } else { rpc.heard.max(rpc.sent_at) };
            // A response that waits for its ack is in no hurry: acks ride, so give them the time to.
            let length = rpc.out.as_ref().map_or(0, |out| out.geometry().length());
            let ride = (config.response_ack_delay(length) + config.ack_delay) * 2;
            let pause = if rpc.state == State::Responding { pause + ride } else { pause };
            silence(config, rpc, now, since, pause, rpc.state != State::Requesting)
        }
        State::Receiving | State::Answering => {
            let Some(inc) = rpc.inc.as_ref() else { return wait(Instant::FAR) };
            let since = rpc.heard.max(inc.silent_since(config.resend_max));
            // Nothing is on its way because we hold grants back, so there is nothing to ask for. But a sender that lives
            // asks us meanwhile; one that does not must not hold its place for ever.
            if inc.outstanding() == 0 {
                return hold(config, rpc, now, since);
            }
            // Whatever its sender says: it may send, it does not, and it holds memory. [P-8.7]
            if now.since(inc.heard) >= config.stall_timeout {
                return Due::GiveUp;
            }
            silence(config, rpc, now, since, pause, false)
        }
    }
}

/// It is us who make it wait: nothing is asked, and only a sender without any sign of life is given up.
fn hold(config: &Config, rpc: &Rpc, now: Instant, since: Instant) -> Due {
    let end = since + config.peer_timeout;
    if now >= end { Due::GiveUp } else { Due::Wait(end.min(rpc.deadline)) }
}

fn silence(config: &Config, rpc: &Rpc, now: Instant, since: Instant, pause: Duration, for_ack: bool) -> Due {
    if now.since(since) >= config.peer_timeout && rpc.asked >= ASKED_MIN {
        return Due::GiveUp;
    }
    // Also after questions: they were answered since, if only by "not yet". Pauses double, so this never holds up a
    // question that was not.
    if now < since + pause {
        return Due::Wait((since + pause).min(rpc.deadline));
    }
    if for_ack { Due::AskForAck(pause) } else { Due::AskForMessage(pause) }
}
