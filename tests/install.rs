//! The files installed beside the program: man pages and shell completions.

use std::process::Command;

use clap::CommandFactory;
use fireside::cli::Args;

use crate::support::{Home, program, repository, tiny};

#[test]
fn the_man_page_names_every_option_and_each_command_has_one() {
    let home = Home::new();
    let pages = home.path("man1");
    home.run(&["--man", pages.to_str().unwrap()]).done().code(0).stdout("").stderr("");
    let page =
        |name: &str| std::fs::read_to_string(pages.join(format!("{name}.1"))).unwrap().replace('\\', "");
    let main = page("fireside");
    for arg in Args::command().get_arguments().filter(|arg| !arg.is_positional()) {
        let named = main.contains(&format!("--{}", arg.get_long().unwrap()));
        assert_eq!(named, !arg.is_hide_set(), "{arg}");
    }
    for command in Args::command().get_subcommands() {
        let own = page(&format!("fireside-{}", command.get_name()));
        let mut options = command.get_arguments().filter_map(|arg| arg.get_long());
        assert!(options.all(|long| own.contains(&format!("--{long}"))), "{own}");
    }
    assert!(page("fireside-history-search").contains("--limit"));
}

#[test]
fn everything_is_installed_below_the_prefix_and_nothing_twice() {
    let home = Home::new();
    let model = tiny("llama-bpe");
    let install = || {
        let mut script = Command::new(repository().join("scripts/install"));
        script.arg(program()).arg(&model).env_clear().envs(home.environment());
        script.env("PATH", std::env::var_os("PATH").unwrap()).env("PREFIX", home.path("prefix"));
        let done = script.output().unwrap();
        assert!(done.status.success(), "{done:?}");
        String::from_utf8(done.stderr).unwrap()
    };
    install();
    for (file, part) in [
        ("man/man1/fireside.1", "fireside"),
        ("man/man1/fireside-pull.1", "fireside"),
        ("bash-completion/completions/fireside", "complete "),
        ("zsh/site-functions/_fireside", "#compdef fireside"),
        ("fish/vendor_completions.d/fireside.fish", "complete "),
    ] {
        let text = std::fs::read_to_string(home.path("prefix/share").join(file)).unwrap();
        assert!(text.contains(part), "{file}: {text}");
    }
    assert!(home.path("prefix/bin/fireside").exists());
    let again = install();
    assert_eq!(again.matches("is up to date").count(), 5, "{again}");
}
