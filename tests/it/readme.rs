//! The README and the chapters in Markdown: blocks that a reader copies are checked for what can be
//! checked without a cluster, a container engine or a supervisor.

use std::collections::HashSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use yaml_rust2::{Yaml, YamlLoader};

use crate::harness::onepoll;

/// The chapter with the container file, the file for the cluster and the units.
pub(crate) const OPERATIONS: &str = "src/operations.md";

/// The texts in Markdown, as far as they show command lines; of a module its documentation.
const TEXTS: [&str; 6] = [
    "README.md",
    OPERATIONS,
    "src/comparison.md",
    "src/cli/mod.rs",
    "src/observe/mod.rs",
    "benches/README.md",
];

/// A text in Markdown, by its path below the project.
fn read(text: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(text);
    let contents = fs::read_to_string(path).unwrap_or_else(|error| panic!("{text}: {error}"));
    if !text.ends_with(".rs") {
        return contents;
    }
    let lines = contents.lines().map_while(|line| line.strip_prefix("//!"));
    let lines = lines.map(|line| line.strip_prefix(' ').unwrap_or(line));
    lines.map(|line| format!("{line}\n")).collect()
}

/// The blocks of a text in one language, in their order.
pub(crate) fn blocks(text: &str, language: &str) -> Vec<String> {
    let markdown = read(text);
    let parts = markdown.split("\n```").collect::<Vec<_>>();
    // Every other part is inside of a block, and begins with its language.
    let inside = parts.iter().skip(1).step_by(2);
    let blocks = inside.filter_map(|block| block.strip_prefix(&format!("{language}\n")));
    blocks.map(|block| format!("{block}\n")).collect()
}

/// The flags that the program knows.
fn known_flags() -> HashSet<String> {
    let help = onepoll().arg("--help").output().expect("it can be run").stdout;
    let help = String::from_utf8(help).expect("text");
    let words = help.split([' ', ',', '\n']);
    words.filter(|word| word.starts_with("--")).map(str::to_owned).collect()
}

/// Whether these words are a command line that the program takes.
fn takes(words: &[&str]) -> bool {
    let flags = words.iter().filter(|word| word.starts_with("--"));
    let known = known_flags();
    flags.clone().all(|flag| known.contains(flag.split('=').next().unwrap_or_default()))
        // What is asked for help is not run, but has been understood.
        && onepoll().args(words).arg("--help").output().expect("it can be run").status.success()
}

fn seconds(duration: &str) -> u64 {
    let number = duration.strip_suffix('s').and_then(|number| number.parse().ok());
    number.unwrap_or_else(|| panic!("{duration:?} is in seconds"))
}

#[test]
fn the_container_file_has_instructions_that_fit_together() {
    let [file] = &blocks(OPERATIONS, "dockerfile")[..] else {
        panic!("one container file");
    };
    let file = file.replace("\\\n", "");
    let mut stages = HashSet::new();
    let (mut arguments, mut is_built) = (Vec::new(), false);
    for line in file.lines().filter(|line| !line.is_empty()) {
        let (instruction, rest) = line.split_once(' ').expect("an instruction");
        let words: Vec<&str> = rest.split(' ').collect();
        match instruction {
            "FROM" => stages.extend(words.iter().skip_while(|word| **word != "AS").nth(1).copied()),
            "COPY" => {
                let from = words.iter().find_map(|word| word.strip_prefix("--from="));
                assert!(from.is_none_or(|stage| stages.contains(stage)), "{line}");
            }
            "RUN" => {
                is_built |= rest.contains("auditable static") && rest.ends_with(" /onepoll");
            }
            "HEALTHCHECK" => {
                let (options, command) = rest.split_once(" CMD ").expect("a command");
                let timeout = options.split(' ').find_map(|word| word.strip_prefix("--timeout="));
                let probe = onepoll::limits::PROBE_TIMEOUT;
                let timeout = Duration::from_secs(seconds(timeout.expect("a timeout")));
                assert!(timeout > probe, "a probe may take {probe:?}");
                assert_eq!(strings(command), ["/onepoll", "--probe"]);
            }
            "ENTRYPOINT" | "CMD" => arguments.extend(strings(rest)),
            "WORKDIR" | "USER" | "EXPOSE" | "STOPSIGNAL" => {}
            other => panic!("{other} is no instruction that is used here"),
        }
    }
    assert_eq!(arguments.remove(0), "/onepoll");
    assert!(takes(&arguments.iter().map(String::as_str).collect::<Vec<_>>()), "{arguments:?}");
    assert!(is_built, "what is built is what is copied");
    assert!(file.contains("\nFROM scratch\n") && file.contains("=build /onepoll /onepoll\n"));
}

/// An array of strings, as in JSON, which YAML understands.
fn strings(text: &str) -> Vec<String> {
    let array = YamlLoader::load_from_str(text).expect("an array");
    let strings = array[0].as_vec().expect("an array");
    strings.iter().map(|word| word.as_str().expect("a string").to_owned()).collect()
}

/// The document of a kind, in the file for the cluster.
fn document(kind: &str) -> Yaml {
    let [file] = &blocks(OPERATIONS, "yaml")[..] else {
        panic!("one file for the cluster");
    };
    let documents = YamlLoader::load_from_str(file).expect("YAML");
    let mut found =
        documents.into_iter().filter(|document| document["kind"].as_str() == Some(kind));
    let document = found.next().unwrap_or_else(|| panic!("there is no {kind}"));
    assert!(found.next().is_none(), "there is one {kind}");
    document
}

/// The number of the container's port with this name.
fn container_port(name: &Yaml) -> i64 {
    let deployment = document("Deployment");
    let ports = &deployment["spec"]["template"]["spec"]["containers"][0]["ports"];
    let mut ports = ports.as_vec().expect("ports").iter();
    let port = ports.find(|port| port["name"] == *name);
    let port = port.unwrap_or_else(|| panic!("there is no port {name:?}"));
    port["containerPort"].as_i64().expect("a number")
}

#[test]
fn the_deployment_parses_and_its_arithmetic_holds() {
    let deployment = document("Deployment");
    let number = |yaml: &Yaml| u64::try_from(yaml.as_i64().expect("a number")).expect("positive");
    let pod = &deployment["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    let args = container["args"].as_vec().expect("arguments");
    let args: Vec<&str> = args.iter().map(|arg| arg.as_str().expect("text")).collect();
    assert!(takes(&args), "{args:?}");
    let time =
        |flag| seconds(args[args.iter().position(|arg| *arg == flag).expect("it is set") + 1]);
    let (lame_duck, drain) = (time("--lame-duck"), time("--drain"));
    assert!(number(&pod["terminationGracePeriodSeconds"]) > lame_duck + drain);
    let readiness = &container["readinessProbe"];
    let unready_after =
        number(&readiness["periodSeconds"]) * number(&readiness["failureThreshold"]);
    assert!(lame_duck > unready_after, "the news takes that long at least");
    for (probe, path, number) in
        [(readiness, "/ready", 8081), (&container["livenessProbe"], "/hello", 8080)]
    {
        assert_eq!(probe["httpGet"]["path"].as_str(), Some(path));
        assert_eq!(container_port(&probe["httpGet"]["port"]), number);
    }
}

#[test]
fn every_document_for_the_cluster_selects_the_pods() {
    let deployment = document("Deployment");
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    assert!(labels["app"].as_str().is_some(), "the pods have a label");
    let service = document("Service");
    let budget = document("PodDisruptionBudget");
    let policy = document("NetworkPolicy");
    for (selector, of) in [
        (&deployment["spec"]["selector"]["matchLabels"], "deployment"),
        (&service["spec"]["selector"], "service"),
        (&budget["spec"]["selector"]["matchLabels"], "budget"),
        (&policy["spec"]["podSelector"]["matchLabels"], "policy"),
    ] {
        assert_eq!(selector, labels, "the selector of the {of}");
    }
    assert_eq!(container_port(&service["spec"]["ports"][0]["targetPort"]), 8080);
    let spare = budget["spec"]["maxUnavailable"].as_i64();
    assert!(spare > Some(0), "a node can be drained");
    assert!(spare < deployment["spec"]["replicas"].as_i64(), "a pod stays");
}

#[test]
fn the_network_policy_opens_diagnostics_to_prometheus_alone() {
    let policy = document("NetworkPolicy");
    let rules = policy["spec"]["ingress"].as_vec().expect("rules");
    let mut open = Vec::new();
    for rule in rules {
        for port in rule["ports"].as_vec().expect("a rule without ports opens all") {
            let number = container_port(&port["port"]);
            open.push(number);
            if number == 8080 {
                assert!(rule["from"].is_badvalue(), "main is open to every peer");
                continue;
            }
            // Both selectors in one entry: a pod has to match both of them.
            let [peer] = &rule["from"].as_vec().expect("peers")[..] else {
                panic!("one kind of peer");
            };
            let label = |selector: &str, key: &str| {
                let label = &peer[selector]["matchLabels"][key];
                label.as_str().map(str::to_owned)
            };
            let namespace = label("namespaceSelector", "kubernetes.io/metadata.name");
            assert_eq!(namespace.as_deref(), Some("monitoring"));
            let name = label("podSelector", "app.kubernetes.io/name");
            assert_eq!(name.as_deref(), Some("prometheus"));
        }
    }
    assert_eq!(open, [8080, 8081]);
    let types = policy["spec"]["policyTypes"].as_vec().expect("types");
    let types: Vec<_> = types.iter().filter_map(Yaml::as_str).collect();
    assert_eq!(types, ["Ingress", "Egress"]);
    assert!(policy["spec"]["egress"].is_badvalue(), "the server connects to nothing");
}

/// The level "restricted" of the Pod Security Standards, as far as it asks for something. What it
/// forbids beyond that is not in the file.
#[test]
fn the_pods_pass_the_restricted_level_of_pod_security() {
    let deployment = document("Deployment");
    let pod = &deployment["spec"]["template"]["spec"];
    for forbidden in ["hostNetwork", "hostPID", "hostIPC", "volumes", "initContainers"] {
        assert!(pod[forbidden].is_badvalue(), "{forbidden}");
    }
    let user = &pod["securityContext"];
    assert_eq!(user["runAsNonRoot"].as_bool(), Some(true));
    for id in ["runAsUser", "runAsGroup"] {
        assert!(user[id].as_i64() > Some(0), "{id}");
    }
    let profile = user["seccompProfile"]["type"].as_str();
    assert_eq!(profile, Some("RuntimeDefault"));
    assert_eq!(pod["automountServiceAccountToken"].as_bool(), Some(false));
    for container in pod["containers"].as_vec().expect("containers") {
        for port in container["ports"].as_vec().expect("ports") {
            assert!(port["hostPort"].is_badvalue());
        }
        let own = &container["securityContext"];
        for overridden in ["privileged", "runAsUser", "runAsNonRoot", "seccompProfile"] {
            assert!(own[overridden].is_badvalue(), "{overridden}");
        }
        assert_eq!(own["allowPrivilegeEscalation"].as_bool(), Some(false));
        assert_eq!(own["readOnlyRootFilesystem"].as_bool(), Some(true));
        let drop = own["capabilities"]["drop"].as_vec().expect("capabilities");
        assert_eq!(drop[..], [Yaml::String("ALL".into())]);
        assert!(own["capabilities"]["add"].is_badvalue());
    }
}

#[test]
fn the_units_are_what_systemd_takes() {
    let folder = std::env::temp_dir().join(format!("onepoll-units-{}", std::process::id()));
    fs::create_dir_all(&folder).expect("a folder");
    let mut files = Vec::new();
    for block in blocks(OPERATIONS, "ini") {
        let path =
            block.lines().next().and_then(|line| line.strip_prefix("# /etc/systemd/system/"));
        let path = folder.join(path.expect("the first line says where it belongs"));
        if block.contains("\n[Service]\n") {
            check_service(&block);
        }
        let program = concat!("\"", env!("CARGO_BIN_EXE_onepoll"), "\"");
        fs::write(&path, block.replace("/usr/local/bin/onepoll", program)).expect("a file");
        files.push(path);
    }
    let names = files.iter().map(|file| file.file_name().expect("a name").to_owned());
    let names: HashSet<_> = names.collect();
    for name in ["onepoll.service", "onepoll-main.socket", "onepoll-diag.socket"] {
        assert!(names.contains(std::ffi::OsStr::new(name)), "{name}");
    }
    verify(&files);
    fs::remove_dir_all(&folder).expect("it is there");
}

/// The values of a directive in a unit, in their order.
fn values<'a>(unit: &'a str, directive: &str) -> Vec<&'a str> {
    let lines = unit.lines();
    let values = lines.filter_map(|line| line.strip_prefix(directive)?.strip_prefix('='));
    values.flat_map(|value| value.split(' ')).collect()
}

/// What has to hold in the service unit together.
fn check_service(unit: &str) {
    let command = values(unit, "ExecStart");
    assert_eq!(command[0], "/usr/local/bin/onepoll");
    assert!(takes(&command[1..]), "{command:?}");
    let drain = command.iter().position(|word| *word == "--drain");
    let drain = seconds(command[drain.expect("it is set") + 1]);
    let timeout = values(unit, "TimeoutStopSec")[0];
    let timeout: u64 = timeout.parse().expect("a number");
    assert!(timeout > drain, "a drain may take its time");
    // Without a network of its own, the service has to inherit both sockets.
    assert_eq!(values(unit, "PrivateNetwork"), ["yes"]);
    let sockets = ["onepoll-main.socket", "onepoll-diag.socket"];
    assert_eq!(values(unit, "Requires"), sockets);
    assert_eq!(values(unit, "After"), sockets);
    // And it has to be able to say that it is ready (sd_notify(3)).
    assert_eq!(values(unit, "Type"), ["notify"]);
    assert_eq!(values(unit, "RestrictAddressFamilies"), ["AF_UNIX"]);
    assert_eq!(values(unit, "CapabilityBoundingSet"), [""]);
}

/// Has systemd itself look at units, where there is one.
fn verify(units: &[PathBuf]) {
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).args(units).output() {
        Ok(output) => {
            let complaints = String::from_utf8_lossy(&output.stderr);
            let about_us = complaints.lines().filter(|line| line.contains("onepoll"));
            assert_eq!(about_us.collect::<Vec<_>>(), [""; 0], "{complaints}");
        }
        Err(error) => println!("systemd-analyze is not here to verify them: {error}"),
    }
}

#[test]
fn command_lines_have_flags_that_exist() {
    let languages = |text| blocks(text, "sh").concat() + &blocks(text, "console").concat();
    let blocks: String = TEXTS.into_iter().map(languages).collect();
    let starts = ["target/static/onepoll ", "target/release/onepoll "];
    let mut lines = 0;
    for line in blocks.lines() {
        let words = starts.iter().find_map(|start| Some(line.split_once(start)?.1));
        let Some(words) = words else { continue };
        let words = words.split(['#', '&']).next().unwrap_or_default().trim();
        assert!(takes(&words.split(' ').collect::<Vec<_>>()), "{line}");
        lines += 1;
    }
    assert!(lines > 1, "the texts run the program with flags");
}

#[test]
fn links_between_the_texts_lead_to_files() {
    let mut links = 0;
    for text in TEXTS {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(text);
        let folder = folder.parent().expect("a folder");
        let markdown = read(text);
        let targets = markdown.split("](").skip(1);
        let targets = targets.filter_map(|rest| rest.split(')').next());
        // Pages elsewhere, and those that `cargo doc` makes.
        let elsewhere = |target: &&str| target.contains("://") || target.starts_with("target/doc/");
        for target in targets.filter(|target| !elsewhere(target)) {
            assert!(folder.join(target).is_file(), "{text} leads to {target}");
            links += 1;
        }
    }
    assert!(links > 0, "they do lead somewhere");
}
