//! The arguments of `fireside config`.

/// What to show or write.
#[derive(Debug, clap::Args)]
pub struct ConfigArgs {
    /// init: write a config file with every setting as a comment; path: print where the file is
    #[arg(value_name = "init|path")]
    pub what: Option<String>,
    /// with init: replace the file
    #[arg(long)]
    pub force: bool,
    /// what holds in this role
    #[arg(long, value_name = "NAME")]
    pub role: Option<String>,
    /// value of a variable of the role; repeatable
    #[arg(long = "var", value_name = "NAME=VALUE")]
    pub vars: Vec<String>,
}
