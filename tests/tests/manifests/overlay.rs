//! The overlays, as kubectl builds them.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;

use kcm_tests::admission::{MutatingPolicy, ValidatingPolicy};
use kcm_tests::kcm::run;
use serde_json::Value;

pub(crate) const OVERLAYS: [&str; 6] = [
    "containerd",
    "containerd-defaults",
    "containerd-no-default-pool",
    "crio",
    "crio-defaults",
    "crio-no-default-pool",
];

/// The folder with kubectl and kubernetes-validate.
static TOOLS: LazyLock<PathBuf> = LazyLock::new(|| {
    let found = run(&mut Command::new(root().join("tests/kubernetes-tools"))).succeeded();
    PathBuf::from(found.out.trim_end())
});

static BUILT: LazyLock<Vec<Overlay>> =
    LazyLock::new(|| OVERLAYS.into_iter().map(Overlay::build).collect());

/// All that an overlay applies.
#[derive(Debug)]
pub(crate) struct Overlay {
    pub(crate) name: &'static str,
    pub(crate) text: String,
    pub(crate) objects: Vec<Value>,
}

pub(crate) fn overlays() -> &'static [Overlay] {
    &BUILT
}

pub(crate) fn overlay(name: &str) -> &'static Overlay {
    overlays().iter().find(|overlay| overlay.name == name).unwrap()
}

/// The tree's root.
pub(crate) fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap()
}

pub(crate) fn tool(name: &str) -> Command {
    Command::new(TOOLS.join(name))
}

/// The documents of a YAML file.
pub(crate) fn documents(text: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(text).unwrap()
}

/// The pods of `examples/pods`, by the name of their file.
pub(crate) fn examples() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(root().join("examples/pods")).unwrap();
    let mut examples: Vec<_> = files
        .map(|file| {
            let path = file.unwrap().path();
            let mut documents = documents(&std::fs::read_to_string(&path).unwrap());
            assert_eq!(documents.len(), 1, "{path:?}");
            (path.file_stem().unwrap().to_str().unwrap().to_owned(), documents.remove(0))
        })
        .collect();
    examples.sort_by(|(a, _), (b, _)| a.cmp(b));
    examples
}

/// What kubectl makes of a kustomization.
pub(crate) fn kustomize(folder: &Path) -> String {
    run(tool("kubectl").arg("kustomize").arg(folder)).succeeded().out
}

impl Overlay {
    fn build(name: &'static str) -> Self {
        let text = kustomize(&root().join("packaging/kubernetes/overlays").join(name));
        let objects = documents(&text);
        Self { name, text, objects }
    }

    /// The only object of that kind and name.
    pub(crate) fn object(&self, kind: &str, name: &str) -> &Value {
        let mut found = self.of_kind(kind).filter(|object| object["metadata"]["name"] == name);
        let object = found.next().unwrap_or_else(|| panic!("{}: no {kind} {name}", self.name));
        assert!(found.next().is_none(), "{}: two {kind} {name}", self.name);
        object
    }

    pub(crate) fn of_kind(&self, kind: &str) -> impl Iterator<Item = &Value> {
        self.objects.iter().filter(move |object| object["kind"] == kind)
    }

    pub(crate) fn validating(&self, name: &str) -> ValidatingPolicy {
        ValidatingPolicy::parse(self.object("ValidatingAdmissionPolicy", name)).unwrap()
    }

    pub(crate) fn mutating(&self, name: &str) -> MutatingPolicy {
        MutatingPolicy::parse(self.object("MutatingAdmissionPolicy", name)).unwrap()
    }

    /// The parameters of the policies on pods.
    pub(crate) fn params(&self) -> Value {
        self.object("ConfigMap", "kcm-policy").clone()
    }
}
