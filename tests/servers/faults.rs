//! Every fault of a server: refusals, broken and endless streams, other bodies than the API's. Each is one
//! clear line; what has come of an answer is kept.

use std::time::Duration;

use serde_json::{Value, json};

use super::{ask, chat, hello, llama_server, named, of_llama_server};
use crate::support::server::{End, FakeServer, Reply, answer, done, event, text};
use crate::support::{Done, Home};

/// One answer of a server that replies like this.
fn answered(reply: Reply) -> Done {
    ask(&Home::new(), &FakeServer::answering(vec![reply]), &["-p", "Hi"]).done()
}

#[test]
fn every_refusal_is_one_line_in_the_servers_words() {
    for (status, why) in [
        (400, "refused the request (400): because"),
        (401, "wants a key (401): because"),
        (403, "wants a key (403): because"),
        (404, "has nothing there (404): because"),
        (408, "waited too long for the request (408): because"),
        (413, "finds the request too large (413): because"),
        (500, "is in trouble (500): because"),
    ] {
        let body = json!({ "error": { "message": "because" } });
        answered(Reply::json(status, &body)).failed(1, why);
        let page = Reply::new(status, "text/html", "<html>no</html>");
        answered(page).failed(1, why.strip_suffix(": because").unwrap());
    }
    let last = json!({ "error": "\u{1b}[31mred" });
    answered(Reply::json(400, &last)).failed(1, "(400)");
}

#[test]
fn a_busy_server_is_asked_again_when_it_says() {
    for status in [429, 503] {
        let busy = Reply::new(status, "text/plain", "later").with("retry-after: 0");
        let server = FakeServer::answering(vec![busy.clone(), busy.clone(), answer("At last")]);
        let run = Home::new().run(&["--server", &server.url, "-p", "Hi"]).done().code(0).stdout("At last\n");
        run.says("trying again in");
        assert_eq!(server.questions().len(), 3);
        let server = FakeServer::answering(vec![busy]);
        ask(&Home::new(), &server, &["-p", "Hi"]).done().failed(1, &format!("({status}): later"));
        assert_eq!(server.questions().len(), 4, "not for ever");
    }
    let much_later = Reply::new(429, "text/plain", "").with("retry-after: 86400");
    let server = FakeServer::answering(vec![much_later]);
    ask(&Home::new(), &server, &["-p", "Hi"]).done().failed(1, "got too many requests (429)");
    assert_eq!(server.questions().len(), 1);
}

#[test]
fn a_stream_may_be_written_in_any_way_that_the_format_allows() {
    let whole = ": hello\r\n\r\n".to_string()
        + "data:"
        + &text("Grüße ")["data: ".len()..].replace('\n', "\r\n")
        + "event: message\rid: 7\r"
        + &text("an ").replace('\n', "\r")
        + ": ping\n\n"
        + &text("alle")
        + &done(5, 3);
    for pieces in [1, 2, 7, 4096] {
        answered(Reply::stream(whole.clone()).in_pieces(pieces)).code(0).stdout("Grüße an alle\n");
    }
    let chunked: String = [text("Hello "), text("there") + &done(1, 1)]
        .iter()
        .map(|chunk| format!("{:x};x=y\r\n{chunk}\r\n", chunk.len()))
        .collect();
    let trailers = chunked + "0\r\nx-checksum: 1\r\n\r\n";
    let reply = Reply::stream(trailers).with("transfer-encoding: chunked");
    answered(reply).code(0).stdout("Hello there\n");
    // Servers that do not stream, or do not say goodbye.
    let whole = json!({ "choices": [{ "message": { "content": "All of it" }, "finish_reason": "stop" }] });
    answered(Reply::json(200, &whole)).code(0).stdout("All of it\n");
    let finish = event(&json!({ "choices": [{ "delta": {}, "finish_reason": "stop" }] }));
    answered(Reply::stream(text("Done") + &finish)).code(0).stdout("Done\n");
    answered(Reply::new(200, "application/octet-stream", text("Hi") + &done(1, 1))).code(0).stdout("Hi\n");
}

#[test]
fn what_is_not_such_a_stream_is_refused() {
    let page = Reply::new(200, "text/html; charset=utf-8", "<html>Welcome</html>");
    answered(page).failed(1, "answered with a web page");
    answered(Reply::new(200, "application/json", "{")).failed(1, "did not answer with JSON");
    answered(Reply::stream("data: {\"choices\": [\n\n")).failed(1, "sent an event that is not JSON");
    answered(Reply::stream("")).failed(1, "closed the connection without an answer");
    answered(Reply::stream("Hello, world!\n\n")).failed(1, "closed the connection without an answer");
    answered(Reply::stream(event(&json!({ "error": { "message": "out of memory" } }))))
        .failed(1, "out of memory");
    let gzip = Reply::stream(&b"\x1f\x8b\x08\0"[..]).with("content-encoding: gzip");
    answered(gzip).failed(1, "sent gzip, which fireside did not ask for");
    answered(Reply { head: "garbage\r\n".into(), ..answer("x") }).failed(1, "the response is not HTTP");
}

#[test]
fn endless_bodies_end() {
    let endless = |reply: Reply| answered(reply.then(End::Endless));
    endless(Reply::stream("x".repeat(64 << 10))).failed(1, "sent a line without an end");
    let refusal = Reply::new(500, "text/plain", "no ".repeat(20_000)).with("content-length: 10000000000");
    let done = endless(refusal).failed(1, "is in trouble (500): no no");
    assert!(done.stderr.len() < 1000);
    endless(Reply::new(200, "application/json", " ".repeat(64 << 10))).failed(1, "did not answer with JSON");
}

#[test]
fn a_broken_answer_is_kept_with_one_line() {
    let home = Home::new();
    let broken = [
        (Reply::stream(text("Half of")), "the connection was closed early"),
        (Reply::stream(text("Half of")).with("content-length: 9999"), "the connection was closed early"),
        (Reply::stream(text("Half of") + "data: {\n\n"), "it sent an event that is not JSON"),
        (Reply::stream(text("Half of") + &event(&json!({ "error": "out of memory" }))), "out of memory"),
    ];
    for (reply, why) in broken {
        let server = FakeServer::answering(vec![reply]);
        let run = ask(&home, &server, &["-p", "Hi"]).done().code(1).stdout("Half of\n");
        assert_eq!(run.stderr, format!("fireside: the answer of {} broke off: {why}\n", server.url));
        let json = ask(&home, &server, &["-p", "Hi", "--json"]).done().code(1);
        let object: Value = serde_json::from_str(&json.stdout).unwrap();
        assert_eq!((&object["text"], &object["stop_reason"]), (&json!("Half of"), &json!("error")));
        assert!(object["error"]["message"].as_str().unwrap().contains(why), "{object}");
    }
}

#[test]
fn a_broken_answer_is_continued_where_the_server_can() {
    let (half, rest) = (Reply::stream(text("Half of")), answer(" it"));
    let replies = std::sync::Mutex::new(vec![rest, half.clone()]);
    let server = FakeServer::new(move |asked| {
        of_llama_server(asked, 4096).or_else(|| {
            asked.wants_answer().then(|| replies.lock().unwrap().pop().unwrap_or(answer("no more")))
        })
    });
    let home = Home::new();
    let done = chat(&home, &server, &["--keep"], "Hi\n/more\nThanks\n").code(0);
    done.stdout("Half of\n it\nno more\n").says("broke off").says("/more continues it");
    let question = server.questions()[1].json();
    assert_eq!(question["messages"][1], json!({ "role": "assistant", "content": "Half of" }));
    assert_eq!(question["continue_final_message"], json!(true));
    assert_eq!(server.questions()[2].json()["messages"][1]["content"], json!("Half of it"));
    let other = FakeServer::answering(vec![half, answer("Again")]);
    let done = chat(&home, &other, &[], "Hi\n/more\n/retry\n").code(0).stdout("Half of\nAgain\n");
    let done = done.says("cannot continue an answer");
    assert!(!done.stderr.contains("/more continues"), "{done:#?}");
}

#[test]
fn a_stalled_server_is_given_up_after_its_time() {
    let home = Home::new();
    for (reply, why) in [
        (Reply::stream("").then(End::Stall), "nothing came for too long"),
        (Reply::stream(text("Half")).then(End::Stall), "broke off: nothing came for too long"),
    ] {
        let server = FakeServer::answering(vec![reply]);
        named(&home, &server, "timeout = 1\n");
        home.run(&["-m", "tiny@work", "-p", "Hi"]).done().code(1).says(why);
    }
    let silent = FakeServer::new(|asked| {
        let nothing = Reply { head: String::new(), pieces: Vec::new(), end: End::Stall };
        asked.wants_answer().then_some(nothing)
    });
    named(&home, &silent, "timeout = 1\n");
    // Not even a status line: a blank line is none.
    home.run(&["-m", "tiny@work", "-p", "Hi"]).done().code(1);
    home.run(&["--server", "http://127.0.0.1:1", "-p", "Hi"]).done().failed(1, "could not reach");
}

#[test]
fn ctrl_c_closes_the_stream_at_once_and_keeps_what_has_come() {
    let server = FakeServer::answering(vec![Reply::stream(text("Half of")).then(End::Stall)]);
    let home = Home::new();
    let mut running = ask(&home, &server, &["-p", "Hi"]).start();
    running.stdout.wait_for("Half of");
    running.interrupt();
    server.sees_the_client_leave();
    running.done().code(130).stdout("Half of\n");
    // Before the first byte, too.
    let server = FakeServer::answering(vec![Reply::stream("").then(End::Stall)]);
    let running = ask(&home, &server, &["-p", "Hi"]).start();
    while server.questions().is_empty() {
        std::thread::sleep(Duration::from_millis(1)); // until it is asked
    }
    running.interrupt();
    server.sees_the_client_leave();
    running.done().code(130);
}

#[test]
fn a_server_may_have_an_ipv6_address_and_a_path() {
    let Some(listener) = std::net::TcpListener::bind("[::1]:0").ok() else { return };
    drop(listener);
    let server = FakeServer::at("[::1]:0", |_| None);
    let home = Home::new();
    ask(&home, &server, &["-p", "Hi"]).done().code(0).stdout("Hello there\n");
    let server = hello();
    let url = format!("{}/v1/", server.url);
    home.run(&["--server", &url, "-q", "-p", "Hi"]).done().code(0).stdout("Hello there\n");
    assert_eq!(server.questions()[0].path, "/v1/chat/completions");
    let model = format!("tiny@{}", llama_server(9).url);
    home.run(&["-m", &model, "-q", "-p", "Hi"]).done().code(0).stdout("Hello there\n");
}
