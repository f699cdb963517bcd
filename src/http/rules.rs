//! Every rule of the protocol that a client can keep or break: where it is written down, and
//! conversations that show it. A conversation is the bytes that are sent, and the statuses that
//! they come to; an `x` at the end means that the connection ends there.
//!
//! Each conversation has the level of its requirement (RFC 2119). What the RFCs say of it may leave
//! more than one outcome: this server's is the first, and `|` separates the others. `?` is another
//! protocol. An input that does not match the grammar SHOULD get a 400 and the close (RFC 9112,
//! 2.2). A server may respond once it has the head of a request (RFC 9110, 10.1.1); if the body is
//! broken then, there is nothing left but the close.

use std::fmt;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Level {
    Must,
    Should,
    May,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Level::Must => "MUST",
            Level::Should => "SHOULD",
            Level::May => "MAY",
        })
    }
}

pub(crate) struct Rule {
    /// One or two words to call it by.
    pub name: &'static str,
    /// What it asks for, and where.
    pub says: &'static str,
    /// Why it stands although servers that are used much break a MUST of it.
    pub stands: &'static str,
    /// How all of its conversations begin.
    start: &'static [u8],
    must: &'static [Sample],
    should: &'static [Sample],
    may: &'static [Sample],
}

const RULE: Rule =
    Rule { name: "", says: "", stands: "", start: b"", must: &[], should: &[], may: &[] };

/// The bytes behind the start, and what they come to.
type Sample = (&'static [u8], &'static str);

/// A conversation of a rule.
pub(crate) struct Conversation {
    pub level: Level,
    pub sends: Vec<u8>,
    /// What this server does.
    pub statuses: &'static str,
    /// What else the RFCs allow.
    pub others: Vec<&'static str>,
}

impl Rule {
    pub(crate) fn conversations(&self) -> impl Iterator<Item = Conversation> {
        let lists =
            [(Level::Must, self.must), (Level::Should, self.should), (Level::May, self.may)];
        let samples = lists.into_iter().flat_map(|(level, samples)| {
            samples.iter().map(move |(rest, outcomes)| (level, *rest, *outcomes))
        });
        samples.map(|(level, rest, outcomes)| {
            let mut outcomes = outcomes.split('|');
            let statuses = outcomes.next().unwrap_or_default();
            let sends = [self.start, rest].concat();
            Conversation { level, sends, statuses, others: outcomes.collect() }
        })
    }
}

pub(crate) const RULES: &[Rule] = &[
    Rule {
        name: "order",
        says: "requests are served in order, once they are whole (RFC 9112, 9.3.2)",
        start: b"",
        must: &[
            (b"", ""),
            (b"G", ""),
            (b"GET /hello HTTP/1.1\r\nHost: a\r\n", ""),
            (b"GET /hello HTTP/1.1\r\nHost: a\r\n\r", ""),
            (b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\n", "200"),
            (
                b"GET /hello HTTP/1.1\r\nHost: a\r\n\r\nGET /x HTTP/1.1\r\nHost: a\r\n\r\nGE",
                "200 404",
            ),
        ],
        ..RULE
    },
    Rule {
        name: "line ends",
        says: "lines end with CR LF, and neither stands alone (RFC 9112, 2.2)",
        start: b"GET /",
        must: &[
            (b" HTTP/1.1\rHost: a\r\n\r\n", "400 x"),
            (b" HTTP/1.1\r\nHost: a\rX: b\r\n\r\n", "400 x"),
            (b" HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n", "400 x"),
        ],
        should: &[(b"\r\n HTTP/1.1\r\nHost: a\r\n\r\n", "400 x")],
        may: &[
            (b" HTTP/1.1\nHost: a\r\n\r\n", "400 x|404|"),
            (b" HTTP/1.1\r\nHost: a\n\r\n", "400 x|404|"),
            (b" HTTP/1.1\r\nHost: a\nX: b\r\n\r\n", "400 x|404|"),
            (b" HTTP/1.1\r\nHost: a \nX: b\r\n\r\n", "400 x|404|"),
            (b" HTTP/1.1\r\nHost: a\r\n\n", "400 x|404|"),
            (b" HTTP/1.1\r\nHost: a\n\n", "400 x|404|"),
            (b" HTTP/1.0\n\r\n", "400 x|404 x|"),
            (b" HTTP/1.0\r\n\n", "400 x|404 x|"),
            (b" HTTP/1.1\r\nHost: a\r\r\n\r\n", "400 x|404|"),
        ],
        ..RULE
    },
    Rule {
        name: "empty lines",
        says: "an empty line or two ahead of a request are skipped, no more (RFC 9112, 2.2)",
        start: b"",
        should: &[
            (b"\r\nGET / HTTP/1.0\r\n\r\n", "404 x"),
            (b" \r\nGET / HTTP/1.0\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"\rGET / HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (
                b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                "404 404 x|400 x|404 400 x",
            ),
            (b"\r\n\r\n", "|400 x"),
            (b"\r\n\r\n\r\nGET / HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"\nGET / HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"\nHEAD / HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"\r\n\r\n\r\nHEAD / HTTP/1.0\r\n\r\n", "400 x|404 x"),
        ],
        ..RULE
    },
    Rule {
        name: "version",
        says: "a version is HTTP, a slash and two digits; 1.2 to 1.9 mean 1.1 \
               (RFC 9112, 2.3; RFC 9110, 2.5)",
        start: b"GET / ",
        must: &[(b"HTTP/1.0\r\n\r\n", "404 x"), (b"HTTP/1.1\r\nHost: a\r\n\r\n", "404")],
        should: &[
            (b"HTTP/1.2\r\nHost: a\r\n\r\n", "404"),
            (b"HTTP/1.9\r\nHost: a\r\n\r\n", "404"),
            (b"HTTP/1.2\r\n\r\n", "400 x"),
            (b"http/1.1\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/1\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/1.\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/11\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/1.11\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/01.1\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/ 1.1\r\nHost: a\r\n\r\n", "400 x"),
            (b"HTTP/1.1x\r\nHost: a\r\n\r\n", "400 x"),
            (b"SMTP/1.1\r\nHost: a\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"HTTP/9.9\r\nHost: a\r\n\r\n", "505 x|404"),
            (b"HTTP/3.0\r\n\r\n", "505 x|404 x|404"),
            (b"HTTP/2.0\r\nHost: a\r\n\r\n", "505 x|404"),
            (b"HTTP/0.9\r\n\r\n", "505 x|404 x|404"),
        ],
        ..RULE
    },
    Rule {
        name: "request line",
        says: "a request line has three parts and two spaces (RFC 9112, 3)",
        start: b"",
        should: &[
            (b"GET /\r\n\r\n", "400 x"),
            (b"GET\r\n\r\n", "400 x"),
            (b"GET HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET  HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET / x HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET / HTTP/1.0 x\r\n\r\n", "400 x"),
            (b"GET\r/\xff HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /\r\xff HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /\xff\r HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /\x01 \x02 HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET ht\x01tp://a/ HTTP/1.0\r\n\r\n", "400 x"),
            (b"G\x01T /\xff HTTP/1.0\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"GET  / HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"GET /  HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b" GET / HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"GET / HTTP/1.0 \r\n\r\n", "400 x|404 x"),
            (b"GET\t/ HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"GET /\tHTTP/1.0\r\n\r\n", "400 x|404 x"),
        ],
        ..RULE
    },
    Rule {
        name: "method",
        says: "a method is any token, in its own case (RFC 9110, 9.1)",
        start: b"",
        should: &[
            (b"BREW /hello HTTP/1.0\r\n\r\n", "200 x"),
            (b"get /hello HTTP/1.0\r\n\r\n", "200 x"),
            (b"!#$%&'*+-.^_`|~0aZ /hello HTTP/1.0\r\n\r\n", "200 x"),
            (b"TRACE /hello HTTP/1.0\r\n\r\n", "200 x"),
            (b"G(T / HTTP/1.0\r\n\r\n", "400 x"),
            (b"G\xc3\xabT / HTTP/1.0\r\n\r\n", "400 x"),
            (b"G\0T / HTTP/1.0\r\n\r\n", "400 x"),
        ],
        ..RULE
    },
    Rule {
        name: "target",
        says: "a target has a form that goes with its method (RFC 9112, 3.2)",
        start: b"",
        must: &[
            (b"GET http://b/hello HTTP/1.0\r\n\r\n", "200 x"),
            (b"OPTIONS /x HTTP/1.0\r\n\r\n", "404 x"),
        ],
        should: &[
            (b"OPTIONS * HTTP/1.0\r\n\r\n", "200 x"),
            (b"OPTIONS http://b HTTP/1.0\r\n\r\n", "200 x"),
            (b"GET hello HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET http://u@a/hello HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /hello#x HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /hello\" HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /<hello> HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /hello%zz HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /hel\0lo HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /hel\x7flo HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /caf\xc3\xa9 HTTP/1.0\r\n\r\n", "400 x"),
            (b"GET /\xc0\xaf HTTP/1.0\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"GET a:80 HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"GET * HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"GET ftp://a/hello HTTP/1.0\r\n\r\n", "400 x|200 x"),
        ],
        ..RULE
    },
    Rule {
        name: "query",
        says: "a query may hold what browsers send as it is (URL Standard, 1.3)",
        start: b"GET /hello?",
        must: &[
            (b"q=\xfc HTTP/1.0\r\nX : b\r\n\r\n", "400 x"),
            (b"q=\xfc HTTP/1.1\r\n\r\n", "400 x"),
        ],
        should: &[
            (b"q=\xfc\" HTTP/1.0\r\n\r\n", "400 x"),
            (b"q=\xfc\0 HTTP/1.0\r\n\r\n", "400 x"),
            (b"a#b HTTP/1.0\r\n\r\n", "400 x"),
            (b"a\"b HTTP/1.0\r\n\r\n", "400 x"),
            (b"<a> HTTP/1.0\r\n\r\n", "400 x"),
            (b"a b HTTP/1.0\r\n\r\n", "400 x"),
            (b"a\tb HTTP/1.0\r\n\r\n", "400 x"),
            (b"a\0b HTTP/1.0\r\n\r\n", "400 x"),
            (b"a\x7fb HTTP/1.0\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"a=%4 HTTP/1.0\r\n\r\n", "400 x|200 x"),
            (b"a=% HTTP/1.0\r\n\r\n", "400 x|200 x"),
            (b"q=\xff\xfe HTTP/3.0\r\n\r\n", "505 x|200 x|200|400 x"),
            (b"ids[]=1 HTTP/1.0\r\n\r\n", "200 x|400 x"),
            (b"{a|b}^\\` HTTP/1.0\r\n\r\n", "200 x|400 x"),
            (b"q=\xc3\xbc HTTP/1.0\r\n\r\n", "200 x|400 x"),
            (b"q=\xfc HTTP/1.0\r\n\r\n", "200 x|400 x"),
            (b"q=\xfc HTTP/1.0\r\nContent-Length: 1\r\n\r\nxGE", "200 x|400 x"),
        ],
        ..RULE
    },
    Rule {
        name: "connect",
        says: "CONNECT has an authority for a target, and opens no tunnel (RFC 9110, 9.3.6)",
        start: b"CONNECT ",
        must: &[(b"a HTTP/1.0\r\n\r\n", "400 x|404 x")],
        should: &[
            (b"a:80 HTTP/1.0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "501 x|404 404 x|400 404 x"),
            (b"/hello HTTP/1.0\r\n\r\n", "400 x|404 x"),
            (b"http://a/hello HTTP/1.0\r\n\r\n", "400 x|404 x"),
        ],
        ..RULE
    },
    Rule {
        name: "host",
        says: "there is one Host, and a valid or an empty one (RFC 9112, 3.2)",
        stands: "nginx and Go serve a port that is no number; RFC 3986, 3.2.3, has digits alone \
                 there, and RFC 9112, 3.2, demands 400 for a value that is not valid",
        start: b"GET / HTTP/1.1\r\n",
        must: &[
            (b"hOST:\t[::1]:80 \t\r\n\r\n", "404"),
            (b"\r\n", "400 x"),
            (b"Host: a\r\nHost: b\r\n\r\n", "400 x"),
            (b"Host: a\r\nHOST: a\r\n\r\n", "400 x"),
            (b"Host:\r\nHost:\r\n\r\n", "400 x"),
            (b"Host:\r\nHost: a\r\n\r\n", "400 x"),
            (b"Host: u@a\r\n\r\n", "400 x"),
            (b"Host: a/b\r\n\r\n", "400 x"),
            (b"Host: a b\r\n\r\n", "400 x"),
            (b"Host: a, b\r\n\r\n", "400 x"),
            (b"Host: a:b\r\n\r\n", "400 x"),
            (b"Host: \xff\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"Host:\r\n\r\n", "404|400 x"),
            (b"Host: \t\r\n\r\n", "404|400 x"),
            (b"Host: :80\r\n\r\n", "400 x|404"),
        ],
        ..RULE
    },
    Rule {
        name: "absolute target",
        says: "an absolute target does without Host's value, not without Host (RFC 9112, 3.2.2)",
        start: b"GET http://b/ HTTP/1.1\r\n",
        must: &[(b"Host: a\r\n\r\n", "404"), (b"Host: b\r\n\r\n", "404"), (b"\r\n", "400 x")],
        may: &[(b"Host: a b\r\n\r\n", "400 x|404")],
        ..RULE
    },
    Rule {
        name: "host in 1.0",
        says: "HTTP/1.0 may do without Host, but not have it wrong (RFC 9112, 3.2)",
        start: b"GET / HTTP/1.0\r\n",
        must: &[
            (b"\r\n", "404 x"),
            (b"Host: a\r\nHost: a\r\n\r\n", "400 x"),
            (b"Host: a b\r\n\r\n", "400 x"),
        ],
        ..RULE
    },
    Rule {
        name: "field",
        says: "a field is a token, a colon and a value without controls (RFC 9112, 5)",
        start: b"GET / HTTP/1.1\r\nHost: a\r\n",
        must: &[
            (b"X: \0\r\n\r\n", "400 x|404"),
            (b"!#$%&'*+-.^_`|~0aZ:\r\n\r\n", "404"),
            (b"X : b\r\n\r\n", "400 x"),
            (b"X\t: b\r\n\r\n", "400 x"),
        ],
        should: &[
            (b"X: \x80\xff \t!~\r\n\r\n", "404"),
            (b": b\r\n\r\n", "400 x"),
            (b"X\r\n\r\n", "400 x"),
            (b"X[: b\r\n\r\n", "400 x"),
            (b"X\xc3\xab: b\r\n\r\n", "400 x"),
            (b"X\0: b\r\n\r\n", "400 x"),
        ],
        may: &[
            (b"X: b\x0bc\r\n\r\n", "400 x|404"),
            (b"X: \x1b[31m\r\n\r\n", "400 x|404"),
            (b"X: \x7f\r\n\r\n", "400 x|404"),
        ],
        ..RULE
    },
    Rule {
        name: "folding",
        says: "no line begins with a blank, and none is folded (RFC 9112, 2.2 and 5.2)",
        start: b"GET / HTTP/1.1\r\n",
        must: &[
            (b" Host: a\r\n\r\n", "400 x"),
            (b"Host: a\r\n X: b\r\n\r\n", "400 x"),
            (b"Host: a\r\nTransfer-Encoding:\r\n chunked\r\n\r\n", "400 x||404 x"),
        ],
        may: &[
            (b" \r\nHost: a\r\n\r\n", "400 x|404"),
            (b"Host: a\r\nX: b\r\n c\r\n\r\n", "400 x|404"),
            (b"Host: a\r\nX: b\r\n\tc\r\n\r\n", "400 x|404"),
        ],
        ..RULE
    },
    Rule {
        name: "content-length",
        says: "Content-Length is one number that fits 64 bits (RFC 9112, 6.2 and 6.3)",
        start: b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:",
        must: &[
            (
                b" 28\r\n\r\n\
                  GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                "404 404 x",
            ),
            (
                b"\t0028 \r\n\r\n\
                  GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                "404 404 x",
            ),
            (b" 0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "404 404 x"),
            (b" 4\r\n\r\nGET", "|404"),
            (b" 18446744073709551615\r\n\r\nx", "|404|400 x"),
            (b" 18446744073709551616\r\n\r\nx", "400 x||404 x"),
            (b" 99999999999999999999999\r\n\r\nx", "400 x||404 x"),
            (b"\r\n\r\n", "400 x"),
            (b" +1\r\n\r\nx", "400 x"),
            (b" -0\r\n\r\n", "400 x"),
            (b" 0x1\r\n\r\nx", "400 x"),
            (b" 1_0\r\n\r\nx", "400 x"),
            (b" 1 0\r\n\r\nx", "400 x"),
            (b" 1.0\r\n\r\nx", "400 x"),
            (b" 1, 1\r\n\r\nx", "400 x|404"),
            (b" 1\r\nContent-Length: 1\r\n\r\nx", "400 x|404"),
            (b" 1\r\nContent-Length: 2\r\n\r\nxx", "400 x"),
        ],
        ..RULE
    },
    Rule {
        name: "body",
        says: "a body is a body, whatever the method and the version (RFC 9112, 6.3)",
        start: b"",
        must: &[
            (
                b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n\
                  GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                "404 404 x|400 x",
            ),
            (
                b"HEAD / HTTP/1.1\r\nHost: a\r\nContent-Length: 28\r\n\r\n\
                  GET /x HTTP/1.1\r\nHost: a\r\n\r\nGET / HTTP/1.0\r\n\r\n",
                "404 404 x|400 x",
            ),
            (b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nGE", "|404"),
            (b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\nGET", "404 x"),
        ],
        ..RULE
    },
    Rule {
        name: "transfer-encoding",
        says: "Transfer-Encoding is chunked and nothing else (RFC 9112, 6.1 and 6.3)",
        stands: "RFC 9110, 5.6.1.2, has recipients ignore empty elements of a list, and onepoll \
                 rejects them here, as a proxy may see no chunked coding in such a list",
        start: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding:",
        must: &[
            (b"\r\n\r\n", "400 x"),
            (b" chunked\r\n\r\n0\r\n\r\nGET / HTTP/1.0\r\n\r\n", "404 404 x"),
            (b"\tCHUNKED \r\n\r\n0\r\n\r\n", "404"),
            (b" chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "400 x|404 x"),
            (b" gzip\r\n\r\n", "501 x"),
            (b" xchunked\r\nContent-Length: 1\r\n\r\nx", "501 x"),
            (b" identity\r\n\r\n", "501 x"),
            (b" chunked, gzip\r\n\r\n", "400 x"),
            (b" chunked\r\nTransfer-Encoding: gzip\r\n\r\n", "400 x"),
            (b" \"chunked\"\r\n\r\n", "400 x"),
            (b" chun ked\r\n\r\n", "400 x"),
            (b" \x0bchunked\r\n\r\n", "400 x"),
            (b" chunked\0\r\n\r\n", "400 x||404 x"),
            (b" chunked\xa0\r\n\r\n", "400 x"),
        ],
        should: &[
            (b" gzip, chunked\r\n\r\n", "501 x||404"),
            (b" gzip\r\nTransfer-Encoding: chunked\r\n\r\n", "501 x||404"),
            (b" chunked;q=1\r\n\r\n", "400 x|404 x"),
        ],
        may: &[
            (b" chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "400 x||404 x"),
            (b" chunked, chunked\r\n\r\n", "400 x||404 x"),
            (b" chunked,\r\n\r\n", "400 x||404 x"),
            (b" ,chunked\r\n\r\n", "400 x||404 x"),
        ],
    },
    Rule {
        name: "two lengths",
        says: "there are no two ways to end a body, and no new one in HTTP/1.0 (RFC 9112, 6.1)",
        start: b"POST / HTTP/1.",
        must: &[
            (
                b"1\r\nHost: a\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400 x|404 x",
            ),
            (b"1\r\nHost: a\r\nTransfer-Encoding : chunked\r\n\r\n", "400 x"),
            (b"0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "400 x|404 x"),
            (
                b"0\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
                "400 x|404 x",
            ),
        ],
        ..RULE
    },
    Rule {
        name: "chunks",
        says: "chunks have a size in hex and are just as long; an empty one ends them \
               (RFC 9112, 7.1)",
        start: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
        must: &[
            (b"3\r\nabc\r\n0A\r\n0123456789\r\n000\r\n\r\nGET / HTTP/1.0\r\n\r\n", "404 404 x"),
            (b"0\r\n\r", "|404"),
            (b"3\r\nabcd\r\n", "400 x|404 x"),
            (b"3\r\nabc0\r\n\r\n", "400 x|404 x"),
            (b"3\r\nab\r\n0\r\n\r\n", "400 x|404 x"),
            (b"10000000000000000\r\n", "400 x||404 x"),
        ],
        should: &[
            (b"\r\n", "400 x|404 x"),
            (b"-1\r\n", "400 x|404 x"),
            (b"0x3\r\nabc\r\n", "400 x|404 x"),
            (b" 0\r\n\r\n", "400 x|404 x"),
            (b"0\n\n", "400 x|404 x"),
        ],
        may: &[(b"0 \r\n\r\n", "400 x|404")],
        ..RULE
    },
    Rule {
        name: "chunk extensions",
        says: "chunk extensions are names, with or without values (RFC 9112, 7.1.1)",
        start: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0",
        must: &[(b";a=\"b;\\\"c\" ; d\r\n\r\n", "404")],
        should: &[
            (b";a\rX\r\n\r\n", "400 x|404 x"),
            (b";\r\n\r\n", "400 x|404 x"),
            (b";a=[\r\n\r\n", "400 x|404 x"),
            (b";a\n\r\n", "400 x|404 x|"),
        ],
        ..RULE
    },
    Rule {
        name: "trailers",
        says: "trailers are fields, and mean nothing (RFC 9112, 7.1.2)",
        start: b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n",
        must: &[(b"Content-Length: 9\r\n\r\nGET / HTTP/1.0\r\n\r\n", "404 404 x|400 x")],
        should: &[(b"X : b\r\n\r\n", "400 x|404 x")],
        may: &[(b"X: b\n\r\n", "400 x|404"), (b"X: b\r\n c\r\n\r\n", "400 x|404")],
        ..RULE
    },
    Rule {
        name: "close",
        says: "who says close is left (RFC 9112, 9.3 and 9.6)",
        start: b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ",
        must: &[
            (b"close\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "404 x"),
            (b"foo ,,CLOSE\r\n\r\n", "404 x"),
            (b"keep-alive\r\nConnection: close\r\n\r\n", "404 x"),
            (b"close\r\nConnection: keep-alive\r\n\r\n", "404 x"),
            (b"closed, not-close\r\n\r\n", "404"),
        ],
        ..RULE
    },
    Rule {
        name: "keep-alive in 1.0",
        says: "who speaks HTTP/1.0 is left, unless they say keep-alive (RFC 9112, 9.3)",
        start: b"GET / HTTP/1.0\r\n",
        must: &[(b"\r\n", "404 x"), (b"Connection: keep-alive, close\r\n\r\n", "404 x")],
        may: &[(b"Connection: Keep-Alive\r\n\r\nGET / HTTP/1.0\r\n\r\n", "404 404 x|404 x")],
        ..RULE
    },
    Rule {
        name: "expect",
        says: "100-continue is the one expectation (RFC 9110, 10.1.1)",
        start: b"POST / HTTP/1.1\r\nHost: a\r\n",
        must: &[
            (
                b"Content-Length: 3\r\nExpect: 100-Continue\r\n\r\nGETGET / HTTP/1.0\r\n\r\n",
                "404 404 x",
            ),
            (b"Expect: 100-continue\r\n\r\n", "404"),
            (b"Content-Length: 3\r\nExpect: 100-continue\r\n\r\n", "|404|404 x"),
        ],
        may: &[
            (b"Expect:\r\n\r\n", "404|417 x"),
            (b"Expect: a-miracle\r\n\r\n", "417 x|404"),
            (b"Expect: 100-continue, a-miracle\r\n\r\n", "417 x|404"),
        ],
        ..RULE
    },
    Rule {
        name: "expect in 1.0",
        says: "HTTP/1.0 cannot mean 100-continue (RFC 9110, 10.1.1)",
        start: b"POST / HTTP/1.0\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\n",
        must: &[(b"", "|404"), (b"x", "404 x")],
        ..RULE
    },
    Rule {
        name: "other protocols",
        says: "what is not HTTP/1 at all is told so at once (RFC 9113, 3.4; RFC 8446, 5.1)",
        start: b"",
        should: &[(b"garbage\r\n\r\n", "400 x"), (b"EHLO a\r\n", "400 x|")],
        may: &[
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "400 x||x|?"),
            (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", "400 x||?"),
            (b"\x80", "400 x|"),
            (b"\0", "400 x|"),
        ],
        ..RULE
    },
];
