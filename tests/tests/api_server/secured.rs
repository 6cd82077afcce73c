//! The server behind TLS.

use std::fs;

use kcm_tests::api_server::{ApiServer, Ask};
use serde_json::Value;

#[test]
fn behind_tls_it_answers_those_who_trust_its_authority() {
    let api = ApiServer::start_tls();
    api.add_node("n");
    assert!(api.url().starts_with("https://127.0.0.1:"));
    assert_eq!(api.send(&Ask::get("/api/v1/nodes/n")).unwrap().status, 200);
}

#[test]
fn the_kubeconfig_names_server_token_and_authority() {
    let api = ApiServer::start_tls();
    let config: Value = serde_json::from_slice(&fs::read(api.kubeconfig()).unwrap()).unwrap();
    assert_eq!(config["clusters"][0]["cluster"]["server"], api.url());
    let authority = config["clusters"][0]["cluster"]["certificate-authority"].as_str().unwrap();
    assert_eq!(fs::read_to_string(authority).unwrap(), api.ca_pem());
    let token = config["users"][0]["user"]["token"].as_str().unwrap();
    assert_eq!(api.send(&Ask::get("/api/v1/nodes").by(token)).unwrap().status, 200);
}
