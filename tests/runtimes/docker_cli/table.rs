//! A row of the script: a command, and where netd's answer is another one than Docker's, on purpose, why.

use std::fmt;

/// Docker's own words have changed since.
pub(super) const WORDS: &str = "newer Docker says it so";
/// Something is taken.
pub(super) const OWNER: &str = "what is taken is named with who has it";
/// There is no such feature.
pub(super) const UNSUPPORTED: &str = "netd has no such thing, and says so";
/// An option that means nothing.
pub(super) const IGNORED: &str = "unknown options are refused by name, not ignored";
/// A bad value.
pub(super) const SAYS: &str = "netd says what would be right";
/// A bad name.
pub(super) const NAME: &str = "a network's name is a part of DNS names";

/// A command of the script.
pub(super) struct Row {
    /// What a user types into a shell.
    pub(super) command: &'static str,
    /// What is typed after it so that both hosts are alike again; its output is not compared.
    pub(super) undo: Option<&'static str>,
    /// The difference, if there is to be one.
    pub(super) differs: Option<Differs>,
    /// Whether other clients than Debian's do something else.
    pub(super) debian_only: bool,
}

/// A difference on purpose.
pub(super) struct Differs {
    /// A part of what Docker says, as [`super::normal`] writes it.
    pub(super) docker: &'static str,
    /// A part of what netd says.
    pub(super) netd: &'static str,
    pub(super) why: &'static str,
}

/// How a command ended, and what it said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Said {
    pub(super) code: Option<i32>,
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let code = self.code.map_or_else(|| "a signal".to_owned(), |code| code.to_string());
        write!(f, "[{code}] {}", [self.stdout.as_str(), &self.stderr].join("\n").trim())
    }
}

/// A command that says the same at both.
pub(super) const fn same(command: &'static str) -> Row {
    Row { command, undo: None, differs: None, debian_only: false }
}

/// A command that says one thing at Docker and another at netd.
pub(super) const fn differs(command: &'static str, docker: &'static str, netd: &'static str, why: &'static str) -> Row {
    Row { command, undo: None, differs: Some(Differs { docker, netd, why }), debian_only: false }
}

impl Row {
    /// What is typed afterwards.
    pub(super) const fn undo(self, undo: &'static str) -> Self {
        Self { undo: Some(undo), ..self }
    }

    /// Only for Debian's client.
    pub(super) const fn debian_only(self) -> Self {
        Self { debian_only: true, ..self }
    }

    /// Whether the answers are as the row says; the error shows them.
    pub(super) fn judge(&self, docker: &Said, netd: &Said) -> Result<(), String> {
        let both = || format!("Docker: {docker}\nnetd:   {netd}");
        match &self.differs {
            None if docker == netd => Ok(()),
            None => Err(both()),
            Some(_) if docker == netd => Err(format!("the stated difference is gone\n{}", both())),
            Some(stated) => {
                let says = |said: &Said, part: &str| said.to_string().contains(part);
                if says(docker, stated.docker) && says(netd, stated.netd) {
                    return Ok(());
                }
                Err(format!("another difference than the stated one\n{}", both()))
            }
        }
    }
}

/// Whether rows judge as they should.
pub(super) fn judges() {
    let said = |stdout: &str| Said { code: Some(0), stdout: stdout.into(), stderr: String::new() };
    let (one, other) = (said("one"), said("other"));
    assert!(same("x").judge(&one, &one).is_ok());
    assert!(same("x").judge(&one, &other).is_err(), "a difference without a reason");
    let stated = differs("x", "one", "other", "because");
    assert!(stated.judge(&one, &other).is_ok());
    assert!(stated.judge(&other, &one).is_err(), "another difference");
    assert!(stated.judge(&one, &one).unwrap_err().contains("is gone"));
}
