//! A store on a server that talks TLS.

use std::time::Duration;

use bytes::Bytes;
use cache_core::testing::{Subject, fresh_name, violations};
use cache_core::{CacheStoreExt, ErrorKind};
use cache_redis::{RedisBuilder, RedisStore};
use cache_tests::redis::{Authority, Cluster, Machine, Server, eventually, patient_at};

const MINUTE: Duration = Duration::from_secs(60);

/// A server, and the port at which it talks TLS.
async fn server(authority: &Authority, hosts: &[&str], clients: &str) -> (Server, u16) {
    for _ in 0..10 {
        // Somebody else may take one of the ports.
        let (machine, ports) = Machine::with_ports(2).await;
        let arguments = authority.arguments(ports[1], hosts, clients);
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        if let Some(server) = Server::start_on(&machine, ports[0], &arguments).await {
            return (server, ports[1]);
        }
    }
    panic!("the server does not start");
}

fn encrypted(port: u16) -> RedisBuilder {
    patient_at(&format!("rediss://localhost:{port}"), "s")
}

async fn hits(store: &RedisStore) -> bool {
    store.put("hit", Bytes::from_static(b"value"), MINUTE).await.is_ok()
        && matches!(store.value("hit").await, Ok(Some(_)))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_whose_certificate_an_own_authority_issued_is_trusted_and_no_other() {
    let authority = Authority::new();
    let (mut server, port) = server(&authority, &["localhost"], "no").await;
    let store =
        encrypted(port).root_certificates(authority.root()).connect().await.expect("trusted");
    assert!(hits(&store).await);
    // The same after a reconnect.
    server.restart().await;
    eventually("hits again", async || hits(&store).await).await;

    let stranger = Authority::new();
    for builder in [encrypted(port).root_certificates(stranger.root()), encrypted(port)] {
        match builder.connect().await {
            Err(error) if error.kind() == ErrorKind::Store => {
                assert!(error.to_string().contains("certificate"), "{error}");
            }
            // A machine without root certificates of its own.
            Err(error) => assert!(error.to_string().contains("root_certificates"), "{error}"),
            Ok(_) => panic!("a stranger is trusted"),
        }
    }
    // The certificate is for `localhost`.
    let elsewhere = patient_at(&format!("rediss://127.0.0.1:{port}"), "s");
    let error = elsewhere.root_certificates(authority.root()).connect().await;
    let error = error.expect_err("it is a certificate for somebody else");
    assert_eq!(error.kind(), ErrorKind::Store);
    assert!(error.to_string().contains("not valid for name"), "{error}");
    // Nobody is there who talks without TLS, or the other way around.
    patient_at(&format!("redis://localhost:{port}"), "s")
        .connect_timeout(Duration::from_secs(2))
        .connect()
        .await
        .expect_err("the server talks TLS");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_a_certificate_gets_one() {
    let authority = Authority::new();
    let (_server, port) = server(&authority, &["localhost"], "yes").await;
    let trusting = || encrypted(port).root_certificates(authority.root());
    trusting().connect().await.expect_err("the server wants a certificate");
    let (certificate, key) = authority.issue(&["client"]);
    let store = trusting().client_certificate(certificate, key).connect().await.expect("let in");
    assert!(hits(&store).await);
    let (certificate, key) = Authority::new().issue(&["client"]);
    let stranger = trusting().client_certificate(certificate, key).connect().await;
    stranger.expect_err("the server does not know who issued it");
}

#[tokio::test]
async fn what_is_no_certificate_is_refused_when_the_store_is_made() {
    let authority = Authority::new();
    let (certificate, _) = authority.issue(&["client"]);
    let (_, another_key) = authority.issue(&["client"]);
    let store = || RedisStore::builder("s").address("localhost", 6379);
    for (builder, option) in [
        (store().root_certificates("nothing"), "root_certificates"),
        (
            store().root_certificates(authority.root()).client_certificate("nothing", ""),
            "client_certificate",
        ),
        (
            store()
                .root_certificates(authority.root())
                .client_certificate(certificate.as_str(), "nothing"),
            "client_certificate",
        ),
        (
            store()
                .root_certificates(authority.root())
                .client_certificate(certificate.as_str(), another_key),
            "client_certificate",
        ),
        (store().unix_socket("/tmp/x").root_certificates(authority.root()), "tls"),
    ] {
        let error = builder.connect_lazily().expect_err("invalid");
        assert_eq!(error.kind(), ErrorKind::InvalidOption, "{error}");
        assert!(error.to_string().contains(option), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_kit_holds_over_tls() {
    let authority = Authority::new();
    let (_server, port) = server(&authority, &["localhost"], "no").await;
    let subject = || async {
        let builder = patient_at(&format!("rediss://localhost:{port}"), &fresh_name());
        let store = builder.root_certificates(authority.root()).connect().await.expect("trusted");
        Subject::new(store).real_time(Duration::from_millis(100))
    };
    assert_eq!(violations(subject).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_node_of_a_cluster_talks_tls() {
    let authority = Authority::new();
    let cluster = Cluster::start_with_tls(&authority).await;
    let store = patient_at(&cluster.url(), "s").root_certificates(authority.root()).connect();
    let store = store.await.expect("trusted");
    for number in 0..100 {
        let key = number.to_string();
        store.put(&key, Bytes::from_static(b"value"), MINUTE).await.expect("set");
        assert!(store.value(&key).await.expect("an answer").is_some());
    }
}
