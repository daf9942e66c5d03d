//! Owns the result of a run: how many times longer each message took than alone in the network, by message size, and beside it
//! what was published. Which ideal counts as "alone" is said in [`crate::framing`].

use hdrhistogram::Histogram;

use crate::published::{self, Bin, Figure};
use crate::workload::Workload;

/// A slowdown of 1 in the units of the histograms.
const ONE: f64 = 10_000.0;
/// Slowdowns above this count as this.
const MOST: u64 = 100_000 * ONE as u64;
/// Samples that a bin needs before its 99th percentile is judged.
pub const SAMPLES_MIN: u64 = 1000;
/// Where the tables look, by position in the distribution of messages; 0 is the smallest messages.
pub const POSITIONS: [f64; 8] = [0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 0.95, 0.99];
/// Positions that are judged, and how much worse than published each may be; or than an ideal schedule of the same messages, where that
/// is itself worse than published: what was published was then measured under less.
pub const JUDGED: [(f64, f64); 4] = [(0.0, 1.1), (0.5, 1.2), (0.9, 1.2), (0.99, 1.2)];

fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, MOST, 3).expect("the bounds are in order")
}

/// Slowdowns by message size.
#[derive(Clone, Debug)]
pub struct Slowdowns {
    bins: Vec<Bin>,
    samples: Vec<Histogram<u64>>,
    /// The same, over the ideal of the frames that were really sent.
    own: Vec<Histogram<u64>>,
    /// What an ideal schedule gives the same messages, over the paper's ideal.
    scheduled: Vec<Histogram<u64>>,
    /// Messages that began while it was measured and did not arrive until the run ended. They are among the samples, with the time
    /// that had passed.
    pub unfinished: Vec<u64>,
}

/// One line of a table.
#[derive(Clone, Debug)]
pub struct Row {
    /// The position in the distribution that it stands for.
    pub position: f64,
    /// Its messages are longer than this,
    pub bytes_over: u32,
    /// and at most so long.
    pub bytes_upto: u32,
    /// How many there were.
    pub samples: u64,
    /// How many of these did not arrive until the run ended: with one in a hundred, `p99` is only a lower bound.
    pub unfinished: u64,
    /// Over the paper's ideal.
    pub measured: Figure,
    /// Over the ideal of our own frames.
    pub own: Figure,
    /// The same messages under the schedule of [`crate::ideal`], over the paper's ideal.
    pub scheduled: Figure,
    /// What was published for these sizes.
    pub published: [Option<Figure>; 5],
    /// The 99th percentile of each message's slowdown over the 99th percentile that was published for Homa and its own size: 1
    /// when all bins that make up this row are as published, however different they are.
    pub ratio: Option<f64>,
    /// The same of the ideal schedule.
    pub ideal_ratio: Option<f64>,
    /// What `ratio` may be at most, where it is judged.
    pub limit: Option<f64>,
    /// Whether it meets what it is judged by; `None` where nothing is judged, or the run was too short to tell.
    pub verdict: Option<bool>,
}

fn figure(histogram: &Histogram<u64>) -> Figure {
    let at = |quantile| histogram.value_at_quantile(quantile) as f64 / ONE;
    Figure { mean: histogram.mean() / ONE, p50: at(0.5), p99: at(0.99) }
}

impl Slowdowns {
    /// No samples, in the bins that were published for this workload; else one for each size.
    #[must_use]
    pub fn new(workload: &Workload, load: f64) -> Self {
        let mut bins = published::bins(workload.name, load);
        if bins.is_empty() {
            bins = published::bins(workload.name, 0.8);
            bins.iter_mut().for_each(|bin| bin.figures = [None; 5]);
        }
        if bins.is_empty() {
            let mut before = 0.0;
            for &(bytes_upto, cumulative) in workload.points() {
                bins.push(Bin { bytes_upto, share: cumulative - before, figures: [None; 5] });
                before = cumulative;
            }
        }
        let samples = vec![histogram(); bins.len()];
        Self { own: samples.clone(), scheduled: samples.clone(), unfinished: vec![0; bins.len()], samples, bins }
    }

    fn bin(&self, bytes: u32) -> usize {
        self.bins.partition_point(|bin| bin.bytes_upto < bytes).min(self.bins.len() - 1)
    }

    /// A message of `bytes` took that many times the paper's ideal, and that many times our own.
    pub fn record(&mut self, bytes: u32, slowdown: f64, own: f64) {
        let bin = self.bin(bytes);
        self.samples[bin].saturating_record((slowdown * ONE) as u64);
        self.own[bin].saturating_record((own * ONE) as u64);
    }

    /// With an ideal schedule a message of `bytes` takes that many times the paper's ideal.
    pub fn record_scheduled(&mut self, bytes: u32, slowdown: f64) {
        let bin = self.bin(bytes);
        self.scheduled[bin].saturating_record((slowdown * ONE) as u64);
    }

    /// A message of `bytes` did not arrive; its slowdown so far was recorded.
    pub fn record_unfinished(&mut self, bytes: u32) {
        let bin = self.bin(bytes);
        self.unfinished[bin] += 1;
    }

    /// Takes the samples of another run of the same workload.
    ///
    /// # Panics
    /// When it is another workload.
    pub fn add(&mut self, other: &Self) {
        assert_eq!(self.bins, other.bins, "two runs of one workload");
        for (to, from) in [&mut self.samples, &mut self.own, &mut self.scheduled].into_iter().zip([
            &other.samples,
            &other.own,
            &other.scheduled,
        ]) {
            to.iter_mut().zip(from).for_each(|(to, from)| to.add(from).expect("histograms of one kind"));
        }
        for (to, from) in self.unfinished.iter_mut().zip(&other.unfinished) {
            *to += from;
        }
    }

    /// How many messages arrived.
    #[must_use]
    pub fn samples(&self) -> u64 {
        self.samples.iter().map(Histogram::len).sum()
    }

    /// The mean over all messages, over the paper's ideal.
    #[must_use]
    pub fn mean(&self) -> f64 {
        let sum: f64 = self.samples.iter().map(|samples| samples.mean() * samples.len() as f64).sum();
        sum / ONE / self.samples().max(1) as f64
    }

    /// All messages as one bin.
    #[must_use]
    pub fn overall(&self) -> Row {
        self.row(0.5, 0..self.bins.len())
    }

    /// The messages of some sizes as one bin: longer than `over`, at most `upto`, in whole bins.
    #[must_use]
    pub fn between(&self, over: u32, upto: u32) -> Row {
        let (first, last) = (self.bin(over.saturating_add(1)), self.bin(upto));
        self.row(0.5, first..last + 1)
    }

    fn row(&self, position: f64, bins: core::ops::Range<usize>) -> Row {
        let together = |of: &[Histogram<u64>]| {
            let mut all = histogram();
            of[bins.clone()].iter().for_each(|bin| all.add(bin).expect("histograms of one kind"));
            all
        };
        let samples = together(&self.samples);
        let published = published::merge(&self.bins[bins.clone()]);
        let measured = figure(&samples);
        let (ratio, ideal_ratio) = (self.ratio(&self.samples, bins.clone()), self.ratio(&self.scheduled, bins.clone()));
        let judged = JUDGED.iter().find(|(judged, _)| *judged == position).map(|(_, tolerance)| *tolerance);
        let unfinished: u64 = self.unfinished[bins.clone()].iter().sum();
        let limit = judged.map(|tolerance| tolerance * ideal_ratio.unwrap_or(1.0).max(1.0));
        let verdict = limit.zip(ratio).and_then(|(limit, ratio)| {
            let enough = samples.len() >= SAMPLES_MIN && unfinished * 100 < samples.len();
            // Too slow is too slow, even if it is a lower bound.
            (enough || ratio > limit).then_some(ratio <= limit)
        });
        Row {
            position,
            bytes_over: if bins.start == 0 { 0 } else { self.bins[bins.start - 1].bytes_upto },
            bytes_upto: published.bytes_upto,
            samples: samples.len(),
            unfinished,
            measured,
            own: figure(&together(&self.own)),
            scheduled: figure(&together(&self.scheduled)),
            published: published.figures,
            ratio,
            ideal_ratio,
            limit,
            verdict,
        }
    }

    fn ratio(&self, of: &[Histogram<u64>], bins: core::ops::Range<usize>) -> Option<f64> {
        let mut ratios = histogram();
        for bin in bins {
            let homa = self.bins[bin].figures[0]?;
            for value in of[bin].iter_recorded() {
                let ratio = value.value_iterated_to() as f64 / homa.p99;
                ratios.saturating_record_n(ratio as u64, value.count_at_value());
            }
        }
        Some(figure(&ratios).p99)
    }

    /// The bins around a position, as many as it takes for `least` samples: the one that holds the position first, then whichever
    /// neighbour is closer to it by messages; but not larger messages of which too many did not arrive, as the row could not be judged
    /// for what it does not stand for.
    fn around(&self, position: f64, least: u64) -> core::ops::Range<usize> {
        let mut ends = Vec::with_capacity(self.bins.len());
        let mut sum = 0.0;
        for bin in &self.bins {
            sum += bin.share;
            ends.push(sum);
        }
        let holds = ends.iter().position(|end| *end >= position - 1e-6).unwrap_or(self.bins.len() - 1);
        let (mut first, mut end) = (holds, holds + 1);
        let count = |range: core::ops::Range<usize>| self.samples[range].iter().map(Histogram::len).sum::<u64>();
        while count(first..end) < least && (first > 0 || end < self.bins.len()) {
            let below =
                if first > 0 { position - ends[first - 1] + self.bins[first - 1].share / 2.0 } else { f64::MAX };
            let above = match self.unfinished.get(end) {
                Some(unfinished) if *unfinished == 0 || first == 0 => ends[end] - self.bins[end].share / 2.0 - position,
                _ => f64::MAX,
            };
            if below < above {
                first -= 1;
            } else {
                end += 1;
            }
        }
        first..end
    }

    /// The table: at each position the published bins that make up [`SAMPLES_MIN`] samples.
    #[must_use]
    pub fn table(&self) -> Vec<Row> {
        POSITIONS.iter().map(|position| self.row(*position, self.around(*position, SAMPLES_MIN))).collect()
    }

    /// The whole curve: bins from the smallest on, merged until each has `least` samples.
    #[must_use]
    pub fn curve(&self, least: u64) -> Vec<Row> {
        let mut rows = Vec::new();
        let (mut first, mut samples, mut position) = (0, 0, 0.0);
        for at in 0..self.bins.len() {
            samples += self.samples[at].len();
            if samples >= least || (at + 1 == self.bins.len() && samples > 0) {
                let share: f64 = self.bins[first..=at].iter().map(|bin| bin.share).sum();
                rows.push(self.row(position + share / 2.0, first..at + 1));
                (first, samples) = (at + 1, 0);
                position += share;
            }
        }
        rows
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn workload(name: &str) -> Workload {
        Workload::named(name).expect("it is there")
    }

    #[test]
    fn bins_grow_until_they_can_be_judged() {
        let mut slowdowns = Slowdowns::new(&workload("w4"), 0.8);
        for n in 0..2000 {
            slowdowns.record(662, 1.0 + f64::from(n) / 1000.0, 1.0);
        }
        for _ in 0..400 {
            slowdowns.record(100, 2.0, 1.5);
            slowdowns.record(240, 4.0, 1.5);
        }
        let table = slowdowns.table();
        let middle = &table[3];
        assert_eq!((middle.position, middle.samples, middle.bytes_upto), (0.5, 2000, 662));
        assert!((middle.measured.p50 - 2.0).abs() < 0.01 && (middle.measured.p99 - 2.98).abs() < 0.01);
        assert_eq!(middle.verdict, Some(false), "1.85 is published");
        assert!((middle.ratio.expect("it is published") - 2.98 / 1.85).abs() < 0.02);
        assert!(table[0].samples >= SAMPLES_MIN && table[0].bytes_upto > 240);
        let mut twice = slowdowns.clone();
        twice.add(&slowdowns);
        assert_eq!(twice.samples(), 2 * slowdowns.samples());
        assert!((twice.mean() - slowdowns.mean()).abs() < 1e-9);
    }

    /// Bins that differ much, each as published: merged they are as published, too.
    #[test]
    fn merged_bins_are_judged_each_by_its_own() {
        let mut slowdowns = Slowdowns::new(&workload("w5"), 0.8);
        let bins = slowdowns.bins.clone();
        for (at, bin) in bins.iter().enumerate() {
            let homa = bin.figures[0].expect("it is published");
            for n in 0..100 {
                slowdowns.record(bin.bytes_upto, if n < 2 { homa.p99 } else { 1.0 }, 1.0);
            }
            assert_eq!(slowdowns.samples[at].len(), 100);
        }
        let last = &slowdowns.table()[7];
        assert!(last.bytes_over < 16_000_000 && last.samples >= SAMPLES_MIN && last.verdict == Some(true), "{last:?}");
        assert!((last.ratio.expect("it is published") - 1.0).abs() < 0.01 && last.measured.p99 > 7.0, "{last:?}");
    }

    /// A row that needs more samples takes them from shorter messages, if the longer have not all come.
    #[test]
    fn what_did_not_arrive_is_no_neighbour() {
        let mut slowdowns = Slowdowns::new(&workload("w4"), 0.8);
        let bins = slowdowns.bins.clone();
        let [.., before, at, after] = &bins[..] else { panic!("many bins") };
        (0..600).for_each(|_| slowdowns.record(at.bytes_upto, 1.0, 1.0));
        (0..600).for_each(|_| slowdowns.record(after.bytes_upto, 1.0, 1.0));
        let row = |slowdowns: &Slowdowns| slowdowns.table()[7].clone();
        assert_eq!((row(&slowdowns).bytes_upto, row(&slowdowns).verdict), (after.bytes_upto, Some(true)));
        (0..60).for_each(|_| slowdowns.record_unfinished(after.bytes_upto));
        (0..600).for_each(|_| slowdowns.record(before.bytes_upto, 1.0, 1.0));
        assert_eq!((row(&slowdowns).bytes_upto, row(&slowdowns).verdict), (at.bytes_upto, Some(true)));
    }

    /// Where the ideal schedule is slower than published, the tolerance is over the ideal; where it is faster, nothing changes.
    #[test]
    fn nobody_is_to_be_faster_than_the_ideal() {
        let mut slowdowns = Slowdowns::new(&workload("w4"), 0.8);
        let homa =
            slowdowns.bins.iter().find(|bin| bin.bytes_upto == 662).expect("a bin").figures[0].expect("published").p99;
        (0..SAMPLES_MIN).for_each(|_| slowdowns.record(662, 1.4 * homa, 1.0));
        let row = |ideal: f64| {
            let mut slowdowns = slowdowns.clone();
            (0..SAMPLES_MIN).for_each(|_| slowdowns.record_scheduled(662, ideal * homa));
            slowdowns.table()[3].clone()
        };
        assert_eq!((row(0.9).verdict, row(1.1).verdict, row(1.2).verdict), (Some(false), Some(false), Some(true)));
        let (fast, slow) = (row(0.9), row(1.2));
        assert!((fast.limit.expect("judged") - 1.2).abs() < 1e-9 && (slow.limit.expect("judged") - 1.44).abs() < 0.01);
        assert!((slow.ideal_ratio.expect("published") - 1.2).abs() < 0.01 && slow.scheduled.p99 > 2.0);
    }

    #[test]
    fn too_few_samples_are_no_success() {
        let mut slowdowns = Slowdowns::new(&workload("w5"), 0.8);
        (1..SAMPLES_MIN).for_each(|_| slowdowns.record(1442, 1.0, 1.0));
        assert_eq!(slowdowns.table()[0].verdict, None);
        slowdowns.record(1442, 1.0, 1.0);
        assert_eq!(slowdowns.table()[0].verdict, Some(true));
        (0..SAMPLES_MIN / 100).for_each(|_| slowdowns.record_unfinished(1442));
        assert_eq!(slowdowns.table()[0].verdict, None, "one in a hundred may be slower than any");
        assert_eq!(Slowdowns::new(&workload("w5"), 0.3).table()[0].verdict, None, "nothing is published");
    }
}
