//! `conf/gateway.yaml` against the picture of the file: each field is there, and shows its default.
//!
//! Never does: keep a list of its own; what is in `file.rs` must be in the YAML, and the other way round.

use std::collections::BTreeMap;

use quote_free::name_of;

use super::*;
use crate::config::file::File;
use crate::config::report::FieldPath;
use crate::config::tree::Tree;

const REFERENCE: &str = include_str!("../../../conf/gateway.yaml");
const PICTURES: [&str; 5] = [
    include_str!("../file.rs"),
    include_str!("../file/answer.rs"),
    include_str!("../file/limits.rs"),
    include_str!("../file/models.rs"),
    include_str!("../file/prices.rs"),
];

/// The file with every field that is commented out put in: `#name: value`, as against `# words`.
fn uncommented() -> String {
    let line = |line: &str| match line.trim_start().strip_prefix('#') {
        Some(field) if field.starts_with(|first: char| first.is_ascii_lowercase()) => line.replacen('#', "", 1),
        _ => line.to_owned(),
    };
    REFERENCE.lines().map(line).collect::<Vec<_>>().join("\n")
}

struct NoFiles;

impl interpolate::Values for NoFiles {
    fn variable(&self, name: &str) -> Option<&str> {
        (name == "OPENAI_API_KEY").then_some("k")
    }

    fn file(&self, _: &str) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
    }
}

fn picture(yaml: &str) -> File {
    let mut tree = Tree::parse("conf/gateway.yaml", yaml).expect("a tree");
    let mut problems = tree.fill_in(&NoFiles, false);
    let file = read::read(&mut tree, &mut problems);
    assert!(problems.is_empty(), "{problems:?}");
    file.expect("a picture")
}

#[test]
fn gives_the_same_snapshot_as_no_file_at_all() {
    let variables = [("OPENAI_API_KEY", "k")];
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let empty = tempfile::tempdir().expect("a directory");
    std::fs::write(empty.path().join("g.yaml"), REFERENCE).expect("written");
    let with = load(&sources(empty.path(), Some("g.yaml"), &variables)).expect("the reference");
    let without = load(&sources(empty.path(), None, &variables)).expect("the defaults");
    assert_eq!(format!("{:?}", with.snapshot), format!("{:?}", without.snapshot));
    assert_eq!(with.warnings, without.warnings);
    assert!(root.join(defaults::FILE).exists());
}

#[test]
fn shows_the_default_of_each_field() {
    let shown = picture(&uncommented());
    let mut plain = picture(defaults::PROVIDERS);
    // What the file says of these is worked out later; the file shows what that comes to.
    plain.admin.listen = Some("127.0.0.1:8081".to_owned());
    plain.admin.token = Some(values::Hidden(Secret::new(String::new())));
    plain.keys.file = Some(defaults::KEY_FILE.into());
    let openai = plain.providers.get_mut("openai").expect("openai");
    openai.preset = Some("openai".to_owned());
    openai.version_path = Some("/v1".to_owned());
    openai.priced_as = Some("openai".to_owned());
    openai.proxy = Some(values::Hidden(Secret::new(String::new())));
    assert_eq!(format!("{shown:#?}"), format!("{plain:#?}"));
    assert_eq!(shown, plain);
}

#[test]
fn has_each_field_of_the_picture() {
    let structs = structs();
    let tree = Tree::parse("conf/gateway.yaml", &uncommented()).expect("a tree");
    let mut missing = Vec::new();
    walk(&structs, "File", &FieldPath::default(), &tree, &mut missing);
    assert!(missing.is_empty(), "conf/gateway.yaml lacks {missing:?}");
    // The other way round the picture itself refuses unknown fields.
}

/// Fields by struct: name and type, in which only the last type counts (`Vec<Listen>` is `Listen`).
fn structs() -> BTreeMap<String, Vec<(String, String)>> {
    let items = PICTURES.into_iter().flat_map(|picture| syn::parse_file(picture).expect("Rust").items);
    let mut structs = BTreeMap::new();
    for item in items {
        if let syn::Item::Struct(item) = item {
            let fields = item.fields.iter().map(|field| {
                let documented = field.attrs.iter().any(|attribute| attribute.path().is_ident("doc"));
                let name = field.ident.as_ref().expect("named fields").to_string();
                let inner = matches!(field.vis, syn::Visibility::Inherited);
                assert!(documented || inner, "{}.{name} has no docs", item.ident);
                (name, name_of(&field.ty))
            });
            structs.insert(item.ident.to_string(), fields.collect());
        }
    }
    structs
}

fn walk(
    structs: &BTreeMap<String, Vec<(String, String)>>,
    name: &str,
    path: &FieldPath,
    tree: &Tree,
    missing: &mut Vec<String>,
) {
    for (field, kind) in &structs[name] {
        let path = path.key(field);
        if tree.name_position(&path).is_none() {
            missing.push(path.to_string());
        }
        match kind.as_str() {
            "Provider" => walk(structs, kind, &path.key("openai"), tree, missing),
            // What they hold is shown in a comment, or where it stands once.
            "Listen" | "BudgetEntry" | "Model" | "ApiKey" => {}
            "LimitSet" if !matches!(field.as_str(), "gateway") => {}
            _ if structs.contains_key(kind) => walk(structs, kind, &path, tree, missing),
            _ => {}
        }
    }
}

mod quote_free {
    //! The name of a type without the `quote` crate.

    /// `BTreeMap<String, Provider>` is `Provider`.
    pub(super) fn name_of(kind: &syn::Type) -> String {
        let syn::Type::Path(path) = kind else {
            return String::new();
        };
        let last = path.path.segments.last().expect("a segment");
        if let syn::PathArguments::AngleBracketed(arguments) = &last.arguments
            && let Some(syn::GenericArgument::Type(inner)) = arguments.args.last()
        {
            return name_of(inner);
        }
        last.ident.to_string()
    }
}
