//! Owns the figures that ours stand beside: slowdown by message size, as the Homa paper (SIGCOMM 2018) shows it in its simulations.
//!
//! `data/published.csv` was condensed from the numbers behind the paper's figures: neighbouring bins of sizes are one until they hold
//! a quarter of a percent of all messages; their values are means, weighted by messages.

/// Slowdown of the messages of one bin of sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Figure {
    /// The mean.
    pub mean: f64,
    /// The median.
    pub p50: f64,
    /// The 99th percentile.
    pub p99: f64,
}

/// The transports of the paper, in the order of [`Bin::figures`].
pub const TRANSPORTS: [&str; 5] = ["Homa", "pFabric", "pHost", "PIAS", "NDP"];

/// A bin of message sizes.
#[derive(Clone, Debug, PartialEq)]
pub struct Bin {
    /// The largest message in it; the smallest is larger than the one before.
    pub bytes_upto: u32,
    /// Its share of all messages.
    pub share: f64,
    /// What each transport made of it, where that is published.
    pub figures: [Option<Figure>; 5],
}

/// The bins of a workload at a load, smallest messages first; none when nothing is published.
#[must_use]
pub fn bins(workload: &str, load: f64) -> Vec<Bin> {
    let of_run = |line: &&str| {
        let mut cells = line.split(',');
        cells.next() == Some(workload) && cells.next().and_then(|cell| cell.parse().ok()) == Some(load)
    };
    include_str!("../data/published.csv").lines().skip(1).filter(of_run).map(bin).collect()
}

fn bin(line: &str) -> Bin {
    let cells: Vec<Option<f64>> = line.split(',').skip(2).map(|cell| cell.parse().ok()).collect();
    let mut figures = [None; 5];
    for (figure, cells) in figures.iter_mut().zip(cells[2..].chunks(3)) {
        if let [mean, Some(p50), Some(p99)] = *cells {
            *figure = Some(Figure { mean: mean.unwrap_or(p50), p50, p99 });
        }
    }
    Bin { bytes_upto: cells[0].expect("a size") as u32, share: cells[1].expect("a share"), figures }
}

/// One bin of several: shares add up, figures are means by share; a transport that lacks one of them lacks the whole.
#[must_use]
pub fn merge(bins: &[Bin]) -> Bin {
    let share: f64 = bins.iter().map(|bin| bin.share).sum();
    let mut figures = [None; 5];
    for (at, merged) in figures.iter_mut().enumerate() {
        let known: Vec<(f64, Figure)> = bins.iter().filter_map(|bin| Some((bin.share, bin.figures[at]?))).collect();
        let weight: f64 = known.iter().map(|(share, _)| share).sum();
        if weight > share / 2.0 {
            let mean = |of: fn(&Figure) -> f64| known.iter().map(|(share, f)| share * of(f)).sum::<f64>() / weight;
            *merged = Some(Figure { mean: mean(|f| f.mean), p50: mean(|f| f.p50), p99: mean(|f| f.p99) });
        }
    }
    Bin { bytes_upto: bins.last().map_or(0, |bin| bin.bytes_upto), share, figures }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_numbers_that_the_paper_is_known_for() {
        for (workload, p99) in [("w1", 1.84), ("w2", 1.98), ("w3", 2.22), ("w4", 2.29), ("w5", 1.48)] {
            let bins = bins(workload, 0.8);
            let homa = bins[usize::from(workload == "w1")].figures[0].expect("Homa is published");
            assert!((homa.p99 - p99).abs() < 0.01, "{workload}: {}", homa.p99);
            let share: f64 = bins.iter().map(|bin| bin.share).sum();
            assert!((share - 1.0).abs() < 0.002, "{workload}: {share}");
            assert!(bins.windows(2).all(|pair| pair[0].bytes_upto < pair[1].bytes_upto));
        }
        assert!(bins("w1", 0.3).is_empty());
    }

    #[test]
    fn merged_bins() {
        let bin = |bytes_upto, share, p99| {
            let homa = Figure { mean: 1.0, p50: 1.0, p99 };
            Bin { bytes_upto, share, figures: [Some(homa), None, None, None, None] }
        };
        let merged = merge(&[bin(10, 0.25, 2.0), bin(20, 0.75, 4.0)]);
        assert_eq!((merged.bytes_upto, merged.figures[0].map(|f| f.p99)), (20, Some(3.5)));
        assert_eq!(merged.figures[1], None);
    }
}
