//! The servers that are known by name: our own, and those of Debian's packages, each with one
//! thread and no access log. A script writes the configuration into a folder and becomes the
//! server. Each is stopped by the signal that its manual gives for a clean stop, and has its own
//! default for how long that takes.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};

use rustix::process::Signal;

use super::contestant::Contestant;
use super::machine;

/// A server of a package.
struct Known {
    name: &'static str,
    /// What is run, and so has to be there.
    program: &'static str,
    package: &'static str,
    path: &'static str,
    signal: Signal,
    script: &'static str,
}

/// Those that take part if the caller names none.
pub(crate) const USUAL: [&str; 5] = ["onepoll", "nginx", "lighttpd", "h2o", "haproxy"];

const KNOWN: [Known; 5] = [
    Known {
        name: "nginx",
        program: "nginx",
        package: "nginx-light",
        path: "/hello",
        signal: Signal::QUIT,
        script: NGINX,
    },
    Known {
        name: "lighttpd",
        program: "lighttpd",
        package: "lighttpd",
        path: "/hello",
        signal: Signal::INT,
        script: LIGHTTPD,
    },
    Known {
        name: "h2o",
        program: "h2o",
        package: "h2o",
        path: "/hello",
        signal: Signal::TERM,
        script: H2O,
    },
    Known {
        name: "haproxy",
        program: "haproxy",
        package: "haproxy",
        path: "/hello",
        signal: Signal::USR1,
        script: HAPROXY,
    },
    Known {
        name: "python",
        program: "python3",
        package: "python3",
        path: "/hello",
        signal: Signal::TERM,
        script: PYTHON,
    },
];

/// All names, for messages.
pub(crate) fn names() -> String {
    let names = KNOWN.iter().map(|known| known.name);
    ["onepoll"].into_iter().chain(names).collect::<Vec<_>>().join(", ")
}

/// A server by its name; `Ok(None)` if no server has this name, an error if it is not installed.
pub(crate) fn find(name: &str) -> Result<Option<Contestant>, String> {
    let host = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let known = |command, path: &str, signal| {
        let (name, path) = (name.to_owned(), path.to_owned());
        Ok(Some(Contestant { name, command, host, path, signal }))
    };
    if name == "onepoll" {
        let binary = env!("CARGO_BIN_EXE_onepoll");
        let command =
            format!("'{binary}' --log warn --listen 127.0.0.1:{{port}} --diag 127.0.0.1:{{diag}}");
        return known(command, "/hello", Signal::TERM);
    }
    let Some(Known { program, package, path, signal, script, .. }) =
        KNOWN.iter().find(|known| known.name == name)
    else {
        return Ok(None);
    };
    if !machine::has(program) {
        return Err(format!("it is not installed (apt-get install {package})"));
    }
    let file = machine::scratch(&format!("{name}.sh"));
    fs::write(&file, script).map_err(|error| format!("{}: {error}", file.display()))?;
    let (file, folder) = (file.display(), machine::scratch(name));
    // A folder for each port: some parts run several copies.
    known(format!("sh '{file}' '{}-{{port}}' {{port}}", folder.display()), path, *signal)
}

/// A master process, which alone stops cleanly, and one worker. As root it changes to a user that
/// may not be able to write to the folder, unless it is told to stay.
const NGINX: &str = r#"mkdir -p "$1" && cd "$1"
if [ "$(id -u)" = 0 ]; then user='user root;'; fi
cat >nginx.conf <<END
$user worker_processes 1; daemon off; pid nginx.pid; error_log /dev/null crit;
events { worker_connections 20000; multi_accept on; }
http { access_log off; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s; server { listen 127.0.0.1:$2; location / { return 404; }
  location = /hello { default_type text/plain; return 200 "Hello world."; } } }
END
exec nginx -p "$1" -c "$1/nginx.conf"
"#;

/// It responds from a file, as it has no fixed responses. As root it changes to a user that may not
/// be able to read the folder, unless it is told to stay.
const H2O: &str = r#"mkdir -p "$1/files" && printf 'Hello world.' >"$1/files/hello"
if [ "$(id -u)" = 0 ]; then user='user: root'; fi
cat >"$1/h2o.yaml" <<END
$user
num-threads: 1
max-connections: 20000
http1-request-timeout: 60
error-log: /dev/null
listen: {host: 127.0.0.1, port: $2}
hosts: {default: {paths: {/: {file.dir: "$1/files", file.mime.setdefaulttype: text/plain}}}}
END
exec h2o -c "$1/h2o.yaml"
"#;

/// It responds from a file too, and wants two descriptors for each connection.
const LIGHTTPD: &str = r#"mkdir -p "$1/files" && printf 'Hello world.' >"$1/files/hello"
most=$(ulimit -n)
[ "$most" -lt 20000 ] 2>/dev/null || most=20000
cat >"$1/lighttpd.conf" <<END
server.document-root = "$1/files"
server.bind = "127.0.0.1"
server.port = $2
server.max-fds = $most
server.max-connections = $((most / 2 - 50))
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 60
mimetype.assign = ("" => "text/plain")
END
exec lighttpd -D -f "$1/lighttpd.conf"
"#;

/// A proxy without a server behind it, which responds by itself. It wants two descriptors for each
/// connection.
const HAPROXY: &str = r#"mkdir -p "$1"
most=$(ulimit -n)
[ "$most" -lt 20000 ] 2>/dev/null || most=20000
cat >"$1/haproxy.cfg" <<END
global
  nbthread 1
  maxconn $((most / 2 - 50))
defaults
  mode http
  timeout client 60s
  timeout http-request 60s
  timeout http-keep-alive 60s
frontend all
  bind 127.0.0.1:$2
  http-request return status 200 content-type text/plain string "Hello world." if { path /hello }
  http-request return status 404
END
exec haproxy -db -f "$1/haproxy.cfg"
"#;

/// The files of a folder, with HTTP/1.0. Its manual says that it is not for production.
const PYTHON: &str = r#"mkdir -p "$1" && printf 'Hello world.' >"$1/hello"
exec python3 -m http.server --bind 127.0.0.1 --directory "$1" "$2"
"#;
