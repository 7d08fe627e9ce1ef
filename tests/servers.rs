//! Models at servers with OpenAI's API, against a fake one: answers in all uses, records, and what a server
//! lacks. servers/ has the rest: keys and what may leave this machine, and every fault.

mod faults;
mod privacy;

use serde_json::{Value, json};

use crate::support::server::{Asked, FakeServer, Reply, answer, done, event, text};
use crate::support::{Done, Home, Run};

const KEPT: &str = ".local/share/fireside/conversations.db";

/// A server that says hello.
fn hello() -> FakeServer {
    FakeServer::new(|_| None)
}

/// A run without a terminal that asks this server.
fn ask(home: &Home, server: &FakeServer, args: &[&str]) -> Run {
    home.run(&[&["--server", &server.url, "-q"], args].concat())
}

/// Chat lines at this server.
fn chat(home: &Home, server: &FakeServer, args: &[&str], lines: &str) -> Done {
    ask(home, server, &[&["--repl-stdin"], args].concat()).stdin(lines).done()
}

/// A section of the config file for this server.
fn named(home: &Home, server: &FakeServer, more: &str) {
    let section = format!("[servers.work]\nurl = \"{}\"\n{more}", server.url);
    home.write(".config/fireside/config.toml", section);
}

/// The replies of llama-server that tell it apart, with a context of this many tokens.
fn of_llama_server(asked: &Asked, context: usize) -> Option<Reply> {
    match asked.path.as_str() {
        "/props" => Some(Reply::json(
            200,
            &json!({
                "default_generation_settings": { "n_ctx": context }, "build_info": "b1-test",
                "chat_template": "{{ messages }}",
            }),
        )),
        "/apply-template" => {
            let messages = asked.json()["messages"].as_array().unwrap().clone();
            let prompt = messages.iter().map(|one| one["content"].as_str().unwrap()).collect::<Vec<_>>();
            Some(Reply::json(200, &json!({ "prompt": prompt.join("\n") })))
        }
        "/tokenize" => {
            let content = asked.json()["content"].as_str().unwrap().to_string();
            let words = content.split_inclusive(char::is_whitespace);
            let tokens = words.enumerate().map(|(id, piece)| json!({ "id": id, "piece": piece }));
            Some(Reply::json(200, &json!({ "tokens": tokens.collect::<Vec<_>>() })))
        }
        _ => None,
    }
}

fn llama_server(context: usize) -> FakeServer {
    FakeServer::new(move |asked| of_llama_server(asked, context))
}

#[test]
fn one_answer_is_streamed_to_stdout() {
    let (home, server) = (Home::new(), hello());
    ask(&home, &server, &["-m", "tiny", "-p", "Hi", "--temp", "0", "-s", "7", "-n", "9", "--stop", "x"])
        .done()
        .code(0)
        .stdout("Hello there\n")
        .stderr("");
    let question = server.questions()[0].json();
    let expected = json!({
        "model": "tiny", "stream": true, "stream_options": { "include_usage": true },
        "temperature": 0.0, "top_p": 0.95, "seed": 7, "max_tokens": 9, "stop": ["x"],
        "messages": [{ "role": "user", "content": "Hi" }],
    });
    assert_eq!(question, expected);
    assert_eq!(server.questions()[0].header("authorization"), None);
    // Only one model is there, so nobody needs to name it; documents are read from a pipe.
    ask(&home, &server, &["-p", "Sum it up."]).stdin("A text.\n").done().code(0).stdout("Hello there\n");
    assert_eq!(server.questions()[1].json()["messages"][0]["content"], "A text.\n\nSum it up.");
}

#[test]
fn json_tells_what_is_known_and_null_for_the_rest() {
    let (home, server) = (Home::new(), hello());
    let told = |server: &FakeServer| -> Value {
        let done = ask(&home, server, &["-p", "Hi", "--json"]).done().code(0);
        serde_json::from_str(&done.stdout).unwrap()
    };
    let object = told(&server);
    assert_eq!((&object["text"], &object["stop_reason"]), (&json!("Hello there"), &json!("end")));
    assert_eq!(
        object["tokens"],
        json!({ "prompt": 7, "cached": null, "generated": 2, "drafted": null, "accepted": null })
    );
    assert_eq!(object["speed"]["prompt"], Value::Null);
    let model = &object["model"];
    assert_eq!(model["name"], json!(format!("tiny@{}", server.url)));
    for unknown in ["path", "fingerprint", "batch_size", "flash_attn"] {
        assert_eq!(model[unknown], Value::Null, "{unknown}");
    }
    let silent = FakeServer::answering(vec![Reply::stream(text("Hi") + "data: [DONE]\n\n")]);
    assert_eq!(told(&silent)["tokens"]["generated"], Value::Null);
    let timed = FakeServer::answering(vec![Reply::stream(
        text("Hi")
            + &event(&json!({
                "choices": [{ "delta": {}, "finish_reason": "stop" }],
                "usage": { "prompt_tokens": 20, "completion_tokens": 10 },
                "timings": { "cache_n": 15, "prompt_ms": 50.0, "predicted_ms": 1000.0 },
            })),
    )]);
    let object = told(&timed);
    assert_eq!((&object["tokens"]["cached"], &object["speed"]["generation"]), (&json!(15), &json!(10.0)));
    assert_eq!(object["speed"]["prompt"], json!(100.0));
}

#[test]
fn thinking_is_told_from_the_answer() {
    let home = Home::new();
    let thinks = |chunks: &[Value]| {
        let events: String = chunks.iter().map(event).collect();
        let server = FakeServer::answering(vec![Reply::stream(events + &done(3, 4))]);
        let told = ask(&home, &server, &["-p", "Hi", "--json"]).done().code(0);
        let object: Value = serde_json::from_str(&told.stdout).unwrap();
        (object["thinking"].clone(), object["text"].clone())
    };
    let delta = |field: &str, text: &str| json!({ "choices": [{ "delta": { field: text } }] });
    for field in ["reasoning_content", "reasoning"] {
        assert_eq!(thinks(&[delta(field, "hm"), delta("content", "Yes")]), (json!("hm"), json!("Yes")));
    }
    let tags = ["<thi", "nk>hm</th", "ink>\nYes"].map(|piece| delta("content", piece));
    assert_eq!(thinks(&tags), (json!("hm"), json!("Yes")));
}

#[test]
fn a_server_gets_the_extensions_that_it_knows_and_the_user_is_told_of_the_rest_once() {
    let home = Home::new();
    let lines = "/set mirostat 2\nHi\nHi\n/set think off\nHi\n";
    let other = hello();
    let told =
        home.run(&["--server", &other.url, "--repl-stdin", "--top-k", "5"]).stdin(lines).done().code(0);
    let says = |part: &str| told.stderr.matches(part).count();
    assert_eq!(
        says(&format!("{} does not know top-k and mirostat: they have no effect there", other.url)),
        1
    );
    assert_eq!(says(&format!("{} does not know think: it has no effect there", other.url)), 1);
    assert_eq!(other.questions().last().unwrap().json().get("top_k"), None);
    let llama = llama_server(4096);
    let told =
        home.run(&["--server", &llama.url, "--repl-stdin", "--top-k", "5"]).stdin(lines).done().code(0);
    assert!(!told.stderr.contains("does not know"), "{told:#?}");
    let question = llama.questions()[2].json();
    let extensions =
        ["top_k", "mirostat", "cache_prompt", "chat_template_kwargs"].map(|name| &question[name]);
    assert_eq!(extensions, [&json!(5), &json!(2), &json!(true), &json!({ "enable_thinking": false })]);
    ask(&home, &llama, &["--ctx-size", "512", "-p", "Hi"]).done().code(0);
    let done = home.run(&["--server", &llama.url, "--ctx-size", "512", "-p", "Hi"]).done().code(0);
    done.says("does not take ctx-size: only models on this machine do");
}

#[test]
fn vllm_is_told_by_its_list_and_counts_messages() {
    let server = FakeServer::new(|asked| match asked.path.as_str() {
        "/v1/models" => Some(Reply::json(
            200,
            &json!({ "data": [
            { "id": "org/Big-7B", "owned_by": "vllm", "max_model_len": 4096 },
        ] }),
        )),
        "/version" => Some(Reply::json(200, &json!({ "version": "0.9.1" }))),
        "/tokenize" => {
            let tokens = if asked.json().get("messages").is_some() { vec![5, 6, 7] } else { vec![5] };
            let texts = ["Hi", " the", "re"];
            Some(Reply::json(200, &json!({ "tokens": tokens, "token_strs": texts[..tokens.len()] })))
        }
        _ => None,
    });
    let home = Home::new();
    let show = home.run(&["show", "--server", &server.url]).done().code(0);
    show.stdout_has("vLLM 0.9.1").stdout_has("org/Big-7B").stdout_has("4096 tokens");
    let lines = "Hi\n/context\n/tokens\n/show prompt\n/set predict 1\n/retry\n";
    let done = chat(&home, &server, &["-m", "big-7b", "--repeat-penalty", "1.1"], lines);
    assert_eq!(done.code, Some(0), "{done:#?}");
    done.says("3 of 4096 tokens (0 %)").says("6 \" the\"").says("Hi there");
    let question = server.questions()[0].json();
    assert_eq!((&question["model"], &question["repetition_penalty"]), (&json!("org/Big-7B"), &json!(1.1)));
    assert_eq!(server.asked().iter().filter(|asked| asked.path == "/props").count(), 0);
}

#[test]
fn raw_text_is_completed() {
    let (home, server) = (
        Home::new(),
        FakeServer::new(|asked| {
            let event = event(&json!({ "choices": [{ "text": " a time", "finish_reason": "stop" }] }));
            asked.wants_answer().then(|| Reply::stream(event))
        }),
    );
    ask(&home, &server, &["--raw", "-p", "Once upon"]).done().code(0).stdout(" a time");
    let question = &server.questions()[0];
    assert_eq!(
        (question.path.as_str(), &question.json()["prompt"]),
        ("/v1/completions", &json!("Once upon"))
    );
}

#[test]
fn a_chat_has_history_retry_edit_and_export() {
    let (home, server) =
        (Home::new(), FakeServer::answering(vec![answer("One"), answer("Two"), answer("Three")]));
    let file = home.path("out.json");
    let lines = format!("Hi\n/retry\nMore?\n/undo\n/export {}\n", file.display());
    let done = chat(&home, &server, &["--keep"], &lines).code(0).stdout("One\nTwo\nThree\n");
    assert!(home.path(KEPT).exists(), "{done:#?}");
    let roles = |question: &Asked| question.json()["messages"].as_array().unwrap().len();
    assert_eq!(server.questions().iter().map(roles).collect::<Vec<_>>(), [1, 1, 3]);
    let export: Value = serde_json::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
    let model = format!("tiny@{}", server.url);
    assert_eq!(export["model"], json!(model), "{export}");
    // Resumed where it was, and named on the command line.
    ask(&home, &server, &["--continue", "-p", "Again?"]).done().code(0);
    assert_eq!(roles(&server.questions()[3]), 3);
    let id = home.run(&["history", "list"]).done().code(0).stdout[..8].to_string();
    home.run(&["history", "replay", &id]).done().code(1).stdout_has("a server gave it");
}

#[test]
fn the_models_of_servers_are_listed_and_shown() {
    let (home, server) = (
        Home::new(),
        FakeServer::new(|asked| match asked.path.as_str() {
            "/v1/models" => Some(Reply::json(
                200,
                &json!({ "data": [
            { "id": "/m/Tiny-Q4_0.gguf", "owned_by": "llamacpp",
              "meta": { "n_ctx_train": 8192, "n_params": 135_000_000_u64, "size": 98 << 20 } },
        ] }),
            )),
            _ => of_llama_server(asked, 4096),
        }),
    );
    named(&home, &server, "[servers.gone]\nurl = \"http://127.0.0.1:1\"\n");
    let list = home.run(&["list"]).done().code(0);
    let list = list.stdout_has(&format!("work: {}", server.url)).stdout_has("Tiny-Q4_0@work  135M");
    list.says("could not reach gone: connection refused");
    let list: Value = serde_json::from_str(&home.run(&["list", "--json"]).done().code(0).stdout).unwrap();
    assert_eq!(list["servers"][1]["models"][0]["name"], json!("Tiny-Q4_0@work"));
    assert!(list["servers"][0]["error"].as_str().unwrap().contains("refused"));
    let show = home.run(&["show", "tiny@work"]).done().code(0);
    let show = show.stdout_has("llama-server b1-test").stdout_has("4096 tokens").stdout_has("8192 tokens");
    show.stdout_has("fireside -m Tiny-Q4_0@work");
    home.run(&["show", "tiny@work", "--template"]).done().code(0).stdout("{{ messages }}\n");
    home.run(&["list", "--offline"]).done().code(0).says("no models found");
    home.run(&["show", "other@work"]).done().failed(1, "work has no model 'other'").hint("it has Tiny-Q4_0");
    home.run(&["-m", "x@nowhere", "-p", "Hi"])
        .done()
        .failed(1, "there is no model 'x@nowhere'")
        .hint("servers.nowhere");
}

#[test]
fn tokens_are_counted_by_the_server_or_estimated_and_said_to_be() {
    let home = Home::new();
    let lines = "one two three\n/context\n/tokens\n/stats\n";
    let counted = chat(&home, &llama_server(100), &[], lines).code(0);
    counted.says("5 of 100 tokens (5 %), 2 messages").says("0 \"one \"");
    let estimated = chat(&home, &hello(), &[], "one two three\n/context\n/stats\n").code(0);
    let estimated = estimated.says("about 7 tokens, of an unknown limit").says("estimated from the length");
    estimated.says("drafts       unknown");
    chat(&home, &hello(), &[], "Hi\n/tokens\n").code(0).says("does not show its prompts");
}

#[test]
fn a_full_context_is_noticed_before_or_after_the_server_refuses() {
    let home = Home::new();
    let words = "word ".repeat(30);
    let lines = format!("{words}\n{words}\n{words}\n{words}\n");
    // Counted before: nothing is sent that does not fit.
    let counting = llama_server(100);
    let rolls = |server: &FakeServer| {
        let args = ["--server", &server.url, "--overflow", "roll", "--repl-stdin"];
        home.run(&args).stdin(lines.clone()).done().code(0).says("oldest messages")
    };
    rolls(&counting);
    let last = counting.questions().last().unwrap().json();
    assert!(last["messages"].as_array().unwrap().len() < 7, "{last}");
    // Refused by a server that counts nothing ahead.
    let refusing = FakeServer::new(|asked| {
        let long = asked.wants_answer() && asked.json()["messages"].as_array().unwrap().len() > 4;
        let message = "This model's maximum context length is 100 tokens. However, you requested 120 tokens.";
        long.then(|| Reply::json(400, &json!({ "error": { "message": message } })))
    });
    rolls(&refusing);
    let stop = ask(
        &home,
        &FakeServer::new(|asked| {
            let body = json!({ "error": { "type": "exceed_context_size_error", "message": "x",
            "n_prompt_tokens": 600, "n_ctx": 512 } });
            asked.wants_answer().then(|| Reply::json(400, &body))
        }),
        &["-p", "Hi"],
    );
    stop.done().failed(3, "600 tokens, and the context holds 512");
}

#[test]
fn a_schema_is_sent_and_its_answer_is_checked() {
    let home = Home::new();
    let server = FakeServer::answering(vec![
        answer("{\"age\": 7}"),
        answer("Sure! Here it is: {\"age\": 7}"),
        answer("{\"age\": \"old\"}"),
        answer("{\"age\": 7"),
    ]);
    let args = ["-p", "Hi", "--schema", "age int"];
    ask(&home, &server, &args).done().code(0).stdout("{\"age\": 7}\n");
    let format = server.questions()[0].json()["response_format"].clone();
    assert_eq!(format["type"], "json_schema");
    assert_eq!(format["json_schema"]["schema"]["properties"]["age"]["type"], "integer");
    let ignored = ask(&home, &server, &args).done();
    ignored.failed(1, "does not match the schema").hint("the server ignores it").stdout("");
    for _ in 0..2 {
        let done = ask(&home, &server, &args).done().code(1).says("does not match the schema");
        assert!("{\"age\": 7\n".starts_with(done.stdout.trim_end()), "nothing else was shown: {done:#?}");
    }
}

#[test]
fn only_llama_server_gets_a_grammar() {
    let home = Home::new();
    let args = ["-p", "Hi", "--grammar", "root ::= [a-z]+"];
    ask(&home, &llama_server(4096), &args).done().failed(1, "does not match the grammar");
    let other = hello();
    ask(&home, &other, &args).done().failed(1, "cannot keep its answers to a grammar").hint("--json-schema");
    assert!(other.questions().is_empty(), "nothing was asked");
}
