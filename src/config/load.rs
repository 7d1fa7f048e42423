//! From the files and variables to a snapshot, or to the list of all that is wrong.
//!
//! Invariant: the same sources give the same snapshot; nothing of a configuration with a problem comes into force.
//! Never does: change the process environment; print.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use super::compile::{Check, Compiled, absolute, compile};
use super::environment::{Environment, Host, MAX_FILE, read_bytes, read_text};
use super::file::File;
use super::interpolate::{Values, reason};
use super::keys_in::{self, KeySource};
use super::report::{BUILT_IN, FieldPath, Problem, Report};
use super::tree::Tree;
use super::{LimitTable, Snapshot, defaults, presets, prices, read, routes, tls};
use crate::keys::{KeyRing, Stamp};
use crate::route::Kind;
use crate::units::Secret;

/// Where a configuration comes from.
#[derive(Clone, Debug)]
pub struct Sources {
    /// The YAML file; `None` stands for `conf/gateway.yaml` where that exists, else for the built-in defaults.
    pub file: Option<PathBuf>,
    /// The YAML itself, where there is no file: for programs that embed the gateway. It goes before `file`.
    pub yaml: Option<String>,
    /// Where `.env` is and what relative paths start from; where it is relative itself, from the working directory.
    pub directory: PathBuf,
    /// The variables of the process.
    pub environment: Environment,
}

/// A configuration that can be put in force.
#[derive(Debug)]
pub struct Loaded {
    /// What runs.
    pub snapshot: Arc<Snapshot>,
    /// Dangerous or odd things but for those that time brings; see [`Loaded::warnings_at`].
    pub warnings: Vec<String>,
    /// Where it came from: the file's name, or `built-in defaults`.
    pub describes: String,
    /// The key file as it was before it was read, so that a change since then is not missed.
    pub key_file_stamp: Option<Stamp>,
}

/// What the `keys` commands need to know. It can be had without any provider's key.
#[derive(Debug)]
pub struct KeySettings {
    /// The key file.
    pub file: PathBuf,
    /// `HASH_AUTH_SALT`, where it is set.
    pub env_salt: Option<Secret>,
    /// Whether the gateway uses `HASHED_API_KEYS` and so would not see a change of `file`.
    pub in_variable: bool,
    /// All configured routes but opaque ones: the method in lower case, and the pattern with the provider.
    pub routes: Vec<(String, String)>,
    /// The opaque ones.
    pub opaque: Vec<(String, String)>,
}

impl Loaded {
    /// All that is dangerous or odd at this time, certificates that have expired included.
    pub fn warnings_at(&self, now: SystemTime) -> impl Iterator<Item = String> {
        let listeners = self.snapshot.startup.listen.iter();
        let of_certificates = listeners.filter_map(move |listener| listener.tls.as_ref()?.certificate.warning(now));
        self.warnings.iter().cloned().chain(of_certificates)
    }
}

impl Sources {
    /// The sources of a command: this process, its working directory, and the file that was named, if any.
    pub fn of_process(file: Option<PathBuf>) -> Self {
        Self { file, yaml: None, directory: PathBuf::from("."), environment: Environment::of_process() }
    }
}

/// What all readers of a configuration share.
struct Read {
    tree: Tree,
    file: Option<File>,
    environment: Environment,
    problems: Vec<Problem>,
    describes: String,
}

/// Loads a configuration.
///
/// # Errors
/// The [`Report`] of all problems.
pub fn load(sources: &Sources) -> Result<Loaded, Report> {
    load_beside(sources, None)
}

/// Loads a configuration that is to take the place of the one in force.
///
/// # Errors
/// As [`load`]; and that the key file is missing, where keys are in force.
pub fn load_again(sources: &Sources, current: &Snapshot) -> Result<Loaded, Report> {
    load_beside(sources, Some(current))
}

fn load_beside(sources: &Sources, current: Option<&Snapshot>) -> Result<Loaded, Report> {
    let read = read_file(sources, false)?;
    let mut check = Check {
        tree: &read.tree,
        environment: &read.environment,
        directory: &sources.directory,
        problems: read.problems,
        warnings: Vec::new(),
    };
    let Some(file) = read.file else {
        return Err(report(check.problems));
    };
    refuse_the_originals_file(&mut check);
    let source = key_source(sources, &read.environment, &file);
    let original = matches!(source, KeySource::Variable(_));
    if !original && read.environment.get("HASHED_API_KEYS").is_some() {
        check.warn("HASHED_API_KEYS is not used, because keys.file names a key file");
    }
    for path in read.tree.bare_variables() {
        check.warn(format!("{path} looks like a variable: write ${{...}}, or $$ for a literal $"));
    }
    let book = prices::read(&mut check, &file.prices);
    let mut compiled = compile(&mut check, &file, &Host::ask(), original, book);
    for (index, (listener, entry)) in compiled.startup.listen.iter_mut().zip(&file.server.listen).enumerate() {
        let path = FieldPath::of("server.listen").item(index);
        listener.tls = entry.tls.as_ref().and_then(|tls| tls::read(&mut check, &path, tls, &sources.directory));
    }
    let salt = env_salt(&read.environment);
    let key_file_stamp = source.stamp();
    // Where the field itself is wrong, the file that is looked for is not the one that was meant.
    let is_named = !read.tree.is_told(&FieldPath::of("keys.file"));
    let needed = is_named && current.is_some_and(|current| !current.keys.is_empty());
    let keys = keys_in::read(&source, salt.as_ref(), &compiled.routes, needed).unwrap_or_else(|problems| {
        check.problems.extend(problems);
        keys_in::KeysIn::default()
    });
    if let Some(report) = Report::of(check.problems) {
        return Err(report);
    }
    let mut warnings = check.warnings;
    warnings.extend(keys.warnings);
    let (limits, idle) = Arc::new(std::mem::take(&mut compiled.limits)).table(&keys.ring);
    warnings.extend(idle);
    if compiled.startup.ledger.is_none() && limits.has_budgets() {
        warnings.push("the ledger is off: what is spent of budgets is forgotten at a restart".to_owned());
    }
    let key_file = match source {
        KeySource::File(path) => Some(path),
        KeySource::Variable(_) => None,
    };
    Ok(Loaded {
        snapshot: Arc::new(snapshot(compiled, keys.ring, limits, key_file)),
        warnings,
        describes: read.describes,
        key_file_stamp,
    })
}

fn snapshot(compiled: Compiled, keys: KeyRing, limits: LimitTable, key_file: Option<PathBuf>) -> Snapshot {
    Snapshot {
        server: compiled.server,
        startup: compiled.startup,
        providers: compiled.providers,
        routes: Arc::new(compiled.routes),
        models: Arc::new(compiled.models),
        attempts: compiled.attempts,
        prices: compiled.prices,
        keys,
        limits,
        key_file,
        access_log: compiled.access_log,
    }
}

/// Reads the key file again and puts its keys beside the configuration as it is; gives what is odd about them too.
///
/// # Errors
/// The [`Report`] of the key file's problems. That it is gone is one too, where keys are in force.
pub fn with_keys_read_again(sources: &Sources, current: &Snapshot) -> Result<(Arc<Snapshot>, Vec<String>), Report> {
    let environment = sources.environment.over_dotenv(&sources.directory)?;
    let (keys, mut warnings) = match &current.key_file {
        Some(path) => {
            let source = KeySource::File(path.clone());
            let problem = || Problem::of_file("key file", "could not be read");
            let needed = !current.keys.is_empty();
            let read = keys_in::read(&source, env_salt(&environment).as_ref(), &current.routes, needed)
                .map_err(|problems| Report::of(problems).unwrap_or_else(|| problem().into()))?;
            (read.ring, read.warnings)
        }
        None => Default::default(),
    };
    let (limits, idle) = current.limits.rules().table(&keys);
    warnings.extend(idle);
    let snapshot = Snapshot {
        server: current.server.clone(),
        startup: current.startup.clone(),
        providers: current.providers.clone(),
        routes: Arc::clone(&current.routes),
        models: Arc::clone(&current.models),
        attempts: current.attempts,
        prices: Arc::clone(&current.prices),
        keys,
        limits,
        key_file: current.key_file.clone(),
        access_log: current.access_log,
    };
    Ok((Arc::new(snapshot), warnings))
}

/// Finds out what the `keys` commands need; variables that are missing do not matter to them.
///
/// # Errors
/// The [`Report`] of what is wrong with the file as a whole, with its fields, or with a route.
pub fn key_settings(sources: &Sources) -> Result<KeySettings, Report> {
    let read = read_file(sources, true)?;
    let Some(file) = read.file else {
        return Err(report(read.problems));
    };
    let mut problems = read.problems;
    let (mut all, mut opaque) = (Vec::new(), Vec::new());
    for (id, provider) in &file.providers {
        let path = FieldPath::of("providers").key(id).key("routes");
        for (index, entry) in provider.routes.iter().enumerate() {
            let path = entry.place(path.item(index));
            match routes::parse(&entry.route) {
                Ok(line) => {
                    // `all` does not open what nobody can foresee.
                    let list = if line.kind == Kind::Opaque { &mut opaque } else { &mut all };
                    list.push((line.method_name(), format!("/{id}{}", line.path)));
                }
                Err(_) if read.tree.is_told(&path) => {}
                Err((message, hint)) => problems.push(read.tree.problem(&path, message).hint(hint)),
            }
        }
    }
    if let Some(report) = Report::of(problems) {
        return Err(report);
    }
    Ok(KeySettings {
        file: key_file(sources, &file),
        env_salt: env_salt(&read.environment),
        in_variable: matches!(key_source(sources, &read.environment, &file), KeySource::Variable(_)),
        routes: all,
        opaque,
    })
}

fn read_file(sources: &Sources, lenient: bool) -> Result<Read, Report> {
    let environment = sources.environment.over_dotenv(&sources.directory)?;
    let built_in = Tree::built_in(defaults::PROVIDERS)?;
    let (mut tree, describes) = match text(sources)? {
        Some((name, text)) => {
            let mut tree = Tree::parse(&name, text.strip_prefix('\u{feff}').unwrap_or(&text))?;
            tree.complete_with(built_in);
            (tree, name)
        }
        None => (built_in, BUILT_IN.to_owned()),
    };
    let values = Outside { environment: &environment, directory: &sources.directory };
    let mut problems = tree.fill_in(&values, lenient);
    let mut file = read::read(&mut tree, &mut problems);
    if let Some(file) = &mut file {
        presets::apply(file, &tree);
    }
    // Where a field at the top is wrong, it may be `providers` itself: what the defaults lack is then nobody's matter.
    if problems.iter().any(|problem| problem.file != BUILT_IN && !problem.path.contains(['.', '['])) {
        problems.retain(|problem| problem.file != BUILT_IN);
    }
    Ok(Read { tree, file, environment, problems, describes })
}

/// The file's name and text; `None` where none was named and the default one is not there.
fn text(sources: &Sources) -> Result<Option<(String, String)>, Problem> {
    if let Some(yaml) = &sources.yaml {
        return Ok(Some(("(given as text)".to_owned(), yaml.clone())));
    }
    let path = sources.file.as_deref().unwrap_or_else(|| Path::new(defaults::FILE));
    let name = path.display().to_string();
    let bytes = match read_bytes(&sources.directory.join(path), MAX_FILE) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == ErrorKind::NotFound && sources.file.is_none() => return Ok(None),
        Err(error) => {
            let problem = Problem::of_file(&name, format!("cannot be read: {}", reason(error.kind())));
            return Err(match error.kind() {
                ErrorKind::NotFound => problem.hint("without --config it is conf/gateway.yaml, and may be missing"),
                _ => problem,
            });
        }
    };
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some((name, text))),
        Err(error) => {
            let valid = error.utf8_error().valid_up_to();
            let before = String::from_utf8_lossy(&error.as_bytes()[..valid]).into_owned();
            let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
            let line = before.matches('\n').count() + 1;
            Err(Problem::of_file(&name, "not UTF-8 text from here").at(line, column))
        }
    }
}

/// Variables and files for `${...}`.
struct Outside<'a> {
    environment: &'a Environment,
    directory: &'a Path,
}

impl Values for Outside<'_> {
    fn variable(&self, name: &str) -> Option<&str> {
        self.environment.get(name)
    }

    fn file(&self, path: &str) -> std::io::Result<String> {
        read_text(&self.directory.join(path), 64 << 10)
    }
}

fn refuse_the_originals_file(check: &mut Check<'_>) {
    if check.environment.get("SERVER_CONFIG_FILE_PATH").is_some() {
        check.problems.push(
            Problem::of_variable(
                "SERVER_CONFIG_FILE_PATH",
                "names the NodeJS gateway's TOML file, which this gateway does not read",
            )
            .hint("`ai-gateway migrate` writes its settings into conf/gateway.yaml; then unset the variable"),
        );
    }
}

/// The key file that the YAML names, else `HASHED_API_KEYS`, else the default key file.
fn key_source(sources: &Sources, environment: &Environment, file: &File) -> KeySource {
    match (&file.keys.file, environment.get("HASHED_API_KEYS")) {
        (None, Some(text)) => KeySource::Variable(Secret::new(text.to_owned())),
        _ => KeySource::File(key_file(sources, file)),
    }
}

/// Where the key file is or will be.
fn key_file(sources: &Sources, file: &File) -> PathBuf {
    let named = file.keys.file.as_deref().unwrap_or_else(|| Path::new(defaults::KEY_FILE));
    absolute(&sources.directory, named)
}

/// Where the ledger's database is or will be, whatever variables are missing; `None` where it is off.
///
/// # Errors
/// The [`Report`] of what is wrong with the file.
pub fn ledger_path(sources: &Sources) -> Result<Option<PathBuf>, Report> {
    let read = read_file(sources, true)?;
    match read.file {
        Some(file) if read.problems.is_empty() => {
            Ok(file.ledger.map(|ledger| absolute(&sources.directory, &ledger.path)))
        }
        _ => Err(report(read.problems)),
    }
}

/// What the `keys` commands need to know of a file that is named to them: no configuration is read.
///
/// # Errors
/// The [`Report`] of what is wrong with `.env`.
pub fn env_salt_alone(sources: &Sources) -> Result<Option<Secret>, Report> {
    Ok(env_salt(&sources.environment.over_dotenv(&sources.directory)?))
}

fn env_salt(environment: &Environment) -> Option<Secret> {
    environment.get("HASH_AUTH_SALT").map(|salt| Secret::new(salt.to_owned()))
}

/// The report where reading the file came to no end, which is itself a problem.
fn report(problems: Vec<Problem>) -> Report {
    Report::of(problems).unwrap_or_else(|| Problem::of_file("configuration", "could not be read").into())
}
