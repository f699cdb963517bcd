//! Servers that take part if the machine has them: nginx, h2o and lighttpd, each with one thread
//! and no access log. A script writes the configuration into a folder and becomes the server.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::contestant::Contestant;

/// All that are installed, with their files in `folder`.
pub(crate) fn contestants(folder: &Path) -> Vec<Contestant> {
    let scripts = [("nginx", NGINX), ("h2o", H2O), ("lighttpd", LIGHTTPD)];
    let installed =
        scripts.into_iter().filter(|(name, _)| Command::new(name).arg("-v").output().is_ok());
    let contestants = installed.map(|(name, script)| {
        let path = folder.join(format!("{name}.sh"));
        fs::write(&path, script).expect("a file");
        let (path, folder) = (path.display(), folder.display());
        Contestant::other(name, &format!("sh '{path}' '{folder}' {{port}}"))
    });
    contestants.collect()
}

/// A single worker without a master process. It needs a folder of its own.
const NGINX: &str = r#"cd "$1"
cat >nginx.conf <<END
master_process off; daemon off; pid nginx.pid; error_log /dev/null crit;
events { worker_connections 20000; multi_accept on; }
http { access_log off; keepalive_requests 1000000000; tcp_nodelay on;
  client_body_temp_path b; proxy_temp_path p; fastcgi_temp_path f; uwsgi_temp_path u;
  scgi_temp_path s; server { listen 127.0.0.1:$2;
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

/// It responds from a file too.
const LIGHTTPD: &str = r#"mkdir -p "$1/files" && printf 'Hello world.' >"$1/files/hello"
cat >"$1/lighttpd.conf" <<END
server.document-root = "$1/files"
server.bind = "127.0.0.1"
server.port = $2
server.max-fds = 20000
server.max-connections = 9990
server.max-keep-alive-requests = 1000000000
server.max-keep-alive-idle = 60
mimetype.assign = ("" => "text/plain")
END
exec lighttpd -D -f "$1/lighttpd.conf"
"#;
