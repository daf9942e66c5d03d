//! tonic's own services, unchanged: health and reflection.

mod common;

use common::{Running, run};
use grpc::board::Boards;
use grpc::limits::Limits;
use grpc::proto::DESCRIPTORS;
use grpc::proto::board_server::BoardServer;
use grpc::routes::Routes;
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Said;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;

const BOARD: &str = "sealane.board.v1.Board";

fn asked(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[test]
fn health() {
    run(async {
        let (reporter, health) = tonic_health::server::health_reporter();
        reporter.set_serving::<BoardServer<Boards>>().await;
        let routes = Routes::new().with(BoardServer::new(Boards::default())).with(health);
        let server = Running::with(routes, Limits::default(), |builder| builder);
        let mut client = HealthClient::new(server.channel());
        for (service, expected) in [("", Ok(Said::Serving)), (BOARD, Ok(Said::Serving)), ("x", Err(Code::NotFound))] {
            let said = client.check(asked(service)).await.map(|said| said.into_inner().status());
            assert_eq!(said.map_err(|status| status.code()), expected, "{service:?}");
        }
        // A stream that tells of each change.
        let mut changes = client.watch(asked(BOARD)).await.unwrap().into_inner();
        assert_eq!(changes.next().await.unwrap().unwrap().status(), Said::Serving);
        for (set, expected) in [(ServingStatus::NotServing, Said::NotServing), (ServingStatus::Serving, Said::Serving)]
        {
            reporter.set_service_status(BOARD, set).await;
            assert_eq!(changes.next().await.unwrap().unwrap().status(), expected);
        }
        drop(changes);
        server.idle().await;
    });
}

#[test]
fn reflection() {
    run(async {
        let reflection = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(DESCRIPTORS)
            .build_v1()
            .unwrap();
        let server = Running::with(Routes::new().with(reflection), Limits::default(), |builder| builder);
        let mut client = ServerReflectionClient::new(server.channel());
        let ask = |message| ServerReflectionRequest { message_request: Some(message), ..Default::default() };
        let asks = tokio_stream::iter([
            ask(MessageRequest::ListServices(String::new())),
            ask(MessageRequest::FileContainingSymbol(BOARD.to_owned())),
            ask(MessageRequest::FileContainingSymbol("no.such.Thing".to_owned())),
        ]);
        let mut told = client.server_reflection_info(asks).await.unwrap().into_inner();
        let Some(MessageResponse::ListServicesResponse(list)) = told.next().await.unwrap().unwrap().message_response
        else {
            panic!("a list")
        };
        assert!(list.service.iter().any(|service| service.name == BOARD), "{list:?}");
        let Some(MessageResponse::FileDescriptorResponse(files)) = told.next().await.unwrap().unwrap().message_response
        else {
            panic!("a file")
        };
        let file = prost_types::FileDescriptorProto::decode(&*files.file_descriptor_proto[0]).unwrap();
        assert_eq!(file.service[0].method.len(), 4);
        assert_eq!(told.next().await.unwrap().unwrap_err().code(), Code::NotFound);
        server.idle().await;
    });
}
