//! Owns what the client shows: each kind of call once, and the services that every gRPC server should have.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tokio_stream::{StreamExt, iter};
use tonic::{Code, Request};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

use crate::channel::Channel;
use crate::proto::board_client::BoardClient;
use crate::proto::{PostRequest, WatchRequest};

/// One call and what came of it.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// `unary`, `server stream`, `client stream`, `both streams`, `deadline` or `cancelled`.
    pub kind: &'static str,
    /// Which method.
    pub method: &'static str,
    /// How long it took.
    pub us: f64,
    /// In words.
    pub outcome: String,
}

/// Calls every kind.
///
/// # Errors
/// What failed.
pub async fn all(channel: &Channel) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    let mut note = |kind, method, began: Instant, outcome: String| {
        rows.push(Row { kind, method, us: began.elapsed().as_nanos() as f64 / 1_000.0, outcome });
    };
    let mut client = BoardClient::new(channel.clone());
    let board = format!("news of {}", std::process::id());
    let post = |text: String| PostRequest { board: board.clone(), text };

    let began = Instant::now();
    let posted = client.post(post("hello".to_owned())).await?.into_inner();
    note("unary", "sealane.board.v1.Board/Post", began, format!("note {} by {}", posted.number, posted.author));

    let began = Instant::now();
    let done =
        client.import(iter((0..1_000).map(|n| post(format!("note {n}"))).collect::<Vec<_>>())).await?.into_inner();
    ensure!(done.notes == 1_000, "{} of 1,000 notes arrived", done.notes);
    note("client stream", "sealane.board.v1.Board/Import", began, format!("{} notes sent", done.notes));

    let began = Instant::now();
    let mut notes = client.watch(WatchRequest { board: board.clone(), follow: false }).await?.into_inner();
    let mut count = 0;
    while let Some(note) = notes.try_next().await? {
        count += 1;
        ensure!(note.number == count, "note {} came after {}", note.number, count - 1);
    }
    ensure!(count >= 1_001, "{count} of 1,001 notes came back");
    note("server stream", "sealane.board.v1.Board/Watch", began, format!("{count} notes came"));

    let began = Instant::now();
    let (ask, asked) = mpsc::channel(1);
    let mut answers = client.chat(ReceiverStream::new(asked)).await?.into_inner();
    for n in 0..10 {
        ask.send(post(format!("question {n}"))).await?;
        let answer = answers.try_next().await?.context("the conversation ended early")?;
        ensure!(answer.text == format!("question {n}"), "another answer came");
    }
    drop(ask);
    ensure!(answers.try_next().await?.is_none(), "the conversation did not end");
    note(
        "both streams",
        "sealane.board.v1.Board/Chat",
        began,
        "10 questions, each after the answer before it".to_owned(),
    );

    let began = Instant::now();
    let mut request = Request::new(WatchRequest { board: board.clone(), follow: true });
    request.set_timeout(Duration::from_millis(50));
    let mut notes = client.watch(request).await?.into_inner();
    let status = loop {
        match notes.try_next().await {
            Ok(Some(_)) => {}
            Ok(None) => anyhow::bail!("the board was not followed"),
            Err(status) => break status,
        }
    };
    ensure!(status.code() == Code::DeadlineExceeded, "after the deadline: {status}");
    note("deadline", "sealane.board.v1.Board/Watch", began, "DEADLINE_EXCEEDED after 50 ms".to_owned());

    let began = Instant::now();
    let mut notes = client.watch(WatchRequest { board: board.clone(), follow: true }).await?.into_inner();
    notes.try_next().await?.context("the board is empty")?;
    drop(notes);
    note("cancelled", "sealane.board.v1.Board/Watch", began, "dropped after its first note".to_owned());

    let began = Instant::now();
    let asked = HealthCheckRequest { service: "sealane.board.v1.Board".to_owned() };
    let health = HealthClient::new(channel.clone()).check(asked).await?.into_inner();
    note("unary", "grpc.health.v1.Health/Check", began, format!("{:?}", health.status()));

    let began = Instant::now();
    let asked = ServerReflectionRequest {
        message_request: Some(MessageRequest::ListServices(String::new())),
        ..ServerReflectionRequest::default()
    };
    let mut told = ServerReflectionClient::new(channel.clone())
        .server_reflection_info(tokio_stream::once(asked))
        .await?
        .into_inner();
    let told = told.try_next().await?.context("no answer of the reflection service")?;
    let Some(MessageResponse::ListServicesResponse(list)) = told.message_response else {
        anyhow::bail!("another answer of the reflection service: {told:?}")
    };
    let names: Vec<_> = list.service.into_iter().map(|service| service.name).collect();
    note("both streams", "grpc.reflection.v1.ServerReflection", began, names.join(" "));
    Ok(rows)
}
