//! Recordings of the server, each as a text and as a page that replays it from a file, without a
//! server. Five are of real sockets, and one is a life from the simulation.
//!
//! ```sh
//! cargo run --example recordings           # to target/doc/replay, beside the documentation
//! cargo run --example recordings -- FOLDER # to another folder
//! ```

#![allow(unreachable_pub)] // There is one crate, and modules are what is private.

#[path = "../simulation/mod.rs"]
#[allow(dead_code)] // One life needs less than all of it.
mod simulation;

use std::error::Error;
use std::io::{self, BufRead, BufReader, ErrorKind, Read, Write};
use std::iter;
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::rc::Rc;
use std::thread;
use std::time::Duration;
use std::{env, fs};

use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::{Config, Server};
use onepoll::http::{Route, Routes};
use onepoll::observe::live::PAGE;
use onepoll::observe::{self, Hooks, Observe};
use onepoll::services::VERSION;
use rustix::process::{Resource, Rlimit, Signal, getpid, getrlimit, kill_process, setrlimit};
use socket2::{Domain, Socket, Type};

use crate::simulation::kernel::Shared;
use crate::simulation::requests::{BODIES, Catalog};
use crate::simulation::world::World;
use crate::simulation::{life, observer};

const HELLO: &str = "GET /hello HTTP/1.1\r\nHost: a\r\n\r\n";
/// The seed of a life with a stop, in which nearly every state occurs.
const SEED: u64 = 1256;
/// Where the page has room for a recording, and where it is told of the documentation.
const ROOM: &str = "<script type=\"text/plain\" id=\"recording\"></script>";
const ROOT: &str = "<html lang=\"en\">";

type Outcome<T> = Result<T, Box<dyn Error>>;

/// A recording: its name, what it is called, what there is to see, and how it is made.
struct Recording {
    name: &'static str,
    title: &'static str,
    about: &'static str,
    make: fn() -> Outcome<String>,
}

const RECORDINGS: [Recording; 6] = [
    Recording {
        name: "pipelining",
        title: "Pipelining",
        about: "One client waits for each response, another one sends sixteen requests at once, \
                and a third one four thousand. A batch is one change, with the responses to as \
                many requests as a read has brought. A run ends when its budget of reads is used \
                up, and the connection runs again.",
        make: pipelining,
    },
    Recording {
        name: "slow-reader",
        title: "A slow reader",
        about: "Two clients ask for 8 MiB. The kernel takes a part, and their connections are \
                writing: they wait for room. A third client is served meanwhile. One of the two \
                reads on in the end. The other one never does, and its timeout passes.",
        make: slow_reader,
    },
    Recording {
        name: "slowloris",
        title: "Slowloris",
        about: "Twelve clients send their heads a byte at a time, so that a server would wait for \
                ever. The head of each has to be whole after 400 ms, however often a byte comes. \
                The timers end all of them with a 408. Another client is served as if they were \
                not there.",
        make: slowloris,
    },
    Recording {
        name: "descriptors",
        title: "Descriptors run out",
        about: "Eight clients connect when the process has descriptors for four more. Accepting \
                pauses. The four that are accepted are served. With each one that closes, a \
                descriptor is free, and the next client is accepted in the same tick or in the \
                next one.",
        make: descriptors,
    },
    Recording {
        name: "stop",
        title: "A stop under load",
        about: "A SIGTERM comes while clients are idle, in a head, in a body and in a delay. The \
                responses from then on announce the close. Requests that have begun are served, \
                and a batch is deferred until no more requests follow. Idle connections are closed \
                when the grace is over. At the drain's deadline, a body that never comes whole is \
                aborted.",
        make: stop,
    },
    Recording {
        name: "simulation",
        title: "A life from the simulation",
        about: "The same loop in a simulated world: its clients, its kernel and its clock come \
                from a seed, so this recording is the same each time. The clients send batches \
                and parts of requests, some read slowly or go away, and then comes the stop.",
        make: simulation,
    },
];

fn main() -> Outcome<()> {
    let folder = match env::args_os().nth(1) {
        Some(option) if option.as_encoded_bytes().starts_with(b"-") => {
            let option = option.to_string_lossy();
            return Err(format!("{option:?} is no option: it takes a folder, or nothing").into());
        }
        Some(folder) => PathBuf::from(folder),
        // Cargo puts this program three folders below its own, which the documentation is in, too.
        None => env::current_exe()?.ancestors().nth(3).ok_or("no folder")?.join("doc/replay"),
    };
    fs::create_dir_all(&folder)?;
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        println!("{}", path.display());
        fs::write(path, text)
    };
    for Recording { name, title, about, make } in RECORDINGS {
        let recording = format!("# title: {title}\n# about: {about}\n{}", make()?);
        write(&format!("{name}.txt"), &recording)?;
        write(&format!("{name}.html"), &page(&recording))?;
    }
    write("index.html", &index())?;
    Ok(())
}

/// The live page with a recording in it.
fn page(recording: &str) -> String {
    assert!(PAGE.contains(ROOM) && PAGE.contains(ROOT));
    assert!(!recording.contains('<'), "nothing in it ends the element that it is put into");
    let (begin, end) = ROOM.split_at(ROOM.len() - "</script>".len());
    PAGE.replace(ROOM, &[begin, recording, end].concat())
        .replace(ROOT, "<html lang=\"en\" data-book=\"../onepoll/\">")
}

fn index() -> String {
    let items = RECORDINGS.map(|Recording { name, title, about, .. }| {
        format!("<li><h2><a href=\"{name}.html\">{title}</a></h2>\n<p>{about}</p>\n")
    });
    include_str!("recordings.html").replace("ITEMS", &items.concat())
}

/// Records a server from its start to the end of its stop. `play` is what its clients do. It
/// returns what they do once the stop has begun, and that returns the clients that never close.
fn record<End: FnOnce() -> Outcome<Vec<Client>>>(
    config: &Config,
    routes: Vec<Route>,
    play: impl FnOnce(SocketAddr) -> Outcome<End>,
) -> Outcome<String> {
    let bind = |service| Listener::bind(service, &[([127, 0, 0, 1], 0).into()], false);
    let (diag, main) = (bind(Service::Diag)?, bind(Service::Main)?);
    let address = main.address();
    let listeners = vec![(diag, Routes::new(observe::routes())), (main, Routes::new(routes))];
    let block = Duration::ZERO;
    let hooks = Hooks { before_wait: || None, stopping: || {}, dropped: || 0, block };
    let mut server = Server::new(config, listeners, Observe::new(VERSION, hooks))?;
    let serving = thread::spawn(move || {
        let ended = server.run();
        ended.map(|()| server.observer().recording())
    });
    let end = play(address)?;
    kill_process(getpid(), Signal::TERM)?;
    let _open = end()?;
    Ok(serving.join().map_err(|_| "the server panics")??)
}

/// A client.
struct Client(BufReader<TcpStream>);

impl Client {
    fn connect(address: SocketAddr) -> io::Result<Client> {
        Ok(Client(BufReader::new(TcpStream::connect(address)?)))
    }

    fn send(&mut self, text: &str) -> io::Result<()> {
        self.0.get_mut().write_all(text.as_bytes())
    }

    /// The head of the next response. Its body is read, too.
    fn response(&mut self) -> Outcome<String> {
        let (head, length) = self.head()?;
        self.read(length)?;
        Ok(head)
    }

    /// The head of the next response, and the length of its body.
    fn head(&mut self) -> Outcome<(String, u64)> {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            if self.0.read_line(&mut head)? == 0 {
                return Err("the server closes".into());
            }
        }
        let (_, rest) = head.split_once("Content-Length: ").ok_or("there is no length")?;
        let length = rest.lines().next().unwrap_or_default().parse()?;
        Ok((head, length))
    }

    /// Reads so many bytes.
    fn read(&mut self, bytes: u64) -> io::Result<()> {
        io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink()).map(drop)
    }

    fn ask(&mut self) -> Outcome<String> {
        self.send(HELLO)?;
        self.response()
    }

    /// Waits for the server's FIN.
    fn wait_for_end(mut self) -> io::Result<()> {
        io::copy(&mut self.0, &mut io::sink()).map(drop)
    }
}

/// Clients that close once the stop has begun.
fn closing(clients: impl IntoIterator<Item = Client>) -> impl FnOnce() -> Outcome<Vec<Client>> {
    move || {
        clients.into_iter().for_each(drop);
        Ok(Vec::new())
    }
}

fn hello() -> Vec<Route> {
    vec![Route::new("/hello", "Hello world.")]
}

fn pipelining() -> Outcome<String> {
    record(&Config::default(), hello(), |address| {
        let (mut one, mut sixteen) = (Client::connect(address)?, Client::connect(address)?);
        let mut many = Client::connect(address)?;
        for _ in 0..4 {
            one.ask()?;
        }
        sixteen.send(&HELLO.repeat(16))?;
        for _ in 0..16 {
            sixteen.response()?;
        }
        let mut sender = many.0.get_ref().try_clone()?;
        let sending = thread::spawn(move || sender.write_all(HELLO.repeat(4000).as_bytes()));
        for _ in 0..4000 {
            many.response()?;
        }
        sending.join().map_err(|_| "the client panics")??;
        one.ask()?;
        Ok(closing([one, sixteen, many]))
    })
}

fn slow_reader() -> Outcome<String> {
    let mut config = Config::default();
    config.timeouts.write = Duration::from_secs(1);
    let routes =
        vec![Route::new("/hello", "Hello world."), Route::new("/long", vec![b'.'; 8 << 20])];
    record(&config, routes, |address| {
        let (mut slow, mut never) = (Client::connect(address)?, Client::connect(address)?);
        let mut other = Client::connect(address)?;
        slow.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")?;
        never.send("GET /long HTTP/1.1\r\nHost: a\r\n\r\n")?;
        let (_, length) = slow.head()?;
        for _ in 0..8 {
            slow.read(length / 16)?;
            other.ask()?;
        }
        slow.read(length / 2)?;
        slow.ask()?;
        // Its timeout passes in the stop, which waits for it.
        Ok(move || {
            drop((slow, other));
            Ok(vec![never])
        })
    })
}

fn slowloris() -> Outcome<String> {
    let mut config = Config::default();
    config.timeouts.header = Duration::from_millis(400);
    record(&config, hello(), |address| {
        let mut other = Client::connect(address)?;
        let mut slow = Vec::new();
        for _ in 0..12 {
            slow.push(Client::connect(address)?);
        }
        for byte in "GET /".chars().chain(iter::repeat('a')) {
            let mut left = Vec::new();
            for mut client in slow {
                // A client that has its 408 may be reset by what it sends.
                let _ = client.send(&byte.to_string());
                client.0.get_ref().set_read_timeout(Some(Duration::from_millis(3)))?;
                match client.0.fill_buf() {
                    Err(error) if error.kind() == ErrorKind::WouldBlock => left.push(client),
                    _ => {}
                }
            }
            slow = left;
            other.ask()?;
            if slow.is_empty() {
                break;
            }
        }
        Ok(closing([other]))
    })
}

fn descriptors() -> Outcome<String> {
    record(&Config::default(), hello(), |address| {
        let mut sockets = Vec::new();
        for _ in 0..8 {
            sockets.push(Socket::new(Domain::IPV4, Type::STREAM, None)?);
        }
        let usual = getrlimit(Resource::Nofile);
        // A descriptor is the lowest free number, so this one is the first that is not used.
        let free = fs::File::open("/")?;
        let first_free = u64::try_from(free.as_raw_fd())?;
        drop(free);
        let few = Rlimit { current: Some(first_free + 4), ..usual };
        setrlimit(Resource::Nofile, few)?;
        let mut clients = Vec::new();
        let mut waiting = Vec::new();
        for socket in sockets {
            socket.connect(&address.into())?;
            let mut client = Client(BufReader::new(socket.into()));
            client.send(HELLO)?;
            waiting.push(client);
        }
        let mut waiting = waiting.into_iter();
        let mut served: Vec<Client> = waiting.by_ref().take(4).collect();
        for client in &mut served {
            client.response()?;
        }
        let mut open = served.into_iter();
        for mut client in waiting {
            // Its own descriptor stays, so only that of the server is free.
            let gone = open.next().ok_or("there are as many")?;
            gone.0.get_ref().shutdown(Shutdown::Write)?;
            client.response()?;
            clients.extend([gone, client]);
        }
        setrlimit(Resource::Nofile, usual)?;
        Ok(closing(clients))
    })
}

fn stop() -> Outcome<String> {
    let mut config = Config { delay: Duration::from_millis(150), ..Config::default() };
    config.schedule.drain = Duration::from_secs(3);
    config.schedule.idle_grace = Duration::from_secs(1);
    let mut routes = hello();
    routes.push(Route { is_delayed: true, ..Route::new("/delayed", "Hello later.") });
    record(&config, routes, |address| {
        let connect = || Client::connect(address);
        let (idle, mut half, mut batch) = (connect()?, connect()?, connect()?);
        let (mut delayed, mut body) = (connect()?, connect()?);
        let mut busy = [connect()?, connect()?, connect()?];
        batch.send(&HELLO.repeat(4))?;
        for _ in 0..4 {
            batch.response()?;
        }
        half.send(&HELLO[..9])?;
        body.send("POST /hello HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\nnot all")?;
        delayed.send(&HELLO.replace("/hello", "/delayed"))?;
        for _ in 0..2 {
            for client in &mut busy {
                client.ask()?;
            }
        }
        Ok(move || {
            for client in &mut busy {
                while !client.ask()?.contains("Connection: close") {}
            }
            batch.send(&HELLO.repeat(4))?;
            half.send(&HELLO[9..])?;
            half.response()?;
            for client in busy.into_iter().chain([half, idle]) {
                client.wait_for_end()?;
            }
            delayed.response()?;
            delayed.wait_for_end()?;
            for _ in 0..4 {
                batch.response()?;
            }
            batch.wait_for_end()?;
            // It never comes whole.
            Ok(vec![body])
        })
    })
}

fn simulation() -> Outcome<String> {
    let plan = life::Lives::new().plan(SEED);
    let is_delayed = !plan.settings.config.delay.is_zero();
    let catalog = Rc::new(Catalog::new(BODIES[plan.body], is_delayed));
    let world = World::new(Rc::new(plan), Rc::clone(&catalog), false);
    let observe = observer::observe(&world);
    life::serve(&Shared::new(world), &observe, &catalog).ok_or("the poll fails")?;
    let recording = observe.borrow().recording();
    Ok(recording.replacen("# version: 1\n", &format!("# version: {VERSION}\n"), 1))
}
