//! `sealane tensor`: tensors to a server on this machine and back, and what it takes to read one where it arrived.
#![expect(clippy::disallowed_methods, reason = "decoding is measured by the real clock")]

use ::tensor::{Dtype, Tensor};
use anyhow::{Context, Result, ensure};
use sealane::{Delivery, Payload, Peer, Role, Socket};
use serde::Serialize;
use serde_json::json;
use std::fmt::Write as _;
use std::hint::black_box;
use std::thread;
use std::time::{Duration, Instant};

/// Decodings that one figure is the median of, and how many are timed at once: the clock costs more than one.
const TIMES: usize = 201;
const AT_ONCE: u32 = 100;
/// The longest message that either end takes.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Bytes of data beside the shape that was asked for.
const SIZES: [u64; 5] = [4 << 10, 16 << 10, 64 << 10, 384 << 10, 1 << 20];

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Send a tensor to a server on this machine, and read what comes back; then others from 4 KB to 1 MB
    Echo(EchoArgs),
}

#[derive(Debug, clap::Args)]
struct EchoArgs {
    /// Dimensions, the slowest first
    #[arg(long, value_name = "N,N", value_delimiter = ',', default_value = "128,768")]
    shape: Vec<u64>,
    /// f32, f64, f16, bf16, i32, i64, u8 or bool
    #[arg(long, value_name = "TYPE", default_value = "f32", value_parser = dtype)]
    dtype: Dtype,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn dtype(name: &str) -> Result<Dtype, String> {
    Dtype::parse(name).ok_or_else(|| "one of f32, f64, f16, bf16, i32, i64, u8, bool".to_owned())
}

/// One tensor, there and back.
#[derive(Debug, Serialize)]
struct Row {
    shape: Vec<u64>,
    dtype: &'static str,
    bytes: usize,
    decode_ns: f64,
    /// The data were read where they arrived: inside the message.
    in_place: bool,
    /// At an address that is a multiple of eight.
    aligned: bool,
    round_trip_us: f64,
}

pub(crate) fn run(args: &Args) -> Result<()> {
    let Command::Echo(args) = &args.command;
    let server = Socket::builder()
        .installed_only()
        .serve_installed()
        .message_bytes_max(MESSAGE_BYTES_MAX)
        .bind("127.0.0.1:0")?;
    let client = Socket::builder().installed_only().message_bytes_max(MESSAGE_BYTES_MAX).bind("127.0.0.1:0")?;
    let mut secret = [0; 32];
    getrandom::fill(&mut secret).context("the system gives no randomness")?;
    server.install_session(client.local_addr(), Role::Server, secret, "tensor");
    let peer = client.install_session(server.local_addr(), Role::Client, secret, "tensor").context("a peer")?;
    let (asked, limit) = (args.dtype.data_len(&args.shape)?, MESSAGE_BYTES_MAX as u64);
    ensure!(asked <= limit, "a tensor of {asked} bytes is more than a message can have: {limit}, its head included");
    let each = args.dtype.bytes() as u64;
    let shapes = std::iter::once(args.shape.clone()).chain(SIZES.map(|bytes| vec![bytes / 256, 256 / each]));
    let rows: Vec<Row> = thread::scope(|scope| {
        scope.spawn(|| {
            while let Ok(Delivery::Request(request)) = server.recv() {
                let answered = match Tensor::decode(request.payload) {
                    Ok(tensor) => server.reply(request.token, tensor.into_message()),
                    Err(_) => server.refuse(request.token),
                };
                // A client that is gone wants no answer.
                let _ = answered;
            }
        });
        let rows: Vec<Result<Row>> = shapes.map(|shape| echo(&client, &peer, args.dtype, &shape)).collect();
        let _ = server.close();
        rows
    })
    .into_iter()
    .collect::<Result<_>>()?;
    crate::print(&if args.json { format!("{}\n", json!({ "rows": rows })) } else { shown(&rows) })?;
    ensure!(rows.iter().all(|row| row.in_place), "data were moved");
    Ok(())
}

fn echo(client: &Socket, peer: &Peer, dtype: Dtype, shape: &[u64]) -> Result<Row> {
    let bytes = usize::try_from(dtype.data_len(shape)?)?;
    let data: Vec<u8> = (0..bytes).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_be_bytes()[0]).collect();
    let message = Payload::from(::tensor::encode(dtype, shape, &data)?);
    let mut trips = Vec::new();
    let mut last = None;
    for _ in 0..8 {
        let begun = Instant::now();
        last = Some(client.call(peer, message.clone())?);
        trips.push(begun.elapsed());
    }
    trips.sort_unstable();
    let reply = last.context("no reply")?;
    let tensor = Tensor::decode(reply.clone())?;
    ensure!(tensor.data() == data && tensor.shape().eq(shape.iter().copied()), "another tensor came back");
    let (at, within) = (tensor.data().as_ptr() as usize, reply.as_ptr() as usize);
    let in_place = (within..=within + reply.len()).contains(&at);
    Ok(Row {
        shape: shape.to_vec(),
        dtype: dtype.name(),
        bytes,
        decode_ns: decode_ns(&reply),
        in_place,
        aligned: at.is_multiple_of(::tensor::ALIGNMENT),
        round_trip_us: micros(trips[trips.len() / 2]),
    })
}

fn micros(time: Duration) -> f64 {
    (time.as_secs_f64() * 1e7).round() / 10.0
}

/// From a message to the last byte of its data: the median.
fn decode_ns(reply: &Payload) -> f64 {
    let mut times: Vec<Duration> = (0..TIMES)
        .map(|_| {
            let begun = Instant::now();
            for _ in 0..AT_ONCE {
                let tensor = Tensor::decode(black_box(reply).clone());
                black_box(tensor.as_ref().ok().and_then(|tensor| tensor.data().last()));
            }
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    (times[TIMES / 2].as_secs_f64() * 1e10 / f64::from(AT_ONCE)).round() / 10.0
}

fn shown(rows: &[Row]) -> String {
    let mut text = format!(
        "{:>16} {:>5} {:>10} {:>12} {:>9} {:>8} {:>14}\n",
        "shape", "type", "bytes", "decode", "in place", "aligned", "round trip"
    );
    let yes = |yes: bool| if yes { "yes" } else { "no" };
    for row in rows {
        let shape: Vec<String> = row.shape.iter().map(u64::to_string).collect();
        let _ = writeln!(
            text,
            "{:>16} {:>5} {:>10} {:>9.1} ns {:>9} {:>8} {:>11.1} us",
            shape.join("x"),
            row.dtype,
            row.bytes,
            row.decode_ns,
            yes(row.in_place),
            yes(row.aligned),
            row.round_trip_us
        );
    }
    text
}
