//! Malicious chat templates: whatever one does, and when, the turn fails with a line, and the process and the
//! conversation continue.

use std::time::{Duration, Instant};

use crate::support::pty::*;
use crate::support::{Done, Home, tiny};

/// The longest render on a busy machine, including its limit and a start.
const SOON: Duration = Duration::from_secs(180); // the limit is computing time: a busy machine needs longer

/// Writes the messages, and from the user's third on does `harm`.
fn late(harm: &str) -> String {
    format!(
        "{{% for m in messages %}}<|im_start|>{{{{ m.role }}}}\n{{{{ m.content }}}}<|im_end|>\n{{% endfor %}}\
         {{% if messages|length > 4 %}}{{% set n = namespace(x=[1], y=[1], t='ab') %}}{harm}{{% endif %}}\
         <|im_start|>assistant\n"
    )
}

/// Each of 2^60 elements, with sixty lists in memory.
const SHARING: &str =
    "{% for i in range(60) %}{% set n.x = [n.x, n.x] %}{% set n.y = [n.y, n.y] %}{% endfor %}";

fn chat(home: &Home, template: &str, lines: &str) -> Done {
    home.write("t.jinja", template);
    let args = ["--repl-stdin", "-q", "--chat-template", "t.jinja", "-n", "4", "--temp", "0"];
    home.run(&args).model(&tiny("llama-bpe")).stdin(lines).done()
}

/// Sends three messages, of which the third fails, then starts another conversation.
#[track_caller]
fn goes_on_after(harm: &str, reason: &str) {
    let started = Instant::now();
    let home = Home::new();
    let done =
        chat(&home, &late(harm), "One\nTwo\nThree\n/show system\n/clear\nFour\n/show prompt\n").code(0);
    assert!(
        done.stderr.contains("fireside: the chat template ") && done.stderr.contains(reason),
        "{done:#?}"
    );
    assert!(done.stderr.contains("<|im_start|>user\nFour<|im_end|>"), "it went on; {done:#?}");
    assert!(!done.stderr.contains("Three<|im_end|>"), "{done:#?}");
    assert!(started.elapsed() < SOON, "{:?}", started.elapsed());
}

#[test]
fn comparing_without_end_fails_the_turn_only() {
    goes_on_after(&format!("{SHARING}{{% if n.x == n.y %}}a{{% endif %}}"), "does not end");
}

#[test]
fn sorting_without_end_fails_the_turn_only() {
    goes_on_after(&format!("{SHARING}{{{{ [n.x, n.y]|sort|length }}}}"), "does not end");
}

#[test]
fn hashing_without_end_fails_the_turn_only() {
    goes_on_after(&format!("{SHARING}{{% set d = {{n.x: 1}} %}}{{{{ d[n.y] }}}}"), "does not end");
    goes_on_after(&format!("{SHARING}{{{{ [n.x, n.y]|unique|length }}}}"), "does not end");
}

#[test]
fn doubling_without_end_fails_the_turn_only() {
    goes_on_after("{% for i in range(60) %}{% set n.x = n.x + n.x %}{% endfor %}{{ n.x }}", "endless memory");
    goes_on_after("{% for i in range(60) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}", "template");
}

#[test]
fn sharing_without_end_fails_the_turn_only() {
    let shared = "{% for i in range(28) %}{% set n.t = n.t + n.t %}{% endfor %}{{ n.t|list|length }}";
    goes_on_after(shared, "template");
    goes_on_after(&format!("{SHARING}{{{{ n.x|tojson|length }}}}"), "template");
    goes_on_after(&format!("{SHARING}{{{{ n.x|string|length }}}}"), "template");
}

#[test]
fn nesting_without_end_fails_the_turn_only() {
    // Too deep for any stack when written out.
    let deep = "{% for i in range(99999) %}{% set n.x = [n.x] %}{% set n.y = [n.y] %}{% endfor %}";
    goes_on_after(&format!("{deep}{{{{ n.x|tojson }}}}"), "template");
}

/// Rendering stops at once, long before its limit, and the message returns to the line.
#[test]
fn ctrl_c_while_it_renders_gives_the_prompt_back() {
    let home = Home::new();
    home.write("t.jinja", late(&format!("{SHARING}{{% if n.x == n.y %}}a{{% endif %}}")));
    let model = tiny("llama-bpe");
    let args = ["-m", model.to_str().unwrap(), "--chat-template", "t.jinja", "-n", "4", "--temp", "0"];
    let mut terminal = home.terminal(&args);
    terminal.at_prompt().line("One").sees("4 tokens, ").at_prompt();
    terminal.wiped().line("Two").sees("4 tokens, ").at_prompt();
    let started = Instant::now();
    terminal.wiped().entered("Three").keys(CTRL_C);
    terminal.sees("stopped before the answer began").at("> Three");
    assert!(started.elapsed() < Duration::from_millis(1500), "{:?}", started.elapsed());
    terminal.keys(CTRL_U).line("/clear").sees("a new conversation").at_prompt();
    terminal.wiped().line("Four").sees("4 tokens, ").at_prompt();
    assert_eq!(terminal.keys(CTRL_D).ends(), 0);
}

#[test]
fn ctrl_c_while_one_question_renders_ends_it() {
    let home = Home::new();
    home.write("t.jinja", format!("{{% set n = namespace(x=[1], y=[1]) %}}{SHARING}{{{{ n.x == n.y }}}}"));
    for more in [None, Some("--dry-run")] {
        let args = ["-p", "Hi", "--chat-template", "t.jinja"].into_iter().chain(more);
        let running = home.run(&args.collect::<Vec<_>>()).model(&tiny("llama-bpe")).start();
        running.wait_for_handler();
        std::thread::sleep(Duration::from_millis(700)); // it is rendering
        let started = Instant::now();
        running.interrupt();
        running.done().code(130);
        assert!(started.elapsed() < Duration::from_millis(1500), "{more:?}: {:?}", started.elapsed());
    }
}

/// The system may kill it, if memory is short: it is started again, and nothing is lost.
#[test]
fn a_renderer_that_was_killed_is_replaced() {
    let home = Home::new();
    let args = ["--repl-stdin", "-q", "-n", "4", "--temp", "0"];
    let model = tiny("llama-bpe");
    let said = home.run(&args).model(&model).stdin("One\nTwo\n").done().code(0).stdout;
    let mut running = home.run(&args).model(&model).stdin("One\n").start();
    let first = said.lines().next().unwrap();
    running.stdout.wait_for(first);
    running.kill_its_child();
    running.write(b"Two\n");
    running.close_stdin();
    running.done().code(0).stderr("").stdout(&said);
}

/// The parser recurses once for each of them: no stack is deep enough.
#[test]
fn a_template_of_nothing_but_beginnings_is_one_line() {
    let many = |part: &str| part.repeat(200_000);
    let templates = [
        format!("{{{{ {}1 }}}}", many("not ")),
        format!("{{{{ {}1 }}}}", many("-")),
        format!("{{{{ {}1 }}}}", many("1 if 1 else ")),
        format!("{{{{ {}1 }}}}", many("1~")),
        format!("{{{{ a{} }}}}", many("()")),
        format!("{{{{ {}1 }}}}", many("(")),
        format!("{{{{ {}1 }}}}", many("[")),
        many("{% if true %}"),
        format!("{{% if a %}}{}{{% endif %}}", many("{% elif b %}")),
    ];
    for template in templates {
        let home = Home::new();
        home.write("t.jinja", &template);
        let args = ["-p", "Hi", "--dry-run", "--chat-template", "t.jinja"];
        let done = home.run(&args).model(&tiny("llama-bpe")).done();
        done.failed(1, "the chat template ").hint("--chat-template");
    }
}
