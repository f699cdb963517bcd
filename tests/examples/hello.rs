//! The core alone: one route, served with nothing but `event_loop` and `http`. It prints where it
//! listens, serves until SIGINT or SIGTERM, and drains.
//!
//! ```sh
//! cargo run --example hello
//! ```

use std::io;

use onepoll::event_loop::listener::Listener;
use onepoll::event_loop::listeners::Service;
use onepoll::event_loop::{Config, Server};
use onepoll::http::{Route, Routes};

fn main() -> io::Result<()> {
    let listener = Listener::bind(Service::Main, &[([127, 0, 0, 1], 0).into()], false)?;
    let address = listener.address();
    let routes = Routes::new(vec![Route::new("/hello", "Hello world.")]);
    // `()` is an observer that does nothing.
    let mut server = Server::new(&Config::default(), vec![(listener, routes)], ())?;
    println!("http://{address}/hello");
    server.run()
}
