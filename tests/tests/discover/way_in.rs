//! The way to the API server: a pod's service account first, else a kubeconfig; by TLS; by name.

use std::fs;
use std::path::Path;
use std::process::Command;

use kcm_tests::api_server::{ApiServer, User};
use kcm_tests::kcm::{bare, kcm, run};

use super::node::{DATAPLANE, capacity, cluster, discover, pools};

fn tls_cluster() -> ApiServer {
    let api = ApiServer::start_tls();
    api.add_node("worker-1");
    api
}

#[test]
fn tls_is_checked_by_the_kubeconfigs_authority() {
    let (api, conf) = (tls_cluster(), pools());
    run(&mut discover(&api, &conf, &[])).succeeded();
    assert_eq!(capacity(&api, DATAPLANE), "2");
    let other = ApiServer::start_tls();
    let config = fs::read_to_string(other.kubeconfig()).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config");
    let config = config.replace(&format!(":{}", other.port()), &format!(":{}", api.port()));
    fs::write(&file, config).unwrap();
    let requests = api.requests().len();
    run(discover(&api, &conf, &[]).env("KUBECONFIG", &file)).failed_with(&["certificate"]);
    assert_eq!(api.requests().len(), requests);
}

/// A command in a mount namespace of its own, after some shell that prepares it.
fn prepared(shell: &str, command: &Command) -> Command {
    let mut unshare = Command::new("unshare");
    unshare.args(["--mount", "--propagation=private", "sh", "-euc"]);
    unshare.arg(format!("{shell}\nexec \"$@\"")).arg("sh");
    unshare.arg(command.get_program()).args(command.get_args());
    bare(&mut unshare);
    unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    unshare
}

/// Mounts a service account where a pod has it.
fn service_account(folder: &Path, token: &str, ca_pem: &str) -> String {
    for (name, text) in [("token", token), ("ca.crt", ca_pem), ("namespace", "default")] {
        fs::write(folder.join(name), text).unwrap();
    }
    format!(
        "mount -t tmpfs none /var/run; mkdir -p /var/run/secrets/kubernetes.io/serviceaccount\n\
         mount --bind {} /var/run/secrets/kubernetes.io/serviceaccount",
        folder.display()
    )
}

#[test]
fn in_a_pod_its_service_account_counts_before_a_kubeconfig() {
    let (api, other, conf) = (tls_cluster(), cluster(), pools());
    let name = "system:serviceaccount:default:kcm".to_owned();
    let token = api.token_of(User { name: name.clone(), ..User::default() });
    let folder = tempfile::tempdir().unwrap();
    let mount = service_account(folder.path(), &token, api.ca_pem());
    let mut command = discover(&other, &conf, &[]);
    command.env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    command.env("KUBERNETES_SERVICE_PORT", api.port().to_string());
    run(&mut prepared(&mount, &command)).succeeded();
    assert_eq!(capacity(&api, DATAPLANE), "2");
    assert!(other.requests().is_empty());
    assert!(api.requests().iter().all(|seen| seen.user == name));
}

#[test]
fn a_service_account_with_no_server_is_said_to_be_that() {
    let (api, conf) = (cluster(), pools());
    let folder = tempfile::tempdir().unwrap();
    let mount = service_account(folder.path(), "token", "none");
    let command = discover(&api, &conf, &[]);
    run(&mut prepared(&mount, &command)).failed_with(&["serviceaccount/token is there"]);
    assert!(api.requests().is_empty());
}

#[test]
fn names_are_found_whatever_nsswitch_conf_says() {
    let (api, conf) = (cluster(), pools());
    let folder = tempfile::tempdir().unwrap();
    let config = fs::read_to_string(api.kubeconfig()).unwrap();
    let file = folder.path().join("config");
    fs::write(&file, config.replace("127.0.0.1", "api.kcm.test")).unwrap();
    fs::write(folder.path().join("hosts"), "127.0.0.1 api.kcm.test\n").unwrap();
    // What a newer system's may say: modules that a static program cannot load.
    let services = "hosts: mymachines resolve [!UNAVAIL=return] myhostname\n";
    fs::write(folder.path().join("nsswitch.conf"), services).unwrap();
    let here = folder.path().display();
    let mounts = format!(
        "mount --bind {here}/hosts /etc/hosts\n\
         test -e /etc/nsswitch.conf || touch /etc/nsswitch.conf\n\
         mount --bind {here}/nsswitch.conf /etc/nsswitch.conf"
    );
    let mut command = discover(&api, &conf, &[]);
    command.env("KUBECONFIG", &file);
    run(&mut prepared(&mounts, &command)).succeeded();
    assert_eq!(capacity(&api, DATAPLANE), "2");
}

#[test]
fn the_usual_kubeconfig_is_found_in_the_home() {
    let (api, conf) = (cluster(), pools());
    let home = tempfile::tempdir().unwrap();
    fs::create_dir(home.path().join(".kube")).unwrap();
    fs::copy(api.kubeconfig(), home.path().join(".kube/config")).unwrap();
    let mut command = kcm();
    command.args(["discover", "--node-name=worker-1"]).env("KCM_CONF_DIR", conf.path());
    run(command.env("HOME", home.path())).succeeded();
    assert_eq!(capacity(&api, DATAPLANE), "2");
}
